//! Elementwise choice and conversion. Functions of numbers are in `elementwise.rs`.

use super::elements::{at, broadcast_indices};
use super::*;
use crate::dtype::DType;
use crate::narrow::{RoundMode, Rounding};
use crate::op_struct;

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
    fn takes_narrow(&self) -> bool {
        true
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
    /// ints wrap, also to 2 and 4 bits. Floats round to nearest, halves to even. ONNX Cast-24.
    pub struct Cast = "Cast" {
        /// Element type of the result.
        pub to: DType,
        /// In floats of 8 bits, numbers beyond the largest become it, and not infinity or NaN.
        pub saturate: bool = true,
        /// How f8e8m0 rounds.
        pub round_mode: RoundMode = RoundMode::Up,
    }
}

impl Cast {
    /// The usual conversion to a type.
    pub fn to(to: DType) -> Self {
        Cast { to, saturate: true, round_mode: RoundMode::Up }
    }

    /// What the conversion does about numbers that its target does not have.
    pub fn rounding(&self) -> Rounding {
        Rounding { saturate: self.saturate, mode: self.round_mode }
    }
}

impl OpDef for Cast {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("x")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Cast", 24)
    }
    fn takes_narrow(&self) -> bool {
        true
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        Ok(vec![TensorType { dtype: self.to, shape: cx.ty(0)?.shape.clone() }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![cx.input(0)?.cast_with(self.to, self.rounding())?])
    }
}

op_struct! {
    /// The same bits under another element type of the same width. ONNX BitCast-26.
    pub struct BitCast = "BitCast" {
        /// Element type of the result, as wide as that of `x` and not bool.
        pub to: DType,
    }
}

impl OpDef for BitCast {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("x")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("BitCast", 26)
    }
    fn takes_narrow(&self) -> bool {
        true
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.ty(0)?;
        if x.dtype.bits() != self.to.bits() || self.to == DType::Bool {
            return Err(cx.bad_attr("to", format!("{} has no {} bits for {x}", self.to, x.dtype.bits())));
        }
        Ok(vec![TensorType { dtype: self.to, shape: x.shape.clone() }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = cx.output(0)?;
        let bytes = cx.input(0)?.bytes();
        if dtype.bits() >= 8 {
            return Ok(vec![Tensor::from_bytes(dtype, shape, bytes)?]);
        }
        // Signed ones are sign-extended in their bytes, the others are not.
        let low = |&b: &u8| crate::narrow::encode_int(dtype, i64::from(b)).unwrap_or(b & 15);
        Ok(vec![Tensor::from_bytes(dtype, shape, &bytes.iter().map(low).collect::<Vec<_>>())?])
    }
}
