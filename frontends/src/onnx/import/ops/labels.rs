//! Mapping values to values, of domain ai.onnx.ml: LabelEncoder, Binarizer, ArrayFeatureExtractor.
//! Trees are in `trees.rs`.

use super::strings::strings;
use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use crate::onnx::value::{HostValue, Strings};
use frit_ir::op::{BinaryFn, ReduceFn, UnaryFn};
use frit_ir::{DType, Dim, Tensor, ValueId};
use std::collections::HashMap;

pub const ROWS: &[Row] = &[
    ("ai.onnx.ml", "LabelEncoder", 1, encode_classes),
    ("ai.onnx.ml", "LabelEncoder", 2, encode),
    ("ai.onnx.ml", "Binarizer", 1, binarise),
    ("ai.onnx.ml", "ArrayFeatureExtractor", 1, extract),
];

/// Strings to their positions among the classes, or positions to strings.
fn encode_classes<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let classes =
        n.strings("classes_strings")?.ok_or_else(|| n.error("attribute `classes_strings` is missing"))?;
    let count = i64::try_from(classes.len()).unwrap_or(i64::MAX);
    let (number, word) = (n.int_or("default_int64", -1)?, n.string_or("default_string", "_Unused")?);
    let positions = list(n, &[classes.len()], &(0..count).collect::<Vec<i64>>())?;
    let classes = words(&classes);
    match n.val(0)? {
        Val::Strings(_) => map(cx, n, classes, positions, list(n, &[1], &[number])?),
        _ => map(cx, n, positions, classes, words(&[word])),
    }
}

fn encode<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let keys = given(cx, n, ["keys_strings", "keys_int64s", "keys_floats", "keys_tensor"])?;
    let values = given(cx, n, ["values_strings", "values_int64s", "values_floats", "values_tensor"])?;
    let default = match (n.tensor_attr("default_tensor")?, &values) {
        (Some(t), _) => cx.model.tensor(t).map_err(|e| n.error(e.to_string()))?,
        (None, HostValue::Strings(_)) => words(&[n.string_or("default_string", "_Unused")?]),
        (None, HostValue::Tensor(t)) if t.dtype().is_float() => {
            let number = n.float_or("default_float", -0.0)?;
            Tensor::from_f64(t.dtype(), &[1], &[number]).map_err(|e| n.error(e.to_string()))?.into()
        }
        (None, HostValue::Tensor(t)) => {
            let number = n.int_or("default_int64", -1)?;
            Tensor::from_i64(t.dtype(), &[1], &[number]).map_err(|e| n.error(e.to_string()))?.into()
        }
        _ => return Err(n.error("values of no kind that can be mapped to")),
    };
    n.ignore(&["default_string", "default_float", "default_int64"]);
    map(cx, n, keys, values, default)
}

fn words(all: &[&str]) -> HostValue {
    HostValue::Strings(Strings {
        shape: vec![all.len()],
        values: all.iter().map(|s| (*s).to_owned()).collect(),
    })
}

fn list<T: frit_ir::dtype::Element>(n: &NodeView<'_>, shape: &[usize], values: &[T]) -> Result<HostValue> {
    Tensor::from_slice(shape, values).map(HostValue::from).map_err(|e| n.error(e.to_string()))
}

/// A list from the one attribute of four that is there: strings, ints, floats, a tensor.
fn given(cx: &Cx<'_>, n: &NodeView<'_>, names: [&'static str; 4]) -> Result<HostValue> {
    let [text, ints, floats, tensor] = names;
    if let Some(all) = n.strings(text)? {
        return Ok(words(&all));
    }
    if let Some(all) = n.ints(ints)? {
        return list(n, &[all.len()], &all);
    }
    if let Some(all) = n.floats(floats)? {
        return list(n, &[all.len()], &all.iter().map(|x| *x as f32).collect::<Vec<f32>>());
    }
    match n.tensor_attr(tensor)? {
        Some(t) => cx.model.tensor(t).map_err(|e| n.error(e.to_string())),
        None => Err(n.error(format!("one of {} must be there", names.join(", ")))),
    }
}

/// The value of each element's key, or the default. Of equal keys the last counts.
fn map(
    cx: &mut Cx<'_>,
    n: &NodeView<'_>,
    keys: HostValue,
    values: HostValue,
    default: HostValue,
) -> Result<Vec<Val>> {
    let count = |v: &HostValue| match v {
        HostValue::Tensor(t) => t.len(),
        HostValue::Strings(s) => s.values.len(),
        _ => 0,
    };
    if count(&keys) != count(&values) || count(&default) != 1 {
        return Err(n.error(format!(
            "{} keys, {} values, {} defaults",
            count(&keys),
            count(&values),
            count(&default)
        )));
    }
    let place = match &keys {
        HostValue::Strings(keys) => word_places(cx, n, &keys.values)?,
        HostValue::Tensor(keys) => places(cx, n, keys)?,
        other => return Err(n.error(format!("{other} cannot be keys"))),
    };
    match (default, values) {
        (HostValue::Tensor(default), HostValue::Tensor(values)) => {
            let (default, values) = (cx.constant(default)?, cx.constant(values)?);
            let (first, rest) = (cx.reshape(default, &[Dim::constant(1)])?, values);
            let rest = cx.reshape(rest, &[Dim::from(count(&keys))])?;
            let table = cx.concat(&[first, rest], 0)?;
            Ok(vec![cx.gather(table, place, 0)?.into()])
        }
        (HostValue::Strings(default), HostValue::Strings(values)) => {
            let known = cx.known(place);
            let known = known
                .ok_or_else(|| cx.needs_values(n, place, "strings must be known when importing".into()))?;
            let table: Vec<&String> = default.values.iter().chain(&values.values).collect();
            let word =
                |at: &i64| usize::try_from(*at).ok().and_then(|at| table.get(at)).map(|s| (*s).clone());
            let values = known.to_i64_vec().iter().map(|at| word(at).unwrap_or_default()).collect();
            Ok(vec![Val::Strings(Strings { shape: known.shape().to_vec(), values })])
        }
        _ => Err(n.error("the default is of another type than the values")),
    }
}

/// One more than the position of each string among the keys, 0 for none.
fn word_places(cx: &mut Cx<'_>, n: &NodeView<'_>, keys: &[String]) -> Result<ValueId> {
    let x = strings(n, 0)?;
    let at: HashMap<&str, i64> = keys.iter().map(String::as_str).zip(1..).collect();
    let places: Vec<i64> = x.values.iter().map(|s| at.get(s.as_str()).copied().unwrap_or(0)).collect();
    let places = Tensor::from_slice(&x.shape, &places).map_err(|e| n.error(e.to_string()))?;
    cx.constant(places)
}

/// The same of numbers.
fn places(cx: &mut Cx<'_>, n: &NodeView<'_>, keys: &Tensor) -> Result<ValueId> {
    let x = n.tensor(0)?;
    let dtype = cx.dtype(x)?;
    if keys.dtype() != dtype {
        return Err(n.error(format!("keys of type {}, elements of type {dtype}", keys.dtype())));
    }
    if keys.is_empty() {
        let shape = cx.shape(x)?;
        return cx.full(&shape, 0.0, DType::I64);
    }
    let keys = cx.constant(keys.clone())?;
    let column = cx.unsqueeze(x, &[-1])?;
    let mut same = cx.binary(BinaryFn::Equal, column, keys)?;
    if dtype.is_float() {
        let (a, b) = (cx.unary(UnaryFn::IsNaN, column)?, cx.unary(UnaryFn::IsNaN, keys)?);
        let both = cx.binary(BinaryFn::And, a, b)?;
        same = cx.binary(BinaryFn::Or, same, both)?;
    }
    let hits = cx.cast(same, DType::I64)?;
    let extent = cx.shape(keys)?.first().cloned().unwrap_or_default();
    let position = cx.iota(&extent, DType::I64)?;
    let position = cx.with_number(BinaryFn::Add, position, 1.0)?;
    let hits = cx.times(hits, position)?;
    let last = cx.rank(hits)?.saturating_sub(1);
    cx.reduce(ReduceFn::Max, hits, &[last], false)
}

fn binarise<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let over = cx.with_number(BinaryFn::Greater, x, n.float_or("threshold", 0.0)?)?;
    Ok(vec![cx.cast(over, cx.dtype(x)?)?.into()])
}

/// Elements of the last axis, by index; of a vector as one row.
fn extract<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (mut x, indices) = (n.tensor(0)?, n.tensor(1)?);
    let flat = cx.dim(frit_ir::types::product(&cx.shape(indices)?))?;
    let indices = cx.reshape(indices, &[flat])?;
    if cx.rank(x)? == 1 {
        x = cx.unsqueeze(x, &[0])?;
    }
    let last = cx.rank(x)?.checked_sub(1).ok_or_else(|| n.error("expected an axis, got a scalar"))?;
    Ok(vec![cx.gather(x, indices, last)?.into()])
}
