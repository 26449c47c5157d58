//! Leaves out of a finished module what nothing uses: nodes that only computed shapes, constants that were folded,
//! graphs that no node runs. Nothing is rewritten here.

use super::error::{ImportError, Result};
use frit_ir::module::SMALL;
use frit_ir::{Graph, ValueDef, ValueId, WeightId, WeightTable};
use std::collections::{HashMap, HashSet};

/// The first graph with those that its nodes run, over the weights that they use.
pub(super) fn compact(graphs: &[Graph], weights: &WeightTable) -> Result<(Vec<Graph>, WeightTable)> {
    let mut kept = WeightTable::default();
    let mut moved: HashMap<WeightId, WeightId> = HashMap::new();
    let mut out: Vec<Graph> = Vec::new();
    let mut seen: HashSet<&str> = HashSet::new();
    let mut wanted: Vec<&Graph> = graphs.first().into_iter().collect();
    while let Some(graph) = wanted.pop() {
        if !seen.insert(&graph.name) {
            continue;
        }
        let copy = copy_graph(graph, weights, &mut kept, &mut moved)?;
        let bodies: Vec<&str> = copy.nodes().flat_map(|(_, n)| n.op.bodies()).collect();
        wanted.extend(bodies.iter().filter_map(|name| graphs.iter().find(|g| g.name == *name)));
        out.push(copy);
    }
    Ok((out, kept))
}

fn copy_graph(
    graph: &Graph,
    weights: &WeightTable,
    kept: &mut WeightTable,
    moved: &mut HashMap<WeightId, WeightId>,
) -> Result<Graph> {
    let lost = |v: ValueId| ImportError::Model(format!("graph `{}`: {v} has no origin", graph.name));
    let mut copy = Graph::new(&graph.name);
    let mut values: HashMap<ValueId, ValueId> = HashMap::new();
    for input in &graph.inputs {
        let ty = graph.ty(input.value).cloned().ok_or_else(|| lost(input.value))?;
        values.insert(input.value, copy.add_input(&input.name, ty, input.default));
    }
    let mut place = |copy: &mut Graph, values: &HashMap<ValueId, ValueId>, v: ValueId| -> Result<ValueId> {
        if let Some(to) = values.get(&v) {
            return Ok(*to);
        }
        let Some(ValueDef::Weight(id)) = graph.def(v) else { return Err(lost(v)) };
        let weight = weights.get(id).ok_or_else(|| lost(v))?;
        let to = *moved.entry(id).or_insert_with(|| match &weight.data {
            Some(data) if data.len() <= SMALL => kept.constant(data.clone()),
            Some(data) => kept.add(&weight.name, data.clone()),
            None => kept.declare(&weight.name, weight.ty.clone()),
        });
        Ok(copy.weight_value(to, &weight.ty))
    };
    let live = graph.live_nodes();
    let order = graph.topological_order().map_err(|e| ImportError::Model(e.to_string()))?;
    for id in order {
        let Some(node) = graph.node(id).filter(|_| live.get(id.index()) == Some(&true)) else { continue };
        let inputs = node
            .inputs
            .iter()
            .map(|v| v.map(|v| place(&mut copy, &values, v)).transpose())
            .collect::<Result<Vec<_>>>()?;
        let types = node
            .outputs
            .iter()
            .map(|v| graph.ty(*v).cloned().ok_or_else(|| lost(*v)))
            .collect::<Result<Vec<_>>>()?;
        let new = copy.add_node(node.op.clone(), inputs, types, &node.label);
        let outputs = copy.node(new).map(|n| n.outputs.clone()).unwrap_or_default();
        values.extend(node.outputs.iter().copied().zip(outputs));
    }
    for o in &graph.outputs {
        let v = place(&mut copy, &values, o.value)?;
        copy.add_output(&o.name, v);
    }
    copy.states = graph.states.clone();
    Ok(copy)
}
