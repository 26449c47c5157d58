//! Generating token sequences with any model that can be run step by step: settings, processors, warpers,
//! search and beams, as transformers 4.37.2's `GenerationMixin.generate` has them. How a model runs, and text,
//! do not belong here: a model is a [`StepModel`], a sequence is token ids.
//!
//! Tokens are those of transformers for greedy search, beam search and group beam search. Sampling draws from
//! the same distribution, but a seed gives other tokens than torch's generator. Equal scores are resolved
//! towards the lowest token id. Contrastive search, constrained beam search, classifier-free guidance and
//! assisted generation are refused by name.

mod beam;
mod class_defaults;
mod config;
mod error;
mod numerics;
mod processors;
mod prompt;
mod rules;
mod sampler;
mod search;
mod validate;
mod warpers;

use std::ops::ControlFlow;

use rand::RngCore;

pub use config::{EarlyStopping, GenerationConfig};
pub use error::{GenerateError, ModelError};
pub use processors::{Group, LogitsProcessor, Scores, Step};
pub use prompt::{attention_mask, decoder_prompt, empty_prompt};
pub use validate::{Mode, mode, warnings};

/// A model that generation can drive.
///
/// A generation is one call of [`StepModel::step`] with the prompts, then one for each further token. The model
/// keeps the state (key-value caches, positions, masks) between the calls, a row of it for each row of tokens.
pub trait StepModel {
    /// What can go wrong in a step.
    type Error: Into<ModelError>;

    /// Number of tokens that a step scores.
    fn vocab(&self) -> usize;

    /// Greatest sequence length in tokens, none for no limit.
    fn max_positions(&self) -> Option<usize>;

    /// Whether rows may part from one: then each prompt is fed once, and the step after it has as many rows as
    /// there are beams or return sequences, with `parents` telling whose state each continues. Otherwise each
    /// prompt is fed as often as it has rows, and the number of rows never changes.
    fn can_fork(&self) -> bool {
        false
    }

    /// Feeds `tokens`, `[rows, n]` row after row: n is the prompt's length in the first call, 1 in the others.
    /// First row `i` of the state becomes what row `parents[i]` was after the call before; none leaves the rows
    /// as they are. The logits after the last token go into `logits`, `[rows, vocab]` float32.
    ///
    /// # Errors
    /// The model's own; generation ends with it.
    fn step(
        &mut self,
        tokens: &[i64],
        rows: usize,
        parents: Option<&[usize]>,
        logits: &mut [f32],
    ) -> Result<(), Self::Error>;
}

/// Called after each step with the new token of each row; `Break` ends the generation with what there is.
pub type OnTokens<'a> = &'a mut dyn FnMut(&[i64]) -> ControlFlow<()>;

/// Where the tokens come from that `encoder_repetition_penalty` and `encoder_no_repeat_ngram_size` work on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EncoderTokens<'a> {
    /// A model without encoder: the prompt itself.
    #[default]
    Prompt,
    /// The encoder's token ids, `[batch][tokens]`.
    Tokens(&'a [Vec<i64>]),
    /// The encoder reads no tokens (sound, images).
    None,
}

/// What to generate from.
#[derive(Default)]
pub struct Request<'a> {
    /// The prompts, `[batch][tokens]`, all of one length (padded on the left), none empty. For an encoder-decoder
    /// model these are the decoder's: see [`decoder_prompt`].
    pub prompt: &'a [Vec<i64>],
    /// The encoder's tokens.
    pub encoder: EncoderTokens<'a>,
    /// Seed of the draws; without one every generation differs. Only sampling uses it.
    pub seed: Option<u64>,
    /// Rules that run after the built-in processors.
    pub processors: Vec<Box<dyn LogitsProcessor>>,
    /// Called with the tokens of each step; not with beams, whose tokens are only known at the end.
    pub on_tokens: Option<OnTokens<'a>>,
}

/// The result of a generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The sequences, prompts included, all of one length: `[batch x num_return_sequences][tokens]`.
    pub sequences: Vec<Vec<i64>>,
    /// With beams, the score of each: the sum of its log-probabilities over its generated length to the power
    /// of `length_penalty`.
    pub scores: Option<Vec<f32>>,
    /// Number of steps that the model ran.
    pub steps: usize,
}

/// Generates sequences with a model, whose state must be fresh.
///
/// # Errors
/// Settings that contradict each other, prompts that cannot be used, and what the model reports.
pub fn generate<M: StepModel>(
    model: &mut M,
    config: &GenerationConfig,
    request: Request<'_>,
) -> Result<Generated, GenerateError> {
    let mut rng = sampler::seeded(request.seed);
    generate_with(model, config, request, &mut rng)
}

/// As [`generate`], with the caller's source of random numbers in place of the seed: each draw takes one `u64`.
///
/// # Errors
/// As [`generate`].
pub fn generate_with<M: StepModel>(
    model: &mut M,
    config: &GenerationConfig,
    request: Request<'_>,
    rng: &mut impl RngCore,
) -> Result<Generated, GenerateError> {
    let mode = mode(config)?;
    let Request { prompt, encoder, processors: own, on_tokens, .. } = request;
    let length = check_prompt(prompt)?;
    let max_length = config.total_length(length);
    if mode.beams() && length >= max_length {
        let expected = format!("must be above the prompt's {length} tokens for beam search");
        return Err(GenerateError::invalid("max_length", max_length, expected));
    }
    if mode.beams() && on_tokens.is_some() {
        let reason = "with num_beams above 1 the tokens are only known at the end".to_owned();
        return Err(GenerateError::Input { what: "streaming", reason });
    }
    let encoder = match encoder {
        EncoderTokens::Prompt => Some(prompt),
        EncoderTokens::Tokens(tokens) if tokens.len() == prompt.len() => Some(tokens),
        EncoderTokens::Tokens(tokens) => {
            let reason = format!("has {} rows for {} prompts", tokens.len(), prompt.len());
            return Err(GenerateError::Input { what: "the encoder's input", reason });
        }
        EncoderTokens::None => None,
    };
    let vocab = model.vocab();
    let search = search::Search {
        config,
        mode,
        max_length,
        processors: processors::for_settings(config, vocab, length, max_length, encoder, own)?,
        warpers: if mode.samples() { warpers::for_settings(config) } else { Vec::new() },
        deadline: search::Deadline::new(config.max_time),
    };
    if mode.beams() {
        let (sequences, scores, steps) = search::by_beams(model, &search, prompt, rng)?;
        return Ok(Generated { sequences, scores: Some(scores), steps });
    }
    let (sequences, steps) = search::by_token(model, &search, prompt, rng, on_tokens)?;
    Ok(Generated { sequences, scores: None, steps })
}

/// The prompts' common length in tokens.
fn check_prompt(prompt: &[Vec<i64>]) -> Result<usize, GenerateError> {
    let refuse = |reason: String| Err(GenerateError::Input { what: "the prompt", reason });
    let Some(first) = prompt.first() else { return refuse("has no rows".to_owned()) };
    if first.is_empty() {
        return refuse("row 0 has no tokens".to_owned());
    }
    for (number, row) in prompt.iter().enumerate() {
        if row.len() != first.len() {
            let (found, expected) = (row.len(), first.len());
            return refuse(format!("row {number} has {found} tokens, row 0 has {expected}: pad them alike"));
        }
    }
    Ok(first.len())
}
