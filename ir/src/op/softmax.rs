//! Softmax along one axis.

use super::*;
use crate::op_struct;

op_struct! {
    /// Normalised exponentials along one axis, shifted by the maximum. ONNX Softmax-13.
    pub struct Softmax = "Softmax" {
        /// The axis; counts from the end when negative.
        pub axis: i64 = -1,
    }
}

impl OpDef for Softmax {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("x")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Softmax", 13)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.expect_float(0)?;
        cx.axis("axis", self.axis, x.rank())?;
        Ok(vec![x.clone()])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = cx.input(0)?;
        let (dtype, shape) = cx.output(0)?;
        let axis = crate::types::resolve_axis(self.axis, shape.len())
            .ok_or_else(|| cx.bad_data("axis out of range"))?;
        let mut v = x.to_f64_vec();
        for_lanes(shape, axis, |lane| {
            let get = |v: &[f64], i: usize| v.get(i).copied().unwrap_or(0.0);
            let max = lane.clone().map(|i| get(&v, i)).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = lane.clone().map(|i| (get(&v, i) - max).exp()).sum();
            for i in lane {
                if let Some(x) = v.get_mut(i) {
                    *x = (*x - max).exp() / sum;
                }
            }
        });
        Ok(vec![Tensor::from_f64(dtype, shape, &v)?])
    }
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
