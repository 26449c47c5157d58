//! Attention against the definition, in every form of operands and mask.

use crate::tools::{close, random, refusal, try_eval};
use frit_ir::op::Attention;
use frit_ir::{DType, Tensor};

/// What one query of one head attends to, by the definition; `see` says which keys and adds to their scores.
fn attend(
    q: &[f64],
    keys: &[Vec<f64>],
    values: &[Vec<f64>],
    scale: f64,
    see: impl Fn(usize) -> Option<f64>,
) -> Vec<f64> {
    let weights: Vec<f64> = keys
        .iter()
        .enumerate()
        .map(|(j, k)| {
            see(j).map_or(0.0, |m| (scale * q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() + m).exp())
        })
        .collect();
    let sum: f64 = weights.iter().sum();
    (0..values[0].len()).map(|d| weights.iter().zip(values).map(|(w, v)| w / sum * v[d]).sum()).collect()
}

const B: usize = 2;
const H: usize = 4;
const KV: usize = 2;
const SQ: usize = 3;
const SK: usize = 5;
const D: usize = 2;
const DV: usize = 3;

fn expected(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    see: &dyn Fn(usize, usize, usize, usize) -> Option<f64>,
) -> Vec<f64> {
    let (q, k, v) = (q.to_f64_vec(), k.to_f64_vec(), v.to_f64_vec());
    let mut out = vec![0.0; B * SQ * H * DV];
    for b in 0..B {
        for h in 0..H {
            let g = h / (H / KV);
            let row = |x: &[f64], s: usize, heads: usize, head: usize, n: usize, len: usize| -> Vec<f64> {
                let at = ((b * len + s) * heads + head) * n;
                x[at..at + n].to_vec()
            };
            let keys: Vec<_> = (0..SK).map(|s| row(&k, s, KV, g, D, SK)).collect();
            let values: Vec<_> = (0..SK).map(|s| row(&v, s, KV, g, DV, SK)).collect();
            for i in 0..SQ {
                let y = attend(&row(&q, i, H, h, D, SQ), &keys, &values, 0.7, |j| see(b, h, i, j));
                let at = ((b * SQ + i) * H + h) * DV;
                out[at..at + DV].copy_from_slice(&y);
            }
        }
    }
    out
}

fn operands() -> (Tensor, Tensor, Tensor) {
    (random(&[B, SQ, H * D], 1), random(&[B, SK, KV * D], 2), random(&[B, SK, KV * DV], 3))
}

fn op(causal: bool) -> Attention {
    Attention { q_heads: H as i64, kv_heads: KV as i64, scale: 0.7, causal }
}

#[test]
fn plain_causal_and_masked() {
    let (q, k, v) = operands();
    let run = |causal, mask: Option<&Tensor>| {
        try_eval(op(causal), &[Some(&q), Some(&k), Some(&v), mask]).unwrap().remove(0).to_f64_vec()
    };
    close(&run(false, None), &expected(&q, &k, &v, &|_, _, _, _| Some(0.0)));
    close(&run(true, None), &expected(&q, &k, &v, &|_, _, i, j| (j <= i + SK - SQ).then_some(0.0)));
    let added = random(&[1, H, SQ, SK], 4);
    let m = added.to_f64_vec();
    let bias = |h: usize, i: usize, j: usize| m[(h * SQ + i) * SK + j];
    close(&run(false, Some(&added)), &expected(&q, &k, &v, &|_, h, i, j| Some(bias(h, i, j))));
    let kept: Vec<bool> = (0..B * SK).map(|n| n % 3 != 1).collect();
    let keep = Tensor::from_bools(&[B, 1, 1, SK], &kept).unwrap();
    close(&run(false, Some(&keep)), &expected(&q, &k, &v, &|b, _, _, j| kept[b * SK + j].then_some(0.0)));
    let both =
        &|b: usize, _: usize, i: usize, j: usize| (kept[b * SK + j] && j <= i + SK - SQ).then_some(0.0);
    close(&run(true, Some(&keep)), &expected(&q, &k, &v, both));
}

/// [B, S, H D] to [B, H, S, D].
fn split(x: &Tensor, heads: usize) -> Tensor {
    let (s, n) = (x.shape()[1], x.shape()[2] / heads);
    let v = x.to_f64_vec();
    let mut out = vec![];
    for b in 0..B {
        for h in 0..heads {
            for i in 0..s {
                out.extend_from_slice(&v[((b * s + i) * heads + h) * n..][..n]);
            }
        }
    }
    Tensor::from_f64(DType::F64, &[B, heads, s, n], &out).unwrap()
}

#[test]
fn operands_with_a_head_axis_mean_the_same() {
    let (q, k, v) = operands();
    let flat = try_eval(op(false), &[Some(&q), Some(&k), Some(&v)]).unwrap().remove(0);
    let (q4, k4, v4) = (split(&q, H), split(&k, KV), split(&v, KV));
    let mixed = try_eval(op(false), &[Some(&q), Some(&k4), Some(&v4)]).unwrap().remove(0);
    close(&mixed.to_f64_vec(), &flat.to_f64_vec());
    let split_out = try_eval(op(false), &[Some(&q4), Some(&k), Some(&v4)]).unwrap().remove(0);
    assert_eq!(split_out.shape(), [B, H, SQ, DV]);
    close(&split_out.to_f64_vec(), &split(&flat, H).to_f64_vec());
}

#[test]
fn a_query_that_sees_nothing_gets_the_mean() {
    let (q, k, v) = operands();
    let none = Tensor::from_bools(&[1, SK], &[false; SK]).unwrap();
    let y = try_eval(op(false), &[Some(&q), Some(&k), Some(&v), Some(&none)]).unwrap().remove(0).to_f64_vec();
    let mean = (0..SK).map(|s| v.to_f64_vec()[s * KV * DV]).sum::<f64>() / SK as f64;
    close(&y[..1], &[mean]);
}

#[test]
fn misfits_are_named() {
    let (q, k, v) = operands();
    assert!(refusal(op(false), &[&q, &random(&[B, SK, KV * 3], 1), &v]).contains("`k`"));
    assert!(refusal(op(false), &[&q, &k, &random(&[B, 4, KV * DV], 1)]).contains("`v`"));
    assert!(refusal(op(false), &[&q, &k, &v, &random(&[SQ, 4], 1)]).contains("`mask`"));
    assert!(refusal(Attention { kv_heads: 3, ..op(false) }, &[&q, &k, &v]).contains("`q_heads`"));
}
