//! Elementwise ops of one, two and three operands: one line a function. Fused chains do not belong here.

use super::attr::{Attr, AttrError, AttrSpec, NamedAttr, refuse_unknown};
use super::*;
use crate::dtype::DType;
use crate::op_struct;

/// Declares a family of elementwise functions that share a struct: variant, ONNX name, opset, result, meaning.
macro_rules! functions {
    ($(#[doc = $edoc:literal])* $enum:ident, $(#[doc = $sdoc:literal])* $struct:ident;
     $( $(#[doc = $doc:literal])* $variant:ident = $onnx:literal, $opset:literal, $domain:ident );* $(;)?) => {
        $(#[doc = $edoc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $enum { $( $(#[doc = $doc])* $variant ),* }

        impl $enum {
            /// Every function of the family.
            pub const ALL: &'static [$enum] = &[$($enum::$variant),*];
            /// The op's name.
            pub const fn name(self) -> &'static str { match self { $($enum::$variant => $onnx),* } }
            /// Documentation.
            pub const fn doc(self) -> &'static str { match self { $($enum::$variant => concat!($($doc, "\n"),*)),* } }
            /// The ONNX opset that gave it its present meaning.
            pub const fn opset(self) -> u32 { match self { $($enum::$variant => $opset),* } }
            /// Element types it takes.
            pub const fn domain(self) -> Domain { match self { $($enum::$variant => Domain::$domain),* } }
        }

        $(#[doc = $sdoc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $struct {
            /// The function.
            pub function: $enum,
        }

        impl Attributes for $struct {
            const NAME: &'static str = stringify!($struct);
            const DOC: &'static str = "";
            fn specs() -> Vec<AttrSpec> { vec![] }
            fn attrs(&self) -> Vec<NamedAttr> { vec![] }
            fn from_attrs(_: &[(String, Attr)]) -> Result<Self, AttrError> {
                Err(AttrError::Missing { op: stringify!($struct), name: "function", kind: "a name of the family" })
            }
        }

        impl Declare for $struct {
            fn declare(wrap: fn(Self) -> Op) -> Vec<OpDecl> {
                $enum::ALL.iter().map(|&function| OpDecl {
                    name: function.name(),
                    doc: function.doc(),
                    attrs: vec![],
                    build: Box::new(move |a| {
                        refuse_unknown(function.name(), &[], a)?;
                        Ok(wrap($struct { function }))
                    }),
                }).collect()
            }
        }
    };
}

/// Which element types a function takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Floats to floats.
    Float,
    /// Any number to the same.
    Number,
    /// Bool to bool.
    Bool,
    /// Integers to integers.
    Int,
    /// Two of the same number type to bool.
    Compare,
    /// Two of any same type to bool.
    Equality,
    /// Float to bool.
    Test,
}

functions! {
    /// Functions of one operand.
    UnaryFn,
    /// Applies a function to every element. ONNX's op of the same name.
    Unary;
    /// Absolute value.
    Abs = "Abs", 13, Number;
    /// Minus x.
    Neg = "Neg", 13, Number;
    /// -1, 0 or 1.
    Sign = "Sign", 13, Number;
    /// e to the x.
    Exp = "Exp", 13, Float;
    /// Natural logarithm.
    Log = "Log", 13, Float;
    /// Square root.
    Sqrt = "Sqrt", 13, Float;
    /// 1 / x.
    Reciprocal = "Reciprocal", 13, Float;
    /// The error function.
    Erf = "Erf", 13, Float;
    /// Hyperbolic tangent.
    Tanh = "Tanh", 13, Float;
    /// 1 / (1 + e^-x).
    Sigmoid = "Sigmoid", 13, Float;
    /// max(x, 0).
    Relu = "Relu", 14, Number;
    /// log(1 + e^x), without overflow.
    Softplus = "Softplus", 1, Float;
    /// x / (1 + |x|).
    Softsign = "Softsign", 1, Float;
    /// Sine, of radians.
    Sin = "Sin", 7, Float;
    /// Cosine, of radians.
    Cos = "Cos", 7, Float;
    /// Arc cosine.
    Acos = "Acos", 7, Float;
    /// Rounds down.
    Floor = "Floor", 13, Float;
    /// Rounds up.
    Ceil = "Ceil", 13, Float;
    /// Rounds to nearest, halves to even.
    Round = "Round", 11, Float;
    /// Logical not.
    Not = "Not", 1, Bool;
    /// True where not a number.
    IsNaN = "IsNaN", 13, Test;
}

functions! {
    /// Functions of two operands.
    BinaryFn,
    /// Applies a function to pairs of elements under NumPy broadcasting. ONNX's op of the same name.
    Binary;
    /// x + y.
    Add = "Add", 14, Number;
    /// x - y.
    Sub = "Sub", 14, Number;
    /// x y.
    Mul = "Mul", 14, Number;
    /// x / y; integers truncate toward zero.
    Div = "Div", 14, Number;
    /// x to the y.
    Pow = "Pow", 15, Number;
    /// The smaller; NaN if either is.
    Min = "Min", 13, Number;
    /// The larger; NaN if either is.
    Max = "Max", 13, Number;
    /// Remainder with the divisor's sign (ONNX Mod with fmod = 0; on floats as Python's %).
    Mod = "Mod", 13, Number;
    /// Both.
    And = "And", 7, Bool;
    /// Either.
    Or = "Or", 7, Bool;
    /// One but not both.
    Xor = "Xor", 7, Bool;
    /// x == y.
    Equal = "Equal", 19, Equality;
    /// x < y.
    Less = "Less", 13, Compare;
    /// x <= y.
    LessOrEqual = "LessOrEqual", 16, Compare;
    /// x > y.
    Greater = "Greater", 13, Compare;
    /// x >= y.
    GreaterOrEqual = "GreaterOrEqual", 16, Compare;
}

const X: &[Operand] = &[one("x")];
const XY: &[Operand] = &[one("x"), one("y")];

fn admits(domain: Domain, d: DType) -> bool {
    match domain {
        Domain::Float | Domain::Test => d.is_float(),
        Domain::Number | Domain::Compare => d.is_float() || d.is_int(),
        Domain::Bool => d == DType::Bool,
        Domain::Int => d.is_int(),
        Domain::Equality => true,
    }
}

impl OpDef for Unary {
    fn name(&self) -> &'static str {
        self.function.name()
    }
    fn operands(&self) -> &'static [Operand] {
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op(self.function.name(), self.function.opset())
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.ty(0)?;
        let domain = self.function.domain();
        if !admits(domain, x.dtype) {
            return Err(cx.reject(0, format!("a {domain:?} element type").to_lowercase()));
        }
        let dtype = if domain == Domain::Test { DType::Bool } else { x.dtype };
        Ok(vec![TensorType { dtype, shape: x.shape.clone() }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = cx.input(0)?;
        let (dtype, shape) = cx.output(0)?;
        let y = if x.dtype().is_float() {
            let v: Vec<f64> = x.to_f64_vec().into_iter().map(|x| float_unary(self.function, x)).collect();
            Tensor::from_f64(dtype, shape, &v)?
        } else {
            let v: Vec<i64> = x.to_i64_vec().into_iter().map(|x| int_unary(self.function, x)).collect();
            Tensor::from_i64(dtype, shape, &v)?
        };
        Ok(vec![y])
    }
}

/// The function on one number, in double precision.
pub fn float_unary(f: UnaryFn, x: f64) -> f64 {
    match f {
        UnaryFn::Abs => x.abs(),
        UnaryFn::Neg => -x,
        UnaryFn::Sign => {
            if x == 0.0 || x.is_nan() {
                x
            } else {
                x.signum()
            }
        }
        UnaryFn::Exp => x.exp(),
        UnaryFn::Log => x.ln(),
        UnaryFn::Sqrt => x.sqrt(),
        UnaryFn::Reciprocal => x.recip(),
        UnaryFn::Erf => erf(x),
        UnaryFn::Tanh => x.tanh(),
        UnaryFn::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        UnaryFn::Relu => {
            if x > 0.0 || x.is_nan() {
                x
            } else {
                0.0
            }
        }
        UnaryFn::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        UnaryFn::Softsign => x / (1.0 + x.abs()),
        UnaryFn::Sin => x.sin(),
        UnaryFn::Cos => x.cos(),
        UnaryFn::Acos => x.acos(),
        UnaryFn::Floor => x.floor(),
        UnaryFn::Ceil => x.ceil(),
        UnaryFn::Round => x.round_ties_even(),
        UnaryFn::Not => f64::from(u8::from(x == 0.0)),
        UnaryFn::IsNaN => f64::from(u8::from(x.is_nan())),
    }
}

fn int_unary(f: UnaryFn, x: i64) -> i64 {
    match f {
        UnaryFn::Abs => x.wrapping_abs(),
        UnaryFn::Neg => x.wrapping_neg(),
        UnaryFn::Sign => x.signum(),
        UnaryFn::Relu => x.max(0),
        UnaryFn::Not => i64::from(x == 0),
        other => float_unary(other, x as f64) as i64,
    }
}

/// The error function in double precision: the Maclaurin series near zero, a continued fraction for erfc beyond.
pub fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let a = x.abs();
    let y = if a < 2.5 {
        let mut term = a;
        let mut sum = a;
        let mut n = 0.0;
        while term.abs() > 1e-18 * sum.abs() && n < 200.0 {
            n += 1.0;
            term *= -a * a / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else if a < 6.0 {
        let mut cf = 0.0;
        for k in (1..=60).rev() {
            cf = f64::from(k) / 2.0 / (a + cf);
        }
        1.0 - (-a * a).exp() / ((a + cf) * std::f64::consts::PI.sqrt())
    } else {
        1.0
    };
    y.copysign(x)
}

impl OpDef for Binary {
    fn name(&self) -> &'static str {
        self.function.name()
    }
    fn operands(&self) -> &'static [Operand] {
        XY
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op(self.function.name(), self.function.opset())
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let (x, y) = (cx.ty(0)?, cx.ty(1)?);
        let domain = self.function.domain();
        if !admits(domain, x.dtype) {
            return Err(cx.reject(0, format!("a {domain:?} element type").to_lowercase()));
        }
        if x.dtype != y.dtype {
            return Err(cx.reject(1, format!("elements of type {}", x.dtype)));
        }
        let dtype = if matches!(domain, Domain::Compare | Domain::Equality) { DType::Bool } else { x.dtype };
        Ok(vec![TensorType { dtype, shape: cx.broadcast(&x.shape, &y.shape, 1)? }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (x, y) = (cx.input(0)?, cx.input(1)?);
        let (dtype, shape) = cx.output(0)?;
        let (ix, iy) = (broadcast_indices(x.shape(), shape), broadcast_indices(y.shape(), shape));
        let f = self.function;
        let out = if x.dtype().is_float() {
            let (a, b) = (x.to_f64_vec(), y.to_f64_vec());
            let v: Vec<f64> = ix.zip(iy).map(|(i, j)| float_binary(f, at(&a, i), at(&b, j))).collect();
            Tensor::from_f64(dtype, shape, &v)?
        } else {
            let (a, b) = (x.to_i64_vec(), y.to_i64_vec());
            if matches!(f, BinaryFn::Div | BinaryFn::Mod) && b.contains(&0) && !a.is_empty() {
                return Err(cx.bad_data("integer division by zero"));
            }
            let v: Vec<i64> = ix.zip(iy).map(|(i, j)| int_binary(f, at(&a, i), at(&b, j))).collect();
            Tensor::from_i64(dtype, shape, &v)?
        };
        Ok(vec![out])
    }
}

fn at<T: Copy + Default>(v: &[T], i: usize) -> T {
    v.get(i).copied().unwrap_or_default()
}

/// The function on one pair, in double precision; truth values are 0 and 1.
pub fn float_binary(f: BinaryFn, x: f64, y: f64) -> f64 {
    let truth = |b: bool| f64::from(u8::from(b));
    match f {
        BinaryFn::Add => x + y,
        BinaryFn::Sub => x - y,
        BinaryFn::Mul => x * y,
        BinaryFn::Div => x / y,
        BinaryFn::Pow => x.powf(y),
        BinaryFn::Min => {
            if x.is_nan() || y.is_nan() {
                f64::NAN
            } else {
                x.min(y)
            }
        }
        BinaryFn::Max => {
            if x.is_nan() || y.is_nan() {
                f64::NAN
            } else {
                x.max(y)
            }
        }
        BinaryFn::Mod => x - y * (x / y).floor(),
        BinaryFn::And => truth(x != 0.0 && y != 0.0),
        BinaryFn::Or => truth(x != 0.0 || y != 0.0),
        BinaryFn::Xor => truth((x != 0.0) != (y != 0.0)),
        BinaryFn::Equal => truth(x == y),
        BinaryFn::Less => truth(x < y),
        BinaryFn::LessOrEqual => truth(x <= y),
        BinaryFn::Greater => truth(x > y),
        BinaryFn::GreaterOrEqual => truth(x >= y),
    }
}

/// The function on one pair of integers; sums and products wrap, division by zero must be refused before.
pub fn int_binary(f: BinaryFn, x: i64, y: i64) -> i64 {
    match f {
        BinaryFn::Add => x.wrapping_add(y),
        BinaryFn::Sub => x.wrapping_sub(y),
        BinaryFn::Mul => x.wrapping_mul(y),
        BinaryFn::Div => x.checked_div(y).unwrap_or(0),
        BinaryFn::Pow => {
            u32::try_from(y).map_or_else(|_| (x as f64).powf(y as f64) as i64, |y| x.wrapping_pow(y))
        }
        BinaryFn::Min => x.min(y),
        BinaryFn::Max => x.max(y),
        BinaryFn::Mod => {
            x.checked_rem(y).map_or(0, |r| if r != 0 && ((r < 0) != (y < 0)) { r + y } else { r })
        }
        BinaryFn::And => i64::from(x != 0 && y != 0),
        BinaryFn::Or => i64::from(x != 0 || y != 0),
        BinaryFn::Xor => i64::from((x != 0) != (y != 0)),
        BinaryFn::Equal => i64::from(x == y),
        BinaryFn::Less => i64::from(x < y),
        BinaryFn::LessOrEqual => i64::from(x <= y),
        BinaryFn::Greater => i64::from(x > y),
        BinaryFn::GreaterOrEqual => i64::from(x >= y),
    }
}

/// For each element of `to` in order, the index of the element of `from` that broadcasts there.
pub fn broadcast_indices(from: &[usize], to: &[usize]) -> impl Iterator<Item = usize> {
    let pad = to.len().saturating_sub(from.len());
    let mut strides = vec![0usize; to.len()];
    let mut step = 1usize;
    for (i, &d) in from.iter().enumerate().rev() {
        if let Some(s) = strides.get_mut(i + pad) {
            *s = if d == 1 { 0 } else { step };
        }
        step = step.saturating_mul(d);
    }
    let to = to.to_vec();
    let count: usize = to.iter().product();
    (0..count).map(move |mut n| {
        let mut index = 0;
        for (&d, &s) in to.iter().zip(&strides).rev() {
            index += (n % d) * s;
            n /= d;
        }
        index
    })
}

op_struct! {
    /// Picks from `x` where the condition holds and from `y` elsewhere, all broadcast. ONNX Where-16.
    pub struct Where = "Where" {}
}

impl OpDef for Where {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("condition"), one("x"), one("y")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Where", 16)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let c = cx.expect_dtype(0, DType::Bool)?;
        let x = cx.ty(1)?;
        let y = cx.expect_dtype(2, x.dtype)?;
        let xy = cx.broadcast(&x.shape, &y.shape, 2)?;
        Ok(vec![TensorType { dtype: x.dtype, shape: cx.broadcast(&xy, &c.shape, 0)? }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (c, x, y) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
        let (dtype, shape) = cx.output(0)?;
        let size = dtype.size();
        let mut out = Vec::new();
        let indices = broadcast_indices(c.shape(), shape)
            .zip(broadcast_indices(x.shape(), shape).zip(broadcast_indices(y.shape(), shape)));
        for (ic, (ix, iy)) in indices {
            let (from, i) = if at(c.bytes(), ic) != 0 { (x, ix) } else { (y, iy) };
            out.extend_from_slice(from.bytes().get(i * size..(i + 1) * size).unwrap_or(&[]));
        }
        Ok(vec![Tensor::from_bytes(dtype, shape, &out)?])
    }
}

op_struct! {
    /// Converts elements. Float to int truncates toward zero and saturates, anything to bool is `!= 0`,
    /// ints wrap. ONNX Cast-13.
    pub struct Cast = "Cast" {
        /// Element type of the result.
        pub to: DType,
    }
}

impl OpDef for Cast {
    fn operands(&self) -> &'static [Operand] {
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Cast", 13)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        Ok(vec![TensorType { dtype: self.to, shape: cx.ty(0)?.shape.clone() }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![cx.input(0)?.cast(self.to)?])
    }
}
