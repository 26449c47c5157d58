//! Affine layers. Activations and norms belong elsewhere.

use crate::hf::cx::{Built, Cx};
use crate::hf::weights::WeightScope;
use frit_ir::ValueId;

/// Widths of an affine layer, and whether it has a bias.
#[derive(Debug, Clone, Copy)]
pub struct Affine {
    /// Features that come in.
    pub inputs: usize,
    /// Features that go out.
    pub outputs: usize,
    /// True when `bias` is there.
    pub bias: bool,
}

impl Affine {
    /// With a bias.
    pub fn new(inputs: usize, outputs: usize) -> Self {
        Affine { inputs, outputs, bias: true }
    }

    /// Without a bias.
    pub fn plain(inputs: usize, outputs: usize) -> Self {
        Affine { inputs, outputs, bias: false }
    }
}

/// torch.nn.Linear: x W^T + b, `weight` stored as [outputs, inputs].
pub fn linear(cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, x: ValueId, widths: Affine) -> Built {
    cx.within(w, |cx| {
        let weight = cx.weight(w, "weight", &[widths.outputs, widths.inputs])?;
        let y = times_transposed(cx, x, weight)?;
        if !widths.bias {
            return Ok(y);
        }
        let bias = cx.weight(w, "bias", &[widths.outputs])?;
        Ok(cx.b.add(y, bias)?)
    })
}

/// x W^T for a weight stored as [outputs, inputs]; an embedding tied to the output layer, for one.
pub fn times_transposed(cx: &mut Cx<'_, '_>, x: ValueId, weight: ValueId) -> Built {
    let weight = cx.b.transpose(weight, &[1, 0])?;
    cx.matmul(x, weight)
}

/// transformers.pytorch_utils.Conv1D: x W + b, `weight` stored as [inputs, outputs].
pub fn conv1d(cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, x: ValueId, inputs: usize, outputs: usize) -> Built {
    cx.within(w, |cx| {
        let weight = cx.weight(w, "weight", &[inputs, outputs])?;
        let y = cx.matmul(x, weight)?;
        let bias = cx.weight(w, "bias", &[outputs])?;
        Ok(cx.b.add(y, bias)?)
    })
}
