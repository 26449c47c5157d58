//! Softmax and its kin. Before opset 13 they worked on the axes from `axis` on as one.

use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{ArgMax, BinaryFn, LogSoftmax, Softmax};
use frit_ir::types::product;
use frit_ir::{DType, Dim, ValueId};

pub const ROWS: &[Row] =
    &[("", "Softmax", 1, softmax), ("", "LogSoftmax", 1, softmax), ("", "Hardmax", 1, softmax)];

fn softmax<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let shape = cx.shape(x)?;
    let rank = shape.len();
    if rank == 0 {
        return Err(n.error("expected an axis, got a scalar"));
    }
    if n.opset >= 13 {
        let axis = cx.axis(n.int_or("axis", -1)?, rank)?;
        return Ok(vec![along(cx, n, x, axis)?.into()]);
    }
    let axis = n.int_or("axis", 1)?;
    let axis = cx.axis(if rank == 1 && axis == 1 { 0 } else { axis }, rank)?;
    if axis + 1 == rank {
        return Ok(vec![along(cx, n, x, axis)?.into()]);
    }
    let (before, after) = shape.split_at(axis);
    let flat = [cx.dim(product(before))?, cx.dim(product(after))?];
    let y = cx.reshape(x, &flat)?;
    let y = along(cx, n, y, 1)?;
    Ok(vec![cx.reshape(y, &shape)?.into()])
}

fn along(cx: &mut Cx<'_>, n: &NodeView<'_>, x: ValueId, axis: usize) -> Result<ValueId> {
    let rank = cx.rank(x)?;
    let at = if axis + 1 == rank { -1 } else { i64::try_from(axis).unwrap_or(0) };
    match n.op {
        "Softmax" => cx.emit(Softmax { axis: at }, &[x]),
        "LogSoftmax" => cx.emit(LogSoftmax { axis: at }, &[x]),
        _ => {
            // 1 at the first largest
            let dtype = cx.dtype(x)?;
            let extent = cx.shape(x)?.get(axis).cloned().unwrap_or_default();
            let best = cx.emit(ArgMax { axis: at, keepdims: true }, &[x])?;
            let mut along = vec![Dim::constant(1); rank];
            if let Some(d) = along.get_mut(axis) {
                *d = extent.clone();
            }
            let position = cx.iota(&extent, DType::I64)?;
            let position = cx.reshape(position, &along)?;
            let on = cx.binary(BinaryFn::Equal, position, best)?;
            cx.cast(on, dtype)
        }
    }
}
