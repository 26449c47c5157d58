//! Elementary functions on f32 vectors: one algorithm a function, generic over [`Simd`], and its entry
//! points for GEMM epilogues (`exp_avx512`, `exp_avx2`, `exp_portable`, ...). No loops over slices here.
//!
//! Bounds, against the true value, that the tests check on samples over all bit patterns on every instruction set: 2 ulp
//! for every function here, with the exceptions that the function states (results that become 0).

#![allow(clippy::excessive_precision)] // coefficients as their fits gave them

mod acos;
mod erf;
mod exp;
mod gelu;
mod log;
#[cfg(test)]
mod tests;

pub use acos::acos;
pub use erf::erf;
pub use exp::{exp, exp_near, sigmoid, silu, tanh};
pub use gelu::{gelu_erf, gelu_near, gelu_quick, gelu_tanh};
pub use log::log;

#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Portable, Simd};
#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::{__m256, __m512};

/// max(x, 0); NaN stays NaN.
#[inline(always)]
pub fn relu<S: Simd>(s: S, x: S::V) -> S::V {
    s.max(s.zero(), x)
}

/// x within limits; NaN stays NaN.
#[inline(always)]
pub fn limit<S: Simd>(s: S, x: S::V, low: f32, high: f32) -> S::V {
    s.max(s.splat(low), s.min(s.splat(high), x))
}

/// x min(max(x / 6 + 0.5, 0), 1).
#[inline(always)]
pub fn hard_swish<S: Simd>(s: S, x: S::V) -> S::V {
    let gate = s.mul_add(x, s.splat(1.0 / 6.0), s.splat(0.5));
    s.mul(x, limit(s, gate, 0.0, 1.0))
}

macro_rules! entry_points {
    ($($name:ident => $avx512:ident, $avx2:ident, $portable:ident;)*) => {$(
        #[doc = concat!("[`", stringify!($name), "`] of 16 elements.")]
        /// # Safety
        /// The machine has AVX-512 F.
        #[cfg(target_arch = "x86_64")]
        #[inline]
        #[target_feature(enable = "avx512f")]
        pub unsafe fn $avx512(x: __m512) -> __m512 {
            // SAFETY: the caller's promise.
            $name(unsafe { Avx512::new() }, x)
        }

        #[doc = concat!("[`", stringify!($name), "`] of 8 elements.")]
        /// # Safety
        /// The machine has AVX2 and FMA.
        #[cfg(target_arch = "x86_64")]
        #[inline]
        #[target_feature(enable = "avx2,fma")]
        pub unsafe fn $avx2(x: __m256) -> __m256 {
            // SAFETY: the caller's promise.
            $name(unsafe { Avx2::new() }, x)
        }

        #[doc = concat!("[`", stringify!($name), "`] of one element, on any machine.")]
        #[inline]
        pub fn $portable(x: f32) -> f32 {
            let s = Portable::new();
            $name(s, s.splat(x))[0]
        }
    )*};
}

entry_points! {
    exp => exp_avx512, exp_avx2, exp_portable;
    log => log_avx512, log_avx2, log_portable;
    tanh => tanh_avx512, tanh_avx2, tanh_portable;
    erf => erf_avx512, erf_avx2, erf_portable;
    sigmoid => sigmoid_avx512, sigmoid_avx2, sigmoid_portable;
    silu => silu_avx512, silu_avx2, silu_portable;
    gelu_erf => gelu_erf_avx512, gelu_erf_avx2, gelu_erf_portable;
    gelu_tanh => gelu_tanh_avx512, gelu_tanh_avx2, gelu_tanh_portable;
    gelu_quick => gelu_quick_avx512, gelu_quick_avx2, gelu_quick_portable;
    relu => relu_avx512, relu_avx2, relu_portable;
}
