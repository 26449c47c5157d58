//! The online softmax: turning a block of scores of one query into weights while a running maximum and sum
//! are kept, and the additions of bias and causal mask before it. No products belong here.

use super::numbers::Numbers;
use super::{Attention, Bias};
use crate::math;
use crate::simd::Simd;

/// What is known of a query's softmax so far.
#[derive(Clone, Copy)]
pub(super) struct State {
    /// Largest score.
    pub max: f32,
    /// Sum of exp(score - max).
    pub sum: f32,
}

impl State {
    pub(super) const START: State = State { max: f32::NEG_INFINITY, sum: 0.0 };
}

/// The place of a block of scores in the problem.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub batch: usize,
    pub head: usize,
    pub query: usize,
    /// First key of the block.
    pub key: usize,
    /// Keys in the block.
    pub keys: usize,
}

/// The keys that a query sees.
pub(super) fn visible(p: &Attention<'_>, query: usize) -> usize {
    let keys = p.extents.keys;
    p.causal.map_or(keys, |c| keys.min(query.saturating_add(1).saturating_add_signed(c.offset)))
}

/// Adds the biases, hides what the causal mask hides, sets the padding up to `padded` to minus infinity, and gives the
/// largest score.
/// # Safety
/// `scores` holds `padded >= at.keys` elements, `padded` a multiple of the vector's length.
#[inline(always)]
pub(super) unsafe fn mask<S: Simd>(
    s: S,
    p: &Attention<'_>,
    at: Place,
    scores: *mut f32,
    padded: usize,
) -> f32 {
    let seen = visible(p, at.query).saturating_sub(at.key).min(at.keys);
    let whole = seen / S::LANES * S::LANES;
    for bias in p.biases.iter().flatten() {
        // SAFETY: the whole bias was checked to reach every key of every query.
        unsafe { add_bias(s, bias, at, scores, whole, seen) };
    }
    let hidden = p.causal.map_or(f32::NEG_INFINITY, |c| c.hidden);
    for j in seen..padded {
        // SAFETY: j < padded.
        unsafe { *scores.add(j) = if j < at.keys { hidden } else { f32::NEG_INFINITY } };
    }
    let mut best = s.splat(f32::NEG_INFINITY);
    let mut j = 0;
    while j < padded {
        // SAFETY: j + LANES <= padded.
        best = s.max(best, unsafe { s.load(scores.add(j)) });
        j += S::LANES;
    }
    s.max_lane(best)
}

/// Adds a bias to the first `seen` scores, of which `whole` fill vectors.
/// # Safety
/// The bias reaches `at`, and `scores` holds `seen` elements.
#[inline(always)]
unsafe fn add_bias<S: Simd>(s: S, bias: &Bias<'_>, at: Place, scores: *mut f32, whole: usize, seen: usize) {
    let [b, h, q, k] = bias.strides;
    let start = at.batch * b + at.head * h + at.query * q + at.key * k;
    // SAFETY: start, plus at.keys - 1 when k is 1, lies inside the bias.
    unsafe {
        let from = bias.data.as_ptr().add(start);
        if k == 0 {
            let x = *from;
            (0..seen).for_each(|j| *scores.add(j) += x);
            return;
        }
        let mut j = 0;
        while j < whole {
            s.store(scores.add(j), s.add(s.load(scores.add(j)), s.load(from.add(j))));
            j += S::LANES;
        }
        let n = seen - whole;
        if n > 0 {
            let sum = s.add(s.load_part(scores.add(whole), n), s.load_part(from.add(whole), n));
            s.store_part(scores.add(whole), n, sum);
        }
    }
}

/// Replaces scores, of which `best` is the largest, by exp(score - maximum so far), in words from the first score's place
/// on, brings the state up to date, and gives the factor by which what was summed before must shrink. Rows of nothing but minus infinity keep weight 0 and
/// end as 0 / 0.
/// # Safety
/// `scores` holds `padded` elements, a multiple of the vector's length, rounded up to two vectors.
#[inline(always)]
pub(super) unsafe fn update<S: Simd, N: Numbers<S>>(
    s: S,
    state: &mut State,
    best: f32,
    scores: *mut f32,
    padded: usize,
) -> f32 {
    let max = if best > state.max { best } else { state.max };
    let base = if max == f32::NEG_INFINITY { 0.0 } else { max };
    let from = s.splat(base);
    let mut sum = s.zero();
    let mut j = 0;
    while j < padded {
        // SAFETY: j + LANES <= padded, and the second vector is read if it is there.
        let (first, second) = unsafe {
            let first = N::exp(s, s.sub(s.load(scores.add(j)), from));
            let there = j + S::LANES < padded;
            let second = if there { s.load(scores.add(j + S::LANES)) } else { s.splat(f32::NEG_INFINITY) };
            (first, N::exp(s, s.sub(second, from)))
        };
        sum = s.add(sum, s.add(first, second));
        // SAFETY: the words are not beyond the numbers that were read.
        unsafe { N::store(s, first, second, scores.add(j / N::A_WORD)) };
        j += 2 * S::LANES;
    }
    let shrink = if state.max == max && max > f32::NEG_INFINITY {
        1.0
    } else if state.max == f32::NEG_INFINITY {
        0.0
    } else {
        s.max_lane(math::exp(s, s.splat(state.max - base)))
    };
    state.sum = state.sum * shrink + s.sum(sum);
    state.max = max;
    shrink
}

/// How far the blocks of keys must go for queries that see up to `seen` keys: hidden keys matter only where
/// the hidden score is finite and no visible score is far above it.
pub(super) fn hidden_matters(p: &Attention<'_>, states: &[State]) -> bool {
    match p.causal {
        Some(c) if c.hidden > f32::NEG_INFINITY => {
            // exp(x) is 0 for x < -104, and this is far below.
            states.iter().any(|s| s.max <= c.hidden * 0.5)
        }
        _ => false,
    }
}
