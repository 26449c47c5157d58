//! Gates of one operand, composite: GELU in its two forms, Swish (SiLU, quick GELU) and HardSwish.

use super::activation::SQRT_2_OVER_PI;
use super::*;
use crate::{attr_enum, op_struct};

const X: &[Operand] = &[one("x")];

attr_enum! {
    /// How GELU computes the normal distribution function.
    pub enum GeluForm {
        /// Exactly, with erf.
        None = "none",
        /// Approximately, with tanh.
        Tanh = "tanh",
    }
}

op_struct! {
    /// x times the normal distribution function of x (<https://arxiv.org/abs/1606.08415>). ONNX Gelu-20.
    pub struct Gelu = "Gelu" {
        /// How the distribution function is computed.
        pub approximate: GeluForm = GeluForm::None,
    }
}

impl OpDef for Gelu {
    fn operands(&self) -> &'static [Operand] {
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Gelu", 20)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        Ok(vec![cx.expect_float(0)?.clone()])
    }
    fn is_composite(&self) -> bool {
        true
    }
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let x = b.operand(inputs, 0)?;
        let inner = match self.approximate {
            GeluForm::None => {
                let scaled = b.mul_scalar(x, std::f64::consts::FRAC_1_SQRT_2)?;
                b.unary(UnaryFn::Erf, scaled)?
            }
            GeluForm::Tanh => {
                let square = b.mul(x, x)?;
                let cube = b.mul(square, x)?;
                let cubic = b.mul_scalar(cube, 0.044715)?;
                let sum = b.add(x, cubic)?;
                let scaled = b.mul_scalar(sum, SQRT_2_OVER_PI)?;
                b.unary(UnaryFn::Tanh, scaled)?
            }
        };
        let gate = b.add_scalar(inner, 1.0)?;
        let half = b.mul_scalar(x, 0.5)?;
        Ok(vec![b.mul(half, gate)?])
    }
}

op_struct! {
    /// x sigmoid(alpha x): SiLU for alpha 1, quick GELU for 1.702. ONNX Swish-24.
    pub struct Swish = "Swish" {
        /// Steepness of the gate.
        pub alpha: f64 = 1.0,
    }
}

impl OpDef for Swish {
    fn operands(&self) -> &'static [Operand] {
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Swish", 24)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        Ok(vec![cx.expect_float(0)?.clone()])
    }
    fn is_composite(&self) -> bool {
        true
    }
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let x = b.operand(inputs, 0)?;
        let steep = if self.alpha == 1.0 { x } else { b.mul_scalar(x, self.alpha)? };
        let gate = b.unary(UnaryFn::Sigmoid, steep)?;
        Ok(vec![b.mul(x, gate)?])
    }
}

op_struct! {
    /// x min(max(x / 6 + 0.5, 0), 1) (<https://arxiv.org/abs/1905.02244>). ONNX HardSwish-14.
    pub struct HardSwish = "HardSwish" {}
}

impl OpDef for HardSwish {
    fn operands(&self) -> &'static [Operand] {
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("HardSwish", 14)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        Ok(vec![cx.expect_float(0)?.clone()])
    }
    fn is_composite(&self) -> bool {
        true
    }
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let x = b.operand(inputs, 0)?;
        let gate = b.op(HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, &[x])?;
        Ok(vec![b.mul(x, gate)?])
    }
}
