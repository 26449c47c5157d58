//! Long 1-D kernels of stride 1, as the positional convolution of Wav2Vec2: the column of a tap is the padded
//! input itself, shifted, so the product reads it in place and nothing is gathered.

use super::Call;
use crate::gemm::{Cut, PackedLayout, Product, Right, RowTiles, Words, join_rows};
use crate::scratch::with_scratch;
use crate::threads::{SharedMut, parallel_for};
use std::ops::Range;

/// Runs the convolution; `layout` is that of a group's weight.
pub(super) fn run(call: &Call<'_>, layout: &PackedLayout) {
    let spec = call.spec;
    let (width, words, step) = (call.width, call.tiles.words, spec.dilation[2]);
    let (n, taps, k) = (spec.output[2], words.count(spec.kernel[2]), words.count(spec.sum_len()));
    // The last panel may reach beyond the padded input; its columns there are never stored.
    let row = n.next_multiple_of(width) + (spec.kernel[2] - 1) * step;
    let channels = spec.groups * spec.group_in;
    with_scratch(channels * row, |padded| {
        let padded = SharedMut::new(padded);
        for image in 0..spec.batch {
            parallel_for(channels, (row / 8) as u64, |channel| {
                let from = call.input_at(image, 0).wrapping_add(channel * spec.input[2]);
                // SAFETY: the channel exists, its part of the scratch is its own.
                unsafe {
                    let source = std::slice::from_raw_parts(from, spec.input[2]);
                    let to = padded.slice(channel * row..(channel + 1) * row);
                    pad_row(source, spec.pad[2], to);
                    if words == Words::Pairs {
                        join_neighbours(to, step);
                    }
                }
            });
            let product_of = |group: usize| Product {
                tiles: call.tiles,
                rows: RowTiles::new(spec.group_out, layout.width),
                a: call.weight_of(group),
                a_start: 0,
                k,
                // One channel a block: within it the words of taps are equally far apart.
                k_block: taps,
                n,
                width,
                right: Shifted {
                    data: padded.ptr().wrapping_add(group * spec.group_in * row),
                    row,
                    taps,
                    step: if words == Words::Pairs { 2 * step } else { step },
                    width,
                },
                c: call.output_at(image, group * spec.group_out),
                c_stride: n,
                turned: false,
                epilogue: call.epilogue_from(image, group * spec.group_out, spec.group_out),
                dequantise: None,
                first_row: 0,
            };
            let cut = Cut::new(&product_of(0), spec.groups);
            parallel_for(spec.groups * cut.blocks(), cut.cost_ns, |task| {
                let (group, block) = (task / cut.blocks(), task % cut.blocks());
                let (tiles, panels) = cut.block(block);
                // SAFETY: the sizes of all buffers were checked; groups and blocks write disjoint parts of y.
                unsafe { product_of(group).block(tiles, panels) };
            });
        }
    });
}

/// The source with `pad` zeros before it and zeros up to the end of `to`; what does not fit is never read.
fn pad_row(source: &[f32], pad: usize, to: &mut [f32]) {
    let (before, rest) = to.split_at_mut(pad.min(to.len()));
    let (middle, after) = rest.split_at_mut(source.len().min(rest.len()));
    before.fill(0.0);
    middle.copy_from_slice(source.get(..middle.len()).unwrap_or_default());
    after.fill(0.0);
}

/// Turns a row of numbers into words: each number and the one `step` further, which the next tap sees.
fn join_neighbours(row: &mut [f32], step: usize) {
    const LANES: usize = 16;
    let mut two = [0f32; 2 * LANES];
    let (mut at, len) = (0, row.len());
    while at < len {
        let (low, high) = two.split_at_mut(LANES);
        for (i, to) in low.iter_mut().enumerate() {
            *to = row.get(at + i).copied().unwrap_or(0.0);
        }
        // What lies `step` further has not been turned yet, if it is not among these.
        for (i, to) in high.iter_mut().enumerate() {
            *to = row.get(at + i + step).copied().unwrap_or(0.0);
        }
        let mut words = [0f32; LANES];
        // SAFETY: each holds LANES numbers; pairs are only multiplied where the machine converts them.
        unsafe { join_rows(low.as_ptr(), high.as_ptr(), LANES, words.as_mut_ptr()) };
        let end = (at + LANES).min(len);
        for (to, word) in row.iter_mut().take(end).skip(at).zip(words) {
            *to = word;
        }
        at += LANES;
    }
}

/// Rows of padded channels, of which a panel is a window and a tap a shift. In words.
#[derive(Clone, Copy)]
struct Shifted {
    data: *const f32,
    row: usize,
    taps: usize,
    step: usize,
    width: usize,
}

// SAFETY: the data is only read while this exists.
unsafe impl Sync for Shifted {}

impl Right for Shifted {
    fn packs(&self) -> bool {
        false
    }

    unsafe fn panel(&self, panel: usize, k: Range<usize>, _scratch: *mut f32) -> (*const f32, usize) {
        let (channel, tap) = (k.start / self.taps, k.start % self.taps);
        let at = channel * self.row + panel * self.width + tap * self.step;
        (self.data.wrapping_add(at), self.step)
    }
}
