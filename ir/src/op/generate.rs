//! Ops without operands: values that follow from the dimensions alone. Constants are weights, not ops.

use super::elements::filled;
use super::*;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::op_struct;

op_struct! {
    /// start, start + step, ... up to, not including, limit; one axis. The limit must not lie on the wrong side of
    /// start. ONNX Range-11.
    pub struct Range = "Range" {
        /// First value.
        pub start: Dim = Dim::constant(0),
        /// Where to stop, that value not included.
        pub limit: Dim,
        /// Distance of neighbours, not 0.
        pub step: i64 = 1,
        /// Element type of the result, a number type.
        pub dtype: DType = DType::I64,
    }
}

impl OpDef for Range {
    fn operands(&self) -> &'static [Operand] {
        &[]
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Range", 11)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        if !self.dtype.is_int() && !self.dtype.is_float() {
            return Err(cx.bad_attr("dtype", format!("{} is no number type", self.dtype)));
        }
        let distance = i64::try_from(self.step.unsigned_abs()).map_err(|_| crate::DimError::Overflow)?;
        let span = match self.step {
            0 => return Err(cx.bad_attr("step", "the step is 0")),
            1.. => self.limit.sub(&self.start)?,
            _ => self.start.sub(&self.limit)?,
        };
        if span.as_const().is_some_and(|n| n < 0) {
            return Err(cx.bad_attr(
                "limit",
                format!("{} is not reached from {} by {}", self.limit, self.start, self.step),
            ));
        }
        Ok(vec![TensorType { dtype: self.dtype, shape: vec![span.ceil_div(&Dim::constant(distance))?] }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = cx.output(0)?;
        let start = cx.dim(&self.start)?;
        let n = Tensor::zeros(DType::I64, shape)?.len();
        let v: Vec<i64> = (0..n)
            .map(|i| start.wrapping_add(i64::try_from(i).unwrap_or(i64::MAX).wrapping_mul(self.step)))
            .collect();
        Ok(vec![Tensor::from_i64(dtype, shape, &v)?])
    }
}

op_struct! {
    /// A tensor of one value. ONNX ConstantOfShape-9.
    pub struct ConstantOfShape = "ConstantOfShape" {
        /// Shape of the result.
        pub shape: Vec<Dim>,
        /// The value.
        pub value: f64 = 0.0,
        /// Element type of the result.
        pub dtype: DType = DType::F32,
    }
}

impl OpDef for ConstantOfShape {
    fn operands(&self) -> &'static [Operand] {
        &[]
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("ConstantOfShape", 9)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        if let Some(d) = self.shape.iter().find(|d| d.as_const().is_some_and(|n| n < 0)) {
            return Err(cx.bad_attr("shape", format!("{d} is no extent")));
        }
        Ok(vec![TensorType { dtype: self.dtype, shape: self.shape.clone() }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = cx.output(0)?;
        Ok(vec![filled(dtype, shape, self.value)?])
    }
}

op_struct! {
    /// Values of dimension expressions at run time, i64 along one axis. What ONNX computes with Shape-15 and
    /// arithmetic on its result.
    pub struct ShapeOf = "Shape" {
        /// The expressions.
        pub dims: Vec<Dim>,
    }
}

impl OpDef for ShapeOf {
    fn operands(&self) -> &'static [Operand] {
        &[]
    }
    fn onnx(&self) -> Onnx {
        Onnx::None
    }
    fn infer(&self, _: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        Ok(vec![TensorType::new(DType::I64, [self.dims.len()])])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let v = self.dims.iter().map(|d| cx.dim(d)).collect::<Result<Vec<_>, _>>()?;
        Ok(vec![Tensor::from_i64(DType::I64, &[v.len()], &v)?])
    }
}
