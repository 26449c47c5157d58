//! BERT (Devlin et al. 2018, arXiv:1810.04805): transformers' BertModel and its heads. Blocks that other models share
//! belong into `blocks/`.

use super::blocks::attention::{attend, split_heads};
use super::blocks::layers::times_transposed;
use super::blocks::loss;
use super::blocks::mask::{self, HeadMask};
use super::blocks::text;
use super::blocks::{Activation, Affine, Scores, layer_norm, linear};
use super::config::{Common, ModelConfig, counts, heads_divide, layers, one_of, sizes};
use super::cx::{Built, Cx};
use super::job::Job;
use super::weights::WeightScope;
use crate::error::ConfigError;
use frit_ir::op::{BinaryFn, UnaryFn};
use frit_ir::{DType, Dim, ValueId};
use serde::Deserialize;

/// BertConfig's keys that change what is computed.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Tokens of the vocabulary.
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
    /// Rows of the position table.
    pub max_position_embeddings: usize,
    /// Rows of the token-type table.
    pub type_vocab_size: usize,
    /// Added to variances.
    pub layer_norm_eps: f64,
    /// `absolute`, `relative_key` or `relative_key_query`.
    pub position_embedding_type: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            vocab_size: 30522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".to_string(),
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            position_embedding_type: "absolute".to_string(),
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
            ("type_vocab_size", self.type_vocab_size),
        ])?;
        sizes(&[("vocab_size", self.vocab_size), ("max_position_embeddings", self.max_position_embeddings)])?;
        heads_divide(("hidden_size", self.hidden_size), ("num_attention_heads", self.num_attention_heads))?;
        Activation::parse("hidden_act", &self.hidden_act)?;
        let types = ["absolute", "relative_key", "relative_key_query"];
        one_of("position_embedding_type", &self.position_embedding_type, &types)
    }
}

/// What the encoder gives.
struct Encoded {
    hidden: ValueId,
    batch: Dim,
}

/// An encoder's output to attend to, with the term that hides its padding.
#[derive(Clone, Copy)]
struct Memory {
    states: ValueId,
    mask: Option<ValueId>,
}

struct Bert<'c> {
    config: &'c Config,
    common: &'c Common,
    activation: Activation,
}

impl<'c> Bert<'c> {
    fn new(config: &'c Config, common: &'c Common) -> Built<Self> {
        let activation = Activation::parse("hidden_act", &config.hidden_act)?;
        if common.add_cross_attention && !common.is_decoder {
            let why = "cross attention needs `is_decoder` = true";
            return Err(ConfigError::invalid("add_cross_attention", why).into());
        }
        Ok(Bert { config, common, activation })
    }

    fn head_width(&self) -> usize {
        self.config.hidden_size / self.config.num_attention_heads
    }

    /// BertModel without pooler. Offers hidden_states, attentions, cross_attentions and, when `cache`, past_key_values.
    fn encode(&self, cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, cache: bool) -> Built<Encoded> {
        let config = self.config;
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        let embeddings = w.sub("embeddings");
        let words = embeddings.sub("word_embeddings");
        let tokens = text::tokens(cx, &words, ("input_ids", "inputs_embeds"), config.vocab_size, hidden)?;
        let (past, past_length) =
            text::past_key_values(cx, config.num_hidden_layers, &tokens.batch, heads, self.head_width())?;
        let mut x = self.embed(cx, &embeddings, &tokens, &past_length)?;

        let mask = self.attention_mask(cx, &tokens, &past_length)?;
        let memory = self.memory(cx, &tokens.batch)?;
        let head_mask = HeadMask::take(cx, "head_mask", config.num_hidden_layers, heads)?;
        let (mut states, mut probabilities, mut cross) = (vec![x], Vec::new(), Vec::new());
        let mut caches = Vec::new();
        for layer in 0..config.num_hidden_layers {
            let scope = w.sub("encoder.layer").sub(layer);
            let head_mask = head_mask.layer(cx, layer)?;
            let past = past.as_ref().and_then(|p| p.get(layer).copied());
            let attention = scope.sub("attention");
            let attended = self.attention(cx, &attention, x, past, mask, head_mask)?;
            probabilities.push(attended.probabilities);
            caches.push(attended.cache);
            x = self.residual(cx, &attention.sub("output"), attended.context, x, hidden)?;
            if let Some(memory) = memory {
                let attention = scope.sub("crossattention");
                let attended = self.cross_attention(cx, &attention, x, memory, head_mask)?;
                cross.push(attended.probabilities);
                x = self.residual(cx, &attention.sub("output"), attended.context, x, hidden)?;
            } else if self.common.add_cross_attention {
                self.expect_cross_attention(&scope.sub("crossattention"));
            }
            let dense = linear(
                cx,
                &scope.sub("intermediate.dense"),
                x,
                Affine::new(hidden, config.intermediate_size),
            )?;
            let inner = cx.within(&scope.sub("intermediate"), |cx| self.activation.apply(cx, dense))?;
            x = self.residual(cx, &scope.sub("output"), inner, x, config.intermediate_size)?;
            states.push(x);
        }
        if cache && self.common.is_decoder && self.common.use_cache {
            for (layer, (key, value)) in caches.into_iter().enumerate() {
                cx.outputs(&format!("past_key_values.{layer}"), &[key, value], true);
            }
        }
        cx.outputs("hidden_states", &states, self.common.output_hidden_states);
        cx.outputs("attentions", &probabilities, self.common.output_attentions);
        cx.outputs("cross_attentions", &cross, self.common.output_attentions);
        Ok(Encoded { hidden: x, batch: tokens.batch })
    }

    fn embed(&self, cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, tokens: &text::Tokens, past: &Dim) -> Built {
        let config = self.config;
        let hidden = config.hidden_size;
        cx.within(w, |cx| {
            let types = w.sub("token_type_embeddings");
            let types = if cx.has("token_type_ids") {
                let shape = vec![tokens.batch.clone(), tokens.sequence.clone()];
                let ids = cx.ids("token_type_ids", shape, Some(frit_ir::InputDefault::Zeros))?;
                text::lookup(cx, &types, ids, config.type_vocab_size, hidden)?
            } else {
                let table = cx.weight(&types, "weight", &[config.type_vocab_size, hidden])?;
                cx.slice(table, 0, Dim::constant(0), Dim::constant(1))?
            };
            let mut x = cx.b.add(tokens.embeds, types)?;
            let table = w.sub("position_embeddings");
            if config.position_embedding_type == "absolute" {
                let ids = text::positions(cx, "position_ids", &tokens.batch, &tokens.sequence, past)?;
                let positions = text::lookup(cx, &table, ids, config.max_position_embeddings, hidden)?;
                x = cx.b.add(x, positions)?;
            } else {
                table.expect("weight", &[config.max_position_embeddings, hidden]);
                if cx.has("position_ids") {
                    // The input stays, without effect, as in transformers.
                    text::positions(cx, "position_ids", &tokens.batch, &tokens.sequence, past)?;
                }
            }
            layer_norm(cx, &w.sub("LayerNorm"), x, hidden, config.layer_norm_eps)
        })
    }

    /// The term of the scores that hides padding and, in a decoder, later tokens.
    fn attention_mask(
        &self,
        cx: &mut Cx<'_, '_>,
        tokens: &text::Tokens,
        past: &Dim,
    ) -> Built<Option<ValueId>> {
        let keys = past.add(&tokens.sequence)?;
        let ones = Some(frit_ir::InputDefault::Ones);
        let mask = match cx.has("attention_mask").then(|| cx.rank("attention_mask")) {
            None if !self.common.is_decoder || tokens.sequence.is(1) => return Ok(None),
            None => {
                let visible = mask::causal(cx, &tokens.sequence, past)?;
                return mask::additive(cx, visible).map(Some);
            }
            Some(Some(3)) => {
                let shape = vec![tokens.batch.clone(), tokens.sequence.clone(), keys];
                cx.input("attention_mask", DType::I64, shape, ones)?
            }
            Some(_) => cx.input("attention_mask", DType::I64, vec![tokens.batch.clone(), keys], ones)?,
        };
        if self.common.is_decoder {
            return mask::additive_causal(cx, mask, &tokens.sequence, past).map(Some);
        }
        mask::additive(cx, mask).map(Some)
    }

    /// The inputs `encoder_hidden_states` and `encoder_attention_mask`.
    fn memory(&self, cx: &mut Cx<'_, '_>, batch: &Dim) -> Built<Option<Memory>> {
        if !self.common.add_cross_attention || !cx.has("encoder_hidden_states") {
            return Ok(None);
        }
        let length = cx.dim("encoder_sequence");
        let width = Dim::from(self.memory_width());
        let states =
            cx.input("encoder_hidden_states", DType::F32, vec![batch.clone(), length.clone(), width], None)?;
        let mask = if cx.has("encoder_attention_mask") {
            let ones = Some(frit_ir::InputDefault::Ones);
            let mask = cx.input("encoder_attention_mask", DType::I64, vec![batch.clone(), length], ones)?;
            Some(mask::additive(cx, mask)?)
        } else {
            None
        };
        Ok(Some(Memory { states, mask }))
    }

    /// Width that cross attention's keys and values are projected from: BertSelfAttention has no other than its own.
    fn memory_width(&self) -> usize {
        self.config.hidden_size
    }

    fn expect_cross_attention(&self, w: &WeightScope<'_>) {
        let hidden = self.config.hidden_size;
        for name in ["self.query", "self.key", "self.value", "output.dense"] {
            w.sub(name).expect("weight", &[hidden, hidden]);
            w.sub(name).expect("bias", &[hidden]);
        }
        w.sub("output.LayerNorm").expect("weight", &[hidden]);
        w.sub("output.LayerNorm").expect("bias", &[hidden]);
    }

    fn project(&self, cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, x: ValueId) -> Built {
        let hidden = self.config.hidden_size;
        let y = linear(cx, w, x, Affine::new(hidden, hidden))?;
        split_heads(cx, y, self.config.num_attention_heads, self.head_width())
    }

    fn attention(
        &self,
        cx: &mut Cx<'_, '_>,
        w: &WeightScope<'_>,
        x: ValueId,
        past: Option<text::Past>,
        mask: Option<ValueId>,
        head_mask: Option<ValueId>,
    ) -> Built<SelfAttended> {
        let w = &w.sub("self");
        cx.within(w, |cx| {
            let q = self.project(cx, &w.sub("query"), x)?;
            let k = self.project(cx, &w.sub("key"), x)?;
            let v = self.project(cx, &w.sub("value"), x)?;
            let k = text::append(cx, past.map(|p| p.0), k)?;
            let v = text::append(cx, past.map(|p| p.1), v)?;
            let relative = self.relative_scores(cx, w, q, k, past.is_some())?;
            let scores = Scores {
                relative: &relative,
                divisors: &[(self.head_width() as f64).sqrt()],
                bias: mask.as_slice(),
                head_mask,
                ..Scores::default()
            };
            let attended = attend(cx, q, k, v, &scores)?;
            Ok(SelfAttended {
                context: attended.context,
                probabilities: attended.probabilities,
                cache: (k, v),
            })
        })
    }

    fn cross_attention(
        &self,
        cx: &mut Cx<'_, '_>,
        w: &WeightScope<'_>,
        x: ValueId,
        memory: Memory,
        head_mask: Option<ValueId>,
    ) -> Built<SelfAttended> {
        let w = &w.sub("self");
        cx.within(w, |cx| {
            let q = self.project(cx, &w.sub("query"), x)?;
            let k = self.project(cx, &w.sub("key"), memory.states)?;
            let v = self.project(cx, &w.sub("value"), memory.states)?;
            let scores = Scores {
                divisors: &[(self.head_width() as f64).sqrt()],
                bias: memory.mask.as_slice(),
                head_mask,
                ..Scores::default()
            };
            let attended = attend(cx, q, k, v, &scores)?;
            Ok(SelfAttended {
                context: attended.context,
                probabilities: attended.probabilities,
                cache: (k, v),
            })
        })
    }

    /// Scores of query against relative position, and of key against it for `relative_key_query`
    /// (Shaw et al. 2018, arXiv:1803.02155; Huang et al. 2020, arXiv:2009.13658).
    fn relative_scores(
        &self,
        cx: &mut Cx<'_, '_>,
        w: &WeightScope<'_>,
        q: ValueId,
        k: ValueId,
        cached: bool,
    ) -> Built<Vec<ValueId>> {
        let config = self.config;
        if config.position_embedding_type == "absolute" {
            return Ok(Vec::new());
        }
        let (queries, keys) = (cx.extent(q, 2)?, cx.extent(k, 2)?);
        // With a cache transformers takes every query for the last token.
        let (first, end) =
            if cached { (keys.add_const(-1)?, keys.clone()) } else { (Dim::constant(0), queries.clone()) };
        let rows = end.sub(&first)?;
        let left = cx.arange(first, end)?;
        let left = cx.b.reshape(left, &[rows.clone(), Dim::constant(1)])?;
        let right = cx.arange(Dim::constant(0), keys.clone())?;
        let right = cx.b.reshape(right, &[Dim::constant(1), keys.clone()])?;
        let distance = cx.b.sub(left, right)?;
        let most = config.max_position_embeddings;
        let distance = cx.b.add_scalar(distance, most as f64 - 1.0)?;
        let table = w.sub("distance_embedding");
        let position = text::lookup(cx, &table, distance, 2 * most - 1, self.head_width())?;

        // Query l meets key r over position [l, r]: one product for each l over all batches and heads.
        let (batch, heads) = (cx.extent(q, 0)?, cx.extent(q, 1)?);
        let width = Dim::from(self.head_width());
        let pairs = batch.mul(&heads)?;
        let by_query = cx.b.transpose(q, &[2, 0, 1, 3])?;
        let by_query = cx.b.reshape(by_query, &[queries.clone(), pairs.clone(), width.clone()])?;
        let turned = cx.b.transpose(position, &[0, 2, 1])?;
        let product = cx.matmul(by_query, turned)?;
        let product = cx.b.reshape(product, &[queries, batch.clone(), heads.clone(), keys.clone()])?;
        let mut terms = vec![cx.b.transpose(product, &[1, 2, 0, 3])?];
        if config.position_embedding_type == "relative_key_query" {
            let by_key = cx.b.transpose(k, &[2, 0, 1, 3])?;
            let by_key = cx.b.reshape(by_key, &[keys.clone(), pairs, width])?;
            let turned = cx.b.transpose(position, &[1, 2, 0])?;
            let product = cx.matmul(by_key, turned)?;
            let product = cx.b.reshape(product, &[keys, batch, heads, rows])?;
            terms.push(cx.b.transpose(product, &[1, 2, 3, 0])?);
        }
        Ok(terms)
    }

    /// LayerNorm(dense(x) + residual), of BertSelfOutput and BertOutput.
    fn residual(
        &self,
        cx: &mut Cx<'_, '_>,
        w: &WeightScope<'_>,
        x: ValueId,
        residual: ValueId,
        inputs: usize,
    ) -> Built {
        let hidden = self.config.hidden_size;
        let dense = linear(cx, &w.sub("dense"), x, Affine::new(inputs, hidden))?;
        let sum = cx.within(w, |cx| Ok(cx.b.add(dense, residual)?))?;
        layer_norm(cx, &w.sub("LayerNorm"), sum, hidden, self.config.layer_norm_eps)
    }

    fn pool(&self, cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, x: ValueId) -> Built {
        let hidden = self.config.hidden_size;
        let w = &w.sub("pooler");
        cx.within(w, |cx| {
            let first = cx.at(x, 1, 0)?;
            let dense = linear(cx, &w.sub("dense"), first, Affine::new(hidden, hidden))?;
            cx.map(UnaryFn::Tanh, dense)
        })
    }

    /// BertOnlyMLMHead.
    fn vocabulary_head(
        &self,
        cx: &mut Cx<'_, '_>,
        root: &WeightScope<'_>,
        base: &WeightScope<'_>,
        x: ValueId,
    ) -> Built {
        let config = self.config;
        let hidden = config.hidden_size;
        let w = &root.sub("cls.predictions");
        let transform = w.sub("transform");
        let dense = linear(cx, &transform.sub("dense"), x, Affine::new(hidden, hidden))?;
        let active = cx.within(&transform, |cx| self.activation.apply(cx, dense))?;
        let normal = layer_norm(cx, &transform.sub("LayerNorm"), active, hidden, config.layer_norm_eps)?;
        cx.within(w, |cx| {
            let shape = [config.vocab_size, hidden];
            let weight = if self.common.tie_word_embeddings {
                cx.weight(&base.sub("embeddings.word_embeddings"), "weight", &shape)?
            } else {
                cx.weight(&w.sub("decoder"), "weight", &shape)?
            };
            let bias = cx.weight(w, "bias", &[config.vocab_size])?;
            let product = times_transposed(cx, normal, weight)?;
            Ok(cx.b.add(product, bias)?)
        })
    }
}

struct SelfAttended {
    context: ValueId,
    probabilities: ValueId,
    cache: (ValueId, ValueId),
}

/// Names in BERT checkpoints that a class may leave unused: buffers, the pooler, other heads.
pub const IGNORABLE: &[&str] = &[
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "pooler.dense.*",
    "cls.predictions.*",
    "cls.seq_relationship.*",
];

/// Inputs of BertModel's forward.
pub const INPUTS: &[&str] = &[
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "head_mask",
    "inputs_embeds",
    "encoder_hidden_states",
    "encoder_attention_mask",
    "past_key_values.0.0",
];

/// Inputs of BertLMHeadModel's forward.
pub const CAUSAL: &[&str] = &[
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "head_mask",
    "inputs_embeds",
    "encoder_hidden_states",
    "encoder_attention_mask",
    "labels",
    "past_key_values.0.0",
];

/// Inputs of the classes with `labels`.
pub const LABELLED: &[&str] = &[
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "head_mask",
    "inputs_embeds",
    "labels",
];

/// Inputs of BertForQuestionAnswering.
pub const SPANS: &[&str] = &[
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "head_mask",
    "inputs_embeds",
    "start_positions",
    "end_positions",
];

/// transformers.BertModel
pub fn model(job: &mut Job<'_>) -> Built<()> {
    let (config, common) = (job.config.parse::<Config>()?, job.config.common()?);
    job.forward(|cx, weights| {
        let bert = Bert::new(&config, &common)?;
        let base = weights.base();
        let encoded = bert.encode(cx, &base, true)?;
        cx.output("last_hidden_state", encoded.hidden, true);
        cx.output_if_wanted("pooler_output", true, |cx| bert.pool(cx, &base, encoded.hidden))
    })
}

/// transformers.BertForMaskedLM
pub fn masked_lm(job: &mut Job<'_>) -> Built<()> {
    let (config, common) = (job.config.parse::<Config>()?, job.config.common()?);
    tie(job, &common);
    job.forward(|cx, weights| {
        let bert = Bert::new(&config, &common)?;
        let base = weights.base();
        let encoded = bert.encode(cx, &base, false)?;
        let logits = bert.vocabulary_head(cx, &weights.root(), &base, encoded.hidden)?;
        token_loss(cx, logits)?;
        cx.output("logits", logits, true);
        Ok(())
    })
}

/// transformers.BertLMHeadModel: the masked-language head over a causal model, with the entries `decoder_prefill` and
/// `decoder_step` for generation.
pub fn causal_lm(job: &mut Job<'_>) -> Built<()> {
    let (config, common) = (job.config.parse::<Config>()?, job.config.common()?);
    tie(job, &common);
    job.forward(|cx, weights| {
        let bert = Bert::new(&config, &common)?;
        let base = weights.base();
        // transformers gives no cache beside a loss.
        let encoded = bert.encode(cx, &base, !cx.has("labels"))?;
        let logits = bert.vocabulary_head(cx, &weights.root(), &base, encoded.hidden)?;
        if cx.has("labels") {
            let shape = vec![cx.extent(logits, 0)?, cx.extent(logits, 1)?];
            let labels = cx.ids("labels", shape, None)?;
            let loss = loss::shifted_cross_entropy(cx, logits, labels)?;
            cx.output("loss", loss, true);
        }
        cx.output("logits", logits, true);
        Ok(())
    })?;
    if !common.is_decoder {
        return Ok(());
    }
    let cached = Common { use_cache: true, ..common.clone() };
    let inputs = ["input_ids", "attention_mask"].map(str::to_string);
    let caches = (0..config.num_hidden_layers)
        .flat_map(|l| [format!("past_key_values.{l}.0"), format!("past_key_values.{l}.1")])
        .collect();
    let next = |cx: &mut Cx<'_, '_>, weights: &super::weights::Weights| {
        let bert = Bert::new(&config, &cached)?;
        let base = weights.base();
        let encoded = bert.encode(cx, &base, true)?;
        let sequence = cx.extent(encoded.hidden, 1)?;
        let last = cx.slice(encoded.hidden, 1, sequence.add_const(-1)?, sequence)?;
        let logits = bert.vocabulary_head(cx, &weights.root(), &base, last)?;
        cx.output("logits", logits, true);
        Ok(())
    };
    job.extra("decoder_prefill", &inputs, next)?;
    job.extra("decoder_step", &[inputs.to_vec(), caches].concat(), |cx, weights| {
        cx.fix("sequence", 1);
        next(cx, weights)
    })
}

/// The vocabulary head's two names for its bias, and its weight tied to the embedding.
fn tie(job: &mut Job<'_>, common: &Common) {
    job.weights.tie("cls.predictions.bias", "cls.predictions.decoder.bias");
    if common.tie_word_embeddings {
        job.weights.tie("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight");
    }
}

/// Labels of every token.
fn token_loss(cx: &mut Cx<'_, '_>, logits: ValueId) -> Built<()> {
    if cx.has("labels") {
        let shape = vec![cx.extent(logits, 0)?, cx.extent(logits, 1)?];
        let labels = cx.ids("labels", shape, None)?;
        let loss = loss::cross_entropy(cx, logits, labels)?;
        cx.output("loss", loss, true);
    }
    Ok(())
}

/// transformers.BertForSequenceClassification
pub fn sequence_classification(job: &mut Job<'_>) -> Built<()> {
    let (config, common) = (job.config.parse::<Config>()?, job.config.common()?);
    job.forward(|cx, weights| {
        let bert = Bert::new(&config, &common)?;
        let base = weights.base();
        let encoded = bert.encode(cx, &base, false)?;
        let pooled = bert.pool(cx, &base, encoded.hidden)?;
        let widths = Affine::new(config.hidden_size, common.labels());
        let logits = linear(cx, &weights.root().sub("classifier"), pooled, widths)?;
        if let Some(loss) = loss::classification(cx, &common, &encoded.batch, logits)? {
            cx.output("loss", loss, true);
        }
        cx.output("logits", logits, true);
        Ok(())
    })
}

/// transformers.BertForTokenClassification
pub fn token_classification(job: &mut Job<'_>) -> Built<()> {
    let (config, common) = (job.config.parse::<Config>()?, job.config.common()?);
    job.forward(|cx, weights| {
        let bert = Bert::new(&config, &common)?;
        let encoded = bert.encode(cx, &weights.base(), false)?;
        let widths = Affine::new(config.hidden_size, common.labels());
        let logits = linear(cx, &weights.root().sub("classifier"), encoded.hidden, widths)?;
        token_loss(cx, logits)?;
        cx.output("logits", logits, true);
        Ok(())
    })
}

/// transformers.BertForQuestionAnswering
pub fn question_answering(job: &mut Job<'_>) -> Built<()> {
    let (config, common) = (job.config.parse::<Config>()?, job.config.common()?);
    if common.labels() != 2 {
        let why = format!("BertForQuestionAnswering needs 2 labels (start and end), got {}", common.labels());
        return Err(ConfigError::invalid("id2label", why).into());
    }
    job.forward(|cx, weights| {
        let bert = Bert::new(&config, &common)?;
        let encoded = bert.encode(cx, &weights.base(), false)?;
        let w = weights.root().sub("qa_outputs");
        let logits = linear(cx, &w, encoded.hidden, Affine::new(config.hidden_size, 2))?;
        let start = cx.at(logits, 2, 0)?;
        let end = cx.at(logits, 2, 1)?;
        if cx.has("start_positions") && cx.has("end_positions") {
            let mut half = |name: &str, logits: ValueId| -> Built {
                let positions = cx.ids(name, vec![encoded.batch.clone()], None)?;
                span_loss(cx, logits, positions)
            };
            let (a, b) = (half("start_positions", start)?, half("end_positions", end)?);
            let sum = cx.b.add(a, b)?;
            let loss = cx.div_scalar(sum, 2.0)?;
            cx.output("loss", loss, true);
        } else if cx.has("start_positions") || cx.has("end_positions") {
            return Err(cx.signature_error("`start_positions` and `end_positions` go together"));
        }
        cx.output("start_logits", start, true);
        cx.output("end_logits", end, true);
        Ok(())
    })
}

/// transformers.BertForMultipleChoice
pub fn multiple_choice(job: &mut Job<'_>) -> Built<()> {
    let (config, common) = (job.config.parse::<Config>()?, job.config.common()?);
    job.forward(|cx, weights| {
        let bert = Bert::new(&config, &common)?;
        let base = weights.base();
        let (batch, choices) = cx.fold_batch("choices")?;
        let encoded = bert.encode(cx, &base, false)?;
        let pooled = bert.pool(cx, &base, encoded.hidden)?;
        let score =
            linear(cx, &weights.root().sub("classifier"), pooled, Affine::new(config.hidden_size, 1))?;
        let logits = cx.b.reshape(score, &[batch.clone(), choices])?;
        if cx.has("labels") {
            let labels = cx.ids("labels", vec![batch], None)?;
            let loss = loss::cross_entropy(cx, logits, labels)?;
            cx.output("loss", loss, true);
        }
        cx.output("logits", logits, true);
        Ok(())
    })
}

/// Cross entropy over positions; those beyond the text are left out.
fn span_loss(cx: &mut Cx<'_, '_>, logits: ValueId, positions: ValueId) -> Built {
    let length = cx.extent(logits, 1)?;
    let beyond = cx.b.op(frit_ir::op::ShapeOf { dims: vec![length] }, &[])?;
    let beyond = cx.b.reshape(beyond, &[])?;
    let zero = cx.b.scalar(DType::I64, 0.0)?;
    let positions = cx.b.binary(BinaryFn::Max, positions, zero)?;
    let positions = cx.b.binary(BinaryFn::Min, positions, beyond)?;
    let outside = cx.b.binary(BinaryFn::Equal, positions, beyond)?;
    let ignored = cx.b.scalar(DType::I64, loss::IGNORED as f64)?;
    let labels = cx.choose(outside, ignored, positions)?;
    loss::cross_entropy(cx, logits, labels)
}
