//! How long optimising takes: the fixtures' models through the whole pipeline. Kernels are measured elsewhere.

#![allow(missing_docs, clippy::unwrap_used)] // a benchmark

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use frit_frontends::hf::{self, Request};
use frit_passes::{Options, optimise};
use std::hint::black_box;
use std::path::Path;

fn passes(c: &mut Criterion) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parity");
    let mut group = c.benchmark_group("optimise");
    for case in ["bert_model", "wav2vec2_group", "beit_model_relative", "ved_equal"] {
        let module = hf::build(&fixtures.join(case).join("model"), &Request::default()).unwrap();
        let run = |mut m| {
            optimise(&mut m, &Options::default()).unwrap();
            black_box(m)
        };
        group.bench_function(case, |b| b.iter_batched(|| module.clone(), run, BatchSize::SmallInput));
    }
    group.finish();
}

criterion_group!(benches, passes);
criterion_main!(benches);
