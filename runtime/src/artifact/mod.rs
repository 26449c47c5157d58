//! The artifact: one versioned, aligned, checksummed file that is mapped and run. This file declares the format;
//! `write.rs` and `read.rs` hold the two directions. Plans and kernels do not belong here.
//!
//! ```text
//! 0   magic 89 46 52 49 54 0D 0A 1A ("\x89FRIT\r\n\x1a")
//! 8   format version, u32          12  number of sections, u32
//! 16  length of the file, u64      24  XXH3-64 of the header (this field zero) and the section table
//! 32  reserved, zero
//! 64  section table: name [u8; 16], offset u64, length u64, checksum u64, reserved u64
//! ... sections, each at a multiple of 64, zero padding between
//! ```
//! All numbers are little-endian. Sections: `meta` (JSON), `graphs` (the text format), `index` (JSON: where each
//! weight and asset lies), `assets`, `weights`, and `chunks`: the XXH3-64 of every [`CHUNK`] bytes of `weights`,
//! so that a damaged weight is found in parallel and named. The checksum of `weights` in the table is zero.

mod read;
mod write;

pub use read::{Bytes, Loaded, load, load_bytes};
pub use write::{Packed, write};

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// First bytes of every artifact.
pub const MAGIC: [u8; 8] = *b"\x89FRIT\r\n\x1a";
/// Version of the format that this build writes and reads.
pub const VERSION: u32 = 1;
/// Bytes of weights under one checksum.
pub const CHUNK: usize = 1 << 20;

const HEADER: usize = 64;
const ENTRY: usize = 48;
/// Sections in the order they are written.
const SECTIONS: [&str; 6] = ["meta", "graphs", "index", "assets", "chunks", "weights"];

/// Why an artifact could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file does not begin like an artifact.
    #[error("{path} is no frit artifact: it begins with {found}, expected 89 46 52 49 54 0d 0a 1a")]
    Magic {
        /// The file.
        path: PathBuf,
        /// The first bytes.
        found: String,
    },
    /// Another version of the format.
    #[error("{path} has format version {found}; this build reads version {VERSION}: compile the model again")]
    Version {
        /// The file.
        path: PathBuf,
        /// Version found.
        found: u32,
    },
    /// The file is shorter or longer than it says.
    #[error("{path} is {got} bytes long, its header says {expected}: truncated or damaged")]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes expected.
        expected: u64,
        /// Bytes found.
        got: u64,
    },
    /// Bytes are not what was written.
    #[error("{path} is damaged: {what}, bytes {start}..{end}, do not have their checksum")]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Which part.
        what: String,
        /// First byte.
        start: u64,
        /// After the last byte.
        end: u64,
    },
    /// A part contradicts another.
    #[error("{path} is damaged: {what} at byte {at}: {why}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Which part.
        what: String,
        /// Byte offset in the file.
        at: u64,
        /// What was wrong, and what was expected.
        why: String,
    },
    /// Made for instructions that this machine lacks.
    #[error("{path} is compiled for {target}, which this machine is not; compile it with --target {native}")]
    Target {
        /// The file.
        path: PathBuf,
        /// Target of the artifact.
        target: String,
        /// Target of this machine.
        native: String,
    },
    /// An artifact's packed weights are for one backend.
    #[error(
        "{path} is compiled for the backend cpu and cannot run on {backend}; give the checkpoint instead"
    )]
    Backend {
        /// The file.
        path: PathBuf,
        /// Backend asked for.
        backend: String,
    },
}

/// Section `meta`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    /// What wrote it.
    producer: String,
    /// Instruction set of kernels and layouts.
    target: String,
    /// `f32`, `bf16` or `int8`.
    precision: String,
}

/// Section `index`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    /// Weights as the graph has them; dtype and shape are in the graphs.
    plain: Vec<PlainEntry>,
    /// Weights in kernels' layouts.
    packed: Vec<PackedEntry>,
    /// Files for processors.
    assets: Vec<AssetEntry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlainEntry {
    name: String,
    offset: u64,
    len: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PackedEntry {
    name: String,
    layout: String,
    offset: u64,
    len: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AssetEntry {
    name: String,
    offset: u64,
    len: u64,
}

fn align_up(n: u64) -> u64 {
    n.saturating_add(63) / 64 * 64
}
