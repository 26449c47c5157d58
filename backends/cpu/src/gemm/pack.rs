//! Copying a strided matrix into panels: `width` lanes side by side, one group of lanes for each k.
//!
//! Rows of A and columns of B are packed by the same code, since either is a set of lanes with a stride.
//! What the panels mean is in `layout`; lanes that are contiguous along k have `along`.

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
                        return self.numbers_along(width, dst);
                    }
                    Level::Avx512 | Level::Avx2Fma if width <= 8 || width.is_multiple_of(8) => {
                        return self.numbers_along_avx2(width, dst);
                    }
                    _ => {}
                }
            }
            let _ = isa;
            self.copy_elements(0, width, dst);
        }
    }

    /// The plain copy, from k = `from` on.
    pub(super) unsafe fn copy_elements(&self, from: usize, width: usize, dst: *mut f32) {
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
