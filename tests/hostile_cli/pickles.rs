//! pytorch_model.bin files that try to run something or lie about their storages: the committed ones of
//! tests/fixtures/hostile, and some made here. Other weight files are in `checkpoints.rs`.

use super::harness::{Room, repository};
use std::path::PathBuf;

fn hostile() -> PathBuf {
    repository().join("tests/fixtures/hostile")
}

fn refused(room: &Room, bytes: &[u8], names: &[&str]) {
    let model = room.path("model");
    std::fs::create_dir_all(&model).unwrap();
    std::fs::copy(hostile().join("config.json"), model.join("config.json")).unwrap();
    std::fs::write(model.join("pytorch_model.bin"), bytes).unwrap();
    let model = model.display().to_string();
    room.refuses(&["compile", &model, "-o", &room.path("out.frit").display().to_string()], names);
}

#[test]
fn the_committed_ones() {
    let room = Room::new();
    let list: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&std::fs::read(hostile().join("hostile.json")).unwrap()).unwrap();
    assert!(list.len() >= 25);
    for name in list.keys() {
        let names: &[&str] = match name.as_str() {
            "system_zip.bin" => &["pytorch_model.bin", "posix.system"],
            "eval.bin" => &["pytorch_model.bin", "eval"],
            _ => &["pytorch_model.bin"],
        };
        refused(&room, &std::fs::read(hostile().join(name)).unwrap(), names);
    }
}

#[test]
fn a_command_in_a_pickle_is_not_run() {
    let room = Room::new();
    let marker = std::env::temp_dir().join(format!("frit-pickle-ran-{}", std::process::id()));
    for module in ["os", "posix", "subprocess", "nt"] {
        let text = format!("\u{80}\u{2}c{module}\nsystem\n(X");
        let mut bytes: Vec<u8> = text.chars().map(|c| c as u8).collect();
        let command = format!("touch {}", marker.display());
        bytes.extend(u32::try_from(command.len()).unwrap().to_le_bytes());
        bytes.extend(command.as_bytes());
        bytes.extend(b"tR.");
        refused(&room, &bytes, &["pytorch_model.bin", "system"]);
    }
    assert!(!marker.exists());
}

/// A pickle whose memo entry 0 is the list that `item`, `n` times, gives; then `call`, `times` times.
fn bomb(item: &[u8], n: usize, call: &[u8], times: usize) -> Vec<u8> {
    let mut bytes = b"\x80\x02](".to_vec();
    for _ in 0..n {
        bytes.extend(item);
    }
    bytes.extend(b"eq\x00");
    for _ in 0..times {
        bytes.extend(call);
    }
    bytes.push(b'.');
    bytes
}

#[test]
fn little_input_does_not_become_much_memory() {
    let room = Room::new();
    let refused = |bytes: &[u8]| refused(&room, bytes, &["pytorch_model.bin"]);
    // A dict of the same long list, again and again.
    refused(&bomb(b"K\x01K\x02\x86", 50_000, b"ccollections\nOrderedDict\nh\x00\x85R", 3_000));
    // A tensor with the same list of very many sizes.
    let storage = b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQK\x00h\x00h\x00tR";
    let tensor = [&b"ctorch._utils\n_rebuild_tensor_v2\n"[..], &storage[1..]].concat();
    let tensor = [&tensor[..33], b"(", &tensor[33..]].concat();
    refused(&bomb(b"K\x01", 100_000, &tensor, 5_000));
    // Doubling by memo: lists of lists are shared, never copied.
    let mut bytes = b"\x80\x02]q\x00".to_vec();
    for _ in 0..40 {
        bytes.extend(b"](h\x00h\x00eq\x00");
    }
    bytes.push(b'.');
    refused(&bytes);
    // Lengths beyond the file.
    refused(b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.");
    refused(b"\x80\x02B\xff\xff\xff\xff.");
    refused(&[b"\x80\x02N".to_vec(), vec![0x85; 3 << 20], b".".to_vec()].concat());
}
