//! Arithmetic that changes nothing or has a simpler form. Moving axes is in `layout.rs`.
//!
//! A replacement of another type is refused, so a rule such as `Cast(?x) => ?x` fires on casts to the type that the
//! value has, and no others.

use crate::edit::Editor;
use crate::rule::{Found, Refusal, Rule, require};
use crate::view::View;
use frit_ir::op::{Attr, BinaryFn};
use frit_ir::{DType, Tensor, ValueId};

/// The table.
pub const RULES: &[Rule] = &[
    Rule::new("add_zero", "Add(?x, 0)", "?x", &["x: f32[batch, 3]", "x: i64[3]"]),
    Rule::new("sub_zero", "Sub(?x, 0)", "?x", &["x: f32[2, 3]"]),
    Rule::new("mul_one", "Mul(?x, 1)", "?x", &["x: f32[batch, 3]"]),
    Rule::new("div_one", "Div(?x, 1)", "?x", &["x: f32[2, 3]"]),
    Rule::new("neg_neg", "Neg(Neg(?x))", "?x", &["x: f32[2, 3]"]),
    Rule::new("not_not", "Not(Not(?x))", "?x", &["x: bool[2, 3]"]),
    Rule::new("sub_neg", "Sub(?x, Neg(?y))", "Add(?x, ?y)", &["x: f32[2, 3]; y: f32[3]"]),
    Rule::new("add_neg", "Add(?x, Neg(?y))", "Sub(?x, ?y)", &["x: f32[2, 3]; y: f32[3]"]),
    Rule::built("sub_constant", "Sub(?x, ?c:scalar)", sub_constant, &["x: f32[2, 3]; c = 0.75"]),
    Rule::built("div_power_of_two", "Div(?x, ?c:scalar)", div_power_of_two, &["x: f32[2, 3]; c = 8"]),
    Rule::new(
        "mul_reciprocal",
        "Mul(?x, Reciprocal(?y))",
        "Div(?x, ?y)",
        &["x: f32[2, 3]; y: f32[3] in 0.5..2"],
    ),
    Rule::new("mul_one_over", "Mul(?x, Div(1, ?y))", "Div(?x, ?y)", &["x: f32[2, 3]; y: f32[3] in 0.5..2"]),
    Rule::new("pow_one", "Pow(?x, 1)", "?x", &["x: f32[2, 3]"]),
    Rule::new("pow_two", "Pow(?x, 2)", "Mul(?x, ?x)", &["x: f32[2, 3]"]),
    Rule::new("pow_three", "Pow(?x, 3)", "Mul(Mul(?x, ?x), ?x)", &["x: f32[2, 3]"]),
    Rule::new("pow_half", "Pow(?x, 0.5)", "Sqrt(?x)", &["x: f32[2, 3] in 0.5..2"]),
    Rule::new("pow_minus_half", "Pow(?x, -0.5)", "Reciprocal(Sqrt(?x))", &["x: f32[2, 3] in 0.5..2"]),
    Rule::new("pow_minus_one", "Pow(?x, -1)", "Reciprocal(?x)", &["x: f32[2, 3] in 0.5..2"]),
    Rule::new("cast_to_same", "Cast{to=?t}(?x)", "?x", &["x: f32[2, 3]; t = f32"]),
    Rule::new(
        "cast_twice",
        "Cast(Cast{to=?a}(?x))@c",
        "Cast{*c}(?x)",
        &["x: bool[2, 3]; a = i64; c.to = f32", "x: f32[2, 3]; a = f64; c.to = i64"],
    )
    .when(first_cast_keeps_everything),
    Rule::new("expand_to_same", "Expand{shape=?s}(?x)", "?x", &["x: f32[2, 3]; s = [2, 3]"]),
    Rule::new("tile_once", "Tile{repeats=?r}(?x)", "?x", &["x: f32[2, 3]; r = [1, 1]"]),
    Rule::new(
        "slice_all",
        "Slice{axes=?a, starts=?s, ends=?e, steps=?d}(?x)",
        "?x",
        &["x: f32[2, 3]; a = [1]; s = [0]; e = [3]; d = [1]"],
    )
    .when(steps_forward),
    Rule::new("pad_nothing", "Pad{before=?b, after=?a}(?x)", "?x", &["x: f32[2, 3]; b = [0, 0]; a = [0, 0]"]),
    Rule::new("concat_one", "Concat{axis=?a}(?x)", "?x", &["x: f32[2, 3]; a = 1"]),
    Rule::new("split_in_one", "Split{axis=?a, sizes=?s}(?x)", "?x", &["x: f32[2, 3]; a = 1; s = [3]"]),
    Rule::new(
        "where_swapped",
        "Where(Not(?c), ?x, ?y)",
        "Where(?c, ?y, ?x)",
        &["c: bool[2, 3]; x: f32[2, 3]; y: f32[3]"],
    ),
    Rule::new("where_always", "Where(1, ?x, ?y)", "?x", &["x: f32[2, 3]; y: f32[3]"]),
    Rule::new("where_never", "Where(0, ?x, ?y)", "?y", &["x: f32[3]; y: f32[2, 3]"]),
    Rule::new("where_either", "Where(?c, ?x, ?x)", "?x", &["c: bool[3]; x: f32[2, 3]"]),
];

/// x - c as x + (-c): sums commute, so one form serves every rule. Unsigned numbers have no negative.
fn sub_constant(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let (x, c) = (m.value("x")?, m.value("c")?);
    let view = View { graph: e.graph(), weights: e.weights() };
    let Some(t) = view.tensor(c) else { return Err(Refusal::Because("?c has no numbers".into())) };
    let signed =
        t.dtype().is_float() || matches!(t.dtype(), DType::I8 | DType::I16 | DType::I32 | DType::I64);
    require(signed, "the type has no negative numbers")?;
    let minus: Vec<f64> = t.to_f64_vec().into_iter().map(|v| -v).collect();
    let minus = Tensor::from_f64(t.dtype(), t.shape(), &minus)?;
    e.build(m.label, |b| {
        let c = b.constant(minus)?;
        Ok(b.add(x, c)?)
    })
}

/// x / 2^n as a product, which is exact.
fn div_power_of_two(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let (x, c) = (m.value("x")?, m.value("c")?);
    let view = View { graph: e.graph(), weights: e.weights() };
    let number = m.number(view, "c")?;
    let Some(t) = view.tensor(c) else { return Err(Refusal::Because("?c has no numbers".into())) };
    require(t.dtype().is_float(), "integers do not divide by products")?;
    let mantissa = number.to_bits() & ((1 << 52) - 1);
    let exact = number.is_normal() && mantissa == 0 && (-60.0..=60.0).contains(&number.abs().log2());
    require(exact, "1 / ?c is not exact")?;
    let inverse = Tensor::from_f64(t.dtype(), t.shape(), &vec![number.recip(); t.len()])?;
    e.build(m.label, |b| {
        let c = b.constant(inverse)?;
        Ok(b.binary(BinaryFn::Mul, x, c)?)
    })
}

/// The first of two casts loses nothing: from bool, or from a float to one with more of everything.
fn first_cast_keeps_everything(view: View<'_>, m: &Found<'_, '_>) -> Result<(), Refusal> {
    let from = view.ty(m.value("x")?).map(|t| t.dtype);
    let Some(Attr::DType(to)) = m.found.attr("a") else { return Err(Refusal::Because("no type".into())) };
    let keeps = match (from, *to) {
        (Some(DType::Bool), _) => true,
        (Some(DType::F16 | DType::BF16), DType::F32 | DType::F64) | (Some(DType::F32), DType::F64) => true,
        (Some(DType::I8 | DType::I16 | DType::I32 | DType::U8 | DType::U16 | DType::U32), DType::I64) => true,
        (Some(from), to) => from == to,
        _ => false,
    };
    require(keeps, "the first cast loses something")
}

fn steps_forward(_: View<'_>, m: &Found<'_, '_>) -> Result<(), Refusal> {
    match m.found.attr("d") {
        Some(Attr::Ints(steps)) => require(steps.iter().all(|&s| s == 1), "it strides"),
        _ => Ok(()),
    }
}
