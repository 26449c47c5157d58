//! Matrix products with what stands around them: transposed operands, scale, bias, activation, residual. Products of
//! attention scores are in `scores.rs`.

use super::shapes::{axes, is_identity, permutation, require_narrow, row};
use crate::edit::Editor;
use crate::rule::{Found, Refusal, Rule, insert, require};
use crate::view::View;
use frit_ir::op::{FusedMatMul, Op};
use frit_ir::types::same_shape;
use frit_ir::{Dim, ValueId};

/// Products into the form that takes the rest, and transposes into products.
pub const LOWER: &[Rule] = &[
    Rule::new(
        "matmul",
        "MatMul(?a, ?b)",
        "FusedMatMul(?a, ?b)",
        &["a: f32[batch, 3, 4]; b: const f32[4, 5]"],
    ),
    Rule::built(
        "matmul_transposed_b",
        "FusedMatMul(?a, Transpose+{perm=?p}(?b), ..)@m",
        transposed_b,
        &[
            "a: f32[2, 3, 4]; b: const f32[5, 4]; p = [1, 0]",
            "a: f32[2, 3, 4, 5]; b: f32[2, 6, 3, 5]; p = [0, 2, 3, 1]",
        ],
    ),
    Rule::built(
        "matmul_transposed_a",
        "FusedMatMul(Transpose{perm=?p}(?a), ?b, ..)@m",
        transposed_a,
        &["a: f32[2, 4, 3]; b: f32[2, 4, 5]; p = [0, 2, 1]"],
    ),
];

const BIASED: &str = "a: f32[batch, 3, 4]; b: const f32[5, 4]; bias: const f32[5]; m.trans_b = true";
const PLAIN: &str = "a: f32[batch, 3, 4]; b: const f32[4, 5]; bias: none";

/// What a product takes into itself.
pub const RULES: &[Rule] = &[
    Rule::new(
        "linear_rows",
        "Reshape{shape=?s}(FusedMatMul{trans_a=false}(Reshape(?x)@i, ?b, ?bias?)@m)",
        "FusedMatMul{*m}(?x, ?b, ?bias?)",
        &["x: f32[2, 3, 4]; i.shape = [6, 4]; b: const f32[4, 5]; bias: const f32[5]; s = [2, 3, 5]"],
    )
    .when(reshapes_rows),
    Rule::built(
        "linear_bias",
        "Add(FusedMatMul{activation=none}(?a, ?b)@m, ?bias)",
        bias,
        &[
            "a: f32[batch, 3, 4]; b: const f32[5, 4]; bias: const f32[5]; m.trans_b = true; m.alpha = 0.5",
            "a: f32[3, 4]; b: f32[4, 5]; bias: f32[1, 5]",
        ],
    ),
    Rule::built(
        "linear_bias_twice",
        "Add(FusedMatMul{activation=none}(?a, ?b, ?bias:const)@m, ?c:const)",
        bias_twice,
        &["a: f32[batch, 3, 4]; b: const f32[4, 5]; bias: const f32[5]; c: const f32[5]"],
    ),
    Rule::built(
        "linear_scale",
        "Mul(FusedMatMul{activation=none}(?a, ?b, ?bias?)@m, ?s:scalar)",
        scale,
        &[
            "a: f32[batch, 3, 4]; b: const f32[5, 4]; bias: const f32[5]; m.trans_b = true; s = 0.125",
            "a: f32[batch, 3, 4]; b: f32[4, 5]; bias: none; s = 3",
        ],
    ),
    Rule::built(
        "linear_divide",
        "Div(FusedMatMul{activation=none}(?a, ?b, ?bias?)@m, ?s:scalar)",
        scale,
        &["a: f32[batch, 3, 4]; b: const f32[5, 4]; bias: const f32[5]; m.trans_b = true; s = 8"],
    ),
    // Layer scale: a factor of every output feature goes into the weights.
    Rule::built(
        "linear_gain",
        "Mul(FusedMatMul{activation=none}(?a, ?b:const, ?bias?)@m, ?g:const)",
        gain,
        &[
            "a: f32[batch, 3, 4]; b: const f32[5, 4]; bias: const f32[5]; m.trans_b = true; g: const f32[5]",
            "a: f32[batch, 3, 4]; b: const f32[4, 5]; bias: none; g: const f32[1, 5]",
        ],
    ),
    Rule::new(
        "linear_relu",
        "Relu(FusedMatMul{activation=none}(?a, ?b, ?bias?)@m)",
        "FusedMatMul{*m, activation=relu}(?a, ?b, ?bias?)",
        &[BIASED, PLAIN],
    ),
    Rule::new(
        "linear_gelu",
        "Gelu{approximate=none}(FusedMatMul{activation=none}(?a, ?b, ?bias?)@m)",
        "FusedMatMul{*m, activation=gelu}(?a, ?b, ?bias?)",
        &[BIASED, PLAIN],
    ),
    Rule::new(
        "linear_gelu_tanh",
        "Gelu{approximate=tanh}(FusedMatMul{activation=none}(?a, ?b, ?bias?)@m)",
        "FusedMatMul{*m, activation=gelu_tanh}(?a, ?b, ?bias?)",
        &[BIASED, PLAIN],
    ),
    Rule::new(
        "linear_quick_gelu",
        "Swish{alpha=1.702}(FusedMatMul{activation=none}(?a, ?b, ?bias?)@m)",
        "FusedMatMul{*m, activation=quick_gelu}(?a, ?b, ?bias?)",
        &[BIASED, PLAIN],
    ),
    Rule::new(
        "linear_silu",
        "Swish{alpha=1}(FusedMatMul{activation=none}(?a, ?b, ?bias?)@m)",
        "FusedMatMul{*m, activation=silu}(?a, ?b, ?bias?)",
        &[BIASED, PLAIN],
    ),
    Rule::new(
        "linear_tanh",
        "Tanh(FusedMatMul{activation=none}(?a, ?b, ?bias?)@m)",
        "FusedMatMul{*m, activation=tanh}(?a, ?b, ?bias?)",
        &[BIASED, PLAIN],
    ),
    Rule::new(
        "linear_sigmoid",
        "Sigmoid(FusedMatMul{activation=none}(?a, ?b, ?bias?)@m)",
        "FusedMatMul{*m, activation=sigmoid}(?a, ?b, ?bias?)",
        &[BIASED, PLAIN],
    ),
];

/// Sums behind a product, left over by the normalisations that take theirs first.
pub const RESIDUAL: &[Rule] = &[Rule::built(
    "linear_residual",
    "Add(FusedMatMul(?a, ?b, ?bias?)@m, ?residual)",
    residual,
    &[
        "a: f32[batch, 3, 4]; b: const f32[5, 4]; bias: const f32[5]; m.trans_b = true; m.activation = gelu; residual: f32[batch, 3, 5]",
        "a: f32[batch, 3, 4]; b: const f32[4, 5]; bias: none; residual: f32[batch, 3, 5]",
    ],
)];

/// Products that took nothing are plain again.
pub const TIDY: &[Rule] = &[Rule::new(
    "plain_matmul",
    "FusedMatMul{trans_a=false, trans_b=false, alpha=1, activation=none}(?a, ?b)",
    "MatMul(?a, ?b)",
    &["a: f32[batch, 3, 4]; b: const f32[4, 5]"],
)];

fn product(view: View<'_>, m: &Found<'_, '_>) -> Result<FusedMatMul, Refusal> {
    m.op(view, "m", |o| if let Op::FusedMatMul(f) = o { Some(f) } else { None })
}

/// The permutation with its last two axes exchanged.
fn swap_last(perm: &[usize]) -> Option<Vec<usize>> {
    let mut out = perm.to_vec();
    let n = out.len();
    out.swap(n.checked_sub(2)?, n.checked_sub(1)?);
    Some(out)
}

/// What remains of a transpose that puts the last two axes in falling order, once the product exchanges them.
fn absorbed(m: &Found<'_, '_>) -> Result<Vec<usize>, Refusal> {
    let perm = permutation(m.found.attr("p"))?;
    let [.., row, column] = perm.as_slice() else {
        return Err(Refusal::Because("fewer than two axes".into()));
    };
    require(row > column, "the last two axes keep their order")?;
    swap_last(&perm).ok_or_else(|| Refusal::Because("fewer than two axes".into()))
}

fn transposed_b(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (rest, op) = (absorbed(m)?, product(view, m)?);
    let mut operands = operands_of(view, m)?;
    let b_operand = m.value("b")?;
    e.build(m.label, |b| {
        let moved = if is_identity(&rest) { b_operand } else { b.transpose(b_operand, &axes(&rest))? };
        if let Some(slot) = operands.get_mut(1) {
            *slot = Some(moved);
        }
        Ok(insert(b, FusedMatMul { trans_b: !op.trans_b, ..op }, &operands)?)
    })
}

fn transposed_a(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (rest, op) = (absorbed(m)?, product(view, m)?);
    require(is_identity(&rest), "more than the last two axes move")?;
    let mut operands = operands_of(view, m)?;
    if let Some(slot) = operands.first_mut() {
        *slot = Some(m.value("a")?);
    }
    e.build(m.label, |b| Ok(insert(b, FusedMatMul { trans_a: !op.trans_a, ..op }, &operands)?))
}

fn operands_of(view: View<'_>, m: &Found<'_, '_>) -> Result<Vec<Option<ValueId>>, Refusal> {
    let node = view.producer(m.value("m")?);
    Ok(node.map(|(_, n)| n.inputs.clone()).unwrap_or_default())
}

/// Both reshapes only cut the rows differently; the replacement's type says that the result has its former shape.
fn reshapes_rows(view: View<'_>, m: &Found<'_, '_>) -> Result<(), Refusal> {
    let (x, rows) = (m.value("x")?, m.value("i")?);
    require(view.rank(m.value("b")?) == 2, "the second factor is no matrix")?;
    let same_last =
        matches!((view.shape(x).last(), view.shape(rows).last()), (Some(a), Some(b)) if a.same(b));
    require(same_last, "the rows are reshaped too")?;
    match m.optional("bias") {
        Some(bias) => require(view.rank(bias) <= 1, "the bias differs by row"),
        None => Ok(()),
    }
}

/// The bias as one axis, when it is one row of the result's width.
fn as_row(view: View<'_>, m: &Found<'_, '_>, bias: ValueId) -> Result<Dim, Refusal> {
    let width = view.shape(m.value("m")?).last().cloned().unwrap_or_default();
    match row(view, bias) {
        Some(d) if d.same(&width) => Ok(d),
        _ => Err(Refusal::Because("the other summand is no row of the result's width".into())),
    }
}

fn bias(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (a, w, bias, op) = (m.value("a")?, m.value("b")?, m.value("bias")?, product(view, m)?);
    let width = as_row(view, m, bias)?;
    require(view.rank(bias) <= view.rank(m.value("m")?), "the bias has more axes")?;
    let flat = view.rank(bias) == 1;
    e.build(m.label, |b| {
        let bias = if flat { bias } else { b.reshape(bias, &[width])? };
        Ok(b.op(op, &[a, w, bias])?)
    })
}

fn bias_twice(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (a, w, bias, more, op) =
        (m.value("a")?, m.value("b")?, m.value("bias")?, m.value("c")?, product(view, m)?);
    let width = as_row(view, m, more)?;
    e.build(m.label, |b| {
        let more = b.reshape(more, &[width])?;
        let bias = b.add(bias, more)?;
        Ok(b.op(op, &[a, w, bias])?)
    })
}

/// A number times (or under) the product and its bias.
fn scale(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (a, w, s, op) = (m.value("a")?, m.value("b")?, m.value("s")?, product(view, m)?);
    let mut factor = m.number(view, "s")?;
    if m.found.root().and_then(|id| view.graph.node(id)).is_some_and(|n| n.op.name() == "Div") {
        require(factor != 0.0, "division by zero")?;
        factor = factor.recip();
    }
    require_narrow(view, s, view.rank(m.value("m")?))?;
    let bias = m.optional("bias");
    require(bias.is_none_or(|b| view.is_const(b) || view.rank(b) > 1), "the bias is no constant")?;
    e.build(m.label, |b| {
        let bias = match bias {
            Some(bias) => Some(b.mul_scalar(bias, factor)?),
            None => None,
        };
        Ok(insert(b, FusedMatMul { alpha: op.alpha * factor, ..op }, &[Some(a), Some(w), bias])?)
    })
}

fn gain(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (a, w, g, op) = (m.value("a")?, m.value("b")?, m.value("g")?, product(view, m)?);
    let width = as_row(view, m, g)?;
    let bias = m.optional("bias");
    let known = [Some(w), Some(g), bias].into_iter().flatten().all(|v| view.tensor(v).is_some());
    require(known, "the weights are not known")?;
    require(view.rank(w) == 2, "the weight is no matrix")?;
    e.build(m.label, |b| {
        let g = b.reshape(g, std::slice::from_ref(&width))?;
        let bias = match bias {
            Some(bias) => Some(b.mul(bias, g)?),
            None => None,
        };
        let along = if op.trans_b { b.reshape(g, &[width, Dim::constant(1)])? } else { g };
        let w = b.mul(w, along)?;
        Ok(insert(b, op, &[Some(a), Some(w), bias])?)
    })
}

fn residual(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (a, w, r, op) = (m.value("a")?, m.value("b")?, m.value("residual")?, product(view, m)?);
    require(same_shape(view.shape(r), view.shape(m.value("m")?)), "the other summand is broadcast")?;
    require(!view.is_const(r), "the other summand is a constant")?;
    let operands = [Some(a), Some(w), m.optional("bias"), Some(r)];
    e.build(m.label, |b| Ok(insert(b, op, &operands)?))
}
