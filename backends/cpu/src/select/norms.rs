//! Softmax and the normalisations, in f32.

use super::Cx;
use super::simple::{Fail, Operands, around, kernel};
use crate::norm::{self, ChannelNorm, GroupNorm, LayerNorm};
use frit_backend::Kernel;
use frit_ir::op;
use frit_ir::types::{resolve_axis, same_shape};

type Selected = Option<Box<dyn Kernel>>;

pub(super) fn softmax(cx: &Cx<'_>, axis: i64, log: bool) -> Selected {
    let (isa, axis) = (cx.isa, resolve_axis(axis, cx.f32_input(0)?.rank())?);
    kernel(if log { "LogSoftmax" } else { "Softmax" }, move |run| {
        let x = run.source::<f32>(0)?;
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        let [outer, axis, inner] = around(out.shape, axis);
        Ok(norm::softmax(isa, norm::Softmax { outer, axis, inner, log }, x, out.slice_mut()?)?)
    })
    .in_place(vec![0])
    .flops(12.0)
    .done()
}

/// True when operand `index`, if there, has exactly the axes of x from `axis` on.
fn fits(cx: &Cx<'_>, index: usize, axis: usize) -> bool {
    let tail = |t: &frit_ir::TensorType| t.shape.get(axis..).map(<[_]>::to_vec);
    match (cx.input(index), cx.input(0).and_then(tail)) {
        (Some(t), Some(tail)) => same_shape(&t.shape, &tail),
        (None, _) => true,
        _ => false,
    }
}

struct Form {
    name: &'static str,
    axis: i64,
    epsilon: f64,
    rms: bool,
    /// Positions of residual, scale and bias.
    operands: [Option<usize>; 3],
}

fn rows(cx: &Cx<'_>, form: Form) -> Selected {
    let axis = resolve_axis(form.axis, cx.f32_input(0)?.rank())?;
    let [residual, scale, bias] = form.operands;
    if ![scale, bias].into_iter().flatten().all(|i| fits(cx, i, axis)) {
        return None;
    }
    let isa = cx.isa;
    kernel(form.name, move |run| {
        let x = run.source::<f32>(0)?;
        let optional = |i: Option<usize>| i.map_or(Ok(None), |i| run.optional::<f32>(i));
        let (residual, scale, bias) = (optional(residual)?, optional(scale)?, optional(bias)?);
        let [out, rest @ ..] = &mut *run.outputs else { return Err(Fail::Contract("no output".to_owned())) };
        let rows = out.shape.iter().take(axis).product();
        let width = out.shape.iter().skip(axis).product();
        let p = LayerNorm { rows, width, epsilon: form.epsilon as f32, rms: form.rms, scale, bias, residual };
        let total = match rest {
            [total, ..] => Some(total.slice_mut::<f32>()?),
            [] => None,
        };
        Ok(norm::layer_norm(isa, &p, x, out.slice_mut()?, total)?)
    })
    .in_place(vec![0])
    .flops(8.0)
    .done()
}

pub(super) fn layer_norm(cx: &Cx<'_>, op: &op::LayerNormalization) -> Selected {
    let operands = [None, Some(1), Some(2)];
    rows(cx, Form { name: "LayerNormalization", axis: op.axis, epsilon: op.epsilon, rms: false, operands })
}

pub(super) fn skip_layer_norm(cx: &Cx<'_>, op: &op::SkipLayerNormalization) -> Selected {
    let operands = [Some(1), Some(2), Some(3)];
    rows(cx, Form { name: "SkipLayerNormalization", axis: -1, epsilon: op.epsilon, rms: false, operands })
}

pub(super) fn rms_norm(cx: &Cx<'_>, op: &op::RMSNormalization) -> Selected {
    let operands = [None, Some(1), None];
    rows(cx, Form { name: "RMSNormalization", axis: op.axis, epsilon: op.epsilon, rms: true, operands })
}

/// Norms over channels; `groups` 0 means one a channel.
fn channels(
    cx: &Cx<'_>,
    name: &'static str,
    groups: usize,
    epsilon: f64,
    activation: op::Activation,
) -> Selected {
    cx.f32_input(0)?;
    let (isa, epsilon, activation) = (cx.isa, epsilon as f32, super::products::activation(cx, activation));
    kernel(name, move |run| {
        let x = run.source::<f32>(0)?;
        let (scale, bias) = (run.optional::<f32>(1)?, run.optional::<f32>(2)?);
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        let [batch, channels, inner] = around(out.shape, 1);
        let groups = if groups == 0 { channels.max(1) } else { groups };
        let p = GroupNorm { batch, channels, inner, groups, epsilon, scale, bias, activation };
        Ok(norm::group_norm(isa, &p, x, out.slice_mut()?)?)
    })
    .in_place(vec![0])
    .flops(8.0)
    .done()
}

pub(super) fn group_norm(cx: &Cx<'_>, op: &op::GroupNormalization) -> Selected {
    let groups = usize::try_from(op.groups).ok().filter(|&g| g > 0)?;
    channels(cx, "GroupNormalization", groups, op.epsilon, op::Activation::None)
}

pub(super) fn instance_norm(cx: &Cx<'_>, op: &op::InstanceNormalization) -> Selected {
    channels(cx, "InstanceNormalization", 0, op.epsilon, op::Activation::None)
}

pub(super) fn fused_group_norm(cx: &Cx<'_>, op: &op::FusedGroupNormalization) -> Selected {
    let groups = usize::try_from(op.groups).ok()?;
    channels(cx, "FusedGroupNormalization", groups, op.epsilon, op.activation)
}

pub(super) fn channel_norm(cx: &Cx<'_>, op: &op::ChannelNormalization) -> Selected {
    cx.f32_input(0)?;
    let (isa, epsilon) = (cx.isa, op.epsilon as f32);
    let activation = super::products::activation(cx, op.activation);
    kernel("ChannelNormalization", move |run| {
        let x = run.source::<f32>(0)?;
        let (scale, bias) = (run.optional::<f32>(1)?, run.optional::<f32>(2)?);
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        let [batch, channels, inner] = around(out.shape, 1);
        let p = ChannelNorm { batch, channels, inner, epsilon, scale, bias, activation };
        Ok(norm::channel_norm(isa, &p, x, out.slice_mut()?)?)
    })
    .in_place(vec![0])
    .flops(8.0)
    .done()
}

pub(super) fn batch_norm(cx: &Cx<'_>, op: &op::BatchNormalization) -> Selected {
    cx.f32_input(0)?;
    let (isa, epsilon) = (cx.isa, op.epsilon as f32);
    kernel("BatchNormalization", move |run| {
        let x = run.source::<f32>(0)?;
        let statistics = [run.elements(1)?, run.elements(2)?, run.elements(3)?, run.elements(4)?];
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        let shape = around(out.shape, 1);
        Ok(norm::batch_norm(isa, shape, statistics, epsilon, x, out.slice_mut()?)?)
    })
    .in_place(vec![0])
    .flops(2.0)
    .done()
}
