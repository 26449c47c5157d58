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

/// e^(x + low) - 1 without its power of two, and that power: e^(x + low) = (1 + first) 2^second. For |x| up to 104 and
/// a `low` of what rounding took from x.
#[inline(always)]
fn parts<S: Simd>(s: S, x: S::V, low: Option<S::V>) -> (S::V, S::V) {
    // x = n ln2 + r with whole n and |r| <= ln2/2
    let n = s.round(s.mul(x, s.splat(LOG2E)));
    let r = s.neg_mul_add(n, s.splat(LN2_HI), x);
    let r = s.neg_mul_add(n, s.splat(LN2_LO), r);
    let r = match low {
        Some(low) => s.add(r, low),
        None => r,
    };
    (s.mul_add(s.mul(r, r), horner(s, &Q, r), r), n)
}

/// Within what e^x is no infinity and not 0. The bound is the first operand: NaN passes through.
#[inline(always)]
fn bounded<S: Simd>(s: S, x: S::V) -> S::V {
    s.max(s.splat(-104.0), s.min(s.splat(89.0), x))
}

/// e^x. Infinity above 88.72, denormals and then 0 below -87.34, NaN for NaN.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let (p, n) = parts(s, bounded(s, x), None);
    s.scale2(s.add(s.splat(1.0), p), n)
}

/// Minimax on |r| <= 1/2 of 2^r, relative error 7.5e-5.
const NEAR: [f32; 4] = [9.999_280_6e-1, 6.932_609_7e-1, 2.426_111_3e-1, 5.517_167e-2];

/// e^x for x up to 80, within 1e-4 of its size, and 0 below -104: for weights of products of fewer bits, whose numbers
/// end at 4e-3 of their size. Half the work of [`exp`].
#[inline(always)]
pub fn exp_near<S: Simd>(s: S, x: S::V) -> S::V {
    // The bound is the first operand: NaN passes through.
    let t = s.max(s.splat(-151.0), s.mul(x, s.splat(LOG2E)));
    let n = s.round(t);
    s.scale2(horner(s, &NEAR, s.sub(t, n)), n)
}

/// 1 + e^(x + low), where `low` is what rounding took from x; infinity above 88.
#[inline(always)]
pub(super) fn one_plus_exp<S: Simd>(s: S, x: S::V, low: Option<S::V>) -> S::V {
    let (p, n) = parts(s, bounded(s, x), low);
    // 1 + 2^n + 2^n p, with what the first sum loses of its 1.
    let one = s.splat(1.0);
    let power = s.scale2(one, n);
    let whole = s.add(one, power);
    let lost = s.sub(one, s.sub(whole, power));
    let sum = s.add(whole, s.mul_add(power, p, lost));
    s.select(s.lt(s.splat(88.0), x), s.splat(f32::INFINITY), sum)
}

/// a b e^(x + low), of which b's error and one rounding are most of the error; x at most 0 and above -104.
#[inline(always)]
pub(super) fn product_times_exp<S: Simd>(s: S, (a, b): (S::V, S::V), x: S::V, low: S::V) -> S::V {
    let (p, n) = parts(s, x, Some(low));
    let y = s.mul(a, b);
    let y_low = s.mul_low(a, b, y);
    s.scale2(s.add(y, s.mul_add(y, p, y_low)), n)
}

/// 1 / (1 + e^-x). Results below 2^-126 become 0.
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    s.div(s.splat(1.0), one_plus_exp(s, s.neg(x), None))
}

/// x / (1 + e^-x), also called swish. Results smaller than 2^-119 may become 0.
#[inline(always)]
pub fn silu<S: Simd>(s: S, x: S::V) -> S::V {
    s.div(x, one_plus_exp(s, s.neg(x), None))
}

/// Minimax on 0 <= z <= 0.36 of (tanh(sqrt z) / sqrt z - 1) / z, error 3e-9 of tanh.
const TANH: [f32; 5] =
    [-3.333_329_856e-1, 1.333_195_865e-1, -5.378_668_383e-2, 2.080_538_496e-2, -5.905_868_486e-3];

/// Hyperbolic tangent: an odd polynomial up to 0.6, beyond it t / (t + 2) with t = e^(2|x|) - 1.
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    // At 10 the quotient has long rounded to 1.
    let a = s.min(s.splat(10.0), s.abs(x));
    let z = s.mul(a, a);
    let small = s.mul_add(s.mul(a, z), horner(s, &TANH, z), a);
    let t = s.sub(exp(s, s.add(a, a)), s.splat(1.0));
    let large = s.div(t, s.add(t, s.splat(2.0)));
    s.copysign(s.select(s.lt(s.splat(0.6), a), large, small), x)
}
