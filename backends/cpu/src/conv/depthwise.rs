//! Depthwise convolution: each channel on its own, vectors of neighbouring outputs, every tap a shifted load.
//!
//! A channel is first copied into a padded plane whose rows are split by phase of the column stride, so that
//! the inputs of neighbouring outputs are neighbours for any stride, and no load needs a bounds check.

use super::Call;
use crate::gemm::{Bias, Finish, Residual};
use crate::scratch::with_scratch;
use crate::simd::{Simd, Vectorised, dispatch};
use crate::threads::parallel_for;

/// Vectors computed side by side, to keep the multiply-adds busy.
const SIDE: usize = 4;
/// Elements that a load may reach beyond the last output: the widest block of vectors.
const SLACK: usize = SIDE * 16;

/// Runs the convolution; the weight is `[channels, taps]`.
pub(super) fn run(call: &Call<'_>) {
    let spec = call.spec;
    let plane = Plane::new(call);
    let work = spec.pixels_out() * spec.taps() / 8 + plane.len() / 4;
    parallel_for(spec.batch * spec.groups, work as u64, |task| {
        let (image, channel) = (task / spec.groups, task % spec.groups);
        let sums_len = spec.output[2].next_multiple_of(SLACK);
        with_scratch(plane.len() + sums_len, |scratch| {
            let (padded, sums) = scratch.split_at_mut(plane.len());
            let from = call.input_at(image, channel);
            // SAFETY: the input was checked, and channel `channel` of the image lies in it.
            plane.fill(unsafe { std::slice::from_raw_parts(from, spec.pixels_in()) }, padded);
            let weight = call.weight.get(channel * spec.taps()..).unwrap_or_default();
            for row in 0..spec.output[0] * spec.output[1] {
                let start = plane.row_start(row / spec.output[1], row % spec.output[1]);
                let inputs = padded.get(start..).unwrap_or_default();
                dispatch(call.isa, Row { inputs, taps: &plane.taps, weight, sums });
                finish(call, image, channel, row, sums);
            }
        });
    });
}

/// The epilogue of one output row.
fn finish(call: &Call<'_>, image: usize, channel: usize, row: usize, sums: &[f32]) {
    let columns = call.spec.output[2];
    let at = row * columns;
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
    let finish = Finish {
        isa: call.isa,
        rows: 1,
        columns,
        sums: sums.as_ptr(),
        sums_stride: 0,
        alpha: epilogue.alpha,
        bias_columns: std::ptr::null(),
        bias_rows: match epilogue.bias {
            Bias::Rows(bias) => bias.as_ptr().wrapping_add(channel),
            _ => std::ptr::null(),
        },
        before: residual(epilogue.residual_before),
        before_stride: 0,
        activation: epilogue.activation,
        after: residual(epilogue.residual_after),
        after_stride: 0,
        c,
        c_stride: 0,
    };
    // SAFETY: output, bias and residuals were checked; `sums` holds the row; only this task has the channel.
    unsafe { finish.apply() };
}

/// The padded, phase-split copy of a channel: `[depth, height, phase, column]`.
struct Plane<'a> {
    call: &'a Call<'a>,
    height: usize,
    depth: usize,
    /// Elements of one phase of a row.
    phase: usize,
    /// Where each tap finds its input, from where the first does.
    taps: Vec<usize>,
}

impl<'a> Plane<'a> {
    fn new(call: &'a Call<'a>) -> Plane<'a> {
        let spec = call.spec;
        let padded = |axis: usize| spec.input[axis] + spec.pad[axis] + spec.pad_end[axis];
        let stride = spec.stride[2];
        let phase = padded(2).div_ceil(stride) + SLACK;
        let (row, height) = (phase * stride, padded(1));
        let [kd, kh, kw] = spec.kernel;
        let mut taps = Vec::with_capacity(spec.taps());
        for z in 0..kd {
            for y in 0..kh {
                for x in 0..kw {
                    let (z, y, x) = (z * spec.dilation[0], y * spec.dilation[1], x * spec.dilation[2]);
                    taps.push((z * height + y) * row + x % stride * phase + x / stride);
                }
            }
        }
        Plane { call, height, depth: padded(0), phase, taps }
    }

    fn row(&self) -> usize {
        self.phase * self.call.spec.stride[2]
    }

    fn len(&self) -> usize {
        self.depth * self.height * self.row()
    }

    /// Where the inputs of an output row begin.
    fn row_start(&self, z: usize, y: usize) -> usize {
        let stride = self.call.spec.stride;
        (z * stride[0] * self.height + y * stride[1]) * self.row()
    }

    fn fill(&self, channel: &[f32], padded: &mut [f32]) {
        let spec = self.call.spec;
        let [_, h, w] = spec.input;
        padded.fill(0.0);
        if w == 0 {
            return;
        }
        for (index, source) in channel.chunks_exact(w).enumerate() {
            let (z, y) = (index / h + spec.pad[0], index % h + spec.pad[1]);
            let start = (z * self.height + y) * self.row();
            let Some(row) = padded.get_mut(start..start + self.row()) else { continue };
            let stride = spec.stride[2];
            for (phase, to) in row.chunks_exact_mut(self.phase).enumerate() {
                // The padded columns phase, phase + stride, ... of which some are the input's.
                let first = spec.pad[2].saturating_sub(phase).div_ceil(stride);
                let skipped = first * stride + phase - spec.pad[2];
                let inputs = source.get(skipped..).unwrap_or_default().iter().step_by(stride);
                for (to, &x) in to.iter_mut().skip(first).zip(inputs) {
                    *to = x;
                }
            }
        }
    }
}

/// One output row: `sums[j] = sum over taps of weight[t] * inputs[taps[t] + j]`, written in whole blocks.
struct Row<'a> {
    inputs: &'a [f32],
    taps: &'a [usize],
    weight: &'a [f32],
    sums: &'a mut [f32],
}

impl Vectorised for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let block = SIDE * S::LANES;
        for (index, to) in self.sums.chunks_exact_mut(block).enumerate() {
            let start = index * block;
            let mut acc = [s.zero(); SIDE];
            for (&tap, &weight) in self.taps.iter().zip(self.weight) {
                let Some(inputs) = self.inputs.get(start + tap..start + tap + block) else { break };
                let weight = s.splat(weight);
                for (v, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: `inputs` has SIDE vectors.
                    let x = unsafe { s.load(inputs.as_ptr().add(v * S::LANES)) };
                    *acc = s.mul_add(weight, x, *acc);
                }
            }
            for (v, acc) in acc.iter().enumerate() {
                // SAFETY: `to` has SIDE vectors.
                unsafe { s.store(to.as_mut_ptr().add(v * S::LANES), *acc) };
            }
        }
    }
}
