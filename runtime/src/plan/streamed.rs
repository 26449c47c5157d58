//! Which weights the steps of decoding multiply by. Every entry point must ask for them in the same form, or they would be
//! kept twice; so it is found out for all graphs before any is planned. What form that is, is the backend's business.

use frit_ir::{Graph, Op, WeightId};
use std::collections::HashSet;

/// The right operands of the products of every graph that keeps states from run to run.
pub fn streamed(graphs: &[Graph]) -> HashSet<WeightId> {
    let steps = graphs.iter().filter(|g| !g.states.is_empty());
    let products = steps.flat_map(|g| {
        let product = |op: &Op| matches!(op, Op::MatMul(_) | Op::FusedMatMul(_));
        g.nodes().filter(move |(_, n)| product(&n.op)).map(move |(_, n)| (g, n))
    });
    products.filter_map(|(g, n)| g.weight_of((*n.inputs.get(1)?)?)).collect()
}
