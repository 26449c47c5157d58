//! Questions about shapes and permutations that several tables' guards ask. No rules here.

use crate::rule::{Refusal, require};
use crate::view::View;
use frit_ir::op::Attr;
use frit_ir::{Dim, ValueId};

/// A permutation attribute as positions.
pub fn permutation(attr: Option<&Attr>) -> Result<Vec<usize>, Refusal> {
    match attr {
        Some(Attr::Ints(p)) => Ok(p.iter().filter_map(|&i| usize::try_from(i).ok()).collect()),
        _ => Err(Refusal::Because("no permutation".into())),
    }
}

/// A permutation as an attribute has it.
pub fn axes(perm: &[usize]) -> Vec<i64> {
    perm.iter().filter_map(|&i| i64::try_from(i).ok()).collect()
}

/// True when the permutation changes nothing.
pub fn is_identity(perm: &[usize]) -> bool {
    perm.iter().enumerate().all(|(i, &p)| i == p)
}

/// The permutation that undoes another.
pub fn inverse(perm: &[usize]) -> Vec<usize> {
    let mut out = vec![0; perm.len()];
    for (i, &p) in perm.iter().enumerate() {
        if let Some(slot) = out.get_mut(p) {
            *slot = i;
        }
    }
    out
}

/// True when the permutation moves nothing but axes of extent 1 past others.
pub fn moves_only_ones(perm: &[usize], shape: &[Dim]) -> bool {
    let kept: Vec<usize> = perm.iter().copied().filter(|&p| !shape.get(p).is_some_and(|d| d.is(1))).collect();
    kept.is_sorted()
}

/// The extent of a value that is one row: all its axes but the last are 1. None otherwise, or for a scalar.
pub fn row(view: View<'_>, v: ValueId) -> Option<Dim> {
    let (last, before) = view.shape(v).split_last()?;
    before.iter().all(|d| d.is(1)).then(|| last.clone())
}

/// Refuses unless the value has no axes or only axes of extent 1, so that it never widens what it is combined with
/// of `rank` axes.
pub fn require_narrow(view: View<'_>, v: ValueId, rank: usize) -> Result<(), Refusal> {
    let shape = view.shape(v);
    require(shape.len() <= rank && shape.iter().all(|d| d.is(1)), "the number has axes of its own")
}
