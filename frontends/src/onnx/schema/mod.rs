//! The messages of ONNX's public schema (onnx.proto3 and onnx-data.proto3) by their field numbers, as plain prost structs.
//! Only the wire format belongs here: no meaning, no checks (`read` has those), no operators (`import`, `export`).
//!
//! Unknown fields are skipped, as protobuf does; nesting is limited by prost (100 messages). Byte fields are
//! [`bytes::Bytes`]: decoded from a `Bytes` that owns a mapped file they are slices of it, not copies.

pub mod build;
mod data;
mod graph;
mod model;
mod tensor;
mod types;

pub use data::{MapProto, OptionalProto, SequenceProto, ValueKind};
pub use graph::{
    AttributeProto, AttributeType, FunctionProto, GraphProto, IntIntListEntryProto,
    NodeDeviceConfigurationProto, NodeProto, ShardedDimProto, ShardedSize, ShardingSpecProto,
    SimpleShardedDimProto, TensorAnnotation, ValueInfoProto,
};
pub use model::{
    DeviceConfigurationProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TrainingInfoProto,
};
pub use tensor::{DataLocation, DataType, Segment, SparseTensorProto, TensorProto};
pub use types::{
    DimValue, Dimension, MapType, OpaqueType, OptionalType, SequenceType, TensorShapeProto, TensorType,
    TypeProto, TypeValue,
};

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use prost::Message;

    /// The bytes of a file as protobuf's rules give them, written by hand: field numbers are what this checks.
    #[test]
    fn field_numbers() {
        let wire: &[u8] = &[
            0x08, 0x0a, // ir_version = 10
            0x12, 0x01, b'p', // producer_name
            0x3a, 0x15, // graph
            0x0a, 0x0b, // node
            0x0a, 0x01, b'x', 0x12, 0x01, b'y', 0x22, 0x03, b'A', b'b', b's', // input, output, op_type
            0x12, 0x01, b'g', // name
            0x5a, 0x03, 0x0a, 0x01, b'x', // input
            0x42, 0x02, 0x10, 0x11, // opset_import { version: 17 }
        ];
        let model = ModelProto::decode(wire).unwrap();
        assert_eq!(model.ir_version, 10);
        assert_eq!(model.opset_import, [OperatorSetIdProto { domain: String::new(), version: 17 }]);
        let graph = model.graph.as_ref().unwrap();
        assert_eq!((graph.name.as_str(), graph.node[0].op_type.as_str()), ("g", "Abs"));
        assert_eq!(graph.input[0].name, "x");
        assert_eq!(ModelProto::decode(model.encode_to_vec().as_slice()).unwrap(), model);
    }

    #[test]
    fn byte_fields_are_slices_of_the_input() {
        let tensor = TensorProto { raw_data: Some(Bytes::from(vec![7; 100])), ..TensorProto::default() };
        let wire = Bytes::from(tensor.encode_to_vec());
        let back = TensorProto::decode(wire.clone()).unwrap();
        let raw = back.raw_data.unwrap();
        assert!(wire.as_ptr_range().contains(&raw.as_ptr()));
    }

    #[test]
    fn unpacked_and_packed_lists_read_alike() {
        let unpacked = TensorProto::decode(&[0x08, 2, 0x08, 3][..]).unwrap();
        let packed = TensorProto::decode(&[0x0a, 2, 2, 3][..]).unwrap();
        assert_eq!((unpacked.dims.as_slice(), packed.dims.as_slice()), (&[2, 3][..], &[2, 3][..]));
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let mut deep = TypeProto::default();
        for _ in 0..200 {
            let of = Box::new(SequenceType { elem_type: Some(Box::new(deep)) });
            deep = TypeProto { value: Some(TypeValue::SequenceType(of)), ..TypeProto::default() };
        }
        assert!(TypeProto::decode(deep.encode_to_vec().as_slice()).is_err());
    }
}
