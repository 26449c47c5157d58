//! Messages of values that are not tensors, as test data and tools store them.

use super::{SparseTensorProto, TensorProto};
use bytes::Bytes;

/// A list of values of one kind.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SequenceProto {
    /// The value's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The kind of the elements: which of the lists below holds them.
    #[prost(enumeration = "ValueKind", tag = "2")]
    pub elem_type: i32,
    /// Tensors.
    #[prost(message, repeated, tag = "3")]
    pub tensor_values: Vec<TensorProto>,
    /// Sparse tensors.
    #[prost(message, repeated, tag = "4")]
    pub sparse_tensor_values: Vec<SparseTensorProto>,
    /// Sequences.
    #[prost(message, repeated, tag = "5")]
    pub sequence_values: Vec<SequenceProto>,
    /// Maps.
    #[prost(message, repeated, tag = "6")]
    pub map_values: Vec<MapProto>,
    /// Optionals.
    #[prost(message, repeated, tag = "7")]
    pub optional_values: Vec<OptionalProto>,
}

/// A map: keys beside a sequence of values.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MapProto {
    /// The value's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The type of the keys.
    #[prost(enumeration = "super::DataType", tag = "2")]
    pub key_type: i32,
    /// Integer keys.
    #[prost(int64, repeated, tag = "3")]
    pub keys: Vec<i64>,
    /// String keys.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub string_keys: Vec<Bytes>,
    /// The values.
    #[prost(message, optional, boxed, tag = "5")]
    pub values: Option<Box<SequenceProto>>,
}

/// A value that may be absent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OptionalProto {
    /// The value's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The kind of the value; undefined when absent.
    #[prost(enumeration = "ValueKind", tag = "2")]
    pub elem_type: i32,
    /// A tensor.
    #[prost(message, optional, boxed, tag = "3")]
    pub tensor_value: Option<Box<TensorProto>>,
    /// A sparse tensor.
    #[prost(message, optional, boxed, tag = "4")]
    pub sparse_tensor_value: Option<Box<SparseTensorProto>>,
    /// A sequence.
    #[prost(message, optional, boxed, tag = "5")]
    pub sequence_value: Option<Box<SequenceProto>>,
    /// A map.
    #[prost(message, optional, boxed, tag = "6")]
    pub map_value: Option<Box<MapProto>>,
    /// An optional.
    #[prost(message, optional, boxed, tag = "7")]
    pub optional_value: Option<Box<OptionalProto>>,
}

/// Kinds of values in sequences and optionals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ValueKind {
    /// Not said, or nothing.
    Undefined = 0,
    /// A tensor.
    Tensor = 1,
    /// A sparse tensor.
    SparseTensor = 2,
    /// A sequence.
    Sequence = 3,
    /// A map.
    Map = 4,
    /// An optional.
    Optional = 5,
}
