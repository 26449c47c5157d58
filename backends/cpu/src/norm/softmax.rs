//! Softmax and its logarithm along one axis. Attention has its own, online form.

use super::row_loop;
use crate::error::{KernelError, at_least, count, exact};
use crate::isa::Isa;
use crate::math;
use crate::operand::Source;
use crate::scratch::with_scratch;
use crate::simd::{Simd, Vectorised, dispatch};
use crate::threads::{SharedMut, parallel_ranges};

/// The extents around the axis, and which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// Product of the extents before the axis.
    pub outer: usize,
    /// The axis' extent.
    pub axis: usize,
    /// Product of the extents after it; 1 is the fast case.
    pub inner: usize,
    /// The logarithm of the result instead.
    pub log: bool,
}

/// exp(x - max) / sum along an axis; `x` may be the output buffer.
pub fn softmax(isa: Isa, p: Softmax, x: Source<'_, f32>, y: &mut [f32]) -> Result<(), KernelError> {
    const NAME: &str = "softmax";
    let n = count(NAME, &[p.outer, p.axis, p.inner])?;
    exact(NAME, "y", y.len(), n)?;
    at_least(NAME, "x", x.len_or(n), Some(n))?;
    if n == 0 {
        return Ok(());
    }
    let Some(x) = x.pointer(y.as_ptr(), n) else {
        return Err(KernelError::Extent { kernel: NAME, operand: "x", needed: n, got: x.len_or(n) });
    };
    let (x, y) = (SharedMut::from_const(x), SharedMut::new(y));
    let cost = p.axis as f64 * 0.6;
    if p.inner == 1 {
        parallel_ranges(p.outer, (8192 / p.axis).max(1), cost, |rows| {
            // SAFETY: the tasks' rows are disjoint, and x is y or does not overlap it.
            dispatch(isa, Rows { p, x: x.ptr(), y: y.ptr(), rows });
        });
        return Ok(());
    }
    // Columns of an axis that is not the last: a strip of neighbouring columns at a time.
    let strips = p.inner.div_ceil(STRIP);
    parallel_ranges(p.outer * strips, 1, cost * STRIP as f64, |tasks| {
        for t in tasks {
            let (o, c) = (t / strips, t % strips * STRIP);
            let width = STRIP.min(p.inner - c);
            let at = o * p.axis * p.inner + c;
            with_scratch(2 * STRIP, |scratch| {
                // SAFETY: strips are disjoint and inside x and y: at + (axis - 1) inner + width <= n.
                let (x, y) = unsafe { (x.ptr().add(at), y.ptr().add(at)) };
                dispatch(isa, Strip { p, x, y, width, scratch });
            });
        }
    });
    Ok(())
}

/// Columns done together.
const STRIP: usize = 64;

struct Rows {
    p: Softmax,
    x: *const f32,
    y: *mut f32,
    rows: std::ops::Range<usize>,
}

impl Vectorised for Rows {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.p.axis;
        for row in self.rows {
            // SAFETY: row < outer, so both rows of n elements exist.
            unsafe {
                let (x, y) = (self.x.add(row * n), self.y.add(row * n));
                let max = row_max(s, x, n);
                let m = s.splat(max);
                if self.p.log {
                    let mut acc = s.zero();
                    let mut tail = 0.0;
                    row_loop!(
                        s,
                        n,
                        |i| acc = s.add(acc, math::exp(s, s.sub(s.load(x.add(i)), m))),
                        |i, left| {
                            let mut e = [0f32; 16];
                            s.store_part(
                                e.as_mut_ptr(),
                                left,
                                math::exp(s, s.sub(s.load_part(x.add(i), left), m)),
                            );
                            tail = e[..left].iter().sum();
                        }
                    );
                    let log = s.splat((s.sum(acc) + tail).ln());
                    row_loop!(
                        s,
                        n,
                        |i| s.store(y.add(i), s.sub(s.sub(s.load(x.add(i)), m), log)),
                        |i, left| {
                            s.store_part(y.add(i), left, s.sub(s.sub(s.load_part(x.add(i), left), m), log));
                        }
                    );
                } else {
                    row_loop!(
                        s,
                        n,
                        |i| s.store(y.add(i), math::exp(s, s.sub(s.load(x.add(i)), m))),
                        |i, left| {
                            s.store_part(y.add(i), left, math::exp(s, s.sub(s.load_part(x.add(i), left), m)));
                        }
                    );
                    let scale = s.splat(1.0 / super::sum(s, y, n));
                    row_loop!(s, n, |i| s.store(y.add(i), s.mul(s.load(y.add(i)), scale)), |i, left| {
                        s.store_part(y.add(i), left, s.mul(s.load_part(y.add(i), left), scale));
                    });
                }
            }
        }
    }
}

/// Largest of `n >= 1` elements.
/// # Safety
/// `x` holds `n` elements.
#[inline(always)]
pub(crate) unsafe fn row_max<S: Simd>(s: S, x: *const f32, n: usize) -> f32 {
    let mut acc = [s.splat(f32::NEG_INFINITY); 4];
    let mut i = 0;
    let mut best = f32::NEG_INFINITY;
    // SAFETY: every load stays below n.
    unsafe {
        while i + 4 * S::LANES <= n {
            for (k, a) in acc.iter_mut().enumerate() {
                *a = s.max(*a, s.load(x.add(i + k * S::LANES)));
            }
            i += 4 * S::LANES;
        }
        while i + S::LANES <= n {
            acc[0] = s.max(acc[0], s.load(x.add(i)));
            i += S::LANES;
        }
        while i < n {
            best = if *x.add(i) > best { *x.add(i) } else { best };
            i += 1;
        }
    }
    let m = s.max_lane(s.max(s.max(acc[0], acc[1]), s.max(acc[2], acc[3])));
    if m > best { m } else { best }
}

struct Strip<'a> {
    p: Softmax,
    x: *const f32,
    y: *mut f32,
    width: usize,
    scratch: &'a mut [f32],
}

impl Vectorised for Strip<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Strip { p, x, y, width, scratch } = self;
        let (max, sum) = scratch.split_at_mut(STRIP);
        max.fill(f32::NEG_INFINITY);
        sum.fill(0.0);
        let (max, sum) = (max.as_mut_ptr(), sum.as_mut_ptr());
        // SAFETY: i + left <= width <= STRIP; rows a < axis start inner elements apart inside x and y.
        unsafe {
            for a in 0..p.axis {
                let x = x.add(a * p.inner);
                row_loop!(
                    s,
                    width,
                    |i| s.store(max.add(i), s.max(s.load(max.add(i)), s.load(x.add(i)))),
                    |i, left| {
                        let m = s.max(s.load_part(max.add(i), left), s.load_part(x.add(i), left));
                        s.store_part(max.add(i), left, m);
                    }
                );
            }
            for a in 0..p.axis {
                let (x, y) = (x.add(a * p.inner), y.add(a * p.inner));
                row_loop!(
                    s,
                    width,
                    |i| {
                        let d = s.sub(s.load(x.add(i)), s.load(max.add(i)));
                        let e = math::exp(s, d);
                        s.store(y.add(i), if p.log { d } else { e });
                        s.store(sum.add(i), s.add(s.load(sum.add(i)), e));
                    },
                    |i, left| {
                        let d = s.sub(s.load_part(x.add(i), left), s.load_part(max.add(i), left));
                        let e = math::exp(s, d);
                        s.store_part(y.add(i), left, if p.log { d } else { e });
                        s.store_part(sum.add(i), left, s.add(s.load_part(sum.add(i), left), e));
                    }
                );
            }
            for i in 0..width {
                *sum.add(i) = if p.log { (*sum.add(i)).ln() } else { 1.0 / *sum.add(i) };
            }
            for a in 0..p.axis {
                let y = y.add(a * p.inner);
                row_loop!(
                    s,
                    width,
                    |i| {
                        let (v, f) = (s.load(y.add(i)), s.load(sum.add(i)));
                        s.store(y.add(i), if p.log { s.sub(v, f) } else { s.mul(v, f) });
                    },
                    |i, left| {
                        let (v, f) = (s.load_part(y.add(i), left), s.load_part(sum.add(i), left));
                        s.store_part(y.add(i), left, if p.log { s.sub(v, f) } else { s.mul(v, f) });
                    }
                );
            }
        }
    }
}
