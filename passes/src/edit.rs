//! Editing a graph in place with an index of uses that stays true: building, replacing, removing what is dead.
//! What to rewrite is decided elsewhere.

use frit_ir::builder::{BuildError, GraphBuilder};
use frit_ir::{Graph, NodeId, TensorType, ValueId, WeightTable};

/// A graph under rewriting, with the users of every value.
pub struct Editor<'m> {
    graph: &'m mut Graph,
    weights: &'m mut WeightTable,
    /// For every value the nodes that use it, once an operand.
    users: Vec<Vec<NodeId>>,
    /// For every value how many graph outputs it is.
    outputs: Vec<u32>,
}

/// Why a value cannot stand in for another.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReplaceError {
    /// The types differ.
    #[error("{new} does not stand in for {old}")]
    Type {
        /// Type of the value to be replaced.
        old: TensorType,
        /// Type of what was to replace it.
        new: TensorType,
    },
    /// A handle of another graph.
    #[error("{0} is no value of this graph")]
    Foreign(ValueId),
}

impl<'m> Editor<'m> {
    /// Indexes a graph.
    pub fn new(graph: &'m mut Graph, weights: &'m mut WeightTable) -> Self {
        let mut editor = Editor { graph, weights, users: Vec::new(), outputs: Vec::new() };
        editor.grow();
        let uses: Vec<(NodeId, ValueId)> = editor
            .graph
            .nodes()
            .flat_map(|(id, n)| n.inputs.iter().flatten().map(move |v| (id, *v)))
            .collect();
        for (id, v) in uses {
            editor.note_use(id, v);
        }
        let outputs: Vec<ValueId> = editor.graph.outputs.iter().map(|o| o.value).collect();
        for v in outputs {
            if let Some(n) = editor.outputs.get_mut(v.index()) {
                *n += 1;
            }
        }
        editor
    }

    /// The graph as it is now.
    pub fn graph(&self) -> &Graph {
        self.graph
    }

    /// The module's constants.
    pub fn weights(&self) -> &WeightTable {
        self.weights
    }

    /// The module's constants, to be added to.
    pub fn weights_mut(&mut self) -> &mut WeightTable {
        self.weights
    }

    /// The nodes that use a value, once an operand.
    pub fn users(&self, v: ValueId) -> &[NodeId] {
        self.users.get(v.index()).map_or(&[], Vec::as_slice)
    }

    /// True when the value is an output of the graph.
    pub fn is_output(&self, v: ValueId) -> bool {
        self.outputs.get(v.index()).is_some_and(|&n| n > 0)
    }

    /// Builds nodes under a label. When `build` fails, nothing of what it built stays.
    pub fn build<T, E>(
        &mut self,
        label: &str,
        build: impl FnOnce(&mut GraphBuilder<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let first = self.graph.next_node();
        let mut builder = GraphBuilder::new(self.graph, self.weights);
        if !label.is_empty() {
            builder.replace_scope(vec![label.to_owned()]);
        }
        let result = build(&mut builder);
        self.grow();
        for i in first.index()..self.graph.next_node().index() {
            let id = NodeId::from_index(i);
            let operands: Vec<ValueId> =
                self.graph.node(id).map(|n| n.inputs.iter().flatten().copied().collect()).unwrap_or_default();
            for v in operands {
                self.note_use(id, v);
            }
        }
        if result.is_err() {
            self.discard_since(first);
        }
        result
    }

    /// Removes every node added since `first` that nothing uses.
    pub fn discard_since(&mut self, first: NodeId) {
        for i in (first.index()..self.graph.next_node().index()).rev() {
            self.remove_if_dead(NodeId::from_index(i));
        }
    }

    /// The value of a constant added to the table.
    pub fn constant(&mut self, name: &str, data: frit_ir::Tensor) -> Result<ValueId, BuildError> {
        let small = data.len() <= frit_ir::module::SMALL;
        let id = if small { self.weights.constant(data) } else { self.weights.add(name, data) };
        self.weight(id)
    }

    /// The value of a weight already in the table.
    pub fn weight(&mut self, id: frit_ir::WeightId) -> Result<ValueId, BuildError> {
        self.build("", |b| b.weight(id))
    }

    /// Makes every use of `old` a use of `new`, and removes what is dead then.
    pub fn replace(&mut self, old: ValueId, new: ValueId) -> Result<(), ReplaceError> {
        if old == new {
            return Ok(());
        }
        let (Some(a), Some(b)) = (self.graph.ty(old), self.graph.ty(new)) else {
            return Err(ReplaceError::Foreign(if self.graph.ty(old).is_none() { old } else { new }));
        };
        if !a.same(b) {
            return Err(ReplaceError::Type { old: a.clone(), new: b.clone() });
        }
        let users = self.users.get_mut(old.index()).map(std::mem::take).unwrap_or_default();
        for id in users {
            let slots: Vec<usize> = self
                .graph
                .node(id)
                .map(|n| (0..n.inputs.len()).filter(|&i| n.inputs.get(i) == Some(&Some(old))).collect())
                .unwrap_or_default();
            for i in slots {
                self.graph.set_operand(id, i, Some(new));
                self.note_use(id, new);
            }
        }
        let mut moved = 0;
        for o in &mut self.graph.outputs {
            if o.value == old {
                o.value = new;
                moved += 1;
            }
        }
        if let Some(n) = self.outputs.get_mut(old.index()) {
            *n -= moved;
        }
        if let Some(n) = self.outputs.get_mut(new.index()) {
            *n += moved;
        }
        if let Some((id, _)) = self.graph.producer(old) {
            self.remove_if_dead(id);
        }
        Ok(())
    }

    /// Removes a node that nothing uses, then those that only it used.
    pub fn remove_if_dead(&mut self, id: NodeId) {
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            let Some(node) = self.graph.node(id) else { continue };
            if node.outputs.iter().any(|v| !self.users(*v).is_empty() || self.is_output(*v)) {
                continue;
            }
            // Users of a symbol are no users of a value; compacting removes definers that none needs.
            if !node.op.defines().is_empty() {
                continue;
            }
            let operands: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
            self.graph.remove_node(id);
            for v in operands {
                if let Some(list) = self.users.get_mut(v.index())
                    && let Some(at) = list.iter().position(|u| *u == id)
                {
                    list.swap_remove(at);
                }
                if let Some((producer, _)) = self.graph.producer(v) {
                    stack.push(producer);
                }
            }
        }
    }

    fn grow(&mut self) {
        self.users.resize(self.graph.value_count(), Vec::new());
        self.outputs.resize(self.graph.value_count(), 0);
    }

    fn note_use(&mut self, user: NodeId, v: ValueId) {
        if let Some(list) = self.users.get_mut(v.index()) {
            list.push(user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frit_ir::op::UnaryFn;
    use frit_ir::{DType, TensorType};

    #[test]
    fn replacing_removes_what_only_the_old_value_needed() {
        let mut graph = Graph::new("forward");
        let mut weights = WeightTable::default();
        let mut b = GraphBuilder::new(&mut graph, &mut weights);
        let x = b.input("x", TensorType::new(DType::F32, [2usize]), None);
        let y = b.unary(UnaryFn::Neg, x).unwrap();
        let z = b.unary(UnaryFn::Neg, y).unwrap();
        b.output("z", z);
        let mut e = Editor::new(&mut graph, &mut weights);
        assert_eq!((e.users(x).len(), e.users(y).len(), e.is_output(z)), (1, 1, true));
        e.replace(z, x).unwrap();
        assert_eq!(e.graph().node_count(), 0);
        assert!(e.is_output(x) && e.users(x).is_empty());
    }

    #[test]
    fn another_type_is_refused_and_a_failed_build_leaves_nothing() {
        let mut graph = Graph::new("forward");
        let mut weights = WeightTable::default();
        let mut b = GraphBuilder::new(&mut graph, &mut weights);
        let x = b.input("x", TensorType::new(DType::F32, [2usize]), None);
        let w = b.input("w", TensorType::new(DType::F32, [3usize]), None);
        let y = b.unary(UnaryFn::Neg, x).unwrap();
        b.output("y", y);
        let mut e = Editor::new(&mut graph, &mut weights);
        assert!(matches!(e.replace(y, w), Err(ReplaceError::Type { .. })));
        let failed = e.build("", |b| {
            b.unary(UnaryFn::Abs, x)?;
            b.add(x, w)
        });
        assert!(failed.is_err());
        assert_eq!((e.graph().node_count(), e.users(x).len()), (1, 1));
    }
}
