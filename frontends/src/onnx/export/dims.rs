//! Dimension expressions as nodes: what an op's attribute says in symbols becomes arithmetic on the shapes of the
//! inputs that carry them. Every expression is computed once, as an i64 tensor of one element along one axis.

use super::emitter::Emitter;
use super::{ExportError, attr};
use frit_ir::dim::Part;
use frit_ir::{Dim, Tensor};
use std::collections::HashMap;

type Result<T> = std::result::Result<T, ExportError>;

/// An extent of a value that is at hand.
#[derive(Clone)]
struct Extent {
    value: String,
    axis: usize,
    dim: Dim,
}

/// Where symbols come from, and what is computed already.
#[derive(Clone, Default)]
pub(super) struct Sources {
    /// Extents that are a symbol and nothing else.
    plain: HashMap<String, Extent>,
    /// Extents that are expressions, from which a symbol may be solved.
    compound: Vec<Extent>,
    computed: HashMap<Dim, String>,
}

impl Sources {
    /// Notes the extents of an input.
    pub fn add(&mut self, value: &str, shape: &[Dim]) {
        self.add_symbols(value, shape);
        for (axis, dim) in shape.iter().enumerate() {
            if dim.as_symbol().is_none() && dim.as_const().is_none() {
                self.compound.push(Extent { value: value.to_owned(), axis, dim: dim.clone() });
            }
        }
    }

    /// Notes the symbols among the extents of any value, where they have no source yet.
    pub fn add_symbols(&mut self, value: &str, shape: &[Dim]) {
        for (axis, dim) in shape.iter().enumerate() {
            if let Some(symbol) = dim.as_symbol() {
                let extent = Extent { value: value.to_owned(), axis, dim: dim.clone() };
                self.plain.entry(symbol.to_owned()).or_insert(extent);
            }
        }
    }

    /// Notes that a symbol is the element of an i64 tensor along one axis.
    pub fn define(&mut self, symbol: &str, value: &str) {
        self.computed.insert(Dim::symbol(symbol), value.to_owned());
    }

    /// The extent that gives `symbol` by subtraction and division, with what is to be subtracted and the divisor.
    fn solve(&self, symbol: &str) -> Option<(Extent, Dim, i64)> {
        self.compound.iter().find_map(|extent| {
            let d = &extent.dim;
            let others_known = d.symbols().iter().all(|s| **s == *symbol || self.plain.contains_key(&**s));
            let at = |n: i64| d.substitute(&|s| (s == symbol).then(|| Dim::constant(n))).ok();
            let (rest, one, two) = (at(0)?, at(1)?, at(2)?);
            let slope = one.sub(&rest).ok()?.as_const()?;
            let linear = two.sub(&one).ok()?.as_const() == Some(slope);
            // A quotient is not linear though it may look so in two places.
            let direct = d.parts().all(|(_, mut parts)| {
                parts.all(|(p, _)| match p {
                    Part::Symbol(_) => true,
                    Part::FloorDiv(a, b) | Part::Max(a, b) | Part::Min(a, b) => {
                        [a, b].iter().all(|d| d.symbols().iter().all(|s| **s != *symbol))
                    }
                })
            });
            (others_known && linear && direct && slope != 0).then(|| (extent.clone(), rest, slope))
        })
    }
}

impl Emitter<'_> {
    /// Dims as an i64 tensor along one axis.
    pub fn dims(&mut self, dims: &[Dim]) -> Result<String> {
        if let Some(v) = dims.iter().map(Dim::as_const).collect::<Option<Vec<_>>>() {
            return self.integers(&v);
        }
        let mut parts: Vec<String> = Vec::new();
        let mut numbers: Vec<i64> = Vec::new();
        for d in dims {
            if let Some(n) = d.as_const() {
                numbers.push(n);
                continue;
            }
            if !numbers.is_empty() {
                parts.push(self.integers(&std::mem::take(&mut numbers))?);
            }
            parts.push(self.dim(d)?);
        }
        if !numbers.is_empty() {
            parts.push(self.integers(&numbers)?);
        }
        match parts.as_slice() {
            [one] => Ok(one.clone()),
            _ => Ok(self.compute("Concat", parts, vec![attr::int("axis", 0)])),
        }
    }

    /// A dim as an i64 scalar.
    pub fn scalar_dim(&mut self, d: &Dim) -> Result<String> {
        match d.as_const() {
            Some(n) => self.integer(n),
            None => {
                let one = self.dim(d)?;
                Ok(self.compute("Squeeze", vec![one], vec![]))
            }
        }
    }

    /// A dim as an i64 tensor of one element along one axis.
    pub fn dim(&mut self, d: &Dim) -> Result<String> {
        if let Some(n) = d.as_const() {
            return self.integers(&[n]);
        }
        if let Some(name) = self.sources.computed.get(d) {
            return Ok(name.clone());
        }
        let name = match d.as_symbol() {
            Some(symbol) => self.symbol(symbol, d)?,
            None => {
                let normal = d.normalised()?;
                if normal != *d && self.sources.computed.contains_key(&normal) {
                    self.dim(&normal)?
                } else {
                    self.sum(&normal)?
                }
            }
        };
        self.sources.computed.insert(d.clone(), name.clone());
        Ok(name)
    }

    /// A node on shapes with a name that says what it computes.
    fn arithmetic(&mut self, op: &str, inputs: Vec<String>, what: &str) -> String {
        let name = self.fresh_global(&format!("dim/{what}"));
        self.push(op, inputs, vec![name.clone()], vec![]);
        name
    }

    fn extent(&mut self, extent: &Extent, what: &str) -> String {
        let axis = i64::try_from(extent.axis).unwrap_or(i64::MAX);
        let name = self.fresh_global(&format!("dim/{what}"));
        let attrs = vec![attr::int("start", axis), attr::int("end", axis.saturating_add(1))];
        self.push("Shape", vec![extent.value.clone()], vec![name.clone()], attrs);
        name
    }

    fn symbol(&mut self, symbol: &str, whole: &Dim) -> Result<String> {
        if let Some(extent) = self.sources.plain.get(symbol).cloned() {
            return Ok(self.extent(&extent, symbol));
        }
        let Some((extent, rest, slope)) = self.sources.solve(symbol) else {
            return Err(ExportError::Symbol {
                dim: whole.to_string(),
                symbol: symbol.to_owned(),
                label: self.label.clone(),
            });
        };
        let mut value = match self.sources.computed.get(&extent.dim) {
            Some(name) => name.clone(),
            None => self.extent(&extent, &extent.dim.to_string()),
        };
        self.sources.computed.insert(extent.dim.clone(), value.clone());
        if !rest.is(0) {
            let rest = self.dim(&rest)?;
            value = self.arithmetic("Sub", vec![value, rest], symbol);
        }
        if slope != 1 {
            let slope = self.integers(&[slope])?;
            value = self.arithmetic("Div", vec![value, slope], symbol);
        }
        Ok(value)
    }

    fn sum(&mut self, d: &Dim) -> Result<String> {
        let text = d.to_string();
        // Positive terms first, so that no more than needed is negative on the way; the constant last.
        let mut terms: Vec<(i64, Vec<(Part<'_>, u32)>)> = d.parts().map(|(c, p)| (c, p.collect())).collect();
        terms.sort_by_key(|(c, parts)| (*c < 0, parts.is_empty()));
        let mut sum: Option<String> = None;
        for (c, parts) in terms {
            sum = Some(match sum {
                None => self.product(c, &parts, &text)?,
                Some(sum) => {
                    let magnitude = c.checked_abs().ok_or(frit_ir::DimError::Overflow)?;
                    let term = self.product(magnitude, &parts, &text)?;
                    self.arithmetic(if c < 0 { "Sub" } else { "Add" }, vec![sum, term], &text)
                }
            });
        }
        match sum {
            Some(sum) => Ok(sum),
            None => self.integers(&[0]),
        }
    }

    fn product(&mut self, c: i64, parts: &[(Part<'_>, u32)], text: &str) -> Result<String> {
        let mut product: Option<String> = None;
        for (part, exponent) in parts {
            let factor = self.part(*part, text)?;
            for _ in 0..*exponent {
                product = Some(match product {
                    None => factor.clone(),
                    Some(p) => self.arithmetic("Mul", vec![p, factor.clone()], text),
                });
            }
        }
        match product {
            None => self.integers(&[c]),
            Some(p) if c == 1 => Ok(p),
            Some(p) => {
                let c = self.integers(&[c])?;
                Ok(self.arithmetic("Mul", vec![p, c], text))
            }
        }
    }

    fn part(&mut self, part: Part<'_>, text: &str) -> Result<String> {
        match part {
            Part::Symbol(s) => self.dim(&Dim::symbol(s)),
            Part::Max(a, b) => {
                let operands = vec![self.dim(a)?, self.dim(b)?];
                Ok(self.arithmetic("Max", operands, text))
            }
            Part::Min(a, b) => {
                let operands = vec![self.dim(a)?, self.dim(b)?];
                Ok(self.arithmetic("Min", operands, text))
            }
            Part::FloorDiv(a, b) => {
                let whole = a.floor_div(b)?;
                if let Some(name) = self.sources.computed.get(&whole) {
                    return Ok(name.clone());
                }
                let (x, y) = (self.dim(a)?, self.dim(b)?);
                // Div truncates. That is the same where nothing is negative; elsewhere the remainder, which has the
                // divisor's sign, is taken off first.
                let x = if a.is_never_negative() && b.is_never_negative() {
                    x
                } else {
                    let rest = self.arithmetic("Mod", vec![x.clone(), y.clone()], text);
                    self.arithmetic("Sub", vec![x, rest], text)
                };
                let name = self.arithmetic("Div", vec![x, y], text);
                self.sources.computed.insert(whole, name.clone());
                Ok(name)
            }
        }
    }

    /// Where an offset cannot be said as a number: `value` where it is not negative, `i64::MIN` (before all) elsewhere.
    pub fn or_before_all(&mut self, value: String) -> Result<String> {
        let zero = self.integers(&[0])?;
        let before = self.compute("Less", vec![value.clone(), zero], vec![]);
        let lowest = self.constant(Tensor::from_slice(&[1], &[i64::MIN])?);
        Ok(self.compute("Where", vec![before, lowest, value], vec![]))
    }
}
