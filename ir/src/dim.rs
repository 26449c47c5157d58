//! Symbolic dimensions: exact integer expressions over named symbols. Nothing about tensors belongs here.
//!
//! A [`Dim`] is a polynomial with integer coefficients over atoms: symbols, floor quotients, minima and maxima.
//! Polynomials are kept in a normal form, so equal polynomials are structurally equal; [`Dim::same`] decides more.

mod bounds;
mod eval;
mod parts;
mod print;

pub use bounds::Bounds;
pub use parts::Part;

use std::cmp::Ordering;
use std::sync::Arc;

/// Why a dimension could not be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DimError {
    /// A coefficient or value left the range of i64.
    #[error("a dimension overflows 64 bits")]
    Overflow,
    /// Division by zero.
    #[error("dimension `{0}` is divided by zero")]
    DivisionByZero(String),
    /// A symbol without a value.
    #[error("dimension symbol `{0}` has no value")]
    Unbound(String),
    /// An extent came out negative.
    #[error("dimension `{expr}` is {value}, which is no extent")]
    Negative {
        /// The expression.
        expr: String,
        /// Its value.
        value: i64,
    },
    /// An expression grew beyond any use.
    #[error("a dimension expression has more than {MAX_SIZE} parts or nests deeper than {MAX_DEPTH}")]
    TooComplex,
}

/// An expression may have so many atoms and terms. The limits keep hostile text from taking all time and stack.
const MAX_SIZE: usize = 2048;
/// Quotients, minima and maxima may nest so deep.
const MAX_DEPTH: usize = 64;

type Result<T> = std::result::Result<T, DimError>;

/// What a polynomial is made of besides numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Atom {
    Symbol(Arc<str>),
    FloorDiv(Arc<Dim>, Arc<Dim>),
    Max(Arc<Dim>, Arc<Dim>),
    Min(Arc<Dim>, Arc<Dim>),
}

/// A product of atoms with exponents, sorted by atom. Empty: the constant term.
type Monomial = Vec<(Atom, u32)>;

/// An extent or an offset: a number, or an exact expression over named symbols such as `batch`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Dim {
    /// Sorted by monomial, no zero coefficients.
    terms: Vec<(Monomial, i64)>,
}

/// Values of symbols.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bindings(Vec<(Arc<str>, i64)>);

impl Bindings {
    /// No symbol bound.
    pub fn new() -> Self {
        Self::default()
    }
    /// The value of a symbol.
    pub fn get(&self, symbol: &str) -> Option<i64> {
        self.0.iter().find(|(s, _)| &**s == symbol).map(|&(_, v)| v)
    }
    /// Sets a symbol, replacing an earlier value.
    pub fn set(&mut self, symbol: &str, value: i64) {
        match self.0.iter_mut().find(|(s, _)| &**s == symbol) {
            Some(slot) => slot.1 = value,
            None => {
                self.0.push((Arc::from(symbol), value));
                self.0.sort();
            }
        }
    }
    /// Symbols and values in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(s, v)| (&**s, *v))
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Dim::constant(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

impl Dim {
    /// A number, which may be negative in an offset.
    pub fn constant(n: i64) -> Self {
        Dim { terms: if n == 0 { vec![] } else { vec![(vec![], n)] } }
    }

    /// A named symbol.
    pub fn symbol(name: &str) -> Self {
        Self::atom(Atom::Symbol(Arc::from(name)))
    }

    fn atom(a: Atom) -> Self {
        Dim { terms: vec![(vec![(a, 1)], 1)] }
    }

    /// A quotient or an extremum, unless it is too large.
    fn compound(make: fn(Arc<Dim>, Arc<Dim>) -> Atom, a: &Dim, b: &Dim) -> Result<Dim> {
        let (size, depth) = (a.extent().0 + b.extent().0, a.extent().1.max(b.extent().1));
        if size >= MAX_SIZE || depth >= MAX_DEPTH {
            return Err(DimError::TooComplex);
        }
        Ok(Self::atom(make(Arc::new(a.clone()), Arc::new(b.clone()))))
    }

    /// Number of parts, and how deep they nest.
    fn extent(&self) -> (usize, usize) {
        let mut total = (self.terms.len(), 0);
        for (atom, e) in self.terms.iter().flat_map(|(m, _)| m) {
            let (size, depth) = match atom {
                Atom::Symbol(_) => (1, 0),
                Atom::FloorDiv(a, b) | Atom::Max(a, b) | Atom::Min(a, b) => {
                    let (a, b) = (a.extent(), b.extent());
                    (a.0 + b.0, a.1.max(b.1) + 1)
                }
            };
            // An exponent counts as often as it is printed.
            let copies = usize::try_from(*e).unwrap_or(usize::MAX);
            total = (total.0.saturating_add(size.saturating_mul(copies)), total.1.max(depth));
        }
        total
    }

    /// The number, when there is no symbol in it.
    pub fn as_const(&self) -> Option<i64> {
        match self.terms.as_slice() {
            [] => Some(0),
            [(m, c)] if m.is_empty() => Some(*c),
            _ => None,
        }
    }

    /// The expression without its number, and that number.
    pub fn split_const(&self) -> (Dim, i64) {
        let (number, rest): (Vec<_>, Vec<_>) = self.terms.iter().cloned().partition(|(m, _)| m.is_empty());
        (Dim { terms: rest }, number.first().map_or(0, |(_, c)| *c))
    }

    /// The extent, when it is a number and not negative.
    pub fn as_fixed(&self) -> Option<usize> {
        self.as_const().and_then(|n| usize::try_from(n).ok())
    }

    /// The symbol's name, when the expression is just one symbol.
    pub fn as_symbol(&self) -> Option<&str> {
        match self.terms.as_slice() {
            [(m, 1)] => match m.as_slice() {
                [(Atom::Symbol(s), 1)] => Some(s),
                _ => None,
            },
            _ => None,
        }
    }

    /// True for the number `n`.
    pub fn is(&self, n: i64) -> bool {
        self.as_const() == Some(n)
    }

    /// Every symbol in the expression, each once, in alphabetical order.
    pub fn symbols(&self) -> Vec<Arc<str>> {
        let mut out = Vec::new();
        self.collect_symbols(&mut out);
        out.sort();
        out.dedup();
        out
    }

    fn collect_symbols(&self, out: &mut Vec<Arc<str>>) {
        for (atom, _) in self.terms.iter().flat_map(|(m, _)| m) {
            match atom {
                Atom::Symbol(s) => out.push(s.clone()),
                Atom::FloorDiv(a, b) | Atom::Max(a, b) | Atom::Min(a, b) => {
                    a.collect_symbols(out);
                    b.collect_symbols(out);
                }
            }
        }
    }

    fn from_terms(mut terms: Vec<(Monomial, i64)>) -> Result<Self> {
        terms.sort();
        let mut out: Vec<(Monomial, i64)> = Vec::with_capacity(terms.len());
        for (m, c) in terms {
            match out.last_mut() {
                Some(last) if last.0 == m => last.1 = last.1.checked_add(c).ok_or(DimError::Overflow)?,
                _ => out.push((m, c)),
            }
        }
        out.retain(|(_, c)| *c != 0);
        let out = Dim { terms: out };
        if out.extent().0 > MAX_SIZE { Err(DimError::TooComplex) } else { Ok(out) }
    }

    /// Sum.
    pub fn add(&self, other: &Dim) -> Result<Dim> {
        Self::from_terms(self.terms.iter().chain(&other.terms).cloned().collect())
    }

    /// Difference.
    pub fn sub(&self, other: &Dim) -> Result<Dim> {
        self.add(&other.mul(&Dim::constant(-1))?)
    }

    /// Product.
    pub fn mul(&self, other: &Dim) -> Result<Dim> {
        if self.terms.len().saturating_mul(other.terms.len()) > MAX_SIZE {
            return Err(DimError::TooComplex);
        }
        let mut terms = Vec::with_capacity(self.terms.len() * other.terms.len());
        for (ma, ca) in &self.terms {
            for (mb, cb) in &other.terms {
                let c = ca.checked_mul(*cb).ok_or(DimError::Overflow)?;
                let mut m = ma.clone();
                for (atom, e) in mb {
                    match m.iter_mut().find(|(a, _)| a == atom) {
                        Some(slot) => slot.1 = slot.1.checked_add(*e).ok_or(DimError::Overflow)?,
                        None => m.push((atom.clone(), *e)),
                    }
                }
                m.sort();
                terms.push((m, c));
            }
        }
        Self::from_terms(terms)
    }

    /// Sum with a number.
    pub fn add_const(&self, n: i64) -> Result<Dim> {
        self.add(&Dim::constant(n))
    }

    /// Product with a number.
    pub fn mul_const(&self, n: i64) -> Result<Dim> {
        self.mul(&Dim::constant(n))
    }

    /// The quotient, when the division is exact whatever the symbols' values: long division by leading terms.
    pub fn exact_div(&self, by: &Dim) -> Option<Dim> {
        let (dm, dc) = by.leading()?.clone();
        let mut rest = self.clone();
        let mut quotient = Vec::new();
        while let Some((m, c)) = rest.leading() {
            if quotient.len() > MAX_SIZE || c.checked_rem(dc)? != 0 {
                return None;
            }
            let mut m = m.clone();
            for (atom, e) in &dm {
                let slot = m.iter_mut().find(|(a, _)| a == atom)?;
                slot.1 = slot.1.checked_sub(*e)?;
            }
            m.retain(|(_, e)| *e > 0);
            let term = (m, c.checked_div(dc)?);
            rest = rest.sub(&by.mul(&Dim { terms: vec![term.clone()] }).ok()?).ok()?;
            quotient.push(term);
        }
        Self::from_terms(quotient).ok()
    }

    /// The leading term in lexicographic order, which products respect: higher powers of earlier atoms first.
    fn leading(&self) -> Option<&(Monomial, i64)> {
        fn compare(a: &Monomial, b: &Monomial) -> Ordering {
            for ((x, i), (y, j)) in a.iter().zip(b) {
                match y.cmp(x).then(i.cmp(j)) {
                    Ordering::Equal => {}
                    other => return other,
                }
            }
            a.len().cmp(&b.len())
        }
        self.terms.iter().max_by(|a, b| compare(&a.0, &b.0))
    }

    /// Quotient rounded toward minus infinity.
    pub fn floor_div(&self, by: &Dim) -> Result<Dim> {
        if by.is(0) {
            return Err(DimError::DivisionByZero(self.to_string()));
        }
        if let Some(q) = self.exact_div(by) {
            return Ok(q);
        }
        if let (Some(a), Some(b)) = (self.as_const(), by.as_const()) {
            return floor_div_i64(a, b).map(Dim::constant);
        }
        // floor((c q + r) / c) = q + floor(r / c): take out the symbolic terms that divide.
        if by.as_const().is_some() {
            let (whole, rest): (Vec<_>, Vec<_>) = self
                .terms
                .iter()
                .cloned()
                .partition(|t| !t.0.is_empty() && Dim { terms: vec![t.clone()] }.exact_div(by).is_some());
            if !whole.is_empty() {
                let whole = Dim { terms: whole }.exact_div(by).ok_or(DimError::Overflow)?;
                return whole.add(&Dim { terms: rest }.floor_div(by)?);
            }
        }
        Self::compound(Atom::FloorDiv, self, by)
    }

    /// Quotient rounded toward plus infinity.
    pub fn ceil_div(&self, by: &Dim) -> Result<Dim> {
        self.add(by)?.add_const(-1)?.floor_div(by)
    }

    /// The larger of two.
    pub fn maximum(&self, other: &Dim) -> Result<Dim> {
        self.extremum(other, Atom::Max, i64::max, |d| d >= 0)
    }

    /// The smaller of two.
    pub fn minimum(&self, other: &Dim) -> Result<Dim> {
        self.extremum(other, Atom::Min, i64::min, |d| d <= 0)
    }

    fn extremum(
        &self,
        other: &Dim,
        atom: fn(Arc<Dim>, Arc<Dim>) -> Atom,
        pick: fn(i64, i64) -> i64,
        first_wins: fn(i64) -> bool,
    ) -> Result<Dim> {
        if let (Some(a), Some(b)) = (self.as_const(), other.as_const()) {
            return Ok(Dim::constant(pick(a, b)));
        }
        if let Some(d) = self.sub(other)?.as_const() {
            return Ok(if first_wins(d) { self.clone() } else { other.clone() });
        }
        // max(a, max(a, b)) = max(a, b), and so for min.
        for (one, both) in [(self, other), (other, self)] {
            if both.is_extremum_of(one, first_wins(1)) {
                return Ok(both.clone());
            }
        }
        let (a, b) = if self <= other { (self, other) } else { (other, self) };
        Self::compound(atom, a, b)
    }

    /// True for a maximum (else minimum) that has `member` as one of its two.
    fn is_extremum_of(&self, member: &Dim, max: bool) -> bool {
        let [(monomial, 1)] = self.terms.as_slice() else { return false };
        match monomial.as_slice() {
            [(Atom::Max(a, b), 1)] => max && (**a == *member || **b == *member),
            [(Atom::Min(a, b), 1)] => !max && (**a == *member || **b == *member),
            _ => false,
        }
    }

    /// True when both are equal for every value of the symbols, as far as normal forms can tell.
    pub fn same(&self, other: &Dim) -> bool {
        if self == other {
            return true;
        }
        match (self.hoisted(), other.hoisted()) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        }
    }

    /// A form for comparison: constants taken out of floor quotients, `floor((s - 10) / 5)` to `floor(s / 5) - 2`.
    fn hoisted(&self) -> Result<Dim> {
        let mut sum = Dim::default();
        for (m, c) in &self.terms {
            let mut product = Dim::constant(*c);
            for (atom, e) in m {
                let factor = match atom {
                    Atom::Symbol(_) => Self::atom(atom.clone()),
                    Atom::Max(a, b) => a.hoisted()?.maximum(&b.hoisted()?)?,
                    Atom::Min(a, b) => a.hoisted()?.minimum(&b.hoisted()?)?,
                    Atom::FloorDiv(a, b) => match (b.as_const(), a.hoisted()?) {
                        (Some(d), a) if d != 0 => {
                            let k = a.terms.iter().find(|t| t.0.is_empty()).map_or(0, |t| t.1);
                            let q = floor_div_i64(k, d)?;
                            let shift =
                                q.checked_mul(d).and_then(i64::checked_neg).ok_or(DimError::Overflow)?;
                            a.add_const(shift)?.floor_div(&Dim::constant(d))?.add_const(q)?
                        }
                        (_, a) => a.floor_div(&b.hoisted()?)?,
                    },
                };
                for _ in 0..*e {
                    product = product.mul(&factor)?;
                }
            }
            sum = sum.add(&product)?;
        }
        Ok(sum)
    }
}

fn floor_div_i64(a: i64, b: i64) -> Result<i64> {
    let q = a.checked_div(b).ok_or(DimError::Overflow)?;
    Ok(if a % b != 0 && ((a < 0) != (b < 0)) { q - 1 } else { q })
}

#[cfg(test)]
mod tests;
