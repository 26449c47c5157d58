//! Convolutions and pools against formulas written another way.

use crate::tools::{close, count, eval, random, refusal, t, try_eval};
use frit_ir::op::*;

/// Convolution of one image plane set by its definition, over at most two spatial axes given as [H, W].
#[allow(clippy::too_many_arguments)]
fn conv2d(
    x: &[f64],
    (n, c, h, w): (usize, usize, usize, usize),
    k: &[f64],
    (o, kh, kw): (usize, usize, usize),
    conv: &Conv,
    (oh, ow): (usize, usize),
) -> Vec<f64> {
    let g = conv.group as usize;
    let (cg, og) = (c / g, o / g);
    let mut out = vec![];
    for b in 0..n {
        for f in 0..o {
            for y in 0..oh {
                for z in 0..ow {
                    let mut s = 0.0;
                    for ch in 0..cg {
                        for p in 0..kh {
                            for q in 0..kw {
                                let r = (y as i64) * conv.strides[0] + (p as i64) * conv.dilations[0]
                                    - conv.pads[0];
                                let l = (z as i64) * conv.strides[1] + (q as i64) * conv.dilations[1]
                                    - conv.pads[1];
                                if r >= 0 && l >= 0 && (r as usize) < h && (l as usize) < w {
                                    let channel = f / og * cg + ch;
                                    s += x[((b * c + channel) * h + r as usize) * w + l as usize]
                                        * k[((f * cg + ch) * kh + p) * kw + q];
                                }
                            }
                        }
                    }
                    out.push(s);
                }
            }
        }
    }
    out
}

#[test]
fn convolution_equals_its_definition() {
    for (group, strides, pads, dilations) in [
        (1, [1, 1], [0, 0, 0, 0], [1, 1]),
        (2, [2, 1], [1, 0, 2, 1], [1, 2]),
        (4, [1, 3], [0, 2, 1, 0], [2, 1]),
    ] {
        let conv =
            Conv { strides: strides.to_vec(), pads: pads.to_vec(), dilations: dilations.to_vec(), group };
        let (x, w) = (random(&[2, 4, 6, 7], 1), random(&[8, 4 / group as usize, 3, 2], 2));
        let y = eval(conv.clone(), &[&x, &w]);
        let plane = (y.shape()[2], y.shape()[3]);
        let want = conv2d(&x.to_f64_vec(), (2, 4, 6, 7), &w.to_f64_vec(), (8, 3, 2), &conv, plane);
        close(&y.to_f64_vec(), &want);
        let bias = random(&[8], 3);
        let biased = eval(conv, &[&x, &w, &bias]).to_f64_vec();
        let size = plane.0 * plane.1;
        let want: Vec<f64> =
            want.iter().enumerate().map(|(n, v)| v + bias.to_f64_vec()[n / size % 8]).collect();
        close(&biased, &want);
    }
    let line = eval(
        Conv { strides: vec![2], pads: vec![1, 0], ..Conv::plain(1) },
        &[&count(&[1, 1, 5]), &t(&[1, 1, 2], &[1., 10.])],
    );
    assert_eq!(line.to_f64_vec(), [0., 21., 43.]);
    assert_eq!(
        eval(Conv::plain(3), &[&count(&[1, 1, 2, 2, 2]), &t(&[1, 1, 2, 2, 2], &[1.; 8])]).to_f64_vec(),
        [28.]
    );
}

#[test]
fn misfits_are_refused_by_operand() {
    let x = count(&[1, 4, 5]);
    assert!(refusal(Conv::plain(1), &[&x, &count(&[2, 3, 2])]).contains("operand 1 (`w`)"));
    assert!(refusal(Conv::plain(1), &[&x, &count(&[2, 4, 6])]).contains("at least 6"));
    assert!(refusal(Conv::plain(2), &[&x, &count(&[2, 4, 2])]).contains("`strides`"));
    assert!(refusal(Conv { group: 3, ..Conv::plain(1) }, &[&x, &count(&[2, 4, 2])]).contains("`group`"));
    assert!(
        refusal(Conv::plain(1), &[&x, &count(&[2, 4, 2]), &count(&[3])])
            .contains("(`bias`): expected f32[2], got f32[3]")
    );
}

#[test]
fn transposed_convolution_is_the_adjoint() {
    for (group, stride, pads, dilation, extra) in
        [(1, 2, [1, 0], 1, 0), (2, 3, [0, 1], 2, 0), (2, 2, [0, 0], 1, 1)]
    {
        let conv = Conv { strides: vec![stride], pads: pads.to_vec(), dilations: vec![dilation], group };
        let w = random(&[6, 4 / group as usize, 3], 5);
        let y = random(&[2, 6, 4], 6);
        let transposed = ConvTranspose {
            strides: vec![stride],
            pads: pads.to_vec(),
            dilations: vec![dilation],
            group,
            output_padding: vec![extra],
        };
        let back = eval(transposed, &[&y, &w]);
        let x = random(back.shape(), 7);
        let forth = eval(conv, &[&x, &w]);
        assert_eq!(forth.shape()[..2], [2, 6]);
        // <conv(x), y> = <x, transposed(y)>, over the windows that y has.
        let windows = forth.shape()[2];
        assert!(windows >= 4);
        let left: f64 = (0..12)
            .flat_map(|p| (0..4).map(move |i| (p, i)))
            .map(|(p, i)| forth.to_f64_vec()[p * windows + i] * y.to_f64_vec()[p * 4 + i])
            .sum();
        let right: f64 = x.to_f64_vec().iter().zip(back.to_f64_vec()).map(|(a, b)| a * b).sum();
        if windows == 4 {
            close(&[left], &[right]);
        } else {
            assert!(extra > 0);
        }
    }
    let bias = eval(
        ConvTranspose {
            strides: vec![2],
            pads: vec![0, 0],
            dilations: vec![1],
            group: 1,
            output_padding: vec![],
        },
        &[&t(&[1, 1, 2], &[1., 2.]), &t(&[1, 2, 2], &[1., 10., 3., 0.]), &t(&[2], &[0., 100.])],
    );
    assert_eq!(bias.to_f64_vec(), [1., 10., 2., 20., 103., 100., 106., 100.]);
}

#[test]
fn pools_take_windows() {
    let x = count(&[1, 1, 5]);
    let max = |ceil_mode, pads: [i64; 2]| MaxPool {
        kernel: vec![2],
        strides: vec![2],
        pads: pads.to_vec(),
        dilations: vec![1],
        ceil_mode,
    };
    assert_eq!(eval(max(false, [0, 0]), &[&x]).to_f64_vec(), [1., 3.]);
    assert_eq!(eval(max(true, [0, 0]), &[&x]).to_f64_vec(), [1., 3., 4.]);
    assert_eq!(eval(max(false, [1, 0]), &[&x]).to_f64_vec(), [0., 2., 4.]);
    // In ceil mode no window starts in the end pad.
    assert_eq!(eval(max(true, [1, 1]), &[&x]).shape(), [1, 1, 3]);
    let mean = |count_include_pad, ceil_mode| AveragePool {
        kernel: vec![3],
        strides: vec![2],
        pads: vec![1, 1],
        dilations: vec![1],
        ceil_mode,
        count_include_pad,
    };
    assert_eq!(eval(mean(false, false), &[&x]).to_f64_vec(), [0.5, 2., 3.5]);
    let padded = eval(mean(true, false), &[&t(&[1, 1, 5], &[3., 3., 3., 3., 3.])]).to_f64_vec();
    assert_eq!(padded, [2., 3., 2.]);
    // torch: avg_pool1d([3, 3, 3, 3], 3, stride 2, padding 1, ceil_mode=True) is [2, 3, 1.5]: the last window covers
    // one element and one pad; what lies beyond the pad does not count.
    let beyond = eval(mean(true, true), &[&t(&[1, 1, 4], &[3., 3., 3., 3.])]).to_f64_vec();
    assert_eq!(beyond, [2., 3., 1.5]);
    let planes = eval(GlobalAveragePool {}, &[&count(&[1, 2, 2, 2])]);
    assert_eq!((planes.shape(), planes.to_f64_vec()), (&[1, 2, 1, 1][..], vec![1.5, 5.5]));
    assert!(try_eval(max(false, [2, 0]), &[Some(&x)]).unwrap_err().contains("`pads`"));
}
