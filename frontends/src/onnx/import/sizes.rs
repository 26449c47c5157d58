//! Arithmetic on extents and offsets as operators need it: limits that are left out where they cannot matter. What a
//! dim is made of belongs to the IR, exact numbers to `num.rs`.

use super::cx::Cx;
use super::error::Result;
use frit_ir::{Dim, ValueId};

impl Cx<'_> {
    /// True when the dim is at least `n`, whatever the symbols' values.
    pub fn at_least(&self, d: &Dim, n: i64) -> bool {
        d.bounds(&|s| self.symbols.bounds(s)).low.max(self.symbols.by_extents(d)).is_some_and(|low| low >= n)
    }

    /// True when the dim is at least `n`, given that no input is empty.
    pub fn likely_at_least(&self, d: &Dim, n: i64) -> bool {
        let low = d.bounds(&|s| self.symbols.likely_bounds(s)).low;
        low.max(self.symbols.by_extents(d)).is_some_and(|low| low >= n)
    }

    /// The larger of two; the one that always is, when that is known.
    pub fn larger(&self, a: &Dim, b: &Dim) -> Result<Dim> {
        let difference = self.dim(a.sub(b))?;
        if self.at_least(&difference, 0) {
            return Ok(a.clone());
        }
        if self.at_least(&self.dim(difference.mul_const(-1))?, 0) {
            return Ok(b.clone());
        }
        self.dim(a.maximum(b))
    }

    /// The smaller of two; the one that always is, when that is known.
    pub fn smaller(&self, a: &Dim, b: &Dim) -> Result<Dim> {
        let difference = self.dim(a.sub(b))?;
        if self.at_least(&difference, 0) {
            return Ok(b.clone());
        }
        if self.at_least(&self.dim(difference.mul_const(-1))?, 0) {
            return Ok(a.clone());
        }
        self.dim(a.minimum(b))
    }

    /// True when the dim follows from the extents of inputs alone.
    fn of_inputs(&self, d: &Dim) -> bool {
        d.symbols().iter().all(|s| self.symbols.is_input(s))
    }

    /// An offset into an axis of extent `extent`: one below 0 counts from the end; what is then below `low` is `low`,
    /// and what is above `extent + high` is that.
    ///
    /// A symbolic offset that follows from extents of inputs is taken to lie within an axis of fixed extent: models
    /// cut tables of positions and masks so, and a call for which it does not hold fails rather than being cut short.
    pub fn offset(&self, d: &Dim, extent: &Dim, low: i64, high: i64) -> Result<Dim> {
        let last = self.dim(extent.add_const(high))?;
        let from_start = if d.as_const().is_some_and(|n| n < 0) {
            self.dim(d.add(extent))?
        } else if self.at_least(d, 0) {
            d.clone()
        } else {
            // d + extent (1 when d < 0, else 0)
            let below = self.dim(d.mul_const(-1))?;
            let below = self.dim(below.minimum(&Dim::constant(1)))?;
            let below = self.dim(below.maximum(&Dim::constant(0)))?;
            let shift = self.dim(below.mul(extent))?;
            self.dim(d.add(&shift))?
        };
        let raised = if self.likely_at_least(&self.dim(from_start.add_const(-low))?, 0) {
            from_start
        } else {
            self.larger(&from_start, &Dim::constant(low))?
        };
        let room = self.dim(last.sub(&raised))?;
        let trusted = raised.as_const().is_none() && extent.as_const().is_some() && self.of_inputs(&raised);
        if trusted || self.likely_at_least(&room, 0) {
            return Ok(raised);
        }
        self.smaller(&raised, &last)
    }

    /// Integers of a tensor that a lowering computed, as dims that the graph defines.
    pub fn computed_dims(&mut self, v: ValueId) -> Result<Vec<Dim>> {
        let dims = self.dims_of(v).map_err(|why| self.error(why))?;
        self.define(&dims)?;
        Ok(dims)
    }
}

/// The padding of an axis that gives ceil(extent / stride) windows that reach over `reach` elements each.
pub fn same_padding(extent: &Dim, stride: i64, reach: i64) -> std::result::Result<Dim, frit_ir::DimError> {
    if stride == 1 {
        return Ok(Dim::constant(reach.saturating_sub(1)));
    }
    let windows = extent.ceil_div(&Dim::constant(stride))?;
    let covered = windows.add_const(-1)?.mul_const(stride)?.add_const(reach)?;
    covered.sub(extent)?.maximum(&Dim::constant(0))
}
