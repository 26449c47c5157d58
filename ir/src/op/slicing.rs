//! Cutting and joining along axes by offsets known in the graph. Picking by index tensors is in `gather.rs`.

use super::elements::{at, flat, move_elements, strides};
use super::*;
use crate::dim::Dim;
use crate::op_struct;
use crate::types::same_shape;

op_struct! {
    /// A strided part of x. Offsets are resolved already: for a positive step 0 <= start <= end <= extent, for a
    /// negative one start is the first element taken and end, down to -1, the one before which it stops. An
    /// importer resolves ONNX's negative and overlong offsets. ONNX Slice-13.
    pub struct Slice = "Slice" {
        /// The axes cut, each once.
        pub axes: Vec<i64>,
        /// First element taken, for each of the axes.
        pub starts: Vec<Dim>,
        /// Where to stop, that one not taken, for each of the axes.
        pub ends: Vec<Dim>,
        /// Distance from one element taken to the next, not 0, for each of the axes.
        pub steps: Vec<i64>,
    }
}

impl Slice {
    /// One axis, with step 1.
    pub fn axis(axis: i64, start: Dim, end: Dim) -> Self {
        Slice { axes: vec![axis], starts: vec![start], ends: vec![end], steps: vec![1] }
    }

    /// Axis, start, end and step together.
    pub fn cuts(&self) -> impl Iterator<Item = (i64, &Dim, &Dim, i64)> {
        self.axes
            .iter()
            .zip(&self.starts)
            .zip(&self.ends)
            .zip(&self.steps)
            .map(|(((&a, s), e), &step)| (a, s, e, step))
    }
}

fn negative(d: &Dim) -> bool {
    d.as_const().is_some_and(|n| n < 0)
}

const X: &[Operand] = &[one("x")];

impl OpDef for Slice {
    fn operands(&self) -> &'static [Operand] {
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Slice", 13)
    }
    fn takes_narrow(&self) -> bool {
        true
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.ty(0)?;
        let n = self.axes.len();
        if self.starts.len() != n || self.ends.len() != n || self.steps.len() != n {
            return Err(cx.bad_attr("axes", "axes, starts, ends and steps differ in number"));
        }
        let mut shape = x.shape.clone();
        let mut seen = vec![false; x.rank()];
        for (axis, start, end, step) in self.cuts() {
            let a = cx.axis("axes", axis, x.rank())?;
            if seen.get_mut(a).is_some_and(|s| std::mem::replace(s, true)) {
                return Err(cx.bad_attr("axes", format!("axis {axis} occurs twice")));
            }
            let Some(extent) = shape.get_mut(a) else { continue };
            let (span, low_ok, high_ok) = match step {
                0 => return Err(cx.bad_attr("steps", "a step is 0")),
                1.. => (end.sub(start)?, !negative(start), !negative(&extent.sub(end)?)),
                _ => (
                    start.sub(end)?,
                    !negative(&end.add_const(1)?),
                    !negative(&extent.sub(start)?.add_const(-1)?) || extent.is(0),
                ),
            };
            if !low_ok || !high_ok || negative(&span) {
                let why =
                    format!("{start}..{end} by {step} is no range within axis {axis} of extent {extent}");
                return Err(cx.bad_attr("starts", why));
            }
            let distance = i64::try_from(step.unsigned_abs()).map_err(|_| crate::DimError::Overflow)?;
            *extent = span.ceil_div(&Dim::constant(distance))?;
        }
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = cx.input(0)?;
        let (_, shape) = cx.output(0)?;
        let rank = x.shape().len();
        let mut walk = vec![(0i64, 1i64); rank];
        for (axis, start, end, step) in self.cuts() {
            let a = cx.axis(axis, rank)?;
            let extent = i64::try_from(at(x.shape(), a)).unwrap_or(i64::MAX);
            let (s, e) = (cx.dim(start)?, cx.dim(end)?);
            let ok = if step > 0 {
                0 <= s && s <= e && e <= extent
            } else {
                -1 <= e && e <= s && s < extent.max(1)
            };
            if !ok {
                let why = format!("{s}..{e} by {step} is no range within axis {axis} of extent {extent}");
                return Err(cx.bad_data(why));
            }
            if let Some(w) = walk.get_mut(a) {
                *w = (s, step);
            }
        }
        let from = strides(x.shape());
        let out = move_elements(x, shape, &[], |index| {
            let source: Vec<usize> = index
                .iter()
                .zip(&walk)
                .map(|(&i, &(s, step))| {
                    let i = i64::try_from(i).unwrap_or(i64::MAX);
                    usize::try_from(s.saturating_add(i.saturating_mul(step))).unwrap_or(usize::MAX)
                })
                .collect();
            Ok(Some(flat(&source, &from)))
        })?;
        Ok(vec![out])
    }
}

op_struct! {
    /// Joins along an axis; the other extents agree. ONNX Concat-13.
    pub struct Concat = "Concat" {
        /// The axis.
        pub axis: i64,
    }
}

impl OpDef for Concat {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[variadic("inputs")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Concat", 13)
    }
    fn takes_narrow(&self) -> bool {
        true
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let first = cx.ty(0)?;
        let axis = cx.axis("axis", self.axis, first.rank())?;
        let mut sum = Dim::constant(0);
        for (index, t) in cx.present() {
            cx.expect_dtype(index, first.dtype)?;
            let rest = |t: &TensorType| -> Vec<Dim> {
                t.shape.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, d)| d.clone()).collect()
            };
            if t.rank() != first.rank() || !same_shape(&rest(t), &rest(first)) {
                return Err(cx.reject(index, format!("{first} but for axis {axis}")));
            }
            sum = sum.add(t.shape.get(axis).unwrap_or(&Dim::constant(0)))?;
        }
        let mut shape = first.shape.clone();
        if let Some(d) = shape.get_mut(axis) {
            *d = sum;
        }
        Ok(vec![TensorType { dtype: first.dtype, shape }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = cx.output(0)?;
        let axis = cx.axis(self.axis, shape.len())?;
        let outer: usize = shape.iter().take(axis).product();
        let mut out = Vec::with_capacity(Tensor::zeros(dtype, shape)?.bytes().len());
        for o in 0..outer {
            for x in cx.inputs.iter().flatten() {
                let run: usize = x.shape().iter().skip(axis).product::<usize>() * dtype.size();
                out.extend_from_slice(x.bytes().get(o * run..(o + 1) * run).unwrap_or(&[]));
            }
        }
        Ok(vec![Tensor::from_bytes(dtype, shape, &out)?])
    }
}

op_struct! {
    /// Cuts an axis into consecutive parts, one output each. ONNX Split-13.
    pub struct Split = "Split" {
        /// The axis.
        pub axis: i64 = 0,
        /// Extents of the parts; they add up to the axis.
        pub sizes: Vec<Dim>,
    }
}

impl OpDef for Split {
    fn operands(&self) -> &'static [Operand] {
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Split", 13)
    }
    fn takes_narrow(&self) -> bool {
        true
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.ty(0)?;
        let axis = cx.axis("axis", self.axis, x.rank())?;
        let extent = x.shape.get(axis).cloned().unwrap_or_default();
        let sum = self.sizes.iter().try_fold(Dim::constant(0), |s, d| s.add(d))?;
        if self.sizes.is_empty() || self.sizes.iter().any(negative) || !sum.same(&extent) {
            return Err(cx.bad_attr(
                "sizes",
                format!("{:?} do not add up to axis {axis} of extent {extent}", self.sizes),
            ));
        }
        let part = |size: &Dim| {
            let mut shape = x.shape.clone();
            if let Some(d) = shape.get_mut(axis) {
                *d = size.clone();
            }
            TensorType { dtype: x.dtype, shape }
        };
        Ok(self.sizes.iter().map(part).collect())
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = cx.input(0)?;
        let axis = cx.axis(self.axis, x.shape().len())?;
        let from = strides(x.shape());
        let mut start = 0;
        let mut parts = Vec::with_capacity(cx.outputs.len());
        for (_, shape) in cx.outputs {
            parts.push(move_elements(x, shape, &[], |index| {
                let mut source = index.to_vec();
                if let Some(i) = source.get_mut(axis) {
                    *i += start;
                }
                Ok(Some(flat(&source, &from)))
            })?);
            start += at(shape, axis);
        }
        Ok(parts)
    }
}
