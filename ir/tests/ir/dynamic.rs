//! Symbols that take their values at run time, and control flow: text, verifier, interpreter.

use frit_ir::{Module, Tensor, interp, text, verify};

fn module(source: &str) -> Module {
    let m = text::parse(source).unwrap();
    verify::verify(&m).unwrap();
    let printed = m.to_string();
    assert_eq!(text::parse(&printed).unwrap(), m, "{printed}");
    m
}

fn run(m: &Module, inputs: &[(&str, Tensor)]) -> Result<Vec<Tensor>, String> {
    let inputs: Vec<_> = inputs.iter().map(|(n, t)| ((*n).to_owned(), t.clone())).collect();
    let out = interp::run_module(m, "forward", &inputs).map_err(|e| e.to_string())?;
    Ok(out.into_iter().map(|(_, t)| t).collect())
}

#[test]
fn results_of_data_dependent_size_bind_their_symbol() {
    let m = module(
        r#"module {
  graph forward(x: f32[a, b]) {
    %1: i64[2, n] = NonZero(x) {count = "n"}
    %2: f32[n] = ConstantOfShape() {shape = [n], value = 3.0}
    return at = %1, filled = %2
  }
}"#,
    );
    let x = Tensor::from_slice(&[2, 2], &[0f32, 5.0, 6.0, 0.0]).unwrap();
    let out = run(&m, &[("x", x)]).unwrap();
    assert_eq!(out[0].to_i64_vec(), [0, 1, 1, 0]);
    assert_eq!(out[1].to_f64_vec(), [3.0, 3.0]);
}

#[test]
fn a_symbol_is_read_from_a_tensor_before_its_users_wherever_they_stand() {
    let m = module(
        r#"module {
  graph forward(n: i64[]) {
    %1: i64[] = SymbolOf(n) {name = "k"}
    %2: i64[k] = Range() {limit = k}
    return y = %2
  }
}"#,
    );
    let n = |v: i64| Tensor::from_slice(&[], &[v]).unwrap();
    assert_eq!(run(&m, &[("n", n(3))]).unwrap()[0].to_i64_vec(), [0, 1, 2]);
    assert!(run(&m, &[("n", n(-1))]).unwrap_err().contains("`k` is -1, expected at least 0"));
    // The definer is live although no operand leads to it, and stays before its user.
    let g = m.graphs[0].compacted().unwrap();
    assert_eq!(g.nodes().map(|(_, n)| n.op.name()).collect::<Vec<_>>(), ["SymbolOf", "Range"]);
}

#[test]
fn both_branches_of_a_condition() {
    let m = module(
        r#"module {
  graph forward(c: bool[], x: f32[n]) {
    %1: f32[m] = If(c, x, x) {then_body = "t", else_body = "e", then_inputs = 1, types = [f32[m]], symbols = ["m"]}
    return y = %1
  }
  graph t(x: f32[n]) {
    %1: f32[2 * n] = Concat(x, x) {axis = 0}
    return y = %1
  }
  graph e(x: f32[n]) {
    %1: f32[n] = Neg(x)
    return y = %1
  }
}"#,
    );
    let x = Tensor::from_slice(&[2], &[1f32, 2.0]).unwrap();
    let c = |v| Tensor::from_bools(&[], &[v]).unwrap();
    assert_eq!(run(&m, &[("c", c(true)), ("x", x.clone())]).unwrap()[0].to_f64_vec(), [1., 2., 1., 2.]);
    assert_eq!(run(&m, &[("c", c(false)), ("x", x)]).unwrap()[0].to_f64_vec(), [-1., -2.]);
}

#[test]
fn a_loop_carries_and_stacks() {
    let m = module(
        r#"module {
  graph forward(trip: i64[], start: f32[2], step: f32[2]) {
    %1: f32[2], %2: f32[t, 2] = Loop(trip, _, start, step) {body = "b", carried = 1, types = [f32[2], f32[t, 2]], symbols = ["t"]}
    return last = %1, all = %2
  }
  graph b(i: i64[], go: bool[], x: f32[2], step: f32[2]) {
    %1: f32[2] = Add(x, step)
    return go = go, x = %1, slice = x
  }
}"#,
    );
    let v = |a: f32, b: f32| Tensor::from_slice(&[2], &[a, b]).unwrap();
    let trip = |n: i64| Tensor::from_slice(&[], &[n]).unwrap();
    let inputs = |n| [("trip", trip(n)), ("start", v(1.0, 2.0)), ("step", v(10.0, 20.0))];
    let out = run(&m, &inputs(2)).unwrap();
    assert_eq!(out[0].to_f64_vec(), [21.0, 42.0]);
    assert_eq!((out[1].shape(), out[1].to_f64_vec()), (&[2usize, 2][..], vec![1., 2., 11., 22.]));
    let out = run(&m, &inputs(0)).unwrap();
    assert_eq!((out[0].to_f64_vec(), out[1].shape()), (vec![1.0, 2.0], &[0usize, 2][..]));
}

#[test]
fn bodies_must_be_there_fit_and_not_run_themselves() {
    let bad = |body: &str, inputs: &str| {
        let source = format!(
            "module {{ graph forward(c: bool[], x: f32[2]) {{
    %1: f32[2] = If(c, x, x) {{then_body = \"{body}\", else_body = \"t\", then_inputs = 1, types = [f32[2]]}}
    return y = %1 }}
  graph t({inputs}) {{ return y = x }} }}"
        );
        verify::verify(&text::parse(&source).unwrap()).unwrap_err().to_string()
    };
    assert!(bad("none", "x: f32[2]").contains("`none` is no graph of the module"));
    assert!(bad("t", "x: f32[2], z: f32[2]").contains("takes and gives (2, 1) values, expected (1, 1)"));
    assert!(bad("forward", "x: f32[2]").contains("runs itself"));
}

#[test]
fn a_symbol_nobody_defines_or_two_define_is_refused() {
    let errors = |body: &str| {
        let m = text::parse(&format!("module {{ graph forward(x: i64[2, a]) {{ {body} return y = x }} }}"))
            .unwrap();
        verify::verify(&m).unwrap_err().to_string()
    };
    assert!(
        errors("%1 = ConstantOfShape() {shape = [q]}")
            .contains("`q`, which no input has and no node defines")
    );
    let twice = r#"%1 = NonZero(x) {count = "n"} %2 = NonZero(x) {count = "n"}"#;
    assert!(errors(twice).contains("dimension symbol `n` occurs twice"));
    assert!(errors(r#"%1 = NonZero(x) {count = "a"}"#).contains("`a` occurs twice"));
}

#[test]
fn equality_of_extents_may_be_left_to_run_time() {
    let m = module(
        r#"module {
  graph forward(x: f32[a], y: f32[b, 2]) {
    %1: f32[b, 2] = Reshape(x) {shape = [b, 2], trust = true}
    %2: f32[b, a] = Expand(y) {shape = [b, a], trust = true}
    return r = %1, e = %2
  }
}"#,
    );
    let t = |shape: &[usize]| Tensor::zeros(frit_ir::DType::F32, shape).unwrap();
    let e = run(&m, &[("x", t(&[4])), ("y", t(&[2, 2]))]).unwrap_err();
    assert!(e.contains("does not broadcast"), "{e}");
    assert_eq!(run(&m, &[("x", t(&[2])), ("y", t(&[1, 2]))]).unwrap()[1].shape(), [1, 2]);
    assert!(run(&m, &[("x", t(&[3])), ("y", t(&[2, 2]))]).is_err());
}
