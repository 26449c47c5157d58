//! Long 1-D kernels of stride 1, as the positional convolution of Wav2Vec2: the column of a tap is the padded
//! input itself, shifted, so the product reads it in place and nothing is gathered.

use super::Call;
use crate::gemm::{Cut, PackedLayout, Product, Right, RowTiles, Tiles, panel_width};
use crate::scratch::with_scratch;
use crate::threads::{SharedMut, parallel_for};
use std::ops::Range;

/// Runs the convolution; `layout` is that of a group's weight.
pub(super) fn run(call: &Call<'_>, layout: &PackedLayout) {
    let spec = call.spec;
    let width = panel_width(call.isa.level());
    let (n, taps, k) = (spec.output[2], spec.kernel[2], spec.sum_len());
    let tiles = Tiles::new(call.isa, width);
    // The last panel may reach beyond the padded input; its columns there are never stored.
    let row = n.next_multiple_of(width) + (taps - 1) * spec.dilation[2];
    let channels = spec.groups * spec.group_in;
    with_scratch(channels * row, |padded| {
        let padded = SharedMut::new(padded);
        for image in 0..spec.batch {
            parallel_for(channels, (row / 8) as u64, |channel| {
                let from = call.input_at(image, 0).wrapping_add(channel * spec.input[2]);
                // SAFETY: the channel exists, its part of the scratch is its own.
                unsafe {
                    let source = std::slice::from_raw_parts(from, spec.input[2]);
                    pad_row(source, spec.pad[2], padded.slice(channel * row..(channel + 1) * row));
                }
            });
            let product_of = |group: usize| Product {
                tiles,
                rows: RowTiles::new(spec.group_out, layout.width),
                a: call.weight.as_ptr().wrapping_add(group * spec.group_out * k),
                a_start: 0,
                k,
                // One channel a block: within it the taps are one element apart.
                k_block: taps,
                n,
                width,
                right: Shifted {
                    data: padded.ptr().wrapping_add(group * spec.group_in * row),
                    row,
                    taps,
                    step: spec.dilation[2],
                    width,
                },
                c: call.output_at(image, group * spec.group_out),
                c_stride: n,
                epilogue: call.epilogue_from(image, group * spec.group_out, spec.group_out),
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

/// Rows of padded channels, of which a panel is a window and a tap a shift.
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
