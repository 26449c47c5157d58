//! The best elements along an axis, in order. Single extremes are in `lanes`.

use crate::error::{KernelError, count, exact, parameters};
use crate::threads::{SharedMut, parallel_for};
use frit_ir::Element;

/// The `k` largest (or smallest) elements along the middle of `[outer, axis, inner]` and their positions, best first, of
/// equals the first first; a NaN is largest.
pub fn top_k<T: Element>(
    largest: bool,
    k: usize,
    [outer, axis, inner]: [usize; 3],
    x: &[T],
    values: &mut [T],
    positions: &mut [i64],
) -> Result<(), KernelError> {
    const NAME: &str = "top k";
    let n = count(NAME, &[outer, k, inner])?;
    exact(NAME, "data", x.len(), count(NAME, &[outer, axis, inner])?)?;
    exact(NAME, "values", values.len(), n)?;
    exact(NAME, "positions", positions.len(), n)?;
    if k > axis {
        return Err(parameters(NAME, format!("{k} elements of an axis of extent {axis}")));
    }
    if n == 0 {
        return Ok(());
    }
    let (values, positions) = (SharedMut::new(values), SharedMut::new(positions));
    parallel_for(outer * inner, 4 * axis as u64, |lane| {
        let (o, i) = (lane / inner, lane % inner);
        let from = |p: usize| x[(o * axis + p) * inner + i];
        let order = |&a: &usize, &b: &usize| {
            let (v, w) = if largest { (from(b), from(a)) } else { (from(a), from(b)) };
            // Only a NaN differs from itself.
            #[allow(clippy::eq_op)]
            let by_value = v.partial_cmp(&w).unwrap_or_else(|| (v != v).cmp(&(w != w)));
            by_value.then(a.cmp(&b))
        };
        let mut ranked: Vec<usize> = (0..axis).collect();
        if k < axis {
            ranked.select_nth_unstable_by(k - 1, order);
            ranked.truncate(k);
        }
        ranked.sort_unstable_by(order);
        for (r, p) in ranked.into_iter().enumerate() {
            let to = (o * k + r) * inner + i;
            // SAFETY: lanes are disjoint parts of both outputs, and `to` is below `n`.
            unsafe {
                *values.ptr().add(to) = from(p);
                *positions.ptr().add(to) = p as i64;
            }
        }
    });
    Ok(())
}
