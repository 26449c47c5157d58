//! Attention out of two products and a softmax, then its operands taken as they come from the projections. What
//! happens to the scores before the softmax is in `scores.rs`.

use super::causal::{is_causal, is_causal_numbers};
use crate::edit::Editor;
use crate::rule::{Found, Refusal, Rule, insert, require};
use crate::view::View;
use frit_ir::op::{Attention, FusedMatMul, Op};
use frit_ir::types::product;
use frit_ir::{Dim, ValueId};

/// The table.
pub const RULES: &[Rule] = &[
    // A factor of each head's probabilities is one of its values.
    Rule::built(
        "head_mask",
        "FusedMatMul{trans_a=false, trans_b=false, activation=none}(Mul(Softmax{axis=-1}(?s)@p, ?f), ?v)@o",
        head_mask,
        &["s: f32[2, 3, 4, 5]; f: f32[1, 3, 1, 1]; v: f32[2, 3, 5, 6]"],
    ),
    Rule::built(
        "attention",
        "P = Softmax{axis=-1}(FusedMatMul{trans_a=false, trans_b=true, activation=none}(?q, ?k, ?mask?)@m);
         FusedMatMul{trans_a=false, trans_b=false, alpha=1, activation=none}(P, ?v)",
        attention,
        &[
            "q: f32[2, 3, 4, 5]; k: f32[2, 3, 6, 5]; v: f32[2, 3, 6, 7]; m.alpha = 0.5; mask: none; m.trans_b = true",
            "q: f32[2, 3, 4, 5]; k: f32[2, 3, 6, 5]; v: f32[2, 3, 6, 7]; m.alpha = 0.5; mask: f32[2, 1, 1, 6]; m.trans_b = true",
            "q: f32[2, 4, 5]; k: f32[2, 6, 5]; v: f32[2, 6, 7]; mask: f32[1, 4, 6]; m.trans_b = true",
        ],
    ),
    Rule::built(
        "attention_causal_after_mask",
        "P = Softmax{axis=-1}(Where(?seen, FusedMatMul{trans_a=false, trans_b=true, activation=none}(?q, ?k, ?mask?)@m, ?low:scalar)@w);
         FusedMatMul{trans_a=false, trans_b=false, alpha=1, activation=none}(P, ?v)",
        attention_causal,
        &["q: f32[2, 3, 4, 5]; k: f32[2, 3, 6, 5]; v: f32[2, 3, 6, 7]; m.alpha = 0.5; mask: f32[2, 1, 1, 6]; m.trans_b = true; low = -3.4028234663852886e38;
           seen := LessOrEqual(Reshape{shape=[1, 1, 1, 6]}(Range{start=0, limit=6}), Reshape{shape=[1, 1, 4, 1]}(Range{start=2, limit=6}))"],
    ),
    Rule::new("attention_causal", "Attention{causal=false}(?q, ?k, ?v, Where+(?seen, 0, ?low:scalar)@w)@a", "Attention{*a, causal=true}(?q, ?k, ?v)", &[
        "q: f32[2, 4, 6]; k: f32[2, 5, 6]; v: f32[2, 5, 6]; a.q_heads = 3; a.kv_heads = 3; a.scale = 0.5; low = -1e9;
         seen := LessOrEqual(Reshape{shape=[1, 1, 1, 5]}(Range{start=0, limit=5}), Reshape{shape=[1, 1, 4, 1]}(Range{start=1, limit=5}))",
        "q: f32[2, 3, 6]; k: f32[2, 3, 6]; v: f32[2, 3, 6]; a.q_heads = 2; a.kv_heads = 2; a.scale = 0.5; low = -10000;
         seen := Greater(Reshape{shape=[3, 1]}(Range{start=1, limit=4}), Range{start=0, limit=3})",
    ])
    .when(mask_is_causal),
    // The same once it is folded into numbers.
    Rule::new(
        "attention_causal_numbers",
        "Attention{causal=false}(?q, ?k, ?v, ?mask:const)@a",
        "Attention{*a, causal=true}(?q, ?k, ?v)",
        &["q: f32[2, 4, 6]; k: f32[2, 5, 6]; v: f32[2, 5, 6]; mask: const f32[1, 1, 4, 5] causal; a.q_heads = 3; a.kv_heads = 3; a.scale = 0.5"],
    )
    .when(numbers_are_causal),
    // [B, H, S, D] made by exchanging axes is [B, S, H D] before.
    Rule::built("attention_flat_k", "Attention(?q, Transpose+{perm=[0, 2, 1, 3]}(?k), ?v, ?mask?)@a", flat_k, &[
        "q: f32[2, 4, 6]; k: f32[2, 5, 3, 2]; v: f32[2, 5, 6]; mask: f32[2, 1, 1, 5]; a.q_heads = 3; a.kv_heads = 3; a.scale = 0.5",
    ]),
    Rule::built("attention_flat_v", "Attention(?q, ?k, Transpose+{perm=[0, 2, 1, 3]}(?v), ?mask?)@a", flat_v, &[
        "q: f32[2, 4, 6]; k: f32[2, 5, 6]; v: f32[2, 5, 3, 2]; mask: none; a.q_heads = 3; a.kv_heads = 3; a.scale = 0.5",
    ]),
    Rule::built(
        "attention_flat_q",
        "Reshape(Transpose{perm=[0, 2, 1, 3]}(Attention(Transpose+{perm=[0, 2, 1, 3]}(?q), ?k, ?v, ?mask?)@a))@o",
        flat_q,
        &["q: f32[2, 4, 3, 2]; k: f32[2, 5, 6]; v: f32[2, 5, 6]; mask: none; a.q_heads = 3; a.kv_heads = 3; a.scale = 0.5; o.shape = [2, 4, 6]"],
    ),
    Rule::built(
        "attention_flat_result",
        "Transpose{perm=[0, 2, 1, 3]}(Attention(Transpose+{perm=[0, 2, 1, 3]}(?q), ?k, ?v, ?mask?)@a)@o",
        flat_result,
        &["q: f32[2, 4, 3, 2]; k: f32[2, 5, 6]; v: f32[2, 5, 6]; mask: none; a.q_heads = 3; a.kv_heads = 3; a.scale = 0.5"],
    ),
    Rule::built("attention_factor", "Attention(Mul(?q, ?f:scalar), ?k, ?v, ?mask?)@a", factor, &[
        "q: f32[2, 4, 6]; f = 0.25; k: f32[2, 5, 6]; v: f32[2, 5, 6]; mask: none; a.q_heads = 3; a.kv_heads = 3; a.scale = 0.5",
    ]),
];

fn op(view: View<'_>, m: &Found<'_, '_>) -> Result<Attention, Refusal> {
    m.op(view, "a", |o| if let Op::Attention(a) = o { Some(a) } else { None })
}

/// Heads of a factor: the second of four axes; one where there are three.
fn heads(view: View<'_>, v: ValueId) -> Result<i64, Refusal> {
    match view.shape(v) {
        [_, _, _] => Ok(1),
        [_, h, _, _] => {
            h.as_const().ok_or_else(|| Refusal::Because("the number of heads is not fixed".into()))
        }
        _ => Err(Refusal::Because("a factor has neither three nor four axes".into())),
    }
}

fn make(
    view: View<'_>,
    m: &Found<'_, '_>,
    causal: bool,
) -> Result<(Attention, [Option<ValueId>; 4]), Refusal> {
    let (q, k, v) = (m.value("q")?, m.value("k")?, m.value("v")?);
    let product = m.op(view, "m", |o| if let Op::FusedMatMul(f) = o { Some(f) } else { None })?;
    let FusedMatMul { alpha: scale, .. } = product;
    require(view.rank(q) == view.rank(k) && view.rank(k) == view.rank(v), "q, k and v differ in rank")?;
    let (q_heads, kv_heads) = (heads(view, q)?, heads(view, k)?);
    require(q_heads == kv_heads && heads(view, v)? == kv_heads, "q, k and v differ in heads")?;
    Ok((Attention { q_heads, kv_heads, scale, causal }, [Some(q), Some(k), Some(v), m.optional("mask")]))
}

fn attention(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (op, operands) = make(view, m, false)?;
    let flat = operands[0].is_some_and(|q| view.rank(q) == 3);
    e.build(m.label, |b| {
        let [q, k, v, mask] = operands;
        // The mask of scores [B, Sq, Sk] has no axis of heads yet.
        let mask = match mask {
            Some(mask) if flat && b.rank(mask)? == 3 => Some(b.unsqueeze(mask, 1)?),
            other => other,
        };
        Ok(insert(b, op, &[q, k, v, mask])?)
    })
}

/// Queries and keys of scores [.., Sq, Sk].
fn require_causal(
    view: View<'_>,
    m: &Found<'_, '_>,
    queries: Option<&Dim>,
    keys: Option<&Dim>,
) -> Result<(), Refusal> {
    let (Some(queries), Some(keys)) = (queries, keys) else {
        return Err(Refusal::Because("scores have two axes or more".into()));
    };
    require(is_causal(view, m.value("seen")?, queries, keys), "the condition is no causal mask")
}

fn attention_causal(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let shape = view.shape(m.value("w")?);
    require_causal(view, m, shape.iter().rev().nth(1), shape.last())?;
    require(m.number(view, "low")? <= -1e30, "the number is not the lowest")?;
    let (op, operands) = make(view, m, true)?;
    require(shape.len() == 4 || operands[3].is_none(), "the mask has no axis of heads")?;
    e.build(m.label, |b| Ok(insert(b, op, &operands)?))
}

/// Extents of the queries and keys of an attention op: the last axis but one with and without an axis of heads.
fn sequences<'v>(view: View<'v>, m: &Found<'_, '_>) -> Result<(Option<&'v Dim>, Option<&'v Dim>), Refusal> {
    let extent = |v: ValueId| view.shape(v).iter().rev().nth(1);
    Ok((extent(m.value("q")?), extent(m.value("k")?)))
}

fn mask_is_causal(view: View<'_>, m: &Found<'_, '_>) -> Result<(), Refusal> {
    let (queries, keys) = sequences(view, m)?;
    require_causal(view, m, queries, keys)?;
    // No row is without a visible key, so any number that vanishes in softmax will do.
    require(m.number(view, "low")? <= -1e4, "the number does not hide a score")
}

fn numbers_are_causal(view: View<'_>, m: &Found<'_, '_>) -> Result<(), Refusal> {
    let (queries, keys) = sequences(view, m)?;
    let all =
        matches!((queries, keys), (Some(q), Some(k)) if is_causal_numbers(view, m.value("mask")?, q, k));
    require(all, "the constant is no causal mask")
}

/// [B, S, H, D] as [B, S, H D].
fn merged(view: View<'_>, x: ValueId) -> Result<Vec<Dim>, Refusal> {
    match view.shape(x) {
        [b, s, rest @ ..] if rest.len() == 2 => Ok(vec![b.clone(), s.clone(), product(rest)?]),
        _ => Err(Refusal::Because("no [B, S, H, D]".into())),
    }
}

fn with_flat(e: &mut Editor<'_>, m: &Found<'_, '_>, name: &str, slot: usize) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let op = op(view, m)?;
    let x = m.value(name)?;
    let shape = merged(view, x)?;
    let mut operands = [Some(m.value("q")?), Some(m.value("k")?), Some(m.value("v")?), m.optional("mask")];
    e.build(m.label, |b| {
        let flat = b.reshape(x, &shape)?;
        if let Some(operand) = operands.get_mut(slot) {
            *operand = Some(flat);
        }
        Ok(insert(b, op, &operands)?)
    })
}

fn flat_k(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    with_flat(e, m, "k", 1)
}

fn flat_v(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    with_flat(e, m, "v", 2)
}

fn flat_q(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    with_flat(e, m, "q", 0)
}

/// The same where the heads are not merged right after.
fn flat_result(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let shape = view.shape(m.value("o")?).to_vec();
    let y = with_flat(e, m, "q", 0)?;
    e.build(m.label, |b| Ok(b.reshape(y, &shape)?))
}

fn head_mask(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (p, f, v) = (m.value("p")?, m.value("f")?, m.value("v")?);
    let product = m.op(view, "o", |o| if let Op::FusedMatMul(f) = o { Some(f) } else { None })?;
    let rank = view.rank(v);
    require(view.rank(f) == rank && rank >= 3, "the factor has another rank")?;
    require(view.shape(f).iter().skip(rank - 2).all(|d| d.is(1)), "the factor differs within a head")?;
    e.build(m.label, |b| {
        let v = b.mul(v, f)?;
        Ok(b.op(product, &[p, v])?)
    })
}

fn factor(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let attention = op(view, m)?;
    require(view.rank(m.value("f")?) == 0, "the factor has axes")?;
    let scale = attention.scale * m.number(view, "f")?;
    let operands = [Some(m.value("q")?), Some(m.value("k")?), Some(m.value("v")?), m.optional("mask")];
    e.build(m.label, |b| Ok(insert(b, Attention { scale, ..attention }, &operands)?))
}
