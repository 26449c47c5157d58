//! Dimension symbols of a model: of its inputs, of sizes known at run time only, and their names. What is computed
//! with them belongs to `num.rs`.

use super::num::Num;
use frit_ir::dim::Bounds;
use frit_ir::{Dim, ValueId};
use std::collections::{HashMap, HashSet};

/// Unknown tensors of more elements do not become symbols.
pub const MAX_ELEMENTS: usize = 64;

/// Where the value of a symbol stands: an element of an integer tensor of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The serial number of the graph under construction.
    pub frame: usize,
    /// The tensor.
    pub value: ValueId,
    /// The element, in row-major order.
    pub position: usize,
}

struct Symbol {
    bounds: Bounds,
    /// An extent of an input of the model.
    input: bool,
    /// Set until the graph has the op that defines the symbol.
    source: Option<Source>,
}

/// Every symbol of a model.
#[derive(Default)]
pub struct Symbols {
    all: HashMap<String, Symbol>,
    names: HashSet<String>,
    /// How often a name was asked for.
    asked: HashMap<String, usize>,
    by_parameter: HashMap<String, String>,
    count: usize,
    /// Extents that a value of the graph has, and which are therefore at least 0: the expression without its number,
    /// and the smallest number with which it occurs.
    extents: HashMap<Dim, i64>,
}

/// So many extents are remembered.
const MAX_EXTENTS: usize = 4096;

impl Symbols {
    /// The bounds of a symbol.
    pub fn bounds(&self, name: &str) -> Bounds {
        self.all.get(name).map_or(Bounds::ANY, |s| s.bounds)
    }

    /// The bounds of a symbol where extents of inputs are taken to be at least 1. What follows from that alone is
    /// checked by the graph at run time.
    pub fn likely_bounds(&self, name: &str) -> Bounds {
        match self.all.get(name) {
            Some(s) if s.input => Bounds::at_least(1),
            _ => self.bounds(name),
        }
    }

    /// Remembers that a value has this extent. Only extents that occur whatever branch is taken count.
    pub fn note_extent(&mut self, d: &Dim) {
        if d.as_const().is_some() || self.extents.len() >= MAX_EXTENTS {
            return;
        }
        let (rest, number) = d.split_const();
        let least = self.extents.entry(rest).or_insert(number);
        *least = number.min(*least);
    }

    /// What the dim is at least, by the extents that occur.
    pub fn by_extents(&self, d: &Dim) -> Option<i64> {
        let (rest, number) = d.split_const();
        number.checked_sub(*self.extents.get(&rest)?)
    }

    /// True for an extent of an input.
    pub fn is_input(&self, name: &str) -> bool {
        self.all.get(name).is_some_and(|s| s.input)
    }

    /// A name like `base` that nothing has yet: letters, digits and `_`, not beginning with a digit.
    pub fn fresh_name(&mut self, base: &str) -> String {
        let clean: String =
            base.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
        let clean = match clean.chars().next() {
            Some(c) if c.is_ascii_alphabetic() || (c == '_' && clean.len() > 1) => clean,
            _ => format!("d{clean}"),
        };
        let mut name = clean.clone();
        let n = self.asked.entry(clean.clone()).or_insert(1);
        while !self.names.insert(name.clone()) {
            *n += 1;
            name = format!("{clean}_{n}");
        }
        name
    }

    /// A new symbol for an extent of an input of the model.
    pub fn fresh_input(&mut self, base: &str) -> String {
        let name = self.fresh_extent(base);
        if let Some(s) = self.all.get_mut(&name) {
            s.input = true;
        }
        name
    }

    /// A new symbol for an extent, defined by an op that the caller emits.
    pub fn fresh_extent(&mut self, base: &str) -> String {
        let name = self.fresh_name(base);
        self.all.insert(name.clone(), Symbol { bounds: Bounds::at_least(0), input: false, source: None });
        name
    }

    /// The symbol of a dim_param: the same for the same text.
    pub fn of_parameter(&mut self, parameter: &str) -> String {
        if let Some(name) = self.by_parameter.get(parameter) {
            return name.clone();
        }
        let name = self.fresh_input(parameter);
        self.by_parameter.insert(parameter.to_owned(), name.clone());
        name
    }

    /// A new symbol for an element of a tensor; the graph does not define it until it is needed.
    pub fn of_element(&mut self, frame: usize, value: ValueId, position: usize) -> Num {
        self.count += 1;
        let name = self.fresh_name(&format!("n{}", self.count));
        let source = Some(Source { frame, value, position });
        self.all.insert(name.clone(), Symbol { bounds: Bounds::ANY, input: false, source });
        Dim::symbol(&name).into()
    }

    /// Where the symbol's value stands, once; None when the graph defines the symbol already.
    pub fn take_undefined(&mut self, name: &str) -> Option<Source> {
        self.all.get_mut(name).and_then(|s| s.source.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_unique() {
        let mut s = Symbols::default();
        assert_eq!(s.of_parameter("batch size"), "batch_size");
        assert_eq!(s.of_parameter("batch-size"), "batch_size_2");
        assert_eq!(s.of_parameter("batch size"), "batch_size");
        assert_eq!(s.of_parameter("2*s0"), "d2_s0");
        assert_eq!(s.of_parameter("_"), "d_");
        assert_eq!(s.bounds("batch_size"), Bounds::at_least(0));
        assert_eq!(s.bounds("elsewhere"), Bounds::ANY);
        assert_eq!(s.likely_bounds("batch_size"), Bounds::at_least(1));
        let frames = Dim::symbol("n").add_const(-3).and_then(|d| d.floor_div(&Dim::constant(2))).unwrap();
        assert_eq!(s.by_extents(&frames), None);
        s.note_extent(&frames.add_const(2).unwrap());
        s.note_extent(&frames.add_const(1).unwrap());
        assert_eq!(s.by_extents(&frames), Some(-1));
        assert_eq!(s.by_extents(&frames.add_const(1).unwrap()), Some(0));
    }
}
