//! Kernels that combine elements along axes: reductions, positions of extremes, running sums, pooling.
//! Softmax and norms, which keep the shape, are in `norm`.

mod lanes;
mod pool;
mod sums;
mod topk;

pub use lanes::{Extreme, arg_extreme, cumulative_sum};
pub use pool::{Pool, PoolAxis, PoolKind, pool};
pub use sums::{Reduction, reduce, reduce_wide};
pub use topk::top_k;

#[cfg(test)]
mod tests;
