//! Walking over the nodes of graphs and functions: names in scope, order, and which lowering a node gets. What
//! operators mean belongs to `ops/`.

use super::cx::Cx;
use super::error::{ImportError, Result};
use super::node::{NodeView, label_of};
use super::registry;
use super::val::Val;
use crate::onnx::schema::{
    AttributeProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto, SparseTensorProto, TensorProto,
};
use crate::onnx::value::HostValue;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// Graphs within graphs, and functions within functions, go so deep.
const MAX_DEPTH: usize = 32;

/// Names that nodes see.
pub(super) struct Scope<'a> {
    names: HashMap<&'a str, Val>,
    /// Constants not read yet.
    dense: HashMap<&'a str, &'a TensorProto>,
    sparse: HashMap<&'a str, &'a SparseTensorProto>,
    /// The graph under construction that the values belong to.
    frame: usize,
    /// A function does not see the names around its call.
    closed: bool,
}

/// What nodes of the model, or of a function, are read with.
#[derive(Default)]
pub(super) struct Call<'a> {
    opsets: HashMap<&'a str, i64>,
    attributes: HashMap<&'a str, &'a AttributeProto>,
}

/// The name of a domain: ai.onnx is empty.
pub(super) fn plain_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// Operator set versions by domain.
pub(super) fn opsets(imports: &[OperatorSetIdProto]) -> HashMap<&str, i64> {
    imports.iter().map(|o| (plain_domain(&o.domain), o.version)).collect()
}

/// The model's own functions by domain, name and overload.
pub(super) struct Functions<'a>(HashMap<(&'a str, &'a str, &'a str), &'a FunctionProto>);

impl<'a> Functions<'a> {
    pub fn new(all: &'a [FunctionProto]) -> Self {
        let mut by_name = HashMap::new();
        for f in all {
            let key = (plain_domain(&f.domain), f.name.as_str(), f.overload.as_str());
            by_name.entry(key).or_insert(f);
        }
        Functions(by_name)
    }

    /// The function that a node calls.
    pub fn of(&self, node: &NodeProto) -> Option<&'a FunctionProto> {
        let key = (plain_domain(&node.domain), node.op_type.as_str(), node.overload.as_str());
        self.0.get(&key).copied()
    }
}

impl<'a> Call<'a> {
    /// What the model, or a function, is read with; a domain that it does not import is the caller's.
    pub fn new(imports: &'a [OperatorSetIdProto], caller: Option<&Call<'a>>) -> Self {
        let mut all = caller.map(|c| c.opsets.clone()).unwrap_or_default();
        all.extend(opsets(imports));
        Call { opsets: all, attributes: HashMap::new() }
    }
}

impl<'a> Cx<'a> {
    // ---- names ---------------------------------------------------------------------------------------------

    /// Opens a scope of names over the present graph.
    pub(super) fn open_scope(&mut self, graph: Option<&'a GraphProto>) -> Result<()> {
        if self.scopes.len() >= MAX_DEPTH {
            return Err(ImportError::Limit {
                what: "graphs and functions within each other".into(),
                limit: MAX_DEPTH,
            });
        }
        let mut scope = Scope {
            names: HashMap::new(),
            dense: HashMap::new(),
            sparse: HashMap::new(),
            frame: self.frames.len().saturating_sub(1),
            closed: graph.is_none(),
        };
        let taken = |name: &str| {
            Err(ImportError::Constant { name: name.to_owned(), why: "another constant has this name".into() })
        };
        for t in graph.iter().flat_map(|g| &g.initializer) {
            if scope.dense.insert(&t.name, t).is_some() {
                return taken(&t.name);
            }
        }
        for t in graph.iter().flat_map(|g| &g.sparse_initializer) {
            let name = t.values.as_ref().map_or("", |v| v.name.as_str());
            if scope.sparse.insert(name, t).is_some() || scope.dense.contains_key(name) {
                return taken(name);
            }
        }
        self.scopes.push(scope);
        Ok(())
    }

    /// Gives a name its value in the innermost scope.
    pub(super) fn bind(&mut self, name: &'a str, val: Val) -> Result<()> {
        if let Some(scope) = self.scopes.last_mut()
            && (scope.names.insert(name, val).is_some() || scope.dense.contains_key(name))
        {
            return Err(self.error(format!("`{name}` has a value already")));
        }
        Ok(())
    }

    /// Gives an input its value; a constant of that name was only its default.
    pub(super) fn bind_input(&mut self, name: &'a str, val: Val) -> Result<()> {
        if let Some(scope) = self.scopes.last_mut() {
            scope.dense.remove(name);
            scope.sparse.remove(name);
        }
        self.bind(name, val)
    }

    /// True when the innermost scope has a constant of that name.
    pub(super) fn has_constant(&self, name: &str) -> bool {
        self.scopes.last().is_some_and(|s| s.dense.contains_key(name) || s.sparse.contains_key(name))
    }

    /// The value of a name in the present graph; None when no scope has it.
    pub(super) fn lookup(&mut self, name: &str) -> Result<Option<Val>> {
        for depth in (0..self.scopes.len()).rev() {
            let Some(scope) = self.scopes.get(depth) else { break };
            let frame = scope.frame;
            if let Some(val) = scope.names.get(name).cloned() {
                return self.bring(frame, &val).map(Some);
            }
            let dense = scope.dense.get_key_value(name).map(|(k, t)| (*k, *t));
            let sparse = scope.sparse.get_key_value(name).map(|(k, t)| (*k, *t));
            let read = match (dense, sparse) {
                (Some((key, t)), _) => {
                    let value = self.model.tensor(t);
                    self.count(&value);
                    Some((key, value))
                }
                (_, Some((key, t))) => Some((key, self.model.sparse(t))),
                _ => None,
            };
            if let Some((key, value)) = read {
                let value =
                    value.map_err(|e| ImportError::Constant { name: name.to_owned(), why: e.to_string() })?;
                let inner = self.frames.split_off((frame + 1).min(self.frames.len()));
                let val = self.constant_val(name, value);
                self.frames.extend(inner);
                let val = val?;
                if let Some(scope) = self.scopes.get_mut(depth) {
                    scope.names.insert(key, val.clone());
                    scope.dense.remove(key);
                    scope.sparse.remove(key);
                }
                return self.bring(frame, &val).map(Some);
            }
            if self.scopes.get(depth).is_some_and(|s| s.closed) {
                break;
            }
        }
        Ok(None)
    }

    /// A value of the host as a constant of the graph.
    pub(super) fn constant_val(&mut self, name: &str, value: HostValue) -> Result<Val> {
        Ok(match value {
            HostValue::Tensor(t) if t.len() <= frit_ir::module::SMALL || name.is_empty() => {
                Val::Tensor(self.constant(t)?)
            }
            HostValue::Tensor(t) => Val::Tensor(self.named_constant(name, t)?),
            HostValue::Strings(s) => Val::Strings(s),
            HostValue::Sequence(all) => Val::Sequence(
                all.into_iter()
                    .enumerate()
                    .map(|(i, v)| self.constant_val(&format!("{name}.{i}"), v))
                    .collect::<Result<_>>()?,
            ),
            HostValue::Optional(inner) => {
                Val::Optional(inner.map(|v| self.constant_val(name, *v).map(Box::new)).transpose()?)
            }
        })
    }

    /// Counts what the file itself stores.
    fn count<E>(&mut self, value: &std::result::Result<HostValue, E>) {
        if let Ok(HostValue::Tensor(t)) = value {
            self.stored = self.stored.saturating_add(t.bytes().len());
        }
    }

    /// The value of a tensor in an attribute.
    pub fn read(&mut self, t: &TensorProto) -> Result<Val> {
        let value = self.model.tensor(t);
        self.count(&value);
        let value = value.map_err(|e| self.error(e.to_string()))?;
        self.constant_val(&self.place.0.clone(), value)
    }

    /// The value of a sparse tensor in an attribute, made dense.
    pub fn read_sparse(&mut self, t: &SparseTensorProto) -> Result<Val> {
        let value = self.model.sparse(t).map_err(|e| self.error(e.to_string()))?;
        self.constant_val(&self.place.0.clone(), value)
    }

    // ---- graphs and functions ------------------------------------------------------------------------------

    /// Inlines a graph of an attribute: its nodes go into the present graph, on these arguments.
    pub fn run_graph(&mut self, graph: &'a GraphProto, arguments: Vec<Val>) -> Result<Vec<Val>> {
        if graph.input.len() != arguments.len() {
            return Err(self.error(format!(
                "graph `{}` takes {} inputs, got {}",
                graph.name,
                graph.input.len(),
                arguments.len()
            )));
        }
        let place = self.place.clone();
        self.open_scope(Some(graph))?;
        for (input, val) in graph.input.iter().zip(arguments) {
            self.bind_input(&input.name, val)?;
        }
        self.run_nodes(&graph.node)?;
        let mut results = Vec::with_capacity(graph.output.len());
        for o in &graph.output {
            let val = self.lookup(&o.name)?;
            results.push(val.ok_or_else(|| ImportError::Output {
                name: o.name.clone(),
                why: format!("graph `{}` has no such value", graph.name),
            })?);
        }
        self.scopes.pop();
        self.place = place;
        Ok(results)
    }

    /// Inlines a function of the model.
    fn run_function(&mut self, function: &'a FunctionProto, n: &NodeView<'a>) -> Result<Vec<Val>> {
        if n.inputs.len() > function.input.len() {
            return Err(n.error(format!(
                "the function takes {} inputs, got {}",
                function.input.len(),
                n.inputs.len()
            )));
        }
        self.charge(function.attribute_proto.len().saturating_add(function.input.len()))?;
        let place = self.place.clone();
        let mut call = Call::new(&function.opset_import, self.calls.last());
        call.attributes.extend(function.attribute_proto.iter().map(|a| (a.name.as_str(), a)));
        call.attributes.extend(n.attributes.iter().copied());
        self.open_scope(None)?;
        self.calls.push(call);
        for (name, val) in function.input.iter().zip(&n.inputs) {
            if let Some(val) = val {
                self.bind(name, val.clone())?;
            }
        }
        // An input left out is absent inside too.
        let inputs: HashSet<&str> = function.input.iter().map(String::as_str).collect();
        self.run_nodes_with(&function.node, &inputs)?;
        let mut results = Vec::with_capacity(function.output.len());
        for o in &function.output {
            results.push(self.lookup(o)?.ok_or_else(|| n.error(format!("the function gives no `{o}`")))?);
        }
        self.calls.pop();
        self.scopes.pop();
        self.place = place;
        Ok(results)
    }

    pub(super) fn run_nodes(&mut self, nodes: &'a [NodeProto]) -> Result<()> {
        self.run_nodes_with(nodes, &HashSet::new())
    }

    fn run_nodes_with(&mut self, nodes: &'a [NodeProto], may_be_absent: &HashSet<&str>) -> Result<()> {
        for i in in_order(nodes)? {
            if let Some(node) = nodes.get(i) {
                self.run_node(node, may_be_absent)?;
            }
        }
        Ok(())
    }

    // ---- one node ------------------------------------------------------------------------------------------

    fn run_node(&mut self, node: &'a NodeProto, may_be_absent: &HashSet<&str>) -> Result<()> {
        let Some(left) = self.nodes_left.checked_sub(1) else {
            let what = format!("nodes after inlining, at `{}`", label_of(node));
            return Err(ImportError::Limit { what, limit: super::MAX_INLINED });
        };
        self.nodes_left = left;
        self.place = (label_of(node), node.op_type.clone());
        let view = self.view(node, may_be_absent)?;
        let results = match registry::find(view.domain, view.op, view.opset) {
            Some(lower) => lower(self, &view)?,
            None => match self.functions.of(node) {
                Some(function) => self.run_function(function, &view)?,
                None => return Err(view.error("this operator is not supported")),
            },
        };
        self.place = (view.label.clone(), view.op.to_owned());
        if registry::find(view.domain, view.op, view.opset).is_some() {
            for name in view.unasked() {
                // What ONNX's own operators have not had so far would change what they mean.
                if view.domain.is_empty() {
                    return Err(view.error(format!("attribute `{name}` is not supported")));
                }
                self.warn(format!("node `{}` ({}): attribute `{name}` is ignored", view.label, view.op));
            }
        }
        if results.len() < view.output_count() {
            return Err(view.error(format!(
                "{} outputs are named, {} are made",
                view.output_count(),
                results.len()
            )));
        }
        for (name, val) in node.output.iter().zip(results) {
            if let Val::Sequence(all) = &val {
                self.charge(all.len())?;
            }
            if !name.is_empty() {
                self.bind(name, val)?;
            }
        }
        Ok(())
    }

    fn view(&mut self, node: &'a NodeProto, may_be_absent: &HashSet<&str>) -> Result<NodeView<'a>> {
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            let val = if name.is_empty() { None } else { self.lookup(name)? };
            if val.is_none() && !name.is_empty() && !may_be_absent.contains(name.as_str()) {
                return Err(self.error(format!("input `{name}` is no value of the graph")));
            }
            inputs.push(val);
        }
        while matches!(inputs.last(), Some(None)) {
            inputs.pop();
        }
        let call = self.calls.last();
        let mut attributes: Vec<(&'a str, &'a AttributeProto)> = Vec::with_capacity(node.attribute.len());
        let mut seen = HashSet::new();
        for a in &node.attribute {
            let given = if a.ref_attr_name.is_empty() {
                Some(a)
            } else {
                call.and_then(|c| c.attributes.get(a.ref_attr_name.as_str()).copied())
            };
            if !seen.insert(a.name.as_str()) {
                return Err(self.error(format!("attribute `{}` is given twice", a.name)));
            }
            attributes.extend(given.map(|g| (a.name.as_str(), g)));
        }
        let domain = plain_domain(&node.domain);
        let opset = call.and_then(|c| c.opsets.get(domain).copied());
        Ok(NodeView {
            proto: node,
            op: &node.op_type,
            domain,
            // Old files import no opsets; functions of the model need none.
            opset: opset.unwrap_or(1),
            label: label_of(node),
            inputs,
            attributes,
            asked: RefCell::default(),
        })
    }
}

/// Positions of the nodes so that each comes after those whose outputs it uses: the order of the file when that is
/// such an order, as ONNX demands.
fn in_order(nodes: &[NodeProto]) -> Result<Vec<usize>> {
    let mut maker: HashMap<&str, usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for name in node.output.iter().filter(|o| !o.is_empty()) {
            if let Some(first) = maker.insert(name, i) {
                let other = nodes.get(first).map(label_of).unwrap_or_default();
                let why = format!("`{name}` is also an output of node `{other}`");
                return Err(ImportError::Node { node: label_of(node), op: node.op_type.clone(), why });
            }
        }
    }
    let needs: Vec<Vec<usize>> = nodes
        .iter()
        .map(|node| {
            let mut names = Vec::new();
            uses(node, &mut names);
            let mut all: Vec<usize> = names.iter().filter_map(|n| maker.get(n).copied()).collect();
            all.sort_unstable();
            all.dedup();
            all
        })
        .collect();
    if needs.iter().enumerate().all(|(i, n)| n.iter().all(|&m| m < i)) {
        return Ok((0..nodes.len()).collect());
    }
    // Kahn's algorithm; of those ready the first in the file comes first.
    let mut open: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (i, n) in needs.iter().enumerate() {
        for &m in n {
            if let Some(u) = users.get_mut(m) {
                u.push(i);
            }
        }
    }
    let mut ready: std::collections::BTreeSet<usize> =
        open.iter().enumerate().filter(|(_, n)| **n == 0).map(|(i, _)| i).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(i) = ready.pop_first() {
        order.push(i);
        for &u in users.get(i).into_iter().flatten() {
            if let Some(n) = open.get_mut(u) {
                *n = n.saturating_sub(1);
                if *n == 0 {
                    ready.insert(u);
                }
            }
        }
    }
    if order.len() == nodes.len() {
        return Ok(order);
    }
    let done: HashSet<usize> = order.into_iter().collect();
    let stuck: Vec<&NodeProto> =
        nodes.iter().enumerate().filter(|(i, _)| !done.contains(i)).map(|(_, n)| n).collect();
    let first = stuck.first().copied().cloned().unwrap_or_default();
    let names: Vec<String> = stuck.iter().take(8).map(|n| label_of(n)).collect();
    let why = format!("its inputs depend on its outputs; the cycle goes through {}", names.join(", "));
    Err(ImportError::Node { node: label_of(&first), op: first.op_type, why })
}

/// Every name that a node uses, those in its graphs included.
fn uses<'n>(node: &'n NodeProto, out: &mut Vec<&'n str>) {
    out.extend(node.input.iter().map(String::as_str).filter(|n| !n.is_empty()));
    for a in &node.attribute {
        for graph in a.g.as_deref().into_iter().chain(&a.graphs) {
            for inner in &graph.node {
                uses(inner, out);
            }
            out.extend(graph.output.iter().map(|o| o.name.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            input: inputs.iter().map(|s| (*s).to_owned()).collect(),
            output: vec![output.to_owned()],
            op_type: "Add".into(),
            ..NodeProto::default()
        }
    }

    #[test]
    fn nodes_are_put_in_order_and_cycles_are_named() {
        let nodes = [node(&["b", "x"], "c"), node(&["a", "x"], "b"), node(&["x", "x"], "a")];
        assert_eq!(in_order(&nodes).unwrap(), [2, 1, 0]);
        let nodes = [node(&["b"], "a"), node(&["a"], "b")];
        let e = in_order(&nodes).unwrap_err().to_string();
        assert!(e.contains("`a`") && e.contains("cycle"), "{e}");
        let e = in_order(&[node(&[], "a"), node(&[], "a")]).unwrap_err().to_string();
        assert!(e.contains("also an output"), "{e}");
    }
}
