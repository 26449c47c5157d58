//! Normalisations out of means, differences and roots, and with the residual sum before them. Folding a batch norm
//! into a convolution is in `conv.rs`.

use super::shapes::{axes, inverse, permutation};
use crate::edit::Editor;
use crate::rule::{Found, Refusal, Rule, insert, require};
use crate::view::View;
use frit_ir::op::{
    Activation, Attr, ChannelNormalization, InstanceNormalization, LayerNormalization, Op, RMSNormalization,
    SkipLayerNormalization,
};
use frit_ir::types::{product, resolve_axis, same_shape};
use frit_ir::{BuildError, Dim, GraphBuilder, ValueId};

/// The table.
pub const RULES: &[Rule] = &[
    // (x - mean) / sqrt(variance + epsilon) scale: as torch's exporter writes nn.LayerNorm.
    Rule::built(
        "layer_norm",
        "C = Sub(?x, ReduceMean{axes=?axes, keepdims=true}(?x));
         VAR = Add(ReduceMean{axes=?axes, keepdims=true}(Mul(C, C)), ?epsilon:scalar);
         N = <Div(C, Sqrt(VAR)) | Mul(C, Reciprocal(Sqrt(VAR)))>;
         Mul(N, ?scale)",
        layer_norm,
        &[
            "x: f32[2, 3, 6]; axes = [-1]; epsilon = 0.00001; scale: const f32[6]",
            "x: f32[2, 3, 6]; axes = [1, 2]; epsilon = 0.00001; scale: const f32[3, 6]",
            "x: f32[2, 3, 6]; axes = [-1]; epsilon = 0.00001; scale: const f32[1, 1, 6]",
            "x: f32[2, 3, 6]; axes = [1, 2]; epsilon = 0.00001; scale: const f32[6]",
        ],
    ),
    Rule::built(
        "instance_norm",
        "C = Sub(?x, ReduceMean{axes=?axes, keepdims=true}(?x));
         VAR = Add(ReduceMean{axes=?axes, keepdims=true}(Mul(C, C)), ?epsilon:scalar);
         Add(Mul(Div(C, Sqrt(VAR)), ?scale), ?bias)",
        instance_norm,
        &["x: f32[2, 3, 6]; axes = [-1]; epsilon = 0.00001; scale: const f32[3, 1]; bias: const f32[3, 1]"],
    ),
    // The same over axis 1, as norms of data with channels first are spelled.
    Rule::built(
        "channel_norm_parts",
        "C = Sub(?x, ReduceMean{axes=[1], keepdims=true}(?x));
         VAR = Add(ReduceMean{axes=[1], keepdims=true}(Mul(C, C)), ?epsilon:scalar);
         Add(Mul(Div(C, Sqrt(VAR)), ?scale), ?bias)",
        channel_norm_parts,
        &["x: f32[2, 3, 6]; epsilon = 0.00001; scale: const f32[3, 1]; bias: const f32[3, 1]"],
    ),
    // Channels last for a layer norm, and back; or with an activation behind, which becomes part of the norm.
    Rule::built(
        "channel_norm",
        "Transpose{perm=?p}(LayerNormalization(Transpose{perm=?q}(?x), ?scale, ?bias?)@n)",
        channel_norm,
        &[
            "x: f32[2, 3, 6]; scale: const f32[3]; bias: const f32[3]; p = [0, 2, 1]; q = [0, 2, 1]; n.axis = -1; n.epsilon = 0.00001",
            "x: f32[2, 3, 4, 5]; scale: const f32[1]; bias: none; p = [0, 3, 1, 2]; q = [0, 2, 3, 1]; n.axis = 3; n.epsilon = 0.00001",
        ],
    ),
    Rule::built(
        "channel_norm_map",
        "%map(LayerNormalization(Transpose{perm=?q}(?x), ?scale, ?bias?)@n)@m",
        channel_norm_map,
        &[
            "x: f32[2, 3, 6]; scale: const f32[3] in 0.1..0.3; bias: const f32[3] in 1..1.2; q = [0, 2, 1]; n.axis = -1; n.epsilon = 0.00001",
            "x: f32[2, 3, 4, 5]; scale: const f32[1] in 0.1..0.3; bias: const f32[3] in 1..1.2; q = [0, 2, 3, 1]; n.axis = 3; n.epsilon = 0.00001",
        ],
    ),
    Rule::built(
        "layer_norm_bias",
        "Add(LayerNormalization(?x, ?scale)@n, ?bias)",
        layer_norm_bias,
        &[
            "x: f32[2, 3, 6]; scale: const f32[6]; bias: const f32[6]; n.axis = -1; n.epsilon = 0.00001",
            "x: f32[2, 3, 6]; scale: const f32[6]; bias: const f32[1, 1, 6]; n.axis = -1; n.epsilon = 0.00001",
        ],
    ),
    Rule::built(
        "rms_norm",
        "MS = Add(ReduceMean{axes=?axes, keepdims=true}(Mul(?x, ?x)), ?epsilon:scalar);
         Mul(<Div(?x, Sqrt(MS)) | Mul(?x, Reciprocal(Sqrt(MS)))>, ?scale)",
        rms_norm,
        &["x: f32[2, 3, 6]; axes = [-1]; epsilon = 0.000001; scale: const f32[6]"],
    ),
    // The scale and shift of a group norm that stand behind an instance norm with none of its own.
    Rule::built(
        "instance_norm_affine",
        "Add(Mul(InstanceNormalization(?x, ?s, ?b)@n, ?scale:const), ?bias:const)",
        instance_norm_affine,
        &[
            "x: f32[2, 3, 6]; s: const f32[3]; b: const f32[3]; scale: const f32[3, 1]; bias: const f32[3, 1]; n.epsilon = 0.00001",
        ],
    ),
    Rule::built(
        "unscaled_layer_norm",
        "C = Sub(?x, ReduceMean{axes=?axes, keepdims=true}(?x));
         VAR = Add(ReduceMean{axes=?axes, keepdims=true}(Mul(C, C)), ?epsilon:scalar);
         Div(C, Sqrt(VAR))",
        unscaled_layer_norm,
        &["x: f32[2, 3, 6]; axes = [-1]; epsilon = 0.00001"],
    )
    .when(scaled_nowhere),
];

/// Defines the rules that fuse an activation into a norm over channels, one line each: names, op, word.
macro_rules! activated {
    ($($instance:literal, $group:literal, $channel:literal, $op:literal, $word:literal;)*) => {
        /// Activations behind norms over channels become part of them.
        pub const ACTIVATED: &[Rule] = &[$(
            Rule::new(
                $instance,
                concat!($op, "(InstanceNormalization(?x, ?scale, ?bias)@n)"),
                concat!("FusedGroupNormalization{*n, groups=0, activation=", $word, "}(?x, ?scale, ?bias)"),
                &["x: f32[2, 4, 7]; scale: const f32[4]; bias: const f32[4]; n.epsilon = 0.00001"],
            ),
            Rule::new(
                $group,
                concat!($op, "(GroupNormalization(?x, ?scale, ?bias)@n)"),
                concat!("FusedGroupNormalization{*n, activation=", $word, "}(?x, ?scale, ?bias)"),
                &["x: f32[2, 4, 3, 5]; scale: const f32[4]; bias: const f32[4]; n.groups = 2; n.epsilon = 0.00001"],
            ),
            Rule::new(
                $channel,
                concat!($op, "(ChannelNormalization{activation=none}(?x, ?scale, ?bias)@n)"),
                concat!("ChannelNormalization{*n, activation=", $word, "}(?x, ?scale, ?bias)"),
                &["x: f32[2, 4, 7]; scale: const f32[4]; bias: const f32[4]; n.epsilon = 0.00001"],
            ),
        )*];
    };
}

activated! {
    "instance_norm_relu", "group_norm_relu", "channel_norm_relu", "Relu", "relu";
    "instance_norm_gelu", "group_norm_gelu", "channel_norm_gelu", "Gelu{approximate=none}", "gelu";
    "instance_norm_gelu_tanh", "group_norm_gelu_tanh", "channel_norm_gelu_tanh", "Gelu{approximate=tanh}", "gelu_tanh";
    "instance_norm_quick_gelu", "group_norm_quick_gelu", "channel_norm_quick_gelu", "Swish{alpha=1.702}", "quick_gelu";
    "instance_norm_silu", "group_norm_silu", "channel_norm_silu", "Swish{alpha=1}", "silu";
    "instance_norm_tanh", "group_norm_tanh", "channel_norm_tanh", "Tanh", "tanh";
    "instance_norm_sigmoid", "group_norm_sigmoid", "channel_norm_sigmoid", "Sigmoid", "sigmoid";
    "instance_norm_relu6", "group_norm_relu6", "channel_norm_relu6", "Clip{min=0, max=6}", "relu6";
    "instance_norm_hard_swish", "group_norm_hard_swish", "channel_norm_hard_swish", "HardSwish", "hard_swish";
}

/// Sums before a normalisation become part of it.
pub const SKIP: &[Rule] = &[Rule::built(
    "skip_layer_norm",
    "LayerNormalization(Add(?x, ?residual), ?scale, ?bias?)@n",
    skip_layer_norm,
    &[
        "x: f32[2, 3, 6]; residual: f32[2, 3, 6]; scale: const f32[6]; bias: const f32[6]; n.axis = -1; n.epsilon = 0.00001",
        "x: f32[2, 3, 6]; residual: f32[2, 3, 6]; scale: const f32[6]; bias: none; n.axis = -1; n.epsilon = 0.00001",
    ],
)];

/// A scale or bias with exactly the extents normalised, the form that kernels take.
fn affine(b: &mut GraphBuilder<'_>, v: ValueId, x: ValueId, axis: i64) -> Result<ValueId, BuildError> {
    let shape = b.shape(x)?;
    let from = resolve_axis(axis, shape.len()).unwrap_or(0);
    let tail = shape.get(from..).unwrap_or(&[]);
    let own = b.shape(v)?;
    if same_shape(&own, tail) {
        return Ok(v);
    }
    if own.len() > tail.len() && product(&own)?.same(&product(tail)?) {
        return b.reshape(v, tail);
    }
    b.expand(v, tail)
}

/// The first of the axes normalised, when they are the last ones.
fn first_axis(view: View<'_>, x: ValueId, m: &Found<'_, '_>) -> Result<i64, Refusal> {
    let rank = view.rank(x);
    let Some(Attr::Ints(list)) = m.found.attr("axes") else {
        return Err(Refusal::Because("no axes".into()));
    };
    let mut axes: Vec<usize> = list.iter().filter_map(|&a| resolve_axis(a, rank)).collect();
    axes.sort_unstable();
    let first = rank.saturating_sub(axes.len());
    require(!axes.is_empty() && axes.iter().copied().eq(first..rank), "not the last axes are normalised")?;
    i64::try_from(axes.len()).map(|n| -n).map_err(|_| Refusal::Because("too many axes".into()))
}

fn epsilon(view: View<'_>, m: &Found<'_, '_>) -> Result<f64, Refusal> {
    let e = m.number(view, "epsilon")?;
    require(e >= 0.0, "epsilon is negative")?;
    Ok(e)
}

fn layer_norm(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (x, scale) = (m.value("x")?, m.value("scale")?);
    let op = LayerNormalization { axis: first_axis(view, x, m)?, epsilon: epsilon(view, m)? };
    e.build(m.label, |b| {
        let scale = affine(b, scale, x, op.axis)?;
        Ok(b.op(op, &[x, scale])?)
    })
}

fn unscaled_layer_norm(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let x = m.value("x")?;
    let op = LayerNormalization { axis: first_axis(view, x, m)?, epsilon: epsilon(view, m)? };
    e.build(m.label, |b| {
        let one = b.scalar_like(x, 1.0)?;
        let scale = affine(b, one, x, op.axis)?;
        Ok(b.op(op, &[x, scale])?)
    })
}

/// A product behind it is a scale that another rule takes, or one along other axes that none does yet.
fn scaled_nowhere(view: View<'_>, m: &Found<'_, '_>) -> Result<(), Refusal> {
    let root = m.root(view)?;
    let product = view.graph.nodes().any(|(_, n)| n.op.name() == "Mul" && n.inputs.contains(&Some(root)));
    require(!product, "a scale follows")
}

fn rms_norm(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (x, scale) = (m.value("x")?, m.value("scale")?);
    let op = RMSNormalization { axis: first_axis(view, x, m)?, epsilon: epsilon(view, m)? };
    e.build(m.label, |b| {
        let scale = affine(b, scale, x, op.axis)?;
        Ok(b.op(op, &[x, scale])?)
    })
}

/// The channels of a scale of x [N, C, spatial..] that varies along C alone.
fn per_channel(view: View<'_>, x: ValueId, v: ValueId) -> Result<Dim, Refusal> {
    let rank = view.rank(x);
    let channels = view.shape(x).get(1).filter(|_| rank >= 3).cloned();
    let Some(channels) = channels else { return Err(Refusal::Because("no [N, C, spatial..]".into())) };
    let mut shape = view.shape(v).to_vec();
    while shape.len() < rank {
        shape.insert(0, Dim::constant(1));
    }
    let fits = shape.len() == rank
        && shape.iter().enumerate().all(|(i, d)| if i == 1 { d.same(&channels) } else { d.is(1) });
    require(fits, "the scale or bias does not vary along channels alone")?;
    Ok(channels)
}

fn instance_norm(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let x = m.value("x")?;
    let all_spatial = i64::try_from(view.rank(x)).is_ok_and(|rank| first_axis(view, x, m) == Ok(2 - rank));
    require(all_spatial, "not exactly the spatial axes are normalised")?;
    by_channel(e, m, InstanceNormalization { epsilon: epsilon(view, m)? })
}

/// The norm `op` of ?x with ?scale and ?bias, which vary along channels alone.
fn by_channel(e: &mut Editor<'_>, m: &Found<'_, '_>, op: impl Into<Op>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (x, scale, bias) = (m.value("x")?, m.value("scale")?, m.value("bias")?);
    let channels = per_channel(view, x, scale)?;
    per_channel(view, x, bias)?;
    let op = op.into();
    e.build(m.label, |b| {
        let scale = b.reshape(scale, std::slice::from_ref(&channels))?;
        let bias = b.reshape(bias, &[channels])?;
        Ok(b.op(op, &[x, scale, bias])?)
    })
}

fn channel_norm_parts(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let op = ChannelNormalization { epsilon: epsilon(view, m)?, activation: Activation::None };
    by_channel(e, m, op)
}

/// The norm over channels of ?x that a layer norm `n` behind a transposition `q` is.
fn over_channels(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (x, scale, bias) = (m.value("x")?, m.value("scale")?, m.optional("bias"));
    let rank = view.rank(x);
    let last: Vec<usize> = std::iter::once(0).chain(2..rank).chain([1]).collect();
    require(
        rank >= 3 && permutation(m.found.attr("q"))? == last,
        "the channels do not become the last axis",
    )?;
    let norm = m.op(view, "n", |o| if let Op::LayerNormalization(n) = o { Some(n) } else { None })?;
    require(resolve_axis(norm.axis, rank) == rank.checked_sub(1), "more than the channels are normalised")?;
    let channels: Vec<Dim> = view.shape(x).get(1).cloned().into_iter().collect();
    let op = ChannelNormalization { epsilon: norm.epsilon, activation: Activation::None };
    e.build(m.label, |b| {
        let scale = b.expand(scale, &channels)?;
        let bias = match bias {
            Some(bias) => bias,
            None => b.scalar_like(x, 0.0)?,
        };
        let bias = b.expand(bias, &channels)?;
        Ok(b.op(op, &[x, scale, bias])?)
    })
}

fn channel_norm(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let (p, q) = (permutation(m.found.attr("p"))?, permutation(m.found.attr("q"))?);
    require(p == inverse(&q), "the channels do not go back")?;
    over_channels(e, m)
}

fn channel_norm_map(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (map, last) = (m.op(view, "m", |o| Some(o))?, permutation(m.found.attr("q"))?);
    let y = over_channels(e, m)?;
    e.build(m.label, |b| {
        let y = b.op(map, &[y])?;
        Ok(b.transpose(y, &axes(&last))?)
    })
}

fn instance_norm_affine(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (x, s, b0) = (m.value("x")?, m.value("s")?, m.value("b")?);
    let (scale, bias) = (m.value("scale")?, m.value("bias")?);
    let channels = per_channel(view, x, scale)?;
    per_channel(view, x, bias)?;
    let op = m.op(view, "n", |o| if let Op::InstanceNormalization(n) = o { Some(n) } else { None })?;
    e.build(m.label, |b| {
        let scale = b.reshape(scale, std::slice::from_ref(&channels))?;
        let bias = b.reshape(bias, &[channels])?;
        let s = b.mul(s, scale)?;
        let shift = b.mul(b0, scale)?;
        let shift = b.add(shift, bias)?;
        Ok(b.op(op, &[x, s, shift])?)
    })
}

fn layer_norm_bias(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (x, scale, bias) = (m.value("x")?, m.value("scale")?, m.value("bias")?);
    // A residual of x's shape is no bias.
    let residual = view.rank(bias) == view.rank(x) && same_shape(view.shape(bias), view.shape(x));
    require(!residual, "the sum is of two activations")?;
    let norm = m.op(view, "n", |o| if let Op::LayerNormalization(n) = o { Some(n) } else { None })?;
    e.build(m.label, |b| {
        let bias = affine(b, bias, x, norm.axis)?;
        Ok(b.op(norm, &[x, scale, bias])?)
    })
}

fn skip_layer_norm(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (x, residual, scale) = (m.value("x")?, m.value("residual")?, m.value("scale")?);
    let bias = m.optional("bias");
    let norm = m.op(view, "n", |o| if let Op::LayerNormalization(n) = o { Some(n) } else { None })?;
    let rank = view.rank(x);
    require(resolve_axis(norm.axis, rank) == rank.checked_sub(1), "more than the last axis is normalised")?;
    require(same_shape(view.shape(x), view.shape(residual)), "one summand is broadcast")?;
    require(!view.is_const(x) && !view.is_const(residual), "one summand is a constant")?;
    let op = SkipLayerNormalization { epsilon: norm.epsilon };
    e.build(m.label, |b| Ok(insert(b, op, &[Some(x), Some(residual), Some(scale), bias])?))
}
