//! Pooling of [channels, spatial..] data under windows, in f32. Global pooling is a reduction.

use crate::error::{KernelError, count, exact};
use crate::threads::{SharedMut, parallel_for};

/// What is taken of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest element; NaN if any is.
    Max,
    /// The mean of the elements; `padded`: of the padding's zeros, too.
    Average {
        /// Count the padding.
        padded: bool,
    },
}

/// The windows along one spatial axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolAxis {
    /// Extent of the data.
    pub extent: usize,
    /// Number of windows.
    pub windows: usize,
    /// Taps of a window.
    pub kernel: usize,
    /// Distance of windows.
    pub stride: usize,
    /// Distance of taps.
    pub dilation: usize,
    /// Padding before.
    pub before: usize,
    /// Padding after.
    pub after: usize,
}

impl PoolAxis {
    /// Positions of window `w`'s taps that lie on the data, and how many lie on data or padding.
    fn taps(&self, w: usize) -> (Vec<usize>, usize) {
        let mut inside = Vec::with_capacity(self.kernel);
        let mut padded = 0;
        for tap in 0..self.kernel {
            let at = w * self.stride + tap * self.dilation;
            padded += usize::from(at < self.before + self.extent + self.after);
            if at >= self.before && at - self.before < self.extent {
                inside.push(at - self.before);
            }
        }
        (inside, padded)
    }
}

/// A pooling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// What is taken.
    pub kind: PoolKind,
    /// Product of batch and channels.
    pub channels: usize,
    /// The spatial axes, outermost first.
    pub axes: Vec<PoolAxis>,
}

/// Pools x [channels, extents..] into y [channels, windows..].
pub fn pool(p: &Pool, x: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
    const NAME: &str = "pool";
    let extents: Vec<usize> = p.axes.iter().map(|a| a.extent).collect();
    let windows: Vec<usize> = p.axes.iter().map(|a| a.windows).collect();
    let (from, to) = (count(NAME, &extents)?, count(NAME, &windows)?);
    exact(NAME, "x", x.len(), count(NAME, &[p.channels, from])?)?;
    exact(NAME, "y", y.len(), count(NAME, &[p.channels, to])?)?;
    if y.is_empty() {
        return Ok(());
    }
    let taps: Vec<Vec<(Vec<usize>, usize)>> =
        p.axes.iter().map(|a| (0..a.windows).map(|w| a.taps(w)).collect()).collect();
    let strides = crate::layout::strides(&extents);
    let y = SharedMut::new(y);
    let volume: usize = p.axes.iter().map(|a| a.kernel).product();
    parallel_for(p.channels, (to * volume) as u64, |channel| {
        let x = &x[channel * from..(channel + 1) * from];
        // SAFETY: channels are disjoint parts of the output.
        let y = unsafe { y.slice(channel * to..(channel + 1) * to) };
        let mut window = vec![0; p.axes.len()];
        for (k, y) in y.iter_mut().enumerate() {
            let (mut rest, mut padded) = (k, 1);
            for (axis, &n) in windows.iter().enumerate().rev() {
                window[axis] = rest % n;
                rest /= n;
            }
            let mut inside = 1;
            for (t, &w) in taps.iter().zip(&window) {
                padded *= t[w].1;
                inside *= t[w].0.len();
            }
            let mut acc = Accumulator { max: f32::NEG_INFINITY, sum: 0.0 };
            visit(&taps, &window, &strides, x, 0, &mut acc);
            *y = match p.kind {
                PoolKind::Max => acc.max,
                PoolKind::Average { padded: all } => acc.sum / if all { padded } else { inside } as f32,
            };
        }
    });
    Ok(())
}

struct Accumulator {
    max: f32,
    sum: f32,
}

/// Adds every tap on the data: the first axis here, the others in turn.
fn visit(
    taps: &[Vec<(Vec<usize>, usize)>],
    window: &[usize],
    strides: &[usize],
    x: &[f32],
    base: usize,
    acc: &mut Accumulator,
) {
    match (taps, window, strides) {
        ([t, taps @ ..], [w, window @ ..], [s, strides @ ..]) => {
            for &at in &t[*w].0 {
                visit(taps, window, strides, x, base + at * s, acc);
            }
        }
        _ => {
            let v = x[base];
            acc.sum += v;
            if !acc.max.is_nan() && (v > acc.max || v.is_nan()) {
                acc.max = v;
            }
        }
    }
}
