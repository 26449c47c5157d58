//! ARCHITECTURE.md's invariants, as far as a test can check them: dependencies point one way, files are small and say
//! what they are for, workspace lints hold everywhere, `unsafe` stays where it may be.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use common::root;
use std::path::{Path, PathBuf};

/// Crate, folder, and the crates of ours that it may depend on.
const CRATES: [(&str, &str, &[&str]); 9] = [
    ("frit-ir", "ir", &[]),
    ("frit-frontends", "frontends", &["frit-ir"]),
    ("frit-passes", "passes", &["frit-ir"]),
    ("frit-backend", "backends/api", &["frit-ir"]),
    ("frit-cpu", "backends/cpu", &["frit-ir", "frit-backend"]),
    ("frit-tract", "backends/tract", &["frit-ir", "frit-backend"]),
    ("frit-processors", "runtime/processors", &["frit-ir"]),
    ("frit-runtime", "runtime", &["frit-ir", "frit-backend", "frit-cpu", "frit-processors"]),
    (
        "frit",
        ".",
        &[
            "frit-ir",
            "frit-backend",
            "frit-frontends",
            "frit-passes",
            "frit-processors",
            "frit-runtime",
            "frit-tract",
        ],
    ),
];

fn manifest(folder: &str) -> String {
    std::fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap()
}

/// The lines of one section of a manifest.
fn section<'m>(manifest: &'m str, name: &str) -> Vec<&'m str> {
    manifest
        .lines()
        .skip_while(|l| l.trim() != name)
        .skip(1)
        .take_while(|l| !l.starts_with('['))
        .filter(|l| !l.trim().is_empty() && !l.starts_with('#'))
        .collect()
}

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let name = path.file_name().unwrap().to_str().unwrap();
            if !["target", "fixtures", ".git", "artifacts", "corpus"].contains(&name) {
                sources(&path, out);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut out = Vec::new();
    for folder in ["ir", "frontends", "passes", "backends", "runtime", "src", "tests", "benches"] {
        sources(&root().join(folder), &mut out);
    }
    assert!(out.len() > 100);
    out
}

#[test]
fn dependencies_point_one_way() {
    for (name, folder, allowed) in CRATES {
        let text = manifest(folder);
        for line in section(&text, "[dependencies]") {
            let dependency = line.split(['=', '.', ' ']).next().unwrap_or_default();
            if dependency.starts_with("frit") {
                assert!(allowed.contains(&dependency), "{name} may not depend on {dependency}");
            }
        }
    }
    let ir = manifest("ir");
    for foreign in ["prost", "ocl", "safetensors", "memmap2", "tract-onnx"] {
        assert!(!section(&ir, "[dependencies]").iter().any(|l| l.starts_with(foreign)), "ir knows {foreign}");
    }
}

#[test]
fn every_crate_has_the_workspace_lints() {
    for (name, folder, _) in CRATES {
        assert_eq!(section(&manifest(folder), "[lints]"), ["workspace = true"], "{name}");
    }
}

#[test]
fn files_say_what_they_are_for_and_stay_small() {
    for path in all_sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        assert!(lines <= 1000, "{} has {lines} lines", path.display());
        assert!(text.starts_with("//!"), "{} does not say what it is for", path.display());
    }
}

#[test]
fn unsafe_code_lives_in_kernels_and_mapped_memory() {
    const MAY: [&str; 9] = [
        "backends/cpu/",
        "runtime/src/memory.rs",
        "runtime/src/artifact/read.rs",
        "frontends/src/hf/weights/",
        "frontends/src/onnx/read/external.rs",
        "ir/src/tensor.rs",
        "src/tensors.rs",
        "tests/",
        "benches/",
    ];
    for path in all_sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let uses = text.lines().map(str::trim_start).any(|l| {
            !l.starts_with("//")
                && (l.contains("unsafe {") || l.contains("unsafe fn") || l.contains("unsafe impl"))
        });
        assert!(!uses || MAY.iter().any(|m| relative.starts_with(m)), "{relative} uses unsafe");
    }
}

#[test]
fn the_folders_of_the_table_exist() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (name, folder, _) in CRATES {
        assert!(text.contains(name), "ARCHITECTURE.md does not name {name}");
        assert!(root().join(folder).is_dir());
    }
}
