//! The verifier: everything that must hold of a module, checked from scratch. It repairs nothing.

use crate::builder::{InferError, infer_types};
use crate::dim::Dim;
use crate::graph::{CycleError, Graph, Node, NodeId, State, ValueDef, ValueId};
use crate::module::{Module, WeightTable};
use crate::op::{Op, OpError};
use crate::types::{TensorType, resolve_axis, same_shape};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// One thing that does not hold.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum VerifyError {
    /// A name occurs twice where names must differ.
    #[error("{place}: {what} `{name}` occurs twice")]
    Duplicate {
        /// Module or graph.
        place: String,
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A weight's data are of another type than it declares, or its extents are no numbers.
    #[error("weight `{name}` is declared {expected}, its data are {got}")]
    Weight {
        /// Name of the weight.
        name: String,
        /// Declared type.
        expected: String,
        /// Type of the data.
        got: String,
    },
    /// A use of a value, weight or node that does not exist, or that does not know of it.
    #[error("graph `{graph}`: {user} refers to {value}, which {why}")]
    Dangling {
        /// Graph name.
        graph: String,
        /// Who refers to it.
        user: String,
        /// What is referred to.
        value: ValueId,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Nodes that depend on each other.
    #[error(transparent)]
    Cycle(#[from] CycleError),
    /// An op refuses its operands.
    #[error("graph `{graph}`: {value} at `{label}`: {source}")]
    Op {
        /// Graph name.
        graph: String,
        /// The node's first value.
        value: ValueId,
        /// The node's label.
        label: String,
        /// Why.
        source: OpError,
    },
    /// A value has another type than its op infers.
    #[error("graph `{graph}`: {value} = {op} at `{label}`: expected {expected}, got {got}")]
    Type {
        /// Graph name.
        graph: String,
        /// The value.
        value: ValueId,
        /// Op that makes it.
        op: &'static str,
        /// The node's label.
        label: String,
        /// Types inferred.
        expected: String,
        /// Type recorded.
        got: String,
    },
    /// A symbol that no input determines.
    #[error("graph `{graph}`: {user} uses the dimension `{symbol}`, which no input has and no node defines")]
    Symbol {
        /// Graph name.
        graph: String,
        /// Where it occurs.
        user: String,
        /// The symbol.
        symbol: Arc<str>,
    },
    /// A graph that control flow runs does not fit.
    #[error("graph `{graph}`: at `{label}`: body `{body}` {why}")]
    Body {
        /// Graph name.
        graph: String,
        /// The node's label.
        label: String,
        /// The body's name.
        body: String,
        /// What is wrong.
        why: String,
    },
    /// A state is not well formed.
    #[error("graph `{graph}`: state {input} -> {output}: {why}")]
    State {
        /// Graph name.
        graph: String,
        /// Its input.
        input: String,
        /// Its output.
        output: String,
        /// What is wrong.
        why: String,
    },
}

/// Everything that does not hold of a module; never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifyErrors(pub Vec<VerifyError>);

impl fmt::Display for VerifyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, e) in self.0.iter().enumerate() {
            write!(f, "{}{e}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for VerifyErrors {}

/// Checks a module: names, weights and every graph.
pub fn verify(module: &Module) -> Result<(), VerifyErrors> {
    let mut errors = Vec::new();
    duplicates(&mut errors, "module", "graph", module.graphs.iter().map(|g| g.name.as_str()));
    duplicates(&mut errors, "module", "weight", module.weights.iter().map(|(_, w)| w.name.as_str()));
    for (_, w) in module.weights.iter() {
        let got = w.data.as_ref().map(|d| TensorType::new(d.dtype(), d.shape().iter().copied()));
        if w.ty.fixed_shape().is_none() || got.as_ref().is_some_and(|got| *got != w.ty) {
            let got = got.map_or_else(|| "not there".to_owned(), |t| t.to_string());
            errors.push(VerifyError::Weight { name: w.name.clone(), expected: w.ty.to_string(), got });
        }
    }
    let bodies = module.bodies();
    let mut all: Vec<Arc<str>> = Vec::new();
    if !bodies.is_empty() {
        for g in &module.graphs {
            all.extend(g.input_symbols());
            all.extend(g.defined_symbols().into_iter().map(|(s, _)| s));
        }
    }
    for g in &module.graphs {
        let outer = if bodies.contains(g.name.as_str()) { all.as_slice() } else { &[] };
        check_graph(g, &module.weights, outer, &mut errors);
    }
    check_bodies(module, &mut errors);
    if errors.is_empty() { Ok(()) } else { Err(VerifyErrors(errors)) }
}

/// Graphs that control flow names must be there, take as many inputs and give as many results as they are run with,
/// and must not run themselves.
fn check_bodies(module: &Module, errors: &mut Vec<VerifyError>) {
    for g in &module.graphs {
        for (_, node) in g.nodes() {
            for name in node.op.bodies() {
                let mut fail = |why: String| {
                    let (graph, label) = (g.name.clone(), node.label.clone());
                    errors.push(VerifyError::Body { graph, label, body: name.to_owned(), why });
                };
                let Some(body) = module.graph(name) else {
                    fail("is no graph of the module".to_owned());
                    continue;
                };
                let (takes, gives) = match &node.op {
                    Op::If(op) => {
                        let (_, range) = op.choose(node.inputs.len(), name == op.then_body);
                        (range.len(), node.outputs.len())
                    }
                    _ => (node.inputs.len(), node.outputs.len().saturating_add(1)),
                };
                if (body.inputs.len(), body.outputs.len()) != (takes, gives) {
                    let got = (body.inputs.len(), body.outputs.len());
                    fail(format!("takes and gives {got:?} values, expected {:?}", (takes, gives)));
                }
            }
        }
    }
    for g in &module.graphs {
        let mut open = vec![g.name.as_str()];
        let mut seen = HashSet::new();
        while let Some(name) = open.pop() {
            let Some(graph) = module.graph(name) else { continue };
            for body in graph.nodes().flat_map(|(_, n)| n.op.bodies()) {
                if body == g.name {
                    let (graph, label) = (g.name.clone(), String::new());
                    let (body, why) = (body.to_owned(), "runs itself".to_owned());
                    errors.push(VerifyError::Body { graph, label, body, why });
                    return;
                }
                if seen.insert(body) {
                    open.push(body);
                }
            }
        }
    }
}

/// Checks one graph over a weight table.
pub fn verify_graph(graph: &Graph, weights: &WeightTable) -> Result<(), VerifyErrors> {
    let mut errors = Vec::new();
    check_graph(graph, weights, &[], &mut errors);
    if errors.is_empty() { Ok(()) } else { Err(VerifyErrors(errors)) }
}

fn duplicates<'a>(
    errors: &mut Vec<VerifyError>,
    place: &str,
    what: &'static str,
    names: impl Iterator<Item = &'a str>,
) {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            errors.push(VerifyError::Duplicate { place: place.to_owned(), what, name: name.to_owned() });
        }
    }
}

fn check_graph(g: &Graph, weights: &WeightTable, outer: &[Arc<str>], errors: &mut Vec<VerifyError>) {
    let place = format!("graph `{}`", g.name);
    duplicates(errors, &place, "input", g.inputs.iter().map(|i| i.name.as_str()));
    duplicates(errors, &place, "output", g.outputs.iter().map(|o| o.name.as_str()));
    for (i, input) in g.inputs.iter().enumerate() {
        if g.def(input.value) != Some(ValueDef::Input(i)) {
            let user = format!("input `{}`", input.name);
            errors.push(dangling(g, user, input.value, "is not that input's value"));
        }
    }
    for o in &g.outputs {
        check_use(g, weights, o.value, || format!("output `{}`", o.name), errors);
    }
    for (id, node) in g.nodes() {
        check_node(g, weights, id, node, errors);
    }
    if let Err(cycle) = g.topological_order() {
        errors.push(cycle.into());
    }
    check_symbols(g, outer, errors);
    for s in &g.states {
        if let Err(why) = check_state(g, s) {
            let State { input, output, .. } = s.clone();
            errors.push(VerifyError::State { graph: g.name.clone(), input, output, why });
        }
    }
}

fn dangling(g: &Graph, user: String, value: ValueId, why: &'static str) -> VerifyError {
    VerifyError::Dangling { graph: g.name.clone(), user, value, why }
}

/// A used value must exist and come from an input, a weight of the same type, or a live node that makes it.
fn check_use(
    g: &Graph,
    weights: &WeightTable,
    v: ValueId,
    user: impl Fn() -> String,
    errors: &mut Vec<VerifyError>,
) {
    let why = match g.value(v).map(|value| (value.def, &value.ty)) {
        None => "does not exist",
        Some((ValueDef::Input(i), _)) => match g.inputs.get(i) {
            Some(input) if input.value == v => return,
            _ => "is no input of the graph any more",
        },
        Some((ValueDef::Weight(w), ty)) => match weights.get(w) {
            Some(w) if w.ty == *ty => return,
            Some(_) => "has another type than its weight",
            None => "is a weight that is not in the table",
        },
        Some((ValueDef::Node(n, i), _)) => match g.node(n) {
            Some(node) if node.outputs.get(i) == Some(&v) => return,
            Some(_) => "is no result of its node",
            None => "comes from a node that was removed",
        },
    };
    errors.push(dangling(g, user(), v, why));
}

fn check_node(g: &Graph, weights: &WeightTable, id: NodeId, node: &Node, errors: &mut Vec<VerifyError>) {
    let value = node.outputs.first().copied().unwrap_or(ValueId(u32::MAX));
    let before = errors.len();
    for v in node.inputs.iter().flatten() {
        check_use(g, weights, *v, || format!("{value} = {} at `{}`", node.op.name(), node.label), errors);
    }
    for (i, v) in node.outputs.iter().enumerate() {
        if g.def(*v) != Some(ValueDef::Node(id, i)) {
            let user = format!("{} at `{}`", node.op.name(), node.label);
            errors.push(dangling(g, user, *v, "is recorded as the result of something else"));
        }
    }
    if errors.len() > before {
        return;
    }
    let inferred = match infer_types(g, &node.op, &node.inputs) {
        Ok(types) => types,
        Err(InferError::Foreign(v)) => {
            errors.push(dangling(g, node.op.name().to_owned(), v, "does not exist"));
            return;
        }
        Err(InferError::Op(source)) => {
            let (graph, label) = (g.name.clone(), node.label.clone());
            errors.push(VerifyError::Op { graph, value, label, source });
            return;
        }
    };
    let recorded: Vec<&TensorType> = node.outputs.iter().filter_map(|v| g.ty(*v)).collect();
    let agree = inferred.len() == recorded.len() && inferred.iter().zip(&recorded).all(|(a, b)| a.same(b));
    if !agree {
        let list = |types: Vec<String>| types.join(", ");
        errors.push(VerifyError::Type {
            graph: g.name.clone(),
            value,
            op: node.op.name(),
            label: node.label.clone(),
            expected: list(inferred.iter().map(ToString::to_string).collect()),
            got: list(recorded.iter().map(ToString::to_string).collect()),
        });
    }
}

/// Every symbol, in a type or an attribute, must occur in the type of an input or be defined by one node. The graphs
/// that control flow runs also know the symbols of whoever runs them, `outer`.
fn check_symbols(g: &Graph, outer: &[Arc<str>], errors: &mut Vec<VerifyError>) {
    let mut known = g.input_symbols();
    let defined = g.defined_symbols();
    duplicates(
        errors,
        &format!("graph `{}`", g.name),
        "dimension symbol",
        known.iter().map(|s| &**s).chain(defined.iter().map(|(s, _)| &**s)),
    );
    known.extend(defined.into_iter().map(|(s, _)| s));
    known.extend_from_slice(outer);
    for (_, node) in g.nodes() {
        let types = node.outputs.iter().filter_map(|v| g.ty(*v)).flat_map(|t| &t.shape);
        let attrs = node.op.dims();
        let mut unknown: Vec<Arc<str>> =
            types.chain(&attrs).flat_map(Dim::symbols).filter(|s| !known.contains(s)).collect();
        unknown.sort();
        unknown.dedup();
        for symbol in unknown {
            let user = format!("{} at `{}`", node.op.name(), node.label);
            errors.push(VerifyError::Symbol { graph: g.name.clone(), user, symbol });
        }
    }
}

/// The input and the output must exist, differ along the axis only, and the output must be the input itself or a
/// Concat that starts with it along that axis.
fn check_state(g: &Graph, s: &State) -> Result<(), String> {
    let input = g.inputs.iter().find(|i| i.name == s.input).ok_or("there is no such input")?;
    let output = g.outputs.iter().find(|o| o.name == s.output).ok_or("there is no such output")?;
    let (Some(before), Some(after)) = (g.ty(input.value), g.ty(output.value)) else {
        return Err("a value without a type".to_owned());
    };
    if s.axis >= before.rank() {
        return Err(format!("axis {} is out of range for {before}", s.axis));
    }
    let rest = |t: &TensorType| -> Vec<Dim> {
        t.shape.iter().enumerate().filter(|(i, _)| *i != s.axis).map(|(_, d)| d.clone()).collect()
    };
    if before.dtype != after.dtype
        || before.rank() != after.rank()
        || !same_shape(&rest(before), &rest(after))
    {
        return Err(format!("expected {before} but for axis {}, got {after}", s.axis));
    }
    if output.value == input.value || before.same(after) {
        return Ok(());
    }
    match g.producer(output.value) {
        Some((_, node)) => match &node.op {
            Op::Concat(c)
                if resolve_axis(c.axis, before.rank()) == Some(s.axis)
                    && node.inputs.first() == Some(&Some(input.value)) =>
            {
                Ok(())
            }
            _ => Err(format!("the output must be Concat({}, ..) along axis {}", s.input, s.axis)),
        },
        None => Err("the output grows but no node makes it".to_owned()),
    }
}
