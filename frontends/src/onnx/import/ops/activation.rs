//! Activation functions, those without an op in the graph made of others. Plain functions are in `elementwise.rs`.

use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{BinaryFn, Elu, Gelu, GeluForm, HardSigmoid, LeakyRelu, Swish, UnaryFn};
use frit_ir::{Dim, ValueId};

pub const ROWS: &[Row] = &[
    ("", "LeakyRelu", 1, leaky_relu),
    ("", "PRelu", 1, p_relu),
    ("", "Elu", 1, elu),
    ("", "Selu", 1, selu),
    ("", "Celu", 12, celu),
    ("", "ThresholdedRelu", 10, thresholded_relu),
    ("", "HardSigmoid", 1, hard_sigmoid),
    ("", "HardSwish", 14, hard_swish),
    ("", "Mish", 18, mish),
    ("", "Gelu", 20, gelu),
    ("", "Swish", 24, swish),
    ("", "Shrink", 9, shrink),
    ("", "Dropout", 1, dropout),
];

fn leaky_relu<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["consumed_inputs"]);
    let alpha = n.float_or("alpha", 0.01)?;
    Ok(vec![cx.emit(LeakyRelu { alpha }, &[n.tensor(0)?])?.into()])
}

/// slope x where x is negative. Before opset 7 a slope of one axis is that of the channels.
fn p_relu<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["consumed_inputs"]);
    let (x, mut slope) = (n.tensor(0)?, n.tensor(1)?);
    if n.opset < 7 && cx.rank(slope)? == 1 && cx.rank(x)? > 2 {
        let mut shape = cx.shape(slope)?;
        shape.resize(cx.rank(x)? - 1, Dim::constant(1));
        slope = cx.reshape(slope, &shape)?;
    }
    let negative = cx.with_number(BinaryFn::Less, x, 0.0)?;
    let scaled = cx.times(x, slope)?;
    Ok(vec![cx.choose(negative, scaled, x)?.into()])
}

fn elu<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["consumed_inputs"]);
    let alpha = n.float_or("alpha", 1.0)?;
    Ok(vec![cx.emit(Elu { alpha }, &[n.tensor(0)?])?.into()])
}

fn selu<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["consumed_inputs"]);
    let old = n.opset < 6;
    let alpha = n.float_or("alpha", if old { 1.6732 } else { 1.673_263_192_176_818_8 })?;
    let gamma = n.float_or("gamma", if old { 1.0507 } else { 1.050_701_022_148_132_3 })?;
    let y = cx.emit(Elu { alpha }, &[n.tensor(0)?])?;
    Ok(vec![cx.with_number(BinaryFn::Mul, y, gamma)?.into()])
}

/// max(0, x) + min(0, alpha (e^(x / alpha) - 1)) = alpha elu(x / alpha)
fn celu<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let alpha = n.float_or("alpha", 1.0)?;
    let inner = cx.with_number(BinaryFn::Div, n.tensor(0)?, alpha)?;
    let y = cx.emit(Elu { alpha: 1.0 }, &[inner])?;
    Ok(vec![cx.with_number(BinaryFn::Mul, y, alpha)?.into()])
}

fn thresholded_relu<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let above = cx.with_number(BinaryFn::Greater, x, n.float_or("alpha", 1.0)?)?;
    let dtype = cx.dtype(x)?;
    let zero = cx.scalar(dtype, 0.0)?;
    Ok(vec![cx.choose(above, x, zero)?.into()])
}

fn hard_sigmoid<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["consumed_inputs"]);
    let op = HardSigmoid { alpha: n.float_or("alpha", 0.2)?, beta: n.float_or("beta", 0.5)? };
    Ok(vec![cx.emit(op, &[n.tensor(0)?])?.into()])
}

fn hard_swish<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let gate = cx.emit(HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, &[x])?;
    Ok(vec![cx.times(x, gate)?.into()])
}

fn mish<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let y = cx.unary(UnaryFn::Softplus, x)?;
    let y = cx.unary(UnaryFn::Tanh, y)?;
    Ok(vec![cx.times(x, y)?.into()])
}

fn gelu<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let approximate = match n.string_or("approximate", "none")? {
        "none" => GeluForm::None,
        "tanh" => GeluForm::Tanh,
        other => return Err(n.error(format!("attribute `approximate` is {other}, expected none or tanh"))),
    };
    Ok(vec![cx.emit(Gelu { approximate }, &[n.tensor(0)?])?.into()])
}

fn swish<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let alpha = n.float_or("alpha", 1.0)?;
    Ok(vec![cx.emit(Swish { alpha }, &[n.tensor(0)?])?.into()])
}

/// x + bias below -lambd, x - bias above lambd, else 0.
fn shrink<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let (bias, limit) = (n.float_or("bias", 0.0)?, n.float_or("lambd", 0.5)?);
    let dtype = cx.dtype(x)?;
    // Integers are compared and shifted as numbers with fractions.
    let wide = if dtype.is_float() { x } else { cx.cast(x, frit_ir::DType::F64)? };
    let (low, high) =
        (cx.with_number(BinaryFn::Less, wide, -limit)?, cx.with_number(BinaryFn::Greater, wide, limit)?);
    let (up, down) = (cx.with_number(BinaryFn::Add, wide, bias)?, cx.with_number(BinaryFn::Sub, wide, bias)?);
    let zero = cx.with_number(BinaryFn::Mul, wide, 0.0)?;
    let inner = cx.choose(high, down, zero)?;
    let y = cx.choose(low, up, inner)?;
    Ok(vec![cx.cast(y, dtype)?.into()])
}

/// Dropout in inference: x, and a mask of what is kept, which is all.
fn dropout<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["ratio", "seed", "is_test", "consumed_inputs"]);
    let x = n.tensor(0)?;
    if n.opset >= 12 && cx.opt_int(n, 2)?.unwrap_or(0) != 0 {
        let ratio = match n.opt(1)? {
            Some(_) => cx.numbers(n, 1)?.to_f64_vec().first().copied().unwrap_or(0.5),
            None => 0.5,
        };
        if ratio != 0.0 {
            return Err(
                n.error(format!("training with ratio {ratio} is random; only inference is supported"))
            );
        }
    }
    let mut out = vec![Val::from(x)];
    if n.wants(1) {
        let dtype = if n.opset >= 10 { frit_ir::DType::Bool } else { cx.dtype(x)? };
        out.push(ones(cx, x, dtype)?.into());
    }
    Ok(out)
}

fn ones(cx: &mut Cx<'_>, like: ValueId, dtype: frit_ir::DType) -> Result<ValueId> {
    let shape = cx.shape(like)?;
    cx.full(&shape, 1.0, dtype)
}
