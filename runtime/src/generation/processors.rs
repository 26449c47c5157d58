//! Logits processors: what forbids, forces and weighs tokens before one is chosen, and in which order
//! (transformers 4.37.2, `_get_logits_processor`). The rules themselves are in `rules.rs`, the sampling filters
//! in `warpers.rs`; nothing here may choose a token.

use std::collections::HashMap;

use super::config::GenerationConfig;
use super::error::GenerateError;
use super::rules::{
    EncoderNoRepeatNgram, EncoderRepetitionPenalty, ExponentialDecay, ForbidBefore, ForceAt, ForceTokens,
    HammingDiversity, NoRepeatNgram, RemoveInvalid, Renormalise, RepetitionPenalty, SequenceBias, Suppress,
    index, ngrams,
};

type Result<T> = std::result::Result<T, GenerateError>;

/// The scores of a step: `rows` rows of `vocab` float32 scores, logits in greedy search and sampling,
/// log-probabilities in beam search.
#[derive(Debug)]
pub struct Scores<'a> {
    data: &'a mut [f32],
    vocab: usize,
}

impl<'a> Scores<'a> {
    /// Rows of `vocab` scores one after the other. A remainder that fills no row is left out of sight.
    pub fn new(data: &'a mut [f32], vocab: usize) -> Scores<'a> {
        Scores { data, vocab: vocab.max(1) }
    }

    /// Number of tokens that a row scores.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// The rows in order.
    pub fn rows(&mut self) -> impl ExactSizeIterator<Item = &mut [f32]> {
        self.data.chunks_exact_mut(self.vocab)
    }
}

/// The state of a step that processors may look at.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// The sequence of each row so far, prompt included, all of one length.
    pub sequences: &'a [Vec<i64>],
    /// In group beam search, the group whose rows these are.
    pub group: Option<Group<'a>>,
}

/// The place of a group within a step of group beam search.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// Number of the group, from 0.
    pub index: usize,
    /// `[batch, num_beams]` tokens chosen at this step, by the groups before this one.
    pub chosen: &'a [i64],
}

impl Step<'_> {
    /// Length of the sequences in tokens.
    pub(crate) fn length(&self) -> usize {
        self.sequences.first().map_or(0, Vec::len)
    }
}

/// Changes the scores of a step. Implement it for rules of your own: they run after the built-in ones.
pub trait LogitsProcessor {
    /// Changes `scores`, whose rows belong to `step.sequences`, in place.
    ///
    /// # Errors
    /// When the scores or the sequences do not suit the rule, such as a token id that has no score.
    fn apply(&self, step: &Step<'_>, scores: &mut Scores<'_>) -> Result<()>;
}

/// The processors that the settings ask for, in transformers' order, then `own`, then renormalisation.
///
/// `prompt` is the prompt's length in tokens, `max_length` the greatest total length; `encoder` holds the
/// encoder's token ids `[batch][tokens]` (the prompt's own, for a model without encoder).
///
/// # Errors
/// A setting that works on the encoder's tokens where there are none, or token ids outside the vocabulary.
pub(crate) fn for_settings(
    config: &GenerationConfig,
    vocab: usize,
    prompt: usize,
    max_length: usize,
    encoder: Option<&[Vec<i64>]>,
    own: Vec<Box<dyn LogitsProcessor>>,
) -> Result<Vec<Box<dyn LogitsProcessor>>> {
    let need_encoder = |key| {
        let reason = "the model's input is not a sequence of tokens".to_owned();
        encoder.ok_or(GenerateError::Input { what: key, reason })
    };
    let ids =
        |what, ids: &[i64]| ids.iter().map(|&id| index(what, id, vocab)).collect::<Result<Vec<usize>>>();
    let mut list: Vec<Box<dyn LogitsProcessor>> = Vec::new();

    if let Some(bias) = &config.sequence_bias {
        list.push(Box::new(SequenceBias::new("sequence_bias", bias, vocab)?));
    }
    if config.diversity_penalty > 0.0 {
        let (penalty, beams) = (config.diversity_penalty as f32, config.num_beams);
        list.push(Box::new(HammingDiversity { penalty, beams, groups: config.num_beam_groups }));
    }
    if config.encoder_repetition_penalty != 1.0 {
        let sequences = need_encoder("encoder_repetition_penalty")?;
        let tokens = sequences.iter().map(|row| ids("the encoder's input", row)).collect::<Result<_>>()?;
        let penalty = (1.0 / config.encoder_repetition_penalty) as f32;
        list.push(Box::new(EncoderRepetitionPenalty { penalty, tokens }));
    }
    if config.repetition_penalty != 1.0 {
        list.push(Box::new(RepetitionPenalty { penalty: config.repetition_penalty as f32 }));
    }
    if config.no_repeat_ngram_size > 0 {
        list.push(Box::new(NoRepeatNgram { size: config.no_repeat_ngram_size }));
    }
    if config.encoder_no_repeat_ngram_size > 0 {
        let size = config.encoder_no_repeat_ngram_size;
        let sequences = need_encoder("encoder_no_repeat_ngram_size")?;
        let followers = sequences.iter().map(|row| ngrams(row, size)).collect();
        list.push(Box::new(EncoderNoRepeatNgram { size, followers }));
    }
    if let Some(words) = &config.bad_words_ids {
        let end = |word: &Vec<i64>| matches!(word.as_slice(), [id] if config.eos().contains(id));
        let bias: Vec<_> =
            words.iter().filter(|word| !end(word)).map(|word| (word.clone(), f64::NEG_INFINITY)).collect();
        list.push(Box::new(SequenceBias::new("bad_words_ids", &bias, vocab)?));
    }
    if config.min_length > 0 && !config.eos().is_empty() {
        let eos = ids("eos_token_id", config.eos())?;
        list.push(Box::new(ForbidBefore { length: config.min_length, tokens: eos }));
    }
    if let Some(new) = config.min_new_tokens.filter(|&new| new > 0 && !config.eos().is_empty()) {
        let eos = ids("eos_token_id", config.eos())?;
        list.push(Box::new(ForbidBefore { length: prompt.saturating_add(new), tokens: eos }));
    }
    if let Some(id) = config.forced_bos_token_id {
        let tokens = ids("forced_bos_token_id", &[id])?;
        list.push(Box::new(ForceAt { length: Some(1), tokens }));
    }
    if let Some(eos) = &config.forced_eos_token_id {
        let tokens = ids("forced_eos_token_id", eos)?;
        list.push(Box::new(ForceAt { length: max_length.checked_sub(1), tokens }));
    }
    if config.remove_invalid_values {
        list.push(Box::new(RemoveInvalid));
    }
    if let Some((start, factor)) = config.exponential_decay_length_penalty {
        let start = start.saturating_add_unsigned(prompt as u64);
        let eos = ids("eos_token_id", config.eos())?;
        list.push(Box::new(ExponentialDecay { start, factor, eos }));
    }
    if let Some(tokens) = &config.suppress_tokens {
        let tokens = ids("suppress_tokens", tokens)?;
        list.push(Box::new(Suppress { at: None, tokens }));
    }
    if let Some(tokens) = &config.begin_suppress_tokens {
        let mut begin = prompt;
        if prompt <= 1 && config.forced_bos_token_id.is_some() {
            begin = begin.saturating_add(1);
        }
        if let Some((last, _)) = config.forced_decoder_ids.as_ref().and_then(|forced| forced.last()) {
            begin = begin.saturating_add_signed(isize::try_from(*last).unwrap_or(isize::MAX));
        }
        let tokens = ids("begin_suppress_tokens", tokens)?;
        list.push(Box::new(Suppress { at: Some(begin), tokens }));
    }
    if let Some(forced) = &config.forced_decoder_ids {
        // The last pair of a length counts, as in a Python dict.
        let mut table = HashMap::new();
        for &(length, id) in forced {
            let token = id.map(|id| index("forced_decoder_ids", id, vocab)).transpose()?;
            table.insert(length, token);
        }
        list.push(Box::new(ForceTokens { table }));
    }
    list.extend(own);
    if config.renormalize_logits {
        list.push(Box::new(Renormalise));
    }
    Ok(list)
}

/// Runs processors one after the other over the scores.
pub(crate) fn run(list: &[Box<dyn LogitsProcessor>], step: &Step<'_>, scores: &mut Scores<'_>) -> Result<()> {
    list.iter().try_for_each(|processor| processor.apply(step, scores))
}
