//! Layer normalisation of rows, with a residual added first if wanted, and RMS normalisation. Norms over
//! channels are in `group_norm`.

use super::{row_loop, sum, sum_square_deviation};
use crate::error::{KernelError, at_least, count, exact};
use crate::isa::Isa;
use crate::operand::Source;
use crate::simd::{Simd, Vectorised, dispatch};
use crate::threads::{SharedMut, parallel_ranges};

/// What to normalise and how. Rows are the product of the axes before the normalised ones, `width` that of those.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm<'a> {
    /// Number of rows.
    pub rows: usize,
    /// Elements of a row.
    pub width: usize,
    /// Added to the variance.
    pub epsilon: f32,
    /// Divide by the root of the mean square and subtract no mean.
    pub rms: bool,
    /// Multiplies the result, `width` elements.
    pub scale: Option<&'a [f32]>,
    /// Added to the result, `width` elements.
    pub bias: Option<&'a [f32]>,
    /// Added to x before all, `rows * width` elements.
    pub residual: Option<&'a [f32]>,
}

/// y = (x - mean) / sqrt(variance + epsilon) * scale + bias for each row; `x` may be the output buffer.
/// `total` receives x + residual.
pub fn layer_norm(
    isa: Isa,
    p: &LayerNorm<'_>,
    x: Source<'_, f32>,
    y: &mut [f32],
    total: Option<&mut [f32]>,
) -> Result<(), KernelError> {
    const NAME: &str = "layer norm";
    let n = count(NAME, &[p.rows, p.width])?;
    exact(NAME, "y", y.len(), n)?;
    at_least(NAME, "x", x.len_or(n), Some(n))?;
    for (name, v, len) in
        [("scale", p.scale, p.width), ("bias", p.bias, p.width), ("residual", p.residual, n)]
    {
        if let Some(v) = v {
            exact(NAME, name, v.len(), len)?;
        }
    }
    if let Some(t) = &total {
        exact(NAME, "sum", t.len(), n)?;
    }
    if n == 0 {
        return Ok(());
    }
    let Some(x) = x.pointer(y.as_ptr(), n) else {
        return Err(KernelError::Extent { kernel: NAME, operand: "x", needed: n, got: x.len_or(n) });
    };
    let (x, y, total) = (SharedMut::from_const(x), SharedMut::new(y), total.map(SharedMut::new));
    parallel_ranges(p.rows, (8192 / p.width).max(1), p.width as f64 * 0.3, |rows| {
        dispatch(isa, Rows { p, x: x.ptr(), y: y.ptr(), total: total.map(SharedMut::ptr), rows });
    });
    Ok(())
}

struct Rows<'a> {
    p: &'a LayerNorm<'a>,
    x: *const f32,
    y: *mut f32,
    total: Option<*mut f32>,
    rows: std::ops::Range<usize>,
}

impl Vectorised for Rows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let p = self.p;
        let n = p.width;
        for row in self.rows {
            // SAFETY: tasks have disjoint rows below p.rows; all operands were checked to hold them, and x is y
            // or does not overlap it.
            unsafe {
                let mut x = self.x.add(row * n);
                let y = self.y.add(row * n);
                if let Some(residual) = p.residual {
                    let r = residual.as_ptr().add(row * n);
                    let to = self.total.map_or(y, |t| t.add(row * n));
                    row_loop!(
                        s,
                        n,
                        |i| s.store(to.add(i), s.add(s.load(x.add(i)), s.load(r.add(i)))),
                        |i, left| {
                            s.store_part(
                                to.add(i),
                                left,
                                s.add(s.load_part(x.add(i), left), s.load_part(r.add(i), left)),
                            );
                        }
                    );
                    x = to;
                } else if let Some(total) = self.total {
                    std::ptr::copy_nonoverlapping(x, total.add(row * n), n);
                }
                let mean = if p.rms { 0.0 } else { sum(s, x, n) / n as f32 };
                let variance = sum_square_deviation(s, x, n, mean) / n as f32;
                let factor = 1.0 / (variance + p.epsilon).sqrt();
                finish(s, n, x, y, mean, factor, p.scale, p.bias);
            }
        }
    }
}

/// y = (x - mean) * factor * scale + bias over a row.
/// # Safety
/// All operands hold `n` elements; y is x or overlaps nothing.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // one row's operands
unsafe fn finish<S: Simd>(
    s: S,
    n: usize,
    x: *const f32,
    y: *mut f32,
    mean: f32,
    factor: f32,
    scale: Option<&[f32]>,
    bias: Option<&[f32]>,
) {
    let (m, f) = (s.splat(mean), s.splat(factor));
    // SAFETY: every access stays below n.
    unsafe {
        match (scale.map(<[f32]>::as_ptr), bias.map(<[f32]>::as_ptr)) {
            (Some(g), Some(b)) => row_loop!(
                s,
                n,
                |i| {
                    let v = s.mul(s.sub(s.load(x.add(i)), m), f);
                    s.store(y.add(i), s.mul_add(v, s.load(g.add(i)), s.load(b.add(i))));
                },
                |i, left| {
                    let v = s.mul(s.sub(s.load_part(x.add(i), left), m), f);
                    let v = s.mul_add(v, s.load_part(g.add(i), left), s.load_part(b.add(i), left));
                    s.store_part(y.add(i), left, v);
                }
            ),
            (g, b) => row_loop!(
                s,
                n,
                |i| {
                    let v = s.mul(s.sub(s.load(x.add(i)), m), f);
                    let v = if let Some(g) = g { s.mul(v, s.load(g.add(i))) } else { v };
                    let v = if let Some(b) = b { s.add(v, s.load(b.add(i))) } else { v };
                    s.store(y.add(i), v);
                },
                |i, left| {
                    let v = s.mul(s.sub(s.load_part(x.add(i), left), m), f);
                    let v = if let Some(g) = g { s.mul(v, s.load_part(g.add(i), left)) } else { v };
                    let v = if let Some(b) = b { s.add(v, s.load_part(b.add(i), left)) } else { v };
                    s.store_part(y.add(i), left, v);
                }
            ),
        }
    }
}
