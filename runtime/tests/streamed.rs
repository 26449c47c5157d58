//! Weights that a step of decoding multiplies by: one form for all graphs of a module, the same results from it, in memory
//! and from a file. The form itself is tested where its kernels are.

#![allow(clippy::unwrap_used)]

use frit_backend::Target;
use frit_ir::{DType, Module, Tensor, text};
use frit_runtime::{BackendKind, Engine, EngineOptions, Model, artifact};

/// A step with a cache, a graph without one over the same weight, and a weight that only that one has.
const SOURCE: &str = r#"module {
  weight @w: f32[256, 520]
  weight @once: f32[520, 256]
  graph all(x: f32[batch, sequence, 256]) {
    %1: f32[batch, sequence, 520] = MatMul(x, @w)
    %2: f32[batch, sequence, 256] = MatMul(%1, @once)
    return y = %1, z = %2
  }
  graph step(x: f32[batch, new, 256], kept: f32[batch, past, 256]) {
    %1: f32[batch, past + new, 256] = Concat(kept, x) {axis = 1}
    %2: f32[batch, new, 520] = MatMul(x, @w)
    return y = %2, all = %1
    state kept -> all {axis = 1}
  }
}"#;

fn wave(shape: &[usize], pace: f64) -> Tensor {
    let n: usize = shape.iter().product();
    let values: Vec<f64> = (0..n).map(|i| (i as f64 * pace).sin() * (i as f64 * 0.37).cos() * 0.3).collect();
    Tensor::from_f64(DType::F32, shape, &values).unwrap()
}

fn model(backend: BackendKind) -> Model {
    let mut module: Module = text::parse(SOURCE).unwrap();
    for (name, shape) in [("w", [256, 520]), ("once", [520, 256])] {
        let id = module.weights.find(name).unwrap();
        module.weights.set_data(id, wave(&shape, 0.713));
    }
    let engine = Engine::new(EngineOptions { threads: Some(2), backend, ..Default::default() }).unwrap();
    engine.model(module).unwrap()
}

fn run(model: &Model, entry: &str, x: &Tensor) -> Tensor {
    model.session(entry).unwrap().run(&[("x", x)]).unwrap().tensor("y").unwrap()
}

fn layouts(model: &Model, entry: &str) -> Vec<String> {
    model.program(entry).unwrap().packings().into_iter().map(|(_, layout)| layout).collect()
}

#[test]
fn every_graph_has_the_weights_of_steps_in_one_form_and_results_are_those_of_plain_ones() {
    let (cpu, oracle) = (model(BackendKind::Cpu), model(BackendKind::Reference));
    let (all, step) = (layouts(&cpu, "all"), layouts(&cpu, "step"));
    assert!(step.iter().all(|layout| all.contains(layout)), "{step:?} {all:?}");
    if Target::native() == Target::X86V4 {
        assert_eq!((step, all), (vec!["f32c-nr32".to_owned()], vec!["f32c-nr32".into(), "f32-nr32".into()]));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.frit");
    artifact::write(&cpu, &[], &path, &mut |_, _| {}).unwrap();
    let loaded = artifact::load(cpu.engine(), &path).unwrap().model;
    for rows in [1, 2, 3, 40] {
        let x = wave(&[1, rows, 256], 0.31);
        for entry in ["all", "step"] {
            let expected = run(&oracle, entry, &x);
            let got = run(&cpu, entry, &x);
            let (a, b) = (expected.as_slice::<f32>().unwrap(), got.as_slice::<f32>().unwrap());
            let largest = a.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let off = a.iter().zip(b).fold(0.0f32, |m, (x, y)| m.max((x - y).abs()));
            assert!(a.len() == b.len() && off <= 1e-5 * largest, "{entry}, {rows} rows: {off} of {largest}");
            assert_eq!(run(&loaded, entry, &x), got);
        }
    }
}
