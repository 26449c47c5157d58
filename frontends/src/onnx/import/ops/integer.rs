//! Exact products of small integers with zero points, in floating point where every partial sum is an integer that f32
//! holds, which is decided here. Scales are `quantize.rs`'s.

use super::matmul::product;
use super::window::convolution;
use crate::onnx::import::{Cx, NodeView, Result};
use frit_ir::{DType, Dim, ValueId};

/// Integers up to here are exact in f32.
const EXACT: f64 = 16_777_216.0;
/// Products are split into at most so many parts.
const MAX_PARTS: usize = 64;

/// An integer tensor and what is subtracted from it.
#[derive(Clone, Copy)]
pub(super) struct Shifted {
    pub x: ValueId,
    pub zero: Option<ValueId>,
}

/// Smallest and largest number of an integer type.
pub(super) fn range(dtype: DType) -> Option<(f64, f64)> {
    Some(match dtype {
        DType::I8 => (-128.0, 127.0),
        DType::U8 => (0.0, 255.0),
        DType::I16 => (-32768.0, 32767.0),
        DType::U16 => (0.0, 65535.0),
        DType::I4 => (-8.0, 7.0),
        DType::U4 => (0.0, 15.0),
        DType::I2 => (-2.0, 1.0),
        DType::U2 => (0.0, 3.0),
        DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        _ => return None,
    })
}

impl Shifted {
    /// The difference in another type; the zero point broadcasts.
    fn wide(self, cx: &mut Cx<'_>, to: DType) -> Result<ValueId> {
        let x = cx.cast(self.x, to)?;
        match self.zero {
            None => Ok(x),
            Some(z) if cx.known(z).is_some_and(|t| t.to_f64_vec().iter().all(|&z| z == 0.0)) => Ok(x),
            Some(z) => {
                let z = cx.cast(z, to)?;
                cx.minus(x, z)
            }
        }
    }

    /// The largest absolute value that the difference may have.
    fn reach(self, cx: &Cx<'_>) -> Result<f64> {
        let dtype = cx.dtype(self.x)?;
        let (low, high) =
            range(dtype).ok_or_else(|| cx.error(format!("{dtype} is no type of quantised integers")))?;
        let (z_low, z_high) = match self.zero {
            None => (0.0, 0.0),
            Some(z) => match cx.known(z) {
                Some(t) => t
                    .to_f64_vec()
                    .into_iter()
                    .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), z| (a.min(z), b.max(z))),
                None => (low, high),
            },
        };
        Ok((low - z_high).abs().max((high - z_low).abs()))
    }
}

/// For each of `k` steps of a sum, the absolute values of the other factor: `[steps, columns]`; None: only a bound.
struct Factor {
    steps: usize,
    known: Option<Vec<f64>>,
    bound: f64,
}

impl Factor {
    /// The largest sum over steps `from..to` of absolute values.
    fn most(&self, from: usize, to: usize) -> f64 {
        let Some(all) = &self.known else { return self.bound * (to - from) as f64 };
        let columns = all.len().checked_div(self.steps).unwrap_or(0);
        let mut sums = vec![0.0; columns];
        for row in all.chunks_exact(columns.max(1)).take(to).skip(from) {
            for (s, x) in sums.iter_mut().zip(row) {
                *s += x;
            }
        }
        sums.into_iter().fold(0.0, f64::max)
    }

    /// Ends of parts in which sums with factors up to `reach` stay exact.
    fn parts(&self, reach: f64) -> Option<Vec<usize>> {
        let mut count = 1;
        while count <= MAX_PARTS {
            let len = self.steps.div_ceil(count).max(1);
            let ends: Vec<usize> = (1..=count).map(|i| (i * len).min(self.steps)).collect();
            let mut from = 0;
            let fits = ends.iter().all(|&to| {
                let most = self.most(from.min(to), to);
                from = to;
                most * reach < EXACT
            });
            if fits {
                let mut ends = ends;
                ends.dedup();
                return Some(ends);
            }
            count *= 2;
        }
        None
    }
}

/// Matrix product in i32.
pub(super) fn matmul(cx: &mut Cx<'_>, a: Shifted, b: Shifted) -> Result<ValueId> {
    let (sa, sb) = (cx.shape(a.x)?, cx.shape(b.x)?);
    let row = sb.len().saturating_sub(2);
    let inner = sa.last().and_then(Dim::as_const).or(sb.get(row).and_then(Dim::as_const));
    let parts = match inner.and_then(|k| usize::try_from(k).ok()) {
        Some(steps) => {
            let known = if sb.len() == 2 { magnitudes(cx, b) } else { None };
            Factor { steps, known, bound: b.reach(cx)? }.parts(a.reach(cx)?)
        }
        None => None,
    };
    let Some(ends) = parts else {
        let (a, b) = (a.wide(cx, DType::I32)?, b.wide(cx, DType::I32)?);
        return product(cx, a, b);
    };
    let (a, b) = (a.wide(cx, DType::F32)?, b.wide(cx, DType::F32)?);
    let last = sa.len().saturating_sub(1);
    sum(cx, &ends, |cx, from, to| {
        let part =
            |cx: &mut Cx<'_>, x, axis| if ends.len() == 1 { Ok(x) } else { cx.slice(x, axis, from, to) };
        let (a, b) = (part(cx, a, last)?, part(cx, b, row)?);
        product(cx, a, b)
    })
}

/// The convolution that the node's attributes describe, in i32.
pub(super) fn conv(cx: &mut Cx<'_>, n: &NodeView<'_>, x: Shifted, w: Shifted) -> Result<ValueId> {
    let shape = cx.shape(w.x)?;
    let fixed: Option<Vec<usize>> =
        shape.iter().map(|d| d.as_const().and_then(|d| usize::try_from(d).ok())).collect();
    let fixed =
        fixed.ok_or_else(|| n.error(format!("a weight of fixed extents is needed, got {shape:?}")))?;
    let (Some(&out), Some(&channels)) = (fixed.first(), fixed.get(1)) else {
        return Err(n.error("the weight must have rank 3 or more"));
    };
    let taps: usize = fixed.iter().skip(2).product();
    // Per input channel, the weights of every output: [channels, out] sums of absolute values.
    let known = magnitudes(cx, w).map(|all| {
        let mut sums = vec![0.0; channels * out];
        for (i, weight) in all.iter().enumerate() {
            let step = i.checked_div(taps).unwrap_or(0);
            let (o, c) = (step.checked_div(channels).unwrap_or(0), step.checked_rem(channels).unwrap_or(0));
            if let Some(s) = sums.get_mut(c * out + o) {
                *s += weight;
            }
        }
        sums
    });
    let factor = Factor { steps: channels, known, bound: w.reach(cx)? * taps as f64 };
    let ends =
        factor.parts(x.reach(cx)?).filter(|e| e.len() == 1 || n.int_or("group", 1).is_ok_and(|g| g == 1));
    let Some(ends) = ends else {
        let (x, w) = (x.wide(cx, DType::F64)?, w.wide(cx, DType::F64)?);
        let y = convolution(cx, n, x, w, None)?;
        return cx.cast(y, DType::I32);
    };
    let (x, w) = (x.wide(cx, DType::F32)?, w.wide(cx, DType::F32)?);
    sum(cx, &ends, |cx, from, to| {
        let part = |cx: &mut Cx<'_>, x| if ends.len() == 1 { Ok(x) } else { cx.slice(x, 1, from, to) };
        let (x, w) = (part(cx, x)?, part(cx, w)?);
        convolution(cx, n, x, w, None)
    })
}

/// The sum in i32 of what each part gives in f32.
fn sum(
    cx: &mut Cx<'_>,
    ends: &[usize],
    mut part: impl FnMut(&mut Cx<'_>, &Dim, &Dim) -> Result<ValueId>,
) -> Result<ValueId> {
    let mut from = Dim::constant(0);
    let mut total = None;
    for &end in ends {
        let to = Dim::from(end);
        let y = part(cx, &from, &to)?;
        let y = cx.cast(y, DType::I32)?;
        total = Some(match total {
            None => y,
            Some(t) => cx.plus(t, y)?,
        });
        from = to;
    }
    total.ok_or_else(|| cx.error("a product of nothing"))
}

/// Absolute values of a constant less its zero point: one number, or one an extent of the last axis of a matrix, or of
/// the first of a weight that has more. None where they are not known.
fn magnitudes(cx: &Cx<'_>, w: Shifted) -> Option<Vec<f64>> {
    let t = cx.known(w.x)?;
    let zero = match w.zero {
        None => vec![0.0],
        Some(z) => cx.known(z)?.to_f64_vec(),
    };
    let (len, count) = (t.len(), zero.len());
    let at = |i: usize| -> Option<usize> {
        match (count, t.shape()) {
            (1, _) => Some(0),
            (n, [_, columns]) if n == *columns => i.checked_rem(n),
            (n, [out, _, _, ..]) if n == *out => i.checked_div(len.checked_div(n)?),
            _ => None,
        }
    };
    t.to_f64_vec().into_iter().enumerate().map(|(i, x)| Some((x - zero.get(at(i)?)?).abs())).collect()
}
