//! ONNX files on the command line: verify, run, compile and inspect. Operators are tested by the conformance run.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use common::{arg, frit, frit_ok};
use frit::frontends::onnx::HostValue;
use frit::frontends::onnx::schema::build::{self, size, symbol, tensor_type, value_bytes};
use frit::frontends::onnx::schema::{
    DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TypeProto, ValueInfoProto,
};
use frit::ir::Tensor;
use prost::Message;
use std::path::PathBuf;

fn info(name: &str, ty: TypeProto) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), r#type: Some(ty), ..ValueInfoProto::default() }
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|s| (*s).into()).collect(),
        output: vec![output.into()],
        name: format!("the {op}"),
        ..NodeProto::default()
    }
}

fn floats() -> TypeProto {
    tensor_type(DataType::Float, Some(vec![symbol("N"), size(2)]))
}

/// y = -x + w and z = squeeze(x, axes), with w a constant of the model.
fn model() -> ModelProto {
    let axes = tensor_type(DataType::Int64, Some(vec![size(1)]));
    let weight = Tensor::from_slice(&[2], &[10.0f32, 20.0]).unwrap();
    ModelProto {
        ir_version: 10,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 20 }],
        graph: Some(GraphProto {
            name: "g".into(),
            node: vec![
                node("Neg", &["x"], "n"),
                node("Add", &["n", "w"], "y"),
                node("Unsqueeze", &["x", "axes"], "z"),
            ],
            initializer: vec![build::tensor_proto("w", &weight)],
            input: vec![info("x", floats()), info("axes", axes)],
            output: vec![info("y", floats()), info("z", tensor_type(DataType::Float, None))],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

/// A folder with model.onnx and the data sets `right` and `wrong`, of other sizes.
struct Laid(tempfile::TempDir);

fn x(rows: usize) -> Tensor {
    let values: Vec<f32> = (0..2 * rows).map(|i| i as f32).collect();
    Tensor::from_slice(&[rows, 2], &values).unwrap()
}

fn y(rows: usize, extra: f32) -> Tensor {
    let values: Vec<f32> =
        (0..2 * rows).map(|i| [10.0, 20.0][i % 2] - i as f32 + if i == 3 { extra } else { 0.0 }).collect();
    Tensor::from_slice(&[rows, 2], &values).unwrap()
}

fn axes(axis: i64) -> Tensor {
    Tensor::from_slice(&[1], &[axis]).unwrap()
}

impl Laid {
    fn new() -> Self {
        let laid = Laid(tempfile::tempdir().unwrap());
        std::fs::write(laid.model(), model().encode_to_vec()).unwrap();
        let unsqueezed = [x(2).reshaped(&[2, 2, 1]).unwrap(), x(3).reshaped(&[1, 3, 2]).unwrap()];
        let sets = [("right", 2, 0.0, 2), ("wrong", 3, 0.5, 0)];
        for ((name, rows, extra, axis), z) in sets.into_iter().zip(unsqueezed) {
            std::fs::create_dir(laid.path(name)).unwrap();
            let files = [
                ("input_0", x(rows)),
                ("input_1", axes(axis)),
                ("output_0", y(rows, extra)),
                ("output_1", z),
            ];
            for (file, tensor) in files {
                let bytes = value_bytes("", &HostValue::from(tensor));
                std::fs::write(laid.path(name).join(format!("{file}.pb")), bytes).unwrap();
            }
        }
        laid
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn model(&self) -> PathBuf {
        self.path("model.onnx")
    }
    fn tensors(&self, name: &str, tensors: &[(&str, Tensor)]) -> PathBuf {
        let named: Vec<_> = tensors.iter().map(|(n, t)| ((*n).to_owned(), t.clone())).collect();
        frit::tensors::write(&self.path(name), &named).unwrap();
        self.path(name)
    }
}

#[test]
fn verify_says_which_data_set_matches() {
    let laid = Laid::new();
    let (right, wrong) = (laid.path("right"), laid.path("wrong"));
    let said = frit_ok(&["verify", arg(&laid.model()), "--data", arg(&right)]);
    assert!(said.contains("right: matches, 2 outputs"), "{said}");
    let model = laid.model();
    let both = ["verify", arg(&model), "--data", arg(&right), arg(&wrong)];
    let done = frit(&both);
    let said = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(said.lines().next().unwrap().contains("matches, 2 outputs"), "{said}");
    assert!(said.contains("`y`[1, 1] is 17.0, expected 17.5; 1 of 6 elements differ"), "{said}");
    let loose = frit(&[&both[..], &["--atol", "1", "--backend", "reference"]].concat());
    assert_eq!(loose.status.code(), Some(0));
    let json: serde_json::Value =
        serde_json::from_slice(&frit(&[&both[..], &["--json"]].concat()).stdout).unwrap();
    assert_eq!(json["data_sets"][0]["matches"], true);
    assert_eq!(json["data_sets"][1]["matches"], false);
}

#[test]
fn verify_tells_wrong_calls_from_failures() {
    let laid = Laid::new();
    let code = |args: &[&str]| frit(args).status.code();
    let model = laid.model();
    assert_eq!(code(&["verify", arg(&model)]), Some(2));
    assert_eq!(code(&["verify", arg(&model), "--data", arg(&laid.path("missing"))]), Some(2));
    assert_eq!(code(&["verify", arg(&model), "--data", arg(&laid.path("right")), "--rtol", "-1"]), Some(2));
    assert_eq!(code(&["verify", arg(&laid.path("no.onnx")), "--data", arg(&laid.path("right"))]), Some(1));
    std::fs::create_dir(laid.path("empty")).unwrap();
    assert_eq!(code(&["verify", arg(&model), "--data", arg(&laid.path("empty"))]), Some(1));
    std::fs::write(laid.path("bad.onnx"), [0xff; 50]).unwrap();
    let bad = frit(&["verify", arg(&laid.path("bad.onnx")), "--data", arg(&laid.path("right"))]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("not valid protobuf"));
}

#[test]
fn run_takes_static_arguments_from_the_inputs() {
    let laid = Laid::new();
    let inputs = laid.tensors("in", &[("x", x(2)), ("axes", axes(0))]);
    let out = laid.path("out");
    frit_ok(&["run", arg(&laid.model()), "--inputs", arg(&inputs), "--outputs", arg(&out)]);
    let results = frit::tensors::read(&out).unwrap();
    assert_eq!(results["y"], y(2, 0.0));
    assert_eq!(results["z"], x(2).reshaped(&[1, 2, 2]).unwrap());
    frit_ok(&["run", arg(&laid.model()), "--inputs", arg(&inputs), "--outputs", arg(&out), "--select", "z"]);
    assert_eq!(frit::tensors::read(&out).unwrap().len(), 1);
    let model = laid.model();
    for wrong in [["--select", "q"], ["--head", "BertModel"], ["--entry", "encode"]] {
        let call = ["run", arg(&model), "--inputs", arg(&inputs), "--outputs", arg(&out)];
        assert_eq!(frit(&[&call[..], &wrong[..]].concat()).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_compiled_model_keeps_its_static_arguments() {
    let laid = Laid::new();
    let compiled = laid.path("m.frit");
    let needs = frit(&["compile", arg(&laid.model()), "-o", arg(&compiled)]);
    let said = String::from_utf8_lossy(&needs.stderr).into_owned();
    assert!(needs.status.code() == Some(1) && said.contains("axes"), "{said}");
    let inputs = laid.tensors("in", &[("x", x(2)), ("axes", axes(1))]);
    frit_ok(&["compile", arg(&laid.model()), "-o", arg(&compiled), "--inputs", arg(&inputs)]);
    // Other sizes run; another value of the static argument is refused, and it may be left out.
    let out = laid.path("out");
    let run =
        |inputs: &PathBuf| frit(&["run", arg(&compiled), "--inputs", arg(inputs), "--outputs", arg(&out)]);
    let larger = laid.tensors("larger", &[("x", x(5)), ("axes", axes(1))]);
    assert!(run(&larger).status.success());
    assert_eq!(frit::tensors::read(&out).unwrap()["z"], x(5).reshaped(&[5, 1, 2]).unwrap());
    let other = laid.tensors("other", &[("x", x(2)), ("axes", axes(0))]);
    let refused = run(&other);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(run(&laid.tensors("alone", &[("x", x(1))])).status.success());
}

#[test]
fn dimensions_can_be_fixed() {
    let laid = Laid::new();
    let model = arg(&laid.model()).to_owned();
    let call = ["compile", &model, "-o"];
    let inputs = laid.tensors("in", &[("x", x(2)), ("axes", axes(1))]);
    let compiled = laid.path("m.frit");
    let fixed = [&call[..], &[arg(&compiled), "--inputs", arg(&inputs), "--dim", "N=2"]].concat();
    frit_ok(&fixed);
    let shown = frit_ok(&["inspect", arg(&compiled), "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(json["graphs"][0]["inputs"][0]["type"], "f32[2, 2]");
    let unknown = [&call[..], &[arg(&compiled), "--inputs", arg(&inputs), "--dim", "M=2"]].concat();
    assert_eq!(frit(&unknown).status.code(), Some(2));
}
