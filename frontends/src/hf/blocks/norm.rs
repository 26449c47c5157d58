//! Normalisation layers, as the primitives that torch's exporter writes; passes make one op of them.

use crate::hf::cx::{Built, Cx};
use crate::hf::weights::WeightScope;
use frit_ir::ValueId;
use frit_ir::op::{BinaryFn, InstanceNormalization, UnaryFn};

/// torch.nn.LayerNorm over the last axis, with `weight` and `bias` (Ba et al. 2016, arXiv:1607.06450).
pub fn layer_norm(cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, x: ValueId, width: usize, epsilon: f64) -> Built {
    cx.within(w, |cx| {
        let normal = standardise(cx, x, &[-1], epsilon)?;
        let weight = cx.weight(w, "weight", &[width])?;
        let scaled = cx.b.mul(normal, weight)?;
        let bias = cx.weight(w, "bias", &[width])?;
        Ok(cx.b.add(scaled, bias)?)
    })
}

/// torch.nn.GroupNorm with one group a channel, over [batch, channels, time] (Wu and He 2018, arXiv:1803.08494).
pub fn channel_norm(
    cx: &mut Cx<'_, '_>,
    w: &WeightScope<'_>,
    x: ValueId,
    channels: usize,
    epsilon: f64,
) -> Built {
    cx.within(w, |cx| {
        let weight = cx.weight(w, "weight", &[channels])?;
        let bias = cx.weight(w, "bias", &[channels])?;
        Ok(cx.b.op(InstanceNormalization { epsilon }, &[x, weight, bias])?)
    })
}

/// (x - mean) / sqrt(variance + epsilon), the variance that of the population.
fn standardise(cx: &mut Cx<'_, '_>, x: ValueId, axes: &[i64], epsilon: f64) -> Built {
    let mean = cx.mean(x, axes, true)?;
    let centred = cx.b.sub(x, mean)?;
    let two = cx.b.scalar_like(x, 2.0)?;
    let square = cx.b.binary(BinaryFn::Pow, centred, two)?;
    let variance = cx.mean(square, axes, true)?;
    let shifted = cx.b.add_scalar(variance, epsilon)?;
    let deviation = cx.map(UnaryFn::Sqrt, shifted)?;
    Ok(cx.b.div(centred, deviation)?)
}
