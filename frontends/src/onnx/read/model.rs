//! A model file: opened, mapped and decoded. Single tensors are `tensor`'s business, files beside it `external`'s.

use super::external::External;
use super::tensor::TensorReader;
use crate::onnx::error::OnnxError;
use crate::onnx::schema::{GraphProto, ModelProto, SparseTensorProto, TensorProto};
use crate::onnx::value::HostValue;
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Memory that any model may take, whatever its size.
const FREE: usize = 64 << 20;
/// Memory that a model may take for each byte of its files: four times unpacking 2-bit integers, some copies.
const PER_BYTE: usize = 8;

/// A decoded model and the way to its data.
#[derive(Debug)]
pub struct OnnxModel {
    proto: ModelProto,
    external: External,
    budget: Budget,
}

impl OnnxModel {
    /// Maps and decodes a file. Data in files beside it is found in its folder.
    pub fn open(path: &Path) -> Result<Self, OnnxError> {
        let io = |source| OnnxError::Io { path: path.to_path_buf(), source };
        let bytes = super::external::map_model(path).map_err(io)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::decode(bytes, &path.display().to_string(), External::folder(folder.to_path_buf()))
    }

    /// Decodes a model from memory. It may not refer to files.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, OnnxError> {
        Self::decode(bytes.into(), "the model", External::none())
    }

    fn decode(bytes: Bytes, what: &str, external: External) -> Result<Self, OnnxError> {
        let budget = Budget::default();
        budget.grow(bytes.len());
        let proto: ModelProto = super::wire::decode(bytes, what)?;
        if proto.graph.is_none() {
            return Err(OnnxError::NoGraph { what: what.to_owned() });
        }
        Ok(OnnxModel { proto, external, budget })
    }

    /// The decoded message.
    pub fn proto(&self) -> &ModelProto {
        &self.proto
    }

    /// The graph that is run; [`OnnxModel::open`] made sure that there is one.
    pub fn graph(&self) -> Option<&GraphProto> {
        self.proto.graph.as_ref()
    }

    /// The folder that external data is in; None for a model given as bytes.
    pub fn folder(&self) -> Option<&PathBuf> {
        self.external.path()
    }

    /// The value of a tensor of this model: [`HostValue::Tensor`] or [`HostValue::Strings`].
    pub fn tensor(&self, proto: &TensorProto) -> Result<HostValue, OnnxError> {
        self.reader().tensor(proto)
    }

    /// The dense value of a sparse tensor of this model.
    pub fn sparse(&self, proto: &SparseTensorProto) -> Result<HostValue, OnnxError> {
        self.reader().sparse(proto)
    }

    fn reader(&self) -> TensorReader<'_> {
        TensorReader { external: &self.external, budget: &self.budget }
    }
}

/// How much memory reading may still take. It grows with the files that are opened.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicUsize,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { left: AtomicUsize::new(FREE) }
    }
}

impl Budget {
    /// Allows for a file of `bytes`.
    pub(super) fn grow(&self, bytes: usize) {
        let more = |left: usize| Some(left.saturating_add(bytes.saturating_mul(PER_BYTE)));
        // The closure never declines, so neither does the update.
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Takes `bytes`, or says what is left.
    pub(super) fn take(&self, bytes: usize) -> Result<(), usize> {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .map(|_| ())
    }
}
