//! Elementwise kernels under NumPy broadcasting: the functions by name. How they are computed is in
//! `chain` and `machine` (f32 and bool, fused, vectorised), `wide` (the other dtypes), `rotary` and `cast`.

mod broadcast;
pub mod cast;
pub mod chain;
mod functions;
mod machine;
mod rotary;
pub mod wide;

pub use broadcast::{Pattern, Piece};
pub use chain::{Chain, ChainError, Register, Step};
pub use machine::{ChainInput, ChainOutput, Data};
pub use rotary::rotary;
pub use wide::{binary, select, unary};

use frit_ir::op::UnaryFn;

/// Functions of one operand. Truth values are 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// |x|
    Abs,
    /// -x
    Neg,
    /// -1, 0 or 1; NaN stays
    Sign,
    /// e^x
    Exp,
    /// ln x
    Log,
    /// square root
    Sqrt,
    /// 1 / x
    Reciprocal,
    /// error function
    Erf,
    /// hyperbolic tangent
    Tanh,
    /// 1 / (1 + e^-x)
    Sigmoid,
    /// max(x, 0)
    Relu,
    /// x for x >= 0, else the slope times x
    LeakyRelu(f32),
    /// x for x >= 0, else a (e^x - 1)
    Elu(f32),
    /// max(0, min(1, a x + b))
    HardSigmoid(f32, f32),
    /// x max(0, min(1, x/6 + 1/2))
    HardSwish,
    /// x sigmoid(x)
    Silu,
    /// x Φ(x)
    GeluErf,
    /// GELU by tanh
    GeluTanh,
    /// x sigmoid(1.702 x)
    GeluQuick,
    /// ln(1 + e^x)
    Softplus,
    /// x / (1 + |x|)
    Softsign,
    /// sine
    Sin,
    /// cosine
    Cos,
    /// arc cosine
    Acos,
    /// round down
    Floor,
    /// round up
    Ceil,
    /// round to nearest, halves to even
    Round,
    /// 1 where x is 0, else 0
    Not,
    /// 1 where x is not a number
    IsNaN,
    /// a rarely used function of floats, as the op's definition computes it
    Other(UnaryFn),
}

/// Functions of two operands. Truth values are 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// x + y
    Add,
    /// x - y
    Sub,
    /// x y
    Mul,
    /// x / y
    Div,
    /// x to the y
    Pow,
    /// the smaller; NaN if either is
    Min,
    /// the larger; NaN if either is
    Max,
    /// remainder with the divisor's sign
    Mod,
    /// both are not 0
    And,
    /// either is not 0
    Or,
    /// exactly one is not 0
    Xor,
    /// x == y
    Equal,
    /// x < y
    Less,
    /// x <= y
    LessOrEqual,
    /// x > y
    Greater,
    /// x >= y
    GreaterOrEqual,
}

impl Binary {
    /// True when the result is a truth value whatever the operands are.
    pub fn is_comparison(self) -> bool {
        use Binary::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
        matches!(self, Equal | Less | LessOrEqual | Greater | GreaterOrEqual)
    }
}

#[cfg(test)]
mod tests;
