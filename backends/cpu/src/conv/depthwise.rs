//! Depthwise convolution: each channel on its own, vectors of neighbouring outputs, every tap a shifted load.
//!
//! A channel is first copied into a padded plane whose rows are split by phase of the column stride, so that
//! the inputs of neighbouring outputs are neighbours for any stride, and no load needs a bounds check.

use super::Call;
use crate::gemm::{Bias, Finish, Residual};
use crate::scratch::with_scratch;
use crate::simd::{Simd, Vectorised, dispatch};
use crate::threads::parallel_for;

/// Output rows computed at once, to keep the multiply-adds busy.
const ROWS: usize = 4;
/// Elements that a load may reach beyond the last output: two vectors.
const SLACK: usize = 2 * 16;

/// Runs the convolution; the weight is `[channels, taps]`.
pub(super) fn run(call: &Call<'_>) {
    let spec = call.spec;
    let plane = Plane::new(call);
    let [depth, height, columns] = spec.output;
    let sums_stride = columns.next_multiple_of(SLACK);
    let work = spec.pixels_out() * spec.taps() / 16 + plane.len() / 4;
    parallel_for(spec.batch * spec.groups, work as u64, |task| {
        let (image, channel) = (task / spec.groups, task % spec.groups);
        with_scratch(plane.len() + ROWS * sums_stride, |scratch| {
            let (padded, sums) = scratch.split_at_mut(plane.len());
            let from = call.input_at(image, channel);
            // SAFETY: the input was checked, and channel `channel` of the image lies in it.
            plane.fill(unsafe { std::slice::from_raw_parts(from, spec.pixels_in()) }, padded);
            let weight = call.weight.get(channel * spec.taps()..).unwrap_or_default();
            for z in 0..depth {
                for y in (0..height).step_by(ROWS) {
                    let band = Band {
                        inputs: padded.as_ptr().wrapping_add(plane.row_start(z, y)),
                        inputs_stride: spec.stride[1] * plane.row(),
                        taps: &plane.taps,
                        weight,
                        rows: (height - y).min(ROWS),
                        columns,
                        sums: sums.as_mut_ptr(),
                        sums_stride,
                    };
                    let rows = band.rows;
                    dispatch(call.isa, band);
                    finish(call, image, channel, z * height + y, rows, sums, sums_stride);
                }
            }
        });
    });
}

/// The epilogue of some output rows.
fn finish(
    call: &Call<'_>,
    image: usize,
    channel: usize,
    row: usize,
    rows: usize,
    sums: &[f32],
    sums_stride: usize,
) {
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
    // Here the rows are those of one channel, which share its bias.
    let bias = match epilogue.bias {
        Bias::Rows(bias) => [bias.get(channel).copied().unwrap_or_default(); ROWS],
        _ => [0.0; ROWS],
    };
    let finish = Finish {
        isa: call.isa,
        rows,
        columns,
        sums: sums.as_ptr(),
        sums_stride,
        alpha: epilogue.alpha,
        bias_columns: std::ptr::null(),
        bias_rows: bias.as_ptr(),
        before: residual(epilogue.residual_before),
        before_stride: columns,
        activation: epilogue.activation,
        gain: epilogue.gain,
        shift: epilogue.shift,
        after: residual(epilogue.residual_after),
        after_stride: columns,
        c,
        c_stride: columns,
    };
    // SAFETY: output, bias and residuals were checked; `sums` holds the row; only this task has the channel, and
    // there are as many biases as rows.
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
                let to = to.get_mut(first..).unwrap_or_default();
                if stride == 1 {
                    let count = to.len().min(source.len());
                    to[..count].copy_from_slice(&source[..count]);
                } else {
                    to.iter_mut().zip(inputs).for_each(|(to, &x)| *to = x);
                }
            }
        }
    }
}

/// Some output rows: `sums[r][j] = sum over taps of weight[t] * inputs[r * stride + taps[t] + j]`, written in
/// whole vectors.
struct Band<'a> {
    /// Where the inputs of the first of the rows begin in the plane.
    inputs: *const f32,
    inputs_stride: usize,
    taps: &'a [usize],
    weight: &'a [f32],
    /// At most [`ROWS`].
    rows: usize,
    columns: usize,
    sums: *mut f32,
    sums_stride: usize,
}

impl Vectorised for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut column = 0;
        while column < self.columns {
            let wide = self.columns - column > S::LANES;
            match (self.rows == ROWS, wide) {
                (true, true) => self.block::<S, ROWS, 2>(s, 0, column),
                (true, false) => self.block::<S, ROWS, 1>(s, 0, column),
                (false, true) => {
                    for row in 0..self.rows {
                        self.block::<S, 1, 2>(s, row, column);
                    }
                }
                (false, false) => {
                    for row in 0..self.rows {
                        self.block::<S, 1, 1>(s, row, column);
                    }
                }
            }
            column += if wide { 2 * S::LANES } else { S::LANES };
        }
    }
}

impl Band<'_> {
    #[inline(always)]
    fn block<S: Simd, const R: usize, const VECS: usize>(&self, s: S, row: usize, column: usize) {
        let inputs = self.inputs.wrapping_add(row * self.inputs_stride + column);
        let mut acc = [[s.zero(); VECS]; R];
        for (&tap, &weight) in self.taps.iter().zip(self.weight) {
            let weight = s.splat(weight);
            for (r, acc) in acc.iter_mut().enumerate() {
                for (v, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: the plane has every tap of every output, and SLACK elements after a phase.
                    let x = unsafe { s.load(inputs.add(tap + r * self.inputs_stride + v * S::LANES)) };
                    *acc = s.mul_add(weight, x, *acc);
                }
            }
        }
        let sums = self.sums.wrapping_add(row * self.sums_stride + column);
        for (r, acc) in acc.iter().enumerate() {
            for (v, acc) in acc.iter().enumerate() {
                // SAFETY: a row of sums has room for whole pairs of vectors.
                unsafe { s.store(sums.add(r * self.sums_stride + v * S::LANES), *acc) };
            }
        }
    }
}
