//! Files as torch's exporters write them (tests/fixtures/generate/onnx_exports.py) end as the fused form that frit's
//! own builder gives for the checkpoint, and give transformers' numbers. What frit writes is tested in onnx_export.rs.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking
#![cfg(feature = "compile")]

mod common;

use common::{Call, compare, root};
use frit::LoadOptions;
use frit::ir::Module;
use frit::load::{build, optimise};
use std::collections::BTreeMap;
use std::path::Path;

/// Ops of these kinds are what passes make of attention, LayerNorm, products and convolutions; what else stands
/// between them are reshapes and masks, in which exporters differ.
const FUSED: &[&str] = &[
    "Attention",
    "LayerNormalization",
    "SkipLayerNormalization",
    "GroupNormalization",
    "FusedGroupNormalization",
    "ChannelNormalization",
    "FusedMatMul",
    "FusedConv",
    "MatMul",
    "Conv",
    "Softmax",
    "Gelu",
    "Erf",
];

fn fused_ops(module: &Module) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for name in module.graphs.iter().take(1).flat_map(|g| g.nodes()).flat_map(|(_, node)| node.op.parts()) {
        if let Some(name) = FUSED.iter().find(|n| **n == name) {
            // A product with nothing behind it is one or the other, by the layout in which its weight is stored.
            let name = if *name == "MatMul" { "FusedMatMul" } else { *name };
            *counts.entry(name).or_insert(0) += 1;
        }
    }
    counts
}

fn call(folder: &Path) -> Call {
    let text = std::fs::read_to_string(folder.join("call.json")).unwrap();
    let about: serde_json::Value = serde_json::from_str(&text).unwrap();
    let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
    let parity = root().join("tests/fixtures/parity").join(&name);
    let of_call = parity.join(about["call"].as_str().unwrap());
    let mut json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(of_call.join("call.json")).unwrap()).unwrap();
    json["select"] = about["outputs"].clone();
    Call { name, model: parity.join("model"), folder: of_call, json }
}

fn check(exporter: &str) {
    let mut failures = Vec::new();
    let mut cases: Vec<_> =
        std::fs::read_dir(root().join("tests/fixtures/onnx")).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 6);
    for folder in cases {
        let call = call(&folder);
        let own = fused_ops(&optimise(build(&call.model, &call.options()).unwrap()).unwrap());
        // The builder's first entry point is `forward`, as is an imported file's.
        assert!(own.contains_key("Attention") && own.len() >= 3, "{}: {own:?}", call.name);
        let path = folder.join(format!("{exporter}.onnx"));
        let options = LoadOptions { threads: Some(1), ..LoadOptions::default() };
        let imported = optimise(build(&path, &options).unwrap()).unwrap();
        let theirs = fused_ops(&imported);
        if theirs != own {
            failures.push(format!("{}: {theirs:?}, the builder's graph has {own:?}", call.name));
        }
        let dynamic =
            imported.graphs.iter().flat_map(|g| g.nodes()).filter(|(_, n)| n.op.is_dynamic()).count();
        if dynamic > 0 {
            failures.push(format!("{}: {dynamic} sizes are left to run time", call.name));
        }
        let loaded = frit::load(&path, &options).unwrap();
        let mut session = loaded.model.session("forward").unwrap();
        let inputs = call.inputs();
        let feed: Vec<_> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let outputs = session.run(&feed).unwrap();
        let names: Vec<String> = outputs.names().map(str::to_owned).collect();
        let got: BTreeMap<_, _> =
            names.into_iter().map(|n| (n.clone(), outputs.tensor(&n).unwrap())).collect();
        let mut expected = call.expected();
        expected.retain(|name, _| got.contains_key(name));
        assert_eq!(expected.len(), got.len());
        if let Err(why) = compare(&expected, &got) {
            failures.push(format!("{}: {why}", call.name));
        }
    }
    assert!(failures.is_empty(), "{exporter}:\n{}", failures.join("\n"));
}

#[test]
fn traced_at_fixed_sizes() {
    check("static");
}

#[test]
fn traced_with_dynamic_axes() {
    check("dynamic");
}

#[test]
fn exported_by_dynamo() {
    check("dynamo");
}
