//! The three forms of GELU that checkpoints use. Only they belong here.

use super::erf::horner;
use super::exp::{one_plus_exp, product_times_exp};
use crate::simd::Simd;

/// 2 Φ(-t) e^(t²/2) around t = 0, 1, ..., 15, in powers of t - k for |t - k| <= 1/2, relative error 1.4e-8: the value at
/// k in two parts, then the factors of the first to the seventh power.
const TAIL: [[f32; 16]; 9] = [
    [
        1e+00,
        5.231566e-01,
        3.36204e-01,
        2.430279e-01,
        1.8882129e-01,
        1.538386e-01,
        1.2955862e-01,
        1.1178696e-01,
        9.824509e-02,
        8.759758e-02,
        7.9013385e-02,
        7.194978e-02,
        6.6037945e-02,
        6.101883e-02,
        5.6705322e-02,
        5.2958976e-02,
    ],
    [
        0e+00,
        4.2107315e-10,
        1.00795505e-08,
        1.0221137e-09,
        -3.3591205e-09,
        5.2613682e-09,
        5.811827e-09,
        3.3256e-09,
        6.885332e-10,
        -1.0222282e-09,
        3.3241365e-09,
        -7.450665e-10,
        -3.2949232e-09,
        6.8789247e-10,
        -1.0619275e-09,
        1.5210752e-09,
    ],
    [
        -7.978845e-01,
        -2.74728e-01,
        -1.2547655e-01,
        -6.8800874e-02,
        -4.2599432e-02,
        -2.8691512e-02,
        -2.0532789e-02,
        -1.5375807e-02,
        -1.1923822e-02,
        -9.506362e-03,
        -7.750679e-03,
        -6.436989e-03,
        -5.429255e-03,
        -4.639784e-03,
        -4.010066e-03,
        -3.499891e-03,
    ],
    [
        4.9999824e-01,
        1.2421483e-01,
        4.2625498e-02,
        1.831265e-02,
        9.211782e-03,
        5.1905275e-03,
        3.1809476e-03,
        2.0781592e-03,
        1.4272606e-03,
        1.0201638e-03,
        7.533002e-04,
        5.7144935e-04,
        4.434414e-04,
        3.5081897e-04,
        2.8219828e-04,
        2.303078e-04,
    ],
    [
        -2.659322e-01,
        -5.017066e-02,
        -1.3408601e-02,
        -4.6209004e-03,
        -1.9173936e-03,
        -9.1294496e-04,
        -4.823726e-04,
        -2.7622315e-04,
        -1.6857314e-04,
        -1.08285276e-04,
        -7.255806e-05,
        -5.0347775e-05,
        -3.5988654e-05,
        -2.638033e-05,
        -1.9766147e-05,
        -1.5089226e-05,
    ],
    [
        1.2476294e-01,
        1.8498082e-02,
        3.9508054e-03,
        1.1122446e-03,
        3.8547057e-04,
        1.5642805e-04,
        7.168387e-05,
        3.6135392e-05,
        1.9657495e-05,
        1.1376094e-05,
        6.9281596e-06,
        4.4035583e-06,
        2.9018584e-06,
        1.972787e-06,
        1.3774101e-06,
        9.847203e-07,
    ],
    [
        -5.214389e-02,
        -6.3341805e-03,
        -1.100397e-03,
        -2.572746e-04,
        -7.53664e-05,
        -2.6246975e-05,
        -1.0418158e-05,
        -4.7074655e-06,
        -2.3032974e-06,
        -1.2539524e-06,
        -6.6119776e-07,
        -3.8879466e-07,
        -2.1527701e-07,
        -1.3819216e-07,
        -7.69684e-08,
        -7.7893624e-08,
    ],
    [
        1.8200194e-02,
        2.1167414e-03,
        3.0050514e-04,
        5.8270358e-05,
        1.4439928e-05,
        4.3226337e-06,
        1.5085251e-06,
        5.9560523e-07,
        2.5831622e-07,
        1.2119536e-07,
        6.118988e-08,
        3.2532302e-08,
        1.8781874e-08,
        1.07035145e-08,
        6.9623574e-09,
        4.2324118e-09,
    ],
    [
        -3.925623e-03,
        -6.25869e-04,
        -7.6276774e-05,
        -1.12953385e-05,
        -2.0469463e-06,
        -5.030854e-07,
        -2.804365e-07,
        3.315599e-08,
        5.2547698e-08,
        1.3519113e-07,
        5.3533267e-09,
        1.06039355e-08,
        -3.733892e-08,
        -1.8513438e-08,
        -3.9042323e-08,
        2.8559546e-08,
    ],
];

/// x Φ(x) = x/2 (1 + erf(x / sqrt 2)), ONNX Gelu with approximate="none". Within 2 ulp for all x, denormals of the
/// negative tail included.
///
/// With t = |x| the tail t Φ(-t) = t/2 e^(-t²/2) (2 Φ(-t) e^(t²/2)) is what the result lacks of max(x, 0). The square is
/// kept in two parts, for an error of its last place would be one of t² places in the result, and the last factor is
/// smooth, unlike 1 + erf, of which nothing is left where it counts.
#[inline(always)]
pub fn gelu_erf<S: Simd>(s: S, x: S::V) -> S::V {
    // Beyond 14.4 the tail is 0. The bound is the first operand: NaN passes through.
    let t = s.min(s.splat(14.4), s.abs(x));
    let half = s.mul(t, s.splat(0.5));
    let square = s.mul(t, half);
    let low = s.mul_low(t, half, square);
    // Adding 2^23 rounds to a whole number and leaves it in the lowest bits.
    let whole = s.splat(8_388_608.0);
    let at = s.add(t, whole);
    let d = s.sub(t, s.sub(at, whole));
    let at = s.to_bits(at);
    let mut q = s.lookup(&TAIL[8], at);
    for c in TAIL[1..8].iter().rev() {
        q = s.mul_add(q, d, s.lookup(c, at));
    }
    let q = s.add(s.lookup(&TAIL[0], at), q);
    let tail = product_times_exp(s, (half, q), s.neg(square), s.neg(low));
    s.sub(s.max(s.zero(), x), tail)
}

/// Where [`gelu_near`] takes Φ for 1.
const NEAR: f32 = 4.4;
/// Of (Φ(x) - 1/2) / x on |x| <= [`NEAR`], in powers of 2 (x / NEAR)² - 1, by the least error of x Φ(x), which is 2.5e-5,
/// among those that end in 1/2 at the bound.
const INNER: [f32; 9] = [
    1.604_044_1e-1,
    -7.861_234e-2,
    5.525_081_2e-2,
    -4.008_884_7e-2,
    2.680_025_8e-2,
    -1.597_806_4e-2,
    1.099_179_9e-2,
    -7.883_364e-3,
    2.751_705_5e-3,
];

/// x Φ(x) within 3e-5, and 1e-7 x where that is more: for products of fewer bits, whose numbers end at 4e-3 of their size. A
/// third of the work of [`gelu_erf`].
#[inline(always)]
pub fn gelu_near<S: Simd>(s: S, x: S::V) -> S::V {
    // The bounds are the first operands: NaN passes through.
    let x = s.max(s.splat(-NEAR), x);
    let c = s.min(s.splat(NEAR), x);
    let u = s.mul_add(s.mul(c, c), s.splat(2.0 / (NEAR * NEAR)), s.splat(-1.0));
    s.mul(x, s.mul_add(c, horner(s, &INNER, u), s.splat(0.5)))
}

/// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), ONNX Gelu with approximate="tanh". Within 2 ulp; results smaller than
/// 2^-119 may become 0.
///
/// Computed as x / (1 + e^-u), which has no cancellation, with u = 2 sqrt(2/pi) (x + 0.044715 x^3) in two parts.
#[inline(always)]
pub fn gelu_tanh<S: Simd>(s: S, x: S::V) -> S::V {
    // 2 sqrt(2/pi), and 0.044715 of it, in two parts each.
    const A: [f32; 2] = [1.5957692e+00, -4.534068e-08];
    const B: [f32; 2] = [7.1354814e-02, 2.3988325e-09];
    // Beyond 16 the sigmoid is 0 or 1; the bound keeps x^3 finite. NaN passes through.
    let c = s.max(s.splat(-16.0), s.min(s.splat(16.0), x));
    let square = s.mul(c, c);
    let square_low = s.mul_low(c, c, square);
    let b = s.mul(square, s.splat(B[0]));
    let b_low = s.mul_low(square, s.splat(B[0]), b);
    let b_low = s.mul_add(square, s.splat(B[1]), s.mul_add(square_low, s.splat(B[0]), b_low));
    // The sum of A and b, and what rounding took from it whichever is larger.
    let sum = s.add(s.splat(A[0]), b);
    let of_b = s.sub(sum, s.splat(A[0]));
    let sum_low = s.add(s.sub(s.splat(A[0]), s.sub(sum, of_b)), s.sub(b, of_b));
    let sum_low = s.add(sum_low, s.add(s.splat(A[1]), b_low));
    let u = s.mul(c, sum);
    let u_low = s.mul_add(c, sum_low, s.mul_low(c, sum, u));
    s.div(x, one_plus_exp(s, s.neg(u), Some(s.neg(u_low))))
}

/// x sigmoid(1.702 x), `quick_gelu` of transformers. Within 2 ulp; results smaller than 2^-119 may become 0.
#[inline(always)]
pub fn gelu_quick<S: Simd>(s: S, x: S::V) -> S::V {
    const Y: [f32; 2] = [1.702e+00, -2.193451e-08];
    // Beyond 64 the sigmoid is 0 or 1; the bound keeps the lower part finite. NaN passes through.
    let c = s.max(s.splat(-64.0), s.min(s.splat(64.0), x));
    let u = s.mul(c, s.splat(Y[0]));
    let u_low = s.mul_add(c, s.splat(Y[1]), s.mul_low(c, s.splat(Y[0]), u));
    s.div(x, one_plus_exp(s, s.neg(u), Some(s.neg(u_low))))
}
