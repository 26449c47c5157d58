//! Kernels that move elements without changing them: strided copies (transpose, slice, concat, split,
//! expand, tile), padding, gathers, scatters. Elements are bytes of a given size; no arithmetic on them belongs here.

mod copy;
mod gather;
mod pad;
mod scatter;

pub use copy::{Placement, copy};
pub use gather::{gather, gather_elements};
pub use pad::{PadMode, pad};
pub use scatter::{element_places, gather_runs, scatter_runs, slice_places};

/// Row-major strides of a shape, in elements.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1usize; shape.len()];
    let mut step = 1usize;
    for (o, &d) in out.iter_mut().zip(shape).rev() {
        *o = step;
        step = step.saturating_mul(d);
    }
    out
}

#[cfg(test)]
mod tests;
