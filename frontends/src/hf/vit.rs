//! Vision Transformer (Dosovitskiy et al. 2020, arXiv:2010.11929): transformers' ViTModel and its classifier.
//! Blocks that other models share belong into `blocks/`.

use super::blocks::attention::{attend, split_heads};
use super::blocks::mask::HeadMask;
use super::blocks::vision::{self, PatchGrid};
use super::blocks::{Activation, Affine, Scores, layer_norm, linear, loss};
use super::config::{Common, ModelConfig, Pair, counts, heads_divide, layers};
use super::cx::{Built, Cx};
use super::job::Job;
use super::weights::WeightScope;
use crate::error::ConfigError;
use frit_ir::op::UnaryFn;
use frit_ir::{Dim, ValueId};
use serde::Deserialize;

/// ViTConfig's keys that change what is computed.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
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
    /// Height and width of images.
    pub image_size: Pair,
    /// Height and width of patches.
    pub patch_size: Pair,
    /// Channels of images.
    pub num_channels: usize,
    /// True when query, key and value layers have biases.
    pub qkv_bias: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".to_string(),
            layer_norm_eps: 1e-12,
            image_size: Pair::Square(224),
            patch_size: Pair::Square(16),
            num_channels: 3,
            qkv_bias: true,
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
            ("num_channels", self.num_channels),
        ])?;
        vision::check_sizes(self.image_size, self.patch_size)?;
        heads_divide(("hidden_size", self.hidden_size), ("num_attention_heads", self.num_attention_heads))?;
        Activation::parse("hidden_act", &self.hidden_act).map(drop)
    }
}

/// Names of the outputs with an encoder's inner states; an encoder-decoder shows them under names of its own.
pub struct StateNames {
    /// States before the first and after every layer.
    pub hidden_states: &'static str,
    /// Attention probabilities of every layer.
    pub attentions: &'static str,
}

/// A model's own names.
pub const OWN_STATES: StateNames = StateNames { hidden_states: "hidden_states", attentions: "attentions" };

/// ViTModel without pooler: [batch, 1 + patches, width], after the last norm.
pub fn encode(
    cx: &mut Cx<'_, '_>,
    w: &WeightScope<'_>,
    config: &Config,
    common: &Common,
    names: &StateNames,
) -> Built {
    let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
    let activation = Activation::parse("hidden_act", &config.hidden_act)?;
    let mut x = embed(cx, &w.sub("embeddings"), config)?;
    let head_mask = HeadMask::take(cx, "head_mask", config.num_hidden_layers, heads)?;
    let (mut states, mut probabilities) = (vec![x], Vec::new());
    for layer in 0..config.num_hidden_layers {
        let w = w.sub("encoder.layer").sub(layer);
        let normal = layer_norm(cx, &w.sub("layernorm_before"), x, hidden, config.layer_norm_eps)?;
        let attention = w.sub("attention.attention");
        let mask = head_mask.layer(cx, layer)?;
        let attended = cx.within(&attention, |cx| {
            let affine = Affine { inputs: hidden, outputs: hidden, bias: config.qkv_bias };
            let mut project = |name: &str| -> Built {
                let y = linear(cx, &attention.sub(name), normal, affine)?;
                split_heads(cx, y, heads, hidden / heads)
            };
            let (q, k, v) = (project("query")?, project("key")?, project("value")?);
            let divisors = [((hidden / heads) as f64).sqrt()];
            attend(cx, q, k, v, &Scores { divisors: &divisors, head_mask: mask, ..Scores::default() })
        })?;
        probabilities.push(attended.probabilities);
        let output = w.sub("attention.output.dense");
        let y = linear(cx, &output, attended.context, Affine::new(hidden, hidden))?;
        x = cx.within(&w, |cx| Ok(cx.b.add(y, x)?))?;
        let normal = layer_norm(cx, &w.sub("layernorm_after"), x, hidden, config.layer_norm_eps)?;
        let widths = Affine::new(hidden, config.intermediate_size);
        let y = linear(cx, &w.sub("intermediate.dense"), normal, widths)?;
        let y = cx.within(&w.sub("intermediate"), |cx| activation.apply(cx, y))?;
        let y = linear(cx, &w.sub("output.dense"), y, Affine::new(config.intermediate_size, hidden))?;
        x = cx.within(&w, |cx| Ok(cx.b.add(y, x)?))?;
        states.push(x);
    }
    cx.outputs(names.hidden_states, &states, common.output_hidden_states);
    cx.outputs(names.attentions, &probabilities, common.output_attentions);
    layer_norm(cx, &w.sub("layernorm"), x, hidden, config.layer_norm_eps)
}

fn embed(cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, config: &Config) -> Built {
    let hidden = config.hidden_size;
    let (height, width) = vision::image_extents(cx, "pixel_values", config.image_size);
    if (height, width) != (config.image_size.height(), config.image_size.width()) {
        return Err(cx.signature_error(format!(
            "images of {height} x {width}; the model takes {} x {}",
            config.image_size.height(),
            config.image_size.width()
        )));
    }
    let image = vision::pixel_values(cx, config.num_channels, (height, width))?;
    let projection = w.sub("patch_embeddings.projection");
    let grid = vision::patches(cx, &projection, image, config.num_channels, hidden, config.patch_size)?;
    cx.within(w, |cx| {
        let patches = vision::as_sequence(cx, grid)?;
        let patches = vision::mask_patches(cx, w, patches, hidden)?;
        let class = cx.weight(w, "cls_token", &[1, 1, hidden])?;
        let x = vision::prepend(cx, class, patches)?;
        let count = PatchGrid::of((height, width), config.patch_size).patches() + 1;
        let positions = cx.weight(w, "position_embeddings", &[1, count, hidden])?;
        Ok(cx.b.add(x, positions)?)
    })
}

/// Weights that ViT checkpoints may hold without a class's using them.
pub const IGNORABLE: &[&str] = &["pooler.dense.*", "classifier.*", "embeddings.mask_token"];

/// Inputs of ViTModel's forward.
pub const INPUTS: &[&str] = &["pixel_values", "bool_masked_pos", "head_mask"];

/// Inputs of the classifier.
pub const LABELLED: &[&str] = &["pixel_values", "head_mask", "labels"];

/// transformers.ViTModel
pub fn model(job: &mut Job<'_>) -> Built<()> {
    let (config, common) = (job.config.parse::<Config>()?, job.config.common()?);
    job.forward(|cx, weights| {
        let w = weights.base();
        if cx.has("bool_masked_pos") && !w.has("embeddings.mask_token") {
            return Err(
                cx.signature_error("`bool_masked_pos` needs a mask token, which ViTModel does not have")
            );
        }
        let x = encode(cx, &w, &config, &common, &OWN_STATES)?;
        cx.output("last_hidden_state", x, true);
        cx.output_if_wanted("pooler_output", true, |cx| {
            let w = &w.sub("pooler");
            cx.within(w, |cx| {
                let first = cx.at(x, 1, 0)?;
                let dense = Affine::new(config.hidden_size, config.hidden_size);
                let dense = linear(cx, &w.sub("dense"), first, dense)?;
                cx.map(UnaryFn::Tanh, dense)
            })
        })
    })
}

/// transformers.ViTForImageClassification
pub fn image_classification(job: &mut Job<'_>) -> Built<()> {
    let (config, common) = (job.config.parse::<Config>()?, job.config.common()?);
    job.forward(|cx, weights| {
        let x = encode(cx, &weights.base(), &config, &common, &OWN_STATES)?;
        let w = weights.root().sub("classifier");
        let first = cx.within(&w, |cx| cx.at(x, 1, 0))?;
        classify(cx, &w, first, config.hidden_size, &common)
    })
}

/// The classifier over one vector an image, with the loss that `labels` switch on.
pub fn classify(
    cx: &mut Cx<'_, '_>,
    w: &WeightScope<'_>,
    x: ValueId,
    width: usize,
    common: &Common,
) -> Built<()> {
    let logits = linear(cx, w, x, Affine::new(width, common.labels()))?;
    let batch: Dim = cx.extent(logits, 0)?;
    if let Some(loss) = loss::classification(cx, common, &batch, logits)? {
        cx.output("loss", loss, true);
    }
    cx.output("logits", logits, true);
    Ok(())
}
