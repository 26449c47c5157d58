//! The command-line contract: what commands print, write and return. Damaged input is in `hostile_cli.rs`.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use common::{arg, frit, frit_ok, root};
use serde_json::Value;
use std::path::PathBuf;

fn example(name: &str) -> PathBuf {
    root().join("examples").join(name)
}

fn fixture(case: &str) -> PathBuf {
    root().join("tests/fixtures/parity").join(case)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("not one JSON object: {e}\n{text}"))
}

#[test]
fn a_sound_becomes_text_from_the_folder_and_from_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let compiled = folder.path().join("m.frit");
    let source = example("spoken-digits");
    let sound = source.join("heldout/00.wav");
    let direct = frit_ok(&["run", arg(&source), "--audio", arg(&sound)]);
    assert_eq!(direct.trim(), "nine four");
    frit_ok(&["compile", arg(&source), "-o", arg(&compiled)]);
    assert_eq!(frit_ok(&["run", arg(&compiled), "--audio", arg(&sound)]), direct);
    let answer = json(&frit_ok(&["run", arg(&compiled), "--audio", arg(&sound), "--json"]));
    assert_eq!(answer["answers"][0]["text"], "nine four");
}

#[test]
fn an_image_becomes_labels_and_a_strip_text() {
    let image = example("digits").join("heldout/000.png");
    let answer =
        json(&frit_ok(&["run", arg(&example("digits")), "--image", arg(&image), "--json", "--top", "3"]));
    let labels = answer["answers"][0]["labels"].as_array().unwrap();
    assert_eq!(labels.len(), 3);
    assert_eq!(labels[0]["label"], "6");
    let strip = example("digit-strip").join("heldout/00.png");
    let text =
        frit_ok(&["generate", arg(&example("digit-strip")), "--image", arg(&strip), "--num-beams", "3"]);
    assert_eq!(text.trim(), "06");
}

#[test]
fn compiling_twice_gives_the_same_bytes_and_leaves_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let files = [folder.path().join("a.frit"), folder.path().join("b.frit")];
    for f in &files {
        let said = json(&frit_ok(&["compile", arg(&example("digit-strip")), "-o", arg(f), "--json"]));
        assert_eq!(said["class"], "VisionEncoderDecoderModel");
        assert_eq!(said["bytes"], std::fs::metadata(f).unwrap().len());
    }
    assert!(std::fs::read(&files[0]).unwrap() == std::fs::read(&files[1]).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn select_takes_names_and_tuples() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("o.safetensors");
    let call = fixture("bert_model").join("default");
    let call = if call.is_dir() { call } else { first_call("bert_model") };
    let inputs = call.join("inputs.safetensors");
    let model = fixture("bert_model").join("model");
    let select = ["--select", "last_hidden_state,hidden_states"];
    frit_ok(&[&["run", arg(&model), "--inputs", arg(&inputs), "--outputs", arg(&out)], &select[..]].concat());
    let tensors = frit::tensors::read(&out).unwrap();
    let mut names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert!(names.contains(&"last_hidden_state") && names.contains(&"hidden_states.0"), "{names:?}");
    assert!(!names.contains(&"pooler_output"), "{names:?}");
    let wrong =
        frit(&["run", arg(&model), "--inputs", arg(&inputs), "--outputs", arg(&out), "--select", "nonsense"]);
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("nonsense"));
}

fn first_call(case: &str) -> PathBuf {
    let mut calls: Vec<PathBuf> = std::fs::read_dir(fixture(case))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.join("call.json").is_file())
        .collect();
    calls.sort();
    calls.remove(0)
}

#[test]
fn backends_agree_and_unknown_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = fixture("vit_model").join("model");
    let inputs = first_call("vit_model").join("inputs.safetensors");
    let mut results = Vec::new();
    for backend in ["cpu", "reference"] {
        let out = folder.path().join(backend);
        frit_ok(&[
            "run",
            arg(&model),
            "--inputs",
            arg(&inputs),
            "--outputs",
            arg(&out),
            "--backend",
            backend,
        ]);
        results.push(frit::tensors::read(&out).unwrap());
    }
    common::compare(&results[1], &results[0]).unwrap();
    let out = folder.path().join("none");
    let wrong =
        frit(&["run", arg(&model), "--inputs", arg(&inputs), "--outputs", arg(&out), "--backend", "abacus"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(!out.exists());
}

#[test]
fn bench_says_what_the_contract_asks() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let model = fixture("bert_model").join("model");
    let said = frit_ok(&[
        "bench",
        arg(&model),
        "--dim",
        "batch=2",
        "--dim",
        "sequence=9",
        "--runs",
        "3",
        "--threads",
        "1",
        "--json",
        "--profile",
        arg(&trace),
    ]);
    let said = json(&said);
    for key in
        ["load_s", "median_s", "min_s", "max_s", "runs", "threads", "dtype", "peak_rss_bytes", "gflop_per_s"]
    {
        assert!(!said[key].is_null(), "{key} is missing: {said}");
    }
    assert_eq!(said["runs"], 3);
    assert_eq!(said["threads"], 1);
    assert_eq!(said["items"], 18);
    let trace = json(&std::fs::read_to_string(trace).unwrap());
    let events = trace["traceEvents"].as_array().unwrap();
    assert!(events.len() > 10);
    assert!(events.iter().all(|e| !e["args"]["fused"].is_null() && !e["args"]["bound"].is_null()));

    let profile = &said["profile"];
    assert_eq!(profile["steps"].as_array().unwrap().len(), events.len());
    let sum =
        |rows: &Value, key: &str| rows.as_array().unwrap().iter().map(|r| r[key].as_f64().unwrap()).sum();
    let time = profile["roofline"]["time_s"].as_f64().unwrap();
    for rows in ["ops", "steps"] {
        let whole: f64 = sum(&profile[rows], "time_s");
        assert!((whole - time).abs() < 1e-6, "{rows}: {whole} of {time}");
    }
    let bound: f64 = sum(&profile["roofline"]["by_bound"], "time_s");
    assert!((bound - time).abs() < 1e-6);
    assert_eq!(profile["roofline"]["worst"].as_array().unwrap().len(), 5);
    let limits = &profile["limits"][0];
    assert!(
        limits["f32_gflop_per_s"].as_f64().unwrap() > 0.0 && limits["gbyte_per_s"].as_f64().unwrap() > 0.0
    );
    let op = |name: &str| {
        let rows = profile["ops"].as_array().unwrap();
        rows.iter().find(|r| r["op"].as_str().unwrap().starts_with(name)).unwrap().clone()
    };
    assert!(op("FusedMatMul + bias")["flops"].as_f64().unwrap() > 0.0);
    // Of an embedding of 97 rows of 36 numbers only the 18 rows taken are read.
    let gather = op("Gather");
    let most = 18.0 * (2.0 * 36.0 * 4.0 + 8.0);
    assert!(gather["bytes"].as_f64().unwrap() <= gather["count"].as_f64().unwrap() * most, "{gather}");
}

#[test]
fn a_profile_for_people_names_limits_and_what_binds() {
    let folder = tempfile::tempdir().unwrap();
    let (trace, model) = (folder.path().join("trace.json"), fixture("bert_model").join("model"));
    let said =
        frit_ok(&["bench", arg(&model), "--dim", "sequence=9", "--runs", "1", "--profile", arg(&trace)]);
    for part in ["limits of", "GFLOP/s", "roofline:", "bound by compute", "lost most", "FusedMatMul + bias"] {
        assert!(said.contains(part), "`{part}` is missing:\n{said}");
    }
}

#[test]
fn fewer_bits_make_a_smaller_file_that_runs_and_knows_its_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let mut sizes = Vec::new();
    for dtype in ["f32", "bf16", "int8"] {
        let file = folder.path().join(format!("{dtype}.frit"));
        let report = json(&frit_ok(&[
            "compile",
            arg(&example("spoken-digits")),
            "-o",
            arg(&file),
            "--dtype",
            dtype,
            "--json",
        ]));
        assert_eq!(report["dtype"], dtype);
        sizes.push(report["weight_bytes"].as_u64().unwrap());
        let bench = json(&frit_ok(&["bench", arg(&file), "--runs", "1", "--json"]));
        assert_eq!(bench["dtype"], dtype);
        let asked = frit(&["bench", arg(&file), "--runs", "1", "--dtype", "f32"]);
        assert_eq!(asked.status.code(), Some(if dtype == "f32" { 0 } else { 2 }), "{asked:?}");
        let text =
            frit_ok(&["run", arg(&file), "--audio", arg(&example("spoken-digits").join("heldout/00.wav"))]);
        assert_eq!(text.trim(), "nine four");
    }
    // This model has no weight that is worth 8 bits; what has none stays in bf16.
    assert!(sizes[1] * 10 < sizes[0] * 6 && sizes[2] <= sizes[1], "{sizes:?}");
}

#[test]
fn inspect_shows_every_stage() {
    let model = fixture("bert_model").join("model");
    let imported = frit_ok(&["inspect", arg(&model), "--stage", "imported"]);
    assert!(imported.contains("Softmax") && imported.contains("i64[batch, sequence]"));
    let optimised = frit_ok(&["inspect", arg(&model), "--stage", "optimised"]);
    assert!(optimised.contains("Attention") && !optimised.contains("Softmax"));
    assert!(frit::ir::text::parse(&optimised).is_ok());
    assert!(frit_ok(&["inspect", arg(&model), "--stage", "plan"]).contains("program forward"));
    assert!(frit_ok(&["inspect", arg(&model), "--format", "dot"]).contains("digraph"));
    let summary = json(&frit_ok(&["inspect", arg(&model), "--format", "json"]));
    assert_eq!(summary["graphs"][0]["name"], "forward");
    let wav2vec2 =
        frit_ok(&["inspect", arg(&fixture("wav2vec2_group").join("model")), "--stage", "imported"]);
    assert!(wav2vec2.contains("samples"), "lengths are expressions over samples");
}

#[test]
fn wrong_calls_end_with_two_and_a_message() {
    let model = fixture("bert_model").join("model");
    for args in [
        vec!["run", arg(&model)],
        vec!["frobnicate"],
        vec!["run", arg(&model), "--text", "a", "--inputs", "b"],
        vec!["compile", arg(&model)],
        vec!["compile", arg(&model), "-o", "x.frit", "--target", "z80"],
        vec!["bench", arg(&model), "--dim", "batch"],
    ] {
        let out = frit(&args);
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(!out.stderr.is_empty(), "{args:?}");
        assert!(out.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn help_and_completions_are_there() {
    let help = frit_ok(&["--help"]);
    for command in ["compile", "run", "generate", "bench", "export", "inspect", "verify"] {
        assert!(help.contains(command), "{command}");
        assert!(frit_ok(&[command, "--help"]).contains("Usage"));
    }
    assert!(frit_ok(&["completions", "bash"]).contains("frit"));
    assert!(frit_ok(&["--version"]).starts_with("frit "));
}

#[test]
fn generation_is_deterministic_under_a_seed() {
    let strip = example("digit-strip").join("heldout/00.png");
    let model = example("digit-strip");
    let draw = |seed: &str| {
        frit_ok(&[
            "generate",
            arg(&model),
            "--image",
            arg(&strip),
            "--do-sample",
            "--temperature",
            "3.0",
            "--seed",
            seed,
        ])
    };
    assert_eq!(draw("7"), draw("7"));
}

#[test]
fn left_out_inputs_take_their_defaults_in_a_compiled_model() {
    let folder = tempfile::tempdir().unwrap();
    let model = fixture("bert_model").join("model");
    let compiled = folder.path().join("m.frit");
    frit_ok(&[
        "compile",
        arg(&model),
        "-o",
        arg(&compiled),
        "--signature",
        "input_ids,attention_mask,token_type_ids",
    ]);
    let ids =
        frit::ir::Tensor::from_i64(frit::ir::DType::I64, &[2, 5], &[5, 6, 7, 8, 9, 1, 2, 3, 4, 5]).unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let inputs = folder.path().join("in");
    frit::tensors::write(&inputs, &[("input_ids".into(), ids)]).unwrap();
    frit_ok(&["run", arg(&model), "--inputs", arg(&inputs), "--outputs", arg(&a)]);
    frit_ok(&["run", arg(&compiled), "--inputs", arg(&inputs), "--outputs", arg(&b)]);
    common::compare(&frit::tensors::read(&a).unwrap(), &frit::tensors::read(&b).unwrap()).unwrap();
}

#[test]
fn compile_takes_the_forms_of_an_example() {
    let folder = tempfile::tempdir().unwrap();
    let (case, call) = ("bert_model", "mask_3d");
    let inputs = fixture(case).join(call).join("inputs.safetensors");
    let (compiled, out) = (folder.path().join("m.frit"), folder.path().join("o"));
    let model = fixture(case).join("model");
    frit_ok(&["compile", arg(&model), "-o", arg(&compiled), "--inputs", arg(&inputs)]);
    frit_ok(&["run", arg(&compiled), "--inputs", arg(&inputs), "--outputs", arg(&out)]);
    let expected = frit::tensors::read(&fixture(case).join(call).join("outputs.safetensors")).unwrap();
    let got = frit::tensors::read(&out).unwrap();
    assert!(!got.is_empty());
    let expected = expected.into_iter().filter(|(n, _)| got.contains_key(n)).collect();
    common::compare(&expected, &got).unwrap();
}
