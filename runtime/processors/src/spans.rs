//! The best answer spans of extractive question answering, as transformers' QuestionAnsweringPipeline scores them.
//! Tokenization and texts do not belong here.

use crate::labels::softmax;

/// A span of tokens and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenSpan {
    /// First token.
    pub first: usize,
    /// Last token.
    pub last: usize,
    /// Probability of the start times that of the end.
    pub score: f32,
}

/// The score that takes a token out of the softmax.
const MASKED: f32 = -10_000.0;

/// The best `k` spans of at most `max_tokens` tokens, best first.
///
/// `start` and `end` are one row of logits. `context` tells which tokens may be in an answer; `cls`, the place of the
/// classification token, takes part in the softmax but is no answer. As in the pipeline, spans are ranked first and
/// those that start or end outside the context dropped then, so there may be fewer than `k`; those of probability 0,
/// which the pipeline lists to make up the number, are dropped too.
pub fn best_spans(
    start: &[f32],
    end: &[f32],
    context: &[bool],
    cls: &[usize],
    k: usize,
    max_tokens: usize,
) -> Vec<TokenSpan> {
    let n = start.len().min(end.len()).min(context.len());
    let allowed: Vec<bool> = (0..n).map(|i| context.get(i) == Some(&true) || cls.contains(&i)).collect();
    let shares = |logits: &[f32]| {
        let masked: Vec<f32> =
            logits.iter().zip(&allowed).map(|(&x, &ok)| if ok { x } else { MASKED }).collect();
        let mut p = softmax(&masked);
        if let Some(first) = p.first_mut() {
            *first = 0.0;
        }
        p
    };
    let (starts, ends) = (shares(start), shares(end));
    let mut spans: Vec<TokenSpan> = Vec::new();
    for (first, &s) in starts.iter().enumerate() {
        for (last, &e) in ends.iter().enumerate().skip(first).take(max_tokens) {
            spans.push(TokenSpan { first, last, score: s * e });
        }
        // Keep the list short: what is not among the best k so far never will be.
        if spans.len() > k.saturating_mul(4).saturating_add(4096) {
            keep_best(&mut spans, k);
        }
    }
    keep_best(&mut spans, k);
    let inside = |i: usize| context.get(i) == Some(&true);
    spans.retain(|s| s.score > 0.0 && inside(s.first) && inside(s.last));
    spans
}

/// Sorts by score, earlier spans first among equals, and cuts.
fn keep_best(spans: &mut Vec<TokenSpan>, k: usize) {
    spans.sort_by(|a, b| b.score.total_cmp(&a.score));
    spans.truncate(k);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_run_forward_within_the_context() {
        let context = [false, false, true, true, true];
        let start = [9.0, 9.0, 1.0, 0.0, 4.0];
        let end = [9.0, 9.0, 3.0, 2.0, 0.0];
        let best = best_spans(&start, &end, &context, &[0], 1, 15);
        assert_eq!(best.len(), 1);
        // The best start is token 4, the best end token 2: backwards. Of the forward spans 4..4 wins here.
        assert!(best[0].first <= best[0].last && best[0].first >= 2, "{best:?}");
        let all = best_spans(&start, &end, &context, &[0], 100, 2);
        assert!(all.iter().all(|s| s.last - s.first < 2 && s.first >= 2));
        assert!(best_spans(&[], &[], &[], &[], 3, 5).is_empty());
    }
}
