//! Reading of ONNX files: every element type from every place it may be in, and everything that is refused.
//! Import of operators is tested elsewhere.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use bytes::Bytes;
use frit_frontends::onnx::schema::{
    DataLocation, DataType, GraphProto, ModelProto, OptionalProto, OptionalType, Segment, SequenceProto,
    SequenceType, SparseTensorProto, StringStringEntryProto, TensorProto, TypeProto, TypeValue, ValueKind,
};
use frit_frontends::onnx::{ExternalFault, HostValue, OnnxError, OnnxModel, TensorFault, read};
use prost::Message;
use std::path::Path;

fn model() -> ModelProto {
    ModelProto { ir_version: 10, graph: Some(GraphProto::default()), ..ModelProto::default() }
}

fn in_memory() -> OnnxModel {
    OnnxModel::from_bytes(model().encode_to_vec()).unwrap()
}

fn tensor(ty: DataType, dims: &[i64]) -> TensorProto {
    TensorProto { name: "t".into(), data_type: ty as i32, dims: dims.to_vec(), ..TensorProto::default() }
}

fn raw(ty: DataType, dims: &[i64], bytes: &[u8]) -> TensorProto {
    TensorProto { raw_data: Some(Bytes::copy_from_slice(bytes)), ..tensor(ty, dims) }
}

fn numbers(proto: &TensorProto) -> Vec<f64> {
    match in_memory().tensor(proto) {
        Ok(HostValue::Tensor(t)) => t.to_f64_vec(),
        other => panic!("{other:?}"),
    }
}

fn fault(proto: &TensorProto) -> TensorFault {
    match in_memory().tensor(proto) {
        Err(OnnxError::Tensor { name, fault }) => {
            assert_eq!(name, "t");
            fault
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn raw_and_typed_fields_give_the_same_numbers() {
    use DataType::*;
    let f16 = |x: f32| half::f16::from_f32(x).to_bits();
    assert_eq!(numbers(&raw(Float, &[2], bytemuck::cast_slice(&[1.5f32, -2.0]))), [1.5, -2.0]);
    assert_eq!(numbers(&TensorProto { float_data: vec![1.5, -2.0], ..tensor(Float, &[2]) }), [1.5, -2.0]);
    assert_eq!(numbers(&TensorProto { double_data: vec![0.1], ..tensor(Double, &[]) }), [0.1]);
    assert_eq!(numbers(&TensorProto { int64_data: vec![-7], ..tensor(Int64, &[1]) }), [-7.0]);
    assert_eq!(numbers(&TensorProto { uint64_data: vec![7], ..tensor(Uint32, &[1]) }), [7.0]);
    assert_eq!(numbers(&TensorProto { uint64_data: vec![7], ..tensor(Uint64, &[1]) }), [7.0]);
    let ints = |ty, values: &[i32]| {
        let dims = [i64::try_from(values.len()).unwrap()];
        numbers(&TensorProto { int32_data: values.to_vec(), ..tensor(ty, &dims) })
    };
    assert_eq!(ints(Int32, &[-1, 2]), [-1.0, 2.0]);
    assert_eq!(ints(Int16, &[-1, 2]), [-1.0, 2.0]);
    assert_eq!(ints(Int8, &[-128, 127]), [-128.0, 127.0]);
    assert_eq!(ints(Uint8, &[255]), [255.0]);
    assert_eq!(ints(Uint16, &[65535]), [65535.0]);
    assert_eq!(ints(Bool, &[0, 5]), [0.0, 1.0]);
    assert_eq!(ints(Float16, &[i32::from(f16(1.5)), i32::from(f16(-2.0))]), [1.5, -2.0]);
    assert_eq!(ints(Bfloat16, &[0x3fc0]), [1.5]);
    assert_eq!(numbers(&raw(Bfloat16, &[1], &[0xc0, 0x3f])), [1.5]);
    assert_eq!(numbers(&raw(Bool, &[2], &[0, 9])), [0.0, 1.0]);
    assert!(numbers(&raw(Float, &[0, 3], &[])).is_empty());
    assert!(numbers(&tensor(Float, &[0])).is_empty());
}

#[test]
fn numbers_that_the_type_does_not_have_are_refused() {
    let int = |ty, value| TensorProto { int32_data: vec![value], ..tensor(ty, &[1]) };
    for (ty, value) in
        [(DataType::Uint8, 256), (DataType::Uint8, -1), (DataType::Int8, 128), (DataType::Int16, -40_000)]
    {
        assert!(matches!(fault(&int(ty, value)), TensorFault::Range { index: 0, .. }), "{ty:?} {value}");
    }
    let big = TensorProto { uint64_data: vec![1 << 32], ..tensor(DataType::Uint32, &[1]) };
    assert!(matches!(fault(&big), TensorFault::Range { .. }));
}

#[test]
fn shapes_and_data_must_agree() {
    use DataType::Float;
    assert!(matches!(fault(&raw(Float, &[2], &[0; 7])), TensorFault::Count { expected: 8, got: 7, .. }));
    assert!(matches!(fault(&tensor(Float, &[2])), TensorFault::Count { expected: 2, got: 0, .. }));
    assert!(matches!(fault(&raw(Float, &[-1], &[])), TensorFault::Shape(_)));
    assert!(matches!(fault(&raw(Float, &[i64::MAX, i64::MAX], &[])), TensorFault::Shape(_)));
    assert!(matches!(fault(&raw(DataType::Double, &[1 << 60], &[])), TensorFault::Shape(_)));
    assert!(matches!(fault(&tensor(Float, &[1 << 40])), TensorFault::Count { .. }));
    let two = TensorProto { float_data: vec![1.0], ..raw(Float, &[1], &[0; 4]) };
    assert!(matches!(fault(&two), TensorFault::Place { found: "float_data", .. }));
    let wrong = TensorProto { int64_data: vec![1], ..tensor(Float, &[1]) };
    assert!(matches!(fault(&wrong), TensorFault::Place { found: "int64_data", .. }));
    let part = TensorProto { segment: Some(Segment { begin: 0, end: 1 }), ..raw(Float, &[1], &[0; 4]) };
    assert_eq!(fault(&part), TensorFault::Segment);
}

#[test]
fn types_without_tensors_are_refused_by_name() {
    for ty in [DataType::Complex64, DataType::Complex128, DataType::Undefined] {
        assert_eq!(fault(&raw(ty, &[0], &[])), TensorFault::Unsupported(ty));
    }
    let unknown = TensorProto { data_type: 99, ..TensorProto::default() };
    let error = in_memory().tensor(&unknown).unwrap_err().to_string();
    assert!(error.contains("element type 99"), "{error}");
}

#[test]
fn strings_are_text() {
    let texts = |values: &[&[u8]]| TensorProto {
        string_data: values.iter().map(|v| Bytes::copy_from_slice(v)).collect(),
        ..tensor(DataType::String, &[2])
    };
    let Ok(HostValue::Strings(s)) = in_memory().tensor(&texts(&[b"a", "ü".as_bytes()])) else { panic!() };
    assert_eq!((s.shape, s.values), (vec![2], vec!["a".to_owned(), "ü".to_owned()]));
    assert_eq!(fault(&texts(&[b"a", b"\xff"])), TensorFault::Utf8 { index: 1 });
    assert!(matches!(fault(&texts(&[b"a"])), TensorFault::Count { .. }));
}

fn sparse(indices: TensorProto, dims: &[i64]) -> Result<HostValue, OnnxError> {
    let values = raw(DataType::Uint8, &[2], &[7, 9]);
    in_memory().sparse(&SparseTensorProto {
        values: Some(values),
        indices: Some(indices),
        dims: dims.to_vec(),
    })
}

#[test]
fn sparse_tensors_become_dense() {
    let at =
        |v: &[i64], dims: &[i64]| TensorProto { int64_data: v.to_vec(), ..tensor(DataType::Int64, dims) };
    let dense = [0.0, 7.0, 0.0, 0.0, 0.0, 9.0];
    for indices in [at(&[1, 5], &[2]), at(&[0, 1, 1, 2], &[2, 2])] {
        assert_eq!(sparse(indices, &[2, 3]).unwrap().tensor().unwrap().to_f64_vec(), dense);
    }
    for (indices, dims) in [
        (at(&[1, 6], &[2]), &[2, 3][..]),
        (at(&[-1, 1], &[2]), &[2, 3]),
        (at(&[1, 1], &[2]), &[2, 3]),
        (at(&[5, 1], &[2]), &[2, 3]),
        (at(&[0, 1, 1, 3], &[2, 2]), &[2, 3]),
        (at(&[1, 2, 3], &[3]), &[2, 3]),
        (at(&[1, 5], &[2]), &[1 << 40]),
        (at(&[1, 5], &[2]), &[1 << 20, 1 << 20]),
    ] {
        assert!(matches!(sparse(indices, dims), Err(OnnxError::Tensor { .. })), "{dims:?}");
    }
}

#[test]
fn stored_sequences_and_optionals() {
    let f32s = |x: f32| TensorProto { float_data: vec![x], ..tensor(DataType::Float, &[]) };
    let of = TypeProto::default();
    let sequence_type = TypeProto {
        value: Some(TypeValue::SequenceType(Box::new(SequenceType {
            elem_type: Some(Box::new(of.clone())),
        }))),
        ..TypeProto::default()
    };
    let proto = SequenceProto {
        elem_type: ValueKind::Tensor as i32,
        tensor_values: vec![f32s(1.0), f32s(2.0)],
        ..SequenceProto::default()
    };
    let bytes = Bytes::from(proto.encode_to_vec());
    let HostValue::Sequence(all) = read::read_value(bytes, Some(&sequence_type), "s").unwrap() else {
        panic!()
    };
    assert_eq!(all.len(), 2);
    let optional_type = TypeProto {
        value: Some(TypeValue::OptionalType(Box::new(OptionalType { elem_type: Some(Box::new(of)) }))),
        ..TypeProto::default()
    };
    for (kind, present) in [(ValueKind::Tensor, true), (ValueKind::Undefined, false)] {
        let tensor_value = present.then(|| Box::new(f32s(3.0)));
        let proto = OptionalProto { elem_type: kind as i32, tensor_value, ..OptionalProto::default() };
        let bytes = Bytes::from(proto.encode_to_vec());
        let value = read::read_value(bytes, Some(&optional_type), "o").unwrap();
        assert_eq!(value.present().is_some(), present);
    }
}

// --- external data

fn external(entries: &[(&str, &str)]) -> TensorProto {
    let entry = |(k, v): &(&str, &str)| StringStringEntryProto { key: (*k).into(), value: (*v).into() };
    TensorProto {
        data_location: DataLocation::External as i32,
        external_data: entries.iter().map(entry).collect(),
        ..tensor(DataType::Float, &[4])
    }
}

/// A folder with `model.onnx` in it and `outside` beside it, and files made by the caller.
struct Laid {
    outer: tempfile::TempDir,
    model: OnnxModel,
}

impl Laid {
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("model");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(outer.path().join("outside"), [0u8; 16]).unwrap();
        std::fs::write(inner.join("model.onnx"), model().encode_to_vec()).unwrap();
        let model = OnnxModel::open(&inner.join("model.onnx")).unwrap();
        Laid { outer, model }
    }
    fn inner(&self) -> &Path {
        self.model.folder().unwrap()
    }
    fn fault(&self, entries: &[(&str, &str)]) -> ExternalFault {
        match self.model.tensor(&external(entries)) {
            Err(OnnxError::External { fault, .. }) => fault,
            other => panic!("{entries:?}: {other:?}"),
        }
    }
}

#[test]
fn external_data_is_read_in_place() {
    let laid = Laid::new();
    let data: Vec<f32> = (0..16u8).map(f32::from).collect();
    std::fs::create_dir(laid.inner().join("sub")).unwrap();
    std::fs::write(laid.inner().join("sub/w"), bytemuck::cast_slice::<f32, u8>(&data)).unwrap();
    let read =
        |entries: &[(&str, &str)]| laid.model.tensor(&external(entries)).unwrap().tensor().unwrap().clone();
    let first = read(&[("location", "sub/w")]);
    assert_eq!(first.to_f32_vec(), [0.0, 1.0, 2.0, 3.0]);
    let second = read(&[("location", "sub/w"), ("offset", "16"), ("length", "16"), ("checksum", "x")]);
    assert_eq!(second.to_f32_vec(), [4.0, 5.0, 6.0, 7.0]);
    // Mapped, not copied: the two lie in one piece of memory, 16 bytes apart.
    assert_eq!(second.bytes().as_ptr().addr(), first.bytes().as_ptr().addr() + 16);
    // Not aligned: a copy.
    let odd = read(&[("location", "./sub/w"), ("offset", "2")]);
    assert_eq!(odd.bytes()[..], bytemuck::cast_slice::<f32, u8>(&data)[2..18]);
    let last = read(&[("location", "sub/w"), ("offset", "48")]);
    assert_eq!(last.to_f32_vec(), [12.0, 13.0, 14.0, 15.0]);
}

#[test]
fn ranges_beyond_the_file_are_refused() {
    let laid = Laid::new();
    std::fs::write(laid.inner().join("w"), [0u8; 16]).unwrap();
    std::fs::write(laid.inner().join("empty"), []).unwrap();
    for (offset, file) in [("1", "w"), ("16", "w"), ("18446744073709551615", "w"), ("0", "empty")] {
        let fault = laid.fault(&[("location", file), ("offset", offset)]);
        assert!(matches!(fault, ExternalFault::Range { .. }), "{offset} {file}: {fault:?}");
    }
    for length in ["15", "17", "0", "18446744073709551615"] {
        let fault = laid.fault(&[("location", "w"), ("length", length)]);
        assert!(matches!(fault, ExternalFault::Length { expected: 16, .. }), "{length}: {fault:?}");
    }
    for text in ["", "-1", "+1", " 1", "1 ", "0x10", "1e3", "18446744073709551616", "١"] {
        let fault = laid.fault(&[("location", "w"), ("offset", text)]);
        assert!(matches!(fault, ExternalFault::Key { .. }), "{text:?}: {fault:?}");
    }
    let fault = laid.fault(&[("location", "w"), ("location", "w")]);
    assert!(matches!(fault, ExternalFault::Key { .. }), "{fault:?}");
    let mut both = external(&[("location", "w")]);
    both.raw_data = Some(Bytes::from(vec![0; 16]));
    let error = laid.model.tensor(&both).unwrap_err();
    assert!(matches!(error, OnnxError::Tensor { fault: TensorFault::Place { .. }, .. }), "{error}");
}

#[test]
fn paths_that_leave_the_folder_are_refused() {
    let laid = Laid::new();
    std::fs::write(laid.inner().join("w"), [0u8; 16]).unwrap();
    let absolute = laid.outer.path().join("outside");
    let mut locations = vec![
        "",
        ".",
        "./",
        "..",
        "../outside",
        "a/../../outside",
        "./../outside",
        "../model/w",
        "sub/../w",
        "..\\outside",
        "sub\\w",
        "C:w",
        "C:/w",
        "C:\\w",
        "//server/share/w",
        "file:///etc/hostname",
        "w\0",
        "w\0/../outside",
        "w/",
        "a//w",
        "/dev/zero",
        "/proc/self/environ",
    ];
    locations.push(absolute.to_str().unwrap());
    for location in locations {
        let fault = laid.fault(&[("location", location)]);
        assert!(matches!(fault, ExternalFault::Path(_)), "{location:?}: {fault:?}");
    }
    assert!(matches!(laid.fault(&[]), ExternalFault::Path(_)));
    assert!(matches!(laid.fault(&[("location", "missing")]), ExternalFault::Io(_)));
}

#[cfg(unix)]
#[test]
fn links_folders_devices_and_pipes_are_refused() {
    use std::os::unix::fs::symlink;
    let laid = Laid::new();
    let inner = laid.inner().to_path_buf();
    let outside = laid.outer.path().join("outside");
    std::fs::write(inner.join("w"), [0u8; 16]).unwrap();
    std::fs::create_dir(laid.outer.path().join("other")).unwrap();
    std::fs::write(laid.outer.path().join("other/w"), [0u8; 16]).unwrap();
    symlink("w", inner.join("link-within")).unwrap();
    symlink("../outside", inner.join("link-out")).unwrap();
    symlink("/dev/zero", inner.join("link-device")).unwrap();
    symlink("../other", inner.join("link-folder")).unwrap();
    symlink("loop", inner.join("loop")).unwrap();
    std::fs::hard_link(&outside, inner.join("hard")).unwrap();
    std::fs::create_dir(inner.join("folder")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(inner.join("fifo")).status().unwrap();
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(inner.join("socket")).unwrap();
    for location in [
        "link-within",
        "link-out",
        "link-device",
        "link-folder/w",
        "loop",
        "hard",
        "folder",
        "fifo",
        "socket",
        "w/w",
    ] {
        let fault = laid.fault(&[("location", location)]);
        assert!(matches!(fault, ExternalFault::Entry { .. }), "{location}: {fault:?}");
    }
}

#[cfg(unix)]
#[test]
fn devices_and_pipes_are_no_models() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("model.onnx");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for path in [fifo.as_path(), Path::new("/dev/zero"), dir.path()] {
        assert!(matches!(OnnxModel::open(path), Err(OnnxError::Io { .. })), "{}", path.display());
    }
}

#[test]
fn a_model_given_as_bytes_has_no_files() {
    let error = in_memory().tensor(&external(&[("location", "w")])).unwrap_err();
    assert!(matches!(error, OnnxError::External { fault: ExternalFault::NoFolder, .. }), "{error}");
}

/// A small file may not ask for the same few bytes again and again, as copies.
#[test]
fn copies_count_against_a_budget() {
    let laid = Laid::new();
    std::fs::write(laid.inner().join("w"), vec![0u8; 1 << 20]).unwrap();
    let mut odd = external(&[("location", "w"), ("offset", "1")]);
    odd.dims = vec![(1 << 18) - 1];
    let refused = (0..1000).find_map(|_| laid.model.tensor(&odd).err()).unwrap();
    assert!(matches!(refused, OnnxError::Tensor { fault: TensorFault::Budget { .. }, .. }), "{refused}");
    odd.external_data[1].value = "4".into();
    assert!(laid.model.tensor(&odd).is_ok(), "what is shared costs nothing");
}

#[test]
fn files_that_are_no_models() {
    assert!(matches!(OnnxModel::from_bytes(vec![0xff; 40]), Err(OnnxError::Decode { .. })));
    assert!(matches!(OnnxModel::from_bytes(vec![]), Err(OnnxError::NoGraph { .. })));
    let whole = model().encode_to_vec();
    assert!(OnnxModel::from_bytes(whole[..whole.len() - 1].to_vec()).is_err());
}

// --- writing

#[test]
fn what_is_written_reads_back() {
    use frit_frontends::onnx::schema::build;
    use frit_frontends::onnx::value::Strings;
    use frit_ir::{DType, Tensor};
    for dtype in DType::ALL {
        // Both signs where the type has them, and a count that fills no whole byte of packed elements.
        let bytes: Vec<u8> = match dtype.size() {
            1 => [0, 1, 1, 0, 1].to_vec(),
            size => (0..5 * size).map(|i| u8::try_from(i * 7 % 120).unwrap()).collect(),
        };
        let t = Tensor::from_bytes(dtype, &[5, 1], &bytes).unwrap();
        let back = in_memory().tensor(&build::tensor_proto("t", &t)).unwrap();
        assert_eq!(back.tensor(), Some(&t), "{dtype}");
    }
    let strings = HostValue::Strings(Strings { shape: vec![2], values: vec!["a".into(), "".into()] });
    let number = HostValue::from(Tensor::scalar(DType::F32, 1.5));
    let sequence = HostValue::Sequence(vec![number.clone(), strings.clone()]);
    let ty = |value| Some(TypeProto { value: Some(value), ..TypeProto::default() });
    let sequence_type = || ty(TypeValue::SequenceType(Box::default()));
    let optional_type = || ty(TypeValue::OptionalType(Box::default()));
    for (value, ty) in [
        (number.clone(), None),
        (strings, None),
        (sequence.clone(), sequence_type()),
        (HostValue::Sequence(vec![]), sequence_type()),
        (HostValue::Optional(None), optional_type()),
        (HostValue::Optional(Some(Box::new(number))), optional_type()),
        (HostValue::Optional(Some(Box::new(sequence))), optional_type()),
    ] {
        let bytes = Bytes::from(build::value_bytes("v", &value));
        assert_eq!(read::read_value(bytes, ty.as_ref(), "v").unwrap(), value);
    }
}
