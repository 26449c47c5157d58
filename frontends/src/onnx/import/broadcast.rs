//! Broadcasting and agreement of extents that cannot be proven equal: such equality is left to run time. Where it can
//! be proven nothing is emitted, so that rewrite rules still match.

use super::cx::Cx;
use super::error::Result;
use frit_ir::op::{Expand, Reshape};
use frit_ir::types::{resolve_axis, same_shape};
use frit_ir::{Dim, ValueId};

/// The extent of two that must be equal: a number rather than a symbol, the first of two symbols.
pub fn agreed(a: &Dim, b: &Dim) -> Dim {
    if a.as_const().is_none() && b.as_const().is_some() { b.clone() } else { a.clone() }
}

impl Cx<'_> {
    /// The shape that shapes broadcast to. Of two symbolic extents the result has the larger: they are equal, or one
    /// is 1.
    pub fn broadcast_shape(&self, shapes: &[Vec<Dim>]) -> Result<Vec<Dim>> {
        let rank = shapes.iter().map(Vec::len).max().unwrap_or(0);
        let mut out: Vec<Dim> = vec![Dim::constant(1); rank];
        for shape in shapes {
            let skip = rank.saturating_sub(shape.len());
            for (o, d) in out.iter_mut().skip(skip).zip(shape) {
                if d.is(1) || o.same(d) {
                    continue;
                }
                *o = match (o.as_const(), d.as_const()) {
                    (Some(1), _) => d.clone(),
                    (Some(_), Some(_)) => {
                        return Err(self.error(format!("shapes {shapes:?} do not broadcast: {o} and {d}")));
                    }
                    (Some(_), None) => o.clone(),
                    (None, Some(_)) => d.clone(),
                    (None, None) => o.maximum(d).map_err(|e| self.refused(e))?,
                };
            }
        }
        Ok(out)
    }

    /// Values that provably broadcast together: those whose extents are not provably equal to the others' are
    /// expanded, checked at run time.
    pub fn broadcast(&mut self, values: &[ValueId]) -> Result<Vec<ValueId>> {
        let shapes = values.iter().map(|v| self.shape(*v)).collect::<Result<Vec<_>>>()?;
        let to = self.broadcast_shape(&shapes)?;
        let mut out = Vec::with_capacity(values.len());
        for (v, shape) in values.iter().zip(&shapes) {
            let skip = to.len().saturating_sub(shape.len());
            let wanted: Vec<Dim> = shape
                .iter()
                .zip(to.iter().skip(skip))
                .map(|(d, t)| if d.is(1) { d.clone() } else { t.clone() })
                .collect();
            out.push(self.expand_to(*v, &wanted)?);
        }
        Ok(out)
    }

    /// Broadcasts a value to a shape; the value itself when it has that shape.
    pub fn expand_to(&mut self, v: ValueId, shape: &[Dim]) -> Result<ValueId> {
        let from = self.shape(v)?;
        if same_shape(&from, shape) {
            return Ok(v);
        }
        let provable = frit_ir::types::broadcast(&from, shape).is_some_and(|s| same_shape(&s, shape));
        self.emit(Expand { shape: shape.to_vec(), trust: !provable }, &[v])
    }

    /// Gives a value these extents, one for one; where they are not provably its own, that is checked at run time.
    pub fn agree(&mut self, v: ValueId, shape: &[Dim]) -> Result<ValueId> {
        let from = self.shape(v)?;
        if same_shape(&from, shape) {
            return Ok(v);
        }
        let open = |a: &Dim, b: &Dim| a.same(b) || a.as_const().is_none() || b.as_const().is_none();
        if from.len() != shape.len() || !from.iter().zip(shape).all(|(a, b)| open(a, b)) {
            return Err(self.error(format!("expected shape {shape:?}, got {from:?}")));
        }
        self.emit(Reshape { shape: shape.to_vec(), trust: true }, &[v])
    }

    /// Gives axis `axis` of a value an extent that must be its own.
    pub fn agree_axis(&mut self, v: ValueId, axis: usize, extent: &Dim) -> Result<ValueId> {
        let mut shape = self.shape(v)?;
        match shape.get_mut(axis) {
            Some(d) => *d = extent.clone(),
            None => return Err(self.error(format!("expected an axis {axis}, got rank {}", shape.len()))),
        }
        self.agree(v, &shape)
    }

    /// The axis that a number means, which may count from the end.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        resolve_axis(axis, rank)
            .ok_or_else(|| self.error(format!("axis {axis} is out of range for rank {rank}")))
    }

    /// Different axes, in the order given.
    pub fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>> {
        let all = axes.iter().map(|&a| self.axis(a, rank)).collect::<Result<Vec<_>>>()?;
        let mut sorted = all.clone();
        sorted.sort_unstable();
        if sorted.windows(2).any(|w| matches!(w, [a, b] if a == b)) {
            return Err(self.error(format!("axes {axes:?} name an axis twice")));
        }
        Ok(all)
    }
}
