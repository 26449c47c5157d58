//! Ops that move elements: gather, slice, concat, split, expand, tile, pad, and those without operands.

use crate::tools::{count, eval, i, refusal, t, try_eval};
use frit_ir::op::*;
use frit_ir::{DType, Dim};

fn d(v: &[i64]) -> Vec<Dim> {
    v.iter().map(|&n| Dim::constant(n)).collect()
}

#[test]
fn gather_replaces_the_axis_by_the_indices() {
    let data = count(&[2, 3, 2]);
    let y = eval(Gather { axis: 1 }, &[&data, &i(&[2, 2], &[0, -1, 2, 1])]);
    assert_eq!(y.shape(), [2, 2, 2, 2]);
    assert_eq!(&y.to_f64_vec()[..8], [0., 1., 4., 5., 4., 5., 2., 3.]);
    let y = eval(Gather { axis: 0 }, &[&data, &i(&[], &[1])]);
    assert_eq!((y.shape().to_vec(), y.to_f64_vec()[0]), (vec![3, 2], 6.0));
    let e = refusal(Gather { axis: 1 }, &[&data, &i(&[2], &[1, 3])]);
    assert!(e.contains("index 3 at position 1") && e.contains("0..3"), "{e}");
    assert!(refusal(Gather { axis: 0 }, &[&data, &t(&[1], &[0.])]).contains("`indices`"));
}

#[test]
fn gather_elements_picks_along_one_axis() {
    let y = eval(GatherElements { axis: 1 }, &[&count(&[2, 3]), &i(&[2, 2], &[2, 0, -1, 1])]);
    assert_eq!(y.to_f64_vec(), [2., 0., 5., 4.]);
    assert!(
        refusal(GatherElements { axis: 1 }, &[&count(&[2, 3]), &i(&[3, 1], &[0, 0, 0])])
            .contains("at most 2")
    );
    assert!(
        refusal(GatherElements { axis: 1 }, &[&count(&[2, 3]), &i(&[2, 1], &[0, -4])]).contains("index -4")
    );
}

#[test]
fn slice_steps_both_ways() {
    let x = count(&[2, 5]);
    let cut =
        |start, end, step| Slice { axes: vec![-1], starts: d(&[start]), ends: d(&[end]), steps: vec![step] };
    assert_eq!(eval(cut(1, 5, 2), &[&x]).to_f64_vec(), [1., 3., 6., 8.]);
    assert_eq!(eval(cut(4, -1, -2), &[&x]).to_f64_vec(), [4., 2., 0., 9., 7., 5.]);
    assert_eq!(eval(cut(2, 2, 1), &[&x]).shape(), [2, 0]);
    for bad in [cut(1, 6, 1), cut(-1, 3, 1), cut(3, 1, 1), cut(5, 0, -1), cut(0, -2, -1), cut(0, 1, 0)] {
        refusal(bad, &[&x]);
    }
    let both = Slice { axes: vec![0, 1], starts: d(&[1, 3]), ends: d(&[2, 5]), steps: vec![1, 1] };
    assert_eq!(eval(both, &[&x]).to_f64_vec(), [8., 9.]);
    let twice = Slice { axes: vec![0, -2], starts: d(&[0, 0]), ends: d(&[1, 1]), steps: vec![1, 1] };
    assert!(refusal(twice, &[&x]).contains("twice"));
}

#[test]
fn split_undoes_concat() {
    let (a, b) = (count(&[2, 1, 2]), count(&[2, 3, 2]));
    let joined = eval(Concat { axis: -2 }, &[&a, &b]);
    assert_eq!(joined.to_f64_vec(), [0., 1., 0., 1., 2., 3., 4., 5., 2., 3., 6., 7., 8., 9., 10., 11.]);
    let parts = try_eval(Split { axis: 1, sizes: d(&[1, 3]) }, &[Some(&joined)]).unwrap();
    assert_eq!(parts, [a.clone(), b]);
    assert!(refusal(Concat { axis: 1 }, &[&a, &count(&[1, 1, 2])]).contains("operand 1 (`inputs`)"));
    assert!(refusal(Split { axis: 1, sizes: d(&[1, 2]) }, &[&joined]).contains("do not add up"));
    assert!(try_eval(Concat { axis: 1 }, &[]).is_err());
}

#[test]
fn expand_tile_and_pad_repeat() {
    let x = count(&[1, 2]);
    assert_eq!(eval(Expand { shape: d(&[2, 3, 2]), trust: false }, &[&x]).to_f64_vec(), [0., 1.].repeat(6));
    assert!(refusal(Expand { shape: d(&[1]), trust: false }, &[&x]).contains("broadcasts to [1]"));
    assert_eq!(eval(Tile { repeats: d(&[2, 2]) }, &[&x]).to_f64_vec(), [0., 1.].repeat(4));
    let pad = |before, after, mode| Pad { before: d(&[before]), after: d(&[after]), mode, value: 9.0 };
    let x = count(&[3]);
    assert_eq!(eval(pad(1, 2, PadMode::Constant), &[&x]).to_f64_vec(), [9., 0., 1., 2., 9., 9.]);
    assert_eq!(eval(pad(2, 1, PadMode::Edge), &[&x]).to_f64_vec(), [0., 0., 0., 1., 2., 2.]);
    assert_eq!(eval(pad(2, 2, PadMode::Reflect), &[&x]).to_f64_vec(), [2., 1., 0., 1., 2., 1., 0.]);
    assert!(refusal(pad(3, 0, PadMode::Reflect), &[&x]).contains("reflect"));
    refusal(pad(-1, 0, PadMode::Constant), &[&x]);
}

#[test]
fn ops_without_operands_follow_from_dims() {
    let c = Dim::constant;
    let r = |start, limit, step| Range { start: c(start), limit: c(limit), step, dtype: DType::I64 };
    assert_eq!(eval(r(2, 9, 3), &[]).to_i64_vec(), [2, 5, 8]);
    assert_eq!(eval(r(3, 0, -2), &[]).to_i64_vec(), [3, 1]);
    assert_eq!(eval(r(3, 3, 1), &[]).shape(), [0]);
    refusal(r(3, 2, 1), &[]);
    refusal(r(0, 2, 0), &[]);
    let f = ConstantOfShape { shape: d(&[2, 2]), value: 1.5, dtype: DType::F16 };
    assert_eq!(eval(f, &[]).to_f64_vec(), [1.5; 4]);
    assert_eq!(eval(ShapeOf { dims: d(&[3, 4]) }, &[]).to_i64_vec(), [3, 4]);
}

#[test]
fn sizes_beyond_memory_are_refused() {
    let wide = |shape: &[i64]| Expand { shape: d(shape), trust: false };
    let x = count(&[1]);
    for op in [wide(&[1 << 40, 1 << 40]), wide(&[i64::MAX, 2, 2])] {
        let e = refusal(op, &[&x]);
        assert!(e.contains("too large"), "{e}");
    }
    let e = refusal(Tile { repeats: d(&[i64::MAX]) }, &[&count(&[3])]);
    assert!(e.contains("overflows"), "{e}");
}

#[test]
fn transpose_and_matmul() {
    let y = eval(Transpose { perm: vec![2, 0, 1] }, &[&count(&[2, 1, 3])]);
    assert_eq!((y.shape(), y.to_f64_vec()), (&[3, 2, 1][..], vec![0., 3., 1., 4., 2., 5.]));
    let (a, b) = (count(&[2, 1, 2, 3]), count(&[2, 3, 2]));
    let y = eval(MatMul {}, &[&a, &b]);
    assert_eq!(y.shape(), [2, 2, 2, 2]);
    let (va, vb) = (a.to_f64_vec(), b.to_f64_vec());
    let want: Vec<f64> = (0..16)
        .map(|n| {
            let (p, q, i, j) = (n / 8, n / 4 % 2, n / 2 % 2, n % 2);
            (0..3).map(|k| va[p * 6 + i * 3 + k] * vb[q * 6 + k * 2 + j]).sum()
        })
        .collect();
    assert_eq!(y.to_f64_vec(), want);
    assert_eq!(eval(MatMul {}, &[&count(&[3]), &count(&[3])]).to_f64_vec(), [5.]);
    assert_eq!(eval(MatMul {}, &[&count(&[2, 3]), &count(&[3])]).to_f64_vec(), [5., 14.]);
    assert_eq!(eval(MatMul {}, &[&count(&[2]), &count(&[2, 3])]).to_f64_vec(), [3., 4., 5.]);
    assert_eq!(eval(MatMul {}, &[&i(&[1, 2], &[2, 3]), &i(&[2, 1], &[5, 7])]).to_i64_vec(), [31]);
}
