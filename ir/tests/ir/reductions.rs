//! Reductions, positions of extremes, running sums, log-softmax, parametric functions.

use crate::tools::{close, count, eval, i, random, refusal, t};
use frit_ir::op::*;
use frit_ir::{DType, Tensor};

#[test]
fn each_reduction_equals_its_formula() {
    let x = random(&[2, 3, 4], 1);
    let v = x.to_f64_vec();
    for &function in ReduceFn::ALL {
        let y = eval(Reduce { function, axes: vec![0, -1], keepdims: false }, &[&x]);
        assert_eq!(y.shape(), [3]);
        let want: Vec<f64> = (0..3)
            .map(|j| {
                let lane: Vec<f64> = (0..2)
                    .flat_map(|a| (0..4).map(move |b| (a, b)))
                    .map(|(a, b)| v[a * 12 + j * 4 + b])
                    .collect();
                let sum: f64 = lane.iter().sum();
                let squares: f64 = lane.iter().map(|x| x.powi(2)).sum();
                match function {
                    ReduceFn::Sum => sum,
                    ReduceFn::Mean => sum / 8.0,
                    ReduceFn::Max => lane.iter().copied().fold(f64::MIN, f64::max),
                    ReduceFn::Min => lane.iter().copied().fold(f64::MAX, f64::min),
                    ReduceFn::Prod => lane.iter().product(),
                    ReduceFn::L1 => lane.iter().map(|x| x.abs()).sum(),
                    ReduceFn::L2 => squares.sqrt(),
                    ReduceFn::SumSquare => squares,
                    ReduceFn::LogSumExp => lane.iter().map(|x| x.exp()).sum::<f64>().ln(),
                    ReduceFn::LogSum => sum.ln(),
                }
            })
            .collect();
        if want.iter().all(|x| !x.is_nan()) {
            close(&y.to_f64_vec(), &want);
        }
    }
}

#[test]
fn reductions_of_nothing_and_of_all() {
    let all = Reduce { function: ReduceFn::Sum, axes: vec![], keepdims: true };
    let y = eval(all, &[&count(&[2, 3])]);
    assert_eq!((y.shape(), y.to_f64_vec()), (&[1, 1][..], vec![15.0]));
    let empty = count(&[0, 2]);
    let over = |function| Reduce { function, axes: vec![0], keepdims: false };
    assert_eq!(eval(over(ReduceFn::Sum), &[&empty]).to_f64_vec(), [0., 0.]);
    assert_eq!(eval(over(ReduceFn::Max), &[&empty]).to_f64_vec(), [f64::NEG_INFINITY; 2]);
    assert!(eval(over(ReduceFn::Mean), &[&empty]).to_f64_vec()[0].is_nan());
    assert!(refusal(over(ReduceFn::Max), &[&i(&[0, 2], &[])]).contains("no elements"));
    assert!(
        refusal(Reduce { function: ReduceFn::Sum, axes: vec![0, -2], keepdims: true }, &[&empty])
            .contains("axes")
    );
    assert_eq!(eval(over(ReduceFn::Max), &[&t(&[2], &[f64::NAN, 1.0])]).to_f64_vec().len(), 1);
    let big = Reduce { function: ReduceFn::LogSumExp, axes: vec![0], keepdims: false };
    close(
        &eval(big, &[&t(&[2], &[1000., 1000.])]).to_f64_vec(),
        &[f64::from((1000.0f64 + 2f64.ln()) as f32)],
    );
    let b = Tensor::from_bools(&[3], &[false, true, false]).unwrap();
    assert_eq!(eval(over(ReduceFn::Max), &[&b]).bytes(), [1]);
    assert_eq!(eval(over(ReduceFn::Min), &[&b]).bytes(), [0]);
}

#[test]
fn extremes_and_running_sums() {
    let x = t(&[2, 3], &[1., 5., 5., -1., -7., -7.]);
    assert_eq!(eval(ArgMax { axis: 1, keepdims: false }, &[&x]).to_i64_vec(), [1, 0]);
    assert_eq!(eval(ArgMin { axis: 1, keepdims: true }, &[&x]).to_i64_vec(), [0, 1]);
    assert_eq!(eval(ArgMax { axis: 0, keepdims: false }, &[&x]).dtype(), DType::I64);
    let sum = |exclusive, reverse| CumSum { axis: 0, exclusive, reverse };
    let x = i(&[3], &[1, 2, 3]);
    assert_eq!(eval(sum(false, false), &[&x]).to_i64_vec(), [1, 3, 6]);
    assert_eq!(eval(sum(true, false), &[&x]).to_i64_vec(), [0, 1, 3]);
    assert_eq!(eval(sum(false, true), &[&x]).to_i64_vec(), [6, 5, 3]);
    assert_eq!(eval(sum(true, true), &[&x]).to_i64_vec(), [5, 3, 0]);
}

#[test]
fn log_softmax_is_the_logarithm_of_softmax() {
    let x = random(&[2, 3, 2], 4);
    let s = eval(Softmax { axis: 1 }, &[&x]).to_f64_vec();
    let logs: Vec<f64> = s.iter().map(|x| x.ln()).collect();
    close(&eval(LogSoftmax { axis: 1 }, &[&x]).to_f64_vec(), &logs);
    close(&[s[0] + s[2] + s[4]], &[1.0]);
}

#[test]
fn parametric_functions() {
    let x = t(&[4], &[-2., -0.5, 0.5, 4.]);
    assert_eq!(eval(Clip { min: Some(-1.), max: None }, &[&x]).to_f64_vec(), [-1., -0.5, 0.5, 4.]);
    assert_eq!(eval(Clip { min: None, max: Some(1.) }, &[&x]).to_f64_vec(), [-2., -0.5, 0.5, 1.]);
    assert_eq!(eval(LeakyRelu { alpha: 0.5 }, &[&x]).to_f64_vec(), [-1., -0.25, 0.5, 4.]);
    assert_eq!(eval(HardSigmoid { alpha: 0.25, beta: 0.5 }, &[&x]).to_f64_vec(), [0., 0.375, 0.625, 1.]);
    let e = eval(Elu { alpha: 2.0 }, &[&random(&[5], 3)]).to_f64_vec();
    let want: Vec<f64> = random(&[5], 3)
        .to_f64_vec()
        .iter()
        .map(|&x| if x < 0.0 { 2.0 * (x.exp() - 1.0) } else { x })
        .collect();
    close(&e, &want);
    let n = i64::MAX - 1;
    assert_eq!(eval(Clip { min: Some(0.), max: None }, &[&i(&[2], &[n, -3])]).to_i64_vec(), [n, 0]);
}
