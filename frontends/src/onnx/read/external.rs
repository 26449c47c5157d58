//! Files beside a model, and only those: opening them safely and mapping them. Tensors are not known here.
//!
//! A location is a relative path of plain names. It is walked one component at a time from a handle of the model's
//! folder, never following a link, and what counts is what the opened handle is, not what a path was a moment ago.

use crate::onnx::error::{ExternalFault, OnnxError};
use crate::onnx::schema::TensorProto;
use bytes::Bytes;
use memmap2::Mmap;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Where external data may be, and the files mapped so far.
#[derive(Debug)]
pub(super) struct External {
    folder: Option<PathBuf>,
    mapped: Mutex<HashMap<String, Arc<Mapped>>>,
}

/// A mapped file.
#[derive(Debug)]
pub(super) struct Mapped(Option<Mmap>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}

/// A range of a mapped file, within it.
pub(super) struct Range {
    pub(super) file: Arc<Mapped>,
    pub(super) start: usize,
    /// True when this call opened the file.
    pub(super) opened: bool,
}

impl External {
    /// External data is in this folder.
    pub(super) fn folder(path: PathBuf) -> Self {
        External { folder: Some(path), mapped: Mutex::default() }
    }

    /// There is none.
    pub(super) fn none() -> Self {
        External { folder: None, mapped: Mutex::default() }
    }

    pub(super) fn path(&self) -> Option<&PathBuf> {
        self.folder.as_ref()
    }

    /// The `needed` bytes that a tensor refers to.
    pub(super) fn range(&self, tensor: &TensorProto, needed: usize) -> Result<Range, OnnxError> {
        let mut location = String::new();
        self.find(tensor, needed, &mut location).map_err(|fault| OnnxError::External {
            name: tensor.name.clone(),
            location,
            fault,
        })
    }

    fn find(
        &self,
        tensor: &TensorProto,
        needed: usize,
        location: &mut String,
    ) -> Result<Range, ExternalFault> {
        let keys = Keys::of(tensor)?;
        *location = keys.location.unwrap_or_default().to_owned();
        let Some(folder) = &self.folder else { return Err(ExternalFault::NoFolder) };
        if let Some(length) = keys.length
            && usize::try_from(length) != Ok(needed)
        {
            let got = usize::try_from(length).unwrap_or(usize::MAX);
            return Err(ExternalFault::Length { expected: needed, got });
        }
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, opened) = match mapped.get(location.as_str()) {
            Some(file) => (file.clone(), false),
            None => {
                let file = Arc::new(map(&open_within(folder, location)?).map_err(ExternalFault::Io)?);
                mapped.insert(location.clone(), file.clone());
                (file, true)
            }
        };
        let len = (*file).as_ref().len();
        let start = usize::try_from(keys.offset).ok();
        match start.filter(|s| s.checked_add(needed).is_some_and(|end| end <= len)) {
            Some(start) => Ok(Range { file, start, opened }),
            None => Err(ExternalFault::Range {
                offset: keys.offset,
                length: u64::try_from(needed).unwrap_or(u64::MAX),
                file: u64::try_from(len).unwrap_or(u64::MAX),
            }),
        }
    }
}

/// The entries of `external_data`.
struct Keys<'t> {
    location: Option<&'t str>,
    offset: u64,
    length: Option<u64>,
}

impl<'t> Keys<'t> {
    fn of(tensor: &'t TensorProto) -> Result<Self, ExternalFault> {
        let find = |key: &str| {
            let mut all = tensor.external_data.iter().filter(|e| e.key == key);
            match (all.next(), all.next()) {
                (Some(_), Some(second)) => Err(ExternalFault::Key {
                    key: key.to_owned(),
                    value: second.value.clone(),
                    expected: "the key is given twice",
                }),
                (first, _) => Ok(first.map(|e| e.value.as_str())),
            }
        };
        let number = |key: &str| match find(key)? {
            None => Ok(None),
            // `parse` alone would take a plus sign.
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() => {
                text.parse::<u64>().map(Some).map_err(|_| ExternalFault::Key {
                    key: key.to_owned(),
                    value: text.to_owned(),
                    expected: "beyond 64 bits",
                })
            }
            Some(text) => Err(ExternalFault::Key {
                key: key.to_owned(),
                value: text.to_owned(),
                expected: "expected a number of bytes in decimal digits",
            }),
        };
        Ok(Keys {
            location: find("location")?,
            offset: number("offset")?.unwrap_or(0),
            length: number("length")?,
        })
    }
}

/// The names that a location leads through, or why it is refused.
fn components(location: &str) -> Result<Vec<&str>, ExternalFault> {
    if location.is_empty() {
        return Err(ExternalFault::Path("there is no location"));
    }
    if location.contains('\0') {
        return Err(ExternalFault::Path("the path holds a NUL"));
    }
    if location.contains('\\') {
        return Err(ExternalFault::Path("the path holds a backslash"));
    }
    if location.contains(':') {
        return Err(ExternalFault::Path("the path holds a colon: a drive, a stream or an address"));
    }
    if location.starts_with('/') {
        return Err(ExternalFault::Path("the path is absolute"));
    }
    let mut names = Vec::new();
    for name in location.split('/') {
        match name {
            "" => return Err(ExternalFault::Path("the path holds an empty name")),
            ".." => return Err(ExternalFault::Path("the path leads upwards")),
            "." => {}
            name => names.push(name),
        }
    }
    if names.is_empty() {
        return Err(ExternalFault::Path("the path names no file"));
    }
    Ok(names)
}

#[cfg(unix)]
fn open_within(folder: &Path, location: &str) -> Result<File, ExternalFault> {
    use rustix::fs::{FileType, Mode, OFlags, fstat, open, openat};
    let names = components(location)?;
    let (last, parents) = names.split_last().ok_or(ExternalFault::Path("the path names no file"))?;
    let io = |e: rustix::io::Errno| ExternalFault::Io(e.into());
    let entry = |component: &str, what| ExternalFault::Entry { component: component.to_owned(), what };
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // The folder itself is the user's choice, links and all.
    let mut at = open(folder, directory, Mode::empty()).map_err(io)?;
    for name in parents {
        at = openat(&at, *name, directory | OFlags::NOFOLLOW, Mode::empty()).map_err(|e| match e {
            // A link is ELOOP or, with DIRECTORY, ENOTDIR.
            rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR => {
                entry(name, "is not a folder, or is a link")
            }
            other => io(other),
        })?;
    }
    // NONBLOCK: opening a FIFO must not wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(&at, *last, flags, Mode::empty()).map_err(|e| match e {
        rustix::io::Errno::LOOP => entry(last, "is a link"),
        rustix::io::Errno::NXIO => entry(last, "is not a regular file"),
        other => io(other),
    })?;
    let stat = fstat(&file).map_err(io)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(entry(last, "is not a regular file"));
    }
    if stat.st_nlink != 1 {
        return Err(entry(last, "has another name too (a hard link)"));
    }
    Ok(File::from(file))
}

/// Where there are no handles of folders: every component is asked before it is entered.
#[cfg(not(unix))]
fn open_within(folder: &Path, location: &str) -> Result<File, ExternalFault> {
    let names = components(location)?;
    let mut path = folder.to_path_buf();
    for (i, name) in names.iter().enumerate() {
        path.push(name);
        let kind = std::fs::symlink_metadata(&path).map_err(ExternalFault::Io)?.file_type();
        let wanted = if i + 1 == names.len() { kind.is_file() } else { kind.is_dir() };
        if !wanted {
            let component = (*name).to_owned();
            return Err(ExternalFault::Entry {
                component,
                what: "is a link, or not of the kind it should be",
            });
        }
    }
    File::open(&path).map_err(ExternalFault::Io)
}

fn map(file: &File) -> std::io::Result<Mapped> {
    if file.metadata()?.len() == 0 {
        return Ok(Mapped(None));
    }
    // SAFETY: the map is private and read-only. That no other process shrinks or rewrites a model's files while it is
    // open is the contract of every reader that maps files; it is stated in the crate's documentation.
    Ok(Mapped(Some(unsafe { Mmap::map(file) }?)))
}

/// Maps the model file itself, whose path is the user's.
pub(super) fn map_model(path: &Path) -> std::io::Result<Bytes> {
    // Asked before opening: opening a FIFO would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(Bytes::from_owner(map(&File::open(path)?)?))
}
