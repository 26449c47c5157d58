//! Builders from what people have (Hugging Face checkpoint folders) to the frit graph.
//! Reading files and building modules belongs here; optimising or running them does not.

pub mod error;
pub mod hf;

pub use error::FrontendError;
