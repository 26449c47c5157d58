//! Writing, reading and ranking by index tensors, and picking as many as there turn out to be. Gather and slices are
//! in `movement.rs`.

use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, ImportError, NodeView, Result, Val};
use frit_ir::op::{
    BinaryFn, GatherND, NonMaxSuppression, NonZero, ReverseSequence, ScatterElements, ScatterND,
    ScatterReduction, TopK, Trilu, Unique,
};
use frit_ir::{DType, Dim, ValueId};

pub const ROWS: &[Row] = &[
    ("", "Scatter", 9, scatter_elements),
    ("", "ScatterElements", 11, scatter_elements),
    ("", "ScatterND", 11, scatter_nd),
    ("", "GatherND", 11, gather_nd),
    ("", "TopK", 1, top_k),
    ("", "ReverseSequence", 10, reverse_sequence),
    ("", "Compress", 9, compress),
    ("", "NonZero", 9, non_zero),
    ("", "Unique", 11, unique),
    ("", "NonMaxSuppression", 10, non_max_suppression),
    ("", "TensorScatter", 24, tensor_scatter),
    ("", "Trilu", 14, trilu),
];

/// The word of an attribute that is one of a closed set.
pub(super) fn word<'a, T: Copy>(
    n: &NodeView<'a>,
    name: &'static str,
    default: &'a str,
    from: impl Fn(&str) -> Option<T>,
) -> Result<T> {
    let given = n.string_or(name, default)?;
    from(given).ok_or_else(|| unknown(n, name, given))
}

/// The error of a word that an attribute does not know.
pub(super) fn unknown(n: &NodeView<'_>, name: &str, given: &str) -> ImportError {
    n.error(format!("attribute `{name}`: unknown value `{given}`"))
}

fn scatter_elements<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let reduction = word(n, "reduction", "none", ScatterReduction::from_word)?;
    let axis = n.int_or("axis", 0)?;
    Ok(vec![
        cx.emit(ScatterElements { axis, reduction }, &[n.tensor(0)?, n.tensor(1)?, n.tensor(2)?])?.into(),
    ])
}

fn scatter_nd<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let reduction = word(n, "reduction", "none", ScatterReduction::from_word)?;
    Ok(vec![cx.emit(ScatterND { reduction }, &[n.tensor(0)?, n.tensor(1)?, n.tensor(2)?])?.into()])
}

fn gather_nd<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let batch_dims = n.int_or("batch_dims", 0)?;
    Ok(vec![cx.emit(GatherND { batch_dims }, &[n.tensor(0)?, n.tensor(1)?])?.into()])
}

/// TopK: k is an attribute up to opset 9; the order of the result is that of `sorted` whether asked for or not.
fn top_k<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["sorted"]);
    let k = if n.opset < 10 { n.int("k")?.map(Dim::constant) } else { cx.dims(n, 1)?.into_iter().next() };
    let k = k.ok_or_else(|| n.error("k is missing"))?;
    let op = TopK { k, axis: n.int_or("axis", -1)?, largest: n.flag("largest", true)? };
    Ok(cx.emit_all(op, &[Some(n.tensor(0)?)])?.into_iter().map(Val::from).collect())
}

fn reverse_sequence<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let lens = cx.cast(n.tensor(1)?, DType::I64)?;
    let op = ReverseSequence { batch_axis: n.int_or("batch_axis", 1)?, time_axis: n.int_or("time_axis", 0)? };
    Ok(vec![cx.emit(op, &[n.tensor(0)?, lens])?.into()])
}

/// The positions of all elements of a vector that are not zero.
fn positions(cx: &mut Cx<'_>, v: ValueId) -> Result<ValueId> {
    let count = cx.fresh_symbol("count");
    let found = cx.emit(NonZero { count: count.clone() }, &[v])?;
    cx.reshape(found, &[Dim::symbol(&count)])
}

fn compress<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (mut x, condition) = (n.tensor(0)?, n.tensor(1)?);
    let axis = match n.int("axis")? {
        Some(axis) => cx.axis(axis, cx.rank(x)?)?,
        None => {
            let all = cx.dim(cx.ty(x)?.elements())?;
            x = cx.reshape(x, &[all])?;
            0
        }
    };
    if cx.rank(condition)? != 1 {
        return Err(n.error("operand 1: expected one axis"));
    }
    let picked = match cx.known(condition) {
        Some(c) => {
            let at = |(i, b): (usize, &i64)| i64::try_from(i).ok().filter(|_| *b != 0);
            let picked: Vec<i64> = c.to_i64_vec().iter().enumerate().filter_map(at).collect();
            cx.constant_ints(&picked)?
        }
        None => positions(cx, condition)?,
    };
    Ok(vec![cx.gather(x, picked, axis)?.into()])
}

fn non_zero<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let mut x = n.tensor(0)?;
    if cx.rank(x)? == 0 {
        // A scalar counts as a vector of one.
        x = cx.reshape(x, &[Dim::constant(1)])?;
    }
    let count = cx.fresh_symbol("count");
    Ok(vec![cx.emit(NonZero { count }, &[x])?.into()])
}

fn unique<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let count = cx.fresh_symbol("unique");
    let op = Unique { count, axis: n.int("axis")?, sorted: n.flag("sorted", true)? };
    Ok(cx.emit_all(op, &[Some(n.tensor(0)?)])?.into_iter().map(Val::from).collect())
}

fn non_max_suppression<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let count = cx.fresh_symbol("boxes");
    let op = NonMaxSuppression { count, center_point_box: n.flag("center_point_box", false)? };
    let inputs = (0..5).map(|i| n.opt(i)).collect::<Result<Vec<_>>>()?;
    Ok(cx.emit_all(op, &inputs)?.into_iter().map(Val::from).collect())
}

/// TensorScatter: updates go to consecutive places of the axis from each batch element's own start.
fn tensor_scatter<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (cache, update) = (n.tensor(0)?, n.tensor(1)?);
    let (bounds, shape) = (cx.shape(cache)?, cx.shape(update)?);
    let axis = cx.axis(n.int_or("axis", -2)?, shape.len())?;
    let circular = word(n, "mode", "linear", |w| match w {
        "linear" => Some(false),
        "circular" => Some(true),
        _ => None,
    })?;
    if axis == 0 || bounds.len() != shape.len() {
        return Err(n.error(format!("axis {axis} of a cache {bounds:?} and an update {shape:?}")));
    }
    let along = |i: usize, d: &Dim| {
        let mut s = vec![Dim::constant(1); shape.len()];
        if let Some(slot) = s.get_mut(i) {
            *slot = d.clone();
        }
        s
    };
    let extent = shape.get(axis).cloned().unwrap_or_default();
    let mut places = cx.iota(&extent, DType::I64)?;
    places = cx.reshape(places, &along(axis, &extent))?;
    if let Some(starts) = n.opt(2)? {
        let starts = cx.cast(starts, DType::I64)?;
        let batch = shape.first().cloned().unwrap_or_default();
        let starts = cx.reshape(starts, &along(0, &batch))?;
        places = cx.plus(places, starts)?;
    }
    if circular {
        let bound = cx.dims_value(bounds.get(axis..=axis).unwrap_or(&[]))?;
        let bound = cx.reshape(bound, &[])?;
        places = cx.binary(BinaryFn::Mod, places, bound)?;
    }
    let places = cx.expand_to(places, &shape)?;
    let op =
        ScatterElements { axis: i64::try_from(axis).unwrap_or(i64::MAX), reduction: ScatterReduction::None };
    Ok(vec![cx.emit(op, &[cache, places, update])?.into()])
}

fn trilu<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let op = Trilu { upper: n.flag("upper", true)? };
    Ok(cx.emit_all(op, &[Some(n.tensor(0)?), n.opt(1)?])?.into_iter().map(Val::from).collect())
}
