//! The arc cosine. Nothing else belongs here.

use super::erf::horner;
use crate::simd::Simd;

/// (asin(t) / t - 1) / z by powers of z = t^2 up to 1/4, relative error 3e-9 of asin(t).
const P: [f32; 6] = [
    1.666_666_567e-1,
    7.500_098_646e-2,
    4.459_803_924e-2,
    3.111_609_444e-2,
    1.707_810_722e-2,
    3.380_538_523e-2,
];

const HALF_PI_LOW: f32 = -4.371_139e-8;
const PI_LOW: f32 = -8.742_278e-8;

/// acos x; NaN outside -1..=1.
#[inline(always)]
pub fn acos<S: Simd>(s: S, x: S::V) -> S::V {
    let a = s.abs(x);
    let small = s.lt(a, s.splat(0.5));
    // Beyond 1/2: acos a = 2 asin(sqrt((1 - a) / 2)), and acos(-a) = pi - acos a.
    let h = s.mul(s.sub(s.splat(1.0), a), s.splat(0.5));
    let z = s.select(small, s.mul(a, a), h);
    let t = s.select(small, x, s.sqrt(h));
    let asin = s.mul_add(s.mul(t, z), horner(s, &P, z), t);
    let near_zero = s.sub(s.splat(std::f32::consts::FRAC_PI_2), s.sub(asin, s.splat(HALF_PI_LOW)));
    let twice = s.add(asin, asin);
    let negative = s.sub(s.splat(std::f32::consts::PI), s.sub(twice, s.splat(PI_LOW)));
    s.select(small, near_zero, s.select(s.lt(x, s.zero()), negative, twice))
}
