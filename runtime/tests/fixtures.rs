//! Plans, sessions and artifacts on real models without any pass: the graphs as the builders make them, against
//! transformers' outputs. Fused graphs are tested from the root package.

use frit_ir::{DType, Tensor};
use frit_runtime::{BackendKind, Engine, EngineOptions, Session, artifact};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parity")
}

fn read(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.tensors()
        .into_iter()
        .map(|(name, v)| {
            let dtype: DType = format!("{:?}", v.dtype()).to_lowercase().parse().unwrap();
            (name, Tensor::from_bytes(dtype, v.shape(), v.data()).unwrap())
        })
        .collect()
}

fn build(case: &str, call: &str) -> (frit_ir::Module, BTreeMap<String, Tensor>, BTreeMap<String, Tensor>) {
    let folder = fixtures().join(case);
    let inputs = read(&folder.join(call).join("inputs.safetensors"));
    let expected = read(&folder.join(call).join("outputs.safetensors"));
    let request = frit_frontends::hf::Request {
        signature: Some(
            inputs.iter().map(|(n, t)| frit_frontends::hf::InputSpec::of(n, t.dtype(), t.shape())).collect(),
        ),
        select: Some(expected.keys().cloned().collect()),
        ..Default::default()
    };
    (frit_frontends::hf::build(&folder.join("model"), &request).unwrap(), inputs, expected)
}

fn compare(session: &mut Session, inputs: &BTreeMap<String, Tensor>, expected: &BTreeMap<String, Tensor>) {
    let feed: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let out = session.run(&feed).unwrap();
    for (name, e) in expected {
        let got = out.tensor(name).unwrap();
        assert_eq!(got.shape(), e.shape(), "{name}");
        let (g, e) = (got.to_f64_vec(), e.to_f64_vec());
        let scale = e.iter().fold(0f64, |m, x| m.max(x.abs()));
        let worst = g.iter().zip(&e).fold(0f64, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst <= 1e-4 * scale, "{name}: {worst} of {scale}");
    }
}

fn engine(backend: BackendKind) -> Engine {
    Engine::new(EngineOptions { threads: Some(2), backend, ..Default::default() }).unwrap()
}

fn a_call(case: &str) -> String {
    let folder = fixtures().join(case);
    let mut calls: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n != "model" && !n.starts_with("generate"))
        .collect();
    calls.sort();
    calls.into_iter().next().unwrap()
}

#[test]
fn unfused_graphs_agree_on_every_backend() {
    for case in ["bert_model", "bert_masked_lm", "wav2vec2_group", "beit_classification_relative"] {
        let (module, inputs, expected) = build(case, &a_call(case));
        for backend in [BackendKind::Reference, BackendKind::Cpu] {
            let model = engine(backend).model(module.clone()).unwrap();
            let entry = model.entries().next().unwrap().to_owned();
            let mut session = model.session(&entry).unwrap();
            // Twice: the second run reuses the arena of the first.
            compare(&mut session, &inputs, &expected);
            compare(&mut session, &inputs, &expected);
        }
    }
}

#[test]
fn an_artifact_gives_the_same_numbers_and_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (module, inputs, expected) = build("bert_model", &a_call("bert_model"));
    let paths = [folder.path().join("a.frit"), folder.path().join("b.frit")];
    for path in &paths {
        let model = engine(BackendKind::Cpu).model(module.clone()).unwrap();
        artifact::write(&model, &[("config.json".into(), b"{}".to_vec())], path, &mut |_, _| {}).unwrap();
    }
    let bytes = std::fs::read(&paths[0]).unwrap();
    assert_eq!(bytes, std::fs::read(&paths[1]).unwrap());
    let loaded = artifact::load(&engine(BackendKind::Cpu), &paths[0]).unwrap();
    assert_eq!(loaded.assets[0].1.bytes(), b"{}");
    let entry = loaded.model.entries().next().unwrap().to_owned();
    compare(&mut loaded.model.session(&entry).unwrap(), &inputs, &expected);
}

#[test]
fn a_damaged_artifact_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (module, ..) = build("bert_model", &a_call("bert_model"));
    let path = folder.path().join("a.frit");
    let engine = engine(BackendKind::Cpu);
    artifact::write(&engine.model(module).unwrap(), &[], &path, &mut |_, _| {}).unwrap();
    let good = std::fs::read(&path).unwrap();
    let damaged = folder.path().join("damaged.frit");
    let fails = |bytes: &[u8], what: &str| {
        std::fs::write(&damaged, bytes).unwrap();
        assert!(artifact::load(&engine, &damaged).is_err(), "{what} went unnoticed");
    };
    for cut in [0, 1, 7, 8, 12, 63, 64, 200, good.len() / 2, good.len() - 1] {
        fails(&good[..cut], &format!("a file cut at {cut}"));
    }
    fails(&[&good[..], b"x"].concat(), "a byte too many");
    let padding = |i: usize| {
        // Bytes between sections carry nothing.
        let table: Vec<(usize, usize)> = (0..6)
            .map(|s| {
                let at = |k: usize| usize::try_from(u64::from_le_bytes(good[64 + s * 48 + k..][..8].try_into().unwrap())).unwrap();
                (at(16), at(16) + at(24))
            })
            .collect();
        i >= 64 + 6 * 48 && !table.iter().any(|(a, b)| (*a..*b).contains(&i))
    };
    let mut step = 1;
    let mut i = 0;
    while i < good.len() {
        if !padding(i) {
            let mut bad = good.clone();
            bad[i] ^= 1 << (i % 8);
            fails(&bad, &format!("bit {} of byte {i}", i % 8));
        }
        i += step;
        step = if i < 400 { 1 } else { good.len() / 300 };
    }
}
