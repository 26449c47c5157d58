//! Parts of values: gathers of neighbours as slices, and slices moved before the transposes and reshapes that they
//! look through. Transposes among themselves are in `layout.rs`.

use super::shapes::{axes, permutation};
use crate::edit::Editor;
use crate::rule::{Found, Refusal, Rule, insert, require};
use crate::view::View;
use frit_ir::op::{Attr, Op, Slice};
use frit_ir::types::{product, resolve_axis, same_shape};
use frit_ir::{Dim, ValueId};

/// The table.
pub const RULES: &[Rule] = &[
    Rule::built(
        "gather_neighbours",
        "Gather{axis=?axis}(?x, ?i:const)",
        neighbours,
        &["x: f32[batch, 5, 3]; i = [1, 2, 3]; axis = 1"],
    ),
    Rule::built(
        "slice_before_transpose",
        "Slice(Transpose+{perm=?p}(?x))@s",
        before_transpose,
        &[
            "x: f32[2, 4, 3]; p = [1, 2, 0]; s.axes = [0, -1]; s.starts = [1, 0]; s.ends = [3, 1]; s.steps = [1, 1]",
        ],
    ),
    // One of several projections that were computed side by side, taken by its index.
    Rule::built(
        "slice_before_reshape",
        "Reshape{shape=?to}(Slice(Reshape+(?x)@r)@s)@o",
        before_reshape,
        &[
            "x: f32[2, 4, 18]; r.shape = [2, 4, 3, 2, 3]; s.axes = [2]; s.starts = [1]; s.ends = [2]; s.steps = [1]; to = [2, 4, 6]",
        ],
    ),
];

fn attributes(view: View<'_>, m: &Found<'_, '_>) -> Result<Slice, Refusal> {
    m.op(view, "s", |o| if let Op::Slice(s) = o { Some(s) } else { None })
}

fn neighbours(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (x, i) = (m.value("x")?, m.value("i")?);
    let Some(t) = view.tensor(i).filter(|t| t.shape().len() == 1 && !t.is_empty()) else {
        return Err(Refusal::Because("the indices are no known list".into()));
    };
    let Some(&Attr::Int(axis)) = m.found.attr("axis") else {
        return Err(Refusal::Because("no axis".into()));
    };
    let indices = t.to_i64_vec();
    let first = indices.first().copied().unwrap_or(-1);
    let end = i64::try_from(indices.len()).ok().and_then(|n| first.checked_add(n));
    let Some(end) = end.filter(|_| first >= 0) else {
        return Err(Refusal::Because("the indices count from the end".into()));
    };
    require(indices.iter().copied().eq(first..end), "the indices are no neighbours")?;
    let extent = resolve_axis(axis, view.rank(x)).and_then(|a| view.shape(x).get(a)?.as_const());
    require(extent.is_some_and(|n| end <= n), "the indices may lie outside")?;
    e.build(m.label, |b| Ok(b.slice_axis(x, axis, &Dim::constant(first), &Dim::constant(end))?))
}

fn before_transpose(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (x, perm) = (m.value("x")?, permutation(m.found.attr("p"))?);
    let mut slice = attributes(view, m)?;
    for axis in &mut slice.axes {
        let from = resolve_axis(*axis, perm.len()).and_then(|a| perm.get(a));
        *axis = from
            .and_then(|&a| i64::try_from(a).ok())
            .ok_or_else(|| Refusal::Because("no such axis".into()))?;
    }
    e.build(m.label, |b| {
        let part = insert(b, slice, &[Some(x)])?;
        Ok(b.transpose(part, &axes(&perm))?)
    })
}

/// Index `i` of the axis that the reshape makes first of the last one of `x` is a run of that axis.
fn before_reshape(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let x = m.value("x")?;
    let slice = attributes(view, m)?;
    let (from, to) = (view.shape(x), view.shape(m.value("r")?));
    let part = view.shape(m.value("s")?);
    let result = view.shape(m.value("o")?).to_vec();
    let last = from.len().saturating_sub(1);
    let ([axis], [start], [end], [1]) =
        (slice.axes.as_slice(), slice.starts.as_slice(), slice.ends.as_slice(), slice.steps.as_slice())
    else {
        return Err(Refusal::Because("several axes are cut, or with steps".into()));
    };
    require(resolve_axis(*axis, to.len()) == Some(last), "another axis than the first of the last is cut")?;
    require(part.get(last).is_some_and(|d| d.is(1)), "more than one index is taken")?;
    let split = from.get(..last).zip(to.get(..last)).is_some_and(|(a, b)| same_shape(a, b));
    require(split, "the reshape does more than split the last axis")?;
    let inner = product(to.get(last + 1..).unwrap_or(&[]))?;
    let (start, end) = (start.mul(&inner)?, end.mul(&inner)?);
    let axis = i64::try_from(last).unwrap_or(0);
    e.build(m.label, |b| {
        let run = b.slice_axis(x, axis, &start, &end)?;
        Ok(b.reshape(run, &result)?)
    })
}
