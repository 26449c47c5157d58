//! Softmax and its logarithm along one axis.

use super::elements::at;
use super::*;
use crate::op_struct;

const X: &[Operand] = &[one("x")];

op_struct! {
    /// Normalised exponentials along one axis, shifted by the maximum. ONNX Softmax-13.
    pub struct Softmax = "Softmax" {
        /// The axis; counts from the end when negative.
        pub axis: i64 = -1,
    }
}

op_struct! {
    /// Logarithm of softmax along one axis. ONNX LogSoftmax-13.
    pub struct LogSoftmax = "LogSoftmax" {
        /// The axis; counts from the end when negative.
        pub axis: i64 = -1,
    }
}

macro_rules! softmax_op {
    ($name:ident, $f:expr) => {
        impl OpDef for $name {
            fn operands(&self) -> &'static [Operand] {
                X
            }
            fn onnx(&self) -> Onnx {
                Onnx::Op(Self::NAME, 13)
            }
            fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
                let x = cx.expect_float(0)?;
                cx.axis("axis", self.axis, x.rank())?;
                Ok(vec![x.clone()])
            }
            fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
                eval_lanes(cx, self.axis, $f)
            }
        }
    };
}
softmax_op!(Softmax, |x, max, sum| (x - max).exp() / sum);
softmax_op!(LogSoftmax, |x, max, sum| x - max - sum.ln());

/// `f` of every element, the maximum of its lane and the lane's sum of exponentials less the maximum.
fn eval_lanes(cx: &Eval<'_>, axis: i64, f: fn(f64, f64, f64) -> f64) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let (dtype, shape) = cx.output(0)?;
    let axis = cx.axis(axis, shape.len())?;
    let mut v = x.to_f64_vec();
    for_lanes(shape, axis, |lane| {
        let max = lane.clone().map(|i| at(&v, i)).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = lane.clone().map(|i| (at(&v, i) - max).exp()).sum();
        for i in lane {
            if let Some(x) = v.get_mut(i) {
                *x = f(*x, max, sum);
            }
        }
    });
    Ok(vec![Tensor::from_f64(dtype, shape, &v)?])
}

/// Calls `f` with the element indices of every lane along `axis`.
pub fn for_lanes(shape: &[usize], axis: usize, mut f: impl FnMut(std::iter::StepBy<std::ops::Range<usize>>)) {
    let len = shape.get(axis).copied().unwrap_or(0);
    let inner: usize = shape.iter().skip(axis + 1).product();
    let outer: usize = shape.iter().take(axis).product();
    if len == 0 || inner == 0 {
        return;
    }
    for o in 0..outer {
        for i in 0..inner {
            let start = o * len * inner + i;
            f((start..start + (len - 1) * inner + 1).step_by(inner));
        }
    }
}
