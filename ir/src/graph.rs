//! The graph: values and nodes in SSA form under u32 handles. Weights' data and ops' meaning do not belong here.

mod order;

pub use order::CycleError;

use crate::dim::Dim;
use crate::module::WeightId;
use crate::op::Op;
use crate::types::TensorType;
use std::collections::HashMap;
use std::fmt;

macro_rules! handle {
    ($(#[doc = $doc:literal])* $name:ident, $sigil:literal) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);
        impl $name {
            /// The position in its table.
            pub fn index(self) -> usize { self.0 as usize }
            /// The handle of a position.
            pub fn from_index(i: usize) -> Self { $name(u32::try_from(i).unwrap_or(u32::MAX)) }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, concat!($sigil, "{}"), self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
        }
    };
}
handle!(
    /// A value of a graph; displays as the text format has it, `%3`.
    ValueId, "%");
handle!(
    /// A node of a graph.
    NodeId, "node");

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueDef {
    /// The graph's input of that position.
    Input(usize),
    /// A constant of the module's weight table.
    Weight(WeightId),
    /// Output number `.1` of a node.
    Node(NodeId, usize),
}

/// A value: its type and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Static type.
    pub ty: TensorType,
    /// Origin.
    pub def: ValueDef,
}

/// One application of an op.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The op with its attributes.
    pub op: Op,
    /// Operands in the op's order; None where an optional one is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Results.
    pub outputs: Vec<ValueId>,
    /// Where in the model it comes from (`encoder.layer.0.attention.self`), for errors, profiles and people.
    pub label: String,
}

/// What an input is when the caller leaves it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputDefault {
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
    /// 0, 1, 2, ... along the last axis.
    Arange,
}

impl InputDefault {
    /// Every variant with its word in the text format.
    pub const WORDS: [(InputDefault, &'static str); 3] =
        [(InputDefault::Zeros, "zeros"), (InputDefault::Ones, "ones"), (InputDefault::Arange, "arange")];
    /// The word in the text format.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(d, _)| *d == self).map_or("zeros", |(_, w)| w)
    }
}

/// A graph input.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Name in the model's interface, as transformers' forward() has it.
    pub name: String,
    /// Its value.
    pub value: ValueId,
    /// What stands in when the caller leaves it out; None: it must be given.
    pub default: Option<InputDefault>,
}

/// A graph output.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Name in the model's interface; members of tuples are dotted: `hidden_states.0`.
    pub name: String,
    /// Its value.
    pub value: ValueId,
}

/// A KV cache: the graph input that holds what is kept and the graph output that becomes it for the next call.
/// The output must be `Concat(input, new)` along `axis`; a session then keeps one buffer and appends in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Name of the input.
    pub input: String,
    /// Name of the output.
    pub output: String,
    /// The axis that grows.
    pub axis: usize,
}

/// One entry point of a model: inputs, nodes in SSA form, outputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Entry name: `forward`, `encoder`, `decoder_step`, ...
    pub name: String,
    /// Inputs in order.
    pub inputs: Vec<Input>,
    /// Outputs in order.
    pub outputs: Vec<Output>,
    /// Pairs of inputs and outputs that a session keeps.
    pub states: Vec<State>,
    values: Vec<Value>,
    nodes: Vec<Option<Node>>,
    weights: HashMap<WeightId, ValueId>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        Graph { name: name.to_owned(), ..Graph::default() }
    }

    /// The value of a handle. Handles come from this graph only, so a foreign one gives None.
    pub fn value(&self, id: ValueId) -> Option<&Value> {
        self.values.get(id.index())
    }

    /// The type of a value.
    pub fn ty(&self, id: ValueId) -> Option<&TensorType> {
        self.value(id).map(|v| &v.ty)
    }

    /// Origin of a value.
    pub fn def(&self, id: ValueId) -> Option<ValueDef> {
        self.value(id).map(|v| v.def)
    }

    /// Number of values, dead ones included.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// The node of a handle; None when removed.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index()).and_then(Option::as_ref)
    }

    /// The node that makes a value; None for inputs and weights.
    pub fn producer(&self, id: ValueId) -> Option<(NodeId, &Node)> {
        match self.def(id)? {
            ValueDef::Node(n, _) => self.node(n).map(|node| (n, node)),
            _ => None,
        }
    }

    /// The weight behind a value.
    pub fn weight_of(&self, id: ValueId) -> Option<WeightId> {
        match self.def(id)? {
            ValueDef::Weight(w) => Some(w),
            _ => None,
        }
    }

    /// Live nodes in table order, which need not be a topological one.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().filter_map(|(i, n)| n.as_ref().map(|n| (NodeId::from_index(i), n)))
    }

    /// The handle that the next node added will have.
    pub fn next_node(&self) -> NodeId {
        NodeId::from_index(self.nodes.len())
    }

    /// Number of live nodes.
    pub fn node_count(&self) -> usize {
        self.nodes.iter().flatten().count()
    }

    /// The weights that the graph refers to, with their values, in order of value.
    pub fn weights(&self) -> Vec<(WeightId, ValueId)> {
        let mut all: Vec<_> = self.weights.iter().map(|(w, v)| (*w, *v)).collect();
        all.sort_by_key(|(_, v)| *v);
        all
    }

    /// Adds an input.
    pub fn add_input(&mut self, name: &str, ty: TensorType, default: Option<InputDefault>) -> ValueId {
        let value = self.push_value(ty, ValueDef::Input(self.inputs.len()));
        self.inputs.push(Input { name: name.to_owned(), value, default });
        value
    }

    /// The value of a weight, one a graph.
    pub fn weight_value(&mut self, weight: WeightId, ty: &TensorType) -> ValueId {
        if let Some(v) = self.weights.get(&weight) {
            return *v;
        }
        let v = self.push_value(ty.clone(), ValueDef::Weight(weight));
        self.weights.insert(weight, v);
        v
    }

    /// Appends a node whose output types are known. Checked insertion is the builder's.
    pub fn add_node(
        &mut self,
        op: Op,
        inputs: Vec<Option<ValueId>>,
        types: Vec<TensorType>,
        label: &str,
    ) -> NodeId {
        let id = NodeId::from_index(self.nodes.len());
        let outputs =
            types.into_iter().enumerate().map(|(i, ty)| self.push_value(ty, ValueDef::Node(id, i))).collect();
        self.nodes.push(Some(Node { op, inputs, outputs, label: label.to_owned() }));
        id
    }

    /// Adds an output.
    pub fn add_output(&mut self, name: &str, value: ValueId) {
        self.outputs.push(Output { name: name.to_owned(), value });
    }

    fn push_value(&mut self, ty: TensorType, def: ValueDef) -> ValueId {
        let id = ValueId::from_index(self.values.len());
        self.values.push(Value { ty, def });
        id
    }

    /// Makes every use of `old`, as an operand or an output, a use of `new`.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        for node in self.nodes.iter_mut().flatten() {
            for slot in &mut node.inputs {
                if *slot == Some(old) {
                    *slot = Some(new);
                }
            }
        }
        for o in &mut self.outputs {
            if o.value == old {
                o.value = new;
            }
        }
    }

    /// Replaces one operand of a node.
    pub fn set_operand(&mut self, node: NodeId, index: usize, value: Option<ValueId>) {
        if let Some(slot) =
            self.nodes.get_mut(node.index()).and_then(Option::as_mut).and_then(|n| n.inputs.get_mut(index))
        {
            *slot = value;
        }
    }

    /// Puts another node at the place of one, in the order of nodes too; gives its outputs. Whoever uses those
    /// of the old is to use them instead.
    pub fn replace_node(
        &mut self,
        id: NodeId,
        op: Op,
        inputs: Vec<Option<ValueId>>,
        types: Vec<TensorType>,
    ) -> Vec<ValueId> {
        let outputs: Vec<ValueId> =
            types.into_iter().enumerate().map(|(i, ty)| self.push_value(ty, ValueDef::Node(id, i))).collect();
        if let Some(node) = self.nodes.get_mut(id.index()).and_then(Option::as_mut) {
            (node.op, node.inputs, node.outputs) = (op, inputs, outputs.clone());
        }
        outputs
    }

    /// Removes a node; its outputs must have no uses left.
    pub fn remove_node(&mut self, id: NodeId) {
        if let Some(slot) = self.nodes.get_mut(id.index()) {
            *slot = None;
        }
    }

    /// For every value, how often it is used as an operand or an output.
    pub fn use_counts(&self) -> Vec<u32> {
        let mut counts = vec![0u32; self.values.len()];
        let operands = self.nodes().flat_map(|(_, n)| n.inputs.iter().flatten().copied());
        for v in operands.chain(self.outputs.iter().map(|o| o.value)) {
            if let Some(c) = counts.get_mut(v.index()) {
                *c += 1;
            }
        }
        counts
    }

    /// For every value, the nodes that use it as an operand, each once, in table order.
    pub fn users(&self) -> Vec<Vec<NodeId>> {
        let mut users = vec![Vec::new(); self.values.len()];
        for (id, n) in self.nodes() {
            for v in n.inputs.iter().flatten() {
                if let Some(list) = users.get_mut(v.index()) {
                    let list: &mut Vec<NodeId> = list;
                    if list.last() != Some(&id) {
                        list.push(id);
                    }
                }
            }
        }
        users
    }

    /// Every dimension symbol that a node defines, with that node, in table order.
    pub fn defined_symbols(&self) -> Vec<(std::sync::Arc<str>, NodeId)> {
        self.nodes()
            .flat_map(|(id, n)| n.op.defines().into_iter().map(move |s| (std::sync::Arc::from(s), id)))
            .collect()
    }

    /// Every dimension symbol in the types of the inputs, in alphabetical order.
    pub fn input_symbols(&self) -> Vec<std::sync::Arc<str>> {
        let mut all: Vec<_> = self
            .inputs
            .iter()
            .filter_map(|i| self.ty(i.value))
            .flat_map(|t| t.shape.iter().flat_map(Dim::symbols))
            .collect();
        all.sort();
        all.dedup();
        all
    }
}
