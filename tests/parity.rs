//! Every parity fixture through the whole line: checkpoint folder, passes, plan, CPU kernels; then compiled into an
//! artifact and run from it. Against transformers 4.37.2 (tests/fixtures/generate).
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use common::{Call, calls, compare, root};
use frit::generate::{Settings, generate};
use frit::ir::Tensor;
use frit::{LoadOptions, Loaded};
use std::collections::BTreeMap;

fn run(call: &Call, loaded: &Loaded) -> Result<BTreeMap<String, Tensor>, String> {
    let inputs = call.inputs();
    if call.generates() {
        let options = call.json["generate"].as_object().cloned().unwrap_or_default();
        let made = generate(loaded, &inputs, &Settings { options, seed: None }).map_err(|e| e.to_string())?;
        return Ok(made.outputs.into_iter().collect());
    }
    let entry = loaded.model.entries().next().ok_or("no entry")?.to_owned();
    let mut session = loaded.model.session(&entry).map_err(|e| e.to_string())?;
    let feed: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let collect = |session: &mut frit::runtime::Session| -> Result<BTreeMap<String, Tensor>, String> {
        let out = session.run(&feed).map_err(|e| e.to_string())?;
        let names: Vec<String> = out.names().map(str::to_owned).collect();
        names.into_iter().map(|n| out.tensor(&n).map(|t| (n, t)).map_err(|e| e.to_string())).collect()
    };
    let first = collect(&mut session)?;
    session.clear_state();
    // A second run in the same memory gives the same bits.
    if collect(&mut session)? != first {
        return Err("a second run gives other numbers".into());
    }
    Ok(first)
}

fn check(call: &Call, artifact: bool) -> Result<(), String> {
    let loaded = frit::load(&call.model, &call.options()).map_err(|e| e.to_string())?;
    let mut expected = call.expected();
    let got = run(call, &loaded)?;
    if call.generates() && !expected.contains_key("sequences_scores") {
        expected.extend(got.get("sequences_scores").map(|t| ("sequences_scores".to_owned(), t.clone())));
    }
    compare(&expected, &got)?;
    if !artifact {
        return Ok(());
    }
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let path = folder.path().join("model.frit");
    let assets: Vec<(String, Vec<u8>)> =
        loaded.assets.iter().map(|(n, b)| (n.to_owned(), b.to_vec())).collect();
    frit::runtime::artifact::write(&loaded.model, &assets, &path, &mut |_, _| {})
        .map_err(|e| e.to_string())?;
    let options = LoadOptions { threads: Some(2), ..LoadOptions::default() };
    let compiled = frit::load(&path, &options).map_err(|e| e.to_string())?;
    if run(call, &compiled)? != got {
        return Err("the artifact, on two threads, gives other numbers than the folder on one".into());
    }
    Ok(())
}

/// Checks every call; of each case the first one, and every generation's first, from the artifact too.
fn check_all(prefixes: &[&str]) {
    let mut failures = Vec::new();
    let mut last_case = String::new();
    let all = calls(&root().join("tests/fixtures/parity"), prefixes);
    for call in &all {
        let case = call.name.split('/').next().unwrap_or_default().to_owned();
        let first = case != last_case;
        last_case = case;
        if let Err(why) = check(call, first) {
            failures.push(format!("{}: {why}", call.name));
        }
    }
    assert!(failures.is_empty(), "{} of {} calls fail:\n{}", failures.len(), all.len(), failures.join("\n"));
}

#[test]
fn bert() {
    check_all(&["bert_"]);
}

#[test]
fn wav2vec2() {
    check_all(&["wav2vec2_"]);
}

#[test]
fn images() {
    check_all(&["beit_", "vit_"]);
}

#[test]
fn decoders() {
    check_all(&["gpt2_", "ved_"]);
}

#[test]
fn formats_and_configs() {
    check_all(&["format_", "config_"]);
}
