//! Sequences and optionals: structure that exists during import only. Their tensors are those of the graph.

use super::slicing::joined;
use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::{Dim, Tensor};

pub const ROWS: &[Row] = &[
    ("", "SequenceConstruct", 11, construct),
    ("", "SequenceEmpty", 11, empty),
    ("", "SequenceAt", 11, at),
    ("", "SequenceInsert", 11, insert),
    ("", "SequenceErase", 11, erase),
    ("", "SequenceLength", 11, length),
    ("", "SplitToSequence", 11, split),
    ("", "ConcatFromSequence", 11, concat),
    ("", "SequenceMap", 17, map),
    ("", "Optional", 15, optional),
    ("", "OptionalGetElement", 15, get_element),
    ("", "OptionalHasElement", 15, has_element),
];

/// A tensor is cut into at most so many parts.
const MAX_PARTS: i64 = 1 << 16;

fn construct<'a>(_: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let all = (0..n.inputs.len()).map(|i| n.val(i).cloned()).collect::<Result<_>>()?;
    Ok(vec![Val::Sequence(all)])
}

fn empty<'a>(_: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["dtype"]);
    Ok(vec![Val::Sequence(Vec::new())])
}

/// The place that operand `i` means in a sequence of `len`, counted from the end when negative.
fn place(cx: &mut Cx<'_>, n: &NodeView<'_>, i: usize, len: usize) -> Result<Option<usize>> {
    let Some(position) = cx.opt_int(n, i)? else { return Ok(None) };
    let count = i64::try_from(len).unwrap_or(i64::MAX);
    let from_start = if position < 0 { position.saturating_add(count) } else { position };
    match usize::try_from(from_start) {
        Ok(p) => Ok(Some(p)),
        Err(_) => Err(n.error(format!("position {position} is outside a sequence of {len}"))),
    }
}

fn at<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let all = n.sequence(0)?;
    let i = place(cx, n, 1, all.len())?.ok_or_else(|| n.error("the position is missing"))?;
    let element = all.get(i).cloned();
    Ok(vec![element.ok_or_else(|| n.error(format!("position {i} is outside a sequence of {}", all.len())))?])
}

fn insert<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let mut all = n.sequence(0)?.to_vec();
    let i = place(cx, n, 2, all.len())?.unwrap_or(all.len());
    if i > all.len() {
        return Err(n.error(format!("position {i} is outside a sequence of {}", all.len())));
    }
    all.insert(i, n.val(1)?.clone());
    Ok(vec![Val::Sequence(all)])
}

fn erase<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let mut all = n.sequence(0)?.to_vec();
    let last = all.len().checked_sub(1).ok_or_else(|| n.error("the sequence is empty"))?;
    let i = place(cx, n, 1, all.len())?.unwrap_or(last);
    if i > last {
        return Err(n.error(format!("position {i} is outside a sequence of {}", all.len())));
    }
    all.remove(i);
    Ok(vec![Val::Sequence(all)])
}

fn length<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let len = i64::try_from(n.sequence(0)?.len()).unwrap_or(i64::MAX);
    let data = Tensor::from_slice(&[], &[len]).map_err(|e| cx.refused(e))?;
    Ok(vec![cx.constant(data)?.into()])
}

fn split<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let shape = cx.shape(x)?;
    let axis = cx.axis(n.int_or("axis", 0)?, shape.len())?;
    let extent = shape.get(axis).cloned().unwrap_or_default();
    let keepdims = n.flag("keepdims", true)?;
    let fixed = |size: i64| -> Result<Vec<Dim>> {
        let total = extent
            .as_const()
            .ok_or_else(|| n.error(format!("axis {axis} of extent {extent} must be fixed")))?;
        if size < 1 || total / size > MAX_PARTS {
            return Err(n.error(format!("parts of size {size} of an axis of extent {total}")));
        }
        let mut parts = vec![Dim::constant(size); usize::try_from(total / size).unwrap_or(0)];
        if total % size != 0 {
            parts.push(Dim::constant(total % size));
        }
        Ok(parts)
    };
    let (sizes, single) = match n.opt(1)? {
        None => (fixed(1)?, true),
        // One number without axes: so large are all parts but the last.
        Some(v) if cx.rank(v)? == 0 => (fixed(cx.opt_int(n, 1)?.unwrap_or(0))?, false),
        Some(_) => (cx.dims(n, 1)?, false),
    };
    let sum = cx.dim(sizes.iter().try_fold(Dim::constant(0), |s, d| s.add(d)))?;
    let x = cx.agree_axis(x, axis, &sum)?;
    let parts = match sizes.len() {
        0 => vec![],
        1 => vec![x],
        _ => cx.split(x, axis, &sizes)?,
    };
    let mut out = Vec::with_capacity(parts.len());
    for p in parts {
        let mut shape = cx.shape(p)?;
        out.push(if single && !keepdims {
            shape.remove(axis);
            cx.reshape(p, &shape)?.into()
        } else {
            p.into()
        });
    }
    Ok(vec![Val::Sequence(out)])
}

fn concat<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let all = n.sequence(0)?;
    let axis = n.int("axis")?.ok_or_else(|| n.error("attribute `axis` is missing"))?;
    let mut parts = Vec::with_capacity(all.len());
    for v in all {
        match v {
            Val::Tensor(v) => parts.push(*v),
            other => return Err(n.error(format!("expected a sequence of tensors, got {}", other.kind()))),
        }
    }
    if n.flag("new_axis", false)? {
        for p in &mut parts {
            *p = cx.unsqueeze(*p, &[axis])?;
        }
    }
    Ok(vec![joined(cx, n, &parts, axis)?.into()])
}

/// Runs the body on each element; further operands that are sequences go along, tensors stay.
fn map<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let body = n.graph("body")?;
    let count = n.sequence(0)?.len();
    let mut out: Vec<Vec<Val>> = vec![Vec::new(); body.output.len()];
    for i in 0..count {
        let mut arguments = Vec::with_capacity(n.inputs.len());
        for k in 0..n.inputs.len() {
            arguments.push(match n.val(k)? {
                Val::Sequence(all) => {
                    let element = all.get(i).cloned();
                    element
                        .ok_or_else(|| n.error(format!("operand {k} has fewer elements than the first")))?
                }
                other => other.clone(),
            });
        }
        for (list, val) in out.iter_mut().zip(cx.run_graph(body, arguments)?) {
            list.push(val);
        }
    }
    Ok(out.into_iter().map(Val::Sequence).collect())
}

fn optional<'a>(_: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["type"]);
    Ok(vec![Val::Optional(n.opt_val(0).cloned().map(Box::new))])
}

fn get_element<'a>(_: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    match n.val(0)? {
        Val::Optional(Some(v)) => Ok(vec![(**v).clone()]),
        Val::Optional(None) => Err(n.error("the optional holds nothing")),
        other => Ok(vec![other.clone()]),
    }
}

fn has_element<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let there = !matches!(n.opt_val(0), None | Some(Val::Optional(None)));
    let data = Tensor::from_bools(&[], &[there]).map_err(|e| cx.refused(e))?;
    Ok(vec![cx.constant(data)?.into()])
}
