//! Errors of reading weight files. What a class misses in a readable checkpoint is `binding.rs`'s report.

use super::pickle::PickleError;
use frit_ir::TensorError;
use std::path::PathBuf;

/// Why the weights of a folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The folder holds no weight file of a known name.
    #[error(
        "{} holds no weights: expected model.safetensors, pytorch_model.bin, or the .index.json of either{}",
        folder.display(), foreign_phrase(foreign)
    )]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// Weight files of other frameworks that it does hold.
        foreign: Vec<&'static str>,
    },
    /// A file could not be opened or mapped.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is larger than any of its kind is.
    #[error("{} has {size} bytes, more than the {limit} that such a file may have", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file name read from an index leaves the folder, or is no plain file in it.
    #[error("{index} names the file `{name}`: {reason}; nothing outside the checkpoint folder is opened")]
    UnsafePath {
        /// The index file that holds the name.
        index: String,
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The index of a sharded checkpoint does not parse.
    #[error("{file}: {message}")]
    BadIndex {
        /// The index file.
        file: String,
        /// What the JSON reader said, with line and column.
        message: String,
    },
    /// The index names tensors that the shards do not hold.
    #[error("{file} lists tensors that are not where it says: {}", absent.join(", "))]
    IndexMismatch {
        /// The index file.
        file: String,
        /// Tensor and shard, each.
        absent: Vec<String>,
    },
    /// Two files, or two records of one file, give the same tensor.
    #[error("tensor `{key}` is both in {first} and in {second}")]
    DuplicateKey {
        /// The tensor.
        key: String,
        /// File that gave it first.
        first: String,
        /// File that gives it again.
        second: String,
    },
    /// No such tensor.
    #[error("the checkpoint has no tensor `{key}`")]
    UnknownKey {
        /// The name asked for.
        key: String,
    },
    /// The bytes of a file are not what its format says.
    #[error("{file}: {damage}")]
    Damaged {
        /// The file.
        file: String,
        /// What and where.
        damage: Damage,
    },
}

fn foreign_phrase(foreign: &[&str]) -> String {
    if foreign.is_empty() {
        return String::new();
    }
    format!(" (found {}, which frit does not read; save the model with save_pretrained)", foreign.join(", "))
}

/// A fault in the bytes of a weight file: where, of which tensor, and what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Damage {
    /// Byte offset in the file, where one is known.
    pub offset: Option<u64>,
    /// Tensor concerned, where one is known.
    pub key: Option<String>,
    /// What is wrong.
    pub fault: Fault,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(offset) = self.offset {
            write!(f, "at byte {offset}: ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "tensor `{key}`: ")?;
        }
        write!(f, "{}", self.fault)
    }
}

impl Damage {
    /// A fault at a byte offset.
    pub fn at(offset: usize, fault: Fault) -> Self {
        Damage { offset: Some(offset as u64), key: None, fault }
    }

    /// A fault of the file as a whole.
    pub fn whole(fault: Fault) -> Self {
        Damage { offset: None, key: None, fault }
    }

    /// The same fault, of this tensor.
    pub fn of(mut self, key: &str) -> Self {
        self.key.get_or_insert_with(|| key.to_string());
        self
    }
}

/// Kinds of damage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file ends too early.
    #[error("the file is truncated: {expected} bytes are needed here, {got} are left")]
    Truncated {
        /// Bytes needed.
        expected: u64,
        /// Bytes left.
        got: u64,
    },
    /// The header of a safetensors file is not valid.
    #[error("not a valid safetensors header: {0}")]
    Header(String),
    /// The file is neither safetensors nor something that torch.save writes.
    #[error("neither a safetensors file nor a torch.save file")]
    Foreign,
    /// The zip directory of a torch file is not valid.
    #[error("not a valid torch zip file: {0}")]
    Zip(String),
    /// The pickle inside a torch file is not valid, or not safe.
    #[error("{0}")]
    Pickle(#[from] PickleError),
    /// A feature of the format that is not read.
    #[error("{0}")]
    Unsupported(String),
    /// An element type without a counterpart here.
    #[error("element type {0} is not supported")]
    ElementType(String),
    /// Offsets, strides and shape of a tensor leave its storage.
    #[error(
        "shape {shape:?} with strides {strides:?} and offset {offset} leaves its storage of {elements} elements"
    )]
    OutOfStorage {
        /// Shape of the tensor.
        shape: Vec<u64>,
        /// Strides in elements.
        strides: Vec<u64>,
        /// First element.
        offset: u64,
        /// Elements of the storage.
        elements: u64,
    },
    /// A tensor's bytes do not fit its type.
    #[error("{0}")]
    Tensor(#[from] TensorError),
    /// Two records of the same name.
    #[error("the name occurs twice in this file")]
    Twice,
}
