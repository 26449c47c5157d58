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
            planes.fill(input, z, y, rows, padded);
            let band = Band {
                planes: padded.as_ptr(),
                pitch: planes.pitch,
                taps: &planes.taps,
                weight,
                rows,
                columns,
                sums: sums.as_mut_ptr(),
            };
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
    fn fill(&self, channel: &[f32], z: usize, y: usize, rows: usize, planes: &mut [f32]) {
        let spec = self.spec;
        let [d, h, w] = spec.input;
        let [sz, sy, sx] = spec.stride;
        let needed = (rows - 1) * sy + (spec.kernel[1] - 1) * spec.dilation[1] + 1;
        for tap in 0..spec.kernel[0] {
            let slice = (z * sz + tap * spec.dilation[0]).checked_sub(spec.pad[0]).filter(|&at| at < d);
            for r in 0..needed {
                let row = (y * sy + r).checked_sub(spec.pad[1]).filter(|&at| at < h);
                let source = slice.zip(row).and_then(|(z, y)| channel.get((z * h + y) * w..)?.get(..w));
                for phase in 0..sx {
                    let plane = (tap * sy + r % sy) * sx + phase;
                    let start = (plane * self.height + r / sy) * self.pitch;
                    let Some(to) = planes.get_mut(start..start + self.pitch) else { continue };
                    let Some(source) = source else {
                        to.fill(0.0);
                        continue;
                    };
                    // The padded columns phase, phase + sx, ... of which some are the input's.
                    let first = spec.pad[2].saturating_sub(phase).div_ceil(sx).min(self.pitch);
                    let skipped = (first * sx + phase).saturating_sub(spec.pad[2]);
                    let count = w.saturating_sub(skipped).div_ceil(sx).min(self.pitch - first);
                    let (before, rest) = to.split_at_mut(first);
                    let (inputs, after) = rest.split_at_mut(count);
                    before.fill(0.0);
                    after.fill(0.0);
                    if count > 0 {
                        // SAFETY: the last of the inputs, skipped + (count - 1) sx, is below w; `inputs` has
                        // room for them; the function is one of this machine's.
                        unsafe {
                            (self.copy)(source.as_ptr().add(skipped), sx, count, inputs.as_mut_ptr());
                        }
                    }
                }
            }
        }
    }
}

/// The sums of a band: `sums[j] = sum over taps of weight[t] * planes[taps[t] + j]`, then without the columns that
/// belong to no output.
struct Band<'a> {
    planes: *const f32,
    pitch: usize,
    taps: &'a [usize],
    weight: &'a [f32],
    rows: usize,
    columns: usize,
    sums: *mut f32,
}

impl Vectorised for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if self.pitch <= self.columns.next_multiple_of(S::LANES) {
            self.run_of(s, 0, (self.rows - 1) * self.pitch + self.columns);
        } else {
            // More lies between two rows than a vector's rest.
            for row in 0..self.rows {
                self.run_of(s, row * self.pitch, self.columns);
            }
        }
        if self.pitch == self.columns {
            return;
        }
        for row in 1..self.rows {
            let mut j = 0;
            while j < self.columns {
                let left = self.columns - j;
                // SAFETY: both lie in the row of sums, and what is written is never beyond what was read.
                unsafe {
                    let from = self.sums.add(row * self.pitch + j);
                    let to = self.sums.add(row * self.columns + j);
                    if left >= S::LANES {
                        s.store(to, s.load(from));
                    } else {
                        s.store_part(to, left, s.load_part(from, left));
                    }
                }
                j += S::LANES;
            }
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
        let inputs = self.planes.wrapping_add(at);
        let mut acc = [s.zero(); V];
        for (&tap, &weight) in self.taps.iter().zip(self.weight) {
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
