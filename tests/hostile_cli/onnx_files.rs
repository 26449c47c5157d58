//! ONNX files that are damaged, no ONNX, or refer to files they may not read.

use super::harness::Room;
use super::onnx::{input, model, node, refused, refused_at};
use frit::frontends::onnx::schema::build::{entry, tensor_proto};
use frit::frontends::onnx::schema::{DataLocation, StringStringEntryProto, TensorProto};
use frit::ir::Tensor;
use prost::Message;
use std::os::unix::fs::symlink;

/// A length-delimited field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut out);
    out.extend(content);
    out
}

#[test]
fn what_is_no_model() {
    let good = model(vec![node("Neg", &["x"], &["y"], vec![])], vec![input("x", &[2])], vec![]);
    for (what, bytes) in [
        ("empty", vec![]),
        ("text", b"hello, I am a model".to_vec()),
        ("zip", [&b"PK\x03\x04\x14\0\0\0\x08\0"[..], &[0; 200]].concat()),
        ("gzip", [&b"\x1f\x8b\x08\0\0\0\0\0\0\x03"[..], &[7; 200]].concat()),
        ("zeros", vec![0; 1 << 20]),
        ("ones", vec![0xff; 1 << 20]),
        ("half", good[..good.len() / 2].to_vec()),
        ("all but one", good[..good.len() - 1].to_vec()),
        ("a graph of 2^31 bytes", vec![0x3a, 0x80, 0x80, 0x80, 0x80, 0x08]),
        ("a graph of 2^63 bytes", [&[0x3a][..], &[0xff; 9], &[1]].concat()),
        ("groups", vec![0x3b; 1 << 20]),
        ("groups in a graph", field(7, &[0x0b; 1 << 20])),
        ("no graph", vec![0x08, 10]),
    ] {
        let room = Room::new();
        let path = room.write("model.onnx", &bytes);
        eprintln!("{what}");
        refused_at(&room, &path, &["model.onnx"]);
    }
    let room = Room::new();
    std::fs::create_dir(room.path("folder.onnx")).unwrap();
    refused_at(&room, &room.path("folder.onnx"), &["folder.onnx"]);
    refused_at(&room, &room.path("absent.onnx"), &["absent.onnx"]);
    let fifo = room.fifo("pipe.onnx");
    refused_at(&room, &fifo, &["pipe.onnx"]);
    symlink("/dev/zero", room.path("zero.onnx")).unwrap();
    refused_at(&room, &room.path("zero.onnx"), &["zero.onnx"]);
}

#[test]
fn messages_within_messages() {
    for (inner, outer) in [(1u8, 5u8), (6, 5), (1, 1)] {
        let mut deep = Vec::new();
        for i in 0..3000 {
            deep = field(if i % 2 == 0 { inner } else { outer }, &deep);
        }
        super::onnx::harmless(&field(7, &deep));
    }
}

/// Two bytes of a file become some hundreds of memory: not without end.
#[test]
fn small_messages_in_great_number() {
    for bytes in [
        field(7, &[0x0a, 0].repeat(4 << 20)),
        field(7, &field(1, &[0x2a, 0]).repeat(1 << 20)),
        field(7, &field(1, &[0x0a, 0].repeat(8 << 20))),
        field(7, &[0x2a, 0].repeat(4 << 20)),
        [[0x42, 0].repeat(4 << 20), field(7, &[])].concat(),
        [[0xca, 1, 0].repeat(4 << 20), field(7, &[])].concat(),
    ] {
        refused(&bytes, &["model.onnx"]);
    }
}

fn refers_to(entries: Vec<StringStringEntryProto>) -> Vec<u8> {
    let w = TensorProto {
        name: "w".into(),
        dims: vec![2],
        data_type: 1,
        data_location: DataLocation::External as i32,
        external_data: entries,
        ..TensorProto::default()
    };
    model(vec![node("Add", &["x", "w"], &["y"], vec![])], vec![input("x", &[2])], vec![w])
}

#[test]
fn data_outside_the_folder() {
    let room = Room::new();
    let data = [1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat();
    let outside = room.write("outside.bin", &data).display().to_string();
    room.write("model/inside.bin", &data);
    room.write("model/sub/inside.bin", &data);
    room.write("twice.bin", &data);
    std::fs::hard_link(room.path("twice.bin"), room.path("model/hard.bin")).unwrap();
    symlink(&outside, room.path("model/link.bin")).unwrap();
    symlink("inside.bin", room.path("model/near.bin")).unwrap();
    symlink(room.path(""), room.path("model/parent")).unwrap();
    symlink("sub", room.path("model/subdir")).unwrap();
    symlink("/dev", room.path("model/dev")).unwrap();
    room.fifo("model/pipe.bin");
    let locations = [
        outside.as_str(),
        "/dev/zero",
        "../outside.bin",
        "sub/../../outside.bin",
        "sub/../inside.bin",
        "..\\outside.bin",
        "sub\\inside.bin",
        "C:inside.bin",
        "file:///etc/passwd",
        "parent/outside.bin",
        "subdir/inside.bin",
        "dev/zero",
        "link.bin",
        "near.bin",
        "hard.bin",
        "pipe.bin",
        "absent.bin",
        "sub",
        "in\0side.bin",
        "inside.bin\0",
        "inside.bin/",
        "//inside.bin",
        "sub//inside.bin",
        "",
        ".",
        "..",
        "/",
    ];
    for location in locations {
        let path = room.write("model/model.onnx", &refers_to(vec![entry("location", location)]));
        refused_at(&room, &path, &["w"]);
    }
    let path = room.write("model/model.onnx", &refers_to(vec![]));
    refused_at(&room, &path, &["w", "location"]);
    let inside = |more: &[(&str, &str)]| {
        let mut all = vec![entry("location", "inside.bin")];
        all.extend(more.iter().map(|(k, v)| entry(*k, *v)));
        refers_to(all)
    };
    for more in [
        &[("offset", "1")][..],
        &[("offset", "8")],
        &[("offset", "-8")],
        &[("offset", "+0")],
        &[("offset", "0x0")],
        &[("offset", "")],
        &[("offset", "9223372036854775807")],
        &[("offset", "18446744073709551615")],
        &[("offset", "18446744073709551616")],
        &[("offset", "18446744073709551608"), ("length", "8")],
        &[("length", "4")],
        &[("length", "16")],
        &[("length", "18446744073709551615")],
        &[("length", "1e1")],
        &[("offset", "0"), ("offset", "0")],
        &[("location", "inside.bin")],
    ] {
        let path = room.write("model/model.onnx", &inside(more));
        refused_at(&room, &path, &["w"]);
    }
    // And what is within reach is read.
    let path = room.write("model/model.onnx", &inside(&[("offset", "0"), ("length", "8")]));
    let compiled = room.path("good.frit").display().to_string();
    let done = super::harness::frit(&["compile", &path.display().to_string(), "-o", &compiled]);
    assert_eq!(done.status, Some(0), "{}", done.stderr);
}

#[test]
fn constants_that_lie() {
    let with = |w: TensorProto| {
        model(vec![node("Add", &["x", "w"], &["y"], vec![])], vec![input("x", &[2])], vec![w])
    };
    let good = tensor_proto("w", &Tensor::from_slice(&[2], &[1.0f32, 2.0]).unwrap());
    let changed = |f: &dyn Fn(&mut TensorProto)| {
        let mut w = good.clone();
        f(&mut w);
        with(w)
    };
    refused(&changed(&|w| w.dims = vec![-2]), &["w"]);
    refused(&changed(&|w| w.dims = vec![3]), &["w", "raw_data"]);
    refused(&changed(&|w| w.dims = vec![1 << 62, 4]), &["w"]);
    refused(&changed(&|w| w.dims = vec![i64::MAX; 8]), &["w"]);
    refused(&changed(&|w| w.data_type = 99), &["w", "99"]);
    refused(&changed(&|w| w.data_type = 0), &["w"]);
    refused(&changed(&|w| w.data_type = -1), &["w"]);
    refused(&changed(&|w| w.raw_data = Some(vec![0; 7].into())), &["w", "raw_data"]);
    refused(&changed(&|w| w.float_data = vec![1.0, 2.0]), &["w"]);
    refused(&changed(&|w| w.raw_data = None), &["w"]);
    // A gigabyte of small integers unpacked from a few.
    let packed = TensorProto {
        name: "w".into(),
        dims: vec![1 << 40],
        data_type: 22,
        raw_data: Some(vec![0; 64].into()),
        ..TensorProto::default()
    };
    refused(&with(packed), &["w"]);
}

#[test]
fn stored_values_that_are_damaged() {
    let room = Room::new();
    let good = model(vec![node("Neg", &["x"], &["y"], vec![])], vec![input("x", &[2])], vec![]);
    let path = room.write("model.onnx", &good).display().to_string();
    let x = tensor_proto("x", &Tensor::from_slice(&[2], &[1.0f32, 2.0]).unwrap()).encode_to_vec();
    let y = tensor_proto("y", &Tensor::from_slice(&[2], &[-1.0f32, -2.0]).unwrap()).encode_to_vec();
    let lie = TensorProto { dims: vec![1 << 40], data_type: 1, ..TensorProto::default() }.encode_to_vec();
    let away = TensorProto {
        dims: vec![2],
        data_type: 1,
        data_location: DataLocation::External as i32,
        external_data: vec![entry("location", "input_0.pb")],
        ..TensorProto::default()
    };
    let data = room.path("data").display().to_string();
    let other = tensor_proto("x", &Tensor::from_slice(&[3], &[1i64, 2, 3]).unwrap()).encode_to_vec();
    let bad = [
        vec![0xff; 100],
        x[..x.len() - 1].to_vec(),
        lie,
        away.encode_to_vec(),
        [0x12, 0].repeat(1 << 20),
        [0x6a, 0].repeat(4 << 20),
        other,
        vec![],
    ];
    for bytes in bad {
        for (input, output) in [(&bytes, &y), (&x, &bytes)] {
            room.write("data/input_0.pb", input);
            room.write("data/output_0.pb", output);
            let out = super::harness::frit(&["verify", &path, "--data", &data]);
            assert_eq!(out.status, Some(1), "{}{}", out.stdout, out.stderr);
            assert!(!out.stderr.contains("panicked"), "{}", out.stderr);
            assert!(out.cpu_seconds < super::harness::MOST_SECONDS);
            assert!(out.peak_bytes < super::harness::MOST_BYTES, "{}", out.peak_bytes);
        }
    }
    std::fs::remove_file(room.path("data/input_0.pb")).unwrap();
    room.fifo("data/input_0.pb");
    let out = super::harness::frit(&["verify", &path, "--data", &data]);
    assert_eq!(out.status, Some(1), "{}{}", out.stdout, out.stderr);
}
