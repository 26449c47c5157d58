//! Attributes of nodes: the few forms that export writes, and an op's own attributes in ONNX's terms. Operands do not
//! belong here.

use crate::onnx::read::data_type_of as data_type;
use crate::onnx::schema::{AttributeProto, AttributeType, GraphProto, TensorProto};
use frit_ir::Dim;
use frit_ir::op::Attr;

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: kind as i32, ..AttributeProto::default() }
}

/// An integer.
pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..attribute(name, AttributeType::Int) }
}

/// Integers.
pub(super) fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { ints: ints.to_vec(), ..attribute(name, AttributeType::Ints) }
}

/// A number.
pub(super) fn float(name: &str, f: f64) -> AttributeProto {
    AttributeProto { f: f as f32, ..attribute(name, AttributeType::Float) }
}

/// Numbers.
pub(super) fn floats(name: &str, v: &[f64]) -> AttributeProto {
    let floats = v.iter().map(|x| *x as f32).collect();
    AttributeProto { floats, ..attribute(name, AttributeType::Floats) }
}

/// A word.
pub(super) fn string(name: &str, s: &str) -> AttributeProto {
    AttributeProto { s: s.as_bytes().to_vec().into(), ..attribute(name, AttributeType::String) }
}

/// Words.
pub(super) fn strings(name: &str, v: &[&str]) -> AttributeProto {
    let strings = v.iter().map(|s| s.as_bytes().to_vec().into()).collect();
    AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
}

/// A tensor.
pub(super) fn tensor(name: &str, t: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(Box::new(t)), ..attribute(name, AttributeType::Tensor) }
}

/// A graph.
pub(super) fn graph(name: &str, g: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(Box::new(g)), ..attribute(name, AttributeType::Graph) }
}

/// Attributes that ONNX calls otherwise: op, our name, its name.
const RENAMED: &[(&str, &str, &str)] = &[
    ("MaxPool", "kernel", "kernel_shape"),
    ("LpPool", "kernel", "kernel_shape"),
    ("MaxPool", "column_major", "storage_order"),
    ("GroupNormalization", "groups", "num_groups"),
];

/// An op's attribute as ONNX has it; `Ok(None)` when it is left out, and why not when ONNX cannot hold it.
pub(super) fn of(op: &str, name: &str, value: &Attr) -> Result<Option<AttributeProto>, String> {
    let name = RENAMED.iter().find(|(o, n, _)| *o == op && *n == name).map_or(name, |(_, _, to)| to);
    Ok(Some(match value {
        Attr::Int(v) => int(name, *v),
        Attr::Bool(v) => int(name, i64::from(*v)),
        Attr::Float(v) => float(name, *v),
        Attr::Str(v) => string(name, v),
        Attr::Ints(v) if v.is_empty() => return Ok(None),
        Attr::Ints(v) => ints(name, v),
        Attr::Floats(v) => floats(name, v),
        Attr::DType(d) => int(name, i64::from(data_type(*d) as i32)),
        Attr::Dims(v) => match v.iter().map(Dim::as_const).collect::<Option<Vec<_>>>() {
            Some(v) => ints(name, &v),
            None => return Err(format!("`{name}` is {value}, and ONNX takes numbers only")),
        },
        Attr::Absent => return Ok(None),
        Attr::List(_) | Attr::Types(_) => {
            return Err(format!("`{name}` is {value}, which no attribute of ONNX holds"));
        }
    }))
}
