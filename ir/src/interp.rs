//! The interpreter: runs a graph node by node with each op's reference evaluation. It is the oracle of every
//! backend and rule, so it stays naive: no scheduling, no sharing of buffers, no speed belongs here.

use crate::binding::{self, BindError};
use crate::builder::{BuildError, GraphBuilder};
use crate::dim::Bindings;
use crate::dtype::DType;
use crate::graph::{CycleError, Graph, ValueDef, ValueId};
use crate::module::{Module, WeightTable};
use crate::op::{Eval, Op, OpError, run_loop};
use crate::tensor::{Tensor, byte_len};
use crate::types::TensorType;
use std::collections::HashMap;

/// Why a graph could not be run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InterpError {
    /// The inputs do not fit.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A node failed.
    #[error("{node} {op} at `{label}`: {source}")]
    Node {
        /// Value made by the node.
        node: ValueId,
        /// Op name.
        op: &'static str,
        /// Where in the model.
        label: String,
        /// The cause.
        source: OpError,
    },
    /// A composite op could not be expanded.
    #[error("{op} at `{label}`: {source}")]
    Decompose {
        /// Op name.
        op: &'static str,
        /// Where in the model.
        label: String,
        /// The cause.
        source: BuildError,
    },
    /// A weight without numbers.
    #[error("weight `{0}` has no data")]
    NoData(String),
    /// The graph is not well formed.
    #[error(transparent)]
    Cycle(#[from] CycleError),
    /// A graph that is not in the module.
    #[error("the module has no graph `{0}`")]
    NoGraph(String),
    /// Control flow within control flow without end.
    #[error("control flow nests deeper than {MAX_DEPTH}")]
    TooDeep,
    /// A value is used before it is made.
    #[error("{0} has no value")]
    NoValue(ValueId),
}

/// What nodes may refer to: constants, and graphs for control flow.
#[derive(Clone, Copy)]
struct Scope<'m> {
    weights: &'m WeightTable,
    graphs: &'m [Graph],
    depth: usize,
}

/// Control flow may nest so deep.
const MAX_DEPTH: usize = 64;

/// Runs `graph`, which has no control flow, on named inputs and gives its outputs in order.
pub fn run(
    graph: &Graph,
    weights: &WeightTable,
    inputs: &[(String, Tensor)],
) -> Result<Vec<(String, Tensor)>, InterpError> {
    run_graph(graph, Scope { weights, graphs: &[], depth: 0 }, inputs, Bindings::new())
}

/// Runs the entry point `entry` of a module on named inputs and gives its outputs in order.
pub fn run_module(
    module: &Module,
    entry: &str,
    inputs: &[(String, Tensor)],
) -> Result<Vec<(String, Tensor)>, InterpError> {
    let graph = module.graph(entry).ok_or_else(|| InterpError::NoGraph(entry.to_owned()))?;
    let scope = Scope { weights: &module.weights, graphs: &module.graphs, depth: 0 };
    run_graph(graph, scope, inputs, Bindings::new())
}

fn run_graph(
    graph: &Graph,
    scope: Scope<'_>,
    inputs: &[(String, Tensor)],
    known: Bindings,
) -> Result<Vec<(String, Tensor)>, InterpError> {
    binding::check_names(graph, inputs.iter().map(|(n, _)| n.as_str()))?;
    let find = |name: &str| inputs.iter().find(|(n, _)| n == name).map(|(_, t)| t);
    let shape_of = |name: &str| find(name).map(|t| (t.dtype(), t.shape().to_vec()));
    let mut bindings = binding::bind_with(graph, &shape_of, &|_| false, known)?;
    let mut values: HashMap<ValueId, Tensor> = HashMap::new();
    for input in &graph.inputs {
        let Some(ty) = graph.ty(input.value) else { continue };
        let tensor = match (find(&input.name), input.default) {
            (Some(t), _) => t.clone(),
            (None, Some(d)) => {
                let shape = ty
                    .eval_shape(&bindings)
                    .map_err(|source| BindError::Dim { name: input.name.clone(), source })?;
                binding::default_tensor(d, ty.dtype, &shape)
                    .map_err(|source| BindError::Tensor { name: input.name.clone(), source })?
            }
            (None, None) => return Err(InterpError::NoValue(input.value)),
        };
        values.insert(input.value, tensor);
    }
    run_nodes(graph, scope, &mut bindings, &mut values)?;
    let lookup = |v: ValueId| value(graph, scope.weights, &values, v);
    graph.outputs.iter().map(|o| Ok((o.name.clone(), lookup(o.value)?))).collect()
}

fn value(
    graph: &Graph,
    weights: &WeightTable,
    values: &HashMap<ValueId, Tensor>,
    v: ValueId,
) -> Result<Tensor, InterpError> {
    if let Some(t) = values.get(&v) {
        return Ok(t.clone());
    }
    match graph.def(v) {
        Some(ValueDef::Weight(w)) => weights
            .data(w)
            .cloned()
            .ok_or_else(|| InterpError::NoData(weights.get(w).map(|w| w.name.clone()).unwrap_or_default())),
        _ => Err(InterpError::NoValue(v)),
    }
}

fn run_nodes(
    graph: &Graph,
    scope: Scope<'_>,
    bindings: &mut Bindings,
    values: &mut HashMap<ValueId, Tensor>,
) -> Result<(), InterpError> {
    let live = graph.live_nodes();
    for id in graph.topological_order()? {
        let Some(node) = graph.node(id).filter(|_| live.get(id.index()).copied().unwrap_or(false)) else {
            continue;
        };
        let inputs = node
            .inputs
            .iter()
            .map(|v| v.map(|v| value(graph, scope.weights, values, v)).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<Option<&Tensor>> = inputs.iter().map(Option::as_ref).collect();
        let types: Vec<&TensorType> = node.outputs.iter().filter_map(|v| graph.ty(*v)).collect();
        let here = |source: OpError| InterpError::Node {
            node: node.outputs.first().copied().unwrap_or(ValueId(0)),
            op: node.op.name(),
            label: node.label.clone(),
            source,
        };
        let results = if node.op.bodies().is_empty() {
            evaluate(&node.op, &inputs, &types, bindings, &node.label)
        } else {
            run_control(&node.op, &inputs, &types, bindings, scope)
        };
        let results = results.map_err(|e| match e {
            InterpError::Node { source, op, .. } if op == node.op.name() => here(source),
            other => other,
        })?;
        if node.op.is_dynamic() {
            node.op.bind_results(&types, &results, bindings).map_err(here)?;
        }
        values.extend(node.outputs.iter().copied().zip(results));
    }
    Ok(())
}

/// Runs an op of control flow.
fn run_control(
    op: &Op,
    inputs: &[Option<&Tensor>],
    types: &[&TensorType],
    bindings: &Bindings,
    scope: Scope<'_>,
) -> Result<Vec<Tensor>, InterpError> {
    if scope.depth >= MAX_DEPTH {
        return Err(InterpError::TooDeep);
    }
    let inner = Scope { depth: scope.depth + 1, ..scope };
    let run = |name: &str, operands: &mut dyn Iterator<Item = Tensor>| {
        let body = scope.graphs.iter().find(|g| g.name == name);
        let body = body.ok_or_else(|| InterpError::NoGraph(name.to_owned()))?;
        let named: Vec<(String, Tensor)> = body.inputs.iter().map(|i| i.name.clone()).zip(operands).collect();
        let results = run_graph(body, inner, &named, bindings.clone())?;
        Ok(results.into_iter().map(|(_, t)| t).collect::<Vec<Tensor>>())
    };
    match op {
        Op::If(op) => {
            let holds = inputs.first().copied().flatten().is_some_and(|t| t.bytes().first() != Some(&0));
            let (body, range) = op.choose(inputs.len(), holds);
            let mut operands = inputs.get(range).into_iter().flatten().flatten().map(|t| (*t).clone());
            run(body, &mut operands)
        }
        Op::Loop(op) => run_loop(op, types, inputs, |operands| run(&op.body, &mut operands.iter().cloned())),
        _ => Err(OpError::NoEvaluation(op.name()).into()),
    }
}

impl From<OpError> for InterpError {
    fn from(source: OpError) -> Self {
        let op = match &source {
            OpError::Data { op, .. } | OpError::NoEvaluation(op) => op,
            _ => "",
        };
        InterpError::Node { node: ValueId(0), op, label: String::new(), source }
    }
}

/// Evaluates one op on concrete operands. `types` are its output types as inferred over symbols.
pub fn evaluate(
    op: &Op,
    inputs: &[Option<&Tensor>],
    types: &[&TensorType],
    bindings: &Bindings,
    label: &str,
) -> Result<Vec<Tensor>, InterpError> {
    let fail = |source: OpError| InterpError::Node {
        node: ValueId(0),
        op: op.name(),
        label: label.to_owned(),
        source,
    };
    if op.is_composite() {
        return evaluate_composite(op, inputs, bindings, label);
    }
    if op.is_dynamic() {
        let outputs: Vec<_> = types.iter().map(|t| (t.dtype, vec![])).collect();
        return op.eval(&Eval { op: op.name(), inputs, outputs: &outputs, bindings }).map_err(fail);
    }
    let outputs = types
        .iter()
        .map(|t| {
            let shape = t.eval_shape(bindings).map_err(|source| OpError::Dim { op: op.name(), source })?;
            // Evaluations count elements without checks; a size that overflows is refused here.
            byte_len(t.dtype, &shape).map_err(|source| OpError::Tensor { op: op.name(), source })?;
            Ok((t.dtype, shape))
        })
        .collect::<Result<Vec<(DType, Vec<usize>)>, OpError>>()
        .map_err(fail)?;
    op.eval(&Eval { op: op.name(), inputs, outputs: &outputs, bindings }).map_err(fail)
}

/// Expands a composite op over the concrete operand types and runs the expansion.
fn evaluate_composite(
    op: &Op,
    inputs: &[Option<&Tensor>],
    bindings: &Bindings,
    label: &str,
) -> Result<Vec<Tensor>, InterpError> {
    let fail = |source| InterpError::Decompose { op: op.name(), label: label.to_owned(), source };
    let mut graph = Graph::new("expansion");
    let mut weights = WeightTable::default();
    let mut values = HashMap::new();
    let operands: Vec<Option<ValueId>> = inputs
        .iter()
        .enumerate()
        .map(|(i, t)| {
            t.map(|t| {
                let ty = TensorType::new(t.dtype(), t.shape().iter().copied());
                let v = graph.add_input(&format!("x{i}"), ty, None);
                values.insert(v, t.clone());
                v
            })
        })
        .collect();
    let outputs = op.decompose(&mut GraphBuilder::new(&mut graph, &mut weights), &operands).map_err(fail)?;
    for (i, v) in outputs.iter().enumerate() {
        graph.add_output(&format!("y{i}"), *v);
    }
    let scope = Scope { weights: &weights, graphs: &[], depth: 0 };
    run_nodes(&graph, scope, &mut bindings.clone(), &mut values)?;
    outputs.iter().map(|v| value(&graph, &weights, &values, *v)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dim::Dim;
    use crate::op::{MatMul, Softmax};

    #[test]
    fn a_small_graph_runs_over_symbols() {
        let mut g = Graph::new("forward");
        let mut w = WeightTable::default();
        let mut b = GraphBuilder::new(&mut g, &mut w);
        let x = b.input(
            "x",
            TensorType { dtype: DType::F32, shape: vec![Dim::symbol("batch"), Dim::from(2)] },
            None,
        );
        let m = b.named_weight("w", Tensor::from_slice(&[2, 2], &[1f32, 0.0, 0.0, 1.0]).unwrap()).unwrap();
        let y = b.op(MatMul {}, &[x, m]).unwrap();
        let y = b.op(Softmax { axis: -1 }, &[y]).unwrap();
        b.output("y", y);
        let x = Tensor::from_slice(&[1, 2], &[0f32, 0.0]).unwrap();
        let out = run(&g, &w, &[("x".into(), x.clone())]).unwrap();
        assert_eq!(out[0].1.to_f64_vec(), [0.5, 0.5]);
        assert!(matches!(run(&g, &w, &[]), Err(InterpError::Bind(BindError::Missing { .. }))));
        let e = run(&g, &w, &[("z".into(), x)]).unwrap_err().to_string();
        assert!(e.contains("x: f32[batch, 2]"), "{e}");
    }
}
