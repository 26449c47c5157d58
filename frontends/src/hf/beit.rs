//! BEiT (Bao et al. 2021, arXiv:2106.08254): transformers' BeitModel and its classifier. Blocks that other models
//! share belong into `blocks/`.

use super::blocks::attention::{attend, split_heads};
use super::blocks::mask::HeadMask;
use super::blocks::vision::{self, PatchGrid};
use super::blocks::{Activation, Affine, Scores, layer_norm, linear};
use super::config::{Common, ModelConfig, Pair, counts, heads_divide, layers};
use super::cx::{Built, Cx};
use super::job::Job;
use super::vit::{OWN_STATES, classify};
use super::weights::WeightScope;
use crate::error::ConfigError;
use frit_ir::{Dim, ValueId};
use serde::Deserialize;

/// BeitConfig's keys that change what is computed.
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
    /// True when there is a token for masked patches.
    pub use_mask_token: bool,
    /// True when positions are added to patches.
    pub use_absolute_position_embeddings: bool,
    /// True when every layer has a bias of relative positions.
    pub use_relative_position_bias: bool,
    /// True when all layers share one bias of relative positions.
    pub use_shared_relative_position_bias: bool,
    /// Layers are scaled when this is above 0.
    pub layer_scale_init_value: f64,
    /// True when the pooled output is the patches' mean, false when it is the class token.
    pub use_mean_pooling: bool,
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
            use_mask_token: false,
            use_absolute_position_embeddings: false,
            use_relative_position_bias: false,
            use_shared_relative_position_bias: false,
            layer_scale_init_value: 0.1,
            use_mean_pooling: true,
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
        let relative = self.use_relative_position_bias || self.use_shared_relative_position_bias;
        if relative && self.grid().patches() > vision::MAX_PAIRED_PATCHES {
            let most = vision::MAX_PAIRED_PATCHES;
            return Err(ConfigError::invalid("patch_size", format!("more than {most} patches in an image")));
        }
        Activation::parse("hidden_act", &self.hidden_act).map(drop)
    }
}

impl Config {
    /// The grid that positions are stored for.
    fn grid(&self) -> PatchGrid {
        PatchGrid::of((self.image_size.height(), self.image_size.width()), self.patch_size)
    }
}

/// BeitModel without pooler: [batch, 1 + patches, width], normalised unless the pooler takes the mean.
fn encode(cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, config: &Config, common: &Common) -> Built {
    let hidden = config.hidden_size;
    let activation = Activation::parse("hidden_act", &config.hidden_act)?;
    let mut x = embed(cx, &w.sub("embeddings"), config)?;
    let head_mask = HeadMask::take(cx, "head_mask", config.num_hidden_layers, config.num_attention_heads)?;
    let encoder = w.sub("encoder");
    let shared = config.use_shared_relative_position_bias;
    let shared = if shared { Some(relative_bias(cx, &encoder, config)?) } else { None };
    let (mut states, mut probabilities) = (vec![x], Vec::new());
    for layer in 0..config.num_hidden_layers {
        let w = encoder.sub("layer").sub(layer);
        let normal = layer_norm(cx, &w.sub("layernorm_before"), x, hidden, config.layer_norm_eps)?;
        let head_mask = head_mask.layer(cx, layer)?;
        let (context, probability) =
            attention(cx, &w.sub("attention.attention"), config, normal, shared, head_mask)?;
        probabilities.push(probability);
        let output = w.sub("attention.output.dense");
        let y = linear(cx, &output, context, Affine::new(hidden, hidden))?;
        x = scaled_residual(cx, &w, "lambda_1", config, y, x)?;
        let normal = layer_norm(cx, &w.sub("layernorm_after"), x, hidden, config.layer_norm_eps)?;
        let widths = Affine::new(hidden, config.intermediate_size);
        let y = linear(cx, &w.sub("intermediate.dense"), normal, widths)?;
        let y = cx.within(&w.sub("intermediate"), |cx| activation.apply(cx, y))?;
        let y = linear(cx, &w.sub("output.dense"), y, Affine::new(config.intermediate_size, hidden))?;
        x = scaled_residual(cx, &w, "lambda_2", config, y, x)?;
        states.push(x);
    }
    cx.outputs(OWN_STATES.hidden_states, &states, common.output_hidden_states);
    cx.outputs(OWN_STATES.attentions, &probabilities, common.output_attentions);
    if config.use_mean_pooling {
        return Ok(x);
    }
    layer_norm(cx, &w.sub("layernorm"), x, hidden, config.layer_norm_eps)
}

fn embed(cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, config: &Config) -> Built {
    let hidden = config.hidden_size;
    let extents = vision::image_extents(cx, "pixel_values", config.image_size);
    let (from, to) = (config.grid(), PatchGrid::of(extents, config.patch_size));
    let relative = config.use_relative_position_bias || config.use_shared_relative_position_bias;
    if to.patches() == 0 || to.patches() > vision::MAX_PATCHES || (relative && to != from) {
        return Err(cx.signature_error(format!(
            "images of {} x {} pixels; the model takes {} x {}",
            extents.0,
            extents.1,
            config.image_size.height(),
            config.image_size.width()
        )));
    }
    let image = vision::pixel_values(cx, config.num_channels, extents)?;
    let projection = w.sub("patch_embeddings.projection");
    let grid = vision::patches(cx, &projection, image, config.num_channels, hidden, config.patch_size)?;
    cx.within(w, |cx| {
        let mut patches = vision::as_sequence(cx, grid)?;
        let mut class = cx.weight(w, "cls_token", &[1, 1, hidden])?;
        let mut class_position = None;
        if config.use_absolute_position_embeddings {
            let shape = [1, from.patches() + 1, hidden];
            let (table, positions) = if to == from {
                let table = cx.weight(w, "position_embeddings", &shape)?;
                let count = cx.extent(table, 1)?;
                (table, cx.slice(table, 1, Dim::constant(1), count)?)
            } else {
                let table = cx.weight(w, "position_embeddings", &shape)?;
                let name = w.path(format!("position_embeddings.{}x{}", to.rows, to.columns));
                let positions = cx.made_weight(&name, || {
                    if !w.fits("position_embeddings", &shape) {
                        return w.zeros(&[1, to.patches(), hidden]);
                    }
                    let data = w.get("position_embeddings", &shape)?;
                    vision::resample_positions(&data, hidden, from, to)
                })?;
                (table, positions)
            };
            patches = cx.b.add(patches, positions)?;
            class_position = Some(cx.slice(table, 1, Dim::constant(0), Dim::constant(1))?);
        }
        if config.use_mask_token {
            if !cx.has("bool_masked_pos") {
                w.expect("mask_token", &[1, 1, hidden]);
            }
            patches = vision::mask_patches(cx, w, patches, hidden)?;
        } else if cx.has("bool_masked_pos") {
            return Err(cx.signature_error("`bool_masked_pos` needs `use_mask_token` = true"));
        }
        if let Some(position) = class_position {
            class = cx.b.add(class, position)?;
        }
        vision::prepend(cx, class, patches)
    })
}

/// Bias of all pairs of tokens by their relative position: [1, heads, tokens, tokens].
fn relative_bias(cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, config: &Config) -> Built {
    let w = &w.sub("relative_position_bias");
    cx.within(w, |cx| {
        let grid = config.grid();
        let index = vision::relative_position_index(grid);
        let distances = (2 * grid.rows - 1) * (2 * grid.columns - 1) + 3;
        let heads = config.num_attention_heads;
        let table = cx.weight(w, "relative_position_bias_table", &[distances, heads])?;
        let name = format!("relative_position_index.{}x{}", grid.rows, grid.columns);
        let index = cx.made_weight(&name, || {
            Ok(frit_ir::Tensor::from_i64(frit_ir::DType::I64, &[index.len()], &index)?)
        })?;
        let rows = cx.gather_rows(table, index)?;
        let tokens = Dim::from(grid.patches() + 1);
        let square = cx.b.reshape(rows, &[tokens.clone(), tokens, Dim::from(heads)])?;
        let bias = cx.b.transpose(square, &[2, 0, 1])?;
        cx.unsqueeze(bias, 0)
    })
}

fn attention(
    cx: &mut Cx<'_, '_>,
    w: &WeightScope<'_>,
    config: &Config,
    x: ValueId,
    shared: Option<ValueId>,
    head_mask: Option<ValueId>,
) -> Built<(ValueId, ValueId)> {
    let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
    cx.within(w, |cx| {
        let mut project = |name: &str, bias: bool| -> Built {
            let y = linear(cx, &w.sub(name), x, Affine { inputs: hidden, outputs: hidden, bias })?;
            split_heads(cx, y, heads, hidden / heads)
        };
        let (q, k, v) = (project("query", true)?, project("key", false)?, project("value", true)?);
        let mut bias = Vec::new();
        if config.use_relative_position_bias {
            bias.push(relative_bias(cx, w, config)?);
        }
        bias.extend(shared);
        let divisors = [((hidden / heads) as f64).sqrt()];
        let scores = Scores { divisors: &divisors, bias: &bias, head_mask, ..Scores::default() };
        let attended = attend(cx, q, k, v, &scores)?;
        Ok((attended.context, attended.probabilities))
    })
}

/// Layer scale (Touvron et al. 2021, arXiv:2103.17239) and residual.
fn scaled_residual(
    cx: &mut Cx<'_, '_>,
    w: &WeightScope<'_>,
    scale: &str,
    config: &Config,
    y: ValueId,
    residual: ValueId,
) -> Built {
    cx.within(w, |cx| {
        let mut y = y;
        if config.layer_scale_init_value > 0.0 {
            let scale = cx.weight(w, scale, &[config.hidden_size])?;
            y = cx.b.mul(scale, y)?;
        }
        Ok(cx.b.add(y, residual)?)
    })
}

/// BeitPooler: the norm of the patches' mean, or the class token.
fn pool(cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, config: &Config, x: ValueId) -> Built {
    let w = &w.sub("pooler");
    cx.within(w, |cx| {
        if !config.use_mean_pooling {
            return cx.at(x, 1, 0);
        }
        let tokens = cx.extent(x, 1)?;
        let patches = cx.slice(x, 1, Dim::constant(1), tokens)?;
        let mean = cx.mean(patches, &[1], false)?;
        layer_norm(cx, &w.sub("layernorm"), mean, config.hidden_size, config.layer_norm_eps)
    })
}

/// Weights that BEiT checkpoints may hold without a class's using them.
pub const IGNORABLE: &[&str] = &[
    "*relative_position_bias.relative_position_index",
    "pooler.layernorm.*",
    "classifier.*",
    "lm_head.*",
    "layernorm.*",
    "embeddings.mask_token",
];

/// Inputs of BeitModel's forward.
pub const INPUTS: &[&str] = &["pixel_values", "bool_masked_pos", "head_mask"];

/// Inputs of the classifier.
pub const LABELLED: &[&str] = &["pixel_values", "head_mask", "labels"];

/// transformers.BeitModel
pub fn model(job: &mut Job<'_>) -> Built<()> {
    let (config, common) = (job.config.parse::<Config>()?, job.config.common()?);
    job.forward(|cx, weights| {
        let w = weights.base();
        let x = encode(cx, &w, &config, &common)?;
        cx.output("last_hidden_state", x, true);
        cx.output_if_wanted("pooler_output", true, |cx| pool(cx, &w, &config, x))
    })
}

/// transformers.BeitForImageClassification
pub fn image_classification(job: &mut Job<'_>) -> Built<()> {
    let (config, common) = (job.config.parse::<Config>()?, job.config.common()?);
    job.forward(|cx, weights| {
        let w = weights.base();
        let x = encode(cx, &w, &config, &common)?;
        let pooled = pool(cx, &w, &config, x)?;
        classify(cx, &weights.root().sub("classifier"), pooled, config.hidden_size, &common)
    })
}
