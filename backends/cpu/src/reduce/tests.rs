//! Reductions against plain sums in f64, on every instruction set and number of threads; the ops are checked by
//! the conformance suite.

use super::*;
use crate::testing::{Rng, assert_close, everywhere};

#[test]
fn sums_over_any_axes() {
    let mut rng = Rng::new(4);
    for (shape, mask) in [
        (vec![1000], vec![true]),
        (vec![37, 129], vec![false, true]),
        (vec![129, 37], vec![true, false]),
        (vec![70, 2500], vec![true, false]),
        (vec![5, 17, 9, 31], vec![false, true, false, true]),
        (vec![70, 6, 3], vec![false, false, true]),
        (vec![5, 17, 9, 31], vec![true, false, true, false]),
        (vec![3, 1, 40], vec![false, true, false]),
        (vec![2, 3], vec![false, false]),
    ] {
        let n: usize = shape.iter().product();
        let x = rng.vec(n);
        let kept: Vec<usize> = shape.iter().zip(&mask).filter(|(_, m)| !**m).map(|(d, _)| *d).collect();
        let results: usize = kept.iter().product();
        let count = (n / results) as f64;
        for f in
            [Reduction::Sum, Reduction::Mean, Reduction::Max, Reduction::Min, Reduction::L1, Reduction::L2]
        {
            let mut want = vec![
                match f {
                    Reduction::Max => f64::NEG_INFINITY,
                    Reduction::Min => f64::INFINITY,
                    _ => 0.0,
                };
                results
            ];
            for (i, &v) in x.iter().enumerate() {
                let (mut rest, mut at, mut step) = (i, 0, 1);
                for (&d, &m) in shape.iter().zip(&mask).rev() {
                    if !m {
                        at += rest % d * step;
                        step *= d;
                    }
                    rest /= d;
                }
                let v = f64::from(v);
                want[at] = match f {
                    Reduction::Max => want[at].max(v),
                    Reduction::Min => want[at].min(v),
                    Reduction::L1 => want[at] + v.abs(),
                    Reduction::L2 => want[at] + v * v,
                    _ => want[at] + v,
                };
            }
            want.iter_mut().for_each(|w| match f {
                Reduction::Mean => *w /= count,
                Reduction::L2 => *w = w.sqrt(),
                _ => {}
            });
            everywhere(
                |isa| {
                    let mut y = vec![f32::NAN; results];
                    reduce(isa, f, &x, &shape, &mask, &mut y).unwrap();
                    y
                },
                // Sums may cancel: the scale is that of what is added.
                |isa, y| assert_close(&format!("{isa:?} {f:?} {shape:?}"), y, &want, 1e-6 * count.sqrt()),
            );
        }
    }
}

#[test]
fn nothing_and_wrong_lengths() {
    let isa = crate::isa::Isa::get();
    let mut y = [1.0; 3];
    reduce(isa, Reduction::Sum, &[], &[3, 0], &[false, true], &mut y).unwrap();
    assert_eq!(y, [0.0; 3]);
    reduce(isa, Reduction::Max, &[], &[3, 0], &[false, true], &mut y).unwrap();
    assert_eq!(y, [f32::NEG_INFINITY; 3]);
    assert!(reduce(isa, Reduction::Sum, &[0.0; 5], &[3, 2], &[false, true], &mut y).is_err());
    assert!(reduce(isa, Reduction::Sum, &[0.0; 6], &[3, 2], &[true, false], &mut y).is_err());
    let mut none = [0i64; 3];
    assert!(reduce_wide(Reduction::Max, &[], &[3, 0], &[false, true], &mut none).is_err());
    assert!(arg_extreme::<f32>(Extreme::Max, [1, 0, 3], &[], &mut none).is_err());
}
