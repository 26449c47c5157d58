//! How each op is written: by its name and attributes from the op table, or by code of its own in one file a family
//! where ONNX takes operands for attributes. Names and constants are `emitter.rs`'s business.

mod bounds;
mod composite;
mod control;
mod recurrent;
mod shapes;
mod versions;

use super::emitter::{Emitter, View};
use super::{ExportError, ExportOptions, OPSETS, attr};
use frit_ir::op::{Attr, BinaryFn, Onnx};
use frit_ir::{DType, Graph, Node, Op};

type Written = Result<(), ExportError>;

/// Primitive ops that are younger than the first opset written. The op table says which opset gave an op its present
/// meaning, which is later where only its element types grew.
const NEW: &[(&str, u32)] = &[
    ("BitwiseAnd", 18),
    ("BitwiseNot", 18),
    ("BitwiseOr", 18),
    ("BitwiseXor", 18),
    ("Col2Im", 18),
    ("DeformConv", 19),
];

/// The opset that brought an element type.
fn first_opset(dtype: DType) -> u32 {
    match dtype {
        DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ => 19,
        DType::I4 | DType::U4 => 21,
        DType::F4E2M1 => 23,
        DType::F8E8M0 => 24,
        DType::I2 | DType::U2 => 25,
        _ => 1,
    }
}

/// True when the op of a node can be written as it is: it has a form in ONNX at this opset that means the same.
pub(super) fn has_form(graph: &Graph, node: &Node, options: &ExportOptions) -> bool {
    let mut values = node.inputs.iter().flatten().chain(&node.outputs);
    if values.any(|v| graph.ty(*v).is_some_and(|t| first_opset(t.dtype) > options.opset)) {
        return false;
    }
    if node.op.is_composite() {
        return composite::has_form(graph, node, options);
    }
    match &node.op {
        Op::ShapeOf(_) | Op::SymbolOf(_) => true,
        // Dilated windows came with opset 19.
        Op::AveragePool(o) => options.opset >= 19 || o.dilations.iter().all(|&d| d == 1),
        Op::LpPool(o) => versions::lp_pool_has_form(o, options.opset),
        Op::Resize(o) => versions::resize_has_form(o, options.opset),
        Op::If(_) | Op::Loop(_) => true,
        Op::Binary(o) if matches!(o.function, BinaryFn::ShiftLeft | BinaryFn::ShiftRight) => true,
        op => match op.onnx() {
            Onnx::Op(name, since) => {
                let first = NEW.iter().find(|(n, _)| *n == name).map_or(1, |(_, first)| *first);
                since <= *OPSETS.end() && first <= options.opset
            }
            Onnx::None => false,
        },
    }
}

/// Writes a node.
pub(super) fn write(e: &mut Emitter<'_>, v: &View<'_>) -> Written {
    match &v.node.op {
        Op::Reshape(o) => shapes::reshape(e, v, o),
        Op::Expand(o) => shapes::expand(e, v, o),
        Op::Slice(o) => shapes::slice(e, v, o),
        Op::Split(o) => shapes::split(e, v, o),
        Op::Pad(o) => shapes::pad(e, v, o),
        Op::Tile(o) => shapes::tile(e, v, o),
        Op::Range(o) => shapes::range(e, v, o),
        Op::ConstantOfShape(o) => shapes::constant_of_shape(e, v, o),
        Op::ShapeOf(o) => shapes::shape_of(e, v, o),
        Op::SymbolOf(o) => shapes::symbol_of(e, v, o),
        Op::Clip(o) => bounds::clip(e, v, o),
        Op::Reduce(o) => bounds::reduce(e, v, o),
        Op::CumSum(o) => bounds::cum_sum(e, v, o),
        Op::AveragePool(o) => bounds::average_pool(e, v, o),
        Op::Binary(o) if o.function == BinaryFn::Mod && v.dtype.is_float() => bounds::float_mod(e, v),
        Op::Cast(o) => versions::cast(e, v, o),
        Op::TopK(o) => versions::top_k(e, v, o),
        Op::LpPool(o) => versions::lp_pool(e, v, o),
        Op::Resize(o) => versions::resize(e, v, o),
        Op::GridSample(o) => versions::grid_sample(e, v, o),
        Op::RoiAlign(o) => versions::roi_align(e, v, o),
        Op::MaxRoiPool(o) => versions::max_roi_pool(e, v, o),
        Op::Col2Im(o) => versions::col2im(e, v, o),
        Op::Random(o) => versions::random(e, v, o),
        Op::If(o) => control::branch(e, v, o),
        Op::Loop(o) => control::repeat(e, v, o),
        Op::Binary(o) if o.function == BinaryFn::ShiftLeft => versions::shift(e, v, "LEFT"),
        Op::Binary(o) if o.function == BinaryFn::ShiftRight => versions::shift(e, v, "RIGHT"),
        Op::Recurrent(o) => recurrent::recurrent(e, v, o),
        Op::Attention(o) => composite::attention(e, v, o),
        _ => by_declaration(e, v),
    }
}

/// The name and the attributes that the op table declares, the operands in order.
fn by_declaration(e: &mut Emitter<'_>, v: &View<'_>) -> Written {
    let op = &v.node.op;
    let Onnx::Op(name, _) = op.onnx() else {
        return Err(e.refuse(v.node, "ONNX has no such op"));
    };
    let mut attrs = Vec::new();
    for (attr, value) in op.attrs() {
        // The names of symbols that an op defines are ours alone.
        if matches!(&value, Attr::Str(s) if op.defines().contains(&s.as_str())) {
            continue;
        }
        attrs.extend(attr::of(name, attr, &value).map_err(|why| e.refuse(v.node, why))?);
    }
    e.push(name, v.inputs.clone(), v.outputs.clone(), attrs);
    Ok(())
}
