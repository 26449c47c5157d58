//! Numbers in text: integers, floats, and the elements of small weights, exact in both directions.

use super::ParseError;
use super::lexer::{Lexer, Token, error_at};
use crate::dtype::DType;
use crate::narrow::{self, RoundMode, Rounding};
use crate::tensor::Tensor;
use std::fmt::Write;

/// An unsigned integer token, negated when its sign was read before it.
pub(super) fn unsigned(lx: &mut Lexer<'_>, negative: bool) -> Result<i64, ParseError> {
    let place = lx.place();
    let Token::Number(s) = lx.next()?.token else { return Err(error_at(&place, "expected an integer")) };
    let magnitude: i128 =
        s.parse().map_err(|_| error_at(&place, format!("expected an integer, got `{s}`")))?;
    i64::try_from(if negative { -magnitude } else { magnitude })
        .map_err(|_| error_at(&place, format!("{s} does not fit 64 bits")))
}

/// An integer with an optional sign.
pub(super) fn integer(lx: &mut Lexer<'_>) -> Result<i64, ParseError> {
    let negative = lx.eat('-')?;
    match lx.peek() {
        Token::Number(_) => unsigned(lx, negative),
        _ => Err(lx.expected("an integer")),
    }
}

/// A number with an optional sign, `inf` or `nan`.
pub(super) fn float(lx: &mut Lexer<'_>) -> Result<f64, ParseError> {
    let negative = lx.eat('-')?;
    let place = lx.place();
    let magnitude = match lx.peek() {
        Token::Number(s) => {
            s.parse().map_err(|_| error_at(&place, format!("expected a number, got `{s}`")))?
        }
        Token::Ident(s) if s == "inf" => f64::INFINITY,
        Token::Ident(s) if s == "nan" => f64::NAN,
        _ => return Err(lx.expected("a number")),
    };
    lx.next()?;
    Ok(if negative { -magnitude } else { magnitude })
}

/// A float as `float` reads it back.
pub(super) fn write_float(out: &mut String, x: f64) {
    if x.is_nan() {
        out.push_str("nan");
    } else if x.is_infinite() {
        out.push_str(if x > 0.0 { "inf" } else { "-inf" });
    } else {
        let _ = write!(out, "{x:?}");
    }
}

/// The elements of a small weight, one bare or several in brackets.
pub(super) fn write_elements(out: &mut String, t: &Tensor) {
    let size = t.dtype().size();
    let scalar = t.shape().is_empty();
    if !scalar {
        out.push('[');
    }
    for (i, bytes) in t.bytes().chunks_exact(size).enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write_element(out, t.dtype(), bytes);
    }
    if !scalar {
        out.push(']');
    }
}

fn bits(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b))
}

fn write_element(out: &mut String, dtype: DType, bytes: &[u8]) {
    if let Some(x) = narrow_number(dtype, bytes) {
        if dtype.is_narrow_int() {
            let _ = write!(out, "{x}");
        } else {
            write_float(out, x);
        }
        return;
    }
    let _ = match Tensor::from_bytes(dtype, &[], bytes) {
        Ok(t) if dtype == DType::Bool && bytes.iter().all(|&b| b < 2) => {
            write!(out, "{}", t.bytes() == [1])
        }
        // The shortest decimal that reads back as the same f32 also reads back as the same half.
        Ok(t) if dtype.is_float() && t.to_f64_vec().iter().all(|x| !x.is_nan()) => {
            let x = t.to_f64_vec().first().copied().unwrap_or(0.0);
            if dtype == DType::F64 || x.is_infinite() {
                write_float(out, x);
                Ok(())
            } else {
                write!(out, "{:?}", x as f32)
            }
        }
        Ok(t) if dtype.is_float() && canonical_nan(dtype).is_some_and(|n| n.bytes() == t.bytes()) => {
            write!(out, "nan")
        }
        Ok(t) if dtype.is_int() && dtype != DType::U64 => {
            write!(out, "{}", t.to_i64_vec().first().copied().unwrap_or(0))
        }
        Ok(_) if dtype == DType::U64 => write!(out, "{}", bits(bytes)),
        _ => write!(out, "{:#x}", bits(bytes)),
    };
}

/// Storage types read what is written exactly, infinity included.
const EXACT: Rounding = Rounding { saturate: false, mode: RoundMode::Down };

/// The number of a storage type's code, where that is the number's only code.
fn narrow_number(dtype: DType, bytes: &[u8]) -> Option<f64> {
    let code = *bytes.first()?;
    narrow::decode(dtype, code).filter(|&x| !x.is_nan() && narrow::encode(dtype, x, EXACT) == Some(code))
}

fn canonical_nan(dtype: DType) -> Option<Tensor> {
    Tensor::from_f64(dtype, &[], &[f64::NAN]).ok()
}

/// One element of a weight as its bytes.
pub(super) fn element(lx: &mut Lexer<'_>, dtype: DType) -> Result<Vec<u8>, ParseError> {
    let place = lx.place();
    let raw = |bits: u64| -> Option<Vec<u8>> {
        let bytes = bits.to_le_bytes();
        let (kept, lost) = bytes.split_at_checked(dtype.size())?;
        lost.iter().all(|&b| b == 0).then(|| kept.to_vec())
    };
    let too_wide = || error_at(&place, format!("the number does not fit {dtype}"));
    if let Token::Number(s) = lx.peek()
        && let Some(hex) = s.strip_prefix("0x")
    {
        let bytes = u64::from_str_radix(hex, 16).ok().and_then(raw).ok_or_else(too_wide)?;
        lx.next()?;
        return Ok(bytes);
    }
    if dtype == DType::Bool {
        let value = lx.eat_word("true")?;
        if !value && !lx.eat_word("false")? {
            return Err(lx.expected("`true` or `false`"));
        }
        return Ok(vec![u8::from(value)]);
    }
    if dtype == DType::U64 {
        let Token::Number(s) = lx.peek() else { return Err(lx.expected("an unsigned integer")) };
        let bytes = s.parse().ok().and_then(raw).ok_or_else(too_wide)?;
        lx.next()?;
        return Ok(bytes);
    }
    if dtype.is_narrow() && !dtype.is_narrow_int() {
        let x = float(lx)?;
        return narrow::encode(dtype, x, EXACT).map(|code| vec![code]).ok_or_else(too_wide);
    }
    let made = if dtype.is_float() {
        let negative = lx.eat('-')?;
        // f32 reads its own decimals: rounding through f64 first could differ in the last bit.
        let single = match lx.peek() {
            Token::Number(s) if dtype == DType::F32 => s.parse::<f32>().ok(),
            _ => None,
        };
        let x = match single {
            Some(x) => {
                lx.next()?;
                f64::from(x)
            }
            None => float(lx)?,
        };
        Tensor::from_f64(dtype, &[], &[if negative { -x } else { x }])
    } else {
        let n = integer(lx)?;
        let t = Tensor::from_i64(dtype, &[], &[n]);
        if t.as_ref().is_ok_and(|t| t.to_i64_vec() != [n]) {
            return Err(too_wide());
        }
        t
    };
    Ok(made.map_err(|e| error_at(&place, e.to_string()))?.bytes().to_vec())
}
