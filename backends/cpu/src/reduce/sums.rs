//! Reductions along any axes: vectorised for f32, in wide numbers for the other dtypes.

use crate::error::{KernelError, count, exact};
use crate::isa::Isa;
use crate::norm::row_loop;
use crate::scratch::with_scratch;
use crate::simd::{Simd, Vectorised, dispatch};
use crate::threads::{SharedMut, parallel_for};
use frit_ir::Element;

const NAME: &str = "reduce";
/// Runs below this length are no vectors.
const SHORT: usize = 8;

/// How elements are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Sum.
    Sum,
    /// Arithmetic mean.
    Mean,
    /// Largest; NaN if any is.
    Max,
    /// Smallest; NaN if any is.
    Min,
    /// Product.
    Prod,
    /// Sum of absolute values.
    L1,
    /// Root of the sum of squares.
    L2,
    /// Sum of squares.
    SumSquare,
}

impl Reduction {
    fn start(self) -> f32 {
        match self {
            Reduction::Max => f32::NEG_INFINITY,
            Reduction::Min => f32::INFINITY,
            Reduction::Prod => 1.0,
            _ => 0.0,
        }
    }

    fn finish(self, x: f32, n: usize) -> f32 {
        match self {
            Reduction::Mean => x / n as f32,
            Reduction::L2 => x.sqrt(),
            _ => x,
        }
    }

    /// Combines a running result with new elements.
    #[inline(always)]
    fn step<S: Simd>(self, s: S, acc: S::V, x: S::V) -> S::V {
        match self {
            Reduction::Sum | Reduction::Mean => s.add(acc, x),
            // A NaN that came before stays, and one that comes now is taken.
            Reduction::Max => s.select(s.eq(acc, acc), s.max(acc, x), acc),
            Reduction::Min => s.select(s.eq(acc, acc), s.min(acc, x), acc),
            Reduction::Prod => s.mul(acc, x),
            Reduction::L1 => s.add(acc, s.abs(x)),
            Reduction::L2 | Reduction::SumSquare => s.mul_add(x, x, acc),
        }
    }

    /// Combines running results.
    #[inline(always)]
    fn merge<S: Simd>(self, s: S, a: S::V, b: S::V) -> S::V {
        match self {
            Reduction::Max | Reduction::Min | Reduction::Prod => self.step(s, a, b),
            _ => s.add(a, b),
        }
    }

    /// Combines a running result with one new element.
    fn take(self, acc: f32, x: f32) -> f32 {
        match self {
            Reduction::L1 => acc + x.abs(),
            Reduction::L2 | Reduction::SumSquare => acc + x * x,
            _ => self.join(acc, x),
        }
    }

    /// Combines two running results.
    #[inline(always)]
    fn join(self, a: f32, b: f32) -> f32 {
        match self {
            Reduction::Max => {
                if a.is_nan() || a > b {
                    a
                } else {
                    b
                }
            }
            Reduction::Min => {
                if a.is_nan() || a < b {
                    a
                } else {
                    b
                }
            }
            Reduction::Prod => a * b,
            _ => a + b,
        }
    }
}

/// Neighbouring axes that are all kept or all reduced, as one.
#[derive(Clone, Copy, Debug)]
struct Group {
    extent: usize,
    stride: usize,
    reduced: bool,
}

fn groups(shape: &[usize], mask: &[bool]) -> Vec<Group> {
    let mut out: Vec<Group> = Vec::new();
    let mut stride = 1;
    for (&extent, &reduced) in shape.iter().zip(mask).rev() {
        match out.last_mut() {
            Some(g) if g.reduced == reduced => g.extent *= extent,
            _ if extent == 1 => {}
            _ => out.push(Group { extent, stride, reduced }),
        }
        stride *= extent;
    }
    out.reverse();
    out
}

/// Offset of the `i`-th combination of positions along some axes.
fn offset(axes: &[Group], mut i: usize) -> usize {
    let mut at = 0;
    for g in axes.iter().rev() {
        at += i % g.extent * g.stride;
        i /= g.extent;
    }
    at
}

/// Combines the elements of x along the axes where `mask` says so; the results are in the order of the others.
pub fn reduce(
    isa: Isa,
    f: Reduction,
    x: &[f32],
    shape: &[usize],
    mask: &[bool],
    out: &mut [f32],
) -> Result<(), KernelError> {
    let (kept, reduced, inner) = plan(x.len(), shape, mask, out.len())?;
    let n: usize = shape.iter().zip(mask).filter(|(_, m)| **m).map(|(d, _)| d).product();
    if out.is_empty() {
        return Ok(());
    }
    if n == 0 {
        out.fill(f.finish(f.start(), 0));
        return Ok(());
    }
    let steps: usize = reduced.iter().map(|g| g.extent).product();
    let to = SharedMut::new(out);
    match inner {
        // The last axes are reduced: every result is made of contiguous runs.
        Some(g) if g.reduced => {
            let results: usize = kept.iter().map(|g| g.extent).product();
            let cost = (steps * g.extent) as f64 * 0.1 + 5.0;
            let grain = ((1 << 14) / (steps * g.extent)).max(1);
            parallel_for(results.div_ceil(grain), (cost * grain as f64) as u64, |task| {
                for result in task * grain..((task + 1) * grain).min(results) {
                    let base = offset(&kept, result);
                    let mut total = f.start();
                    for step in 0..steps {
                        let at = base + offset(&reduced, step);
                        let x = &x[at..at + g.extent];
                        total = if g.extent < SHORT {
                            x.iter().fold(total, |total, &x| f.take(total, x))
                        } else {
                            f.join(total, dispatch(isa, Run { f, x }))
                        };
                    }
                    // SAFETY: results are disjoint.
                    unsafe { *to.ptr().add(result) = f.finish(total, n) };
                }
            });
        }
        // The last axes are kept: rows are combined element by element, a strip of columns a task.
        _ => {
            let width = inner.map_or(1, |g| g.extent);
            const STRIP: usize = 1024;
            let strips = width.div_ceil(STRIP);
            let rows: usize = kept.iter().map(|g| g.extent).product();
            let cost = (steps * width.min(STRIP)) as f64 * 0.15;
            parallel_for(rows * strips, cost as u64, |task| {
                let (row, first) = (task / strips, task % strips * STRIP);
                let columns = STRIP.min(width - first);
                let base = offset(&kept, row) + first;
                // SAFETY: strips are disjoint parts of the output.
                let to = unsafe { to.slice(row * width + first..row * width + first + columns) };
                with_scratch(STRIP, |sum| {
                    let sum = &mut sum[..columns];
                    sum.fill(f.start());
                    for step in 0..steps {
                        let at = base + offset(&reduced, step);
                        dispatch(isa, Join { f, sum, x: &x[at..at + columns] });
                    }
                    to.iter_mut().zip(sum.iter()).for_each(|(to, &s)| *to = f.finish(s, n));
                });
            });
        }
    }
    Ok(())
}

/// Checks lengths; gives the kept and the reduced axes and, taken from whichever it belongs to, the innermost.
#[allow(clippy::type_complexity)] // three lists of one call site
fn plan(
    len: usize,
    shape: &[usize],
    mask: &[bool],
    out: usize,
) -> Result<(Vec<Group>, Vec<Group>, Option<Group>), KernelError> {
    exact(NAME, "mask", mask.len(), shape.len())?;
    exact(NAME, "data", len, count(NAME, shape)?)?;
    let kept: Vec<usize> = shape.iter().zip(mask).filter(|(_, m)| !**m).map(|(d, _)| *d).collect();
    exact(NAME, "output", out, count(NAME, &kept)?)?;
    let mut all = if shape.contains(&0) { Vec::new() } else { groups(shape, mask) };
    let inner = all.pop();
    let (reduced, kept) = all.into_iter().partition(|g| g.reduced);
    Ok((kept, reduced, inner))
}

struct Run<'a> {
    f: Reduction,
    x: &'a [f32],
}

impl Vectorised for Run<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let Run { f, x } = self;
        let (p, n) = (x.as_ptr(), x.len());
        let mut acc = [s.splat(f.start()); 4];
        let mut i = 0;
        // SAFETY: every load stays below n; `lanes` holds 16, the most of any instruction set.
        unsafe {
            while i + 4 * S::LANES <= n {
                for (k, a) in acc.iter_mut().enumerate() {
                    *a = f.step(s, *a, s.load(p.add(i + k * S::LANES)));
                }
                i += 4 * S::LANES;
            }
            while i + S::LANES <= n {
                acc[0] = f.step(s, acc[0], s.load(p.add(i)));
                i += S::LANES;
            }
            if i < n {
                // The missing lanes hold what changes nothing.
                let mut rest = [f.start(); 16];
                rest[..n - i].copy_from_slice(&x[i..]);
                acc[1] = f.step(s, acc[1], s.load(rest.as_ptr()));
            }
            // By halves: joining one after another would take longer than a short row itself.
            let mut lanes = [0f32; 16];
            let [a, b, c, d] = acc;
            s.store(lanes.as_mut_ptr(), f.merge(s, f.merge(s, a, b), f.merge(s, c, d)));
            let mut half = S::LANES / 2;
            while half > 0 {
                for i in 0..half {
                    lanes[i] = f.join(lanes[i], lanes[i + half]);
                }
                half /= 2;
            }
            lanes[0]
        }
    }
}

struct Join<'a> {
    f: Reduction,
    sum: &'a mut [f32],
    x: &'a [f32],
}

impl Vectorised for Join<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Join { f, sum, x } = self;
        let (sum, n, x) = (sum.as_mut_ptr(), sum.len().min(x.len()), x.as_ptr());
        // SAFETY: every access stays below n.
        unsafe {
            row_loop!(
                s,
                n,
                |i| s.store(sum.add(i), f.step(s, s.load(sum.add(i)), s.load(x.add(i)))),
                |i, left| {
                    let joined = f.step(s, s.load_part(sum.add(i), left), s.load_part(x.add(i), left));
                    s.store_part(sum.add(i), left, joined);
                }
            );
        }
    }
}

/// [`reduce`] for the other dtypes, in f64 or wrapping i64. An integer extreme or mean of nothing is an error.
pub fn reduce_wide<T: Element>(
    f: Reduction,
    x: &[T],
    shape: &[usize],
    mask: &[bool],
    out: &mut [T],
) -> Result<(), KernelError> {
    let (mut kept, mut reduced, inner) = plan(x.len(), shape, mask, out.len())?;
    if let Some(g) = inner {
        if g.reduced { reduced.push(g) } else { kept.push(g) }
    }
    let n: usize = shape.iter().zip(mask).filter(|(_, m)| **m).map(|(d, _)| d).product();
    let float = T::DTYPE.is_float();
    if n == 0 && !out.is_empty() && !float && matches!(f, Reduction::Max | Reduction::Min | Reduction::Mean) {
        return Err(crate::error::parameters(NAME, format!("no elements along the axes of {shape:?}")));
    }
    let to = SharedMut::new(out);
    parallel_for(out_len(shape, mask), n as u64 * 2, |result| {
        let base = offset(&kept, result);
        let at = |k: usize| x.get(base + offset(&reduced, k)).copied();
        let elements = (0..n).filter_map(at);
        let value = if float {
            T::from_f64(floats(f, elements.map(T::to_f64), n))
        } else {
            T::from_i64(ints(f, elements.map(T::to_i64), n))
        };
        // SAFETY: results are disjoint.
        unsafe { *to.ptr().add(result) = value };
    });
    Ok(())
}

fn out_len(shape: &[usize], mask: &[bool]) -> usize {
    shape.iter().zip(mask).filter(|(_, m)| !**m).map(|(d, _)| d).product()
}

fn floats(f: Reduction, x: impl Iterator<Item = f64>, n: usize) -> f64 {
    match f {
        Reduction::Sum => x.sum(),
        Reduction::Mean => x.sum::<f64>() / n as f64,
        Reduction::Max => x.fold(f64::NEG_INFINITY, |a, b| if a.is_nan() || a > b { a } else { b }),
        Reduction::Min => x.fold(f64::INFINITY, |a, b| if a.is_nan() || a < b { a } else { b }),
        Reduction::Prod => x.product(),
        Reduction::L1 => x.map(f64::abs).sum(),
        Reduction::L2 => x.map(|x| x * x).sum::<f64>().sqrt(),
        Reduction::SumSquare => x.map(|x| x * x).sum(),
    }
}

fn ints(f: Reduction, x: impl Iterator<Item = i64>, n: usize) -> i64 {
    match f {
        Reduction::Sum => x.fold(0, i64::wrapping_add),
        Reduction::Mean => {
            x.fold(0, i64::wrapping_add).checked_div(i64::try_from(n).unwrap_or(i64::MAX)).unwrap_or(0)
        }
        Reduction::Max => x.max().unwrap_or(0),
        Reduction::Min => x.min().unwrap_or(0),
        Reduction::Prod => x.fold(1, i64::wrapping_mul),
        Reduction::L1 => x.fold(0, |s, x| s.wrapping_add(x.wrapping_abs())),
        Reduction::L2 => (x.map(|x| (x as f64).powi(2)).sum::<f64>().sqrt()) as i64,
        Reduction::SumSquare => x.fold(0, |s, x| s.wrapping_add(x.wrapping_mul(x))),
    }
}
