//! exp and the functions made of it: sigmoid, SiLU, tanh. No error function here.

use super::erf::horner;
use crate::simd::Simd;

/// log2(e)
const LOG2E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts: the first has 9 bits, so that its product with a whole number up to 2^15 is exact.
const LN2_HI: f32 = 0.693_359_375;
const LN2_LO: f32 = -2.121_944_4e-4;
/// Minimax on |r| <= ln2/2 of (e^r - 1 - r) / r^2, error 3e-10 of r (found by Remez exchange).
const Q: [f32; 6] =
    [0.5, 1.666_666_716e-1, 4.166_634_381e-2, 8.333_270_438e-3, 1.394_204_563e-3, 1.991_562_312e-4];

/// x = n ln2 + r with whole n and |r| <= ln2/2; gives (n, r, e^r - 1 - r).
#[inline(always)]
fn reduce<S: Simd>(s: S, x: S::V) -> (S::V, S::V, S::V) {
    let n = s.round(s.mul(x, s.splat(LOG2E)));
    let r = s.neg_mul_add(n, s.splat(LN2_HI), x);
    let r = s.neg_mul_add(n, s.splat(LN2_LO), r);
    let q = horner(s, &Q, r);
    (n, r, s.mul(s.mul(r, r), q))
}

/// e^x. Infinity above 88.72, denormals and then 0 below -87.34, NaN for NaN.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // The bound is the first operand: NaN passes through.
    let x = s.max(s.splat(-104.0), s.min(s.splat(89.0), x));
    let (n, r, t) = reduce(s, x);
    s.scale2(s.add(s.splat(1.0), s.add(r, t)), n)
}

/// 1 / (1 + e^-x). Results below 2^-126 become 0.
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.neg(x))))
}

/// x / (1 + e^-x), also called swish. Results smaller than 2^-119 may become 0.
#[inline(always)]
pub fn silu<S: Simd>(s: S, x: S::V) -> S::V {
    s.div(x, s.add(s.splat(1.0), exp(s, s.neg(x))))
}

/// Hyperbolic tangent: t / (t + 2) with t = e^(2|x|) - 1, which keeps its relative accuracy at 0.
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let a = s.abs(x);
    // At 10 the quotient has long rounded to 1.
    let a = s.min(s.splat(10.0), a);
    let (n, r, q) = reduce(s, s.add(a, a));
    let p = s.scale2(s.splat(1.0), n);
    // e^(2a) - 1 = 2^n (1 + r + q) - 1 = (2^n - 1) + 2^n (r + q)
    let t = s.mul_add(p, s.add(r, q), s.sub(p, s.splat(1.0)));
    s.copysign(s.div(t, s.add(t, s.splat(2.0))), x)
}
