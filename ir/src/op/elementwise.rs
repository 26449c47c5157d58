//! Elementwise ops of one and two operands: one line a function. What the functions compute is in `scalar.rs`, Where
//! and Cast are in `select.rs`.

use super::attr::{Attr, AttrError, AttrSpec, NamedAttr, refuse_unknown};
use super::elements::{at, broadcast_indices};
use super::scalar::{float_binary, float_unary, int_binary, int_unary, unsigned_binary};
use super::*;
use crate::dtype::DType;

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

        impl $struct {
            /// One declaration a member of the family.
            fn members(wrap: fn(Self) -> Op) -> Vec<OpDecl> {
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
    /// Unsigned integers to the same.
    Unsigned,
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
    /// Tangent, of radians.
    Tan = "Tan", 7, Float;
    /// Arc cosine.
    Acos = "Acos", 7, Float;
    /// Arc sine.
    Asin = "Asin", 7, Float;
    /// Arc tangent.
    Atan = "Atan", 7, Float;
    /// Hyperbolic sine.
    Sinh = "Sinh", 9, Float;
    /// Hyperbolic cosine.
    Cosh = "Cosh", 9, Float;
    /// Inverse of the hyperbolic sine.
    Asinh = "Asinh", 9, Float;
    /// Inverse of the hyperbolic cosine.
    Acosh = "Acosh", 9, Float;
    /// Inverse of the hyperbolic tangent.
    Atanh = "Atanh", 9, Float;
    /// Rounds down.
    Floor = "Floor", 13, Float;
    /// Rounds up.
    Ceil = "Ceil", 13, Float;
    /// Rounds to nearest, halves to even.
    Round = "Round", 11, Float;
    /// Logical not.
    Not = "Not", 1, Bool;
    /// Every bit turned.
    BitwiseNot = "BitwiseNot", 18, Int;
    /// True where not a number.
    IsNaN = "IsNaN", 13, Test;
    /// True where infinite, of either sign.
    IsInf = "IsInf", 10, Test;
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
    /// Bits of both.
    BitwiseAnd = "BitwiseAnd", 18, Int;
    /// Bits of either.
    BitwiseOr = "BitwiseOr", 18, Int;
    /// Bits of one but not both.
    BitwiseXor = "BitwiseXor", 18, Int;
    /// x times 2 to the y, of unsigned integers; ONNX BitShift-11 to the left.
    ShiftLeft = "ShiftLeft", 11, Unsigned;
    /// x over 2 to the y, of unsigned integers; ONNX BitShift-11 to the right.
    ShiftRight = "ShiftRight", 11, Unsigned;
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
        Domain::Unsigned => matches!(d, DType::U8 | DType::U16 | DType::U32 | DType::U64),
        Domain::Equality => true,
    }
}

impl OpDef for Unary {
    fn declare(wrap: fn(Self) -> Op) -> Vec<OpDecl> {
        Self::members(wrap)
    }
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
        } else if dtype == DType::U64 && self.function != UnaryFn::BitwiseNot && self.function != UnaryFn::Neg
        {
            // Large ones are no i64.
            let v = x.as_slice::<u64>()?.iter();
            let sign = self.function == UnaryFn::Sign;
            Tensor::from_slice(shape, &v.map(|&x| if sign { x.min(1) } else { x }).collect::<Vec<_>>())?
        } else {
            let v: Vec<i64> = x.to_i64_vec().into_iter().map(|x| int_unary(self.function, x)).collect();
            Tensor::from_i64(dtype, shape, &v)?
        };
        Ok(vec![y])
    }
}

impl OpDef for Binary {
    fn declare(wrap: fn(Self) -> Op) -> Vec<OpDecl> {
        Self::members(wrap)
    }
    fn name(&self) -> &'static str {
        self.function.name()
    }
    fn operands(&self) -> &'static [Operand] {
        XY
    }
    fn onnx(&self) -> Onnx {
        match self.function {
            // BitShift with a direction.
            BinaryFn::ShiftLeft | BinaryFn::ShiftRight => Onnx::None,
            f => Onnx::Op(f.name(), f.opset()),
        }
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
            // The bits of large u64 numbers are negative here.
            let function = if x.dtype() == DType::U64 { unsigned_binary } else { int_binary };
            let v: Vec<i64> = ix.zip(iy).map(|(i, j)| function(f, at(&a, i), at(&b, j))).collect();
            Tensor::from_i64(dtype, shape, &v)?
        };
        Ok(vec![out])
    }
}
