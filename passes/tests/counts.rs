//! What fused form the architectures reach, at base depth (12 layers): so many attention and normalisation ops, and
//! no transposes but those that the model needs. The layers of a small fixture are repeated; numbers are compared in
//! `parity.rs`.

#![allow(clippy::unwrap_used, clippy::panic)] // a test may panic

use frit_frontends::hf::{self, Request, weights::Checkpoint};
use frit_ir::Module;
use frit_passes::{Options, optimise};
use safetensors::tensor::TensorView;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const LAYERS: usize = 12;

/// A copy of a fixture's checkpoint with as many layers as a base model. `keys` are the config's numbers of layers.
fn deepened(case: &str, keys: &[&str]) -> tempfile::TempDir {
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parity").join(case).join("model");
    let folder = tempfile::tempdir().unwrap();
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(source.join("config.json")).unwrap()).unwrap();
    for key in keys {
        let mut at = &mut config;
        for part in key.split('.') {
            at = at.get_mut(part).unwrap_or_else(|| panic!("no {key} in {case}"));
        }
        *at = LAYERS.into();
    }
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();

    let checkpoint = Checkpoint::open(&source).unwrap();
    let mut tensors = BTreeMap::new();
    for name in checkpoint.names() {
        let tensor = checkpoint.tensor(name).unwrap();
        // Every layer is a copy of the first.
        let layer = ["layer.0.", "layers.0.", "h.0."].iter().find(|l| name.contains(*l));
        match layer {
            Some(l) if name.split(l).next().is_some_and(|before| !before.ends_with("conv_")) => {
                for n in 0..LAYERS {
                    tensors.insert(name.replacen(l, &l.replace('0', &n.to_string()), 1), tensor.clone());
                }
            }
            _ if !tensors.contains_key(name) => {
                tensors.insert(name.to_owned(), tensor);
            }
            _ => {}
        }
    }
    let views: Vec<(String, TensorView<'_>)> = tensors
        .iter()
        .map(|(n, t)| {
            assert_eq!(t.dtype(), frit_ir::DType::F32);
            let view = TensorView::new(safetensors::Dtype::F32, t.shape().to_vec(), t.bytes()).unwrap();
            (n.clone(), view)
        })
        .collect();
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    folder
}

fn list(names: &str) -> Vec<&str> {
    names.split(',').filter(|n| !n.is_empty()).collect()
}

fn optimised(folder: &Path, inputs: &str, select: &str) -> Module {
    let request = Request {
        entry: Some("forward".to_string()),
        signature: (!inputs.is_empty()).then(|| list(inputs).into_iter().map(Into::into).collect()),
        select: (!select.is_empty()).then(|| list(select).into_iter().map(str::to_owned).collect()),
        ..Request::default()
    };
    let mut module = hf::build(folder, &request).unwrap();
    let report = optimise(&mut module, &Options::default()).unwrap();
    assert!(report.stages.iter().all(|s| s.settled), "{:?}", report.stages);
    module
}

/// Attention ops, normalisations over features, transposes.
fn counts(module: &Module) -> (usize, usize, usize) {
    counts_of(module, "forward")
}

fn counts_of(module: &Module, entry: &str) -> (usize, usize, usize) {
    let graph = module.graph(entry).unwrap();
    let parts: Vec<&str> = graph.nodes().flat_map(|(_, n)| n.op.parts()).collect();
    let count = |names: &[&str]| parts.iter().filter(|n| names.contains(n)).count();
    // Nothing of the spelled-out forms is left.
    assert_eq!(count(&["Erf", "Sqrt", "Pow"]), 0);
    (count(&["Attention"]), count(&["LayerNormalization", "SkipLayerNormalization"]), count(&["Transpose"]))
}

fn check(case: &str, keys: &[&str], inputs: &str, select: &str, expected: (usize, usize, usize)) {
    let folder = deepened(case, keys);
    let module = optimised(folder.path(), inputs, select);
    assert_eq!(counts(&module), expected, "{case} on {inputs} to {select}");
}

#[test]
fn bert_base_is_12_attentions_and_25_layer_norms_without_a_transpose() {
    let folder = deepened("bert_model", &["num_hidden_layers"]);
    for (inputs, select) in [
        ("input_ids,token_type_ids,attention_mask", ""),
        ("input_ids", ""),
        ("input_ids,attention_mask,position_ids", "last_hidden_state,hidden_states"),
        ("inputs_embeds,attention_mask", "last_hidden_state"),
        ("input_ids,attention_mask,head_mask", ""),
    ] {
        let module = optimised(folder.path(), inputs, select);
        assert_eq!(counts(&module), (12, 25, 0), "{inputs} to {select}");
    }
    let module = optimised(folder.path(), "input_ids,attention_mask", "");
    let graph = module.graph("forward").unwrap();
    let parts: Vec<&str> = graph.nodes().flat_map(|(_, n)| n.op.parts()).collect();
    let count = |name: &str| parts.iter().filter(|n| **n == name).count();
    // Query, key and value in one, output, two of the feed-forward layer; and the pooler.
    assert_eq!((count("FusedMatMul"), count("Split"), count("MatMul")), (12 * 4 + 1, 12, 0));
    // Sums behind the products are in the normalisations; embeddings are added by two ops of their own.
    assert_eq!((count("SkipLayerNormalization"), count("Add")), (24, 2));
}

#[test]
fn attentions_as_outputs_keep_the_probabilities() {
    let folder = deepened("bert_model", &["num_hidden_layers"]);
    let module = optimised(folder.path(), "input_ids,attention_mask", "last_hidden_state,attentions");
    let (attention, norms, _) = counts(&module);
    assert_eq!((attention, norms), (0, 25));
}

#[test]
fn bert_activations_and_positions() {
    check("bert_gelu_new", &["num_hidden_layers"], "", "", (12, 25, 0));
    check("bert_relative_key", &["num_hidden_layers"], "", "", (12, 25, 24));
}

#[test]
fn wav2vec2() {
    // Two transposes around the positional convolution, one behind the feature extractor.
    check("wav2vec2_group", &["num_hidden_layers"], "", "", (12, 26, 3));
    check("wav2vec2_group", &["num_hidden_layers"], "input_values,attention_mask", "", (12, 26, 3));
    check("wav2vec2_ctc_group", &["num_hidden_layers"], "input_values", "logits,hidden_states", (12, 26, 3));
    // A norm over channels with its activation behind each of three convolutions, a transpose behind the last.
    let folder = deepened("wav2vec2_layer_stable", &["num_hidden_layers"]);
    let module = optimised(folder.path(), "", "");
    assert_eq!(counts(&module), (12, 26, 3));
    let text = module.to_string();
    let norms: Vec<&str> = text.lines().filter(|l| l.contains(" = ChannelNormalization(")).collect();
    assert_eq!(norms.len(), 3, "{text}");
    assert!(norms.iter().all(|l| l.contains("activation = gelu")), "{norms:?}");
}

#[test]
fn beit_and_vit() {
    // One transpose from the patches' channels to features.
    check("beit_model_relative", &["num_hidden_layers"], "", "", (12, 25, 1));
    check("beit_model_shared_relative", &["num_hidden_layers"], "", "", (12, 25, 1));
    check("beit_classification_relative", &["num_hidden_layers"], "", "", (12, 25, 1));
    check("vit_model", &["num_hidden_layers"], "", "", (12, 25, 1));
    check("vit_classification", &["num_hidden_layers"], "", "logits,hidden_states", (12, 25, 1));
}

#[test]
fn gpt2() {
    check("gpt2_lm", &["n_layer"], "input_ids,attention_mask", "logits", (12, 25, 0));
    check("gpt2_lm", &["n_layer"], "input_ids", "logits,hidden_states", (12, 25, 0));
    // Keys and values as outputs are by head: [batch, heads, sequence, width].
    check("gpt2_lm", &["n_layer"], "input_ids", "", (12, 25, 24));
    let inputs = "input_ids,attention_mask,encoder_hidden_states,encoder_attention_mask";
    check("gpt2_cross_attention", &["n_layer"], inputs, "logits", (24, 37, 0));
}

#[test]
fn vision_encoder_decoder() {
    let folder = deepened("ved_equal", &["encoder.num_hidden_layers", "decoder.n_layer"]);
    let mut module = hf::build(folder.path(), &Request::default()).unwrap();
    optimise(&mut module, &Options::default()).unwrap();
    // Two attentions and three norms a layer of the decoder, and its last norm.
    assert_eq!(counts_of(&module, "encoder").0, 12);
    for (entry, attentions, norms) in
        [("forward", 36, 25 + 37), ("encoder", 12, 25), ("decoder_prefill", 24, 37), ("decoder_step", 24, 37)]
    {
        let (attention, norm, _) = counts_of(&module, entry);
        assert_eq!((attention, norm), (attentions, norms), "{entry}");
    }
    // One new token is one row: its heads are split and merged without moving anything.
    assert_eq!(counts_of(&module, "decoder_step").2, 0);
    // Weights that passes join are joined once for all graphs.
    let weights = |entry: &str| -> Vec<_> {
        module.graph(entry).unwrap().weights().into_iter().map(|(w, _)| w).collect()
    };
    let forward = weights("forward");
    let own: Vec<_> = weights("encoder").into_iter().filter(|w| !forward.contains(w)).collect();
    assert!(
        own.is_empty(),
        "{:?}",
        own.iter().map(|w| &module.weights.get(*w).unwrap().name).collect::<Vec<_>>()
    );
    // Caches stay what a session appends to.
    let step = module.graph("decoder_step").unwrap();
    assert_eq!(step.states.len(), 24);
    for state in &step.states {
        let output = step.outputs.iter().find(|o| o.name == state.output).unwrap();
        assert_eq!(step.producer(output.value).map(|(_, n)| n.op.name()), Some("Concat"), "{}", state.output);
    }
}

#[test]
fn fixed_dimensions_reach_the_same_form() {
    let folder = deepened("gpt2_lm", &["n_layer"]);
    let request = Request {
        entry: Some("forward".to_string()),
        signature: Some(vec!["input_ids".into()]),
        select: Some(vec!["logits".to_string()]),
        dims: [("batch".to_string(), 2), ("sequence".to_string(), 7)].into(),
        ..Request::default()
    };
    let mut module = hf::build(folder.path(), &request).unwrap();
    optimise(&mut module, &Options::default()).unwrap();
    assert_eq!(counts(&module), (12, 25, 0));
    let graph = module.graph("forward").unwrap();
    assert!(graph.nodes().all(|(_, n)| !matches!(&n.op, frit_ir::Op::Attention(a) if !a.causal)));
}

#[test]
fn a_causal_mask_alone_is_no_tensor() {
    let folder = deepened("gpt2_lm", &["n_layer"]);
    let module = optimised(folder.path(), "input_ids", "logits");
    let graph = module.graph("forward").unwrap();
    let causal =
        graph.nodes().filter(|(_, n)| matches!(&n.op, frit_ir::Op::Attention(a) if a.causal)).count();
    let parts = graph.nodes().flat_map(|(_, n)| n.op.parts());
    let masks = parts.filter(|n| matches!(*n, "Where" | "LessOrEqual")).count();
    assert_eq!((causal, masks), (12, 0));
}

#[test]
fn optimising_twice_gives_the_same_text() {
    let folder: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parity/bert_model/model");
    let once = frit_ir::text::print_module(&optimised(&folder, "", ""));
    assert_eq!(once, frit_ir::text::print_module(&optimised(&folder, "", "")));
    let mut again = optimised(&folder, "", "");
    optimise(&mut again, &Options::default()).unwrap();
    assert_eq!(again.graphs[0].node_count(), optimised(&folder, "", "").graphs[0].node_count());
}
