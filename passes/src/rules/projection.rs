//! Projections of the same activations to query, key and value as one product, which reads them once. Single
//! products are in `linear.rs`.

use crate::edit::Editor;
use crate::rule::{Found, Refusal, Rule, insert, require};
use crate::view::View;
use frit_ir::op::{FusedMatMul, Op};
use frit_ir::{Dim, Tensor, ValueId};

/// The most bytes of weights that are joined into one.
const LARGEST: usize = 256 << 20;

/// The table.
pub const RULES: &[Rule] = &[
    Rule::built(
        "merged_qkv",
        "Attention(FusedMatMul{activation=none}(?x, ?wq:const, ?bq?)@q, FusedMatMul{activation=none}(?x, ?wk:const, ?bk?)@k,
                   FusedMatMul{activation=none}(?x, ?wv:const, ?bv?)@v, ?mask?)@a",
        |e, m| merge(e, m, &["q", "k", "v"]),
        &[
            "x: f32[batch, 3, 8]; wq: const f32[6, 8]; wk: const f32[6, 8]; wv: const f32[6, 8]; bq: const f32[6]; bk: const f32[6]; bv: const f32[6];
             q.trans_b = true; k.trans_b = true; v.trans_b = true; mask: none; a.q_heads = 2; a.kv_heads = 2; a.scale = 0.5",
            "x: f32[batch, 3, 8]; wq: const f32[8, 6]; wk: const f32[8, 6]; wv: const f32[8, 4]; bq: const f32[6]; bk: none; bv: const f32[4];
             mask: f32[1, 1, 1, 3]; a.q_heads = 2; a.kv_heads = 2; a.scale = 0.5",
        ],
    ),
    Rule::built(
        "merged_kv",
        "Attention(?query, FusedMatMul{activation=none}(?x, ?wk:const, ?bk?)@k, FusedMatMul{activation=none}(?x, ?wv:const, ?bv?)@v, ?mask?)@a",
        |e, m| merge(e, m, &["k", "v"]),
        &["query: f32[batch, 2, 6]; x: f32[batch, 3, 8]; wk: const f32[6, 8]; wv: const f32[6, 8]; bk: none; bv: none;
           k.trans_b = true; v.trans_b = true; mask: none; a.q_heads = 2; a.kv_heads = 2; a.scale = 0.5"],
    ),
];

struct Part {
    weight: ValueId,
    bias: Option<ValueId>,
    width: Dim,
    op: FusedMatMul,
}

fn part(view: View<'_>, m: &Found<'_, '_>, name: &str) -> Result<Part, Refusal> {
    let value = m.value(name)?;
    let op = m.op(view, name, |o| if let Op::FusedMatMul(f) = o { Some(f) } else { None })?;
    let weight = m.value(&format!("w{name}"))?;
    let bias = m.optional(&format!("b{name}"));
    require(view.rank(weight) == 2, "a weight is no matrix")?;
    require(bias.is_none_or(|b| view.rank(b) == 1 && view.is_const(b)), "a bias is no constant row")?;
    let width = view.shape(value).last().cloned().unwrap_or_default();
    Ok(Part { weight, bias, width, op })
}

/// One product over the weights side by side, and its parts in the places of the former ones.
fn merge(e: &mut Editor<'_>, m: &Found<'_, '_>, names: &[&str]) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let x = m.value("x")?;
    let parts = names.iter().map(|n| part(view, m, n)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = parts.first() else { return Err(Refusal::Because("nothing to merge".into())) };
    require(parts.iter().all(|p| p.op == first.op), "the products have different attributes")?;
    let sizes: Option<Vec<usize>> =
        parts.iter().map(|p| view.tensor(p.weight).map(|t| t.bytes().len())).collect();
    let Some(sizes) = sizes else { return Err(Refusal::Because("the weights are not known".into())) };
    require(
        sizes.iter().try_fold(0usize, |s, n| s.checked_add(*n)).is_some_and(|n| n <= LARGEST),
        "the weights are too large",
    )?;
    let op = first.op.clone();
    let dtype = view.ty(first.weight).map(|t| t.dtype).unwrap_or(frit_ir::DType::F32);
    let (attention, mut operands) = view
        .producer(m.value("a")?)
        .map(|(_, n)| (n.op.clone(), n.inputs.clone()))
        .ok_or_else(|| Refusal::Because("no attention".into()))?;
    let biased = parts.iter().any(|p| p.bias.is_some());
    let outputs_axis = if op.trans_b { 0 } else { 1 };
    let widths: Vec<Dim> = parts.iter().map(|p| p.width.clone()).collect();
    let last = i64::try_from(view.rank(m.value(names.first().copied().unwrap_or("k"))?)).unwrap_or(1) - 1;
    e.build(m.label, |b| {
        let weights: Vec<ValueId> = parts.iter().map(|p| p.weight).collect();
        let weight = b.concat(&weights, outputs_axis)?;
        let bias = if biased {
            let mut rows = Vec::with_capacity(parts.len());
            for p in &parts {
                rows.push(match (p.bias, p.width.as_fixed()) {
                    (Some(bias), _) => bias,
                    (None, Some(n)) => b.constant(Tensor::zeros(dtype, &[n])?)?,
                    (None, None) => return Err(Refusal::Because("a width is not fixed".into())),
                });
            }
            Some(b.concat(&rows, 0)?)
        } else {
            None
        };
        let product = insert(b, op, &[Some(x), Some(weight), bias])?;
        let cut = b.split(product, last, &widths)?;
        let slots = operands.iter_mut().skip(3 - names.len());
        for (slot, value) in slots.zip(cut) {
            *slot = Some(value);
        }
        Ok(insert(b, attention, &operands)?)
    })
}
