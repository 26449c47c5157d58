//! Export of small graphs: structure, names, dimension arithmetic, the file. Values in other runtimes are
//! tests/conformance/export.py's business.

use super::*;
use crate::onnx::read::OnnxModel;
use crate::onnx::schema::NodeProto;
use frit_ir::op::{BinaryFn, Gelu, GeluForm, Slice};
use frit_ir::{Dim, Graph, GraphBuilder, Tensor, TensorType, ValueId};
use prost::Message;

fn module(build: impl FnOnce(&mut GraphBuilder<'_>)) -> Module {
    let mut m = Module::default();
    let mut g = Graph::new("forward");
    build(&mut GraphBuilder::new(&mut g, &mut m.weights));
    m.graphs.push(g);
    m
}

fn f32s(shape: &[&str]) -> TensorType {
    let dim = |s: &&str| s.parse::<i64>().map_or_else(|_| Dim::symbol(s), Dim::constant);
    TensorType::new(DType::F32, shape.iter().map(dim))
}

fn nodes(e: &Exported) -> &[NodeProto] {
    &e.model.graph.as_ref().unwrap().node
}

fn ops(e: &Exported) -> Vec<&str> {
    nodes(e).iter().map(|n| n.op_type.as_str()).collect()
}

fn at(opset: u32) -> ExportOptions {
    ExportOptions { opset, ..ExportOptions::default() }
}

#[test]
fn composite_ops_are_standard_where_the_opset_has_them() {
    let m = module(|b| {
        let x = b.input("x", f32s(&["n", "4"]), None);
        let y = b.op(Gelu { approximate: GeluForm::None }, &[x]).unwrap();
        b.output("y", y);
    });
    assert_eq!(ops(&export(&m, &at(20)).unwrap()), ["Gelu"]);
    let old = export(&m, &at(19)).unwrap();
    assert!(!ops(&old).contains(&"Gelu") && ops(&old).contains(&"Erf"));
    assert!(matches!(export(&m, &at(16)), Err(ExportError::Opset { opset: 16 })));
}

#[test]
fn shapes_use_numbers_where_they_can() {
    let m = module(|b| {
        let x = b.input("x", f32s(&["batch", "sequence", "12"]), None);
        let dims = |b: &GraphBuilder<'_>, x: ValueId| b.shape(x).unwrap();
        let [batch, sequence, _] = dims(b, x).try_into().unwrap();
        let y = b.reshape(x, &[batch.clone(), sequence.clone(), Dim::constant(3), Dim::constant(4)]).unwrap();
        b.output("split", y);
        let last = b.slice_axis(x, 1, &sequence.add_const(-1).unwrap(), &sequence).unwrap();
        b.output("last", last);
        let flat = b.reshape(x, &[batch.mul(&sequence).unwrap(), Dim::constant(12)]).unwrap();
        b.output("flat", flat);
    });
    let e = export(&m, &at(17)).unwrap();
    // No node computes a shape: 0, -1 and offsets from the end say all.
    assert_eq!(ops(&e), ["Reshape", "Slice", "Reshape"]);
    let constant = |node: &NodeProto, i: usize| {
        let name = &node.input[i];
        e.initializers.iter().find(|i| i.name == *name).unwrap().tensor.to_i64_vec()
    };
    assert_eq!(constant(&nodes(&e)[0], 1), [0, 0, 3, 4]);
    assert_eq!(constant(&nodes(&e)[1], 1), [-1]);
    assert_eq!(constant(&nodes(&e)[1], 2), [i64::MAX]);
    assert_eq!(constant(&nodes(&e)[2], 1), [-1, 12]);
}

#[test]
fn dimension_arithmetic_is_shared_and_rounds_down() {
    let m = module(|b| {
        let x = b.input("x", f32s(&["samples"]), None);
        let samples = b.dim(x, 0).unwrap();
        // (samples - 10) / 5 rounded down, twice.
        let frames = samples.add_const(-10).unwrap().floor_div(&Dim::constant(5)).unwrap();
        let a = b.iota(&frames, DType::I64).unwrap();
        let c = b.full(&[frames.clone(), frames], 1.0, DType::F32).unwrap();
        b.output("a", a);
        b.output("c", c);
    });
    let e = export(&m, &at(17)).unwrap();
    let count = |op: &str| ops(&e).iter().filter(|o| **o == op).count();
    assert_eq!((count("Shape"), count("Div"), count("Sub"), count("Mod")), (1, 1, 1, 0));
}

#[test]
fn symbols_follow_from_sums() {
    let m = module(|b| {
        let total = Dim::symbol("past").add(&Dim::symbol("sequence")).unwrap();
        b.input("ids", f32s(&["sequence"]), None);
        b.input("mask", TensorType::new(DType::F32, [total]), None);
        let y = b.iota(&Dim::symbol("past"), DType::I64).unwrap();
        b.output("y", y);
    });
    let e = export(&m, &at(17)).unwrap();
    assert_eq!(ops(&e).iter().filter(|o| **o == "Sub").count(), 1);
    let lost = module(|b| {
        let y = b.iota(&Dim::symbol("nowhere"), DType::I64).unwrap();
        b.output("y", y);
    });
    assert!(matches!(export(&lost, &at(17)), Err(ExportError::Symbol { symbol, .. }) if symbol == "nowhere"));
}

#[test]
fn backward_slices_end_before_the_first_element() {
    let m = module(|b| {
        let x = b.input("x", f32s(&["n"]), None);
        let n = b.dim(x, 0).unwrap();
        let all = Slice {
            axes: vec![0],
            starts: vec![n.add_const(-1).unwrap()],
            ends: vec![Dim::constant(-1)],
            steps: vec![-1],
        };
        let y = b.op(all, &[x]).unwrap();
        b.output("y", y);
    });
    let e = export(&m, &at(17)).unwrap();
    assert_eq!(ops(&e), ["Slice"]);
    let end = e.initializers.iter().find(|i| i.name == nodes(&e)[0].input[2]).unwrap();
    assert_eq!(end.tensor.to_i64_vec(), [i64::MIN]);
}

#[test]
fn narrow_types_are_computed_in_wider_ones() {
    let m = module(|b| {
        let x = b.input("x", TensorType::new(DType::I8, [2usize, 2]), None);
        let y = b.matmul(x, x).unwrap();
        b.output("y", y);
    });
    assert_eq!(ops(&export(&m, &at(17)).unwrap()), ["Cast", "Cast", "MatMul", "Cast"]);
}

#[test]
fn names_are_unique_and_outputs_keep_theirs() {
    let m = module(|b| {
        let x = b.input("past_key_values.0.0", f32s(&["n"]), None);
        let y = b.scoped("layer", |b| b.binary(BinaryFn::Add, x, x)).unwrap();
        b.output("past_key_values.0.0", y);
        b.output("again", y);
        b.output("x", x);
    });
    let e = export(&m, &at(17)).unwrap();
    let g = e.model.graph.as_ref().unwrap();
    let outputs: Vec<&str> = g.output.iter().map(|o| o.name.as_str()).collect();
    assert_eq!(outputs, ["present.0.0", "again", "x"]);
    assert_eq!(ops(&e), ["Add", "Identity", "Identity"]);
}

fn weighted() -> Module {
    module(|b| {
        let x = b.input("x", f32s(&["n", "64"]), None);
        let numbers: Vec<f32> = (0..4096u16).map(f32::from).collect();
        let w = b.named_weight("w", Tensor::from_slice(&[64, 64], &numbers).unwrap()).unwrap();
        let y = b.matmul(x, w).unwrap();
        b.output("y", y);
    })
}

#[test]
fn bytes_are_what_prost_would_write() {
    let e = export(&weighted(), &at(17)).unwrap();
    let model = ModelProto::decode(e.to_bytes().unwrap().as_slice()).unwrap();
    let w = &model.graph.as_ref().unwrap().initializer[0];
    assert_eq!((w.name.as_str(), w.dims.as_slice()), ("w", &[64, 64][..]));
    assert_eq!(w.raw_data.as_ref().unwrap().len(), 4 * 4096);
    assert_eq!(model.encode_to_vec().len(), e.to_bytes().unwrap().len());
    assert_eq!((model.producer_name.as_str(), model.ir_version), ("frit", 8));
}

#[test]
fn external_data_lies_beside_the_model() {
    let e = export(&weighted(), &at(17)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let written = e.write(&path, External::Always).unwrap();
    assert_eq!(written.external, Some((folder.path().join("m.onnx.data"), 4 * 4096)));
    let read = OnnxModel::open(&path).unwrap();
    let w = &read.graph().unwrap().initializer[0];
    let numbers = read.tensor(w).unwrap().tensor().unwrap().to_f32_vec();
    assert_eq!(numbers[4095], 4095.0);
    // Nothing else is left behind.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    assert_eq!(e.write(&path, External::Auto).unwrap().external, None);
}

#[test]
fn merged_decoders_share_weights_and_choose_by_an_input() {
    let decoder = |cached: bool| {
        module(|b| {
            let x = b.input("ids", f32s(&["n"]), None);
            let w = b.named_weight("w", Tensor::from_slice(&[1], &[2f32]).unwrap()).unwrap();
            let k = b.scalar(DType::F32, if cached { 3.0 } else { 4.0 }).unwrap();
            let mut y = b.mul(x, w).unwrap();
            y = b.add(y, k).unwrap();
            if cached {
                let past = b.input("past", f32s(&["n"]), None);
                y = b.add(y, past).unwrap();
            }
            b.output("y", y);
        })
    };
    let (first, next) = (export(&decoder(false), &at(17)).unwrap(), export(&decoder(true), &at(17)).unwrap());
    let merged = merge::merge(&first, &next).unwrap();
    let g = merged.model.graph.as_ref().unwrap();
    let inputs: Vec<&str> = g.input.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(
        (inputs.as_slice(), ops(&merged).as_slice()),
        (&["ids", "past", "use_cache_branch"][..], &["If"][..])
    );
    // One `w`; the constants of one name and different values are two.
    assert_eq!(merged.initializers.len(), 3);
    let names: std::collections::HashSet<_> = merged.initializers.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names.len(), 3);
    let branches: Vec<_> = g.node[0].attribute.iter().map(|a| a.g.as_ref().unwrap()).collect();
    assert!(branches.iter().all(|b| b.input.is_empty() && b.output.len() == 1));
    assert!(merge::merge(&next, &first).is_err());
}
