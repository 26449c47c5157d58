//! What a word of packed operands holds, and how two words enter a sum. A word has 32 bits: one f32, two bf16 or
//! four bytes of neighbouring k. So one tile and one set of loops serve all of them: they move words, and only
//! the step of the sum, which is here, knows what is in them. Converting numbers to words is not done here.

use crate::isa::Isa;
use crate::simd::{Portable, Simd};
use frit_ir::DType;

/// What a word holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Words {
    /// One f32.
    Floats,
    /// Two bf16, the earlier k in the lower half. Sums are f32.
    Pairs,
    /// Four bytes, the earliest k in the lowest: unsigned in A, signed in B. Sums are i32.
    Fours,
}

impl Words {
    /// The words of packed elements of this type.
    pub fn of(dtype: DType) -> Option<Words> {
        match dtype {
            DType::F32 => Some(Words::Floats),
            DType::BF16 => Some(Words::Pairs),
            DType::I8 => Some(Words::Fours),
            _ => None,
        }
    }

    /// Elements of a word.
    pub fn factor(self) -> usize {
        match self {
            Words::Floats => 1,
            Words::Pairs => 2,
            Words::Fours => 4,
        }
    }

    /// Words that hold `k` elements.
    pub fn count(self, k: usize) -> usize {
        k.div_ceil(self.factor())
    }

    /// Whether this machine multiplies such words that lie in panels of `width` columns.
    pub fn runs(self, isa: Isa, width: usize) -> bool {
        match self {
            Words::Floats | Words::Fours => true,
            Words::Pairs => isa.has_bf16_dot() && width.is_multiple_of(16),
        }
    }
}

/// One step of the sums of a vector of columns: `sum + a b`, word by word.
pub(crate) trait Dot<S: Simd> {
    fn dot(s: S, a: S::V, b: S::V, sum: S::V) -> S::V;
}

/// [`Words::Floats`].
pub(crate) struct Floats;

impl<S: Simd> Dot<S> for Floats {
    #[inline(always)]
    fn dot(s: S, a: S::V, b: S::V, sum: S::V) -> S::V {
        s.mul_add(a, b, sum)
    }
}

/// [`Words::Fours`] without instructions of their own.
pub(super) struct Fours;

impl Dot<Portable> for Fours {
    #[inline(always)]
    fn dot(_: Portable, a: [f32; 8], b: [f32; 8], sum: [f32; 8]) -> [f32; 8] {
        let mut out = sum;
        for (out, (a, b)) in out.iter_mut().zip(a.into_iter().zip(b)) {
            let (a, b) = (a.to_bits().to_le_bytes(), b.to_bits().to_le_bytes());
            let products = a.into_iter().zip(b).map(|(a, b)| i32::from(a) * i32::from(b.cast_signed()));
            let sum = out.to_bits().cast_signed().wrapping_add(products.sum());
            *out = f32::from_bits(sum.cast_unsigned());
        }
        out
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::FoursVnni;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Pairs;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Dot, Fours};
    use crate::simd::{Avx2, Avx512};
    use core::arch::x86_64::*;

    /// [`Words::Pairs`](super::Words::Pairs); only where the machine has AVX512_BF16, besides what the vectors need.
    pub(crate) struct Pairs;

    impl Dot<Avx512> for Pairs {
        #[inline(always)]
        fn dot(_: Avx512, a: __m512, b: __m512, sum: __m512) -> __m512 {
            // SAFETY: kernels made of this are chosen only on such machines; the types differ in name alone.
            unsafe {
                let bits = |x: __m512| std::mem::transmute::<__m512, __m512bh>(x);
                _mm512_dpbf16_ps(sum, bits(b), bits(a))
            }
        }
    }

    /// [`Words::Fours`](super::Words::Fours); only where the machine has AVX512_VNNI, besides what the vectors need.
    pub(in crate::gemm) struct FoursVnni;

    impl Dot<Avx512> for FoursVnni {
        #[inline(always)]
        fn dot(_: Avx512, a: __m512, b: __m512, sum: __m512) -> __m512 {
            // SAFETY: kernels made of this are chosen only on such machines.
            unsafe {
                let (a, b, sum) = (_mm512_castps_si512(a), _mm512_castps_si512(b), _mm512_castps_si512(sum));
                _mm512_castsi512_ps(_mm512_dpbusd_epi32(sum, a, b))
            }
        }
    }

    impl Dot<Avx2> for Fours {
        #[inline(always)]
        fn dot(_: Avx2, a: __m256, b: __m256, sum: __m256) -> __m256 {
            // The product of bytes with sums of pairs saturates; 16 bits hold any byte, and their sums are exact.
            // SAFETY: a value of `Avx2` exists only where the machine has it.
            unsafe {
                let (a, b) = (_mm256_castps_si256(a), _mm256_castps_si256(b));
                let even_a = _mm256_and_si256(a, _mm256_set1_epi16(0xff));
                let odd_a = _mm256_srli_epi16::<8>(a);
                let even_b = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(b));
                let odd_b = _mm256_srai_epi16::<8>(b);
                let products =
                    _mm256_add_epi32(_mm256_madd_epi16(even_a, even_b), _mm256_madd_epi16(odd_a, odd_b));
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum), products))
            }
        }
    }
}
