//! The typed op graph of frit: types, op table, text format, verifier, interpreter.
//! It knows no file format, no device and no protobuf.

pub mod dtype;
pub mod tensor;

pub use dtype::{DType, Element};
pub use tensor::{Storage, Tensor, TensorError};
