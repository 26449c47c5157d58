//! What a loop carries unchanged or is handed as a constant leaves its operands: constants become the body's own, so
//! that products with them are prepared once. Rewrites within one graph are in `rules/`.

use crate::trace::Log;
use frit_ir::graph::CycleError;
use frit_ir::op::Op;
use frit_ir::{Graph, Module, Node, NodeId, ValueId, WeightTable};

/// The name under which changes are counted.
pub const NAME: &str = "loop_invariants";

/// Operands of a Loop, and inputs of its body, before the values.
const FIRST: usize = 2;

/// Rewrites every loop whose body no other node runs; gives how many values left the loops.
pub fn sweep(module: &mut Module, log: &mut Log) -> Result<usize, CycleError> {
    let mut moved = 0;
    // What a body gets, its own loops may get next.
    for _ in 0..module.graphs.len() {
        let mut changed = 0;
        for at in 0..module.graphs.len() {
            changed += graph(module, at, log)?;
        }
        moved += changed;
        if changed == 0 {
            break;
        }
    }
    Ok(moved)
}

/// The loops of one graph.
fn graph(module: &mut Module, at: usize, log: &mut Log) -> Result<usize, CycleError> {
    let Some(outer) = module.graphs.get(at) else { return Ok(0) };
    let loops: Vec<NodeId> =
        outer.nodes().filter(|(_, n)| matches!(n.op, Op::Loop(_))).map(|(id, _)| id).collect();
    let mut moved = 0;
    for id in loops {
        // Both graphs are taken out of the module while they change.
        let Some((body_at, node)) = module.graphs.get(at).and_then(|g| only_user(module, g, id)) else {
            continue;
        };
        if body_at == at {
            continue;
        }
        let take = |g: Option<&mut Graph>| g.map(std::mem::take).unwrap_or_default();
        let mut outer = take(module.graphs.get_mut(at));
        let mut body = take(module.graphs.get_mut(body_at));
        let n = one(&mut outer, &mut body, id, &node, &module.weights);
        if n > 0 {
            outer = outer.compacted()?;
            body = body.compacted()?;
            log.graph.clone_from(&outer.name);
            log.fired(NAME, &node.label, ValueId::from_index(0));
        }
        for (at, graph) in [(at, outer), (body_at, body)] {
            if let Some(slot) = module.graphs.get_mut(at) {
                *slot = graph;
            }
        }
        moved += n;
        if n > 0 {
            // Compacting numbered the nodes anew; the others have their turn in the next round.
            break;
        }
    }
    Ok(moved)
}

/// The body of a loop and the node itself, when no other node runs that body.
fn only_user(module: &Module, graph: &Graph, id: NodeId) -> Option<(usize, Node)> {
    let node = graph.node(id)?;
    let Op::Loop(op) = &node.op else { return None };
    let runs = |n: &Node| n.op.bodies().iter().filter(|b| **b == op.body).count();
    let users: usize = module.graphs.iter().flat_map(Graph::nodes).map(|(_, n)| runs(n)).sum();
    let at = module.graphs.iter().position(|g| g.name == op.body)?;
    (users == 1).then(|| (at, node.clone()))
}

/// Rewrites one loop; gives how many of its values changed place.
fn one(outer: &mut Graph, body: &mut Graph, id: NodeId, node: &Node, weights: &WeightTable) -> usize {
    let Op::Loop(op) = &node.op else { return 0 };
    let carried = usize::try_from(op.carried).unwrap_or(0);
    if body.inputs.len() != node.inputs.len() || body.outputs.len() != node.outputs.len() + 1 {
        return 0;
    }
    let (inputs, outputs) = (body.inputs.clone(), body.outputs.clone());
    let (mut operands, mut kept_inputs) = (Vec::new(), Vec::new());
    // Behind the carried values come those that turned out to be the same in every iteration.
    let (mut captured, mut captured_inputs) = (Vec::new(), Vec::new());
    let mut kept: Vec<bool> = vec![true; node.outputs.len()];
    let mut constants = Vec::new();
    let mut moved = 0;
    for (i, (operand, input)) in node.inputs.iter().copied().zip(inputs).enumerate() {
        let value = i.checked_sub(FIRST);
        let is_carried = value.is_some_and(|v| v < carried);
        let start = operand.filter(|v| match (outer.ty(*v), body.ty(input.value)) {
            (Some(a), Some(b)) => value.is_some() && a.same(b),
            _ => false,
        });
        let Some(start) = start else {
            operands.push(operand);
            kept_inputs.push(input);
            continue;
        };
        let result = value.filter(|_| is_carried).and_then(|v| Some((v, *node.outputs.get(v)?)));
        if let Some((v, result)) = result {
            let unchanged = outputs.get(v + 1).is_some_and(|o| o.value == input.value);
            let same = outer.ty(result).zip(outer.ty(start)).is_some_and(|(a, b)| a.same(b));
            if !unchanged || !same {
                operands.push(operand);
                kept_inputs.push(input);
                continue;
            }
            outer.replace_uses(result, start);
            if let Some(k) = kept.get_mut(v) {
                *k = false;
            }
            moved += 1;
        }
        match outer.weight_of(start).filter(|w| weights.get(*w).is_some()) {
            Some(weight) => {
                constants.push((input.value, weight, start));
                moved += usize::from(!is_carried);
            }
            None => {
                captured.push(operand);
                captured_inputs.push(input);
            }
        }
    }
    if moved == 0 {
        return 0;
    }
    let mut keep = std::iter::once(true).chain(kept.iter().copied());
    body.outputs = outputs.into_iter().filter(|_| keep.next().unwrap_or(true)).collect();
    body.inputs = kept_inputs.into_iter().chain(captured_inputs).collect();
    for (input, weight, start) in constants {
        if let Some(ty) = outer.ty(start).cloned() {
            let own = body.weight_value(weight, &ty);
            body.replace_uses(input, own);
        }
    }
    operands.extend(captured);
    let mut new = op.clone();
    new.carried = i64::try_from(kept.iter().take(carried).filter(|k| **k).count()).unwrap_or(0);
    let pick = |(t, k): (_, &bool)| k.then_some(t);
    new.types = op.types.iter().cloned().zip(&kept).filter_map(pick).collect();
    let old: Vec<ValueId> = node.outputs.iter().zip(&kept).filter_map(|(v, k)| k.then_some(*v)).collect();
    let types = old.iter().filter_map(|v| outer.ty(*v).cloned()).collect();
    // In its place: a loop comes after the definers of symbols before it, whichever its body needs.
    let results = outer.replace_node(id, new.into(), operands, types);
    for (old, new) in old.into_iter().zip(results) {
        outer.replace_uses(old, new);
    }
    moved
}
