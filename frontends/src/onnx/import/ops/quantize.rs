//! Quantisation of ai.onnx: scales, zero points, products of quantised tensors. What com.microsoft adds is in `contrib`.

use super::bits::dtype_attr;
use super::integer::{self, Shifted, range};
use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{BinaryFn, Cast, Clip, ReduceFn, UnaryFn};
use frit_ir::{DType, Dim, RoundMode, ValueId};

pub const ROWS: &[Row] = &[
    ("", "QuantizeLinear", 10, quantize_linear),
    ("", "DequantizeLinear", 10, dequantize_linear),
    ("", "DynamicQuantizeLinear", 11, dynamic_quantize),
    ("", "MatMulInteger", 10, matmul_integer),
    ("", "ConvInteger", 10, conv_integer),
    ("", "QLinearMatMul", 10, qlinear_matmul),
    ("", "QLinearConv", 10, qlinear_conv),
    ("com.microsoft", "QuantizeLinear", 1, quantize_linear),
    ("com.microsoft", "DequantizeLinear", 1, dequantize_linear),
];

/// A scale or zero point, shaped to broadcast against x: one number, one an extent of `axis`, or one a block of it.
fn along(cx: &mut Cx<'_>, n: &NodeView<'_>, p: ValueId, x: &[Dim], axis: i64, block: i64) -> Result<ValueId> {
    let shape = cx.shape(p)?;
    if block > 0 {
        let axis = cx.axis(axis, x.len())?;
        let Some(blocks) = shape.get(axis).filter(|_| shape.len() == x.len()) else {
            return Err(n.error(format!("blocked scales must have rank {}", x.len())));
        };
        // Each number for a block of elements, the last block maybe cut.
        let mut wide = shape.clone();
        wide.insert(axis + 1, Dim::constant(block));
        let column = cx.unsqueeze(p, &[i64::try_from(axis + 1).unwrap_or(0)])?;
        let column = cx.expand_to(column, &wide)?;
        let mut flat = shape.clone();
        let all = cx.dim(blocks.mul_const(block))?;
        if let Some(d) = flat.get_mut(axis) {
            *d = all;
        }
        let repeated = cx.reshape(column, &flat)?;
        let end = x.get(axis).cloned().unwrap_or_else(|| Dim::constant(0));
        return cx.slice(repeated, axis, &Dim::constant(0), &end);
    }
    match shape.as_slice() {
        [] => Ok(p),
        [one] if one.is(1) => cx.reshape(p, &[]),
        [len] => {
            let axis = cx.axis(axis, x.len())?;
            let mut to = vec![len.clone()];
            to.extend(x.iter().skip(axis + 1).map(|_| Dim::constant(1)));
            cx.reshape(p, &to)
        }
        _ => Ok(p),
    }
}

/// round(x) + zero, cut to the type's range. `x` is f32 or f64.
pub(super) fn to_integers(cx: &mut Cx<'_>, x: ValueId, zero: Option<ValueId>, to: DType) -> Result<ValueId> {
    let Some((low, high)) = range(to) else {
        return Err(cx.error(format!("{to} is no type of quantised integers")));
    };
    let mut y = cx.unary(UnaryFn::Round, x)?;
    if let Some(z) = zero {
        let wide = cx.dtype(y)?;
        let z = cx.cast(z, wide)?;
        y = cx.plus(y, z)?;
    }
    let y = cx.emit(Clip { min: Some(low), max: Some(high) }, &[y])?;
    cx.cast(y, to)
}

fn quantize_linear<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (x, scale, zero) = (n.tensor(0)?, n.tensor(1)?, n.opt(2)?);
    let (axis, block) = (n.int_or("axis", 1)?, n.int_or("block_size", 0)?);
    let saturate = n.flag("saturate", true)?;
    let asked = dtype_attr(n, "output_dtype").or_else(|e| match n.int_or("output_dtype", 0) {
        Ok(0) => Ok(None),
        _ => Err(e),
    })?;
    let to = match zero {
        Some(z) => cx.dtype(z)?,
        None => asked.unwrap_or(DType::U8),
    };
    let precision = match n.int_or("precision", 0)? {
        0 => None,
        _ => dtype_attr(n, "precision")?,
    };
    let shape = cx.shape(x)?;
    let scale = along(cx, n, scale, &shape, axis, block)?;
    let zero = zero.map(|z| along(cx, n, z, &shape, axis, block)).transpose()?;
    let x_type = cx.dtype(x)?;
    let wide = precision.unwrap_or(if x_type.is_float() { x_type } else { DType::F32 });
    let (x, scale) = (cx.cast(x, wide)?, cx.cast(scale, wide)?);
    let scaled = cx.over(x, scale)?;
    if range(to).is_some() {
        // Zero points of 16 bits are no halves.
        let scaled = cx.unary(UnaryFn::Round, scaled)?;
        let scaled = if wide == DType::F64 { scaled } else { cx.cast(scaled, DType::F32)? };
        return Ok(vec![to_integers(cx, scaled, zero, to)?.into()]);
    }
    let mut y = scaled;
    if let Some(z) = zero.filter(|_| to == DType::F4E2M1) {
        let z = cx.cast(z, wide)?;
        y = cx.plus(y, z)?;
    }
    Ok(vec![cx.emit(Cast { to, saturate, round_mode: RoundMode::Up }, &[y])?.into()])
}

fn dequantize_linear<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (x, scale, zero) = (n.tensor(0)?, n.tensor(1)?, n.opt(2)?);
    let (axis, block) = (n.int_or("axis", 1)?, n.int_or("block_size", 0)?);
    let to = match n.int_or("output_dtype", 0)? {
        0 => cx.dtype(scale)?,
        _ => dtype_attr(n, "output_dtype")?.unwrap_or(DType::F32),
    };
    let shape = cx.shape(x)?;
    let scale = along(cx, n, scale, &shape, axis, block)?;
    let zero = zero.map(|z| along(cx, n, z, &shape, axis, block)).transpose()?;
    Ok(vec![dequantize(cx, x, scale, zero, to)?.into()])
}

/// (x - zero) scale; all broadcast.
pub(super) fn dequantize(
    cx: &mut Cx<'_>,
    x: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
    to: DType,
) -> Result<ValueId> {
    let integers = range(cx.dtype(x)?).is_some();
    let mut wide = cx.cast(x, DType::F32)?;
    // Floats have no zero point but 0.
    if let Some(z) = zero.filter(|_| integers) {
        let z = cx.cast(z, DType::F32)?;
        wide = cx.minus(wide, z)?;
    }
    let scale = cx.cast(scale, DType::F32)?;
    let y = cx.times(wide, scale)?;
    cx.cast(y, to)
}

/// Integers, scale and zero point of a float tensor over its own range, which includes 0, as u8.
pub(super) fn quantize_by_range(cx: &mut Cx<'_>, x: ValueId) -> Result<(ValueId, ValueId, ValueId)> {
    let most = cx.reduce(ReduceFn::Max, x, &[], false)?;
    let most = cx.with_number(BinaryFn::Max, most, 0.0)?;
    let least = cx.reduce(ReduceFn::Min, x, &[], false)?;
    let least = cx.with_number(BinaryFn::Min, least, 0.0)?;
    let span = cx.minus(most, least)?;
    let flat = cx.with_number(BinaryFn::Equal, span, 0.0)?;
    let dtype = cx.dtype(x)?;
    let one = cx.scalar(dtype, 1.0)?;
    let span = cx.choose(flat, one, span)?;
    let scale = cx.with_number(BinaryFn::Div, span, 255.0)?;
    let up = cx.unary(UnaryFn::Neg, least)?;
    let zero = cx.over(up, scale)?;
    let zero = to_integers(cx, zero, None, DType::U8)?;
    let scaled = cx.over(x, scale)?;
    let y = to_integers(cx, scaled, Some(zero), DType::U8)?;
    Ok((y, scale, zero))
}

fn dynamic_quantize<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (y, scale, zero) = quantize_by_range(cx, n.tensor(0)?)?;
    Ok(vec![y.into(), scale.into(), zero.into()])
}

/// A number a row of a matrix as a column.
pub(super) fn by_row(cx: &mut Cx<'_>, p: ValueId) -> Result<ValueId> {
    match cx.shape(p)?.as_slice() {
        [one] if one.is(1) => cx.reshape(p, &[]),
        [_] => cx.unsqueeze(p, &[1]),
        _ => Ok(p),
    }
}

/// A number a column of a matrix, or one.
pub(super) fn by_column(cx: &mut Cx<'_>, p: ValueId) -> Result<ValueId> {
    match cx.shape(p)?.as_slice() {
        [one] if one.is(1) => cx.reshape(p, &[]),
        _ => Ok(p),
    }
}

fn matmul_integer<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let a = Shifted { x: n.tensor(0)?, zero: n.opt(2)?.map(|z| by_row(cx, z)).transpose()? };
    let b = Shifted { x: n.tensor(1)?, zero: n.opt(3)?.map(|z| by_column(cx, z)).transpose()? };
    Ok(vec![integer::matmul(cx, a, b)?.into()])
}

/// A number an output channel with so many axes of extent 1 after it.
fn by_channel(cx: &mut Cx<'_>, p: ValueId, after: usize) -> Result<ValueId> {
    match cx.shape(p)?.as_slice() {
        [one] if one.is(1) => cx.reshape(p, &[]),
        [len] => {
            let mut to = vec![len.clone()];
            to.resize(after.saturating_add(1), Dim::constant(1));
            cx.reshape(p, &to)
        }
        _ => Ok(p),
    }
}

fn conv_integer<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let w = n.tensor(1)?;
    let rank = cx.rank(w)?;
    let x = Shifted { x: n.tensor(0)?, zero: n.opt(2)?.map(|z| by_column(cx, z)).transpose()? };
    let zero = n.opt(3)?.map(|z| by_channel(cx, z, rank.saturating_sub(1))).transpose()?;
    Ok(vec![integer::conv(cx, n, x, Shifted { x: w, zero })?.into()])
}

/// round(total by factor) + zero, in the zero point's type.
pub(super) fn requantize(cx: &mut Cx<'_>, total: ValueId, factor: ValueId, zero: ValueId) -> Result<ValueId> {
    let total = cx.cast(total, DType::F32)?;
    let factor = cx.cast(factor, DType::F32)?;
    let y = cx.times(total, factor)?;
    let to = cx.dtype(zero)?;
    to_integers(cx, y, Some(zero), to)
}

fn qlinear_matmul<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let a = Shifted { x: n.tensor(0)?, zero: Some(by_row(cx, n.tensor(2)?)?) };
    let b = Shifted { x: n.tensor(3)?, zero: Some(by_column(cx, n.tensor(5)?)?) };
    let total = integer::matmul(cx, a, b)?;
    let (sa, sb) = (by_row(cx, n.tensor(1)?)?, by_column(cx, n.tensor(4)?)?);
    let (sy, zero) = (by_row(cx, n.tensor(6)?)?, by_row(cx, n.tensor(7)?)?);
    let factor = cx.times(sa, sb)?;
    let factor = cx.over(factor, sy)?;
    Ok(vec![requantize(cx, total, factor, zero)?.into()])
}

fn qlinear_conv<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let w = n.tensor(3)?;
    let rank = cx.rank(w)?;
    let x_zero = by_column(cx, n.tensor(2)?)?;
    let w_zero = by_channel(cx, n.tensor(5)?, rank.saturating_sub(1))?;
    let x = Shifted { x: n.tensor(0)?, zero: Some(x_zero) };
    let mut total = integer::conv(cx, n, x, Shifted { x: w, zero: Some(w_zero) })?;
    if let Some(bias) = n.opt(8)? {
        let bias = by_channel(cx, bias, rank.saturating_sub(2))?;
        total = cx.plus(total, bias)?;
    }
    let (sx, sw) = (by_column(cx, n.tensor(1)?)?, by_channel(cx, n.tensor(4)?, rank.saturating_sub(2))?);
    let (sy, zero) = (by_column(cx, n.tensor(6)?)?, by_column(cx, n.tensor(7)?)?);
    let factor = cx.times(sx, sw)?;
    let factor = cx.over(factor, sy)?;
    Ok(vec![requantize(cx, total, factor, zero)?.into()])
}
