//! Ops along one axis that are no plain reduction: positions of extremes, running sums.

use super::elements::at;
use super::reduce::reduced_shape;
use super::softmax::for_lanes;
use super::*;
use crate::dtype::DType;
use crate::op_struct;

const X: &[Operand] = &[one("data")];

op_struct! {
    /// Position of the largest element along an axis, the first of equals; a NaN counts as largest. i64.
    /// ONNX ArgMax-13.
    pub struct ArgMax = "ArgMax" {
        /// The axis.
        pub axis: i64 = 0,
        /// The axis stays with extent 1.
        pub keepdims: bool = true,
    }
}

op_struct! {
    /// Position of the smallest element along an axis, the first of equals; a NaN counts as smallest. i64.
    /// ONNX ArgMin-13.
    pub struct ArgMin = "ArgMin" {
        /// The axis.
        pub axis: i64 = 0,
        /// The axis stays with extent 1.
        pub keepdims: bool = true,
    }
}

macro_rules! arg_op {
    ($name:ident, $sign:literal) => {
        impl OpDef for $name {
            fn operands(&self) -> &'static [Operand] {
                X
            }
            fn onnx(&self) -> Onnx {
                Onnx::Op(Self::NAME, 13)
            }
            fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
                infer_arg(cx, self.axis, self.keepdims)
            }
            fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
                eval_arg(cx, self.axis, $sign)
            }
        }
    };
}
arg_op!(ArgMax, 1);
arg_op!(ArgMin, -1);

fn infer_arg(cx: &Infer<'_>, axis: i64, keepdims: bool) -> Result<Vec<TensorType>, OpError> {
    let x = cx.ty(0)?;
    let axis = cx.axis("axis", axis, x.rank())?;
    let mask: Vec<bool> = (0..x.rank()).map(|i| i == axis).collect();
    Ok(vec![TensorType { dtype: DType::I64, shape: reduced_shape(&x.shape, &mask, keepdims) }])
}

fn eval_arg(cx: &Eval<'_>, axis: i64, sign: i64) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let (dtype, shape) = cx.output(0)?;
    let axis = cx.axis(axis, x.shape().len())?;
    if x.shape().get(axis) == Some(&0) && !shape.contains(&0) {
        return Err(cx.bad_data(format!("no elements along axis {axis} of {:?}", x.shape())));
    }
    let mut out = Vec::new();
    if x.dtype().is_float() {
        let v = x.to_f64_vec();
        for_lanes(x.shape(), axis, |lane| {
            let mut best = (0i64, f64::NEG_INFINITY);
            for (n, i) in (0i64..).zip(lane) {
                let y = at(&v, i) * sign as f64;
                if n == 0 || y > best.1 || (y.is_nan() && !best.1.is_nan()) {
                    best = (n, y);
                }
            }
            out.push(best.0);
        });
    } else {
        let v = x.to_i64_vec();
        for_lanes(x.shape(), axis, |lane| {
            let mut best = (0i64, 0i64);
            for (n, i) in (0i64..).zip(lane) {
                let y = at(&v, i);
                if n == 0 || (sign > 0 && y > best.1) || (sign < 0 && y < best.1) {
                    best = (n, y);
                }
            }
            out.push(best.0);
        });
    }
    Ok(vec![Tensor::from_i64(dtype, shape, &out)?])
}

op_struct! {
    /// Running sum along an axis. ONNX CumSum-14, with the axis as an attribute.
    pub struct CumSum = "CumSum" {
        /// The axis.
        pub axis: i64,
        /// Leave the element itself out of its sum.
        pub exclusive: bool = false,
        /// Sum from the end.
        pub reverse: bool = false,
    }
}

impl OpDef for CumSum {
    fn operands(&self) -> &'static [Operand] {
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("CumSum", 14)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.ty(0)?;
        if x.dtype == DType::Bool {
            return Err(cx.reject(0, "a number type"));
        }
        cx.axis("axis", self.axis, x.rank())?;
        Ok(vec![x.clone()])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = cx.input(0)?;
        let (dtype, shape) = cx.output(0)?;
        let axis = cx.axis(self.axis, shape.len())?;
        let out = if dtype.is_float() {
            let v = x.to_f64_vec();
            let sums = self.scan(shape, axis, &v, |a, b| a + b);
            Tensor::from_f64(dtype, shape, &sums)?
        } else {
            let v = x.to_i64_vec();
            let sums = self.scan(shape, axis, &v, i64::wrapping_add);
            Tensor::from_i64(dtype, shape, &sums)?
        };
        Ok(vec![out])
    }
}

impl CumSum {
    fn scan<T: Copy + Default>(&self, shape: &[usize], axis: usize, v: &[T], add: fn(T, T) -> T) -> Vec<T> {
        let mut out = vec![T::default(); v.len()];
        for_lanes(shape, axis, |lane| {
            let mut order: Vec<usize> = lane.collect();
            if self.reverse {
                order.reverse();
            }
            let mut sum = T::default();
            for i in order {
                let next = add(sum, at(v, i));
                if let Some(o) = out.get_mut(i) {
                    *o = if self.exclusive { sum } else { next };
                }
                sum = next;
            }
        });
        out
    }
}
