//! What decoding a message will take, found by walking its bytes before anything is allocated: an empty message is two
//! bytes in a file and hundreds in memory. Only fields that make many of something are known here; what messages
//! mean, and whether they are well formed, is found when they are decoded.

use crate::onnx::error::OnnxError;
use crate::onnx::schema::{
    AttributeProto, DeviceConfigurationProto, Dimension, FunctionProto, GraphProto, IntIntListEntryProto,
    MapProto, ModelProto, NodeDeviceConfigurationProto, NodeProto, OperatorSetIdProto, OptionalProto,
    SequenceProto, ShardedDimProto, ShardingSpecProto, SimpleShardedDimProto, SparseTensorProto,
    StringStringEntryProto, TensorAnnotation, TensorProto, TrainingInfoProto, TypeProto, ValueInfoProto,
};
use bytes::Bytes;
use prost::Message;

/// Memory that the messages of any file may take, ...
const FREE: usize = 64 << 20;
/// ... and for each byte of the file: nodes of real models take about ten times what they have in the file.
const PER_BYTE: usize = 12;
/// As deep as prost decodes.
const MAX_DEPTH: usize = 100;

/// Decodes a message of a schema, unless that would take memory out of proportion to its bytes.
pub(super) fn decode<M: Message + Default + Layout>(bytes: Bytes, what: &str) -> Result<M, OnnxError> {
    let limit = FREE.saturating_add(bytes.len().saturating_mul(PER_BYTE));
    let mut left = limit;
    if walk(M::FIELDS, &bytes, 0, &mut left).is_none() {
        return Err(OnnxError::Amplified { what: what.to_owned(), bytes: bytes.len(), limit });
    }
    M::decode(bytes).map_err(|source| OnnxError::Decode { what: what.to_owned(), source })
}

/// A message, by those of its fields that take memory beyond the struct.
pub(super) trait Layout {
    /// Field numbers.
    const FIELDS: Fields;
}

pub(super) type Fields = &'static [(u64, Field)];

/// What a field takes; functions, so that messages can contain themselves.
pub(super) enum Field {
    /// A list of messages of so many bytes each.
    Many(usize, fn() -> Fields),
    /// One message, of so many bytes outside its parent.
    One(usize, fn() -> Fields),
    /// A list of strings or byte strings.
    Texts,
    /// A list of numbers of so many bytes each.
    Numbers(usize),
}

const fn many<M: Layout>() -> Field {
    Field::Many(size_of::<M>(), || M::FIELDS)
}
const fn boxed<M: Layout>() -> Field {
    Field::One(size_of::<M>(), || M::FIELDS)
}
const fn inline<M: Layout>() -> Field {
    Field::One(0, || M::FIELDS)
}

macro_rules! layouts {
    ($($message:ty: [$($number:literal => $field:expr),* $(,)?],)*) => {
        $(impl Layout for $message { const FIELDS: Fields = &[$(($number, $field)),*]; })*
    };
}

// Of oneofs and types in types only the lists matter: those that nest take as many bytes as they have boxes.
layouts! {
    ModelProto: [7 => inline::<GraphProto>(), 8 => many::<OperatorSetIdProto>(), 14 => many::<StringStringEntryProto>(),
        20 => many::<TrainingInfoProto>(), 25 => many::<FunctionProto>(), 26 => many::<DeviceConfigurationProto>()],
    OperatorSetIdProto: [],
    StringStringEntryProto: [],
    TrainingInfoProto: [1 => inline::<GraphProto>(), 2 => inline::<GraphProto>(),
        3 => many::<StringStringEntryProto>(), 4 => many::<StringStringEntryProto>()],
    DeviceConfigurationProto: [3 => Field::Texts],
    GraphProto: [1 => many::<NodeProto>(), 5 => many::<TensorProto>(), 11 => many::<ValueInfoProto>(),
        12 => many::<ValueInfoProto>(), 13 => many::<ValueInfoProto>(), 14 => many::<TensorAnnotation>(),
        15 => many::<SparseTensorProto>(), 16 => many::<StringStringEntryProto>()],
    NodeProto: [1 => Field::Texts, 2 => Field::Texts, 5 => many::<AttributeProto>(),
        9 => many::<StringStringEntryProto>(), 10 => many::<NodeDeviceConfigurationProto>()],
    AttributeProto: [5 => boxed::<TensorProto>(), 6 => boxed::<GraphProto>(), 22 => boxed::<SparseTensorProto>(),
        14 => boxed::<TypeProto>(), 7 => Field::Numbers(4), 8 => Field::Numbers(8), 9 => Field::Texts,
        10 => many::<TensorProto>(), 11 => many::<GraphProto>(), 23 => many::<SparseTensorProto>(),
        15 => many::<TypeProto>()],
    ValueInfoProto: [2 => inline::<TypeProto>(), 4 => many::<StringStringEntryProto>()],
    FunctionProto: [4 => Field::Texts, 5 => Field::Texts, 6 => Field::Texts, 11 => many::<AttributeProto>(),
        7 => many::<NodeProto>(), 9 => many::<OperatorSetIdProto>(), 12 => many::<ValueInfoProto>(),
        14 => many::<StringStringEntryProto>()],
    TensorAnnotation: [2 => many::<StringStringEntryProto>()],
    NodeDeviceConfigurationProto: [2 => many::<ShardingSpecProto>()],
    ShardingSpecProto: [2 => Field::Numbers(8), 3 => many::<IntIntListEntryProto>(), 4 => many::<ShardedDimProto>()],
    IntIntListEntryProto: [2 => Field::Numbers(8)],
    ShardedDimProto: [2 => many::<SimpleShardedDimProto>()],
    SimpleShardedDimProto: [],
    TensorProto: [1 => Field::Numbers(8), 4 => Field::Numbers(4), 5 => Field::Numbers(4), 6 => Field::Texts,
        7 => Field::Numbers(8), 13 => many::<StringStringEntryProto>(), 10 => Field::Numbers(8),
        11 => Field::Numbers(8), 16 => many::<StringStringEntryProto>()],
    SparseTensorProto: [1 => inline::<TensorProto>(), 2 => inline::<TensorProto>(), 3 => Field::Numbers(8)],
    TypeProto: [1 => inline::<TensorKind>(), 8 => inline::<TensorKind>(), 4 => boxed::<NestedKind>(),
        5 => boxed::<NestedKind>(), 9 => boxed::<NestedKind>()],
    TensorKind: [2 => inline::<Shape>()],
    Shape: [1 => many::<Dimension>()],
    Dimension: [],
    NestedKind: [1 => boxed::<TypeProto>(), 2 => boxed::<TypeProto>()],
    SequenceProto: [3 => many::<TensorProto>(), 4 => many::<SparseTensorProto>(), 5 => many::<SequenceProto>(),
        6 => many::<MapProto>(), 7 => many::<OptionalProto>()],
    MapProto: [3 => Field::Numbers(8), 4 => Field::Texts, 5 => boxed::<SequenceProto>()],
    OptionalProto: [3 => boxed::<TensorProto>(), 4 => boxed::<SparseTensorProto>(), 5 => boxed::<SequenceProto>(),
        6 => boxed::<MapProto>(), 7 => boxed::<OptionalProto>()],
}

/// A tensor's type: element type and shape.
struct TensorKind;
/// Extents.
struct Shape;
/// A sequence's, map's or optional's type, which holds another.
struct NestedKind;

/// Room that a growing list has for `n` elements.
fn room(n: usize) -> usize {
    if n == 0 { 0 } else { n.max(4).checked_next_power_of_two().unwrap_or(usize::MAX) }
}

/// Takes what the message needs from what is left; None when that is not enough. Bytes that are no message end it:
/// decoding stops there too.
fn walk(fields: Fields, bytes: &[u8], depth: usize, left: &mut usize) -> Option<()> {
    if depth > MAX_DEPTH {
        return Some(());
    }
    // How many elements each list has so far.
    let mut counts = [0usize; 16];
    let mut rest = bytes;
    let mut groups = 0usize;
    while let Some(key) = varint(&mut rest) {
        let content: &[u8] = match key & 7 {
            0 => match varint(&mut rest) {
                Some(_) => &[],
                None => return Some(()),
            },
            1 | 5 => match rest.split_at_checked(if key & 7 == 1 { 8 } else { 4 }) {
                Some((number, after)) => {
                    rest = after;
                    number
                }
                None => return Some(()),
            },
            2 => {
                let length = varint(&mut rest).and_then(|n| usize::try_from(n).ok());
                match length.and_then(|n| rest.split_at_checked(n)) {
                    Some((content, after)) => {
                        rest = after;
                        content
                    }
                    None => return Some(()),
                }
            }
            3 => {
                groups += 1;
                continue;
            }
            4 => {
                groups = groups.saturating_sub(1);
                continue;
            }
            _ => return Some(()),
        };
        let known = fields.iter().zip(&mut counts).find(|((number, _), _)| *number == key >> 3);
        let Some(((_, field), count)) = known.filter(|_| groups == 0) else { continue };
        let (more, size) = match field {
            Field::Many(size, _) => (1, *size),
            Field::One(size, _) => (usize::from(*count == 0), *size),
            Field::Texts => (1, size_of::<Bytes>()),
            Field::Numbers(size) if key & 7 != 2 => (1, *size),
            // Packed: floats are of fixed width, each varint ends with a byte below 128.
            Field::Numbers(size) => {
                (content.iter().filter(|b| **b < 0x80).count().max(content.len() / size), *size)
            }
        };
        let before = if matches!(field, Field::One(..)) { *count } else { room(*count) };
        *count += more;
        let after = if matches!(field, Field::One(..)) { *count } else { room(*count) };
        // Strings are copied, and bytes no longer than they are.
        let copied = if matches!(field, Field::Texts) { content.len() } else { 0 };
        *left = left.checked_sub((after - before).checked_mul(size)?.checked_add(copied)?)?;
        if let Field::Many(_, inner) | Field::One(_, inner) = field
            && key & 7 == 2
        {
            walk(inner(), content, depth + 1, left)?;
        }
    }
    Some(())
}

/// The number at the start, which is removed; None where there is none.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (i, &b) in rest.iter().take(10).enumerate() {
        value |= u64::from(b & 0x7f) << (7 * i);
        if b < 0x80 {
            *rest = rest.get(i + 1..)?;
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated(prefix: &[u8], n: usize) -> Vec<u8> {
        prefix.repeat(n)
    }

    /// A field of a message, by its number.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        prost::encoding::encode_varint(content.len() as u64, &mut out);
        out.extend(content);
        out
    }

    #[test]
    fn small_messages_of_large_structs_are_refused() {
        // Empty nodes; nodes with one empty attribute; inputs whose types have an empty dimension.
        let many = 1 << 20;
        for graph in [
            repeated(&[0x0a, 0], many),
            repeated(&field(1, &[0x2a, 0]), many / 4),
            repeated(&field(11, &field(2, &field(1, &field(2, &[0x0a, 0])))), many / 2),
        ] {
            let model = field(7, &graph);
            let refused = decode::<ModelProto>(model.into(), "m").map(|_| ());
            assert!(matches!(refused, Err(OnnxError::Amplified { .. })), "{refused:?}");
        }
        let e = decode::<SequenceProto>(repeated(&[0x1a, 0], many).into(), "s").unwrap_err();
        assert!(matches!(e, OnnxError::Amplified { .. }), "{e}");
    }

    #[test]
    fn what_is_in_proportion_is_decoded() {
        let node = NodeProto {
            input: vec!["/layer/0/attention/query".into(), "/layer/0/attention/key".into()],
            output: vec!["/layer/0/attention/product".into()],
            name: "/layer/0/attention/MatMul".into(),
            op_type: "MatMul".into(),
            attribute: vec![AttributeProto { name: "alpha".into(), ..AttributeProto::default() }],
            ..NodeProto::default()
        };
        let graph = GraphProto { node: vec![node; 60_000], ..GraphProto::default() };
        let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        let back: ModelProto = decode(model.encode_to_vec().into(), "m").unwrap();
        assert_eq!(back, model);
        // Long packed lists take what they hold.
        let tensor = TensorProto { int64_data: vec![7; 4 << 20], ..TensorProto::default() };
        assert_eq!(decode::<TensorProto>(tensor.encode_to_vec().into(), "t").unwrap(), tensor);
        assert_eq!(room(0), 0);
        assert_eq!((room(1), room(5)), (4, 8));
    }

    #[test]
    fn damaged_bytes_are_left_to_decoding() {
        for bytes in [&[0x3a][..], &[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff], &[0xff; 12], &[0x0b, 0x0a, 0x00]] {
            let e = decode::<ModelProto>(Bytes::copy_from_slice(bytes), "m").unwrap_err();
            assert!(matches!(e, OnnxError::Decode { .. }), "{e}");
        }
    }
}
