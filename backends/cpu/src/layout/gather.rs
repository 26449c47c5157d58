//! Picking rows and single elements by index. Slices with fixed steps are strided copies.

use crate::error::{KernelError, count, exact, parameters};
use crate::threads::{SharedMut, parallel_for, parallel_ranges};

/// The element that an index means on an axis of `extent`; negative ones count from the end.
pub(super) fn resolve(
    kernel: &'static str,
    position: usize,
    index: i64,
    extent: usize,
) -> Result<usize, KernelError> {
    let n = i64::try_from(extent).unwrap_or(i64::MAX);
    let i = if index < 0 { index.saturating_add(n) } else { index };
    usize::try_from(i).ok().filter(|&i| i < extent).ok_or(KernelError::Index {
        kernel,
        index,
        position,
        extent,
    })
}

/// Picks slices of x [outer, axis, inner] (in bytes: `inner` is that of a slice) by `indices`:
/// out [outer, indices, inner].
pub fn gather(
    outer: usize,
    axis: usize,
    inner: usize,
    x: &[u8],
    indices: impl ExactSizeIterator<Item = i64>,
    out: &mut [u8],
) -> Result<(), KernelError> {
    const NAME: &str = "gather";
    let picked = indices
        .enumerate()
        .map(|(p, i)| resolve(NAME, p, i, axis))
        .collect::<Result<Vec<usize>, KernelError>>()?;
    exact(NAME, "data", x.len(), count(NAME, &[outer, axis, inner])?)?;
    exact(NAME, "output", out.len(), count(NAME, &[outer, picked.len(), inner])?)?;
    if out.is_empty() {
        return Ok(());
    }
    let out = SharedMut::new(out);
    let rows = outer * picked.len();
    parallel_ranges(rows, (1usize << 16).div_ceil(inner), inner as f64 * 0.1 + 2.0, |range| {
        for row in range {
            let (o, p) = (row / picked.len(), row % picked.len());
            let from = (o * axis + picked[p]) * inner;
            // SAFETY: rows are disjoint parts of the output.
            unsafe { out.slice(row * inner..(row + 1) * inner) }.copy_from_slice(&x[from..from + inner]);
        }
    });
    Ok(())
}

/// Picks single elements of `size` bytes: out has the shape of the indices, and each of its elements is the one
/// of x at the same place but for `axis`, where the index says.
pub fn gather_elements(
    size: usize,
    axis: usize,
    x: (&[u8], &[usize]),
    indices: (&[i64], &[usize]),
    out: &mut [u8],
) -> Result<(), KernelError> {
    const NAME: &str = "gather elements";
    let ((x, shape), (indices, to)) = (x, indices);
    if shape.len() != to.len() || axis >= shape.len() {
        return Err(parameters(NAME, format!("indices {to:?} do not fit data {shape:?} along axis {axis}")));
    }
    if let Some(i) = (0..shape.len()).find(|&i| i != axis && to[i] > shape[i]) {
        return Err(parameters(NAME, format!("indices {to:?} exceed data {shape:?} along axis {i}")));
    }
    let n = count(NAME, to)?;
    exact(NAME, "data", x.len(), count(NAME, shape)?.saturating_mul(size))?;
    exact(NAME, "indices", indices.len(), n)?;
    exact(NAME, "output", out.len(), n.saturating_mul(size))?;
    let picked = indices
        .iter()
        .enumerate()
        .map(|(p, &i)| resolve(NAME, p, i, shape[axis]))
        .collect::<Result<Vec<usize>, KernelError>>()?;
    if n == 0 {
        return Ok(());
    }
    let strides = super::strides(shape);
    let inner = to[to.len() - 1];
    let out = SharedMut::new(out);
    parallel_for(n / inner, inner as u64, |row| {
        let (mut base, mut r) = (0, row);
        for (i, &d) in to.iter().enumerate().rev().skip(1) {
            if i != axis {
                base += r % d * strides[i];
            }
            r /= d;
        }
        for column in 0..inner {
            let position = row * inner + column;
            let along = if axis == to.len() - 1 { 0 } else { column };
            let from = (base + along + picked[position] * strides[axis]) * size;
            // SAFETY: positions are disjoint parts of the output.
            unsafe { out.slice(position * size..(position + 1) * size) }
                .copy_from_slice(&x[from..from + size]);
        }
    });
    Ok(())
}
