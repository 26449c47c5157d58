//! ONNX files: the schema, reading, import to the graph, export from it.
//! Each has a folder; this file only names them.

pub mod error;
pub mod export;
pub mod import;
pub mod read;
pub mod schema;
pub mod value;

pub use error::{ExternalFault, OnnxError, TensorFault};
pub use read::OnnxModel;
pub use value::{HostValue, Strings};
