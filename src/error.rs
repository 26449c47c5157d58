//! What can go wrong in the facade and the command line, and which exit status it has. No printing here.

use std::path::PathBuf;

/// Any failure of frit as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The call was wrong: what was asked does not exist or does not fit together.
    #[error("{0}")]
    Usage(String),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of tensors is damaged or holds what is not supported.
    #[error("{}: {why}", path.display())]
    Tensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The path is no model.
    #[error("{} is no model: {why}", path.display())]
    NoModel {
        /// The path.
        path: PathBuf,
        /// What was expected.
        why: String,
    },
    /// The checkpoint could not be built.
    #[cfg(feature = "compile")]
    #[error("{}: {source}", path.display())]
    Frontend {
        /// The checkpoint.
        path: PathBuf,
        /// The cause.
        source: frit_frontends::FrontendError,
    },
    /// An ONNX file could not be read.
    #[cfg(feature = "compile")]
    #[error("{}: {source}", path.display())]
    Onnx {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: frit_frontends::onnx::OnnxError,
    },
    /// An ONNX model could not be imported.
    #[cfg(feature = "compile")]
    #[error("{}: {source}", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: frit_frontends::onnx::import::ImportError,
    },
    /// Test data is missing, damaged or not for this model.
    #[error("{}: {why}", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Results are not the expected ones; what differs was printed.
    #[error("{wrong} of {all} data sets do not match")]
    Mismatch {
        /// How many do not match.
        wrong: usize,
        /// How many were tried.
        all: usize,
    },
    /// The model cannot be written as ONNX.
    #[cfg(feature = "compile")]
    #[error("exporting: {0}")]
    Export(#[from] frit_frontends::onnx::export::ExportError),
    /// The ONNX file could not be written.
    #[cfg(feature = "compile")]
    #[error(transparent)]
    WriteOnnx(#[from] frit_frontends::onnx::export::WriteError),
    /// tract does not take the model.
    #[cfg(feature = "tract")]
    #[error(transparent)]
    Tract(#[from] frit_tract::Error),
    /// A pass failed: an error of frit.
    #[cfg(feature = "compile")]
    #[error("while optimising: {0}")]
    Passes(#[from] frit_passes::PassError),
    /// Loading or running failed.
    #[error(transparent)]
    Runtime(#[from] frit_runtime::RuntimeError),
    /// Text, sound or an image could not be turned into tensors, or back.
    #[error(transparent)]
    Processor(#[from] frit_processors::Error),
    /// Generation failed.
    #[error(transparent)]
    Generate(#[from] frit_runtime::generation::GenerateError),
    /// A tensor could not be made.
    #[error(transparent)]
    Tensor(#[from] frit_ir::TensorError),
    /// JSON could not be written.
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// 1: the work failed. 2: the call was wrong.
    pub fn exit_status(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            #[cfg(feature = "compile")]
            Error::Frontend { source: frit_frontends::FrontendError::Request(_), .. } => 2,
            #[cfg(feature = "compile")]
            Error::Export(e) if e.is_about_the_call() => 2,
            _ => 1,
        }
    }
}
