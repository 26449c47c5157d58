//! The activations that fused ops end in, their scalar functions and their expansion into ops.

use super::{Clip, Gelu, GeluForm, HardSwish, Swish, UnaryFn, erf};
use crate::attr_enum;
use crate::builder::{BuildError, GraphBuilder};
use crate::graph::ValueId;

attr_enum! {
    /// What a fused op applies to its result.
    pub enum Activation {
        /// Nothing.
        None = "none",
        /// max(x, 0).
        Relu = "relu",
        /// x times the normal distribution function of x, exactly, with erf.
        Gelu = "gelu",
        /// GELU by its tanh approximation.
        GeluTanh = "gelu_tanh",
        /// x sigmoid(1.702 x).
        QuickGelu = "quick_gelu",
        /// x sigmoid(x).
        Silu = "silu",
        /// Hyperbolic tangent.
        Tanh = "tanh",
        /// 1 / (1 + e^-x).
        Sigmoid = "sigmoid",
        /// min(max(x, 0), 6).
        Relu6 = "relu6",
        /// x min(max(x / 6 + 0.5, 0), 1).
        HardSwish = "hard_swish",
    }
}

/// sqrt(2 / pi), of GELU's tanh form.
pub(super) const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

/// ReLU with an upper limit.
const RELU6: Clip = Clip { min: Some(0.0), max: Some(6.0) };

impl Activation {
    /// The function on one number.
    pub fn apply(self, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        match self {
            Activation::None => x,
            Activation::Relu => super::float_unary(UnaryFn::Relu, x),
            Activation::Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            Activation::GeluTanh => 0.5 * x * (1.0 + (SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)).tanh()),
            Activation::QuickGelu => x * sigmoid(1.702 * x),
            Activation::Silu => x * sigmoid(x),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => sigmoid(x),
            Activation::Relu6 => RELU6.apply(x),
            Activation::HardSwish if x.is_nan() => x,
            Activation::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        }
    }
}

impl GraphBuilder<'_> {
    /// Applies an activation as an op of its own.
    pub fn activation(&mut self, activation: Activation, x: ValueId) -> Result<ValueId, BuildError> {
        match activation {
            Activation::None => Ok(x),
            Activation::Relu => self.unary(UnaryFn::Relu, x),
            Activation::Gelu => self.op(Gelu { approximate: GeluForm::None }, &[x]),
            Activation::GeluTanh => self.op(Gelu { approximate: GeluForm::Tanh }, &[x]),
            Activation::QuickGelu => self.op(Swish { alpha: 1.702 }, &[x]),
            Activation::Silu => self.op(Swish { alpha: 1.0 }, &[x]),
            Activation::Tanh => self.unary(UnaryFn::Tanh, x),
            Activation::Sigmoid => self.unary(UnaryFn::Sigmoid, x),
            Activation::Relu6 => self.op(RELU6, &[x]),
            Activation::HardSwish => self.op(HardSwish {}, &[x]),
        }
    }
}
