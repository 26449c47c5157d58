//! Every composite op against an independent formula in double precision.

use crate::tools::{close, eval, random, refusal, try_eval};
use frit_ir::Tensor;
use frit_ir::op::*;

/// Applies a scalar function to every element.
fn map(x: &Tensor, f: impl Fn(f64) -> f64) -> Vec<f64> {
    x.to_f64_vec().into_iter().map(f).collect()
}

/// The normal distribution function by Simpson's rule, independent of erf.
fn phi(x: f64) -> f64 {
    let n = 2000;
    let h = x / f64::from(n);
    let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let sum: f64 = (0..=n)
        .map(|i| {
            let weight = if i == 0 || i == n {
                1.0
            } else if i % 2 == 1 {
                4.0
            } else {
                2.0
            };
            weight * density(h * f64::from(i))
        })
        .sum();
    0.5 + sum * h / 3.0
}

#[test]
fn gelu_and_swish() {
    let x = random(&[40], 1);
    let x = Tensor::from_f64(x.dtype(), &[40], &map(&x, |v| 4.0 * v)).unwrap();
    close(&eval(Gelu { approximate: GeluForm::None }, &[&x]).to_f64_vec(), &map(&x, |v| v * phi(v)));
    let tanh = eval(Gelu { approximate: GeluForm::Tanh }, &[&x]).to_f64_vec();
    let inner = |v: f64| (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v.powi(3));
    close(&tanh, &map(&x, |v| v / (1.0 + (-2.0 * inner(v)).exp())));
    for (a, e) in map(&x, |v| v * phi(v)).iter().zip(&tanh) {
        assert!((a - e).abs() < 1e-3);
    }
    for alpha in [1.0, 1.702] {
        close(&eval(Swish { alpha }, &[&x]).to_f64_vec(), &map(&x, |v| v / (1.0 + (-alpha * v).exp())));
    }
    close(&eval(HardSwish {}, &[&x]).to_f64_vec(), &map(&x, |v| v * ((v + 3.0) / 6.0).clamp(0.0, 1.0)));
}

/// Mean and variance of a slice.
fn moments(v: &[f64]) -> (f64, f64) {
    let mean = v.iter().sum::<f64>() / v.len() as f64;
    (mean, v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / v.len() as f64)
}

#[test]
fn layer_norms() {
    let (x, r) = (random(&[2, 3, 8], 1), random(&[2, 3, 8], 2));
    let (s, b) = (random(&[8], 3), random(&[8], 4));
    let (sv, bv) = (s.to_f64_vec(), b.to_f64_vec());
    let layer_norm = |v: &[f64], e: f64| -> Vec<f64> {
        v.chunks(8)
            .flat_map(|row| {
                let (mean, variance) = moments(row);
                row.iter()
                    .zip(sv.iter().zip(&bv))
                    .map(|(x, (s, b))| (x - mean) / (variance + e).sqrt() * s + b)
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    let norm = LayerNormalization { axis: -1, epsilon: 1e-3 };
    close(&eval(norm.clone(), &[&x, &s, &b]).to_f64_vec(), &layer_norm(&x.to_f64_vec(), 1e-3));
    let without = eval(norm.clone(), &[&x, &s]).to_f64_vec();
    let with: Vec<f64> = layer_norm(&x.to_f64_vec(), 1e-3);
    close(&without, &with.iter().enumerate().map(|(n, y)| y - bv[n % 8]).collect::<Vec<_>>());
    let skip = SkipLayerNormalization { epsilon: 1e-3 };
    let y = try_eval(skip.clone(), &[Some(&x), Some(&r), Some(&s), Some(&b)]).unwrap();
    let sum: Vec<f64> = x.to_f64_vec().iter().zip(r.to_f64_vec()).map(|(a, b)| a + b).collect();
    close(&y[0].to_f64_vec(), &layer_norm(&sum, 1e-3));
    close(&y[1].to_f64_vec(), &sum);
    assert!(refusal(skip, &[&x, &random(&[1, 3, 8], 1), &s]).contains("`residual`"));
    assert!(refusal(norm, &[&x, &random(&[3], 1)]).contains("`scale`"));
    let rms = eval(RMSNormalization { axis: 2, epsilon: 1e-3 }, &[&x, &s]).to_f64_vec();
    let want: Vec<f64> = x
        .to_f64_vec()
        .chunks(8)
        .flat_map(|row| {
            let root = (row.iter().map(|x| x * x).sum::<f64>() / 8.0 + 1e-3).sqrt();
            row.iter().zip(&sv).map(|(x, s)| x / root * s).collect::<Vec<_>>()
        })
        .collect();
    close(&rms, &want);
    // Two axes at once.
    let wide = random(&[3, 8], 9);
    let got = eval(LayerNormalization { axis: 1, epsilon: 0.0 }, &[&x, &wide]).to_f64_vec();
    let (mean, variance) = moments(&x.to_f64_vec()[24..]);
    close(&got[30..31], &[(x.to_f64_vec()[30] - mean) / variance.sqrt() * wide.to_f64_vec()[6]]);
}

#[test]
fn norms_over_channels() {
    let x = random(&[2, 6, 4, 5], 1);
    let (s, b, m) = (random(&[6], 2), random(&[6], 3), random(&[6], 4));
    let v = Tensor::from_f64(x.dtype(), &[6], &map(&random(&[6], 5), |x| x.abs() + 0.1)).unwrap();
    let xs = x.to_f64_vec();
    let (sv, bv, mv, vv) = (s.to_f64_vec(), b.to_f64_vec(), m.to_f64_vec(), v.to_f64_vec());
    let channel = |n: usize| n / 20 % 6;
    // Each run of `size` elements is normalised by its own moments.
    let by_runs = |size: usize| -> Vec<f64> {
        xs.iter()
            .enumerate()
            .map(|(n, x)| {
                let start = n / size * size;
                let (mean, variance) = moments(&xs[start..start + size]);
                (x - mean) / (variance + 1e-2).sqrt() * sv[channel(n)] + bv[channel(n)]
            })
            .collect()
    };
    let group = eval(GroupNormalization { groups: 3, epsilon: 1e-2 }, &[&x, &s, &b]);
    close(&group.to_f64_vec(), &by_runs(40));
    close(&eval(InstanceNormalization { epsilon: 1e-2 }, &[&x, &s, &b]).to_f64_vec(), &by_runs(20));
    let batch = eval(BatchNormalization { epsilon: 1e-2 }, &[&x, &s, &b, &m, &v]).to_f64_vec();
    let want: Vec<f64> = xs
        .iter()
        .enumerate()
        .map(|(n, x)| {
            let c = channel(n);
            (x - mv[c]) / (vv[c] + 1e-2).sqrt() * sv[c] + bv[c]
        })
        .collect();
    close(&batch, &want);
    assert!(refusal(GroupNormalization { groups: 4, epsilon: 0.0 }, &[&x, &s, &b]).contains("`groups`"));
    assert!(
        refusal(BatchNormalization { epsilon: 0.0 }, &[&x, &s, &b, &m, &random(&[5], 1)])
            .contains("`variance`")
    );
}

#[test]
fn fused_products() {
    let (a, b) = (random(&[2, 3, 4], 1), random(&[5, 4], 2));
    let (bias, residual) = (random(&[5], 3), random(&[2, 3, 5], 4));
    for &activation in Activation::ALL {
        let op = FusedMatMul { trans_a: false, trans_b: true, alpha: 0.5, activation };
        let y = eval(op, &[&a, &b, &bias, &residual]).to_f64_vec();
        let (va, vb) = (a.to_f64_vec(), b.to_f64_vec());
        let want: Vec<f64> = (0..30)
            .map(|n| {
                let (row, j) = (n / 5, n % 5);
                let dot: f64 = (0..4).map(|k| va[row * 4 + k] * vb[j * 4 + k]).sum();
                activation.apply(0.5 * dot + bias.to_f64_vec()[j]) + residual.to_f64_vec()[n]
            })
            .collect();
        close(&y, &want);
    }
    let plain = try_eval(FusedMatMul::plain(), &[Some(&a), Some(&random(&[4, 5], 7)), None, Some(&residual)])
        .unwrap();
    assert_eq!(plain[0].shape(), [2, 3, 5]);
    let swapped = eval(
        FusedMatMul { trans_a: true, ..FusedMatMul::plain() },
        &[&random(&[4, 3], 1), &random(&[4, 5], 7)],
    );
    assert_eq!(swapped.shape(), [3, 5]);
    assert!(refusal(FusedMatMul::plain(), &[&a, &random(&[4, 5], 1), &random(&[4], 1)]).contains("`bias`"));
    assert!(refusal(FusedMatMul::plain(), &[&a, &b]).contains("`b`"));
}

#[test]
fn fused_convolutions() {
    let (x, w, bias) = (random(&[1, 2, 6], 1), random(&[3, 2, 3], 2), random(&[3], 3));
    let conv = Conv { pads: vec![1, 1], ..Conv::plain(1) };
    let residual = random(&[1, 3, 6], 4);
    let inner = eval(conv.clone(), &[&x, &w, &bias]).to_f64_vec();
    for &activation in Activation::ALL {
        let y = eval(FusedConv::new(&conv, activation), &[&x, &w, &bias, &residual]).to_f64_vec();
        let want: Vec<f64> =
            inner.iter().zip(residual.to_f64_vec()).map(|(a, r)| activation.apply(a + r)).collect();
        close(&y, &want);
        let tail = FusedConv { gain: 2.0, shift: -1.0, ..FusedConv::new(&conv, activation) };
        let want: Vec<f64> = want.into_iter().map(|y| 2.0 * y - 1.0).collect();
        close(&eval(tail, &[&x, &w, &bias, &residual]).to_f64_vec(), &want);
    }
    assert!(
        refusal(FusedConv::new(&conv, Activation::Relu), &[&x, &w, &bias, &random(&[1, 3, 1], 1)])
            .contains("`residual`")
    );
}

#[test]
fn rotary_positions_turn_pairs() {
    let x = random(&[2, 3, 4], 1);
    let angles = random(&[3, 2], 2).to_f64_vec();
    for interleaved in [false, true] {
        let pair = |j: usize| if interleaved { j / 2 } else { j % 2 };
        let table = |f: fn(f64) -> f64| {
            let v: Vec<f64> = (0..12).map(|n| f(angles[n / 4 * 2 + pair(n % 4)])).collect();
            Tensor::from_f64(x.dtype(), &[3, 4], &v).unwrap()
        };
        let y = eval(RotaryEmbedding { interleaved }, &[&x, &table(f64::cos), &table(f64::sin)]).to_f64_vec();
        let v = x.to_f64_vec();
        for row in 0..6 {
            for p in 0..2 {
                let (i, j) = if interleaved { (2 * p, 2 * p + 1) } else { (p, p + 2) };
                let (a, b) = (v[row * 4 + i], v[row * 4 + j]);
                let (sin, cos) = angles[row % 3 * 2 + p].sin_cos();
                close(&[y[row * 4 + i], y[row * 4 + j]], &[a * cos - b * sin, a * sin + b * cos]);
            }
        }
    }
    assert!(
        refusal(
            RotaryEmbedding { interleaved: false },
            &[&random(&[3], 1), &random(&[3], 1), &random(&[3], 1)]
        )
        .contains("even")
    );
}
