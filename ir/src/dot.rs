//! Graphs as DOT, for people to look at, through petgraph's writer. Rendering does not belong here.

use crate::graph::{Graph, ValueDef};
use crate::module::WeightTable;
use petgraph::dot::{Config, Dot};
use petgraph::graph::{DiGraph, NodeIndex};
use std::collections::HashMap;

/// The graph in DOT: a box an op, an ellipse an input or output, edges labelled with types. Weights are listed in
/// the box of the op that uses them.
pub fn dot(graph: &Graph, weights: &WeightTable) -> String {
    let mut g: DiGraph<(String, &'static str), String> = DiGraph::new();
    let mut made: HashMap<crate::ValueId, NodeIndex> = HashMap::new();
    for input in &graph.inputs {
        let at = g.add_node((input.name.clone(), "ellipse"));
        made.insert(input.value, at);
    }
    let order = graph.topological_order().unwrap_or_else(|_| graph.nodes().map(|(id, _)| id).collect());
    for id in &order {
        let Some(node) = graph.node(*id) else { continue };
        let mut text = node.op.name().to_owned();
        for v in node.inputs.iter().flatten() {
            if let Some(w) = graph.weight_of(*v).and_then(|w| weights.get(w)) {
                text.push_str(&format!("\n@{} {}", w.name, w.ty));
            }
        }
        if !node.label.is_empty() {
            text.push_str(&format!("\n{}", node.label));
        }
        let at = g.add_node((text, "box"));
        made.extend(node.outputs.iter().map(|v| (*v, at)));
    }
    for id in &order {
        let Some(node) = graph.node(*id) else { continue };
        let Some(&to) = node.outputs.first().and_then(|v| made.get(v)) else { continue };
        for v in node.inputs.iter().flatten() {
            if let Some(&from) = made.get(v) {
                g.add_edge(from, to, graph.ty(*v).map(ToString::to_string).unwrap_or_default());
            }
        }
    }
    for o in &graph.outputs {
        let at = g.add_node((o.name.clone(), "ellipse"));
        if let Some(&from) = made.get(&o.value) {
            g.add_edge(from, at, graph.ty(o.value).map(ToString::to_string).unwrap_or_default());
        }
    }
    let edge = |_, e: petgraph::graph::EdgeReference<'_, String>| format!("label=\"{}\"", escape(e.weight()));
    let node = |_, (_, (text, shape)): (NodeIndex, &(String, &'static str))| {
        format!("shape={shape} label=\"{}\"", escape(text))
    };
    let config = [Config::NodeNoLabel, Config::EdgeNoLabel];
    format!("{:?}", Dot::with_attr_getters(&g, &config, &edge, &node))
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Figures about a graph, for summaries in text and JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// How often each op occurs, by name in alphabetical order.
    pub ops: Vec<(&'static str, usize)>,
    /// Nodes in all.
    pub nodes: usize,
    /// Elements of all weights that the graph uses.
    pub parameters: usize,
    /// Bytes of all weights that the graph uses.
    pub weight_bytes: usize,
}

/// Counts a graph's live ops and the weights that they use.
pub fn summary(graph: &Graph, weights: &WeightTable) -> Summary {
    let live = graph.live_nodes();
    let mut counts: std::collections::BTreeMap<&'static str, usize> = Default::default();
    let mut used = std::collections::BTreeSet::new();
    let mut use_value = |v: crate::ValueId| {
        if let Some(ValueDef::Weight(w)) = graph.def(v) {
            used.insert(w);
        }
    };
    for (id, node) in graph.nodes().filter(|(id, _)| live.get(id.index()).copied().unwrap_or(false)) {
        let _ = id;
        *counts.entry(node.op.name()).or_default() += 1;
        node.inputs.iter().flatten().for_each(|v| use_value(*v));
    }
    graph.outputs.iter().for_each(|o| use_value(o.value));
    let mut out =
        Summary { nodes: counts.values().sum(), ops: counts.into_iter().collect(), ..Summary::default() };
    for w in used.into_iter().filter_map(|w| weights.get(w)) {
        let n = w.ty.fixed_shape().and_then(|s| crate::tensor::element_count(&s)).unwrap_or(0);
        out.parameters = out.parameters.saturating_add(n);
        out.weight_bytes = out.weight_bytes.saturating_add(n.saturating_mul(w.ty.dtype.size()));
    }
    out
}
