//! The general convolution: weight tiles times columns of the input, gathered one panel at a time into the
//! cache where the product uses them.

use super::{Call, ConvSpec};
use crate::gemm::{Cut, PackedLayout, Product, Right, RowTiles, Tiles, k_block, panel_width};
use crate::isa::{Isa, Level};
use crate::threads::parallel_for;
use std::ops::Range;

/// Runs the convolution; `layout` is that of a group's weight.
pub(super) fn run(call: &Call<'_>, layout: &PackedLayout) {
    let spec = call.spec;
    let width = panel_width(call.isa.level());
    let (k, pixels) = (spec.sum_len(), spec.pixels_out());
    let tiles = Tiles::new(call.isa, width);
    let rows = RowTiles::new(spec.group_out, layout.width);
    let copy = strided_copy(call.isa, spec.stride[2]);
    let product_of = |image: usize, group: usize| {
        let channel = group * spec.group_out;
        Product {
            tiles,
            rows,
            a: call.weight.as_ptr().wrapping_add(channel * k),
            a_start: 0,
            k,
            k_block: k_block(call.isa.level()),
            n: pixels,
            width,
            right: Columns { spec, x: call.input_at(image, group), width, copy },
            c: call.output_at(image, channel),
            c_stride: pixels,
            epilogue: call.epilogue_from(image, channel, spec.group_out),
            first_row: 0,
        }
    };
    let products = spec.batch * spec.groups;
    let cut = Cut::new(&product_of(0, 0), products);
    parallel_for(products * cut.blocks(), cut.cost_ns, |task| {
        let (index, block) = (task / cut.blocks(), task % cut.blocks());
        let (tiles, panels) = cut.block(block);
        // SAFETY: the sizes of all buffers were checked; products and blocks write disjoint parts of y.
        unsafe { product_of(index / spec.groups, index % spec.groups).block(tiles, panels) };
    });
}

/// The columns of one image and group: element (k, j) is what tap k of the kernel sees at output pixel j.
#[derive(Clone, Copy)]
struct Columns<'a> {
    spec: &'a ConvSpec,
    x: *const f32,
    width: usize,
    copy: StridedCopy,
}

// SAFETY: the input is only read, and outlives the call that made this.
unsafe impl Sync for Columns<'_> {}

/// Output pixels of one panel that lie in the same output row.
#[derive(Clone, Copy, Default)]
struct Segment {
    lane: usize,
    count: usize,
    /// Input position of the first pixel under the kernel's first tap; negative in the padding.
    at: [isize; 3],
}

impl Right for Columns<'_> {
    fn packs(&self) -> bool {
        true
    }

    unsafe fn panel(&self, panel: usize, k: Range<usize>, scratch: *mut f32) -> (*const f32, usize) {
        let mut segments = [Segment::default(); 32];
        let (count, lanes) = self.segments(panel, &mut segments);
        let [_, kh, kw] = self.spec.kernel;
        let taps = self.spec.taps();
        let mut row = scratch;
        for index in k {
            let (channel, tap) = (index / taps, index % taps);
            let tap = [tap / (kh * kw), tap / kw % kh, tap % kw];
            // SAFETY: `scratch` has room for a panel's width a row of k, and the channel exists.
            unsafe {
                for segment in segments.iter().take(count) {
                    self.gather(channel, tap, segment, row.add(segment.lane));
                }
                for lane in lanes..self.width {
                    *row.add(lane) = 0.0;
                }
                row = row.add(self.width);
            }
        }
        (scratch, self.width)
    }
}

impl Columns<'_> {
    /// Cuts the panel's pixels by output rows; gives the number of segments and of pixels.
    fn segments(&self, panel: usize, segments: &mut [Segment; 32]) -> (usize, usize) {
        let spec = self.spec;
        let [_, oh, ow] = spec.output;
        let first = panel * self.width;
        let lanes = (spec.pixels_out() - first).min(self.width);
        let (mut lane, mut count) = (0, 0);
        for segment in segments.iter_mut() {
            if lane == lanes {
                break;
            }
            let pixel = first + lane;
            let out = [pixel / (oh * ow), pixel / ow % oh, pixel % ow];
            let mut at = [0; 3];
            for axis in 0..3 {
                at[axis] = (out[axis] * spec.stride[axis]) as isize - spec.pad[axis] as isize;
            }
            *segment = Segment { lane, count: (ow - out[2]).min(lanes - lane), at };
            lane += segment.count;
            count += 1;
        }
        (count, lanes)
    }

    /// What one tap sees at the pixels of a segment.
    ///
    /// # Safety
    /// The channel exists and `to` has room for the segment.
    unsafe fn gather(&self, channel: usize, tap: [usize; 3], segment: &Segment, to: *mut f32) {
        let spec = self.spec;
        let [d, h, w] = spec.input;
        let position = |axis: usize| segment.at[axis] + (tap[axis] * spec.dilation[axis]) as isize;
        let (z, y, x) = (position(0), position(1), position(2));
        let stride = spec.stride[2] as isize;
        let count = segment.count as isize;
        let (from, until) = if z < 0 || y < 0 || z >= d as isize || y >= h as isize {
            (0, 0)
        } else {
            // Pixels i with 0 <= x + i * stride < w.
            let from = if x < 0 { (-x + stride - 1) / stride } else { 0 }.min(count);
            let until =
                if x >= w as isize { 0 } else { (w as isize - 1 - x) / stride + 1 }.clamp(from, count);
            (from, until)
        };
        // SAFETY: from <= until <= count, and the positions between them lie in the input's row.
        unsafe {
            for i in (0..from).chain(until..count) {
                *to.add(i as usize) = 0.0;
            }
            if from < until {
                let row = ((channel * d + z as usize) * h + y as usize) * w;
                let source = self.x.add(row + (x + from * stride) as usize);
                (self.copy)(source, spec.stride[2], (until - from) as usize, to.add(from as usize));
            }
        }
    }
}

/// Copies `count` elements that lie `stride` apart to neighbouring places.
///
/// # Safety
/// They are readable, the places writable, and the machine has the function's instructions.
type StridedCopy = unsafe fn(from: *const f32, stride: usize, count: usize, to: *mut f32);

fn strided_copy(isa: Isa, stride: usize) -> StridedCopy {
    match (stride, isa.level()) {
        (1, _) => copy_dense,
        #[cfg(target_arch = "x86_64")]
        (2, Level::Avx512) => copy_even_avx512,
        #[cfg(target_arch = "x86_64")]
        (2, Level::Avx2Fma) => copy_even_avx2,
        _ => copy_any,
    }
}

unsafe fn copy_dense(from: *const f32, _stride: usize, count: usize, to: *mut f32) {
    // SAFETY: the caller's promise; whole panels get a constant length, which becomes vector moves.
    unsafe {
        match count {
            32 => to.copy_from_nonoverlapping(from, 32),
            16 => to.copy_from_nonoverlapping(from, 16),
            8 => to.copy_from_nonoverlapping(from, 8),
            _ => to.copy_from_nonoverlapping(from, count),
        }
    }
}

unsafe fn copy_any(from: *const f32, stride: usize, count: usize, to: *mut f32) {
    for i in 0..count {
        // SAFETY: the caller's promise.
        unsafe { *to.add(i) = *from.add(i * stride) };
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn copy_even_avx512(from: *const f32, _stride: usize, count: usize, to: *mut f32) {
    use core::arch::x86_64::*;
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let mut i = 0;
    while i + 16 <= count {
        // SAFETY: 31 elements from 2i on are readable: the last is masked off.
        unsafe {
            let low = _mm512_loadu_ps(from.add(2 * i));
            let high = _mm512_maskz_loadu_ps(0x7fff, from.add(2 * i + 16));
            _mm512_storeu_ps(to.add(i), _mm512_permutex2var_ps(low, even, high));
        }
        i += 16;
    }
    // SAFETY: the caller's promise for what is left.
    unsafe { copy_any(from.add(2 * i), 2, count - i, to.add(i)) };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn copy_even_avx2(from: *const f32, _stride: usize, count: usize, to: *mut f32) {
    use core::arch::x86_64::*;
    let mut i = 0;
    // One more than needed is read, so the last eight are left to the plain loop.
    while i + 8 < count {
        // SAFETY: 2i + 16 <= 2(count - 1) + 1, the end of what is readable.
        unsafe {
            let low = _mm256_loadu_ps(from.add(2 * i));
            let high = _mm256_loadu_ps(from.add(2 * i + 8));
            let mixed = _mm256_castps_pd(_mm256_shuffle_ps::<0x88>(low, high));
            let ordered = _mm256_permute4x64_pd::<0xd8>(mixed);
            _mm256_storeu_ps(to.add(i), _mm256_castpd_ps(ordered));
        }
        i += 8;
    }
    // SAFETY: the caller's promise for what is left.
    unsafe { copy_any(from.add(2 * i), 2, count - i, to.add(i)) };
}
