//! What builders give beside numbers: entries for generation, symbolic shapes, and errors for checkpoints, configs and
//! requests that do not fit. Numbers are compared with transformers in `parity.rs`.

// A test that cannot read its fixtures fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use frit_frontends::FrontendError;
use frit_frontends::error::{ConfigError, RequestError};
use frit_frontends::hf::{self, CLASSES, InputSpec, Request};
use frit_ir::{Module, Tensor, interp};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn model(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parity").join(case).join("model")
}

fn request(inputs: &[&str], select: &[&str]) -> Request {
    Request {
        entry: Some("forward".to_string()),
        signature: Some(inputs.iter().map(|&i| i.into()).collect()),
        select: (!select.is_empty()).then(|| select.iter().map(ToString::to_string).collect()),
        ..Request::default()
    }
}

fn run(module: &Module, entry: &str, inputs: &[(String, Tensor)]) -> BTreeMap<String, Tensor> {
    let graph = module.graph(entry).unwrap();
    interp::run(graph, &module.weights, inputs).unwrap().into_iter().collect()
}

fn close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    let largest = a.iter().fold(0f32, |m, x| m.max(x.abs()));
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= 1e-4 * largest, "{x} and {y}, largest {largest}");
    }
}

/// Scores of the last position: by `forward` on all tokens, and by prefill and steps.
fn compare_steps(module: &Module, ids: &[i64], prompt: usize, tokens: &str, given: &[(String, Tensor)]) {
    let at = |range: std::ops::Range<usize>| Tensor::from_slice(&[1, range.len()], &ids[range]).unwrap();
    let memory: Vec<(String, Tensor)> = match module.graph("encoder") {
        Some(_) => {
            run(module, "encoder", given).into_iter().filter(|(n, _)| n != "last_hidden_state").collect()
        }
        None => Vec::new(),
    };
    let needs_positions =
        module.graph("decoder_step").is_some_and(|g| g.inputs.iter().any(|i| i.name == "position_ids"));
    let mut feed = memory.clone();
    feed.push(("input_ids".to_string(), at(0..prompt)));
    let mut out = run(module, "decoder_prefill", &feed);
    for n in prompt..=ids.len() {
        let mut all = given.to_vec();
        all.push((tokens.to_string(), at(0..n)));
        let whole = run(module, "forward", &all);
        let logits = whole["logits"].to_f32_vec();
        let vocabulary = out["logits"].len();
        close(&logits[logits.len() - vocabulary..], &out["logits"].to_f32_vec());
        if n == ids.len() {
            break;
        }
        let mut feed = memory.clone();
        feed.push(("input_ids".to_string(), at(n..n + 1)));
        if needs_positions {
            let position = Tensor::from_slice(&[1, 1], &[i64::try_from(n).unwrap()]).unwrap();
            feed.push(("position_ids".to_string(), position));
        }
        feed.extend(out.into_iter().filter(|(name, _)| name.starts_with("past_key_values")));
        out = run(module, "decoder_step", &feed);
    }
}

#[test]
fn steps_with_a_cache_give_what_forward_gives() {
    let ids = [3i64, 7, 1, 4, 9, 2, 5];
    let module = hf::build(&model("gpt2_lm"), &Request::default()).unwrap();
    compare_steps(&module, &ids, 3, "input_ids", &[]);
    let states = &module.graph("decoder_step").unwrap().states;
    assert!(states.len() >= 4 && states.iter().all(|s| s.input == s.output && s.axis == 2));

    for case in ["ved_equal", "ved_projected"] {
        let module = hf::build(&model(case), &Request::default()).unwrap();
        let entries: Vec<&str> = module.graphs.iter().map(|g| g.name.as_str()).collect();
        assert_eq!(entries, ["forward", "encoder", "decoder_prefill", "decoder_step"]);
        let pixels = &module.graph("encoder").unwrap().inputs[0];
        let shape = module.graph("encoder").unwrap().ty(pixels.value).unwrap().shape.clone();
        let shape: Vec<usize> = shape.iter().map(|d| d.as_fixed().unwrap_or(1)).collect();
        let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| (i as f32 * 0.7).sin()).collect();
        let image = Tensor::from_slice(&shape, &values).unwrap();
        compare_steps(&module, &ids, 1, "decoder_input_ids", &[("pixel_values".to_string(), image)]);
    }
}

#[test]
fn a_causal_bert_head_steps_like_its_forward() {
    let (dir, folder) = copied("bert_masked_lm");
    edit_config(&folder, |config| {
        config.insert("is_decoder".to_string(), true.into());
        config.insert("architectures".to_string(), serde_json::json!(["BertLMHeadModel"]));
    });
    let module = hf::build(&folder, &Request::default()).unwrap();
    compare_steps(&module, &[3, 7, 1, 4, 9], 2, "input_ids", &[]);
    drop(dir);
}

#[test]
fn frames_follow_exactly_from_samples() {
    let module = hf::build(&model("wav2vec2_ctc_group"), &request(&["input_values"], &[])).unwrap();
    let graph = module.graph("forward").unwrap();
    let logits = graph.ty(graph.outputs[0].value).unwrap();
    let mut bindings = frit_ir::Bindings::new();
    bindings.set("batch", 1);
    for (samples, frames) in [(30, 1), (347, 16), (481, 23)] {
        bindings.set("samples", samples);
        assert_eq!(logits.shape[1].eval(&bindings).unwrap(), frames, "{}", logits.shape[1]);
    }
}

#[test]
fn fixed_dimensions_become_numbers() {
    let mut request = request(&["input_ids", "attention_mask"], &[]);
    request.dims = [("batch".to_string(), 2), ("sequence".to_string(), 5)].into();
    let module = hf::build(&model("bert_model"), &request).unwrap();
    let graph = module.graph("forward").unwrap();
    for output in &graph.outputs {
        assert!(graph.ty(output.value).unwrap().fixed_shape().is_some(), "{}", output.name);
    }
}

#[test]
fn the_processor_decides_what_the_usual_inputs_are() {
    let inputs = |folder: &Path| -> Vec<String> {
        let module = hf::build(folder, &Request::default()).unwrap();
        module.graphs[0].inputs.iter().map(|i| i.name.clone()).collect()
    };
    let (_dir, bert) = copied("bert_model");
    assert_eq!(inputs(&bert), ["input_ids", "token_type_ids", "attention_mask"]);
    std::fs::write(
        bert.join("tokenizer_config.json"),
        r#"{"model_input_names":["input_ids","attention_mask"]}"#,
    )
    .unwrap();
    assert_eq!(inputs(&bert), ["input_ids", "attention_mask"]);
    let (_dir, sound) = copied("wav2vec2_ctc_group");
    std::fs::write(sound.join("preprocessor_config.json"), r#"{"return_attention_mask":true}"#).unwrap();
    assert_eq!(inputs(&sound), ["input_values", "attention_mask"]);
    std::fs::write(sound.join("preprocessor_config.json"), r#"{"return_attention_mask":false}"#).unwrap();
    assert_eq!(inputs(&sound), ["input_values"]);
}

/// A checkpoint folder that a test may change.
fn copied(case: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(model(case)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let folder = dir.path().to_path_buf();
    (dir, folder)
}

fn edit_config(folder: &Path, edit: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) {
    let path = folder.join("config.json");
    let mut config: serde_json::Map<_, _> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    std::fs::write(path, serde_json::to_vec(&config).unwrap()).unwrap();
}

fn refused(case: &str, edit: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) -> String {
    let (_dir, folder) = copied(case);
    edit_config(&folder, edit);
    hf::build(&folder, &Request::default()).expect_err("it was built").to_string()
}

#[test]
fn unsupported_config_values_name_key_value_and_what_is_supported() {
    let set = |key: &'static str, value: serde_json::Value| {
        move |c: &mut serde_json::Map<_, _>| {
            c.insert(key.to_string(), value);
        }
    };
    for (case, key, value, parts) in [
        ("bert_model", "hidden_act", "gelu_7".into(), vec!["`hidden_act`", "gelu_7", "quick_gelu"]),
        (
            "bert_model",
            "position_embedding_type",
            "rotary".into(),
            vec!["position_embedding_type", "rotary", "absolute"],
        ),
        ("bert_model", "num_attention_heads", 5.into(), vec!["hidden_size", "num_attention_heads", "5"]),
        ("bert_model", "num_attention_heads", 0.into(), vec!["num_attention_heads", "0"]),
        ("bert_model", "hidden_size", "wide".into(), vec!["hidden_size", "wide"]),
        ("bert_model", "num_hidden_layers", 1_000_000_000.into(), vec!["num_hidden_layers"]),
        ("bert_model", "pruned_heads", serde_json::json!({"0": [1]}), vec!["pruned_heads"]),
        (
            "wav2vec2_group",
            "feat_extract_norm",
            "batch".into(),
            vec!["feat_extract_norm", "batch", "group, layer"],
        ),
        ("wav2vec2_group", "conv_stride", serde_json::json!([5]), vec!["conv_stride", "conv_dim"]),
        ("beit_model_relative", "patch_size", 0.into(), vec!["patch_size"]),
        ("beit_model_relative", "image_size", serde_json::json!({}), vec!["image_size"]),
        ("gpt2_lm", "activation_function", "none".into(), vec!["activation_function", "none", "gelu_new"]),
        (
            "ved_equal",
            "decoder",
            serde_json::json!({"model_type": "t5"}),
            vec!["decoder.model_type", "t5", "gpt2"],
        ),
        ("ved_equal", "encoder", 3.into(), vec!["encoder", "object"]),
    ] {
        let message = refused(case, set(key, value));
        for part in parts {
            assert!(message.contains(part), "{case} {key}: no {part} in: {message}");
        }
    }
}

#[test]
fn an_unknown_class_lists_the_known_ones() {
    let message = refused("bert_model", |c| {
        c.insert("architectures".to_string(), serde_json::json!(["FooModel"]));
    });
    assert!(message.contains("FooModel") && message.contains("BertModel"), "{message}");
    let message = refused("bert_model", |c| {
        c.remove("architectures");
        c.insert("model_type".to_string(), "foo".into());
    });
    assert!(message.contains("foo") && message.contains("GPT2LMHeadModel"), "{message}");
}

#[test]
fn without_architectures_the_model_type_names_the_base_model() {
    let (_dir, folder) = copied("bert_model");
    edit_config(&folder, |c| {
        c.remove("architectures");
    });
    let module = hf::build(&folder, &Request::default()).unwrap();
    assert_eq!(module.fact("class"), Some("BertModel"));
    assert_eq!(module.fact("model_type"), Some("bert"));
}

#[test]
fn weights_that_do_not_fit_are_all_named() {
    let head = Request { head: Some("BertForTokenClassification".to_string()), ..Request::default() };
    let error = hf::build(&model("bert_model"), &head).err().unwrap();
    let FrontendError::Weights(report) = &error else { panic!("{error}") };
    let text = report.to_string();
    assert_eq!(report.issues.len(), 2, "{text}");
    assert!(
        text.contains("missing     classifier.weight") && text.contains("missing     classifier.bias"),
        "{text}"
    );

    let message = refused("bert_model", |c| {
        c.insert("intermediate_size".to_string(), 77.into());
    });
    assert!(message.contains("encoder.layer.0.intermediate.dense.weight: expected [77, 36]"), "{message}");
    assert!(message.contains("encoder.layer.1.output.dense.weight"), "{message}");
    let message = refused("bert_model", |c| {
        c.insert("num_hidden_layers".to_string(), 1.into());
    });
    assert!(message.contains("unexpected  encoder.layer.1.attention.output.dense.weight"), "{message}");
}

#[test]
fn absurd_configs_end_with_a_report_and_not_out_of_memory() {
    for (case, edits) in [
        (
            "bert_model",
            vec![("hidden_size", 65_536), ("num_attention_heads", 1), ("intermediate_size", 65_536)],
        ),
        ("wav2vec2_group", vec![("num_conv_pos_embeddings", 65_536)]),
        ("beit_model_absolute", vec![("image_size", 512), ("patch_size", 4), ("hidden_size", 16_384)]),
        ("beit_model_relative", vec![("image_size", 65_536), ("patch_size", 512)]),
        ("gpt2_lm", vec![("vocab_size", 1 << 28), ("n_positions", 1 << 28)]),
    ] {
        let message = refused(case, |c| {
            for (key, value) in &edits {
                c.insert((*key).to_string(), (*value).into());
            }
        });
        assert!(message.contains("misshapen") || message.contains("patches"), "{case}: {message:.300}");
    }
}

#[test]
fn requests_that_do_not_fit_say_why() {
    let build = |case: &str, inputs: &[&str], select: &[&str]| {
        hf::build(&model(case), &request(inputs, select)).expect_err("it was built")
    };
    let unknown = build("bert_model", &["input_ids", "pixels"], &[]);
    assert!(
        matches!(&unknown, FrontendError::Request(RequestError::UnknownInput { name, .. }) if name == "pixels")
    );
    let both = build("bert_model", &["input_ids", "inputs_embeds"], &[]);
    assert!(matches!(both, FrontendError::Request(RequestError::Signature { .. })), "{both}");
    let neither = build("bert_model", &["attention_mask"], &[]);
    assert!(neither.to_string().contains("`input_ids` or `inputs_embeds`"), "{neither}");
    let output = build("bert_model", &["input_ids"], &["logits"]);
    assert!(matches!(output, FrontendError::Request(RequestError::UnknownOutput { .. })), "{output}");
    assert!(output.to_string().contains("hidden_states"), "{output}");
    let no_past = build("gpt2_lm", &["input_ids", "past_key_values.7.0"], &[]);
    assert!(matches!(no_past, FrontendError::Request(RequestError::Signature { .. })), "{no_past}");
    let entry = Request { entry: Some("backward".to_string()), ..Request::default() };
    let entry = hf::build(&model("ved_equal"), &entry).err().unwrap();
    assert!(entry.to_string().contains("decoder_step"), "{entry}");
    let dims = Request { dims: [("length".to_string(), 3)].into(), ..Request::default() };
    let dims = hf::build(&model("bert_model"), &dims).err().unwrap();
    assert!(dims.to_string().contains("batch, sequence"), "{dims}");
    let rank = Request {
        signature: Some(vec![InputSpec::of("input_ids", frit_ir::DType::I64, &[3])]),
        ..Request::default()
    };
    let rank = hf::build(&model("bert_model"), &rank).err().unwrap();
    assert!(rank.to_string().contains("rank 2"), "{rank}");
    let image = Request {
        signature: Some(vec![InputSpec::of("pixel_values", frit_ir::DType::F32, &[1, 3, 1, 1])]),
        ..Request::default()
    };
    let image = hf::build(&model("vit_model"), &image).err().unwrap();
    assert!(image.to_string().contains("1 x 1"), "{image}");
}

#[test]
fn a_pooler_that_nobody_asks_for_is_not_needed() {
    let request = request(&["input_ids"], &["hidden_states.1"]);
    let module =
        hf::build(&model("bert_masked_lm"), &Request { head: Some("BertModel".into()), ..request }).unwrap();
    let names: Vec<_> = module.graphs[0].outputs.iter().map(|o| o.name.as_str()).collect();
    assert_eq!(names, ["hidden_states.1"]);
}

#[test]
fn folders_that_are_no_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let error = |folder: &Path| hf::build(folder, &Request::default()).err().unwrap();
    assert!(matches!(error(dir.path()), FrontendError::MissingFile { .. }));
    std::fs::write(dir.path().join("config.json"), "{\"model_type\": ").unwrap();
    assert!(matches!(error(dir.path()), FrontendError::Json { .. }));
    std::fs::write(dir.path().join("config.json"), r#"{"architectures":["BertModel"]}"#).unwrap();
    assert!(matches!(error(dir.path()), FrontendError::Checkpoint(_)));
    assert!(matches!(error(&dir.path().join("absent")), FrontendError::Checkpoint(_)));
    let invalid = ConfigError::invalid("a", "b").under("c");
    assert_eq!(invalid.to_string(), "`c.a`: b");
}

#[test]
fn class_names_are_unique_and_base_models_come_first() {
    for (i, class) in CLASSES.iter().enumerate() {
        assert!(CLASSES.iter().take(i).all(|c| c.name != class.name), "{} twice", class.name);
        let first = CLASSES.iter().find(|c| c.model_type == class.model_type).unwrap();
        assert!(first.is_base, "{} comes before its base model", class.name);
    }
}

/// `FRIT_BLESS=1` writes the file.
#[test]
fn the_list_of_models_is_that_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/MODELS.md");
    if std::env::var_os("FRIT_BLESS").is_some() {
        std::fs::write(&path, hf::registry::markdown()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), hf::registry::markdown());
}
