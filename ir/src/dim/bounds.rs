//! What a dimension can be at least and at most, from what its symbols can be. Equality is decided in `dim.rs`.

use super::{Atom, Dim};

/// A range of integers; None: no bound on that side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Smallest value.
    pub low: Option<i64>,
    /// Largest value.
    pub high: Option<i64>,
}

impl Bounds {
    /// Any integer.
    pub const ANY: Bounds = Bounds { low: None, high: None };

    /// At least `low`.
    pub const fn at_least(low: i64) -> Self {
        Bounds { low: Some(low), high: None }
    }

    const fn only(n: i64) -> Self {
        Bounds { low: Some(n), high: Some(n) }
    }

    fn sum(self, other: Bounds) -> Bounds {
        let add = |a: Option<i64>, b: Option<i64>| a?.checked_add(b?);
        Bounds { low: add(self.low, other.low), high: add(self.high, other.high) }
    }

    fn product(self, other: Bounds) -> Bounds {
        let corner = |a: Option<i64>, b: Option<i64>| a?.checked_mul(b?);
        let corners = [
            corner(self.low, other.low),
            corner(self.low, other.high),
            corner(self.high, other.low),
            corner(self.high, other.high),
        ];
        if let [Some(a), Some(b), Some(c), Some(d)] = corners {
            return Bounds { low: Some(a.min(b).min(c).min(d)), high: Some(a.max(b).max(c).max(d)) };
        }
        match (self.low, other.low) {
            (Some(a), Some(b)) if a >= 0 && b >= 0 => {
                Bounds { low: a.checked_mul(b), high: corner(self.high, other.high) }
            }
            _ => Bounds::ANY,
        }
    }

    fn scaled(self, c: i64) -> Bounds {
        let by = |a: Option<i64>| a?.checked_mul(c);
        let (a, b) = (by(self.low), by(self.high));
        if c < 0 { Bounds { low: b, high: a } } else { Bounds { low: a, high: b } }
    }

    fn quotient(self, by: Bounds) -> Bounds {
        match (self.low, by.low) {
            (Some(a), Some(b)) if a >= 0 && b >= 1 => {
                let low = by.high.and_then(|h| a.checked_div(h)).unwrap_or(0);
                Bounds { low: Some(low), high: self.high.and_then(|h| h.checked_div(b)) }
            }
            (_, Some(b)) if b >= 1 && by.high == by.low => {
                Bounds { low: self.low.map(|a| a.div_euclid(b)), high: self.high.map(|a| a.div_euclid(b)) }
            }
            _ => Bounds::ANY,
        }
    }
}

impl Dim {
    /// Number of terms and atoms: what arithmetic with the dim costs.
    pub fn size(&self) -> usize {
        self.extent().0
    }

    /// Bounds of the value when each symbol lies within `of`. They hold, but need not be tight.
    pub fn bounds(&self, of: &dyn Fn(&str) -> Bounds) -> Bounds {
        let direct = self.direct_bounds(of);
        let low = direct.low.or_else(|| self.without_quotients(of, 4));
        let high = direct.high.or_else(|| {
            let minus = self.mul_const(-1).ok()?;
            minus.without_quotients(of, 4)?.checked_neg()
        });
        Bounds { low, high }
    }

    /// A lower bound by c floor(a / c) <= a and c floor(a / c) > a - c: finds that n - n / 2 is at least 0.
    fn without_quotients(&self, of: &dyn Fn(&str) -> Bounds, depth: usize) -> Option<i64> {
        let quotient = |(m, k): &(super::Monomial, i64)| match m.as_slice() {
            [(Atom::FloorDiv(a, b), 1)] => b.as_const().filter(|&c| c >= 1).map(|c| (a.clone(), c, *k)),
            _ => None,
        };
        let (position, (a, c, k)) =
            self.terms.iter().enumerate().find_map(|(i, t)| quotient(t).map(|q| (i, q)))?;
        let mut rest = self.terms.clone();
        rest.remove(position);
        let a = if k < 0 { (*a).clone() } else { a.add_const(1 - c).ok()? };
        let scaled = Dim { terms: rest }.mul_const(c).ok()?.add(&a.mul_const(k).ok()?).ok()?;
        let low = match scaled.direct_bounds(of).low {
            Some(low) => low,
            None if depth > 0 => scaled.without_quotients(of, depth - 1)?,
            None => return None,
        };
        // ceil(low / c)
        low.checked_neg()?.div_euclid(c).checked_neg()
    }

    fn direct_bounds(&self, of: &dyn Fn(&str) -> Bounds) -> Bounds {
        self.terms.iter().fold(Bounds::only(0), |sum, (monomial, c)| {
            let mut product = Bounds::only(1);
            for (atom, e) in monomial {
                let factor = match atom {
                    Atom::Symbol(s) => of(s),
                    Atom::FloorDiv(a, b) => a.bounds(of).quotient(b.bounds(of)),
                    Atom::Max(a, b) => {
                        let (a, b) = (a.bounds(of), b.bounds(of));
                        let high = a.high.zip(b.high).map(|(x, y)| x.max(y));
                        Bounds { low: a.low.max(b.low), high }
                    }
                    Atom::Min(a, b) => {
                        let (a, b) = (a.bounds(of), b.bounds(of));
                        let low = a.low.zip(b.low).map(|(x, y)| x.min(y));
                        let high = a.high.into_iter().chain(b.high).min();
                        Bounds { low, high }
                    }
                };
                for _ in 0..*e {
                    product = product.product(factor);
                }
            }
            sum.sum(product.scaled(*c))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_follow_from_those_of_symbols() {
        let of = |s: &str| if s == "n" { Bounds::at_least(0) } else { Bounds::ANY };
        let (n, z) = (Dim::symbol("n"), Dim::symbol("z"));
        let low = |d: &Dim| d.bounds(&of).low;
        assert_eq!(low(&n.add_const(1).unwrap()), Some(1));
        assert_eq!(low(&n.mul(&n).unwrap().add_const(-3).unwrap()), Some(-3));
        assert_eq!(low(&z), None);
        assert_eq!(low(&z.maximum(&Dim::constant(2)).unwrap()), Some(2));
        assert_eq!(n.mul_const(-2).unwrap().bounds(&of), Bounds { low: None, high: Some(0) });
        let half = n.floor_div(&Dim::constant(2)).unwrap();
        assert_eq!(low(&half), Some(0));
        let mixed = n.add_const(-10).unwrap().floor_div(&Dim::constant(5)).unwrap();
        assert_eq!(low(&mixed), Some(-2));
        assert_eq!(n.minimum(&Dim::constant(4)).unwrap().bounds(&of), Bounds { low: Some(0), high: Some(4) });
        assert_eq!(low(&n.sub(&z).unwrap()), None);
        assert_eq!(low(&n.sub(&half).unwrap()), Some(0));
        assert_eq!(half.sub(&n).unwrap().bounds(&of).high, Some(0));
        assert_eq!(low(&half.mul_const(2).unwrap().sub(&n).unwrap()), Some(-1));
        assert_eq!(low(&z.floor_div(&Dim::constant(2)).unwrap().sub(&n).unwrap()), None);
    }
}
