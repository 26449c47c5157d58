//! Beam bookkeeping: which candidates go on, which are complete hypotheses, when a batch item is done and what
//! is returned, as transformers 4.37.2's `BeamSearchScorer` and `BeamHypotheses` have it. No model, no scores of
//! a vocabulary and no processor here.

use super::config::{EarlyStopping, GenerationConfig};
use super::error::GenerateError;

/// A possible continuation of a beam.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    /// Sum of log-probabilities, this token's included.
    pub score: f32,
    /// The token.
    pub token: usize,
    /// The beam it continues, counted within its batch item and group.
    pub beam: usize,
}

/// The beams of one group after a step, a row each, item after item.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Survivors {
    pub scores: Vec<f32>,
    pub tokens: Vec<i64>,
    /// The row, among the group's rows, that each continues.
    pub parents: Vec<usize>,
}

/// A complete sequence without its end-of-sequence token.
#[derive(Debug, Clone, PartialEq)]
struct Hypothesis {
    /// Sum of log-probabilities divided by the generated length to the power of `length_penalty`.
    score: f64,
    tokens: Vec<i64>,
}

/// The best complete hypotheses of one batch item and group.
#[derive(Debug)]
struct Hypotheses {
    kept: Vec<Hypothesis>,
    worst: f64,
    done: bool,
}

impl Hypotheses {
    fn new() -> Hypotheses {
        // Transformers' start value: above any normalised log-probability.
        Hypotheses { kept: Vec::new(), worst: 1e9, done: false }
    }

    fn add(&mut self, tokens: &[i64], score: f64, capacity: usize) {
        let better = score > self.worst;
        if self.kept.len() >= capacity && !better {
            return;
        }
        self.kept.push(Hypothesis { score, tokens: tokens.to_vec() });
        if self.kept.len() <= capacity {
            self.worst = score.min(self.worst);
            return;
        }
        let scores = || self.kept.iter().map(|hypothesis| hypothesis.score);
        let lowest = scores().enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(place, _)| place);
        self.kept.remove(lowest);
        self.worst =
            self.kept.iter().map(|hypothesis| hypothesis.score).min_by(f64::total_cmp).unwrap_or(1e9);
    }
}

/// The hypotheses of a whole batch, and the rules they are kept by.
#[derive(Debug)]
pub(crate) struct BeamScorer<'a> {
    config: &'a GenerationConfig,
    prompt: usize,
    max_length: usize,
    /// Item after item, its groups in order.
    hypotheses: Vec<Hypotheses>,
}

impl<'a> BeamScorer<'a> {
    /// No hypotheses yet for `batch` items with prompts of `prompt` tokens, which grow to `max_length` at most.
    pub fn new(
        config: &'a GenerationConfig,
        batch: usize,
        prompt: usize,
        max_length: usize,
    ) -> BeamScorer<'a> {
        let count = batch.saturating_mul(config.num_beam_groups);
        BeamScorer { config, prompt, max_length, hypotheses: (0..count).map(|_| Hypotheses::new()).collect() }
    }

    /// Beams in a group.
    pub fn group_size(&self) -> usize {
        (self.config.num_beams / self.config.num_beam_groups.max(1)).max(1)
    }

    /// Whether no item can gain a better hypothesis.
    pub fn is_done(&self) -> bool {
        self.hypotheses.iter().all(|hypotheses| hypotheses.done)
    }

    /// Sorts a step's candidates of one group into complete hypotheses and survivors.
    ///
    /// `sequences` are the group's rows before the step; `candidates` holds each item's, best first.
    ///
    /// # Errors
    /// [`GenerateError::TooFewCandidates`] when the candidates that are not end-of-sequence cannot fill the
    /// beams.
    pub fn advance(
        &mut self,
        group: usize,
        sequences: &[Vec<i64>],
        candidates: &[Vec<Candidate>],
        vocab: usize,
    ) -> Result<Survivors, GenerateError> {
        let size = self.group_size();
        let length = sequences.first().map_or(0, Vec::len).saturating_add(1);
        let generated = length.saturating_sub(self.prompt);
        let mut survivors = Survivors::default();
        for (item, candidates) in candidates.iter().enumerate() {
            let first = item.saturating_mul(size);
            let config = self.config;
            let place = item.saturating_mul(config.num_beam_groups).saturating_add(group);
            let Some(hypotheses) = self.hypotheses.get_mut(place) else { continue };
            if hypotheses.done {
                // The rows only fill the batch; nothing of them is read again.
                survivors.scores.extend(std::iter::repeat_n(0.0, size));
                survivors.tokens.extend(std::iter::repeat_n(config.pad().unwrap_or(0), size));
                survivors.parents.extend(first..first.saturating_add(size));
                continue;
            }
            let mut filled = 0;
            for (rank, candidate) in candidates.iter().enumerate() {
                let parent = first.saturating_add(candidate.beam);
                let token = i64::try_from(candidate.token).unwrap_or(i64::MAX);
                if config.eos().contains(&token) {
                    // An end that did not make it into the best `size` is no hypothesis.
                    if let Some(sequence) = sequences.get(parent).filter(|_| rank < size) {
                        let score = normalised(candidate.score, generated, config.length_penalty);
                        hypotheses.add(sequence, score, size);
                    }
                    continue;
                }
                survivors.scores.push(candidate.score);
                survivors.tokens.push(token);
                survivors.parents.push(parent);
                filled += 1;
                if filled == size {
                    break;
                }
            }
            if filled < size {
                let (step, needed) = (generated.saturating_sub(1), size);
                return Err(GenerateError::TooFewCandidates { step, item, needed, found: filled, vocab });
            }
            let best = candidates.first().map_or(f32::NEG_INFINITY, |candidate| candidate.score);
            hypotheses.done = hypotheses.kept.len() >= size
                && match config.early_stopping {
                    EarlyStopping::Always => true,
                    EarlyStopping::Heuristic => {
                        hypotheses.worst >= normalised(best, generated, config.length_penalty)
                    }
                    EarlyStopping::Never => {
                        // With a positive exponent the longest sequence has the best score still attainable.
                        let longest = self.max_length.saturating_sub(self.prompt);
                        let length = if config.length_penalty > 0.0 { longest } else { generated };
                        hypotheses.worst >= normalised(best, length, config.length_penalty)
                    }
                };
        }
        Ok(survivors)
    }

    /// The best `num_return_sequences` sequences of each item with their scores, best first, all of one length.
    ///
    /// The beams of items that are not done become hypotheses first: `sequences` and `scores`, a row for each of
    /// `num_beams` beams of each item. A sequence shorter than the longest gets one end-of-sequence token, then
    /// padding.
    pub fn finish(mut self, sequences: &[Vec<i64>], scores: &[f32]) -> (Vec<Vec<i64>>, Vec<f32>) {
        let (config, size) = (self.config, self.group_size());
        let beams = sequences.chunks(size).zip(scores.chunks(size));
        for (hypotheses, (sequences, scores)) in self.hypotheses.iter_mut().zip(beams) {
            if hypotheses.done {
                continue;
            }
            for (sequence, &score) in sequences.iter().zip(scores) {
                let generated = sequence.len().saturating_sub(self.prompt);
                hypotheses.add(sequence, normalised(score, generated, config.length_penalty), size);
            }
        }
        let mut best: Vec<&Hypothesis> = Vec::new();
        for item in self.hypotheses.chunks(config.num_beam_groups.max(1)) {
            let mut all: Vec<&Hypothesis> = item.iter().flat_map(|hypotheses| &hypotheses.kept).collect();
            // Among equals the one found last comes first, as transformers takes them from the end.
            all.sort_by(|a, b| a.score.total_cmp(&b.score));
            best.extend(all.into_iter().rev().take(config.num_return_sequences));
        }
        let longest = best.iter().map(|hypothesis| hypothesis.tokens.len()).max().unwrap_or(0);
        let width = match config.eos() {
            [] => longest,
            _ => longest.saturating_add(1).min(self.max_length),
        };
        let fill = config.pad().unwrap_or(0);
        let rows = best.iter().map(|hypothesis| {
            let mut row = hypothesis.tokens.clone();
            if row.len() < width {
                row.extend(config.eos().first());
                row.resize(width, fill);
            }
            row
        });
        (rows.collect(), best.iter().map(|hypothesis| hypothesis.score as f32).collect())
    }
}

/// A sum of log-probabilities over `length` generated tokens, made comparable across lengths.
fn normalised(sum: f32, length: usize, penalty: f64) -> f64 {
    f64::from(sum) / (length as f64).powf(penalty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(early_stopping: EarlyStopping) -> GenerationConfig {
        let eos_token_id = Some(vec![9]);
        GenerationConfig { num_beams: 2, early_stopping, eos_token_id, ..GenerationConfig::default() }
    }

    fn candidate(score: f32, token: usize, beam: usize) -> Candidate {
        Candidate { score, token, beam }
    }

    #[test]
    fn ends_of_low_rank_are_no_hypotheses() {
        let config = config(EarlyStopping::Always);
        let mut scorer = BeamScorer::new(&config, 1, 1, 10);
        let sequences = vec![vec![1, 5], vec![1, 6]];
        let candidates =
            [candidate(-1.0, 9, 1), candidate(-2.0, 3, 0), candidate(-2.5, 9, 0), candidate(-3.0, 4, 1)];
        let next = scorer.advance(0, &sequences, &[candidates.to_vec()], 10).unwrap();
        assert_eq!(next, Survivors { scores: vec![-2.0, -3.0], tokens: vec![3, 4], parents: vec![0, 1] });
        assert!(!scorer.is_done());
        let (rows, scores) = scorer.finish(&[vec![1, 5, 3], vec![1, 6, 4]], &next.scores);
        // -1.0 over two generated tokens (the end counts) beats -2.0 over two.
        assert_eq!((rows, scores), (vec![vec![1, 6, 9]], vec![-0.5]));
    }

    #[test]
    fn early_stopping_decides_when_enough_hypotheses_are_enough() {
        for (early_stopping, penalty, done) in [
            (EarlyStopping::Always, 1.0, true),
            (EarlyStopping::Heuristic, 1.0, false),
            (EarlyStopping::Heuristic, 0.0, false),
            (EarlyStopping::Never, 1.0, false),
        ] {
            let config = GenerationConfig { length_penalty: penalty, ..config(early_stopping) };
            let mut scorer = BeamScorer::new(&config, 1, 1, 10);
            let ends = vec![
                candidate(-1.0, 9, 0),
                candidate(-1.5, 9, 1),
                candidate(-2.0, 3, 0),
                candidate(-2.0, 4, 0),
            ];
            scorer.advance(0, &[vec![1], vec![1]], &[ends], 10).unwrap();
            assert_eq!(scorer.is_done(), done, "{early_stopping:?} {penalty}");
        }
        // The best running beam is worse than both hypotheses: the heuristic stops, "never" sees a way while a
        // longer sequence may still average better.
        let candidates = vec![candidate(-4.0, 3, 0), candidate(-4.5, 4, 1)];
        for (early_stopping, done) in [(EarlyStopping::Heuristic, true), (EarlyStopping::Never, false)] {
            let config = config(early_stopping);
            let mut scorer = BeamScorer::new(&config, 1, 1, 10);
            let ends = vec![
                candidate(-1.0, 9, 0),
                candidate(-1.5, 9, 1),
                candidate(-2.0, 3, 0),
                candidate(-2.0, 4, 0),
            ];
            scorer.advance(0, &[vec![1], vec![1]], &[ends], 10).unwrap();
            scorer.advance(0, &[vec![1, 3], vec![1, 4]], std::slice::from_ref(&candidates), 10).unwrap();
            assert_eq!(scorer.is_done(), done, "{early_stopping:?}");
        }
    }

    #[test]
    fn too_few_candidates_are_an_error() {
        let config = config(EarlyStopping::Always);
        let mut scorer = BeamScorer::new(&config, 1, 1, 10);
        let error = scorer.advance(0, &[vec![1], vec![1]], &[vec![candidate(-1.0, 9, 0)]], 10).unwrap_err();
        assert!(
            matches!(error, GenerateError::TooFewCandidates { item: 0, needed: 2, found: 0, .. }),
            "{error}"
        );
    }

    #[test]
    fn shorter_sequences_end_once_and_are_padded() {
        let config = GenerationConfig {
            num_return_sequences: 2,
            pad_token_id: Some(0),
            ..config(EarlyStopping::Heuristic)
        };
        let mut scorer = BeamScorer::new(&config, 1, 1, 4);
        let ends = vec![candidate(-0.1, 9, 0), candidate(-2.0, 3, 0), candidate(-2.5, 4, 0)];
        scorer.advance(0, &[vec![1], vec![1]], &[ends], 10).unwrap();
        let (rows, _) = scorer.finish(&[vec![1, 3, 5, 6], vec![1, 4, 5, 6]], &[-3.0, -9.0]);
        assert_eq!(rows, [vec![1, 9, 0, 0], vec![1, 3, 5, 6]]);
    }

    #[test]
    fn not_a_number_breaks_nothing() {
        let config = config(EarlyStopping::Heuristic);
        let mut scorer = BeamScorer::new(&config, 1, 1, 4);
        let ends = vec![candidate(f32::NAN, 9, 0), candidate(f32::NAN, 3, 0), candidate(f32::NAN, 4, 0)];
        scorer.advance(0, &[vec![1], vec![1]], &[ends], 10).unwrap();
        let (rows, _) = scorer.finish(&[vec![1, 3], vec![1, 4]], &[f32::NAN, f32::NAN]);
        assert_eq!(rows.len(), 1);
    }
}
