//! Damaged .frit files, and compiling onto a disk that fills. Random damage behind right checksums is
//! `hostile_replay.rs`'s.

use super::harness::{Room, bert, bert_inputs, frit, repository, run};
use std::process::Command;

fn compiled(room: &Room) -> Vec<u8> {
    let path = room.path("good.frit").display().to_string();
    let out = frit(&["compile", &bert().display().to_string(), "-o", &path]);
    assert_eq!(out.status, Some(0), "{}", out.stderr);
    std::fs::read(room.path("good.frit")).unwrap()
}

fn refused(room: &Room, bytes: &[u8]) {
    let model = room.write("bad.frit", bytes).display().to_string();
    let inputs = bert_inputs().display().to_string();
    let outputs = room.path("out.safetensors").display().to_string();
    room.refuses(&["run", &model, "--inputs", &inputs, "--outputs", &outputs], &["bad.frit"]);
}

#[test]
fn every_truncation_is_refused() {
    let room = Room::new();
    let good = compiled(&room);
    for cut in
        [0, 1, 7, 8, 11, 12, 24, 63, 64, 200, 351, 352, 400, good.len() / 3, good.len() - 64, good.len() - 1]
    {
        refused(&room, &good[..cut]);
    }
    refused(&room, &[&good[..], &[0]].concat());
    refused(&room, &vec![0; good.len()]);
}

#[test]
fn every_flipped_bit_is_refused() {
    let room = Room::new();
    let good = compiled(&room);
    // All of the header and table at one bit a byte in turn, then places over the whole file, padding included.
    let header = (0..352).step_by(5);
    let body = (352..good.len()).step_by(good.len() / 60);
    for (n, at) in header.chain(body).chain([good.len() - 1]).enumerate() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (n % 8);
        refused(&room, &bytes);
    }
}

#[test]
fn foreign_and_newer_files_are_told_apart() {
    let room = Room::new();
    let good = compiled(&room);
    let mut newer = good.clone();
    newer[8] = 2;
    let model = room.write("newer.frit", &newer).display().to_string();
    room.refuses(&["inspect", &model], &["newer.frit", "version 2"]);
    let model = room.write("foreign.frit", b"\x08\x07\x12\x07pytorch").display().to_string();
    room.refuses(&["inspect", &model], &["foreign.frit"]);
    let wrong = room.path("good.frit").display().to_string();
    room.refuses(&["compile", &wrong, "-o", &room.path("again.frit").display().to_string()], &["good.frit"]);
}

#[test]
fn the_old_file_stays_when_compiling_fails() {
    let room = Room::new();
    let old = room.write("model.frit", b"an old file").display().to_string();
    let model = room.copy(&bert(), "model");
    let weights = model.join("model.safetensors");
    let good = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &good[..good.len() - 1]).unwrap();
    room.refuses(&["compile", &model.display().to_string(), "-o", &old], &["model.safetensors"]);
    assert_eq!(std::fs::read(&old).unwrap(), b"an old file");
}

/// Mounts a file system of 128 KiB in a namespace of its own, where the system lets a test do that.
#[test]
fn a_disk_that_fills_leaves_the_old_file() {
    let room = Room::new();
    std::fs::create_dir(room.path("small")).unwrap();
    let script = "mount -t tmpfs -o size=128k none \"$1\" || exit 77
        printf old > \"$1/model.frit\"
        \"$2\" compile \"$3\" -o \"$1/model.frit\"; status=$?
        test \"$(cat \"$1/model.frit\")\" = old || exit 78
        test \"$(ls -A \"$1\")\" = model.frit || exit 79
        exit $status";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command.arg(room.path("small")).arg(env!("CARGO_BIN_EXE_frit")).arg(repository().join("examples/digits"));
    if Command::new("unshare").arg("--version").output().is_err() {
        return eprintln!("not run: no unshare");
    }
    let out = run(&command);
    if out.status == Some(77) || out.stderr.starts_with("unshare:") {
        return eprintln!("not run: no namespaces here: {}", out.stderr);
    }
    assert_eq!(out.status, Some(1), "{}", out.stderr);
    assert!(out.stderr.contains("model.frit") && out.stderr.contains("No space left"), "{}", out.stderr);
    assert!(!out.stderr.contains("panicked"), "{}", out.stderr);
}
