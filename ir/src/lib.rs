//! The typed op graph of frit: types, op table, text format, verifier, interpreter.
//! It knows no file format, no device and no protobuf.

pub mod binding;
pub mod builder;
pub mod dim;
pub mod docs;
pub mod dot;
pub mod dtype;
pub mod graph;
pub mod interp;
pub mod module;
mod name;
pub mod narrow;
pub mod op;
pub mod random;
pub mod tensor;
pub mod text;
pub mod types;
pub mod verify;

pub use builder::{BuildError, GraphBuilder};
pub use dim::{Bindings, Dim, DimError};
pub use dtype::{DType, Element};
pub use graph::{Graph, InputDefault, Node, NodeId, State, Value, ValueDef, ValueId};
pub use module::{Module, Weight, WeightId, WeightTable};
pub use narrow::{RoundMode, Rounding};
pub use op::Op;
pub use tensor::{Storage, Tensor, TensorError};
pub use types::{Shape, TensorType};
