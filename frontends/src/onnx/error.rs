//! Why an ONNX file cannot be read. Only error types belong here; what importing an operator says is the importer's.

use super::schema::DataType;
use frit_ir::TensorError;
use std::path::PathBuf;

/// Why a file, or a value in it, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The system refused to open or map a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was opened.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are not the protobuf message they should be.
    #[error("{what} is not valid protobuf: {source}")]
    Decode {
        /// The file, or what the bytes were said to be.
        what: String,
        /// What is wrong.
        source: prost::DecodeError,
    },
    /// The bytes decode to far more memory than they are.
    #[error(
        "{what}: its {bytes} bytes decode to more than {limit} bytes of messages; no model of that size does"
    )]
    Amplified {
        /// The file, or what the bytes were said to be.
        what: String,
        /// Bytes in the file.
        bytes: usize,
        /// Bytes of memory allowed.
        limit: usize,
    },
    /// The message decodes but no model is in it.
    #[error("{what} holds no graph: it is not an ONNX model")]
    NoGraph {
        /// The file.
        what: String,
    },
    /// A tensor's declaration and its data do not fit each other, or cannot be used.
    #[error("tensor {name:?}: {fault}")]
    Tensor {
        /// The tensor's name.
        name: String,
        /// What is wrong.
        fault: TensorFault,
    },
    /// External data that cannot, or must not, be read.
    #[error("tensor {name:?}: external data {location:?}: {fault}")]
    External {
        /// The tensor's name.
        name: String,
        /// The location it gives.
        location: String,
        /// What is wrong.
        fault: ExternalFault,
    },
    /// A stored value (sequence, optional) that is not of the type it should have.
    #[error("value {name:?}: expected {expected}, found {found}")]
    Value {
        /// The value's name.
        name: String,
        /// The type asked for.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// What is wrong with a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorFault {
    /// A size below zero or beyond the address space.
    #[error("{0:?} is not a shape")]
    Shape(Vec<i64>),
    /// No such element type.
    #[error("element type {0} does not exist")]
    UnknownType(i32),
    /// An element type that frit has no tensors of.
    #[error("elements of type {0:?} are not supported")]
    Unsupported(DataType),
    /// Another number of elements than the shape has.
    #[error("`{field}` holds {got}, dims {dims:?} of {dtype:?} need {expected}")]
    Count {
        /// The field of the message.
        field: &'static str,
        /// The shape.
        dims: Vec<usize>,
        /// The element type.
        dtype: DataType,
        /// Elements, or bytes of `raw_data`, needed.
        expected: usize,
        /// What is there.
        got: usize,
    },
    /// Data in two places, or in a field of another type.
    #[error("data in `{found}`, where {dtype:?} keeps none or has it elsewhere too")]
    Place {
        /// The field of the message.
        found: &'static str,
        /// The element type.
        dtype: DataType,
    },
    /// A part of a larger tensor.
    #[error("`segment` is not supported")]
    Segment,
    /// A number that the element type does not have.
    #[error("element {index} is {value}, which is no {dtype:?}")]
    Range {
        /// Which element of the field.
        index: usize,
        /// What it is.
        value: i64,
        /// The element type.
        dtype: DataType,
    },
    /// A string that is not UTF-8.
    #[error("element {index} is not UTF-8")]
    Utf8 {
        /// Which element.
        index: usize,
    },
    /// A tensor of another type than the place allows.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What the place needs.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// Indices of a sparse tensor outside its shape, repeated, or not ascending.
    #[error("sparse element {index}: {what}")]
    Sparse {
        /// Which element.
        index: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// More memory than the file's size justifies.
    #[error("would take {wanted} bytes of memory, beyond the {left} left for a file of this size")]
    Budget {
        /// What it would take.
        wanted: usize,
        /// What is left.
        left: usize,
    },
    /// The tensor itself cannot be made.
    #[error(transparent)]
    Make(#[from] TensorError),
}

/// What is wrong with external data.
#[derive(Debug, thiserror::Error)]
pub enum ExternalFault {
    /// A model given as bytes has no folder.
    #[error("a model given as bytes may not refer to files")]
    NoFolder,
    /// No `location`, or one that is not a plain relative path.
    #[error("refused: {0}")]
    Path(&'static str),
    /// What the path leads to is not a regular file of the model's own.
    #[error("refused: {component:?} {what}")]
    Entry {
        /// The part of the path.
        component: String,
        /// What it is.
        what: &'static str,
    },
    /// `offset` or `length` is not a plain number, or a key is given twice.
    #[error("`{key}` is {value:?}: {expected}")]
    Key {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What was expected.
        expected: &'static str,
    },
    /// `length` is not what dims and type need.
    #[error("`length` is {got}, dims and type need {expected}")]
    Length {
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
    /// The range is not within the file.
    #[error("bytes {offset} to {offset}+{length} are not within the file of {file} bytes")]
    Range {
        /// First byte.
        offset: u64,
        /// How many.
        length: u64,
        /// Bytes in the file.
        file: u64,
    },
    /// The system refused.
    #[error("{0}")]
    Io(std::io::Error),
}
