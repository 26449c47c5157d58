//! In what numbers attention multiplies: f32, or bf16 in pairs with f32 sums. Packing of keys and values for each, and
//! how rows of queries and weights become words. Tiles count in words, as those of `crate::gemm` do.

use crate::gemm::{Dot, Floats};
#[cfg(target_arch = "x86_64")]
use crate::gemm::{Lanes, Pairs};
use crate::math;
use crate::simd::Simd;
#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::{__m512, __m512bh, _mm512_cvtne2ps_pbh};

/// The numbers of a product's operands.
pub(super) trait Numbers<S: Simd>: Dot<S> {
    /// Numbers in a word.
    const A_WORD: usize;

    /// e^x as exactly as a weight needs, for x <= 0; 0 for minus infinity.
    fn exp(s: S, x: S::V) -> S::V;

    /// Writes the words of two vectors of numbers that lie side by side.
    /// # Safety
    /// `to` has room for them.
    unsafe fn store(s: S, first: S::V, second: S::V, to: *mut f32);

    /// Packs up to a panel of keys: for each word of `dim` those of the keys side by side, and zeros for the keys that
    /// are missing.
    /// # Safety
    /// `k` holds `keys` rows of `dim`; `to` holds a panel for each word of `dim`.
    unsafe fn pack_k(s: S, k: *const f32, stride: usize, keys: usize, dim: usize, to: *mut f32);

    /// Packs some keys' values into panels `block` rows apart: panel c holds columns c * panel .. of each word of keys,
    /// one after the other; columns beyond `dim` are zeros.
    /// # Safety
    /// `v` holds `keys` rows of `dim`; `to` holds so many rows of each panel.
    unsafe fn pack_v(s: S, v: *const f32, stride: usize, keys: usize, dim: usize, block: usize, to: *mut f32);

    /// Turns `n` numbers times `scale` into words, and zeros up to a multiple of two vectors.
    /// # Safety
    /// `from` holds the numbers, `to` has room for the words of `n` rounded up to two vectors.
    #[inline(always)]
    unsafe fn row(s: S, from: *const f32, n: usize, scale: f32, to: *mut f32) {
        let factor = s.splat(scale);
        for i in (0..n).step_by(2 * S::LANES) {
            let mut both = [s.zero(); 2];
            for (v, x) in both.iter_mut().enumerate() {
                let i = i + v * S::LANES;
                let (from, left) = (from.wrapping_add(i), n.saturating_sub(i));
                // SAFETY: as many numbers as are left.
                *x = s.mul(factor, unsafe {
                    if left >= S::LANES { s.load(from) } else { s.load_part(from, left) }
                });
            }
            // SAFETY: the caller's promise.
            unsafe { Self::store(s, both[0], both[1], to.add(i / Self::A_WORD)) };
        }
    }
}

impl<S: Simd> Numbers<S> for Floats {
    const A_WORD: usize = 1;

    #[inline(always)]
    fn exp(s: S, x: S::V) -> S::V {
        math::exp(s, x)
    }

    #[inline(always)]
    unsafe fn store(s: S, first: S::V, second: S::V, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            s.store(to, first);
            s.store(to.add(S::LANES), second);
        }
    }

    #[inline(always)]
    unsafe fn pack_k(s: S, k: *const f32, stride: usize, keys: usize, dim: usize, to: *mut f32) {
        let panel = 2 * S::LANES;
        let whole = dim / S::LANES * S::LANES;
        for first in [0, S::LANES] {
            let n = keys.saturating_sub(first).min(S::LANES);
            let from = k.wrapping_add(first * stride);
            // SAFETY: rows below `keys`, columns below `dim`, and the half of the panel of these keys in `to`.
            unsafe {
                let to = to.add(first);
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
}

#[cfg(target_arch = "x86_64")]
impl Numbers<crate::simd::Avx512> for Pairs {
    const A_WORD: usize = 2;

    #[inline(always)]
    fn exp(s: crate::simd::Avx512, x: __m512) -> __m512 {
        math::exp_near(s, x)
    }

    #[inline(always)]
    unsafe fn store(s: crate::simd::Avx512, first: __m512, second: __m512, to: *mut f32) {
        // SAFETY: pairs are only used where the machine converts them; the types differ in name alone; the caller's
        // promise.
        unsafe { s.store(to, std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(second, first))) };
    }

    #[inline(always)]
    unsafe fn pack_k(
        _: crate::simd::Avx512,
        k: *const f32,
        stride: usize,
        keys: usize,
        dim: usize,
        to: *mut f32,
    ) {
        let lanes = Lanes { src: k, lanes: keys, lane_stride: stride, k: dim, k_stride: 1 };
        // SAFETY: the caller's promise; pairs are only used where the machine converts them.
        unsafe { lanes.pack_pairs(PANEL, to) };
    }

    #[inline(always)]
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
}

/// Two vectors of 16.
#[cfg(target_arch = "x86_64")]
const PANEL: usize = 32;
