//! Order and liveness of a graph's nodes, by petgraph. Editing graphs does not belong here.

use super::{Graph, Node, NodeId, ValueDef, ValueId};
use crate::dim::Dim;
use petgraph::graph::{DiGraph, NodeIndex};
use std::collections::HashMap;
use std::sync::Arc;

/// A graph whose nodes depend on each other in a circle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("graph `{graph}` has a cycle through {node} ({label})")]
pub struct CycleError {
    /// Graph name.
    pub graph: String,
    /// A node on the cycle.
    pub node: NodeId,
    /// Its label.
    pub label: String,
}

/// Which node defines which dimension symbol.
type Definers = HashMap<Arc<str>, NodeId>;

impl Graph {
    fn definers(&self) -> Definers {
        self.defined_symbols().into_iter().collect()
    }

    /// The nodes that define the symbols in a node's attributes and types: it comes after them.
    fn definers_of(&self, id: NodeId, node: &Node, definers: &Definers) -> Vec<NodeId> {
        if definers.is_empty() {
            return Vec::new();
        }
        let types = node.outputs.iter().filter_map(|v| self.ty(*v)).flat_map(|t| &t.shape);
        let mut all: Vec<NodeId> = types
            .chain(&node.op.dims())
            .flat_map(Dim::symbols)
            .filter_map(|s| definers.get(&s).copied())
            .filter(|d| *d != id)
            .collect();
        // What a body of control flow uses of this graph's symbols is not visible here: it comes after all of them
        // that stand before it.
        if !node.op.bodies().is_empty() {
            all.extend(definers.values().copied().filter(|d| *d < id));
        }
        all.sort();
        all.dedup();
        all
    }

    /// The dependency graph as petgraph has it: an edge from each producer to each user.
    pub fn dependencies(&self) -> DiGraph<NodeId, ValueId> {
        let definers = self.definers();
        let mut g = DiGraph::new();
        let mut at: HashMap<NodeId, NodeIndex> = HashMap::new();
        // petgraph's toposort finishes late-added roots first; adding in reverse keeps program order.
        let ids: Vec<NodeId> = self.nodes().map(|(id, _)| id).collect();
        for id in ids.into_iter().rev() {
            at.insert(id, g.add_node(id));
        }
        for (id, n) in self.nodes() {
            for v in n.inputs.iter().flatten() {
                if let (Some((p, _)), Some(&to)) = (self.producer(*v), at.get(&id))
                    && let Some(&from) = at.get(&p)
                {
                    g.add_edge(from, to, *v);
                }
            }
            for d in self.definers_of(id, n, &definers) {
                let value = self.node(d).and_then(|n| n.outputs.first().copied());
                if let (Some(&from), Some(&to), Some(v)) = (at.get(&d), at.get(&id), value) {
                    g.add_edge(from, to, v);
                }
            }
        }
        g
    }

    /// Live nodes so that producers come before users; deterministic.
    pub fn topological_order(&self) -> Result<Vec<NodeId>, CycleError> {
        // Insertion order usually is one already, and then it reads best.
        let mut seen = vec![false; self.nodes.len()];
        let mut ordered = true;
        let definers = self.definers();
        'check: for (id, n) in self.nodes() {
            let late = |d: &NodeId| !seen.get(d.index()).copied().unwrap_or(true);
            if self.definers_of(id, n, &definers).iter().any(late) {
                ordered = false;
                break 'check;
            }
            for v in n.inputs.iter().flatten() {
                if let Some(ValueDef::Node(p, _)) = self.def(*v)
                    && !seen.get(p.index()).copied().unwrap_or(true)
                {
                    ordered = false;
                    break 'check;
                }
            }
            if let Some(s) = seen.get_mut(id.index()) {
                *s = true;
            }
        }
        if ordered {
            return Ok(self.nodes().map(|(id, _)| id).collect());
        }
        let g = self.dependencies();
        match petgraph::algo::toposort(&g, None) {
            Ok(order) => Ok(order.into_iter().filter_map(|i| g.node_weight(i).copied()).collect()),
            Err(cycle) => {
                let node = g.node_weight(cycle.node_id()).copied().unwrap_or(NodeId(0));
                let label = self.node(node).map(|n| n.label.clone()).unwrap_or_default();
                Err(CycleError { graph: self.name.clone(), node, label })
            }
        }
    }

    /// Nodes that some output depends on.
    pub fn live_nodes(&self) -> Vec<bool> {
        let mut live = vec![false; self.nodes.len()];
        let definers = self.definers();
        let mut stack: Vec<NodeId> = Vec::new();
        let producer = |v: ValueId| self.producer(v).map(|(id, _)| id);
        stack.extend(self.outputs.iter().filter_map(|o| producer(o.value)));
        while let Some(id) = stack.pop() {
            if let Some(l) = live.get_mut(id.index())
                && !*l
                && let Some(node) = self.node(id)
            {
                *l = true;
                stack.extend(node.inputs.iter().flatten().filter_map(|v| producer(*v)));
                stack.extend(self.definers_of(id, node, &definers));
            }
        }
        live
    }

    /// The same graph without dead nodes and values, renumbered in topological order. Inputs stay, used or not.
    pub fn compacted(&self) -> Result<Graph, CycleError> {
        let live = self.live_nodes();
        let mut out = Graph::new(&self.name);
        out.states = self.states.clone();
        let mut map: HashMap<ValueId, ValueId> = HashMap::new();
        for i in &self.inputs {
            if let Some(ty) = self.ty(i.value) {
                map.insert(i.value, out.add_input(&i.name, ty.clone(), i.default));
            }
        }
        let carry = |v: ValueId, out: &mut Graph, map: &mut HashMap<ValueId, ValueId>| -> Option<ValueId> {
            if let Some(m) = map.get(&v) {
                return Some(*m);
            }
            let w = self.weight_of(v)?;
            let m = out.weight_value(w, self.ty(v)?);
            map.insert(v, m);
            Some(m)
        };
        for id in self.topological_order()? {
            if !live.get(id.index()).copied().unwrap_or(false) {
                continue;
            }
            let Some(node) = self.node(id) else { continue };
            let inputs = node.inputs.iter().map(|v| v.and_then(|v| carry(v, &mut out, &mut map))).collect();
            let types = node.outputs.iter().filter_map(|v| self.ty(*v).cloned()).collect();
            let new = out.add_node(node.op.clone(), inputs, types, &node.label);
            let new_outputs = out.node(new).map(|n| n.outputs.clone()).unwrap_or_default();
            map.extend(node.outputs.iter().copied().zip(new_outputs));
        }
        for o in &self.outputs {
            if let Some(v) = carry(o.value, &mut out, &mut map) {
                out.add_output(&o.name, v);
            }
        }
        Ok(out)
    }
}
