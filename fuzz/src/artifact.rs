//! Targets for the .frit reader: any bytes, and well-formed containers around any contents. What loads is run on
//! small inputs under a memory limit.

use super::bytes::parts;
use frit_ir::tensor::AlignedBytes;
use frit_ir::{Bindings, Tensor};
use frit_runtime::{BackendKind, Engine, EngineOptions, Model, artifact::load_bytes};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use xxhash_rust::xxh3::xxh3_64;

const SECTIONS: [&str; 6] = ["meta", "graphs", "index", "assets", "chunks", "weights"];
const TABLE_END: usize = 64 + 48 * SECTIONS.len();
const MEMORY: usize = 1 << 20;
const ITERATIONS: u64 = 200;

/// One thread, so that a fuzzer's own processes are the parallelism.
pub(super) fn engine(backend: BackendKind) -> &'static Engine {
    static CPU: OnceLock<Engine> = OnceLock::new();
    static REFERENCE: OnceLock<Engine> = OnceLock::new();
    let cell = if backend == BackendKind::Cpu { &CPU } else { &REFERENCE };
    cell.get_or_init(|| {
        let options = EngineOptions { threads: Some(1), backend, ..EngineOptions::default() };
        Engine::new(options).expect("one thread can be started")
    })
}

/// Any bytes as an artifact.
pub fn artifact(data: &[u8]) {
    load_and_run(data);
}

/// The six sections, in the order of the table but `chunks`, with `====` lines between, put into a container whose
/// lengths and checksums are right: what the reader does after it trusts them.
pub fn artifact_parts(data: &[u8]) {
    load_and_run(&container(&parts(data)));
}

/// A container of `meta`, `graphs`, `index`, `assets` and `weights`; missing ones are empty.
pub fn container(parts: &[&[u8]]) -> Vec<u8> {
    let part = |i: usize| parts.get(i).copied().unwrap_or(&[]);
    let weights = part(4);
    let chunks: Vec<u8> = weights.chunks(1 << 20).flat_map(|c| xxh3_64(c).to_le_bytes()).collect();
    let bodies: [&[u8]; 6] = [part(0), part(1), part(2), part(3), &chunks, weights];
    let mut file = vec![0u8; TABLE_END];
    let mut table = Vec::new();
    for (name, body) in SECTIONS.iter().zip(bodies) {
        file.resize(file.len().next_multiple_of(64), 0);
        let mut field = [0u8; 16];
        field[..name.len()].copy_from_slice(name.as_bytes());
        table.extend_from_slice(&field);
        let sum = if *name == "weights" { 0 } else { xxh3_64(body) };
        for n in [file.len() as u64, body.len() as u64, sum, 0] {
            table.extend_from_slice(&n.to_le_bytes());
        }
        file.extend_from_slice(body);
    }
    let len = file.len() as u64;
    file[..8].copy_from_slice(b"\x89FRIT\r\n\x1a");
    file[8..12].copy_from_slice(&1u32.to_le_bytes());
    file[12..16].copy_from_slice(&6u32.to_le_bytes());
    file[16..24].copy_from_slice(&len.to_le_bytes());
    file[64..TABLE_END].copy_from_slice(&table);
    let sum = xxh3_64(&file[..TABLE_END]);
    file[24..32].copy_from_slice(&sum.to_le_bytes());
    file
}

/// The parts of a container that frit wrote, as [`artifact_parts`] takes them.
pub fn parts_of(file: &[u8]) -> Vec<u8> {
    let number = |at: usize| {
        let bytes: [u8; 8] = file[at..at + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes) as usize
    };
    let body = |i: usize| &file[number(64 + i * 48 + 16)..][..number(64 + i * 48 + 24)];
    [body(0), body(1), body(2), body(3), body(5)].join(&b"\n====\n"[..])
}

fn load_and_run(file: &[u8]) {
    let mut memory = AlignedBytes::zeroed(file.len());
    memory.bytes_mut().copy_from_slice(file);
    if let Ok(loaded) = load_bytes(engine(BackendKind::Cpu), Path::new("fuzz.frit"), Arc::new(memory)) {
        run_small(&loaded.model);
    }
}

/// Runs every entry with all symbols 3 and all inputs 1, twice, so that states grow.
pub(super) fn run_small(model: &Model) {
    for entry in model.entries().map(str::to_owned).collect::<Vec<_>>() {
        let Ok(mut session) = model.session(&entry) else { continue };
        session.set_memory_limit(Some(MEMORY));
        session.set_iteration_limit(Some(ITERATIONS));
        let graph = session.graph().clone();
        let mut bindings = Bindings::new();
        let types: Vec<_> =
            graph.inputs.iter().filter_map(|i| Some((i.name.clone(), graph.ty(i.value)?.clone()))).collect();
        for symbol in types.iter().flat_map(|(_, t)| &t.shape).flat_map(|d| d.symbols()) {
            bindings.set(&symbol, 3);
        }
        let mut inputs = Vec::new();
        for (name, ty) in &types {
            if graph.states.iter().any(|s| s.input == *name) {
                continue;
            }
            let Ok(shape) = ty.eval_shape(&bindings) else { return };
            if shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).is_none_or(|n| n > MEMORY / 8) {
                return;
            }
            let ones = vec![1i64; shape.iter().product()];
            let Ok(t) = Tensor::from_i64(ty.dtype, &shape, &ones) else { return };
            inputs.push((name.as_str(), t));
        }
        let borrowed: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (*n, t)).collect();
        for _ in 0..2 {
            let Ok(outputs) = session.run(&borrowed) else { return };
            for name in outputs.names().map(str::to_owned).collect::<Vec<_>>() {
                let _ = outputs.tensor(&name);
            }
        }
    }
}
