//! Numbers quantised and dequantised at once, as files with fake quantisation hold them: what stays is rounding and
//! limits. Integer products are not made here.

use crate::edit::Editor;
use crate::rule::{Found, Refusal, Rule, insert, require};
use crate::view::View;
use frit_ir::op::{AttrValue, Clip, Op};
use frit_ir::{DType, ValueId};

/// The table.
pub const RULES: &[Rule] = &[
    Rule::new("round_twice", "Round(Round+(?x)@r)", "?r", &["x: f32[2, 3] in -4..4"]),
    // Whole numbers within the integer type's range survive it.
    Rule::new(
        "quantise_and_back",
        "Cast(Cast+{to=?i}(Clip+(<Round+(?x) | Add+(Round+(?x), ?z:scalar)>)@c))@f",
        "?c",
        &["x: f32[2, 3] in -300..300; z = 3; i = u8; f.to = f32; c.min = 0.0; c.max = 255.0"],
    )
    .when(survives),
    // The zero point that is added before the limits is taken away after them.
    Rule::built(
        "zero_point_and_back",
        "Add(Clip(Add(Round+(?x)@r, ?z:scalar))@c, ?w:scalar)",
        without_zero_point,
        &["x: f32[2, 3] in -300..300; z = 3; w = -3; c.min = 0.0; c.max = 255.0"],
    ),
];

/// Largest integers whose sums f32 holds exactly.
const EXACT: f64 = (1 << 23) as f64;

fn clip(view: View<'_>, m: &Found<'_, '_>) -> Result<(f64, f64), Refusal> {
    let clip = m.op(view, "c", |o| if let Op::Clip(c) = o { Some(c) } else { None })?;
    match (clip.min, clip.max) {
        (Some(min), Some(max)) if whole(min) && whole(max) => Ok((min, max)),
        _ => Err(Refusal::Because("the limits are no whole numbers".into())),
    }
}

fn whole(x: f64) -> bool {
    x.fract() == 0.0 && x.abs() <= EXACT
}

fn survives(view: View<'_>, m: &Found<'_, '_>) -> Result<(), Refusal> {
    let (min, max) = clip(view, m)?;
    let (least, most) = match m.found.attr("i").and_then(DType::from_attr) {
        Some(DType::U8) => (0.0, 255.0),
        Some(DType::I8) => (-128.0, 127.0),
        Some(DType::U16) => (0.0, 65_535.0),
        Some(DType::I16) => (-32_768.0, 32_767.0),
        _ => return Err(Refusal::Because("no narrow integers between".into())),
    };
    require(least <= min && max <= most, "the limits exceed the integers")?;
    if m.optional("z").is_some() {
        require(whole(m.number(view, "z")?), "the zero point is no whole number")?;
    }
    let single = view.ty(m.value("c")?).is_some_and(|t| matches!(t.dtype, DType::F32 | DType::F64));
    require(single, "the numbers are not exact before they are integers")
}

fn without_zero_point(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (min, max) = clip(view, m)?;
    let (z, w, r) = (m.number(view, "z")?, m.number(view, "w")?, m.value("r")?);
    require(whole(z) && z == -w, "what is added is not taken away again")?;
    let single = view.ty(r).is_some_and(|t| matches!(t.dtype, DType::F32 | DType::F64));
    require(single, "the sums are not exact")?;
    let op = Clip { min: Some(min - z), max: Some(max - z) };
    e.build(m.label, |b| Ok(insert(b, op, &[Some(r)])?))
}
