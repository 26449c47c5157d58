//! Normalisation over the channels of [batch, channels, inner] data, each place of `inner` by itself. Norms over
//! groups of channels and all their places are in `group_norm`, those over the last axes in `layer_norm`.

use super::{operands, row_loop};
use crate::error::KernelError;
use crate::gemm::{Activation, Finish, LINE};
use crate::isa::Isa;
use crate::operand::Source;
use crate::scratch::with_scratch;
use crate::simd::{Cache, Simd, Vectorised, dispatch, prefetch};
use crate::threads::parallel_ranges;

/// What to normalise and how.
#[derive(Clone, Copy, Debug)]
pub struct ChannelNorm<'a> {
    /// Batch extent.
    pub batch: usize,
    /// Channels, over which mean and variance are taken.
    pub channels: usize,
    /// Product of the extents after the channels.
    pub inner: usize,
    /// Added to the variance.
    pub epsilon: f32,
    /// Multiplies each channel.
    pub scale: Option<&'a [f32]>,
    /// Added to each channel.
    pub bias: Option<&'a [f32]>,
    /// Applied to the result.
    pub activation: Activation,
}

/// Places done together: their channels, copied side by side, stay in the second-level cache, however far apart
/// they lie in x.
const STRIP: usize = 64;
/// Channels summed before they are added to the total, so that rounding does not grow with the channels; and
/// finished together, in the nearest cache.
const CHUNK: usize = 16;
/// Rows whose lines are asked for before they are written, where they are not those of x.
const AHEAD: usize = 4;

/// Normalises the channels of each place; `x` may be the output buffer.
pub fn channel_norm(
    isa: Isa,
    p: &ChannelNorm<'_>,
    x: Source<'_, f32>,
    y: &mut [f32],
) -> Result<(), KernelError> {
    const NAME: &str = "channel norm";
    let Some((x, y)) = operands(NAME, [p.batch, p.channels, p.inner], [p.scale, p.bias], x, y)? else {
        return Ok(());
    };
    let strips = p.inner.div_ceil(STRIP);
    let size = p.channels * p.inner.min(STRIP);
    parallel_ranges(p.batch * strips, (8192 / size).max(1), size as f64 * 0.6, |tasks| {
        with_scratch(size + 2 * STRIP, |scratch| {
            for t in tasks {
                let (sample, from) = (t / strips, t % strips * STRIP);
                let at = sample * p.channels * p.inner + from;
                let left = p.inner - from;
                // SAFETY: at + (channels - 1) inner + left <= n; strips are disjoint.
                let (x, y) = unsafe { (x.ptr().add(at), y.ptr().add(at)) };
                dispatch(isa, Strip { p, isa, x, y, left, scratch });
            }
        });
    });
    Ok(())
}

struct Strip<'a> {
    p: &'a ChannelNorm<'a>,
    isa: Isa,
    x: *const f32,
    y: *mut f32,
    /// Places from this strip's first to the last there is.
    left: usize,
    /// The strip's elements and two numbers a place.
    scratch: &'a mut [f32],
}

impl Vectorised for Strip<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Strip { p, isa, x, y, left, scratch } = self;
        let width = left.min(STRIP);
        let (numbers, copy) = scratch.split_at_mut(2 * STRIP);
        numbers.fill(0.0);
        let (mean, total) = numbers.split_at_mut(STRIP);
        let (mean, total, copy) = (mean.as_mut_ptr(), total.as_mut_ptr(), copy.as_mut_ptr());
        // SAFETY: `width` places of `channels` rows lie `inner` apart from x and y and `width` apart from `copy`;
        // mean and total hold STRIP >= width. y is x or does not overlap it, and x is read before y is written.
        unsafe {
            let count = s.splat(p.channels as f32);
            // Sums of what lies above the first channel: a mean that is large beside the deviation costs nothing.
            std::ptr::copy_nonoverlapping(x, mean, width);
            for c in (0..p.channels).step_by(CHUNK) {
                let rows = CHUNK.min(p.channels - c);
                let (x, copy) = (x.add(c * p.inner), copy.add(c * width));
                add_up::<S, false>(s, rows, width, x, p.inner, copy, mean, total);
            }
            for i in (0..STRIP).step_by(S::LANES) {
                let distance = s.div(s.load(total.add(i)), count);
                s.store(mean.add(i), s.add(s.load(mean.add(i)), distance));
                s.store(total.add(i), s.zero());
            }
            for c in (0..p.channels).step_by(CHUNK) {
                let rows = CHUNK.min(p.channels - c);
                let copy = copy.add(c * width);
                add_up::<S, true>(s, rows, width, copy, width, copy, mean, total);
            }
            for i in (0..STRIP).step_by(S::LANES) {
                let variance = s.div(s.load(total.add(i)), count);
                let deviation = s.sqrt(s.add(variance, s.splat(p.epsilon)));
                s.store(total.add(i), s.div(s.splat(1.0), deviation));
            }
            let (factor, apart) = (total, !std::ptr::eq(x, y));
            for c in (0..p.channels).step_by(CHUNK) {
                let rows = CHUNK.min(p.channels - c);
                let (copy, y) = (copy.add(c * width), y.add(c * p.inner));
                for r in 0..rows {
                    // Of a strip that begins within a line, that line has come with this one.
                    for place in (width..left.min(2 * STRIP)).step_by(LINE) {
                        prefetch(Cache::Second, x.wrapping_add((c + r) * p.inner + place + LINE - 1));
                    }
                    if apart {
                        for place in (0..width).step_by(LINE) {
                            prefetch(Cache::Nearest, y.wrapping_add((AHEAD + r) * p.inner + place));
                        }
                    }
                    let scale = s.splat(p.scale.and_then(|v| v.get(c + r)).copied().unwrap_or(1.0));
                    let bias = s.splat(p.bias.and_then(|v| v.get(c + r)).copied().unwrap_or(0.0));
                    let row = copy.add(r * width);
                    row_loop!(
                        s,
                        width,
                        |i| {
                            let v =
                                s.mul(s.sub(s.load(row.add(i)), s.load(mean.add(i))), s.load(factor.add(i)));
                            s.store(row.add(i), s.mul_add(v, scale, bias));
                        },
                        |i, left| {
                            let v = s.sub(s.load_part(row.add(i), left), s.load_part(mean.add(i), left));
                            let v = s.mul(v, s.load_part(factor.add(i), left));
                            s.store_part(row.add(i), left, s.mul_add(v, scale, bias));
                        }
                    );
                }
                Finish::of(isa, p.activation, [rows, width], copy, width, y, p.inner).apply();
            }
        }
    }
}

/// Adds rows' distances from `mean` to `total`, or the squares of them. Not for squares it copies the rows side by
/// side to `copy`.
/// # Safety
/// Rows of `width` elements are `stride` apart from x and `width` apart from `copy`; `mean` and `total` hold
/// one.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // one strip's operands
unsafe fn add_up<S: Simd, const SQUARES: bool>(
    s: S,
    rows: usize,
    width: usize,
    x: *const f32,
    stride: usize,
    copy: *mut f32,
    mean: *const f32,
    total: *mut f32,
) {
    let mut i = 0;
    // SAFETY: every access stays in a row, below width.
    unsafe {
        while i + 4 * S::LANES <= width {
            let mut sums = [s.zero(); 4];
            for r in 0..rows {
                for (k, sum) in sums.iter_mut().enumerate() {
                    let at = i + k * S::LANES;
                    let v = s.load(x.add(r * stride + at));
                    let d = s.sub(v, s.load(mean.add(at)));
                    *sum = if SQUARES {
                        s.mul_add(d, d, *sum)
                    } else {
                        s.store(copy.add(r * width + at), v);
                        s.add(*sum, d)
                    };
                }
            }
            for (k, &sum) in sums.iter().enumerate() {
                let total = total.add(i + k * S::LANES);
                s.store(total, s.add(s.load(total), sum));
            }
            i += 4 * S::LANES;
        }
        while i < width {
            let left = S::LANES.min(width - i);
            let mut sum = s.zero();
            for r in 0..rows {
                let v = s.load_part(x.add(r * stride + i), left);
                let d = s.sub(v, s.load_part(mean.add(i), left));
                sum = if SQUARES {
                    s.mul_add(d, d, sum)
                } else {
                    s.store_part(copy.add(r * width + i), left, v);
                    s.add(sum, d)
                };
            }
            s.store_part(total.add(i), left, s.add(s.load_part(total.add(i), left), sum));
            i += S::LANES;
        }
    }
}
