//! The AVX2 + FMA implementation of [`Simd`]. Only thin wrappers of intrinsics belong here.

use super::Simd;
use core::arch::x86_64::*;

/// Proof that the machine has AVX2 and FMA.
#[derive(Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The machine has AVX2 and FMA.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Avx2(())
    }
}

macro_rules! op {
    ($e:expr) => {
        // SAFETY: a value of `Avx2` exists only where its maker promised the instructions.
        unsafe { $e }
    };
}

/// A mask whose first `n` lanes are all ones: a window into eight ones followed by eight zeros.
#[inline(always)]
fn part(n: usize) -> __m256i {
    static WINDOW: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let start = 8 - n.min(8);
    // SAFETY: start <= 8, so eight elements from there lie in WINDOW; AVX2 as for `op!`.
    unsafe { _mm256_loadu_si256(WINDOW.as_ptr().add(start).cast()) }
}

impl Simd for Avx2 {
    type V = __m256;
    type I = __m256i;
    type M = __m256;
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        op!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        op!(_mm256_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        op!(_mm256_storeu_ps(p, v))
    }
    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize) -> __m256 {
        op!(_mm256_maskload_ps(p, part(n)))
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize, v: __m256) {
        op!(_mm256_maskstore_ps(p, part(n), v))
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        op!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn mul_low(self, a: __m256, b: __m256, p: __m256) -> __m256 {
        op!(_mm256_fmsub_ps(a, b, p))
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; 16], index: __m256i) -> __m256 {
        op!({
            let low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr()), index);
            let high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr().add(8)), index);
            // The fourth bit becomes the sign, by which the blend chooses.
            _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index)))
        })
    }
    #[inline(always)]
    fn neg_mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        op!(_mm256_fnmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        op!(_mm256_sqrt_ps(a))
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        op!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn floor(self, a: __m256) -> __m256 {
        op!(_mm256_floor_ps(a))
    }
    #[inline(always)]
    fn ceil(self, a: __m256) -> __m256 {
        op!(_mm256_ceil_ps(a))
    }
    #[inline(always)]
    fn scale2(self, a: __m256, n: __m256) -> __m256 {
        // Two factors, so that neither overflows and only the last product can round.
        op!({
            let n = _mm256_cvtps_epi32(n);
            let half = _mm256_srai_epi32::<1>(n);
            let bias = _mm256_set1_epi32(127);
            let x = _mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias));
            let y = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_sub_epi32(n, half), bias));
            _mm256_mul_ps(_mm256_mul_ps(a, _mm256_castsi256_ps(x)), _mm256_castsi256_ps(y))
        })
    }
    #[inline(always)]
    fn lt(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b))
    }
    #[inline(always)]
    fn eq(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_cmp_ps::<_CMP_EQ_OQ>(a, b))
    }
    #[inline(always)]
    fn select(self, m: __m256, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_blendv_ps(b, a, m))
    }
    #[inline(always)]
    fn to_bits(self, a: __m256) -> __m256i {
        op!(_mm256_castps_si256(a))
    }
    #[inline(always)]
    fn from_bits(self, a: __m256i) -> __m256 {
        op!(_mm256_castsi256_ps(a))
    }
    #[inline(always)]
    fn isplat(self, x: i32) -> __m256i {
        op!(_mm256_set1_epi32(x))
    }
    #[inline(always)]
    fn iadd(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_add_epi32(a, b))
    }
    #[inline(always)]
    fn isub(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_sub_epi32(a, b))
    }
    #[inline(always)]
    fn iand(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_and_si256(a, b))
    }
    #[inline(always)]
    fn ior(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_or_si256(a, b))
    }
    #[inline(always)]
    fn sra23(self, a: __m256i) -> __m256i {
        op!(_mm256_srai_epi32::<23>(a))
    }
    #[inline(always)]
    fn to_float(self, a: __m256i) -> __m256 {
        op!(_mm256_cvtepi32_ps(a))
    }
    #[inline(always)]
    unsafe fn transpose(self, src: *const f32, src_stride: usize, dst: *mut f32, dst_stride: usize) {
        // SAFETY: the caller's promise.
        unsafe { transpose8(src, src_stride, dst, dst_stride) }
    }
    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        op!({
            let x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps::<1>(x, x)))
        })
    }
    #[inline(always)]
    fn max_lane(self, a: __m256) -> f32 {
        op!({
            let x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps::<1>(x, x)))
        })
    }
    #[inline(always)]
    fn min_lane(self, a: __m256) -> f32 {
        op!({
            let x = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let x = _mm_min_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_min_ss(x, _mm_shuffle_ps::<1>(x, x)))
        })
    }
}

/// Transposes 8 x 8: pairs, then fours, then halves.
/// # Safety
/// AVX2; eight rows of eight are readable at `src` and writable at `dst`.
#[inline(always)]
pub(super) unsafe fn transpose8(src: *const f32, src_stride: usize, dst: *mut f32, dst_stride: usize) {
    // SAFETY: rows i < 8 of eight elements, as promised.
    unsafe {
        let r: [__m256; 8] = [
            _mm256_loadu_ps(src),
            _mm256_loadu_ps(src.add(src_stride)),
            _mm256_loadu_ps(src.add(2 * src_stride)),
            _mm256_loadu_ps(src.add(3 * src_stride)),
            _mm256_loadu_ps(src.add(4 * src_stride)),
            _mm256_loadu_ps(src.add(5 * src_stride)),
            _mm256_loadu_ps(src.add(6 * src_stride)),
            _mm256_loadu_ps(src.add(7 * src_stride)),
        ];
        let mut p = r;
        let mut i = 0;
        while i < 8 {
            p[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
            p[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
            i += 2;
        }
        let mut q = p;
        let mut i = 0;
        while i < 8 {
            q[i] = _mm256_shuffle_ps::<0x44>(p[i], p[i + 2]);
            q[i + 1] = _mm256_shuffle_ps::<0xee>(p[i], p[i + 2]);
            q[i + 2] = _mm256_shuffle_ps::<0x44>(p[i + 1], p[i + 3]);
            q[i + 3] = _mm256_shuffle_ps::<0xee>(p[i + 1], p[i + 3]);
            i += 4;
        }
        let mut i = 0;
        while i < 4 {
            _mm256_storeu_ps(dst.add(i * dst_stride), _mm256_permute2f128_ps::<0x20>(q[i], q[i + 4]));
            _mm256_storeu_ps(dst.add((i + 4) * dst_stride), _mm256_permute2f128_ps::<0x31>(q[i], q[i + 4]));
            i += 1;
        }
    }
}
