//! Elementwise functions of one and two operands that the graph has ops for, and variadic sums and extremes.
//! Activations are in `activation.rs`, conversions in `cast.rs`.

use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use crate::onnx::value::Strings;
use frit_ir::op::{BinaryFn, UnaryFn, broadcast_indices};
use frit_ir::{DType, Dim, Tensor, ValueId};

pub const ROWS: &[Row] = &[
    ("", "Abs", 1, unary),
    ("", "Neg", 1, unary),
    ("", "Sign", 9, unary),
    ("", "Exp", 1, unary),
    ("", "Log", 1, unary),
    ("", "Sqrt", 1, unary),
    ("", "Reciprocal", 1, unary),
    ("", "Erf", 9, unary),
    ("", "Tanh", 1, unary),
    ("", "Sigmoid", 1, unary),
    ("", "Relu", 1, unary),
    ("", "Softplus", 1, unary),
    ("", "Softsign", 1, unary),
    ("", "Sin", 7, unary),
    ("", "Cos", 7, unary),
    ("", "Acos", 7, unary),
    ("", "Floor", 1, unary),
    ("", "Ceil", 1, unary),
    ("", "Round", 11, unary),
    ("", "Not", 1, unary),
    ("", "IsNaN", 9, unary),
    ("", "Add", 1, binary),
    ("", "Sub", 1, binary),
    ("", "Mul", 1, binary),
    ("", "Div", 1, binary),
    ("", "And", 1, binary),
    ("", "Or", 1, binary),
    ("", "Xor", 1, binary),
    ("", "Equal", 1, equal),
    ("", "Less", 1, binary),
    ("", "LessOrEqual", 12, binary),
    ("", "Greater", 1, binary),
    ("", "GreaterOrEqual", 12, binary),
    ("", "Pow", 1, pow),
    ("", "Mod", 10, modulo),
    ("", "Sum", 1, variadic),
    ("", "Max", 1, variadic),
    ("", "Min", 1, variadic),
    ("", "Mean", 1, variadic),
];

fn unary<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["consumed_inputs"]);
    let function = UnaryFn::ALL.iter().find(|f| f.name() == n.op);
    let function = *function.ok_or_else(|| n.error("the graph has no such function"))?;
    Ok(vec![cx.unary(function, n.tensor(0)?)?.into()])
}

fn binary<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["consumed_inputs"]);
    let function = BinaryFn::ALL.iter().find(|f| f.name() == n.op);
    let function = *function.ok_or_else(|| n.error("the graph has no such function"))?;
    let (x, y) = operands(cx, n)?;
    Ok(vec![cx.binary(function, x, y)?.into()])
}

/// Equal, which also compares strings.
fn equal<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (Val::Strings(x), Val::Strings(y)) = (n.val(0)?, n.val(1)?) else { return binary(cx, n) };
    let dims = |s: &Strings| s.shape.iter().copied().map(Dim::from).collect::<Vec<_>>();
    let shape = cx.broadcast_shape(&[dims(x), dims(y)])?;
    let shape: Vec<usize> = shape.iter().filter_map(Dim::as_fixed).collect();
    // Room for the result is taken first, so that a shape beyond all memory is an error.
    let count = Tensor::zeros(DType::Bool, &shape).map_err(|e| cx.refused(e))?.len();
    let mut same = Vec::with_capacity(count);
    for (i, j) in broadcast_indices(&x.shape, &shape).zip(broadcast_indices(&y.shape, &shape)) {
        same.push(x.values.get(i) == y.values.get(j));
    }
    let data = Tensor::from_bools(&shape, &same).map_err(|e| cx.refused(e))?;
    Ok(vec![cx.constant(data)?.into()])
}

/// Both operands; before opset 7 the second one is aligned to the axes of the first from `axis` on.
fn operands(cx: &mut Cx<'_>, n: &NodeView<'_>) -> Result<(ValueId, ValueId)> {
    let (x, mut y) = (n.tensor(0)?, n.tensor(1)?);
    if n.opset < 7 {
        let broadcast = n.flag("broadcast", false)?;
        if let Some(axis) = n.int("axis")?
            && broadcast
        {
            let rank = cx.rank(x)?;
            let at = cx.axis(axis, rank.max(1))?;
            let mut shape = cx.shape(y)?;
            while shape.len() + at < rank {
                shape.push(Dim::constant(1));
            }
            y = cx.reshape(y, &shape)?;
        }
    }
    Ok((x, y))
}

/// Pow: the result has the type of the base.
fn pow<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (x, y) = operands(cx, n)?;
    let (base, exponent) = (cx.dtype(x)?, cx.dtype(y)?);
    if base.is_int() && exponent.is_float() {
        let wide = cx.cast(x, DType::F64)?;
        let y = cx.cast(y, DType::F64)?;
        let z = cx.binary(BinaryFn::Pow, wide, y)?;
        return Ok(vec![cx.cast(z, base)?.into()]);
    }
    let y = cx.cast(y, base)?;
    Ok(vec![cx.binary(BinaryFn::Pow, x, y)?.into()])
}

/// Mod: with `fmod` the remainder has the dividend's sign, without it the divisor's.
fn modulo<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (x, y) = (n.tensor(0)?, n.tensor(1)?);
    if !n.flag("fmod", false)? {
        return Ok(vec![cx.binary(BinaryFn::Mod, x, y)?.into()]);
    }
    // sign(x) (|x| mod |y|)
    let dtype = cx.dtype(x)?;
    let unsigned = matches!(dtype, DType::U8 | DType::U16 | DType::U32 | DType::U64);
    if unsigned {
        return Ok(vec![cx.binary(BinaryFn::Mod, x, y)?.into()]);
    }
    let (ax, ay) = (cx.unary(UnaryFn::Abs, x)?, cx.unary(UnaryFn::Abs, y)?);
    let rest = cx.binary(BinaryFn::Mod, ax, ay)?;
    let sign = cx.unary(UnaryFn::Sign, x)?;
    Ok(vec![cx.times(rest, sign)?.into()])
}

fn variadic<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["consumed_inputs"]);
    let all = n.tensors()?;
    let Some((&first, rest)) = all.split_first() else { return Err(n.error("no operands")) };
    let function = match n.op {
        "Max" => BinaryFn::Max,
        "Min" => BinaryFn::Min,
        _ => BinaryFn::Add,
    };
    let mut out = first;
    for &v in rest {
        out = cx.binary(function, out, v)?;
    }
    if n.op == "Mean" && !rest.is_empty() {
        out = cx.with_number(BinaryFn::Div, out, all.len() as f64)?;
    }
    Ok(vec![out.into()])
}
