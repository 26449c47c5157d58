//! The norms against naive loops in f64, on every instruction set, at odd sizes.

use super::*;
use crate::gemm::Activation;
use crate::operand::Source;
use crate::testing::{Rng, assert_close, everywhere};

const WIDTHS: [usize; 9] = [1, 3, 8, 15, 17, 64, 67, 129, 768];

fn naive_softmax(p: Softmax, x: &[f32]) -> Vec<f64> {
    let mut y = vec![0f64; x.len()];
    for o in 0..p.outer {
        for i in 0..p.inner {
            let at = |a: usize| (o * p.axis + a) * p.inner + i;
            let max = (0..p.axis).map(|a| f64::from(x[at(a)])).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = (0..p.axis).map(|a| (f64::from(x[at(a)]) - max).exp()).sum();
            for a in 0..p.axis {
                let d = f64::from(x[at(a)]) - max;
                y[at(a)] = if p.log { d - sum.ln() } else { d.exp() / sum };
            }
        }
    }
    y
}

#[test]
fn softmax_along_any_axis() {
    let mut rng = Rng::new(1);
    for axis in WIDTHS {
        for (outer, inner) in [(1, 1), (37, 1), (3, 5), (2, 64), (2, 131)] {
            for log in [false, true] {
                let p = Softmax { outer, axis, inner, log };
                let mut x = rng.vec(outer * axis * inner);
                x.iter_mut().for_each(|x| *x *= 5.0);
                let want = naive_softmax(p, &x);
                everywhere(
                    |isa| {
                        let mut y = vec![0.0; x.len()];
                        softmax(isa, p, Source::Slice(&x), &mut y).unwrap();
                        let mut z = x.clone();
                        softmax(isa, p, Source::InPlace, &mut z).unwrap();
                        assert_eq!(y, z);
                        y
                    },
                    |isa, y| assert_close(&format!("{isa:?} {p:?}"), y, &want, 2e-6 + axis as f64 * 6e-9),
                );
            }
        }
    }
}

#[test]
fn softmax_of_extreme_rows() {
    let p = Softmax { outer: 4, axis: 20, inner: 1, log: false };
    let mut x = vec![f32::MIN; 80];
    x[20..40].fill(f32::NEG_INFINITY);
    x[25] = 1.0;
    x[40..60].fill(f32::NEG_INFINITY);
    x[60] = f32::NAN;
    everywhere(
        |isa| {
            let mut y = vec![0.0; 80];
            softmax(isa, p, Source::Slice(&x), &mut y).unwrap();
            y.iter_mut().filter(|y| y.is_nan()).for_each(|y| *y = -1.0);
            y
        },
        |_, y| {
            assert!(y[..20].iter().all(|&v| (v - 0.05).abs() < 1e-8));
            assert!(y[20..40].iter().enumerate().all(|(i, &v)| v == if i == 5 { 1.0 } else { 0.0 }));
            assert!(y[40..80].iter().all(|&v| v == -1.0), "rows of -inf or with NaN are NaN: {y:?}");
        },
    );
}

#[test]
fn layer_norm_with_and_without_extras() {
    let mut rng = Rng::new(2);
    for width in WIDTHS {
        for rows in [1, 3, 40] {
            for extras in 0..16 {
                let n = rows * width;
                let x: Vec<f32> = rng.vec(n).iter().map(|x| x + 3.0).collect();
                let (scale, bias, residual) = (rng.vec(width), rng.vec(width), rng.vec(n));
                let p = LayerNorm {
                    rows,
                    width,
                    epsilon: 1e-5,
                    rms: extras & 8 != 0,
                    scale: (extras & 1 != 0).then_some(&scale[..]),
                    bias: (extras & 2 != 0).then_some(&bias[..]),
                    residual: (extras & 4 != 0).then_some(&residual[..]),
                };
                let mut want = Vec::new();
                let mut sums = Vec::new();
                for r in 0..rows {
                    let row: Vec<f64> = (0..width)
                        .map(|i| {
                            f64::from(x[r * width + i])
                                + p.residual.map_or(0.0, |v| f64::from(v[r * width + i]))
                        })
                        .collect();
                    let mean = if p.rms { 0.0 } else { row.iter().sum::<f64>() / width as f64 };
                    let var = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
                    for (i, v) in row.iter().enumerate() {
                        let g = p.scale.map_or(1.0, |s| f64::from(s[i]));
                        want.push(
                            (v - mean) / (var + 1e-5).sqrt() * g + p.bias.map_or(0.0, |b| f64::from(b[i])),
                        );
                    }
                    sums.extend(row);
                }
                everywhere(
                    |isa| {
                        let (mut y, mut total) = (vec![0.0; n], vec![0.0; n]);
                        layer_norm(isa, &p, Source::Slice(&x), &mut y, Some(&mut total)).unwrap();
                        let mut z = x.clone();
                        layer_norm(isa, &p, Source::InPlace, &mut z, None).unwrap();
                        assert_eq!(y, z, "in place");
                        y.extend(total);
                        y
                    },
                    |isa, y| {
                        // A row of one element has variance 0: what is left is rounding noise over sqrt(epsilon).
                        let tolerance = if width < 8 { 1e-3 } else { 2e-5 };
                        assert_close(&format!("{isa:?} {rows}x{width} {extras}"), &y[..n], &want, tolerance);
                        assert_close("sum", &y[n..], &sums, 1e-6);
                    },
                );
            }
        }
    }
}

#[test]
fn group_instance_and_batch_norm() {
    let mut rng = Rng::new(3);
    for (batch, channels, inner, groups) in
        [(1, 4, 1, 2), (2, 6, 7, 3), (1, 8, 100, 8), (3, 5, 33, 1), (1, 3, 5000, 3)]
    {
        let n = batch * channels * inner;
        let x: Vec<f32> = rng.vec(n).iter().map(|x| x * 2.0 + 1.0).collect();
        let (scale, bias) = (rng.vec(channels), rng.vec(channels));
        let p = GroupNorm {
            batch,
            channels,
            inner,
            groups,
            epsilon: 1e-5,
            scale: Some(&scale),
            bias: Some(&bias),
            activation: Activation::None,
        };
        let width = channels / groups * inner;
        let mut want = vec![0f64; n];
        for g in 0..batch * groups {
            let part = &x[g * width..(g + 1) * width];
            let mean = part.iter().map(|&v| f64::from(v)).sum::<f64>() / width as f64;
            let var = part.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / width as f64;
            for (i, &v) in part.iter().enumerate() {
                let c = g % groups * (channels / groups) + i / inner;
                want[g * width + i] =
                    (f64::from(v) - mean) / (var + 1e-5).sqrt() * f64::from(scale[c]) + f64::from(bias[c]);
            }
        }
        everywhere(
            |isa| {
                let mut y = vec![0.0; n];
                group_norm(isa, &p, Source::Slice(&x), &mut y).unwrap();
                let mut z = x.clone();
                group_norm(isa, &p, Source::InPlace, &mut z).unwrap();
                assert_eq!(y, z);
                y
            },
            |isa, y| assert_close(&format!("{isa:?} {p:?}"), y, &want, 3e-5),
        );
        let activated: Vec<f64> = want.iter().map(|&v| v / (1.0 + (-v).exp())).collect();
        let p = GroupNorm { activation: Activation::Silu, ..p };
        everywhere(
            |isa| {
                let mut y = vec![0.0; n];
                group_norm(isa, &p, Source::Slice(&x), &mut y).unwrap();
                y
            },
            |isa, y| assert_close(&format!("{isa:?} {p:?}"), y, &activated, 3e-5),
        );
        let (mean, variance) =
            (rng.vec(channels), rng.vec(channels).iter().map(|v| v * v + 0.1).collect::<Vec<_>>());
        let want: Vec<f64> = (0..n)
            .map(|i| {
                let c = i / inner % channels;
                (f64::from(x[i]) - f64::from(mean[c])) / (f64::from(variance[c]) + 1e-3).sqrt()
                    * f64::from(scale[c])
                    + f64::from(bias[c])
            })
            .collect();
        everywhere(
            |isa| {
                let mut y = vec![0.0; n];
                let s = [&scale[..], &bias[..], &mean[..], &variance[..]];
                batch_norm(isa, [batch, channels, inner], s, 1e-3, Source::Slice(&x), &mut y).unwrap();
                y
            },
            |isa, y| assert_close(&format!("{isa:?} batch norm"), y, &want, 2e-6),
        );
    }
}

#[test]
fn norm_over_channels() {
    let mut rng = Rng::new(4);
    // A single place, strips of a whole width and their rest, chunks of channels and theirs, few and many samples.
    for (batch, channels, inner) in [
        (3, 5, 1),
        (1, 1, 70),
        (2, 16, 64),
        (3, 17, 33),
        (1, 67, 200),
        (2, 512, 129),
        (40, 6, 7),
        (1, 3, 5000),
    ] {
        let n = batch * channels * inner;
        let x: Vec<f32> = rng.vec(n).iter().map(|x| x * 2.0 + 3.0).collect();
        let (scale, bias) = (rng.vec(channels), rng.vec(channels));
        for (activation, extras) in
            [(Activation::None, true), (Activation::None, false), (Activation::Silu, true)]
        {
            let p = ChannelNorm {
                batch,
                channels,
                inner,
                epsilon: 1e-3,
                scale: extras.then_some(&scale[..]),
                bias: extras.then_some(&bias[..]),
                activation,
            };
            let mut want = vec![0f64; n];
            for place in 0..batch * inner {
                let at = |c: usize| (place / inner * channels + c) * inner + place % inner;
                let row: Vec<f64> = (0..channels).map(|c| f64::from(x[at(c)])).collect();
                let mean = row.iter().sum::<f64>() / channels as f64;
                let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / channels as f64;
                for (c, v) in row.iter().enumerate() {
                    let v = (v - mean) / (variance + 1e-3).sqrt();
                    let v = if extras { v * f64::from(scale[c]) + f64::from(bias[c]) } else { v };
                    want[at(c)] = if activation == Activation::Silu { v / (1.0 + (-v).exp()) } else { v };
                }
            }
            everywhere(
                |isa| {
                    let mut y = vec![0.0; n];
                    channel_norm(isa, &p, Source::Slice(&x), &mut y).unwrap();
                    let mut z = x.clone();
                    channel_norm(isa, &p, Source::InPlace, &mut z).unwrap();
                    assert_eq!(y, z, "in place");
                    y
                },
                |isa, y| {
                    let what = format!("{isa:?} {batch}x{channels}x{inner} {activation:?} {extras}");
                    assert_close(&what, y, &want, 1e-5);
                },
            );
        }
    }
}

#[test]
fn a_norm_over_many_channels_is_as_exact_as_that_of_rows() {
    // Means far from zero: the sum of squares less the square of the sum would leave nothing of the variance.
    let mut rng = Rng::new(5);
    let (channels, inner) = (5000, 3);
    let x: Vec<f32> = rng.vec(channels * inner).iter().map(|x| x + 1000.0).collect();
    let (scale, bias) = (None, None);
    let mut rows = vec![0.0; x.len()];
    let mut want = vec![0f64; x.len()];
    for place in 0..inner {
        let row: Vec<f64> = (0..channels).map(|c| f64::from(x[c * inner + place])).collect();
        let mean = row.iter().sum::<f64>() / channels as f64;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / channels as f64;
        for (c, v) in row.iter().enumerate() {
            rows[place * channels + c] = *v as f32;
            want[c * inner + place] = (v - mean) / (variance + 1e-5).sqrt();
        }
    }
    let p =
        ChannelNorm { batch: 1, channels, inner, epsilon: 1e-5, scale, bias, activation: Activation::None };
    let l =
        LayerNorm { rows: inner, width: channels, epsilon: 1e-5, rms: false, scale, bias, residual: None };
    let worst = |y: &[f32]| y.iter().zip(&want).map(|(&y, &w)| (f64::from(y) - w).abs()).fold(0.0, f64::max);
    for isa in crate::isa::Isa::available() {
        let mut y = vec![0.0; x.len()];
        channel_norm(isa, &p, Source::Slice(&x), &mut y).unwrap();
        let mut r = rows.clone();
        layer_norm(isa, &l, Source::InPlace, &mut r, None).unwrap();
        let by_rows: Vec<f32> = (0..x.len()).map(|i| r[i % inner * channels + i / inner]).collect();
        assert!(worst(&y) <= 2.0 * worst(&by_rows) + 1e-5, "{isa:?}: {} {}", worst(&y), worst(&by_rows));
        assert!(worst(&y) < 1e-3, "{isa:?}: {}", worst(&y));
    }
}

#[test]
fn wrong_lengths_are_refused() {
    let isa = crate::isa::Isa::get();
    let p = Softmax { outer: 2, axis: 3, inner: 1, log: false };
    assert!(softmax(isa, p, Source::Slice(&[0.0; 5]), &mut [0.0; 6]).is_err());
    assert!(softmax(isa, p, Source::Slice(&[0.0; 7]), &mut [0.0; 6]).is_err());
    assert!(softmax(isa, p, Source::InPlace, &mut [0.0; 5]).is_err());
    let p = ChannelNorm {
        batch: 1,
        channels: 2,
        inner: 3,
        epsilon: 0.0,
        scale: None,
        bias: None,
        activation: Activation::None,
    };
    assert!(channel_norm(isa, &p, Source::InPlace, &mut [0.0; 5]).is_err());
    assert!(channel_norm(isa, &p, Source::Slice(&[0.0; 7]), &mut [0.0; 6]).is_err());
    let scaled = ChannelNorm { scale: Some(&[1.0; 3]), ..p };
    assert!(channel_norm(isa, &scaled, Source::InPlace, &mut [0.0; 6]).is_err());
    let huge = Softmax { outer: usize::MAX, axis: 3, inner: 1, log: false };
    assert!(softmax(isa, huge, Source::InPlace, &mut [0.0; 5]).is_err());
}
