//! Makes a graph one that ONNX can say at an opset: composite ops that it lacks become their parts. Nothing is written
//! here, and no op's ONNX form is known here but whether it has one.

use super::{ExportError, ExportOptions, ops};
use frit_ir::{Graph, GraphBuilder, Module, NodeId, ValueId, WeightTable};
use std::collections::{BTreeMap, HashMap};

/// A decomposition may give composite ops again, so deep at most.
const MAX_ROUNDS: usize = 8;

/// The graph with every composite op without a form of its own expanded, dead nodes removed; then the graphs that its
/// control flow runs, and theirs, made so too.
pub(super) fn prepare(
    graph: &Graph,
    module: &Module,
    weights: &mut WeightTable,
    options: &ExportOptions,
) -> Result<Vec<Graph>, ExportError> {
    let mut all = vec![prepare_one(graph, weights, options)?];
    let mut done = 0;
    while let Some(g) = all.get(done) {
        let bodies: Vec<String> = g.nodes().flat_map(|(_, n)| n.op.bodies()).map(str::to_owned).collect();
        for name in bodies {
            if all.iter().skip(1).any(|g| g.name == name) {
                continue;
            }
            let body = module.graph(&name).ok_or_else(|| ExportError::Entry {
                name: name.clone(),
                known: module.graphs.iter().map(|g| g.name.clone()).collect(),
            })?;
            all.push(prepare_one(body, weights, options)?);
        }
        done += 1;
    }
    refuse_unsupported(&all, options)?;
    Ok(all)
}

fn prepare_one(
    graph: &Graph,
    weights: &mut WeightTable,
    options: &ExportOptions,
) -> Result<Graph, ExportError> {
    let mut graph = graph.compacted()?;
    for _ in 0..MAX_ROUNDS {
        let (next, changed) = expand(&graph, weights, options)?;
        graph = next;
        if !changed {
            break;
        }
    }
    Ok(graph.compacted()?)
}

/// One round: every node is carried over or replaced by its decomposition.
fn expand(
    graph: &Graph,
    weights: &mut WeightTable,
    options: &ExportOptions,
) -> Result<(Graph, bool), ExportError> {
    let mut out = Graph::new(&graph.name);
    let mut map: HashMap<ValueId, ValueId> = HashMap::new();
    let mut b = GraphBuilder::new(&mut out, weights);
    for input in &graph.inputs {
        if let Some(ty) = graph.ty(input.value) {
            map.insert(input.value, b.input(&input.name, ty.clone(), input.default));
        }
    }
    for (id, value) in graph.weights() {
        map.insert(value, b.weight(id)?);
    }
    let mut changed = false;
    for id in graph.topological_order()? {
        let Some(node) = graph.node(id) else { continue };
        let inputs: Vec<_> = node.inputs.iter().map(|v| v.and_then(|v| map.get(&v).copied())).collect();
        b.replace_scope(vec![node.label.clone()]);
        let outputs = if !node.op.is_composite() || ops::has_form(graph, node, options) {
            // The types stand as they are: they may say more than inference alone.
            let types = node.outputs.iter().filter_map(|v| graph.ty(*v).cloned()).collect();
            let id: NodeId = b.graph.add_node(node.op.clone(), inputs, types, &node.label);
            b.graph.node(id).map(|n| n.outputs.clone()).unwrap_or_default()
        } else {
            changed = true;
            node.op.decompose(&mut b, &inputs)?
        };
        map.extend(node.outputs.iter().copied().zip(outputs));
    }
    for output in &graph.outputs {
        if let Some(v) = map.get(&output.value) {
            b.output(&output.name, *v);
        }
    }
    Ok((out, changed))
}

/// An error that names every op without a form, how often it occurs, and where first.
fn refuse_unsupported(graphs: &[Graph], options: &ExportOptions) -> Result<(), ExportError> {
    let mut missing: BTreeMap<&'static str, (usize, &str)> = BTreeMap::new();
    for (graph, node) in graphs.iter().flat_map(|g| g.nodes().map(move |(_, n)| (g, n))) {
        if !ops::has_form(graph, node, options) {
            missing.entry(node.op.name()).or_insert((0, &node.label)).0 += 1;
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let ops =
        missing.iter().map(|(op, (n, label))| format!("{op} ({n} times, first at `{label}`)")).collect();
    Err(ExportError::Unsupported { opset: options.opset, ops })
}
