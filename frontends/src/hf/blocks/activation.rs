//! The activation table of transformers (ACT2FN), by the names that configs use.

use crate::error::ConfigError;
use crate::hf::cx::{Built, Cx};
use frit_ir::ValueId;
use frit_ir::op::{BinaryFn, UnaryFn};
use std::f64::consts::{FRAC_2_PI, SQRT_2};

macro_rules! activations {
    ($($variant:ident = $($name:literal)|+ , $doc:literal;)*) => {
        /// An activation function.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Activation { $( #[doc = $doc] $variant ),* }

        impl Activation {
            /// Every name that a config may use.
            pub const NAMES: &'static [&'static str] = &[$($($name),+),*];

            fn from_name(name: &str) -> Option<Self> {
                match name { $( $($name)|+ => Some(Activation::$variant), )* _ => None }
            }
        }
    };
}

activations! {
    Gelu = "gelu" | "gelu_python", "x Phi(x), by the error function (Hendrycks and Gimpel 2016, arXiv:1606.08415).";
    GeluTanh = "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_accurate", "GELU approximated by tanh.";
    GeluClipped = "gelu_10", "GELU clipped to -10..10.";
    QuickGelu = "quick_gelu", "x sigmoid(1.702 x).";
    Relu = "relu", "max(x, 0).";
    Relu2 = "relu2", "max(x, 0) squared.";
    Relu6 = "relu6", "x clipped to 0..6.";
    LeakyRelu = "leaky_relu", "x, or 0.01 x where negative.";
    Silu = "silu" | "swish", "x sigmoid(x).";
    Mish = "mish", "x tanh(softplus(x)).";
    Tanh = "tanh", "Hyperbolic tangent.";
    Sigmoid = "sigmoid", "Logistic function.";
    Laplace = "laplace", "Laplace distribution function of mean sqrt(1/2) and deviation 0.282095.";
    Linear = "linear", "x.";
}

impl Activation {
    /// The activation that a config key names.
    pub fn parse(key: &str, name: &str) -> Result<Self, ConfigError> {
        Self::from_name(name).ok_or_else(|| ConfigError::unsupported(key, format!("\"{name}\""), Self::NAMES))
    }

    /// Applies it.
    pub fn apply(self, cx: &mut Cx<'_, '_>, x: ValueId) -> Built {
        match self {
            Activation::Gelu => gelu(cx, x),
            Activation::GeluTanh => gelu_tanh(cx, x),
            Activation::GeluClipped => {
                let y = gelu(cx, x)?;
                clip(cx, y, -10.0, 10.0)
            }
            Activation::QuickGelu => {
                let scaled = cx.b.mul_scalar(x, 1.702)?;
                let gate = cx.map(UnaryFn::Sigmoid, scaled)?;
                Ok(cx.b.mul(x, gate)?)
            }
            Activation::Relu => cx.map(UnaryFn::Relu, x),
            Activation::Relu2 => {
                let y = cx.map(UnaryFn::Relu, x)?;
                Ok(cx.b.mul(y, y)?)
            }
            Activation::Relu6 => clip(cx, x, 0.0, 6.0),
            Activation::LeakyRelu => {
                let small = cx.b.mul_scalar(x, 0.01)?;
                Ok(cx.b.binary(BinaryFn::Max, x, small)?)
            }
            Activation::Silu => {
                let gate = cx.map(UnaryFn::Sigmoid, x)?;
                Ok(cx.b.mul(x, gate)?)
            }
            Activation::Mish => {
                let soft = cx.map(UnaryFn::Softplus, x)?;
                let gate = cx.map(UnaryFn::Tanh, soft)?;
                Ok(cx.b.mul(x, gate)?)
            }
            Activation::Tanh => cx.map(UnaryFn::Tanh, x),
            Activation::Sigmoid => cx.map(UnaryFn::Sigmoid, x),
            Activation::Laplace => {
                // transformers rounds sqrt(1/2) to six digits.
                #[allow(clippy::approx_constant)]
                let centred = cx.b.add_scalar(x, -0.707107)?;
                let scaled = cx.div_scalar(centred, 0.282095 * SQRT_2)?;
                let erf = cx.map(UnaryFn::Erf, scaled)?;
                let shifted = cx.b.add_scalar(erf, 1.0)?;
                Ok(cx.b.mul_scalar(shifted, 0.5)?)
            }
            Activation::Linear => Ok(x),
        }
    }
}

fn gelu(cx: &mut Cx<'_, '_>, x: ValueId) -> Built {
    let scaled = cx.div_scalar(x, SQRT_2)?;
    let erf = cx.map(UnaryFn::Erf, scaled)?;
    let shifted = cx.b.add_scalar(erf, 1.0)?;
    let product = cx.b.mul(x, shifted)?;
    Ok(cx.b.mul_scalar(product, 0.5)?)
}

/// 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
fn gelu_tanh(cx: &mut Cx<'_, '_>, x: ValueId) -> Built {
    let half = cx.b.mul_scalar(x, 0.5)?;
    let three = cx.b.scalar_like(x, 3.0)?;
    let cube = cx.b.binary(BinaryFn::Pow, x, three)?;
    let cube = cx.b.mul_scalar(cube, 0.044715)?;
    let inner = cx.b.add(x, cube)?;
    let inner = cx.b.mul_scalar(inner, FRAC_2_PI.sqrt())?;
    let tanh = cx.map(UnaryFn::Tanh, inner)?;
    let shifted = cx.b.add_scalar(tanh, 1.0)?;
    Ok(cx.b.mul(half, shifted)?)
}

fn clip(cx: &mut Cx<'_, '_>, x: ValueId, low: f64, high: f64) -> Built {
    let low = cx.b.scalar_like(x, low)?;
    let raised = cx.b.binary(BinaryFn::Max, x, low)?;
    let high = cx.b.scalar_like(x, high)?;
    Ok(cx.b.binary(BinaryFn::Min, raised, high)?)
}
