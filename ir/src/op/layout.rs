//! Ops that only move elements: reshape and transpose. Slicing, joining and gathering are in `slicing.rs`.

use super::elements::{flat, move_elements, strides};
use super::*;
use crate::dim::Dim;
use crate::op_struct;

op_struct! {
    /// The same elements in order under another shape. The shape is an attribute; an importer turns ONNX's
    /// shape operand, its 0 and -1, into dims. ONNX Reshape-14, and Flatten, Squeeze and Unsqueeze.
    pub struct Reshape = "Reshape" {
        /// The new shape; as many elements as the old one for every value of the symbols.
        pub shape: Vec<Dim>,
        /// The number of elements is compared at run time; it need not be provable from the symbols.
        pub trust: bool = false,
    }
}

impl OpDef for Reshape {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("x")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Reshape", 14)
    }
    fn takes_narrow(&self) -> bool {
        true
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.ty(0)?;
        let to = TensorType { dtype: x.dtype, shape: self.shape.clone() };
        let (from, into) = (x.elements()?, to.elements()?);
        let known = from.as_const().is_some() && into.as_const().is_some();
        if !from.same(&into) && (known || !self.trust) {
            return Err(cx.bad_attr(
                "shape",
                format!("{:?} has another number of elements than {:?}", self.shape, x.shape),
            ));
        }
        Ok(vec![to])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![cx.input(0)?.reshaped(cx.output(0)?.1)?])
    }
}

op_struct! {
    /// Reorders axes: axis i of the result is axis `perm[i]` of x. ONNX Transpose-13.
    pub struct Transpose = "Transpose" {
        /// A permutation of the axes.
        pub perm: Vec<i64>,
    }
}

impl OpDef for Transpose {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("x")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Transpose", 13)
    }
    fn takes_narrow(&self) -> bool {
        true
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.ty(0)?;
        let mut sorted = self.perm.clone();
        sorted.sort_unstable();
        if sorted.len() != x.rank() || sorted.iter().enumerate().any(|(i, &p)| usize::try_from(p) != Ok(i)) {
            return Err(
                cx.bad_attr("perm", format!("{:?} is no permutation of {} axes", self.perm, x.rank()))
            );
        }
        let shape =
            self.perm.iter().filter_map(|&p| x.shape.get(usize::try_from(p).ok()?).cloned()).collect();
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = cx.input(0)?;
        let (_, shape) = cx.output(0)?;
        let all = strides(x.shape());
        let from: Vec<usize> =
            self.perm.iter().filter_map(|&p| all.get(usize::try_from(p).ok()?).copied()).collect();
        Ok(vec![move_elements(x, shape, &[], |index| Ok(Some(flat(index, &from))))?])
    }
}
