//! Depthwise convolution: each channel on its own, vectors of neighbouring outputs, every tap a shifted load.
//!
//! Rows of a channel are first copied into padded planes, one for each phase of the strides, so that the inputs of
//! neighbouring outputs are neighbours for any stride and no load needs a bounds check. Output rows have the
//! planes' pitch until they are finished, so that vectors run on from one row into the next: maps of 7 x 7 fill
//! them as maps of 100 x 100 do.

use super::im2col::{StridedCopy, strided_copy};
use super::{Call, ConvSpec};
use crate::gemm::{Bias, Finish, Residual};
use crate::scratch::with_scratch;
use crate::simd::{Simd, Vectorised, dispatch};
use crate::threads::parallel_for;

/// Vectors computed at once: enough independent sums to keep the multiply-adds busy.
const VECTORS: usize = 8;
/// Elements of the longest vector, as many as a load may reach beyond the last output.
const SLACK: usize = 16;
/// Elements of the planes of one band of rows: with the sums, half of a second-level cache.
const BAND: usize = 64 * 1024;
/// Multiply-adds of a task at least, so that the hand-over of small channels does not count.
const TASK: usize = 1 << 18;

/// Runs the convolution; the weight is `[channels, taps]`.
pub(super) fn run(call: &Call<'_>) {
    let spec = call.spec;
    let planes = Planes::new(call);
    let channels = spec.batch * spec.groups;
    let work = spec.pixels_out() * (spec.taps() + 8);
    let at_once = (TASK / work.max(1)).clamp(1, channels);
    parallel_for(channels.div_ceil(at_once), (at_once * work / 16) as u64, |task| {
        let first = task * at_once;
        with_scratch(planes.len() + planes.sums(), |scratch| {
            for channel in first..(first + at_once).min(channels) {
                one(call, &planes, channel / spec.groups, channel % spec.groups, scratch);
            }
        });
    });
}

/// One channel of one image, band by band.
fn one(call: &Call<'_>, planes: &Planes<'_>, image: usize, channel: usize, scratch: &mut [f32]) {
    let spec = call.spec;
    let (padded, sums) = scratch.split_at_mut(planes.len());
    // SAFETY: the input was checked, and channel `channel` of the image lies in it.
    let input = unsafe { std::slice::from_raw_parts(call.input_at(image, channel), spec.pixels_in()) };
    let weight = call.weight.get(channel * spec.taps()..).unwrap_or_default();
    let [depth, height, columns] = spec.output;
    for z in 0..depth {
        for y in (0..height).step_by(planes.rows) {
            let rows = (height - y).min(planes.rows);
            let band =
                Band { planes, input, place: (z, y), padded, weight, rows, columns, sums: sums.as_mut_ptr() };
            dispatch(call.isa, band);
            finish(call, image, channel, (z * height + y) * columns, rows * columns, sums);
        }
    }
}

/// The epilogue of `count` outputs of a channel from `at` on, whose sums lie dense.
fn finish(call: &Call<'_>, image: usize, channel: usize, at: usize, count: usize, sums: &[f32]) {
    let c = call.output_at(image, channel).wrapping_add(at);
    let residual = |residual: Option<Residual<'_>>| match residual {
        None => std::ptr::null(),
        Some(Residual::From { data, .. }) => {
            let channel = image * call.spec.out_channels() + channel;
            data.as_ptr().wrapping_add(channel * call.spec.pixels_out() + at)
        }
        Some(Residual::Output) => c.cast_const(),
    };
    let epilogue = call.epilogue;
    let bias = match epilogue.bias {
        Bias::Rows(bias) => bias.get(channel).copied().unwrap_or_default(),
        _ => 0.0,
    };
    let finish = Finish {
        isa: call.isa,
        rows: 1,
        columns: count,
        sums: sums.as_ptr(),
        sums_stride: count,
        alpha: epilogue.alpha,
        bias_columns: std::ptr::null(),
        bias_rows: &raw const bias,
        before: residual(epilogue.residual_before),
        before_stride: count,
        activation: epilogue.activation,
        gain: epilogue.gain,
        shift: epilogue.shift,
        after: residual(epilogue.residual_after),
        after_stride: count,
        c,
        c_stride: count,
    };
    // SAFETY: output, bias and residuals were checked; `sums` holds the outputs; only this task has the channel.
    unsafe { finish.apply() };
}

/// How the padded copy of a band of rows lies in memory: `[tap in depth, row phase, column phase, row, column]`.
struct Planes<'a> {
    spec: &'a ConvSpec,
    copy: StridedCopy,
    /// Output rows of a band.
    rows: usize,
    /// Rows of a plane.
    height: usize,
    /// Elements of a row of a plane.
    pitch: usize,
    /// Where each tap finds its input, from where the output's own place is.
    taps: Vec<usize>,
}

impl<'a> Planes<'a> {
    fn new(call: &Call<'a>) -> Planes<'a> {
        let spec = call.spec;
        let [kd, kh, kw] = spec.kernel;
        let [_, sy, sx] = spec.stride;
        let reach = |axis: usize| (spec.kernel[axis] - 1) * spec.dilation[axis];
        let pitch = spec.output[2] + reach(2) / sx;
        let a_row = kd * sy * sx * pitch;
        let rows = (BAND / a_row.max(1)).saturating_sub(reach(1) / sy).clamp(1, spec.output[1].max(1));
        let height = rows + reach(1) / sy;
        let mut taps = Vec::with_capacity(spec.taps());
        for z in 0..kd {
            for y in 0..kh {
                for x in 0..kw {
                    let (y, x) = (y * spec.dilation[1], x * spec.dilation[2]);
                    let plane = (z * sy + y % sy) * sx + x % sx;
                    taps.push((plane * height + y / sy) * pitch + x / sx);
                }
            }
        }
        Planes { spec, copy: strided_copy(call.isa, sx), rows, height, pitch, taps }
    }

    /// Elements of the planes.
    fn len(&self) -> usize {
        let [_, sy, sx] = self.spec.stride;
        self.spec.kernel[0] * sy * sx * self.height * self.pitch + SLACK
    }

    /// Elements of the sums of a band.
    fn sums(&self) -> usize {
        self.rows * self.pitch + SLACK
    }

    /// Copies what output rows `y..y + rows` of slice `z` see of a channel.
    #[inline(always)]
    fn fill<S: Simd>(&self, s: S, channel: &[f32], z: usize, y: usize, rows: usize, planes: &mut [f32]) {
        let spec = self.spec;
        let [d, h, w] = spec.input;
        let [sz, sy, sx] = spec.stride;
        let needed = (rows - 1) * sy + (spec.kernel[1] - 1) * spec.dilation[1] + 1;
        for zeros in planes.chunks_exact_mut(S::LANES) {
            // SAFETY: a chunk has the elements of a vector.
            unsafe { s.store(zeros.as_mut_ptr(), s.zero()) };
        }
        // The rows that are the input's, of the padded rows from y sy on.
        let first_row = spec.pad[1].saturating_sub(y * sy).min(needed);
        let rows_left = (spec.pad[1] + h).saturating_sub(y * sy).clamp(first_row, needed);
        for tap in 0..spec.kernel[0] {
            let slice = (z * sz + tap * spec.dilation[0]).checked_sub(spec.pad[0]).filter(|&at| at < d);
            let Some(slice) = slice else { continue };
            for phase in 0..sx {
                // The padded columns phase, phase + sx, ... of which some are the input's.
                let first = spec.pad[2].saturating_sub(phase).div_ceil(sx).min(self.pitch);
                let skipped = (first * sx + phase).saturating_sub(spec.pad[2]);
                let count = w.saturating_sub(skipped).div_ceil(sx).min(self.pitch - first);
                if count == 0 {
                    continue;
                }
                for r in first_row..rows_left {
                    let row = y * sy + r - spec.pad[1];
                    let plane = (tap * sy + r % sy) * sx + phase;
                    let to = (plane * self.height + r / sy) * self.pitch + first;
                    // SAFETY: slice and row are the input's, and so is the last column, skipped + (count - 1) sx;
                    // the row of the plane has room for `first + count` columns.
                    unsafe {
                        let from = channel.as_ptr().add((slice * h + row) * w + skipped);
                        let to = planes.as_mut_ptr().add(to);
                        if sx == 1 { copy(s, from, count, to) } else { (self.copy)(from, sx, count, to) }
                    }
                }
            }
        }
    }
}

/// Copies `count` neighbours.
///
/// # Safety
/// They are readable, and as many places writable.
#[inline(always)]
unsafe fn copy<S: Simd>(s: S, from: *const f32, count: usize, to: *mut f32) {
    let mut j = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while j + S::LANES <= count {
            s.store(to.add(j), s.load(from.add(j)));
            j += S::LANES;
        }
        if j < count {
            s.store_part(to.add(j), count - j, s.load_part(from.add(j), count - j));
        }
    }
}

/// A band: its planes, then `sums[j] = sum over taps of weight[t] * planes[taps[t] + j]`, then the sums without the
/// columns that belong to no output.
struct Band<'a> {
    planes: &'a Planes<'a>,
    input: &'a [f32],
    /// Slice and first row of the output.
    place: (usize, usize),
    padded: &'a mut [f32],
    weight: &'a [f32],
    rows: usize,
    columns: usize,
    sums: *mut f32,
}

impl Vectorised for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (z, y) = self.place;
        let pitch = self.planes.pitch;
        self.planes.fill(s, self.input, z, y, self.rows, self.padded);
        if pitch <= self.columns.next_multiple_of(S::LANES) {
            self.run_of(s, 0, (self.rows - 1) * pitch + self.columns);
        } else {
            // More lies between two rows than a vector's rest.
            for row in 0..self.rows {
                self.run_of(s, row * pitch, self.columns);
            }
        }
        if pitch == self.columns {
            return;
        }
        for row in 1..self.rows {
            // SAFETY: both lie in the sums, and what is written is never beyond what was read.
            unsafe { copy(s, self.sums.add(row * pitch), self.columns, self.sums.add(row * self.columns)) };
        }
    }
}

impl Band<'_> {
    /// Sums `from..from + count`, written in whole vectors.
    #[inline(always)]
    fn run_of<S: Simd>(&self, s: S, from: usize, count: usize) {
        let mut j = 0;
        while j < count {
            let vectors = (count - j).div_ceil(S::LANES);
            j += S::LANES
                * match vectors {
                    1 => self.block::<S, 1>(s, from + j),
                    2..4 => self.block::<S, 2>(s, from + j),
                    4..VECTORS => self.block::<S, 4>(s, from + j),
                    _ => self.block::<S, VECTORS>(s, from + j),
                };
        }
    }

    #[inline(always)]
    fn block<S: Simd, const V: usize>(&self, s: S, at: usize) -> usize {
        let inputs = self.padded.as_ptr().wrapping_add(at);
        let mut acc = [s.zero(); V];
        for (&tap, &weight) in self.planes.taps.iter().zip(self.weight) {
            let weight = s.splat(weight);
            for (v, acc) in acc.iter_mut().enumerate() {
                // SAFETY: the planes have every tap of every output, and SLACK elements beyond the last.
                let x = unsafe { s.load(inputs.add(tap + v * S::LANES)) };
                *acc = s.mul_add(weight, x, *acc);
            }
        }
        for (v, acc) in acc.iter().enumerate() {
            // SAFETY: the sums have room for SLACK elements beyond the last.
            unsafe { s.store(self.sums.add(at + v * S::LANES), *acc) };
        }
        V
    }
}
