//! Writing an artifact: to a temporary file beside the target, renamed when whole, so that a failure leaves the
//! old file. The same model gives the same bytes: no times, no paths, no order of hashing.

use super::{
    ArtifactError, AssetEntry, CHUNK, ENTRY, HEADER, Index, MAGIC, Meta, PackedEntry, PlainEntry, SECTIONS,
    VERSION, align_up,
};
use crate::error::RuntimeError;
use crate::model::Model;
use frit_ir::WeightId;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Length of the file.
    pub bytes: u64,
    /// Bytes of weights in it.
    pub weight_bytes: u64,
}

/// One weight to write: which, and in which layout; None: plain.
struct Item {
    weight: WeightId,
    name: String,
    layout: Option<String>,
    /// Entry, step and operand that the packing kernel has.
    packer: Option<(usize, usize, usize)>,
}

fn items(model: &Model) -> Result<Vec<Item>, RuntimeError> {
    let mut out: Vec<Item> = Vec::new();
    let name = |w: WeightId| model.weights().get(w).map(|w| w.name.clone()).unwrap_or_default();
    for (e, entry) in model.program_names().enumerate() {
        let program = model.program(entry)?;
        for w in program.plain_weights() {
            let small = model.weights().data(w).is_some_and(|t| t.len() <= frit_ir::module::SMALL);
            if !small && !out.iter().any(|i| i.weight == w && i.layout.is_none()) {
                out.push(Item { weight: w, name: name(w), layout: None, packer: None });
            }
        }
        for (s, step) in program.steps.iter().enumerate() {
            for (o, operand) in step.inputs.iter().enumerate() {
                let Some((w, layout)) = operand.as_ref().and_then(|o| o.packed.clone()) else { continue };
                if !out.iter().any(|i| i.weight == w && i.layout.as_ref() == Some(&layout)) {
                    out.push(Item {
                        weight: w,
                        name: name(w),
                        layout: Some(layout),
                        packer: Some((e, s, o)),
                    });
                }
            }
        }
    }
    Ok(out)
}

/// Writes `model` with its processor files to `path`. `progress` is called with weights done and in all.
pub fn write(
    model: &Model,
    assets: &[(String, Vec<u8>)],
    path: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Packed, RuntimeError> {
    let io = |source: std::io::Error| ArtifactError::Io { path: path.to_path_buf(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".frit-").tempfile_in(folder).map_err(io)?;
    let written = write_to(model, assets, &mut file, progress).map_err(|e| match e {
        Failure::Io(e) => RuntimeError::from(io(e)),
        Failure::Runtime(e) => e,
    })?;
    file.as_file().sync_all().map_err(io)?;
    make_readable(file.as_file()).map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(written)
}

/// Temporary files are private; an artifact is a file like any other.
fn make_readable(file: &std::fs::File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    let _ = file;
    Ok(())
}

enum Failure {
    Io(std::io::Error),
    Runtime(RuntimeError),
}
impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Failure::Io(e)
    }
}
impl From<RuntimeError> for Failure {
    fn from(e: RuntimeError) -> Self {
        Failure::Runtime(e)
    }
}
impl From<serde_json::Error> for Failure {
    fn from(e: serde_json::Error) -> Self {
        Failure::Io(e.into())
    }
}

/// Sums every [`CHUNK`] of what goes through it.
struct Summed<W> {
    out: W,
    pending: Vec<u8>,
    sums: Vec<u64>,
    len: u64,
}

impl<W: Write> Summed<W> {
    fn put(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        self.out.write_all(bytes)?;
        self.len += bytes.len() as u64;
        while !bytes.is_empty() {
            let take = bytes.len().min(CHUNK - self.pending.len());
            let (now, rest) = bytes.split_at(take);
            self.pending.extend_from_slice(now);
            bytes = rest;
            if self.pending.len() == CHUNK {
                self.sums.push(xxh3_64(&self.pending));
                self.pending.clear();
            }
        }
        Ok(())
    }
    fn align(&mut self) -> std::io::Result<()> {
        let pad = align_up(self.len) - self.len;
        self.put([0u8; 64].get(..usize::try_from(pad).unwrap_or(0)).unwrap_or(&[]))
    }
    fn finish(mut self) -> (W, Vec<u64>, u64) {
        if !self.pending.is_empty() {
            self.sums.push(xxh3_64(&self.pending));
        }
        (self.out, self.sums, self.len)
    }
}

fn write_to(
    model: &Model,
    assets: &[(String, Vec<u8>)],
    file: &mut tempfile::NamedTempFile,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Packed, Failure> {
    let options = model.plan_options();
    let meta = Meta {
        producer: format!("frit {}", env!("CARGO_PKG_VERSION")),
        target: options.target.name().to_owned(),
        precision: options.precision.name().to_owned(),
    };
    let meta = serde_json::to_vec(&meta)?;
    let graphs = model.planned_text()?.into_bytes();

    // The index needs only sizes, which plain tensors have; packed ones must be made. Weights go to the file
    // first at their final place, which needs the lengths of what comes before: so the index goes last.
    let items = items(model)?;
    let mut index = Index::default();
    let mut blob = Vec::new();
    for (name, bytes) in assets {
        index.assets.push(AssetEntry {
            name: name.clone(),
            offset: blob.len() as u64,
            len: bytes.len() as u64,
        });
        blob.extend_from_slice(bytes);
    }

    let begin = align_up((HEADER + ENTRY * SECTIONS.len()) as u64);
    file.seek(SeekFrom::Start(begin))?;
    let mut out = Summed {
        out: BufWriter::with_capacity(1 << 20, &mut *file),
        pending: Vec::new(),
        sums: Vec::new(),
        len: 0,
    };
    let entries: Vec<&str> = model.program_names().collect();
    for (n, item) in items.iter().enumerate() {
        progress(n, items.len());
        out.align()?;
        let offset = out.len;
        let missing = || RuntimeError::Weight {
            name: item.name.clone(),
            layout: item.layout.as_ref().map(|l| format!(" in layout {l}")).unwrap_or_default(),
        };
        match (&item.layout, item.packer) {
            (Some(layout), Some((e, s, o))) => {
                let program = model.program(entries.get(e).copied().unwrap_or_default())?;
                let step = program.steps.get(s).ok_or_else(missing)?;
                let tensor = model.packed_weight(step, o, item.weight, layout)?;
                out.put(tensor.bytes())?;
                model.forget_packed(item.weight, layout);
                let len = out.len - offset;
                index.packed.push(PackedEntry {
                    name: item.name.clone(),
                    layout: layout.clone(),
                    offset,
                    len,
                });
            }
            _ => {
                let tensor = model.weights().data(item.weight).ok_or_else(missing)?;
                out.put(tensor.bytes())?;
                index.plain.push(PlainEntry { name: item.name.clone(), offset, len: out.len - offset });
            }
        }
    }
    progress(items.len(), items.len());
    let (writer, sums, weight_bytes) = out.finish();
    writer.into_inner().map_err(|e| Failure::Io(e.into_error()))?;

    let index = serde_json::to_vec(&index)?;
    let chunks: Vec<u8> = sums.iter().flat_map(|s| s.to_le_bytes()).collect();
    let mut at = align_up(begin.saturating_add(weight_bytes));
    let mut table = Vec::with_capacity(SECTIONS.len() * ENTRY);
    let mut end = begin + weight_bytes;
    for name in SECTIONS {
        let body: Option<&[u8]> = match name {
            "meta" => Some(&meta),
            "graphs" => Some(&graphs),
            "index" => Some(&index),
            "assets" => Some(&blob),
            "chunks" => Some(&chunks),
            _ => None,
        };
        let (offset, len, sum) = match body {
            Some(body) => {
                file.seek(SeekFrom::Start(at))?;
                file.write_all(body)?;
                let place = (at, body.len() as u64, xxh3_64(body));
                end = at + body.len() as u64;
                at = align_up(end);
                place
            }
            None => (begin, weight_bytes, 0),
        };
        let mut field = [0u8; 16];
        for (f, b) in field.iter_mut().zip(name.bytes()) {
            *f = b;
        }
        table.extend_from_slice(&field);
        for n in [offset, len, sum, 0] {
            table.extend_from_slice(&n.to_le_bytes());
        }
    }
    file.as_file().set_len(end)?;

    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&u32::try_from(SECTIONS.len()).unwrap_or(0).to_le_bytes());
    header.extend_from_slice(&end.to_le_bytes());
    header.resize(HEADER, 0);
    let sum = xxh3_64(&[header.as_slice(), table.as_slice()].concat()).to_le_bytes();
    for (h, s) in header.iter_mut().skip(24).zip(sum) {
        *h = s;
    }
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&header)?;
    file.write_all(&table)?;
    file.flush()?;
    Ok(Packed { bytes: end, weight_bytes })
}
