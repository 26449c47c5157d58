//! Normalisations over f32 rows: softmax, layer norm, group (and instance) norm, norm over channels, batch norm.
//! Each row is read while it is in the cache; mean and variance take two passes, so nothing cancels.

mod batch_norm;
mod channel_norm;
mod group_norm;
mod layer_norm;
mod softmax;

pub use batch_norm::batch_norm;
pub use channel_norm::{ChannelNorm, channel_norm};
pub use group_norm::{GroupNorm, group_norm};
pub use layer_norm::{LayerNorm, layer_norm};
pub use softmax::{Softmax, softmax};

use crate::error::{KernelError, at_least, count, exact};
use crate::operand::Source;
use crate::simd::Simd;
use crate::threads::SharedMut;

/// Checks the operands of a norm of [batch, channels, inner] data with optional scale and bias a channel, and gives where
/// x and y begin; None where they are empty.
fn operands(
    name: &'static str,
    extents: [usize; 3],
    [scale, bias]: [Option<&[f32]>; 2],
    x: Source<'_, f32>,
    y: &mut [f32],
) -> Result<Option<(SharedMut<f32>, SharedMut<f32>)>, KernelError> {
    let n = count(name, &extents)?;
    exact(name, "y", y.len(), n)?;
    at_least(name, "x", x.len_or(n), Some(n))?;
    for (operand, v) in [("scale", scale), ("bias", bias)] {
        if let Some(v) = v {
            exact(name, operand, v.len(), extents[1])?;
        }
    }
    if n == 0 {
        return Ok(None);
    }
    let Some(x) = x.pointer(y.as_ptr(), n) else {
        return Err(KernelError::Extent { kernel: name, operand: "x", needed: n, got: x.len_or(n) });
    };
    Ok(Some((SharedMut::from_const(x), SharedMut::new(y))))
}

/// Runs over a row of `n` elements, four vectors at a time: `body(i)` for whole vectors, `rest(i, n)` for what is left.
macro_rules! row_loop {
    ($s:ident, $n:expr, |$i:ident| $body:expr, |$j:ident, $left:ident| $rest:expr) => {{
        let n = $n;
        let mut $i = 0;
        while $i + S::LANES <= n {
            $body;
            $i += S::LANES;
        }
        if $i < n {
            let ($j, $left) = ($i, n - $i);
            $rest;
        }
    }};
}
pub(crate) use row_loop;

/// Sum of `n` elements in four running vectors.
/// # Safety
/// `x` holds `n` elements.
#[inline(always)]
pub(crate) unsafe fn sum<S: Simd>(s: S, x: *const f32, n: usize) -> f32 {
    let mut acc = [s.zero(); 4];
    let mut i = 0;
    // SAFETY: every load stays below n.
    unsafe {
        while i + 4 * S::LANES <= n {
            for (k, a) in acc.iter_mut().enumerate() {
                *a = s.add(*a, s.load(x.add(i + k * S::LANES)));
            }
            i += 4 * S::LANES;
        }
        while i + S::LANES <= n {
            acc[0] = s.add(acc[0], s.load(x.add(i)));
            i += S::LANES;
        }
        if i < n {
            acc[1] = s.add(acc[1], s.load_part(x.add(i), n - i));
        }
    }
    s.sum(s.add(s.add(acc[0], acc[1]), s.add(acc[2], acc[3])))
}

/// Sum of (x - mean)^2 over `n` elements.
/// # Safety
/// `x` holds `n` elements.
#[inline(always)]
pub(crate) unsafe fn sum_square_deviation<S: Simd>(s: S, x: *const f32, n: usize, mean: f32) -> f32 {
    let mean = s.splat(mean);
    let mut acc = [s.zero(); 4];
    let mut i = 0;
    // SAFETY: every load stays below n.
    unsafe {
        while i + 4 * S::LANES <= n {
            for (k, a) in acc.iter_mut().enumerate() {
                let d = s.sub(s.load(x.add(i + k * S::LANES)), mean);
                *a = s.mul_add(d, d, *a);
            }
            i += 4 * S::LANES;
        }
        while i + S::LANES <= n {
            let d = s.sub(s.load(x.add(i)), mean);
            acc[0] = s.mul_add(d, d, acc[0]);
            i += S::LANES;
        }
    }
    let mut total = s.sum(s.add(s.add(acc[0], acc[1]), s.add(acc[2], acc[3])));
    let mean = s.max_lane(mean);
    while i < n {
        // SAFETY: i < n.
        let d = unsafe { *x.add(i) } - mean;
        total += d * d;
        i += 1;
    }
    total
}

#[cfg(test)]
mod tests;
