//! Packing lanes that are contiguous along k on x86-64: vectors of words of as many lanes are read, exchanged in registers
//! and stored as rows, one for each word of k. Lanes of other strides, and what the panels mean, are not for here.

use super::pack::Lanes;
use super::pairs::convert;
use super::tile::LINE;
use crate::simd::{Cache, prefetch};
use core::arch::x86_64::*;

/// Numbers ahead that are fetched of each lane: so many rows side by side are more than the hardware follows.
const AHEAD: usize = 96;

/// A mask of the first `n` of sixteen.
#[inline(always)]
pub(super) fn first(n: usize) -> __mmask16 {
    if n >= 16 { !0 } else { (1 << n) - 1 }
}

/// Defines the packing for sixteen words at a time, one a line: its name and that of reading, instruction sets, numbers in
/// a word, sixteen words from where they begin, and from there with so many numbers left.
macro_rules! along {
    ($($(#[$attribute:meta])* $name:ident, $whole_name:ident, $features:literal, $numbers:literal, |$p:ident| $whole:expr, |$q:ident, $left:ident| $part:expr;)*) => {
        impl Lanes {$(
            $(#[$attribute])*
            ///
            /// # Safety
            /// As [`Lanes::pack`] for these words; `width` is a multiple of sixteen, or less than that.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $name(&self, width: usize, dst: *mut f32) {
                let words = self.k.div_ceil($numbers);
                for lane in (0..width).step_by(16) {
                    let count = self.lanes.saturating_sub(lane).min(16);
                    let from = self.src.wrapping_add(lane * self.lane_stride);
                    for i in 0..count {
                        for line in (0..self.k.min(AHEAD)).step_by(LINE) {
                            prefetch(Cache::Second, from.wrapping_add(i * self.lane_stride + line));
                        }
                    }
                    let mut word = 0;
                    // What whole vectors write beyond sixteen rows of fewer lanes is written again later.
                    while width > 1 && word + 32 <= words {
                        let mut rows = [_mm512_setzero_ps(); 16];
                        // SAFETY: the lanes exist and go on for 32 words.
                        unsafe { self.$whole_name(from.wrapping_add(word * $numbers), count, &mut rows) };
                        transpose16(&mut rows);
                        let to = dst.wrapping_add(word * width + lane);
                        // A loop of constant length keeps the vectors in registers.
                        for (i, row) in rows.iter().enumerate() {
                            // SAFETY: sixteen more rows follow.
                            unsafe { _mm512_storeu_ps(to.add(i * width), *row) };
                        }
                        word += 16;
                    }
                    while word < words {
                        let run = (words - word).min(16);
                        let mut rows = [_mm512_setzero_ps(); 16];
                        for (i, row) in rows.iter_mut().enumerate() {
                            if i < count {
                                let $q = from.wrapping_add(i * self.lane_stride + word * $numbers);
                                let $left = self.k - word * $numbers;
                                // SAFETY: lane `lane + i` exists, and nothing beyond what is left is read.
                                *row = unsafe { $part };
                            }
                        }
                        let to = dst.wrapping_add(word * width + lane);
                        if width == 1 {
                            // SAFETY: `run` words from `word` on are there.
                            unsafe { _mm512_mask_storeu_ps(to, first(run), rows[0]) };
                        } else {
                            transpose16(&mut rows);
                            for (i, row) in rows.iter().enumerate().take(run) {
                                // SAFETY: only the lanes of this row are written.
                                unsafe { _mm512_mask_storeu_ps(to.add(i * width), first(width - lane), *row) };
                            }
                        }
                        word += run;
                    }
                }
            }

            /// Sixteen words of each of `count` lanes. Not part of the loop above, where the compiler would move the vectors
            /// about in memory.
            ///
            /// # Safety
            /// The lanes are readable from `from` on.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn $whole_name(&self, from: *const f32, count: usize, rows: &mut [__m512; 16]) {
                for (i, row) in rows.iter_mut().enumerate() {
                    if i >= count {
                        continue;
                    }
                    let $p = from.wrapping_add(i * self.lane_stride);
                    for line in 0..$numbers {
                        prefetch(Cache::Second, $p.wrapping_add(AHEAD + line * LINE));
                    }
                    // SAFETY: the caller's promise.
                    *row = unsafe { $whole };
                }
            }
        )*}
    };
}

along! {
    /// Packs numbers.
    numbers_along, read_numbers, "avx512f,avx512dq", 1,
        |p| _mm512_loadu_ps(p),
        |p, left| _mm512_maskz_loadu_ps(first(left), p);
    /// Packs words of pairs, converted as they are read; a last k without a neighbour gets a zero.
    pairs_along, read_pairs, "avx512f,avx512bw,avx512dq,avx512bf16", 2,
        |p| convert(_mm512_loadu_ps(p), _mm512_loadu_ps(p.add(16))),
        |p, left| {
            let high = _mm512_maskz_loadu_ps(first(left.saturating_sub(16)), p.wrapping_add(16));
            convert(_mm512_maskz_loadu_ps(first(left), p), high)
        };
}

impl Lanes {
    /// Packs numbers, eight by eight.
    ///
    /// # Safety
    /// As [`Lanes::pack`]; `width` is a multiple of eight, or less than that.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn numbers_along_avx2(&self, width: usize, dst: *mut f32) {
        let total = self.k * width;
        let whole = self.k / 8 * 8;
        for first in (0..width).step_by(8) {
            let count = self.lanes.saturating_sub(first).min(8);
            let stored = (width - first).min(8);
            for k in (0..whole).step_by(8) {
                let mut rows = [_mm256_setzero_ps(); 8];
                for (lane, row) in rows.iter_mut().enumerate() {
                    if lane < count {
                        // SAFETY: lane `first + lane` exists and k + 8 is within its length.
                        *row =
                            unsafe { _mm256_loadu_ps(self.src.add((first + lane) * self.lane_stride + k)) };
                    }
                }
                transpose8(&mut rows);
                for (i, row) in rows.iter().enumerate() {
                    let at = (k + i) * width + first;
                    // SAFETY: a whole vector only where `dst` has room for it, else the lanes stored.
                    unsafe {
                        if at + 8 <= total {
                            _mm256_storeu_ps(dst.add(at), *row);
                        } else {
                            let lanes: [f32; 8] = std::mem::transmute(*row);
                            dst.add(at).copy_from_nonoverlapping(lanes.as_ptr(), stored);
                        }
                    }
                }
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.copy_elements(whole, width, dst) };
    }
}

/// Rows become columns.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn transpose16(rows: &mut [__m512; 16]) {
    let mut t = [_mm512_setzero_ps(); 16];
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    // In each 128-bit lane l, u[4 * g + c] now gathers rows 4g..4g+4 of column 4l + c.
    let mut u = [_mm512_setzero_ps(); 16];
    for g in 0..4 {
        let pd = |x: __m512| _mm512_castps_pd(x);
        let ps = |x: __m512d| _mm512_castpd_ps(x);
        u[4 * g] = ps(_mm512_unpacklo_pd(pd(t[4 * g]), pd(t[4 * g + 2])));
        u[4 * g + 1] = ps(_mm512_unpackhi_pd(pd(t[4 * g]), pd(t[4 * g + 2])));
        u[4 * g + 2] = ps(_mm512_unpacklo_pd(pd(t[4 * g + 1]), pd(t[4 * g + 3])));
        u[4 * g + 3] = ps(_mm512_unpackhi_pd(pd(t[4 * g + 1]), pd(t[4 * g + 3])));
    }
    for c in 0..4 {
        let low = _mm512_shuffle_f32x4::<0x44>(u[c], u[4 + c]);
        let high = _mm512_shuffle_f32x4::<0xee>(u[c], u[4 + c]);
        let low2 = _mm512_shuffle_f32x4::<0x44>(u[8 + c], u[12 + c]);
        let high2 = _mm512_shuffle_f32x4::<0xee>(u[8 + c], u[12 + c]);
        rows[c] = _mm512_shuffle_f32x4::<0x88>(low, low2);
        rows[4 + c] = _mm512_shuffle_f32x4::<0xdd>(low, low2);
        rows[8 + c] = _mm512_shuffle_f32x4::<0x88>(high, high2);
        rows[12 + c] = _mm512_shuffle_f32x4::<0xdd>(high, high2);
    }
}

/// As [`transpose16`].
#[inline]
#[target_feature(enable = "avx2")]
fn transpose8(rows: &mut [__m256; 8]) {
    let mut t = [_mm256_setzero_ps(); 8];
    for i in 0..4 {
        t[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    let mut u = [_mm256_setzero_ps(); 8];
    for g in 0..2 {
        u[4 * g] = _mm256_shuffle_ps::<0x44>(t[4 * g], t[4 * g + 2]);
        u[4 * g + 1] = _mm256_shuffle_ps::<0xee>(t[4 * g], t[4 * g + 2]);
        u[4 * g + 2] = _mm256_shuffle_ps::<0x44>(t[4 * g + 1], t[4 * g + 3]);
        u[4 * g + 3] = _mm256_shuffle_ps::<0xee>(t[4 * g + 1], t[4 * g + 3]);
    }
    for c in 0..4 {
        rows[c] = _mm256_permute2f128_ps::<0x20>(u[c], u[4 + c]);
        rows[4 + c] = _mm256_permute2f128_ps::<0x31>(u[c], u[4 + c]);
    }
}
