//! The builders against transformers 4.37.2: every `forward` call of tests/fixtures/parity, run by the interpreter,
//! within 1e-4 of the largest magnitude of each output. Generation is tested where it lives.

// A test that cannot read its fixtures fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use frit_frontends::hf::{self, InputSpec, Request, weights::Checkpoint};
use frit_ir::{DType, Module, Tensor, interp};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const TOLERANCE: f64 = 1e-4;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parity")
}

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).unwrap();
    let file = Checkpoint::parse_bytes("tensors", Arc::new(bytes)).unwrap();
    file.names().map(|n| (n.to_string(), file.tensor(n).unwrap())).collect()
}

/// What is wrong with one output; None when it agrees.
fn difference(name: &str, expected: &Tensor, got: Option<&Tensor>) -> Option<String> {
    let Some(got) = got else { return Some(format!("{name} is missing")) };
    if got.shape() != expected.shape() || got.dtype().is_float() != expected.dtype().is_float() {
        return Some(format!("{name} is {got:?}, expected {expected:?}"));
    }
    let (a, b) = (expected.to_f64_vec(), got.to_f64_vec());
    let largest = a.iter().filter(|x| x.is_finite()).fold(0f64, |m, x| m.max(x.abs()));
    let worst = a
        .iter()
        .zip(&b)
        .map(|(x, y)| if x == y || (x.is_nan() && y.is_nan()) { 0.0 } else { (x - y).abs() })
        .fold(0f64, |m, d| if d.is_nan() { f64::INFINITY } else { m.max(d) });
    (worst > TOLERANCE * largest).then(|| format!("{name}: off by {worst:e}, largest {largest:e}"))
}

fn compare(expected: &BTreeMap<String, Tensor>, got: &[(String, Tensor)]) -> Vec<String> {
    let find = |name: &str| got.iter().find(|(n, _)| n == name).map(|(_, t)| t);
    let mut faults: Vec<String> = expected.iter().filter_map(|(n, t)| difference(n, t, find(n))).collect();
    faults.extend(
        got.iter().filter(|(n, _)| !expected.contains_key(n)).map(|(n, _)| format!("{n} is too many")),
    );
    faults
}

fn request(call: &serde_json::Value, inputs: &BTreeMap<String, Tensor>) -> Request {
    let select = call["select"].as_array();
    Request {
        head: call["class"].as_str().map(str::to_string),
        entry: Some("forward".to_string()),
        signature: Some(inputs.iter().map(|(n, t)| InputSpec::of(n, t.dtype(), t.shape())).collect()),
        select: select.map(|s| s.iter().map(|n| n.as_str().unwrap().to_string()).collect()),
        ..Request::default()
    }
}

fn run(module: &Module, inputs: &BTreeMap<String, Tensor>) -> Result<Vec<(String, Tensor)>, String> {
    let graph = module.graph("forward").ok_or("no entry forward")?;
    let inputs: Vec<_> = inputs.iter().map(|(n, t)| (n.clone(), t.clone())).collect();
    interp::run(graph, &module.weights, &inputs).map_err(|e| e.to_string())
}

fn check(case: &Path) -> Vec<String> {
    let mut calls: Vec<PathBuf> = std::fs::read_dir(case).unwrap().map(|e| e.unwrap().path()).collect();
    calls.sort();
    let mut faults = Vec::new();
    for call in calls.iter().filter(|c| c.join("call.json").exists()) {
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(call.join("call.json")).unwrap()).unwrap();
        if json["entry"] != "forward" || json.get("error").is_some() {
            continue;
        }
        let inputs = tensors(&call.join("inputs.safetensors"));
        let expected = tensors(&call.join("outputs.safetensors"));
        let built = hf::build(&case.join("model"), &request(&json, &inputs)).map_err(|e| e.to_string());
        let found = match built.and_then(|module| run(&module, &inputs)) {
            Ok(got) => compare(&expected, &got),
            Err(e) => vec![e],
        };
        let name = call.strip_prefix(case.parent().unwrap()).unwrap().display().to_string();
        faults.extend(found.into_iter().map(|f| format!("{name}: {f}")));
    }
    faults
}

fn check_all(prefixes: &[&str]) {
    check_root(&fixtures(), prefixes);
}

fn check_root(root: &Path, prefixes: &[&str]) {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.join("model").is_dir())
        .filter(|p| prefixes.iter().any(|x| p.file_name().unwrap().to_string_lossy().starts_with(x)))
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "no fixtures for {prefixes:?}");
    let faults: Vec<String> = cases.iter().flat_map(|c| check(c)).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn bert() {
    check_all(&["bert_"]);
}

#[test]
fn beit() {
    check_all(&["beit_"]);
}

#[test]
fn vit() {
    check_all(&["vit_"]);
}

#[test]
fn wav2vec2() {
    check_all(&["wav2vec2_"]);
}

#[test]
fn gpt2() {
    check_all(&["gpt2_"]);
}

#[test]
fn vision_encoder_decoder() {
    check_all(&["ved_"]);
}

#[test]
fn sparse_configs() {
    check_all(&["config_"]);
}

#[test]
fn weight_formats() {
    check_all(&["format_"]);
}

#[test]
fn comparing_tells_wrong_from_right() {
    let right = Tensor::from_slice(&[2], &[1f32, 100.0]).unwrap();
    let wrong = Tensor::from_slice(&[2], &[1.02f32, 100.0]).unwrap();
    let nan = Tensor::from_slice(&[2], &[f32::NAN, 100.0]).unwrap();
    assert_eq!(difference("x", &right, Some(&right)), None);
    for bad in [Some(&wrong), Some(&nan), None] {
        assert!(difference("x", &right, bad).is_some());
    }
    assert_eq!(right.dtype(), DType::F32);
}

/// Cases that tests/fixtures/generate/unseen.py made elsewhere.
#[test]
#[ignore = "set FRIT_PARITY to a folder of cases"]
fn unseen() {
    let root = std::env::var_os("FRIT_PARITY").expect("FRIT_PARITY names a folder of cases");
    check_root(Path::new(&root), &[""]);
}
