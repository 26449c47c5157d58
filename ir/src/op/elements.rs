//! Walking over the elements of tensors by multi-index, for reference evaluations. No op belongs here.

use super::OpError;
use crate::dtype::DType;
use crate::tensor::{Tensor, TensorError, element_count};

/// Row-major strides in elements.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut step = 1usize;
    let mut out: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&d| {
            let s = step;
            step = step.saturating_mul(d);
            s
        })
        .collect();
    out.reverse();
    out
}

/// The flat position of a multi-index.
pub fn flat(index: &[usize], strides: &[usize]) -> usize {
    index.iter().zip(strides).map(|(i, s)| i.saturating_mul(*s)).sum()
}

/// Calls `f` with every multi-index of `shape` in row-major order, until it fails.
pub fn each_index(
    shape: &[usize],
    mut f: impl FnMut(&[usize]) -> Result<(), OpError>,
) -> Result<(), OpError> {
    let count = element_count(shape).unwrap_or(0);
    let mut index = vec![0usize; shape.len()];
    for _ in 0..count {
        f(&index)?;
        for (i, &d) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < d {
                break;
            }
            *i = 0;
        }
    }
    Ok(())
}

/// A tensor whose element at each multi-index is the element of `x` at the flat position that `from` gives,
/// or `fill` where it gives None. `fill` holds one element's bytes.
pub fn move_elements(
    x: &Tensor,
    shape: &[usize],
    fill: &[u8],
    mut from: impl FnMut(&[usize]) -> Result<Option<usize>, OpError>,
) -> Result<Tensor, OpError> {
    let size = x.dtype().size();
    // Allocates before filling, so that an absurd shape is refused by its size.
    let mut out = Vec::with_capacity(Tensor::zeros(x.dtype(), shape)?.bytes().len());
    each_index(shape, |index| {
        let element = match from(index)? {
            Some(i) => x.bytes().get(i.saturating_mul(size)..).and_then(|b| b.get(..size)),
            None => Some(fill),
        };
        out.extend_from_slice(element.unwrap_or(fill));
        Ok(())
    })?;
    Ok(Tensor::from_bytes(x.dtype(), shape, &out)?)
}

/// One element's bytes for a number.
pub fn fill_bytes(dtype: DType, value: f64) -> Vec<u8> {
    Tensor::scalar(dtype, value).bytes().to_vec()
}

/// A tensor of one value.
pub fn filled(dtype: DType, shape: &[usize], value: f64) -> Result<Tensor, TensorError> {
    let one = fill_bytes(dtype, value);
    let n = Tensor::zeros(dtype, shape)?.len();
    Tensor::from_bytes(dtype, shape, &one.repeat(n))
}

/// The element, or zero outside.
pub fn at<T: Copy + Default>(v: &[T], i: usize) -> T {
    v.get(i).copied().unwrap_or_default()
}

/// For each element of `to` in order, the index of the element of `from` that broadcasts there.
pub fn broadcast_indices(from: &[usize], to: &[usize]) -> impl Iterator<Item = usize> {
    let pad = to.len().saturating_sub(from.len());
    let mut strides = vec![0usize; to.len()];
    let mut step = 1usize;
    for (i, &d) in from.iter().enumerate().rev() {
        if let Some(s) = strides.get_mut(i + pad) {
            *s = if d == 1 { 0 } else { step };
        }
        step = step.saturating_mul(d);
    }
    let to = to.to_vec();
    let count: usize = to.iter().product();
    (0..count).map(move |mut n| {
        let mut index = 0;
        for (&d, &s) in to.iter().zip(&strides).rev() {
            index += (n % d) * s;
            n /= d;
        }
        index
    })
}
