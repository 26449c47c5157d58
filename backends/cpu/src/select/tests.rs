//! Every kernel this backend gives, against the interpreter, for every target that this machine can run.

use super::CpuBackend;
use crate::isa::{Isa, Level};
use frit_backend::conformance::{Outcome, check};
use frit_backend::{Backend, OperandInfo, Precision, Request, Run, Target, TensorMut, TensorRef, cases};
use frit_ir::random::Stream;
use frit_ir::{Bindings, DType, Tensor, TensorType};
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
    // Losses and what no model here computes; a LayerNormalization whose scale is one number.
    let known = [
        "CTCLoss",
        "ConvTranspose",
        "CumProd",
        "LayerNormalization",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "SoftmaxCrossEntropyLoss",
    ];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), known);
}

/// bf16 weights: the product of weights rounded to bf16.
#[test]
fn bf16_weights_are_packed_and_multiplied() {
    let mut stream = Stream::new(5);
    let x = stream.tensor(DType::F32, &[6, 64]).unwrap();
    let w = stream.tensor(DType::F32, &[64, 40]).unwrap();
    let rounded = w.cast(DType::BF16).unwrap().cast(DType::F32).unwrap();
    let (xs, ws) = (x.as_slice::<f32>().unwrap(), rounded.as_slice::<f32>().unwrap());
    let want: Vec<f64> = (0..6 * 40)
        .map(|i| (0..64).map(|k| f64::from(xs[i / 40 * 64 + k]) * f64::from(ws[k * 40 + i % 40])).sum())
        .collect();
    let types = [TensorType::new(DType::F32, [6, 64]), TensorType::new(DType::F32, [64, 40])];
    let out = TensorType::new(DType::F32, [6, 40]);
    let inputs = [
        Some(OperandInfo { ty: &types[0], constant: false, small: None }),
        Some(OperandInfo { ty: &types[1], constant: true, small: None }),
    ];
    for isa in Isa::available() {
        let request = Request {
            op: &frit_ir::op::MatMul {}.into(),
            inputs: &inputs,
            outputs: &[&out],
            target: target(isa),
            precision: Precision::Bf16,
        };
        let kernel = CpuBackend.kernel(&request).unwrap();
        let packing = kernel.packing();
        assert_eq!(packing.len(), 1);
        assert!(packing[0].layout.starts_with("bf16"), "{}", packing[0].layout);
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
        crate::testing::assert_close(&format!("{isa:?}"), &y, &want, 1e-6);
    }
}
