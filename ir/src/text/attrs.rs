//! Reads and prints attributes by the kinds that the op table declares.

use super::ParseError;
use super::dims::{dim, dim_list, dtype, list, tensor_type};
use super::lexer::{Lexer, Token};
use super::numbers::{float, integer, write_float};
use crate::name::Quoted;
use crate::op::{Attr, AttrSpec, Op};
use std::fmt::Write;

/// Lists may nest so deep.
const MAX_NESTING: usize = 16;

/// A value of the declared kind.
pub(super) fn value(lx: &mut Lexer<'_>, spec: &AttrSpec) -> Result<Attr, ParseError> {
    let choice = spec.kind.starts_with("one of");
    if !choice && lx.eat_word("none")? {
        return Ok(Attr::Absent);
    }
    match spec.kind {
        "integer" => Ok(Attr::Int(integer(lx)?)),
        "number" => Ok(Attr::Float(float(lx)?)),
        "bool" if lx.eat_word("true")? => Ok(Attr::Bool(true)),
        "bool" if lx.eat_word("false")? => Ok(Attr::Bool(false)),
        "bool" => Err(lx.expected("`true` or `false`")),
        "string" => text(lx),
        "dtype" => Ok(Attr::DType(dtype(lx)?)),
        "integers" => Ok(Attr::Ints(list(lx, integer)?)),
        "numbers" => Ok(Attr::Floats(list(lx, float)?)),
        "dims" => Ok(Attr::Dims(dim_list(lx)?)),
        "dim" => Ok(Attr::Dims(vec![dim(lx)?])),
        "types" => Ok(Attr::Types(list(lx, tensor_type)?)),
        _ if choice => Ok(Attr::Str(lx.name(spec.kind)?)),
        _ => any(lx, 0),
    }
}

fn text(lx: &mut Lexer<'_>) -> Result<Attr, ParseError> {
    match lx.peek() {
        Token::Text(s) => {
            let s = s.clone();
            lx.next()?;
            Ok(Attr::Str(s))
        }
        _ => Err(lx.expected("quoted text")),
    }
}

/// A member of a list of anything.
fn any(lx: &mut Lexer<'_>, depth: usize) -> Result<Attr, ParseError> {
    if depth > MAX_NESTING {
        return Err(lx.error(format!("lists nest deeper than {MAX_NESTING}")));
    }
    match lx.peek() {
        Token::Punct('[') => Ok(Attr::List(list(lx, |lx| any(lx, depth + 1))?)),
        Token::Text(_) => text(lx),
        Token::Ident(s) if s == "true" || s == "false" => {
            let value = s == "true";
            lx.next()?;
            Ok(Attr::Bool(value))
        }
        Token::Ident(s) if s == "inf" || s == "nan" => Ok(Attr::Float(float(lx)?)),
        Token::Ident(_) => Ok(Attr::DType(dtype(lx)?)),
        Token::Number(s) if s.contains(['.', 'e', 'E']) => Ok(Attr::Float(float(lx)?)),
        Token::Number(_) => Ok(Attr::Int(integer(lx)?)),
        Token::Punct('-') => {
            lx.next()?;
            match any(lx, MAX_NESTING)? {
                Attr::Float(x) => Ok(Attr::Float(-x)),
                Attr::Int(n) => {
                    n.checked_neg().map(Attr::Int).ok_or_else(|| lx.error("does not fit 64 bits"))
                }
                _ => Err(lx.expected("a number")),
            }
        }
        _ => Err(lx.expected("a value")),
    }
}

/// The attributes that differ from their defaults, in braces; nothing when there is none.
pub(super) fn write_attrs(out: &mut String, op: &Op) {
    let specs = Op::declaration(op.name()).map(|d| d.attrs.as_slice()).unwrap_or(&[]);
    let mut any = false;
    for (name, value) in op.attrs() {
        let spec = specs.iter().find(|s| s.name == name);
        if spec.and_then(|s| s.default.as_ref()).is_some_and(|d| identical(d, &value)) {
            continue;
        }
        out.push_str(if any { ", " } else { " {" });
        any = true;
        let _ = write!(out, "{name} = ");
        write_value(out, spec.map_or("", |s| s.kind), &value);
    }
    if any {
        out.push('}');
    }
}

/// Equal, zeros of different sign told apart.
fn identical(a: &Attr, b: &Attr) -> bool {
    match (a, b) {
        (Attr::Float(x), Attr::Float(y)) => x.to_bits() == y.to_bits(),
        _ => a == b,
    }
}

fn write_value(out: &mut String, kind: &str, value: &Attr) {
    let write_list = |out: &mut String, n: usize, each: &dyn Fn(&mut String, usize)| {
        out.push('[');
        for i in 0..n {
            if i > 0 {
                out.push_str(", ");
            }
            each(out, i);
        }
        out.push(']');
    };
    match value {
        Attr::Float(x) => write_float(out, *x),
        Attr::Floats(v) => {
            write_list(out, v.len(), &|out, i| v.get(i).into_iter().for_each(|x| write_float(out, *x)));
        }
        Attr::List(v) => {
            write_list(out, v.len(), &|out, i| v.get(i).into_iter().for_each(|a| write_value(out, "", a)));
        }
        Attr::Str(s) if kind.starts_with("one of") => out.push_str(s),
        Attr::Str(s) => {
            let _ = write!(out, "{}", Quoted(s));
        }
        Attr::Dims(v) if kind == "dim" => {
            v.iter().for_each(|d| {
                let _ = write!(out, "{d}");
            });
        }
        other => {
            let _ = write!(out, "{other}");
        }
    }
}
