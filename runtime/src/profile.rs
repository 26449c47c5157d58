//! What a profile says about one step: what it is, how long it took, what it computed and moved. Judging that against
//! the machine is `roofline.rs`; printing it is the command line's.

use crate::model::Linked;
use crate::plan::{Action, Instance, Step};
use frit_backend::{Kernel, Precision};
use frit_ir::op::{Arity, Attr};
use frit_ir::{Node, Op};
use std::time::Duration;

/// What one step took.
#[derive(Clone, Debug)]
pub struct StepTime {
    /// Where in the model.
    pub label: String,
    /// Op name.
    pub op: String,
    /// The op and what was fused into it: `FusedMatMul + bias + gelu + residual`. Of a chain the ops in it.
    pub fused: String,
    /// Kernel name.
    pub kernel: String,
    /// In what numbers it multiplies.
    pub precision: Precision,
    /// From the start of the run.
    pub start: Duration,
    /// How long.
    pub time: Duration,
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes read and written: of weights as they lie in memory, of other operands what the kernel reads of them.
    pub bytes: f64,
}

impl StepTime {
    /// What step `index` of a run did.
    pub(crate) fn new(
        linked: &Linked,
        instance: &Instance,
        (index, step): (usize, &Step),
        start: Duration,
        time: Duration,
    ) -> Self {
        let node = linked.program.graph.node(step.node);
        let kernel: Option<&dyn Kernel> = match &step.action {
            Action::Kernel(k) => Some(&**k),
            _ => None,
        };
        let shapes = instance.shapes(step);
        StepTime {
            label: linked.program.label(step).to_owned(),
            op: node.map_or("", |n| n.op.name()).to_owned(),
            fused: node.map(fused_name).unwrap_or_default(),
            kernel: linked.program.describe(step),
            precision: kernel.map_or(Precision::Exact, Kernel::precision),
            start,
            time,
            flops: kernel.map_or(0.0, |k| k.flops(&shapes.inputs, &shapes.outputs)),
            bytes: bytes(linked, instance, index, step),
        }
    }
}

/// Bytes that a step reads and writes.
fn bytes(linked: &Linked, instance: &Instance, index: usize, step: &Step) -> f64 {
    let shapes = instance.shapes(step);
    let size = |slot: usize| linked.program.slots.get(slot).map_or(1, |p| p.ty.dtype.size()) as f64;
    let count = |shape: &[usize]| shape.iter().map(|&d| d as f64).product::<f64>();
    let mut read = 0.0;
    for (k, operand) in step.inputs.iter().enumerate() {
        let Some(operand) = operand else { continue };
        if let Some(weight) = linked.packed(index, k) {
            read += weight.bytes().len() as f64;
            continue;
        }
        let part = match &step.action {
            Action::Kernel(kernel) => kernel.elements_read(k, &shapes.outputs),
            _ => None,
        };
        let whole = || shapes.inputs.get(k).copied().flatten().map_or(0.0, count);
        read += part.map_or_else(whole, |n| n as f64) * size(operand.slot.index());
    }
    if matches!(step.action, Action::Append { .. }) {
        return 2.0 * read; // the result is all that is kept; only the new rows move
    }
    let written = step.outputs.iter().zip(&shapes.outputs).map(|(s, shape)| count(shape) * size(s.index()));
    read + written.sum::<f64>()
}

/// The op of a node and what was fused into it, in the order of application.
fn fused_name(node: &Node) -> String {
    if matches!(node.op, Op::Chain(_)) {
        return node.op.parts().join(" + ");
    }
    let mut parts = vec![node.op.name().to_owned()];
    let optional = node.op.operands().iter().zip(&node.inputs);
    let given = |late: bool| {
        let named = optional.clone().filter(move |(o, v)| {
            o.arity == Arity::Optional && v.is_some() && (o.name == "residual") == late
        });
        named.map(|(o, _)| o.name.to_owned())
    };
    parts.extend(given(false));
    for attr in node.op.attrs() {
        match attr {
            ("activation", Attr::Str(word)) if word != "none" => parts.push(word),
            ("causal", Attr::Bool(true)) => parts.push("causal".to_owned()),
            _ => {}
        }
    }
    parts.extend(given(true));
    parts.join(" + ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use frit_ir::ValueId;
    use frit_ir::op::{Activation, Attention, Chain, ChainStep, FusedMatMul};

    #[test]
    fn a_step_is_named_by_what_was_fused_into_it() {
        let name = |op: Op, inputs: &[bool]| {
            let inputs = inputs.iter().map(|given| given.then_some(ValueId(0))).collect();
            fused_name(&Node { op, inputs, outputs: vec![], label: String::new() })
        };
        let product = FusedMatMul { activation: Activation::Gelu, ..FusedMatMul::plain() };
        assert_eq!(name(product.into(), &[true; 4]), "FusedMatMul + bias + gelu + residual");
        assert_eq!(name(FusedMatMul::plain().into(), &[true, true, false, true]), "FusedMatMul + residual");
        let attention = Attention { q_heads: 2, kv_heads: 2, scale: 1.0, causal: true };
        assert_eq!(name(attention.into(), &[true; 4]), "Attention + mask + causal");
        let step = |name, operands| ChainStep { op: Op::from_name(name, &[]).unwrap().unwrap(), operands };
        let chain = Chain { steps: vec![step("Mul", vec![0, 1]), step("Tanh", vec![2])] };
        assert_eq!(name(chain.into(), &[true; 2]), "Mul + Tanh");
    }
}
