//! Normalisations over the last axes, composite. Those over channels are in `norm_channels.rs`.

use super::*;
use crate::op_struct;

op_struct! {
    /// Zero mean and unit variance over the axes from `axis` on, then scaled and shifted
    /// (<https://arxiv.org/abs/1607.06450>). ONNX LayerNormalization-17, its first output.
    pub struct LayerNormalization = "LayerNormalization" {
        /// First axis normalised.
        pub axis: i64 = -1,
        /// Added to the variance.
        pub epsilon: f64 = 1e-5,
    }
}

/// Checks that scale and bias at the given operands fit the axes from `axis` on.
fn check_affine(cx: &Infer<'_>, x: &TensorType, axis: i64, operands: &[usize]) -> Result<(), OpError> {
    let axis = cx.axis("axis", axis, x.rank())?;
    let normalised = x.shape.get(axis..).unwrap_or(&[]);
    operands.iter().try_for_each(|&i| cx.expect_broadcasts_to(i, x.dtype, normalised))
}

/// The axes from `axis` on.
fn axes_from(b: &GraphBuilder<'_>, x: ValueId, axis: i64) -> Result<Vec<i64>, BuildError> {
    let rank = b.rank(x)?;
    let first = crate::types::resolve_axis(axis, rank).ok_or_else(|| b.error("axis out of range"))?;
    Ok((first..rank).filter_map(|i| i64::try_from(i).ok()).collect())
}

/// (x - mean) / sqrt(variance + epsilon) over `axes`.
pub(super) fn standardise(
    b: &mut GraphBuilder<'_>,
    x: ValueId,
    axes: &[i64],
    epsilon: f64,
) -> Result<ValueId, BuildError> {
    let mean = b.op(Reduce::keep(ReduceFn::Mean, axes), &[x])?;
    let centred = b.sub(x, mean)?;
    let square = b.mul(centred, centred)?;
    let variance = b.op(Reduce::keep(ReduceFn::Mean, axes), &[square])?;
    let safe = b.add_scalar(variance, epsilon)?;
    let deviation = b.unary(UnaryFn::Sqrt, safe)?;
    b.div(centred, deviation)
}

impl OpDef for LayerNormalization {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("x"), one("scale"), optional("bias")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("LayerNormalization", 17)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.expect_float(0)?;
        check_affine(cx, x, self.axis, &[1, 2])?;
        Ok(vec![x.clone()])
    }
    fn is_composite(&self) -> bool {
        true
    }
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let (x, scale) = (b.operand(inputs, 0)?, b.operand(inputs, 1)?);
        let axes = axes_from(b, x, self.axis)?;
        let standard = standardise(b, x, &axes, self.epsilon)?;
        let mut y = b.mul(standard, scale)?;
        if let Some(bias) = inputs.get(2).copied().flatten() {
            y = b.add(y, bias)?;
        }
        Ok(vec![y])
    }
}

op_struct! {
    /// LayerNormalization over the last axis of x + residual; gives the normalised sum and the sum itself.
    pub struct SkipLayerNormalization = "SkipLayerNormalization" {
        /// Added to the variance.
        pub epsilon: f64 = 1e-5,
    }
}

impl OpDef for SkipLayerNormalization {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("x"), one("residual"), one("scale"), optional("bias")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::None
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.expect_float(0)?;
        cx.expect_shape(1, x.dtype, &x.shape)?;
        check_affine(cx, x, -1, &[2, 3])?;
        Ok(vec![x.clone(), x.clone()])
    }
    fn is_composite(&self) -> bool {
        true
    }
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let (x, residual) = (b.operand(inputs, 0)?, b.operand(inputs, 1)?);
        let sum = b.add(x, residual)?;
        let norm = LayerNormalization { axis: -1, epsilon: self.epsilon };
        let operands = [Some(sum), inputs.get(2).copied().flatten(), inputs.get(3).copied().flatten()];
        Ok(vec![b.op_opt(norm, &operands)?, sum])
    }
}

op_struct! {
    /// x / sqrt(mean of squares + epsilon) over the axes from `axis` on, then scaled
    /// (<https://arxiv.org/abs/1910.07467>). ONNX RMSNormalization-23.
    pub struct RMSNormalization = "RMSNormalization" {
        /// First axis normalised.
        pub axis: i64 = -1,
        /// Added to the mean of squares.
        pub epsilon: f64 = 1e-5,
    }
}

impl OpDef for RMSNormalization {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("x"), one("scale")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("RMSNormalization", 23)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.expect_float(0)?;
        check_affine(cx, x, self.axis, &[1])?;
        Ok(vec![x.clone()])
    }
    fn is_composite(&self) -> bool {
        true
    }
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let (x, scale) = (b.operand(inputs, 0)?, b.operand(inputs, 1)?);
        let axes = axes_from(b, x, self.axis)?;
        let square = b.mul(x, x)?;
        let mean = b.op(Reduce::keep(ReduceFn::Mean, &axes), &[square])?;
        let safe = b.add_scalar(mean, self.epsilon)?;
        let root = b.unary(UnaryFn::Sqrt, safe)?;
        let standard = b.div(x, root)?;
        Ok(vec![b.mul(standard, scale)?])
    }
}
