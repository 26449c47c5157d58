//! frit: compiles neural networks ahead of time into one file, and runs that file.
//!
//! This crate is the facade: it ties the frontends, the passes and the runtime together. The work is in the
//! crates it re-exports; nothing of graphs, kernels or file formats belongs here.

pub mod answer;
pub mod error;
#[cfg(feature = "compile")]
pub mod export;
pub mod generate;
pub mod load;
#[cfg(feature = "compile")]
pub mod onnx;
pub mod tensors;
#[cfg(feature = "tract")]
pub mod tract;
#[cfg(feature = "compile")]
pub mod verify;

pub use error::Error;
pub use frit_backend as backend;
#[cfg(feature = "compile")]
pub use frit_frontends as frontends;
pub use frit_ir as ir;
#[cfg(feature = "compile")]
pub use frit_passes as passes;
pub use frit_processors as processors;
pub use frit_runtime as runtime;
pub use load::{LoadOptions, Loaded, load};
