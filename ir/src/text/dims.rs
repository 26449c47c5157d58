//! Reads dimension expressions and types; they print through `Display` of `Dim` and `TensorType`.

use super::ParseError;
use super::lexer::{Lexer, Placed, Token, error_at};
use crate::dim::{Dim, DimError};
use crate::dtype::DType;
use crate::types::TensorType;

/// Parentheses may nest so deep.
const MAX_NESTING: usize = 64;
/// A type may have so many axes.
const MAX_RANK: usize = 64;

/// `f32[batch, 2 * sequence]`.
pub(super) fn tensor_type(lx: &mut Lexer<'_>) -> Result<TensorType, ParseError> {
    let dtype = dtype(lx)?;
    let at = lx.place();
    let shape = dim_list(lx)?;
    if shape.len() > MAX_RANK {
        return Err(error_at(&at, format!("{} axes; at most {MAX_RANK} are allowed", shape.len())));
    }
    Ok(TensorType { dtype, shape })
}

/// An element type's name.
pub(super) fn dtype(lx: &mut Lexer<'_>) -> Result<DType, ParseError> {
    let at = lx.place();
    match lx.peek() {
        Token::Ident(s) => {
            let found: Result<DType, _> = s.parse();
            let found = found.map_err(|e| error_at(&at, e.to_string()))?;
            lx.next()?;
            Ok(found)
        }
        _ => Err(lx.expected("an element type")),
    }
}

/// `[a, b + 1, 3]`.
pub(super) fn dim_list(lx: &mut Lexer<'_>) -> Result<Vec<Dim>, ParseError> {
    list(lx, dim)
}

/// Anything in brackets, separated by commas.
pub(super) fn list<T>(
    lx: &mut Lexer<'_>,
    mut item: impl FnMut(&mut Lexer<'_>) -> Result<T, ParseError>,
) -> Result<Vec<T>, ParseError> {
    lx.punct('[')?;
    let mut out = Vec::new();
    if lx.eat(']')? {
        return Ok(out);
    }
    loop {
        out.push(item(lx)?);
        if lx.eat(']')? {
            return Ok(out);
        }
        if !lx.eat(',')? {
            return Err(lx.expected("`,` or `]`"));
        }
    }
}

/// A dimension expression.
pub(super) fn dim(lx: &mut Lexer<'_>) -> Result<Dim, ParseError> {
    sum(lx, 0)
}

fn computed(at: &Placed, r: Result<Dim, DimError>) -> Result<Dim, ParseError> {
    r.map_err(|e| error_at(at, e.to_string()))
}

fn sum(lx: &mut Lexer<'_>, depth: usize) -> Result<Dim, ParseError> {
    if depth > MAX_NESTING {
        return Err(lx.error(format!("parentheses nest deeper than {MAX_NESTING}")));
    }
    let negative = lx.eat('-')?;
    let mut total = product(lx, negative, depth)?;
    loop {
        let at = lx.place();
        let negative = match lx.peek() {
            Token::Punct('+') => false,
            Token::Punct('-') => true,
            _ => return Ok(total),
        };
        lx.next()?;
        let term = product(lx, negative, depth)?;
        total = computed(&at, total.add(&term))?;
    }
}

fn product(lx: &mut Lexer<'_>, negative: bool, depth: usize) -> Result<Dim, ParseError> {
    let at = lx.place();
    let first_is_number = matches!(lx.peek(), Token::Number(_));
    let mut out = factor(lx, negative, depth)?;
    if negative && !first_is_number {
        out = computed(&at, out.mul_const(-1))?;
    }
    loop {
        let at = lx.place();
        if lx.eat('*')? {
            let by = factor(lx, false, depth)?;
            out = computed(&at, out.mul(&by))?;
        } else if lx.eat('/')? {
            let by = factor(lx, false, depth)?;
            out = computed(&at, out.floor_div(&by))?;
        } else {
            return Ok(out);
        }
    }
}

/// A number (with its sign, so that the least i64 reads back), a symbol, `max(..)`, `min(..)` or parentheses.
fn factor(lx: &mut Lexer<'_>, negative: bool, depth: usize) -> Result<Dim, ParseError> {
    let at = lx.place();
    match lx.peek() {
        Token::Number(_) => Ok(Dim::constant(super::numbers::unsigned(lx, negative)?)),
        Token::Punct('(') => {
            lx.next()?;
            let inner = sum(lx, depth + 1)?;
            lx.punct(')')?;
            Ok(inner)
        }
        Token::Ident(_) | Token::Text(_) => {
            let quoted = matches!(lx.peek(), Token::Text(_));
            let name = lx.name("a symbol")?;
            if quoted || *lx.peek() != Token::Punct('(') {
                return Ok(Dim::symbol(&name));
            }
            if name != "max" && name != "min" {
                return Err(error_at(&at, format!("expected `max` or `min` before `(`, got `{name}`")));
            }
            lx.next()?;
            let a = sum(lx, depth + 1)?;
            lx.punct(',')?;
            let b = sum(lx, depth + 1)?;
            lx.punct(')')?;
            computed(&at, if name == "max" { a.maximum(&b) } else { a.minimum(&b) })
        }
        _ => Err(lx.expected("a number, a symbol or `(`")),
    }
}
