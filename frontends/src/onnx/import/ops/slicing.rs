//! Cutting, joining and picking along axes: Slice, Concat, Split, Gather, GatherElements, Trilu. Padding is in
//! `pad.rs`, picking by n-dimensional indices in `indexed.rs`.

use crate::onnx::import::broadcast::agreed;
use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{GatherElements, Slice};
use frit_ir::{DType, Dim, ValueId};

pub const ROWS: &[Row] = &[
    ("", "Slice", 1, slice),
    ("", "Concat", 1, concat),
    ("", "Split", 1, split),
    ("", "Gather", 1, gather),
    ("", "GatherElements", 11, gather_elements),
];

fn slice<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let constants =
        |all: Option<Vec<i64>>| all.map(|v| v.into_iter().map(Dim::constant).collect::<Vec<Dim>>());
    let (starts, ends, axes, steps) = if n.opset < 10 {
        let starts = constants(n.ints("starts")?).ok_or_else(|| n.error("attribute `starts` is missing"))?;
        let ends = constants(n.ints("ends")?).ok_or_else(|| n.error("attribute `ends` is missing"))?;
        (starts, ends, n.ints("axes")?, None)
    } else {
        (cx.dims(n, 1)?, cx.dims(n, 2)?, cx.opt_ints(n, 3)?, cx.opt_ints(n, 4)?)
    };
    let rank = cx.rank(x)?;
    let axes = match axes {
        Some(axes) => cx.axes(&axes, rank)?,
        None => (0..starts.len().min(rank)).collect(),
    };
    let steps = steps.unwrap_or_else(|| vec![1; axes.len()]);
    if starts.len() != axes.len() || ends.len() != axes.len() || steps.len() != axes.len() {
        return Err(n.error("starts, ends, axes and steps differ in number"));
    }
    let shape = cx.shape(x)?;
    let mut cut = Slice { axes: vec![], starts: vec![], ends: vec![], steps: vec![] };
    for (((axis, start), end), step) in axes.into_iter().zip(&starts).zip(&ends).zip(steps) {
        let extent = shape.get(axis).cloned().unwrap_or_default();
        let (start, end) = bounds(cx, n, start, end, step, &extent)?;
        if step == 1 && start.is(0) && end.same(&extent) {
            continue;
        }
        cut.axes.push(i64::try_from(axis).unwrap_or(0));
        cut.starts.push(start);
        cut.ends.push(end);
        cut.steps.push(step);
    }
    if cut.axes.is_empty() {
        return Ok(vec![x.into()]);
    }
    Ok(vec![cx.emit(cut, &[x])?.into()])
}

/// Where a cut begins and ends, within the axis.
fn bounds(
    cx: &Cx<'_>,
    n: &NodeView<'_>,
    start: &Dim,
    end: &Dim,
    step: i64,
    extent: &Dim,
) -> Result<(Dim, Dim)> {
    // Numbers so large mean the end; they would overflow.
    let most = i64::MAX / 4;
    let tame = |d: &Dim| match d.as_const() {
        Some(v) if v > most => Dim::constant(most),
        Some(v) if v < -most => Dim::constant(-most),
        _ => d.clone(),
    };
    let far = |d: &Dim| d.as_const().is_some_and(|v| v >= i64::from(i32::MAX) - 1);
    let (start, end) = (tame(start), tame(end));
    match step {
        0 => Err(n.error("a step is 0")),
        1.. => {
            let start = cx.offset(&start, extent, 0, 0)?;
            let end = if far(&end) { extent.clone() } else { cx.offset(&end, extent, 0, 0)? };
            let span = cx.dim(end.sub(&start))?;
            let end = if cx.likely_at_least(&span, 0) { end } else { cx.larger(&end, &start)? };
            Ok((start, end))
        }
        _ => {
            let start =
                if far(&start) { cx.dim(extent.add_const(-1))? } else { cx.offset(&start, extent, -1, -1)? };
            let before = end.as_const().is_some_and(|v| v <= i64::from(i32::MIN) + 1);
            let end = if before { Dim::constant(-1) } else { cx.offset(&end, extent, -1, -1)? };
            let span = cx.dim(start.sub(&end))?;
            let end = if cx.likely_at_least(&span, 0) { end } else { cx.smaller(&end, &start)? };
            Ok((start, end))
        }
    }
}

fn concat<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let parts = n.tensors()?;
    let default = if n.opset < 4 { Some(1) } else { None };
    let axis = n.int("axis")?.or(default).ok_or_else(|| n.error("attribute `axis` is missing"))?;
    Ok(vec![joined(cx, n, &parts, axis)?.into()])
}

/// Joins values whose other extents must agree.
pub fn joined(cx: &mut Cx<'_>, n: &NodeView<'_>, parts: &[ValueId], axis: i64) -> Result<ValueId> {
    let Some(&first) = parts.first() else { return Err(n.error("no operands")) };
    let mut common = cx.shape(first)?;
    let axis = cx.axis(axis, common.len())?;
    for &p in parts {
        let shape = cx.shape(p)?;
        if shape.len() != common.len() {
            return Err(n.error(format!("operands of ranks {} and {}", common.len(), shape.len())));
        }
        for (c, d) in common.iter_mut().zip(&shape) {
            *c = agreed(c, d);
        }
    }
    let mut out = Vec::with_capacity(parts.len());
    for &p in parts {
        let mut shape = common.clone();
        if let (Some(own), Some(slot)) = (cx.shape(p)?.get(axis), shape.get_mut(axis)) {
            *slot = own.clone();
        }
        out.push(cx.agree(p, &shape)?);
    }
    cx.concat(&out, axis)
}

fn split<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let shape = cx.shape(x)?;
    let axis = cx.axis(n.int_or("axis", 0)?, shape.len())?;
    let extent = shape.get(axis).cloned().unwrap_or_default();
    let given = match n.ints("split")? {
        Some(all) => Some(all.into_iter().map(Dim::constant).collect()),
        None => cx.opt_dims(n, 1)?,
    };
    let sizes = match given {
        Some(sizes) => sizes,
        None => {
            let count = match n.int("num_outputs")? {
                Some(c) => usize::try_from(c).unwrap_or(0),
                None => n.proto.output.len(),
            };
            equal_parts(cx, n, &extent, count)?
        }
    };
    let sum = sizes.iter().try_fold(Dim::constant(0), |s, d| s.add(d));
    let sum = cx.dim(sum)?;
    let x = cx.agree_axis(x, axis, &sum)?;
    if sizes.len() == 1 {
        return Ok(vec![x.into()]);
    }
    Ok(cx.split(x, axis, &sizes)?.into_iter().map(Val::from).collect())
}

/// Sizes of parts as equal as they can be: the last may be smaller.
pub fn equal_parts(cx: &Cx<'_>, n: &NodeView<'_>, extent: &Dim, count: usize) -> Result<Vec<Dim>> {
    let parts = i64::try_from(count).ok().filter(|&c| c > 0 && c <= 1 << 16);
    let parts = parts.ok_or_else(|| n.error(format!("{count} parts")))?;
    let divisor = Dim::constant(parts);
    if let Some(size) = extent.exact_div(&divisor) {
        return Ok(vec![size; count]);
    }
    let size = cx.dim(extent.ceil_div(&divisor))?;
    let others = cx.dim(size.mul_const(parts - 1))?;
    let last = cx.dim(extent.sub(&others))?;
    let mut sizes = vec![size; count - 1];
    sizes.push(last);
    Ok(sizes)
}

/// Indices in an element type that picking takes.
pub fn indices(cx: &mut Cx<'_>, v: ValueId) -> Result<ValueId> {
    if matches!(cx.dtype(v)?, DType::I32 | DType::I64) { Ok(v) } else { cx.cast(v, DType::I64) }
}

fn gather<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let data = n.tensor(0)?;
    let picked = n.tensor(1)?;
    let picked = indices(cx, picked)?;
    let shape = cx.shape(data)?;
    let axis = cx.axis(n.int_or("axis", 0)?, shape.len())?;
    // One fixed element is a cut, which need not copy.
    if let Some(t) = cx.known(picked).filter(|t| t.shape().is_empty())
        && cx.known(data).is_none()
        && let (Some(&i), Some(extent)) = (t.to_i64_vec().first(), shape.get(axis))
        && extent.as_const().is_none_or(|d| -d <= i && i < d)
        && i != i64::MAX
    {
        let start = if i < 0 { cx.dim(extent.add_const(i))? } else { Dim::constant(i) };
        let end = cx.dim(start.add_const(1))?;
        let part = cx.slice(data, axis, &start, &end)?;
        let mut rest = shape;
        rest.remove(axis);
        return Ok(vec![cx.reshape(part, &rest)?.into()]);
    }
    Ok(vec![cx.gather(data, picked, axis)?.into()])
}

fn gather_elements<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let data = n.tensor(0)?;
    let picked = n.tensor(1)?;
    let picked = indices(cx, picked)?;
    let axis = n.int_or("axis", 0)?;
    Ok(vec![cx.emit(GatherElements { axis }, &[data, picked])?.into()])
}
