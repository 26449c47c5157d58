//! The processors' rules, one type each, as generation/logits_process.py of transformers 4.37.2 has them. Which
//! of them run, in what order and with which numbers, is decided in `processors.rs`.

use std::collections::HashMap;

use super::error::GenerateError;
use super::numerics;
use super::processors::{LogitsProcessor, Scores, Step};

type Result<T> = std::result::Result<T, GenerateError>;

/// The place of a token's score in a row.
pub(crate) fn index(what: &'static str, id: i64, vocab: usize) -> Result<usize> {
    let place = usize::try_from(id).ok().filter(|&place| place < vocab);
    place.ok_or(GenerateError::TokenRange { what, id, vocab })
}

fn forbid(row: &mut [f32], tokens: impl IntoIterator<Item = usize>) {
    for token in tokens {
        if let Some(score) = row.get_mut(token) {
            *score = f32::NEG_INFINITY;
        }
    }
}

/// Allows some tokens alone, with score 0.
fn force(row: &mut [f32], tokens: &[usize]) {
    row.fill(f32::NEG_INFINITY);
    for &token in tokens {
        if let Some(score) = row.get_mut(token) {
            *score = 0.0;
        }
    }
}

/// Moves the scores of distinct tokens away from "likely" by a factor (arXiv:1909.05858).
fn penalise(row: &mut [f32], mut tokens: Vec<usize>, penalty: f32) {
    tokens.sort_unstable();
    tokens.dedup();
    for token in tokens {
        if let Some(score) = row.get_mut(token) {
            *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
        }
    }
}

pub(crate) struct RepetitionPenalty {
    pub(crate) penalty: f32,
}

impl LogitsProcessor for RepetitionPenalty {
    fn apply(&self, step: &Step<'_>, scores: &mut Scores<'_>) -> Result<()> {
        let vocab = scores.vocab();
        for (row, sequence) in scores.rows().zip(step.sequences) {
            let tokens = sequence.iter().map(|&id| index("the sequences (repetition_penalty)", id, vocab));
            penalise(row, tokens.collect::<Result<_>>()?, self.penalty);
        }
        Ok(())
    }
}

/// Transformers penalises only as many rows as the encoder has, the first ones, even when beams or several
/// return sequences have made them more. Kept, so that the tokens are the same.
pub(crate) struct EncoderRepetitionPenalty {
    pub(crate) penalty: f32,
    pub(crate) tokens: Vec<Vec<usize>>,
}

impl LogitsProcessor for EncoderRepetitionPenalty {
    fn apply(&self, _: &Step<'_>, scores: &mut Scores<'_>) -> Result<()> {
        for (row, tokens) in scores.rows().zip(&self.tokens) {
            penalise(row, tokens.clone(), self.penalty);
        }
        Ok(())
    }
}

/// What followed each token sequence of `size - 1` tokens.
pub(crate) fn ngrams(sequence: &[i64], size: usize) -> HashMap<Vec<i64>, Vec<i64>> {
    let mut followers: HashMap<Vec<i64>, Vec<i64>> = HashMap::new();
    for window in sequence.windows(size) {
        if let Some((last, start)) = window.split_last() {
            followers.entry(start.to_vec()).or_default().push(*last);
        }
    }
    followers
}

pub(crate) struct NoRepeatNgram {
    pub(crate) size: usize,
}

impl LogitsProcessor for NoRepeatNgram {
    fn apply(&self, step: &Step<'_>, scores: &mut Scores<'_>) -> Result<()> {
        let vocab = scores.vocab();
        for (row, sequence) in scores.rows().zip(step.sequences) {
            let Some(tail) = sequence.len().checked_sub(self.size - 1).and_then(|at| sequence.get(at..))
            else {
                continue;
            };
            for window in sequence.windows(self.size) {
                if let Some((&last, start)) = window.split_last()
                    && start == tail
                {
                    forbid(row, [index("the sequences (no_repeat_ngram_size)", last, vocab)?]);
                }
            }
        }
        Ok(())
    }
}

pub(crate) struct EncoderNoRepeatNgram {
    pub(crate) size: usize,
    pub(crate) followers: Vec<HashMap<Vec<i64>, Vec<i64>>>,
}

impl LogitsProcessor for EncoderNoRepeatNgram {
    fn apply(&self, step: &Step<'_>, scores: &mut Scores<'_>) -> Result<()> {
        let vocab = scores.vocab();
        let copies = (step.sequences.len() / self.followers.len().max(1)).max(1);
        for (number, (row, sequence)) in scores.rows().zip(step.sequences).enumerate() {
            let tail = sequence.len().checked_sub(self.size - 1).and_then(|at| sequence.get(at..));
            let followers = self.followers.get(number / copies);
            if let Some(banned) = tail.zip(followers).and_then(|(tail, followers)| followers.get(tail)) {
                for &id in banned {
                    forbid(row, [index("the encoder's input (encoder_no_repeat_ngram_size)", id, vocab)?]);
                }
            }
        }
        Ok(())
    }
}

/// Adds to the score of the token that would complete a sequence; bad words are a bias of minus infinity.
pub(crate) struct SequenceBias {
    /// For each biased sequence its start, its last token and the bias; sequences differ from each other.
    pub(crate) entries: Vec<(Vec<i64>, usize, f32)>,
}

impl SequenceBias {
    pub(crate) fn new(key: &'static str, bias: &[(Vec<i64>, f64)], vocab: usize) -> Result<SequenceBias> {
        let mut entries: Vec<(Vec<i64>, usize, f32)> = Vec::with_capacity(bias.len());
        for (sequence, bias) in bias {
            let last = sequence.iter().try_fold(0, |_, &id| index(key, id, vocab))?;
            let start = sequence.get(..sequence.len().saturating_sub(1)).unwrap_or_default();
            match entries.iter_mut().find(|entry| entry.0 == start && entry.1 == last) {
                Some(entry) => entry.2 = *bias as f32,
                None => entries.push((start.to_vec(), last, *bias as f32)),
            }
        }
        // Single tokens come first into the sum.
        entries.sort_by_key(|entry| !entry.0.is_empty());
        Ok(SequenceBias { entries })
    }
}

impl LogitsProcessor for SequenceBias {
    fn apply(&self, step: &Step<'_>, scores: &mut Scores<'_>) -> Result<()> {
        let mut sums: Vec<(usize, f32)> = Vec::new();
        for (row, sequence) in scores.rows().zip(step.sequences) {
            sums.clear();
            for (start, last, bias) in &self.entries {
                // A sequence with as many tokens as there are so far may be completed, a longer one not.
                let matches = start.is_empty() || (start.len() < sequence.len() && sequence.ends_with(start));
                if matches {
                    match sums.iter_mut().find(|(token, _)| token == last) {
                        Some((_, sum)) => *sum += bias,
                        None => sums.push((*last, *bias)),
                    }
                }
            }
            for &(token, bias) in &sums {
                if let Some(score) = row.get_mut(token) {
                    *score += bias;
                }
            }
        }
        Ok(())
    }
}

/// Keeps a group away from the tokens that earlier groups chose at this step (arXiv:1610.02424).
pub(crate) struct HammingDiversity {
    pub(crate) penalty: f32,
    pub(crate) beams: usize,
    pub(crate) groups: usize,
}

impl LogitsProcessor for HammingDiversity {
    fn apply(&self, step: &Step<'_>, scores: &mut Scores<'_>) -> Result<()> {
        let Some(group) = step.group else { return Ok(()) };
        let vocab = scores.vocab();
        let size = (self.beams / self.groups.max(1)).max(1);
        let earlier = group.index.saturating_mul(size);
        for (number, row) in scores.rows().enumerate() {
            let item = (number / size).saturating_mul(self.beams);
            let chosen = group.chosen.get(item..).and_then(|rest| rest.get(..earlier)).unwrap_or_default();
            let mut counts: Vec<(usize, f32)> = Vec::with_capacity(earlier);
            for &id in chosen {
                let token = index("the sequences (diversity_penalty)", id, vocab)?;
                match counts.iter_mut().find(|(other, _)| *other == token) {
                    Some((_, count)) => *count += 1.0,
                    None => counts.push((token, 1.0)),
                }
            }
            for (token, count) in counts {
                if let Some(score) = row.get_mut(token) {
                    *score -= self.penalty * count;
                }
            }
        }
        Ok(())
    }
}

/// Forbids tokens (end-of-sequence) while the sequences are shorter than a length.
pub(crate) struct ForbidBefore {
    pub(crate) length: usize,
    pub(crate) tokens: Vec<usize>,
}

impl LogitsProcessor for ForbidBefore {
    fn apply(&self, step: &Step<'_>, scores: &mut Scores<'_>) -> Result<()> {
        if step.length() < self.length {
            scores.rows().for_each(|row| forbid(row, self.tokens.iter().copied()));
        }
        Ok(())
    }
}

/// Forces one of some tokens when the sequences have reached a length.
pub(crate) struct ForceAt {
    pub(crate) length: Option<usize>,
    pub(crate) tokens: Vec<usize>,
}

impl LogitsProcessor for ForceAt {
    fn apply(&self, step: &Step<'_>, scores: &mut Scores<'_>) -> Result<()> {
        if Some(step.length()) == self.length {
            scores.rows().for_each(|row| force(row, &self.tokens));
        }
        Ok(())
    }
}

pub(crate) struct RemoveInvalid;

impl LogitsProcessor for RemoveInvalid {
    fn apply(&self, _: &Step<'_>, scores: &mut Scores<'_>) -> Result<()> {
        for score in scores.rows().flatten() {
            *score = if score.is_nan() { 0.0 } else { score.clamp(f32::MIN, f32::MAX) };
        }
        Ok(())
    }
}

/// Makes end-of-sequence exponentially likelier after a length.
pub(crate) struct ExponentialDecay {
    pub(crate) start: i64,
    pub(crate) factor: f64,
    pub(crate) eos: Vec<usize>,
}

impl LogitsProcessor for ExponentialDecay {
    fn apply(&self, step: &Step<'_>, scores: &mut Scores<'_>) -> Result<()> {
        let beyond = i64::try_from(step.length()).unwrap_or(i64::MAX).saturating_sub(self.start);
        if beyond > 0 {
            let growth = (self.factor.powf(beyond as f64) - 1.0) as f32;
            for row in scores.rows() {
                for &token in &self.eos {
                    if let Some(score) = row.get_mut(token) {
                        *score += score.abs() * growth;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Forbids tokens, always or at one length.
pub(crate) struct Suppress {
    pub(crate) at: Option<usize>,
    pub(crate) tokens: Vec<usize>,
}

impl LogitsProcessor for Suppress {
    fn apply(&self, step: &Step<'_>, scores: &mut Scores<'_>) -> Result<()> {
        if self.at.is_none_or(|at| at == step.length()) {
            scores.rows().for_each(|row| forbid(row, self.tokens.iter().copied()));
        }
        Ok(())
    }
}

/// Forces a token at each of some lengths; a length may be named without a token.
pub(crate) struct ForceTokens {
    pub(crate) table: HashMap<i64, Option<usize>>,
}

impl LogitsProcessor for ForceTokens {
    fn apply(&self, step: &Step<'_>, scores: &mut Scores<'_>) -> Result<()> {
        let length = i64::try_from(step.length()).unwrap_or(i64::MAX);
        if let Some(token) = self.table.get(&length).copied().flatten() {
            scores.rows().for_each(|row| force(row, &[token]));
        }
        Ok(())
    }
}

/// Takes the log-softmax of each row again.
pub(crate) struct Renormalise;

impl LogitsProcessor for Renormalise {
    fn apply(&self, _: &Step<'_>, scores: &mut Scores<'_>) -> Result<()> {
        scores.rows().for_each(numerics::log_softmax);
        Ok(())
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
