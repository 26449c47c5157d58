//! The functions on blocks of f32 in the instruction set's vectors. Broadcasting and chains are elsewhere.

use super::{Binary, Unary};
use crate::math;
use crate::simd::Simd;

/// `dst[i] = expression(x)` over a block, whole vectors first and then the rest.
macro_rules! each {
    ($s:ident, $n:ident, $dst:ident, [$($src:ident),+], $e:expr) => {{
        let mut i = 0;
        while i + S::LANES <= $n {
            // SAFETY: i + LANES <= n elements are in every operand, by the caller's promise.
            unsafe {
                $( let $src = $s.load($src.add(i)); )+
                $s.store($dst.add(i), $e);
            }
            i += S::LANES;
        }
        if i < $n {
            // SAFETY: the n - i < LANES elements left are in every operand.
            unsafe {
                $( let $src = $s.load_part($src.add(i), $n - i); )+
                $s.store_part($dst.add(i), $n - i, $e);
            }
        }
    }};
}

/// `dst[i] = f(x[i])` one by one, for functions without a vector form.
macro_rules! one_by_one {
    ($n:ident, $dst:ident, [$($src:ident),+], $e:expr) => {
        for i in 0..$n {
            // SAFETY: i < n elements are in every operand, by the caller's promise.
            unsafe {
                $( let $src = *$src.add(i); )+
                *$dst.add(i) = $e;
            }
        }
    };
}

/// Applies `f` to `n` elements.
/// # Safety
/// `x` and `dst` hold `n` elements; they are the same place or do not overlap.
#[inline(always)]
pub(super) unsafe fn unary<S: Simd>(s: S, f: Unary, n: usize, x: *const f32, dst: *mut f32) {
    let one = s.splat(1.0);
    match f {
        Unary::Abs => each!(s, n, dst, [x], s.abs(x)),
        Unary::Neg => each!(s, n, dst, [x], s.neg(x)),
        Unary::Sign => each!(s, n, dst, [x], {
            let positive = s.select(s.lt(s.zero(), x), one, x);
            s.select(s.lt(x, s.zero()), s.splat(-1.0), positive)
        }),
        Unary::Exp => each!(s, n, dst, [x], math::exp(s, x)),
        Unary::Log => each!(s, n, dst, [x], math::log(s, x)),
        Unary::Sqrt => each!(s, n, dst, [x], s.sqrt(x)),
        Unary::Reciprocal => each!(s, n, dst, [x], s.div(one, x)),
        Unary::Erf => each!(s, n, dst, [x], math::erf(s, x)),
        Unary::Tanh => each!(s, n, dst, [x], math::tanh(s, x)),
        Unary::Sigmoid => each!(s, n, dst, [x], math::sigmoid(s, x)),
        Unary::Relu => each!(s, n, dst, [x], math::relu(s, x)),
        Unary::LeakyRelu(a) => each!(s, n, dst, [x], s.select(s.lt(x, s.zero()), s.mul(x, s.splat(a)), x)),
        Unary::Elu(a) => one_by_one!(n, dst, [x], if x < 0.0 { a * x.exp_m1() } else { x }),
        Unary::HardSigmoid(a, b) => {
            each!(s, n, dst, [x], s.max(s.zero(), s.min(one, s.mul_add(x, s.splat(a), s.splat(b)))))
        }
        Unary::HardSwish => each!(s, n, dst, [x], math::hard_swish(s, x)),
        Unary::Silu => each!(s, n, dst, [x], math::silu(s, x)),
        Unary::GeluErf => each!(s, n, dst, [x], math::gelu_erf(s, x)),
        Unary::GeluTanh => each!(s, n, dst, [x], math::gelu_tanh(s, x)),
        Unary::GeluQuick => each!(s, n, dst, [x], math::gelu_quick(s, x)),
        Unary::Softplus => one_by_one!(n, dst, [x], x.max(0.0) + (-x.abs()).exp().ln_1p()),
        Unary::Softsign => each!(s, n, dst, [x], s.div(x, s.add(one, s.abs(x)))),
        Unary::Sin => one_by_one!(n, dst, [x], x.sin()),
        Unary::Cos => one_by_one!(n, dst, [x], x.cos()),
        Unary::Acos => each!(s, n, dst, [x], math::acos(s, x)),
        Unary::Floor => each!(s, n, dst, [x], s.floor(x)),
        Unary::Ceil => each!(s, n, dst, [x], s.ceil(x)),
        Unary::Round => each!(s, n, dst, [x], s.round(x)),
        Unary::Not => each!(s, n, dst, [x], s.select(s.eq(x, s.zero()), one, s.zero())),
        Unary::IsNaN => each!(s, n, dst, [x], s.select(s.eq(x, x), s.zero(), one)),
        Unary::Other(f) => {
            one_by_one!(n, dst, [x], frit_ir::op::float_unary(f, f64::from(x)) as f32)
        }
    }
}

/// Applies `f` to `n` pairs.
/// # Safety
/// `x`, `y` and `dst` hold `n` elements; `dst` is the same place as another or does not overlap it.
#[inline(always)]
pub(super) unsafe fn binary<S: Simd>(s: S, f: Binary, n: usize, x: *const f32, y: *const f32, dst: *mut f32) {
    let one = s.splat(1.0);
    let zero = s.zero();
    match f {
        Binary::Add => each!(s, n, dst, [x, y], s.add(x, y)),
        Binary::Sub => each!(s, n, dst, [x, y], s.sub(x, y)),
        Binary::Mul => each!(s, n, dst, [x, y], s.mul(x, y)),
        Binary::Div => each!(s, n, dst, [x, y], s.div(x, y)),
        Binary::Pow => one_by_one!(n, dst, [x, y], pow(x, y)),
        // min and max give y when either is NaN; what is left is an x that is NaN.
        Binary::Min => each!(s, n, dst, [x, y], s.select(s.eq(x, x), s.min(x, y), x)),
        Binary::Max => each!(s, n, dst, [x, y], s.select(s.eq(x, x), s.max(x, y), x)),
        Binary::Mod => one_by_one!(n, dst, [x, y], super::wide::floor_mod(f64::from(x), f64::from(y)) as f32),
        Binary::And => {
            each!(s, n, dst, [x, y], s.select(s.eq(x, zero), zero, s.select(s.eq(y, zero), zero, one)))
        }
        Binary::Or => {
            each!(s, n, dst, [x, y], s.select(s.eq(x, zero), s.select(s.eq(y, zero), zero, one), one))
        }
        Binary::Xor => each!(s, n, dst, [x, y], {
            let y1 = s.select(s.eq(y, zero), zero, one);
            s.select(s.eq(x, zero), y1, s.sub(one, y1))
        }),
        Binary::Equal => each!(s, n, dst, [x, y], s.select(s.eq(x, y), one, zero)),
        Binary::Less => each!(s, n, dst, [x, y], s.select(s.lt(x, y), one, zero)),
        Binary::LessOrEqual => {
            each!(s, n, dst, [x, y], s.select(s.lt(x, y), one, s.select(s.eq(x, y), one, zero)))
        }
        Binary::Greater => each!(s, n, dst, [x, y], s.select(s.lt(y, x), one, zero)),
        Binary::GreaterOrEqual => {
            each!(s, n, dst, [x, y], s.select(s.lt(y, x), one, s.select(s.eq(x, y), one, zero)))
        }
    }
}

/// `dst = c != 0 ? x : y` on `n` elements.
/// # Safety
/// All four hold `n` elements; `dst` is the same place as another or does not overlap it.
#[inline(always)]
pub(super) unsafe fn select<S: Simd>(
    s: S,
    n: usize,
    c: *const f32,
    x: *const f32,
    y: *const f32,
    dst: *mut f32,
) {
    let zero = s.zero();
    each!(s, n, dst, [c, x, y], s.select(s.eq(c, zero), y, x));
}

/// x to the y with the common exponents exact.
fn pow(x: f32, y: f32) -> f32 {
    if y == 2.0 {
        x * x
    } else if y == 3.0 {
        x * x * x
    } else {
        x.powf(y)
    }
}
