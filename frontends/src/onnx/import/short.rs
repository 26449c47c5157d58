//! Short names for emitting the ops that lowerings are made of. What operators of ONNX mean belongs to `ops/`.

use super::cx::Cx;
use super::error::Result;
use frit_ir::op::{
    Binary, BinaryFn, Cast, Concat, ConstantOfShape, Gather, MatMul, Range, Reduce, ReduceFn, Reshape,
    ShapeOf, Slice, Split, Transpose, Unary, UnaryFn, Where,
};
use frit_ir::types::{product, same_shape};
use frit_ir::{DType, Dim, DimError, ValueId};

impl Cx<'_> {
    /// Makes an error of dimension arithmetic one of the node.
    pub fn dim<T>(&self, result: std::result::Result<T, DimError>) -> Result<T> {
        result.map_err(|e| self.refused(e))
    }

    /// A function of one operand.
    pub fn unary(&mut self, function: UnaryFn, x: ValueId) -> Result<ValueId> {
        self.emit(Unary { function }, &[x])
    }

    /// A function of two operands, broadcast.
    pub fn binary(&mut self, function: BinaryFn, x: ValueId, y: ValueId) -> Result<ValueId> {
        let xy = self.broadcast(&[x, y])?;
        self.emit(Binary { function }, &xy)
    }
    /// Sum, broadcast.
    pub fn plus(&mut self, x: ValueId, y: ValueId) -> Result<ValueId> {
        self.binary(BinaryFn::Add, x, y)
    }
    /// Difference, broadcast.
    pub fn minus(&mut self, x: ValueId, y: ValueId) -> Result<ValueId> {
        self.binary(BinaryFn::Sub, x, y)
    }
    /// Product, broadcast.
    pub fn times(&mut self, x: ValueId, y: ValueId) -> Result<ValueId> {
        self.binary(BinaryFn::Mul, x, y)
    }
    /// Quotient, broadcast.
    pub fn over(&mut self, x: ValueId, y: ValueId) -> Result<ValueId> {
        self.binary(BinaryFn::Div, x, y)
    }
    /// A function of an operand and a number of its element type.
    pub fn with_number(&mut self, function: BinaryFn, x: ValueId, number: f64) -> Result<ValueId> {
        let dtype = self.dtype(x)?;
        let c = self.scalar(dtype, number)?;
        self.binary(function, x, c)
    }

    /// `x` where the condition holds, `y` elsewhere, all broadcast.
    pub fn choose(&mut self, condition: ValueId, x: ValueId, y: ValueId) -> Result<ValueId> {
        let all = self.broadcast(&[condition, x, y])?;
        self.emit(Where {}, &all)
    }

    /// Another element type; the value itself when it has that type.
    pub fn cast(&mut self, x: ValueId, to: DType) -> Result<ValueId> {
        if self.dtype(x)? == to {
            return Ok(x);
        }
        self.emit(Cast::to(to), &[x])
    }

    /// Another shape of as many elements, left to run time where that cannot be proven; the value itself when it has
    /// that shape.
    pub fn reshape(&mut self, x: ValueId, shape: &[Dim]) -> Result<ValueId> {
        let from = self.shape(x)?;
        if same_shape(&from, shape) {
            return Ok(x);
        }
        let (a, b) = (self.dim(product(&from))?, self.dim(product(shape))?);
        self.emit(Reshape { shape: shape.to_vec(), trust: !a.same(&b) }, &[x])
    }

    /// Inserts axes of extent 1, which stand at these axes of the result.
    pub fn unsqueeze(&mut self, x: ValueId, axes: &[i64]) -> Result<ValueId> {
        let mut shape = self.shape(x)?;
        let mut axes = self.axes(axes, shape.len().saturating_add(axes.len()))?;
        axes.sort_unstable();
        for a in axes {
            shape.insert(a.min(shape.len()), Dim::constant(1));
        }
        self.reshape(x, &shape)
    }

    /// Reorders axes; the value itself when they stay.
    pub fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Result<ValueId> {
        if perm.iter().enumerate().all(|(i, p)| i == *p) && perm.len() == self.rank(x)? {
            return Ok(x);
        }
        let perm = perm.iter().filter_map(|&p| i64::try_from(p).ok()).collect();
        self.emit(Transpose { perm }, &[x])
    }

    /// Exchanges two axes.
    pub fn swap_axes(&mut self, x: ValueId, a: usize, b: usize) -> Result<ValueId> {
        let mut perm: Vec<usize> = (0..self.rank(x)?).collect();
        if a >= perm.len() || b >= perm.len() {
            return Err(self.error(format!("axes {a} and {b} of rank {}", perm.len())));
        }
        perm.swap(a, b);
        self.transpose(x, &perm)
    }

    /// Elements `start` up to, not including, `end` of one axis; the value itself when that is all.
    pub fn slice(&mut self, x: ValueId, axis: usize, start: &Dim, end: &Dim) -> Result<ValueId> {
        let extent = self.shape(x)?.get(axis).cloned();
        if start.is(0) && extent.is_some_and(|d| d.same(end)) {
            return Ok(x);
        }
        let axis = i64::try_from(axis).unwrap_or(i64::MAX);
        self.emit(Slice::axis(axis, start.clone(), end.clone()), &[x])
    }

    /// Consecutive parts of an axis.
    pub fn split(&mut self, x: ValueId, axis: usize, sizes: &[Dim]) -> Result<Vec<ValueId>> {
        let axis = i64::try_from(axis).unwrap_or(i64::MAX);
        self.emit_all(Split { axis, sizes: sizes.to_vec() }, &[Some(x)])
    }

    /// Joins values along an axis; a single one stays.
    pub fn concat(&mut self, parts: &[ValueId], axis: usize) -> Result<ValueId> {
        if let [one] = parts {
            return Ok(*one);
        }
        let axis = i64::try_from(axis).unwrap_or(i64::MAX);
        self.emit(Concat { axis }, parts)
    }

    /// Whole slices of `data` along an axis, by index.
    pub fn gather(&mut self, data: ValueId, indices: ValueId, axis: usize) -> Result<ValueId> {
        let axis = i64::try_from(axis).unwrap_or(i64::MAX);
        self.emit(Gather { axis }, &[data, indices])
    }

    /// Matrix product.
    pub fn matmul(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.emit(MatMul {}, &[a, b])
    }

    /// A reduction over axes, none named: over all.
    pub fn reduce(
        &mut self,
        function: ReduceFn,
        x: ValueId,
        axes: &[usize],
        keepdims: bool,
    ) -> Result<ValueId> {
        let axes = axes.iter().filter_map(|&a| i64::try_from(a).ok()).collect();
        self.emit(Reduce { function, axes, keepdims }, &[x])
    }

    /// 0, 1, 2, ... up to, not including, `limit`.
    pub fn iota(&mut self, limit: &Dim, dtype: DType) -> Result<ValueId> {
        self.emit(Range { start: Dim::constant(0), limit: limit.clone(), step: 1, dtype }, &[])
    }

    /// A tensor of one value.
    pub fn full(&mut self, shape: &[Dim], value: f64, dtype: DType) -> Result<ValueId> {
        self.emit(ConstantOfShape { shape: shape.to_vec(), value, dtype }, &[])
    }

    /// Dims as an i64 tensor `[n]`.
    pub fn dims_value(&mut self, dims: &[Dim]) -> Result<ValueId> {
        self.define(dims)?;
        self.emit(ShapeOf { dims: dims.to_vec() }, &[])
    }
}
