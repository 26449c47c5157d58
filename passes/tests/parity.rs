//! Optimising changes no number: every `forward` call of tests/fixtures/parity, built, optimised and run by the
//! interpreter, gives what transformers 4.37.2 gives, within 1e-4 of the largest magnitude of each output.

#![allow(clippy::unwrap_used, clippy::panic)] // a test may panic

use frit_frontends::hf::{self, InputSpec, Request, weights::Checkpoint};
use frit_ir::{Tensor, interp};
use frit_passes::{Options, optimise};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const TOLERANCE: f64 = 1e-4;

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).unwrap();
    let file = Checkpoint::parse_bytes("tensors", Arc::new(bytes)).unwrap();
    file.names().map(|n| (n.to_string(), file.tensor(n).unwrap())).collect()
}

fn difference(name: &str, expected: &Tensor, got: Option<&Tensor>) -> Option<String> {
    let Some(got) = got else { return Some(format!("{name} is missing")) };
    if got.shape() != expected.shape() {
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

fn check(call: &Path, model: &Path) -> Vec<String> {
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(call.join("call.json")).unwrap()).unwrap();
    if json["entry"] != "forward" || json.get("error").is_some() {
        return vec![];
    }
    let inputs = tensors(&call.join("inputs.safetensors"));
    let select = json["select"].as_array();
    let request = Request {
        head: json["class"].as_str().map(str::to_string),
        entry: Some("forward".to_string()),
        signature: Some(inputs.iter().map(|(n, t)| InputSpec::of(n, t.dtype(), t.shape())).collect()),
        select: select.map(|s| s.iter().map(|n| n.as_str().unwrap().to_string()).collect()),
        ..Request::default()
    };
    let mut module = hf::build(model, &request).unwrap();
    let report = match optimise(&mut module, &Options::default()) {
        Ok(report) => report,
        Err(e) => return vec![e.to_string()],
    };
    let mut faults: Vec<String> = report
        .stages
        .iter()
        .filter(|s| !s.settled)
        .map(|s| format!("stage {} is not settled after {} sweeps", s.stage, s.sweeps))
        .collect();
    let graph = module.graph("forward").unwrap();
    let given: Vec<_> = inputs.iter().map(|(n, t)| (n.clone(), t.clone())).collect();
    match interp::run(graph, &module.weights, &given) {
        Ok(got) => {
            let find = |name: &str| got.iter().find(|(n, _)| n == name).map(|(_, t)| t);
            let expected = tensors(&call.join("outputs.safetensors"));
            faults.extend(expected.iter().filter_map(|(n, t)| difference(n, t, find(n))));
        }
        Err(e) => faults.push(e.to_string()),
    }
    faults
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    all
}

fn check_all(prefix: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parity");
    let mut checked = 0;
    let mut faults = Vec::new();
    for case in sorted(&root) {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with(prefix) || !case.join("model").is_dir() {
            continue;
        }
        for call in sorted(&case).iter().filter(|c| c.join("call.json").exists()) {
            let found = check(call, &case.join("model"));
            checked += 1;
            let at = call.strip_prefix(&root).unwrap().display().to_string();
            faults.extend(found.into_iter().map(|f| format!("{at}: {f}")));
        }
    }
    assert!(checked > 0, "no fixtures for {prefix}");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn bert() {
    check_all("bert_");
}

#[test]
fn beit() {
    check_all("beit_");
}

#[test]
fn vit() {
    check_all("vit_");
}

#[test]
fn wav2vec2() {
    check_all("wav2vec2_");
}

#[test]
fn gpt2() {
    check_all("gpt2_");
}

#[test]
fn vision_encoder_decoder() {
    check_all("ved_");
}

#[test]
fn sparse_configs() {
    check_all("config_");
}
