//! Small tensor operations by the names that model code uses. Anything with weights belongs elsewhere.

use crate::hf::cx::{Built, Cx};
use frit_ir::op::{
    Concat, Expand, Gather, LogSoftmax, MatMul, Range, Reduce, ReduceFn, Slice, Softmax, Split, UnaryFn,
    Where,
};
use frit_ir::{DType, Dim, Tensor, ValueId};

impl Cx<'_, '_> {
    /// Extent of an axis.
    pub fn extent(&self, x: ValueId, axis: usize) -> Built<Dim> {
        Ok(self.b.dim(x, axis)?)
    }

    /// x[start..end] along an axis.
    pub fn slice(&mut self, x: ValueId, axis: i64, start: Dim, end: Dim) -> Built {
        Ok(self.b.op(Slice::axis(axis, start, end), &[x])?)
    }

    /// The element at `index` of an axis, which goes.
    pub fn at(&mut self, x: ValueId, axis: i64, index: i64) -> Built {
        let index = self.b.scalar(DType::I64, index as f64)?;
        Ok(self.b.op(Gather { axis }, &[x, index])?)
    }

    /// Joins along an axis.
    pub fn concat(&mut self, axis: i64, parts: &[ValueId]) -> Built {
        Ok(self.b.op(Concat { axis }, parts)?)
    }

    /// Cuts an axis into parts of these extents.
    pub fn split(&mut self, x: ValueId, axis: i64, sizes: &[usize]) -> Built<Vec<ValueId>> {
        let sizes = sizes.iter().map(|&n| Dim::from(n)).collect();
        Ok(self.b.ops(Split { axis, sizes }, &[Some(x)])?)
    }

    /// Broadcasts to a shape.
    pub fn expand(&mut self, x: ValueId, shape: &[Dim]) -> Built {
        Ok(self.b.op(Expand { shape: shape.to_vec(), trust: false }, &[x])?)
    }

    /// Adds an axis of extent 1 before `axis`.
    pub fn unsqueeze(&mut self, x: ValueId, axis: usize) -> Built {
        let mut shape = self.b.shape(x)?;
        shape.insert(axis.min(shape.len()), Dim::constant(1));
        Ok(self.b.reshape(x, &shape)?)
    }

    /// All axes before the last as one.
    pub fn rows(&mut self, x: ValueId) -> Built {
        let shape = self.b.shape(x)?;
        let Some((last, before)) = shape.split_last() else { return Ok(x) };
        let rows = frit_ir::types::product(before)?;
        Ok(self.b.reshape(x, &[rows, last.clone()])?)
    }

    /// All axes as one.
    pub fn flat(&mut self, x: ValueId) -> Built {
        let n = self.b.ty(x)?.elements()?;
        Ok(self.b.reshape(x, &[n])?)
    }

    /// start, start + 1, ... up to `end`, as i64.
    pub fn arange(&mut self, start: Dim, end: Dim) -> Built {
        Ok(self.b.op(Range { start, limit: end, step: 1, dtype: DType::I64 }, &[])?)
    }

    /// Rows of a table by number.
    pub fn gather_rows(&mut self, table: ValueId, ids: ValueId) -> Built {
        Ok(self.b.op(Gather { axis: 0 }, &[table, ids])?)
    }

    /// Matrix product over the last two axes, broadcast over the others.
    pub fn matmul(&mut self, x: ValueId, y: ValueId) -> Built {
        Ok(self.b.op(MatMul {}, &[x, y])?)
    }

    /// Softmax over the last axis.
    pub fn softmax(&mut self, x: ValueId) -> Built {
        Ok(self.b.op(Softmax { axis: -1 }, &[x])?)
    }

    /// Logarithm of softmax over the last axis.
    pub fn log_softmax(&mut self, x: ValueId) -> Built {
        Ok(self.b.op(LogSoftmax { axis: -1 }, &[x])?)
    }

    /// Mean over axes, which stay with extent 1 when `keepdims`.
    pub fn mean(&mut self, x: ValueId, axes: &[i64], keepdims: bool) -> Built {
        Ok(self.b.op(Reduce { function: ReduceFn::Mean, axes: axes.to_vec(), keepdims }, &[x])?)
    }

    /// Sum over axes, which stay with extent 1 when `keepdims`.
    pub fn sum(&mut self, x: ValueId, axes: &[i64], keepdims: bool) -> Built {
        Ok(self.b.op(Reduce { function: ReduceFn::Sum, axes: axes.to_vec(), keepdims }, &[x])?)
    }

    /// `a` where the condition holds, else `b`.
    pub fn choose(&mut self, condition: ValueId, a: ValueId, b: ValueId) -> Built {
        Ok(self.b.op(Where {}, &[condition, a, b])?)
    }

    /// Elementwise function.
    pub fn map(&mut self, f: UnaryFn, x: ValueId) -> Built {
        Ok(self.b.unary(f, x)?)
    }

    /// c - x.
    pub fn scalar_minus(&mut self, c: f64, x: ValueId) -> Built {
        let c = self.b.scalar_like(x, c)?;
        Ok(self.b.sub(c, x)?)
    }

    /// x / c.
    pub fn div_scalar(&mut self, x: ValueId, c: f64) -> Built {
        let c = self.b.scalar_like(x, c)?;
        Ok(self.b.div(x, c)?)
    }

    /// An i64 constant.
    pub fn integers(&mut self, shape: &[usize], values: &[i64]) -> Built {
        Ok(self.b.constant(Tensor::from_i64(DType::I64, shape, values)?)?)
    }
}
