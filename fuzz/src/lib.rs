//! The fuzz targets as plain functions: bytes in, a panic where something is wrong. `fuzz_targets/` hands them to
//! libFuzzer, `tests/hostile_replay.rs` of the root package runs them on the committed seeds under `cargo test`.
//! What the targets test belongs in frit's crates; only input making and comparing belongs here.

mod artifact;
mod bytes;
mod differential;
mod onnx;
mod readers;
pub mod replay;

pub use artifact::{artifact, artifact_parts, parts_of};
pub use differential::{differential, module_of};
pub use onnx::{mutate_onnx, onnx};
pub use readers::{audio, config, generation, graph_text, image, tokenizer, weights};

/// Every target with its name.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("graph_text", graph_text),
    ("weights", weights),
    ("config", config),
    ("artifact", artifact),
    ("artifact_parts", artifact_parts),
    ("image", image),
    ("audio", audio),
    ("tokenizer", tokenizer),
    ("generation", generation),
    ("onnx", onnx),
    ("differential", differential),
];

/// How inputs of a target are changed as what they mean, where random damage seldom does.
pub fn mutator(target: &str) -> Option<replay::Mutator> {
    (target == "onnx").then_some(mutate_onnx)
}
