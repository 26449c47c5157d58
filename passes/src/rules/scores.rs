//! What stands between query times key and the softmax, gathered into one product: scale, masks, biases. Making
//! attention of it is in `attention.rs`.

use super::causal::is_causal;
use crate::edit::Editor;
use crate::rule::{Found, Refusal, Rule, insert, require};
use crate::view::View;
use frit_ir::op::{FusedMatMul, Op};
use frit_ir::types::same_shape;
use frit_ir::{Dim, ValueId};

/// The table. Both factors are activations here; products with weights are in `linear.rs`.
pub const RULES: &[Rule] = &[
    // A factor of q or k, also one that stands before the heads are split, is a factor of the scores.
    Rule::new("factor_after_reshape", "Reshape{shape=?p}(Mul(?x, ?s:scalar))", "Mul(Reshape{shape=?p}(?x), ?s)", &[
        "x: f32[2, 3, 8]; p = [2, 3, 2, 4]; s = 0.125",
    ])
    .when(factor_has_no_axes),
    Rule::new(
        "factor_after_transpose",
        "Transpose{perm=?p}(Mul(?x, ?s:scalar))",
        "Mul(Transpose{perm=?p}(?x), ?s)",
        &["x: f32[2, 3, 8]; p = [0, 2, 1]; s = 0.125"],
    )
    .when(factor_has_no_axes),
    Rule::built("factor_of_q", "FusedMatMul{activation=none}(Mul(?q, ?s:scalar), ?k, ?mask?)@m", factor_of_operand, &[
        "q: f32[2, 3, 4, 5]; s = 0.125; k: f32[2, 3, 6, 5]; mask: f32[2, 1, 1, 6]; m.trans_b = true; m.alpha = 2",
    ]),
    Rule::built("factor_of_k", "FusedMatMul{activation=none}(?q, Mul(?k, ?s:scalar), ?mask?)@m", factor_of_operand, &[
        "q: f32[2, 3, 4, 5]; s = 0.125; k: f32[2, 3, 6, 5]; mask: none; m.trans_b = true; m.alpha = 2",
    ]),
    Rule::built(
        "factor_of_scores",
        "<Mul(FusedMatMul{activation=none}(?q, ?k, ?mask?)@m, ?s:scalar)
        | Div(FusedMatMul{activation=none}(?q, ?k, ?mask?)@m, ?s:scalar)>",
        factor_of_scores,
        &[
            "q: f32[2, 3, 4, 5]; k: f32[2, 3, 6, 5]; m.trans_b = true; m.alpha = 0.5; s = 8; mask: none",
            "q: f32[2, 3, 4, 5]; k: f32[2, 3, 6, 5]; m.trans_b = true; s = 8; mask: f32[2, 1, 1, 6]",
        ],
    ),
    Rule::new(
        "mask_of_scores",
        "Add(FusedMatMul{trans_b=true, activation=none}(?q, ?k)@m, ?mask)",
        "FusedMatMul{*m}(?q, ?k, ?mask)",
        &[
            "q: f32[2, 3, 4, 5]; k: f32[2, 3, 6, 5]; m.trans_b = true; m.alpha = 0.5; mask: f32[2, 1, 1, 6]",
            "q: f32[2, 3, 4, 5]; k: f32[2, 3, 6, 5]; m.trans_b = true; mask: f32[1, 3, 4, 6]",
        ],
    )
    .when(of_activations),
    Rule::new(
        "masks_of_scores",
        "Add(FusedMatMul{trans_b=true, activation=none}(?q, ?k, ?mask)@m, ?more)",
        "FusedMatMul{*m}(?q, ?k, Add(?mask, ?more))",
        &["q: f32[2, 3, 4, 5]; k: f32[2, 3, 6, 5]; m.trans_b = true; mask: f32[1, 3, 4, 6]; more: f32[2, 1, 1, 6]"],
    )
    .when(of_activations),
    Rule::new(
        "subtracted_mask",
        "Sub(FusedMatMul{trans_b=true, activation=none}(?q, ?k)@m, ?less)",
        "FusedMatMul{*m}(?q, ?k, Neg(?less))",
        &["q: f32[2, 3, 4, 5]; k: f32[2, 3, 6, 5]; m.trans_b = true; m.alpha = 0.5; less: f32[2, 1, 1, 6]"],
    )
    .when(of_activations),
    Rule::new(
        "subtracted_masks",
        "Sub(FusedMatMul{trans_b=true, activation=none}(?q, ?k, ?mask)@m, ?less)",
        "FusedMatMul{*m}(?q, ?k, Sub(?mask, ?less))",
        &["q: f32[2, 3, 4, 5]; k: f32[2, 3, 6, 5]; m.trans_b = true; mask: f32[1, 3, 4, 6]; less: f32[2, 1, 1, 6]"],
    )
    .when(of_activations),
    // A mask added where an axis of extent 1 stands before the scores, as windows of one image have it.
    Rule::built(
        "mask_of_reshaped_scores",
        "Add(Reshape(FusedMatMul{trans_b=true, activation=none}(?q, ?k, ?mask?)@m)@r, ?more)",
        mask_behind_ones,
        &[
            "q: f32[2, 3, 4, 5]; k: f32[2, 3, 6, 5]; m.trans_b = true; m.alpha = 0.5; mask: f32[1, 3, 4, 6]; r.shape = [1, 2, 3, 4, 6]; more: const f32[1, 2, 1, 4, 6]",
            "q: f32[2, 3, 4, 5]; k: f32[2, 3, 6, 5]; m.trans_b = true; mask: none; r.shape = [1, 2, 3, 4, 6]; more: f32[2, 1, 4, 6]",
        ],
    ),
    Rule::new("one_query_sees_all", "Where(?seen, ?x, ?low:scalar)", "?x", &[
        "x: f32[2, 3, 1, 4]; low = -1e9;
         seen := LessOrEqual(Reshape{shape=[1, 1, 1, 4]}(Range{start=0, limit=4}), Reshape{shape=[1, 1, 1, 1]}(Range{start=3, limit=4}))",
    ])
    .when(last_query_alone),
    // Scores replaced by the lowest number: the same as adding it, for it absorbs any score.
    Rule::new(
        "hidden_scores",
        "Where(?seen, FusedMatMul{trans_b=true, activation=none}(?q, ?k)@m, ?low:scalar)",
        "FusedMatMul{*m}(?q, ?k, Where(?seen, 0, ?low))",
        &["seen: bool[1, 1, 4, 6]; low = -3.4028234663852886e38; q: f32[2, 3, 4, 5]; k: f32[2, 3, 6, 5]; m.trans_b = true"],
    )
    .when(low_hides),
    Rule::new(
        "filled_scores",
        "Where(?hidden, ?low:scalar, FusedMatMul{trans_b=true, activation=none}(?q, ?k, ?mask?)@m)",
        "Where(Not(?hidden), ?m, ?low)",
        &["hidden: bool[2, 1, 1, 6]; low = -3.4028234663852886e38; q: f32[2, 3, 4, 5]; k: f32[2, 3, 6, 5]; mask: none; m.trans_b = true"],
    ),
    Rule::new(
        "expanded_mask",
        "FusedMatMul{trans_b=true}(?q, ?k, Expand+(?mask)@e)@m",
        "FusedMatMul{*m}(?q, ?k, ?mask)",
        &["q: f32[2, 3, 4, 5]; k: f32[2, 3, 6, 5]; m.trans_b = true; mask: f32[2, 1, 1, 6]; e.shape = [2, 1, 4, 6]"],
    ),
    // Heads merged into the batch, as torch's bmm needs them, taken apart again.
    Rule::built("batched_heads", "FusedMatMul{activation=none}(Reshape+(?q)@rq, Reshape+(?k)@rk)@m", unmerge_heads, &[
        "q: f32[2, 3, 4, 5]; k: f32[2, 3, 6, 5]; m.trans_b = true; rq.shape = [6, 4, 5]; rk.shape = [6, 6, 5]",
        "q: f32[2, 3, 4, 6]; k: f32[2, 3, 6, 5]; rq.shape = [6, 4, 6]; rk.shape = [6, 6, 5]",
    ]),
    Rule::new(
        "softmax_of_batched_heads",
        "Softmax{axis=-1}(Reshape{shape=?p}(?x)@r)",
        "Reshape{shape=?p}(Softmax{axis=-1}(?x))",
        &["x: f32[2, 3, 4, 5]; p = [6, 4, 5]"],
    )
    .when(rows_stay),
];

fn product(view: View<'_>, m: &Found<'_, '_>) -> Result<FusedMatMul, Refusal> {
    m.op(view, "m", |o| if let Op::FusedMatMul(f) = o { Some(f) } else { None })
}

fn factor_has_no_axes(view: View<'_>, m: &Found<'_, '_>) -> Result<(), Refusal> {
    require(view.rank(m.value("s")?) == 0, "the factor has axes")
}

/// Both factors are made by the graph and have a batch.
fn of_activations(view: View<'_>, m: &Found<'_, '_>) -> Result<(), Refusal> {
    let (q, k) = (m.value("q")?, m.value("k")?);
    require(!view.is_const(q) && !view.is_const(k), "one factor is a weight")?;
    require(view.rank(q) >= 3 && view.rank(k) >= 3, "the product has no batch")
}

fn factor_of_operand(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    of_activations(view, m)?;
    factor_has_no_axes(view, m)?;
    let (q, k, op) = (m.value("q")?, m.value("k")?, product(view, m)?);
    let alpha = op.alpha * m.number(view, "s")?;
    let operands = [Some(q), Some(k), m.optional("mask")];
    e.build(m.label, |b| Ok(insert(b, FusedMatMul { alpha, ..op }, &operands)?))
}

/// A number times (or under) the scores and the mask that they have so far.
fn factor_of_scores(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    of_activations(view, m)?;
    factor_has_no_axes(view, m)?;
    let (q, k, s, op) = (m.value("q")?, m.value("k")?, m.value("s")?, product(view, m)?);
    let number = m.number(view, "s")?;
    let divides = m.found.root().and_then(|id| view.graph.node(id)).is_some_and(|n| n.op.name() == "Div");
    require(!divides || number != 0.0, "division by zero")?;
    let alpha = if divides { op.alpha / number } else { op.alpha * number };
    let mask = m.optional("mask");
    e.build(m.label, |b| {
        let mask = match mask {
            Some(mask) if divides => Some(b.div(mask, s)?),
            Some(mask) => Some(b.mul(mask, s)?),
            None => None,
        };
        Ok(insert(b, FusedMatMul { alpha, ..op }, &[Some(q), Some(k), mask])?)
    })
}

/// Queries and keys of a value of scores.
fn extents(view: View<'_>, scores: ValueId) -> Result<(Dim, Dim), Refusal> {
    match view.shape(scores) {
        [.., q, k] => Ok((q.clone(), k.clone())),
        _ => Err(Refusal::Because("scores have two axes or more".into())),
    }
}

fn last_query_alone(view: View<'_>, m: &Found<'_, '_>) -> Result<(), Refusal> {
    let (queries, keys) = extents(view, m.value("x")?)?;
    require(queries.is(1), "there may be several queries")?;
    require(is_causal(view, m.value("seen")?, &queries, &keys), "the condition is no causal mask")
}

/// The number hides a score in softmax. Where a query may see no key at all only the lowest numbers do.
fn low_hides(view: View<'_>, m: &Found<'_, '_>) -> Result<(), Refusal> {
    of_activations(view, m)?;
    let low = m.number(view, "low")?;
    let (queries, keys) = extents(view, m.value("m")?)?;
    let causal = is_causal(view, m.value("seen")?, &queries, &keys);
    require(low <= -1e30 || (causal && low <= -1e4), "the number does not hide a score")
}

/// A summand of scores that were given more axes of extent 1 in front is one of the scores without them.
fn mask_behind_ones(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    of_activations(view, m)?;
    let (q, k, op) = (m.value("q")?, m.value("k")?, product(view, m)?);
    let (scores, more) = (view.shape(m.value("m")?), m.value("more")?);
    let shape = view.shape(m.value("r")?).to_vec();
    let ones = shape.len().saturating_sub(scores.len());
    let in_front = shape.iter().take(ones).all(|d| d.is(1));
    let same = shape.get(ones..).is_some_and(|rest| same_shape(rest, scores));
    require(in_front && same, "the reshape adds no axes in front")?;
    let own = view.shape(more);
    let surplus = own.len().saturating_sub(scores.len());
    require(own.iter().take(surplus).all(|d| d.is(1)), "the mask widens the scores")?;
    let narrow = own.get(surplus..).unwrap_or(&[]).to_vec();
    let mask = m.optional("mask");
    e.build(m.label, |b| {
        let more = b.reshape(more, &narrow)?;
        let mask = match mask {
            Some(mask) => b.add(mask, more)?,
            None => more,
        };
        let sum = insert(b, op, &[Some(q), Some(k), Some(mask)])?;
        Ok(b.reshape(sum, &shape)?)
    })
}

/// Refuses unless `merged` is [B H, S, D] of `x` [B, H, S, D].
fn require_merged(view: View<'_>, x: ValueId, merged: ValueId) -> Result<(), Refusal> {
    let fits = match (view.shape(x), view.shape(merged)) {
        ([_, _, s, d], [_, ms, md]) => s.same(ms) && d.same(md),
        _ => false,
    };
    require(fits, "not just heads are merged into the batch")
}

fn unmerge_heads(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (q, k, op) = (m.value("q")?, m.value("k")?, product(view, m)?);
    require_merged(view, q, m.value("rq")?)?;
    require_merged(view, k, m.value("rk")?)?;
    let same_heads = view.shape(q).iter().zip(view.shape(k)).take(2).all(|(a, b)| a.same(b));
    require(same_heads, "the factors have different batches or heads")?;
    let shape = view.shape(m.value("m")?).to_vec();
    e.build(m.label, |b| {
        let product = b.op(op, &[q, k])?;
        Ok(b.reshape(product, &shape)?)
    })
}

fn rows_stay(view: View<'_>, m: &Found<'_, '_>) -> Result<(), Refusal> {
    let (x, r) = (view.shape(m.value("x")?), view.shape(m.value("r")?));
    require(matches!((x.last(), r.last()), (Some(a), Some(b)) if a.same(b)), "the rows are reshaped")
}
