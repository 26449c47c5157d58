//! Messages from host values: tensors in place or beside the model, strings, sequences, optionals, types.
//! What goes into a model is the exporter's business.

use super::{
    DataLocation, DataType, DimValue, Dimension, OptionalProto, SequenceProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TensorType, TypeProto, TypeValue, ValueKind,
};
use crate::onnx::read::{data_type_of, packing};
use crate::onnx::value::{HostValue, Strings};
use bytes::Bytes;
use frit_ir::Tensor;
use prost::Message;

/// A named text.
pub fn entry(key: impl Into<String>, value: impl Into<String>) -> StringStringEntryProto {
    StringStringEntryProto { key: key.into(), value: value.into() }
}

/// The bytes that a tensor has in `raw_data` or a file: little-endian, elements of fewer than 8 bits packed.
pub fn raw_bytes(tensor: &Tensor) -> Bytes {
    let Some((bits, _)) = packing(data_type_of(tensor.dtype())) else {
        return Bytes::copy_from_slice(tensor.bytes());
    };
    let per_byte = usize::try_from(8 / bits).unwrap_or(1);
    let mask = u8::MAX >> (8 - bits);
    let join =
        |group: &[u8]| (0..8).step_by(bits as usize).zip(group).fold(0, |b, (at, e)| b | ((e & mask) << at));
    tensor.bytes().chunks(per_byte).map(join).collect::<Vec<u8>>().into()
}

/// A tensor with its data in `raw_data`.
pub fn tensor_proto(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto { raw_data: Some(raw_bytes(tensor)), ..declared(name, tensor) }
}

/// A tensor with its data in the file `location` beside the model, from byte `offset` on.
pub fn external_tensor_proto(
    name: &str,
    tensor: &Tensor,
    location: &str,
    offset: u64,
    length: u64,
) -> TensorProto {
    TensorProto {
        data_location: DataLocation::External as i32,
        external_data: vec![
            entry("location", location),
            entry("offset", offset.to_string()),
            entry("length", length.to_string()),
        ],
        ..declared(name, tensor)
    }
}

/// A tensor but for its data.
pub fn declared(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims(tensor.shape()),
        data_type: data_type_of(tensor.dtype()) as i32,
        ..TensorProto::default()
    }
}

fn dims(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect()
}

/// A tensor of strings.
pub fn strings_proto(name: &str, strings: &Strings) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims(&strings.shape),
        data_type: DataType::String as i32,
        string_data: strings.values.iter().map(|s| Bytes::copy_from_slice(s.as_bytes())).collect(),
        ..TensorProto::default()
    }
}

/// A value as test data stores it: the encoded TensorProto, SequenceProto or OptionalProto.
pub fn value_bytes(name: &str, value: &HostValue) -> Vec<u8> {
    match value {
        HostValue::Tensor(t) => tensor_proto(name, t).encode_to_vec(),
        HostValue::Strings(s) => strings_proto(name, s).encode_to_vec(),
        HostValue::Sequence(of) => sequence_proto(name, of).encode_to_vec(),
        HostValue::Optional(of) => optional_proto(name, of.as_deref()).encode_to_vec(),
    }
}

fn sequence_proto(name: &str, of: &[HostValue]) -> SequenceProto {
    let mut proto = SequenceProto {
        name: name.to_owned(),
        elem_type: of.first().map_or(ValueKind::Undefined, kind) as i32,
        ..SequenceProto::default()
    };
    for value in of {
        match value {
            HostValue::Tensor(t) => proto.tensor_values.push(tensor_proto("", t)),
            HostValue::Strings(s) => proto.tensor_values.push(strings_proto("", s)),
            HostValue::Sequence(of) => proto.sequence_values.push(sequence_proto("", of)),
            HostValue::Optional(of) => proto.optional_values.push(optional_proto("", of.as_deref())),
        }
    }
    proto
}

fn optional_proto(name: &str, of: Option<&HostValue>) -> OptionalProto {
    let mut proto = OptionalProto {
        name: name.to_owned(),
        elem_type: of.map_or(ValueKind::Undefined, kind) as i32,
        ..OptionalProto::default()
    };
    match of {
        None => {}
        Some(HostValue::Tensor(t)) => proto.tensor_value = Some(Box::new(tensor_proto("", t))),
        Some(HostValue::Strings(s)) => proto.tensor_value = Some(Box::new(strings_proto("", s))),
        Some(HostValue::Sequence(of)) => proto.sequence_value = Some(Box::new(sequence_proto("", of))),
        Some(HostValue::Optional(of)) => {
            proto.optional_value = Some(Box::new(optional_proto("", of.as_deref())));
        }
    }
    proto
}

fn kind(value: &HostValue) -> ValueKind {
    match value {
        HostValue::Tensor(_) | HostValue::Strings(_) => ValueKind::Tensor,
        HostValue::Sequence(_) => ValueKind::Sequence,
        HostValue::Optional(_) => ValueKind::Optional,
    }
}

/// A tensor's type: None for a shape of unknown rank.
pub fn tensor_type(ty: DataType, shape: Option<Vec<Dimension>>) -> TypeProto {
    let shape = shape.map(|dim| TensorShapeProto { dim });
    let tensor = TensorType { elem_type: ty as i32, shape };
    TypeProto { value: Some(TypeValue::TensorType(tensor)), ..TypeProto::default() }
}

/// A known size.
pub fn size(n: i64) -> Dimension {
    Dimension { value: Some(DimValue::DimValue(n)), ..Dimension::default() }
}

/// A named size.
pub fn symbol(name: impl Into<String>) -> Dimension {
    Dimension { value: Some(DimValue::DimParam(name.into())), ..Dimension::default() }
}
