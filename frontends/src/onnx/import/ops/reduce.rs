//! Reductions, positions of extremes, running sums.

use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{ArgMax, ArgMin, CumSum, ReduceFn, Slice};
use frit_ir::{DType, Dim, ValueId};

pub const ROWS: &[Row] = &[
    ("", "ReduceSum", 1, reduce),
    ("", "ReduceMean", 1, reduce),
    ("", "ReduceMax", 1, reduce),
    ("", "ReduceMin", 1, reduce),
    ("", "ReduceProd", 1, reduce),
    ("", "ReduceL1", 1, reduce),
    ("", "ReduceL2", 1, reduce),
    ("", "ReduceSumSquare", 1, reduce),
    ("", "ReduceLogSum", 1, reduce),
    ("", "ReduceLogSumExp", 1, reduce),
    ("", "ArgMax", 1, arg),
    ("", "ArgMin", 1, arg),
    ("", "CumSum", 11, cumulative_sum),
];

fn reduce<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let function = ReduceFn::ALL.iter().find(|f| f.name() == n.op);
    let function = *function.ok_or_else(|| n.error("the graph has no such reduction"))?;
    let x = n.tensor(0)?;
    let axes = match n.ints("axes")? {
        Some(all) => Some(all),
        None => cx.opt_ints(n, 1)?,
    };
    let keepdims = n.flag("keepdims", true)?;
    let nothing = n.flag("noop_with_empty_axes", false)?;
    let axes = axes.filter(|a| !a.is_empty());
    if axes.is_none() && nothing {
        return Ok(vec![x.into()]);
    }
    let axes = cx.axes(&axes.unwrap_or_default(), cx.rank(x)?)?;
    let dtype = cx.dtype(x)?;
    let fractional =
        matches!(function, ReduceFn::L2 | ReduceFn::LogSum | ReduceFn::LogSumExp | ReduceFn::Mean);
    if fractional && !dtype.is_float() {
        let wide = cx.cast(x, DType::F64)?;
        let y = cx.reduce(function, wide, &axes, keepdims)?;
        return Ok(vec![cx.cast(y, dtype)?.into()]);
    }
    Ok(vec![cx.reduce(function, x, &axes, keepdims)?.into()])
}

fn arg<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let mut x = n.tensor(0)?;
    let shape = cx.shape(x)?;
    let axis = n.int_or("axis", 0)?;
    let at = cx.axis(axis, shape.len())?;
    let keepdims = n.flag("keepdims", true)?;
    let last = n.flag("select_last_index", false)?;
    let end = cx.dim(shape.get(at).cloned().unwrap_or_default().add_const(-1))?;
    if last {
        let (starts, ends) = (vec![end.clone()], vec![Dim::constant(-1)]);
        x = cx.emit(Slice { axes: vec![axis], starts, ends, steps: vec![-1] }, &[x])?;
    }
    let mut y: ValueId = if n.op == "ArgMax" {
        cx.emit(ArgMax { axis, keepdims }, &[x])?
    } else {
        cx.emit(ArgMin { axis, keepdims }, &[x])?
    };
    if last {
        let end = cx.dims_value(&[end])?;
        let end = cx.reshape(end, &[])?;
        y = cx.minus(end, y)?;
    }
    Ok(vec![y.into()])
}

fn cumulative_sum<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let axis = cx.opt_int(n, 1)?.ok_or_else(|| n.error("the axis is missing"))?;
    let op = CumSum { axis, exclusive: n.flag("exclusive", false)?, reverse: n.flag("reverse", false)? };
    Ok(vec![cx.emit(op, &[n.tensor(0)?])?.into()])
}
