//! Cross entropy of class scores, composite. The CTC loss is in `ctc.rs`.

use super::*;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::{attr_enum, op_struct};

attr_enum! {
    /// How losses of single samples become the result.
    pub enum Reduction {
        /// One loss a sample.
        None = "none",
        /// Their mean.
        Mean = "mean",
        /// Their sum.
        Sum = "sum",
    }
}

op_struct! {
    /// Minus the log-softmax of each sample's scores at its label: scores `[N, C]`, labels i64 `[N]`. Ignored labels
    /// cost 0 and do not count in the mean, which is NaN when all are ignored.
    /// ONNX SoftmaxCrossEntropyLoss-13, its first output, without class weights.
    pub struct SoftmaxCrossEntropyLoss = "SoftmaxCrossEntropyLoss" {
        /// The label that is left out.
        pub ignore_index: i64 = -100,
        /// How the samples' losses become the result.
        pub reduction: Reduction = Reduction::Mean,
    }
}

impl OpDef for SoftmaxCrossEntropyLoss {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("scores"), one("labels")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("SoftmaxCrossEntropyLoss", 13)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        cx.expect_float(0)?;
        let scores = cx.expect_rank(0, 2)?;
        let samples = scores.shape.get(..1).unwrap_or(&[]);
        cx.expect_shape(1, DType::I64, samples)?;
        let shape = if self.reduction == Reduction::None { samples.to_vec() } else { vec![] };
        Ok(vec![TensorType { dtype: scores.dtype, shape }])
    }
    fn is_composite(&self) -> bool {
        true
    }
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let (scores, labels) = (b.operand(inputs, 0)?, b.operand(inputs, 1)?);
        let dtype = b.ty(scores)?.dtype;
        let samples = b.dim(scores, 0)?;
        let logs = b.op(LogSoftmax { axis: 1 }, &[scores])?;
        let ignored = b.constant(Tensor::from_i64(DType::I64, &[], &[self.ignore_index])?)?;
        let ignore = b.binary(BinaryFn::Equal, labels, ignored)?;
        let class0 = b.constant(Tensor::from_i64(DType::I64, &[], &[0])?)?;
        let safe = b.where_(ignore, class0, labels)?;
        let column = b.reshape(safe, &[samples.clone(), Dim::constant(1)])?;
        let picked = b.op(GatherElements { axis: 1 }, &[logs, column])?;
        let picked = b.reshape(picked, &[samples])?;
        let loss = b.unary(UnaryFn::Neg, picked)?;
        let zero = b.scalar(dtype, 0.0)?;
        let loss = b.where_(ignore, zero, loss)?;
        if self.reduction == Reduction::None {
            return Ok(vec![loss]);
        }
        let total = Reduce { function: ReduceFn::Sum, axes: vec![0], keepdims: false };
        let sum = b.op(total.clone(), &[loss])?;
        if self.reduction == Reduction::Sum {
            return Ok(vec![sum]);
        }
        let counted = b.unary(UnaryFn::Not, ignore)?;
        let counted = b.cast(counted, dtype)?;
        let count = b.op(total, &[counted])?;
        Ok(vec![b.div(sum, count)?])
    }
}
