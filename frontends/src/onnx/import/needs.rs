//! What must be known at import and is not: which inputs or sizes of inputs it depends on, so that the caller can fix
//! them. What is known is found in `cx.rs` and `contents.rs`.

use super::cx::Cx;
use super::error::{ImportError, Size};
use super::node::NodeView;
use frit_ir::graph::ValueDef;
use frit_ir::{Dim, ValueId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a value depends on.
#[derive(Default)]
struct Behind {
    /// Inputs of the model, in its order.
    inputs: Vec<String>,
    /// Symbols in attributes of ops on the way.
    symbols: BTreeSet<Arc<str>>,
}

impl Cx<'_> {
    /// The error of a value that must be known at import.
    pub fn needs_values(&self, n: &NodeView<'_>, v: ValueId, why: String) -> ImportError {
        let Behind { inputs, symbols } = self.behind(vec![v]);
        if inputs.is_empty() {
            return self.needs_symbols(n, &symbols, why);
        }
        ImportError::NeedsValues { inputs, node: n.label.clone(), op: n.op.to_owned(), why }
    }

    /// The error of dims that must be known at import.
    pub fn needs_sizes(&self, n: &NodeView<'_>, dims: &[Dim], why: String) -> ImportError {
        self.needs_symbols(n, &dims.iter().flat_map(Dim::symbols).collect(), why)
    }

    fn needs_symbols(&self, n: &NodeView<'_>, symbols: &BTreeSet<Arc<str>>, why: String) -> ImportError {
        let graph = self.frames.first().map(|f| &f.graph);
        let mut sizes: Vec<Size> = Vec::new();
        for input in graph.iter().flat_map(|g| &g.inputs) {
            let shape = graph.and_then(|g| g.ty(input.value)).map_or(&[][..], |t| &t.shape);
            for (axis, d) in shape.iter().enumerate() {
                let Some(symbol) = d.as_symbol().filter(|s| symbols.contains(*s)) else { continue };
                if sizes.iter().all(|s| s.symbol != symbol) {
                    sizes.push(Size { symbol: symbol.to_owned(), input: input.name.clone(), axis });
                }
            }
        }
        if sizes.is_empty() {
            // Sizes that the graph itself finds may follow from values of inputs.
            let graph = self.frames.last().map(|f| &f.graph);
            let sources = graph.into_iter().flat_map(|g| g.nodes()).map(|(_, node)| node);
            let sources = sources.filter(|node| node.op.defines().iter().any(|s| symbols.contains(*s)));
            let inputs =
                self.behind(sources.flat_map(|node| node.inputs.iter().flatten().copied()).collect()).inputs;
            if inputs.is_empty() {
                return n.error(why);
            }
            return ImportError::NeedsValues { inputs, node: n.label.clone(), op: n.op.to_owned(), why };
        }
        ImportError::NeedsSizes { sizes, node: n.label.clone(), op: n.op.to_owned(), why }
    }

    /// What values of the present graph depend on; for those of a body also what is behind everything the body
    /// captures.
    fn behind(&self, mut wanted: Vec<ValueId>) -> Behind {
        let mut found = Behind::default();
        for (depth, frame) in self.frames.iter().enumerate().rev() {
            let mut seen = vec![false; frame.graph.value_count()];
            let mut outer: Vec<ValueId> = Vec::new();
            let mut names = Vec::new();
            while let Some(v) = wanted.pop() {
                if seen.get_mut(v.index()).is_none_or(|s| std::mem::replace(s, true)) {
                    continue;
                }
                match frame.graph.def(v) {
                    Some(ValueDef::Node(id, _)) => {
                        let Some(node) = frame.graph.node(id) else { continue };
                        found.symbols.extend(node.op.dims().iter().flat_map(|d| d.symbols()));
                        wanted.extend(node.inputs.iter().flatten().copied());
                    }
                    Some(ValueDef::Input(i)) => {
                        names.extend(frame.graph.inputs.get(i).map(|input| input.name.clone()));
                        outer.extend(frame.captured.iter().filter(|(_, inner)| *inner == v).map(|(o, _)| *o));
                    }
                    _ => {}
                }
            }
            if depth == 0 {
                let order = |name: &String| frame.graph.inputs.iter().position(|i| i.name == *name);
                names.sort_by_key(order);
                names.dedup();
                found.inputs = names;
            }
            wanted = outer;
        }
        found
    }
}
