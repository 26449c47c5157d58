//! Scaled dot-product attention, composite. Projections and rotary positions are ops of their own.

use super::*;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::op_struct;

op_struct! {
    /// softmax(scale q k' + mask) v a head (<https://arxiv.org/abs/1706.03762>). Each of q, k, v is
    /// `[B, S, heads D]` or `[B, heads, S, D]`; the result is `[B, Sq, q_heads Dv]` when q has rank 3, else
    /// `[B, q_heads, Sq, Dv]`. The mask broadcasts to `[B, q_heads, Sq, Sk]` and is added, or, when bool, keeps where
    /// true. A key left out by a bool mask or by `causal` scores the lowest finite number, so a query that sees
    /// no key gets the mean of all values. ONNX Attention-23 but for that.
    pub struct Attention = "Attention" {
        /// Heads of q.
        pub q_heads: i64,
        /// Heads of k and v; divides q_heads, each serving as many heads of q in a row.
        pub kv_heads: i64,
        /// Factor of the scores.
        pub scale: f64,
        /// Query i sees key j only where j <= i + (Sk - Sq).
        pub causal: bool = false,
    }
}

/// Extents of one operand as batch, heads, sequence, head size.
struct Heads {
    batch: Dim,
    sequence: Dim,
    size: Dim,
}

fn heads(cx: &Infer<'_>, index: usize, heads: i64) -> Result<Heads, OpError> {
    let t = cx.ty(index)?;
    let n = Dim::constant(heads);
    match t.shape.as_slice() {
        [batch, sequence, width] => {
            let size = width
                .exact_div(&n)
                .ok_or_else(|| cx.reject(index, format!("a last extent that {heads} heads divide")))?;
            Ok(Heads { batch: batch.clone(), sequence: sequence.clone(), size })
        }
        [batch, h, sequence, size] if h.same(&n) => {
            Ok(Heads { batch: batch.clone(), sequence: sequence.clone(), size: size.clone() })
        }
        _ => Err(cx.reject(index, format!("[B, S, {heads} D] or [B, {heads}, S, D]"))),
    }
}

/// The lowest finite number of a float type: the score of a key that is not seen.
pub(super) fn lowest(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => -65504.0,
        DType::BF16 => half::bf16::MIN.to_f64(),
        DType::F64 => f64::MIN,
        _ => f64::from(f32::MIN),
    }
}

impl OpDef for Attention {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("q"), one("k"), one("v"), optional("mask")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Attention", 23)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let dtype = cx.expect_float(0)?.dtype;
        cx.expect_dtype(1, dtype)?;
        cx.expect_dtype(2, dtype)?;
        if self.kv_heads < 1 || self.q_heads < 1 || self.q_heads % self.kv_heads != 0 {
            return Err(
                cx.bad_attr("q_heads", format!("{} heads do not divide {}", self.kv_heads, self.q_heads))
            );
        }
        let (q, k, v) =
            (heads(cx, 0, self.q_heads)?, heads(cx, 1, self.kv_heads)?, heads(cx, 2, self.kv_heads)?);
        if !k.batch.same(&q.batch) || !k.size.same(&q.size) {
            return Err(cx.reject(1, format!("batch {} and head size {}, those of q", q.batch, q.size)));
        }
        if !v.batch.same(&q.batch) || !v.sequence.same(&k.sequence) {
            return Err(cx.reject(2, format!("batch {} and sequence {}, those of k", q.batch, k.sequence)));
        }
        let n = Dim::constant(self.q_heads);
        if let Some(mask) = cx.opt(3) {
            if mask.dtype != DType::Bool && mask.dtype != dtype {
                return Err(cx.reject(3, format!("elements of type {dtype} or bool")));
            }
            let scores = [q.batch.clone(), n.clone(), q.sequence.clone(), k.sequence];
            cx.expect_broadcasts_to(3, mask.dtype, &scores)?;
        }
        let shape = match cx.ty(0)?.rank() {
            3 => vec![q.batch, q.sequence, v.size.mul(&n)?],
            _ => vec![q.batch, n, q.sequence, v.size],
        };
        Ok(vec![TensorType { dtype, shape }])
    }
    fn is_composite(&self) -> bool {
        true
    }
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let (q, k, v) = (b.operand(inputs, 0)?, b.operand(inputs, 1)?, b.operand(inputs, 2)?);
        let flat = b.rank(q)? == 3;
        let q = split_heads(b, q, self.q_heads)?;
        let repeat = self.q_heads.checked_div(self.kv_heads).unwrap_or(1);
        let k = split_heads(b, k, self.kv_heads)?;
        let k = repeat_heads(b, k, repeat)?;
        let v = split_heads(b, v, self.kv_heads)?;
        let v = repeat_heads(b, v, repeat)?;
        let (queries, keys) = (b.dim(q, 2)?, b.dim(k, 2)?);
        let k = b.transpose(k, &[0, 1, 3, 2])?;
        let mut scores = b.op(MatMul {}, &[q, k])?;
        if self.scale != 1.0 {
            scores = b.mul_scalar(scores, self.scale)?;
        }
        let dtype = b.ty(scores)?.dtype;
        match inputs.get(3).copied().flatten() {
            Some(mask) if b.ty(mask)?.dtype == DType::Bool => {
                let unseen = b.scalar(dtype, lowest(dtype))?;
                scores = b.op(Where {}, &[mask, scores, unseen])?;
            }
            Some(mask) => scores = b.add(scores, mask)?,
            None => {}
        }
        if self.causal {
            let reach = Range { start: keys.sub(&queries)?, limit: keys.clone(), step: 1, dtype: DType::I64 };
            let reach = b.op(reach, &[])?;
            let reach = b.reshape(reach, &[queries, Dim::constant(1)])?;
            let position = b.iota(&keys, DType::I64)?;
            let seen = b.binary(BinaryFn::LessOrEqual, position, reach)?;
            let unseen = b.scalar(dtype, lowest(dtype))?;
            scores = b.op(Where {}, &[seen, scores, unseen])?;
        }
        let weights = b.op(Softmax { axis: -1 }, &[scores])?;
        let mut out = b.op(MatMul {}, &[weights, v])?;
        if flat {
            out = b.transpose(out, &[0, 2, 1, 3])?;
            let shape = b.shape(out)?;
            if let [batch, sequence, h, d] = shape.as_slice() {
                out = b.reshape(out, &[batch.clone(), sequence.clone(), h.mul(d)?])?;
            }
        }
        Ok(vec![out])
    }
}

/// `[B, S, heads D]` to `[B, heads, S, D]`; four axes stay.
fn split_heads(b: &mut GraphBuilder<'_>, x: ValueId, heads: i64) -> Result<ValueId, BuildError> {
    let shape = b.shape(x)?;
    let [batch, sequence, width] = shape.as_slice() else { return Ok(x) };
    let n = Dim::constant(heads);
    let size = width.exact_div(&n).ok_or_else(|| b.error(format!("{heads} heads do not divide {width}")))?;
    let x = b.reshape(x, &[batch.clone(), sequence.clone(), n, size])?;
    b.transpose(x, &[0, 2, 1, 3])
}

/// Each head of `[B, heads, S, D]` `repeat` times in a row.
fn repeat_heads(b: &mut GraphBuilder<'_>, x: ValueId, repeat: i64) -> Result<ValueId, BuildError> {
    let shape = b.shape(x)?;
    let ([batch, h, s, d], true) = (shape.as_slice(), repeat > 1) else { return Ok(x) };
    let x = b.reshape(x, &[batch.clone(), h.clone(), Dim::constant(1), s.clone(), d.clone()])?;
    let x = b.expand(x, &[batch.clone(), h.clone(), Dim::constant(repeat), s.clone(), d.clone()])?;
    b.reshape(x, &[batch.clone(), h.mul_const(repeat)?, s.clone(), d.clone()])
}
