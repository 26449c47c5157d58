//! What the root package's tests share: fixtures, comparison, the built command. No test belongs here.
#![allow(dead_code)] // each test file uses its part

use frit::ir::Tensor;
use frit::load::{InputSpec, LoadOptions};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The checkout's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A call of a parity fixture.
pub struct Call {
    /// Case and call, for messages.
    pub name: String,
    /// Checkpoint folder.
    pub model: PathBuf,
    /// Folder of the call's tensors.
    pub folder: PathBuf,
    /// call.json.
    pub json: Value,
}

impl Call {
    /// Inputs by name.
    pub fn inputs(&self) -> BTreeMap<String, Tensor> {
        frit::tensors::read(&self.folder.join("inputs.safetensors")).unwrap()
    }
    /// What transformers gave.
    pub fn expected(&self) -> BTreeMap<String, Tensor> {
        frit::tensors::read(&self.folder.join("outputs.safetensors")).unwrap()
    }
    /// True for a generation.
    pub fn generates(&self) -> bool {
        self.json["entry"] == "generate"
    }
    /// Options to load the model for this call.
    pub fn options(&self) -> LoadOptions {
        let inputs = self.inputs();
        LoadOptions {
            head: self.json["class"].as_str().map(str::to_owned),
            signature: (!self.generates())
                .then(|| inputs.iter().map(|(n, t)| InputSpec::of(n, t.dtype(), t.shape())).collect()),
            select: (!self.generates())
                .then(|| self.json["select"].as_array())
                .flatten()
                .map(|a| a.iter().map(|s| s.as_str().unwrap().to_owned()).collect()),
            threads: Some(1),
            ..LoadOptions::default()
        }
    }
}

/// Every call of the parity fixtures whose case begins with one of `prefixes`.
pub fn calls(folder: &Path, prefixes: &[&str]) -> Vec<Call> {
    let mut out = Vec::new();
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    for case in cases {
        let case_name = case.file_name().unwrap().to_str().unwrap().to_owned();
        if !case.is_dir() || !prefixes.iter().any(|p| case_name.starts_with(p)) {
            continue;
        }
        let mut folders: Vec<PathBuf> =
            std::fs::read_dir(&case).unwrap().map(|e| e.unwrap().path()).collect();
        folders.sort();
        for folder in folders {
            let Ok(text) = std::fs::read(folder.join("call.json")) else { continue };
            out.push(Call {
                name: format!("{case_name}/{}", folder.file_name().unwrap().to_str().unwrap()),
                model: case.join("model"),
                json: serde_json::from_slice(&text).unwrap(),
                folder,
            });
        }
    }
    assert!(!out.is_empty(), "no fixture begins with {prefixes:?}");
    out
}

/// Compares every output: shapes, dtypes, integers exactly, floats to 1e-4 of the largest reference magnitude.
pub fn compare(expected: &BTreeMap<String, Tensor>, got: &BTreeMap<String, Tensor>) -> Result<(), String> {
    for (name, e) in expected {
        let g = got.get(name).ok_or_else(|| format!("output {name} is missing"))?;
        if g.shape() != e.shape() || g.dtype() != e.dtype() {
            return Err(format!("{name}: {g:?}, expected {}{:?}", e.dtype(), e.shape()));
        }
        if !e.dtype().is_float() {
            if g != e {
                return Err(format!("{name}: {:?}, expected {:?}", g.to_i64_vec(), e.to_i64_vec()));
            }
            continue;
        }
        let (gv, ev) = (g.to_f64_vec(), e.to_f64_vec());
        let scale = ev.iter().filter(|x| x.is_finite()).fold(0f64, |m, x| m.max(x.abs()));
        for (i, (a, b)) in gv.iter().zip(&ev).enumerate() {
            if !(a == b || (a - b).abs() <= 1e-4 * scale) {
                return Err(format!("{name}[{i}]: {a}, expected {b}; the largest is {scale}"));
            }
        }
    }
    if let Some(extra) = got.keys().find(|n| !expected.contains_key(*n)) {
        return Err(format!("output {extra} was not expected"));
    }
    Ok(())
}

/// Runs the built command line.
pub fn frit(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_frit")).args(args).output().unwrap()
}

/// Runs the command line and requires success; gives standard output.
pub fn frit_ok(args: &[&str]) -> String {
    let out = frit(args);
    assert!(out.status.success(), "frit {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// A path as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}
