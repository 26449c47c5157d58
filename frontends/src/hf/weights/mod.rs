//! The weights of a checkpoint folder: which files hold them, and each as a tensor by name.
//! Byte formats live in `safetensors.rs`, `torch.rs` and `pickle/`; what a class expects lives in `binding.rs`.

pub mod binding;
mod entry;
mod error;
mod folder;
pub mod pickle;
mod safetensors;
mod torch;

pub use binding::{WeightIssue, WeightReport, WeightScope, Weights};
pub use entry::Entry;
pub use error::{CheckpointError, Damage, Fault};
pub use folder::Folder;

use frit_ir::Tensor;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a weight file: mapped, or in memory.
pub type FileBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Largest index file of a sharded checkpoint that is read.
const MAX_INDEX_BYTES: u64 = 256 << 20;

/// The named tensors of a checkpoint folder. Opening reads headers only; tensors share the mapped files.
pub struct Checkpoint {
    files: Vec<(String, FileBytes)>,
    entries: BTreeMap<String, (usize, Entry)>,
}

impl Checkpoint {
    /// Opens `model.safetensors`, `model.safetensors.index.json`, `pytorch_model.bin` or
    /// `pytorch_model.bin.index.json`, the first of these that the folder holds (transformers' own order).
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        let folder = Folder::open(folder)?;
        let mut checkpoint = Checkpoint { files: Vec::new(), entries: BTreeMap::new() };
        for (single, index) in [
            ("model.safetensors", "model.safetensors.index.json"),
            ("pytorch_model.bin", "pytorch_model.bin.index.json"),
        ] {
            if folder.holds(single) {
                checkpoint.add_file(single, folder.map(single)?)?;
                return Ok(checkpoint);
            }
            if folder.holds(index) {
                checkpoint.add_shards(&folder, index)?;
                return Ok(checkpoint);
            }
        }
        let foreign = ["tf_model.h5", "flax_model.msgpack", "model.ckpt.index", "model.onnx"]
            .into_iter()
            .filter(|name| folder.holds(name))
            .collect();
        Err(CheckpointError::NoWeights { folder: folder.path().to_path_buf(), foreign })
    }

    /// Reads one weight file from memory: safetensors, or what `torch.save` writes (zip or legacy).
    /// `name` appears in errors only.
    pub fn parse_bytes(name: &str, bytes: FileBytes) -> Result<Self, CheckpointError> {
        let mut checkpoint = Checkpoint { files: Vec::new(), entries: BTreeMap::new() };
        checkpoint.add_file(name, bytes)?;
        Ok(checkpoint)
    }

    fn add_file(&mut self, name: &str, bytes: FileBytes) -> Result<(), CheckpointError> {
        let data = (*bytes).as_ref();
        let entries = if torch::looks_like(data) { torch::read(data) } else { safetensors::read(data) }
            .map_err(|damage| CheckpointError::Damaged { file: name.to_string(), damage })?;
        let file = self.files.len();
        self.files.push((name.to_string(), bytes));
        for (key, entry) in entries {
            if let Some((other, _)) = self.entries.get(&key) {
                let first = self.files.get(*other).map(|f| f.0.clone()).unwrap_or_default();
                return Err(CheckpointError::DuplicateKey { key, first, second: name.to_string() });
            }
            self.entries.insert(key, (file, entry));
        }
        Ok(())
    }

    fn add_shards(&mut self, folder: &Folder, index: &str) -> Result<(), CheckpointError> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let text = folder.read(index, MAX_INDEX_BYTES)?;
        let parsed: Index = serde_json::from_slice(&text)
            .map_err(|e| CheckpointError::BadIndex { file: index.to_string(), message: e.to_string() })?;
        let mut shards: Vec<&String> = parsed.weight_map.values().collect();
        shards.sort();
        shards.dedup();
        for shard in shards {
            self.add_file(shard, folder.map_shard(index, shard)?)?;
        }
        let absent: Vec<String> = parsed
            .weight_map
            .iter()
            .filter(|(key, shard)| match self.entries.get(*key) {
                Some((file, _)) => self.files.get(*file).is_none_or(|f| &f.0 != *shard),
                None => true,
            })
            .map(|(key, shard)| format!("{key} (in {shard})"))
            .collect();
        if !absent.is_empty() {
            return Err(CheckpointError::IndexMismatch { file: index.to_string(), absent });
        }
        Ok(())
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when no file holds a tensor.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Type and shape of a tensor, without reading it.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name).map(|(_, entry)| entry)
    }

    /// Names of the files that were opened.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|f| f.0.as_str())
    }

    /// A tensor in its stored type. Contiguous, aligned data is shared with the mapped file; other data is copied.
    pub fn tensor(&self, name: &str) -> Result<Tensor, CheckpointError> {
        let unknown = || CheckpointError::UnknownKey { key: name.to_string() };
        let (file, entry) = self.entries.get(name).ok_or_else(unknown)?;
        let (file, bytes) = self.files.get(*file).ok_or_else(unknown)?;
        entry
            .tensor(bytes)
            .map_err(|damage| CheckpointError::Damaged { file: file.clone(), damage: damage.of(name) })
    }
}

/// The folder that a path names: the path itself, or the folder of a weight or config file inside it.
pub fn folder_of(path: &Path) -> PathBuf {
    if path.is_file() { path.parent().map(Path::to_path_buf).unwrap_or_default() } else { path.to_path_buf() }
}
