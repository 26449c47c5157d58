//! Einsum as transposes, products and sums, and determinants. Plain matrix products are in `matmul.rs`.

use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{BinaryFn, Det, ReduceFn};
use frit_ir::types::product;
use frit_ir::{DType, Dim, ValueId};

pub const ROWS: &[Row] = &[("", "Einsum", 12, einsum), ("", "Det", 11, det)];

fn det<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    Ok(vec![cx.emit(Det {}, &[n.tensor(0)?])?.into()])
}

/// A letter of the equation, or an axis that the ellipsis stands for, counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Rest(usize),
    Letter(char),
}

/// A value and the labels of its axes.
#[derive(Clone)]
struct Term {
    value: ValueId,
    labels: Vec<Label>,
}

impl Term {
    fn place(&self, label: Label) -> Option<usize> {
        self.labels.iter().position(|l| *l == label)
    }
}

/// Labels of one term; an ellipsis stands for `rest` axes.
fn labels(n: &NodeView<'_>, text: &str, rest: usize) -> Result<Vec<Label>> {
    let mut all = Vec::new();
    let parts: Vec<&str> = text.split("...").collect();
    for (i, part) in parts.iter().enumerate() {
        if i == 1 {
            all.extend((0..rest).rev().map(Label::Rest));
        }
        for c in part.chars() {
            match c {
                ' ' => {}
                c if c.is_ascii_alphabetic() => all.push(Label::Letter(c)),
                c => return Err(n.error(format!("equation: unexpected `{c}`"))),
            }
        }
    }
    if parts.len() > 2 { Err(n.error("equation: two ellipses in one term")) } else { Ok(all) }
}

fn einsum<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let equation = n.string("equation")?.ok_or_else(|| n.error("attribute `equation` is missing"))?;
    let (left, right) = match equation.split_once("->") {
        Some((l, r)) => (l, Some(r)),
        None => (equation, None),
    };
    let operands = n.tensors()?;
    let texts: Vec<&str> = left.split(',').collect();
    if texts.len() != operands.len() {
        return Err(n.error(format!(
            "equation `{equation}` is of {} operands, got {}",
            texts.len(),
            operands.len()
        )));
    }
    let mut terms = Vec::new();
    for (&value, text) in operands.iter().zip(&texts) {
        let rank = cx.rank(value)?;
        let letters = text.chars().filter(char::is_ascii_alphabetic).count();
        let rest = if text.contains("...") { rank.saturating_sub(letters) } else { 0 };
        let labels = labels(n, text, rest)?;
        if labels.len() != rank {
            return Err(n.error(format!("equation `{equation}`: term `{text}` of an operand of rank {rank}")));
        }
        terms.push(diagonals(cx, Term { value, labels })?);
    }
    let mut seen: Vec<Label> = terms.iter().flat_map(|t| t.labels.iter().copied()).collect();
    seen.sort_unstable();
    seen.dedup();
    let widest = seen.iter().filter(|l| matches!(l, Label::Rest(_))).count();
    let wanted = match right {
        Some(text) => labels(n, text, widest)?,
        None => {
            // Without a right side: the ellipsis, then letters that stand once, in alphabetical order.
            let once = |l: &Label| match l {
                Label::Rest(_) => false,
                Label::Letter(c) => left.matches(*c).count() == 1,
            };
            (0..widest).rev().map(Label::Rest).chain(seen.iter().copied().filter(once)).collect()
        }
    };
    if let Some(l) = wanted.iter().find(|l| !seen.contains(l) || wanted.iter().filter(|m| m == l).count() > 1)
    {
        return Err(n.error(format!("equation `{equation}`: {l:?} of the result stands nowhere, or twice")));
    }
    let mut terms = terms.into_iter();
    let mut all = terms.next().ok_or_else(|| n.error("no operands"))?;
    while let Some(next) = terms.next() {
        let later: Vec<Label> =
            terms.as_slice().iter().flat_map(|t| t.labels.iter()).chain(&wanted).copied().collect();
        all = multiply(cx, all, next, &later)?;
    }
    let all = sum_out(cx, all, |l| wanted.contains(&l))?;
    let perm: Vec<usize> = wanted.iter().filter_map(|&l| all.place(l)).collect();
    Ok(vec![cx.transpose(all.value, &perm)?.into()])
}

/// Takes the diagonal of axes that have one label: what is off it becomes 0, and all but one axis are summed.
fn diagonals(cx: &mut Cx<'_>, mut t: Term) -> Result<Term> {
    while let Some((p, q)) = repeated(&t.labels) {
        let shape = cx.shape(t.value)?;
        let extent = |i: usize| shape.get(i).cloned().unwrap_or_default();
        let mut places = Vec::new();
        for i in [p, q] {
            let mut s = vec![Dim::constant(1); shape.len()];
            if let Some(slot) = s.get_mut(i) {
                *slot = extent(i);
            }
            let along = cx.iota(&extent(i), DType::I64)?;
            places.push(cx.reshape(along, &s)?);
        }
        let [a, b] = places.as_slice() else { return Ok(t) };
        let on = cx.binary(BinaryFn::Equal, *a, *b)?;
        let zero = cx.scalar(cx.dtype(t.value)?, 0.0)?;
        let only = cx.choose(on, t.value, zero)?;
        t.value = cx.reduce(ReduceFn::Sum, only, &[q], false)?;
        t.labels.remove(q);
    }
    Ok(t)
}

/// Two axes of one label.
fn repeated(labels: &[Label]) -> Option<(usize, usize)> {
    let first = |q: usize, l: &Label| labels.iter().take(q).position(|m| m == l);
    labels.iter().enumerate().find_map(|(q, l)| first(q, l).map(|p| (p, q)))
}

/// Sums over the axes whose labels are not kept.
fn sum_out(cx: &mut Cx<'_>, mut t: Term, keep: impl Fn(Label) -> bool) -> Result<Term> {
    let axes: Vec<usize> = t.labels.iter().enumerate().filter(|(_, l)| !keep(**l)).map(|(i, _)| i).collect();
    if !axes.is_empty() {
        t.value = cx.reduce(ReduceFn::Sum, t.value, &axes, false)?;
        t.labels.retain(|l| keep(*l));
    }
    Ok(t)
}

/// The product of two terms, summed over labels that both have and nothing later wants.
fn multiply(cx: &mut Cx<'_>, a: Term, b: Term, later: &[Label]) -> Result<Term> {
    let a = sum_out(cx, a, |l| later.contains(&l) || b.labels.contains(&l))?;
    let b = sum_out(cx, b, |l| later.contains(&l) || a.labels.contains(&l))?;
    let (a, b) = agree(cx, a, b, later)?;
    let shared = |l: &Label| b.labels.contains(l);
    let (both, a_only): (Vec<Label>, Vec<Label>) = a.labels.iter().copied().partition(shared);
    let (batch, inner): (Vec<Label>, Vec<Label>) = both.into_iter().partition(|l| later.contains(l));
    let b_only: Vec<Label> = b.labels.iter().copied().filter(|l| !a.labels.contains(l)).collect();
    let (sa, sb) = (cx.shape(a.value)?, cx.shape(b.value)?);
    let dims = |t: &Term, shape: &[Dim], labels: &[Label]| -> Vec<Dim> {
        labels.iter().filter_map(|&l| t.place(l).and_then(|p| shape.get(p)).cloned()).collect()
    };
    let merged = |cx: &Cx<'_>, d: Vec<Dim>| cx.dim(product(&d));
    let (left, right) = (dims(&a, &sa, &a_only), dims(&b, &sb, &b_only));
    let (batch_a, batch_b) = (dims(&a, &sa, &batch), dims(&b, &sb, &batch));
    let turned = |cx: &mut Cx<'_>, t: &Term, order: [&[Label]; 3]| {
        let perm: Vec<usize> = order.concat().into_iter().filter_map(|l| t.place(l)).collect();
        cx.transpose(t.value, &perm)
    };
    let value = if inner.is_empty() {
        // Nothing to sum: a broadcast product.
        let x = turned(cx, &a, [&batch, &a_only, &[]])?;
        let ones = vec![Dim::constant(1); right.len()];
        let x = cx.reshape(x, &[batch_a.clone(), left.clone(), ones].concat())?;
        let y = turned(cx, &b, [&batch, &b_only, &[]])?;
        let ones = vec![Dim::constant(1); left.len()];
        let y = cx.reshape(y, &[batch_b.clone(), ones, right.clone()].concat())?;
        cx.times(x, y)?
    } else {
        let x = turned(cx, &a, [&batch, &a_only, &inner])?;
        let y = turned(cx, &b, [&batch, &inner, &b_only])?;
        let k = merged(cx, dims(&a, &sa, &inner))?;
        let (m, n) = (merged(cx, left.clone())?, merged(cx, right.clone())?);
        let x = cx.reshape(x, &[batch_a.clone(), vec![m, k.clone()]].concat())?;
        let y = cx.reshape(y, &[batch_b.clone(), vec![k, n]].concat())?;
        let z = cx.matmul(x, y)?;
        let batch = cx.broadcast_shape(&[batch_a.clone(), batch_b.clone()])?;
        cx.reshape(z, &[batch, left.clone(), right.clone()].concat())?
    };
    Ok(Term { value, labels: [batch, a_only, b_only].concat() })
}

/// Gives axes of one label one extent: what is 1 is broadcast where the axis is summed; other extents must agree.
fn agree(cx: &mut Cx<'_>, mut a: Term, mut b: Term, later: &[Label]) -> Result<(Term, Term)> {
    for l in a.labels.clone() {
        let (Some(p), Some(q)) = (a.place(l), b.place(l)) else { continue };
        let (sa, sb) = (cx.shape(a.value)?, cx.shape(b.value)?);
        let (Some(x), Some(y)) = (sa.get(p).cloned(), sb.get(q).cloned()) else { continue };
        let widen = |cx: &mut Cx<'_>, t: &Term, mut shape: Vec<Dim>, at: usize, to: &Dim| {
            if let Some(d) = shape.get_mut(at) {
                *d = to.clone();
            }
            cx.expand_to(t.value, &shape)
        };
        if x.is(1) || y.is(1) {
            if !later.contains(&l) {
                a.value = widen(cx, &a, sa, p, if x.is(1) { &y } else { &x })?;
                b.value = widen(cx, &b, sb, q, if x.is(1) { &y } else { &x })?;
            }
        } else {
            b.value = cx.agree_axis(b.value, q, &x)?;
        }
    }
    Ok((a, b))
}
