//! docs/OPS.md and docs/ONNX-OPERATORS.md are generated: the op table, for every op and dtype which backends have a
//! kernel, found by asking them, and the operators of ONNX that the importer has. `FRIT_BLESS=1 cargo test --test
//! ops_table` writes them.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use common::root;
use frit::backend::{Backend, OperandInfo, Request, Target, cases};
use frit::ir::TensorType;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

#[test]
fn docs_ops_is_up_to_date() {
    let cpu = frit_cpu::CpuBackend;
    // Op to the dtypes (of its first operand or result) that the CPU has a kernel for, and those that it was asked for.
    let mut have: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut asked: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for case in cases::all(1).unwrap() {
        let types: Vec<Option<TensorType>> = case
            .inputs
            .iter()
            .map(|t| t.as_ref().map(|t| TensorType::new(t.dtype(), t.shape().iter().copied())))
            .collect();
        let refs: Vec<Option<&TensorType>> = types.iter().map(Option::as_ref).collect();
        let outputs = case.op.infer(&frit::ir::op::Infer { op: case.op.name(), inputs: &refs }).unwrap();
        let infos: Vec<Option<OperandInfo<'_>>> = refs
            .iter()
            .zip(&case.inputs)
            .enumerate()
            .map(|(i, (ty, t))| {
                let constant = case.constant.get(i).copied().unwrap_or(false);
                let small = t.as_ref().filter(|t| constant && t.len() <= frit::ir::module::SMALL);
                ty.map(|ty| OperandInfo { ty, constant, streamed: false, small })
            })
            .collect();
        let outs: Vec<&TensorType> = outputs.iter().collect();
        let request = Request {
            op: &case.op,
            inputs: &infos,
            outputs: &outs,
            target: Target::Generic,
            precision: Default::default(),
        };
        let dtype = refs.iter().flatten().next().map_or(outs[0].dtype, |t| t.dtype).name();
        asked.entry(case.op.name()).or_default().insert(dtype);
        if cpu.kernel(&request).is_some() {
            have.entry(case.op.name()).or_default().insert(dtype);
        }
    }
    let mut text = frit::ir::docs::ops_markdown();
    text.push_str("\n## Kernels\n\nThe reference backend (the interpreter) runs every op on every dtype that it takes. ");
    text.push_str(
        "The table says for which element types `cpu` gives a kernel; the others it leaves to the ",
    );
    text.push_str(
        "decomposition or to the reference backend.\n\n| op | cpu | reference only |\n|---|---|---|\n",
    );
    for (op, dtypes) in &asked {
        let empty = BTreeSet::new();
        let mine = have.get(op).unwrap_or(&empty);
        let list = |s: Vec<&str>| if s.is_empty() { "-".to_owned() } else { s.join(", ") };
        let rest: Vec<&str> = dtypes.iter().filter(|d| !mine.contains(*d)).copied().collect();
        let _ = writeln!(text, "| {op} | {} | {} |", list(mine.iter().copied().collect()), list(rest));
    }
    up_to_date("docs/OPS.md", &text);
    // Every op of the table has a case, so that none escapes the conformance suite.
    for doc in frit::ir::docs::ops() {
        let name = doc.decl.name;
        assert!(
            asked.contains_key(name) || cases::DYNAMIC.contains(&name),
            "{} has no conformance case",
            doc.decl.name
        );
    }
}

fn up_to_date(file: &str, text: &str) {
    let path = root().join(file);
    if std::env::var_os("FRIT_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let on_disk = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(on_disk == text, "{file} is out of date: FRIT_BLESS=1 cargo test --test ops_table writes it");
}

#[test]
fn docs_onnx_operators_is_up_to_date() {
    let mut domains: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (domain, op, since) in frit_frontends::onnx::import::supported() {
        let domain = if domain.is_empty() { "ai.onnx" } else { domain };
        let name = if since > 7 { format!("{op} ({since})") } else { op.to_owned() };
        domains.entry(domain).or_default().push(name);
    }
    let mut text = String::from(
        "# Operators of ONNX that frit reads\n\nGenerated from the importer's table: `FRIT_BLESS=1 cargo test --test \
         ops_table` writes it. In brackets the first opset\nthat has the operator, when it is later than 7. Functions \
         of a model are inlined besides.\n",
    );
    for (domain, ops) in domains {
        let _ = write!(text, "\n## {domain}: {} operators\n\n{}\n", ops.len(), ops.join(", "));
    }
    up_to_date("docs/ONNX-OPERATORS.md", &text);
}
