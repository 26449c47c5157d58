//! Vectors of f32 as one trait with three implementations (AVX-512, AVX2 + FMA, portable), and the
//! dispatch from a run-time choice to code compiled for it. Nothing numeric (exp, softmax, ...) belongs here.
//!
//! A value of a type that implements [`Simd`] proves that the machine has the instructions, so all but the
//! memory operations are safe. Code that is generic over it must be `#[inline(always)]` down to the
//! entry that [`dispatch`] calls: only there are the instructions enabled, and an intrinsic that is not
//! inlined into such a function costs a call. For the same reason threads are started outside, never inside.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use portable::Portable;

use crate::isa::{Isa, Level};

/// Vectors of `LANES` f32 and their integer and mask companions.
///
/// `min` and `max` return the second operand when either is NaN, as the x86 instructions do.
pub trait Simd: Copy + Send + Sync + 'static {
    /// A vector of f32.
    type V: Copy;
    /// A vector of as many i32.
    type I: Copy;
    /// One truth value a lane.
    type M: Copy;
    /// Elements in a vector.
    const LANES: usize;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// All lanes zero.
    #[inline(always)]
    fn zero(self) -> Self::V {
        self.splat(0.0)
    }
    /// Reads `LANES` elements.
    /// # Safety
    /// `p..p + LANES` is readable.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// Writes `LANES` elements.
    /// # Safety
    /// `p..p + LANES` is writable.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Reads the first `n < LANES` lanes; the others are zero.
    /// # Safety
    /// `p..p + n` is readable and `n <= LANES`.
    unsafe fn load_part(self, p: *const f32, n: usize) -> Self::V;
    /// Writes the first `n < LANES` lanes.
    /// # Safety
    /// `p..p + n` is writable and `n <= LANES`.
    unsafe fn store_part(self, p: *mut f32, n: usize, v: Self::V);

    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a - b
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a * b
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c, rounded once where the machine can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// c - a * b, rounded once where the machine can.
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// What rounding took from p = [`Simd::mul`]`(a, b)`: a * b - p, exact where it is no denormal.
    fn mul_low(self, a: Self::V, b: Self::V, p: Self::V) -> Self::V;
    /// a < b ? a : b
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// a > b ? a : b
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// Square root, correctly rounded.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// Nearest integer, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// Largest integer not above.
    fn floor(self, a: Self::V) -> Self::V;
    /// Smallest integer not below.
    fn ceil(self, a: Self::V) -> Self::V;
    /// a * 2^n for integral n in -280..=280, rounded once (also into denormals).
    fn scale2(self, a: Self::V, n: Self::V) -> Self::V;

    /// a < b, false on NaN.
    fn lt(self, a: Self::V, b: Self::V) -> Self::M;
    /// a == b, false on NaN.
    fn eq(self, a: Self::V, b: Self::V) -> Self::M;
    /// m ? a : b
    fn select(self, m: Self::M, a: Self::V, b: Self::V) -> Self::V;

    /// The bits of each lane.
    fn to_bits(self, a: Self::V) -> Self::I;
    /// The f32 with these bits.
    #[allow(clippy::wrong_self_convention)] // self is the proof, not the value
    fn from_bits(self, a: Self::I) -> Self::V;
    /// All lanes `x`.
    fn isplat(self, x: i32) -> Self::I;
    /// a + b, wrapping.
    fn iadd(self, a: Self::I, b: Self::I) -> Self::I;
    /// a - b, wrapping.
    fn isub(self, a: Self::I, b: Self::I) -> Self::I;
    /// a & b
    fn iand(self, a: Self::I, b: Self::I) -> Self::I;
    /// a | b
    fn ior(self, a: Self::I, b: Self::I) -> Self::I;
    /// Arithmetic shift right by 23, the width of the mantissa.
    fn sra23(self, a: Self::I) -> Self::I;
    /// The element of the table that the lowest four bits of each lane name.
    fn lookup(self, table: &[f32; 16], index: Self::I) -> Self::V;
    /// The integers as f32.
    fn to_float(self, a: Self::I) -> Self::V;

    /// Sum of the lanes, pairwise.
    fn sum(self, a: Self::V) -> f32;
    /// Largest lane (NaN lanes may be lost).
    fn max_lane(self, a: Self::V) -> f32;
    /// Smallest lane (NaN lanes may be lost).
    fn min_lane(self, a: Self::V) -> f32;

    /// Transposes a block: `dst[j * dst_stride + i] = src[i * src_stride + j]` for i, j < LANES.
    /// # Safety
    /// `LANES` rows of `LANES` elements are readable at `src`, and writable at `dst`; they do not overlap.
    #[inline(always)]
    unsafe fn transpose(self, src: *const f32, src_stride: usize, dst: *mut f32, dst_stride: usize) {
        for i in 0..Self::LANES {
            for j in 0..Self::LANES {
                // SAFETY: the caller's promise.
                unsafe { *dst.add(j * dst_stride + i) = *src.add(i * src_stride + j) };
            }
        }
    }

    /// |a|
    #[inline(always)]
    fn abs(self, a: Self::V) -> Self::V {
        self.from_bits(self.iand(self.to_bits(a), self.isplat(0x7fff_ffff)))
    }
    /// -a
    #[inline(always)]
    fn neg(self, a: Self::V) -> Self::V {
        self.sub(self.splat(-0.0), a)
    }
    /// The size of `a` (which must not be negative) with the sign of `sign`.
    #[inline(always)]
    fn copysign(self, a: Self::V, sign: Self::V) -> Self::V {
        self.from_bits(self.ior(self.to_bits(a), self.iand(self.to_bits(sign), self.isplat(i32::MIN))))
    }
}

/// Where a line that is fetched ahead should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cache {
    /// The nearest cache.
    Nearest,
    /// The second one.
    Second,
}

/// Asks for the cache line at `p`, which need not exist, to be brought into that cache.
#[inline(always)]
pub(crate) fn prefetch(into: Cache, p: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch does not fault.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        match into {
            Cache::Nearest => _mm_prefetch::<_MM_HINT_T0>(p.cast()),
            Cache::Second => _mm_prefetch::<_MM_HINT_T1>(p.cast()),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (into, p);
}

/// A computation that can be compiled for each instruction set.
pub trait Vectorised {
    /// What it gives.
    type Output;
    /// The computation. Implementations must be `#[inline(always)]` and start no threads.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Runs `k` compiled for `isa`.
#[inline]
pub fn dispatch<K: Vectorised>(isa: Isa, k: K) -> K::Output {
    match isa.level() {
        // SAFETY: an Isa only comes from detection on this machine.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { run_avx512(k) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2Fma => unsafe { run_avx2(k) },
        _ => k.run(Portable::new()),
    }
}

/// # Safety
/// The machine has AVX-512 F, BW, DQ and VL, and AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn run_avx512<K: Vectorised>(k: K) -> K::Output {
    // SAFETY: the caller's promise.
    k.run(unsafe { Avx512::new() })
}

/// # Safety
/// The machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<K: Vectorised>(k: K) -> K::Output {
    // SAFETY: the caller's promise.
    k.run(unsafe { Avx2::new() })
}
