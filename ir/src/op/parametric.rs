//! Elementwise functions of one operand with numbers as attributes. Those without are in `elementwise.rs`.

use super::*;
use crate::dtype::DType;
use crate::op_struct;

const X: &[Operand] = &[one("x")];

op_struct! {
    /// Limits elements to a range. ONNX Clip-13, with the limits as attributes.
    pub struct Clip = "Clip" {
        /// Smallest result; none: no lower limit.
        pub min: Option<f64> = None,
        /// Largest result; none: no upper limit.
        pub max: Option<f64> = None,
    }
}

op_struct! {
    /// x where positive, alpha x elsewhere. ONNX LeakyRelu-16.
    pub struct LeakyRelu = "LeakyRelu" {
        /// Slope on the negative side.
        pub alpha: f64 = 0.01,
    }
}

op_struct! {
    /// x where positive, alpha (e^x - 1) elsewhere. ONNX Elu-6.
    pub struct Elu = "Elu" {
        /// What it tends to, negated, on the negative side.
        pub alpha: f64 = 1.0,
    }
}

op_struct! {
    /// alpha x + beta, limited to 0..1. ONNX HardSigmoid-6.
    pub struct HardSigmoid = "HardSigmoid" {
        /// Slope.
        pub alpha: f64 = 0.2,
        /// Value at 0.
        pub beta: f64 = 0.5,
    }
}

impl Clip {
    /// The function on one number; NaN stays.
    pub fn apply(&self, x: f64) -> f64 {
        let x = if self.min.is_some_and(|m| x < m) { self.min.unwrap_or(x) } else { x };
        if self.max.is_some_and(|m| x > m) { self.max.unwrap_or(x) } else { x }
    }
}
impl LeakyRelu {
    /// The function on one number.
    pub fn apply(&self, x: f64) -> f64 {
        if x < 0.0 { self.alpha * x } else { x }
    }
}
impl Elu {
    /// The function on one number.
    pub fn apply(&self, x: f64) -> f64 {
        if x < 0.0 { self.alpha * x.exp_m1() } else { x }
    }
}
impl HardSigmoid {
    /// The function on one number.
    pub fn apply(&self, x: f64) -> f64 {
        let y = self.alpha * x + self.beta;
        if y.is_nan() { y } else { y.clamp(0.0, 1.0) }
    }
}

macro_rules! parametric {
    ($($name:ident, $opset:literal);* $(;)?) => {$(
        impl OpDef for $name {
            fn operands(&self) -> &'static [Operand] {
                X
            }
            fn onnx(&self) -> Onnx {
                Onnx::Op(Self::NAME, $opset)
            }
            fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
                Ok(vec![cx.expect_float(0)?.clone()])
            }
            fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
                let (dtype, shape) = cx.output(0)?;
                let v: Vec<f64> = cx.input(0)?.to_f64_vec().into_iter().map(|x| self.apply(x)).collect();
                Ok(vec![Tensor::from_f64(dtype, shape, &v)?])
            }
        }
    )*};
}
parametric! {
    LeakyRelu, 16;
    Elu, 6;
    HardSigmoid, 6;
}

impl OpDef for Clip {
    fn operands(&self) -> &'static [Operand] {
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Clip", 13)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.ty(0)?;
        if x.dtype == DType::Bool {
            return Err(cx.reject(0, "a number type"));
        }
        Ok(vec![x.clone()])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = cx.input(0)?;
        let (dtype, shape) = cx.output(0)?;
        if dtype.is_float() {
            let v: Vec<f64> = x.to_f64_vec().into_iter().map(|x| self.apply(x)).collect();
            return Ok(vec![Tensor::from_f64(dtype, shape, &v)?]);
        }
        // Integers are compared as integers, so that large ones stay exact.
        let (min, max) = (self.min.map(|m| m.ceil() as i64), self.max.map(|m| m.floor() as i64));
        let limit = |x: i64| {
            let x = min.map_or(x, |m| x.max(m));
            max.map_or(x, |m| x.min(m))
        };
        let v: Vec<i64> = x.to_i64_vec().into_iter().map(limit).collect();
        Ok(vec![Tensor::from_i64(dtype, shape, &v)?])
    }
}
