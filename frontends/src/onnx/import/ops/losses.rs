//! Losses over classes. Optimisers are in `training.rs`.

use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{
    BinaryFn, GatherElements, LogSoftmax, ReduceFn, Reduction, SoftmaxCrossEntropyLoss, UnaryFn,
};
use frit_ir::{DType, Tensor, ValueId};

pub const ROWS: &[Row] =
    &[("", "NegativeLogLikelihoodLoss", 12, likelihood), ("", "SoftmaxCrossEntropyLoss", 12, cross_entropy)];

fn reduction(n: &NodeView<'_>) -> Result<Reduction> {
    let word = n.string_or("reduction", "mean")?;
    Reduction::from_word(word).ok_or_else(|| n.error(format!("reduction `{word}`")))
}

fn likelihood<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    Ok(vec![loss(cx, n, n.tensor(0)?)?.into()])
}

fn cross_entropy<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (scores, labels) = (n.tensor(0)?, n.tensor(1)?);
    let fused = cx.rank(scores)? == 2 && n.opt(2)?.is_none() && !n.wants(1);
    if fused && cx.dtype(labels)? == DType::I64 {
        // No label is the least integer.
        let ignore_index = n.int_or("ignore_index", i64::MIN)?;
        let op = SoftmaxCrossEntropyLoss { ignore_index, reduction: reduction(n)? };
        return Ok(vec![cx.emit(op, &[scores, labels])?.into()]);
    }
    let logs = cx.emit(LogSoftmax { axis: 1 }, &[scores])?;
    Ok(vec![loss(cx, n, logs)?.into(), logs.into()])
}

/// Minus the logs `[N, C, ..]` at the labels `[N, ..]`, weighted by class; an ignored label has weight 0.
fn loss(cx: &mut Cx<'_>, n: &NodeView<'_>, logs: ValueId) -> Result<ValueId> {
    let (mut labels, weights, reduction) = (n.tensor(1)?, n.opt(2)?, reduction(n)?);
    let (dtype, label_type) = (cx.dtype(logs)?, cx.dtype(labels)?);
    let valid = match n.int("ignore_index")? {
        None => None,
        Some(ignored) => {
            let c = Tensor::from_i64(label_type, &[], &[ignored]).map_err(|e| cx.refused(e))?;
            let c = cx.constant(c)?;
            let hit = cx.binary(BinaryFn::Equal, labels, c)?;
            let valid = cx.unary(UnaryFn::Not, hit)?;
            let class = cx.scalar(label_type, 0.0)?;
            labels = cx.choose(valid, labels, class)?;
            Some(valid)
        }
    };
    let column = cx.unsqueeze(labels, &[1])?;
    let picked = cx.emit(GatherElements { axis: 1 }, &[logs, column])?;
    let shape = cx.shape(labels)?;
    let picked = cx.reshape(picked, &shape)?;
    let mut losses = cx.unary(UnaryFn::Neg, picked)?;
    let mut weight = match weights {
        Some(w) => Some(cx.gather(w, labels, 0)?),
        None => None,
    };
    if let Some(valid) = valid {
        let zero = cx.scalar(dtype, 0.0)?;
        let w = match weight {
            Some(w) => w,
            None => cx.full(&shape, 1.0, dtype)?,
        };
        weight = Some(cx.choose(valid, w, zero)?);
        // A log of -inf at an ignored label must not become NaN.
        losses = cx.choose(valid, losses, zero)?;
    }
    if let Some(w) = weight {
        losses = cx.times(losses, w)?;
    }
    Ok(match (reduction, weight) {
        (Reduction::None, _) => losses,
        (Reduction::Sum, _) => cx.reduce(ReduceFn::Sum, losses, &[], false)?,
        (Reduction::Mean, None) => cx.reduce(ReduceFn::Mean, losses, &[], false)?,
        (Reduction::Mean, Some(w)) => {
            let total = cx.reduce(ReduceFn::Sum, losses, &[], false)?;
            let weight = cx.reduce(ReduceFn::Sum, w, &[], false)?;
            cx.over(total, weight)?
        }
    })
}
