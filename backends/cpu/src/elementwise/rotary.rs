//! Rotary position embedding: turning pairs of elements of each row by given angles. Making the angles is not
//! done here.

use super::broadcast::Pattern;
use crate::error::{KernelError, at_least, count, exact, parameters};
use crate::isa::Isa;
use crate::operand::Source;
use crate::scratch::with_scratch;
use crate::simd::{Simd, Vectorised, dispatch};
use crate::threads::{SharedMut, parallel_ranges};

const NAME: &str = "rotary embedding";

/// y = x cos + rotated(x) sin over rows of the last axis of `shape`, which is even; cos and sin broadcast to it.
/// A pair (a, b) turns into (-b, a); pairs are (i, i + D/2), or (2i, 2i + 1) when interleaved. `x` may be the
/// output buffer.
pub fn rotary(
    isa: Isa,
    interleaved: bool,
    x: Source<'_, f32>,
    cos: (&[f32], &[usize]),
    sin: (&[f32], &[usize]),
    y: &mut [f32],
    shape: &[usize],
) -> Result<(), KernelError> {
    let n = count(NAME, shape)?;
    let dim = shape.last().copied().unwrap_or(1);
    if !dim.is_multiple_of(2) {
        return Err(parameters(NAME, format!("rows of {dim} elements hold no whole pairs")));
    }
    exact(NAME, "y", y.len(), n)?;
    let angles = |name, v: (&[f32], &[usize])| {
        let p = Pattern::new(v.1, shape)
            .ok_or_else(|| parameters(NAME, format!("`{name}` {:?} does not broadcast to {shape:?}", v.1)))?;
        at_least(NAME, name, v.0.len(), Some(p.reach(n)))?;
        Ok(p)
    };
    let (pc, ps) = (angles("cos", cos)?, angles("sin", sin)?);
    let Some(from) = x.pointer(y.as_ptr(), n) else {
        return Err(KernelError::Extent { kernel: NAME, operand: "x", needed: n, got: x.len_or(n) });
    };
    if n == 0 {
        return Ok(());
    }
    let (from, to) = (SharedMut::from_const(from), SharedMut::new(y));
    parallel_ranges(n / dim, (1usize << 13).div_ceil(dim), dim as f64 * 0.5, |rows| {
        with_scratch(3 * dim, |scratch| {
            let (row, rest) = scratch.split_at_mut(dim);
            let (c, s) = rest.split_at_mut(dim);
            for r in rows {
                pc.fill(cos.0, r * dim, c, |v| v);
                ps.fill(sin.0, r * dim, s, |v| v);
                // SAFETY: row r lies in x and y; rows are disjoint, and x is y or does not overlap it.
                let to = unsafe {
                    row.copy_from_slice(std::slice::from_raw_parts(from.ptr().add(r * dim), dim));
                    to.slice(r * dim..(r + 1) * dim)
                };
                if interleaved {
                    turn_neighbours(row, c, s, to);
                } else {
                    dispatch(isa, Halves { x: row, cos: c, sin: s, y: to });
                }
            }
        });
    });
    Ok(())
}

fn turn_neighbours(x: &[f32], cos: &[f32], sin: &[f32], y: &mut [f32]) {
    let angles = cos.chunks_exact(2).zip(sin.chunks_exact(2));
    for ((y, x), (c, s)) in y.chunks_exact_mut(2).zip(x.chunks_exact(2)).zip(angles) {
        y[0] = x[0] * c[0] - x[1] * s[0];
        y[1] = x[1] * c[1] + x[0] * s[1];
    }
}

/// One row whose pairs are half a row apart. All slices have the same, even length.
struct Halves<'a> {
    x: &'a [f32],
    cos: &'a [f32],
    sin: &'a [f32],
    y: &'a mut [f32],
}

impl Vectorised for Halves<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let half = self.x.len() / 2;
        let (x, cos, sin, y) = (self.x.as_ptr(), self.cos.as_ptr(), self.sin.as_ptr(), self.y.as_mut_ptr());
        let mut i = 0;
        while i < half {
            let n = S::LANES.min(half - i);
            // SAFETY: i + n <= half, and every operand holds two halves.
            unsafe {
                let (a, b) = (s.load_part(x.add(i), n), s.load_part(x.add(half + i), n));
                let turned = s.mul(b, s.load_part(sin.add(i), n));
                s.store_part(y.add(i), n, s.sub(s.mul(a, s.load_part(cos.add(i), n)), turned));
                let turned = s.mul(a, s.load_part(sin.add(half + i), n));
                s.store_part(y.add(half + i), n, s.add(s.mul(b, s.load_part(cos.add(half + i), n)), turned));
            }
            i += n;
        }
    }
}
