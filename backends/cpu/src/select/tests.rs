//! Every kernel this backend gives, against the interpreter, for every target that this machine can run.

use super::CpuBackend;
use crate::isa::{Isa, Level};
use frit_backend::conformance::{Case, Outcome, check};
use frit_backend::{Backend, OperandInfo, Precision, Request, Run, Target, TensorMut, TensorRef, cases};
use frit_ir::random::Stream;
use frit_ir::{Bindings, DType, Dim, Op, Tensor, TensorType, op};
use std::collections::BTreeMap;

/// What the largest error may be, relative to the largest reference magnitude.
const TOLERANCE: f64 = 1e-5;

fn target(isa: Isa) -> Target {
    match isa.level() {
        Level::Portable => Target::Generic,
        Level::Avx2Fma => Target::X86V3,
        Level::Avx512 => Target::X86V4,
    }
}

#[test]
fn conforms_to_the_interpreter() {
    let cases = cases::all(7).unwrap();
    let mut failures = Vec::new();
    let mut given: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let mut worst: BTreeMap<&str, f64> = BTreeMap::new();
    for isa in Isa::available() {
        for case in &cases {
            let counts = given.entry(case.op.name()).or_default();
            match check(&CpuBackend, case, target(isa), TOLERANCE) {
                Outcome::Declined => counts[1] += 1,
                Outcome::Passed(e) => {
                    counts[0] += 1;
                    let w = worst.entry(case.op.name()).or_default();
                    *w = w.max(e);
                }
                Outcome::Failed(why) => failures.push(format!("{isa:?}: {why}")),
            }
        }
    }
    for (name, [kernels, declined]) in &given {
        println!(
            "{name}: {kernels} given, {declined} declined, worst {:.1e}",
            worst.get(name).unwrap_or(&0.0)
        );
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures[..failures.len().min(40)].join("\n")
    );
}

/// Ops in f32 that the models are made of must not fall to the interpreter.
#[test]
fn no_everyday_op_is_declined_in_f32() {
    let declined: Vec<String> = cases::all(8)
        .unwrap()
        .iter()
        .filter(|c| c.inputs.iter().flatten().all(|t| t.dtype() != DType::F64 && t.dtype() != DType::F16))
        .filter(|c| c.inputs.iter().flatten().any(|t| t.dtype() == DType::F32))
        .filter(|c| check(&CpuBackend, c, target(Isa::get()), TOLERANCE) == Outcome::Declined)
        .map(|c| c.op.name().to_owned())
        .collect();
    let names: std::collections::BTreeSet<&str> = declined.iter().map(String::as_str).collect();
    // Losses and what few models compute; a LayerNormalization whose scale is one number; scatters that combine;
    // resizing of a region.
    let known = [
        "CTCLoss",
        "Col2Im",
        "CumProd",
        "DeformConv",
        "Det",
        "GridSample",
        "LayerNormalization",
        "LpPool",
        "MaxPoolIndices",
        "MaxRoiPool",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "Resize",
        "ReverseSequence",
        "RoiAlign",
        "ScatterElements",
        "ScatterND",
        "SoftmaxCrossEntropyLoss",
        "Trilu",
    ];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), known);
}

fn extents(s: &mut Stream, rank: usize, most: usize) -> Vec<usize> {
    (0..rank).map(|_| 1 + s.below(most)).collect()
}

/// Whole numbers below `bound`, or counted from the end.
fn indices(s: &mut Stream, shape: &[usize], bound: usize) -> Tensor {
    let n: usize = shape.iter().product();
    let v: Vec<i64> = (0..n).map(|_| s.below(2 * bound) as i64 - bound as i64).collect();
    Tensor::from_i64(DType::I64, shape, &v).unwrap()
}

/// A resize, transposed convolution, ranking, scatter, gather or pooling of random sizes.
fn place(s: &mut Stream, which: usize) -> (Op, Vec<Tensor>) {
    let f = DType::F32;
    let rank = 1 + s.below(4);
    let shape = extents(s, rank, 9);
    let axis = s.below(rank);
    let tensor = |s: &mut Stream, shape: &[usize]| s.tensor(f, shape).unwrap();
    match which {
        0 => {
            let resize = op::Resize {
                sizes: extents(s, rank, 14).into_iter().map(|d| Dim::constant(d as i64)).collect(),
                scales: vec![],
                mode: op::ResizeMode::ALL[s.below(op::ResizeMode::ALL.len())],
                coordinates: op::Coordinates::ALL[s.below(5)],
                nearest: op::NearestMode::ALL[s.below(op::NearestMode::ALL.len())],
                cubic_coeff: -0.5,
                exclude_outside: s.below(2) == 0,
                antialias: s.below(2) == 0,
                roi: vec![],
                extrapolation: 0.0,
            };
            (resize.into(), vec![tensor(s, &shape)])
        }
        1 => {
            let (axes, group) = (1 + s.below(3), 1 + s.below(2));
            let (input, output) = (group * (1 + s.below(5)), 1 + s.below(4));
            let kernel = extents(s, axes, 3);
            let conv = op::ConvTranspose {
                strides: (0..axes).map(|_| 1 + s.below(3) as i64).collect(),
                pads: (0..2 * axes).map(|i| s.below(kernel[i % axes]) as i64 / 2).collect(),
                dilations: (0..axes).map(|_| 1 + s.below(2) as i64).collect(),
                group: group as i64,
                output_padding: vec![],
            };
            let x = [vec![1 + s.below(2), input], extents(s, axes, 7)].concat();
            let w = [vec![input, output], kernel].concat();
            (conv.into(), vec![tensor(s, &x), tensor(s, &w), tensor(s, &[output * group])])
        }
        2 => {
            let k = Dim::constant(1 + s.below(shape[axis]) as i64);
            (op::TopK { k, axis: axis as i64, largest: s.below(2) == 0 }.into(), vec![tensor(s, &shape)])
        }
        3 => {
            let mut to = shape.clone();
            to[axis] = 1 + s.below(4);
            let at = indices(s, &to, shape[axis]);
            let op = op::ScatterElements { axis: axis as i64, reduction: op::ScatterReduction::None };
            (op.into(), vec![tensor(s, &shape), at, tensor(s, &to)])
        }
        4 | 5 => {
            let (depth, n) = (1 + s.below(rank), 1 + s.below(4));
            let least = shape.iter().take(depth).copied().min().unwrap_or(1);
            let at = indices(s, &[n, depth], least);
            let slices = [&[n], &shape[depth..]].concat();
            if which == 4 {
                let op = op::ScatterND { reduction: op::ScatterReduction::None };
                return (op.into(), vec![tensor(s, &shape), at, tensor(s, &slices)]);
            }
            (op::GatherND { batch_dims: 0 }.into(), vec![tensor(s, &shape), at])
        }
        _ => {
            let axes = 1 + s.below(3);
            let kernel = extents(s, axes, 3);
            let pads = (0..2 * axes).map(|i| s.below(kernel[i % axes]) as i64).collect();
            let strides = (0..axes).map(|_| 1 + s.below(3) as i64).collect();
            let x = [extents(s, 2, 3), (0..axes).map(|_| 3 + s.below(30)).collect()].concat();
            let kernel = kernel.into_iter().map(|k| k as i64).collect();
            let op: Op = if which == 6 {
                op::MaxPool { kernel, strides, pads, dilations: vec![1; axes], ceil_mode: s.below(2) == 0 }
                    .into()
            } else {
                op::AveragePool {
                    kernel,
                    strides,
                    pads,
                    dilations: vec![1; axes],
                    ceil_mode: s.below(2) == 0,
                    count_include_pad: s.below(2) == 0,
                }
                .into()
            };
            (op, vec![tensor(s, &x)])
        }
    }
}

#[test]
fn places_of_random_sizes() {
    let mut s = Stream::new(11);
    let mut passed = [0; 8];
    for round in 0..60 {
        for (which, passed) in passed.iter_mut().enumerate() {
            let (op, inputs) = place(&mut s, which);
            let shapes: Vec<&[usize]> = inputs.iter().map(|t| t.shape()).collect();
            let name = format!("round {round}: {op:?} of {shapes:?}");
            let constant = vec![false; inputs.len()];
            let case = Case { name, op, inputs: inputs.into_iter().map(Some).collect(), constant };
            match check(&CpuBackend, &case, target(Isa::get()), TOLERANCE) {
                Outcome::Passed(_) => *passed += 1,
                // A stretched kernel may be wider than the data: both sides refuse.
                Outcome::Failed(why) => assert!(why.contains("a scale too small"), "{why}"),
                Outcome::Declined => {}
            }
        }
    }
    assert!(passed.iter().all(|&n| n >= 40), "{passed:?}");
}

/// bf16: the product of weights rounded to bf16, and of activations rounded where the machine multiplies such pairs.
#[test]
fn bf16_weights_are_packed_and_multiplied() {
    let mut stream = Stream::new(5);
    let x = stream.tensor(DType::F32, &[6, 64]).unwrap();
    let w = stream.tensor(DType::F32, &[64, 40]).unwrap();
    let rounded = w.cast(DType::BF16).unwrap().cast(DType::F32).unwrap();
    let rounded_x = x.cast(DType::BF16).unwrap().cast(DType::F32).unwrap();
    let want = |x: &Tensor| -> Vec<f64> {
        let (xs, ws) = (x.as_slice::<f32>().unwrap(), rounded.as_slice::<f32>().unwrap());
        let term = |i: usize, k: usize| f64::from(xs[i / 40 * 64 + k]) * f64::from(ws[k * 40 + i % 40]);
        (0..6 * 40).map(|i| (0..64).map(|k| term(i, k)).sum()).collect()
    };
    let types = [TensorType::new(DType::F32, [6, 64]), TensorType::new(DType::F32, [64, 40])];
    let out = TensorType::new(DType::F32, [6, 40]);
    let inputs = [
        Some(OperandInfo { ty: &types[0], constant: false, streamed: false, small: None }),
        Some(OperandInfo { ty: &types[1], constant: true, streamed: false, small: None }),
    ];
    for isa in Isa::available() {
        let request = Request {
            op: &op::MatMul {}.into(),
            inputs: &inputs,
            outputs: &[&out],
            target: target(isa),
            precision: Precision::Bf16,
        };
        let kernel = CpuBackend.kernel(&request).unwrap();
        let packing = kernel.packing();
        assert_eq!(packing.len(), 1);
        assert!(packing[0].layout.starts_with("bf16x2"), "{}", packing[0].layout);
        let blob = kernel.pack(1, &w).unwrap();
        let blob = Tensor::from_slice(&[blob.len()], &blob).unwrap();
        fn of<'a>(t: &'a Tensor, bytes: &'a [u8]) -> TensorRef<'a> {
            TensorRef { dtype: DType::F32, shape: t.shape(), strides: None, bytes }
        }
        let mut y = vec![0f32; 6 * 40];
        let operands = [Some(of(&x, x.bytes())), Some(of(&w, blob.bytes()))];
        let mut outputs =
            [TensorMut { dtype: DType::F32, shape: &[6, 40], bytes: bytemuck::cast_slice_mut(&mut y) }];
        let bindings = Bindings::new();
        let mut run = Run {
            inputs: &operands,
            outputs: &mut outputs,
            aliased: None,
            workspace: &mut [],
            bindings: &bindings,
        };
        kernel.run(&mut run).unwrap();
        let want = want(if isa.has_bf16_dot() { &rounded_x } else { &x });
        crate::testing::assert_close(&format!("{isa:?}"), &y, &want, 1e-6);
    }
}

/// Rows of a large table are kept in bf16 where weights are not exact; small tables and exact ones stay as they are.
#[test]
fn large_tables_are_gathered_from_bf16() {
    let (rows, width) = (1 << 14, 64);
    let mut stream = Stream::new(6);
    let table = stream.tensor(DType::F32, &[rows, width]).unwrap();
    let index = [3i64, -1, 0, 16_000, 3];
    let types = [
        TensorType::new(DType::F32, [rows, width]),
        TensorType::new(DType::I64, [5usize]),
        TensorType::new(DType::F32, [5, width]),
        TensorType::new(DType::F32, [16, width]),
    ];
    let kernel = |table: &TensorType, precision| {
        let inputs = [
            Some(OperandInfo { ty: table, constant: true, streamed: false, small: None }),
            Some(OperandInfo { ty: &types[1], constant: false, streamed: false, small: None }),
        ];
        let op = op::Gather { axis: 0 }.into();
        let outputs = [&types[2]];
        CpuBackend
            .kernel(&Request {
                op: &op,
                inputs: &inputs,
                outputs: &outputs,
                target: Target::native(),
                precision,
            })
            .unwrap()
    };
    assert!(kernel(&types[0], Precision::Exact).packing().is_empty());
    assert!(kernel(&types[3], Precision::Bf16).packing().is_empty());
    let kernel = kernel(&types[0], Precision::Int8);
    let blob = kernel.pack(0, &table).unwrap();
    assert_eq!((kernel.packing().len(), blob.len()), (1, rows * width * 2));
    let run = |index: &[i64], y: &mut [f32]| {
        let operands = [
            Some(TensorRef { dtype: DType::F32, shape: table.shape(), strides: None, bytes: &blob }),
            Some(TensorRef {
                dtype: DType::I64,
                shape: &[5],
                strides: None,
                bytes: bytemuck::cast_slice(index),
            }),
        ];
        let mut outputs =
            [TensorMut { dtype: DType::F32, shape: &[5, width], bytes: bytemuck::cast_slice_mut(y) }];
        let bindings = Bindings::new();
        let (workspace, aliased): (&mut [u8], _) = (&mut [], None);
        kernel.run(&mut Run {
            inputs: &operands,
            outputs: &mut outputs,
            aliased,
            workspace,
            bindings: &bindings,
        })
    };
    let mut y = vec![0f32; 5 * width];
    run(&index, &mut y).unwrap();
    let numbers = table.as_slice::<f32>().unwrap();
    for (i, &at) in index.iter().enumerate() {
        let row = at.rem_euclid(rows as i64) as usize * width;
        let want = numbers[row..row + width].iter().map(|&x| half::bf16::from_f32(x).to_f32());
        assert!(want.eq(y[i * width..(i + 1) * width].iter().copied()), "row {at}");
    }
    assert!(run(&[0, 1, 2, 3, rows as i64], &mut y).is_err());
}
