//! Normalisations of x [N, C, spatial..] with a scale and a bias a channel, composite.

use super::norm::standardise;
use super::*;
use crate::dim::Dim;
use crate::op_struct;

op_struct! {
    /// Zero mean and unit variance over each sample's groups of channels (<https://arxiv.org/abs/1803.08494>).
    /// ONNX GroupNormalization-21.
    pub struct GroupNormalization = "GroupNormalization" {
        /// Number of groups; divides the channels.
        pub groups: i64,
        /// Added to the variance.
        pub epsilon: f64 = 1e-5,
    }
}

op_struct! {
    /// Zero mean and unit variance over each channel of each sample (<https://arxiv.org/abs/1607.08022>).
    /// ONNX InstanceNormalization-6.
    pub struct InstanceNormalization = "InstanceNormalization" {
        /// Added to the variance.
        pub epsilon: f64 = 1e-5,
    }
}

op_struct! {
    /// activation(GroupNormalization(x)), what fusion makes of a group or instance norm and what follows it.
    pub struct FusedGroupNormalization = "FusedGroupNormalization" {
        /// Number of groups; divides the channels. 0 stands for a group a channel.
        pub groups: i64,
        /// Added to the variance.
        pub epsilon: f64 = 1e-5,
        /// Applied to the result.
        pub activation: Activation = Activation::None,
    }
}

op_struct! {
    /// activation of zero mean and unit variance over the channels at each place of each sample: what fusion makes of
    /// a layer norm between transposes that put the channels last and back.
    pub struct ChannelNormalization = "ChannelNormalization" {
        /// Added to the variance.
        pub epsilon: f64 = 1e-5,
        /// Applied to the result.
        pub activation: Activation = Activation::None,
    }
}

op_struct! {
    /// Normalisation by fixed statistics a channel, as in inference (<https://arxiv.org/abs/1502.03167>).
    /// ONNX BatchNormalization-15.
    pub struct BatchNormalization = "BatchNormalization" {
        /// Added to the variance.
        pub epsilon: f64 = 1e-5,
    }
}

const SCALED: &[Operand] = &[one("x"), one("scale"), one("bias")];

/// Checks x `[N, C, ..]` and one number a channel in each of the other operands.
fn infer_channels(cx: &Infer<'_>, least_rank: usize, operands: usize) -> Result<Vec<TensorType>, OpError> {
    let x = cx.expect_float(0)?;
    let channels = x.shape.get(1).filter(|_| x.rank() >= least_rank);
    let Some(channels) = channels else {
        return Err(cx.reject(0, format!("[N, C, ..] of rank {least_rank} or more")));
    };
    for i in 1..operands {
        cx.expect_shape(i, x.dtype, std::slice::from_ref(channels))?;
    }
    Ok(vec![x.clone()])
}

/// As [`infer_channels`] where so many groups divide the channels.
fn infer_groups(cx: &Infer<'_>, groups: i64) -> Result<Vec<TensorType>, OpError> {
    let types = infer_channels(cx, 2, 3)?;
    let channels = cx.ty(0)?.shape.get(1).cloned().unwrap_or_default();
    if groups < 1 || channels.exact_div(&Dim::constant(groups)).is_none() {
        let why = format!("{groups} groups do not divide {channels} channels");
        return Err(cx.bad_attr("groups", why));
    }
    Ok(types)
}

/// Reshapes a value `[C]` so that it broadcasts over the channels of x.
fn per_channel(b: &mut GraphBuilder<'_>, v: ValueId, x: ValueId) -> Result<ValueId, BuildError> {
    let mut shape = vec![b.dim(v, 0)?];
    shape.resize(b.rank(x)?.saturating_sub(1), Dim::constant(1));
    b.reshape(v, &shape)
}

fn scale_and_shift(
    b: &mut GraphBuilder<'_>,
    standard: ValueId,
    inputs: &[Option<ValueId>],
) -> Result<ValueId, BuildError> {
    let (scale, bias) = (b.operand(inputs, 1)?, b.operand(inputs, 2)?);
    let scale = per_channel(b, scale, standard)?;
    let bias = per_channel(b, bias, standard)?;
    let scaled = b.mul(standard, scale)?;
    b.add(scaled, bias)
}

impl OpDef for GroupNormalization {
    fn operands(&self) -> &'static [Operand] {
        SCALED
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("GroupNormalization", 21)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        infer_groups(cx, self.groups)
    }
    fn is_composite(&self) -> bool {
        true
    }
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let x = b.operand(inputs, 0)?;
        let shape = b.shape(x)?;
        let [batch, rest @ ..] = shape.as_slice() else { return Err(b.error("x has no axes")) };
        let groups = Dim::constant(self.groups);
        let size = crate::types::product(rest)?
            .exact_div(&groups)
            .ok_or_else(|| b.error("groups do not divide the channels"))?;
        let grouped = b.reshape(x, &[batch.clone(), groups, size])?;
        let standard = standardise(b, grouped, &[2], self.epsilon)?;
        let standard = b.reshape(standard, &shape)?;
        Ok(vec![scale_and_shift(b, standard, inputs)?])
    }
}

impl OpDef for InstanceNormalization {
    fn operands(&self) -> &'static [Operand] {
        SCALED
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("InstanceNormalization", 6)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        infer_channels(cx, 3, 3)
    }
    fn is_composite(&self) -> bool {
        true
    }
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let x = b.operand(inputs, 0)?;
        let axes: Vec<i64> = (2..b.rank(x)?).filter_map(|i| i64::try_from(i).ok()).collect();
        let standard = standardise(b, x, &axes, self.epsilon)?;
        Ok(vec![scale_and_shift(b, standard, inputs)?])
    }
}

impl OpDef for FusedGroupNormalization {
    fn operands(&self) -> &'static [Operand] {
        SCALED
    }
    fn onnx(&self) -> Onnx {
        Onnx::None
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        if self.groups == 0 { infer_channels(cx, 3, 3) } else { infer_groups(cx, self.groups) }
    }
    fn is_composite(&self) -> bool {
        true
    }
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let &FusedGroupNormalization { groups, epsilon, activation } = self;
        let y = match groups {
            0 => b.op_opt(InstanceNormalization { epsilon }, inputs)?,
            _ => b.op_opt(GroupNormalization { groups, epsilon }, inputs)?,
        };
        Ok(vec![b.activation(activation, y)?])
    }
}

impl OpDef for ChannelNormalization {
    fn operands(&self) -> &'static [Operand] {
        SCALED
    }
    fn onnx(&self) -> Onnx {
        Onnx::None
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        infer_channels(cx, 2, 3)
    }
    fn is_composite(&self) -> bool {
        true
    }
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let x = b.operand(inputs, 0)?;
        let standard = standardise(b, x, &[1], self.epsilon)?;
        let y = scale_and_shift(b, standard, inputs)?;
        Ok(vec![b.activation(self.activation, y)?])
    }
}

impl OpDef for BatchNormalization {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("x"), one("scale"), one("bias"), one("mean"), one("variance")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("BatchNormalization", 15)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        infer_channels(cx, 2, 5)
    }
    fn is_composite(&self) -> bool {
        true
    }
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let x = b.operand(inputs, 0)?;
        let (mean, variance) = (b.operand(inputs, 3)?, b.operand(inputs, 4)?);
        let safe = b.add_scalar(variance, self.epsilon)?;
        let deviation = b.unary(UnaryFn::Sqrt, safe)?;
        let mean = per_channel(b, mean, x)?;
        let deviation = per_channel(b, deviation, x)?;
        let centred = b.sub(x, mean)?;
        let standard = b.div(centred, deviation)?;
        Ok(vec![scale_and_shift(b, standard, inputs)?])
    }
}
