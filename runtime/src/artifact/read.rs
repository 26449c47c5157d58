//! Reading an artifact: mapped, every part checked before use, nothing copied but the small text parts.
//! The file is untrusted: every number in it is checked against the file's length.

use super::{ArtifactError, CHUNK, ENTRY, HEADER, Index, MAGIC, Meta, SECTIONS, VERSION};
use crate::error::RuntimeError;
use crate::model::{BackendKind, Engine, Model};
use frit_backend::{Precision, Target};
use frit_cpu::threads::parallel_for;
use frit_ir::{Storage, Tensor, WeightId};
use memmap2::Mmap;
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use xxhash_rust::xxh3::xxh3_64;

/// About how long checking one chunk takes, in nanoseconds.
const CHECK_NS: u64 = 60_000;

/// A model from an artifact, and the files that its processors need.
pub struct Loaded {
    /// Ready to make sessions.
    pub model: Model,
    /// Processor files by name.
    pub assets: Vec<(String, Storage)>,
    /// Bytes of weights in the file.
    pub weight_bytes: u64,
}

/// The bytes of an artifact: mapped, or in memory.
pub type Bytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

struct Reader<'p> {
    path: &'p Path,
    owner: Bytes,
}

type Result<T> = std::result::Result<T, ArtifactError>;

impl Reader<'_> {
    fn malformed(&self, what: &str, at: u64, why: impl Into<String>) -> ArtifactError {
        ArtifactError::Malformed { path: self.path.to_path_buf(), what: what.to_owned(), at, why: why.into() }
    }

    fn bytes(&self) -> &[u8] {
        (*self.owner).as_ref()
    }

    fn u64_at(&self, at: usize) -> u64 {
        let bytes = at.checked_add(8).and_then(|end| self.bytes().get(at..end));
        bytes.and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
    }

    fn u32_at(&self, at: usize) -> u32 {
        let bytes = at.checked_add(4).and_then(|end| self.bytes().get(at..end));
        bytes.and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
    }

    /// Checks magic, version, length and the checksum of header and table; gives the sections' ranges.
    fn sections(&self) -> Result<Vec<Range<usize>>> {
        let path = || self.path.to_path_buf();
        let map = self.bytes();
        if !map.starts_with(&MAGIC) {
            let found: Vec<String> = map.iter().take(8).map(|b| format!("{b:02x}")).collect();
            let found = if found.is_empty() { "nothing".into() } else { found.join(" ") };
            return Err(ArtifactError::Magic { path: path(), found });
        }
        let found = self.u32_at(8);
        if map.len() >= 12 && found != VERSION {
            return Err(ArtifactError::Version { path: path(), found });
        }
        let table_end = HEADER + ENTRY * SECTIONS.len();
        let (expected, got) = (self.u64_at(16), map.len() as u64);
        if map.len() < table_end || expected != got {
            return Err(ArtifactError::Length {
                path: path(),
                expected: expected.max(table_end as u64),
                got,
            });
        }
        let mut head = map.get(..table_end).unwrap_or(&[]).to_vec();
        for b in head.iter_mut().skip(24).take(8) {
            *b = 0;
        }
        if self.u32_at(12) as usize != SECTIONS.len() || xxh3_64(&head) != self.u64_at(24) {
            return Err(ArtifactError::Checksum {
                path: path(),
                what: "the header".into(),
                start: 0,
                end: table_end as u64,
            });
        }
        SECTIONS
            .iter()
            .enumerate()
            .map(|(i, name)| {
                let at = HEADER + i * ENTRY;
                let field = map.get(at..at + 16).unwrap_or(&[]);
                let matches =
                    field.starts_with(name.as_bytes()) && field.iter().skip(name.len()).all(|&b| b == 0);
                let (offset, len, sum) = (self.u64_at(at + 16), self.u64_at(at + 24), self.u64_at(at + 32));
                let range = usize::try_from(offset)
                    .ok()
                    .zip(usize::try_from(len).ok())
                    .and_then(|(o, l)| o.checked_add(l).map(|end| o..end))
                    .filter(|r| matches && r.end <= map.len() && r.start % 64 == 0)
                    .ok_or_else(|| {
                        self.malformed(
                            "the section table",
                            at as u64,
                            format!("no section `{name}` inside the file"),
                        )
                    })?;
                let body = map.get(range.clone()).unwrap_or(&[]);
                if *name != "weights" && xxh3_64(body) != sum {
                    return Err(ArtifactError::Checksum {
                        path: path(),
                        what: format!("section `{name}`"),
                        start: offset,
                        end: range.end as u64,
                    });
                }
                Ok(range)
            })
            .collect()
    }

    /// Checks that sections do not overlap and that what lies between them is zero, as it was written: with the
    /// checksums, no byte of the file goes unchecked.
    fn check_gaps(&self, sections: &[Range<usize>]) -> Result<()> {
        let mut sorted: Vec<&Range<usize>> = sections.iter().collect();
        sorted.sort_by_key(|r| (r.start, r.end));
        let mut at = HEADER + ENTRY * SECTIONS.len();
        let end = self.bytes().len();
        for (start, next) in sorted.iter().map(|r| (r.start, r.end)).chain([(end, end)]) {
            let gap = self
                .bytes()
                .get(at..start)
                .ok_or_else(|| self.malformed("the section table", start as u64, "sections overlap"))?;
            if let Some(i) = gap.iter().position(|&b| b != 0) {
                return Err(self.malformed("the padding", (at + i) as u64, "a byte that is not zero"));
            }
            at = next;
        }
        Ok(())
    }

    /// Checks every chunk of weights, in parallel.
    fn check_weights(&self, weights: &Range<usize>, chunks: &[u8]) -> Result<()> {
        let body = self.bytes().get(weights.clone()).unwrap_or(&[]);
        let sums: Vec<u64> =
            chunks.chunks_exact(8).filter_map(|b| b.try_into().ok()).map(u64::from_le_bytes).collect();
        if sums.len() != body.len().div_ceil(CHUNK) || chunks.len() != sums.len() * 8 {
            return Err(self.malformed(
                "section `chunks`",
                0,
                format!("{} sums for {} bytes of weights", sums.len(), body.len()),
            ));
        }
        let bad = AtomicUsize::new(usize::MAX);
        parallel_for(sums.len(), CHECK_NS, |i| {
            let chunk = body.chunks(CHUNK).nth(i).unwrap_or(&[]);
            if sums.get(i) != Some(&xxh3_64(chunk)) {
                bad.fetch_min(i, Ordering::Relaxed);
            }
        });
        match bad.into_inner() {
            usize::MAX => Ok(()),
            i => {
                let start = weights.start + i * CHUNK;
                Err(ArtifactError::Checksum {
                    path: self.path.to_path_buf(),
                    what: "a weight".into(),
                    start: start as u64,
                    end: (start + CHUNK).min(weights.end) as u64,
                })
            }
        }
    }

    fn storage(&self, what: &str, section: &Range<usize>, offset: u64, len: u64) -> Result<Storage> {
        let outside =
            || self.malformed(what, section.start as u64, format!("{offset} + {len} leaves its section"));
        let start =
            usize::try_from(offset).ok().and_then(|o| o.checked_add(section.start)).ok_or_else(outside)?;
        let len = usize::try_from(len).map_err(|_| outside())?;
        if start.checked_add(len).is_none_or(|end| end > section.end) {
            return Err(outside());
        }
        Storage::shared(self.owner.clone(), start, len).ok_or_else(outside)
    }
}

fn map_file(path: &Path) -> std::io::Result<Mmap> {
    // Asked before opening: opening a FIFO would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let file = File::open(path)?;
    // SAFETY: mapped read-only. As with every mapped file, another process that truncates it while it is in use
    // can make reads fail; artifacts are replaced by rename, never rewritten in place.
    unsafe { Mmap::map(&file) }
}

/// Loads an artifact onto an engine. Every byte is verified before the model is returned.
pub fn load(engine: &Engine, path: &Path) -> std::result::Result<Loaded, RuntimeError> {
    let map = map_file(path).map_err(|source| ArtifactError::Io { path: path.to_path_buf(), source })?;
    load_bytes(engine, path, Arc::new(map))
}

/// Loads an artifact that is in memory already, aligned to 64 bytes; `path` is its name in errors.
pub fn load_bytes(engine: &Engine, path: &Path, owner: Bytes) -> std::result::Result<Loaded, RuntimeError> {
    let reader = Reader { path, owner };
    let sections = reader.sections()?;
    let [meta_at, graphs_at, index_at, assets_at, chunks_at, weights_at] = sections.as_slice() else {
        return Err(reader.malformed("the section table", HEADER as u64, "six sections expected").into());
    };
    reader.check_gaps(&sections)?;
    let bytes = |r: &Range<usize>| reader.bytes().get(r.clone()).unwrap_or(&[]);
    engine.install(|| reader.check_weights(weights_at, bytes(chunks_at)))?;

    let json = |what: &str, at: &Range<usize>, e: serde_json::Error| {
        reader.malformed(what, at.start as u64, e.to_string())
    };
    let meta: Meta =
        serde_json::from_slice(bytes(meta_at)).map_err(|e| json("section `meta`", meta_at, e))?;
    let index: Index =
        serde_json::from_slice(bytes(index_at)).map_err(|e| json("section `index`", index_at, e))?;
    let target = Target::from_name(&meta.target).ok_or_else(|| {
        reader.malformed("section `meta`", meta_at.start as u64, format!("unknown target `{}`", meta.target))
    })?;
    if target > Target::native() {
        return Err(ArtifactError::Target {
            path: path.to_path_buf(),
            target: meta.target,
            native: Target::native().name().to_owned(),
        }
        .into());
    }
    let precision = Precision::from_name(&meta.precision).ok_or_else(|| {
        let why = format!("unknown precision `{}`", meta.precision);
        reader.malformed("section `meta`", meta_at.start as u64, why)
    })?;
    let backend = engine.options().backend;
    if backend != BackendKind::Cpu && !index.packed.is_empty() {
        let backend = BackendKind::NAMES.iter().find(|(k, _)| *k == backend).map_or("", |(_, n)| n);
        return Err(ArtifactError::Backend { path: path.to_path_buf(), backend: backend.to_owned() }.into());
    }

    let text = std::str::from_utf8(bytes(graphs_at))
        .map_err(|e| reader.malformed("section `graphs`", graphs_at.start as u64, e.to_string()))?;
    let mut module = frit_ir::text::parse(text)
        .map_err(|e| reader.malformed("section `graphs`", graphs_at.start as u64, e.to_string()))?;
    frit_ir::verify::verify(&module)
        .map_err(|e| reader.malformed("section `graphs`", graphs_at.start as u64, e.to_string()))?;
    let find = |module: &frit_ir::Module, name: &str| -> Result<WeightId> {
        module.weights.find(name).ok_or_else(|| {
            reader.malformed(
                "section `index`",
                index_at.start as u64,
                format!("`{name}` is no weight of the graphs"),
            )
        })
    };
    for e in &index.plain {
        let id = find(&module, &e.name)?;
        let ty = module.weights.get(id).map(|w| w.ty.clone());
        let shape = ty.as_ref().and_then(|t| t.fixed_shape()).unwrap_or_default();
        let dtype = ty.map_or(frit_ir::DType::U8, |t| t.dtype);
        let storage = reader.storage(&e.name, weights_at, e.offset, e.len)?;
        let tensor = Tensor::from_storage(dtype, &shape, storage)
            .map_err(|err| reader.malformed(&e.name, weights_at.start as u64, err.to_string()))?;
        module.weights.set_data(id, tensor);
    }
    let mut packed = HashMap::new();
    for e in &index.packed {
        let id = find(&module, &e.name)?;
        let storage = reader.storage(&e.name, weights_at, e.offset, e.len)?;
        let len = storage.bytes().len();
        let tensor = Tensor::from_storage(frit_ir::DType::U8, &[len], storage)
            .map_err(|err| reader.malformed(&e.name, weights_at.start as u64, err.to_string()))?;
        packed.insert((id, e.layout.clone()), tensor);
    }
    let assets = index
        .assets
        .iter()
        .map(|e| Ok((e.name.clone(), reader.storage(&e.name, assets_at, e.offset, e.len)?)))
        .collect::<Result<Vec<_>>>()?;
    let options = crate::EngineOptions { target: Some(target), precision, ..engine.options() };
    let model = engine.model_with(module, packed, options)?;
    model.check_weights_present()?;
    Ok(Loaded { model, assets, weight_bytes: weights_at.len() as u64 })
}
