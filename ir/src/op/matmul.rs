//! Matrix products. Fused forms with bias and activation are in `fused.rs`.

use super::*;
use crate::op_struct;

op_struct! {
    /// Matrix product of the last two axes, the others broadcast; NumPy's matmul. ONNX MatMul-13.
    pub struct MatMul = "MatMul" {}
}

impl OpDef for MatMul {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("a"), one("b")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("MatMul", 13)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let a = cx.ty(0)?;
        let b = cx.expect_dtype(1, a.dtype)?;
        Ok(vec![TensorType { dtype: a.dtype, shape: matmul_shape(cx, &a.shape, &b.shape)? }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = cx.output(0)?;
        Ok(vec![matmul_reference(cx.input(0)?, cx.input(1)?, dtype, shape)?])
    }
}

/// The shape of a matrix product, vectors promoted as NumPy does.
pub fn matmul_shape(
    cx: &Infer<'_>,
    a: &[crate::Dim],
    b: &[crate::Dim],
) -> Result<crate::types::Shape, OpError> {
    let (Some(ak), false) = (a.last(), b.is_empty()) else {
        return Err(cx.reject(if a.is_empty() { 0 } else { 1 }, "rank 1 or more"));
    };
    let bk_axis = b.len().saturating_sub(2);
    let bk = b.get(bk_axis).cloned().unwrap_or_default();
    if !ak.same(&bk) {
        return Err(cx.reject(1, format!("{ak} rows (the last extent of operand 0, {a:?})")));
    }
    let batch_a = a.get(..a.len().saturating_sub(2)).unwrap_or(&[]);
    let batch_b = b.get(..bk_axis).unwrap_or(&[]);
    let mut shape = cx.broadcast(batch_a, batch_b, 1)?;
    if a.len() >= 2 {
        shape.extend(a.get(a.len() - 2).cloned());
    }
    if b.len() >= 2 {
        shape.extend(b.last().cloned());
    }
    Ok(shape)
}

/// Naive product in double precision (floats) or wrapping 64-bit integers.
pub fn matmul_reference(
    a: &Tensor,
    b: &Tensor,
    dtype: crate::DType,
    shape: &[usize],
) -> Result<Tensor, OpError> {
    let (sa, sb) = (a.shape(), b.shape());
    // A vector on the left is one row, on the right one column.
    let (m, k) = match sa {
        [.., m, k] => (*m, *k),
        _ => (1, sa.first().copied().unwrap_or(1)),
    };
    let n = match sb {
        [.., _, n] => *n,
        _ => 1,
    };
    let batch_a = sa.get(..sa.len().saturating_sub(2)).unwrap_or(&[]);
    let batch_b = sb.get(..sb.len().saturating_sub(2)).unwrap_or(&[]);
    let drop = usize::from(sa.len() >= 2) + usize::from(sb.len() >= 2);
    let batch = shape.get(..shape.len().saturating_sub(drop)).unwrap_or(&[]);
    let (ia, ib) = (broadcast_indices(batch_a, batch), broadcast_indices(batch_b, batch));
    if dtype.is_float() {
        let (va, vb) = (a.to_f64_vec(), b.to_f64_vec());
        let mut out = Vec::with_capacity(shape.iter().product());
        for (pa, pb) in ia.zip(ib) {
            let (xa, xb) = (va.get(pa * m * k..).unwrap_or(&[]), vb.get(pb * k * n..).unwrap_or(&[]));
            for i in 0..m {
                let mut row = vec![0.0f64; n];
                for (p, &x) in xa.iter().skip(i * k).take(k).enumerate() {
                    for (o, &y) in row.iter_mut().zip(xb.iter().skip(p * n)) {
                        *o += x * y;
                    }
                }
                out.extend(row);
            }
        }
        Ok(Tensor::from_f64(dtype, shape, &out)?)
    } else {
        let (va, vb) = (a.to_i64_vec(), b.to_i64_vec());
        let mut out = Vec::with_capacity(shape.iter().product());
        for (pa, pb) in ia.zip(ib) {
            for i in 0..m {
                for j in 0..n {
                    let sum = (0..k).fold(0i64, |s, p| {
                        let x = va.get(pa * m * k + i * k + p).copied().unwrap_or(0);
                        let y = vb.get(pb * k * n + p * n + j).copied().unwrap_or(0);
                        s.wrapping_add(x.wrapping_mul(y))
                    });
                    out.push(sum);
                }
            }
        }
        Ok(Tensor::from_i64(dtype, shape, &out)?)
    }
}
