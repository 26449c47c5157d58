//! Batch normalisation with known statistics: an affine map a channel. Its folding into convolutions is a pass.

use super::group_norm::affine;
use crate::error::{KernelError, at_least, count, exact};
use crate::isa::Isa;
use crate::operand::Source;
use crate::simd::{Simd, Vectorised, dispatch};
use crate::threads::{SharedMut, parallel_for};

/// y = (x - mean) / sqrt(variance + epsilon) * scale + bias for each channel of [batch, channels, inner] data.
/// `statistics` are scale, bias, mean and variance, each of `shape[1]` elements; `x` may be the output buffer.
pub fn batch_norm(
    isa: Isa,
    shape: [usize; 3],
    statistics: [&[f32]; 4],
    epsilon: f32,
    x: Source<'_, f32>,
    y: &mut [f32],
) -> Result<(), KernelError> {
    const NAME: &str = "batch norm";
    let n = count(NAME, &shape)?;
    let [batch, channels, inner] = shape;
    exact(NAME, "y", y.len(), n)?;
    at_least(NAME, "x", x.len_or(n), Some(n))?;
    for (name, v) in ["scale", "bias", "mean", "variance"].into_iter().zip(statistics) {
        exact(NAME, name, v.len(), channels)?;
    }
    if n == 0 {
        return Ok(());
    }
    let Some(x) = x.pointer(y.as_ptr(), n) else {
        return Err(KernelError::Extent { kernel: NAME, operand: "x", needed: n, got: x.len_or(n) });
    };
    let (x, y) = (SharedMut::from_const(x), SharedMut::new(y));
    let [scale, bias, mean, variance] = statistics;
    parallel_for(batch * channels, (inner as f64 * 0.2) as u64, |task| {
        let c = task % channels;
        // SAFETY: task * inner + inner <= n; channels are disjoint.
        let (x, y) = unsafe { (x.ptr().add(task * inner), y.ptr().add(task * inner)) };
        let scale = scale[c] / (variance[c] + epsilon).sqrt();
        dispatch(isa, Channel { n: inner, x, y, mean: mean[c], scale, bias: bias[c] });
    });
    Ok(())
}

struct Channel {
    n: usize,
    x: *const f32,
    y: *mut f32,
    mean: f32,
    scale: f32,
    bias: f32,
}

impl Vectorised for Channel {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the maker gave a channel of n elements; y is x or does not overlap it.
        unsafe { affine(s, self.n, self.x, self.y, self.mean, self.scale, self.bias) }
    }
}
