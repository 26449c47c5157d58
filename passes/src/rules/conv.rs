//! Convolutions with what stands around them: bias, batch norm, gain, residual, activation. Products are in
//! `linear.rs`.

use crate::edit::Editor;
use crate::rule::{Found, Refusal, Rule, insert, require};
use crate::view::View;
use frit_ir::op::{Activation, AttrValue, Op};
use frit_ir::types::{resolve_axis, same_shape};
use frit_ir::{Dim, GraphBuilder, ValueId};

const BIASED: &str = "x: f32[2, 4, 9]; w: const f32[6, 2, 3]; bias: const f32[6]; r: f32[2, 6, 5];
    c.strides = [2]; c.pads = [1, 1]; c.dilations = [1]; c.group = 2";
const PLAIN: &str = "x: f32[batch, 3, 5, 4]; w: const f32[2, 3, 1, 2]; bias: none; r: none;
    c.strides = [1, 1]; c.pads = [0, 0, 0, 0]; c.dilations = [1, 1]";

/// Defines the rules that fuse an activation, one line each: name, op, word.
macro_rules! table {
    ($($name:literal, $op:literal, $word:literal;)* @ $($rule:expr),* $(,)?) => {
        /// The table.
        pub const RULES: &[Rule] = &[
            $($rule,)*
            $(Rule::new(
                $name,
                concat!($op, "(<Conv(?x, ?w, ?bias?)@c | FusedConv{activation=none, gain=1, shift=0}(?x, ?w, ?bias?, ?r?)@c>)"),
                concat!("FusedConv{*c, activation=", $word, "}(?x, ?w, ?bias?, ?r?)"),
                &[BIASED, PLAIN],
            ),)*
        ];
    };
}

table! {
    "conv_relu", "Relu", "relu";
    "conv_gelu", "Gelu{approximate=none}", "gelu";
    "conv_gelu_tanh", "Gelu{approximate=tanh}", "gelu_tanh";
    "conv_quick_gelu", "Swish{alpha=1.702}", "quick_gelu";
    "conv_silu", "Swish{alpha=1}", "silu";
    "conv_tanh", "Tanh", "tanh";
    "conv_sigmoid", "Sigmoid", "sigmoid";
    "conv_relu6", "Clip{min=0, max=6}", "relu6";
    "conv_hard_swish", "HardSwish", "hard_swish";
    @
    // Zeros around the input are what the convolution pads with.
    Rule::built("conv_padded", "Conv(Pad{mode=constant, value=0}(?x)@p, ?w, ?bias?)@c", padded, &[
        "x: f32[batch, 4, 6, 9]; w: const f32[6, 4, 3, 3]; bias: const f32[6]; p.before = [0, 0, 1, 0]; p.after = [0, 0, 2, 1];
         c.strides = [2, 1]; c.pads = [0, 1, 1, 1]; c.dilations = [1, 2]",
        "x: f32[2, 4, 9]; w: const f32[6, 2, 3]; bias: none; p.before = [0, 0, 1]; p.after = [0, 0, 0]; c.strides = [1]; c.pads = [0, 0]; c.dilations = [1]; c.group = 2",
    ]),
    // What is cut off at the ends need not be padded first.
    Rule::built("conv_cut", "Slice{axes=?axes, starts=?starts, ends=?ends, steps=[1]}(Conv(?x, ?w, ?bias?)@c)", cut, &[
        "x: f32[2, 4, 9]; w: const f32[6, 2, 4]; bias: const f32[6]; c.strides = [1]; c.pads = [2, 2]; c.dilations = [1]; c.group = 2; axes = [2]; starts = [0]; ends = [9]",
        "x: f32[2, 4, 5, 9]; w: const f32[6, 4, 1, 3]; bias: none; c.strides = [2, 1]; c.pads = [0, 1, 0, 2]; c.dilations = [1, 1]; axes = [-1]; starts = [1]; ends = [8]",
    ]),
    Rule::built("conv_batch_norm", "BatchNormalization(Conv(?x, ?w:const, ?bias?)@c, ?scale:const, ?shift:const, ?mean:const, ?var:const)@n", batch_norm, &[
        "x: f32[2, 4, 9]; w: const f32[6, 2, 3]; bias: const f32[6]; scale: const f32[6]; shift: const f32[6]; mean: const f32[6]; var: const f32[6] in 0.5..2;
         c.strides = [2]; c.pads = [1, 1]; c.dilations = [1]; c.group = 2; n.epsilon = 0.00001",
        "x: f32[2, 4, 5, 5]; w: const f32[6, 4, 3, 3]; bias: none; scale: const f32[6]; shift: const f32[6]; mean: const f32[6]; var: const f32[6] in 0.5..2;
         c.strides = [1, 1]; c.pads = [1, 1, 1, 1]; c.dilations = [1, 1]; n.epsilon = 0.001",
    ]),
    Rule::built("conv_gain", "Mul(Conv(?x, ?w:const, ?bias?)@c, ?g:const)", gain, &[
        "x: f32[2, 4, 9]; w: const f32[6, 2, 3]; bias: const f32[6]; g: const f32[6, 1]; c.strides = [2]; c.pads = [1, 1]; c.dilations = [1]; c.group = 2",
        "x: f32[2, 4, 9]; w: const f32[6, 4, 3]; bias: none; g: const f32[1, 6, 1]; c.strides = [1]; c.pads = [0, 0]; c.dilations = [2]",
        "x: f32[2, 4, 9]; w: const f32[6, 4, 3]; bias: const f32[6]; g: const f32[1]; c.strides = [1]; c.pads = [1, 1]; c.dilations = [1]",
    ]),
    Rule::built("conv_bias", "Add(Conv(?x, ?w, ?bias?)@c, ?shift:const)", bias, &[
        "x: f32[2, 4, 9]; w: const f32[6, 2, 3]; bias: none; shift: const f32[1, 6, 1]; c.strides = [2]; c.pads = [1, 1]; c.dilations = [1]; c.group = 2",
        "x: f32[2, 4, 9]; w: const f32[6, 2, 3]; bias: const f32[6]; shift: const f32[6, 1]; c.strides = [2]; c.pads = [1, 1]; c.dilations = [1]; c.group = 2",
        "x: f32[2, 4, 9]; w: const f32[6, 4, 3]; bias: const f32[6]; shift: const f32[]; c.strides = [1]; c.pads = [1, 1]; c.dilations = [1]",
    ]),
    Rule::new("conv_residual", "Add(Conv(?x, ?w, ?bias?)@c, ?r)", "FusedConv{*c}(?x, ?w, ?bias?, ?r)", &[
        "x: f32[2, 4, 9]; w: const f32[6, 2, 3]; bias: const f32[6]; r: f32[2, 6, 5]; c.strides = [2]; c.pads = [1, 1]; c.dilations = [1]; c.group = 2",
    ])
    .when(residual_has_same_shape),
    Rule::built("conv_tail_gain", "Mul(FusedConv(?x, ?w, ?bias?, ?r?)@c, ?g:scalar)", tail_gain, &[
        "x: f32[2, 4, 9]; w: const f32[6, 2, 3]; bias: const f32[6]; r: f32[2, 6, 5]; g = 0.5;
         c.strides = [2]; c.pads = [1, 1]; c.dilations = [1]; c.group = 2; c.activation = relu; c.shift = 0.25",
    ]),
    Rule::built("conv_tail_shift", "Add(FusedConv(?x, ?w, ?bias?, ?r?)@c, ?g:scalar)", tail_shift, &[
        "x: f32[2, 4, 9]; w: const f32[6, 2, 3]; bias: none; r: none; g = -0.75;
         c.strides = [2]; c.pads = [1, 1]; c.dilations = [1]; c.group = 2; c.activation = hard_swish; c.gain = 2.0",
    ]),
    Rule::built("conv_transpose_bias", "Add(ConvTranspose(?x, ?w, ?bias?)@c, ?shift:const)", transposed_bias, &[
        "x: f32[2, 4, 9]; w: const f32[4, 3, 3]; bias: none; shift: const f32[1, 6, 1]; c.strides = [2]; c.pads = [1, 1]; c.dilations = [1]; c.group = 2",
        "x: f32[2, 4, 9]; w: const f32[4, 3, 3]; bias: const f32[3]; shift: const f32[1]; c.strides = [2]; c.pads = [1, 1]; c.dilations = [1]",
    ]),
    Rule::built("conv_transpose_batch_norm", "BatchNormalization(ConvTranspose(?x, ?w:const, ?bias?)@c, ?scale:const, ?shift:const, ?mean:const, ?var:const)@n", transposed_batch_norm, &[
        "x: f32[2, 4, 5, 5]; w: const f32[4, 6, 2, 2]; bias: const f32[6]; scale: const f32[6]; shift: const f32[6]; mean: const f32[6]; var: const f32[6] in 0.5..2;
         c.strides = [2, 2]; c.pads = [0, 0, 0, 0]; c.dilations = [1, 1]; n.epsilon = 0.001",
    ]),
}

/// Output channels and spatial axes of a convolution, by its result [N, O, windows..].
fn channels(view: View<'_>, m: &Found<'_, '_>) -> Result<(Dim, usize), Refusal> {
    match view.shape(m.value("c")?) {
        [_, o, spatial @ ..] => Ok((o.clone(), spatial.len())),
        _ => Err(Refusal::Because("no [N, C, spatial..]".into())),
    }
}

/// Refuses unless a constant varies along the channels of [N, C, spatial..] at most, its numbers known.
fn require_per_channel(view: View<'_>, v: ValueId, channels: &Dim, spatial: usize) -> Result<(), Refusal> {
    let shape = view.shape(v);
    let at = shape.len().checked_sub(spatial + 1);
    let one = shape.len() <= spatial + 2 && shape.iter().all(|d| d.is(1));
    let fits = at.is_some_and(|at| {
        at <= 1 && shape.iter().enumerate().all(|(i, d)| if i == at { d.same(channels) } else { d.is(1) })
    });
    require(one || fits, "the constant does not vary along the channels alone")?;
    require(view.tensor(v).is_some(), "the constant's numbers are not known")
}

/// Such a constant as one number a channel.
fn by_channel(b: &mut GraphBuilder<'_>, v: ValueId, channels: Dim) -> Result<ValueId, Refusal> {
    if b.shape(v)?.iter().all(|d| d.is(1)) {
        let one = b.reshape(v, &[Dim::constant(1)])?;
        return Ok(b.expand(one, &[channels])?);
    }
    Ok(b.reshape(v, &[channels])?)
}

/// conv(x, w factor) + (bias - minus) factor + shift, every factor a number a channel.
fn scaled(
    e: &mut Editor<'_>,
    m: &Found<'_, '_>,
    factor: impl FnOnce(&mut GraphBuilder<'_>) -> Result<ValueId, Refusal>,
    minus: Option<ValueId>,
    shift: Option<ValueId>,
) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (x, w, bias) = (m.value("x")?, m.value("w")?, m.optional("bias"));
    let conv = m.op(view, "c", |o| if let Op::Conv(c) = o { Some(c) } else { None })?;
    let known = view.tensor(w).is_some() && bias.is_none_or(|b| view.tensor(b).is_some());
    require(known, "the weights are not known")?;
    let (channels, spatial) = channels(view, m)?;
    e.build(m.label, |b| {
        let factor = factor(b)?;
        let mut along = vec![channels];
        along.resize(spatial + 2, Dim::constant(1));
        let by_output = b.reshape(factor, &along)?;
        let w = b.mul(w, by_output)?;
        let bias = scaled_bias(b, bias, factor, minus, shift)?;
        Ok(insert(b, conv, &[Some(x), Some(w), bias])?)
    })
}

/// (bias - minus) factor + shift, what is not there being 0.
fn scaled_bias(
    b: &mut GraphBuilder<'_>,
    bias: Option<ValueId>,
    factor: ValueId,
    minus: Option<ValueId>,
    shift: Option<ValueId>,
) -> Result<Option<ValueId>, Refusal> {
    let centred = match (bias, minus) {
        (Some(bias), Some(minus)) => Some(b.sub(bias, minus)?),
        (None, Some(minus)) => Some(b.unary(frit_ir::op::UnaryFn::Neg, minus)?),
        (bias, None) => bias,
    };
    let scaled = match centred {
        Some(c) => Some(b.mul(c, factor)?),
        None => None,
    };
    Ok(match (scaled, shift) {
        (Some(s), Some(shift)) => Some(b.add(s, shift)?),
        (s, shift) => s.or(shift),
    })
}

/// The statistics of a batch norm are fixed, so it is a factor and a shift a channel.
fn batch_norm(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (scale, shift, mean, var) = (m.value("scale")?, m.value("shift")?, m.value("mean")?, m.value("var")?);
    let norm = m.op(view, "n", |o| if let Op::BatchNormalization(n) = o { Some(n) } else { None })?;
    let known = [scale, shift, mean, var].into_iter().all(|v| view.tensor(v).is_some());
    require(known, "the statistics are not known")?;
    scaled(e, m, |b| norm_factor(b, scale, var, norm.epsilon), Some(mean), Some(shift))
}

/// The factor of a batch norm.
fn norm_factor(
    b: &mut GraphBuilder<'_>,
    scale: ValueId,
    var: ValueId,
    epsilon: f64,
) -> Result<ValueId, Refusal> {
    let safe = b.add_scalar(var, epsilon)?;
    let deviation = b.unary(frit_ir::op::UnaryFn::Sqrt, safe)?;
    Ok(b.div(scale, deviation)?)
}

/// As `batch_norm`; the weight is [in, out, window..].
fn transposed_batch_norm(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (x, w, bias) = (m.value("x")?, m.value("w")?, m.optional("bias"));
    let (scale, shift, mean, var) = (m.value("scale")?, m.value("shift")?, m.value("mean")?, m.value("var")?);
    let norm = m.op(view, "n", |o| if let Op::BatchNormalization(n) = o { Some(n) } else { None })?;
    let conv = m.op(view, "c", |o| if let Op::ConvTranspose(c) = o { Some(c) } else { None })?;
    require(conv.group == 1, "the weight's output channels are those of one group")?;
    let known = [w, scale, shift, mean, var].into_iter().chain(bias).all(|v| view.tensor(v).is_some());
    require(known, "the statistics or the weights are not known")?;
    let (channels, spatial) = channels(view, m)?;
    e.build(m.label, |b| {
        let factor = norm_factor(b, scale, var, norm.epsilon)?;
        let mut along = vec![channels];
        along.resize(spatial + 1, Dim::constant(1));
        let by_output = b.reshape(factor, &along)?;
        let w = b.mul(w, by_output)?;
        let bias = scaled_bias(b, bias, factor, Some(mean), Some(shift))?;
        Ok(insert(b, conv, &[Some(x), Some(w), bias])?)
    })
}

fn gain(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let g = m.value("g")?;
    let (o, spatial) = channels(view, m)?;
    require_per_channel(view, g, &o, spatial)?;
    scaled(e, m, |b| by_channel(b, g, o), None, None)
}

fn bias(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let conv = m.op(view, "c", |o| if let Op::Conv(c) = o { Some(c) } else { None })?;
    biased(e, m, conv.into())
}

fn transposed_bias(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let conv = m.op(view, "c", |o| if let Op::ConvTranspose(c) = o { Some(c) } else { None })?;
    biased(e, m, conv.into())
}

/// The convolution with another summand in its bias.
fn biased(e: &mut Editor<'_>, m: &Found<'_, '_>, conv: Op) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (x, w, bias, shift) = (m.value("x")?, m.value("w")?, m.optional("bias"), m.value("shift")?);
    let (o, spatial) = channels(view, m)?;
    require_per_channel(view, shift, &o, spatial)?;
    e.build(m.label, |b| {
        let mut shift = by_channel(b, shift, o)?;
        if let Some(bias) = bias {
            shift = b.add(bias, shift)?;
        }
        Ok(b.op(conv, &[x, w, shift])?)
    })
}

fn tail_gain(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    tail(e, m, |gain, shift, g| (gain * g, shift * g))
}

fn tail_shift(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    tail(e, m, |gain, shift, g| (gain, shift + g))
}

/// Another gain and shift after the activation.
fn tail(
    e: &mut Editor<'_>,
    m: &Found<'_, '_>,
    with: fn(f64, f64, f64) -> (f64, f64),
) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let mut conv = m.op(view, "c", |o| if let Op::FusedConv(c) = o { Some(c) } else { None })?;
    require(conv.activation != Activation::None, "an activation may still follow")?;
    (conv.gain, conv.shift) = with(conv.gain, conv.shift, m.number(view, "g")?);
    require(conv.gain.is_finite() && conv.shift.is_finite(), "gain or shift is not finite")?;
    let operands = [m.optional("x"), m.optional("w"), m.optional("bias"), m.optional("r")];
    e.build(m.label, |b| Ok(insert(b, conv, &operands)?))
}

/// Elements cut off one axis of stride 1 were made of padding where there is as much of it.
fn cut(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (x, w, bias, c) = (m.value("x")?, m.value("w")?, m.optional("bias"), m.value("c")?);
    let mut conv = m.op(view, "c", |o| if let Op::Conv(c) = o { Some(c) } else { None })?;
    let one = |name: &str| match m.found.attr(name).map(|a| (a, <Vec<Dim>>::from_attr(a))) {
        Some((_, Some(list))) => match list.as_slice() {
            [d] => Ok(d.clone()),
            _ => Err(Refusal::Because("several axes are cut".into())),
        },
        _ => Err(Refusal::Because("no offsets".into())),
    };
    let shape = view.shape(c);
    let axis =
        one("axes")?.as_const().and_then(|a| resolve_axis(a, shape.len())).and_then(|a| a.checked_sub(2));
    let Some(axis) = axis else { return Err(Refusal::Because("the axis cut is not spatial".into())) };
    let extent = shape.get(axis + 2).cloned().unwrap_or_default();
    let spatial = shape.len() - 2;
    require(conv.strides.get(axis) == Some(&1), "the convolution strides along the axis cut")?;
    let cuts = [(axis, one("starts")?.as_const()), (axis + spatial, extent.sub(&one("ends")?)?.as_const())];
    for (at, n) in cuts {
        match (conv.pads.get_mut(at), n) {
            (Some(pad), Some(n)) if (0..=*pad).contains(&n) => *pad -= n,
            _ => return Err(Refusal::Because("more is cut than padded".into())),
        }
    }
    e.build(m.label, |b| Ok(insert(b, conv, &[Some(x), Some(w), bias])?))
}

/// The pads of both, where only spatial axes are padded.
fn padded(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (x, w, bias) = (m.value("x")?, m.value("w")?, m.optional("bias"));
    let mut conv = m.op(view, "c", |o| if let Op::Conv(c) = o { Some(c) } else { None })?;
    let pad = m.op(view, "p", |o| if let Op::Pad(p) = o { Some(p) } else { None })?;
    let spatial = pad.before.iter().skip(2).chain(pad.after.iter().skip(2));
    let outer = pad.before.iter().take(2).chain(pad.after.iter().take(2));
    require(outer.into_iter().all(|d| d.is(0)), "the batch or the channels are padded")?;
    for (own, more) in conv.pads.iter_mut().zip(spatial) {
        *own = more
            .as_const()
            .and_then(|more| own.checked_add(more))
            .ok_or_else(|| Refusal::Because("a pad is not fixed".into()))?;
    }
    e.build(m.label, |b| Ok(insert(b, conv, &[Some(x), Some(w), bias])?))
}

fn residual_has_same_shape(view: View<'_>, m: &Found<'_, '_>) -> Result<(), Refusal> {
    let (c, r) = (m.value("c")?, m.value("r")?);
    require(same_shape(view.shape(c), view.shape(r)), "the other summand is broadcast")?;
    require(!view.is_const(r), "the other summand is a constant")
}
