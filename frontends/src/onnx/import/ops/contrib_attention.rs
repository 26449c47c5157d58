//! Attention of com.microsoft, as optimisers and exporters of generative models write it, with caches, masks and rotary
//! positions. What it is made of is in `sdpa.rs`; attention of ai.onnx is in `attention.rs`.

use super::attention::rotary_heads;
use super::integer::{self, Shifted};
use super::matmul::product;
use super::sdpa::{Sdpa, causal_mask, extents, split_heads};
use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{BinaryFn, GatherND};
use frit_ir::{DType, Dim, ValueId};

pub const ROWS: &[Row] = &[
    ("com.microsoft", "Attention", 1, attention),
    ("com.microsoft", "QAttention", 1, attention),
    ("com.microsoft", "MultiHeadAttention", 1, multi_head),
    ("com.microsoft", "GroupQueryAttention", 1, group_query),
    ("com.microsoft", "RotaryEmbedding", 1, rotary),
];

/// An attention with the masks that these operators take.
struct Masked {
    sdpa: Sdpa,
    /// Lengths `[B]`, ends and starts `[2 B]`, or what is kept: `[B, Sk]`, `[B, Sq, Sk]`, `[B, 1, max, max]`.
    keep: Option<ValueId>,
    /// Added to the scores.
    bias: Option<ValueId>,
    /// What is added where nothing is kept.
    filter: f64,
    /// Keys before the first query's own.
    past: Dim,
    causal: bool,
}

impl Masked {
    fn emit(self, cx: &mut Cx<'_>, n: &NodeView<'_>) -> Result<ValueId> {
        let mut a = self.sdpa;
        let dtype = cx.dtype(a.q)?;
        let batch = cx.shape(a.q)?.first().cloned().unwrap_or_default();
        let (queries, _) = extents(cx, a.q, a.q_heads)?;
        let (keys, _) = extents(cx, a.k, a.kv_heads)?;
        let mut mask = match self.keep {
            None => None,
            Some(keep) => {
                let kept = kept(cx, n, keep, (&batch, &queries, &keys, &self.past))?;
                let (zero, filter) = (cx.scalar(dtype, 0.0)?, cx.scalar(dtype, self.filter)?);
                Some(cx.choose(kept, zero, filter)?)
            }
        };
        if let Some(bias) = self.bias {
            mask = Some(match mask {
                None => bias,
                Some(m) => cx.plus(m, bias)?,
            });
        }
        match mask {
            None if self.causal => a.causal = Some(self.past),
            None => {}
            Some(mut m) => {
                m = fit(cx, m, [&batch, &Dim::constant(a.q_heads), &queries, &keys])?;
                if self.causal {
                    let seen = causal_mask(cx, &queries, &keys, &self.past)?;
                    let hidden = cx.scalar(dtype, lowest(dtype))?;
                    m = cx.choose(seen, m, hidden)?;
                }
                a.masks.push(m);
            }
        }
        Ok(a.emit(cx)?.0)
    }
}

/// A mask whose axes, where they are not 1, are those of the scores.
fn fit(cx: &mut Cx<'_>, mask: ValueId, scores: [&Dim; 4]) -> Result<ValueId> {
    let own = cx.shape(mask)?;
    let skip = scores.len().saturating_sub(own.len());
    let pick = |(d, t): (&Dim, &Dim)| if d.is(1) { d.clone() } else { t.clone() };
    let wanted: Vec<Dim> = own.iter().zip(scores.into_iter().skip(skip)).map(pick).collect();
    cx.agree(mask, &wanted)
}

/// The lowest number of a float type.
fn lowest(dtype: DType) -> f64 {
    if dtype == DType::F16 { -65504.0 } else { f64::from(f32::MIN) }
}

/// Which keys are kept, true or false, so that it broadcasts to `[B, heads, Sq, Sk]`.
fn kept(
    cx: &mut Cx<'_>,
    n: &NodeView<'_>,
    keep: ValueId,
    (batch, queries, keys, past): (&Dim, &Dim, &Dim, &Dim),
) -> Result<ValueId> {
    let shape = cx.shape(keep)?;
    let on = |cx: &mut Cx<'_>, x: ValueId| cx.with_number(BinaryFn::Greater, x, 0.0);
    match shape.as_slice() {
        [len] => {
            let position = cx.iota(keys, cx.dtype(keep)?)?;
            let column = |cx: &mut Cx<'_>, x: ValueId| -> Result<ValueId> {
                let x = cx.agree(x, std::slice::from_ref(batch))?;
                cx.unsqueeze(x, &[1, 2, 3])
            };
            let both = cx.dim(batch.mul_const(2))?;
            if len.same(&both) && !len.same(batch) {
                let (end, start) =
                    (cx.slice(keep, 0, &Dim::constant(0), batch)?, cx.slice(keep, 0, batch, &both)?);
                let (end, start) = (column(cx, end)?, column(cx, start)?);
                let before = cx.binary(BinaryFn::Less, position, end)?;
                let after = cx.binary(BinaryFn::GreaterOrEqual, position, start)?;
                return cx.binary(BinaryFn::And, before, after);
            }
            if matches!((len.as_const(), batch.as_const()), (Some(a), Some(b)) if a != b) {
                return Err(n.error(format!("a mask of {len} numbers for a batch of {batch}")));
            }
            let end = column(cx, keep)?;
            cx.binary(BinaryFn::Less, position, end)
        }
        [_, _] => {
            let x = cx.agree(keep, &[batch.clone(), keys.clone()])?;
            let x = cx.unsqueeze(x, &[1, 2])?;
            on(cx, x)
        }
        [_, _, _] => {
            let x = cx.agree(keep, &[batch.clone(), queries.clone(), keys.clone()])?;
            let x = cx.unsqueeze(x, &[1])?;
            on(cx, x)
        }
        [_, _, _, _] => {
            let end = cx.dim(past.add(queries))?;
            let rows = cx.slice(keep, 2, past, &end)?;
            let x = cx.slice(rows, 3, &Dim::constant(0), keys)?;
            on(cx, x)
        }
        _ => Err(n.error(format!("a mask of rank {}", shape.len()))),
    }
}

/// A count that an attribute must give.
fn heads(n: &NodeView<'_>, name: &'static str) -> Result<i64> {
    n.int(name)?.filter(|&h| h > 0).ok_or_else(|| n.error(format!("attribute `{name}` must be positive")))
}

/// Refuses what is not supported, by name.
fn refuse_flags(n: &NodeView<'_>, names: &[&'static str]) -> Result<()> {
    for name in names {
        if n.int_or(name, 0)? > 0 {
            return Err(n.error(format!("attribute `{name}` is not supported")));
        }
    }
    Ok(())
}

/// A scale of 0 means the usual one, too.
fn scale(n: &NodeView<'_>) -> Result<Option<f64>> {
    Ok(n.float("scale")?.filter(|&s| s != 0.0))
}

/// Attention over x with the projections of queries, keys and values in one weight, quantised or not.
fn attention<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let count = heads(n, "num_heads")?;
    let quantised = n.op == "QAttention";
    refuse_flags(n, &["do_rotary", "past_present_share_buffer"])?;
    n.ignore(&["rotary_embedding_dim"]);
    let (x, weight) = (n.tensor(0)?, n.tensor(1)?);
    let (all, keep, past, bias) = if quantised {
        let zero = |i: usize| n.opt(i);
        let total =
            integer::matmul(cx, Shifted { x, zero: zero(6)? }, Shifted { x: weight, zero: zero(7)? })?;
        let factor = cx.times(n.tensor(3)?, n.tensor(4)?)?;
        let total = cx.cast(total, DType::F32)?;
        let all = cx.times(total, factor)?;
        (cx.plus(all, n.tensor(2)?)?, n.opt(5)?, n.opt(8)?, None)
    } else {
        let mut all = product(cx, x, weight)?;
        if let Some(b) = n.opt(2)? {
            all = cx.plus(all, b)?;
        }
        (all, n.opt(3)?, n.opt(4)?, n.opt(5)?)
    };
    let width = cx.shape(all)?.last().cloned().unwrap_or_default();
    let sizes: Vec<Dim> = match n.ints("qkv_hidden_sizes")?.filter(|s| !s.is_empty()) {
        Some(s) => s.into_iter().map(Dim::constant).collect(),
        None => {
            let third = width.exact_div(&Dim::constant(3));
            vec![third.ok_or_else(|| n.error(format!("three parts do not divide {width}")))?; 3]
        }
    };
    let parts = cx.split(all, 2, &sizes)?;
    let [q, mut k, mut v] = *parts.as_slice() else { return Err(n.error("expected three sizes")) };
    let mut before = Dim::constant(0);
    if let Some(past) = past {
        let shape = cx.shape(past)?;
        let [_, batch, heads, length, size] = shape.as_slice() else {
            return Err(n.error("the past must have rank 5"));
        };
        before = length.clone();
        let part = [batch.clone(), heads.clone(), length.clone(), size.clone()];
        let mut join = |i: i64, now: ValueId| -> Result<ValueId> {
            let old = cx.slice(past, 0, &Dim::constant(i), &Dim::constant(i + 1))?;
            let old = cx.reshape(old, &part)?;
            append(cx, old, now, count)
        };
        (k, v) = (join(0, k)?, join(1, v)?);
    }
    let mut out: Vec<Val> = Vec::new();
    let mut sdpa = Sdpa::plain(q, k, v, count, count);
    sdpa.scale = scale(n)?;
    let causal = n.flag("unidirectional", false)?;
    let filter = n.float_or("mask_filter_value", -10_000.0)?;
    out.push(Masked { sdpa, keep, bias, filter, past: before, causal }.emit(cx, n)?.into());
    if n.wants(1) {
        let mut both = Vec::new();
        for x in [k, v] {
            let x = split_heads(cx, x, count)?;
            both.push(cx.unsqueeze(x, &[0])?);
        }
        out.push(cx.concat(&both, 0)?.into());
    }
    Ok(out)
}

/// Keys or values `[B, heads, P, D]` with those of `now` after them.
fn append(cx: &mut Cx<'_>, old: ValueId, now: ValueId, heads: i64) -> Result<ValueId> {
    let now = split_heads(cx, now, heads)?;
    let (mut shape, length) = (cx.shape(now)?, cx.shape(old)?.get(2).cloned().unwrap_or_default());
    if let Some(d) = shape.get_mut(2) {
        *d = length;
    }
    let old = cx.agree(old, &shape)?;
    cx.concat(&[old, now], 2)
}

/// Part `i` of the fourth axis of `[B, S, heads, parts, D]`, as `[B, S, heads D]`.
fn packed(cx: &mut Cx<'_>, x: ValueId, i: i64) -> Result<ValueId> {
    let shape = cx.shape(x)?;
    let [batch, sequence, heads, _, size] = shape.as_slice() else {
        return Err(cx.error(format!("packed operands have rank 5, got {}", shape.len())));
    };
    let part = cx.slice(x, 3, &Dim::constant(i), &Dim::constant(i + 1))?;
    let width = cx.dim(heads.mul(size))?;
    cx.reshape(part, &[batch.clone(), sequence.clone(), width])
}

fn multi_head<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let count = heads(n, "num_heads")?;
    if n.opt(8)?.is_some() || n.opt(9)?.is_some() {
        return Err(n.error("caches that share a buffer are not supported"));
    }
    if n.wants(3) {
        return Err(n.error("the output of scores is not supported"));
    }
    let query = n.tensor(0)?;
    let (mut q, mut k, mut v) = match (n.opt(1)?, n.opt(2)?) {
        (None, _) => (packed(cx, query, 0)?, packed(cx, query, 1)?, packed(cx, query, 2)?),
        (Some(key), None) => (query, packed(cx, key, 0)?, packed(cx, key, 1)?),
        (Some(key), Some(value)) => (query, key, value),
    };
    let batch = cx.shape(q)?.first().cloned().unwrap_or_default();
    k = cx.agree_axis(k, 0, &batch)?;
    v = cx.agree_axis(v, 0, &batch)?;
    // Keys that have their heads already come from a cache, whole.
    let cached = cx.rank(k)? == 4;
    if !cached {
        let width = cx.shape(q)?.last().cloned().unwrap_or_default();
        k = cx.agree_axis(k, 2, &width)?;
        let own = cx.shape(v)?.last().cloned().unwrap_or_default();
        if own.exact_div(&Dim::constant(count)).is_none() && own.as_const().is_none() {
            v = cx.agree_axis(v, 2, &width)?;
        }
    }
    let (length, _) = extents(cx, k, count)?;
    v = cx.agree_axis(v, if cx.rank(v)? == 4 { 2 } else { 1 }, &length)?;
    if let Some(bias) = n.opt(3)? {
        let width = |cx: &Cx<'_>, x: ValueId| Ok(cx.shape(x)?.last().cloned().unwrap_or_default());
        let (wq, wk) = (width(cx, q)?, if cached { width(cx, q)? } else { width(cx, k)? });
        let first = cx.dim(wq.add(&wk))?;
        let part = cx.slice(bias, 0, &Dim::constant(0), &wq)?;
        q = cx.plus(q, part)?;
        if !cached {
            let part = cx.slice(bias, 0, &wq, &first)?;
            k = cx.plus(k, part)?;
            let end = cx.dim(first.add(&width(cx, v)?))?;
            let part = cx.slice(bias, 0, &first, &end)?;
            v = cx.plus(v, part)?;
        }
    }
    let mut past = Dim::constant(0);
    if let (Some(old_k), Some(old_v)) = (n.opt(6)?, n.opt(7)?) {
        past = extents(cx, old_k, count)?.0;
        let old_v = cx.agree_axis(old_v, 2, &past)?;
        k = append(cx, old_k, k, count)?;
        v = append(cx, old_v, v, count)?;
    }
    let mut sdpa = Sdpa::plain(q, k, v, count, count);
    sdpa.scale = scale(n)?;
    let causal = n.flag("unidirectional", false)?;
    let filter = n.float_or("mask_filter_value", -10_000.0)?;
    let y = Masked { sdpa, keep: n.opt(4)?, bias: n.opt(5)?, filter, past, causal }.emit(cx, n)?;
    let mut out = vec![y.into()];
    if n.output_count() > 1 {
        out.push(split_heads(cx, k, count)?.into());
        out.push(split_heads(cx, v, count)?.into());
    }
    Ok(out)
}

/// Attention where heads of keys serve several of queries; each sequence of the batch has its own length, so its new
/// keys go right after its old ones.
fn group_query<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (q_heads, kv_heads) = (heads(n, "num_heads")?, heads(n, "kv_num_heads")?);
    refuse_flags(n, &["smooth_softmax", "kv_cache_bit_width"])?;
    n.ignore(&["k_quant_type", "v_quant_type"]);
    if n.opt(11)?.is_some() || n.wants(3) {
        return Err(n.error("sinks of heads and the output of scores are not supported"));
    }
    let query = n.tensor(0)?;
    let (mut q, mut k, v) = match (n.opt(1)?, n.opt(2)?) {
        (Some(k), Some(v)) => (query, k, v),
        _ => {
            let width = cx.shape(query)?.last().cloned().unwrap_or_default();
            let all = q_heads.saturating_add(kv_heads.saturating_mul(2));
            let size = width.exact_div(&Dim::constant(all));
            let size = size.ok_or_else(|| n.error(format!("{all} heads do not divide {width}")))?;
            let (wide, narrow) = (cx.dim(size.mul_const(q_heads))?, cx.dim(size.mul_const(kv_heads))?);
            let parts = cx.split(query, 2, &[wide, narrow.clone(), narrow])?;
            let [q, k, v] = *parts.as_slice() else { return Err(n.error("a split without three parts")) };
            (q, k, v)
        }
    };
    let shape = cx.shape(q)?;
    let [batch, queries, _] = shape.as_slice() else { return Err(n.error("queries must have rank 3")) };
    let mut agree = |x: ValueId| -> Result<ValueId> {
        let x = cx.agree_axis(x, 0, batch)?;
        cx.agree_axis(x, 1, queries)
    };
    k = agree(k)?;
    let v = agree(v)?;
    // Keys of each sequence with the new ones, [B].
    let last = cx.agree(n.tensor(5)?, std::slice::from_ref(batch))?;
    let last = cx.cast(last, DType::I64)?;
    let total = cx.with_number(BinaryFn::Add, last, 1.0)?;
    let new = cx.dims_value(std::slice::from_ref(queries))?;
    let longest = cx.cast(n.tensor(6)?, DType::I64)?;
    let longest = cx.reshape(longest, &[Dim::constant(1)])?;
    // At the first call all that is there is new, be it padding.
    let first = cx.binary(BinaryFn::Equal, longest, new)?;
    let old = cx.minus(total, new)?;
    let zero = cx.scalar(DType::I64, 0.0)?;
    let old = cx.choose(first, zero, old)?;
    let old = cx.binary(BinaryFn::Max, old, zero)?;
    // [B, S]: where the queries stand.
    let step = cx.iota(queries, DType::I64)?;
    let old = cx.unsqueeze(old, &[1])?;
    let place = cx.plus(old, step)?;
    if n.flag("do_rotary", false)? {
        let positions = match n.opt(9)? {
            Some(p) => cx.agree(p, &[batch.clone(), queries.clone()])?,
            None => place,
        };
        let (cos, sin) = (n.tensor(7)?, n.tensor(8)?);
        let half = cx.shape(cos)?.last().and_then(Dim::as_const);
        let width = half.and_then(|h| h.checked_mul(2)).ok_or_else(|| n.error("angles of unknown extent"))?;
        let interleaved = n.flag("rotary_interleaved", false)?;
        q = rotary_heads(cx, q, (cos, sin, Some(positions)), (interleaved, width, q_heads))?;
        k = rotary_heads(cx, k, (cos, sin, Some(positions)), (interleaved, width, kv_heads))?;
    } else {
        n.ignore(&["rotary_interleaved"]);
    }
    let (k, v) = (split_heads(cx, k, kv_heads)?, split_heads(cx, v, kv_heads)?);
    let (k, v) = match (n.opt(3)?, n.opt(4)?) {
        (Some(old_k), Some(old_v)) => {
            let (capacity, _) = extents(cx, old_k, kv_heads)?;
            let old_v = cx.agree_axis(old_v, 2, &capacity)?;
            let wanted = cx.value_dims(n, longest, "operand 6")?;
            let wanted = wanted.first().cloned().unwrap_or_default();
            let length = cx.dim(wanted.maximum(&capacity))?;
            let at = sources(cx, old, (&capacity, queries, &length))?;
            let place = cx.iota(&length, DType::I64)?;
            let end = cx.plus(old, new)?;
            let end = cx.unsqueeze(end, &[2, 3])?;
            let place = cx.unsqueeze(place, &[1])?;
            let filled = cx.binary(BinaryFn::Less, place, end)?;
            let whole = |cx: &mut Cx<'_>, past, now| -> Result<ValueId> {
                let all = merged(cx, past, now, at, kv_heads)?;
                let zero = cx.scalar(cx.dtype(all)?, 0.0)?;
                cx.choose(filled, all, zero)
            };
            (whole(cx, old_k, k)?, whole(cx, old_v, v)?)
        }
        _ => (k, v),
    };
    let (keys, _) = extents(cx, k, kv_heads)?;
    let position = cx.iota(&keys, DType::I64)?;
    let place = cx.unsqueeze(place, &[1, 3])?;
    let mut seen = cx.binary(BinaryFn::LessOrEqual, position, place)?;
    let window = n.int_or("local_window_size", -1)?;
    if window > 0 {
        let far = cx.with_number(BinaryFn::Sub, place, window as f64)?;
        let near = cx.binary(BinaryFn::Greater, position, far)?;
        seen = cx.binary(BinaryFn::And, seen, near)?;
    }
    let mut a = Sdpa::plain(q, k, v, q_heads, kv_heads);
    a.scale = scale(n)?;
    a.softcap = n.float_or("softcap", 0.0)?;
    a.masks.push(seen);
    if let Some(bias) = n.opt(10)? {
        a.masks.push(fit(cx, bias, [batch, &Dim::constant(q_heads), queries, &keys])?);
    }
    let y = a.emit(cx)?.0;
    Ok(vec![y.into(), k.into(), v.into()])
}

/// `[B, length, 1]`: which of `capacity` old and then the new keys stand in each place, `old` `[B, 1]` of the old ones
/// first. Places after all keys get the last of all.
fn sources(cx: &mut Cx<'_>, old: ValueId, (capacity, new, length): (&Dim, &Dim, &Dim)) -> Result<ValueId> {
    let place = cx.iota(length, DType::I64)?;
    let behind = cx.dims_value(std::slice::from_ref(capacity))?;
    let shift = cx.minus(behind, old)?;
    let moved = cx.plus(place, shift)?;
    let fresh = cx.binary(BinaryFn::GreaterOrEqual, place, old)?;
    let at = cx.choose(fresh, moved, place)?;
    let end = cx.dim(capacity.add(new))?;
    let end = cx.dims_value(&[cx.dim(end.add_const(-1))?])?;
    let at = cx.binary(BinaryFn::Min, at, end)?;
    let batch = cx.shape(old)?.first().cloned().unwrap_or_default();
    let at = cx.agree(at, &[batch, length.clone()])?;
    cx.unsqueeze(at, &[2])
}

/// Old and new keys or values in one, each place from where `at` says.
fn merged(cx: &mut Cx<'_>, old: ValueId, new: ValueId, at: ValueId, heads: i64) -> Result<ValueId> {
    let all = append(cx, old, new, heads)?;
    let rows = cx.transpose(all, &[0, 2, 1, 3])?;
    let picked = cx.emit(GatherND { batch_dims: 1 }, &[rows, at])?;
    cx.transpose(picked, &[0, 2, 1, 3])
}

/// Rotary positions; one number says where the sequence begins.
fn rotary<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["is_packed_batching"]);
    let (x, positions, cos, sin) = (n.tensor(0)?, n.tensor(1)?, n.tensor(2)?, n.tensor(3)?);
    let interleaved = n.flag("interleaved", false)?;
    let width = n.int_or("rotary_embedding_dim", 0)?;
    if n.float_or("scale", 1.0)? != 1.0 {
        return Err(n.error("attribute `scale` other than 1"));
    }
    let half = cx.shape(cos)?.last().and_then(Dim::as_const).filter(|&h| h > 0);
    let shape = cx.shape(x)?;
    let heads = match (n.int_or("num_heads", 0)?, shape.as_slice()) {
        (h, [_, _, _]) if h > 0 => h,
        // Heads as wide as what turns.
        (_, [_, _, all]) => {
            let size = half.and_then(|h| h.checked_mul(2)).map(Dim::constant);
            let count = size.and_then(|s| all.exact_div(&s)).and_then(|c| c.as_const());
            count.ok_or_else(|| n.error("attribute `num_heads` is missing"))?
        }
        (_, [_, h, _, _]) => h.as_const().ok_or_else(|| n.error(format!("{h} heads must be known")))?,
        _ => return Err(n.error(format!("an operand of rank {}", shape.len()))),
    };
    let (queries, _) = extents(cx, x, heads)?;
    let batch = shape.first().cloned().unwrap_or_default();
    let positions = if cx.rank(positions)? == 1 {
        let step = cx.iota(&queries, DType::I64)?;
        let begin = cx.reshape(positions, &[Dim::constant(1)])?;
        let one = cx.plus(step, begin)?;
        let one = cx.unsqueeze(one, &[0])?;
        cx.expand_to(one, &[batch, queries])?
    } else {
        cx.agree(positions, &[batch, queries])?
    };
    Ok(vec![rotary_heads(cx, x, (cos, sin, Some(positions)), (interleaved, width, heads))?.into()])
}
