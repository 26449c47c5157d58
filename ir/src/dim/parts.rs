//! A dimension taken apart, for those who compute it elsewhere, such as an exporter. Arithmetic does not belong here.

use super::{Atom, Dim, Result};

/// What a term of a dimension is a product of, besides its coefficient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'d> {
    /// A symbol.
    Symbol(&'d str),
    /// A quotient rounded toward minus infinity.
    FloorDiv(&'d Dim, &'d Dim),
    /// The larger of two.
    Max(&'d Dim, &'d Dim),
    /// The smaller of two.
    Min(&'d Dim, &'d Dim),
}

impl Atom {
    fn part(&self) -> Part<'_> {
        match self {
            Atom::Symbol(s) => Part::Symbol(s),
            Atom::FloorDiv(a, b) => Part::FloorDiv(a, b),
            Atom::Max(a, b) => Part::Max(a, b),
            Atom::Min(a, b) => Part::Min(a, b),
        }
    }
}

impl Dim {
    /// The terms whose sum this is: a coefficient each, and parts with exponents.
    pub fn parts(&self) -> impl Iterator<Item = (i64, impl Iterator<Item = (Part<'_>, u32)>)> {
        self.terms.iter().map(|(m, c)| (*c, m.iter().map(|(a, e)| (a.part(), *e))))
    }

    /// The same value with constants taken out of floor quotients: `(s - 10) / 5` as `s / 5 - 2`. What is left under a
    /// quotient by a positive number then has a constant of 0 or more.
    pub fn normalised(&self) -> Result<Dim> {
        self.hoisted()
    }

    /// True when no values of the symbols, which are extents, make it negative, as far as its form tells.
    pub fn is_never_negative(&self) -> bool {
        self.parts().all(|(c, mut parts)| c >= 0 && parts.all(|(p, e)| e % 2 == 0 || p.is_never_negative()))
    }
}

impl Part<'_> {
    fn is_never_negative(self) -> bool {
        match self {
            Part::Symbol(_) => true,
            Part::FloorDiv(a, b) => a.is_never_negative() && b.is_never_negative(),
            Part::Max(a, b) => a.is_never_negative() || b.is_never_negative(),
            Part::Min(a, b) => a.is_never_negative() && b.is_never_negative(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s() -> Dim {
        Dim::symbol("s")
    }

    #[test]
    fn parts_add_up() {
        // 3 s t + floor((s + 1) / 2) - 5
        let product = s().mul(&Dim::symbol("t")).unwrap().mul_const(3).unwrap();
        let half = s().add_const(1).unwrap().floor_div(&Dim::constant(2)).unwrap();
        let d = product.add(&half).unwrap().add_const(-5).unwrap();
        let terms: Vec<_> =
            d.parts().map(|(c, p)| (c, p.map(|(p, e)| (format!("{p:?}"), e)).count())).collect();
        assert_eq!(terms.iter().map(|t| t.0).sum::<i64>(), 3 + 1 - 5);
        assert_eq!(terms.iter().map(|t| t.1).sum::<usize>(), 2 + 1);
    }

    #[test]
    fn what_may_be_negative() {
        let less = s().add_const(-4).unwrap();
        let zero = Dim::constant(0);
        assert!(s().floor_div(&Dim::constant(5)).unwrap().add_const(1).unwrap().is_never_negative());
        assert!(!less.is_never_negative());
        assert!(less.maximum(&zero).unwrap().is_never_negative());
        assert!(!less.minimum(&zero).unwrap().is_never_negative());
    }

    #[test]
    fn constants_leave_quotients() {
        let four = Dim::constant(4);
        let d = s().add_const(-10).unwrap().floor_div(&four).unwrap();
        let expected = s().add_const(2).unwrap().floor_div(&four).unwrap().add_const(-3).unwrap();
        assert_eq!(d.normalised().unwrap(), expected);
    }
}
