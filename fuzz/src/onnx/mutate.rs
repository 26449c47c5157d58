//! Models changed as messages: operators, operands, attributes, shapes, types, constants, names. The result is a
//! model whose wire format is whole; damaging that is the business of random bytes. Nothing is checked here.

use super::super::replay::Stream;
use frit_frontends::onnx::import::supported;
use frit_frontends::onnx::schema::{
    AttributeProto, AttributeType, DimValue, Dimension, GraphProto, ModelProto, NodeProto, TensorProto,
    TypeProto, TypeValue,
};
use prost::Message;

/// Numbers that break sums, products and indices.
const NUMBERS: [i64; 20] = [
    0,
    1,
    2,
    3,
    4,
    7,
    16,
    -1,
    -2,
    -3,
    i64::MAX,
    i64::MIN,
    i64::MAX - 1,
    1 << 31,
    (1 << 31) - 1,
    1 << 32,
    1 << 40,
    -(1 << 31),
    1 << 62,
    1000,
];
const FLOATS: [f32; 9] = [0.0, 1.0, -1.0, 0.5, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e-30];
const NAMES: [&str; 24] = [
    "axis",
    "axes",
    "keepdims",
    "mode",
    "pads",
    "strides",
    "dilations",
    "kernel_shape",
    "group",
    "auto_pad",
    "to",
    "perm",
    "value",
    "split",
    "num_outputs",
    "block_size",
    "block_size",
    "equation",
    "k",
    "epsilon",
    "direction",
    "hidden_size",
    "layout",
    "ceil_mode",
];

/// Changes a model in one to four places; None when the bytes are no model.
pub fn mutate_onnx(data: &[u8], r: &mut Stream) -> Option<Vec<u8>> {
    let mut model = ModelProto::decode(data.to_vec().as_slice()).ok()?;
    for _ in 0..1 + r.below(4) {
        change(&mut model, r);
    }
    Some(model.encode_to_vec())
}

fn number(r: &mut Stream) -> i64 {
    if r.below(3) == 0 { r.below(9) as i64 - 2 } else { NUMBERS[r.below(NUMBERS.len())] }
}

fn change(model: &mut ModelProto, r: &mut Stream) {
    match r.below(24) {
        0 => {
            if let Some(o) = pick(&mut model.opset_import, r) {
                o.version = if r.below(4) == 0 { number(r) } else { 1 + r.below(27) as i64 };
            }
        }
        1 => {
            // A function of the model's own, perhaps calling itself.
            if let Some(f) = pick(&mut model.functions, r) {
                if r.below(2) == 0 {
                    let (name, domain) = (f.name.clone(), f.domain.clone());
                    if let Some(n) = pick(&mut f.node, r) {
                        (n.op_type, n.domain) = (name, domain);
                    }
                } else {
                    nodes(&mut f.node, r);
                }
            }
        }
        _ => {
            if let Some(graph) = &mut model.graph {
                in_graph(graph, r, 0);
            }
        }
    }
}

fn pick<'a, T>(of: &'a mut [T], r: &mut Stream) -> Option<&'a mut T> {
    let i = r.below(of.len());
    of.get_mut(i)
}

fn in_graph(graph: &mut GraphProto, r: &mut Stream, depth: usize) {
    // A body, where there is one.
    if depth < 4 && r.below(3) == 0 {
        let bodies = graph.node.iter_mut().flat_map(|n| &mut n.attribute).filter_map(|a| a.g.as_deref_mut());
        let mut bodies: Vec<&mut GraphProto> = bodies.collect();
        if let Some(body) = pick(&mut bodies, r) {
            return in_graph(body, r, depth + 1);
        }
    }
    match r.below(12) {
        0 | 1 => {
            if let Some(t) = pick(&mut graph.input, r).and_then(|i| i.r#type.as_mut()) {
                retype(t, r);
            }
        }
        2 | 3 => {
            if let Some(t) = pick(&mut graph.initializer, r) {
                tensor(t, r);
            }
        }
        4 => {
            let names = names(graph);
            if let Some(o) = pick(&mut graph.output, r)
                && !names.is_empty()
            {
                o.name = names[r.below(names.len())].clone();
            }
        }
        5 => {
            // Another use of a node's operands: a copy under other names.
            if graph.node.is_empty() {
                return;
            }
            let mut copy = graph.node[r.below(graph.node.len())].clone();
            for o in &mut copy.output {
                o.push('_');
            }
            if let (Some(o), Some(first)) = (pick(&mut graph.output, r), copy.output.first()) {
                o.name.clone_from(first);
            }
            graph.node.push(copy);
        }
        6 => {
            let names = names(graph);
            if let Some(n) = pick(&mut graph.node, r)
                && !names.is_empty()
            {
                let name = names[r.below(names.len())].clone();
                let at = r.below(n.input.len() + 1);
                match (r.below(4), n.input.get_mut(at)) {
                    (0, _) => n.input.insert(at, name),
                    (1, Some(_)) => drop(n.input.remove(at)),
                    (2, Some(i)) => i.clear(),
                    (_, Some(i)) => *i = name,
                    _ => {}
                }
            }
        }
        _ => nodes(&mut graph.node, r),
    }
}

fn names(graph: &GraphProto) -> Vec<String> {
    let made = graph.node.iter().flat_map(|n| n.output.iter().cloned());
    let given = graph.input.iter().map(|i| i.name.clone());
    made.chain(given).chain(graph.initializer.iter().map(|t| t.name.clone())).collect()
}

fn nodes(all: &mut [NodeProto], r: &mut Stream) {
    let Some(node) = pick(all, r) else { return };
    match r.below(8) {
        0 => {
            let ops = supported();
            let (domain, op, _) = ops[r.below(ops.len())];
            (node.domain, node.op_type) = (domain.to_owned(), op.to_owned());
        }
        1 if node.input.len() > 1 => {
            let (a, b) = (r.below(node.input.len()), r.below(node.input.len()));
            node.input.swap(a, b);
        }
        2 => {
            let name = NAMES[r.below(NAMES.len())].to_owned();
            let mut a = AttributeProto { name, ..AttributeProto::default() };
            match r.below(4) {
                0 => {
                    (a.r#type, a.ints) =
                        (AttributeType::Ints as i32, (0..r.below(5)).map(|_| number(r)).collect())
                }
                1 => (a.r#type, a.f) = (AttributeType::Float as i32, FLOATS[r.below(FLOATS.len())]),
                _ => (a.r#type, a.i) = (AttributeType::Int as i32, number(r)),
            }
            node.attribute.retain(|old| old.name != a.name);
            node.attribute.push(a);
        }
        3 if !node.attribute.is_empty() => drop(node.attribute.remove(r.below(node.attribute.len()))),
        _ => {
            if let Some(a) = pick(&mut node.attribute, r) {
                attribute(a, r);
            }
        }
    }
}

fn attribute(a: &mut AttributeProto, r: &mut Stream) {
    if r.below(12) == 0 {
        a.r#type = r.below(16) as i32;
    }
    if let Some(t) = &mut a.t {
        return tensor(t, r);
    }
    if let Some(t) = &mut a.tp {
        return retype(t, r);
    }
    a.i = number(r);
    a.f = FLOATS[r.below(FLOATS.len())];
    if !a.floats.is_empty() {
        let at = r.below(a.floats.len());
        a.floats[at] = a.f;
    }
    match r.below(3) {
        0 => drop(a.ints.pop()),
        1 => a.ints.push(a.i),
        _ => {
            if let Some(i) = pick(&mut a.ints, r) {
                *i = a.i;
            }
        }
    }
    let mut s = a.s.to_vec();
    if let Some(b) = pick(&mut s, r) {
        *b = [b'a', b',', b'-', b'>', b'.', b'i', b' '][r.below(7)];
        a.s = s.into();
    }
}

fn retype(t: &mut TypeProto, r: &mut Stream) {
    match &mut t.value {
        Some(TypeValue::TensorType(t)) => {
            if r.below(4) == 0 {
                t.elem_type = r.below(28) as i32;
                return;
            }
            let Some(shape) = &mut t.shape else { return };
            let dim = match r.below(4) {
                0 => DimValue::DimParam(["n", "m"][r.below(2)].to_owned()),
                1 => DimValue::DimValue(number(r)),
                _ => DimValue::DimValue(r.below(5) as i64),
            };
            let at = r.below(shape.dim.len() + 1);
            let dim = Dimension { value: Some(dim), ..Dimension::default() };
            match (r.below(5), shape.dim.get_mut(at)) {
                (0, _) => shape.dim.insert(at, dim),
                (1, Some(_)) => drop(shape.dim.remove(at)),
                (_, Some(d)) => *d = dim,
                _ => {}
            }
        }
        Some(TypeValue::SequenceType(s)) => {
            if let Some(t) = s.elem_type.as_deref_mut() {
                retype(t, r);
            }
        }
        Some(TypeValue::OptionalType(o)) => {
            if let Some(t) = o.elem_type.as_deref_mut() {
                retype(t, r);
            }
        }
        _ => {}
    }
}

fn tensor(t: &mut TensorProto, r: &mut Stream) {
    match r.below(8) {
        0 => t.data_type = r.below(28) as i32,
        1 => {
            let n = number(r);
            match r.below(3) {
                0 => t.dims.push(n),
                1 => drop(t.dims.pop()),
                _ => {
                    if let Some(d) = pick(&mut t.dims, r) {
                        *d = n;
                    }
                }
            }
        }
        _ => {
            let (i, f) = (number(r), FLOATS[r.below(FLOATS.len())]);
            if let Some(v) = pick(&mut t.int64_data, r) {
                *v = i;
            }
            if let Some(v) = pick(&mut t.int32_data, r) {
                *v = i as i32;
            }
            if let Some(v) = pick(&mut t.float_data, r) {
                *v = f;
            }
            if let Some(raw) = &mut t.raw_data {
                let mut bytes = raw.to_vec();
                let wide = if t.data_type == 1 { f.to_le_bytes().to_vec() } else { i.to_le_bytes().to_vec() };
                let at = r.below(bytes.len().div_ceil(wide.len()).max(1)) * wide.len();
                for (b, n) in bytes.iter_mut().skip(at).zip(wide) {
                    *b = n;
                }
                *raw = bytes.into();
            }
        }
    }
}
