//! Messages of types: tensors with symbolic shapes, sequences, maps, optionals.

use super::DataType;

/// The type of a value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TypeProto {
    /// What kind of value.
    #[prost(oneof = "TypeValue", tags = "1, 4, 5, 7, 8, 9")]
    pub value: Option<TypeValue>,
    /// What the value means, for people.
    #[prost(string, tag = "6")]
    pub denotation: String,
}

/// The kinds of types.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum TypeValue {
    /// A dense tensor.
    #[prost(message, tag = "1")]
    TensorType(TensorType),
    /// A list.
    #[prost(message, tag = "4")]
    SequenceType(Box<SequenceType>),
    /// A map.
    #[prost(message, tag = "5")]
    MapType(Box<MapType>),
    /// Something of a runtime's own.
    #[prost(message, tag = "7")]
    OpaqueType(OpaqueType),
    /// A sparse tensor.
    #[prost(message, tag = "8")]
    SparseTensorType(TensorType),
    /// A value that may be absent.
    #[prost(message, tag = "9")]
    OptionalType(Box<OptionalType>),
}

/// A dense or sparse tensor's type.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorType {
    /// The element type.
    #[prost(enumeration = "DataType", tag = "1")]
    pub elem_type: i32,
    /// The shape; absent when even the rank is unknown.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// A sequence's type.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SequenceType {
    /// The type of the elements.
    #[prost(message, optional, boxed, tag = "1")]
    pub elem_type: Option<Box<TypeProto>>,
}

/// A map's type.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MapType {
    /// The type of the keys, an integer type or string.
    #[prost(enumeration = "DataType", tag = "1")]
    pub key_type: i32,
    /// The type of the values.
    #[prost(message, optional, boxed, tag = "2")]
    pub value_type: Option<Box<TypeProto>>,
}

/// An optional's type.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OptionalType {
    /// The type of the value when present.
    #[prost(message, optional, boxed, tag = "1")]
    pub elem_type: Option<Box<TypeProto>>,
}

/// A type that only its domain knows.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct OpaqueType {
    /// The domain.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// The name in it.
    #[prost(string, tag = "2")]
    pub name: String,
}

/// A shape.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorShapeProto {
    /// The sizes.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// One size.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Dimension {
    /// The size; absent when unknown.
    #[prost(oneof = "DimValue", tags = "1, 2")]
    pub value: Option<DimValue>,
    /// What the axis means, for people.
    #[prost(string, tag = "3")]
    pub denotation: String,
}

/// A size: a number or a name.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum DimValue {
    /// A number.
    #[prost(int64, tag = "1")]
    DimValue(i64),
    /// A symbol, or an expression over symbols.
    #[prost(string, tag = "2")]
    DimParam(String),
}
