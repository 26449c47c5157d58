//! Matrix products: MatMul and Gemm. Products of integers with scales are quantisation's.

use crate::onnx::import::broadcast::agreed;
use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::BinaryFn;
use frit_ir::{Dim, ValueId};

pub const ROWS: &[Row] = &[("", "MatMul", 1, matmul), ("", "Gemm", 1, gemm)];

fn matmul<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    Ok(vec![product(cx, n.tensor(0)?, n.tensor(1)?)?.into()])
}

/// The matrix product of operands whose inner extents must agree and whose outer ones broadcast.
pub fn product(cx: &mut Cx<'_>, a: ValueId, b: ValueId) -> Result<ValueId> {
    let (mut sa, mut sb) = (cx.shape(a)?, cx.shape(b)?);
    let (Some(inner), Some(_)) = (sa.last().cloned(), sb.last()) else {
        return Err(cx.error("a matrix product of a number without axes"));
    };
    let row = sb.len().saturating_sub(2);
    let k = agreed(&inner, sb.get(row).unwrap_or(&inner));
    if let (Some(x), Some(y)) = (sa.last_mut(), sb.get_mut(row)) {
        (*x, *y) = (k.clone(), k);
    }
    let (a, b) = (cx.agree(a, &sa)?, cx.agree(b, &sb)?);
    if sa.len() < 3 && sb.len() < 3 {
        return cx.matmul(a, b);
    }
    let (outer_a, matrix_a) = sa.split_at(sa.len().saturating_sub(2));
    let (outer_b, matrix_b) = sb.split_at(row);
    let outer = cx.broadcast_shape(&[outer_a.to_vec(), outer_b.to_vec()])?;
    let wanted = |own: &[Dim], matrix: &[Dim]| -> Vec<Dim> {
        let skip = outer.len().saturating_sub(own.len());
        let own = own.iter().zip(outer.iter().skip(skip)).map(|(d, t)| if d.is(1) { d } else { t });
        own.chain(matrix).cloned().collect()
    };
    let (to_a, to_b) = (wanted(outer_a, matrix_a), wanted(outer_b, matrix_b));
    let (a, b) = (cx.expand_to(a, &to_a)?, cx.expand_to(b, &to_b)?);
    cx.matmul(a, b)
}

fn gemm<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    Ok(vec![general(cx, n)?.into()])
}

/// alpha a b + beta c, a and b transposed where the node's attributes ask for it.
pub(super) fn general(cx: &mut Cx<'_>, n: &NodeView<'_>) -> Result<ValueId> {
    n.ignore(&["broadcast"]);
    let (mut a, mut b) = (n.tensor(0)?, n.tensor(1)?);
    if cx.rank(a)? != 2 || cx.rank(b)? != 2 {
        return Err(n.error("expected two matrices"));
    }
    if n.flag("transA", false)? {
        a = cx.swap_axes(a, 0, 1)?;
    }
    if n.flag("transB", false)? {
        b = cx.swap_axes(b, 0, 1)?;
    }
    let (alpha, beta) = (n.float_or("alpha", 1.0)?, n.float_or("beta", 1.0)?);
    let mut y = product(cx, a, b)?;
    if alpha != 1.0 {
        y = cx.with_number(BinaryFn::Mul, y, alpha)?;
    }
    if let Some(mut c) = n.opt(2)? {
        if beta != 1.0 {
            c = cx.with_number(BinaryFn::Mul, c, beta)?;
        }
        y = cx.plus(y, c)?;
    }
    Ok(y)
}
