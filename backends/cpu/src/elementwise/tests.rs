//! Chains on every instruction set and number of threads; single functions are checked by the conformance suite.

use super::*;
use crate::isa::Isa;
use crate::testing::{Rng, assert_close, everywhere};
use chain::{BLOCK, MAX_PLACES};

/// tanh(x * 0.5 + bias) * (mask ? y : -1), over [3, 70, 33].
#[test]
fn a_chain_of_every_kind_of_operand() {
    let shape = [3usize, 70, 33];
    let n: usize = shape.iter().product();
    let mut rng = Rng::new(1);
    let (x, y, bias) = (rng.vec(n), rng.vec(3), rng.vec(33));
    let mask: Vec<u8> = (0..70).map(|_| u8::from(rng.below(2) == 0)).collect();
    // Inputs 0 x, 1 y, 2 bias, 3 mask.
    let steps = [
        Step::Constant(0.5),
        Step::Constant(-1.0),
        Step::Binary(Binary::Mul, 0, 4),
        Step::Binary(Binary::Add, 6, 2),
        Step::Unary(Unary::Tanh, 7),
        Step::Select(3, 1, 5),
        Step::Binary(Binary::Mul, 8, 9),
    ];
    let chain = Chain::new(4, &steps).unwrap();
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
        [Step::Unary(Unary::Neg, 0), Step::Binary(Binary::Mul, 1, 0), Step::Binary(Binary::Add, 2, 0)];
    let chain = Chain::new(1, &steps).unwrap();
    for isa in Isa::available() {
        let mut out = x.clone();
        let input = ChainInput { data: Data::InPlace, shape: &[1000] };
        chain.run(isa, &[input], ChainOutput::F32(&mut out), &[1000]).unwrap();
        assert!(out.iter().zip(&x).all(|(&o, &x)| (o - (x - x * x)).abs() <= 1e-4), "{isa:?}");
    }
}

#[test]
fn faulty_chains_and_operands_are_refused() {
    assert_eq!(Chain::new(1, &[]), Err(ChainError::Empty));
    let later = Chain::new(1, &[Step::Unary(Unary::Abs, 1)]);
    assert_eq!(later, Err(ChainError::Order { step: 0, register: 1 }));
    let constant = Chain::new(1, &[Step::Unary(Unary::Abs, 0), Step::Constant(1.0)]);
    assert_eq!(constant, Err(ChainError::Empty));
    let mut wide = vec![Step::Constant(1.0); MAX_PLACES - 1];
    wide.push(Step::Unary(Unary::Abs, 0));
    assert_eq!(Chain::new(1, &wide), Err(ChainError::TooWide));
    assert!(Chain::new(1, &wide[1..]).is_ok());
    assert_eq!(Chain::new(MAX_PLACES, &[Step::Unary(Unary::Abs, 0)]), Err(ChainError::TooWide));
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

/// A long chain of a few values at a time needs few places.
#[test]
fn places_are_used_again() {
    let mut steps = vec![Step::Binary(Binary::Add, 0, 0)];
    steps.extend((1..4 * MAX_PLACES as u16).map(|r| Step::Binary(Binary::Sub, r, 0)));
    let chain = Chain::new(1, &steps).unwrap();
    let mut out = [0f32; 3];
    let input = ChainInput { data: Data::F32(&[1.0, 2.0, -1.0]), shape: &[3] };
    chain.run(Isa::get(), &[input], ChainOutput::F32(&mut out), &[3]).unwrap();
    let times = 3.0 - 4.0 * MAX_PLACES as f32;
    assert_eq!(out, [times, 2.0 * times, -times]);
}

const UNARY: [Unary; 14] = [
    Unary::Abs,
    Unary::Neg,
    Unary::Sign,
    Unary::Exp,
    Unary::Sqrt,
    Unary::Tanh,
    Unary::Sigmoid,
    Unary::Relu,
    Unary::GeluErf,
    Unary::Acos,
    Unary::Sin,
    Unary::Not,
    Unary::IsNaN,
    Unary::Other(UnaryFn::Atan),
];
const BINARY: [Binary; 10] = [
    Binary::Add,
    Binary::Sub,
    Binary::Mul,
    Binary::Div,
    Binary::Pow,
    Binary::Min,
    Binary::Max,
    Binary::Less,
    Binary::Equal,
    Binary::And,
];

/// Random chains over operands that broadcast in all ways give bit for bit what their steps give one by one.
#[test]
fn chains_give_the_bits_of_their_steps() {
    let mut rng = Rng::new(3);
    for case in 0..120 {
        let rank = 1 + rng.below(4);
        let longest = [2, 9, 40, 2 * BLOCK / 3][rng.below(4)];
        let shape: Vec<usize> =
            (0..rank).map(|i| if i < 2 { 1 + rng.below(longest) } else { 1 + rng.below(9) }).collect();
        let n: usize = shape.iter().product();
        let inputs = 1 + rng.below(4);
        let shapes: Vec<Vec<usize>> = (0..inputs)
            .map(|i| {
                let own = shape.iter().map(|&d| if i > 0 && rng.below(3) == 0 { 1 } else { d });
                let own: Vec<usize> = own.collect();
                if i > 0 { own[rng.below(rank)..].to_vec() } else { own }
            })
            .collect();
        let data: Vec<Vec<f32>> = shapes.iter().map(|s| rng.vec(s.iter().product())).collect();
        let truths: Vec<Option<Vec<u8>>> = (0..inputs)
            .map(|i| {
                (i > 0 && rng.below(4) == 0).then(|| data[i].iter().map(|&x| u8::from(x > 0.0)).collect())
            })
            .collect();
        let mut steps: Vec<Step> = Vec::new();
        for _ in 0..1 + rng.below(20) {
            let known = inputs + steps.len();
            // Late ones more often, so that chains get deep.
            let mut any = || (known - 1 - rng.below(known).min(rng.below(known))) as Register;
            let (a, b, c) = (any(), any(), any());
            steps.push(match rng.below(8) {
                0 => Step::Constant(rng.number()),
                1..=3 => Step::Unary(UNARY[rng.below(UNARY.len())], a),
                4..=6 => Step::Binary(BINARY[rng.below(BINARY.len())], a, b),
                _ => Step::Select(a, b, c),
            });
        }
        steps.push(Step::Binary(Binary::Add, (inputs + steps.len() - 1) as Register, 0));
        let chain = Chain::new(inputs, &steps).unwrap();
        let given = |i: usize| match &truths[i] {
            Some(t) => Data::Bool(t),
            None => Data::F32(&data[i]),
        };
        let run = |isa: Isa, in_place: bool| {
            let mut out = if in_place { data[0].clone() } else { vec![f32::NAN; n] };
            let inputs: Vec<ChainInput<'_>> = (0..inputs)
                .map(|i| ChainInput {
                    data: if in_place && i == 0 { Data::InPlace } else { given(i) },
                    shape: &shapes[i],
                })
                .collect();
            chain.run(isa, &inputs, ChainOutput::F32(&mut out), &shape).unwrap();
            out
        };
        // Every value in full, one step at a time.
        let one_by_one = |isa: Isa| {
            let full = |input: ChainInput<'_>, chain: &Chain, others: &[&Vec<f32>]| {
                let mut out = vec![f32::NAN; n];
                let others = others.iter().map(|x| ChainInput { data: Data::F32(x), shape: &shape });
                let inputs: Vec<ChainInput<'_>> = [input].into_iter().chain(others).collect();
                chain.run(isa, &inputs, ChainOutput::F32(&mut out), &shape).unwrap();
                out
            };
            let copy = Chain::new(1, &[Step::Constant(0.0), Step::Binary(Binary::Sub, 0, 1)]).unwrap();
            let mut values: Vec<Vec<f32>> = (0..inputs)
                .map(|i| full(ChainInput { data: given(i), shape: &shapes[i] }, &copy, &[]))
                .collect();
            for step in &steps {
                let v = |r: Register| &values[usize::from(r)];
                let first = |r: Register| ChainInput { data: Data::F32(v(r)), shape: &shape };
                let next = match *step {
                    Step::Constant(x) => vec![x; n],
                    Step::Unary(f, a) => full(first(a), &Chain::unary(f), &[]),
                    Step::Binary(f, a, b) => full(first(a), &Chain::binary(f), &[v(b)]),
                    Step::Select(c, a, b) => {
                        full(first(c), &Chain::new(3, &[Step::Select(0, 1, 2)]).unwrap(), &[v(a), v(b)])
                    }
                };
                values.push(next);
            }
            values.pop().unwrap()
        };
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        everywhere(
            |isa| {
                let y = run(isa, false);
                assert_eq!(bits(&y), bits(&run(isa, true)), "case {case}: in place");
                y
            },
            |isa, y| {
                assert_eq!(
                    bits(y),
                    bits(&one_by_one(isa)),
                    "case {case}, {isa:?}: {steps:?} {shape:?} {shapes:?}"
                )
            },
        );
    }
}
