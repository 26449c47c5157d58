//! ONNX models whose graphs are not well formed: names, cycles, types, attributes, nesting, functions.

use super::onnx::{
    body, floats, graph, input, int, ints, model, model_of, node, numbers, open_input, refused, text, typed,
    untyped,
};
use frit::frontends::onnx::schema::{
    AttributeProto, AttributeType, DataType, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto,
    SequenceType, TypeProto, TypeValue,
};
use prost::Message;

fn x() -> Vec<frit::frontends::onnx::schema::ValueInfoProto> {
    vec![input("x", &[2])]
}

fn plain(nodes: Vec<NodeProto>) -> Vec<u8> {
    model(nodes, x(), vec![])
}

fn named(mut n: NodeProto, name: &str) -> NodeProto {
    n.name = name.into();
    n
}

#[test]
fn names_and_order() {
    let neg = |from: &str, to: &str, name: &str| named(node("Neg", &[from], &[to], vec![]), name);
    refused(
        &plain(vec![neg("b", "a", "first"), neg("a", "b", "second"), neg("x", "y", "third")]),
        &["first"],
    );
    refused(&plain(vec![neg("y", "y", "own")]), &["own"]);
    refused(&plain(vec![neg("x", "y", "first"), neg("x", "y", "second")]), &["second", "`y`"]);
    refused(&plain(vec![neg("x", "x", "first"), neg("x", "y", "second")]), &["first"]);
    refused(&plain(vec![neg("nothing", "y", "lost")]), &["lost", "nothing"]);
    refused(&plain(vec![neg("x", "z", "other")]), &["`y`"]);
    refused(&plain(vec![neg("", "y", "empty")]), &["empty"]);
    refused(&plain(vec![node("Neg", &[], &["y"], vec![])]), &["the Neg"]);
    refused(&plain(vec![node("Neg", &["x"], &["y", "z"], vec![])]), &["the Neg"]);
    refused(&plain(vec![node("", &["x"], &["y"], vec![])]), &["unsupported"]);
    refused(&plain(vec![named(node("Explode", &["x"], &["y"], vec![]), "boom")]), &["Explode", "boom"]);
    let twice = model(vec![neg("x", "y", "n")], vec![input("x", &[2]), input("x", &[2])], vec![]);
    refused(&twice, &["`x`"]);
    let two = vec![floats("w", &[1.0, 2.0]), floats("w", &[1.0, 2.0])];
    refused(&model(vec![neg("w", "y", "n")], x(), two), &["`w`"]);
    refused(&model(vec![neg("x", "w", "n")], x(), vec![floats("w", &[1.0])]), &["`w`"]);
    refused(
        &model_of(graph(vec![neg("x", "y", "n")], vec![input("", &[2])], vec![untyped("y")], vec![]))
            .encode_to_vec(),
        &["input"],
    );
}

#[test]
fn operands_and_attributes() {
    let w = |values: &[i64]| vec![numbers("w", values)];
    refused(&model(vec![node("Add", &["x", "w"], &["y"], vec![])], x(), w(&[1, 2])), &["the Add"]);
    refused(
        &model(vec![node("Gather", &["x", "w"], &["y"], vec![int("axis", 5)])], x(), w(&[1])),
        &["the Gather"],
    );
    refused(&plain(vec![node("Softmax", &["x"], &["y"], vec![int("axis", 9)])]), &["the Softmax"]);
    refused(
        &plain(vec![node("Softmax", &["x"], &["y"], vec![text("axis", "one")])]),
        &["the Softmax", "axis"],
    );
    refused(&plain(vec![node("Softmax", &["x"], &["y"], vec![int("axis", 0), int("axis", 0)])]), &["axis"]);
    refused(&plain(vec![node("Cast", &["x"], &["y"], vec![])]), &["the Cast", "to"]);
    refused(&plain(vec![node("Cast", &["x"], &["y"], vec![int("to", i64::MAX)])]), &["the Cast"]);
    refused(&plain(vec![node("Transpose", &["x"], &["y"], vec![ints("perm", &[1])])]), &["the Transpose"]);
    refused(
        &plain(vec![node("Transpose", &["x"], &["y"], vec![ints("perm", &[i64::MIN])])]),
        &["the Transpose"],
    );
    refused(&plain(vec![node("MatMul", &["x", "x3"], &["y"], vec![])]), &["x3"]);
    refused(&plain(vec![node("Concat", &["x", "x"], &["y"], vec![int("axis", i64::MIN)])]), &["the Concat"]);
    refused(&plain(vec![node("Split", &["x"], &["y"], vec![int("num_outputs", i64::MAX)])]), &["the Split"]);
    refused(
        &plain(vec![node("DepthToSpace", &["x"], &["y"], vec![int("blocksize", 0)])]),
        &["the DepthToSpace"],
    );
    refused(&plain(vec![node("Einsum", &["x"], &["y"], vec![text("equation", "i->j")])]), &["the Einsum"]);
    refused(&plain(vec![node("If", &["x"], &["y"], vec![])]), &["the If"]);
    refused(&plain(vec![node("Loop", &["", ""], &["y"], vec![int("body", 1)])]), &["the Loop", "body"]);
    refused(&plain(vec![node("Scan", &["x"], &["y"], vec![int("num_scan_inputs", -1)])]), &["the Scan"]);
    refused(&plain(vec![node("Constant", &[], &["y"], vec![])]), &["the Constant"]);
    refused(&plain(vec![node("SequenceAt", &["x", "x"], &["y"], vec![])]), &["the SequenceAt"]);
    let picture = |attrs| {
        model(
            vec![node("Conv", &["x", "k"], &["y"], attrs)],
            vec![input("x", &[1, 1, 4, 4]), input("k", &[1, 1, 2, 2])],
            vec![],
        )
    };
    for attrs in [
        vec![ints("strides", &[0, 0])],
        vec![ints("strides", &[-1, 1])],
        vec![ints("strides", &[1])],
        vec![ints("dilations", &[i64::MAX, i64::MAX])],
        vec![ints("pads", &[i64::MAX; 4])],
        vec![ints("kernel_shape", &[9, 9])],
        vec![int("group", 0)],
        vec![int("group", i64::MIN)],
        vec![text("auto_pad", "SOME")],
    ] {
        refused(&picture(attrs), &["the Conv"]);
    }
    // An attribute that says it is a graph and holds none; one of unknown kind.
    let kind = |r#type| AttributeProto { name: "then_branch".into(), r#type, ..AttributeProto::default() };
    let condition = vec![typed("c", DataType::Bool)];
    for attr in [kind(AttributeType::Graph as i32), kind(77)] {
        refused(&model(vec![node("If", &["c"], &["y"], vec![attr])], condition.clone(), vec![]), &["the If"]);
    }
}

/// If within If, `depth` deep.
fn nested(depth: usize) -> GraphProto {
    let leaf = || graph(vec![node("Neg", &["x"], &["e"], vec![])], vec![], vec![untyped("e")], vec![]);
    let mut inner = leaf();
    for i in 0..depth {
        let out = format!("o{i}");
        let attrs = vec![body("then_branch", inner), body("else_branch", leaf())];
        inner = graph(vec![node("If", &["c"], &[&out], attrs)], vec![], vec![untyped(&out)], vec![]);
    }
    inner
}

#[test]
fn nesting() {
    for depth in [40, 200, 2000] {
        let attrs = vec![body("then_branch", nested(depth)), body("else_branch", nested(1))];
        let inputs = vec![input("x", &[2]), typed("c", DataType::Bool)];
        refused(&model(vec![node("If", &["c"], &["y"], attrs)], inputs, vec![]), &[]);
    }
    let mut ty = TypeProto::default();
    for _ in 0..200 {
        let of = Box::new(SequenceType { elem_type: Some(Box::new(ty)) });
        ty = TypeProto { value: Some(TypeValue::SequenceType(of)), ..TypeProto::default() };
    }
    let deep = super::onnx::value("q", ty);
    refused(
        &model(vec![node("SequenceLength", &["q"], &["y"], vec![])], vec![deep], vec![]),
        &["model.onnx"],
    );
}

fn function(name: &str, node: Vec<NodeProto>) -> FunctionProto {
    FunctionProto {
        name: name.into(),
        domain: "own".into(),
        input: vec!["x".into()],
        output: vec!["y".into()],
        node,
        opset_import: opsets(),
        ..FunctionProto::default()
    }
}

fn opsets() -> Vec<OperatorSetIdProto> {
    [("", 21), ("own", 1)].map(|(d, version)| OperatorSetIdProto { domain: d.into(), version }).to_vec()
}

fn calls(name: &str, from: &str, to: &str) -> NodeProto {
    NodeProto { domain: "own".into(), ..node(name, &[from], &[to], vec![]) }
}

fn with_functions(functions: Vec<FunctionProto>, first: &str) -> Vec<u8> {
    let mut m = model_of(graph(vec![calls(first, "x", "y")], x(), vec![untyped("y")], vec![]));
    m.functions = functions;
    m.opset_import = opsets();
    m.encode_to_vec()
}

#[test]
fn functions() {
    refused(&with_functions(vec![function("A", vec![calls("A", "x", "y")])], "A"), &["A", "itself"]);
    let two = vec![function("A", vec![calls("B", "x", "y")]), function("B", vec![calls("A", "x", "y")])];
    refused(&with_functions(two, "A"), &["itself"]);
    let leaf = || graph(vec![calls("A", "x", "e")], vec![], vec![untyped("e")], vec![]);
    let attrs = vec![body("then_branch", leaf()), body("else_branch", leaf())];
    let hidden = vec![function("A", vec![node("If", &["x"], &["y"], attrs)])];
    refused(&with_functions(hidden, "A"), &["itself"]);
    // Each calls the next, once and twice.
    let chain: Vec<FunctionProto> = (0..1000)
        .map(|i| function(&format!("F{i}"), vec![calls(&format!("F{}", i + 1), "x", "y")]))
        .collect();
    refused(&with_functions(chain, "F0"), &["32"]);
    let mut doubling: Vec<FunctionProto> = (0..30)
        .map(|i| {
            let next = format!("F{}", i + 1);
            function(&format!("F{i}"), vec![calls(&next, "x", "m"), calls(&next, "m", "y")])
        })
        .collect();
    doubling.push(function("F30", vec![node("Neg", &["x"], &["y"], vec![])]));
    refused(&with_functions(doubling, "F0"), &["more than"]);
    refused(&with_functions(vec![], "A"), &["A"]);
    let mut many =
        model_of(graph(vec![node("Neg", &["x"], &["y"], vec![])], x(), vec![untyped("y")], vec![]));
    many.opset_import =
        (0..50_000).map(|i| OperatorSetIdProto { domain: format!("d{i}"), version: 1 }).collect();
    refused(&many.encode_to_vec(), &["64"]);
}

/// Wide graphs are read in time that grows with their size, not its square.
#[test]
fn wide_graphs() {
    let neg = |from: &str, to: &str| node("Neg", &[from], &[to], vec![]);
    let n = 20_000;
    // Wrong at the end alone, so that everything before it is read.
    let wrong = |mut nodes: Vec<NodeProto>| {
        nodes.push(node("Softmax", &["x"], &["y"], vec![int("axis", 9)]));
        plain(nodes)
    };
    refused(&wrong((0..n).map(|i| neg("x", &format!("a{i}"))).collect()), &["the Softmax"]);
    let chain = |i: usize| if i == 0 { "x".to_owned() } else { format!("a{i}") };
    refused(&wrong((0..n).rev().map(|i| neg(&chain(i), &chain(i + 1))).collect()), &["the Softmax"]);
    let calls: Vec<NodeProto> = (0..n).map(|i| calls(&format!("F{i}"), "x", &format!("a{i}"))).collect();
    let mut m = ModelWith::new(calls);
    m.0.functions = (0..n).rev().map(|i| function(&format!("F{i}"), vec![neg("x", "y")])).collect();
    refused(&m.0.encode_to_vec(), &["the Softmax"]);
    let wide: Vec<String> = (0..n).map(|i| format!("a{i}")).collect();
    let wide: Vec<&str> = wide.iter().map(String::as_str).collect();
    let captured = graph(vec![node("Sum", &wide, &["t"], vec![])], vec![], vec![untyped("t")], vec![]);
    let other = graph(vec![neg("x", "e")], vec![], vec![untyped("e")], vec![]);
    let mut nodes: Vec<NodeProto> = (0..n).map(|i| neg("x", &format!("a{i}"))).collect();
    nodes.push(node("If", &["c"], &["z"], vec![body("then_branch", captured), body("else_branch", other)]));
    nodes.push(node("Softmax", &["x"], &["y"], vec![int("axis", 9)]));
    refused(&model(nodes, vec![input("x", &[2]), typed("c", DataType::Bool)], vec![]), &["the Softmax"]);
}

struct ModelWith(frit::frontends::onnx::schema::ModelProto);

impl ModelWith {
    fn new(mut nodes: Vec<NodeProto>) -> Self {
        nodes.push(node("Softmax", &["x"], &["y"], vec![int("axis", 9)]));
        let mut m = model_of(graph(nodes, x(), vec![untyped("y")], vec![]));
        m.opset_import = opsets();
        ModelWith(m)
    }
}

/// Sizes computed from sizes do not grow beyond bounds.
#[test]
fn expressions_of_sizes() {
    let mut nodes = vec![node("Shape", &["z"], &["s0"], vec![])];
    for i in 0..64 {
        nodes.push(node("Mul", &[&format!("s{i}"), &format!("s{i}")], &[&format!("s{}", i + 1)], vec![]));
    }
    nodes.push(node("ConstantOfShape", &["s64"], &["y"], vec![]));
    super::onnx::harmless(&model(nodes, vec![open_input("z", &["n", "m"])], vec![]));
    let mut nodes = vec![
        node("Shape", &["z"], &["s"], vec![]),
        node("Gather", &["s", "zero"], &["a0"], vec![]),
        node("Gather", &["s", "one"], &["b0"], vec![]),
    ];
    for i in 0..64 {
        let (a, b) = (format!("a{i}"), format!("b{i}"));
        nodes.push(node("Max", &[&a, &b], &[&format!("a{}", i + 1)], vec![]));
        nodes.push(node("Sub", &[&a, &b], &[&format!("b{}", i + 1)], vec![]));
    }
    nodes.push(node("ConstantOfShape", &["a64"], &["y"], vec![]));
    let constants = vec![numbers("zero", &[0]), numbers("one", &[1])];
    super::onnx::harmless(&model(nodes, vec![open_input("z", &["n", "m"])], constants));
    let names: Vec<String> = (0..500).map(|i| format!("n{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let flat = node("Reshape", &["z", "flat"], &["y"], vec![]);
    super::onnx::harmless(&model(vec![flat], vec![open_input("z", &names)], vec![numbers("flat", &[-1])]));
}
