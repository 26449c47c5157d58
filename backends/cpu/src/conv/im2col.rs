//! The general convolution: weight tiles times columns of the input, gathered one panel at a time into the
//! cache where the product uses them.

use super::{Call, ConvSpec};
use crate::gemm::{
    Cut, JOINED, MAX_WIDTH, PackedLayout, Product, Right, RowTiles, Taps, Words, join_rows, join_taps,
    k_block,
};
use crate::isa::{Isa, Level};
use crate::simd::{Cache, Simd, Vectorised, dispatch, prefetch};
use crate::threads::parallel_for;
use std::ops::Range;

/// Runs the convolution; `layout` is that of a group's weight.
pub(super) fn run(call: &Call<'_>, layout: &PackedLayout) {
    let spec = &call.spec.flattened();
    let (width, words) = (call.width, call.tiles.words);
    let (k, pixels) = (words.count(spec.sum_len()), spec.pixels_out());
    let rows = RowTiles::new(spec.group_out, layout.width);
    let copy = strided_copy(call.isa, spec.stride[2]);
    let product_of = |image: usize, group: usize| {
        let channel = group * spec.group_out;
        Product {
            tiles: call.tiles,
            rows,
            a: call.weight_of(group),
            a_start: 0,
            k,
            k_block: k_block(call.isa.level()),
            n: pixels,
            width,
            right: Columns { isa: call.isa, spec, x: call.input_at(image, group), width, words, copy },
            c: call.output_at(image, channel),
            c_stride: pixels,
            turned: false,
            epilogue: call.epilogue_from(image, channel, spec.group_out),
            dequantise: None,
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

/// The columns of one image and group: element (k, j) is what tap k of the kernel sees at output pixel j. Panels are in
/// words.
#[derive(Clone, Copy)]
struct Columns<'a> {
    isa: Isa,
    spec: &'a ConvSpec,
    x: *const f32,
    width: usize,
    words: Words,
    copy: StridedCopy,
}

// SAFETY: the input is only read, and outlives the call that made this.
unsafe impl Sync for Columns<'_> {}

/// What one tap sees at those output pixels of a panel that lie in one output row: a run of inputs between
/// zeros. The same for every channel.
#[derive(Clone, Copy)]
struct Run {
    /// First lane, and lanes in all.
    lane: usize,
    lanes: usize,
    /// Lanes of zeros before the inputs.
    before: usize,
    /// Inputs.
    count: usize,
    /// Where the inputs begin in the channel.
    source: usize,
}

impl Right for Columns<'_> {
    fn packs(&self) -> bool {
        true
    }

    unsafe fn panel(&self, panel: usize, k: Range<usize>, scratch: *mut f32) -> (*const f32, usize) {
        if self.words == Words::Floats && self.spec.stride[2] == 1 {
            let runs = self.runs(panel).0;
            let (taps, plane) = (self.spec.taps(), self.spec.pixels_in());
            let dense = Dense {
                runs: &runs,
                a_tap: runs.len() / taps,
                width: self.width,
                first: self.x.wrapping_add(k.start / taps * plane),
                plane,
                tap: k.start % taps,
                count: k.len(),
                to: scratch,
            };
            dispatch(self.isa, dense);
            return (scratch, self.width);
        }
        let first = k.start * self.words.factor();
        let mut gather = Gather::new(self, panel);
        let mut joined = 0;
        if self.words == Words::Pairs && gather.is_dense() && matches!(self.spec.stride[2], 1 | 2) {
            let offsets: Vec<usize> = gather.runs.iter().map(|run| run.source).collect();
            let (taps, plane) = (offsets.len(), self.spec.pixels_in());
            let taps = Taps {
                channel: self.x.wrapping_add(first / taps * plane),
                plane,
                offsets: &offsets,
                tap: first % taps,
                stride: self.spec.stride[2],
            };
            // A last word may have one k alone.
            joined = k.len().min((self.spec.sum_len() - first) / 2);
            // SAFETY: `scratch` has room for a panel's width a word of k; pairs are only multiplied where the
            // machine converts them, in panels of 32; dense rows have all their inputs.
            unsafe { join_taps(taps, joined, scratch) };
        }
        gather.start(first + joined * self.words.factor());
        for i in joined..k.len() {
            // SAFETY: as above.
            unsafe {
                let row = scratch.add(i * self.width);
                if self.words != Words::Pairs {
                    gather.row(row);
                    continue;
                }
                let mut two = [0f32; 2 * MAX_WIDTH];
                let (low, high) = two.split_at_mut(MAX_WIDTH);
                gather.row(low.as_mut_ptr());
                gather.row(high.as_mut_ptr());
                join_rows(low.as_ptr(), high.as_ptr(), self.width, row);
            }
        }
        (scratch, self.width)
    }
}

/// The rows of a panel, one a k, gathered one after the other.
struct Gather<'a> {
    columns: &'a Columns<'a>,
    runs: Vec<Run>,
    /// Lanes that are there.
    lanes: usize,
    channel: usize,
    tap: usize,
}

impl<'a> Gather<'a> {
    fn new(columns: &'a Columns<'a>, panel: usize) -> Gather<'a> {
        let (runs, lanes) = columns.runs(panel);
        Gather { columns, runs, lanes, channel: 0, tap: 0 }
    }

    /// Goes to row `k`.
    fn start(&mut self, k: usize) {
        let taps = self.columns.spec.taps();
        (self.channel, self.tap) = (k / taps, k % taps);
    }

    /// Whether every row is a run of inputs as long as a panel of pairs is wide.
    fn is_dense(&self) -> bool {
        let whole = |run: &Run| run.count == JOINED;
        self.columns.width == JOINED && self.lanes == JOINED && self.runs.iter().all(whole)
    }

    /// Writes the next row; nothing where no k is left.
    ///
    /// # Safety
    /// `row` has room for a panel's width.
    unsafe fn row(&mut self, row: *mut f32) {
        let spec = self.columns.spec;
        if self.channel >= spec.group_in {
            return;
        }
        let (taps, stride) = (spec.taps(), spec.stride[2]);
        let a_tap = self.runs.len() / taps;
        let input = self.columns.x.wrapping_add(self.channel * spec.pixels_in());
        for run in self.runs.iter().skip(self.tap * a_tap).take(a_tap) {
            // SAFETY: the lanes of a run are those of a panel; its inputs lie in the channel.
            unsafe {
                let to = row.add(run.lane);
                if run.count < run.lanes {
                    for lane in (0..run.before).chain(run.before + run.count..run.lanes) {
                        *to.add(lane) = 0.0;
                    }
                }
                if run.count > 0 {
                    (self.columns.copy)(input.add(run.source), stride, run.count, to.add(run.before));
                }
            }
        }
        for lane in self.lanes..self.columns.width {
            // SAFETY: as above.
            unsafe { *row.add(lane) = 0.0 };
        }
        self.tap += 1;
        if self.tap == taps {
            (self.channel, self.tap) = (self.channel + 1, 0);
        }
    }
}

impl Columns<'_> {
    /// The runs of a panel, by tap and then by output row, and the number of its pixels.
    fn runs(&self, panel: usize) -> (Vec<Run>, usize) {
        let spec = self.spec;
        let [_, oh, ow] = spec.output;
        let [kd, kh, kw] = spec.kernel;
        let first = panel * self.width;
        let lanes = (spec.pixels_out() - first).min(self.width);
        let mut runs = Vec::with_capacity(spec.taps() * (lanes.div_ceil(ow) + 1));
        for tap in 0..kd * kh * kw {
            let tap = [tap / (kh * kw), tap / kw % kh, tap % kw];
            let mut lane = 0;
            while lane < lanes {
                let pixel = first + lane;
                let count = (ow - pixel % ow).min(lanes - lane);
                runs.push(self.run(tap, [pixel / (oh * ow), pixel / ow % oh, pixel % ow], lane, count));
                lane += count;
            }
        }
        (runs, lanes)
    }

    /// What tap `tap` sees at `lanes` output pixels from `pixel` on.
    fn run(&self, tap: [usize; 3], pixel: [usize; 3], lane: usize, lanes: usize) -> Run {
        let spec = self.spec;
        let [d, h, w] = spec.input;
        let position = |axis: usize| {
            (pixel[axis] * spec.stride[axis] + tap[axis] * spec.dilation[axis]) as isize
                - spec.pad[axis] as isize
        };
        let (z, y, x) = (position(0), position(1), position(2));
        if z < 0 || y < 0 || z >= d as isize || y >= h as isize {
            return Run { lane, lanes, before: 0, count: 0, source: 0 };
        }
        let (stride, all) = (spec.stride[2] as isize, lanes as isize);
        // Lanes i with 0 <= x + i * stride < w.
        let before = if x < 0 { (-x + stride - 1) / stride } else { 0 }.min(all);
        let until = if x >= w as isize { 0 } else { (w as isize - 1 - x) / stride + 1 }.clamp(before, all);
        let row = (z as usize * h + y as usize) * w;
        let source = if until > before { row + (x + before * stride) as usize } else { 0 };
        Run { lane, lanes, before: before as usize, count: (until - before) as usize, source }
    }
}

/// The gather of a panel where neighbouring columns see neighbouring inputs: runs are copied in vectors.
struct Dense<'a> {
    runs: &'a [Run],
    /// Runs of each tap.
    a_tap: usize,
    width: usize,
    /// The channel to begin with, and elements of a channel.
    first: *const f32,
    plane: usize,
    /// The tap to begin with.
    tap: usize,
    /// Rows.
    count: usize,
    to: *mut f32,
}

/// Rows ahead whose input is fetched where every row is of another channel.
const ROWS_AHEAD: usize = 12;

impl Vectorised for Dense<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let taps = self.runs.len() / self.a_tap.max(1);
        let (mut input, mut tap, mut to) = (self.first, self.tap, self.to);
        let whole = |run: &Run| run.count == self.width && self.width == 2 * S::LANES;
        if let ([run], true) = (self.runs, self.runs.first().is_some_and(whole)) {
            // One tap: every row is a whole run of the next channel.
            for _ in 0..self.count {
                let from = input.wrapping_add(run.source);
                prefetch(Cache::Nearest, from.wrapping_add(ROWS_AHEAD * self.plane));
                prefetch(Cache::Nearest, from.wrapping_add(ROWS_AHEAD * self.plane + S::LANES));
                // SAFETY: the run lies in the channel, and `to` has room for a panel's width a row.
                unsafe {
                    s.store(to, s.load(from));
                    s.store(to.add(S::LANES), s.load(from.add(S::LANES)));
                }
                (input, to) = (input.wrapping_add(self.plane), to.wrapping_add(self.width));
            }
            return;
        }
        for _ in 0..self.count {
            let runs = &self.runs[tap * self.a_tap..(tap + 1) * self.a_tap];
            let inputs: usize = runs.iter().map(|run| run.count).sum();
            // SAFETY: `to` has room for a panel's width a row; the runs lie in the channel, and their columns in
            // the panel.
            unsafe {
                if inputs < self.width {
                    for lane in (0..self.width).step_by(S::LANES) {
                        s.store(to.add(lane), s.zero());
                    }
                }
                for run in runs {
                    let (from, to) = (input.wrapping_add(run.source), to.add(run.lane + run.before));
                    let mut i = 0;
                    while i + S::LANES <= run.count {
                        s.store(to.add(i), s.load(from.wrapping_add(i)));
                        i += S::LANES;
                    }
                    if i < run.count {
                        let left = run.count - i;
                        s.store_part(to.add(i), left, s.load_part(from.wrapping_add(i), left));
                    }
                }
            }
            to = to.wrapping_add(self.width);
            tap += 1;
            if tap == taps {
                (input, tap) = (input.wrapping_add(self.plane), 0);
            }
        }
    }
}

/// Copies `count` elements that lie `stride` apart to neighbouring places.
///
/// # Safety
/// They are readable, the places writable, and the machine has the function's instructions.
pub(super) type StridedCopy = unsafe fn(from: *const f32, stride: usize, count: usize, to: *mut f32);

/// The copy for this stride.
pub(super) fn strided_copy(isa: Isa, stride: usize) -> StridedCopy {
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
    if i < count {
        // The first and the last of what is left are 2 (left - 1) apart.
        let left = count - i;
        let mask = (1u32 << (2 * left - 1)) - 1;
        // SAFETY: the caller's promise for what is left; the rest is masked off.
        unsafe {
            let low = _mm512_maskz_loadu_ps(mask as u16, from.add(2 * i));
            let high = _mm512_maskz_loadu_ps((mask >> 16) as u16, from.wrapping_add(2 * i + 16));
            let mixed = _mm512_permutex2var_ps(low, even, high);
            _mm512_mask_storeu_ps(to.add(i), (1u16 << left) - 1, mixed);
        }
    }
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
