//! Products and convolutions with a fused epilogue, composite: what fusion makes and backends have kernels for.

use super::matmul::matmul_shape;
use super::*;
use crate::op_struct;

op_struct! {
    /// activation(alpha (a @ b) + bias) + residual; bias and residual broadcast to the product. a and b may be
    /// taken with their last two axes exchanged.
    pub struct FusedMatMul = "FusedMatMul" {
        /// Exchange the last two axes of a.
        pub trans_a: bool = false,
        /// Exchange the last two axes of b.
        pub trans_b: bool = false,
        /// Factor of the product.
        pub alpha: f64 = 1.0,
        /// Applied before the residual is added.
        pub activation: Activation = Activation::None,
    }
}

impl FusedMatMul {
    /// A plain product, to be refined.
    pub fn plain() -> Self {
        FusedMatMul { trans_a: false, trans_b: false, alpha: 1.0, activation: Activation::None }
    }
}

const FUSED_MATMUL: &[Operand] = &[one("a"), one("b"), optional("bias"), optional("residual")];
const FUSED_CONV: &[Operand] = &[one("x"), one("w"), optional("bias"), optional("residual")];

impl OpDef for FusedMatMul {
    fn operands(&self) -> &'static [Operand] {
        FUSED_MATMUL
    }
    fn onnx(&self) -> Onnx {
        Onnx::None
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let a = cx.expect_float(0)?;
        let b = cx.expect_dtype(1, a.dtype)?;
        let oriented = |index: usize, t: &TensorType, swap: bool| {
            let mut shape = t.shape.clone();
            let n = shape.len();
            match (swap, n) {
                (true, 0 | 1) => return Err(cx.reject(index, "rank 2 or more, to be transposed")),
                (true, _) => shape.swap(n - 1, n - 2),
                (false, _) => {}
            }
            Ok(shape)
        };
        let shape = matmul_shape(cx, &oriented(0, a, self.trans_a)?, &oriented(1, b, self.trans_b)?)?;
        cx.expect_broadcasts_to(2, a.dtype, &shape)?;
        cx.expect_broadcasts_to(3, a.dtype, &shape)?;
        Ok(vec![TensorType { dtype: a.dtype, shape }])
    }
    fn is_composite(&self) -> bool {
        true
    }
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let (mut x, mut y) = (b.operand(inputs, 0)?, b.operand(inputs, 1)?);
        if self.trans_a {
            x = b.swap_last(x)?;
        }
        if self.trans_b {
            y = b.swap_last(y)?;
        }
        let mut out = b.op(MatMul {}, &[x, y])?;
        if self.alpha != 1.0 {
            out = b.mul_scalar(out, self.alpha)?;
        }
        if let Some(bias) = inputs.get(2).copied().flatten() {
            out = b.add(out, bias)?;
        }
        out = b.activation(self.activation, out)?;
        if let Some(residual) = inputs.get(3).copied().flatten() {
            out = b.add(out, residual)?;
        }
        Ok(vec![out])
    }
}

op_struct! {
    /// gain activation(conv(x, w) + bias + residual) + shift, the convolution as Conv has it; the residual has the
    /// shape of the result.
    pub struct FusedConv = "FusedConv" {
        /// Step from one window to the next, one a spatial axis.
        pub strides: Vec<i64>,
        /// Zeros around x: first all begins, then all ends.
        pub pads: Vec<i64>,
        /// Distance of taps, one a spatial axis.
        pub dilations: Vec<i64>,
        /// Channels are cut into so many groups that do not see each other.
        pub group: i64 = 1,
        /// Applied to the sums.
        pub activation: Activation = Activation::None,
        /// Factor of what the activation gives.
        pub gain: f64 = 1.0,
        /// Added last.
        pub shift: f64 = 0.0,
    }
}

impl FusedConv {
    /// A convolution with an activation after it.
    pub fn new(conv: &Conv, activation: Activation) -> Self {
        let Conv { strides, pads, dilations, group } = conv.clone();
        FusedConv { strides, pads, dilations, group, activation, gain: 1.0, shift: 0.0 }
    }

    /// The convolution inside.
    pub fn conv(&self) -> Conv {
        let FusedConv { strides, pads, dilations, group, .. } = self.clone();
        Conv { strides, pads, dilations, group }
    }
}

impl OpDef for FusedConv {
    fn operands(&self) -> &'static [Operand] {
        FUSED_CONV
    }
    fn onnx(&self) -> Onnx {
        Onnx::None
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let ty = self.conv().result(cx)?;
        if cx.opt(3).is_some() {
            cx.expect_shape(3, ty.dtype, &ty.shape)?;
        }
        Ok(vec![ty])
    }
    fn is_composite(&self) -> bool {
        true
    }
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let mut out = b.op_opt(self.conv(), inputs.get(..3.min(inputs.len())).unwrap_or(&[]))?;
        if let Some(residual) = inputs.get(3).copied().flatten() {
            out = b.add(out, residual)?;
        }
        out = b.activation(self.activation, out)?;
        if self.gain != 1.0 {
            out = b.mul_scalar(out, self.gain)?;
        }
        if self.shift != 0.0 {
            out = b.add_scalar(out, self.shift)?;
        }
        Ok(vec![out])
    }
}
