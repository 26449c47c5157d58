//! Small ONNX files that ask for much: memory, time, iterations. Some are refused when they are read, some when they
//! run; none takes more than the limits.

use super::onnx::{
    body, floats, graph, harmless, input, int, ints, model, node, numbers, refused, refused_running, scalar,
    text, typed, untyped,
};
use frit::frontends::onnx::schema::build::tensor_proto;
use frit::frontends::onnx::schema::{
    AttributeProto, AttributeType, DataType, GraphProto, NodeProto, TensorProto,
};
use frit::ir::Tensor;

fn x() -> Vec<frit::frontends::onnx::schema::ValueInfoProto> {
    vec![input("x", &[2])]
}

fn shaped(name: &str, shape: &[usize], value: f32) -> TensorProto {
    let n = shape.iter().product();
    tensor_proto(name, &Tensor::from_slice(shape, &vec![value; n]).unwrap())
}

#[test]
fn constants_of_great_sizes() {
    let sizes: [&[i64]; 7] = [
        &[1 << 40],
        &[1 << 20, 1 << 20],
        &[1 << 62, 4],
        &[i64::MAX],
        &[100_000, 100_000],
        &[1 << 28],
        &[1 << 31, 1 << 31, 1 << 31],
    ];
    for size in sizes {
        let s = || numbers("s", size);
        let sum = |make: NodeProto| {
            vec![make, node("Neg", &["c"], &["d"], vec![]), node("ReduceMax", &["d"], &["y"], vec![])]
        };
        let filled = node("ConstantOfShape", &["s"], &["c"], vec![]);
        refused_running(&model(sum(filled), x(), vec![s()]), &[]);
        let expanded = node("Expand", &["x1", "s"], &["c"], vec![]);
        refused_running(&model(sum(expanded), x(), vec![s(), floats("x1", &[1.0])]), &[]);
    }
    let random = node("RandomNormal", &[], &["y"], vec![ints("shape", &[1 << 20, 1 << 20])]);
    refused_running(&model(vec![random], x(), vec![]), &[]);
    let range = node("Range", &["a", "b", "c"], &["y"], vec![]);
    let ends = |b, c| vec![scalar("a", 0), scalar("b", b), scalar("c", c)];
    refused_running(&model(vec![range.clone()], x(), ends(1 << 50, 1)), &[]);
    refused_running(&model(vec![range.clone()], x(), ends(i64::MAX, 1)), &[]);
    refused_running(&model(vec![range], x(), ends(1, 0)), &[]);
    let hot = node("OneHot", &["i", "d", "v"], &["y"], vec![]);
    let most = vec![numbers("i", &[0, 1]), scalar("d", 1 << 40), floats("v", &[0.0, 1.0])];
    refused_running(&model(vec![hot], x(), most), &[]);
    for length in [1 << 40, 1 << 28, i64::MAX] {
        let window = node("HannWindow", &["n"], &["y"], vec![]);
        refused_running(&model(vec![window], x(), vec![scalar("n", length)]), &[]);
    }
}

#[test]
fn results_of_great_sizes() {
    let numbers_of = |name: &str, v: &[i64]| vec![numbers(name, v)];
    let tile = node("Tile", &["x", "r"], &["y"], vec![]);
    refused_running(&model(vec![tile.clone()], x(), numbers_of("r", &[1 << 36])), &[]);
    refused_running(&model(vec![tile], x(), numbers_of("r", &[i64::MAX])), &[]);
    let pad = node("Pad", &["x", "p"], &["y"], vec![]);
    refused_running(&model(vec![pad.clone()], x(), numbers_of("p", &[1 << 40, 1 << 40])), &[]);
    refused_running(&model(vec![pad], x(), numbers_of("p", &[i64::MAX, i64::MAX])), &[]);
    let top = node("TopK", &["x", "k"], &["y", "i"], vec![]);
    refused_running(&model(vec![top], x(), numbers_of("k", &[1 << 40])), &[]);
    let picture = |op: NodeProto, constants| {
        let four = node("Reshape", &["x", "four"], &["p"], vec![]);
        let mut all: Vec<TensorProto> = constants;
        all.push(numbers("four", &[1, 1, 1, 2]));
        model(vec![four, op], x(), all)
    };
    let resize = |i: &str| {
        node("Resize", if i == "s" { &["p", "", "", "s"] } else { &["p", "", "f"] }, &["y"], vec![])
    };
    refused_running(&picture(resize("s"), numbers_of("s", &[1, 1, 1 << 20, 1 << 20])), &[]);
    for scale in [1e9, f32::INFINITY, f32::NAN] {
        refused_running(&picture(resize("f"), vec![floats("f", &[1.0, 1.0, scale, scale])]), &[]);
    }
    let col = node("Col2Im", &["p", "i", "b"], &["y"], vec![]);
    refused_running(&picture(col, vec![numbers("i", &[1 << 40, 1 << 40]), numbers("b", &[1, 1])]), &[]);
    let grid = vec![
        node("Expand", &["g0", "s"], &["g"], vec![]),
        node("Reshape", &["x", "four"], &["p"], vec![]),
        node("GridSample", &["p", "g"], &["y"], vec![]),
    ];
    let sizes = vec![
        shaped("g0", &[1, 1, 1, 2], 0.0),
        numbers("s", &[1, 100_000, 100_000, 2]),
        numbers("four", &[1, 1, 1, 2]),
    ];
    refused_running(&model(grid, x(), sizes), &[]);
    // Extents of one in great number.
    let axes: Vec<i64> = (1..50_000).collect();
    let deep = node("Unsqueeze", &["x", "a"], &["y"], vec![]);
    harmless(&model(vec![deep], x(), vec![numbers("a", &axes)]));
    let mut shape = vec![1; 50_000];
    shape.push(2);
    let deep = node("Reshape", &["x", "s"], &["y"], vec![]);
    harmless(&model(vec![deep], x(), vec![numbers("s", &shape)]));
    let deep = node("Neg", &["z"], &["y"], vec![]);
    harmless(&model(vec![deep], vec![input("z", &[1; 50_000])], vec![]));
    let product = node("MatMul", &["z", "z"], &["y"], vec![]);
    harmless(&model(vec![product], vec![input("z", &[1 << 40, 1 << 40])], vec![]));
}

#[test]
fn operators_that_multiply() {
    let letters = "abcdefghijklmnopqrst";
    let outer: Vec<String> = letters.chars().map(String::from).collect();
    let equation = format!("{}->{letters}", outer.join(","));
    let many = node("Einsum", &["z"; 20], &["y"], vec![text("equation", &equation)]);
    let fill = node("Expand", &["one", "s"], &["z"], vec![]);
    let of_ten = || vec![floats("one", &[1.0]), numbers("s", &[10])];
    refused_running(&model(vec![fill.clone(), many], x(), of_ten()), &[]);
    let long = node("Einsum", &["x"], &["y"], vec![text("equation", &format!("{}->i", "i".repeat(100_000)))]);
    refused(&model(vec![long], x(), vec![]), &["the Einsum"]);
    // Doubled forty times.
    let doubled = |from: &str, n: usize| -> Vec<NodeProto> {
        let name = |i: usize| if i == 0 { from.to_owned() } else { format!("a{i}") };
        let mut all: Vec<NodeProto> = (0..n)
            .map(|i| node("Concat", &[&name(i), &name(i)], &[&name(i + 1)], vec![int("axis", 0)]))
            .collect();
        all.push(node("Neg", &[&name(n)], &["y"], vec![]));
        all
    };
    refused_running(&model(doubled("x", 40), x(), vec![]), &[]);
    refused_running(&model(doubled("x", 100), x(), vec![]), &[]);
    refused_running(&model(doubled("w", 40), x(), vec![floats("w", &[1.0])]), &[]);
    // Strings, which exist when a model is read alone.
    let word = TensorProto {
        name: "s0".into(),
        dims: vec![1],
        data_type: DataType::String as i32,
        string_data: vec![bytes::Bytes::from_static(b"ab")],
        ..TensorProto::default()
    };
    let mut nodes: Vec<NodeProto> = (0..45)
        .map(|i| {
            let s = format!("s{i}");
            node("StringConcat", &[&s, &s], &[&format!("s{}", i + 1)], vec![])
        })
        .collect();
    nodes.push(node("Equal", &["s45", "s45"], &["y"], vec![]));
    refused(&model(nodes, x(), vec![word]), &["StringConcat"]);
    // Sequences of as many parts as a tensor has elements.
    let parts = |then: NodeProto, n: i64| {
        let nodes = vec![
            node("ConstantOfShape", &["s"], &["c"], vec![]),
            node("SplitToSequence", &["c"], &["q"], vec![int("axis", 0)]),
            then,
        ];
        model(nodes, x(), vec![numbers("s", &[n])])
    };
    refused(&parts(node("SequenceLength", &["q"], &["y"], vec![]), 1 << 30), &["SplitToSequence"]);
    harmless(&parts(node("ConcatFromSequence", &["q"], &["y"], vec![int("axis", 0)]), 1_000));
}

/// A loop with one carried value, `y` of its last iteration: `nodes` make `o` of `a`. When it `stacks`, `y` is all the
/// `slice`s of its iterations instead.
fn looped(trip: i64, nodes: Vec<NodeProto>, stacks: bool) -> NodeProto {
    let mut all = vec![node("Identity", &["c"], &["go_on"], vec![])];
    all.extend(nodes);
    let mut outputs = vec![typed("go_on", DataType::Bool), untyped("o")];
    if stacks {
        outputs.push(untyped("slice"));
    }
    let inner: GraphProto = graph(
        all,
        vec![typed("i", DataType::Int64), typed("c", DataType::Bool), untyped("a")],
        outputs,
        vec![],
    );
    let trip_name = format!("trip{trip}");
    let outs: &[&str] = if stacks { &["last", "y"] } else { &["y"] };
    node("Loop", &[&trip_name, "", "x"], outs, vec![body("body", inner)])
}

fn trips(n: &[i64]) -> Vec<TensorProto> {
    n.iter().map(|n| scalar(&format!("trip{n}"), *n)).collect()
}

#[test]
fn loops_that_run_away() {
    let doubling = || node("Concat", &["a", "a"], &["o"], vec![int("axis", 0)]);
    refused_running(&model(vec![looped(1_000_000, vec![doubling()], false)], x(), trips(&[1_000_000])), &[]);
    let nothing = || node("Neg", &["a"], &["o"], vec![]);
    for trip in [1_000_000_000, i64::MAX] {
        refused_running(&model(vec![looped(trip, vec![nothing()], false)], x(), trips(&[trip])), &[]);
    }
    // Each slice is a mebibyte.
    let wide = node("Tile", &["a", "wide"], &["slice"], vec![]);
    let mut constants = trips(&[100_000]);
    constants.push(numbers("wide", &[1 << 17]));
    refused_running(&model(vec![looped(100_000, vec![nothing(), wide], true)], x(), constants), &[]);
    // A branch within a loop that doubles.
    let yes = graph(
        vec![node("Concat", &["a", "a"], &["t"], vec![int("axis", 0)])],
        vec![],
        vec![untyped("t")],
        vec![],
    );
    let no = graph(vec![node("Neg", &["a"], &["e"], vec![])], vec![], vec![untyped("e")], vec![]);
    let branch = vec![
        node("ReduceMax", &["a"], &["m"], vec![int("keepdims", 0)]),
        node("Greater", &["m", "none"], &["p"], vec![]),
        node("If", &["p"], &["o"], vec![body("then_branch", yes), body("else_branch", no)]),
    ];
    let mut constants = trips(&[1_000_000]);
    constants.push(shaped("none", &[], 0.0));
    refused_running(&model(vec![looped(1_000_000, branch, false)], x(), constants), &[]);
}

#[test]
fn loops_in_loops() {
    for (depth, trip) in [(3, 1000), (8, 100), (20, 2)] {
        let name = format!("trip{trip}");
        let mut inner = vec![node("Neg", &["a0"], &["o0"], vec![])];
        for k in 0..depth {
            let (i, c, a, o) = (format!("i{k}"), format!("c{k}"), format!("a{k}"), format!("o{k}"));
            let go_on = format!("go_on{k}");
            inner.insert(0, node("Identity", &[&c], &[&go_on], vec![]));
            let g = graph(
                inner,
                vec![typed(&i, DataType::Int64), typed(&c, DataType::Bool), input(&a, &[2])],
                vec![typed(&go_on, DataType::Bool), input(&o, &[2])],
                vec![],
            );
            let (from, to) = (format!("a{}", k + 1), format!("o{}", k + 1));
            inner = vec![node("Loop", &[&name, "", &from], &[&to], vec![body("body", g)])];
        }
        inner.insert(0, node("Identity", &["x"], &[&format!("a{depth}")], vec![]));
        inner.push(node("Identity", &[&format!("o{depth}")], &["y"], vec![]));
        refused_running(&model(inner, x(), trips(&[trip])), &[]);
    }
}

/// Many graphs of control flow, each of which may take what one may take.
#[test]
fn branches_side_by_side() {
    let mut nodes = vec![
        node("ReduceMax", &["x"], &["m"], vec![int("keepdims", 0)]),
        node("Greater", &["m", "none"], &["p"], vec![]),
    ];
    for i in 0..40 {
        let out = format!("t{i}");
        let big = graph(
            vec![
                node("Tile", &["x", "wide"], &["w"], vec![]),
                node("Exp", &["w"], &["e"], vec![]),
                node("ReduceMax", &["e"], &[&out], vec![]),
            ],
            vec![],
            vec![untyped(&out)],
            vec![],
        );
        let small = graph(vec![node("Neg", &["x"], &["n"], vec![])], vec![], vec![untyped("n")], vec![]);
        let z = format!("z{i}");
        nodes.push(node("If", &["p"], &[&z], vec![body("then_branch", big), body("else_branch", small)]));
    }
    let all: Vec<String> = (0..40).map(|i| format!("z{i}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    nodes.push(node("Concat", &all, &["y"], vec![int("axis", 0)]));
    let constants = vec![shaped("none", &[], 0.0), numbers("wide", &[1 << 21])];
    harmless(&model(nodes, x(), constants));
}

#[test]
fn attributes_of_great_size() {
    for op in ["LRN", "MaxPool", "AveragePool", "DepthToSpace", "SpaceToDepth", "RoiAlign"] {
        let floats = |name: &str, f| AttributeProto {
            name: name.into(),
            r#type: AttributeType::Float as i32,
            f,
            ..AttributeProto::default()
        };
        let all = [
            vec![int("size", 1 << 40)],
            vec![ints("kernel_shape", &[1 << 40, 1 << 40]), ints("pads", &[1 << 40; 4])],
            vec![ints("kernel_shape", &[-1, -1])],
            vec![ints("kernel_shape", &[2, 2]), ints("strides", &[0, 0])],
            vec![int("blocksize", 1 << 40)],
            vec![int("blocksize", i64::MIN)],
            vec![int("output_height", 1 << 30), int("output_width", 1 << 30), int("sampling_ratio", 1 << 30)],
            vec![int("sampling_ratio", 1 << 40), floats("spatial_scale", f32::INFINITY)],
        ];
        for attrs in all {
            let inputs: &[&str] = if op == "RoiAlign" { &["p", "boxes", "which"] } else { &["p"] };
            let nodes =
                vec![node("Reshape", &["x", "four"], &["p"], vec![]), node(op, inputs, &["y"], attrs)];
            let boxes =
                tensor_proto("boxes", &Tensor::from_slice(&[1, 4], &[0.0f32, 0.0, 1e9, 1e9]).unwrap());
            let constants = vec![numbers("four", &[1, 1, 1, 2]), boxes, numbers("which", &[0])];
            harmless(&model(nodes, x(), constants));
        }
    }
}
