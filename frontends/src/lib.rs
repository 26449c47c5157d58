//! Builders from what people have (Hugging Face checkpoint folders, ONNX files) to the frit graph.
//! Reading files and building modules belongs here; optimising or running them does not.

pub mod error;
pub mod hf;
pub mod onnx;

pub use error::FrontendError;
