//! Expands composite ops that the backend declines, so that it can run their parts. No other rewriting.

use crate::error::PlanError;
use frit_backend::{Backend, OperandInfo, Precision, Request, Target};
use frit_ir::{Graph, GraphBuilder, Node, TensorType, ValueDef, WeightId, WeightTable};
use std::collections::HashSet;

/// What `op` looks like to a backend when it stands in `graph`.
pub(super) fn with_request<R>(
    graph: &Graph,
    weights: &WeightTable,
    node: &Node,
    streamed: &HashSet<WeightId>,
    target: Target,
    precision: Precision,
    f: impl FnOnce(&Request<'_>) -> R,
) -> R {
    let inputs: Vec<Option<OperandInfo<'_>>> = node
        .inputs
        .iter()
        .map(|v| {
            let value = graph.value((*v)?)?;
            let id = match value.def {
                ValueDef::Weight(w) => Some(w),
                _ => None,
            };
            let weight = id.and_then(|w| weights.get(w));
            let streamed = id.is_some_and(|w| streamed.contains(&w));
            let small = weight.and_then(|w| w.data.as_ref()).filter(|t| t.len() <= frit_ir::module::SMALL);
            Some(OperandInfo { ty: &value.ty, constant: weight.is_some(), streamed, small })
        })
        .collect();
    let outputs: Vec<&TensorType> = node.outputs.iter().filter_map(|v| graph.ty(*v)).collect();
    f(&Request { op: &node.op, inputs: &inputs, outputs: &outputs, target, precision })
}

/// Expands every composite op without a kernel, until none is left.
pub(super) fn legalise(
    graph: &mut Graph,
    weights: &mut WeightTable,
    backend: &dyn Backend,
    target: Target,
    precision: Precision,
) -> Result<(), PlanError> {
    // Expansions may hold composite ops again; each round works on those, and they get strictly simpler.
    for _round in 0..8 {
        let mut changed = false;
        let composite: Vec<_> =
            graph.nodes().filter(|(_, n)| n.op.is_composite()).map(|(id, _)| id).collect();
        for id in composite {
            let Some(node) = graph.node(id).cloned() else { continue };
            let declined = with_request(graph, weights, &node, &HashSet::new(), target, precision, |r| {
                backend.kernel(r).is_none()
            });
            if !declined {
                continue;
            }
            let mut b = GraphBuilder::new(graph, weights);
            let results =
                b.scoped(&node.label, |b| node.op.decompose(b, &node.inputs)).map_err(|source| {
                    PlanError::Expand { label: node.label.clone(), op: node.op.name(), source }
                })?;
            for (old, new) in node.outputs.iter().zip(results) {
                graph.replace_uses(*old, new);
            }
            graph.remove_node(id);
            changed = true;
        }
        if !changed {
            break;
        }
    }
    *graph = graph.compacted()?;
    Ok(())
}
