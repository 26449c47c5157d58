//! Rotary position embedding, composite. Computing the angles does not belong here.

use super::*;
use crate::dim::Dim;
use crate::op_struct;

op_struct! {
    /// x cos + rotated(x) sin (<https://arxiv.org/abs/2104.09864>), as transformers' apply_rotary_pos_emb: cos and
    /// sin broadcast to x and hold every angle twice, at both members of its pair. The pairs are (i, i + D/2),
    /// or, interleaved, (2i, 2i + 1); rotating a pair (a, b) gives (-b, a). D, the last extent of x, is even.
    pub struct RotaryEmbedding = "RotaryEmbedding" {
        /// Pairs are neighbours.
        pub interleaved: bool = false,
    }
}

impl OpDef for RotaryEmbedding {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("x"), one("cos"), one("sin")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::None
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.expect_float(0)?;
        if x.shape.last().and_then(|d| d.exact_div(&Dim::constant(2))).is_none() {
            return Err(cx.reject(0, "an even last extent"));
        }
        cx.expect_broadcasts_to(1, x.dtype, &x.shape)?;
        cx.expect_broadcasts_to(2, x.dtype, &x.shape)?;
        Ok(vec![x.clone()])
    }
    fn is_composite(&self) -> bool {
        true
    }
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let (x, cos, sin) = (b.operand(inputs, 0)?, b.operand(inputs, 1)?, b.operand(inputs, 2)?);
        let shape = b.shape(x)?;
        let odd = || BuildError::Other { label: String::new(), why: "the last extent is odd".into() };
        let half = shape.last().and_then(|d| d.exact_div(&Dim::constant(2))).ok_or_else(odd)?;
        let rotated = if self.interleaved {
            let mut pairs = shape.get(..shape.len().saturating_sub(1)).unwrap_or(&[]).to_vec();
            pairs.extend([half, Dim::constant(2)]);
            let paired = b.reshape(x, &pairs)?;
            let first = b.slice_axis(paired, -1, &Dim::constant(0), &Dim::constant(1))?;
            let second = b.slice_axis(paired, -1, &Dim::constant(1), &Dim::constant(2))?;
            let minus = b.unary(UnaryFn::Neg, second)?;
            let joined = b.concat(&[minus, first], -1)?;
            b.reshape(joined, &shape)?
        } else {
            let full = half.mul_const(2)?;
            let first = b.slice_axis(x, -1, &Dim::constant(0), &half)?;
            let second = b.slice_axis(x, -1, &half, &full)?;
            let minus = b.unary(UnaryFn::Neg, second)?;
            b.concat(&[minus, first], -1)?
        };
        let straight = b.mul(x, cos)?;
        let turned = b.mul(rotated, sin)?;
        Ok(vec![b.add(straight, turned)?])
    }
}
