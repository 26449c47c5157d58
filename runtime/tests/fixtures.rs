//! Plans, sessions and artifacts on real models without any pass: the graphs as the builders make them, against
//! transformers' outputs. Fused graphs are tested from the root package.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

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
                let at = |k: usize| {
                    usize::try_from(u64::from_le_bytes(good[64 + s * 48 + k..][..8].try_into().unwrap()))
                        .unwrap()
                };
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

#[test]
fn sessions_run_side_by_side_on_one_model() {
    let (module, inputs, expected) = build("bert_model", &a_call("bert_model"));
    let model = engine(BackendKind::Cpu).model(module).unwrap();
    let entry = model.entries().next().unwrap().to_owned();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut session = model.session(&entry).unwrap();
                for _ in 0..5 {
                    compare(&mut session, &inputs, &expected);
                }
            });
        }
    });
}

#[test]
fn one_session_serves_other_sizes_at_every_call() {
    let (module, ..) = build("bert_model", "padded");
    let model = engine(BackendKind::Cpu).model(module).unwrap();
    let entry = model.entries().next().unwrap().to_owned();
    let mut session = model.session(&entry).unwrap();
    let names: Vec<String> = session.graph().inputs.iter().map(|i| i.name.clone()).collect();
    let mut first = None;
    for (batch, length) in [(1, 3), (2, 11), (1, 1), (3, 7), (1, 3)] {
        let ids = Tensor::from_i64(
            DType::I64,
            &[batch, length],
            &(0..batch * length).map(|i| (i % 9) as i64).collect::<Vec<_>>(),
        )
        .unwrap();
        let ones = Tensor::from_i64(DType::I64, &[batch, length], &vec![1; batch * length]).unwrap();
        let zeros = Tensor::zeros(DType::I64, &[batch, length]).unwrap();
        let feed: Vec<(&str, &Tensor)> = names
            .iter()
            .map(|n| match n.as_str() {
                "input_ids" => ("input_ids", &ids),
                "attention_mask" => ("attention_mask", &ones),
                other => (other, &zeros),
            })
            .collect();
        let out = session.run(&feed).unwrap();
        let name = out.names().next().unwrap().to_owned();
        let got = out.tensor(&name).unwrap();
        assert_eq!(got.shape().first(), Some(&batch));
        if (batch, length) == (1, 3) {
            // The same call gives the same bits, whatever ran in between.
            assert_eq!(first.get_or_insert_with(|| got.clone()), &got);
        }
    }
}

#[test]
fn a_memory_limit_is_checked_before_allocating() {
    let (module, inputs, _) = build("bert_model", &a_call("bert_model"));
    let model = engine(BackendKind::Cpu).model(module).unwrap();
    let entry = model.entries().next().unwrap().to_owned();
    let mut session = model.session(&entry).unwrap();
    session.set_memory_limit(Some(64));
    let feed: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let error = session.run(&feed).err().unwrap().to_string();
    assert!(error.contains("limit is 64"), "{error}");
    assert_eq!(session.memory_bytes(), 0);
}
