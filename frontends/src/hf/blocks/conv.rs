//! Convolution layers over [batch, channels, extents..]. Norms and activations around them belong elsewhere.

use crate::hf::cx::{Built, Cx};
use crate::hf::weights::WeightScope;
use frit_ir::ValueId;
use frit_ir::op::Conv;

/// torch.nn.Conv1d and Conv2d without dilation.
#[derive(Debug, Clone)]
pub struct Convolution<'k> {
    /// Channels that come in.
    pub inputs: usize,
    /// Channels that go out.
    pub outputs: usize,
    /// Extents of the kernel.
    pub kernel: &'k [usize],
    /// Steps.
    pub stride: &'k [usize],
    /// Zeros on both sides.
    pub padding: &'k [usize],
    /// Groups of channels.
    pub groups: usize,
    /// True when `bias` is there.
    pub bias: bool,
}

impl Convolution<'_> {
    /// Shape of `weight`.
    pub fn weight_shape(&self) -> Vec<usize> {
        let per_group = self.inputs.checked_div(self.groups).unwrap_or(0);
        [&[self.outputs, per_group], self.kernel].concat()
    }

    /// Applies the layer with the weights of the scope.
    pub fn apply(&self, cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, x: ValueId) -> Built {
        cx.within(w, |cx| {
            let weight = cx.weight(w, "weight", &self.weight_shape())?;
            self.apply_weight(cx, w, x, weight)
        })
    }

    /// Applies the layer with a weight that is at hand; the bias is the scope's.
    pub fn apply_weight(
        &self,
        cx: &mut Cx<'_, '_>,
        w: &WeightScope<'_>,
        x: ValueId,
        weight: ValueId,
    ) -> Built {
        let signed =
            |v: &[usize]| v.iter().map(|&n| i64::try_from(n).unwrap_or(i64::MAX)).collect::<Vec<i64>>();
        let op = Conv {
            strides: signed(self.stride),
            pads: signed(&[self.padding, self.padding].concat()),
            dilations: vec![1; self.kernel.len()],
            group: i64::try_from(self.groups).unwrap_or(i64::MAX),
        };
        let bias = if self.bias { Some(cx.weight(w, "bias", &[self.outputs])?) } else { None };
        Ok(cx.b.op_opt(op, &[Some(x), Some(weight), bias])?)
    }
}
