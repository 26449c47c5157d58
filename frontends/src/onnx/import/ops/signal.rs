//! Windows, Fourier transforms as products with matrices of cosines and sines, mel weights.

use super::bits::dtype_attr;
use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{BinaryFn, UnaryFn};
use frit_ir::{DType, Dim, Tensor, ValueId};
use std::f64::consts::TAU;

pub const ROWS: &[Row] = &[
    ("", "HannWindow", 17, cosine_window),
    ("", "HammingWindow", 17, cosine_window),
    ("", "BlackmanWindow", 17, cosine_window),
    ("", "DFT", 17, dft),
    ("", "STFT", 17, stft),
    ("", "MelWeightMatrix", 17, mel_weights),
];

/// a - b cos(2 pi n / N) + c cos(4 pi n / N); N is the size when periodic, else one less.
fn cosine_window<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (a, b, c) = match n.op {
        "HannWindow" => (0.5, 0.5, 0.0),
        "HammingWindow" => (25.0 / 46.0, 21.0 / 46.0, 0.0),
        _ => (0.42, 0.5, 0.08),
    };
    let to = dtype_attr(n, "output_datatype")?.unwrap_or(DType::F32);
    let periodic = n.flag("periodic", true)?;
    let size = one_dim(cx, n, 0)?.ok_or_else(|| n.error("the size is missing"))?;
    let length = if periodic { size.clone() } else { cx.dim(size.add_const(-1))? };
    let position = cx.iota(&size, DType::F64)?;
    let length = number(cx, &length)?;
    let turn = cx.with_number(BinaryFn::Mul, position, TAU)?;
    let turn = cx.over(turn, length)?;
    let cos = cx.unary(UnaryFn::Cos, turn)?;
    let first = cx.with_number(BinaryFn::Mul, cos, -b)?;
    let mut y = cx.with_number(BinaryFn::Add, first, a)?;
    if c != 0.0 {
        let twice = cx.with_number(BinaryFn::Mul, turn, 2.0)?;
        let cos = cx.unary(UnaryFn::Cos, twice)?;
        let second = cx.with_number(BinaryFn::Mul, cos, c)?;
        y = cx.plus(y, second)?;
    }
    Ok(vec![cx.cast(y, to)?.into()])
}

/// Operand `i`, one integer, as a dim.
fn one_dim(cx: &mut Cx<'_>, n: &NodeView<'_>, i: usize) -> Result<Option<Dim>> {
    match cx.opt_dims(n, i)?.as_deref() {
        None => Ok(None),
        Some([d]) => Ok(Some(d.clone())),
        Some(other) => Err(n.error(format!("operand {i}: expected one integer, got {}", other.len()))),
    }
}

/// A dim as an f64 value of no axes.
fn number(cx: &mut Cx<'_>, d: &Dim) -> Result<ValueId> {
    let v = cx.dims_value(std::slice::from_ref(d))?;
    let v = cx.reshape(v, &[])?;
    cx.cast(v, DType::F64)
}

/// Cosines and sines `[rows, columns]` of 2 pi j k / length.
fn waves(
    cx: &mut Cx<'_>,
    rows: &Dim,
    columns: &Dim,
    length: &Dim,
    dtype: DType,
) -> Result<(ValueId, ValueId)> {
    let j = cx.iota(rows, DType::I64)?;
    let j = cx.unsqueeze(j, &[1])?;
    let k = cx.iota(columns, DType::I64)?;
    let turns = cx.times(j, k)?;
    // Whole turns do not count, and would cost accuracy.
    let whole = cx.dims_value(std::slice::from_ref(length))?;
    let turns = cx.binary(BinaryFn::Mod, turns, whole)?;
    let turns = cx.cast(turns, DType::F64)?;
    let angle = cx.with_number(BinaryFn::Mul, turns, TAU)?;
    let length = number(cx, length)?;
    let angle = cx.over(angle, length)?;
    let (cos, sin) = (cx.unary(UnaryFn::Cos, angle)?, cx.unary(UnaryFn::Sin, angle)?);
    Ok((cx.cast(cos, dtype)?, cx.cast(sin, dtype)?))
}

/// One transform: what axis of `[.., 1 or 2]`, over how many points, which way.
struct Transform {
    axis: usize,
    length: Option<Dim>,
    inverse: bool,
    onesided: bool,
}

impl Transform {
    fn emit(self, cx: &mut Cx<'_>, x: ValueId) -> Result<ValueId> {
        let dtype = cx.dtype(x)?;
        let shape = cx.shape(x)?;
        let (Some((parts, outer)), Some(given)) = (shape.split_last(), shape.get(self.axis)) else {
            return Err(cx.error("a transform needs the signal's axis and that of its parts"));
        };
        if self.axis >= outer.len() {
            return Err(cx.error("the last axis holds the parts and is not transformed"));
        }
        let complex = if parts.is(2) {
            true
        } else if parts.is(1) {
            false
        } else {
            return Err(cx.error(format!("the last extent must be 1 (real) or 2 (complex), not {parts}")));
        };
        let back = self.inverse && self.onesided;
        let length = match self.length {
            Some(n) => n,
            None if back => {
                let steps = cx.dim(given.add_const(-1))?;
                cx.dim(steps.mul_const(2))?
            }
            None => given.clone(),
        };
        let half = cx.dim(length.floor_div(&Dim::constant(2)))?;
        let half = cx.dim(half.add_const(1))?;
        // Points beyond the length do not count; missing ones are zeros, which need no rows.
        let most = if back { half.clone() } else { length.clone() };
        let rows = if given.same(&most) { most } else { cx.dim(given.minimum(&most))? };
        let columns = if self.onesided && !self.inverse { half } else { length.clone() };
        let (mut cos, mut sin) = waves(cx, &rows, &columns, &length, dtype)?;
        if back {
            // The other half is the mirror image of this one, but for the ends.
            let k = cx.iota(&rows, DType::I64)?;
            let twice = cx.with_number(BinaryFn::Mul, k, 2.0)?;
            let n = cx.dims_value(std::slice::from_ref(&length))?;
            let rest = cx.binary(BinaryFn::Mod, twice, n)?;
            let end = cx.with_number(BinaryFn::Equal, rest, 0.0)?;
            let (one, two) = (cx.scalar(dtype, 1.0)?, cx.scalar(dtype, 2.0)?);
            let weight = cx.choose(end, one, two)?;
            let weight = cx.unsqueeze(weight, &[1])?;
            cos = cx.times(cos, weight)?;
            sin = cx.times(sin, weight)?;
        }
        let x = cx.slice(x, self.axis, &Dim::constant(0), &rows)?;
        let last = outer.len();
        let (re, im) = if complex {
            let parts = cx.split(x, last, &[Dim::constant(1), Dim::constant(1)])?;
            (parts.first().copied().unwrap_or(x), parts.get(1).copied())
        } else {
            (x, None)
        };
        // The transformed axis goes last, where the parts were.
        let mut aside = |v: ValueId| -> Result<ValueId> { cx.swap_axes(v, self.axis, last) };
        let re = aside(re)?;
        let im = im.map(&mut aside).transpose()?;
        let mut new_re = cx.matmul(re, cos)?;
        let mut new_im = cx.matmul(re, sin)?;
        if !self.inverse {
            new_im = cx.unary(UnaryFn::Neg, new_im)?;
        }
        if let Some(im) = im {
            let (by_cos, by_sin) = (cx.matmul(im, cos)?, cx.matmul(im, sin)?);
            new_re = if self.inverse { cx.minus(new_re, by_sin)? } else { cx.plus(new_re, by_sin)? };
            new_im = cx.plus(new_im, by_cos)?;
        }
        let mut parts = vec![new_re];
        if !back {
            parts.push(new_im);
        }
        if self.inverse {
            let n = number(cx, &length)?;
            let n = cx.cast(n, dtype)?;
            parts = parts.into_iter().map(|p| cx.over(p, n)).collect::<Result<_>>()?;
        }
        parts = parts.into_iter().map(|p| cx.swap_axes(p, self.axis, last)).collect::<Result<_>>()?;
        cx.concat(&parts, last)
    }
}

fn dft<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let rank = cx.rank(x)?;
    let axis = if n.opset < 20 { n.int_or("axis", 1)? } else { cx.opt_int(n, 2)?.unwrap_or(-2) };
    let axis = cx.axis(axis, rank)?;
    let length = one_dim(cx, n, 1)?;
    let (inverse, onesided) = (n.flag("inverse", false)?, n.flag("onesided", false)?);
    Ok(vec![Transform { axis, length, inverse, onesided }.emit(cx, x)?.into()])
}

/// Transforms of windows in steps: `[B, L, 1 or 2]` to `[B, frames, bins, 2]`.
fn stft<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let mut x = n.tensor(0)?;
    if cx.rank(x)? == 2 {
        x = cx.unsqueeze(x, &[2])?;
    }
    let signal = cx.shape(x)?.get(1).cloned().ok_or_else(|| n.error("the signal must have rank 2 or 3"))?;
    let step = one_dim(cx, n, 1)?.ok_or_else(|| n.error("the step is missing"))?;
    let window = n.opt(2)?;
    let length = match (one_dim(cx, n, 3)?, window) {
        (Some(l), _) => l,
        (None, Some(w)) => cx.shape(w)?.first().cloned().unwrap_or(signal.clone()),
        (None, None) => signal.clone(),
    };
    let spare = cx.dim(signal.sub(&length))?;
    let frames = cx.dim(spare.floor_div(&step))?;
    let frames = cx.dim(frames.add_const(1))?;
    let start = cx.iota(&frames, DType::I64)?;
    let step = cx.dims_value(std::slice::from_ref(&step))?;
    let start = cx.times(start, step)?;
    let start = cx.unsqueeze(start, &[1])?;
    let within = cx.iota(&length, DType::I64)?;
    let places = cx.plus(start, within)?;
    let mut framed = cx.gather(x, places, 1)?;
    if let Some(w) = window {
        let w = cx.unsqueeze(w, &[1])?;
        framed = cx.times(framed, w)?;
    }
    let onesided = n.flag("onesided", true)?;
    let t = Transform { axis: 2, length: None, inverse: false, onesided };
    Ok(vec![t.emit(cx, framed)?.into()])
}

/// Triangles over the bins of a spectrum, evenly spaced in mel. All operands must be known at import.
fn mel_weights<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let mut operand = |i: usize| -> Result<f64> {
        let t = cx.numbers(n, i)?;
        t.to_f64_vec().first().copied().ok_or_else(|| n.error(format!("operand {i} is empty")))
    };
    let (bands, length, rate) = (operand(0)?, operand(1)?, operand(2)?);
    let (low, high) = (operand(3)?, operand(4)?);
    let to = dtype_attr(n, "output_datatype")?.unwrap_or(DType::F32);
    let sane = |x: f64| (0.0..65536.0).contains(&x);
    if !sane(bands) || !sane(length) || rate <= 0.0 || bands * length > 16e6 {
        return Err(n.error(format!("{bands} bands of {length} points at {rate} Hz are out of range")));
    }
    let (bands, bins) = (bands as usize, length as usize / 2 + 1);
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let step = (mel(high) - mel(low)) / (bands as f64 + 2.0);
    let edge = |i: usize| {
        let hertz = 700.0 * (10f64.powf((mel(low) + i as f64 * step) / 2595.0) - 1.0);
        ((length + 1.0) * hertz / rate).floor()
    };
    let mut weights = vec![0f64; bins * bands];
    for band in 0..bands {
        let (left, centre, right) = (edge(band), edge(band + 1), edge(band + 2));
        if left < 0.0 || right > bins as f64 {
            return Err(n.error(format!("band {band} reaches outside of the {bins} bins")));
        }
        for bin in 0..bins {
            let at = bin as f64;
            let weight = if at == centre && (left == centre || right == centre) {
                1.0
            } else if at >= left && at <= centre && left < centre {
                if at == centre { 1.0 } else { (at - left) / (centre - left) }
            } else if at >= centre && at < right {
                (right - at) / (right - centre)
            } else {
                0.0
            };
            if let Some(w) = weights.get_mut(bin * bands + band) {
                *w = weight;
            }
        }
    }
    let data = Tensor::from_f64(to, &[bins, bands], &weights).map_err(|e| cx.refused(e))?;
    Ok(vec![cx.constant(data)?.into()])
}
