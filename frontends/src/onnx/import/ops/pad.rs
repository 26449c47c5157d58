//! Pad in all its versions: modes, negative pads, pads known at run time. Padding of windows is in `window.rs`.

use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{BinaryFn, Pad, PadMode, Range, Slice};
use frit_ir::{DType, Dim, Tensor, ValueId};

pub const ROWS: &[Row] = &[("", "Pad", 1, pad)];

fn pad<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let rank = cx.rank(x)?;
    let mode = n.string_or("mode", "constant")?;
    let attribute = if n.opset < 2 { n.ints("paddings")? } else { n.ints("pads")? };
    let (pads, value, axes) = match attribute {
        Some(all) => {
            let fill = n.float_or("value", 0.0)?;
            let dtype = cx.dtype(x)?;
            (all.into_iter().map(Dim::constant).collect::<Vec<_>>(), Some(cx.scalar(dtype, fill)?), None)
        }
        None => (cx.dims(n, 1)?, n.opt(2)?, cx.opt_ints(n, 3)?),
    };
    let axes = match axes {
        Some(axes) => cx.axes(&axes, rank)?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(n.error(format!("{} pads for {} axes", pads.len(), axes.len())));
    }
    let (mut before, mut after) = (vec![Dim::constant(0); rank], vec![Dim::constant(0); rank]);
    let (begins, ends) = pads.split_at(axes.len());
    for (&axis, (b, e)) in axes.iter().zip(begins.iter().zip(ends)) {
        if let (Some(x), Some(y)) = (before.get_mut(axis), after.get_mut(axis)) {
            (*x, *y) = (b.clone(), e.clone());
        }
    }
    let x = cut(cx, x, &mut before, &mut after)?;
    if before.iter().chain(&after).all(|d| d.is(0)) {
        return Ok(vec![x.into()]);
    }
    let y = match mode {
        "constant" => constant(cx, x, before, after, value)?,
        "reflect" => cx.emit(Pad { before, after, mode: PadMode::Reflect, value: 0.0 }, &[x])?,
        "edge" => cx.emit(Pad { before, after, mode: PadMode::Edge, value: 0.0 }, &[x])?,
        "wrap" => wrap(cx, x, &before, &after)?,
        other => return Err(n.error(format!("attribute `mode`: `{other}` is none of its values"))),
    };
    Ok(vec![y.into()])
}

/// Cuts off what negative pads ask for, and makes them 0.
fn cut(cx: &mut Cx<'_>, x: ValueId, before: &mut [Dim], after: &mut [Dim]) -> Result<ValueId> {
    let zero = Dim::constant(0);
    let mut op = Slice { axes: vec![], starts: vec![], ends: vec![], steps: vec![] };
    let shape = cx.shape(x)?;
    for (axis, (extent, (b, a))) in shape.iter().zip(before.iter_mut().zip(after.iter_mut())).enumerate() {
        if cx.at_least(b, 0) && cx.at_least(a, 0) {
            continue;
        }
        let less = |d: &Dim| cx.larger(&cx.dim(d.mul_const(-1))?, &zero);
        let (start, short) = (less(b)?, less(a)?);
        op.axes.push(i64::try_from(axis).unwrap_or(0));
        op.starts.push(start);
        op.ends.push(cx.dim(extent.sub(&short))?);
        op.steps.push(1);
        *b = cx.larger(b, &zero)?;
        *a = cx.larger(a, &zero)?;
    }
    if op.axes.is_empty() { Ok(x) } else { cx.emit(op, &[x]) }
}

fn constant(
    cx: &mut Cx<'_>,
    x: ValueId,
    before: Vec<Dim>,
    after: Vec<Dim>,
    value: Option<ValueId>,
) -> Result<ValueId> {
    let dtype = cx.dtype(x)?;
    let plain =
        |value: f64| Pad { before: before.clone(), after: after.clone(), mode: PadMode::Constant, value };
    let Some(fill) = value else { return cx.emit(plain(0.0), &[x]) };
    if let Some(t) = cx.known(fill)
        && let Some(&number) = t.to_f64_vec().first()
        && Tensor::scalar(dtype, number).bytes() == t.bytes()
    {
        return cx.emit(plain(number), &[x]);
    }
    // A value known at run time only stands wherever a padded mask is false.
    let padded = cx.emit(plain(0.0), &[x])?;
    let shape = cx.shape(x)?;
    let inside = cx.full(&shape, 1.0, DType::Bool)?;
    let inside = cx.emit(plain(0.0), &[inside])?;
    let fill = cx.cast(fill, dtype)?;
    let fill = cx.reshape(fill, &[])?;
    cx.choose(inside, padded, fill)
}

/// The tensor repeated around itself: picks positions modulo the extent.
fn wrap(cx: &mut Cx<'_>, x: ValueId, before: &[Dim], after: &[Dim]) -> Result<ValueId> {
    let mut y = x;
    for (axis, (b, a)) in before.iter().zip(after).enumerate() {
        if b.is(0) && a.is(0) {
            continue;
        }
        let extent = cx.shape(x)?.get(axis).cloned().unwrap_or_default();
        let start = cx.dim(b.mul_const(-1))?;
        let limit = cx.dim(extent.add(a))?;
        let position = cx.emit(Range { start, limit, step: 1, dtype: DType::I64 }, &[])?;
        let size = cx.dims_value(&[extent])?;
        let position = cx.binary(BinaryFn::Mod, position, size)?;
        y = cx.gather(y, position, axis)?;
    }
    Ok(y)
}
