//! Group normalisation of [batch, channels, inner] data; with as many groups as channels it is instance
//! normalisation. Norms over the last axes are in `layer_norm`.

use super::{operands, row_loop, sum, sum_square_deviation};
use crate::error::{KernelError, parameters};
use crate::gemm::{Activation, activate};
use crate::isa::Isa;
use crate::operand::Source;
use crate::simd::{Simd, Vectorised, dispatch};
use crate::threads::parallel_for;

/// What to normalise and how.
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm<'a> {
    /// Batch extent.
    pub batch: usize,
    /// Channels, a multiple of the groups.
    pub channels: usize,
    /// Product of the extents after the channels.
    pub inner: usize,
    /// Groups of neighbouring channels that share mean and variance.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f32,
    /// Multiplies each channel.
    pub scale: Option<&'a [f32]>,
    /// Added to each channel.
    pub bias: Option<&'a [f32]>,
    /// Applied to the result.
    pub activation: Activation,
}

/// Normalises each group of each batch element; `x` may be the output buffer.
pub fn group_norm(isa: Isa, p: &GroupNorm<'_>, x: Source<'_, f32>, y: &mut [f32]) -> Result<(), KernelError> {
    const NAME: &str = "group norm";
    if p.groups == 0 || !p.channels.is_multiple_of(p.groups) {
        return Err(parameters(NAME, format!("{} channels do not make {} groups", p.channels, p.groups)));
    }
    let Some((x, y)) = operands(NAME, [p.batch, p.channels, p.inner], [p.scale, p.bias], x, y)? else {
        return Ok(());
    };
    let width = p.channels / p.groups * p.inner;
    parallel_for(p.batch * p.groups, (width as f64 * 0.3) as u64, |task| {
        // SAFETY: task * width + width <= n; groups are disjoint.
        let (x, y) = unsafe { (x.ptr().add(task * width), y.ptr().add(task * width)) };
        dispatch(isa, Group { p, isa, x, y, group: task % p.groups, width });
    });
    Ok(())
}

/// Elements that are in the nearest cache when their activation is applied.
const NEAR: usize = 2048;

struct Group<'a> {
    p: &'a GroupNorm<'a>,
    isa: Isa,
    x: *const f32,
    y: *mut f32,
    group: usize,
    width: usize,
}

impl Vectorised for Group<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Group { p, isa, x, y, group, width } = self;
        let channels = p.channels / p.groups;
        // SAFETY: x and y hold width = channels * inner elements; y is x or does not overlap it.
        unsafe {
            let mean = sum(s, x, width) / width as f32;
            let variance = sum_square_deviation(s, x, width, mean) / width as f32;
            let factor = 1.0 / (variance + p.epsilon).sqrt();
            for c in 0..channels {
                let channel = group * channels + c;
                let scale = factor * p.scale.and_then(|v| v.get(channel)).copied().unwrap_or(1.0);
                let bias = p.bias.and_then(|v| v.get(channel)).copied().unwrap_or(0.0);
                for from in (0..p.inner).step_by(NEAR) {
                    let n = NEAR.min(p.inner - from);
                    let at = c * p.inner + from;
                    affine(s, n, x.add(at), y.add(at), mean, scale, bias);
                    if p.activation != Activation::None {
                        activate(isa, p.activation, n, y.add(at));
                    }
                }
            }
        }
    }
}

/// y = (x - mean) * scale + bias with scalars.
/// # Safety
/// Both hold `n` elements; y is x or does not overlap it.
#[inline(always)]
pub(super) unsafe fn affine<S: Simd>(
    s: S,
    n: usize,
    x: *const f32,
    y: *mut f32,
    mean: f32,
    scale: f32,
    bias: f32,
) {
    let (m, g, b) = (s.splat(mean), s.splat(scale), s.splat(bias));
    // SAFETY: every access stays below n.
    unsafe {
        row_loop!(s, n, |i| s.store(y.add(i), s.mul_add(s.sub(s.load(x.add(i)), m), g, b)), |i, left| {
            s.store_part(y.add(i), left, s.mul_add(s.sub(s.load_part(x.add(i), left), m), g, b));
        });
    }
}
