//! Logits warpers: the filters that narrow what may be sampled, in transformers' order (4.37.2,
//! `_get_logits_warper`). They run after the processors and only where tokens are drawn; the drawing itself is
//! in `sampler.rs`.

use super::config::GenerationConfig;
use super::error::GenerateError;
use super::numerics;
use super::processors::{LogitsProcessor, Scores, Step};
use super::rules::Renormalise;

/// One filter over a row of scores. At least `keep` tokens survive each.
struct Warper {
    rule: Rule,
    keep: usize,
}

enum Rule {
    Temperature(f32),
    TopK(usize),
    TopP(f32),
    Typical(f32),
    Epsilon(f32),
    Eta(f32),
}

/// The warpers that the settings ask for. Beams keep a token more than there are ends of sequence, so that
/// each beam can go on.
pub(crate) fn for_settings(config: &GenerationConfig) -> Vec<Box<dyn LogitsProcessor>> {
    let ends = config.eos_token_id.as_ref().map_or(1, Vec::len);
    let keep = if config.num_beams > 1 { ends.saturating_add(1) } else { 1 };
    let within = |cutoff: f64| cutoff > 0.0 && cutoff < 1.0;
    let rules = [
        (config.temperature != 1.0, Rule::Temperature(config.temperature as f32)),
        (config.top_k != 0, Rule::TopK(config.top_k)),
        (config.top_p < 1.0, Rule::TopP((1.0 - config.top_p) as f32)),
        (config.typical_p < 1.0, Rule::Typical(config.typical_p as f32)),
        (within(config.epsilon_cutoff), Rule::Epsilon(config.epsilon_cutoff as f32)),
        (within(config.eta_cutoff), Rule::Eta(config.eta_cutoff as f32)),
    ];
    let mut list: Vec<Box<dyn LogitsProcessor>> = Vec::new();
    for (_, rule) in rules.into_iter().filter(|(wanted, _)| *wanted) {
        list.push(Box::new(Warper { rule, keep }));
    }
    if config.renormalize_logits {
        list.push(Box::new(Renormalise));
    }
    list
}

impl LogitsProcessor for Warper {
    fn apply(&self, _: &Step<'_>, scores: &mut Scores<'_>) -> Result<(), GenerateError> {
        for row in scores.rows() {
            match self.rule {
                Rule::Temperature(temperature) => row.iter_mut().for_each(|score| *score /= temperature),
                Rule::TopK(count) => top_k(row, count.max(self.keep)),
                Rule::TopP(tail) => top_p(row, tail, self.keep),
                Rule::Typical(mass) => typical(row, mass, self.keep),
                Rule::Epsilon(cutoff) => least_probability(row, cutoff, self.keep),
                Rule::Eta(epsilon) => {
                    let cutoff = epsilon.min(epsilon.sqrt() * (-numerics::entropy(row)).exp());
                    least_probability(row, cutoff, self.keep);
                }
            }
        }
        Ok(())
    }
}

/// Forbids tokens below the `count`-th best; equals of that one stay.
fn top_k(row: &mut [f32], count: usize) {
    if let Some(least) = numerics::ranked(row, count) {
        row.iter_mut().filter(|score| **score < least).for_each(|score| *score = f32::NEG_INFINITY);
    }
}

/// Forbids the least probable tokens that together have at most `tail` probability (arXiv:1904.09751).
fn top_p(row: &mut [f32], tail: f32, keep: usize) {
    // Forbidden tokens have no probability and stay forbidden: they need no place in the order.
    let probabilities = numerics::softmax(row);
    let mut order = allowed(row);
    order.sort_by(|&a, &b| numerics::best_first(at(row, b), at(row, a)));
    let mut cumulative = 0.0f64;
    let droppable = order.len().saturating_sub(keep);
    let mut dropped = Vec::new();
    for &token in order.iter().take(droppable) {
        cumulative += f64::from(at(&probabilities, token));
        if cumulative as f32 <= tail {
            dropped.push(token);
        }
    }
    forbid(row, &dropped);
}

/// Keeps the tokens whose information is closest to the entropy, with `mass` probability (arXiv:2202.00666).
fn typical(row: &mut [f32], mass: f32, keep: usize) {
    let probabilities = numerics::softmax(row);
    let entropy = numerics::entropy(row);
    let mut shifted = row.to_vec();
    numerics::log_softmax(&mut shifted);
    shifted.iter_mut().for_each(|x| *x = (-*x - entropy).abs());
    let mut order = allowed(row);
    order.sort_by(|&a, &b| numerics::best_first(at(&shifted, b), at(&shifted, a)));
    let mut cumulative = 0.0f64;
    let below = order.iter().filter(|&&token| {
        cumulative += f64::from(at(&probabilities, token));
        (cumulative as f32) < mass
    });
    let last = below.count().min(order.len().saturating_sub(1));
    let Some(limit) = order.get(last).map(|&token| at(&shifted, token)) else { return };
    let dropped: Vec<usize> =
        order.iter().skip(keep).copied().filter(|&token| at(&shifted, token) > limit).collect();
    forbid(row, &dropped);
}

/// Forbids tokens less probable than `cutoff`, but for the `keep` best (arXiv:2210.15191).
fn least_probability(row: &mut [f32], cutoff: f32, keep: usize) {
    let probabilities = numerics::softmax(row);
    let Some(least) = numerics::ranked(row, keep) else { return };
    for (score, probability) in row.iter_mut().zip(probabilities) {
        if probability < cutoff && *score < least {
            *score = f32::NEG_INFINITY;
        }
    }
}

/// The tokens that are not forbidden, in order.
fn allowed(row: &[f32]) -> Vec<usize> {
    let scores = row.iter().enumerate();
    scores.filter(|(_, score)| **score != f32::NEG_INFINITY).map(|(token, _)| token).collect()
}

fn at(row: &[f32], token: usize) -> f32 {
    row.get(token).copied().unwrap_or(f32::NEG_INFINITY)
}

fn forbid(row: &mut [f32], tokens: &[usize]) {
    for &token in tokens {
        if let Some(score) = row.get_mut(token) {
            *score = f32::NEG_INFINITY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: f32 = f32::NEG_INFINITY;

    fn logs(probabilities: &[f32]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln()).collect()
    }

    fn kept(row: &[f32]) -> Vec<usize> {
        allowed(row)
    }

    #[test]
    fn top_k_keeps_equals_of_the_last() {
        let mut row = [1.0, 3.0, 2.0, 2.0, 0.0];
        top_k(&mut row, 2);
        assert_eq!(row, [NO, 3.0, 2.0, 2.0, NO]);
        top_k(&mut row, 99);
        assert_eq!(row, [NO, 3.0, 2.0, 2.0, NO]);
        top_k(&mut [], 1);
    }

    #[test]
    fn top_p_keeps_the_smallest_sufficient_set() {
        let mut row = logs(&[0.5, 0.3, 0.15, 0.05]);
        top_p(&mut row, 0.25, 1);
        assert_eq!(kept(&row), [0, 1]);
        let mut row = logs(&[0.5, 0.3, 0.15, 0.05]);
        top_p(&mut row, 1.0, 3);
        assert_eq!(kept(&row), [0, 1, 2]);
        let mut row = [NO, NO];
        top_p(&mut row, 0.5, 1);
        assert_eq!(row, [NO, NO]);
    }

    #[test]
    fn typical_prefers_tokens_near_the_entropy() {
        // Entropy 1.14 nats: the token of probability 0.25 (1.39 nats) is closer to it than the first.
        let mut row = logs(&[0.5, 0.25, 0.125, 0.125]);
        typical(&mut row, 0.2, 1);
        assert_eq!(kept(&row), [1]);
        let mut row = logs(&[0.5, 0.25, 0.125, 0.125]);
        typical(&mut row, 0.6, 1);
        assert_eq!(kept(&row), [0, 1]);
        typical(&mut [], 0.2, 1);
    }

    #[test]
    fn cutoffs_spare_the_best() {
        let mut row = logs(&[0.6, 0.3, 0.1]);
        least_probability(&mut row, 0.2, 1);
        assert_eq!(kept(&row), [0, 1]);
        let mut row = logs(&[0.6, 0.3, 0.1]);
        least_probability(&mut row, 0.9, 2);
        assert_eq!(kept(&row), [0, 1]);
    }

    #[test]
    fn beams_keep_one_more_than_the_ends() {
        let mut config = GenerationConfig { num_beams: 2, top_k: 1, ..GenerationConfig::default() };
        config.eos_token_id = Some(vec![0, 1]);
        let mut data = vec![4.0, 3.0, 2.0, 1.0];
        for warper in for_settings(&config) {
            let step = Step { sequences: &[], group: None };
            warper.apply(&step, &mut Scores::new(&mut data, 4)).unwrap();
        }
        assert_eq!(kept(&data), [0, 1, 2]);
    }
}
