//! Bits, tests of floats, trigonometry, running products. Arithmetic is in `elementwise.rs`.

use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use crate::onnx::read::dtype_of;
use crate::onnx::schema::DataType;
use frit_ir::DType;
use frit_ir::op::{BinaryFn, BitCast, CumProd, UnaryFn};

pub const ROWS: &[Row] = &[
    ("", "Tan", 7, unary),
    ("", "Asin", 7, unary),
    ("", "Atan", 7, unary),
    ("", "Sinh", 9, unary),
    ("", "Cosh", 9, unary),
    ("", "Asinh", 9, unary),
    ("", "Acosh", 9, unary),
    ("", "Atanh", 9, unary),
    ("", "BitwiseNot", 18, unary),
    ("", "BitwiseAnd", 18, binary),
    ("", "BitwiseOr", 18, binary),
    ("", "BitwiseXor", 18, binary),
    ("", "BitShift", 11, shift),
    ("", "BitCast", 26, bit_cast),
    ("", "IsInf", 10, is_inf),
    ("", "CumProd", 26, running_product),
];

fn unary<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let function = UnaryFn::ALL.iter().find(|f| f.name() == n.op);
    let function = *function.ok_or_else(|| n.error("the graph has no such function"))?;
    Ok(vec![cx.unary(function, n.tensor(0)?)?.into()])
}

fn binary<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let function = BinaryFn::ALL.iter().find(|f| f.name() == n.op);
    let function = *function.ok_or_else(|| n.error("the graph has no such function"))?;
    Ok(vec![cx.binary(function, n.tensor(0)?, n.tensor(1)?)?.into()])
}

fn shift<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let function = match n.string("direction")? {
        Some("LEFT") => BinaryFn::ShiftLeft,
        Some("RIGHT") => BinaryFn::ShiftRight,
        other => return Err(n.error(format!("direction must be LEFT or RIGHT, got {other:?}"))),
    };
    Ok(vec![cx.binary(function, n.tensor(0)?, n.tensor(1)?)?.into()])
}

/// The element type that an attribute names.
pub(super) fn dtype_attr(n: &NodeView<'_>, name: &'static str) -> Result<Option<DType>> {
    let Some(number) = n.int(name)? else { return Ok(None) };
    let ty = i32::try_from(number).ok().and_then(|i| DataType::try_from(i).ok());
    match ty.and_then(dtype_of) {
        Some(d) => Ok(Some(d)),
        None => Err(n.error(format!("attribute `{name}`: {number} is no element type of tensors here"))),
    }
}

fn bit_cast<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let to = dtype_attr(n, "to")?.ok_or_else(|| n.error("attribute `to` is missing"))?;
    Ok(vec![cx.emit(BitCast { to }, &[n.tensor(0)?])?.into()])
}

fn is_inf<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (negative, positive) = (n.flag("detect_negative", true)?, n.flag("detect_positive", true)?);
    let mut x = n.tensor(0)?;
    if cx.dtype(x)?.is_narrow() {
        x = cx.cast(x, DType::F32)?;
    }
    let y = match (negative, positive) {
        (true, true) => cx.unary(UnaryFn::IsInf, x)?,
        (true, false) => cx.with_number(BinaryFn::Equal, x, f64::NEG_INFINITY)?,
        (false, true) => cx.with_number(BinaryFn::Equal, x, f64::INFINITY)?,
        (false, false) => {
            let shape = cx.shape(x)?;
            cx.full(&shape, 0.0, DType::Bool)?
        }
    };
    Ok(vec![y.into()])
}

fn running_product<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let axis = cx.opt_int(n, 1)?.ok_or_else(|| n.error("the axis is missing"))?;
    let (exclusive, reverse) = (n.flag("exclusive", false)?, n.flag("reverse", false)?);
    Ok(vec![cx.emit(CumProd { axis, exclusive, reverse }, &[n.tensor(0)?])?.into()])
}
