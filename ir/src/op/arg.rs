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

/// Running sums and products: one struct an op, the same attributes.
macro_rules! running {
    ($name:ident, $onnx:literal, $version:literal, $doc:literal, $first:literal, $floats:expr, $ints:expr) => {
        op_struct! {
            #[doc = $doc]
            pub struct $name = $onnx {
                /// The axis.
                pub axis: i64,
                /// Leave the element itself out of its result.
                pub exclusive: bool = false,
                /// Go from the end.
                pub reverse: bool = false,
            }
        }

        impl OpDef for $name {
            fn operands(&self) -> &'static [Operand] {
                X
            }
            fn onnx(&self) -> Onnx {
                Onnx::Op($onnx, $version)
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
                let order = (axis, self.exclusive, self.reverse);
                let out = if dtype.is_float() {
                    let all = scan(shape, order, &x.to_f64_vec(), f64::from($first), $floats);
                    Tensor::from_f64(dtype, shape, &all)?
                } else {
                    let all = scan(shape, order, &x.to_i64_vec(), i64::from($first), $ints);
                    Tensor::from_i64(dtype, shape, &all)?
                };
                Ok(vec![out])
            }
        }
    };
}
running!(
    CumSum,
    "CumSum",
    14,
    "Running sum along an axis. ONNX CumSum-14, with the axis as an attribute.",
    0u8,
    |a, b| a + b,
    i64::wrapping_add
);
running!(
    CumProd,
    "CumProd",
    26,
    "Running product along an axis. ONNX CumProd-26, with the axis as an attribute.",
    1u8,
    |a, b| a * b,
    i64::wrapping_mul
);

/// What `f` gives from the axis' first element on, in (axis, exclusive, reverse) order.
fn scan<T: Copy + Default>(
    shape: &[usize],
    (axis, exclusive, reverse): (usize, bool, bool),
    v: &[T],
    first: T,
    f: fn(T, T) -> T,
) -> Vec<T> {
    let mut out = vec![T::default(); v.len()];
    for_lanes(shape, axis, |lane| {
        let mut order: Vec<usize> = lane.collect();
        if reverse {
            order.reverse();
        }
        let mut sum = first;
        for i in order {
            let next = f(sum, at(v, i));
            if let Some(o) = out.get_mut(i) {
                *o = if exclusive { sum } else { next };
            }
            sum = next;
        }
    });
    out
}
