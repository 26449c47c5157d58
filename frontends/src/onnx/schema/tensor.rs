//! Messages of tensors, dense and sparse. Turning them into numbers is `read`'s business.

use super::StringStringEntryProto;
use bytes::Bytes;

/// A tensor: dims, element type, and elements in one of several fields or in a file beside the model.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorProto {
    /// The shape.
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    /// The element type, a [`DataType`].
    #[prost(enumeration = "DataType", tag = "2")]
    pub data_type: i32,
    /// The part of a larger tensor that this is; nothing writes it.
    #[prost(message, optional, tag = "3")]
    pub segment: Option<Segment>,
    /// f32, and pairs of them for complex64.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// All types of at most 32 bits but f32 and u32; 16-bit floats as their bits, 4- and 2-bit ones packed in bytes.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// Strings.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub string_data: Vec<Bytes>,
    /// i64.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// The tensor's name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Text for people.
    #[prost(string, tag = "12")]
    pub doc_string: String,
    /// Little-endian elements, any type but strings.
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub raw_data: Option<Bytes>,
    /// Where external data is: `location`, `offset`, `length`, `checksum`.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// Whether the elements are in this message or in a file.
    #[prost(enumeration = "DataLocation", tag = "14")]
    pub data_location: i32,
    /// f64, and pairs of them for complex128.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// u64 and u32.
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
    /// Named texts.
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// Element types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum DataType {
    /// Not said.
    Undefined = 0,
    /// f32.
    Float = 1,
    /// u8.
    Uint8 = 2,
    /// i8.
    Int8 = 3,
    /// u16.
    Uint16 = 4,
    /// i16.
    Int16 = 5,
    /// i32.
    Int32 = 6,
    /// i64.
    Int64 = 7,
    /// Bytes, by convention UTF-8.
    String = 8,
    /// One byte, 0 or 1.
    Bool = 9,
    /// IEEE 754 binary16.
    Float16 = 10,
    /// f64.
    Double = 11,
    /// u32.
    Uint32 = 12,
    /// u64.
    Uint64 = 13,
    /// Two f32.
    Complex64 = 14,
    /// Two f64.
    Complex128 = 15,
    /// The upper half of an f32.
    Bfloat16 = 16,
    /// 4 bits of exponent, 3 of mantissa; NaN, no infinities.
    Float8e4m3fn = 17,
    /// The same without negative zero.
    Float8e4m3fnuz = 18,
    /// 5 bits of exponent, 2 of mantissa, as IEEE 754.
    Float8e5m2 = 19,
    /// The same without infinities and negative zero.
    Float8e5m2fnuz = 20,
    /// 0 to 15, two a byte.
    Uint4 = 21,
    /// -8 to 7, two a byte.
    Int4 = 22,
    /// 2 bits of exponent, 1 of mantissa, two a byte.
    Float4e2m1 = 23,
    /// A power of two.
    Float8e8m0 = 24,
    /// 0 to 3, four a byte.
    Uint2 = 25,
    /// -2 to 1, four a byte.
    Int2 = 26,
    /// 2 bits of exponent, 3 of mantissa.
    Float6e2m3 = 27,
    /// 3 bits of exponent, 2 of mantissa.
    Float6e3m2 = 28,
}

/// Where a tensor's elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum DataLocation {
    /// In the message.
    Default = 0,
    /// In the file that `external_data` names.
    External = 1,
}

/// A part of a larger tensor.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Segment {
    /// First element.
    #[prost(int64, tag = "1")]
    pub begin: i64,
    /// One past the last.
    #[prost(int64, tag = "2")]
    pub end: i64,
}

/// A tensor of mostly zeros.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SparseTensorProto {
    /// The elements that are not zero, `[n]`; its name is the sparse tensor's.
    #[prost(message, optional, tag = "1")]
    pub values: Option<TensorProto>,
    /// i64: linear indices `[n]` or coordinates `[n, rank]`, ascending.
    #[prost(message, optional, tag = "2")]
    pub indices: Option<TensorProto>,
    /// The shape.
    #[prost(int64, repeated, tag = "3")]
    pub dims: Vec<i64>,
}
