//! Attention of ai.onnx and its preview domain, rotary positions, linear attention, causal convolution with a state.
//! Operators of com.microsoft are in `contrib`.

use super::bits::dtype_attr;
use super::sdpa::{Sdpa, Tap, extents, join_heads, pad_mask, repeat_heads, split_heads};
use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{BinaryFn, Conv, RotaryEmbedding, Softmax, Swish, UnaryFn};
use frit_ir::{DType, Dim, ValueId};

pub const ROWS: &[Row] = &[
    ("", "Attention", 23, attention),
    ("", "RotaryEmbedding", 23, rotary),
    ("", "LinearAttention", 27, linear_attention),
    ("", "CausalConvWithState", 27, causal_conv),
    ("ai.onnx.preview", "FlexAttention", 1, flex_attention),
];

fn attention<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (q, mut k, mut v) = (n.tensor(0)?, n.tensor(1)?, n.tensor(2)?);
    let heads_of = |cx: &Cx<'_>, x: ValueId, name: &'static str| -> Result<i64> {
        match cx.shape(x)?.as_slice() {
            [_, h, _, _] => h.as_const().ok_or_else(|| n.error(format!("{h} heads must be known"))),
            _ => n.int(name)?.ok_or_else(|| n.error(format!("attribute `{name}` is missing"))),
        }
    };
    let (q_heads, kv_heads) = (heads_of(cx, q, "q_num_heads")?, heads_of(cx, k, "kv_num_heads")?);
    n.ignore(&["q_num_heads", "kv_num_heads"]);
    let mut past = Dim::constant(0);
    if let (Some(past_k), Some(past_v)) = (n.opt(4)?, n.opt(5)?) {
        past = extents(cx, past_k, kv_heads)?.0;
        k = split_heads(cx, k, kv_heads)?;
        v = split_heads(cx, v, kv_heads)?;
        k = cx.concat(&[past_k, k], 2)?;
        v = cx.concat(&[past_v, v], 2)?;
    }
    let (queries, _) = extents(cx, q, q_heads)?;
    let (keys, _) = extents(cx, k, kv_heads)?;
    let mut a = Sdpa::plain(q, k, v, q_heads, kv_heads);
    a.scale = n.float("scale")?;
    a.softcap = n.float_or("softcap", 0.0)?;
    a.precision = dtype_attr(n, "softmax_precision")?;
    a.blind_to_zero = true;
    if let Some(mask) = n.opt(3)? {
        a.masks.push(pad_mask(cx, mask, &keys)?);
    }
    let causal = n.flag("is_causal", false)?;
    let (left, right) = (n.int_or("left_window_size", -1)?, n.int_or("right_window_size", -1)?);
    let windowed = left >= 0 || right >= 0;
    let valid = n.opt(6)?;
    if valid.is_some() || windowed {
        let key = cx.iota(&keys, DType::I64)?;
        // Where each query stands among the keys.
        let row = cx.iota(&queries, DType::I64)?;
        let row = cx.unsqueeze(row, &[1])?;
        let offset = match valid {
            // Valid keys a sample: they limit what is seen, and say where the queries stand.
            Some(valid) => {
                let valid = cx.unsqueeze(valid, &[1, 2, 3])?;
                a.masks.push(cx.binary(BinaryFn::Less, key, valid)?);
                let before = cx.dims_value(std::slice::from_ref(&queries))?;
                cx.minus(valid, before)?
            }
            None => cx.dims_value(std::slice::from_ref(&past))?,
        };
        let at = cx.plus(row, offset)?;
        if causal && valid.is_some() {
            a.masks.push(cx.binary(BinaryFn::LessOrEqual, key, at)?);
        }
        if left >= 0 {
            let first = cx.with_number(BinaryFn::Sub, at, left as f64)?;
            a.masks.push(cx.binary(BinaryFn::GreaterOrEqual, key, first)?);
        }
        if right >= 0 {
            let last = cx.with_number(BinaryFn::Add, at, right as f64)?;
            a.masks.push(cx.binary(BinaryFn::LessOrEqual, key, last)?);
        }
    }
    if causal && valid.is_none() {
        a.causal = Some(past);
    }
    let mode = n.int_or("qk_matmul_output_mode", 0)?;
    if n.wants(3) {
        a.tap = Some(match mode {
            0 => Tap::Products,
            1 => Tap::Capped,
            2 => Tap::Masked,
            3 => Tap::Weights,
            other => return Err(n.error(format!("qk_matmul_output_mode {other} is none of 0, 1, 2, 3"))),
        });
    }
    let (y, tap) = a.emit(cx)?;
    let mut out = vec![y.into()];
    if n.output_count() > 1 {
        out.push(split_heads(cx, k, kv_heads)?.into());
        out.push(split_heads(cx, v, kv_heads)?.into());
        out.push(tap.unwrap_or(y).into());
    }
    Ok(out)
}

/// What turns: `x` is `[.., S, .., D]`, `cos` and `sin` hold each angle once and broadcast to half of its last axis.
pub(super) fn rotate(
    cx: &mut Cx<'_>,
    x: ValueId,
    (cos, sin): (ValueId, ValueId),
    interleaved: bool,
) -> Result<ValueId> {
    // The graph's op has every angle at both members of its pair.
    let mut double = |angles: ValueId| -> Result<ValueId> {
        let rank = cx.rank(angles)?;
        let last = rank.saturating_sub(1);
        if !interleaved {
            return cx.concat(&[angles, angles], last);
        }
        let mut shape = cx.shape(angles)?;
        let column = cx.unsqueeze(angles, &[i64::try_from(rank).unwrap_or(0)])?;
        let both = cx.concat(&[column, column], rank)?;
        if let Some(d) = shape.last_mut() {
            *d = cx.dim(d.mul_const(2))?;
        }
        cx.reshape(both, &shape)
    };
    let (cos, sin) = (double(cos)?, double(sin)?);
    let all = cx.broadcast(&[x, cos, sin])?;
    cx.emit(RotaryEmbedding { interleaved }, &all)
}

/// Rotary positions of `[B, S, heads D]` or `[B, heads, S, D]` with caches of angles; `width` of each head turns.
pub(super) fn rotary_heads(
    cx: &mut Cx<'_>,
    x: ValueId,
    (cos, sin, positions): (ValueId, ValueId, Option<ValueId>),
    (interleaved, width, heads): (bool, i64, i64),
) -> Result<ValueId> {
    let flat = cx.rank(x)? == 3;
    let x4 = if flat { split_heads(cx, x, heads)? } else { x };
    let (_, size) = extents(cx, x4, heads)?;
    let mut angles = |cache: ValueId| -> Result<ValueId> {
        let a = match positions {
            Some(p) => cx.gather(cache, p, 0)?,
            None => cache,
        };
        // [B, S, D / 2] to [B, 1, S, D / 2]
        if cx.rank(a)? == 3 { cx.unsqueeze(a, &[1]) } else { Ok(a) }
    };
    let (cos, sin) = (angles(cos)?, angles(sin)?);
    let y = if width == 0 || size.is(width) {
        rotate(cx, x4, (cos, sin), interleaved)?
    } else {
        let end = Dim::constant(width);
        let first = cx.slice(x4, 3, &Dim::constant(0), &end)?;
        let rest = cx.slice(x4, 3, &end, &size)?;
        let turned = rotate(cx, first, (cos, sin), interleaved)?;
        cx.concat(&[turned, rest], 3)?
    };
    if flat { join_heads(cx, y) } else { Ok(y) }
}

fn rotary<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (x, cos, sin, positions) = (n.tensor(0)?, n.tensor(1)?, n.tensor(2)?, n.opt(3)?);
    let interleaved = n.flag("interleaved", false)?;
    let width = n.int_or("rotary_embedding_dim", 0)?;
    let heads = n.int_or("num_heads", 0)?;
    if cx.rank(x)? == 3 && heads < 1 {
        return Err(n.error("attribute `num_heads` is missing"));
    }
    Ok(vec![rotary_heads(cx, x, (cos, sin, positions), (interleaved, width, heads))?.into()])
}

/// A recurrence over the sequence, one step after the other: the number of steps must be known.
fn linear_attention<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["chunk_size"]);
    let heads = |name: &'static str| -> Result<i64> {
        n.int(name)?.filter(|&h| h > 0).ok_or_else(|| n.error(format!("attribute `{name}` must be positive")))
    };
    let (q_heads, kv_heads) = (heads("q_num_heads")?, heads("kv_num_heads")?);
    let rule = n.string_or("update_rule", "gated_delta")?;
    let (gated, delta) = match rule {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(n.error(format!("update rule `{other}`"))),
    };
    if q_heads % kv_heads != 0 {
        return Err(n.error(format!("{kv_heads} heads of keys for {q_heads} of queries")));
    }
    let query = n.tensor(0)?;
    let dtype = cx.dtype(query)?;
    let heads_first = |cx: &mut Cx<'_>, i: usize, heads: i64| -> Result<ValueId> {
        let x = cx.cast(n.tensor(i)?, DType::F32)?;
        split_heads(cx, x, heads)
    };
    let (q, k, v) =
        (heads_first(cx, 0, q_heads)?, heads_first(cx, 1, kv_heads)?, heads_first(cx, 2, kv_heads)?);
    // Both end as [B, heads or 1, T, 1 or Dk].
    let decay = if gated { Some(heads_first(cx, 4, kv_heads)?) } else { None };
    let beta = match (delta, n.opt(5)?) {
        (false, _) => None,
        (true, None) => return Err(n.error(format!("update rule `{rule}` needs operand 5"))),
        (true, Some(b)) => {
            let single = cx.shape(b)?.last().is_some_and(|d| d.is(1));
            Some(heads_first(cx, 5, if single { 1 } else { kv_heads })?)
        }
    };
    let (steps, d_k) = extents(cx, q, q_heads)?;
    let (_, d_v) = extents(cx, v, kv_heads)?;
    let Some(count) = steps.as_const().filter(|&t| (0..=4096).contains(&t)) else {
        return Err(n.error(format!("the sequence's length {steps} must be known when importing")));
    };
    let batch = cx.shape(q)?.first().cloned().unwrap_or_else(|| Dim::constant(1));
    let group = q_heads.checked_div(kv_heads).unwrap_or(1);
    let (mut state, state_dtype) = match n.opt(3)? {
        Some(s) => (cx.cast(s, DType::F32)?, cx.dtype(s)?),
        None => {
            let shape = [batch.clone(), Dim::constant(kv_heads), d_k.clone(), d_v.clone()];
            (cx.full(&shape, 0.0, DType::F32)?, dtype)
        }
    };
    let scale = match (n.float("scale")?.filter(|&s| s != 0.0), d_k.as_const()) {
        (Some(s), _) => s,
        (None, Some(d)) => 1.0 / (d as f64).sqrt(),
        _ => return Err(n.error(format!("the head size {d_k} must be known"))),
    };
    let mut outputs = Vec::new();
    for t in 0..count {
        let (from, to) = (Dim::constant(t), Dim::constant(t + 1));
        if let Some(decay) = decay {
            // [B, H, 1, Dk or 1] to [B, H, Dk or 1, 1]
            let g = cx.slice(decay, 2, &from, &to)?;
            let g = cx.unary(UnaryFn::Exp, g)?;
            let g = cx.swap_axes(g, 2, 3)?;
            state = cx.times(state, g)?;
        }
        let k_t = cx.slice(k, 2, &from, &to)?;
        let mut v_t = cx.slice(v, 2, &from, &to)?;
        if let Some(beta) = beta {
            let found = cx.matmul(k_t, state)?;
            let rest = cx.minus(v_t, found)?;
            let b = cx.slice(beta, 2, &from, &to)?;
            v_t = cx.times(b, rest)?;
        }
        let column = cx.swap_axes(k_t, 2, 3)?;
        let outer = cx.times(column, v_t)?;
        state = cx.plus(state, outer)?;
        // Heads of queries that share a state are rows of one product.
        let q_t = cx.slice(q, 2, &from, &to)?;
        let rows = [batch.clone(), Dim::constant(kv_heads), Dim::constant(group), d_k.clone()];
        let q_t = cx.reshape(q_t, &rows)?;
        let read = cx.matmul(q_t, state)?;
        let one = [batch.clone(), Dim::constant(q_heads), Dim::constant(1), d_v.clone()];
        outputs.push(cx.reshape(read, &one)?);
    }
    let y = if outputs.is_empty() {
        cx.full(&[batch, Dim::constant(q_heads), Dim::constant(0), d_v], 0.0, DType::F32)?
    } else {
        cx.concat(&outputs, 2)?
    };
    let y = cx.with_number(BinaryFn::Mul, y, scale)?;
    let y = join_heads(cx, y)?;
    Ok(vec![cx.cast(y, dtype)?.into(), cx.cast(state, state_dtype)?.into()])
}

/// A convolution of each channel with the past before it; the new past is the end of what it saw.
fn causal_conv<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (x, w, bias) = (n.tensor(0)?, n.tensor(1)?, n.opt(2)?);
    let dtype = cx.dtype(x)?;
    let (xs, ws) = (cx.shape(x)?, cx.shape(w)?);
    let ([batch, channels, _], [_, _, k]) = (xs.as_slice(), ws.as_slice()) else {
        return Err(n.error("input and weight must have rank 3"));
    };
    let Some(group) = channels.as_const() else {
        return Err(n.error(format!("the number of channels {channels} must be known")));
    };
    let state = cx.dim(k.add_const(-1))?;
    let past = match n.opt(3)? {
        Some(p) => p,
        None => cx.full(&[batch.clone(), channels.clone(), state.clone()], 0.0, dtype)?,
    };
    let padded = cx.concat(&[past, x], 2)?;
    let op = Conv { strides: vec![1], pads: vec![0, 0], dilations: vec![1], group };
    let y = cx.emit_all(op, &[Some(padded), Some(w), bias])?;
    let Some(&y) = y.first() else { return Err(n.error("a convolution without a result")) };
    let y = match n.string_or("activation", "none")? {
        "none" => y,
        "silu" | "swish" => {
            let wide = cx.cast(y, DType::F32)?;
            let y = cx.emit(Swish { alpha: 1.0 }, &[wide])?;
            cx.cast(y, dtype)?
        }
        other => return Err(n.error(format!("activation `{other}`"))),
    };
    let end = cx.shape(padded)?.get(2).cloned().unwrap_or_else(|| Dim::constant(0));
    let start = cx.dim(end.sub(&state))?;
    Ok(vec![y.into(), cx.slice(padded, 2, &start, &end)?.into()])
}

/// Attention whose scores and weights go through graphs of the caller's.
fn flex_attention<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (q, k, v) = (n.tensor(0)?, n.tensor(1)?, n.tensor(2)?);
    let (dtype, q_shape, k_shape) = (cx.dtype(q)?, cx.shape(q)?, cx.shape(k)?);
    let ([_, q_heads, _, size], [_, kv_heads, _, _]) = (q_shape.as_slice(), k_shape.as_slice()) else {
        return Err(n.error("queries and keys must have rank 4"));
    };
    let known = |d: &Dim, what: &str| {
        d.as_const()
            .filter(|&d| d > 0)
            .ok_or_else(|| n.error(format!("{what} {d} must be known and positive")))
    };
    let (q_heads, kv_heads) = (known(q_heads, "the heads")?, known(kv_heads, "the heads")?);
    let scale = match n.float("scale")? {
        Some(s) => s,
        None => 1.0 / (known(size, "the head size")? as f64).sqrt(),
    };
    let repeat = q_heads.checked_div(kv_heads).unwrap_or(1);
    let k = repeat_heads(cx, k, repeat)?;
    let v = repeat_heads(cx, v, repeat)?;
    let k = cx.swap_axes(k, 2, 3)?;
    let products = cx.matmul(q, k)?;
    let scores = cx.with_number(BinaryFn::Mul, products, scale)?;
    let half = matches!(dtype, DType::F16 | DType::BF16);
    let precision = dtype_attr(n, "softmax_precision")?.unwrap_or(if half { DType::F32 } else { dtype });
    let scores = cx.cast(scores, precision)?;
    let scores = through(cx, n, "score_mod", scores)?;
    let weights = cx.emit(Softmax { axis: -1 }, &[scores])?;
    let weights = through(cx, n, "prob_mod", weights)?;
    let (weights, v) = (cx.cast(weights, precision)?, cx.cast(v, precision)?);
    let y = cx.matmul(weights, v)?;
    Ok(vec![cx.cast(y, dtype)?.into()])
}

/// `x` through a graph attribute of one input and one output, where it is given.
fn through<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>, name: &'static str, x: ValueId) -> Result<ValueId> {
    if n.attribute(name).is_none() {
        return Ok(x);
    }
    match cx.run_graph(n.graph(name)?, vec![x.into()])?.as_slice() {
        [Val::Tensor(y)] => Ok(*y),
        other => Err(n.error(format!("the graph `{name}` must give one tensor, not {} values", other.len()))),
    }
}
