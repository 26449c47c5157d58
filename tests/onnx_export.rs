//! Export and import are each other's inverse: every case of the conformance suite, and every parity fixture, written as
//! ONNX at several opsets and read again, gives the same numbers in the interpreter.
//!
//! With FRIT_EXPORT_CASES set to a folder the files are kept there for tests/conformance/export_cases.py, which checks
//! and runs them in ONNX Runtime.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking
#![cfg(feature = "compile")]

mod common;

use common::{calls, root};
use frit::backend::cases;
use frit::backend::conformance::Case;
use frit::frontends::onnx::OnnxModel;
use frit::frontends::onnx::export::{ExportError, ExportOptions, Exported, export};
use frit::frontends::onnx::import::{ImportRequest, import};
use frit::ir::{DType, Graph, GraphBuilder, Module, Tensor, TensorType, interp};
use std::collections::BTreeSet;
use std::path::PathBuf;

type Named = Vec<(String, Tensor)>;

/// Ops that no opset written has a form of.
const NO_FORM: &[&str] = &["BitCast", "CTCLoss", "CumProd"];

fn module(case: &Case) -> (Module, Named) {
    let mut m = Module::default();
    let mut graph = Graph::new("forward");
    let mut given = Named::new();
    let mut b = GraphBuilder::new(&mut graph, &mut m.weights);
    let mut operands = Vec::new();
    for (i, t) in case.inputs.iter().enumerate() {
        operands.push(t.as_ref().map(|t| {
            if case.constant.get(i).copied().unwrap_or(false) {
                return b.named_weight(&format!("w{i}"), t.clone()).unwrap();
            }
            given.push((format!("x{i}"), t.clone()));
            b.input(&format!("x{i}"), TensorType::new(t.dtype(), t.shape().iter().copied()), None)
        }));
    }
    let outputs = b.scoped("case", |b| b.ops(case.op.clone(), &operands)).unwrap();
    for (i, v) in outputs.into_iter().enumerate() {
        b.output(&format!("y{i}"), v);
    }
    m.graphs.push(graph);
    (m, given)
}

fn differ(got: &Named, want: &Named) -> Option<String> {
    if got.len() != want.len() {
        return Some(format!("{} outputs, expected {}", got.len(), want.len()));
    }
    for ((_, g), (name, w)) in got.iter().zip(want) {
        if g.dtype() != w.dtype() || g.shape() != w.shape() {
            return Some(format!(
                "{name}: {}{:?}, expected {}{:?}",
                g.dtype(),
                g.shape(),
                w.dtype(),
                w.shape()
            ));
        }
        if !w.dtype().is_float() {
            if g != w {
                return Some(format!("{name}: other values"));
            }
            continue;
        }
        let (gv, wv) = (g.to_f64_vec(), w.to_f64_vec());
        let scale = wv.iter().filter(|x| x.is_finite()).fold(0f64, |m, x| m.max(x.abs()));
        // Attributes are single precision in ONNX; half types round at every step of a decomposition.
        let tolerance = if w.dtype().size() == 2 { 2e-2 } else { 1e-5 };
        let near =
            |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * scale;
        if let Some((a, b)) = gv.iter().zip(&wv).find(|p| !near(*p)) {
            return Some(format!("{name}: {a}, expected {b}; the largest is {scale}"));
        }
    }
    None
}

/// What a generator that is not ours would give: the right types and shapes.
fn differ_in_type(got: &Named, want: &Named) -> Option<String> {
    let same = |((_, g), (_, w)): (&(String, Tensor), &(String, Tensor))| {
        g.dtype() == w.dtype() && g.shape() == w.shape()
    };
    (got.len() != want.len() || !got.iter().zip(want).all(same)).then(|| "other types".to_owned())
}

/// Writes, reads and runs a module; None when `differ` finds all as it was.
fn round_trip(
    exported: &Exported,
    inputs: &Named,
    want: &Named,
    differ: fn(&Named, &Named) -> Option<String>,
) -> Result<(), String> {
    let bytes = exported.to_bytes().map_err(|e| format!("writing: {e}"))?;
    let model = OnnxModel::from_bytes(bytes).map_err(|e| format!("reading: {e}"))?;
    let back = import(&model, &ImportRequest::default()).map_err(|e| format!("importing: {e}"))?.module;
    let entry = back.graphs.first().ok_or("no graph")?.name.clone();
    let got = interp::run_module(&back, &entry, inputs).map_err(|e| format!("running: {e}"))?;
    differ(&got, want).map_or(Ok(()), Err)
}

fn keep(name: &str, exported: &Exported, inputs: &Named, outputs: &Named) {
    let Ok(folder) = std::env::var("FRIT_EXPORT_CASES") else { return };
    let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let folder = PathBuf::from(folder).join(clean);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("model.onnx"), exported.to_bytes().unwrap()).unwrap();
    for (file, tensors) in [("inputs.safetensors", inputs), ("outputs.safetensors", outputs)] {
        frit::tensors::write(&folder.join(file), tensors).unwrap();
    }
}

#[test]
fn every_case_comes_back() {
    let all = cases::all(7).unwrap();
    let (mut failures, mut done, mut refused) = (Vec::new(), 0, BTreeSet::new());
    for (n, case) in all.iter().enumerate() {
        let (m, inputs) = module(case);
        let want = interp::run_module(&m, "forward", &inputs).unwrap();
        for opset in [17, 20, 23, 24] {
            let options = ExportOptions { opset, ..ExportOptions::default() };
            let exported = match export(&m, &options) {
                Ok(e) => e,
                Err(ExportError::Unsupported { .. }) if opset < 24 => continue,
                // Integers of 2 bits are of opset 25.
                Err(ExportError::Unsupported { .. })
                    if inputs
                        .iter()
                        .chain(&want)
                        .any(|(_, t)| matches!(t.dtype(), DType::I2 | DType::U2)) =>
                {
                    continue;
                }
                Err(ExportError::Unsupported { .. }) => {
                    refused.insert(case.op.name());
                    continue;
                }
                Err(e) => {
                    failures.push(format!("{} at {opset}: {e}", case.name));
                    continue;
                }
            };
            keep(&format!("{opset}_{n:04}_{}", case.name), &exported, &inputs, &want);
            let differ = if case.op.name() == "Random" { differ_in_type } else { differ };
            match round_trip(&exported, &inputs, &want, differ) {
                Ok(()) => done += 1,
                Err(why) => failures.push(format!("{} at {opset}: {why}", case.name)),
            }
        }
    }
    let unknown: Vec<_> = refused.iter().filter(|op| !NO_FORM.contains(op)).collect();
    assert!(unknown.is_empty(), "no form of {unknown:?}");
    assert!(done > all.len(), "{done} round trips of {} cases", all.len());
    assert!(failures.is_empty(), "{} fail, {done} pass:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn fixtures_come_back() {
    let mut failures = Vec::new();
    let all = calls(
        &root().join("tests/fixtures/parity"),
        &["bert_model", "gpt2_model", "ved_equal", "wav2vec2_layer"],
    );
    for call in all.iter().filter(|c| !c.generates()) {
        let module = frit::load::build(&call.model, &call.options()).unwrap();
        let entry = module.graphs[0].name.clone();
        let inputs: Named = call.inputs().into_iter().collect();
        let want = interp::run_module(&module, &entry, &inputs).unwrap();
        for opset in [17, 23] {
            let exported = export(&module, &ExportOptions { opset, ..ExportOptions::default() }).unwrap();
            if let Err(why) = round_trip(&exported, &inputs, &want, differ) {
                failures.push(format!("{} at {opset}: {why}", call.name));
            }
        }
    }
    assert!(failures.is_empty(), "{}:\n{}", failures.len(), failures.join("\n"));
}
