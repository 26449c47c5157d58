//! transformers' VisionEncoderDecoderModel: an image encoder and a text decoder that attends to it (Li et al. 2021,
//! arXiv:2109.10282). The two halves are built by their own files.

use super::blocks::vision::PatchGrid;
use super::blocks::{Affine, linear, loss, text};
use super::config::{Common, ConfigFile};
use super::cx::{Built, Cx};
use super::gpt2;
use super::gpt2::{Decoding, Gpt2, Memory};
use super::job::Job;
use super::vit::{self, StateNames};
use super::weights::Weights;
use crate::error::ConfigError;
use frit_ir::op::BinaryFn;
use frit_ir::{DType, Dim, ValueId};

/// Inner states of the encoder as the whole model shows them.
const ENCODER_STATES: StateNames =
    StateNames { hidden_states: "encoder_hidden_states", attentions: "encoder_attentions" };

/// Weights that checkpoints may hold without a graph's using them: the encoder's pooler, the decoder's buffers.
pub const IGNORABLE: &[&str] = &[
    "encoder.pooler.dense.*",
    "encoder.embeddings.mask_token",
    "decoder.transformer.h.*.attn.bias",
    "decoder.transformer.h.*.attn.masked_bias",
    "decoder.transformer.h.*.crossattention.bias",
    "decoder.transformer.h.*.crossattention.masked_bias",
];

/// Inputs of forward.
pub const INPUTS: &[&str] = &[
    "pixel_values",
    "decoder_input_ids",
    "decoder_attention_mask",
    "encoder_outputs.0",
    "past_key_values.0.0",
    "decoder_inputs_embeds",
    "labels",
    "head_mask",
    "decoder_head_mask",
    "decoder_position_ids",
    "decoder_token_type_ids",
];

/// The parts of the nested configuration.
struct Parts {
    encoder: vit::Config,
    encoder_common: Common,
    decoder: gpt2::Config,
    decoder_common: Common,
    common: Common,
    projected: bool,
}

impl Parts {
    fn read(config: &ConfigFile) -> Built<Self> {
        let (encoder, decoder) = (config.nested("encoder")?, config.nested("decoder")?);
        expect_type(&encoder, "vit")?;
        expect_type(&decoder, "gpt2")?;
        let encoder_common = encoder.common()?;
        let decoder_common = decoder.common()?;
        let encoder: vit::Config = encoder.parse()?;
        let decoder: gpt2::Config = decoder.parse()?;
        if !decoder_common.add_cross_attention {
            return Err(ConfigError::unsupported("decoder.add_cross_attention", false, &["true"]).into());
        }
        let same = encoder.hidden_size == decoder.n_embd;
        if let Some(width) = decoder_common.cross_attention_hidden_size
            && (width != encoder.hidden_size || !same)
        {
            let why = format!(
                "{width} must be the width of the encoder, {}, and of the decoder, {}",
                encoder.hidden_size, decoder.n_embd
            );
            return Err(ConfigError::invalid("decoder.cross_attention_hidden_size", why).into());
        }
        let common = config.common()?;
        Ok(Parts { encoder, encoder_common, decoder, decoder_common, common, projected: !same })
    }

    /// The encoder's output, and that which the decoder attends to.
    fn encode(&self, cx: &mut Cx<'_, '_>, weights: &Weights) -> Built<(ValueId, ValueId)> {
        let states = if cx.has("encoder_outputs.0") {
            weights.leave("encoder.");
            let width = Dim::from(self.encoder.hidden_size);
            let shape = vec![cx.dim("batch"), cx.dim("encoder_sequence"), width];
            cx.input("encoder_outputs.0", DType::F32, shape, None)?
        } else if cx.has("pixel_values") {
            let w = weights.root().sub("encoder");
            vit::encode(cx, &w, &self.encoder, &self.encoder_common, &ENCODER_STATES)?
        } else {
            return Err(cx.signature_error("`pixel_values` or `encoder_outputs.0` is needed"));
        };
        Ok((states, self.project(cx, weights, states)?))
    }

    fn project(&self, cx: &mut Cx<'_, '_>, weights: &Weights, states: ValueId) -> Built {
        if !self.projected {
            return Ok(states);
        }
        let widths = Affine::new(self.encoder.hidden_size, self.decoder.n_embd);
        linear(cx, &weights.root().sub("enc_to_dec_proj"), states, widths)
    }
}

fn expect_type(config: &ConfigFile, supported: &'static str) -> Result<(), ConfigError> {
    let key = format!("{}.model_type", config.place());
    match config.text("model_type") {
        Some(found) if found == supported => Ok(()),
        Some(found) => Err(ConfigError::unsupported(key, format!("\"{found}\""), &[supported])),
        None => Err(ConfigError::Missing { key, expected: format!("\"{supported}\"") }),
    }
}

/// labels one place to the right behind the decoder's first token; -100 becomes padding.
fn shift_right(cx: &mut Cx<'_, '_>, common: &Common, labels: ValueId) -> Built {
    let token = |key: &str, value: Option<i64>| {
        value.ok_or_else(|| ConfigError::Missing {
            key: key.to_string(),
            expected: "a token number, to make decoder_input_ids from labels".to_string(),
        })
    };
    let start = token("decoder_start_token_id", common.decoder_start_token_id)?;
    let padding = token("pad_token_id", common.pad_token_id)?;
    let (batch, sequence) = (cx.extent(labels, 0)?, cx.extent(labels, 1)?);
    let start = cx.integers(&[1, 1], &[start])?;
    let first = cx.expand(start, &[batch, Dim::constant(1)])?;
    let rest = cx.slice(labels, 1, Dim::constant(0), sequence.add_const(-1)?)?;
    let ids = cx.concat(1, &[first, rest])?;
    let ids = cx.b.reshape(ids, &cx.b.shape(labels)?)?;
    let ignored = cx.integers(&[], &[loss::IGNORED])?;
    let skipped = cx.b.binary(BinaryFn::Equal, ids, ignored)?;
    let padding = cx.integers(&[], &[padding])?;
    cx.choose(skipped, padding, ids)
}

/// transformers.VisionEncoderDecoderModel, with the entries `encoder`, `decoder_prefill` and `decoder_step` for
/// generation: keys and values of cross attention are made once, by `encoder`.
pub fn model(job: &mut Job<'_>) -> Built<()> {
    let parts = Parts::read(job.config)?;
    if parts.decoder_common.tie_word_embeddings {
        job.weights.tie("decoder.transformer.wte.weight", "decoder.lm_head.weight");
    }
    let gpt2 = Gpt2::new(&parts.decoder, &parts.decoder_common)?;
    job.forward(|cx, weights| {
        let (states, memory) = parts.encode(cx, weights)?;
        let w = weights.root().sub("decoder");
        let mut labels = None;
        if cx.has("labels") {
            let shape = vec![cx.dim("batch"), cx.dim("sequence")];
            labels = Some(cx.ids("labels", shape, None)?);
        }
        let named = cx.has("decoder_input_ids") || cx.has("decoder_inputs_embeds");
        let ids = match labels {
            Some(labels) if !named => Some(shift_right(cx, &parts.common, labels)?),
            _ => None,
        };
        let memory = Some(Memory::States(memory));
        let call = Decoding { inputs: "decoder_", outputs: "decoder_", ids, memory };
        let x = gpt2.decode(cx, &w.sub("transformer"), &call)?;
        let logits = gpt2.vocabulary_head(cx, &w, x)?;
        if let Some(labels) = labels {
            let loss = loss::cross_entropy(cx, logits, labels)?;
            cx.output("loss", loss, true);
        }
        cx.output("logits", logits, true);
        cx.output("encoder_last_hidden_state", states, true);
        Ok(())
    })?;

    job.extra("encoder", &["pixel_values".to_string()], |cx, weights| {
        let (states, memory) = parts.encode(cx, weights)?;
        cx.output("last_hidden_state", states, true);
        gpt2.offer_keys_and_values(cx, &weights.root().sub("decoder.transformer"), memory)
    })?;
    let cached = Common { use_cache: true, ..parts.decoder_common.clone() };
    let gpt2 = Gpt2::new(&parts.decoder, &cached)?;
    let image = (parts.encoder.image_size.height(), parts.encoder.image_size.width());
    let length = Dim::from(PatchGrid::of(image, parts.encoder.patch_size).patches() + 1);
    let next = |cx: &mut Cx<'_, '_>, weights: &Weights| {
        let pairs: Vec<text::Past> = gpt2.take_keys_and_values(cx, &length)?;
        let w = weights.root().sub("decoder");
        let memory = Some(Memory::KeysAndValues(&pairs));
        let call = Decoding { inputs: "", outputs: "", ids: None, memory };
        let x = gpt2.decode(cx, &w.sub("transformer"), &call)?;
        let logits = gpt2.next_token_head(cx, &w, x)?;
        cx.output("logits", logits, true);
        Ok(())
    };
    let inputs = [vec!["input_ids".to_string()], gpt2.cross_names()].concat();
    job.extra("decoder_prefill", &inputs, next)?;
    job.extra("decoder_step", &[inputs.clone(), gpt2.cache_names()].concat(), |cx, weights| {
        cx.fix("sequence", 1);
        next(cx, weights)
    })
}
