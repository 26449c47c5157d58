//! Float32 arithmetic over one row of scores: softmax, log-softmax, entropy, arg-max, top-k selection.
//! Rows follow torch's float32 operators (same order of operations, sums kept in f64 so that no order of
//! summation is favoured). Nothing here may know a token, a sequence or a setting.

use std::cmp::Ordering;

/// Torch's order of scores, best first: NaN above everything, then greater before smaller.
pub(crate) fn best_first(a: f32, b: f32) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
    }
}

/// The greatest score, NaN ignored; negative infinity for an empty row.
fn max(row: &[f32]) -> f32 {
    row.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// The sum of `exp(x - max)`, accumulated in f64.
fn exp_sum(row: &[f32], max: f32) -> f32 {
    row.iter().map(|&x| f64::from((x - max).exp())).sum::<f64>() as f32
}

/// Replaces a row by its log-softmax, `(x - max) - log(sum(exp(x - max)))`.
///
/// The two subtractions stay apart, as in torch: `max + log(sum)` would lose the low bits of large scores.
pub(crate) fn log_softmax(row: &mut [f32]) {
    let max = max(row);
    let log_sum = exp_sum(row, max).ln();
    row.iter_mut().for_each(|x| *x = (*x - max) - log_sum);
}

/// The softmax of a row. A row without a finite score gives NaN, as in torch.
pub(crate) fn softmax(row: &[f32]) -> Vec<f32> {
    let max = max(row);
    let sum = exp_sum(row, max);
    row.iter().map(|&x| (x - max).exp() / sum).collect()
}

/// The entropy in nats of the distribution whose unnormalised log-probabilities are `row`; impossible
/// entries (negative infinity) add nothing.
pub(crate) fn entropy(row: &[f32]) -> f32 {
    let mut normalised = row.to_vec();
    log_softmax(&mut normalised);
    let terms = normalised.iter().map(|&x| f64::from(x * x.exp()));
    -terms.filter(|term| !term.is_nan()).sum::<f64>() as f32
}

/// The position of the best score, the first one of equals; 0 for an empty row.
pub(crate) fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    let mut best_score = row.first().copied().unwrap_or(f32::NEG_INFINITY);
    for (index, &score) in row.iter().enumerate().skip(1) {
        // Settles nearly every score; false for NaN.
        if score <= best_score {
            continue;
        }
        if best_first(score, best_score) == Ordering::Less {
            (best, best_score) = (index, score);
        }
    }
    best
}

/// The `count` best scores of a row with their positions, best first, the first one of equals first.
/// Fewer come back when the row is shorter. Meant for small counts: one pass, a sorted list of candidates.
pub(crate) fn top(row: &[f32], count: usize) -> Vec<(f32, usize)> {
    let mut kept: Vec<(f32, usize)> = Vec::with_capacity(count.min(row.len()).saturating_add(1));
    let mut worst = f32::NEG_INFINITY;
    for (index, &score) in row.iter().enumerate() {
        // Settles nearly every score once the list is full; false for NaN.
        if score <= worst && kept.len() >= count {
            continue;
        }
        let place = kept.partition_point(|&(other, _)| best_first(other, score) != Ordering::Greater);
        kept.insert(place, (score, index));
        kept.truncate(count);
        worst = kept.last().map_or(f32::NEG_INFINITY, |&(score, _)| score);
    }
    kept
}

/// The score that takes place `rank` (from 1) when a row is sorted best first; the last for a rank beyond the
/// row, none for an empty row or rank 0.
pub(crate) fn ranked(row: &[f32], rank: usize) -> Option<f32> {
    let place = rank.min(row.len()).checked_sub(1)?;
    let mut scores = row.to_vec();
    let (_, score, _) = scores.select_nth_unstable_by(place, |a, b| best_first(*a, *b));
    Some(*score)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_softmax_keeps_the_low_bits_of_large_scores() {
        let mut row = [1.0e8, 1.0e8, 1.0e8 - 8.0];
        log_softmax(&mut row);
        let ln2 = 2f32.ln();
        assert!((row[0] + ln2).abs() < 1e-3 && (row[2] + ln2 + 8.0).abs() < 1e-3, "{row:?}");
    }

    #[test]
    fn impossible_entries_stay_impossible() {
        let row = [f32::NEG_INFINITY, 0.0, 0.0];
        assert_eq!(softmax(&row), [0.0, 0.5, 0.5]);
        assert!((entropy(&row) - 2f32.ln()).abs() < 1e-6);
        assert!(softmax(&[f32::NEG_INFINITY; 2]).iter().all(|p| p.is_nan()));
    }

    #[test]
    fn equals_come_lowest_index_first_and_nan_above_all() {
        let row = [1.0, 3.0, 2.0, 3.0, f32::NEG_INFINITY];
        assert_eq!(argmax(&row), 1);
        assert_eq!(top(&row, 3), [(3.0, 1), (3.0, 3), (2.0, 2)]);
        assert_eq!(top(&row, 9).len(), 5);
        assert_eq!(ranked(&row, 3), Some(2.0));
        assert_eq!(ranked(&row, 99), Some(f32::NEG_INFINITY));
        assert_eq!(ranked(&[], 1), None);
        assert_eq!(argmax(&[1.0, f32::NAN, 5.0, f32::NAN]), 1);
        assert_eq!(top(&[1.0, f32::NAN, 5.0], 2)[1], (5.0, 2));
        assert!(top(&row, 0).is_empty());
    }
}
