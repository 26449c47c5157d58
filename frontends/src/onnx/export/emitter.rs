//! A GraphProto under construction: names, nodes, constants, initializers. What a single op looks like is in `ops/`.

use super::ExportError;
use super::attr;
use super::dims::Sources;
use super::dtypes::{admitted, carrier};
use super::ops;
use super::write::Initializer;
use crate::onnx::read::data_type_of as data_type;
use crate::onnx::schema::build::{size, symbol, tensor_type};
use crate::onnx::schema::{AttributeProto, GraphProto, NodeProto, ValueInfoProto};
use frit_ir::{DType, Dim, Graph, Node, Tensor, TensorType, ValueId, WeightId, WeightTable};
use std::collections::HashMap;

/// A node on its way out: names of operands and results, cast where ONNX takes fewer element types.
pub(super) struct View<'g> {
    /// The node.
    pub node: &'g Node,
    /// Names of the operands; empty where one is left out.
    pub inputs: Vec<String>,
    /// Names of the results.
    pub outputs: Vec<String>,
    /// The type of its first operand, or result when it has none, as computed in.
    pub dtype: DType,
}

impl View<'_> {
    /// The name of an operand; empty when it is left out.
    pub fn input(&self, i: usize) -> String {
        self.inputs.get(i).cloned().unwrap_or_default()
    }
}

/// Names in use, each given out once.
#[derive(Default)]
struct Names(HashMap<String, u32>);

impl Names {
    fn unique(&mut self, base: &str) -> String {
        let base = if base.is_empty() { "value" } else { base };
        if !self.0.contains_key(base) {
            self.0.insert(base.to_owned(), 0);
            return base.to_owned();
        }
        loop {
            let n = self.0.get_mut(base).map_or(0, |n| {
                *n = n.saturating_add(1);
                *n
            });
            let name = format!("{base}_{n}");
            if !self.0.contains_key(&name) {
                self.0.insert(name.clone(), 0);
                return name;
            }
        }
    }
}

/// Control flow may nest so deep.
const MAX_DEPTH: usize = 32;

/// Builds the GraphProto of one graph.
pub(super) struct Emitter<'g> {
    /// The graph that is written.
    pub graph: &'g Graph,
    /// The opset written for.
    pub opset: u32,
    /// Where dimension symbols come from, and dimensions computed already.
    pub sources: Sources,
    /// Label of the node that is being written.
    pub label: String,
    /// The graphs that control flow runs.
    bodies: &'g [Graph],
    weights: &'g WeightTable,
    weight_names: HashMap<WeightId, String>,
    nodes: Vec<NodeProto>,
    names: Names,
    values: HashMap<ValueId, String>,
    /// Names of the graph's outputs.
    outputs: Vec<String>,
    constants: HashMap<(DType, Vec<usize>, Vec<u8>), String>,
    initializers: Vec<Initializer>,
    depth: usize,
}

type Result<T> = std::result::Result<T, ExportError>;

impl<'g> Emitter<'g> {
    /// Writes `graph`, whose control flow runs `bodies`.
    pub fn new(graph: &'g Graph, bodies: &'g [Graph], weights: &'g WeightTable, opset: u32) -> Self {
        let mut e = Emitter {
            graph,
            opset,
            sources: Sources::default(),
            label: String::new(),
            bodies,
            weights,
            weight_names: HashMap::new(),
            nodes: Vec::new(),
            names: Names::default(),
            values: HashMap::new(),
            outputs: Vec::new(),
            constants: HashMap::new(),
            initializers: Vec::new(),
            depth: 0,
        };
        for input in &e.graph.inputs {
            e.values.insert(input.value, e.names.unique(&input.name));
        }
        e.name_outputs("");
        e
    }

    /// Gives the graph's outputs their names. The first name of a node's result becomes its own; the others, and other
    /// values' names, are copies.
    fn name_outputs(&mut self, prefix: &str) {
        for output in &self.graph.outputs {
            let taken = self.graph.inputs.iter().any(|i| i.name == output.name);
            let base = if taken { renamed(&output.name) } else { output.name.clone() };
            let name = self.names.unique(&format!("{prefix}{base}"));
            if self.graph.producer(output.value).is_some() {
                self.values.entry(output.value).or_insert_with(|| name.clone());
            }
            self.outputs.push(name);
        }
    }

    /// Writes everything.
    pub fn run(mut self) -> Result<(GraphProto, Vec<Initializer>)> {
        let graph = self.graph;
        let mut input = Vec::new();
        for i in &graph.inputs {
            if let Some(ty) = graph.ty(i.value) {
                let name = self.value(i.value)?;
                input.push(value_info(&name, ty));
                self.sources.add(&name, &ty.shape);
            }
        }
        let proto = self.body(input)?;
        Ok((proto, self.initializers))
    }

    /// Nodes and outputs of the present graph.
    fn body(&mut self, input: Vec<ValueInfoProto>) -> Result<GraphProto> {
        let graph = self.graph;
        for id in graph.topological_order()? {
            let Some(node) = graph.node(id) else { continue };
            self.label.clone_from(&node.label);
            self.write(node)?;
        }
        let mut output = Vec::new();
        for (o, public) in graph.outputs.iter().zip(self.outputs.clone()) {
            let Some(ty) = graph.ty(o.value) else { continue };
            output.push(value_info(&public, ty));
            let name = self.value(o.value)?;
            if name != public {
                self.push("Identity", vec![name], vec![public], vec![]);
            }
        }
        let node = std::mem::take(&mut self.nodes);
        Ok(GraphProto { node, name: graph.name.clone(), input, output, ..GraphProto::default() })
    }

    /// Another graph as an attribute of the node that is being written. Its first inputs are inputs there too; the others
    /// are the values `captured`, known by their names here. What it computes is not known outside.
    pub fn nested(&mut self, name: &str, own: usize, captured: &[String]) -> Result<GraphProto> {
        let here = self.label.clone();
        let unknown = || ExportError::Entry { name: name.to_owned(), known: vec![] };
        let graph = self.bodies.iter().find(|g| g.name == name).ok_or_else(unknown)?;
        if self.depth >= MAX_DEPTH {
            return Err(ExportError::Depth);
        }
        self.depth += 1;
        let outer = (self.graph, self.sources.clone());
        self.graph = graph;
        let nodes = std::mem::take(&mut self.nodes);
        let values = std::mem::take(&mut self.values);
        let outputs = std::mem::take(&mut self.outputs);
        let mut input = Vec::new();
        for (n, i) in graph.inputs.iter().enumerate() {
            let Some(ty) = graph.ty(i.value) else { continue };
            let name = match n.checked_sub(own).and_then(|n| captured.get(n)) {
                Some(name) => name.clone(),
                None => {
                    let name = self.names.unique(&format!("{here}/{}", i.name));
                    input.push(value_info(&name, ty));
                    name
                }
            };
            self.sources.add(&name, &ty.shape);
            self.values.insert(i.value, name);
        }
        self.name_outputs(&format!("{here}/"));
        let proto = self.body(input);
        (self.graph, self.sources) = outer;
        self.nodes = nodes;
        self.values = values;
        self.outputs = outputs;
        self.label = here;
        self.depth -= 1;
        proto
    }

    /// Writes a node, with casts around it where ONNX takes fewer element types than we do.
    fn write(&mut self, node: &'g Node) -> Result<()> {
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for v in &node.inputs {
            inputs.push(match v {
                Some(v) => self.value(*v)?,
                None => String::new(),
            });
        }
        let outputs: Vec<String> = node.outputs.iter().map(|v| self.result(*v, node.op.name())).collect();
        let first = node.inputs.iter().flatten().chain(&node.outputs).next();
        let own = first.and_then(|v| self.graph.ty(*v)).map_or(DType::F32, |t| t.dtype);
        let mut view = View { node, inputs, outputs, dtype: own };
        let wider = match admitted(node.op.name(), self.opset) {
            Some(list) if !list.contains(&own) => Some(
                carrier(own, list).ok_or_else(|| self.refuse(node, format!("no wider type than {own}")))?,
            ),
            _ => None,
        };
        let Some(wider) = wider else {
            ops::write(self, &view)?;
            self.define_symbols(node);
            return Ok(());
        };
        view.dtype = wider;
        for (v, name) in node.inputs.iter().zip(&mut view.inputs) {
            if v.and_then(|v| self.graph.ty(v)).is_some_and(|t| t.dtype == own) {
                *name = self.cast(name, wider);
            }
        }
        let mut narrowed = Vec::new();
        for (v, name) in node.outputs.iter().zip(&mut view.outputs) {
            if self.graph.ty(*v).is_some_and(|t| t.dtype == own) {
                let wide = self.names.unique(&format!("{name}.{wider}"));
                narrowed.push((wide.clone(), std::mem::replace(name, wide)));
            }
        }
        ops::write(self, &view)?;
        for (wide, name) in narrowed {
            let to = attr::int("to", i64::from(data_type(own) as i32));
            self.push("Cast", vec![wide], vec![name], vec![to]);
        }
        self.define_symbols(node);
        Ok(())
    }

    /// Symbols that are extents of a node's results first become known there.
    fn define_symbols(&mut self, node: &Node) {
        for v in &node.outputs {
            if let (Some(ty), Some(name)) = (self.graph.ty(*v), self.values.get(v)) {
                self.sources.add_symbols(name, &ty.shape);
            }
        }
    }

    /// An error at a node.
    pub fn refuse(&self, node: &Node, why: impl Into<String>) -> ExportError {
        ExportError::Node { op: node.op.name(), label: node.label.clone(), why: why.into() }
    }

    /// The static type of a node's operand.
    pub fn operand<'v>(&'v self, view: &View<'_>, i: usize) -> Result<&'v TensorType> {
        let v = view.node.inputs.get(i).copied().flatten();
        v.and_then(|v| self.graph.ty(v))
            .ok_or_else(|| self.refuse(view.node, format!("operand {i} is missing")))
    }

    /// The name of a value; weights become initializers when first named.
    fn value(&mut self, v: ValueId) -> Result<String> {
        if let Some(name) = self.values.get(&v) {
            return Ok(name.clone());
        }
        let id = self.graph.weight_of(v);
        let (Some(id), Some(weight)) = (id, id.and_then(|w| self.weights.get(w))) else {
            let label = self.label.clone();
            return Err(ExportError::Build(frit_ir::BuildError::ForeignValue { label, value: v }));
        };
        if let Some(name) = self.weight_names.get(&id) {
            return Ok(name.clone());
        }
        let data = weight.data.clone().ok_or_else(|| ExportError::NoData(weight.name.clone()))?;
        let name = self.names.unique(&weight.name);
        self.initializers.push(Initializer { name: name.clone(), tensor: data });
        self.weight_names.insert(id, name.clone());
        Ok(name)
    }

    /// The name that a node's result gets.
    fn result(&mut self, v: ValueId, op: &str) -> String {
        if let Some(name) = self.values.get(&v) {
            return name.clone();
        }
        let name = self.fresh(op);
        self.values.insert(v, name.clone());
        name
    }

    /// A new name at the present label.
    pub fn fresh(&mut self, what: &str) -> String {
        let base = if self.label.is_empty() { what.to_owned() } else { format!("{}/{what}", self.label) };
        self.names.unique(&base)
    }

    /// A new name that is not at the present label, for what nodes share.
    pub fn fresh_global(&mut self, base: &str) -> String {
        self.names.unique(base)
    }

    /// Adds a node whose results have names already. Operands left out at the end go.
    pub fn push(
        &mut self,
        op: &str,
        mut input: Vec<String>,
        output: Vec<String>,
        attribute: Vec<AttributeProto>,
    ) {
        while input.last().is_some_and(String::is_empty) {
            input.pop();
        }
        let name = format!("node/{}", output.first().map_or("", String::as_str));
        self.nodes.push(NodeProto {
            input,
            output,
            name,
            op_type: op.to_owned(),
            attribute,
            ..NodeProto::default()
        });
    }

    /// Adds a node with one result and gives its name.
    pub fn compute(&mut self, op: &str, inputs: Vec<String>, attrs: Vec<AttributeProto>) -> String {
        let name = self.fresh(op);
        self.push(op, inputs, vec![name.clone()], attrs);
        name
    }

    /// Converts a value.
    pub fn cast(&mut self, x: &str, to: DType) -> String {
        self.compute("Cast", vec![x.to_owned()], vec![attr::int("to", i64::from(data_type(to) as i32))])
    }

    /// A constant; equal ones are one.
    pub fn constant(&mut self, tensor: Tensor) -> String {
        let key = (tensor.dtype(), tensor.shape().to_vec(), tensor.bytes().to_vec());
        if let Some(name) = self.constants.get(&key) {
            return name.clone();
        }
        let name = self.names.unique(&constant_name(&tensor));
        self.initializers.push(Initializer { name: name.clone(), tensor });
        self.constants.insert(key, name.clone());
        name
    }

    /// Integers as an i64 constant along one axis.
    pub fn integers(&mut self, v: &[i64]) -> Result<String> {
        Ok(self.constant(Tensor::from_slice(&[v.len()], v)?))
    }

    /// An integer as an i64 scalar.
    pub fn integer(&mut self, v: i64) -> Result<String> {
        Ok(self.constant(Tensor::from_slice(&[], &[v])?))
    }
}

/// The name of an output that an input has too, which ONNX does not allow: caches become `present`, as they are called
/// in exports of transformers.
fn renamed(output: &str) -> String {
    match output.strip_prefix("past_key_values.") {
        Some(rest) => format!("present.{rest}"),
        None => format!("{output}.out"),
    }
}

/// What a constant is called: short integer lists say what they are.
fn constant_name(t: &Tensor) -> String {
    if t.dtype() == DType::I64 && t.len() <= 6 {
        let v: Vec<String> = t.to_i64_vec().iter().map(i64::to_string).collect();
        let (open, close) = if t.shape().is_empty() { ("", "") } else { ("[", "]") };
        return format!("const/{open}{}{close}", v.join(","));
    }
    format!("const/{}", t.dtype())
}

/// A named value with its type; dimensions that are no number are named by their expression.
pub(super) fn value_info(name: &str, ty: &TensorType) -> ValueInfoProto {
    let dim = |d: &Dim| match d.as_const() {
        Some(n) => size(n),
        None => symbol(d.as_symbol().map_or_else(|| d.to_string(), str::to_owned)),
    };
    let tensor = tensor_type(data_type(ty.dtype), Some(ty.shape.iter().map(dim).collect()));
    ValueInfoProto { name: name.to_owned(), r#type: Some(tensor), ..ValueInfoProto::default() }
}
