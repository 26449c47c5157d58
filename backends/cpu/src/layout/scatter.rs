//! Runs of elements at places that indices name: read, or written over. Arithmetic on what is there does not belong
//! here.

use super::gather::resolve;
use super::strides;
use crate::error::{KernelError, at_least, count, exact, parameters};
use crate::threads::{SharedMut, parallel_for};

/// The place in data of `shape` of each index of `to`: its own, but for `axis`, where the index says.
pub fn element_places(
    axis: usize,
    shape: &[usize],
    indices: &[i64],
    to: &[usize],
) -> Result<Vec<usize>, KernelError> {
    const NAME: &str = "scatter elements";
    exact(NAME, "indices", indices.len(), count(NAME, to)?)?;
    if shape.len() != to.len() || axis >= shape.len() {
        return Err(parameters(NAME, format!("indices {to:?} do not fit data {shape:?} along axis {axis}")));
    }
    if let Some(i) = (0..shape.len()).find(|&i| i != axis && to[i] > shape[i]) {
        return Err(parameters(NAME, format!("indices {to:?} exceed data {shape:?} along axis {i}")));
    }
    let steps = strides(shape);
    let place = |(position, &index): (usize, &i64)| {
        let (mut at, mut r) = (resolve(NAME, position, index, shape[axis])? * steps[axis], position);
        for (i, &d) in to.iter().enumerate().rev() {
            if i != axis {
                at += r % d * steps[i];
            }
            r /= d;
        }
        Ok(at)
    };
    indices.iter().enumerate().map(place).collect()
}

/// The first element of the slice that each vector of `depth` indices names in data of `shape`; vectors belong in
/// equal parts to the batches, which lie `batch_step` elements apart.
pub fn slice_places(
    depth: usize,
    shape: &[usize],
    indices: &[i64],
    (batches, batch_step): (usize, usize),
) -> Result<Vec<usize>, KernelError> {
    const NAME: &str = "scatter slices";
    if depth == 0 || depth > shape.len() || !indices.len().is_multiple_of(depth) {
        return Err(parameters(NAME, format!("{} indices of {depth} axes of {shape:?}", indices.len())));
    }
    let steps = strides(shape);
    let per_batch = (indices.len() / depth).div_ceil(batches.max(1)).max(1);
    let place = |(n, vector): (usize, &[i64])| {
        let each = vector.iter().zip(shape.iter().zip(&steps)).enumerate();
        each.map(|(i, (&index, (&bound, &step)))| Ok(resolve(NAME, n * depth + i, index, bound)? * step))
            .sum::<Result<usize, KernelError>>()
            .map(|at| at + n / per_batch * batch_step)
    };
    indices.chunks_exact(depth).enumerate().map(place).collect()
}

fn reach(places: &[usize], size: usize, run: usize) -> Option<usize> {
    let last = places.iter().copied().max().map_or(Some(0), |p| p.checked_mul(size)?.checked_add(run));
    last.filter(|_| run > 0)
}

/// Copies the runs of `run` bytes that begin at these elements, one after the other.
pub fn gather_runs(
    size: usize,
    run: usize,
    x: &[u8],
    places: &[usize],
    out: &mut [u8],
) -> Result<(), KernelError> {
    const NAME: &str = "gather runs";
    exact(NAME, "output", out.len(), count(NAME, &[places.len(), run])?)?;
    if out.is_empty() {
        return Ok(());
    }
    at_least(NAME, "data", x.len(), reach(places, size, run))?;
    let out = SharedMut::new(out);
    parallel_for(places.len(), (run as u64 / 8).max(1), |n| {
        // SAFETY: runs are disjoint parts of the output.
        let to = unsafe { out.slice(n * run..(n + 1) * run) };
        to.copy_from_slice(&x[places[n] * size..places[n] * size + run]);
    });
    Ok(())
}

/// Writes runs of `run` bytes over those that begin at these elements, in order: of two at one place the later stays.
pub fn scatter_runs(
    size: usize,
    run: usize,
    updates: &[u8],
    places: &[usize],
    out: &mut [u8],
) -> Result<(), KernelError> {
    const NAME: &str = "scatter runs";
    exact(NAME, "updates", updates.len(), count(NAME, &[places.len(), run])?)?;
    if updates.is_empty() {
        return Ok(());
    }
    at_least(NAME, "output", out.len(), reach(places, size, run))?;
    for (update, place) in updates.chunks_exact(run).zip(places) {
        out[place * size..place * size + run].copy_from_slice(update);
    }
    Ok(())
}
