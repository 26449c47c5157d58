//! A model of one node, read and run. Models that frit exports are tested with the whole line.

use super::*;
use frit_ir::DType;
use tract_onnx::pb;

fn value(name: &str, dims: &[&str]) -> pb::ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |d: &&str| Dimension { value: Some(Value::DimParam((*d).to_owned())), ..Default::default() };
    let shape = pb::TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = pb::type_proto::Tensor { elem_type: 1, shape: Some(shape) };
    let ty = pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() };
    pb::ValueInfoProto { name: name.to_owned(), r#type: Some(ty), ..Default::default() }
}

fn model(op: &str) -> Vec<u8> {
    let node = pb::NodeProto {
        input: vec!["x".into(), "x".into()],
        output: vec!["y".into()],
        op_type: op.to_owned(),
        ..Default::default()
    };
    let graph = pb::GraphProto {
        node: vec![node],
        input: vec![value("x", &["n"])],
        output: vec![value("y", &["n"])],
        ..Default::default()
    };
    let opset = pb::OperatorSetIdProto { version: i64::from(OPSET), ..Default::default() };
    let model =
        pb::ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..Default::default() };
    prost::Message::encode_to_vec(&model)
}

#[test]
fn shapes_get_plans_of_their_own() {
    let tract = Tract::from_onnx(&model("Add")).unwrap();
    assert_eq!(tract.inputs(), ["x"]);
    for n in 1..12 {
        let x = Tensor::from_slice(&[n], &vec![1.5f32; n]).unwrap();
        let y = Delegate::run(&tract, &[("x", &x)]).unwrap();
        assert_eq!(y[0].to_f32_vec(), vec![3.0; n]);
    }
    assert_eq!(tract.plans.lock().unwrap().len(), PLANS);
}

#[test]
fn what_tract_has_not_is_an_error() {
    let x = Tensor::zeros(DType::F32, &[1]).unwrap();
    // Unknown ops are kept until a plan is made.
    let made = Tract::from_onnx(&model("NoSuchOp")).and_then(|t| t.run(&[&x]));
    assert!(made.is_err());
    let half = Tensor::zeros(DType::BF16, &[1]).unwrap();
    assert!(matches!(Tract::from_onnx(&model("Add")).unwrap().run(&[&half]), Err(Error::DType(DType::BF16))));
    assert!(Tract::from_onnx(b"no model").is_err());
}

#[test]
fn tensors_come_back_as_they_went() {
    for dtype in
        [DType::Bool, DType::I8, DType::I16, DType::I64, DType::U16, DType::F16, DType::F32, DType::F64]
    {
        let t = Tensor::from_f64(dtype, &[3, 1], &[0.0, 1.0, 1.0]).unwrap();
        assert_eq!(tensor::from_tract(&tensor::to_tract(&t).unwrap()).unwrap(), t);
    }
}
