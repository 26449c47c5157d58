//! Other shapes of the same elements, and repetition: Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Expand, Tile.
//! Cutting and joining is in `slicing.rs`.

use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{BinaryFn, ReduceFn, Tile};
use frit_ir::types::product;
use frit_ir::{DType, Dim, ValueId};

pub const ROWS: &[Row] = &[
    ("", "Reshape", 1, reshape),
    ("", "Flatten", 1, flatten),
    ("", "Squeeze", 1, squeeze),
    ("", "Unsqueeze", 1, unsqueeze),
    ("", "Transpose", 1, transpose),
    ("", "Expand", 8, expand),
    ("", "Tile", 1, tile_1),
    ("", "Tile", 6, tile),
];

fn reshape<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["consumed_inputs"]);
    let x = n.tensor(0)?;
    let keep_zero = n.flag("allowzero", false)?;
    let from = cx.shape(x)?;
    let wanted = match n.ints("shape")? {
        Some(all) => all.into_iter().map(Dim::constant).collect(),
        None => resolved(cx, n, &from, keep_zero)?,
    };
    let mut shape = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (i, d) in wanted.iter().enumerate() {
        match d.as_const() {
            Some(0) if !keep_zero => {
                let own = from.get(i).cloned();
                shape.push(
                    own.ok_or_else(|| n.error(format!("axis {i} of {wanted:?} copies one of {from:?}")))?,
                );
            }
            Some(-1) if open.is_none() => {
                open = Some(i);
                shape.push(Dim::constant(1));
            }
            Some(v) if v < 0 => return Err(n.error(format!("{wanted:?} is no shape"))),
            _ => shape.push(d.clone()),
        }
    }
    if let Some(i) = open {
        let (total, others) = (cx.dim(product(&from))?, cx.dim(product(&shape))?);
        let rest = if others.is(0) { Dim::constant(0) } else { cx.dim(total.floor_div(&others))? };
        if let Some(d) = shape.get_mut(i) {
            *d = rest;
        }
    }
    Ok(vec![cx.reshape(x, &shape)?.into()])
}

/// The shape operand as dims. Where its numbers are known at run time only, 0 and -1 are resolved there.
fn resolved(cx: &mut Cx<'_>, n: &NodeView<'_>, from: &[Dim], keep_zero: bool) -> Result<Vec<Dim>> {
    let shape = n.tensor(1)?;
    let dims = match cx.dims_of(shape) {
        Ok(dims) => dims,
        Err(why) => return Err(cx.needs_values(n, shape, format!("operand 1: {why}"))),
    };
    if dims.iter().all(|d| d.as_const().is_some() || cx.at_least(d, 0)) {
        cx.define(&dims)?;
        return Ok(dims);
    }
    let shape = cx.cast(shape, DType::I64)?;
    let mut own = from.to_vec();
    own.resize(dims.len(), Dim::constant(0));
    let (zero, minus) = (cx.scalar(DType::I64, 0.0)?, cx.scalar(DType::I64, -1.0)?);
    let mut known = shape;
    if !keep_zero {
        let own = cx.dims_value(&own)?;
        let copied = cx.binary(BinaryFn::Equal, shape, zero)?;
        known = cx.choose(copied, own, shape)?;
    }
    let open = cx.binary(BinaryFn::Equal, known, minus)?;
    // The product of all with the open one is minus that of the others.
    let all = cx.reduce(ReduceFn::Prod, known, &[0], true)?;
    let others = cx.minus(zero, all)?;
    let one = cx.scalar(DType::I64, 1.0)?;
    let others = cx.binary(BinaryFn::Max, others, one)?;
    let count = cx.dim(product(from))?;
    let total = cx.dims_value(&[count])?;
    let rest = cx.over(total, others)?;
    let known = cx.choose(open, rest, known)?;
    cx.computed_dims(known)
}

fn flatten<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let shape = cx.shape(x)?;
    let axis = n.int_or("axis", 1)?;
    // An axis as many as the rank is past the last.
    let at = cx.axis(
        if axis < 0 { axis.saturating_add(i64::try_from(shape.len()).unwrap_or(0)) } else { axis },
        shape.len() + 1,
    )?;
    let (before, after) = shape.split_at(at.min(shape.len()));
    let to = [cx.dim(product(before))?, cx.dim(product(after))?];
    Ok(vec![cx.reshape(x, &to)?.into()])
}

/// Axes that are an attribute before opset 13 and an operand from then on.
fn axes(cx: &mut Cx<'_>, n: &NodeView<'_>) -> Result<Option<Vec<i64>>> {
    match n.ints("axes")? {
        Some(all) => Ok(Some(all)),
        None => cx.opt_ints(n, 1),
    }
}

fn squeeze<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let shape = cx.shape(x)?;
    let gone: Vec<usize> = match axes(cx, n)? {
        Some(axes) => cx.axes(&axes, shape.len())?,
        None => {
            let open: Vec<Dim> =
                shape.iter().filter(|d| d.as_const().is_none() && !cx.at_least(d, 2)).cloned().collect();
            if !open.is_empty() {
                return Err(cx.needs_sizes(n, &open, format!("which axes of {shape:?} have extent 1")));
            }
            shape.iter().enumerate().filter(|(_, d)| d.is(1)).map(|(i, _)| i).collect()
        }
    };
    for &a in &gone {
        if let Some(d) = shape.get(a).filter(|d| d.as_const().is_some_and(|c| c != 1)) {
            return Err(n.error(format!("axis {a} has extent {d}, not 1")));
        }
    }
    let rest: Vec<Dim> =
        shape.iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, d)| d.clone()).collect();
    Ok(vec![cx.reshape(x, &rest)?.into()])
}

fn unsqueeze<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let axes = axes(cx, n)?.ok_or_else(|| n.error("axes are missing"))?;
    Ok(vec![cx.unsqueeze(n.tensor(0)?, &axes)?.into()])
}

fn transpose<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let rank = cx.rank(x)?;
    let perm = match n.ints("perm")? {
        Some(perm) => cx.axes(&perm, rank)?,
        None => (0..rank).rev().collect(),
    };
    if perm.len() != rank {
        return Err(n.error(format!("perm {perm:?} is no permutation of {rank} axes")));
    }
    Ok(vec![cx.transpose(x, &perm)?.into()])
}

fn expand<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let wanted = cx.dims(n, 1)?;
    let shape = cx.shape(x)?;
    let to = cx.broadcast_shape(&[shape, wanted])?;
    Ok(vec![cx.expand_to(x, &to)?.into()])
}

fn tile<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let repeats = cx.dims(n, 1)?;
    tiled(cx, n, x, repeats)
}

/// Tile-1: one axis.
fn tile_1<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let (count, axis) = (cx.dims(n, 1)?, cx.ints(n, 2)?);
    let rank = cx.rank(x)?;
    let mut repeats = vec![Dim::constant(1); rank];
    let ([count], [axis]) = (count.as_slice(), axis.as_slice()) else {
        return Err(n.error("tiles and axis are one number each"));
    };
    let at = cx.axis(*axis, rank)?;
    if let Some(r) = repeats.get_mut(at) {
        *r = count.clone();
    }
    tiled(cx, n, x, repeats)
}

fn tiled(cx: &mut Cx<'_>, n: &NodeView<'_>, x: ValueId, repeats: Vec<Dim>) -> Result<Vec<Val>> {
    if repeats.len() != cx.rank(x)? {
        return Err(n.error(format!("{} repeats for rank {}", repeats.len(), cx.rank(x)?)));
    }
    if repeats.iter().all(|r| r.is(1)) {
        return Ok(vec![x.into()]);
    }
    // Axes of extent 1 are broadcast.
    let shape = cx.shape(x)?;
    if shape.iter().zip(&repeats).all(|(d, r)| r.is(1) || d.is(1)) {
        let to: Vec<Dim> =
            shape.iter().zip(&repeats).map(|(d, r)| if r.is(1) { d.clone() } else { r.clone() }).collect();
        return Ok(vec![cx.expand_to(x, &to)?.into()]);
    }
    Ok(vec![cx.emit(Tile { repeats }, &[x])?.into()])
}
