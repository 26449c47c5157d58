//! Losses that `labels` switch on, as torch.nn defines them with mean reduction.

use crate::hf::config::Common;
use crate::hf::cx::{Built, Cx};
use frit_ir::op::{Reduction, SoftmaxCrossEntropyLoss, UnaryFn};
use frit_ir::{DType, Dim, ValueId};

/// The label that cross entropy leaves out, torch's default.
pub const IGNORED: i64 = -100;

/// torch.nn.CrossEntropyLoss of [..., classes] against class numbers [...]: the mean over labels other than
/// [`IGNORED`].
pub fn cross_entropy(cx: &mut Cx<'_, '_>, logits: ValueId, labels: ValueId) -> Built {
    let (logits, labels) = (cx.rows(logits)?, cx.flat(labels)?);
    let op = SoftmaxCrossEntropyLoss { ignore_index: IGNORED, reduction: Reduction::Mean };
    Ok(cx.b.op(op, &[logits, labels])?)
}

/// Next-token loss: logits of each position against the label of the next one.
pub fn shifted_cross_entropy(cx: &mut Cx<'_, '_>, logits: ValueId, labels: ValueId) -> Built {
    let sequence = cx.extent(labels, 1)?;
    let logits = cx.slice(logits, 1, Dim::constant(0), sequence.add_const(-1)?)?;
    let labels = cx.slice(labels, 1, Dim::constant(1), sequence)?;
    cross_entropy(cx, logits, labels)
}

/// torch.nn.MSELoss over all elements.
pub fn mean_squared(cx: &mut Cx<'_, '_>, logits: ValueId, labels: ValueId) -> Built {
    let (logits, labels) = (cx.flat(logits)?, cx.flat(labels)?);
    let difference = cx.b.sub(logits, labels)?;
    let square = cx.b.mul(difference, difference)?;
    cx.mean(square, &[0], false)
}

/// torch.nn.BCEWithLogitsLoss over all elements: softplus(x) - x y.
pub fn binary_cross_entropy(cx: &mut Cx<'_, '_>, logits: ValueId, labels: ValueId) -> Built {
    let (logits, labels) = (cx.flat(logits)?, cx.flat(labels)?);
    let soft = cx.map(UnaryFn::Softplus, logits)?;
    let product = cx.b.mul(logits, labels)?;
    let loss = cx.b.sub(soft, product)?;
    cx.mean(loss, &[0], false)
}

/// The loss of a classification head over [batch, labels], of the kind that `problem_type` says; where it does not
/// say, one label is regression, integer labels are classes, float labels are sets.
pub fn classification(
    cx: &mut Cx<'_, '_>,
    common: &Common,
    batch: &Dim,
    logits: ValueId,
) -> Built<Option<ValueId>> {
    let Some(spec) = cx.given("labels") else { return Ok(None) };
    let count = common.labels();
    let floats = spec.dtype.is_some_and(DType::is_float);
    let kind = match common.problem_type.as_deref() {
        Some(kind) => kind,
        None if count == 1 => "regression",
        None if floats => "multi_label_classification",
        None => "single_label_classification",
    };
    let whole = vec![batch.clone(), Dim::from(count)];
    let loss = match kind {
        "single_label_classification" => {
            let labels = cx.ids("labels", vec![batch.clone()], None)?;
            cross_entropy(cx, logits, labels)?
        }
        "regression" => {
            let shape = if count == 1 && spec.rank() != Some(2) { vec![batch.clone()] } else { whole };
            let labels = cx.input("labels", DType::F32, shape, None)?;
            mean_squared(cx, logits, labels)?
        }
        _ => {
            let labels = cx.input("labels", DType::F32, whole, None)?;
            binary_cross_entropy(cx, logits, labels)?
        }
    };
    Ok(Some(loss))
}
