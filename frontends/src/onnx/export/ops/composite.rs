//! Composite ops: which of them ONNX has at an opset with the same meaning. The others become their decomposition in
//! `prepare.rs`.

use super::Written;
use crate::onnx::export::ExportOptions;
use crate::onnx::export::attr;
use crate::onnx::export::emitter::{Emitter, View};
use frit_ir::op::{Attention, Onnx};
use frit_ir::types::{resolve_axis, same_shape};
use frit_ir::{Graph, Node, Op, TensorType};

/// True when a composite op is a standard op of the opset and its operands are as that takes them.
pub(super) fn has_form(graph: &Graph, node: &Node, options: &ExportOptions) -> bool {
    let Onnx::Op(_, since) = node.op.onnx() else { return false };
    if since > options.opset {
        return false;
    }
    let ty = |i: usize| node.inputs.get(i).copied().flatten().and_then(|v| graph.ty(v));
    match &node.op {
        Op::LayerNormalization(o) => covers(ty(0), o.axis, &[ty(1), ty(2)]),
        Op::InstanceNormalization(_) | Op::BatchNormalization(_) => true,
        _ if options.plain => false,
        Op::RMSNormalization(o) => covers(ty(0), o.axis, &[ty(1)]),
        Op::Attention(o) => ty(3).is_none() && attention_has_form(o, [ty(0), ty(1), ty(2)]),
        _ => true,
    }
}

/// True when scale and shift have just the shape of the axes normalised: runtimes do not broadcast them.
fn covers(x: Option<&TensorType>, axis: i64, operands: &[Option<&TensorType>]) -> bool {
    let Some(x) = x else { return false };
    let rest = resolve_axis(axis, x.rank()).and_then(|a| x.shape.get(a..)).unwrap_or(&[]);
    operands.iter().flatten().all(|t| same_shape(&t.shape, rest))
}

/// ONNX leaves keys out by minus infinity where we score them lowest, and aligns causal masks at the first key where we
/// do at the last: the same for as many keys as queries. What a query gets that a mask of its own leaves without any key
/// differs from runtime to runtime, so masked attention is written by its parts.
fn attention_has_form(o: &Attention, qkv: [Option<&TensorType>; 3]) -> bool {
    let [Some(q), Some(k), Some(v)] = qkv else { return false };
    // [B, S, width] has the sequence before the last axis as [B, H, S, D] has.
    let sequence = |t: &TensorType| t.shape.iter().rev().nth(1).cloned();
    let square = matches!((sequence(q), sequence(k)), (Some(a), Some(b)) if a.same(&b));
    q.rank() == k.rank() && q.rank() == v.rank() && (square || !o.causal)
}

/// Attention-23.
pub(super) fn attention(e: &mut Emitter<'_>, v: &View<'_>, o: &Attention) -> Written {
    let mut attrs = vec![attr::float("scale", o.scale), attr::int("is_causal", i64::from(o.causal))];
    if e.operand(v, 0)?.rank() == 3 {
        attrs.push(attr::int("q_num_heads", o.q_heads));
        attrs.push(attr::int("kv_num_heads", o.kv_heads));
    }
    e.push("Attention", v.inputs.clone(), v.outputs.clone(), attrs);
    Ok(())
}
