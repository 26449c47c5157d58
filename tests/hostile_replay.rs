//! The fuzz targets on their committed seeds and on seeded mutations of them: what `cargo fuzz` runs for minutes with
//! coverage guidance, here for seconds on stable Rust. The targets are in fuzz/src.
#![allow(clippy::unwrap_used)] // a test fails by panicking

#[path = "../fuzz/src/lib.rs"]
#[allow(
    dead_code,
    unused_imports,
    missing_docs,
    clippy::all,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]
mod fuzz;

use fuzz::replay::{Stream, replay, seeds};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A single input may take so long on a busy machine.
const SLOW: Duration = Duration::from_secs(20);

fn check(name: &str, iterations: usize) {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let seeds = seeds(&corpus);
    assert!(!seeds.is_empty(), "no seeds in {}", corpus.display());
    let (_, target) = fuzz::TARGETS.iter().find(|(n, _)| *n == name).unwrap();
    let run = |input: &[u8]| {
        let begin = Instant::now();
        target(input);
        assert!(begin.elapsed() < SLOW, "{name} took {:?} for {input:02x?}", begin.elapsed());
    };
    replay(run, fuzz::mutator(name), &seeds, iterations, &mut Stream(1));
}

macro_rules! targets {
    ($($name:ident: $iterations:literal,)*) => {
        $(#[test] fn $name() { check(stringify!($name), $iterations) })*

        #[test]
        fn every_target_is_replayed() {
            let names: Vec<&str> = fuzz::TARGETS.iter().map(|t| t.0).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

targets! {
    graph_text: 3000,
    weights: 3000,
    config: 1500,
    artifact: 1500,
    artifact_parts: 2000,
    image: 1000,
    audio: 1000,
    tokenizer: 400,
    generation: 1500,
    onnx: 1000,
    differential: 1500,
}
