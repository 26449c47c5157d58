//! Sessions of graphs whose sizes are known only at run time, and of control flow, against the interpreter; from the
//! module and from the artifact.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use frit_ir::{Module, Tensor, interp, text};
use frit_runtime::{BackendKind, Engine, EngineOptions, artifact};

const LENGTHS: &str = r#"module {
  graph forward(x: f32[a, 3], k: i64[2]) {
    %1: f32[a, 3] = Relu(x)
    %2: i64[2, n] = NonZero(%1) {count = "n"}
    %3: i64[n, 2] = Transpose(%2) {perm = [1, 0]}
    %4: f32[n] = ConstantOfShape() {shape = [n], value = 2.0}
    %5: i64[1] = Slice(k) {axes = [0], starts = [1], ends = [2], steps = [1]}
    %6: i64[] = SymbolOf(%5) {name = "m"}
    %7: f32[m] = Range() {limit = m, dtype = f32}
    %8: f32[n, 1] = Reshape(%4) {shape = [n, 1]}
    %9: f32[n, m] = Mul(%8, %7)
    %10: f32[n, m] = Exp(%9)
    %11: f32[m, n] = Transpose(%10) {perm = [1, 0]}
    %12: f32[m, 3] = Reshape(%1) {shape = [m, 3], trust = true}
    return at = %3, e = %10, t = %11, r = %12, x2 = %1
  }
}"#;

const LOOPS: &str = r#"module {
  graph forward(trip: i64[], c: bool[], x: f32[n, 2]) {
    %1: f32[m, 2] = If(c, x, x) {then_body = "twice", else_body = "same", then_inputs = 1, types = [f32[m, 2]], symbols = ["m"]}
    %2: f32[m, 2] = Exp(%1)
    %3: f32[p, 2], %4: f32[t] = Loop(trip, _, %2, x) {body = "grow", carried = 1, types = [f32[p, 2], f32[t]], symbols = ["p", "t"]}
    %5: f32[p, 2] = Neg(%3)
    return y = %5, sums = %4
  }
  graph twice(x: f32[n, 2]) {
    %1: f32[2 * n, 2] = Concat(x, x) {axis = 0}
    return y = %1
  }
  graph same(x: f32[n, 2]) {
    return y = x
  }
  graph grow(i: i64[], go: bool[], v: f32[q, 2], x: f32[n, 2]) {
    %1: f32[n + q, 2] = Concat(v, x) {axis = 0}
    %2: f32[] = ReduceSum(%1) {axes = [0, 1], keepdims = false}
    return go = go, v = %1, sum = %2
  }
}"#;

fn check(source: &str, inputs: &[(&str, Tensor)]) {
    let module: Module = text::parse(source).unwrap();
    frit_ir::verify::verify(&module).unwrap();
    let named: Vec<_> = inputs.iter().map(|(n, t)| ((*n).to_owned(), t.clone())).collect();
    let expected = interp::run_module(&module, "forward", &named).unwrap();
    for backend in [BackendKind::Cpu, BackendKind::Reference] {
        let engine = Engine::new(EngineOptions { backend, ..Default::default() }).unwrap();
        let model = engine.model(module.clone()).unwrap();
        assert_eq!(model.entries().collect::<Vec<_>>(), ["forward"]);
        let mut models = vec![model.clone()];
        if backend == BackendKind::Cpu {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("m.frit");
            artifact::write(&model, &[], &path, &mut |_, _| {}).unwrap();
            models.push(artifact::load(&engine, &path).unwrap().model);
        }
        for model in models {
            let mut session = model.session("forward").unwrap();
            let given: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (*n, t)).collect();
            for _ in 0..2 {
                let outputs = session.run(&given).unwrap();
                for (name, want) in &expected {
                    let got = outputs.tensor(name).unwrap();
                    assert_eq!((got.dtype(), got.shape()), (want.dtype(), want.shape()), "{name}");
                    for (a, b) in got.to_f64_vec().iter().zip(want.to_f64_vec()) {
                        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{name}: {a} {b}");
                    }
                }
            }
        }
    }
}

#[test]
fn data_decides_sizes() {
    let k = |m: i64| Tensor::from_slice(&[2], &[7i64, m]).unwrap();
    for zeros in [0, 2, 6] {
        let v: Vec<f32> = (0..6).map(|i| if i < zeros { -1.0 } else { 0.1 * (i as f32) + 0.1 }).collect();
        check(LENGTHS, &[("x", Tensor::from_slice(&[2, 3], &v).unwrap()), ("k", k(2))]);
    }
}

#[test]
fn what_was_trusted_is_compared() {
    let module = text::parse(LENGTHS).unwrap();
    let model = Engine::new(EngineOptions::default()).unwrap().model(module).unwrap();
    let mut session = model.session("forward").unwrap();
    let x = Tensor::from_slice(&[2, 3], &[1f32; 6]).unwrap();
    let mut error = |m: i64| {
        let k = Tensor::from_slice(&[2], &[0, m]).unwrap();
        session.run(&[("x", &x), ("k", &k)]).map(|_| ()).unwrap_err().to_string()
    };
    assert!(error(5).contains("[2, 3] to [5, 3]"));
    assert!(error(-1).contains("`m` is -1"));
    assert!(error(i64::MAX).contains("overflow") || error(i64::MAX).contains("too large"));
}

#[test]
fn memory_of_sizes_found_at_run_time_counts_against_the_limit() {
    let source = "module { graph forward(k: i64[]) {
    %1: i64[] = SymbolOf(k) {name = \"m\"}
    %2: f32[m] = Range() {limit = m, dtype = f32}
    return y = %2 } }";
    let model = Engine::new(EngineOptions::default()).unwrap().model(text::parse(source).unwrap()).unwrap();
    let mut session = model.session("forward").unwrap();
    session.set_memory_limit(Some(1 << 20));
    let mut run = |m: i64| {
        let k = Tensor::from_slice(&[], &[m]).unwrap();
        session.run(&[("k", &k)]).map(|o| o.get("y").unwrap().shape.to_vec()).map_err(|e| e.to_string())
    };
    assert_eq!(run(7), Ok(vec![7]));
    assert!(run(1 << 30).unwrap_err().contains("limit"));
}

#[test]
fn branches_and_loops_of_growing_values() {
    let x = Tensor::from_slice(&[2, 2], &[0.1f32, 0.2, 0.3, 0.4]).unwrap();
    for (trip, c) in [(0i64, true), (1, false), (4, true)] {
        let trip = Tensor::from_slice(&[], &[trip]).unwrap();
        check(LOOPS, &[("trip", trip), ("c", Tensor::from_bools(&[], &[c]).unwrap()), ("x", x.clone())]);
    }
}

#[test]
fn loops_without_end_are_ended_by_the_limit() {
    let source = "module { graph forward(x: f32[]) {
    %1: f32[] = Loop(_, _, x) {body = \"b\", carried = 1, types = [f32[]]}
    return y = %1 }
  graph b(i: i64[], go: bool[], x: f32[]) { return go = go, x = x } }";
    let model = Engine::new(EngineOptions::default()).unwrap().model(text::parse(source).unwrap()).unwrap();
    let mut session = model.session("forward").unwrap();
    session.set_iteration_limit(Some(1000));
    let x = Tensor::scalar(frit_ir::DType::F32, 1.0);
    let e = session.run(&[("x", &x)]).map(|_| ()).unwrap_err().to_string();
    assert!(e.contains("iterations"), "{e}");
}
