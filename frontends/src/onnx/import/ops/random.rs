//! Random tensors and draws: reproducible, by the node's seed, or by its label where it has none.

use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use crate::onnx::read::dtype_of;
use crate::onnx::schema::DataType;
use frit_ir::op::{ArgMax, BinaryFn, Distribution, Random, UnaryFn};
use frit_ir::{DType, Dim, ValueId};

pub const ROWS: &[Row] = &[
    ("", "RandomNormal", 1, random),
    ("", "RandomUniform", 1, random),
    ("", "RandomNormalLike", 1, random_like),
    ("", "RandomUniformLike", 1, random_like),
    ("", "Bernoulli", 15, bernoulli),
    ("", "Multinomial", 7, multinomial),
];

/// The element type that attribute `dtype` names.
fn dtype_attr(n: &NodeView<'_>) -> Result<Option<DType>> {
    let Some(code) = n.int("dtype")? else { return Ok(None) };
    let ty = i32::try_from(code).ok().and_then(|c| DataType::try_from(c).ok()).and_then(dtype_of);
    ty.map(Some).ok_or_else(|| n.error(format!("attribute `dtype`: {code} is no type of numbers")))
}

/// Numbers of a distribution. Nodes with one seed draw the same; nodes without draw each their own.
fn draw(
    cx: &mut Cx<'_>,
    n: &NodeView<'_>,
    distribution: Distribution,
    (a, b): (f64, f64),
    shape: &[Dim],
    dtype: DType,
) -> Result<ValueId> {
    let hash = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    let (seed, salt) = match n.float("seed")? {
        Some(seed) => (seed.to_bits() as i64, 0),
        None => (0, n.label.bytes().fold(0xcbf2_9ce4_8422_2325u64, hash) as i64),
    };
    let drawn = if dtype.is_float() { dtype } else { DType::F32 };
    let v = cx.emit(Random { shape: shape.to_vec(), dtype: drawn, distribution, a, b, seed, salt }, &[])?;
    cx.cast(v, dtype)
}

fn parameters(n: &NodeView<'_>) -> Result<(Distribution, (f64, f64))> {
    if n.op.starts_with("RandomNormal") {
        Ok((Distribution::Normal, (n.float_or("mean", 0.0)?, n.float_or("scale", 1.0)?)))
    } else {
        Ok((Distribution::Uniform, (n.float_or("low", 0.0)?, n.float_or("high", 1.0)?)))
    }
}

fn random<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let shape = n.ints("shape")?.ok_or_else(|| n.error("attribute `shape` is missing"))?;
    let shape: Vec<Dim> = shape.into_iter().map(Dim::constant).collect();
    let (distribution, numbers) = parameters(n)?;
    let dtype = dtype_attr(n)?.unwrap_or(DType::F32);
    Ok(vec![draw(cx, n, distribution, numbers, &shape, dtype)?.into()])
}

fn random_like<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let like = cx.ty(n.tensor(0)?)?;
    let (distribution, numbers) = parameters(n)?;
    let dtype = dtype_attr(n)?.unwrap_or(like.dtype);
    Ok(vec![draw(cx, n, distribution, numbers, &like.shape, dtype)?.into()])
}

/// 1 with the probability that the operand says.
fn bernoulli<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let ty = cx.ty(x)?;
    let drawn = draw(cx, n, Distribution::Uniform, (0.0, 1.0), &ty.shape, ty.dtype)?;
    let hit = cx.binary(BinaryFn::Less, drawn, x)?;
    let dtype = dtype_attr(n)?.unwrap_or(ty.dtype);
    Ok(vec![cx.cast(hit, dtype)?.into()])
}

/// Draws of classes by unnormalised log-probabilities: the largest of them after Gumbel noise (Gumbel 1954).
fn multinomial<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let ty = cx.ty(x)?;
    let [batch, classes] = ty.shape.as_slice() else {
        return Err(n.error(format!("operand 0: expected [batch, classes], got {ty}")));
    };
    let draws = Dim::constant(n.int_or("sample_size", 1)?);
    let shape = [batch.clone(), draws, classes.clone()];
    let uniform = draw(cx, n, Distribution::Uniform, (0.0, 1.0), &shape, ty.dtype)?;
    let mut noise = uniform;
    for _ in 0..2 {
        noise = cx.unary(UnaryFn::Log, noise)?;
        noise = cx.unary(UnaryFn::Neg, noise)?;
    }
    let x = cx.unsqueeze(x, &[1])?;
    let noisy = cx.plus(x, noise)?;
    let best = cx.emit(ArgMax { axis: 2, keepdims: false }, &[noisy])?;
    let dtype = dtype_attr(n)?.unwrap_or(DType::I32);
    Ok(vec![cx.cast(best, dtype)?.into()])
}
