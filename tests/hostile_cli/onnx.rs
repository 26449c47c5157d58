//! ONNX messages written short, and the commands that read them. What is hostile about them is in `onnx_files.rs`,
//! `onnx_graphs.rs` and `onnx_bombs.rs`.

use super::harness::{Outcome, Room, safetensors};
use frit::frontends::onnx::schema::build::{size, symbol, tensor_proto, tensor_type};
use frit::frontends::onnx::schema::{
    AttributeProto, AttributeType, DataType, Dimension, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TypeProto, ValueInfoProto,
};
use frit::ir::Tensor;
use prost::Message;
use std::path::Path;

pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        name: format!("the {op}"),
        input: inputs.iter().map(|s| (*s).into()).collect(),
        output: outputs.iter().map(|s| (*s).into()).collect(),
        attribute,
        ..NodeProto::default()
    }
}

pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i, ..AttributeProto::default() }
}

pub fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let r#type = AttributeType::Ints as i32;
    AttributeProto { name: name.into(), r#type, ints: ints.to_vec(), ..AttributeProto::default() }
}

pub fn text(name: &str, s: &str) -> AttributeProto {
    let s = bytes::Bytes::copy_from_slice(s.as_bytes());
    AttributeProto { name: name.into(), r#type: AttributeType::String as i32, s, ..AttributeProto::default() }
}

pub fn body(name: &str, graph: GraphProto) -> AttributeProto {
    let g = Some(Box::new(graph));
    AttributeProto { name: name.into(), r#type: AttributeType::Graph as i32, g, ..AttributeProto::default() }
}

/// Integers, [n].
pub fn numbers(name: &str, values: &[i64]) -> TensorProto {
    tensor_proto(name, &Tensor::from_slice(&[values.len()], values).unwrap())
}

/// One integer without axes.
pub fn scalar(name: &str, value: i64) -> TensorProto {
    tensor_proto(name, &Tensor::from_slice(&[], &[value]).unwrap())
}

pub fn floats(name: &str, values: &[f32]) -> TensorProto {
    tensor_proto(name, &Tensor::from_slice(&[values.len()], values).unwrap())
}

pub fn value(name: &str, ty: TypeProto) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), r#type: Some(ty), ..ValueInfoProto::default() }
}

/// A float input of these sizes.
pub fn input(name: &str, sizes: &[i64]) -> ValueInfoProto {
    value(name, tensor_type(DataType::Float, Some(sizes.iter().map(|&n| size(n)).collect())))
}

/// A float input of sizes with these names.
pub fn open_input(name: &str, sizes: &[&str]) -> ValueInfoProto {
    let dims: Vec<Dimension> = sizes.iter().map(|s| symbol(*s)).collect();
    value(name, tensor_type(DataType::Float, Some(dims)))
}

/// A float value of unknown shape.
pub fn untyped(name: &str) -> ValueInfoProto {
    value(name, tensor_type(DataType::Float, None))
}

pub fn typed(name: &str, ty: DataType) -> ValueInfoProto {
    value(name, tensor_type(ty, Some(vec![])))
}

pub fn graph(
    node: Vec<NodeProto>,
    input: Vec<ValueInfoProto>,
    output: Vec<ValueInfoProto>,
    initializer: Vec<TensorProto>,
) -> GraphProto {
    GraphProto { name: "g".into(), node, input, output, initializer, ..GraphProto::default() }
}

pub fn model_of(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: 10,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 21 }],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// A model with the output `y`.
pub fn model(node: Vec<NodeProto>, input: Vec<ValueInfoProto>, initializer: Vec<TensorProto>) -> Vec<u8> {
    model_of(graph(node, input, vec![untyped("y")], initializer)).encode_to_vec()
}

/// The floats 1 and 2 as `x`.
pub fn two_floats() -> Vec<u8> {
    let header = r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    safetensors(header, &[1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat())
}

fn call(room: &Room, args: &[&str], names: &[&str]) -> Outcome {
    let out = room.refuses(args, names);
    assert_eq!(out.status, Some(1), "`frit {}`: {}", args.join(" "), out.stderr);
    out
}

/// Commands that read a model; those that run it, in the second list.
fn calls(room: &Room, path: &Path) -> (Vec<Vec<String>>, Vec<Vec<String>>) {
    let place = |name: &str| room.path(name).display().to_string();
    let path = path.display().to_string();
    if !room.path("in.safetensors").exists() {
        room.write("in.safetensors", &two_floats());
        let x = Tensor::from_slice(&[2], &[1.0f32, 2.0]).unwrap();
        room.write("data/input_0.pb", &tensor_proto("x", &x).encode_to_vec());
        room.write("data/output_0.pb", &tensor_proto("y", &x).encode_to_vec());
    }
    let words = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<String>>();
    let reading = vec![
        words(&["compile", &path, "-o", &place("out.frit")]),
        words(&["inspect", &path]),
        words(&["export", &path, "-o", &place("out.onnx")]),
    ];
    let inputs = place("in.safetensors");
    let running = vec![
        words(&["run", &path, "--inputs", &inputs, "--outputs", &place("out.safetensors")]),
        words(&["bench", &path, "--inputs", &inputs]),
        words(&["verify", &path, "--data", &place("data")]),
    ];
    (reading, running)
}

/// Every command refuses the file at `path`, with exit status 1.
pub fn refused_at(room: &Room, path: &Path, names: &[&str]) {
    let (reading, running) = calls(room, path);
    for args in reading.iter().chain(&running) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        // What `verify` finds is its result, on standard output.
        if args[0] == "verify" {
            modest(&args, Some(1));
        } else {
            call(room, &args, names);
        }
    }
}

/// Every command refuses a file of these bytes.
pub fn refused(bytes: &[u8], names: &[&str]) {
    let room = Room::new();
    let path = room.write("model.onnx", bytes);
    refused_at(&room, &path, names);
}

/// Commands that run the model on `x` = [1, 2] refuse it; the others may take it, in little time and memory.
pub fn refused_running(bytes: &[u8], names: &[&str]) {
    let room = Room::new();
    let path = room.write("model.onnx", bytes);
    let (reading, running) = calls(&room, &path);
    for args in running.iter().filter(|a| a[0] != "verify") {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        call(&room, &args, names);
    }
    let verify: Vec<&str> = running[2].iter().map(String::as_str).collect();
    modest(&verify, Some(1));
    for args in reading {
        modest(&args.iter().map(String::as_str).collect::<Vec<_>>(), None);
    }
}

/// Every command ends by itself in little time and memory.
pub fn harmless(bytes: &[u8]) {
    let room = Room::new();
    let path = room.write("model.onnx", bytes);
    let (reading, running) = calls(&room, &path);
    for args in reading.iter().chain(running.iter().filter(|a| a[0] != "bench")) {
        modest(&args.iter().map(String::as_str).collect::<Vec<_>>(), None);
    }
}

fn modest(args: &[&str], status: Option<i32>) {
    let out = super::harness::frit(args);
    let said = format!("`frit {}` gave {:?}:\n{}", args.join(" "), out.status, out.stderr);
    match status {
        Some(_) => assert_eq!(out.status, status, "{said}"),
        None => assert!(matches!(out.status, Some(0..=2)), "{said}"),
    }
    assert!(!out.stderr.contains("panicked"), "{said}");
    assert!(out.cpu_seconds < super::harness::MOST_SECONDS, "{} s: {said}", out.cpu_seconds);
    assert!(out.peak_bytes < super::harness::MOST_BYTES, "{} bytes: {said}", out.peak_bytes);
}
