//! The parity fixtures on backend tract: exported in memory, read by tract, run by it, against transformers 4.37.2. And
//! tract's own decoder reads what we write.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking
#![cfg(feature = "tract")]

mod common;

use common::{Call, calls, compare, root};
use frit::frontends::onnx::export::{ExportOptions, OPSETS};
use frit::ir::Tensor;
use frit::runtime::BackendKind;
use std::collections::BTreeMap;

/// Calls that tract does not run, and why: fixture or call, or a part of its name.
const IGNORED: &[(&str, &str)] = &[("wav2vec2_ctc_*/labels", "ONNX has no CTC loss")];

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((before, after)) => name.starts_with(before) && name.contains(after),
        None => name.starts_with(pattern),
    }
}

fn check(call: &Call) -> Result<(), String> {
    let mut options = call.options();
    options.backend = BackendKind::Tract;
    let loaded = frit::load(&call.model, &options).map_err(|e| e.to_string())?;
    let entry = loaded.model.entries().next().ok_or("no entry")?.to_owned();
    let mut session = loaded.model.session(&entry).map_err(|e| e.to_string())?;
    let inputs = call.inputs();
    let feed: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let out = session.run(&feed).map_err(|e| e.to_string())?;
    let names: Vec<String> = out.names().map(str::to_owned).collect();
    let got: BTreeMap<String, Tensor> = names
        .into_iter()
        .map(|n| out.tensor(&n).map(|t| (n, t)))
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    compare(&call.expected(), &got)
}

#[test]
fn parity_fixtures() {
    let all: Vec<Call> =
        calls(&root().join("tests/fixtures/parity"), &[""]).into_iter().filter(|c| !c.generates()).collect();
    let (mut failures, mut passed) = (Vec::new(), 0);
    for call in &all {
        let ignored = IGNORED.iter().any(|(p, _)| matches(p, &call.name));
        match check(call) {
            Ok(()) if ignored => failures.push(format!("{} passes and is on the list", call.name)),
            Ok(()) => passed += 1,
            Err(_) if ignored => {}
            Err(why) => {
                failures.push(format!("{}: {}", call.name, why.chars().take(400).collect::<String>()))
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} fail, {passed} pass:\n{}",
        failures.len(),
        all.len(),
        failures.join("\n")
    );
    assert!(passed > 200, "{passed} passed");
}

#[test]
fn tracts_decoder_reads_what_we_write() {
    for call in calls(&root().join("tests/fixtures/parity"), &["bert_model", "wav2vec2_layer"]) {
        let module = frit::load::build(&call.model, &call.options()).unwrap();
        for opset in [*OPSETS.start(), *OPSETS.end()] {
            let options = ExportOptions { opset, ..ExportOptions::default() };
            let bytes = frit::export::to_bytes(&module, &options).unwrap();
            let ours = frit::frontends::onnx::OnnxModel::from_bytes(bytes.clone()).unwrap();
            let theirs = frit_tract::summary(&bytes).unwrap();
            let graph = ours.graph().unwrap();
            assert_eq!(theirs.producer, "frit");
            assert_eq!(theirs.opset, i64::from(opset));
            assert_eq!(theirs.nodes, graph.node.iter().map(|n| n.op_type.clone()).collect::<Vec<_>>());
            assert_eq!(
                theirs.initializers,
                graph.initializer.iter().map(|i| (i.name.clone(), i.dims.clone())).collect::<Vec<_>>()
            );
            assert_eq!(theirs.inputs, graph.input.iter().map(|i| i.name.clone()).collect::<Vec<_>>());
        }
    }
}
