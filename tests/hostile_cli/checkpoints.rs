//! Damaged checkpoint folders: config.json, safetensors, shards. Pickles are in `pickles.rs`.

use super::harness::{Room, bert, bert_inputs, safetensors};
use std::os::unix::fs::symlink;
use std::path::Path;

/// Every command that reads a checkpoint refuses it.
fn refused(room: &Room, model: &Path, names: &[&str]) {
    let (model, inputs) = (model.display().to_string(), bert_inputs().display().to_string());
    let (frit, outputs) = (room.path("out.frit"), room.path("out.safetensors"));
    let (frit, outputs) = (frit.display().to_string(), outputs.display().to_string());
    room.refuses(&["compile", &model, "-o", &frit], names);
    room.refuses(&["run", &model, "--inputs", &inputs, "--outputs", &outputs], names);
    room.refuses(&["inspect", &model], names);
}

fn with_config(edit: impl FnOnce(&mut serde_json::Value)) -> (Room, std::path::PathBuf) {
    let room = Room::new();
    let model = room.copy(&bert(), "model");
    let mut config = serde_json::from_slice(&std::fs::read(model.join("config.json")).unwrap()).unwrap();
    edit(&mut config);
    std::fs::write(model.join("config.json"), serde_json::to_vec(&config).unwrap()).unwrap();
    (room, model)
}

fn with_file(name: &str, bytes: &[u8]) -> (Room, std::path::PathBuf) {
    let room = Room::new();
    let model = room.copy(&bert(), "model");
    std::fs::write(model.join(name), bytes).unwrap();
    (room, model)
}

#[test]
fn what_is_no_model_is_told() {
    let room = Room::new();
    refused(&room, &room.path("nothing here"), &["nothing here"]);
    std::fs::create_dir(room.path("empty")).unwrap();
    refused(&room, &room.path("empty"), &["config.json", "empty"]);
    let text = room.write("notes.txt", b"hello");
    refused(&room, &text, &["notes.txt"]);
    let fifo = room.fifo("pipe");
    refused(&room, &fifo, &["pipe"]);
    let fifo = room.fifo("pipe.frit");
    refused(&room, &fifo, &["pipe.frit"]);
    refused(&room, Path::new("/dev/zero"), &["/dev/zero"]);
}

#[test]
fn configs_are_refused_by_key() {
    let set = |key: &str, value: serde_json::Value| {
        let key = key.to_owned();
        with_config(move |c| c[key] = value)
    };
    let (room, model) = set("architectures", serde_json::json!(["MysteryModel"]));
    refused(&room, &model, &["MysteryModel"]);
    let (room, model) = set("hidden_act", serde_json::json!("mystery"));
    refused(&room, &model, &["hidden_act", "mystery"]);
    let (room, model) = set("position_embedding_type", serde_json::json!("spiral"));
    refused(&room, &model, &["position_embedding_type", "spiral"]);
    for key in
        ["hidden_size", "num_attention_heads", "vocab_size", "max_position_embeddings", "intermediate_size"]
    {
        for value in
            [serde_json::json!(0), serde_json::json!(-1), serde_json::json!("12"), serde_json::json!(1e300)]
        {
            let (room, model) = set(key, value);
            refused(&room, &model, &[key]);
        }
        // Within the bounds of a config, but no weight of the file fits it, or the heads do not divide the width.
        let (room, model) = set(key, serde_json::json!(1 << 16));
        refused(&room, &model, &[]);
    }
    let (room, model) = set("num_hidden_layers", serde_json::json!(60_000));
    refused(&room, &model, &[]);
    let (room, model) = set("num_hidden_layers", serde_json::json!(u64::MAX));
    refused(&room, &model, &["num_hidden_layers"]);
}

#[test]
fn config_files_that_are_no_config() {
    let bombs: [(&str, Vec<u8>); 7] = [
        ("empty", vec![]),
        ("half", b"{\"architectures\": [\"BertMo".to_vec()),
        ("a list", b"[1, 2]".to_vec()),
        ("zeros", vec![0; 4096]),
        ("deep", b"{\"a\":".repeat(100_000)),
        ("deep lists", [b"{\"a\":".to_vec(), b"[".repeat(1_000_000)].concat()),
        ("not UTF-8", b"{\"architectures\": [\"\xff\xfe\"]}".to_vec()),
    ];
    for (_, bytes) in &bombs {
        let (room, model) = with_file("config.json", bytes);
        refused(&room, &model, &["config.json"]);
    }
    let (room, model) = with_file("config.json", b"");
    std::fs::remove_file(model.join("config.json")).unwrap();
    refused(&room, &model, &["config.json"]);
    room.fifo("model/config.json");
    refused(&room, &model, &["config.json"]);
    std::fs::remove_file(model.join("config.json")).unwrap();
    std::fs::create_dir(model.join("config.json")).unwrap();
    refused(&room, &model, &["config.json"]);
    std::fs::remove_dir(model.join("config.json")).unwrap();
    symlink("/dev/zero", model.join("config.json")).unwrap();
    refused(&room, &model, &["config.json"]);
}

#[test]
fn weights_that_lie() {
    let good = std::fs::read(bert().join("model.safetensors")).unwrap();
    for cut in [0, 1, 7, 8, 9, 100, good.len() / 2, good.len() - 1] {
        let (room, model) = with_file("model.safetensors", &good[..cut]);
        refused(&room, &model, &["model.safetensors"]);
    }
    let bad: [(&str, Vec<u8>); 9] = [
        ("one byte more", [&good[..], b"x"].concat()),
        ("a header of 2^63", [&(1u64 << 63).to_le_bytes()[..], &good[8..]].concat()),
        ("a header of 2^64 - 1", [&u64::MAX.to_le_bytes()[..], &good[8..]].concat()),
        ("a header longer than the file", [&(good.len() as u64).to_le_bytes()[..], &good[8..]].concat()),
        ("deep nesting", safetensors(&"{\"a\":".repeat(200_000), &[])),
        (
            "overlap",
            safetensors(
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
                &[0; 12],
            ),
        ),
        (
            "offsets beyond 64 bits",
            safetensors(
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[9223372036854775800,9223372036854775808]}}"#,
                &[0; 8],
            ),
        ),
        (
            "a shape whose product overflows",
            safetensors(
                r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#,
                &[0; 8],
            ),
        ),
        ("backwards", safetensors(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, &[0; 8])),
    ];
    for (_, bytes) in &bad {
        let (room, model) = with_file("model.safetensors", bytes);
        refused(&room, &model, &["model.safetensors"]);
    }
    // Whole, but not this model's: missing and extra weights are listed by name.
    let other =
        safetensors(r#"{"stranger.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, &[0; 8]);
    let (room, model) = with_file("model.safetensors", &other);
    refused(&room, &model, &["embeddings.word_embeddings.weight", "pooler.dense.bias", "stranger.weight"]);
}

#[test]
fn weight_files_that_are_no_files() {
    let (room, model) = with_config(|_| {});
    let weights = model.join("model.safetensors");
    std::fs::remove_file(&weights).unwrap();
    refused(&room, &model, &["model"]);
    room.fifo("model/model.safetensors");
    refused(&room, &model, &["model"]);
    std::fs::remove_file(&weights).unwrap();
    std::fs::create_dir(&weights).unwrap();
    refused(&room, &model, &["model"]);
    std::fs::remove_dir(&weights).unwrap();
    symlink("/dev/zero", &weights).unwrap();
    refused(&room, &model, &["model"]);
    std::fs::remove_file(&weights).unwrap();
    symlink("model.safetensors", &weights).unwrap();
    refused(&room, &model, &["model"]);
}

#[test]
fn shards_stay_in_the_folder() {
    let room = Room::new();
    let model = room.copy(&bert(), "model");
    let weights = model.join("model.safetensors");
    std::fs::copy(&weights, room.path("outside.safetensors")).unwrap();
    std::fs::rename(&weights, model.join("inside.safetensors")).unwrap();
    let outside = room.path("outside.safetensors").display().to_string();
    symlink(&outside, model.join("link.safetensors")).unwrap();
    symlink(room.path(""), model.join("parent")).unwrap();
    room.fifo("model/pipe.safetensors");
    let index = |shard: &str| {
        let index = serde_json::json!({ "weight_map": { "pooler.dense.bias": shard } });
        std::fs::write(model.join("model.safetensors.index.json"), serde_json::to_vec(&index).unwrap())
            .unwrap();
    };
    for shard in [
        "../outside.safetensors",
        &outside,
        "x/../../outside.safetensors",
        "..\\outside.safetensors",
        "parent/outside.safetensors",
        "link.safetensors",
        "pipe.safetensors",
        "absent.safetensors",
        "in\0side.safetensors",
        "",
        ".",
        "..",
    ] {
        index(shard);
        // Files that are there, or could be, are named themselves.
        let named =
            if shard.starts_with("pipe") || shard.starts_with("absent") { shard } else { "index.json" };
        refused(&room, &model, &[named]);
    }
    for bomb in [&b"{"[..], b"", b"[]", &b"{\"weight_map\":".repeat(100_000)] {
        std::fs::write(model.join("model.safetensors.index.json"), bomb).unwrap();
        refused(&room, &model, &["model.safetensors.index.json"]);
    }
}
