//! Losses: cross entropy by its definition, CTC by listing every alignment.

use crate::tools::{close, eval, i, random, refusal, try_eval};
use frit_ir::op::{CTCLoss, LogSoftmax, Reduction, SoftmaxCrossEntropyLoss};

#[test]
fn cross_entropy_ignores_labels() {
    let scores = random(&[4, 3], 1);
    let labels = i(&[4], &[2, -100, 0, 1]);
    let v = scores.to_f64_vec();
    let cost = |row: usize, label: usize| {
        let sum: f64 = v[row * 3..row * 3 + 3].iter().map(|x| x.exp()).sum();
        -(v[row * 3 + label].exp() / sum).ln()
    };
    let each = [cost(0, 2), 0.0, cost(2, 0), cost(3, 1)];
    let run = |reduction| {
        eval(SoftmaxCrossEntropyLoss { ignore_index: -100, reduction }, &[&scores, &labels]).to_f64_vec()
    };
    let sum: f64 = each.iter().sum();
    close(&run(Reduction::None), &each);
    close(&run(Reduction::Sum), &[sum]);
    close(&run(Reduction::Mean), &[sum / 3.0]);
    let all = i(&[4], &[7; 4]);
    let op = SoftmaxCrossEntropyLoss { ignore_index: 7, reduction: Reduction::Mean };
    assert!(eval(op, &[&scores, &all]).to_f64_vec()[0].is_nan());
    let op = SoftmaxCrossEntropyLoss { ignore_index: -100, reduction: Reduction::Mean };
    assert!(refusal(op, &[&scores, &i(&[4], &[0, 1, 2, 3])]).contains("index 3"));
}

/// The probability of a target: the sum over every path of classes that collapses to it.
fn by_listing(probabilities: &[Vec<f64>], target: &[usize], blank: usize) -> f64 {
    let classes = probabilities[0].len();
    let mut total = 0.0;
    for code in 0..classes.pow(probabilities.len() as u32) {
        let mut rest = code;
        let path: Vec<usize> = probabilities
            .iter()
            .map(|_| {
                let class = rest % classes;
                rest /= classes;
                class
            })
            .collect();
        let mut collapsed = path.clone();
        collapsed.dedup();
        collapsed.retain(|&c| c != blank);
        if collapsed == target {
            total += path.iter().zip(probabilities).map(|(&c, p)| p[c]).product::<f64>();
        }
    }
    total
}

#[test]
fn ctc_equals_the_sum_over_alignments() {
    let (steps, samples, classes) = (5, 4, 3);
    let logs = eval(LogSoftmax { axis: 2 }, &[&random(&[steps, samples, classes], 1)]);
    let v = logs.to_f64_vec();
    let targets = i(&[samples, 3], &[1, 2, 1, 2, 2, -1, 1, -1, -1, -1, -1, -1]);
    let inputs = i(&[samples], &[5, 4, 5, 3]);
    let lengths = i(&[samples], &[3, 2, 1, 0]);
    let lists: [(usize, &[usize]); 4] = [(5, &[1, 2, 1]), (4, &[2, 2]), (5, &[1]), (3, &[])];
    let each: Vec<f64> = lists
        .iter()
        .enumerate()
        .map(|(n, (frames, target))| {
            let p: Vec<Vec<f64>> = (0..*frames)
                .map(|t| (0..classes).map(|c| v[(t * samples + n) * classes + c].exp()).collect())
                .collect();
            -by_listing(&p, target, 0).ln()
        })
        .collect();
    let run = |reduction| {
        let op = CTCLoss { blank: 0, reduction, zero_infinity: false };
        eval(op, &[&logs, &targets, &inputs, &lengths]).to_f64_vec()
    };
    close(&run(Reduction::None), &each);
    close(&run(Reduction::Sum), &[each.iter().sum()]);
    close(&run(Reduction::Mean), &[(each[0] / 3.0 + each[1] / 2.0 + each[2] + each[3]) / 4.0]);
}

#[test]
fn ctc_out_of_reach_and_out_of_range() {
    let logs = eval(LogSoftmax { axis: 2 }, &[&random(&[2, 1, 3], 1)]);
    let run = |zero_infinity, target: &[i64], length| {
        let op = CTCLoss { blank: 0, reduction: Reduction::Sum, zero_infinity };
        let (targets, one) = (i(&[1, 2], target), i(&[1], &[length]));
        try_eval(op, &[Some(&logs), Some(&targets), Some(&one), Some(&i(&[1], &[2]))])
            .map(|v| v[0].to_f64_vec()[0])
    };
    // Two equal symbols need a blank between them, so three frames.
    assert_eq!(run(false, &[1, 1], 2), Ok(f64::INFINITY));
    assert_eq!(run(true, &[1, 1], 2), Ok(0.0));
    assert!(run(false, &[1, 2], 2).unwrap().is_finite());
    assert!(run(false, &[1, 3], 2).unwrap_err().contains("label 3 at 1 of sample 0"));
    assert!(run(false, &[1, 2], 3).unwrap_err().contains("input length 3"));
}
