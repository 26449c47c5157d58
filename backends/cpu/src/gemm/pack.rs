//! Copying a strided matrix into panels: `width` lanes side by side, one group of lanes for each k.
//!
//! Rows of A and columns of B are packed by the same code, since either is a set of lanes with a stride.
//! What the panels mean is in `layout`.

use super::dot::Words;
use super::tile::Tiles;
use crate::isa::{Isa, Level};
use crate::simd::{Cache, Simd, Vectorised, dispatch, prefetch};

/// A set of `lanes` vectors of length `k` in memory: element (k, lane) at `k * k_stride + lane * lane_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Lanes {
    pub src: *const f32,
    pub lanes: usize,
    pub lane_stride: usize,
    pub k: usize,
    pub k_stride: usize,
}

impl Lanes {
    /// Packs as words that this machine multiplies: see [`Lanes::pack`] and [`Lanes::pack_pairs`].
    ///
    /// # Safety
    /// As theirs. Bytes are not packed here.
    pub unsafe fn pack_words(&self, tiles: &Tiles, width: usize, dst: *mut f32) {
        // SAFETY: the caller's promise; tiles of pairs are only made where the machine has them.
        unsafe {
            match tiles.words {
                Words::Pairs => self.pack_pairs(width, dst),
                Words::Floats | Words::Fours => self.pack(tiles.isa, width, dst),
            }
        }
    }

    /// Writes element (k, lane) to `dst[k * width + lane]`, and zero to the lanes from `lanes` to `width`.
    ///
    /// # Safety
    /// Every element described is readable, `lanes <= width`, and `dst` has room for `k * width` elements.
    pub unsafe fn pack(&self, isa: Isa, width: usize, dst: *mut f32) {
        // SAFETY: the caller's promise; the instruction sets are there because the Isa says so.
        unsafe {
            if width == 1 && self.lanes == 1 && self.k_stride == 1 {
                dst.copy_from_nonoverlapping(self.src, self.k);
                return;
            }
            if self.lane_stride == 1 {
                dispatch(isa, Across { from: *self, width, to: dst });
                return;
            }
            #[cfg(target_arch = "x86_64")]
            if self.k_stride == 1 {
                match isa.level() {
                    Level::Avx512 if width <= 16 || width.is_multiple_of(16) => {
                        return self.transpose_avx512(width, dst);
                    }
                    Level::Avx512 | Level::Avx2Fma if width <= 8 || width.is_multiple_of(8) => {
                        return self.transpose_avx2(width, dst);
                    }
                    _ => {}
                }
            }
            let _ = isa;
            self.copy_elements(0, width, dst);
        }
    }

    /// The plain copy, from k = `from` on.
    unsafe fn copy_elements(&self, from: usize, width: usize, dst: *mut f32) {
        for k in from..self.k {
            for lane in 0..width {
                // SAFETY: lanes below `self.lanes` are readable, all of `dst[k * width..][..width]` writable.
                unsafe {
                    *dst.add(k * width + lane) = if lane < self.lanes {
                        *self.src.add(k * self.k_stride + lane * self.lane_stride)
                    } else {
                        0.0
                    };
                }
            }
        }
    }
}

/// Lanes that lie side by side: a few vectors for each k.
struct Across {
    from: Lanes,
    width: usize,
    to: *mut f32,
}

/// Rows ahead that are fetched: they lie too far apart for the hardware to know.
const ROWS_AHEAD: usize = 12;

impl Vectorised for Across {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Across { from: Lanes { src, lanes, k, k_stride, .. }, width, to } = self;
        let total = k * width;
        for row in 0..k {
            let from = src.wrapping_add(row * k_stride);
            for first in (0..width).step_by(S::LANES) {
                let ahead = from.wrapping_add(ROWS_AHEAD * k_stride + first.min(lanes));
                prefetch(Cache::Nearest, ahead);
                let (there, at) = (lanes.saturating_sub(first), row * width + first);
                // SAFETY: the caller of `pack` vouches for the lanes, and for `k * width` elements at `to`; what a
                // vector writes beyond a row is written again with the next one.
                unsafe {
                    let from = from.wrapping_add(first);
                    let x = if there >= S::LANES { s.load(from) } else { s.load_part(from, there) };
                    if at + S::LANES <= total {
                        s.store(to.add(at), x);
                    } else {
                        s.store_part(to.add(at), (width - first).min(S::LANES), x);
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::transpose16;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use core::arch::x86_64::*;

    impl Lanes {
        /// Lanes that are contiguous along k, sixteen by sixteen. A group of `count` < 16 lanes is written as
        /// whole vectors whose surplus the next k overwrites; that is why `width` is at most 16 then, and why
        /// the end is written exactly.
        #[target_feature(enable = "avx512f,avx512dq")]
        pub(super) unsafe fn transpose_avx512(&self, width: usize, dst: *mut f32) {
            let total = self.k * width;
            for first in (0..width).step_by(16) {
                let count = self.lanes.saturating_sub(first).min(16);
                let stored = (width - first).min(16);
                let mut k = 0;
                while k < self.k {
                    let run = (self.k - k).min(16);
                    let mask = if run == 16 { !0 } else { (1u16 << run) - 1 };
                    let mut rows = [_mm512_setzero_ps(); 16];
                    for (lane, row) in rows.iter_mut().enumerate() {
                        if lane < count {
                            // SAFETY: lane `first + lane` exists, and the mask stops at the end of k.
                            *row = unsafe {
                                let from = self.src.add((first + lane) * self.lane_stride + k);
                                _mm512_maskz_loadu_ps(mask, from)
                            };
                        }
                    }
                    transpose16(&mut rows);
                    for (i, row) in rows.iter().enumerate().take(run) {
                        let at = (k + i) * width + first;
                        // SAFETY: a whole vector only where `dst` has room for it, else the lanes stored.
                        unsafe {
                            if at + 16 <= total {
                                _mm512_storeu_ps(dst.add(at), *row);
                            } else {
                                _mm512_mask_storeu_ps(dst.add(at), ((1u32 << stored) - 1) as u16, *row);
                            }
                        }
                    }
                    k += run;
                }
            }
        }

        /// As the AVX-512 form, eight by eight.
        #[target_feature(enable = "avx2")]
        pub(super) unsafe fn transpose_avx2(&self, width: usize, dst: *mut f32) {
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
                            *row = unsafe {
                                _mm256_loadu_ps(self.src.add((first + lane) * self.lane_stride + k))
                            };
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

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(in crate::gemm) fn transpose16(rows: &mut [__m512; 16]) {
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
}
