//! Pooling of [channels, spatial..] data under windows, in f32. Global pooling is a reduction.

use crate::error::{KernelError, count, exact};
use crate::scratch::with_scratch;
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
        // Counted, not tried one by one: a window may be far larger than the data.
        let first = w * self.stride;
        let below = |end: usize| end.saturating_sub(first).div_ceil(self.dilation.max(1)).min(self.kernel);
        let padded = below(self.before + self.extent + self.after);
        let on_data = below(self.before)..below(self.before + self.extent);
        let inside = on_data.map(|tap| first + tap * self.dilation - self.before).collect();
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

/// What windows along an axis see: positions of their taps on the data, and how many lie on data or padding.
type Windows = Vec<(Vec<usize>, usize)>;

/// Pools x [channels, extents..] into y [channels, windows..]: rows of x into one row, then windows along it.
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
    let windows: Vec<Windows> = p.axes.iter().map(|a| (0..a.windows).map(|w| a.taps(w)).collect()).collect();
    let Some((columns, outer)) = windows.split_last() else {
        y.copy_from_slice(x);
        return Ok(());
    };
    let lines = lines(outer, &extents);
    let width = extents.last().copied().unwrap_or(1);
    let y = SharedMut::new(y);
    let rows: usize = p.axes.iter().rev().skip(1).map(|a| a.kernel).product();
    let taps = p.axes.last().map_or(1, |a| a.kernel);
    let cost = lines.len() * (rows * width / 8 + taps * columns.len());
    parallel_for(p.channels, cost as u64, |channel| {
        let x = &x[channel * from..(channel + 1) * from];
        // SAFETY: channels are disjoint parts of the output.
        let y = unsafe { y.slice(channel * to..(channel + 1) * to) };
        with_scratch(width, |row| match p.kind {
            PoolKind::Max => {
                for (line, y) in lines.iter().zip(y.chunks_exact_mut(columns.len())) {
                    gather(x, &line.0, row, f32::NEG_INFINITY, larger);
                    for (y, (taps, _)) in y.iter_mut().zip(columns) {
                        *y = taps.iter().fold(f32::NEG_INFINITY, |best, &at| larger(best, row[at]));
                    }
                }
            }
            PoolKind::Average { padded } => {
                for (line, y) in lines.iter().zip(y.chunks_exact_mut(columns.len())) {
                    gather(x, &line.0, row, 0.0, |a, b| a + b);
                    for (y, (taps, reach)) in y.iter_mut().zip(columns) {
                        let count = if padded { line.1 * reach } else { line.0.len() * taps.len() };
                        *y = taps.iter().map(|&at| row[at]).sum::<f32>() / count as f32;
                    }
                }
            }
        });
    });
    Ok(())
}

/// For every row of windows: where the rows of x that they see begin, and how many taps lie on data or padding.
fn lines(outer: &[Windows], extents: &[usize]) -> Windows {
    let mut lines: Windows = vec![(vec![0], 1)];
    for (windows, &extent) in outer.iter().zip(extents) {
        let deeper = |(starts, reach): &(Vec<usize>, usize)| {
            let next = |(taps, n): &(Vec<usize>, usize)| {
                let at = starts.iter().flat_map(|s| taps.iter().map(move |t| s * extent + t));
                (at.collect::<Vec<_>>(), reach * n)
            };
            windows.iter().map(next).collect::<Vec<_>>()
        };
        lines = lines.iter().flat_map(deeper).collect();
    }
    let width = extents.last().copied().unwrap_or(1);
    lines.iter_mut().for_each(|(starts, _)| starts.iter_mut().for_each(|s| *s *= width));
    lines
}

/// The larger; NaN if either is.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// Combines the rows that begin at `starts` element by element.
#[inline(always)]
fn gather(x: &[f32], starts: &[usize], row: &mut [f32], first: f32, combine: impl Fn(f32, f32) -> f32) {
    row.fill(first);
    for &start in starts {
        for (to, &v) in row.iter_mut().zip(&x[start..]) {
            *to = combine(*to, v);
        }
    }
}
