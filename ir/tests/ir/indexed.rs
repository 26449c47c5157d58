//! Ops that read, write and rank elements by index tensors. Plain gathers and slices are in `indexing.rs`.

use crate::tools::{count, eval, i, refusal, t, try_eval};
use frit_ir::op::*;
use frit_ir::{DType, Dim, Op, Tensor};

#[test]
fn scattered_elements_replace_or_combine() {
    let data = t(&[1, 5], &[1., 2., 3., 4., 5.]);
    let (indices, updates) = (i(&[1, 3], &[1, -1, 1]), t(&[1, 3], &[1.5, 9., 0.25]));
    for (reduction, want) in [
        (ScatterReduction::None, [1., 0.25, 3., 4., 9.]),
        (ScatterReduction::Add, [1., 3.75, 3., 4., 14.]),
        (ScatterReduction::Mul, [1., 0.75, 3., 4., 45.]),
        (ScatterReduction::Max, [1., 2., 3., 4., 9.]),
        (ScatterReduction::Min, [1., 0.25, 3., 4., 5.]),
    ] {
        let op = ScatterElements { axis: 1, reduction };
        assert_eq!(eval(op, &[&data, &indices, &updates]).to_f64_vec(), want, "{reduction:?}");
    }
    let op = ScatterElements { axis: 1, reduction: ScatterReduction::None };
    assert!(
        refusal(op.clone(), &[&data, &i(&[1, 3], &[1, 5, 1]), &updates]).contains("index 5 at position 1")
    );
    assert!(refusal(op, &[&data, &i(&[2, 3], &[0; 6]), &count(&[2, 3])]).contains("at most 1"));
}

#[test]
fn large_numbers_combine_exactly() {
    let big = Tensor::from_slice(&[1], &[u64::MAX - 1]).unwrap();
    let one = Tensor::from_slice(&[1], &[3u64]).unwrap();
    let op = |reduction| ScatterElements { axis: 0, reduction };
    let zero = i(&[1], &[0]);
    assert_eq!(eval(op(ScatterReduction::Max), &[&big, &zero, &one]), big);
    assert_eq!(eval(op(ScatterReduction::Min), &[&big, &zero, &one]), one);
}

#[test]
fn scattered_slices_replace_or_combine() {
    let data = i(&[3, 2], &[1, 2, 3, 4, 5, 6]);
    let rows = eval(
        ScatterND { reduction: ScatterReduction::None },
        &[&data, &i(&[2, 1], &[2, 0]), &i(&[2, 2], &[10, 20, 30, 40])],
    );
    assert_eq!(rows.to_i64_vec(), [30, 40, 3, 4, 10, 20]);
    let cells = eval(
        ScatterND { reduction: ScatterReduction::Add },
        &[&data, &i(&[2, 2], &[1, 1, 1, -1]), &i(&[2], &[7, 8])],
    );
    assert_eq!(cells.to_i64_vec(), [1, 2, 3, 19, 5, 6]);
    let op = ScatterND { reduction: ScatterReduction::None };
    assert!(refusal(op, &[&data, &i(&[2, 3], &[0; 6]), &i(&[2], &[7, 8])]).contains("at most 2"));
}

#[test]
fn gather_nd_picks_slices_within_batches() {
    let data = count(&[2, 2, 3]);
    let y = eval(GatherND { batch_dims: 0 }, &[&data, &i(&[2, 2], &[0, 1, 1, 0])]);
    assert_eq!((y.shape().to_vec(), y.to_f64_vec()), (vec![2, 3], vec![3., 4., 5., 6., 7., 8.]));
    let y = eval(GatherND { batch_dims: 1 }, &[&data, &i(&[2, 1, 2], &[1, 2, 0, -1])]);
    assert_eq!((y.shape().to_vec(), y.to_f64_vec()), (vec![2, 1], vec![5., 8.]));
    assert!(refusal(GatherND { batch_dims: 0 }, &[&data, &i(&[1, 1], &[2])]).contains("index 2"));
    assert!(refusal(GatherND { batch_dims: 1 }, &[&data, &i(&[2, 3], &[0; 6])]).contains("1 to 2"));
}

#[test]
fn top_k_ranks_lanes_with_the_first_of_equals_first() {
    let x = t(&[2, 4], &[3., 9., 9., 1., 5., f64::NAN, 7., 8.]);
    let op = |axis, largest, k| TopK { k: Dim::constant(k), axis, largest };
    let y = try_eval(op(-1, true, 2), &[Some(&x)]).unwrap();
    assert_eq!(y[1].to_i64_vec(), [1, 2, 1, 3]);
    assert_eq!(y[0].to_f64_vec()[..2], [9., 9.]);
    let y = try_eval(op(-1, false, 3), &[Some(&x)]).unwrap();
    assert_eq!(y[0].to_f64_vec(), [1., 3., 9., 5., 7., 8.]);
    assert_eq!(y[1].to_i64_vec(), [3, 0, 1, 0, 2, 3]);
    let y = try_eval(op(0, true, 1), &[Some(&x)]).unwrap();
    assert_eq!(y[1].to_i64_vec(), [1, 1, 0, 1]);
    let big = Tensor::from_slice(&[3], &[1u64, u64::MAX, 2]).unwrap();
    assert_eq!(try_eval(op(0, true, 3), &[Some(&big)]).unwrap()[1].to_i64_vec(), [1, 2, 0]);
    assert!(refusal(op(0, true, 3), &[&x]).contains("3 elements"));
}

#[test]
fn sequences_turn_round_up_to_their_lengths() {
    let x = count(&[4, 2]);
    let y = eval(ReverseSequence { batch_axis: 1, time_axis: 0 }, &[&x, &i(&[2], &[3, 0])]);
    assert_eq!(y.to_f64_vec(), [4., 1., 2., 3., 0., 5., 6., 7.]);
    let op = ReverseSequence { batch_axis: 1, time_axis: 0 };
    assert!(refusal(op, &[&x, &i(&[2], &[5, 0])]).contains("lengths"));
}

#[test]
fn triangles_keep_one_side_of_a_diagonal() {
    let x = t(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
    let with = |upper, k: i64| eval(Trilu { upper }, &[&x, &i(&[], &[k])]).to_f64_vec();
    assert_eq!(eval(Trilu { upper: true }, &[&x]).to_f64_vec(), [1., 2., 3., 0., 5., 6.]);
    assert_eq!(with(false, 0), [1., 0., 0., 4., 5., 0.]);
    assert_eq!(with(true, 1), [0., 2., 3., 0., 0., 6.]);
    assert_eq!(with(false, -1), [0., 0., 0., 4., 0., 0.]);
    assert_eq!(with(true, i64::MIN), x.to_f64_vec());
}

#[test]
fn random_numbers_depend_on_seed_and_salt_alone() {
    let op = |distribution, seed, salt| Random {
        shape: vec![Dim::constant(4000)],
        dtype: DType::F64,
        distribution,
        a: 2.0,
        b: 4.0,
        seed,
        salt,
    };
    let first = eval(op(Distribution::Uniform, 1, 1), &[]);
    assert_eq!(first, eval(op(Distribution::Uniform, 1, 1), &[]));
    assert_ne!(first, eval(op(Distribution::Uniform, 1, 2), &[]));
    assert_ne!(first, eval(op(Distribution::Uniform, 2, 1), &[]));
    let moments = |x: &Tensor| {
        let v = x.to_f64_vec();
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        (mean, (v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / v.len() as f64).sqrt())
    };
    let (mean, deviation) = moments(&first);
    assert!(first.to_f64_vec().iter().all(|x| (2.0..4.0).contains(x)));
    assert!((mean - 3.0).abs() < 0.05 && (deviation - 1.0 / 3f64.sqrt()).abs() < 0.05, "{mean} {deviation}");
    let (mean, deviation) = moments(&eval(op(Distribution::Normal, 1, 1), &[]));
    assert!((mean - 2.0).abs() < 0.2 && (deviation - 4.0).abs() < 0.2, "{mean} {deviation}");
}

/// All results of an op that defines symbols.
fn dynamic(op: impl Into<Op>, inputs: &[Option<&Tensor>]) -> Vec<Tensor> {
    use frit_ir::{Bindings, TensorType, interp};
    let op = op.into();
    let ty = |x: &Tensor| TensorType::new(x.dtype(), x.shape().iter().copied());
    let types: Vec<Option<TensorType>> = inputs.iter().map(|x| x.map(ty)).collect();
    let types: Vec<Option<&TensorType>> = types.iter().map(Option::as_ref).collect();
    let outputs = op.infer(&Infer { op: op.name(), inputs: &types }).unwrap();
    let refs: Vec<&TensorType> = outputs.iter().collect();
    let mut bindings = Bindings::new();
    let values = interp::evaluate(&op, inputs, &refs, &bindings, "test").unwrap();
    op.bind_results(&refs, &values, &mut bindings).unwrap();
    values
}

#[test]
fn different_elements_and_slices() {
    let op = |axis, sorted| Unique { count: "n".into(), axis, sorted };
    let x = t(&[6], &[2., 1., 1., 3., 4., 3.]);
    let y = dynamic(op(None, true), &[Some(&x)]);
    assert_eq!(y[0].to_f64_vec(), [1., 2., 3., 4.]);
    assert_eq!(y[1].to_i64_vec(), [1, 0, 3, 4]);
    assert_eq!(y[2].to_i64_vec(), [1, 0, 0, 2, 3, 2]);
    assert_eq!(y[3].to_i64_vec(), [2, 1, 2, 1]);
    let y = dynamic(op(None, false), &[Some(&x)]);
    assert_eq!(y[0].to_f64_vec(), [2., 1., 3., 4.]);
    assert_eq!(y[2].to_i64_vec(), [0, 1, 1, 2, 3, 2]);
    let x = i(&[3, 2], &[5, 1, 2, 9, 5, 1]);
    let y = dynamic(op(Some(0), true), &[Some(&x)]);
    assert_eq!((y[0].shape().to_vec(), y[0].to_i64_vec()), (vec![2, 2], vec![2, 9, 5, 1]));
    assert_eq!(y[2].to_i64_vec(), [1, 0, 1]);
    let y = dynamic(op(Some(-1), true), &[Some(&i(&[2, 3], &[1, 0, 1, 2, 7, 2]))]);
    assert_eq!(y[0].to_i64_vec(), [0, 1, 7, 2]);
    assert_eq!(dynamic(op(None, true), &[Some(&t(&[0], &[]))])[0].shape(), [0]);
}

#[test]
fn overlapping_boxes_give_way_to_better_ones() {
    // Three unit boxes: the second overlaps the first by 1/3 of the union, the third by nothing.
    let boxes = t(&[1, 3, 4], &[0., 0., 1., 1., 0., 1.5, 1., 0.5, 3., 3., 4., 4.]);
    let scores = t(&[1, 1, 3], &[0.5, 0.9, 0.2]);
    let op = NonMaxSuppression { count: "n".into(), center_point_box: false };
    let pick = |most: i64, overlap: f64, least: f64| {
        let (most, overlap, least) = (i(&[1], &[most]), t(&[1], &[overlap]), t(&[], &[least]));
        let inputs = [Some(&boxes), Some(&scores), Some(&most), Some(&overlap), Some(&least)];
        dynamic(op.clone(), &inputs).remove(0).to_i64_vec()
    };
    assert_eq!(pick(9, 0.3, 0.0), [0, 0, 1, 0, 0, 2]);
    assert_eq!(pick(9, 0.4, 0.0), [0, 0, 1, 0, 0, 0, 0, 0, 2]);
    assert_eq!(pick(1, 0.4, 0.0), [0, 0, 1]);
    assert_eq!(pick(9, 0.4, 0.4), [0, 0, 1, 0, 0, 0]);
    assert_eq!(dynamic(op.clone(), &[Some(&boxes), Some(&scores)])[0].shape(), [0, 3]);
    let centre = NonMaxSuppression { count: "n".into(), center_point_box: true };
    let boxes = t(&[1, 2, 4], &[0.5, 0.5, 1., 1., 0.5, 1.0, 1., 1.]);
    let (most, overlap) = (i(&[], &[5]), t(&[], &[0.3]));
    let y = dynamic(centre, &[Some(&boxes), Some(&t(&[1, 1, 2], &[0.1, 0.2])), Some(&most), Some(&overlap)]);
    assert_eq!(y[0].to_i64_vec(), [0, 0, 1]);
}
