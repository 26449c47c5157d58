//! The way of a model through frit, timed part by part: passes, planning, loading an artifact, one run. Kernels have
//! benches of their own beside the CPU backend; peers are in benches/compare.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{Criterion, criterion_group, criterion_main};
use frit::ir::Tensor;
use frit::{LoadOptions, load};
use std::path::{Path, PathBuf};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

fn line(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["digits", "spoken-digits", "digit-strip"] {
        let source = example(name);
        let options = LoadOptions { threads: Some(2), ..LoadOptions::default() };
        let module = load::build(&source, &options).unwrap();
        c.bench_function(&format!("{name}/build"), |b| b.iter(|| load::build(&source, &options).unwrap()));
        c.bench_function(&format!("{name}/passes"), |b| {
            b.iter_batched(
                || module.clone(),
                |m| load::optimise(m).unwrap(),
                criterion::BatchSize::SmallInput,
            )
        });
        let loaded = load(&source, &options).unwrap();
        let path = folder.path().join(format!("{name}.frit"));
        frit::runtime::artifact::write(&loaded.model, &[], &path, &mut |_, _| {}).unwrap();
        c.bench_function(&format!("{name}/load"), |b| b.iter(|| load(&path, &options).unwrap()));
    }
    let loaded = load(&example("digits"), &LoadOptions::default()).unwrap();
    let mut session = loaded.model.session("forward").unwrap();
    let pixels = Tensor::zeros(frit::ir::DType::F32, &[1, 3, 24, 24]).unwrap();
    c.bench_function("digits/run", |b| {
        b.iter(|| session.run(&[("pixel_values", &pixels)]).map(|_| ()).unwrap())
    });
}

criterion_group!(benches, line);
criterion_main!(benches);
