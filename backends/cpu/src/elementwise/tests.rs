//! Chains on every instruction set and number of threads; single functions are checked by the conformance suite.

use super::*;
use crate::isa::Isa;
use crate::testing::{Rng, assert_close, everywhere};
use chain::MAX_REGISTERS;

/// tanh(x * 0.5 + bias) * (mask ? y : -1), over [3, 70, 33].
#[test]
fn a_chain_of_every_kind_of_operand() {
    let shape = [3usize, 70, 33];
    let n: usize = shape.iter().product();
    let mut rng = Rng::new(1);
    let (x, y, bias) = (rng.vec(n), rng.vec(3), rng.vec(33));
    let mask: Vec<u8> = (0..70).map(|_| u8::from(rng.below(2) == 0)).collect();
    // Inputs 0 x, 1 y, 2 bias, 3 mask; constants 4 (0.5), 5 (-1).
    let steps = vec![
        Step::Binary(Binary::Mul, 0, 4),
        Step::Binary(Binary::Add, 6, 2),
        Step::Unary(Unary::Tanh, 7),
        Step::Select(3, 1, 5),
        Step::Binary(Binary::Mul, 8, 9),
    ];
    let chain = Chain::new(4, vec![0.5, -1.0], steps).unwrap();
    let want: Vec<f64> = (0..n)
        .map(|i| {
            let (a, b, c) = (i / 33 / 70, i / 33 % 70, i % 33);
            let gate = if mask[b] != 0 { f64::from(y[a]) } else { -1.0 };
            (f64::from(x[i]) * 0.5 + f64::from(bias[c])).tanh() * gate
        })
        .collect();
    let run = |isa: Isa, in_place: bool| {
        let mut out = if in_place { x.clone() } else { vec![f32::NAN; n] };
        let data = if in_place { Data::InPlace } else { Data::F32(&x) };
        let inputs = [
            ChainInput { data, shape: &shape },
            ChainInput { data: Data::F32(&y), shape: &[3, 1, 1] },
            ChainInput { data: Data::F32(&bias), shape: &[33] },
            ChainInput { data: Data::Bool(&mask), shape: &[70, 1] },
        ];
        chain.run(isa, &inputs, ChainOutput::F32(&mut out), &shape).unwrap();
        out
    };
    everywhere(
        |isa| {
            let y = run(isa, false);
            assert_eq!(y, run(isa, true), "in place");
            y
        },
        |isa, y| assert_close(&format!("{isa:?}"), y, &want, 1e-6),
    );
}

#[test]
fn an_input_in_place_may_be_read_by_every_step() {
    let x: Vec<f32> = (0..1000).map(|i| i as f32 / 100.0).collect();
    let steps =
        vec![Step::Unary(Unary::Neg, 0), Step::Binary(Binary::Mul, 1, 0), Step::Binary(Binary::Add, 2, 0)];
    let chain = Chain::new(1, vec![], steps).unwrap();
    for isa in Isa::available() {
        let mut out = x.clone();
        let input = ChainInput { data: Data::InPlace, shape: &[1000] };
        chain.run(isa, &[input], ChainOutput::F32(&mut out), &[1000]).unwrap();
        assert!(out.iter().zip(&x).all(|(&o, &x)| (o - (x - x * x)).abs() <= 1e-4), "{isa:?}");
    }
}

#[test]
fn faulty_chains_and_operands_are_refused() {
    assert_eq!(Chain::new(1, vec![], vec![]), Err(ChainError::Empty));
    let later = Chain::new(1, vec![], vec![Step::Unary(Unary::Abs, 1)]);
    assert_eq!(later, Err(ChainError::Order { step: 0, register: 1 }));
    let long = Chain::new(1, vec![0.0; MAX_REGISTERS], vec![Step::Unary(Unary::Abs, 0)]);
    assert_eq!(long, Err(ChainError::TooLong(MAX_REGISTERS + 2)));
    let chain = Chain::binary(Binary::Add);
    let (x, mut y) = ([0f32; 6], [0f32; 6]);
    let of = |data, shape| ChainInput { data, shape };
    let isa = Isa::get();
    let mut run = |a, b| chain.run(isa, &[a, b], ChainOutput::F32(&mut y), &[2, 3]);
    assert!(run(of(Data::F32(&x), &[2, 3]), of(Data::F32(&x[..3]), &[3])).is_ok());
    assert!(run(of(Data::F32(&x), &[2, 3]), of(Data::F32(&x[..2]), &[3])).is_err());
    assert!(run(of(Data::F32(&x), &[2, 3]), of(Data::F32(&x[..2]), &[2])).is_err());
    assert!(run(of(Data::F32(&x), &[2, 3]), of(Data::InPlace, &[1, 3])).is_err());
    assert!(run(of(Data::F32(&x[..5]), &[2, 3]), of(Data::InPlace, &[2, 3])).is_err());
}

#[test]
fn large_tensors_do_not_depend_on_threads() {
    let mut rng = Rng::new(2);
    let shape = [41usize, 1999];
    let (x, y) = (rng.vec(41 * 1999), rng.vec(1999));
    for f in [Binary::Add, Binary::Max, Binary::Less] {
        everywhere(
            |isa| {
                let mut out = vec![0.0; x.len()];
                let inputs = [
                    ChainInput { data: Data::F32(&x), shape: &shape },
                    ChainInput { data: Data::F32(&y), shape: &[1999] },
                ];
                Chain::binary(f).run(isa, &inputs, ChainOutput::F32(&mut out), &shape).unwrap();
                out
            },
            |_, out| {
                let want = |i: usize| wide::float_binary(f, f64::from(x[i]), f64::from(y[i % 1999])) as f32;
                assert!(out.iter().enumerate().all(|(i, &o)| o == want(i)));
            },
        );
    }
}
