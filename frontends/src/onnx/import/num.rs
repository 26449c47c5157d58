//! Exact numbers over dimension symbols: what an element of a small tensor is when a model computes with shapes.
//! Which tensors hold such numbers is decided in `contents.rs`.

use frit_ir::Dim;
use frit_ir::dim::Bounds;
use std::cmp::Ordering;

/// A quotient of two dims, the divisor at least 1. Integers have the divisor 1; floats that come from integers by
/// multiplication and division stay exact, so that `floor(float(n) / 2)` is the dim `n / 2`.
#[derive(Clone, Debug)]
pub struct Num {
    numerator: Dim,
    divisor: Dim,
    /// Known to be at least 0 from where it comes from, whatever the bounds of its symbols say: an extent, and what
    /// is computed from extents by sums, products and quotients.
    natural: bool,
}

impl PartialEq for Num {
    fn eq(&self, other: &Num) -> bool {
        self.numerator == other.numerator && self.divisor == other.divisor
    }
}

/// What symbols can be.
pub type Ranges<'r> = &'r dyn Fn(&str) -> Bounds;

/// Beyond so many terms an expression is of no use for shapes and costs time.
const MAX_SIZE: usize = 64;

impl From<Dim> for Num {
    fn from(numerator: Dim) -> Self {
        let natural = numerator.as_const().is_some_and(|n| n >= 0);
        Num { numerator, divisor: Dim::constant(1), natural }
    }
}

impl Num {
    /// An integer.
    pub fn int(n: i64) -> Self {
        Dim::constant(n).into()
    }

    /// The extent of a tensor, which is at least 0.
    pub fn extent(d: Dim) -> Self {
        Num { natural: true, ..Num::from(d) }
    }

    /// The same number, at least 0 when `natural` says so.
    fn with(self, natural: bool) -> Self {
        Num { natural: self.natural || natural, ..self }
    }

    /// A float, when it is a fraction with a small power of two as its divisor.
    pub fn float(x: f64) -> Option<Self> {
        const MOST: f64 = 4_503_599_627_370_496.0;
        let scaled = x * 4096.0;
        if !x.is_finite() || scaled.fract() != 0.0 || scaled.abs() > MOST {
            return None;
        }
        Num::quotient(Dim::constant(scaled as i64), Dim::constant(4096))
    }

    fn quotient(numerator: Dim, divisor: Dim) -> Option<Self> {
        if numerator.size() + divisor.size() > MAX_SIZE {
            return None;
        }
        if let Some(whole) = numerator.exact_div(&divisor) {
            return Some(whole.into());
        }
        // Fractions of numbers are kept in lowest terms.
        if let Some(d) = divisor.as_const().filter(|&d| d > 1) {
            for p in [2, 3, 5] {
                let p_dim = Dim::constant(p);
                if d % p == 0
                    && let Some(n) = numerator.exact_div(&p_dim)
                {
                    return Num::quotient(n, Dim::constant(d / p));
                }
            }
        }
        let natural = numerator.as_const().is_some_and(|n| n >= 0);
        Some(Num { numerator, divisor, natural })
    }

    /// What arithmetic with it costs.
    pub fn size(&self) -> usize {
        self.numerator.size() + self.divisor.size()
    }

    /// The integer, when it is one.
    pub fn as_dim(&self) -> Option<&Dim> {
        self.divisor.is(1).then_some(&self.numerator)
    }

    /// The integer, when it is a number without symbols.
    pub fn as_const(&self) -> Option<i64> {
        self.as_dim().and_then(Dim::as_const)
    }

    /// Sum.
    pub fn add(&self, other: &Num) -> Option<Num> {
        let a = self.numerator.mul(&other.divisor).ok()?;
        let b = other.numerator.mul(&self.divisor).ok()?;
        let sum = Num::quotient(a.add(&b).ok()?, self.divisor.mul(&other.divisor).ok()?)?;
        Some(sum.with(self.natural && other.natural))
    }

    /// Difference.
    pub fn sub(&self, other: &Num) -> Option<Num> {
        self.add(&other.mul(&Num::int(-1))?)
    }

    /// Product.
    pub fn mul(&self, other: &Num) -> Option<Num> {
        let divisor = self.divisor.mul(&other.divisor).ok()?;
        let product = Num::quotient(self.numerator.mul(&other.numerator).ok()?, divisor)?;
        Some(product.with(self.natural && other.natural))
    }

    /// Exact quotient; None when the divisor may be 0 or negative.
    pub fn div(&self, other: &Num, of: Ranges<'_>) -> Option<Num> {
        let known = other.numerator.as_const().is_none() && other.natural;
        if !known && other.numerator.bounds(of).low? < 1 && !known_extent(&other.numerator, of) {
            return None;
        }
        let divisor = self.divisor.mul(&other.numerator).ok()?;
        let quotient = Num::quotient(self.numerator.mul(&other.divisor).ok()?, divisor)?;
        Some(quotient.with(self.natural))
    }

    /// The largest integer not above.
    pub fn floor(&self) -> Option<Num> {
        self.numerator.floor_div(&self.divisor).ok().map(|d| Num::from(d).with(self.natural))
    }

    /// The smallest integer not below.
    pub fn ceil(&self) -> Option<Num> {
        self.numerator.ceil_div(&self.divisor).ok().map(|d| Num::from(d).with(self.natural))
    }

    /// Rounded toward zero: what casts and integer division do.
    pub fn truncate(&self, of: Ranges<'_>) -> Option<Num> {
        if self.divisor.is(1) {
            return Some(self.clone());
        }
        if self.natural {
            return self.floor();
        }
        if let Some(n) = self.numerator.as_const() {
            return if n >= 0 { self.floor() } else { self.ceil() };
        }
        // An extent less a little, `(n - 1) / 2`: extents that matter are at least 1.
        let positive = |s: &str| {
            let b = of(s);
            if b.low == Some(0) { Bounds::at_least(1) } else { b }
        };
        if self.numerator.bounds(&positive).low.is_some_and(|n| n >= 0) {
            return self.floor();
        }
        let zero = Dim::constant(0);
        let up = self.numerator.maximum(&zero).ok()?.floor_div(&self.divisor).ok()?;
        let minus = self.numerator.mul_const(-1).ok()?;
        let down = minus.maximum(&zero).ok()?.floor_div(&self.divisor).ok()?;
        Some(up.sub(&down).ok()?.into())
    }

    /// Remainder of integers with the divisor's sign; the divisor must be positive.
    pub fn modulo(&self, other: &Num, of: Ranges<'_>) -> Option<Num> {
        let (a, b) = (self.as_dim()?, other.as_dim()?);
        if b.bounds(of).low? < 1 {
            return None;
        }
        let whole = a.floor_div(b).ok()?.mul(b).ok()?;
        Some(a.sub(&whole).ok()?.into())
    }

    /// The smaller of two integers.
    pub fn min(&self, other: &Num, of: Ranges<'_>) -> Option<Num> {
        match self.compare(other, of) {
            Order { at_most: Some(true), .. } => Some(self.clone()),
            Order { at_least: Some(true), .. } => Some(other.clone()),
            _ => {
                let least = Num::from(self.as_dim()?.minimum(other.as_dim()?).ok()?);
                Some(least.with(self.natural && other.natural))
            }
        }
    }

    /// The larger of two integers.
    pub fn max(&self, other: &Num, of: Ranges<'_>) -> Option<Num> {
        match self.compare(other, of) {
            Order { at_least: Some(true), .. } => Some(self.clone()),
            Order { at_most: Some(true), .. } => Some(other.clone()),
            _ => {
                let most = Num::from(self.as_dim()?.maximum(other.as_dim()?).ok()?);
                Some(most.with(self.natural || other.natural))
            }
        }
    }

    /// What is known of how two numbers compare, whatever the symbols' values.
    pub fn compare(&self, other: &Num, of: Ranges<'_>) -> Order {
        let difference = || {
            let a = self.numerator.mul(&other.divisor).ok()?;
            let b = other.numerator.mul(&self.divisor).ok()?;
            a.sub(&b).ok()
        };
        let Some(d) = difference() else { return Order::default() };
        if let Some(n) = d.as_const() {
            let o = n.cmp(&0);
            return Order {
                equal: Some(o == Ordering::Equal),
                at_least: Some(o != Ordering::Less),
                at_most: Some(o != Ordering::Greater),
            };
        }
        let Bounds { mut low, mut high } = d.bounds(of);
        // Only signs matter below, which the divisors do not change.
        if self.natural
            && let Some(n) = other.as_const()
        {
            low = low.max(n.checked_neg());
        }
        if other.natural
            && let Some(n) = self.as_const()
        {
            high = [high, Some(n)].into_iter().flatten().min();
        }
        let above = low.is_some_and(|n| n > 0);
        let below = high.is_some_and(|n| n < 0);
        let decide = |yes: bool, no: bool| {
            if yes {
                Some(true)
            } else if no {
                Some(false)
            } else {
                None
            }
        };
        Order {
            equal: if above || below { Some(false) } else { None },
            at_least: decide(low.is_some_and(|n| n >= 0), below),
            at_most: decide(high.is_some_and(|n| n <= 0), above),
        }
    }
}

/// True for a symbolic extent: nothing but symbols that are at least 0. Division by an extent of 0 fails at run time.
fn known_extent(d: &Dim, of: Ranges<'_>) -> bool {
    d.as_const().is_none() && d.bounds(of).low.is_some_and(|n| n >= 0)
}

/// How one number compares to another, as far as it is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The same.
    pub equal: Option<bool>,
    /// The same or greater.
    pub at_least: Option<bool>,
    /// The same or less.
    pub at_most: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(s: &str) -> Bounds {
        if s == "z" { Bounds::ANY } else { Bounds::at_least(0) }
    }

    fn n(s: &str) -> Num {
        Dim::symbol(s).into()
    }

    #[test]
    fn halves_through_floats_are_floor_quotients() {
        let half = n("h").mul(&Num::float(0.5).unwrap()).unwrap().floor().unwrap();
        assert_eq!(half.as_dim().unwrap().to_string(), "h / 2");
        let twice = half.mul(&Num::float(2.0).unwrap()).unwrap();
        assert_eq!(twice.as_dim().unwrap().to_string(), "2 * (h / 2)");
        assert_eq!(Num::float(0.1), None);
        assert_eq!(Num::float(7.0).unwrap().as_const(), Some(7));
    }

    #[test]
    fn division_truncates_toward_zero() {
        let seven = Num::int(-7).div(&Num::int(2), &of).unwrap();
        assert_eq!(seven.truncate(&of).unwrap().as_const(), Some(-3));
        let before = n("h").sub(&Num::int(1)).unwrap().div(&Num::int(2), &of).unwrap();
        assert_eq!(before.truncate(&of).unwrap().as_dim().unwrap().to_string(), "(h - 1) / 2");
        let far = n("h").sub(&Num::int(9)).unwrap().div(&Num::int(2), &of).unwrap();
        let mut b = frit_ir::Bindings::new();
        b.set("h", 6);
        assert_eq!(far.truncate(&of).unwrap().as_dim().unwrap().eval(&b).unwrap(), -1);
        assert_eq!(n("h").div(&n("z"), &of), None);
        assert!(n("h").div(&n("w"), &of).is_some());
    }

    #[test]
    fn comparisons_are_decided_where_bounds_allow() {
        let minus = Num::int(-1);
        assert_eq!(n("h").compare(&minus, &of).equal, Some(false));
        assert_eq!(n("z").compare(&minus, &of).equal, None);
        assert_eq!(n("h").compare(&Num::int(0), &of).at_least, Some(true));
        assert_eq!(n("h").compare(&n("h"), &of).equal, Some(true));
        assert_eq!(n("h").max(&Num::int(0), &of), Some(n("h")));
        let frames =
            Num::extent(Dim::symbol("n").add_const(-10).unwrap().floor_div(&Dim::constant(5)).unwrap());
        assert_eq!(Num::from(frames.as_dim().unwrap().clone()).compare(&minus, &of).equal, None);
        assert_eq!(frames.compare(&minus, &of).equal, Some(false));
        assert_eq!(minus.compare(&frames, &of).equal, Some(false));
        assert_eq!(frames.compare(&Num::int(1), &of), Order::default());
        let twice = frames.mul(&Num::int(2)).unwrap().add(&Num::int(1)).unwrap();
        assert_eq!(twice.compare(&Num::int(0), &of).at_least, Some(true));
        assert_eq!(frames.sub(&Num::int(1)).unwrap().compare(&minus, &of).equal, None);
        assert_eq!(n("h").min(&Num::int(3), &of).unwrap().as_dim().unwrap().to_string(), "min(3, h)");
    }
}
