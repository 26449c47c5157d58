//! wav2vec 2.0 (Baevski et al. 2020, arXiv:2006.11477) and XLS-R: transformers' Wav2Vec2Model and Wav2Vec2ForCTC.
//! Blocks that other models share belong into `blocks/`.

use super::blocks::attention::{attend, split_heads};
use super::blocks::conv::Convolution;
use super::blocks::norm::channel_norm;
use super::blocks::{Activation, Affine, Scores, layer_norm, linear, mask};
use super::config::{Common, ModelConfig, counts, heads_divide, layers, one_of, sizes};
use super::cx::{Built, Cx};
use super::job::Job;
use super::weights::WeightScope;
use crate::error::ConfigError;
use frit_ir::op::{BinaryFn, CTCLoss, Reduction, ShapeOf, UnaryFn};
use frit_ir::{DType, Dim, InputDefault, ValueId};
use serde::Deserialize;

/// Wav2Vec2Config's keys that change what is computed.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Characters of the CTC head.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Attention heads of a layer.
    pub num_attention_heads: usize,
    /// Width between the feed-forward layers.
    pub intermediate_size: usize,
    /// Activation between the feed-forward layers.
    pub hidden_act: String,
    /// Added to variances.
    pub layer_norm_eps: f64,
    /// `group`: a norm over time after the first convolution; `layer`: one over channels after each.
    pub feat_extract_norm: String,
    /// Activation after each convolution.
    pub feat_extract_activation: String,
    /// Channels of the convolutions.
    pub conv_dim: Vec<usize>,
    /// Their steps.
    pub conv_stride: Vec<usize>,
    /// Their kernels.
    pub conv_kernel: Vec<usize>,
    /// True when they have biases.
    pub conv_bias: bool,
    /// Kernel of the positional convolution.
    pub num_conv_pos_embeddings: usize,
    /// Its groups.
    pub num_conv_pos_embedding_groups: usize,
    /// True when norms come before attention and feed-forward layers.
    pub do_stable_layer_norm: bool,
    /// False when `mask_time_indices` are not looked at.
    pub apply_spec_augment: bool,
    /// `sum`, `mean` or `none`.
    pub ctc_loss_reduction: String,
    /// True when targets that cannot be reached cost nothing.
    pub ctc_zero_infinity: bool,
    /// The class that stands for no character.
    pub pad_token_id: usize,
    /// True when strided convolutions follow the encoder.
    pub add_adapter: bool,
    /// Kernel of those.
    pub adapter_kernel_size: usize,
    /// Their step.
    pub adapter_stride: usize,
    /// Their number.
    pub num_adapter_layers: usize,
    /// Their width; None or 0: that of the hidden states.
    pub output_hidden_size: Option<usize>,
    /// Width of the adapters within the layers.
    pub adapter_attn_dim: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            vocab_size: 32,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".to_string(),
            layer_norm_eps: 1e-5,
            feat_extract_norm: "group".to_string(),
            feat_extract_activation: "gelu".to_string(),
            conv_dim: vec![512; 7],
            conv_stride: vec![5, 2, 2, 2, 2, 2, 2],
            conv_kernel: vec![10, 3, 3, 3, 3, 2, 2],
            conv_bias: false,
            num_conv_pos_embeddings: 128,
            num_conv_pos_embedding_groups: 16,
            do_stable_layer_norm: false,
            apply_spec_augment: true,
            ctc_loss_reduction: "sum".to_string(),
            ctc_zero_infinity: false,
            pad_token_id: 0,
            add_adapter: false,
            adapter_kernel_size: 3,
            adapter_stride: 2,
            num_adapter_layers: 3,
            output_hidden_size: None,
            adapter_attn_dim: None,
        }
    }
}

impl ModelConfig for Config {
    fn check(&self) -> Result<(), ConfigError> {
        layers("num_hidden_layers", self.num_hidden_layers)?;
        counts(&[
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("num_conv_pos_embeddings", self.num_conv_pos_embeddings),
            ("num_conv_pos_embedding_groups", self.num_conv_pos_embedding_groups),
            ("adapter_kernel_size", self.adapter_kernel_size),
            ("adapter_stride", self.adapter_stride),
        ])?;
        if self.num_adapter_layers > 0 {
            layers("num_adapter_layers", self.num_adapter_layers)?;
        }
        sizes(&[("vocab_size", self.vocab_size)])?;
        let n = self.conv_dim.len();
        layers("conv_dim", n)?;
        if self.conv_stride.len() != n || self.conv_kernel.len() != n {
            let why = format!(
                "`conv_dim`, `conv_stride` and `conv_kernel` need one number a layer each, got {n}, {} and {}",
                self.conv_stride.len(),
                self.conv_kernel.len()
            );
            return Err(ConfigError::invalid("conv_dim", why));
        }
        for (key, list) in [
            ("conv_dim", &self.conv_dim),
            ("conv_stride", &self.conv_stride),
            ("conv_kernel", &self.conv_kernel),
        ] {
            for &value in list {
                counts(&[(key, value)])?;
            }
        }
        heads_divide(("hidden_size", self.hidden_size), ("num_attention_heads", self.num_attention_heads))?;
        heads_divide(
            ("hidden_size", self.hidden_size),
            ("num_conv_pos_embedding_groups", self.num_conv_pos_embedding_groups),
        )?;
        one_of("feat_extract_norm", &self.feat_extract_norm, &["group", "layer"])?;
        one_of("ctc_loss_reduction", &self.ctc_loss_reduction, &["sum", "mean", "none"])?;
        Activation::parse("hidden_act", &self.hidden_act)?;
        Activation::parse("feat_extract_activation", &self.feat_extract_activation).map(drop)
    }
}

impl Config {
    fn output_width(&self) -> usize {
        self.output_hidden_size.filter(|&n| n > 0).unwrap_or(self.hidden_size)
    }
}

/// Epsilon of torch's norms where transformers does not pass one.
const TORCH_EPSILON: f64 = 1e-5;

/// What Wav2Vec2Model gives.
struct Heard {
    hidden: ValueId,
    features: ValueId,
    /// True samples of each sound, i64 [batch], where a mask was given.
    lengths: Option<ValueId>,
    samples: Dim,
}

fn listen(cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, config: &Config, common: &Common) -> Built<Heard> {
    let (batch, samples) = (cx.dim("batch"), cx.dim("samples"));
    let sound = cx.input("input_values", DType::F32, vec![batch.clone(), samples.clone()], None)?;
    let features = extract_features(cx, &w.sub("feature_extractor"), config, sound)?;
    let frames = cx.extent(features, 1)?;

    let mut lengths = None;
    let mut visible = None;
    if cx.has("attention_mask") {
        let shape = vec![batch.clone(), samples.clone()];
        let mask = cx.input("attention_mask", DType::I64, shape, Some(InputDefault::Ones))?;
        let mask = cx.b.cast(mask, DType::I64)?;
        let length = cx.sum(mask, &[-1], false)?;
        lengths = Some(length);
        visible = Some(visible_frames(cx, config, length, &frames)?);
    }

    let projection = w.sub("feature_projection");
    let width = config.conv_dim.last().copied().unwrap_or(0);
    let features = layer_norm(cx, &projection.sub("layer_norm"), features, width, config.layer_norm_eps)?;
    let widths = Affine::new(width, config.hidden_size);
    let mut x = linear(cx, &projection.sub("projection"), features, widths)?;
    if cx.has("mask_time_indices") {
        let masked = cx.input("mask_time_indices", DType::Bool, vec![batch.clone(), frames], None)?;
        if config.apply_spec_augment {
            let masked = cx.b.cast(masked, DType::Bool)?;
            let masked = cx.unsqueeze(masked, 2)?;
            let token = cx.weight(w, "masked_spec_embed", &[config.hidden_size])?;
            x = cx.choose(masked, token, x)?;
        }
    }
    let x = encode(cx, &w.sub("encoder"), config, common, x, visible)?;
    let hidden = if config.add_adapter { adapt(cx, &w.sub("adapter"), config, x)? } else { x };
    Ok(Heard { hidden, features, lengths, samples })
}

/// The strided convolutions: [batch, samples] to [batch, frames, channels].
fn extract_features(cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, config: &Config, sound: ValueId) -> Built {
    let activation = Activation::parse("feat_extract_activation", &config.feat_extract_activation)?;
    let layers = config.conv_dim.iter().zip(&config.conv_kernel).zip(&config.conv_stride);
    let mut x = cx.within(w, |cx| cx.unsqueeze(sound, 1))?;
    let mut inputs = 1;
    for (i, ((&channels, &kernel), &stride)) in layers.enumerate() {
        let w = w.sub("conv_layers").sub(i);
        let layer = Convolution {
            inputs,
            outputs: channels,
            kernel: &[kernel],
            stride: &[stride],
            padding: &[0],
            groups: 1,
            bias: config.conv_bias,
        };
        x = layer.apply(cx, &w.sub("conv"), x)?;
        let norm = w.sub("layer_norm");
        if config.feat_extract_norm == "layer" {
            let turned = cx.within(&w, |cx| Ok(cx.b.transpose(x, &[0, 2, 1])?))?;
            let normal = layer_norm(cx, &norm, turned, channels, TORCH_EPSILON)?;
            x = cx.within(&w, |cx| Ok(cx.b.transpose(normal, &[0, 2, 1])?))?;
        } else if i == 0 {
            x = channel_norm(cx, &norm, x, channels, TORCH_EPSILON)?;
        }
        x = cx.within(&w, |cx| activation.apply(cx, x))?;
        inputs = channels;
    }
    cx.within(w, |cx| Ok(cx.b.transpose(x, &[0, 2, 1])?))
}

/// Frames that the convolutions make of so many samples, i64 of any shape.
fn frame_lengths(cx: &mut Cx<'_, '_>, config: &Config, samples: ValueId, adapter: bool) -> Built {
    let mut length = samples;
    let convolutions = config.conv_kernel.iter().copied().zip(config.conv_stride.iter().copied());
    let adapters =
        std::iter::repeat_n((1, config.adapter_stride), if adapter { config.num_adapter_layers } else { 0 });
    for (kernel, stride) in convolutions.chain(adapters) {
        let free = cx.b.add_scalar(length, -(kernel as f64))?;
        // Division of integers truncates; taking the remainder off first rounds down.
        let stride = cx.b.scalar(DType::I64, stride as f64)?;
        let rest = cx.b.binary(BinaryFn::Mod, free, stride)?;
        let whole = cx.b.sub(free, rest)?;
        let steps = cx.b.div(whole, stride)?;
        length = cx.b.add_scalar(steps, 1.0)?;
    }
    Ok(length)
}

/// True for the frames that hear a sound's true samples: bool [batch, frames].
fn visible_frames(cx: &mut Cx<'_, '_>, config: &Config, lengths: ValueId, frames: &Dim) -> Built {
    let lengths = frame_lengths(cx, config, lengths, false)?;
    // transformers marks the last frame by its index; the index -1 of a sound without a frame means the last of all.
    let last = cx.b.add_scalar(lengths, -1.0)?;
    let zero = cx.b.scalar(DType::I64, 0.0)?;
    let none = cx.b.binary(BinaryFn::Less, last, zero)?;
    let count = cx.b.op(ShapeOf { dims: vec![frames.clone()] }, &[])?;
    let wrapped = cx.b.add(last, count)?;
    let last = cx.choose(none, wrapped, last)?;
    let last = cx.unsqueeze(last, 1)?;
    let all = cx.arange(Dim::constant(0), frames.clone())?;
    let all = cx.unsqueeze(all, 0)?;
    Ok(cx.b.binary(BinaryFn::LessOrEqual, all, last)?)
}

fn encode(
    cx: &mut Cx<'_, '_>,
    w: &WeightScope<'_>,
    config: &Config,
    common: &Common,
    x: ValueId,
    visible: Option<ValueId>,
) -> Built {
    let (hidden, epsilon) = (config.hidden_size, config.layer_norm_eps);
    let mut x = x;
    let mut hiding = None;
    if let Some(visible) = visible {
        (x, hiding) = cx.within(w, |cx| {
            let rows = cx.unsqueeze(visible, 2)?;
            let zero = cx.b.scalar(DType::F32, 0.0)?;
            Ok((cx.choose(rows, x, zero)?, Some(mask::additive(cx, visible)?)))
        })?;
    }
    let positions = positional_convolution(cx, &w.sub("pos_conv_embed"), config, x)?;
    x = cx.within(w, |cx| Ok(cx.b.add(x, positions)?))?;
    let stable = config.do_stable_layer_norm;
    if !stable {
        x = layer_norm(cx, &w.sub("layer_norm"), x, hidden, epsilon)?;
    }
    let (mut states, mut probabilities) = (vec![x], Vec::new());
    for i in 0..config.num_hidden_layers {
        let w = &w.sub("layers").sub(i);
        let (first, last) = (w.sub("layer_norm"), w.sub("final_layer_norm"));
        let input = if stable { layer_norm(cx, &first, x, hidden, epsilon)? } else { x };
        let (context, probability) = attention(cx, &w.sub("attention"), config, input, hiding)?;
        probabilities.push(probability);
        x = cx.within(w, |cx| Ok(cx.b.add(x, context)?))?;
        let input = layer_norm(cx, if stable { &last } else { &first }, x, hidden, epsilon)?;
        let residual = if stable { x } else { input };
        let y = feed_forward(cx, &w.sub("feed_forward"), config, input)?;
        x = cx.within(w, |cx| Ok(cx.b.add(residual, y)?))?;
        if !stable {
            x = layer_norm(cx, &last, x, hidden, epsilon)?;
        } else if let Some(width) = config.adapter_attn_dim {
            let y = attention_adapter(cx, &w.sub("adapter_layer"), x, hidden, width)?;
            x = cx.within(w, |cx| Ok(cx.b.add(x, y)?))?;
        }
        states.push(x);
    }
    if stable {
        x = layer_norm(cx, &w.sub("layer_norm"), x, hidden, epsilon)?;
        states.pop();
        states.push(x);
    }
    cx.outputs("hidden_states", &states, common.output_hidden_states);
    cx.outputs("attentions", &probabilities, common.output_attentions);
    Ok(x)
}

/// Grouped convolution over time whose output is added as positions; weight norm is folded while loading.
fn positional_convolution(cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, config: &Config, x: ValueId) -> Built {
    let kernel = config.num_conv_pos_embeddings;
    let layer = Convolution {
        inputs: config.hidden_size,
        outputs: config.hidden_size,
        kernel: &[kernel],
        stride: &[1],
        padding: &[kernel / 2],
        groups: config.num_conv_pos_embedding_groups,
        bias: true,
    };
    let activation = Activation::parse("feat_extract_activation", &config.feat_extract_activation)?;
    let conv = &w.sub("conv");
    cx.within(conv, |cx| {
        let frames = cx.extent(x, 1)?;
        let turned = cx.b.transpose(x, &[0, 2, 1])?;
        let weight = cx.made_weight(&conv.path("weight"), || conv.weight_norm(&layer.weight_shape(), 2))?;
        let mut y = layer.apply_weight(cx, conv, turned, weight)?;
        if kernel.is_multiple_of(2) {
            // An even kernel gives one frame too many.
            y = cx.slice(y, 2, Dim::constant(0), frames)?;
        }
        let y = activation.apply(cx, y)?;
        Ok(cx.b.transpose(y, &[0, 2, 1])?)
    })
}

fn attention(
    cx: &mut Cx<'_, '_>,
    w: &WeightScope<'_>,
    config: &Config,
    x: ValueId,
    hiding: Option<ValueId>,
) -> Built<(ValueId, ValueId)> {
    let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
    let width = hidden / heads;
    let affine = Affine::new(hidden, hidden);
    cx.within(w, |cx| {
        let q = linear(cx, &w.sub("q_proj"), x, affine)?;
        let q = cx.b.mul_scalar(q, (width as f64).powf(-0.5))?;
        let k = linear(cx, &w.sub("k_proj"), x, affine)?;
        let v = linear(cx, &w.sub("v_proj"), x, affine)?;
        let mut split = |y: ValueId| split_heads(cx, y, heads, width);
        let (q, k, v) = (split(q)?, split(k)?, split(v)?);
        let attended = attend(cx, q, k, v, &Scores { bias: hiding.as_slice(), ..Scores::default() })?;
        let y = linear(cx, &w.sub("out_proj"), attended.context, affine)?;
        Ok((y, attended.probabilities))
    })
}

fn feed_forward(cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, config: &Config, x: ValueId) -> Built {
    let activation = Activation::parse("hidden_act", &config.hidden_act)?;
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let y = linear(cx, &w.sub("intermediate_dense"), x, Affine::new(hidden, inner))?;
    let y = cx.within(w, |cx| activation.apply(cx, y))?;
    linear(cx, &w.sub("output_dense"), y, Affine::new(inner, hidden))
}

/// Wav2Vec2AttnAdapterLayer, of the MMS checkpoints (Pratap et al. 2023, arXiv:2305.13516).
fn attention_adapter(
    cx: &mut Cx<'_, '_>,
    w: &WeightScope<'_>,
    x: ValueId,
    hidden: usize,
    width: usize,
) -> Built {
    let y = layer_norm(cx, &w.sub("norm"), x, hidden, TORCH_EPSILON)?;
    let y = linear(cx, &w.sub("linear_1"), y, Affine::new(hidden, width))?;
    let y = cx.within(w, |cx| cx.map(UnaryFn::Relu, y))?;
    linear(cx, &w.sub("linear_2"), y, Affine::new(width, hidden))
}

/// Wav2Vec2Adapter: strided convolutions with gated linear units over time.
fn adapt(cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, config: &Config, x: ValueId) -> Built {
    let width = config.output_width();
    let mut x = x;
    if width != config.hidden_size {
        x = linear(cx, &w.sub("proj"), x, Affine::new(config.hidden_size, width))?;
        x = layer_norm(cx, &w.sub("proj_layer_norm"), x, width, TORCH_EPSILON)?;
    }
    x = cx.within(w, |cx| Ok(cx.b.transpose(x, &[0, 2, 1])?))?;
    for i in 0..config.num_adapter_layers {
        let w = &w.sub("layers").sub(i);
        let layer = Convolution {
            inputs: width,
            outputs: 2 * width,
            kernel: &[config.adapter_kernel_size],
            stride: &[config.adapter_stride],
            padding: &[1],
            groups: 1,
            bias: true,
        };
        let both = layer.apply(cx, &w.sub("conv"), x)?;
        x = cx.within(w, |cx| {
            let halves = cx.split(both, 1, &[width, width])?;
            let [value, gate] = halves.as_slice() else {
                return Err(cx.b.error("two halves expected").into());
            };
            let gate = cx.map(UnaryFn::Sigmoid, *gate)?;
            Ok(cx.b.mul(*value, gate)?)
        })?;
    }
    cx.within(w, |cx| Ok(cx.b.transpose(x, &[0, 2, 1])?))
}

/// Weights that wav2vec 2.0 checkpoints may hold without a class's using them.
pub const IGNORABLE: &[&str] =
    &["masked_spec_embed", "quantizer.*", "project_q.*", "project_hid.*", "lm_head.*"];

/// Inputs of Wav2Vec2Model's forward.
pub const INPUTS: &[&str] = &["input_values", "attention_mask", "mask_time_indices"];

/// Inputs of Wav2Vec2ForCTC.
pub const LABELLED: &[&str] = &["input_values", "attention_mask", "labels"];

/// transformers.Wav2Vec2Model
pub fn model(job: &mut Job<'_>) -> Built<()> {
    let (config, common) = (job.config.parse::<Config>()?, job.config.common()?);
    job.forward(|cx, weights| {
        let heard = listen(cx, &weights.base(), &config, &common)?;
        cx.output("last_hidden_state", heard.hidden, true);
        cx.output("extract_features", heard.features, true);
        Ok(())
    })
}

/// transformers.Wav2Vec2ForCTC
pub fn ctc(job: &mut Job<'_>) -> Built<()> {
    let (config, common) = (job.config.parse::<Config>()?, job.config.common()?);
    if config.pad_token_id >= config.vocab_size {
        let why =
            format!("{} is no class of {} (it is the CTC blank)", config.pad_token_id, config.vocab_size);
        return Err(ConfigError::invalid("pad_token_id", why).into());
    }
    job.forward(|cx, weights| {
        if cx.has("mask_time_indices") {
            return Err(cx.signature_error("Wav2Vec2ForCTC has no input `mask_time_indices`"));
        }
        let heard = listen(cx, &weights.base(), &config, &common)?;
        let width = if config.add_adapter { config.output_width() } else { config.hidden_size };
        let widths = Affine::new(width, config.vocab_size);
        let logits = linear(cx, &weights.root().sub("lm_head"), heard.hidden, widths)?;
        if cx.has("labels") {
            let loss = loss(cx, &config, &heard, logits)?;
            cx.output("loss", loss, true);
        }
        cx.output("logits", logits, true);
        Ok(())
    })
}

fn loss(cx: &mut Cx<'_, '_>, config: &Config, heard: &Heard, logits: ValueId) -> Built {
    let batch = cx.extent(logits, 0)?;
    let characters = cx.dim("labels");
    let labels = cx.ids("labels", vec![batch.clone(), characters], None)?;
    let zero = cx.b.scalar(DType::I64, 0.0)?;
    let real = cx.b.binary(BinaryFn::GreaterOrEqual, labels, zero)?;
    let real = cx.b.cast(real, DType::I64)?;
    let target_lengths = cx.sum(real, &[-1], false)?;
    let samples = match heard.lengths {
        Some(lengths) => lengths,
        None => {
            let samples = cx.b.op(ShapeOf { dims: vec![heard.samples.clone()] }, &[])?;
            cx.expand(samples, &[batch])?
        }
    };
    let input_lengths = frame_lengths(cx, config, samples, config.add_adapter)?;
    let log = cx.log_softmax(logits)?;
    let log = cx.b.transpose(log, &[1, 0, 2])?;
    let op = CTCLoss {
        blank: i64::try_from(config.pad_token_id).unwrap_or(i64::MAX),
        reduction: match config.ctc_loss_reduction.as_str() {
            "mean" => Reduction::Mean,
            "none" => Reduction::None,
            _ => Reduction::Sum,
        },
        zero_infinity: config.ctc_zero_infinity,
    };
    Ok(cx.b.op(op, &[log, labels, input_lengths, target_lengths])?)
}
