//! GPT-2 (Radford et al. 2019): transformers' GPT2Model and GPT2LMHeadModel, also as the decoder of an
//! encoder-decoder. Blocks that other models share belong into `blocks/`.

use super::blocks::attention::{attend, split_heads};
use super::blocks::layers::times_transposed;
use super::blocks::mask::{self, HeadMask};
use super::blocks::{Activation, Scores, conv1d, layer_norm, loss, text};
use super::config::{Common, ModelConfig, counts, heads_divide, layers, sizes};
use super::cx::{Built, Cx};
use super::job::Job;
use super::weights::WeightScope;
use crate::error::ConfigError;
use frit_ir::{DType, Dim, InputDefault, ValueId};
use serde::Deserialize;

/// GPT2Config's keys that change what is computed.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Rows of the position table.
    pub n_positions: usize,
    /// Width of the hidden states.
    pub n_embd: usize,
    /// Number of layers.
    pub n_layer: usize,
    /// Attention heads of a layer.
    pub n_head: usize,
    /// Width between the feed-forward layers; None: four times `n_embd`.
    pub n_inner: Option<usize>,
    /// Activation between the feed-forward layers.
    pub activation_function: String,
    /// Added to variances.
    pub layer_norm_epsilon: f64,
    /// True when scores are divided by the root of the head's width.
    pub scale_attn_weights: bool,
    /// True when scores are also divided by the layer's number, counted from 1.
    pub scale_attn_by_inverse_layer_idx: bool,
    /// True when scores are computed in f32 with the scale inside the product; the same numbers in f32.
    pub reorder_and_upcast_attn: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            vocab_size: 50257,
            n_positions: 1024,
            n_embd: 768,
            n_layer: 12,
            n_head: 12,
            n_inner: None,
            activation_function: "gelu_new".to_string(),
            layer_norm_epsilon: 1e-5,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            reorder_and_upcast_attn: false,
        }
    }
}

impl ModelConfig for Config {
    const ALIASES: &'static [(&'static str, &'static str)] = &[
        ("hidden_size", "n_embd"),
        ("max_position_embeddings", "n_positions"),
        ("num_attention_heads", "n_head"),
        ("num_hidden_layers", "n_layer"),
    ];

    fn check(&self) -> Result<(), ConfigError> {
        layers("n_layer", self.n_layer)?;
        counts(&[("n_embd", self.n_embd), ("n_head", self.n_head), ("n_inner", self.inner_width())])?;
        sizes(&[("vocab_size", self.vocab_size), ("n_positions", self.n_positions)])?;
        heads_divide(("n_embd", self.n_embd), ("n_head", self.n_head))?;
        Activation::parse("activation_function", &self.activation_function).map(drop)
    }
}

impl Config {
    fn inner_width(&self) -> usize {
        self.n_inner.unwrap_or(self.n_embd.saturating_mul(4))
    }

    /// Width of a head.
    pub fn head_width(&self) -> usize {
        self.n_embd.checked_div(self.n_head).unwrap_or(0)
    }
}

/// What cross attention looks at.
#[derive(Debug, Clone, Copy)]
pub enum Memory<'v> {
    /// An encoder's output [batch, length, n_embd].
    States(ValueId),
    /// Keys and values made of it earlier, one pair a layer.
    KeysAndValues(&'v [text::Past]),
}

/// How the decoder is called.
pub struct Decoding<'v> {
    /// What stands before the names of its inputs and inner states: `decoder_` within an encoder-decoder.
    pub inputs: &'static str,
    /// The same for its outputs.
    pub outputs: &'static str,
    /// Token numbers made in the graph, [batch, sequence], where they are no input.
    pub ids: Option<ValueId>,
    /// What cross attention looks at.
    pub memory: Option<Memory<'v>>,
}

/// A decoder of its own.
pub const ALONE: Decoding<'static> = Decoding { inputs: "", outputs: "", ids: None, memory: None };

/// GPT-2 under a config.
pub struct Gpt2<'c> {
    config: &'c Config,
    common: &'c Common,
    activation: Activation,
}

/// Terms of the scores that all layers share.
struct Masks {
    visible: Option<ValueId>,
    padding: Option<ValueId>,
    memory: Option<ValueId>,
}

impl<'c> Gpt2<'c> {
    /// Reads the names in the config.
    pub fn new(config: &'c Config, common: &'c Common) -> Built<Self> {
        let activation = Activation::parse("activation_function", &config.activation_function)?;
        Ok(Gpt2 { config, common, activation })
    }

    /// GPT2Model: [batch, sequence, n_embd] after the last norm. Offers past_key_values and the inner states.
    pub fn decode(&self, cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, call: &Decoding<'_>) -> Built {
        let config = self.config;
        let (width, heads) = (config.n_embd, config.n_head);
        let name = |rest: &str| format!("{}{rest}", call.inputs);
        let words = w.sub("wte");
        let names = (name("input_ids"), name("inputs_embeds"));
        let tokens = match call.ids {
            Some(ids) => text::looked_up(cx, &words, ids, config.vocab_size, width)?,
            None => text::tokens(cx, &words, (&names.0, &names.1), config.vocab_size, width)?,
        };
        let (past, past_length) =
            text::past_key_values(cx, config.n_layer, &tokens.batch, heads, config.head_width())?;
        let ids = text::positions(cx, &name("position_ids"), &tokens.batch, &tokens.sequence, &past_length)?;
        let positions = text::lookup(cx, &w.sub("wpe"), ids, config.n_positions, width)?;
        let mut x = cx.within(w, |cx| Ok(cx.b.add(tokens.embeds, positions)?))?;
        if cx.has(&name("token_type_ids")) {
            let shape = vec![tokens.batch.clone(), tokens.sequence.clone()];
            let ids = cx.ids(&name("token_type_ids"), shape, None)?;
            let types = text::lookup(cx, &words, ids, config.vocab_size, width)?;
            x = cx.within(w, |cx| Ok(cx.b.add(x, types)?))?;
        }

        let own_memory = self.own_memory(cx, &tokens.batch)?;
        let memory = call.memory.or(own_memory.map(Memory::States));
        let masks = self.masks(cx, &name("attention_mask"), &tokens, &past_length)?;
        let head_mask = HeadMask::take(cx, &name("head_mask"), config.n_layer, heads)?;
        let (mut states, mut probabilities, mut cross, mut caches) = (vec![x], vec![], vec![], vec![]);
        for layer in 0..config.n_layer {
            let w = &w.sub("h").sub(layer);
            let mask = head_mask.layer(cx, layer)?;
            let normal = layer_norm(cx, &w.sub("ln_1"), x, width, config.layer_norm_epsilon)?;
            let past = past.as_ref().and_then(|p| p.get(layer).copied());
            let (y, probability, cache) =
                self.attention(cx, &w.sub("attn"), normal, layer, past, &masks, mask)?;
            probabilities.push(probability);
            caches.push(cache);
            x = cx.within(w, |cx| Ok(cx.b.add(y, x)?))?;
            if let Some(memory) = memory {
                let normal = layer_norm(cx, &w.sub("ln_cross_attn"), x, width, config.layer_norm_epsilon)?;
                let (y, probability) =
                    self.cross_attention(cx, &w.sub("crossattention"), normal, layer, memory, &masks, mask)?;
                cross.push(probability);
                x = cx.within(w, |cx| Ok(cx.b.add(x, y)?))?;
            } else if self.common.add_cross_attention {
                self.expect_cross_attention(w);
            }
            let normal = layer_norm(cx, &w.sub("ln_2"), x, width, config.layer_norm_epsilon)?;
            let mlp = w.sub("mlp");
            let y = conv1d(cx, &mlp.sub("c_fc"), normal, width, config.inner_width())?;
            let y = cx.within(&mlp, |cx| self.activation.apply(cx, y))?;
            let y = conv1d(cx, &mlp.sub("c_proj"), y, config.inner_width(), width)?;
            x = cx.within(w, |cx| Ok(cx.b.add(x, y)?))?;
            states.push(x);
        }
        x = layer_norm(cx, &w.sub("ln_f"), x, width, config.layer_norm_epsilon)?;
        states.pop();
        states.push(x);
        for (layer, (key, value)) in caches.into_iter().enumerate() {
            cx.outputs(&format!("past_key_values.{layer}"), &[key, value], self.common.use_cache);
        }
        let own = |rest: &str| format!("{}{rest}", call.outputs);
        cx.outputs(&own("hidden_states"), &states, self.common.output_hidden_states);
        cx.outputs(&own("attentions"), &probabilities, self.common.output_attentions);
        cx.outputs("cross_attentions", &cross, self.common.output_attentions);
        Ok(x)
    }

    /// The input `encoder_hidden_states` of a decoder with cross attention.
    fn own_memory(&self, cx: &mut Cx<'_, '_>, batch: &Dim) -> Built<Option<ValueId>> {
        if !cx.has("encoder_hidden_states") {
            return Ok(None);
        }
        if !self.common.add_cross_attention {
            let why = "`encoder_hidden_states` needs `add_cross_attention` = true in the config";
            return Err(cx.signature_error(why));
        }
        let shape = vec![batch.clone(), cx.dim("encoder_sequence"), Dim::from(self.config.n_embd)];
        cx.input("encoder_hidden_states", DType::F32, shape, None).map(Some)
    }

    fn masks(&self, cx: &mut Cx<'_, '_>, name: &str, tokens: &text::Tokens, past: &Dim) -> Built<Masks> {
        let one_query = tokens.sequence.is(1);
        let visible = if one_query { None } else { Some(mask::causal(cx, &tokens.sequence, past)?) };
        let ones = Some(InputDefault::Ones);
        let padding = if cx.has(name) {
            let shape = vec![tokens.batch.clone(), past.add(&tokens.sequence)?];
            let mask = cx.input(name, DType::I64, shape, ones)?;
            Some(mask::additive(cx, mask)?)
        } else {
            None
        };
        let memory = if cx.has("encoder_hidden_states") && cx.has("encoder_attention_mask") {
            let shape = vec![tokens.batch.clone(), cx.dim("encoder_sequence")];
            let mask = cx.input("encoder_attention_mask", DType::I64, shape, ones)?;
            Some(mask::additive(cx, mask)?)
        } else {
            None
        };
        Ok(Masks { visible, padding, memory })
    }

    fn divisors(&self, layer: usize) -> Vec<f64> {
        let mut divisors = Vec::new();
        if self.config.scale_attn_weights {
            divisors.push((self.config.head_width() as f64).sqrt());
        }
        if self.config.scale_attn_by_inverse_layer_idx {
            divisors.push(layer as f64 + 1.0);
        }
        divisors
    }

    fn split(&self, cx: &mut Cx<'_, '_>, x: ValueId) -> Built {
        split_heads(cx, x, self.config.n_head, self.config.head_width())
    }

    #[allow(clippy::too_many_arguments)]
    fn attention(
        &self,
        cx: &mut Cx<'_, '_>,
        w: &WeightScope<'_>,
        x: ValueId,
        layer: usize,
        past: Option<text::Past>,
        masks: &Masks,
        head_mask: Option<ValueId>,
    ) -> Built<(ValueId, ValueId, text::Past)> {
        let width = self.config.n_embd;
        cx.within(w, |cx| {
            let merged = conv1d(cx, &w.sub("c_attn"), x, width, 3 * width)?;
            let parts = cx.split(merged, 2, &[width, width, width])?;
            let [q, k, v] = parts.as_slice() else {
                return Err(cx.b.error("three parts expected").into());
            };
            let (q, k, v) = (self.split(cx, *q)?, self.split(cx, *k)?, self.split(cx, *v)?);
            let k = text::append(cx, past.map(|p| p.0), k)?;
            let v = text::append(cx, past.map(|p| p.1), v)?;
            let scores = Scores {
                divisors: &self.divisors(layer),
                visible: masks.visible,
                bias: masks.padding.as_slice(),
                head_mask,
                ..Scores::default()
            };
            let attended = attend(cx, q, k, v, &scores)?;
            let y = conv1d(cx, &w.sub("c_proj"), attended.context, width, width)?;
            Ok((y, attended.probabilities, (k, v)))
        })
    }

    #[allow(clippy::too_many_arguments)]
    fn cross_attention(
        &self,
        cx: &mut Cx<'_, '_>,
        w: &WeightScope<'_>,
        x: ValueId,
        layer: usize,
        memory: Memory<'_>,
        masks: &Masks,
        head_mask: Option<ValueId>,
    ) -> Built<(ValueId, ValueId)> {
        let width = self.config.n_embd;
        let (k, v) = match memory {
            Memory::States(states) => self.keys_and_values(cx, w, states)?,
            Memory::KeysAndValues(list) => match list.get(layer) {
                Some(pair) => *pair,
                None => return Err(cx.b.error(format!("no keys for layer {layer}")).into()),
            },
        };
        cx.within(w, |cx| {
            let q = conv1d(cx, &w.sub("q_attn"), x, width, width)?;
            let q = self.split(cx, q)?;
            let scores = Scores {
                divisors: &self.divisors(layer),
                bias: masks.memory.as_slice(),
                head_mask,
                ..Scores::default()
            };
            let attended = attend(cx, q, k, v, &scores)?;
            let y = conv1d(cx, &w.sub("c_proj"), attended.context, width, width)?;
            Ok((y, attended.probabilities))
        })
    }

    /// Keys and values of cross attention for an encoder's output.
    fn keys_and_values(
        &self,
        cx: &mut Cx<'_, '_>,
        w: &WeightScope<'_>,
        states: ValueId,
    ) -> Built<text::Past> {
        let width = self.config.n_embd;
        cx.within(w, |cx| {
            let merged = conv1d(cx, &w.sub("c_attn"), states, width, 2 * width)?;
            let parts = cx.split(merged, 2, &[width, width])?;
            let [k, v] = parts.as_slice() else {
                return Err(cx.b.error("two parts expected").into());
            };
            Ok((self.split(cx, *k)?, self.split(cx, *v)?))
        })
    }

    /// Keys and values of every layer's cross attention, as outputs `cross_key_values.L.0` and `.1`.
    pub fn offer_keys_and_values(
        &self,
        cx: &mut Cx<'_, '_>,
        w: &WeightScope<'_>,
        states: ValueId,
    ) -> Built<()> {
        for layer in 0..self.config.n_layer {
            let w = w.sub("h").sub(layer).sub("crossattention");
            let (k, v) = self.keys_and_values(cx, &w, states)?;
            cx.outputs(&format!("cross_key_values.{layer}"), &[k, v], true);
        }
        Ok(())
    }

    /// The inputs that take them up again: [batch, heads, length, width].
    pub fn take_keys_and_values(&self, cx: &mut Cx<'_, '_>, length: &Dim) -> Built<Vec<text::Past>> {
        let config = self.config;
        let shape =
            vec![cx.dim("batch"), Dim::from(config.n_head), length.clone(), Dim::from(config.head_width())];
        let mut list = Vec::with_capacity(config.n_layer);
        for layer in 0..config.n_layer {
            let mut member = |i: usize| {
                cx.input(&format!("cross_key_values.{layer}.{i}"), DType::F32, shape.clone(), None)
            };
            list.push((member(0)?, member(1)?));
        }
        Ok(list)
    }

    fn expect_cross_attention(&self, w: &WeightScope<'_>) {
        let width = self.config.n_embd;
        let attention = w.sub("crossattention");
        for (name, outputs) in [("c_attn", 2 * width), ("q_attn", width), ("c_proj", width)] {
            attention.sub(name).expect("weight", &[width, outputs]);
            attention.sub(name).expect("bias", &[outputs]);
        }
        w.sub("ln_cross_attn").expect("weight", &[width]);
        w.sub("ln_cross_attn").expect("bias", &[width]);
    }

    /// Scores of all tokens. `w` is the scope that holds `transformer` and `lm_head`.
    pub fn vocabulary_head(&self, cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, x: ValueId) -> Built {
        let shape = [self.config.vocab_size, self.config.n_embd];
        let head = w.sub("lm_head");
        cx.within(&head, |cx| {
            let weight = if self.common.tie_word_embeddings {
                cx.weight(&w.sub("transformer.wte"), "weight", &shape)?
            } else {
                cx.weight(&head, "weight", &shape)?
            };
            times_transposed(cx, x, weight)
        })
    }

    /// Scores after the last position only: [batch, 1, vocabulary].
    pub fn next_token_head(&self, cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, x: ValueId) -> Built {
        let sequence = cx.extent(x, 1)?;
        let last = if sequence.is(1) { x } else { cx.slice(x, 1, sequence.add_const(-1)?, sequence)? };
        self.vocabulary_head(cx, w, last)
    }

    /// Names of the cache's tensors.
    pub fn cache_names(&self) -> Vec<String> {
        (0..self.config.n_layer)
            .flat_map(|l| [format!("past_key_values.{l}.0"), format!("past_key_values.{l}.1")])
            .collect()
    }

    /// Names of the cross attention's tensors.
    pub fn cross_names(&self) -> Vec<String> {
        (0..self.config.n_layer)
            .flat_map(|l| [format!("cross_key_values.{l}.0"), format!("cross_key_values.{l}.1")])
            .collect()
    }
}

/// Buffers that older checkpoints hold, and a language model's head beside the base model.
pub const IGNORABLE: &[&str] = &[
    "h.*.attn.bias",
    "h.*.attn.masked_bias",
    "h.*.crossattention.bias",
    "h.*.crossattention.masked_bias",
    "lm_head.weight",
];

/// Inputs of GPT2Model's forward.
pub const INPUTS: &[&str] = &[
    "input_ids",
    "past_key_values.0.0",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "head_mask",
    "inputs_embeds",
    "encoder_hidden_states",
    "encoder_attention_mask",
];

/// Inputs of GPT2LMHeadModel.
pub const LABELLED: &[&str] = &[
    "input_ids",
    "past_key_values.0.0",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "head_mask",
    "inputs_embeds",
    "encoder_hidden_states",
    "encoder_attention_mask",
    "labels",
];

/// transformers.GPT2Model
pub fn model(job: &mut Job<'_>) -> Built<()> {
    let (config, common) = (job.config.parse::<Config>()?, job.config.common()?);
    job.forward(|cx, weights| {
        let x = Gpt2::new(&config, &common)?.decode(cx, &weights.base(), &ALONE)?;
        cx.output("last_hidden_state", x, true);
        Ok(())
    })
}

/// transformers.GPT2LMHeadModel, with the entries `decoder_prefill` and `decoder_step` for generation.
pub fn lm_head(job: &mut Job<'_>) -> Built<()> {
    let (config, common) = (job.config.parse::<Config>()?, job.config.common()?);
    if common.tie_word_embeddings {
        job.weights.tie("transformer.wte.weight", "lm_head.weight");
    }
    let gpt2 = Gpt2::new(&config, &common)?;
    job.forward(|cx, weights| {
        let x = gpt2.decode(cx, &weights.base(), &ALONE)?;
        let logits = gpt2.vocabulary_head(cx, &weights.root(), x)?;
        if cx.has("labels") {
            let shape = vec![cx.extent(logits, 0)?, cx.extent(logits, 1)?];
            let labels = cx.ids("labels", shape, None)?;
            let loss = loss::shifted_cross_entropy(cx, logits, labels)?;
            cx.output("loss", loss, true);
        }
        cx.output("logits", logits, true);
        Ok(())
    })?;
    let cached = Common { use_cache: true, ..common.clone() };
    let gpt2 = Gpt2::new(&config, &cached)?;
    let inputs = ["input_ids", "attention_mask", "position_ids"].map(str::to_string);
    let next = |cx: &mut Cx<'_, '_>, weights: &super::weights::Weights| {
        let x = gpt2.decode(cx, &weights.base(), &ALONE)?;
        let logits = gpt2.next_token_head(cx, &weights.root(), x)?;
        cx.output("logits", logits, true);
        Ok(())
    };
    job.extra("decoder_prefill", &inputs, next)?;
    job.extra("decoder_step", &[inputs.to_vec(), gpt2.cache_names()].concat(), |cx, weights| {
        cx.fix("sequence", 1);
        next(cx, weights)
    })
}
