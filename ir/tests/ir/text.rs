//! The text format: what prints parses back, and what is wrong is named with its place.

use frit_ir::op::{Concat, Conv, Gather, Gelu, GeluForm, Range, Reduce, ReduceFn};
use frit_ir::random::fill_weights;
use frit_ir::text::parse;
use frit_ir::{DType, Dim, Graph, GraphBuilder, InputDefault, Module, State, Tensor, TensorType};

fn s(name: &str) -> Dim {
    Dim::symbol(name)
}

fn sample() -> Module {
    let mut m = Module::default();
    m.metadata.push(("class".into(), "Some \"Model\"\n\u{1}".into()));
    m.metadata.push(("odd key".into(), String::new()));
    let table = m.weights.declare("embeddings.word", TensorType::new(DType::F32, [64usize, 8]));
    m.weights.add("k", Tensor::from_f64(DType::F16, &[3], &[0.1, f64::INFINITY, -0.0]).unwrap());
    let mut g = Graph::new("forward");
    let mut b = GraphBuilder::new(&mut g, &mut m.weights);
    let shape = |d: &[Dim]| TensorType { dtype: DType::I64, shape: d.to_vec() };
    let ids = b.input("input_ids", shape(&[s("batch"), s("sequence")]), None);
    b.input("mask for \"it\"", shape(&[s("batch"), s("unk 1")]), Some(InputDefault::Ones));
    let past = b.input(
        "past.0",
        TensorType { dtype: DType::F32, shape: vec![s("batch"), s("past"), Dim::constant(8)] },
        None,
    );
    let table = b.weight(table).unwrap();
    let x = b.scoped("embeddings", |b| b.op(Gather { axis: 0 }, &[table, ids]).unwrap());
    let x = b.scoped("act", |b| b.op(Gelu { approximate: GeluForm::Tanh }, &[x]).unwrap());
    let present = b.op(Concat { axis: 1 }, &[past, x]).unwrap();
    let halves = b.split(present, 2, &[Dim::constant(3), Dim::constant(5)]).unwrap();
    let mean =
        b.op(Reduce { function: ReduceFn::Mean, axes: vec![-1], keepdims: false }, &[halves[1]]).unwrap();
    let scaled = b.mul_scalar(mean, 0.125).unwrap();
    let range = b
        .op(
            Range {
                start: s("past").mul_const(-1).unwrap(),
                limit: s("sequence"),
                step: 1,
                dtype: DType::I64,
            },
            &[],
        )
        .unwrap();
    let w = b.constant(Tensor::from_f64(DType::F32, &[8, 8, 1], &[0.5; 64]).unwrap()).unwrap();
    let t = b.transpose(x, &[0, 2, 1]).unwrap();
    let conv = b.op_opt(Conv::plain(1), &[Some(t), Some(w), None]).unwrap();
    b.output("hidden_states.0", scaled);
    b.output("present", present);
    b.output("range", range);
    b.output("conv", conv);
    g.states.push(State { input: "past.0".into(), output: "present".into(), axis: 1 });
    m.graphs.push(g.compacted().unwrap());
    m.graphs.push(Graph::new("empty"));
    m
}

#[test]
fn a_module_prints_and_parses_back_to_itself() {
    let m = sample();
    let text = m.to_string();
    let mut back = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(back.to_string(), text);
    let big = m.weights.iter().find(|(_, w)| w.ty.rank() == 3).unwrap().0;
    assert!(back.weights.data(big).is_none());
    back.weights.set_data(big, m.weights.data(big).unwrap().clone());
    assert_eq!(back, m);
    assert!(text.contains("Conv(%"), "{text}");
    assert!(text.contains(", _) {strides = [1], pads = [0, 0], dilations = [1]}"), "{text}");
    assert!(text.contains("Gelu(%"), "{text}");
    assert!(text.contains("{approximate = tanh} ; \"act\""), "{text}");
    assert!(text.contains("Range() {start = -past, limit = sequence}"), "{text}");
    assert!(text.contains("weight @k: f16[3] = [0.099975586, inf, -0.0]"), "{text}");
    assert!(text.contains("state past.0 -> present {axis = 1}"), "{text}");
}

#[test]
fn numbers_of_every_type_are_exact() {
    for dtype in DType::ALL {
        let size = dtype.size();
        for pattern in 0u64..512 {
            let bits = pattern.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ pattern << 8;
            let bits = if dtype == DType::Bool { bits & 1 } else { bits };
            let t = Tensor::from_bytes(dtype, &[1], &bits.to_le_bytes()[..size]).unwrap();
            let mut m = Module::default();
            m.weights.add("w", t);
            let text = m.to_string();
            let back = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(back, m, "{text}");
        }
    }
    let nan = Tensor::from_bytes(DType::F32, &[], &0xffc0_1234u32.to_le_bytes()).unwrap();
    let mut m = Module::default();
    m.weights.add("nan", nan);
    m.weights.add("0", Tensor::from_f64(DType::F64, &[2], &[f64::NAN, f64::MIN_POSITIVE / 2.0]).unwrap());
    m.weights.add("least", Tensor::from_i64(DType::I64, &[2, 1], &[i64::MIN, i64::MAX]).unwrap());
    m.weights.add("max", Tensor::from_bytes(DType::U64, &[], &u64::MAX.to_le_bytes()).unwrap());
    m.weights.add("onnx::Mul/7", Tensor::zeros(DType::F32, &[2, 0]).unwrap());
    let text = m.to_string();
    assert_eq!(parse(&text).unwrap(), m, "{text}");
    assert!(text.contains("0xffc01234") && text.contains("[nan, 1.1125369292536007e-308]"), "{text}");
}

#[test]
fn dimension_expressions_read_back() {
    let (a, b) = (s("a"), s("b c"));
    let half = a.add_const(-10).unwrap().floor_div(&Dim::constant(5)).unwrap();
    let all = [
        half.mul(&half).unwrap().mul_const(-3).unwrap().add(&a).unwrap(),
        a.mul(&b).unwrap().floor_div(&half).unwrap().mul_const(2).unwrap(),
        a.maximum(&b).unwrap().minimum(&Dim::constant(7)).unwrap().sub(&half).unwrap(),
        Dim::constant(i64::MIN).mul(&a).unwrap(),
        Dim::constant(i64::MIN).add(&a).unwrap(),
        s("max").mul(&a.floor_div(&b).unwrap()).unwrap(),
        a.mul_const(-1).unwrap().floor_div(&Dim::constant(-3)).unwrap(),
    ];
    for d in all {
        let text = format!("module {{ graph g(x: f32[{d}]) {{ }} }}");
        let m = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let g = &m.graphs[0];
        assert_eq!(g.ty(g.inputs[0].value).unwrap().shape, [d]);
    }
}

/// The refusal of a text.
fn refusal(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let cases = [
        ("", "line 1, column 1: expected `module`, got the end of the text"),
        ("module {\n  facts\n}", "line 2, column 3: expected `fact`, `weight`, `graph` or `}`, got `facts`"),
        ("module { weight @w f32[1] }", "expected `:`, got `f32`"),
        ("module { weight @w: f33[1] }", "unknown element type `f33`"),
        ("module { weight @w: f32[n] }", "extents that are no numbers"),
        ("module { weight @w: f32[1] weight @w: f32[1] }", "`@w` is there already"),
        ("module { weight @w: i8[1] = [300] }", "does not fit i8"),
        ("module { weight @w: i8[2] = [3] }", "expected `,`, got `]`"),
        ("module { weight @w: f32[99999999, 9999999999] = [1] }", "at most 16 elements"),
        ("module { graph g() { %0 = Foo() } }", "there is no op `Foo`"),
        (
            "module { graph g(x: f32[a]) {\n %0 = Relu(x) {axis = 1} } }",
            "line 2, column 16: Relu has no attribute `axis`",
        ),
        ("module { graph g(x: f32[a]) { %0 = Softmax(x) {axis = a} } }", "expected an integer, got `a`"),
        ("module { graph g(x: f32[a]) { %0 = Softmax(y) } }", "an input `y` is not defined before"),
        ("module { graph g(x: f32[a]) { %0 = Softmax(%1) } }", "%1 is not defined before"),
        (
            "module { graph g(x: f32[a]) { %0: f32[b] = Relu(x) } }",
            "column 31: expected %0: f32[a], got f32[b]",
        ),
        ("module { graph g(x: f32[a]) { %0 = Relu(x) %0 = Relu(x) } }", "%0 is there already"),
        ("module { graph g(x: f32[a]) { %0, %1 = Relu(x) } }", "makes 1 values, not 2"),
        ("module { graph g(x: f32[a]) { %0 = Concat(x) } }", "Concat needs attribute `axis`"),
        ("module { graph g(x: f32[a / 0]) { } }", "divided by zero"),
        ("module { graph g(x: f32[9223372036854775808]) { } }", "does not fit 64 bits"),
        ("module { graph g(x: f32[a]) { return y = x, y = x } }", "the output `y` is there already"),
        ("module { graph g(x: f32[a]) { return y = x state x -> z {axis = 0} } }", "there is no output `z`"),
        ("module { graph g(x: f32[a]) { return y = x state x -> y {axis = 1} } }", "out of range for rank 1"),
        ("module { fact a = \"\\q\" }", "unknown escape"),
        ("module { fact a = \"b }", "has no end"),
        ("module { } x", "expected the end of the text"),
        ("module { ~ }", "the character '~' starts nothing"),
    ];
    for (text, want) in cases {
        let got = refusal(text);
        assert!(got.contains(want), "{text}\n got: {got}\nwant: {want}");
    }
    let deep = format!("module {{ graph g(x: f32[{}a", "(".repeat(100_000));
    assert!(refusal(&deep).contains("nest deeper"));
    let wide = format!("module {{ graph g(x: f32[{}]) {{ }} }}", "(a + b + c) * ".repeat(30) + "a");
    assert!(refusal(&wide).contains("parts"));
}

#[test]
fn hand_written_text_may_leave_types_out() {
    let text = "
        // Two layers.
        module {
          weight @w: f32[4, 4]
          graph f(x: f32[n, 4]) {
            %hidden = MatMul(x, @w)   // no type given
            %out = Softmax(%hidden)
            return y = %out
          }
        }";
    let mut m = parse(text).unwrap();
    fill_weights(&mut m, 7).unwrap();
    let mut again = parse(text).unwrap();
    fill_weights(&mut again, 7).unwrap();
    assert_eq!(m, again);
    let x = Tensor::from_f64(DType::F32, &[2, 4], &[0.1; 8]).unwrap();
    let y = frit_ir::interp::run(&m.graphs[0], &m.weights, &[("x".into(), x)]).unwrap();
    assert_eq!(y[0].1.shape(), [2, 4]);
    assert!(m.to_string().contains("%3: f32[n, 4] = Softmax(%2)"), "{m}");
}

#[test]
fn every_op_prints_its_attributes_back() {
    for op in frit_ir::docs::ops() {
        let attrs: Vec<_> = op.sample.attrs().into_iter().map(|(n, a)| (n.to_owned(), a)).collect();
        assert_eq!(frit_ir::Op::from_name(op.decl.name, &attrs).unwrap().unwrap(), op.sample);
        assert_eq!(op.sample.name(), op.decl.name);
        assert!(!op.decl.doc.trim().is_empty(), "{} has no documentation", op.decl.name);
    }
    let text = frit_ir::docs::ops_markdown();
    assert!(text.contains("### Conv(x, w, bias?)"), "{text}");
    assert!(text.contains("- `approximate`: one of none tanh, default none."), "{text}");
}

#[test]
fn dot_shows_ops_and_types() {
    let m = sample();
    let dot = frit_ir::dot::dot(&m.graphs[0], &m.weights);
    assert!(dot.starts_with("digraph"), "{dot}");
    assert!(dot.contains("Gather\\n@embeddings.word f32[64, 8]\\nembeddings"), "{dot}");
    assert!(dot.contains("i64[batch, sequence]") && dot.contains("mask for \\\"it\\\""), "{dot}");
    let summary = frit_ir::dot::summary(&m.graphs[0], &m.weights);
    assert!(summary.ops.contains(&("Split", 1)) && summary.parameters >= 64 * 8 + 64);
}

#[test]
fn long_lists_take_a_line_each() {
    let names: Vec<String> = (0..12).map(|i| format!("past_key_values.{i}")).collect();
    let inputs: Vec<String> = names.iter().map(|n| format!("{n}: f32[batch, past]")).collect();
    let outputs: Vec<String> = names.iter().map(|n| format!("out.{n} = {n}")).collect();
    let text = format!("module {{ graph g({}) {{ return {} }} }}", inputs.join(", "), outputs.join(", "));
    let m = parse(&text).unwrap();
    let printed = m.to_string();
    assert!(printed.contains("\n      past_key_values.3: f32[batch, past],\n"), "{printed}");
    assert!(printed.contains("\n      out.past_key_values.11 = past_key_values.11\n"), "{printed}");
    assert_eq!(parse(&printed).unwrap(), m);
}

/// A compiled model starts by reading its graphs from text, so that must take milliseconds.
#[test]
fn a_large_graph_reads_quickly() {
    let mut text = String::from("module {\n");
    for i in 0..1500 {
        text.push_str(&format!("  weight @encoder.layer.{i}.attention.self.query.weight: f32[64, 64]\n"));
    }
    text.push_str("  graph g(x: f32[batch, sequence, 64]) {\n    %0 = Relu(x)\n");
    for i in 0..1500 {
        text.push_str(&format!(
            "    %{}: f32[batch, sequence, 64] = FusedMatMul(%{i}, @encoder.layer.{i}.attention.self.query.weight) \
             {{trans_b = true, activation = gelu}} ; \"encoder.layer.{i}.attention.self\"\n",
            i + 1
        ));
    }
    text.push_str("    return y = %1500\n  }\n}\n");
    let start = std::time::Instant::now();
    let m = parse(&text).unwrap();
    let parsed = start.elapsed();
    frit_ir::verify::verify(&m).unwrap();
    let verified = start.elapsed() - parsed;
    println!("{} bytes parsed in {parsed:?}, verified in {verified:?}", text.len());
    assert!(parsed.as_secs() < 5 && verified.as_secs() < 5);
}
