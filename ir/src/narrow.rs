//! The storage types: integers of 2 and 4 bits and floats of 4 and 8 bits, one byte an element. Their codes as numbers
//! and numbers as their codes, exactly. No tensors and no arithmetic belong here.

use crate::attr_enum;
use crate::dtype::DType;

attr_enum! {
    /// How a number between two powers of two becomes one: of use for [`DType::F8E8M0`] alone.
    pub enum RoundMode {
        /// To the next power of two upwards.
        Up = "up",
        /// To the next power of two downwards.
        Down = "down",
        /// To the nearer; from the middle upwards.
        Nearest = "nearest",
    }
}

/// What a conversion does about numbers that the target does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounding {
    /// Numbers beyond the largest finite one become it; otherwise infinity, or NaN where there is none.
    pub saturate: bool,
    /// For powers of two.
    pub mode: RoundMode,
}

impl Default for Rounding {
    fn default() -> Self {
        Rounding { saturate: true, mode: RoundMode::Up }
    }
}

/// A float format with sign, exponent and mantissa in one byte.
#[derive(Clone, Copy)]
struct Format {
    mantissa: u32,
    bias: i32,
    /// The code of the largest finite number.
    largest: u8,
    /// The code of infinity, where there is one.
    infinity: Option<u8>,
    /// The code that NaN becomes.
    nan: u8,
    /// Every code beyond the largest is NaN (or infinity); otherwise `nan` alone is.
    sign: u8,
    /// NaN takes the place of minus zero.
    unsigned_zero: bool,
}

const E4M3FN: Format = Format {
    mantissa: 3,
    bias: 7,
    largest: 0x7e,
    infinity: None,
    nan: 0x7f,
    sign: 0x80,
    unsigned_zero: false,
};
const E4M3FNUZ: Format = Format { bias: 8, largest: 0x7f, nan: 0x80, unsigned_zero: true, ..E4M3FN };
const E5M2: Format =
    Format { mantissa: 2, bias: 15, largest: 0x7b, infinity: Some(0x7c), nan: 0x7e, ..E4M3FN };
const E5M2FNUZ: Format = Format { mantissa: 2, bias: 16, ..E4M3FNUZ };
/// Has no NaN: it becomes minus zero.
const E2M1: Format = Format {
    mantissa: 1,
    bias: 1,
    largest: 0x07,
    infinity: None,
    nan: 0x08,
    sign: 0x08,
    unsigned_zero: false,
};

fn format(dtype: DType) -> Option<Format> {
    Some(match dtype {
        DType::F8E4M3FN => E4M3FN,
        DType::F8E4M3FNUZ => E4M3FNUZ,
        DType::F8E5M2 => E5M2,
        DType::F8E5M2FNUZ => E5M2FNUZ,
        DType::F4E2M1 => E2M1,
        _ => return None,
    })
}

/// The number that a code stands for. Bits that the type does not have are ignored; None for other types.
pub fn decode(dtype: DType, code: u8) -> Option<f64> {
    Some(match dtype {
        DType::I4 => f64::from(((code << 4) as i8) >> 4),
        DType::I2 => f64::from(((code << 6) as i8) >> 6),
        DType::U4 => f64::from(code & 15),
        DType::U2 => f64::from(code & 3),
        DType::F8E8M0 if code == 0xff => f64::NAN,
        DType::F8E8M0 => power_of_two(i32::from(code) - 127),
        _ => decode_float(format(dtype)?, code),
    })
}

/// The code of a number: rounded to nearest, halves to even; integers are truncated and wrap. None for other types.
pub fn encode(dtype: DType, x: f64, rounding: Rounding) -> Option<u8> {
    Some(match dtype {
        DType::I4 | DType::I2 | DType::U4 | DType::U2 => return encode_int(dtype, x as i64),
        DType::F8E8M0 => encode_power(x as f32, rounding),
        _ => encode_float(format(dtype)?, x, rounding.saturate),
    })
}

/// The code of an integer: its low bits, sign-extended to the byte in signed types. None for types that are no
/// integers.
pub fn encode_int(dtype: DType, x: i64) -> Option<u8> {
    let [low, ..] = x.to_le_bytes();
    Some(match dtype {
        DType::I4 => (((low << 4) as i8) >> 4) as u8,
        DType::I2 => (((low << 6) as i8) >> 6) as u8,
        DType::U4 => low & 15,
        DType::U2 => low & 3,
        _ => return None,
    })
}

fn power_of_two(exponent: i32) -> f64 {
    2f64.powi(exponent)
}

fn decode_float(f: Format, code: u8) -> f64 {
    let magnitude = code & (f.sign - 1);
    let negative = code & f.sign != 0;
    let value = if f.unsigned_zero && magnitude == 0 && negative {
        return f64::NAN;
    } else if f.infinity == Some(magnitude) {
        f64::INFINITY
    } else if magnitude > f.largest {
        f64::NAN
    } else {
        let one = 1u8 << f.mantissa;
        let exponent = i32::from(magnitude >> f.mantissa);
        let fraction = magnitude & (one - 1);
        let units = if exponent == 0 { fraction } else { fraction + one };
        f64::from(units) * power_of_two(exponent.max(1) - f.bias - f.mantissa as i32)
    };
    if negative { -value } else { value }
}

fn encode_float(f: Format, x: f64, saturate: bool) -> u8 {
    let sign = if x.is_sign_negative() { f.sign } else { 0 };
    if x.is_nan() {
        return if f.unsigned_zero || f.sign != 0x80 { f.nan } else { f.nan | sign };
    }
    let a = x.abs();
    // Beyond any format's range, and without an exponent of its own.
    let a = if a.is_infinite() { 1e300 } else { a };
    let lowest = 1 - f.bias;
    // The exponent by the bits; what is below the lowest shares its spacing, and so do f64's subnormals.
    let exponent = ((a.to_bits() >> 52) as i32 - 1023).max(lowest);
    let spacing = exponent - f.mantissa as i32;
    let units = (a * power_of_two(-spacing)).round_ties_even();
    // A carry out of the mantissa is the next exponent's first code.
    let code = (f64::from(exponent - lowest) * f64::from(1u32 << f.mantissa) + units) as u32;
    let largest = u32::from(f.largest);
    if code > largest {
        return match (saturate || f.sign != 0x80, f.infinity) {
            (true, _) => f.largest | sign,
            (false, Some(infinity)) => infinity | sign,
            (false, None) if f.unsigned_zero => f.nan,
            (false, None) => f.nan | sign,
        };
    }
    if code == 0 && f.unsigned_zero { 0 } else { code as u8 | sign }
}

/// The exponent alone, of a single: the sign is not kept, and numbers below its normal range lie between the codes 0
/// and 1.
fn encode_power(x: f32, rounding: Rounding) -> u8 {
    let bits = x.to_bits();
    let exponent = ((bits >> 23) & 0xff) as u8;
    let fraction = bits & 0x7f_ffff;
    let half = 0x40_0000;
    let up = match rounding.mode {
        RoundMode::Up => fraction > 0,
        RoundMode::Down => false,
        RoundMode::Nearest => fraction > half || (fraction == half && exponent > 0),
    };
    match exponent {
        0xff => 0xff,
        0xfe if rounding.saturate => 0xfe,
        _ => exponent + u8::from(up),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What ml_dtypes and onnx.numpy_helper say: lines of `decode TYPE` with every code's number as bits of an f32, and
    /// of `encode TYPE OPTION` with bits of an f32 and the code, by turns.
    const TABLES: &str = include_str!("../tests/narrow_codes.txt");

    #[test]
    fn every_code_and_rounding_is_that_of_the_tables() {
        let (mut decoded, mut encoded) = (0, 0);
        for line in TABLES.lines() {
            let mut words = line.split(' ');
            let kind = words.next().unwrap();
            let dtype: DType = words.next().unwrap().parse().unwrap();
            if kind == "decode" {
                for (code, word) in (0u8..=255).zip(words) {
                    let expected = f32::from_bits(u32::from_str_radix(word, 16).unwrap());
                    let got = decode(dtype, code).unwrap();
                    let same =
                        got == f64::from(expected) && got.is_sign_negative() == expected.is_sign_negative();
                    assert!(same || got.is_nan() && expected.is_nan(), "{dtype} {code:#x}: {got} {expected}");
                    decoded += 1;
                }
                continue;
            }
            let rounding = match words.next().unwrap() {
                "saturate" => Rounding::default(),
                "free" => Rounding { saturate: false, ..Rounding::default() },
                mode => Rounding { saturate: true, mode: RoundMode::from_word(mode).unwrap() },
            };
            let words: Vec<_> = words.collect();
            for pair in words.chunks(2) {
                let x = f32::from_bits(u32::from_str_radix(pair[0], 16).unwrap());
                let expected = u8::from_str_radix(pair[1], 16).unwrap();
                let got = encode(dtype, f64::from(x), rounding).unwrap();
                let both_nan =
                    decode(dtype, got).unwrap().is_nan() && decode(dtype, expected).unwrap().is_nan();
                assert!(got == expected || both_nan, "{dtype} {rounding:?} {x}: {got:#x}, {expected:#x}");
                encoded += 1;
            }
        }
        assert_eq!((decoded, encoded), (5 * 256 + 16 * 3 + 8, 3980));
    }

    #[test]
    fn every_code_is_its_own_encoding() {
        for dtype in DType::ALL.into_iter().filter(|d| d.is_narrow()) {
            for code in 0..=255 {
                let x = decode(dtype, code).unwrap();
                let again = encode(dtype, x, Rounding { saturate: false, mode: RoundMode::Down }).unwrap();
                let y = decode(dtype, again).unwrap();
                assert!(x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan(), "{dtype} {code} {x} {y}");
            }
        }
    }
}
