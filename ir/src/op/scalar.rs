//! What the elementwise functions compute, on single numbers. No tensors belong here.

use super::{BinaryFn, UnaryFn};

/// The function on one number, in double precision.
pub fn float_unary(f: UnaryFn, x: f64) -> f64 {
    match f {
        UnaryFn::Abs => x.abs(),
        UnaryFn::Neg => -x,
        UnaryFn::Sign => {
            if x == 0.0 || x.is_nan() {
                x
            } else {
                x.signum()
            }
        }
        UnaryFn::Exp => x.exp(),
        UnaryFn::Log => x.ln(),
        UnaryFn::Sqrt => x.sqrt(),
        UnaryFn::Reciprocal => x.recip(),
        UnaryFn::Erf => erf(x),
        UnaryFn::Tanh => x.tanh(),
        UnaryFn::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        UnaryFn::Relu => {
            if x > 0.0 || x.is_nan() {
                x
            } else {
                0.0
            }
        }
        UnaryFn::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        UnaryFn::Softsign => x / (1.0 + x.abs()),
        UnaryFn::Sin => x.sin(),
        UnaryFn::Cos => x.cos(),
        UnaryFn::Tan => x.tan(),
        UnaryFn::Acos => x.acos(),
        UnaryFn::Asin => x.asin(),
        UnaryFn::Atan => x.atan(),
        UnaryFn::Sinh => x.sinh(),
        UnaryFn::Cosh => x.cosh(),
        UnaryFn::Asinh => x.asinh(),
        UnaryFn::Acosh => x.acosh(),
        UnaryFn::Atanh => x.atanh(),
        UnaryFn::Floor => x.floor(),
        UnaryFn::Ceil => x.ceil(),
        UnaryFn::Round => x.round_ties_even(),
        UnaryFn::Not => f64::from(u8::from(x == 0.0)),
        UnaryFn::IsNaN => f64::from(u8::from(x.is_nan())),
        UnaryFn::IsInf => f64::from(u8::from(x.is_infinite())),
        // Floats are refused by their type.
        UnaryFn::BitwiseNot => x,
    }
}

/// The function on one integer; absolute value and negation wrap.
pub fn int_unary(f: UnaryFn, x: i64) -> i64 {
    match f {
        UnaryFn::Abs => x.wrapping_abs(),
        UnaryFn::Neg => x.wrapping_neg(),
        UnaryFn::Sign => x.signum(),
        UnaryFn::Relu => x.max(0),
        UnaryFn::Not => i64::from(x == 0),
        UnaryFn::BitwiseNot => !x,
        other => float_unary(other, x as f64) as i64,
    }
}

/// The error function in double precision: the Maclaurin series near zero, a continued fraction for erfc beyond.
pub fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let a = x.abs();
    let y = if a < 2.5 {
        let mut term = a;
        let mut sum = a;
        let mut n = 0.0;
        while term.abs() > 1e-18 * sum.abs() && n < 200.0 {
            n += 1.0;
            term *= -a * a / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else if a < 6.0 {
        let mut cf = 0.0;
        for k in (1..=60).rev() {
            cf = f64::from(k) / 2.0 / (a + cf);
        }
        1.0 - (-a * a).exp() / ((a + cf) * std::f64::consts::PI.sqrt())
    } else {
        1.0
    };
    y.copysign(x)
}

/// The function on one pair, in double precision; truth values are 0 and 1.
pub fn float_binary(f: BinaryFn, x: f64, y: f64) -> f64 {
    let truth = |b: bool| f64::from(u8::from(b));
    match f {
        BinaryFn::Add => x + y,
        BinaryFn::Sub => x - y,
        BinaryFn::Mul => x * y,
        BinaryFn::Div => x / y,
        BinaryFn::Pow => x.powf(y),
        BinaryFn::Min => {
            if x.is_nan() || y.is_nan() {
                f64::NAN
            } else {
                x.min(y)
            }
        }
        BinaryFn::Max => {
            if x.is_nan() || y.is_nan() {
                f64::NAN
            } else {
                x.max(y)
            }
        }
        BinaryFn::Mod => {
            let r = x % y;
            if r != 0.0 && ((r < 0.0) != (y < 0.0)) { r + y } else { r }
        }
        // Floats are refused by their type.
        BinaryFn::BitwiseAnd
        | BinaryFn::BitwiseOr
        | BinaryFn::BitwiseXor
        | BinaryFn::ShiftLeft
        | BinaryFn::ShiftRight => f64::NAN,
        BinaryFn::And => truth(x != 0.0 && y != 0.0),
        BinaryFn::Or => truth(x != 0.0 || y != 0.0),
        BinaryFn::Xor => truth((x != 0.0) != (y != 0.0)),
        BinaryFn::Equal => truth(x == y),
        BinaryFn::Less => truth(x < y),
        BinaryFn::LessOrEqual => truth(x <= y),
        BinaryFn::Greater => truth(x > y),
        BinaryFn::GreaterOrEqual => truth(x >= y),
    }
}

/// The function on one pair of integers; sums and products wrap, division by zero must be refused before.
pub fn int_binary(f: BinaryFn, x: i64, y: i64) -> i64 {
    match f {
        BinaryFn::Add => x.wrapping_add(y),
        BinaryFn::Sub => x.wrapping_sub(y),
        BinaryFn::Mul => x.wrapping_mul(y),
        BinaryFn::Div => x.checked_div(y).unwrap_or(0),
        BinaryFn::Pow => {
            u32::try_from(y).map_or_else(|_| (x as f64).powf(y as f64) as i64, |y| x.wrapping_pow(y))
        }
        BinaryFn::Min => x.min(y),
        BinaryFn::Max => x.max(y),
        BinaryFn::Mod => {
            x.checked_rem(y).map_or(0, |r| if r != 0 && ((r < 0) != (y < 0)) { r + y } else { r })
        }
        BinaryFn::BitwiseAnd => x & y,
        BinaryFn::BitwiseOr => x | y,
        BinaryFn::BitwiseXor => x ^ y,
        BinaryFn::ShiftLeft => u32::try_from(y).ok().and_then(|y| x.checked_shl(y)).unwrap_or(0),
        BinaryFn::ShiftRight => {
            u32::try_from(y).ok().and_then(|y| x.cast_unsigned().checked_shr(y)).unwrap_or(0).cast_signed()
        }
        BinaryFn::And => i64::from(x != 0 && y != 0),
        BinaryFn::Or => i64::from(x != 0 || y != 0),
        BinaryFn::Xor => i64::from((x != 0) != (y != 0)),
        BinaryFn::Equal => i64::from(x == y),
        BinaryFn::Less => i64::from(x < y),
        BinaryFn::LessOrEqual => i64::from(x <= y),
        BinaryFn::Greater => i64::from(x > y),
        BinaryFn::GreaterOrEqual => i64::from(x >= y),
    }
}

/// The function on one pair of u64 numbers, given and returned by their bits.
pub fn unsigned_binary(f: BinaryFn, x: i64, y: i64) -> i64 {
    let (a, b) = (x.cast_unsigned(), y.cast_unsigned());
    match f {
        BinaryFn::Div => a.checked_div(b).unwrap_or(0).cast_signed(),
        BinaryFn::Mod => a.checked_rem(b).unwrap_or(0).cast_signed(),
        BinaryFn::Min => a.min(b).cast_signed(),
        BinaryFn::Max => a.max(b).cast_signed(),
        BinaryFn::Less => i64::from(a < b),
        BinaryFn::LessOrEqual => i64::from(a <= b),
        BinaryFn::Greater => i64::from(a > b),
        BinaryFn::GreaterOrEqual => i64::from(a >= b),
        other => int_binary(other, x, y),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders_are_exact_and_have_the_divisors_sign() {
        assert_eq!(float_binary(BinaryFn::Mod, 1e17, 3.0), 1e17 % 3.0);
        assert_eq!(float_binary(BinaryFn::Mod, -1.0, 3.0), 2.0);
        assert_eq!(float_binary(BinaryFn::Mod, 1.0, -3.0), -2.0);
        assert_eq!(int_binary(BinaryFn::Mod, -7, 3), 2);
        assert_eq!(unsigned_binary(BinaryFn::Mod, -1, 10), 5);
    }

    #[test]
    fn bits_shift_out_and_large_numbers_are_positive() {
        assert_eq!(int_binary(BinaryFn::ShiftLeft, 1, 64), 0);
        assert_eq!(int_binary(BinaryFn::ShiftRight, -1, 63), 1);
        assert_eq!(unsigned_binary(BinaryFn::Less, 1, -1), 1);
        assert_eq!(unsigned_binary(BinaryFn::Div, -1, 2), i64::MAX);
        assert_eq!(int_unary(UnaryFn::BitwiseNot, 5), -6);
    }
}
