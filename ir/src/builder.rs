//! Checked construction of graphs: every node's operands are checked and typed when it is inserted.
//! Model architectures do not belong here; they are built from this.

use crate::dim::{Dim, DimError};
use crate::dtype::DType;
use crate::graph::{Graph, InputDefault, NodeId, ValueId};
use crate::module::{WeightId, WeightTable};
use crate::op::{
    Binary, BinaryFn, Cast, Concat, ConstantOfShape, Expand, Gather, Infer, MatMul, Op, OpError, Range,
    Reduce, ReduceFn, Reshape, Slice, Softmax, Split, Transpose, Unary, UnaryFn, Where,
};
use crate::tensor::{Tensor, TensorError};
use crate::types::TensorType;

/// Why a graph could not be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BuildError {
    /// An op refused its operands.
    #[error("at `{label}`: {source}")]
    Op {
        /// Where in the model.
        label: String,
        /// What was wrong.
        source: OpError,
    },
    /// A value handle of another graph.
    #[error("at `{label}`: {value} is no value of this graph")]
    ForeignValue {
        /// Where in the model.
        label: String,
        /// The handle.
        value: ValueId,
    },
    /// The op has no decomposition.
    #[error("{0} has no decomposition")]
    NoDecomposition(&'static str),
    /// A dimension could not be computed.
    #[error(transparent)]
    Dim(#[from] DimError),
    /// A constant could not be made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Anything else a builder refuses, with the place.
    #[error("at `{label}`: {why}")]
    Other {
        /// Where in the model.
        label: String,
        /// What was wrong.
        why: String,
    },
}

type Result<T> = std::result::Result<T, BuildError>;

/// Builds into a graph and a weight table.
pub struct GraphBuilder<'m> {
    /// The graph under construction.
    pub graph: &'m mut Graph,
    /// The module's constants.
    pub weights: &'m mut WeightTable,
    scope: Vec<String>,
}

impl<'m> GraphBuilder<'m> {
    /// Continues `graph` over `weights`.
    pub fn new(graph: &'m mut Graph, weights: &'m mut WeightTable) -> Self {
        GraphBuilder { graph, weights, scope: Vec::new() }
    }

    /// Runs `f` with `name` added to the label of every node built in it.
    pub fn scoped<T>(&mut self, name: &str, f: impl FnOnce(&mut Self) -> T) -> T {
        self.scope.push(name.to_owned());
        let out = f(self);
        self.scope.pop();
        out
    }

    /// Sets the scopes that label nodes built from now on; gives the former ones, to be put back.
    pub fn replace_scope(&mut self, scope: Vec<String>) -> Vec<String> {
        std::mem::replace(&mut self.scope, scope)
    }

    /// The present label: scopes joined by dots.
    pub fn label(&self) -> String {
        self.scope.join(".")
    }

    /// An error at the present label.
    pub fn error(&self, why: impl Into<String>) -> BuildError {
        BuildError::Other { label: self.label(), why: why.into() }
    }

    /// Adds a graph input.
    pub fn input(&mut self, name: &str, ty: TensorType, default: Option<InputDefault>) -> ValueId {
        self.graph.add_input(name, ty, default)
    }

    /// Adds a graph output.
    pub fn output(&mut self, name: &str, value: ValueId) {
        self.graph.add_output(name, value);
    }

    /// The type of a value.
    pub fn ty(&self, v: ValueId) -> Result<TensorType> {
        self.graph.ty(v).cloned().ok_or_else(|| BuildError::ForeignValue { label: self.label(), value: v })
    }

    /// The shape of a value.
    pub fn shape(&self, v: ValueId) -> Result<Vec<Dim>> {
        Ok(self.ty(v)?.shape)
    }

    /// One extent of a value.
    pub fn dim(&self, v: ValueId, axis: usize) -> Result<Dim> {
        let t = self.ty(v)?;
        t.shape.get(axis).cloned().ok_or_else(|| self.error(format!("{t} has no axis {axis}")))
    }

    /// The value of a weight already in the table.
    pub fn weight(&mut self, id: WeightId) -> Result<ValueId> {
        let ty =
            self.weights.get(id).map(|w| w.ty.clone()).ok_or_else(|| self.error(format!("no {id:?}")))?;
        Ok(self.graph.weight_value(id, &ty))
    }

    /// Adds a named weight and gives its value.
    pub fn named_weight(&mut self, name: &str, data: Tensor) -> Result<ValueId> {
        let id = self.weights.add(name, data);
        self.weight(id)
    }

    /// A constant without a name of its own.
    pub fn constant(&mut self, data: Tensor) -> Result<ValueId> {
        let id = self.weights.constant(data);
        self.weight(id)
    }

    /// A scalar constant.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> Result<ValueId> {
        self.constant(Tensor::scalar(dtype, value))
    }

    /// A scalar constant of the dtype of `like`.
    pub fn scalar_like(&mut self, like: ValueId, value: f64) -> Result<ValueId> {
        let dtype = self.ty(like)?.dtype;
        self.scalar(dtype, value)
    }

    /// Inserts a node, checked and typed; operands may be left out where the op allows it.
    pub fn node(&mut self, op: impl Into<Op>, inputs: &[Option<ValueId>]) -> Result<NodeId> {
        let op = op.into();
        let types = infer_types(self.graph, &op, inputs).map_err(|e| match e {
            InferError::Op(source) => BuildError::Op { label: self.label(), source },
            InferError::Foreign(value) => BuildError::ForeignValue { label: self.label(), value },
        })?;
        let label = self.label();
        Ok(self.graph.add_node(op, inputs.to_vec(), types, &label))
    }

    /// Inserts a node and gives all its outputs.
    pub fn ops(&mut self, op: impl Into<Op>, inputs: &[Option<ValueId>]) -> Result<Vec<ValueId>> {
        let id = self.node(op, inputs)?;
        Ok(self.graph.node(id).map(|n| n.outputs.clone()).unwrap_or_default())
    }

    /// Inserts a node and gives its first output; operands may be left out where the op allows it.
    pub fn op_opt(&mut self, op: impl Into<Op>, inputs: &[Option<ValueId>]) -> Result<ValueId> {
        let outputs = self.ops(op, inputs)?;
        outputs.first().copied().ok_or_else(|| self.error("an op without outputs"))
    }

    /// Inserts a node with all operands present and gives its first output.
    pub fn op(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId> {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        self.op_opt(op, &inputs)
    }

    /// An elementwise function of one operand.
    pub fn unary(&mut self, f: UnaryFn, x: ValueId) -> Result<ValueId> {
        self.op(Unary { function: f }, &[x])
    }

    /// An elementwise function of two operands, broadcast.
    pub fn binary(&mut self, f: BinaryFn, x: ValueId, y: ValueId) -> Result<ValueId> {
        self.op(Binary { function: f }, &[x, y])
    }

    /// Sum, broadcast.
    pub fn add(&mut self, x: ValueId, y: ValueId) -> Result<ValueId> {
        self.binary(BinaryFn::Add, x, y)
    }
    /// Difference, broadcast.
    pub fn sub(&mut self, x: ValueId, y: ValueId) -> Result<ValueId> {
        self.binary(BinaryFn::Sub, x, y)
    }
    /// Product, broadcast.
    pub fn mul(&mut self, x: ValueId, y: ValueId) -> Result<ValueId> {
        self.binary(BinaryFn::Mul, x, y)
    }
    /// Quotient, broadcast.
    pub fn div(&mut self, x: ValueId, y: ValueId) -> Result<ValueId> {
        self.binary(BinaryFn::Div, x, y)
    }

    /// Sum with a number of the operand's dtype.
    pub fn add_scalar(&mut self, x: ValueId, c: f64) -> Result<ValueId> {
        let c = self.scalar_like(x, c)?;
        self.add(x, c)
    }
    /// Product with a number of the operand's dtype.
    pub fn mul_scalar(&mut self, x: ValueId, c: f64) -> Result<ValueId> {
        let c = self.scalar_like(x, c)?;
        self.mul(x, c)
    }

    /// Another shape of as many elements.
    pub fn reshape(&mut self, x: ValueId, shape: &[Dim]) -> Result<ValueId> {
        self.op(Reshape { shape: shape.to_vec(), trust: false }, &[x])
    }

    /// Reorders axes.
    pub fn transpose(&mut self, x: ValueId, perm: &[i64]) -> Result<ValueId> {
        self.op(Transpose { perm: perm.to_vec() }, &[x])
    }

    /// Another element type; the value itself when it has that type already.
    pub fn cast(&mut self, x: ValueId, to: DType) -> Result<ValueId> {
        if self.ty(x)?.dtype == to {
            return Ok(x);
        }
        self.op(Cast::to(to), &[x])
    }
}

impl GraphBuilder<'_> {
    /// A required operand of an op under decomposition.
    pub fn operand(&self, inputs: &[Option<ValueId>], index: usize) -> Result<ValueId> {
        inputs.get(index).copied().flatten().ok_or_else(|| self.error(format!("operand {index} is missing")))
    }

    /// Number of axes of a value.
    pub fn rank(&self, v: ValueId) -> Result<usize> {
        Ok(self.ty(v)?.rank())
    }

    /// Exchanges the last two axes.
    pub fn swap_last(&mut self, x: ValueId) -> Result<ValueId> {
        let n = self.rank(x)?;
        let mut perm: Vec<i64> = (0..n).filter_map(|i| i64::try_from(i).ok()).collect();
        if n < 2 {
            return Err(self.error("fewer than two axes to exchange"));
        }
        perm.swap(n - 1, n - 2);
        self.transpose(x, &perm)
    }

    /// Matrix product of the last two axes.
    pub fn matmul(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.op(MatMul {}, &[a, b])
    }

    /// Whole slices of `data` along an axis, by index.
    pub fn gather(&mut self, data: ValueId, indices: ValueId, axis: i64) -> Result<ValueId> {
        self.op(Gather { axis }, &[data, indices])
    }

    /// Elements `start` up to, not including, `end` of one axis.
    pub fn slice_axis(&mut self, x: ValueId, axis: i64, start: &Dim, end: &Dim) -> Result<ValueId> {
        self.op(Slice::axis(axis, start.clone(), end.clone()), &[x])
    }

    /// Element `index` of one axis, which goes.
    pub fn select(&mut self, x: ValueId, axis: i64, index: i64) -> Result<ValueId> {
        let mut shape = self.shape(x)?;
        let at = crate::types::resolve_axis(axis, shape.len())
            .ok_or_else(|| self.error(format!("axis {axis} is out of range for rank {}", shape.len())))?;
        let extent = shape.remove(at);
        let start = if index < 0 { extent.add_const(index)? } else { Dim::constant(index) };
        let part = self.slice_axis(x, axis, &start, &start.add_const(1)?)?;
        self.reshape(part, &shape)
    }

    /// Consecutive parts of an axis.
    pub fn split(&mut self, x: ValueId, axis: i64, sizes: &[Dim]) -> Result<Vec<ValueId>> {
        self.ops(Split { axis, sizes: sizes.to_vec() }, &[Some(x)])
    }

    /// Joins values along an axis.
    pub fn concat(&mut self, parts: &[ValueId], axis: i64) -> Result<ValueId> {
        self.op(Concat { axis }, parts)
    }

    /// Broadcasts to a shape; the value itself when it has that shape already.
    pub fn expand(&mut self, x: ValueId, shape: &[Dim]) -> Result<ValueId> {
        if crate::types::same_shape(&self.shape(x)?, shape) {
            return Ok(x);
        }
        self.op(Expand { shape: shape.to_vec(), trust: false }, &[x])
    }

    /// Inserts an axis of extent 1, so that it stands at `axis` of the result.
    pub fn unsqueeze(&mut self, x: ValueId, axis: i64) -> Result<ValueId> {
        let mut shape = self.shape(x)?;
        let at = crate::types::resolve_axis(axis, shape.len() + 1)
            .ok_or_else(|| self.error(format!("axis {axis} is out of range for rank {}", shape.len() + 1)))?;
        shape.insert(at, Dim::constant(1));
        self.reshape(x, &shape)
    }

    /// Normalised exponentials along one axis.
    pub fn softmax(&mut self, x: ValueId, axis: i64) -> Result<ValueId> {
        self.op(Softmax { axis }, &[x])
    }

    /// A reduction over axes.
    pub fn reduce(
        &mut self,
        function: ReduceFn,
        x: ValueId,
        axes: &[i64],
        keepdims: bool,
    ) -> Result<ValueId> {
        self.op(Reduce { function, axes: axes.to_vec(), keepdims }, &[x])
    }

    /// Arithmetic mean over axes.
    pub fn reduce_mean(&mut self, x: ValueId, axes: &[i64], keepdims: bool) -> Result<ValueId> {
        self.reduce(ReduceFn::Mean, x, axes, keepdims)
    }

    /// Sum over axes.
    pub fn reduce_sum(&mut self, x: ValueId, axes: &[i64], keepdims: bool) -> Result<ValueId> {
        self.reduce(ReduceFn::Sum, x, axes, keepdims)
    }

    /// 0, 1, 2, ... up to, not including, `limit`.
    pub fn iota(&mut self, limit: &Dim, dtype: DType) -> Result<ValueId> {
        self.op(Range { start: Dim::constant(0), limit: limit.clone(), step: 1, dtype }, &[])
    }

    /// A tensor of one value.
    pub fn full(&mut self, shape: &[Dim], value: f64, dtype: DType) -> Result<ValueId> {
        self.op(ConstantOfShape { shape: shape.to_vec(), value, dtype }, &[])
    }

    /// `x` where the condition holds, `y` elsewhere, all broadcast.
    pub fn where_(&mut self, condition: ValueId, x: ValueId, y: ValueId) -> Result<ValueId> {
        self.op(Where {}, &[condition, x, y])
    }

    /// x @ w + bias with w as [in, out].
    pub fn linear(&mut self, x: ValueId, w: ValueId, bias: Option<ValueId>) -> Result<ValueId> {
        let y = self.matmul(x, w)?;
        match bias {
            Some(bias) => self.add(y, bias),
            None => Ok(y),
        }
    }
}

/// Why types could not be inferred.
pub(crate) enum InferError {
    Op(OpError),
    Foreign(ValueId),
}

/// Types of the outputs that `op` has on these operands of `graph`.
pub(crate) fn infer_types(
    graph: &Graph,
    op: &Op,
    inputs: &[Option<ValueId>],
) -> std::result::Result<Vec<TensorType>, InferError> {
    let types = inputs
        .iter()
        .map(|v| match v {
            None => Ok(None),
            Some(v) => graph.ty(*v).map(Some).ok_or(InferError::Foreign(*v)),
        })
        .collect::<std::result::Result<Vec<_>, _>>()?;
    op.infer(&Infer { op: op.name(), inputs: &types }).map_err(InferError::Op)
}
