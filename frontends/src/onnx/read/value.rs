//! Stored values: what a `.pb` file of test data holds, by the type the graph declares for it.
//! Models are `model`'s business.

use super::external::External;
use super::model::Budget;
use super::tensor::TensorReader;
use super::wire::decode;
use crate::onnx::error::OnnxError;
use crate::onnx::schema::{
    OptionalProto, SequenceProto, SparseTensorProto, TensorProto, TypeProto, TypeValue, ValueKind,
};
use crate::onnx::value::HostValue;
use bytes::Bytes;

/// Decodes a stored value of type `ty`: a TensorProto, SparseTensorProto, SequenceProto or OptionalProto. Without a
/// type it is a tensor. `what` names the bytes in errors. No file is opened.
pub fn read_value(
    bytes: impl Into<Bytes>,
    ty: Option<&TypeProto>,
    what: &str,
) -> Result<HostValue, OnnxError> {
    let bytes = bytes.into();
    let external = External::none();
    let budget = Budget::default();
    budget.grow(bytes.len());
    let reader = TensorReader { external: &external, budget: &budget };
    match ty.and_then(|t| t.value.as_ref()) {
        None | Some(TypeValue::TensorType(_)) => reader.tensor(&decode::<TensorProto>(bytes, what)?),
        Some(TypeValue::SparseTensorType(_)) => reader.sparse(&decode::<SparseTensorProto>(bytes, what)?),
        Some(TypeValue::SequenceType(_)) => sequence(&reader, &decode::<SequenceProto>(bytes, what)?),
        Some(TypeValue::OptionalType(_)) => optional(&reader, &decode::<OptionalProto>(bytes, what)?),
        Some(TypeValue::MapType(_)) => Err(unsupported(what, "a map")),
        Some(TypeValue::OpaqueType(_)) => Err(unsupported(what, "an opaque value")),
    }
}

fn unsupported(name: &str, found: &str) -> OnnxError {
    let expected = "a tensor, sequence or optional".to_owned();
    OnnxError::Value { name: name.to_owned(), expected, found: found.to_owned() }
}

fn sequence(reader: &TensorReader<'_>, proto: &SequenceProto) -> Result<HostValue, OnnxError> {
    let elements: Result<Vec<HostValue>, OnnxError> = match ValueKind::try_from(proto.elem_type) {
        // An empty sequence may leave its kind out.
        Ok(ValueKind::Undefined | ValueKind::Tensor) => {
            proto.tensor_values.iter().map(|t| reader.tensor(t)).collect()
        }
        Ok(ValueKind::SparseTensor) => proto.sparse_tensor_values.iter().map(|t| reader.sparse(t)).collect(),
        Ok(ValueKind::Sequence) => proto.sequence_values.iter().map(|s| sequence(reader, s)).collect(),
        Ok(ValueKind::Optional) => proto.optional_values.iter().map(|o| optional(reader, o)).collect(),
        Ok(ValueKind::Map) => Err(unsupported(&proto.name, "a map")),
        Err(_) => Err(unsupported(&proto.name, "a value of unknown kind")),
    };
    elements.map(HostValue::Sequence)
}

fn optional(reader: &TensorReader<'_>, proto: &OptionalProto) -> Result<HostValue, OnnxError> {
    let value = match ValueKind::try_from(proto.elem_type) {
        Ok(ValueKind::Undefined) => None,
        Ok(ValueKind::Tensor) => proto.tensor_value.as_ref().map(|t| reader.tensor(t)).transpose()?,
        Ok(ValueKind::SparseTensor) => {
            proto.sparse_tensor_value.as_ref().map(|t| reader.sparse(t)).transpose()?
        }
        Ok(ValueKind::Sequence) => proto.sequence_value.as_ref().map(|s| sequence(reader, s)).transpose()?,
        Ok(ValueKind::Optional) => proto.optional_value.as_ref().map(|o| optional(reader, o)).transpose()?,
        Ok(ValueKind::Map) => return Err(unsupported(&proto.name, "a map")),
        Err(_) => return Err(unsupported(&proto.name, "a value of unknown kind")),
    };
    Ok(HostValue::Optional(value.map(Box::new)))
}
