//! In what numbers attention multiplies: f32, or bf16 in pairs with f32 sums. Packing of keys and values for each, and
//! how rows of queries and weights are made ready. Tiles count in words, as those of `crate::gemm` do.

#[cfg(target_arch = "x86_64")]
use crate::gemm::Pairs;
use crate::gemm::{Dot, Floats, Lanes};
use crate::simd::Simd;

/// The numbers of a product's operands.
pub(super) trait Numbers<S: Simd>: Dot<S> {
    /// Numbers in a word.
    const A_WORD: usize;

    /// Packs keys into panels: panel c holds, for each word of `dim`, those of its keys side by side; keys that are
    /// missing in the last panel are zeros.
    /// # Safety
    /// `k` holds `keys` rows of `dim`; `to` holds `keys` rounded up to panels times the words of `dim`.
    unsafe fn pack_k(s: S, k: *const f32, stride: usize, keys: usize, dim: usize, to: *mut f32);

    /// Packs values into panels: panel c holds columns c * panel .. of each word of keys, one after the other; columns
    /// beyond `dim` are zeros.
    /// # Safety
    /// `v` holds `keys` rows of `dim`; `to` holds `block` rows of `dim` rounded up to panels.
    unsafe fn pack_v(s: S, v: *const f32, stride: usize, keys: usize, dim: usize, block: usize, to: *mut f32);

    /// Turns `n` numbers into words, which may take their place.
    /// # Safety
    /// `from` holds the numbers, `to` has room for the words and is not beyond `from`.
    unsafe fn row(from: *const f32, n: usize, to: *mut f32);
}

impl<S: Simd> Numbers<S> for Floats {
    const A_WORD: usize = 1;

    #[inline(always)]
    unsafe fn pack_k(s: S, k: *const f32, stride: usize, keys: usize, dim: usize, to: *mut f32) {
        let panel = 2 * S::LANES;
        let whole = dim / S::LANES * S::LANES;
        let mut first = 0;
        while first < keys {
            // SAFETY: rows below `keys`, columns below `dim`, and the panel of these keys in `to`.
            unsafe {
                let to = to.add(first / panel * panel * dim + first % panel);
                let n = S::LANES.min(keys - first);
                let from = k.add(first * stride);
                let mut d = 0;
                if n == S::LANES {
                    while d < whole {
                        s.transpose(from.add(d), stride, to.add(d * panel), panel);
                        d += S::LANES;
                    }
                }
                while d < dim {
                    for j in 0..S::LANES {
                        *to.add(d * panel + j) = if j < n { *from.add(j * stride + d) } else { 0.0 };
                    }
                    d += 1;
                }
            }
            first += S::LANES;
        }
        if first % panel != 0 {
            for d in 0..dim {
                for j in 0..S::LANES {
                    // SAFETY: the second half of the last panel, which `to` holds.
                    unsafe { *to.add(first / panel * panel * dim + d * panel + S::LANES + j) = 0.0 };
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn pack_v(
        s: S,
        v: *const f32,
        stride: usize,
        keys: usize,
        dim: usize,
        block: usize,
        to: *mut f32,
    ) {
        let panel = 2 * S::LANES;
        for key in 0..keys {
            let mut d = 0;
            while d < dim.next_multiple_of(panel) {
                let n = dim.saturating_sub(d).min(S::LANES);
                // SAFETY: columns d .. d + n of row `key`; the place of that vector in `to`.
                unsafe {
                    let from = v.add(key * stride + d.min(dim));
                    let to = to.add(d / panel * panel * block + key * panel + d % panel);
                    s.store(to, if n == S::LANES { s.load(from) } else { s.load_part(from, n) });
                }
                d += S::LANES;
            }
        }
    }

    #[inline(always)]
    unsafe fn row(from: *const f32, n: usize, to: *mut f32) {
        if !std::ptr::eq(from, to) {
            // SAFETY: the caller's promise.
            unsafe { to.copy_from(from, n) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Numbers<crate::simd::Avx512> for Pairs {
    const A_WORD: usize = 2;

    unsafe fn pack_k(
        _: crate::simd::Avx512,
        k: *const f32,
        stride: usize,
        keys: usize,
        dim: usize,
        to: *mut f32,
    ) {
        for first in (0..keys).step_by(PANEL) {
            let lanes = Lanes {
                src: k.wrapping_add(first * stride),
                lanes: PANEL.min(keys - first),
                lane_stride: stride,
                k: dim,
                k_stride: 1,
            };
            // SAFETY: the caller's promise; pairs are only used where the machine converts them.
            unsafe { lanes.pack_pairs(PANEL, to.add(first * dim.div_ceil(2))) };
        }
    }

    unsafe fn pack_v(
        _: crate::simd::Avx512,
        v: *const f32,
        stride: usize,
        keys: usize,
        dim: usize,
        block: usize,
        to: *mut f32,
    ) {
        for first in (0..dim).step_by(PANEL) {
            let lanes = Lanes {
                src: v.wrapping_add(first),
                lanes: PANEL.min(dim - first),
                lane_stride: 1,
                k: keys,
                k_stride: stride,
            };
            // SAFETY: as above. A dense V of one column also is contiguous along k, which packs the same.
            unsafe { lanes.pack_pairs(PANEL, to.add(first * block)) };
        }
    }

    unsafe fn row(from: *const f32, n: usize, to: *mut f32) {
        let lanes = Lanes { src: from, lanes: 1, lane_stride: n, k: n, k_stride: 1 };
        // SAFETY: as above; a vector of words is written after the numbers under it were read.
        unsafe { lanes.pack_pairs(1, to) };
    }
}

/// Two vectors of 16.
#[cfg(target_arch = "x86_64")]
const PANEL: usize = 32;
