//! Scaled dot-product attention as the lowerings of several operators need it: the graph's fused op where that means
//! the same, else its steps. Which operands an operator has is its own file's business.

use crate::onnx::import::{Cx, Result};
use frit_ir::op::{Attention, BinaryFn, Pad, PadMode, ReduceFn, Softmax, UnaryFn};
use frit_ir::{DType, Dim, ValueId};

/// Which intermediate result is wanted besides the output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tap {
    /// The scaled products.
    Products,
    /// After the soft cap.
    Capped,
    /// With the masks.
    Masked,
    /// The weights.
    Weights,
}

/// One attention. Each of q, k, v is `[B, S, heads D]` or `[B, heads, S, D]`.
pub(super) struct Sdpa {
    pub q: ValueId,
    pub k: ValueId,
    pub v: ValueId,
    pub q_heads: i64,
    pub kv_heads: i64,
    /// Factor of the scores; None: 1 / sqrt(head size).
    pub scale: Option<f64>,
    /// Float masks are added, bool ones keep where true; each broadcasts to `[B, heads, Sq, Sk]`.
    pub masks: Vec<ValueId>,
    /// Query i sees key j only where j <= i + this.
    pub causal: Option<Dim>,
    /// Scores go through c tanh(x / c); 0: they do not.
    pub softcap: f64,
    /// Element type of the softmax; None: that of q.
    pub precision: Option<DType>,
    pub tap: Option<Tap>,
    /// Queries that see nothing get zeros; otherwise what the fused op gives them.
    pub blind_to_zero: bool,
}

impl Sdpa {
    /// Without masks or anything special.
    pub fn plain(q: ValueId, k: ValueId, v: ValueId, q_heads: i64, kv_heads: i64) -> Self {
        Sdpa {
            q,
            k,
            v,
            q_heads,
            kv_heads,
            scale: None,
            masks: Vec::new(),
            causal: None,
            softcap: 0.0,
            precision: None,
            tap: None,
            blind_to_zero: false,
        }
    }

    /// The output, shaped as q is, and the intermediate result wanted.
    pub fn emit(self, cx: &mut Cx<'_>) -> Result<(ValueId, Option<ValueId>)> {
        if self.q_heads < 1 || self.kv_heads < 1 || self.q_heads % self.kv_heads != 0 {
            return Err(cx.error(format!("{} heads of keys for {} of queries", self.kv_heads, self.q_heads)));
        }
        let dtype = cx.dtype(self.q)?;
        let (queries, size) = extents(cx, self.q, self.q_heads)?;
        let (keys, _) = extents(cx, self.k, self.kv_heads)?;
        let scale = match (self.scale, size.as_const()) {
            (Some(s), _) => s,
            (None, Some(d)) => 1.0 / (d as f64).sqrt(),
            (None, None) => return Err(cx.error(format!("the head size {size} must be known for its scale"))),
        };
        // The fused op counts its causal mask from the end.
        let from_end = cx.dim(keys.sub(&queries))?;
        let fits = self.causal.as_ref().is_none_or(|c| c.same(&from_end));
        let plain = self.softcap == 0.0 && self.tap.is_none() && self.precision.is_none_or(|p| p == dtype);
        if fits && plain && self.masks.len() <= 1 && (self.causal.is_none() || self.masks.is_empty()) {
            return self.fused(cx, dtype, scale);
        }
        self.steps(cx, dtype, scale, (&queries, &keys))
    }

    fn fused(self, cx: &mut Cx<'_>, dtype: DType, scale: f64) -> Result<(ValueId, Option<ValueId>)> {
        let v = cx.cast(self.v, dtype)?;
        let op = Attention {
            q_heads: self.q_heads,
            kv_heads: self.kv_heads,
            scale,
            causal: self.causal.is_some(),
        };
        let mask = self.masks.first().copied();
        let out = cx.emit_all(op, &[Some(self.q), Some(self.k), Some(v), mask])?;
        let Some(&out) = out.first() else { return Err(cx.error("an attention without a result")) };
        let Some(mask) = mask.filter(|_| self.blind_to_zero) else { return Ok((out, None)) };
        let Some(seen) = seen(cx, mask)? else { return Ok((out, None)) };
        // [.., Sq, 1] for [B, heads, Sq, D]; [B, Sq, heads D] has its heads inside.
        let flat = cx.rank(out)? == 3;
        let out4 = if flat { split_heads(cx, out, self.q_heads)? } else { out };
        let zero = cx.scalar(dtype, 0.0)?;
        let y = cx.choose(seen, out4, zero)?;
        Ok((if flat { join_heads(cx, y)? } else { y }, None))
    }

    fn steps(
        self,
        cx: &mut Cx<'_>,
        dtype: DType,
        scale: f64,
        (queries, keys): (&Dim, &Dim),
    ) -> Result<(ValueId, Option<ValueId>)> {
        let flat = cx.rank(self.q)? == 3;
        let repeat = self.q_heads.checked_div(self.kv_heads).unwrap_or(1);
        let q = split_heads(cx, self.q, self.q_heads)?;
        let k = split_heads(cx, self.k, self.kv_heads)?;
        let k = repeat_heads(cx, k, repeat)?;
        let v = split_heads(cx, self.v, self.kv_heads)?;
        let v = repeat_heads(cx, v, repeat)?;
        let k = cx.transpose(k, &[0, 1, 3, 2])?;
        let products = cx.matmul(q, k)?;
        let products = cx.with_number(BinaryFn::Mul, products, scale)?;
        let mut scores = products;
        if self.softcap != 0.0 {
            let inner = cx.with_number(BinaryFn::Div, scores, self.softcap)?;
            let bent = cx.unary(UnaryFn::Tanh, inner)?;
            scores = cx.with_number(BinaryFn::Mul, bent, self.softcap)?;
        }
        let capped = scores;
        let mut masks = self.masks;
        if let Some(offset) = &self.causal {
            masks.push(causal_mask(cx, queries, keys, offset)?);
        }
        for &mask in &masks {
            scores = if cx.dtype(mask)? == DType::Bool {
                let unseen = cx.scalar(dtype, f64::NEG_INFINITY)?;
                cx.choose(mask, scores, unseen)?
            } else {
                let mask = cx.cast(mask, dtype)?;
                cx.plus(scores, mask)?
            };
        }
        let masked = scores;
        let precise = cx.cast(scores, self.precision.unwrap_or(dtype))?;
        let mut weights = cx.emit(Softmax { axis: -1 }, &[precise])?;
        if !masks.is_empty() {
            let most = cx.reduce(ReduceFn::Max, precise, &[3], true)?;
            let some = cx.with_number(BinaryFn::Greater, most, f64::NEG_INFINITY)?;
            let precision = cx.dtype(weights)?;
            let zero = cx.scalar(precision, 0.0)?;
            weights = cx.choose(some, weights, zero)?;
        }
        let precision = cx.dtype(weights)?;
        let v = cx.cast(v, precision)?;
        let out = cx.matmul(weights, v)?;
        let mut out = cx.cast(out, dtype)?;
        if flat {
            out = join_heads(cx, out)?;
        }
        let tap = match self.tap {
            None => None,
            Some(Tap::Products) => Some(products),
            Some(Tap::Capped) => Some(capped),
            Some(Tap::Masked) => Some(masked),
            Some(Tap::Weights) => Some(cx.cast(weights, dtype)?),
        };
        Ok((out, tap))
    }
}

/// `[.., Sq, 1]`: which queries see a key at all; None when a constant mask lets all of them.
fn seen(cx: &mut Cx<'_>, mask: ValueId) -> Result<Option<ValueId>> {
    let rank = cx.rank(mask)?;
    let Some(last) = rank.checked_sub(1) else { return Ok(None) };
    let most = cx.reduce(ReduceFn::Max, mask, &[last], true)?;
    let seen = match cx.dtype(mask)? {
        DType::Bool => most,
        _ => cx.with_number(BinaryFn::Greater, most, f64::NEG_INFINITY)?,
    };
    let all = cx.known(seen).is_some_and(|t| t.bytes().iter().all(|&b| b != 0));
    Ok((!all).then_some(seen))
}

/// Sequence and head size of `[B, S, heads D]` or `[B, heads, S, D]`.
pub(super) fn extents(cx: &Cx<'_>, x: ValueId, heads: i64) -> Result<(Dim, Dim)> {
    let shape = cx.shape(x)?;
    match shape.as_slice() {
        [_, s, width] => {
            let size = width.exact_div(&Dim::constant(heads));
            Ok((s.clone(), size.ok_or_else(|| cx.error(format!("{heads} heads do not divide {width}")))?))
        }
        [_, _, s, d] => Ok((s.clone(), d.clone())),
        _ => Err(cx.error(format!("attention over rank {}", shape.len()))),
    }
}

/// `[B, S, heads D]` to `[B, heads, S, D]`; four axes stay.
pub(super) fn split_heads(cx: &mut Cx<'_>, x: ValueId, heads: i64) -> Result<ValueId> {
    let shape = cx.shape(x)?;
    let [batch, sequence, _] = shape.as_slice() else { return Ok(x) };
    let (_, size) = extents(cx, x, heads)?;
    let x = cx.reshape(x, &[batch.clone(), sequence.clone(), Dim::constant(heads), size])?;
    cx.transpose(x, &[0, 2, 1, 3])
}

/// `[B, heads, S, D]` to `[B, S, heads D]`.
pub(super) fn join_heads(cx: &mut Cx<'_>, x: ValueId) -> Result<ValueId> {
    let x = cx.transpose(x, &[0, 2, 1, 3])?;
    let shape = cx.shape(x)?;
    let [batch, sequence, heads, size] = shape.as_slice() else { return Ok(x) };
    let width = cx.dim(heads.mul(size))?;
    cx.reshape(x, &[batch.clone(), sequence.clone(), width])
}

/// Each head of `[B, heads, S, D]` `repeat` times in a row.
pub(super) fn repeat_heads(cx: &mut Cx<'_>, x: ValueId, repeat: i64) -> Result<ValueId> {
    let shape = cx.shape(x)?;
    let ([batch, h, s, d], true) = (shape.as_slice(), repeat > 1) else { return Ok(x) };
    let x = cx.unsqueeze(x, &[2])?;
    let x = cx.expand_to(x, &[batch.clone(), h.clone(), Dim::constant(repeat), s.clone(), d.clone()])?;
    let all = cx.dim(h.mul_const(repeat))?;
    cx.reshape(x, &[batch.clone(), all, s.clone(), d.clone()])
}

/// `[Sq, Sk]`: true where key j <= query i + offset.
pub(super) fn causal_mask(cx: &mut Cx<'_>, queries: &Dim, keys: &Dim, offset: &Dim) -> Result<ValueId> {
    let end = cx.dim(offset.add(queries))?;
    let reach = frit_ir::op::Range { start: offset.clone(), limit: end, step: 1, dtype: DType::I64 };
    let reach = cx.emit(reach, &[])?;
    let reach = cx.unsqueeze(reach, &[1])?;
    let position = cx.iota(keys, DType::I64)?;
    cx.binary(BinaryFn::LessOrEqual, position, reach)
}

/// The mask with keys added at its end that are not seen, up to `keys`, where it has fewer.
pub(super) fn pad_mask(cx: &mut Cx<'_>, mask: ValueId, keys: &Dim) -> Result<ValueId> {
    let shape = cx.shape(mask)?;
    let Some(last) = shape.last() else { return Ok(mask) };
    if last.same(keys) || (last.is(1) && keys.as_const().is_none()) {
        return Ok(mask);
    }
    let missing = cx.dim(keys.sub(last))?;
    if missing.as_const().is_some_and(|n| n <= 0) {
        return Ok(mask);
    }
    let none = vec![Dim::constant(0); shape.len()];
    let mut after = none.clone();
    if let Some(a) = after.last_mut() {
        *a = missing;
    }
    let value = if cx.dtype(mask)? == DType::Bool { 0.0 } else { f64::NEG_INFINITY };
    cx.emit(Pad { before: none, after, mode: PadMode::Constant, value }, &[mask])
}
