//! Functions along one axis that keep order: position of the extreme, running sum. Reductions that forget
//! order are in `sums`.

use crate::error::{KernelError, count, exact, parameters};
use crate::threads::{SharedMut, parallel_for};
use frit_ir::Element;

/// Which extreme's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extreme {
    /// The largest element.
    Max,
    /// The smallest element.
    Min,
}

/// Position of the extreme along the middle of [outer, axis, inner], the first of equals; a NaN is extreme.
pub fn arg_extreme<T: Element>(
    e: Extreme,
    [outer, axis, inner]: [usize; 3],
    x: &[T],
    out: &mut [i64],
) -> Result<(), KernelError> {
    const NAME: &str = "arg extreme";
    exact(NAME, "data", x.len(), count(NAME, &[outer, axis, inner])?)?;
    exact(NAME, "output", out.len(), count(NAME, &[outer, inner])?)?;
    if out.is_empty() {
        return Ok(());
    }
    if axis == 0 {
        return Err(parameters(NAME, "no elements along the axis"));
    }
    let to = SharedMut::new(out);
    parallel_for(outer * inner, axis as u64, |lane| {
        let mut at = lane / inner * axis * inner + lane % inner;
        let mut best = x[at];
        let mut position = 0i64;
        for n in 1..axis as i64 {
            at += inner;
            let y = x[at];
            let better = match e {
                Extreme::Max => y > best,
                Extreme::Min => y < best,
            };
            // Only a NaN differs from itself; the first one wins.
            #[allow(clippy::eq_op)]
            if better || (y != y && best == best) {
                (best, position) = (y, n);
            }
            #[allow(clippy::eq_op)]
            if best != best {
                break;
            }
        }
        // SAFETY: lanes are disjoint.
        unsafe { *to.ptr().add(lane) = position };
    });
    Ok(())
}

/// Running sum along the middle of [outer, axis, inner]; floats are summed in f64, integers wrap.
pub fn cumulative_sum<T: Element>(
    [outer, axis, inner]: [usize; 3],
    exclusive: bool,
    reverse: bool,
    x: &[T],
    out: &mut [T],
) -> Result<(), KernelError> {
    const NAME: &str = "running sum";
    exact(NAME, "data", x.len(), count(NAME, &[outer, axis, inner])?)?;
    exact(NAME, "output", out.len(), x.len())?;
    if out.is_empty() {
        return Ok(());
    }
    let to = SharedMut::new(out);
    parallel_for(outer * inner, axis as u64 * 2, |lane| {
        let start = lane / inner * axis * inner + lane % inner;
        let (mut float, mut int) = (0f64, 0i64);
        for k in 0..axis {
            let at = start + if reverse { axis - 1 - k } else { k } * inner;
            let before = (float, int);
            if T::DTYPE.is_float() {
                float += x[at].to_f64();
            } else {
                int = int.wrapping_add(x[at].to_i64());
            }
            let (f, i) = if exclusive { before } else { (float, int) };
            // SAFETY: lanes are disjoint, and at is inside x, which is as long as the output.
            unsafe { *to.ptr().add(at) = if T::DTYPE.is_float() { T::from_f64(f) } else { T::from_i64(i) } };
        }
    });
    Ok(())
}
