//! The natural logarithm. Nothing else belongs here.

use super::erf::horner;
use crate::simd::Simd;

const LN2_HI: f32 = 0.693_359_375;
const LN2_LO: f32 = -2.121_944_4e-4;
/// Minimax on sqrt(1/2) <= 1+f <= sqrt 2 of (ln(1+f) - f + f^2/2) / f^3, relative error 7e-10 of ln(1+f).
const P: [f32; 9] = [
    3.333_331_048e-1,
    -2.499_998_659e-1,
    2.000_222_653e-1,
    -1.666_925_251e-1,
    1.421_866_417e-1,
    -1.238_433_495e-1,
    1.187_292_635e-1,
    -1.178_986_579e-1,
    6.915_540_248e-2,
];

/// ln x. -infinity at 0, NaN below 0, also for denormals.
#[inline(always)]
pub fn log<S: Simd>(s: S, x: S::V) -> S::V {
    let tiny = s.lt(x, s.splat(f32::MIN_POSITIVE));
    let y = s.select(tiny, s.mul(x, s.splat(33_554_432.0)), x);
    // Split so that the mantissa lies in [sqrt 1/2, sqrt 2): 0x3f3504f3 is sqrt 1/2.
    let b = s.isub(s.to_bits(y), s.isplat(0x3f35_04f3));
    let e = s.to_float(s.sra23(b));
    let e = s.sub(e, s.select(tiny, s.splat(25.0), s.zero()));
    let m = s.iadd(s.iand(b, s.isplat(0x007f_ffff)), s.isplat(0x3f35_04f3));
    let f = s.sub(s.from_bits(m), s.splat(1.0));
    let z = s.mul(f, f);
    // f - f^2/2 + f^3 P(f) + e ln2, small parts first.
    let mut t = s.mul(s.mul(f, z), horner(s, &P, f));
    t = s.mul_add(e, s.splat(LN2_LO), t);
    t = s.neg_mul_add(z, s.splat(0.5), t);
    let y = s.mul_add(e, s.splat(LN2_HI), s.add(f, t));
    let inf = s.splat(f32::INFINITY);
    let y = s.select(s.lt(x, inf), y, x);
    let y = s.select(s.lt(x, s.zero()), s.splat(f32::NAN), y);
    s.select(s.eq(x, s.zero()), s.splat(f32::NEG_INFINITY), y)
}
