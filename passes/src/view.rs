//! Read-only questions that rules ask of a graph: constants, types, shapes. Nothing is changed here.

use frit_ir::{DType, Dim, Graph, Node, NodeId, Tensor, TensorType, ValueId, WeightTable};

/// A graph and its constants.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// The module's constants.
    pub weights: &'a WeightTable,
}

impl<'a> View<'a> {
    /// The type of a value.
    pub fn ty(&self, v: ValueId) -> Option<&'a TensorType> {
        self.graph.ty(v)
    }

    /// The extents of a value; none for a foreign handle.
    pub fn shape(&self, v: ValueId) -> &'a [Dim] {
        self.graph.ty(v).map_or(&[], |t| t.shape.as_slice())
    }

    /// Number of axes.
    pub fn rank(&self, v: ValueId) -> usize {
        self.shape(v).len()
    }

    /// The node that makes a value.
    pub fn producer(&self, v: ValueId) -> Option<(NodeId, &'a Node)> {
        self.graph.producer(v)
    }

    /// The numbers of a constant, when known.
    pub fn tensor(&self, v: ValueId) -> Option<&'a Tensor> {
        self.weights.data(self.graph.weight_of(v)?)
    }

    /// True for a constant, its numbers known or not.
    pub fn is_const(&self, v: ValueId) -> bool {
        self.graph.weight_of(v).is_some()
    }

    /// The number that every element of a constant is.
    pub fn splat(&self, v: ValueId) -> Option<f64> {
        splat(self.tensor(v)?)
    }

    /// How far a constant of that type may be from the number meant: a few units in its last place.
    pub fn tolerance(&self, v: ValueId) -> f64 {
        match self.ty(v).map(|t| t.dtype) {
            Some(DType::F16) => 1e-3,
            Some(DType::BF16) => 1e-2,
            _ => 2e-6,
        }
    }
}

/// The number that every element is; None for an empty tensor or differing elements.
pub fn splat(t: &Tensor) -> Option<f64> {
    let size = t.dtype().size();
    let mut elements = t.bytes().chunks_exact(size);
    let first = elements.next()?;
    if !elements.all(|e| e == first) {
        return None;
    }
    Tensor::from_bytes(t.dtype(), &[], first).ok()?.to_f64_vec().first().copied()
}
