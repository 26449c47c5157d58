//! The search loops: greedy search, sampling, beam search, beam sampling and group beam search over a
//! [`StepModel`], step for step as transformers 4.37.2 runs them. Rules about scores are in the processors and
//! warpers, rules about beams in `beam.rs`.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rand::RngCore;

use super::beam::{BeamScorer, Candidate};
use super::config::GenerationConfig;
use super::error::GenerateError;
use super::processors::{self, Group, LogitsProcessor, Scores, Step};
use super::sampler::Urn;
use super::{Mode, OnTokens, StepModel, numerics};

type Result<T> = std::result::Result<T, GenerateError>;

/// Transformers' start score of all beams but a group's first, which keeps them out of the first step.
const UNSTARTED: f32 = -1e9;

/// What a search is run with; the settings are checked and go together.
pub(crate) struct Search<'a> {
    pub config: &'a GenerationConfig,
    pub mode: Mode,
    pub max_length: usize,
    pub processors: Vec<Box<dyn LogitsProcessor>>,
    pub warpers: Vec<Box<dyn LogitsProcessor>>,
    pub deadline: Deadline,
}

/// The time limit of a generation.
pub(crate) struct Deadline {
    start: Instant,
    limit: Option<Duration>,
}

impl Deadline {
    /// A limit in seconds from now.
    pub fn new(seconds: Option<f64>) -> Deadline {
        // More seconds than a Duration can hold are no limit.
        let limit = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Deadline { start: Instant::now(), limit }
    }

    fn has_passed(&self) -> bool {
        self.limit.is_some_and(|limit| self.start.elapsed() > limit)
    }
}

/// The model with the scores of its last step.
struct Runner<'m, M: StepModel> {
    model: &'m mut M,
    vocab: usize,
    /// Rows that start from each prompt.
    copies: usize,
    step: usize,
    /// `[rows, vocab]`.
    scores: Vec<f32>,
}

impl<'m, M: StepModel> Runner<'m, M> {
    fn new(model: &'m mut M, prompts: usize, copies: usize) -> Result<Runner<'m, M>> {
        let vocab = model.vocab();
        let size = prompts.checked_mul(copies).and_then(|rows| rows.checked_mul(vocab));
        match size.filter(|size| isize::try_from(size.saturating_mul(size_of::<f32>())).is_ok()) {
            Some(size) if size > 0 => Ok(Runner { model, vocab, copies, step: 0, scores: vec![0.0; size] }),
            _ => Err(GenerateError::Input {
                what: "the request",
                reason: format!("{prompts} prompts x {copies} sequences x {vocab} tokens cannot be scored"),
            }),
        }
    }

    /// Feeds what the model has not seen of the sequences and leaves the logits in `scores`.
    fn advance(&mut self, sequences: &[Vec<i64>], parents: Option<&[usize]>) -> Result<()> {
        let length = sequences.first().map_or(0, Vec::len);
        if let Some(max) = self.model.max_positions().filter(|&max| length > max) {
            return Err(GenerateError::TooLong { length, max });
        }
        let copies = self.copies;
        let fork = copies > 1 && self.model.can_fork();
        let step = self.step;
        let failed = |source: M::Error| GenerateError::Model { step, source: source.into() };
        if step == 0 && fork {
            let rows: Vec<&Vec<i64>> = sequences.iter().step_by(copies).collect();
            let tokens: Vec<i64> = rows.iter().flat_map(|row| row.iter().copied()).collect();
            let mut logits = vec![0.0; rows.len().saturating_mul(self.vocab)];
            self.model.step(&tokens, rows.len(), None, &mut logits).map_err(failed)?;
            let copied = logits.chunks(self.vocab).flat_map(|row| std::iter::repeat_n(row, copies));
            for (target, source) in self.scores.chunks_mut(self.vocab).zip(copied) {
                target.copy_from_slice(source);
            }
        } else if step == 0 {
            let tokens: Vec<i64> = sequences.iter().flatten().copied().collect();
            self.model.step(&tokens, sequences.len(), None, &mut self.scores).map_err(failed)?;
        } else {
            let tokens: Vec<i64> = sequences.iter().filter_map(|row| row.last().copied()).collect();
            // After a prompt that was fed once for all copies, the copies part from its row.
            let forked: Option<Vec<usize>> = (fork && step == 1).then(|| match parents {
                Some(parents) => parents.iter().map(|parent| parent / copies).collect(),
                None => (0..sequences.len()).map(|row| row / copies).collect(),
            });
            let parents = forked.as_deref().or(parents);
            self.model.step(&tokens, sequences.len(), parents, &mut self.scores).map_err(failed)?;
        }
        self.step = step.saturating_add(1);
        Ok(())
    }
}

/// Greedy search (`greedy_search`) or sampling (`sample`): a row for each prompt and return sequence.
pub(crate) fn by_token<M: StepModel>(
    model: &mut M,
    search: &Search<'_>,
    prompt: &[Vec<i64>],
    rng: &mut impl RngCore,
    mut on_tokens: Option<OnTokens<'_>>,
) -> Result<(Vec<Vec<i64>>, usize)> {
    let config = search.config;
    let copies = if search.mode.samples() { config.num_return_sequences } else { 1 };
    let mut runner = Runner::new(model, prompt.len(), copies)?;
    let mut sequences = repeat(prompt, copies);
    let mut finished = vec![false; sequences.len()];
    let pad = config.pad().unwrap_or(0);
    loop {
        runner.advance(&sequences, None)?;
        let step = Step { sequences: &sequences, group: None };
        let mut scores = Scores::new(&mut runner.scores, runner.vocab);
        processors::run(&search.processors, &step, &mut scores)?;
        processors::run(&search.warpers, &step, &mut scores)?;

        let mut next = Vec::with_capacity(sequences.len());
        for (row, (scores, finished)) in scores.rows().zip(&mut finished).enumerate() {
            let choice = if search.mode.samples() {
                let place = Urn::new(scores).map(|mut urn| urn.draw(rng)).map_err(|empty| empty.what());
                let what = "nothing that is allowed";
                let refuse =
                    |what| GenerateError::NoDistribution { step: runner.step.saturating_sub(1), row, what };
                place.and_then(|place| place.ok_or(what)).map_err(refuse)?
            } else {
                numerics::argmax(scores)
            };
            let token = if *finished { pad } else { i64::try_from(choice).unwrap_or(i64::MAX) };
            *finished |= config.eos().contains(&token);
            next.push(token);
        }
        for (sequence, &token) in sequences.iter_mut().zip(&next) {
            sequence.push(token);
        }
        let stopped = on_tokens.as_mut().is_some_and(|call| call(&next) == ControlFlow::Break(()));
        let length = sequences.first().map_or(0, Vec::len);
        let all_finished = finished.iter().all(|&finished| finished);
        if stopped || all_finished || length >= search.max_length || search.deadline.has_passed() {
            return Ok((sequences, runner.step));
        }
    }
}

/// Sequences, their scores, and the number of steps taken.
pub(crate) type Beams = (Vec<Vec<i64>>, Vec<f32>, usize);

/// Beam search (`beam_search`), beam sampling (`beam_sample`) and group beam search (`group_beam_search`).
pub(crate) fn by_beams<M: StepModel>(
    model: &mut M,
    search: &Search<'_>,
    prompt: &[Vec<i64>],
    rng: &mut impl RngCore,
) -> Result<Beams> {
    let config = search.config;
    let (batch, beams) = (prompt.len(), config.num_beams);
    let mut runner = Runner::new(model, batch, beams)?;
    let mut sequences = repeat(prompt, beams);
    let prompt_length = prompt.first().map_or(0, Vec::len);
    let mut scorer = BeamScorer::new(config, batch, prompt_length, search.max_length);
    let size = scorer.group_size();
    let groups = if search.mode == Mode::GroupBeamSearch { config.num_beam_groups } else { 1 };
    let unstarted =
        |row: usize| if search.mode.samples() || row.is_multiple_of(size) { 0.0 } else { UNSTARTED };
    let mut beam_scores: Vec<f32> = (0..sequences.len()).map(unstarted).collect();
    let mut parents: Option<Vec<usize>> = None;
    loop {
        runner.advance(&sequences, parents.as_deref())?;
        runner.scores.chunks_mut(runner.vocab).for_each(numerics::log_softmax);
        let mut chosen = vec![0; sequences.len()];
        let mut reordered: Vec<usize> = (0..sequences.len()).collect();
        for group in 0..groups {
            let rows: Vec<usize> = (0..sequences.len()).filter(|row| (row % beams) / size == group).collect();
            let own: Vec<Vec<i64>> = rows.iter().filter_map(|&row| sequences.get(row).cloned()).collect();
            let mut scores: Vec<f32> = Vec::with_capacity(rows.len().saturating_mul(runner.vocab));
            for &row in &rows {
                scores.extend(runner.scores.chunks(runner.vocab).nth(row).unwrap_or_default());
            }
            let place = (groups > 1).then_some(Group { index: group, chosen: &chosen });
            let step = Step { sequences: &own, group: place };
            let mut view = Scores::new(&mut scores, runner.vocab);
            processors::run(&search.processors, &step, &mut view)?;
            processors::run(&search.warpers, &step, &mut view)?;
            for (row, scores) in rows.iter().zip(view.rows()) {
                let sum = beam_scores.get(*row).copied().unwrap_or(UNSTARTED);
                scores.iter_mut().for_each(|score| *score += sum);
            }
            let mut candidates = Vec::with_capacity(batch);
            for (item, scores) in scores.chunks(size.saturating_mul(runner.vocab)).enumerate() {
                let places = if search.mode.samples() {
                    let refuse = |what| {
                        let step = runner.step.saturating_sub(1);
                        GenerateError::NoDistribution { step, row: item.saturating_mul(beams), what }
                    };
                    drawn(scores, runner.vocab, config, rng).map_err(refuse)?
                } else {
                    // So many that enough remain if all ends of sequence are among them.
                    let count = config.eos().len().saturating_add(1).max(2).saturating_mul(size);
                    numerics::top(scores, count)
                };
                let candidate = |(score, place): (f32, usize)| Candidate {
                    score,
                    token: place % runner.vocab,
                    beam: place / runner.vocab,
                };
                candidates.push(places.into_iter().map(candidate).collect());
            }
            let next = scorer.advance(group, &own, &candidates, runner.vocab)?;
            for (((&row, score), token), parent) in
                rows.iter().zip(next.scores).zip(next.tokens).zip(next.parents)
            {
                set(&mut beam_scores, row, score);
                set(&mut chosen, row, token);
                set(&mut reordered, row, rows.get(parent).copied().unwrap_or(row));
            }
        }
        sequences = reordered
            .iter()
            .zip(chosen)
            .map(|(&parent, token)| {
                let mut sequence = sequences.get(parent).cloned().unwrap_or_default();
                sequence.push(token);
                sequence
            })
            .collect();
        parents = Some(reordered);
        let length = sequences.first().map_or(0, Vec::len);
        if scorer.is_done() || length >= search.max_length || search.deadline.has_passed() {
            let (sequences, scores) = scorer.finish(&sequences, &beam_scores);
            return Ok((sequences, scores, runner.step));
        }
    }
}

/// Candidates of an item drawn without returning any, best first: twice as many as beams, and more where too few
/// of them go on (transformers gives up there).
fn drawn(
    scores: &[f32],
    vocab: usize,
    config: &GenerationConfig,
    rng: &mut impl RngCore,
) -> std::result::Result<Vec<(f32, usize)>, &'static str> {
    let mut urn = Urn::new(scores).map_err(|empty| empty.what())?;
    let wanted = config.num_beams.saturating_mul(2);
    let goes_on = |place: usize| !config.eos().iter().any(|&eos| usize::try_from(eos) == Ok(place % vocab));
    let (mut places, mut going) = (Vec::with_capacity(wanted), 0usize);
    while places.len() < wanted || going < config.num_beams {
        let Some(place) = urn.draw(rng) else { break };
        places.push(place);
        going = going.saturating_add(usize::from(goes_on(place)));
    }
    if places.len() < wanted {
        // The rest has no probability left in float32: the best of it.
        let best = numerics::top(scores, wanted.saturating_add(places.len()));
        let rest: Vec<usize> =
            best.into_iter().map(|(_, place)| place).filter(|place| !places.contains(place)).collect();
        places.extend(rest.into_iter().take(wanted.saturating_sub(places.len())));
    }
    let mut candidates: Vec<(f32, usize)> =
        places.into_iter().filter_map(|place| Some((*scores.get(place)?, place))).collect();
    candidates.sort_by(|a, b| numerics::best_first(a.0, b.0));
    Ok(candidates)
}

/// Each row `copies` times in a row.
fn repeat(rows: &[Vec<i64>], copies: usize) -> Vec<Vec<i64>> {
    rows.iter().flat_map(|row| std::iter::repeat_n(row.clone(), copies)).collect()
}

fn set<T>(list: &mut [T], place: usize, value: T) {
    if let Some(slot) = list.get_mut(place) {
        *slot = value;
    }
}
