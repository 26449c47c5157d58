//! Recognising masks that let a query see no later key, however they are made. No rules here.

use crate::view::View;
use frit_ir::op::{BinaryFn, Op};
use frit_ir::types::resolve_axis;
use frit_ir::{DType, Dim, Tensor, ValueId};

/// True when `seen` is a bool mask that holds exactly where key <= query + (keys - queries), the same for all of the
/// batch and heads.
pub fn is_causal(view: View<'_>, seen: ValueId, queries: &Dim, keys: &Dim) -> bool {
    let shape = view.shape(seen);
    let Some((column, before)) = shape.split_last() else { return false };
    let Some((row, outer)) = before.split_last() else { return false };
    if !column.same(keys) || !row.same(queries) || !outer.iter().all(|d| d.is(1)) {
        return false;
    }
    compares_positions(view, seen, queries, keys)
        || is_triangle(view, seen)
        || cuts_triangle(view, seen, queries, keys)
}

/// True for constant numbers that, added to scores, hide exactly what a causal mask hides, and leave the rest alone.
pub fn is_causal_numbers(view: View<'_>, mask: ValueId, queries: &Dim, keys: &Dim) -> bool {
    let Some(t) = view.tensor(mask).filter(|t| t.dtype().is_float()) else { return false };
    let [outer @ .., rows, columns] = t.shape() else { return false };
    let Some(past) = columns.checked_sub(*rows) else { return false };
    let fits =
        Dim::from(*rows).same(queries) && Dim::from(*columns).same(keys) && outer.iter().all(|&n| n == 1);
    fits && t.to_f32_vec().into_iter().enumerate().all(|(i, x)| {
        let seen = i % columns <= i / columns + past;
        if seen { x == 0.0 } else { x <= -1e4 }
    })
}

/// key <= query over two ranges of positions.
fn compares_positions(view: View<'_>, seen: ValueId, queries: &Dim, keys: &Dim) -> bool {
    let Some((_, node)) = view.producer(seen) else { return false };
    let (Op::Binary(op), [Some(x), Some(y)]) = (&node.op, node.inputs.as_slice()) else { return false };
    let (column, row, strict) = match op.function {
        BinaryFn::LessOrEqual => (*x, *y, false),
        BinaryFn::GreaterOrEqual => (*y, *x, false),
        BinaryFn::Less => (*x, *y, true),
        BinaryFn::Greater => (*y, *x, true),
        _ => return false,
    };
    let Some(first) = positions(view, row, 1, queries) else { return false };
    let Some(zero) = positions(view, column, 0, keys) else { return false };
    // The last query sees the last key.
    let reach = keys.sub(queries).and_then(|d| d.add_const(i64::from(strict)));
    zero.is(0) && reach.is_ok_and(|d| d.same(&first))
}

/// The first of `count` consecutive numbers that stand along the axis `from_end` places before the last.
fn positions(view: View<'_>, v: ValueId, from_end: usize, count: &Dim) -> Option<Dim> {
    let shape = view.shape(v);
    let axis = shape.len().checked_sub(from_end + 1)?;
    let along = shape.iter().enumerate().all(|(i, d)| if i == axis { d.same(count) } else { d.is(1) });
    if !along {
        return None;
    }
    let mut at = v;
    loop {
        if let Some(t) = view.tensor(at) {
            let numbers = t.to_i64_vec();
            let first = numbers.first().copied()?;
            let consecutive = numbers.iter().zip(first..).all(|(a, b)| *a == b);
            return consecutive.then(|| Dim::constant(first));
        }
        let (_, node) = view.producer(at)?;
        match &node.op {
            Op::Reshape(_) | Op::Cast(_) => at = node.inputs.first().copied().flatten()?,
            Op::Range(r) if r.step == 1 => return Some(r.start.clone()),
            _ => return None,
        }
    }
}

/// Rows keys - queries up to keys and columns up to keys of a stored square triangle, as GPT-2's buffer `bias` is cut.
fn cuts_triangle(view: View<'_>, seen: ValueId, queries: &Dim, keys: &Dim) -> bool {
    let Ok(first) = keys.sub(queries) else { return false };
    let mut at = seen;
    let (mut row, mut column) = (Dim::constant(0), Dim::constant(0));
    loop {
        if let Some(t) = view.tensor(at) {
            let square = matches!(*t.shape(), [.., r, c] if r == c);
            return square && is_lower(t) && row.same(&first) && column.is(0);
        }
        let Some((_, node)) = view.producer(at) else { return false };
        let Some(from) = node.inputs.first().copied().flatten() else { return false };
        match &node.op {
            Op::Cast(c) if c.to == DType::Bool => {}
            Op::Slice(cut) => {
                let rank = view.rank(from);
                for (axis, start, _, step) in cut.cuts() {
                    let Some(axis) = resolve_axis(axis, rank).filter(|_| step == 1) else { return false };
                    let slot = match rank - axis {
                        1 => &mut column,
                        2 => &mut row,
                        _ if start.is(0) => continue,
                        _ => return false,
                    };
                    match slot.add(start) {
                        Ok(sum) => *slot = sum,
                        Err(_) => return false,
                    }
                }
            }
            _ => return false,
        }
        at = from;
    }
}

/// A constant whose last two axes are a lower triangle that ends in the last corner.
fn is_triangle(view: View<'_>, seen: ValueId) -> bool {
    view.tensor(seen).is_some_and(|t| t.dtype() == DType::Bool && is_lower(t))
}

fn is_lower(t: &Tensor) -> bool {
    let [.., rows, columns] = *t.shape() else { return false };
    let Some(past) = columns.checked_sub(rows) else { return false };
    let size = t.dtype().size();
    !t.dtype().is_float()
        && t.bytes().chunks_exact(size).enumerate().all(|(i, b)| {
            let (row, column) = (i / columns.max(1) % rows.max(1), i % columns.max(1));
            b.iter().any(|&b| b != 0) == (column <= row + past)
        })
}
