//! The small files beside a model's weights (vocabularies, settings), by name, from a folder or from an artifact.
//! What the files mean does not belong here.

use crate::doc::Doc;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// The files that a model folder may hold for its processors; all others are left alone.
pub const PROCESSOR_FILES: [&str; 11] = [
    "added_tokens.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
];

/// Size limit of one processor file in bytes.
pub const MAX_ASSET_BYTES: u64 = 128 << 20;

/// Size limit of one sound or picture file in bytes.
pub const MAX_RAW_BYTES: u64 = 1 << 30;

/// Processor files by name. Cloning shares the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assets {
    files: BTreeMap<String, Arc<[u8]>>,
}

impl Assets {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads those of [`PROCESSOR_FILES`] that `folder` has. Fails when one of them cannot be read or is larger than
    /// [`MAX_ASSET_BYTES`].
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let mut assets = Assets::new();
        for name in PROCESSOR_FILES {
            let path = folder.join(name);
            match std::fs::metadata(&path) {
                Ok(meta) if meta.is_file() => assets.insert(name, read_capped(&path, name, MAX_ASSET_BYTES)?),
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Read { path, source }),
            }
        }
        Ok(assets)
    }

    /// Adds a file, or replaces it.
    pub fn insert(&mut self, name: impl Into<String>, bytes: impl Into<Arc<[u8]>>) {
        self.files.insert(name.into(), bytes.into());
    }

    /// The bytes of a file.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(AsRef::as_ref)
    }

    /// Whether there is a file of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// True without any file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Names and bytes, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_ref()))
    }

    /// A file as text; `None` when there is none.
    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        let Some(bytes) = self.get(name) else { return Ok(None) };
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(e) => Err(Error::NotUtf8 { file: name.to_owned(), offset: e.valid_up_to() }),
        }
    }

    /// A file as a JSON object; an empty one when there is no such file.
    pub fn json(&self, name: &str) -> Result<Doc> {
        match self.text(name)? {
            Some(text) => Doc::parse(name, text),
            None => Ok(Doc::empty(name)),
        }
    }
}

impl<N: Into<String>, B: Into<Arc<[u8]>>> FromIterator<(N, B)> for Assets {
    fn from_iter<I: IntoIterator<Item = (N, B)>>(files: I) -> Self {
        Assets { files: files.into_iter().map(|(n, b)| (n.into(), b.into())).collect() }
    }
}

/// A sound or picture as it came: the name is for messages, the bytes are undecoded.
#[derive(Clone, Debug)]
pub struct RawFile {
    /// File name, for messages.
    pub name: String,
    /// The undecoded content.
    pub bytes: Vec<u8>,
}

impl RawFile {
    /// Bytes that are in memory already.
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        RawFile { name: name.into(), bytes: bytes.into() }
    }

    /// Reads a file of at most [`MAX_RAW_BYTES`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        Ok(RawFile { bytes: read_capped(path, &name, MAX_RAW_BYTES)?, name })
    }
}

fn read_capped(path: &Path, name: &str, limit: u64) -> Result<Vec<u8>> {
    let fail = |source| Error::Read { path: path.to_owned(), source };
    // Asked before opening: opening a FIFO would wait for its writer, and a device may never end.
    if !std::fs::metadata(path).map_err(fail)?.is_file() {
        return Err(fail(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file")));
    }
    let file = File::open(path).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    if size > limit {
        return Err(Error::TooLarge { file: name.to_owned(), size, limit });
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { file: name.to_owned(), size: bytes.len() as u64, limit });
    }
    Ok(bytes)
}
