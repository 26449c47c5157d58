//! bf16 in pairs of neighbouring k, a word a pair: packing activations with the machine's conversion, packing weights
//! without it, and widening packed weights for machines that do not multiply pairs. Layouts are in `layout`.

use super::layout::{PackedLayout, RowTiles};
use super::pack::Lanes;
use super::right::Right;
use crate::isa::Isa;
use crate::simd::{Simd, Vectorised, dispatch};
use std::ops::Range;

/// Two numbers rounded to the nearest bf16, ties to even; the first lies in the lower half.
fn pair(low: f32, high: f32) -> u32 {
    let bits = |x: f32| u32::from(half::bf16::from_f32(x).to_bits());
    bits(low) | bits(high) << 16
}

/// Turns rows of `width` numbers, one a k, into words; a last k without a neighbour gets a zero.
pub(super) fn pack_rows(rows: &[f32], width: usize, to: &mut [u8]) {
    let width = width.max(1);
    for (two, to) in rows.chunks(2 * width).zip(to.chunks_exact_mut(4 * width)) {
        let (low, high) = two.split_at(width.min(two.len()));
        let high = high.iter().copied().chain(std::iter::repeat(0.0));
        for ((&low, high), to) in low.iter().zip(high).zip(to.chunks_exact_mut(4)) {
            to.copy_from_slice(&pair(low, high).to_ne_bytes());
        }
    }
}

impl Lanes {
    /// As [`Lanes::pack`], in words of pairs: word (i, lane) holds k = 2i and 2i + 1.
    ///
    /// # Safety
    /// As [`Lanes::pack`], for `k` halved, and rounded up, words; the machine converts pairs.
    pub unsafe fn pack_pairs(&self, width: usize, dst: *mut f32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise.
        unsafe {
            match (self.k_stride, self.lane_stride) {
                (1, _) if width <= 16 || width.is_multiple_of(16) => return self.pairs_along(width, dst),
                (_, 1) => return self.pairs_across(width, dst),
                _ => {}
            }
        }
        for i in 0..self.k.div_ceil(2) {
            for lane in 0..width {
                let at = |k: usize| match lane < self.lanes && k < self.k {
                    // SAFETY: lanes below `self.lanes` are readable up to `self.k`.
                    true => unsafe { *self.src.add(k * self.k_stride + lane * self.lane_stride) },
                    false => 0.0,
                };
                // SAFETY: all of `dst[i * width..][..width]` is writable.
                unsafe { *dst.add(i * width + lane) = f32::from_bits(pair(at(2 * i), at(2 * i + 1))) };
            }
        }
    }
}

/// Turns two rows of `width` numbers, a multiple of 16, into one row of words.
///
/// # Safety
/// The rows are readable and `to` is writable; the machine has AVX-512 and converts pairs.
pub(crate) unsafe fn join_rows(low: *const f32, high: *const f32, width: usize, to: *mut f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise.
    unsafe {
        x86::join_rows(low, high, width, to);
    }
    #[cfg(not(target_arch = "x86_64"))]
    for j in 0..width {
        // SAFETY: the caller's promise.
        unsafe { *to.add(j) = f32::from_bits(pair(*low.add(j), *high.add(j))) };
    }
}

/// Columns that [`join_taps`] writes.
pub(crate) const JOINED: usize = 32;

/// Channels ahead that are fetched while columns of one are gathered. No more, and no other panel's: channels often lie a
/// power of two of bytes apart, or nearly so, and then a cache keeps few of them.
pub(crate) const CHANNELS_AHEAD: usize = 20;

/// What the taps of a convolution see of channels: runs of [`JOINED`] numbers.
#[derive(Clone, Copy)]
pub(crate) struct Taps<'a> {
    /// The channel to begin with.
    pub channel: *const f32,
    /// Numbers of a channel.
    pub plane: usize,
    /// Where the run of each tap begins in a channel.
    pub offsets: &'a [usize],
    /// The tap to begin with.
    pub tap: usize,
    /// Between the numbers of a run: 1 or 2.
    pub stride: usize,
}

impl Taps<'_> {
    /// Where the next run begins.
    #[inline(always)]
    fn next(&mut self) -> *const f32 {
        let run = self.channel.wrapping_add(self.offsets.get(self.tap).copied().unwrap_or(0));
        self.tap += 1;
        if self.tap >= self.offsets.len() {
            self.tap = 0;
            self.channel = self.channel.wrapping_add(self.plane);
        }
        run
    }
}

/// Turns the next `2 * words` runs into rows of [`JOINED`] words.
///
/// # Safety
/// The runs are readable and `to` is writable; the machine has AVX-512 and converts pairs.
pub(crate) unsafe fn join_taps(taps: Taps<'_>, words: usize, to: *mut f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise.
    unsafe {
        x86::join_taps(taps, words, to);
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let mut taps = taps;
        for word in 0..words {
            let (low, high) = (taps.next(), taps.next());
            for j in 0..JOINED {
                let at = j * taps.stride;
                // SAFETY: the caller's promise.
                unsafe { *to.add(word * JOINED + j) = f32::from_bits(pair(*low.add(at), *high.add(at))) };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::convert;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CHANNELS_AHEAD, JOINED, Lanes, Taps};
    use crate::gemm::LINE;
    use crate::gemm::along::first;
    use crate::simd::{Cache, prefetch};
    use core::arch::x86_64::*;

    /// Sixteen words from 32 numbers that lie side by side.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(in crate::gemm) fn convert(low: __m512, high: __m512) -> __m512 {
        // SAFETY: the types differ in name alone.
        unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(high, low)) }
    }

    /// Sixteen words from two rows of sixteen numbers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn join(low: __m512, high: __m512) -> __m512 {
        #[rustfmt::skip]
        let order = _mm512_set_epi16(
            31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
            23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0,
        );
        _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, _mm512_castps_si512(convert(low, high))))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn join_rows(low: *const f32, high: *const f32, width: usize, to: *mut f32) {
        for j in (0..width).step_by(16) {
            // SAFETY: the caller's promise.
            unsafe {
                let words = join(_mm512_loadu_ps(low.add(j)), _mm512_loadu_ps(high.add(j)));
                _mm512_storeu_ps(to.add(j), words);
            }
        }
    }

    /// Every other number of two runs of 63, as 32 words.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn join_even(low: *const f32, high: *const f32, to: *mut f32) {
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        for j in [0, 16] {
            let pick = |from: *const f32| {
                // SAFETY: 31 numbers from 2j on are readable; the one after them is masked off.
                unsafe {
                    let first = _mm512_loadu_ps(from.add(2 * j));
                    let second = _mm512_maskz_loadu_ps(0x7fff, from.add(2 * j + 16));
                    _mm512_permutex2var_ps(first, even, second)
                }
            };
            // SAFETY: the caller's promise.
            unsafe { _mm512_storeu_ps(to.add(j), join(pick(low), pick(high))) };
        }
    }

    /// 64 numbers as 32 words: what two neighbouring taps see with a stride of two.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn join_neighbours(from: *const f32, to: *mut f32) {
        for j in [0, 16] {
            // SAFETY: the caller's promise.
            unsafe {
                let words = convert(_mm512_loadu_ps(from.add(2 * j)), _mm512_loadu_ps(from.add(2 * j + 16)));
                _mm512_storeu_ps(to.add(j), words);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn join_taps(mut taps: Taps<'_>, words: usize, to: *mut f32) {
        let lines = (JOINED * taps.stride).div_ceil(LINE);
        for word in 0..words {
            let (low, high) = (taps.next(), taps.next());
            for line in 0..=lines {
                let later = high.wrapping_add(CHANNELS_AHEAD * taps.plane + line * LINE);
                prefetch(Cache::Second, later);
            }
            // SAFETY: the caller's promise.
            unsafe {
                let to = to.add(word * JOINED);
                if taps.stride == 1 {
                    join_rows(low, high, JOINED, to);
                } else if high == low.wrapping_add(1) {
                    join_neighbours(low, to);
                } else {
                    join_even(low, high, to);
                }
            }
        }
    }

    impl Lanes {
        /// Lanes that lie side by side: two rows make a row of words.
        #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
        pub(super) unsafe fn pairs_across(&self, width: usize, dst: *mut f32) {
            for word in 0..self.k.div_ceil(2) {
                let from = self.src.wrapping_add(2 * word * self.k_stride);
                let has_second = 2 * word + 1 < self.k;
                for lane in (0..width).step_by(16) {
                    let there = first(self.lanes.saturating_sub(lane));
                    let second = if has_second { there } else { 0 };
                    // SAFETY: the masks stop at the last lane and at the last k; `dst` has `width` words a row.
                    unsafe {
                        let low = _mm512_maskz_loadu_ps(there, from.wrapping_add(lane));
                        let high = _mm512_maskz_loadu_ps(second, from.wrapping_add(self.k_stride + lane));
                        let stored = first((width - lane).min(16));
                        _mm512_mask_storeu_ps(dst.add(word * width + lane), stored, join(low, high));
                    }
                }
            }
        }
    }
}

/// Panels of pairs, widened to f32 as they are used: half the memory traffic of f32, the same sums.
#[derive(Clone, Copy)]
pub(crate) struct Widened {
    pub isa: Isa,
    pub data: *const u32,
    pub width: usize,
    /// Words of a panel's column.
    pub words: usize,
}

// SAFETY: the data is only read, and outlives the call that made this.
unsafe impl Sync for Widened {}

impl Right for Widened {
    fn packs(&self) -> bool {
        true
    }

    unsafe fn panel(&self, panel: usize, k: Range<usize>, scratch: *mut f32) -> (*const f32, usize) {
        let count = k.len() * self.width;
        // SAFETY: the panel exists and the scratch has room for it, as the caller promises.
        unsafe {
            let size = self.words * self.width;
            let from = std::slice::from_raw_parts(self.data.add(panel * size), size);
            let to = std::slice::from_raw_parts_mut(scratch, count);
            dispatch(self.isa, Widen { from, width: self.width, k, to });
        }
        (scratch, self.width)
    }
}

/// A left operand packed by rows in pairs, as f32.
pub(crate) fn widen_rows(isa: Isa, layout: &PackedLayout, words: &[f32]) -> Vec<f32> {
    let words: &[u32] = bytemuck::cast_slice(words);
    let matrix = (layout.len * layout.words()).max(1);
    let mut out = vec![0.0; words.len() / matrix * layout.len * layout.k];
    let rows = RowTiles::new(layout.len, layout.width);
    let matrices = words.chunks_exact(matrix).zip(out.chunks_exact_mut((layout.len * layout.k).max(1)));
    for (words, out) in matrices {
        for t in 0..rows.count() {
            let (start, width) = (rows.start(t), rows.height(t));
            let from = words.get(start * layout.words()..).unwrap_or_default();
            let to = out.get_mut(start * layout.k..(start + width) * layout.k).unwrap_or_default();
            dispatch(isa, Widen { from, width, k: 0..layout.k, to });
        }
    }
    out
}

/// Rows `k` of a panel or tile of pairs as f32; a loop that the compiler vectorises for each instruction set.
struct Widen<'a> {
    from: &'a [u32],
    width: usize,
    k: Range<usize>,
    to: &'a mut [f32],
}

impl Vectorised for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (k, to) in self.k.zip(self.to.chunks_exact_mut(self.width.max(1))) {
            let from = self.from.get(k / 2 * self.width..).unwrap_or_default();
            let (shift, mask) = if k % 2 == 0 { (16, !0) } else { (0, 0xffff_0000) };
            for (to, &word) in to.iter_mut().zip(from) {
                *to = f32::from_bits((word & mask) << shift);
            }
        }
    }
}
