//! Joining elementwise ops into chains, so that what lies between them is never stored. What a chain means is the op's
//! business (`Chain` in the op table); rewrites by pattern are in `rules/`.
//!
//! A chain ends in an op and grows towards its operands: an op joins when it gives f32 or truth values of the result's
//! shape and everything that uses it is in the chain already, so that no work is done twice and no order is violated.
//! It runs last: what products, normalisations and attention take into themselves they have taken by then. The steps
//! are the ops themselves, so the numbers stay the same.

use crate::edit::Editor;
use crate::rule::Refusal;
use crate::trace::Log;
use frit_ir::graph::CycleError;
use frit_ir::op::{Chain, ChainStep};
use frit_ir::types::same_shape;
use frit_ir::{DType, Graph, Node, NodeId, ValueId};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The name under which changes are counted.
pub const NAME: &str = "chains";

/// Steps of a chain at most.
const MAX_STEPS: usize = 32;
/// Operands of a chain at most: each is a stream of its own through the caches.
const MAX_OPERANDS: usize = 12;

/// Joins what can be joined; gives the number of chains.
pub fn sweep(e: &mut Editor<'_>, log: &mut Log) -> Result<usize, CycleError> {
    let order = e.graph().topological_order()?;
    let place: HashMap<NodeId, usize> = order.iter().enumerate().map(|(i, id)| (*id, i)).collect();
    let mut taken: HashSet<NodeId> = HashSet::new();
    let mut chains = 0;
    for &root in order.iter().rev() {
        if taken.contains(&root) || !e.graph().node(root).is_some_and(|n| fits(e.graph(), n)) {
            continue;
        }
        let group = grow(e, root, &place);
        taken.extend(group.values());
        if group.len() < 2 {
            continue;
        }
        let (chain, operands) = steps(e.graph(), &group);
        let Some((old, label)) =
            e.graph().node(root).and_then(|n| Some((*n.outputs.first()?, n.label.clone())))
        else {
            continue;
        };
        let first = e.graph().next_node();
        let built = e.build(&label, |b| b.op(chain, &operands)).map_err(Refusal::from);
        match built.and_then(|new| Ok(e.replace(old, new).map(|()| new)?)) {
            Ok(new) => {
                log.fired(NAME, &label, new);
                chains += 1;
            }
            Err(why) => {
                e.discard_since(first);
                log.near(NAME, &label, old, || why.to_string());
            }
        }
    }
    Ok(chains)
}

/// True for an elementwise op from f32 and truth values to the same.
fn fits(graph: &Graph, node: &Node) -> bool {
    let plain = |v: &ValueId| graph.ty(*v).is_some_and(|t| matches!(t.dtype, DType::F32 | DType::Bool));
    node.op.is_elementwise()
        && node.outputs.len() == 1
        && node.inputs.iter().all(|v| v.as_ref().is_some_and(plain))
        && node.outputs.iter().all(plain)
}

/// The nodes that join `root`, by their place in the order.
fn grow(e: &Editor<'_>, root: NodeId, place: &HashMap<NodeId, usize>) -> BTreeMap<usize, NodeId> {
    let graph = e.graph();
    let at = |id: NodeId| place.get(&id).copied().unwrap_or(0);
    let shape = |n: &Node| n.outputs.first().and_then(|v| graph.ty(*v)).map(|t| t.shape.as_slice());
    let result = graph.node(root).and_then(shape).unwrap_or(&[]);
    let mut group = BTreeMap::from([(at(root), root)]);
    let mut members = HashSet::from([root]);
    // The latest first: its users are then members already, if they ever will be.
    let mut candidates: BTreeMap<usize, NodeId> = BTreeMap::new();
    let offer = |node: &Node, candidates: &mut BTreeMap<usize, NodeId>| {
        let producers = node.inputs.iter().flatten().filter_map(|v| graph.producer(*v));
        candidates.extend(producers.map(|(id, _)| (at(id), id)));
    };
    graph.node(root).into_iter().for_each(|n| offer(n, &mut candidates));
    while let Some((_, id)) = candidates.pop_last() {
        let Some(node) = graph.node(id).filter(|n| fits(graph, n)) else { continue };
        let used_here = |v: &ValueId| !e.is_output(*v) && e.users(*v).iter().all(|u| members.contains(u));
        let same = shape(node).is_some_and(|s| same_shape(s, result));
        if members.contains(&id) || !same || !node.outputs.iter().all(used_here) {
            continue;
        }
        group.insert(at(id), id);
        if group.len() > MAX_STEPS || operands(graph, &group).len() > MAX_OPERANDS {
            group.remove(&at(id));
            continue;
        }
        members.insert(id);
        offer(node, &mut candidates);
    }
    group
}

/// What the nodes of a group use and do not make, in order of first use.
fn operands(graph: &Graph, group: &BTreeMap<usize, NodeId>) -> Vec<ValueId> {
    let made: HashSet<ValueId> =
        group.values().filter_map(|id| graph.node(*id)).flat_map(|n| n.outputs.iter().copied()).collect();
    let mut operands = Vec::new();
    for v in group.values().filter_map(|id| graph.node(*id)).flat_map(|n| n.inputs.iter().flatten()) {
        if !made.contains(v) && !operands.contains(v) {
            operands.push(*v);
        }
    }
    operands
}

/// The chain that a group makes, and its operands.
fn steps(graph: &Graph, group: &BTreeMap<usize, NodeId>) -> (Chain, Vec<ValueId>) {
    let operands = operands(graph, group);
    let mut number: HashMap<ValueId, usize> = operands.iter().enumerate().map(|(i, v)| (*v, i)).collect();
    let mut steps = Vec::new();
    for node in group.values().filter_map(|id| graph.node(*id)) {
        let reads = node.inputs.iter().flatten().filter_map(|v| number.get(v).copied()).collect();
        number.extend(node.outputs.iter().map(|v| (*v, operands.len() + steps.len())));
        steps.push(ChainStep { op: node.op.clone(), operands: reads });
    }
    (Chain { steps }, operands)
}
