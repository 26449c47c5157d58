//! Norms over windows of channels, over axes and by powers. Normalisations with weights are in `norm.rs`.

use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::Dim;
use frit_ir::op::{AveragePool, BinaryFn, ReduceFn, UnaryFn};

pub const ROWS: &[Row] = &[
    ("", "LRN", 1, lrn),
    ("", "MeanVarianceNormalization", 9, mean_variance),
    ("", "LpNormalization", 1, lp_normalization),
];

/// x / (bias + alpha m)^beta, where m is the mean of squares of `size` neighbouring channels, those beyond the ends
/// counting as 0: an average pool over the channels as a spatial axis.
fn lrn<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let shape = cx.shape(x)?;
    let size = n.int_or("size", 0)?;
    let (alpha, beta) = (n.float_or("alpha", 0.0001)?, n.float_or("beta", 0.75)?);
    let [batch, channels, spatial @ ..] = shape.as_slice() else {
        return Err(n.error(format!("operand 0: expected [N, C, spatial..], got {}", cx.ty(x)?)));
    };
    if size < 1 {
        return Err(n.error(format!("attribute `size`: expected 1 or more, got {size}")));
    }
    let area = cx.dim(frit_ir::types::product(spatial))?;
    let squares = cx.times(x, x)?;
    let flat = cx.reshape(squares, &[batch.clone(), Dim::constant(1), channels.clone(), area])?;
    let pool = AveragePool {
        kernel: vec![size, 1],
        strides: vec![1, 1],
        pads: vec![(size - 1) / 2, 0, size / 2, 0],
        dilations: vec![1, 1],
        ceil_mode: false,
        count_include_pad: true,
    };
    let mean = cx.emit(pool, &[flat])?;
    let mean = cx.reshape(mean, &shape)?;
    let scaled = cx.with_number(BinaryFn::Mul, mean, alpha)?;
    let sum = cx.with_number(BinaryFn::Add, scaled, n.float_or("bias", 1.0)?)?;
    let divisor = cx.with_number(BinaryFn::Pow, sum, beta)?;
    Ok(vec![cx.over(x, divisor)?.into()])
}

/// (x - mean) / (standard deviation + 1e-9).
fn mean_variance<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let axes = n.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let axes = cx.axes(&axes, cx.rank(x)?)?;
    let mean = cx.reduce(ReduceFn::Mean, x, &axes, true)?;
    let centred = cx.minus(x, mean)?;
    let squares = cx.times(centred, centred)?;
    let variance = cx.reduce(ReduceFn::Mean, squares, &axes, true)?;
    let deviation = cx.unary(UnaryFn::Sqrt, variance)?;
    let divisor = cx.with_number(BinaryFn::Add, deviation, 1e-9)?;
    Ok(vec![cx.over(centred, divisor)?.into()])
}

/// x divided by its norm along an axis; what has the norm 0 stays 0.
fn lp_normalization<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let p = n.int_or("p", 2)?;
    if !(1..=2).contains(&p) {
        return Err(n.error(format!("attribute `p`: expected 1 or 2, got {p}")));
    }
    let axis = cx.axis(n.int_or("axis", -1)?, cx.rank(x)?)?;
    let function = if p == 1 { ReduceFn::L1 } else { ReduceFn::L2 };
    let norm = cx.reduce(function, x, &[axis], true)?;
    let none = cx.with_number(BinaryFn::Equal, norm, 0.0)?;
    let one = cx.scalar(cx.dtype(x)?, 1.0)?;
    let divisor = cx.choose(none, one, norm)?;
    Ok(vec![cx.over(x, divisor)?.into()])
}
