//! Operators of com.microsoft that optimisers fuse others into: norms, activations, products, convolutions. They are
//! taken apart again, so that our own fusion sees one form. Attention is in `contrib_attention.rs`, quantised operators
//! in `contrib_quant.rs`.

use super::matmul::product;
use super::window::convolution;
use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{
    BinaryFn, Clip, Gelu, GeluForm, GroupNormalization, HardSigmoid, LayerNormalization, LeakyRelu,
    RMSNormalization, ReduceFn, Softmax, Swish, UnaryFn,
};
use frit_ir::{DType, Dim, ValueId};

pub const ROWS: &[Row] = &[
    ("com.microsoft", "SkipLayerNormalization", 1, skip_norm),
    ("com.microsoft", "SkipSimplifiedLayerNormalization", 1, skip_norm),
    ("com.microsoft", "SimplifiedLayerNormalization", 1, simplified_norm),
    ("", "SimplifiedLayerNormalization", 1, simplified_norm),
    ("com.microsoft", "EmbedLayerNormalization", 1, embed_norm),
    ("com.microsoft", "GroupNorm", 1, group_norm),
    ("com.microsoft", "Gelu", 1, gelu),
    ("com.microsoft", "BiasGelu", 1, gelu),
    ("com.microsoft", "FastGelu", 1, gelu),
    ("com.microsoft", "QuickGelu", 1, quick_gelu),
    ("com.microsoft", "BiasSplitGelu", 1, bias_split_gelu),
    ("com.microsoft", "BiasAdd", 1, bias_add),
    ("com.microsoft", "BiasSoftmax", 1, bias_softmax),
    ("com.microsoft", "FusedMatMul", 1, fused_matmul),
    ("com.microsoft", "TransposeMatMul", 1, fused_matmul),
    ("com.microsoft", "FusedGemm", 1, fused_gemm),
    ("com.microsoft", "FusedConv", 1, fused_conv),
];

/// Mean over the last axis of what `f` makes of x.
fn row_mean(cx: &mut Cx<'_>, x: ValueId) -> Result<ValueId> {
    let last = cx.rank(x)?.saturating_sub(1);
    cx.reduce(ReduceFn::Mean, x, &[last], true)
}

/// 1 / sqrt(x + epsilon)
fn inverse_root(cx: &mut Cx<'_>, x: ValueId, epsilon: f64) -> Result<ValueId> {
    let safe = cx.with_number(BinaryFn::Add, x, epsilon)?;
    let root = cx.unary(UnaryFn::Sqrt, safe)?;
    cx.unary(UnaryFn::Reciprocal, root)
}

/// The norm over the last axis of x; then, where they are wanted, the mean and the inverse deviation of its rows.
fn norm(
    cx: &mut Cx<'_>,
    x: ValueId,
    (scale, bias): (ValueId, Option<ValueId>),
    (simplified, epsilon): (bool, f64),
    wanted: bool,
) -> Result<[ValueId; 3]> {
    let width = cx.shape(x)?.last().cloned().unwrap_or_default();
    let scale = cx.agree(scale, std::slice::from_ref(&width))?;
    let bias = bias.map(|b| cx.agree(b, std::slice::from_ref(&width))).transpose()?;
    let y = if simplified {
        cx.emit(RMSNormalization { axis: -1, epsilon }, &[x, scale])?
    } else {
        let all = cx.emit_all(LayerNormalization { axis: -1, epsilon }, &[Some(x), Some(scale), bias])?;
        all.first().copied().ok_or_else(|| cx.error("a norm without a result"))?
    };
    if !wanted {
        return Ok([y, y, y]);
    }
    let wide = cx.cast(x, DType::F32)?;
    let mean = row_mean(cx, wide)?;
    let centred = if simplified { wide } else { cx.minus(wide, mean)? };
    let square = cx.times(centred, centred)?;
    let variance = row_mean(cx, square)?;
    Ok([y, mean, inverse_root(cx, variance, epsilon)?])
}

/// The norm of x + bias + skip, and that sum as the last output.
fn skip_norm<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let simplified = n.op.starts_with("SkipSimplified");
    let (x, skip, scale) = (n.tensor(0)?, n.tensor(1)?, n.tensor(2)?);
    let (shift, bias) = if simplified { (None, n.opt(3)?) } else { (n.opt(3)?, n.opt(4)?) };
    let epsilon = n.float_or("epsilon", 1e-12)?;
    let shape = cx.shape(x)?;
    // A skip of one batch serves all.
    let skipped = shape.len().saturating_sub(cx.rank(skip)?);
    let skip = match skipped {
        0 => cx.expand_to(skip, &shape)?,
        _ => cx.agree(skip, shape.get(skipped..).unwrap_or(&[]))?,
    };
    let x = match bias {
        Some(b) => cx.plus(x, b)?,
        None => x,
    };
    let sum = cx.plus(x, skip)?;
    let [y, mean, inverse] = norm(cx, sum, (scale, shift), (simplified, epsilon), n.wants(1) || n.wants(2))?;
    Ok(vec![y.into(), mean.into(), inverse.into(), sum.into()])
}

fn simplified_norm<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["stash_type"]);
    let (x, scale) = (n.tensor(0)?, n.tensor(1)?);
    let rank = cx.rank(x)?;
    if cx.axis(n.int_or("axis", -1)?, rank)? + 1 != rank {
        return Err(n.error("only the last axis is supported"));
    }
    let [y, _, inverse] = norm(cx, x, (scale, None), (true, n.float_or("epsilon", 1e-5)?), n.wants(1))?;
    Ok(vec![y.into(), inverse.into()])
}

/// The norm of the sum of embeddings; then how many positions the mask keeps of each sequence, and the sum.
fn embed_norm<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["mask_index_type"]);
    let (ids, words, places) = (n.tensor(0)?, n.tensor(2)?, n.tensor(3)?);
    let shape = cx.shape(ids)?;
    let [batch, sequence] = shape.as_slice() else { return Err(n.error("ids must have rank 2")) };
    let mut sum = cx.gather(words, ids, 0)?;
    let position = match n.opt(8)? {
        Some(p) => cx.gather(places, p, 0)?,
        None => cx.slice(places, 0, &Dim::constant(0), sequence)?,
    };
    sum = cx.plus(sum, position)?;
    if let (Some(kinds), Some(table)) = (n.opt(1)?, n.opt(4)?) {
        let kinds = cx.agree(kinds, &shape)?;
        let kind = cx.gather(table, kinds, 0)?;
        sum = cx.plus(sum, kind)?;
    }
    let scale_shift = (n.tensor(5)?, Some(n.tensor(6)?));
    let epsilon = n.float_or("epsilon", 1e-12)?;
    let [y, _, _] = norm(cx, sum, scale_shift, (false, epsilon), false)?;
    let kept = match n.opt(7)? {
        Some(mask) => {
            let on = cx.with_number(BinaryFn::Equal, mask, 1.0)?;
            let on = cx.cast(on, DType::I32)?;
            cx.reduce(ReduceFn::Sum, on, &[1], false)?
        }
        None => cx.full(std::slice::from_ref(batch), 0.0, DType::I32)?,
    };
    Ok(vec![y.into(), kept.into(), sum.into()])
}

/// Norms of groups of channels, which stand last or second, and maybe x sigmoid(x).
fn group_norm<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let groups = n.int("groups")?.ok_or_else(|| n.error("attribute `groups` is missing"))?;
    let epsilon = n.float_or("epsilon", 1e-5)?;
    let last = n.flag("channels_last", true)?;
    let mut x = n.tensor(0)?;
    let (dtype, rank) = (cx.dtype(x)?, cx.rank(x)?);
    if rank < 3 {
        return Err(n.error(format!("x must have rank 3 or more, got {rank}")));
    }
    // Axes with the channels moved from the end to the second place, and back.
    let mut inward = vec![0, rank - 1];
    inward.extend(1..rank - 1);
    let mut outward = vec![0];
    outward.extend(2..rank);
    outward.push(1);
    if last {
        x = cx.transpose(x, &inward)?;
    }
    let (scale, bias) = (cx.cast(n.tensor(1)?, dtype)?, cx.cast(n.tensor(2)?, dtype)?);
    let mut y = cx.emit(GroupNormalization { groups, epsilon }, &[x, scale, bias])?;
    match n.int_or("activation", 0)? {
        0 => {}
        1 => y = cx.emit(Swish { alpha: 1.0 }, &[y])?,
        other => return Err(n.error(format!("activation {other}"))),
    }
    Ok(vec![if last { cx.transpose(y, &outward)? } else { y }.into()])
}

/// Gelu with a bias added before, by erf or by tanh.
fn gelu<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let mut x = n.tensor(0)?;
    if let Some(bias) = n.opt(1)? {
        x = cx.plus(x, bias)?;
    }
    let approximate = if n.op == "FastGelu" { GeluForm::Tanh } else { GeluForm::None };
    Ok(vec![cx.emit(Gelu { approximate }, &[x])?.into()])
}

fn quick_gelu<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let alpha = n.float_or("alpha", 1.702)?;
    Ok(vec![cx.emit(Swish { alpha }, &[n.tensor(0)?])?.into()])
}

/// The first half of x + bias, times the Gelu of the second.
fn bias_split_gelu<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = cx.plus(n.tensor(0)?, n.tensor(1)?)?;
    let shape = cx.shape(x)?;
    let half = shape.last().and_then(|d| d.exact_div(&Dim::constant(2)));
    let half = half.ok_or_else(|| n.error(format!("the last extent of {shape:?} has no half")))?;
    let parts = cx.split(x, shape.len().saturating_sub(1), &[half.clone(), half])?;
    let [left, right] = parts.as_slice() else { return Err(n.error("a split without two parts")) };
    let gate = cx.emit(Gelu { approximate: GeluForm::None }, &[*right])?;
    Ok(vec![cx.times(*left, gate)?.into()])
}

fn bias_add<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = cx.plus(n.tensor(0)?, n.tensor(1)?)?;
    Ok(vec![cx.plus(x, n.tensor(2)?)?.into()])
}

/// Softmax of data + bias over the axes from `axis` on.
fn bias_softmax<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["is_inner_broadcast"]);
    let x = cx.plus(n.tensor(0)?, n.tensor(1)?)?;
    let shape = cx.shape(x)?;
    let axis = cx.axis(n.int_or("axis", 1)?, shape.len())?;
    let (before, after) = shape.split_at(axis);
    let mut flat = before.to_vec();
    flat.push(cx.dim(frit_ir::types::product(after))?);
    let y = cx.reshape(x, &flat)?;
    let y = cx.emit(Softmax { axis: -1 }, &[y])?;
    Ok(vec![cx.reshape(y, &shape)?.into()])
}

/// alpha a b, with axes of both moved before.
fn fused_matmul<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let mut operands = Vec::new();
    for (i, last, batch) in [(0, "transA", "transBatchA"), (1, "transB", "transBatchB")] {
        let mut x = n.tensor(i)?;
        let rank = cx.rank(x)?;
        if n.flag(batch, false)? && rank > 2 {
            // The rows, or what becomes columns, stand before the batch.
            let mut perm: Vec<usize> = (1..rank - 1).collect();
            perm.extend([0, rank - 1]);
            x = cx.transpose(x, &perm)?;
        }
        if n.flag(last, false)? && rank > 1 {
            x = cx.swap_axes(x, rank - 2, rank - 1)?;
        }
        operands.push(x);
    }
    let [a, b] = operands.as_slice() else { return Err(n.error("expected two operands")) };
    let y = product(cx, *a, *b)?;
    let alpha = n.float_or("alpha", 1.0)?;
    Ok(vec![if alpha == 1.0 { y } else { cx.with_number(BinaryFn::Mul, y, alpha)? }.into()])
}

/// The activation named by a fused operator, with its parameters in order.
fn activate(cx: &mut Cx<'_>, n: &NodeView<'_>, x: ValueId, params: &[Option<f64>]) -> Result<ValueId> {
    let param = |i: usize, default: f64| params.get(i).copied().flatten().unwrap_or(default);
    match n.string_or("activation", "")? {
        "" => Ok(x),
        "Relu" => cx.unary(UnaryFn::Relu, x),
        "Tanh" => cx.unary(UnaryFn::Tanh, x),
        "Sigmoid" => cx.unary(UnaryFn::Sigmoid, x),
        "Softplus" => cx.unary(UnaryFn::Softplus, x),
        "Softsign" => cx.unary(UnaryFn::Softsign, x),
        "LeakyRelu" => cx.emit(LeakyRelu { alpha: param(0, 0.01) }, &[x]),
        "HardSigmoid" => cx.emit(HardSigmoid { alpha: param(0, 0.2), beta: param(1, 0.5) }, &[x]),
        "Clip" => {
            let bound = |i: usize| params.get(i).copied().flatten();
            cx.emit(Clip { min: bound(0), max: bound(1) }, &[x])
        }
        other => Err(n.error(format!("activation `{other}`"))),
    }
}

fn fused_gemm<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let y = super::matmul::general(cx, n)?;
    let params = [n.float("activation_alpha")?, n.float("activation_beta")?, n.float("activation_gamma")?];
    Ok(vec![activate(cx, n, y, &params)?.into()])
}

/// activation(conv + z)
fn fused_conv<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let mut y = convolution(cx, n, n.tensor(0)?, n.tensor(1)?, n.opt(2)?)?;
    if let Some(z) = n.opt(3)? {
        let shape = cx.shape(y)?;
        let z = cx.agree(z, &shape)?;
        y = cx.plus(y, z)?;
    }
    let params: Vec<_> = n.floats("activation_params")?.unwrap_or_default().into_iter().map(Some).collect();
    Ok(vec![activate(cx, n, y, &params)?.into()])
}
