//! The three forms of GELU that checkpoints use. Only they belong here.

use super::erf::horner;
use super::exp::exp;
use crate::simd::Simd;

/// Minimax on 0 <= t <= 6.5 of -ln(2 Φ(-t)) / t, error 4e-9 in Φ; it goes on rising beyond, so that the
/// tail vanishes as it must.
const TAIL: [f32; 10] = [
    7.978_848_815e-1,
    3.183_051_05e-1,
    3.635_711_595e-2,
    -4.826_431_628e-3,
    9.639_605_196e-6,
    1.885_827_805e-4,
    -5.114_633_677e-5,
    7.206_180_726e-6,
    -5.493_599_815e-7,
    1.779_738_135e-8,
];

/// x Φ(x) = x/2 (1 + erf(x / sqrt 2)), ONNX Gelu with approximate="none".
///
/// Error at most 2.5 ulp for x >= -1 and 2^-22 |x| absolute for all x; the negative tail keeps its relative
/// accuracy to 3e-5 down to x = -6, where `1 + erf` would have lost it.
#[inline(always)]
pub fn gelu_erf<S: Simd>(s: S, x: S::V) -> S::V {
    let t = s.abs(x);
    let tail = s.mul(s.splat(0.5), exp(s, s.neg(s.mul(t, horner(s, &TAIL, t)))));
    let phi = s.select(s.lt(x, s.zero()), tail, s.sub(s.splat(1.0), tail));
    s.mul(x, phi)
}

/// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), ONNX Gelu with approximate="tanh".
///
/// Computed as x sigmoid(2u), which has no cancellation.
#[inline(always)]
pub fn gelu_tanh<S: Simd>(s: S, x: S::V) -> S::V {
    // 2 sqrt(2/pi) (1 + 0.044715 x^2)
    const A: f32 = 1.595_769_1;
    const B: f32 = 0.071_354_814;
    // Beyond 16 the sigmoid is 0 or 1; the bound keeps x^3 finite. NaN passes through.
    let c = s.max(s.splat(-16.0), s.min(s.splat(16.0), x));
    let u = s.mul(c, s.mul_add(s.mul(c, c), s.splat(B), s.splat(A)));
    let e = exp(s, s.neg(u));
    s.div(x, s.add(s.splat(1.0), e))
}

/// x sigmoid(1.702 x), `quick_gelu` of transformers.
#[inline(always)]
pub fn gelu_quick<S: Simd>(s: S, x: S::V) -> S::V {
    let y = s.splat(1.702);
    let e = exp(s, s.neg(s.mul(x, y)));
    s.div(x, s.add(s.splat(1.0), e))
}
