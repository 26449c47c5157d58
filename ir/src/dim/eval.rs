//! Dimensions under known symbols: their values, substitution, and solving for the one unknown. How expressions
//! are kept in normal form does not belong here.

use super::{Atom, Bindings, Dim, DimError, Result, floor_div_i64};
use std::sync::Arc;

impl Dim {
    /// The value under bindings; may be negative.
    pub fn eval(&self, bindings: &Bindings) -> Result<i64> {
        let mut sum = 0i64;
        for (m, c) in &self.terms {
            let mut product = *c;
            for (atom, e) in m {
                let v = match atom {
                    Atom::Symbol(s) => bindings.get(s).ok_or_else(|| DimError::Unbound(s.to_string()))?,
                    Atom::FloorDiv(a, b) => {
                        let d = b.eval(bindings)?;
                        if d == 0 {
                            return Err(DimError::DivisionByZero(a.to_string()));
                        }
                        floor_div_i64(a.eval(bindings)?, d)?
                    }
                    Atom::Max(a, b) => a.eval(bindings)?.max(b.eval(bindings)?),
                    Atom::Min(a, b) => a.eval(bindings)?.min(b.eval(bindings)?),
                };
                for _ in 0..*e {
                    product = product.checked_mul(v).ok_or(DimError::Overflow)?;
                }
            }
            sum = sum.checked_add(product).ok_or(DimError::Overflow)?;
        }
        Ok(sum)
    }

    /// The value under bindings as an extent.
    pub fn eval_extent(&self, bindings: &Bindings) -> Result<usize> {
        let value = self.eval(bindings)?;
        usize::try_from(value).map_err(|_| DimError::Negative { expr: self.to_string(), value })
    }

    /// Replaces symbols by expressions; those for which `with` gives None stay.
    pub fn substitute(&self, with: &dyn Fn(&str) -> Option<Dim>) -> Result<Dim> {
        let mut sum = Dim::default();
        for (m, c) in &self.terms {
            let mut product = Dim::constant(*c);
            for (atom, e) in m {
                let factor = match atom {
                    Atom::Symbol(s) => with(s).unwrap_or_else(|| Self::atom(atom.clone())),
                    Atom::FloorDiv(a, b) => a.substitute(with)?.floor_div(&b.substitute(with)?)?,
                    Atom::Max(a, b) => a.substitute(with)?.maximum(&b.substitute(with)?)?,
                    Atom::Min(a, b) => a.substitute(with)?.minimum(&b.substitute(with)?)?,
                };
                for _ in 0..*e {
                    product = product.mul(&factor)?;
                }
            }
            sum = sum.add(&product)?;
        }
        Ok(sum)
    }

    /// Solves `self == value` for the one symbol that `bindings` lacks, when it occurs linearly on its own.
    /// Gives None when there is no such symbol or the equation has no integer solution.
    pub fn solve(&self, value: i64, bindings: &Bindings) -> Option<(Arc<str>, i64)> {
        let mut unknown = None;
        let mut known = 0i64;
        for (m, c) in &self.terms {
            let term = Dim { terms: vec![(m.clone(), *c)] };
            match term.eval(bindings) {
                Ok(v) => known = known.checked_add(v)?,
                Err(_) => match m.as_slice() {
                    [(Atom::Symbol(s), 1)] if unknown.is_none() => unknown = Some((s.clone(), *c)),
                    _ => return None,
                },
            }
        }
        let (symbol, c) = unknown?;
        let rest = value.checked_sub(known)?;
        (rest.checked_rem(c)? == 0).then(|| (symbol, rest / c))
    }
}
