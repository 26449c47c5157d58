//! The error function. The GELU forms have their own file.

use super::exp::exp;
use crate::simd::Simd;

/// Where the odd polynomial gives way to the exponential form.
const SPLIT: f32 = 0.9;
/// Minimax on 0 <= z <= 0.81 of erf(sqrt z) / sqrt z - 1, relative error 3e-10.
const SMALL: [f32; 7] = [
    1.283_791_661e-1,
    -3.761_263_49e-1,
    1.128_371_656e-1,
    -2.686_055_75e-2,
    5.203_957_669e-3,
    -8.176_604_169e-4,
    8.516_744_128e-5,
];
/// Minimax on 0.9 <= t <= 3.93 of -ln(1 - erf t) / t, error 2.3e-9 of erf.
const LARGE: [f32; 7] = [
    1.128_701_21,
    6.349_198_818e-1,
    1.066_490_188e-1,
    -2.414_230_63e-2,
    3.833_758_412e-3,
    -3.724_631_97e-4,
    1.641_686_14e-5,
];

/// The error function: 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    let a = s.abs(x);
    let z = s.mul(a, a);
    let small = s.mul_add(a, horner(s, &SMALL, z), a);
    // At 4 the value has long rounded to 1.
    let t = s.min(s.splat(4.0), a);
    let large = s.sub(s.splat(1.0), exp(s, s.neg(s.mul(t, horner(s, &LARGE, t)))));
    let y = s.select(s.lt(s.splat(SPLIT), a), large, small);
    s.copysign(y, x)
}

/// c[0] + c[1] x + c[2] x^2 + ...
#[inline(always)]
pub(super) fn horner<S: Simd, const N: usize>(s: S, c: &[f32; N], x: S::V) -> S::V {
    let mut y = s.splat(c[N - 1]);
    for k in (0..N - 1).rev() {
        y = s.mul_add(y, x, s.splat(c[k]));
    }
    y
}
