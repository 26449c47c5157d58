//! Importing ONNX models built in code: what becomes of their shapes, names, functions and faults. Operators'
//! meaning is checked by ONNX's own node tests, which `frit verify` runs.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use frit_frontends::onnx::import::{Form, ImportError, ImportRequest, Imported, flatten, import};
use frit_frontends::onnx::schema::{
    AttributeProto, AttributeType, DataType, DimValue, Dimension, FunctionProto, GraphProto, ModelProto,
    NodeProto, OperatorSetIdProto, SequenceType, TensorProto, TensorShapeProto, TensorType, TypeProto,
    TypeValue, ValueInfoProto,
};
use frit_frontends::onnx::{HostValue, OnnxModel};
use frit_ir::{DType, Tensor, interp};
use prost::Message;
use std::time::Instant;

fn dim(d: &str) -> Dimension {
    let value = match d.parse() {
        Ok(n) => DimValue::DimValue(n),
        Err(_) => DimValue::DimParam(d.to_owned()),
    };
    Dimension { value: Some(value), ..Dimension::default() }
}

fn tensor_type(dtype: DataType, dims: &[&str]) -> TypeProto {
    let shape = TensorShapeProto { dim: dims.iter().map(|d| dim(d)).collect() };
    let tensor = TensorType { elem_type: dtype as i32, shape: Some(shape) };
    TypeProto { value: Some(TypeValue::TensorType(tensor)), ..TypeProto::default() }
}

fn value(name: &str, dtype: DataType, dims: &[&str]) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), r#type: Some(tensor_type(dtype, dims)), ..ValueInfoProto::default() }
}

fn name(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), ..ValueInfoProto::default() }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ')
        .filter(|w| !w.is_empty())
        .map(|w| if w == "_" { String::new() } else { w.to_owned() })
        .collect()
}

/// `node("Add", "x y", "z", [..])`; an operand left out is `_`.
fn node(op: &str, inputs: &str, outputs: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        input: words(inputs),
        output: words(outputs),
        attribute,
        ..NodeProto::default()
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i, ..AttributeProto::default() }
}

fn graph_attr(name: &str, g: GraphProto) -> AttributeProto {
    let g = Some(Box::new(g));
    AttributeProto { name: name.into(), r#type: AttributeType::Graph as i32, g, ..AttributeProto::default() }
}

fn ints(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: DataType::Int64 as i32,
        dims: vec![i64::try_from(values.len()).unwrap()],
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

fn number(name: &str, value: i64) -> TensorProto {
    TensorProto { dims: vec![], ..ints(name, &[value]) }
}

fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: DataType::Float as i32,
        dims: dims.to_vec(),
        float_data: values.to_vec(),
        ..TensorProto::default()
    }
}

fn opset(version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: String::new(), version }
}

fn model(
    input: Vec<ValueInfoProto>,
    initializer: Vec<TensorProto>,
    node: Vec<NodeProto>,
    outputs: &str,
) -> ModelProto {
    let output = words(outputs).iter().map(|o| name(o)).collect();
    let graph = GraphProto { name: "g".into(), node, input, initializer, output, ..GraphProto::default() };
    ModelProto { ir_version: 10, opset_import: vec![opset(18)], graph: Some(graph), ..ModelProto::default() }
}

fn load(m: &ModelProto, request: &ImportRequest) -> Result<Imported, ImportError> {
    import(&OnnxModel::from_bytes(m.encode_to_vec()).unwrap(), request)
}

fn plain(m: &ModelProto) -> Imported {
    let imported = load(m, &ImportRequest::default()).unwrap_or_else(|e| panic!("{e}"));
    frit_ir::verify::verify(&imported.module).unwrap_or_else(|e| panic!("{e:?}\n{}", imported.module));
    imported
}

fn refusal(m: &ModelProto) -> String {
    load(m, &ImportRequest::default()).map(|i| i.module.to_string()).unwrap_err().to_string()
}

fn run(i: &Imported, inputs: &[(&str, Tensor)]) -> Result<Vec<(String, Tensor)>, interp::InterpError> {
    let inputs: Vec<_> = inputs.iter().map(|(n, t)| ((*n).to_owned(), t.clone())).collect();
    interp::run_module(&i.module, "forward", &inputs)
}

fn f32s(shape: &[usize], data: &[f32]) -> Tensor {
    Tensor::from_slice(shape, data).unwrap()
}

/// Names of the ops of the imported graph, in order.
fn ops(i: &Imported) -> Vec<&'static str> {
    i.module.graphs[0].nodes().map(|(_, n)| n.op.name()).collect()
}

fn type_of(i: &Imported, output: &str) -> String {
    let g = &i.module.graphs[0];
    let out = g.outputs.iter().find(|o| o.name == output).unwrap();
    g.ty(out.value).unwrap().to_string()
}

#[test]
fn shapes_that_a_model_computes_stay_symbolic_and_leave_no_debris() {
    let m = model(
        vec![value("x", DataType::Float, &["batch", "seq", "6"])],
        vec![number("zero", 0), number("one", 1), ints("axes", &[0]), ints("tail", &[2, -1])],
        vec![
            node("Shape", "x", "s", vec![]),
            node("Gather", "s zero", "b", vec![]),
            node("Gather", "s one", "t", vec![]),
            node("Mul", "b t", "bt", vec![]),
            node("Unsqueeze", "bt axes", "bt1", vec![]),
            node("Concat", "bt1 tail", "shape", vec![int("axis", 0)]),
            node("Reshape", "x shape", "y", vec![]),
        ],
        "y",
    );
    let i = plain(&m);
    assert_eq!(ops(&i), ["Reshape"]);
    assert_eq!(type_of(&i, "y"), "f32[batch * seq, 2, 3]");
}

#[test]
fn sizes_through_floats_are_exact() {
    // h / 2 as exporters write it: float(h) * 0.5, floor, back to int.
    let m = model(
        vec![value("x", DataType::Float, &["h"])],
        vec![floats("half", &[], &[0.5]), ints("zeros", &[0])],
        vec![
            node("Shape", "x", "s", vec![]),
            node("Cast", "s", "f", vec![int("to", 1)]),
            node("Mul", "f half", "g", vec![]),
            node("Floor", "g", "fl", vec![]),
            node("Cast", "fl", "end", vec![int("to", 7)]),
            node("Slice", "x zeros end", "y", vec![]),
        ],
        "y",
    );
    let i = plain(&m);
    assert_eq!((ops(&i).as_slice(), type_of(&i, "y").as_str()), (&["Slice"][..], "f32[h / 2]"));
    let out = run(&i, &[("x", f32s(&[5], &[1.0, 2.0, 3.0, 4.0, 5.0]))]).unwrap();
    assert_eq!(out[0].1.to_f64_vec(), [1.0, 2.0]);
}

#[test]
fn expand_with_minus_one_resolved_by_where_is_static() {
    let m = model(
        vec![value("x", DataType::Float, &["1", "d"]), value("like", DataType::Float, &["batch"])],
        vec![ints("minus", &[-1, -1]), ints("ones", &[1, 1]), ints("tail", &[-1])],
        vec![
            node("Shape", "like", "b", vec![]),
            node("Concat", "b tail", "wish", vec![int("axis", 0)]),
            node("Equal", "wish minus", "open", vec![]),
            node("Where", "open ones wish", "shape", vec![]),
            node("Expand", "x shape", "y", vec![]),
        ],
        "y",
    );
    let i = plain(&m);
    assert_eq!((ops(&i).as_slice(), type_of(&i, "y").as_str()), (&["Expand"][..], "f32[batch, d]"));
}

#[test]
fn a_shape_known_at_run_time_only_becomes_symbols() {
    let m = model(
        vec![value("x", DataType::Float, &["n", "2"]), value("shape", DataType::Int64, &["3"])],
        vec![],
        vec![node("Reshape", "x shape", "y", vec![])],
        "y",
    );
    let i = plain(&m);
    let x = f32s(&[4, 2], &[0.0; 8]);
    for (wish, got) in [([4, 1, 2], [4, 1, 2]), ([0, -1, 1], [4, 2, 1]), ([2, 2, -1], [2, 2, 2])] {
        let shape = Tensor::from_slice(&[3], &wish.map(i64::from)).unwrap();
        let out = run(&i, &[("x", x.clone()), ("shape", shape)]).unwrap();
        assert_eq!(out[0].1.shape(), got, "{wish:?}");
    }
    let bad = Tensor::from_slice(&[3], &[3i64, 3, 3]).unwrap();
    assert!(run(&i, &[("x", x), ("shape", bad)]).is_err());
}

#[test]
fn extents_that_may_be_equal_are_compared_at_run_time() {
    let m = model(
        vec![value("x", DataType::Float, &["a"]), value("y", DataType::Float, &["b"])],
        vec![],
        vec![node("Add", "x y", "z", vec![])],
        "z",
    );
    let i = plain(&m);
    let (one, two, three) = (f32s(&[1], &[1.0]), f32s(&[2], &[1.0, 2.0]), f32s(&[3], &[0.0; 3]));
    let sum = |x: &Tensor, y: &Tensor| run(&i, &[("x", x.clone()), ("y", y.clone())]);
    assert_eq!(sum(&two, &two).unwrap()[0].1.to_f64_vec(), [2.0, 4.0]);
    assert_eq!(sum(&one, &two).unwrap()[0].1.to_f64_vec(), [2.0, 3.0]);
    assert_eq!(sum(&two, &one).unwrap()[0].1.to_f64_vec(), [2.0, 3.0]);
    assert!(sum(&two, &three).is_err());
}

#[test]
fn axes_from_an_input_ask_for_its_value() {
    let m = model(
        vec![value("x", DataType::Float, &["2", "3"]), value("axes", DataType::Int64, &["1"])],
        vec![],
        vec![node("Identity", "axes", "a", vec![]), node("ReduceSum", "x a", "y", vec![])],
        "y",
    );
    let Err(ImportError::NeedsValues { inputs, .. }) = load(&m, &ImportRequest::default()) else {
        panic!("expected NeedsValues")
    };
    assert_eq!(inputs, ["axes"]);
    let mut request = ImportRequest::default();
    request.frozen.insert("axes".into(), Tensor::from_slice(&[1], &[1i64]).unwrap().into());
    let i = load(&m, &request).unwrap();
    assert_eq!(type_of(&i, "y"), "f32[2, 1]");
    assert_eq!(i.module.graphs[0].inputs.len(), 1);
    request.frozen.insert("axes".into(), f32s(&[1], &[1.0]).into());
    assert!(load(&m, &request).unwrap_err().to_string().contains("input `axes`"));
}

#[test]
fn sequences_become_outputs_one_by_one() {
    let of = TypeProto {
        value: Some(TypeValue::SequenceType(Box::new(SequenceType {
            elem_type: Some(Box::new(tensor_type(DataType::Float, &["n"]))),
        }))),
        ..TypeProto::default()
    };
    let s = ValueInfoProto { name: "s".into(), r#type: Some(of), ..ValueInfoProto::default() };
    let m = model(
        vec![s, value("x", DataType::Float, &["2"])],
        vec![],
        vec![node("SequenceInsert", "s x", "t", vec![]), node("SequenceLength", "t", "len", vec![])],
        "t len",
    );
    assert!(matches!(load(&m, &ImportRequest::default()), Err(ImportError::NeedsValues { .. })));
    let mut request = ImportRequest::default();
    let given = HostValue::Sequence(vec![f32s(&[1], &[7.0]).into(), f32s(&[3], &[1.0; 3]).into()]);
    request.frozen.insert("s".into(), given.clone());
    let i = load(&m, &request).unwrap();
    let form = Form::Sequence(["t.0", "t.1", "t.2"].map(|n| Form::Tensor(n.into())).to_vec());
    assert_eq!(i.outputs[0], ("t".to_owned(), form));
    let mut inputs = flatten("s", &given);
    inputs.push(("x".into(), f32s(&[2], &[0.0; 2])));
    let out = interp::run_module(&i.module, "forward", &inputs).unwrap();
    assert_eq!(out[0].1.to_f64_vec(), [7.0]);
    assert_eq!(out[3].1.to_i64_vec(), [3]);
}

fn scale_function() -> FunctionProto {
    let by = AttributeProto {
        name: "value_float".into(),
        ref_attr_name: "by".into(),
        r#type: AttributeType::Float as i32,
        ..AttributeProto::default()
    };
    FunctionProto {
        name: "Scale".into(),
        domain: "own".into(),
        input: words("x"),
        output: words("y"),
        attribute: words("by"),
        node: vec![node("Constant", "", "c", vec![by]), node("Mul", "x c", "y", vec![])],
        opset_import: vec![opset(13)],
        ..FunctionProto::default()
    }
}

#[test]
fn functions_are_inlined_with_their_attributes() {
    let by = AttributeProto {
        name: "by".into(),
        r#type: AttributeType::Float as i32,
        f: 2.5,
        ..AttributeProto::default()
    };
    let mut call = node("Scale", "x", "z", vec![by]);
    call.domain = "own".into();
    let mut m = model(vec![value("x", DataType::Float, &["2"])], vec![], vec![call], "z");
    m.functions.push(scale_function());
    let i = plain(&m);
    assert_eq!(run(&i, &[("x", f32s(&[2], &[1.0, 2.0]))]).unwrap()[0].1.to_f64_vec(), [2.5, 5.0]);

    // One that calls itself is refused.
    let mut inner = node("Scale", "x", "y", vec![]);
    inner.domain = "own".into();
    m.functions[0].node = vec![inner];
    assert!(refusal(&m).contains("calls itself"), "{}", refusal(&m));
}

#[test]
fn unsupported_operators_are_reported_at_once() {
    let body = GraphProto {
        node: vec![node("Nope", "x", "q", vec![])],
        output: vec![name("q")],
        ..GraphProto::default()
    };
    let m = model(
        vec![value("x", DataType::Float, &["2"]), value("c", DataType::Bool, &[])],
        vec![],
        vec![
            node("Unheard", "x", "a", vec![]),
            node("Unheard", "a", "b", vec![]),
            node(
                "If",
                "c",
                "y",
                vec![graph_attr("then_branch", body.clone()), graph_attr("else_branch", body)],
            ),
        ],
        "y",
    );
    let Err(ImportError::Unsupported(all)) = load(&m, &ImportRequest::default()) else {
        panic!("expected a list")
    };
    let counts: Vec<_> = all.iter().map(|u| (u.op.as_str(), u.count)).collect();
    assert_eq!(counts, [("Nope", 2), ("Unheard", 2)]);
    assert!(refusal(&m).contains("ai.onnx::Unheard (opset 18) x 2: a, b"), "{}", refusal(&m));
}

#[test]
fn faults_name_the_node() {
    let x = || vec![value("x", DataType::Float, &["2"])];
    let relu = |i: &str, o: &str| node("Relu", i, o, vec![]);
    let cycle = model(x(), vec![], vec![node("Add", "x b", "a", vec![]), relu("a", "b")], "a");
    assert!(refusal(&cycle).contains("node `a` (Add)") && refusal(&cycle).contains("cycle"));
    let twice = model(x(), vec![], vec![relu("x", "a"), relu("x", "a")], "a");
    assert!(refusal(&twice).contains("also an output"), "{}", refusal(&twice));
    let missing = model(x(), vec![], vec![relu("nothing", "a")], "a");
    assert!(refusal(&missing).contains("input `nothing`"), "{}", refusal(&missing));
    let output = model(x(), vec![], vec![relu("x", "a")], "b");
    assert!(refusal(&output).contains("output `b`"), "{}", refusal(&output));
    let inputs = model([x(), x()].concat(), vec![], vec![relu("x", "a")], "a");
    assert!(refusal(&inputs).contains("input `x`"), "{}", refusal(&inputs));
    let both = [x(), vec![value("w", DataType::Float, &["2"])]].concat();
    let odd = model(x(), vec![], vec![node("Relu", "x", "a", vec![int("odd", 1)])], "a");
    assert!(refusal(&odd).contains("attribute `odd`"), "{}", refusal(&odd));
    let taken = model(both, vec![], vec![relu("w", "x")], "x");
    assert!(refusal(&taken).contains("`x` has a value"), "{}", refusal(&taken));
    let kind = model(x(), vec![], vec![node("And", "x x", "a", vec![])], "a");
    assert!(refusal(&kind).contains("node `a` (And)"), "{}", refusal(&kind));
    let far = model(x(), vec![number("i", 5)], vec![node("Softmax", "x", "a", vec![int("axis", 4)])], "a");
    assert!(refusal(&far).contains("axis 4 is out of range"), "{}", refusal(&far));
}

#[test]
fn order_is_mended_and_wrong_declarations_are_warned_of() {
    let mut m = model(
        vec![value("x", DataType::Float, &["2"])],
        vec![],
        vec![node("Relu", "a", "y", vec![]), node("Neg", "x", "a", vec![])],
        "y",
    );
    m.graph.as_mut().unwrap().output = vec![value("y", DataType::Float, &["3"])];
    let i = plain(&m);
    assert_eq!(run(&i, &[("x", f32s(&[2], &[1.0, -2.0]))]).unwrap()[0].1.to_f64_vec(), [0.0, 2.0]);
    assert!(i.warnings.iter().any(|w| w.contains("output `y`")), "{:?}", i.warnings);
}

#[test]
fn initializers_are_defaults_of_inputs() {
    let m = model(
        vec![value("x", DataType::Float, &["1"]), value("w", DataType::Float, &["1"])],
        vec![floats("w", &[1], &[3.0])],
        vec![node("Mul", "x w", "y", vec![])],
        "y",
    );
    let i = plain(&m);
    assert_eq!(run(&i, &[("x", f32s(&[1], &[2.0]))]).unwrap()[0].1.to_f64_vec(), [6.0]);
    let mut request = ImportRequest::default();
    request.examples.insert("w".into(), (DType::F32, vec![1]));
    assert_eq!(load(&m, &request).unwrap().module.graphs[0].inputs.len(), 2);
}

#[test]
fn outputs_and_dims_can_be_chosen() {
    let m = model(
        vec![value("x", DataType::Float, &["batch"])],
        vec![],
        vec![node("Relu", "x", "y", vec![]), node("Neg", "x", "z", vec![])],
        "y z",
    );
    let mut request = ImportRequest { select: Some(vec!["z".into()]), ..ImportRequest::default() };
    request.dims.insert("batch".into(), 4);
    let i = load(&m, &request).unwrap();
    assert_eq!((ops(&i).as_slice(), type_of(&i, "z").as_str()), (&["Neg"][..], "f32[4]"));
    request.select = Some(vec!["q".into()]);
    assert!(load(&m, &request).unwrap_err().to_string().contains("y, z"));
}

#[test]
fn small_files_do_not_make_large_tensors() {
    let start = Instant::now();
    // 2^40 elements are never made at import.
    let huge = model(
        vec![],
        vec![ints("shape", &[1 << 20, 1 << 20])],
        vec![node("ConstantOfShape", "shape", "a", vec![]), node("Neg", "a", "y", vec![])],
        "y",
    );
    assert_eq!(ops(&plain(&huge)), ["ConstantOfShape", "Neg"]);
    // Doubling a constant again and again.
    let mut nodes = vec![];
    for i in 0..40 {
        nodes.push(node("Concat", &format!("c{i} c{i}"), &format!("c{}", i + 1), vec![int("axis", 0)]));
    }
    let doubling = model(vec![], vec![floats("c0", &[1], &[1.0])], nodes, "c40");
    let i = plain(&doubling);
    let bytes: usize =
        i.module.weights.iter().filter_map(|(_, w)| w.data.as_ref()).map(|t| t.bytes().len()).sum();
    assert!(bytes < 64 << 20, "{bytes}");
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

#[test]
fn functions_that_double_are_stopped() {
    let start = Instant::now();
    let mut call = node("f0", "x", "y", vec![]);
    call.domain = "own".into();
    let mut m = model(vec![value("x", DataType::Float, &["2"])], vec![], vec![call], "y");
    for i in 0..25 {
        let mut inner: Vec<NodeProto> = [("x", "m"), ("m", "y")]
            .iter()
            .map(|(a, b)| node(&format!("f{}", i + 1), a, b, vec![]))
            .collect();
        for n in &mut inner {
            n.domain = "own".into();
        }
        if i == 24 {
            inner = vec![node("Neg", "x", "y", vec![])];
        }
        m.functions.push(FunctionProto {
            name: format!("f{i}"),
            domain: "own".into(),
            input: words("x"),
            output: words("y"),
            node: inner,
            ..FunctionProto::default()
        });
    }
    assert!(refusal(&m).contains("nodes after inlining"), "{}", refusal(&m));
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

fn strings(name: &str, all: &str) -> AttributeProto {
    let strings = words(all).into_iter().map(|w| w.into_bytes().into()).collect();
    let r#type = AttributeType::Strings as i32;
    AttributeProto { name: name.into(), r#type, strings, ..AttributeProto::default() }
}

fn string(name: &str, s: &str) -> AttributeProto {
    let (s, r#type) = (s.as_bytes().to_vec().into(), AttributeType::String as i32);
    AttributeProto { name: name.into(), r#type, s, ..AttributeProto::default() }
}

#[test]
fn gradients_are_the_slopes_that_differences_show() {
    let f64s = |shape: &[usize], seed: u64| {
        let n: usize = shape.iter().product();
        let v: Vec<f64> = (0..n).map(|i| 0.4 + ((i as f64 + seed as f64) * 0.7).sin() * 0.3).collect();
        Tensor::from_f64(DType::F64, shape, &v).unwrap()
    };
    let mut gradient = node("Gradient", "x w b", "dx dw db", vec![strings("xs", "x w b"), string("y", "y")]);
    gradient.domain = "ai.onnx.preview.training".into();
    let perm = AttributeProto {
        name: "perm".into(),
        r#type: AttributeType::Ints as i32,
        ints: vec![1, 2, 0],
        ..AttributeProto::default()
    };
    let mut m = model(
        vec![
            value("x", DataType::Double, &["2", "3", "4"]),
            value("w", DataType::Double, &["4", "5"]),
            value("b", DataType::Double, &["3", "1"]),
        ],
        vec![ints("axes", &[1]), ints("two", &[2])],
        vec![
            node("MatMul", "x w", "p", vec![]),
            node("Add", "p b", "q", vec![]),
            node("Tanh", "q", "t", vec![]),
            node("Transpose", "t", "u", vec![perm]),
            node("Sqrt", "u", "r", vec![]),
            node("Div", "r u", "d", vec![]),
            node("Unsqueeze", "b two", "c", vec![]),
            node("Sub", "d c", "e", vec![]),
            node("Pow", "u e", "f", vec![]),
            node("ReduceMean", "f axes", "g", vec![int("keepdims", 0)]),
            node("ReduceSum", "g", "y", vec![int("keepdims", 0)]),
            gradient,
        ],
        "y dx dw db",
    );
    m.opset_import.push(OperatorSetIdProto { domain: "ai.onnx.preview.training".into(), version: 1 });
    let i = plain(&m);
    let inputs = [("x", f64s(&[2, 3, 4], 1)), ("w", f64s(&[4, 5], 2)), ("b", f64s(&[3, 1], 3))];
    let out = run(&i, &inputs).unwrap();
    let y_of = |inputs: &[(&str, Tensor)]| run(&i, inputs).unwrap()[0].1.to_f64_vec()[0];
    let step = 1e-5;
    for (k, (name, x)) in inputs.iter().enumerate() {
        let slopes = out[k + 1].1.to_f64_vec();
        assert_eq!(out[k + 1].1.shape(), x.shape());
        for (e, slope) in slopes.iter().enumerate() {
            let moved = |by: f64| {
                let mut v = x.to_f64_vec();
                v[e] += by;
                let mut inputs = inputs.clone();
                inputs[k].1 = Tensor::from_f64(DType::F64, x.shape(), &v).unwrap();
                y_of(&inputs)
            };
            let want = (moved(step) - moved(-step)) / (2.0 * step);
            assert!((want - slope).abs() < 1e-7, "{name}[{e}]: {slope}, differences give {want}");
        }
    }
}

#[test]
fn a_rank_that_depends_on_a_size_asks_for_the_size() {
    let m = model(
        vec![value("x", DataType::Float, &["batch", "1", "n"])],
        vec![],
        vec![node("Squeeze", "x", "y", vec![])],
        "y",
    );
    let Err(ImportError::NeedsSizes { sizes, .. }) = load(&m, &ImportRequest::default()) else {
        panic!("expected a question for sizes")
    };
    let asked: Vec<_> = sizes.iter().map(|s| (s.symbol.as_str(), s.input.as_str(), s.axis)).collect();
    assert_eq!(asked, [("batch", "x", 0), ("n", "x", 2)]);
    let mut request = ImportRequest::default();
    request.dims.insert("batch".into(), 1);
    assert!(load(&m, &request).unwrap_err().to_string().contains("`n` (axis 2 of `x`)"));
    request.dims.insert("n".into(), 5);
    assert_eq!(type_of(&load(&m, &request).unwrap(), "y"), "f32[5]");
}
