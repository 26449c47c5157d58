//! Transposes and reshapes merged, dropped and moved to where they meet others. Arithmetic is in `identity.rs`.

use super::shapes::{axes, inverse, is_identity, moves_only_ones, permutation};
use crate::edit::Editor;
use crate::rule::{Found, Refusal, Rule, require};
use crate::view::View;
use frit_ir::{Dim, ValueId};

/// The table. Transposes move toward the results, past elementwise ops, until they meet another or an op that takes
/// a transposed operand.
pub const RULES: &[Rule] = &[
    Rule::new("reshape_to_same", "Reshape{shape=?s}(?x)", "?x", &["x: f32[2, 3]; s = [2, 3]"]),
    Rule::new(
        "reshape_twice",
        "Reshape{shape=?s}(Reshape+(?x)@r)",
        "Reshape{shape=?s}(?x)",
        &["x: f32[4, 3]; r.shape = [2, 6]; s = [2, 2, 3]"],
    ),
    Rule::new("transpose_nothing", "Transpose{perm=?p}(?x)", "?x", &["x: f32[2, 3]; p = [0, 1]"])
        .when(permutes_nothing),
    Rule::built(
        "transpose_twice",
        "Transpose{perm=?p}(Transpose{perm=?q}(?x))",
        compose,
        &["x: f32[2, 3, 4]; p = [1, 2, 0]; q = [0, 2, 1]", "x: f32[2, 3, 4]; p = [1, 2, 0]; q = [2, 0, 1]"],
    ),
    Rule::built(
        "transpose_back",
        "Transpose{perm=?p}(Transpose+{perm=?q}(?x))",
        undo,
        &["x: f32[2, 3, 4]; p = [1, 2, 0]; q = [2, 0, 1]"],
    ),
    Rule::built(
        "transpose_of_ones",
        "Transpose{perm=?p}(?x)",
        as_reshape,
        &["x: f32[batch, 1, 4]; p = [1, 0, 2]", "x: f32[2, 1, 3, 1]; p = [1, 0, 3, 2]"],
    ),
    Rule::built(
        "transpose_without_ones",
        "Transpose{perm=?p}(?x)",
        without_ones,
        &[
            "x: f32[5, 1, 3, 4]; p = [1, 2, 0, 3]",
            "x: f32[1, 3, 5, 4]; p = [2, 0, 1, 3]",
            "x: f32[2, 5, 1, 3, 4]; p = [2, 0, 3, 1, 4]",
        ],
    ),
    Rule::new(
        "transpose_after_map",
        "%map(Transpose{perm=?p}(?x))@m",
        "Transpose{perm=?p}(%m(?x))",
        &["x: f32[2, 3, 4] in 0.5..2; p = [0, 2, 1]"],
    ),
    Rule::new(
        "transpose_after_zip",
        "%zip(Transpose{perm=?p}(?x), Transpose{perm=?p}(?y))@m",
        "Transpose{perm=?p}(%m(?x, ?y))",
        &["x: f32[2, 3, 4]; y: f32[2, 1, 4] in 0.5..2; p = [0, 2, 1]"],
    ),
    Rule::built(
        "transpose_after_factor",
        "Mul(Transpose{perm=?p}(?x), ?y)",
        past_factor,
        &["x: f32[2, 5, 3, 4]; y: f32[1, 3, 1, 1]; p = [0, 2, 1, 3]"],
    ),
];

fn permutes_nothing(_: View<'_>, m: &Found<'_, '_>) -> Result<(), Refusal> {
    require(is_identity(&permutation(m.found.attr("p"))?), "it moves axes")
}

fn composed(m: &Found<'_, '_>) -> Result<Vec<usize>, Refusal> {
    let (p, q) = (permutation(m.found.attr("p"))?, permutation(m.found.attr("q"))?);
    Ok(p.iter().filter_map(|&i| q.get(i).copied()).collect())
}

fn compose(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let (x, perm) = (m.value("x")?, composed(m)?);
    if is_identity(&perm) {
        return Ok(x);
    }
    e.build(m.label, |b| Ok(b.transpose(x, &axes(&perm))?))
}

/// Two that cancel, also where the first has other uses.
fn undo(_: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    require(is_identity(&composed(m)?), "they do not cancel")?;
    m.value("x")
}

/// Moving axes of extent 1 moves no element.
fn as_reshape(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (x, perm) = (m.value("x")?, permutation(m.found.attr("p"))?);
    require(moves_only_ones(&perm, view.shape(x)), "it moves elements")?;
    let shape = view.shape(m.root(view)?).to_vec();
    e.build(m.label, |b| Ok(b.reshape(x, &shape)?))
}

/// Axes of extent 1 stand anywhere; here one of them comes first and stays there, as that of a batch does.
fn without_ones(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (x, perm) = (m.value("x")?, permutation(m.found.attr("p"))?);
    let shape = view.shape(x);
    let wide = |axis: &usize| shape.get(*axis).is_some_and(|d| !d.is(1));
    let kept: Vec<usize> = (0..shape.len()).filter(wide).collect();
    require(kept.len() < shape.len(), "no axis has extent 1")?;
    let settled = kept.len() + 1 == shape.len() && kept.first() == Some(&1) && perm.first() == Some(&0);
    require(!settled && !moves_only_ones(&perm, shape), "it is in that form")?;
    let place = |axis: &usize| kept.iter().position(|k| k == axis).map(|i| i + 1);
    let turned: Vec<usize> = std::iter::once(0).chain(perm.iter().filter_map(place)).collect();
    let mut flat = vec![Dim::constant(1)];
    flat.extend(kept.iter().filter_map(|&i| shape.get(i).cloned()));
    let result = view.shape(m.root(view)?).to_vec();
    e.build(m.label, |b| {
        let x = b.reshape(x, &flat)?;
        let x = b.transpose(x, &axes(&turned))?;
        Ok(b.reshape(x, &result)?)
    })
}

/// A factor that varies along one axis at most is transposed by reshaping it.
fn past_factor(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (x, y, perm) = (m.value("x")?, m.value("y")?, permutation(m.found.attr("p"))?);
    let shape = view.shape(y);
    require(shape.len() == perm.len(), "the factor has another rank")?;
    require(shape.iter().filter(|d| !d.is(1)).count() <= 1, "the factor varies along several axes")?;
    let turned: Vec<_> = inverse(&perm).into_iter().filter_map(|i| shape.get(i).cloned()).collect();
    e.build(m.label, |b| {
        let y = b.reshape(y, &turned)?;
        let product = b.mul(x, y)?;
        Ok(b.transpose(product, &axes(&perm))?)
    })
}
