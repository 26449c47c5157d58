//! An exported model as bytes and as a file: protobuf written piece by piece, so that no weight is copied, and weights
//! in a file beside the model where it would exceed protobuf's 2 GB. What is in the model is not known here.

use super::Exported;
use crate::onnx::schema::{GraphProto, ModelProto, TensorProto, build};
use frit_ir::Tensor;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Where weights go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum External {
    /// Into the model, or into a file beside it when the model would exceed 2 GB.
    #[default]
    Auto,
    /// Into a file beside the model, but for small ones.
    Always,
    /// Into the model.
    Never,
}

/// Protobuf's limit on a message.
const LIMIT: u64 = (1 << 31) - 1;
/// Smaller tensors stay in the model.
const SMALL: usize = 1024;
/// Where each tensor of an external file begins, so that it can be mapped.
const ALIGN: u64 = 4096;
/// Field numbers that are written by hand.
const MODEL_GRAPH: u32 = 7;
const GRAPH_INITIALIZER: u32 = 5;
const TENSOR_RAW_DATA: u32 = 9;

/// A constant of the outermost graph.
#[derive(Clone, Debug)]
pub struct Initializer {
    /// Its name in the graph.
    pub name: String,
    /// Its numbers, shared with the module.
    pub tensor: Tensor,
}

/// Why a model could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// One protobuf message cannot be so large.
    #[error(
        "the model needs {0} bytes, and one ONNX file holds less than 2 GB: its weights must be external data"
    )]
    TooLarge(u64),
    /// The path cannot name a model.
    #[error("{}: expected the path of a file", .0.display())]
    Path(PathBuf),
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The model's bytes.
    pub model_bytes: u64,
    /// The file of weights beside it and its bytes.
    pub external: Option<(PathBuf, u64)>,
}

/// A tensor's elements as ONNX stores them; only packed ones are copied.
fn raw_bytes(t: &Tensor) -> Cow<'_, [u8]> {
    if t.dtype().is_narrow() { build::raw_bytes(t).to_vec().into() } else { t.bytes().into() }
}

/// An initializer's message but for its elements.
fn header(i: &Initializer, at: Option<&(String, u64, u64)>) -> TensorProto {
    match at {
        None => build::declared(&i.name, &i.tensor),
        Some((file, offset, length)) => {
            build::external_tensor_proto(&i.name, &i.tensor, file, *offset, *length)
        }
    }
}

/// Lengths in protobuf are 64 bits wide; a usize always fits.
fn wide(n: usize) -> u64 {
    n as u64
}

fn field_len(tag: u32, len: u64) -> u64 {
    wide(key_len(tag)).saturating_add(wide(encoded_len_varint(len))).saturating_add(len)
}

/// The parts of the file in order, each weight as its message's head and its elements.
struct Pieces<'e> {
    head: Vec<u8>,
    graph: Vec<u8>,
    initializers: Vec<(Vec<u8>, Option<Cow<'e, [u8]>>, u64)>,
    graph_len: u64,
}

impl<'e> Pieces<'e> {
    fn new(e: &'e Exported, places: &[Option<(String, u64, u64)>]) -> Self {
        let model = ModelProto { graph: None, ..e.model.clone() };
        let graph = e.model.graph.as_ref().map(GraphProto::encode_to_vec).unwrap_or_default();
        let mut graph_len = wide(graph.len());
        let mut initializers = Vec::with_capacity(e.initializers.len());
        for (n, i) in e.initializers.iter().enumerate() {
            let place = places.get(n).and_then(Option::as_ref);
            let head = header(i, place).encode_to_vec();
            let data = place.is_none().then(|| raw_bytes(&i.tensor));
            let len = wide(head.len())
                .saturating_add(data.as_ref().map_or(0, |d| field_len(TENSOR_RAW_DATA, wide(d.len()))));
            graph_len = graph_len.saturating_add(field_len(GRAPH_INITIALIZER, len));
            initializers.push((head, data, len));
        }
        Pieces { head: model.encode_to_vec(), graph, initializers, graph_len }
    }

    fn len(&self) -> u64 {
        wide(self.head.len()).saturating_add(field_len(MODEL_GRAPH, self.graph_len))
    }

    fn write(&self, to: &mut impl Write) -> std::io::Result<()> {
        let prefix = |to: &mut dyn Write, tag: u32, len: u64| {
            let mut bytes = Vec::new();
            encode_key(tag, WireType::LengthDelimited, &mut bytes);
            encode_varint(len, &mut bytes);
            to.write_all(&bytes)
        };
        to.write_all(&self.head)?;
        prefix(to, MODEL_GRAPH, self.graph_len)?;
        to.write_all(&self.graph)?;
        for (head, data, len) in &self.initializers {
            prefix(to, GRAPH_INITIALIZER, *len)?;
            to.write_all(head)?;
            if let Some(data) = data {
                prefix(to, TENSOR_RAW_DATA, wide(data.len()))?;
                to.write_all(data)?;
            }
        }
        Ok(())
    }
}

impl Exported {
    /// The whole model in memory.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WriteError> {
        let pieces = Pieces::new(self, &[]);
        if pieces.len() > LIMIT {
            return Err(WriteError::TooLarge(pieces.len()));
        }
        let mut out = Vec::new();
        let written = pieces.write(&mut out);
        written.map_err(|source| WriteError::Io { path: "memory".into(), source })?;
        Ok(out)
    }

    /// Writes the model to `path`, and weights beside it to `path` with `.data` appended where they are external. Files
    /// that stand there stay until the new ones are whole.
    pub fn write(&self, path: &Path, external: External) -> Result<Written, WriteError> {
        let bad = || WriteError::Path(path.to_path_buf());
        let name = path.file_name().and_then(|n| n.to_str()).ok_or_else(bad)?;
        let folder = match path.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        };
        let inline = Pieces::new(self, &[]);
        let outside = match external {
            External::Always => true,
            External::Never => false,
            External::Auto => inline.len() > LIMIT,
        };
        if !outside {
            return self.finish(&inline, path, folder, None);
        }
        drop(inline);
        let data_name = format!("{name}.data");
        let data_path = folder.join(&data_name);
        let (places, length) = self.places(&data_name);
        let io = |source| WriteError::Io { path: data_path.clone(), source };
        replace(folder, &data_path, |to| {
            let mut at = 0u64;
            for (i, place) in self.initializers.iter().zip(&places) {
                let Some((_, offset, _)) = place else { continue };
                let gap = usize::try_from(offset.saturating_sub(at)).unwrap_or(0);
                to.write_all(&vec![0u8; gap])?;
                let data = raw_bytes(&i.tensor);
                to.write_all(&data)?;
                at = offset.saturating_add(wide(data.len()));
            }
            Ok(())
        })
        .map_err(io)?;
        self.finish(&Pieces::new(self, &places), path, folder, Some((data_path.clone(), length)))
    }

    /// For every initializer where it lies in the external file; None for one that stays in the model.
    fn places(&self, file: &str) -> (Vec<Option<(String, u64, u64)>>, u64) {
        let mut at = 0u64;
        let mut places = Vec::with_capacity(self.initializers.len());
        for i in &self.initializers {
            let len = raw_bytes(&i.tensor).len();
            if len < SMALL {
                places.push(None);
                continue;
            }
            let offset = at.next_multiple_of(ALIGN);
            places.push(Some((file.to_owned(), offset, wide(len))));
            at = offset.saturating_add(wide(len));
        }
        (places, at)
    }

    fn finish(
        &self,
        pieces: &Pieces<'_>,
        path: &Path,
        folder: &Path,
        external: Option<(PathBuf, u64)>,
    ) -> Result<Written, WriteError> {
        if pieces.len() > LIMIT {
            return Err(WriteError::TooLarge(pieces.len()));
        }
        replace(folder, path, |to| pieces.write(to))
            .map_err(|source| WriteError::Io { path: path.to_path_buf(), source })?;
        Ok(Written { model_bytes: pieces.len(), external })
    }
}

/// Writes a file beside its place and moves it there.
fn replace(
    folder: &Path,
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".frit-export-").tempfile_in(folder)?;
    {
        let mut to = BufWriter::new(file.as_file_mut());
        write(&mut to)?;
        to.flush()?;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Temporary files are their owner's alone; a model is an ordinary file.
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}
