//! Examples of rules: types, numbers and attributes for the names in a pattern. Building graphs is in `instance.rs`.
//!
//! Entries stand between semicolons: `x: f32[batch, 3] in 0.5..2`, `w: const f32[3]`, `m: const f32[4, 5] causal`
//! (0 where column <= row + 1, else -1e9), `b: none`, `s = 0.125`,
//! `p = [0, 2, 1]` (also a constant list of indices), `node.axis = -1`, `m := LessOrEqual(..)`.

use frit_ir::op::Attr;
use frit_ir::random::Stream;
use frit_ir::{DType, Dim, Tensor, TensorType};
use frit_passes::pattern::Pattern;
use std::collections::BTreeMap;

/// What stands for a name.
#[derive(Clone, Debug)]
pub enum Entry {
    /// An input of the graph, or a weight.
    Value { ty: TensorType, weight: bool, causal: bool, range: (f64, f64) },
    /// An operand left out.
    Absent,
    /// A number: of a scalar, or of an attribute.
    Attr(Attr),
    /// A part of a graph.
    Term(Pattern),
}

/// Entries by name.
#[derive(Clone, Debug, Default)]
pub struct Example {
    pub entries: BTreeMap<String, Entry>,
}

const TYPES: [DType; 6] = [DType::F32, DType::F64, DType::I64, DType::I32, DType::U8, DType::Bool];

impl Example {
    /// Parses the entries.
    pub fn parse(text: &str) -> Result<Example, String> {
        let mut entries = BTreeMap::new();
        for part in text.split(';').map(str::trim).filter(|p| !p.is_empty()) {
            let (name, entry) = if let Some((name, term)) = part.split_once(":=") {
                (name, Entry::Term(Pattern::parse(term.trim()).map_err(|e| e.to_string())?))
            } else if let Some((name, ty)) = part.split_once(':') {
                (name, value(ty.trim())?)
            } else if let Some((name, v)) = part.split_once('=') {
                (name, Entry::Attr(attr(v.trim())?))
            } else {
                return Err(format!("`{part}` is no entry of an example"));
            };
            entries.insert(name.trim().to_owned(), entry);
        }
        Ok(Example { entries })
    }

    /// Random numbers for an input or weight.
    pub fn data(&self, name: &str, stream: &mut Stream) -> Result<Tensor, String> {
        let Some(Entry::Value { ty, range, causal, .. }) = self.entries.get(name) else {
            return Err(format!("the example has no type for `{name}`"));
        };
        let shape: Vec<usize> = ty.shape.iter().map(|d| d.as_fixed().unwrap_or(2)).collect();
        let t = stream.tensor(ty.dtype, &shape).map_err(|e| e.to_string())?;
        if !ty.dtype.is_float() {
            return Ok(t);
        }
        if let (true, [.., rows, columns]) = (*causal, shape.as_slice()) {
            let seen = |i: usize| i % columns <= i / columns % rows + (columns - rows);
            let v: Vec<f64> = (0..t.len()).map(|i| if seen(i) { 0.0 } else { -1e9 }).collect();
            return Tensor::from_f64(ty.dtype, &shape, &v).map_err(|e| e.to_string());
        }
        let (low, high) = *range;
        let v: Vec<f64> = t.to_f64_vec().into_iter().map(|x| low + (x + 1.0) / 2.0 * (high - low)).collect();
        Tensor::from_f64(ty.dtype, &shape, &v).map_err(|e| e.to_string())
    }
}

fn value(text: &str) -> Result<Entry, String> {
    if text == "none" {
        return Ok(Entry::Absent);
    }
    let (weight, text) = text.strip_prefix("const ").map_or((false, text), |rest| (true, rest));
    let (causal, text) = text.strip_suffix(" causal").map_or((false, text), |rest| (true, rest));
    let (ty, range) = match text.split_once(" in ") {
        None => (text, (-1.0, 1.0)),
        Some((ty, range)) => {
            let (a, b) = range.split_once("..").ok_or_else(|| format!("`{range}` is no range"))?;
            let number = |s: &str| s.trim().parse::<f64>().map_err(|e| format!("`{s}`: {e}"));
            (ty, (number(a)?, number(b)?))
        }
    };
    let (word, dims) = ty.trim().split_once('[').ok_or_else(|| format!("`{ty}` is no type"))?;
    let dtype =
        TYPES.into_iter().find(|d| d.to_string() == word).ok_or_else(|| format!("`{word}` is no type"))?;
    let dims = dims.trim_end().strip_suffix(']').ok_or_else(|| format!("`{ty}` is no type"))?;
    let shape = dims
        .split(',')
        .map(str::trim)
        .filter(|d| !d.is_empty())
        .map(|d| d.parse::<usize>().map_or_else(|_| Dim::symbol(d), Dim::from))
        .collect();
    Ok(Entry::Value { ty: TensorType { dtype, shape }, weight, causal, range })
}

fn attr(text: &str) -> Result<Attr, String> {
    if let Some(list) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        let ints: Result<Vec<i64>, _> =
            list.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::parse).collect();
        return ints.map(Attr::Ints).map_err(|e| format!("`{text}`: {e}"));
    }
    if let Ok(n) = text.parse::<i64>() {
        return Ok(Attr::Int(n));
    }
    if let Ok(x) = text.parse::<f64>() {
        return Ok(Attr::Float(x));
    }
    Ok(match text {
        "true" => Attr::Bool(true),
        "false" => Attr::Bool(false),
        _ => TYPES
            .into_iter()
            .find(|d| d.to_string() == text)
            .map_or_else(|| Attr::Str(text.to_owned()), Attr::DType),
    })
}
