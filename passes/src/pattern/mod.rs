//! Patterns of ops as text that reads like mathematics: the notation and what it parses to. Matching is in
//! `matcher.rs`, building replacements in `build.rs`; no rule belongs here.
//!
//! ```text
//! Mul(Mul(?x, Add(Erf(Div(?x, 1.4142135)), 1)), 0.5)
//! ```
//!
//! - `?x` is any value, the same one wherever the name occurs; `?w:const` a constant, `?s:scalar` one of equal
//!   elements. A trailing `?b?` is an operand that may be left out.
//! - A number is a constant whose elements all are about that number.
//! - `Op{attr=value}(operands)` is a node; attributes not named may be anything, `attr=?a` binds one, and axes may
//!   count from either end. `..` as the last operand stands for any more. Add, Mul, Min, Max, And, Or, Xor and
//!   Equal match with their operands in either order.
//! - `Op+(..)` may have other uses: the match does not make its work superfluous. Any other inner node must be used
//!   by the match alone.
//! - `Op(..)@n` gives the node a name, which is also that of its value.
//! - `Op#1(..)` is output 1 of a node.
//! - `<A | B>` is either; `~Op(A, ..)` is short for `<Op(A, ..) | A>`: a step that may be missing.
//! - `%map` and `%zip` are any elementwise op of one and of two float operands.
//! - `NAME = term;` in front defines a part by name.
//!
//! In replacements `Op{*n, attr=value}` takes the attributes of node `n`, `%n(..)` its op and attributes, and
//! `attr=?s` the number of a scalar.

mod build;
mod lexer;
mod matcher;
mod parse;

pub use build::Replacement;
pub use matcher::{Binding, Match, Mismatch, explain, find, used_elsewhere};

use frit_ir::op::Attr;

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any value.
    Any,
    /// A constant.
    Const,
    /// A constant whose elements are all equal.
    Scalar,
}

/// What an attribute must be.
#[derive(Clone, Debug, PartialEq)]
pub enum AttrTest {
    /// This value.
    Is(Attr),
    /// Anything, kept under the name of that slot.
    Bind(usize),
    /// All attributes of the node of that slot; replacements only.
    All(usize),
}

/// Which ops a node may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpTest {
    /// The op of that name.
    Named(&'static str),
    /// The op and attributes of the node of that slot; replacements only.
    Like(usize),
}

/// A node of a pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct OpTerm {
    /// Which op.
    pub op: OpTest,
    /// What is asked of its attributes.
    pub attrs: Vec<(String, AttrTest)>,
    /// Its operands.
    pub args: Vec<Term>,
    /// More operands may follow.
    pub rest: bool,
    /// Slot of its name.
    pub name: Option<usize>,
    /// Which output is meant.
    pub output: usize,
    /// May have uses outside the match.
    pub shared: bool,
}

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// A value.
    Var {
        /// Slot of its name.
        slot: usize,
        /// What it must be.
        kind: Kind,
        /// True when the operand may be left out.
        optional: bool,
    },
    /// A constant of that number.
    Number(f64),
    /// A node.
    Op(Box<OpTerm>),
    /// One of several parts.
    Choice(Vec<Term>),
}

impl Term {
    /// The number of nodes of the smallest alternative.
    pub fn size(&self) -> usize {
        match self {
            Term::Var { .. } | Term::Number(_) => 0,
            Term::Op(op) => 1 + op.args.iter().map(Term::size).sum::<usize>(),
            Term::Choice(all) => all.iter().map(Term::size).min().unwrap_or(0),
        }
    }

    /// Names of the ops that the part's own node may have; None when it may be no node at all.
    pub fn roots(&self) -> Option<Vec<&'static str>> {
        match self {
            Term::Op(op) => match op.op {
                OpTest::Named(name) => Some(vec![name]),
                OpTest::Like(_) => None,
            },
            Term::Choice(all) => {
                let mut names: Vec<_> =
                    all.iter().map(Term::roots).collect::<Option<Vec<_>>>()?.into_iter().flatten().collect();
                names.sort_unstable();
                names.dedup();
                Some(names)
            }
            _ => None,
        }
    }
}

/// A parsed pattern or replacement: a part, and the names in it by slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    /// The root.
    pub term: Term,
    /// Names by slot.
    pub names: Vec<String>,
}

/// Why text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column} of `{text}`: {why}")]
pub struct PatternError {
    /// The text.
    pub text: String,
    /// Where, in characters from 1.
    pub column: usize,
    /// What was expected and what came.
    pub why: String,
}

impl Pattern {
    /// Parses a pattern; its root must be a node.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        let pattern = parse::parse(text, Vec::new())?;
        if pattern.term.roots().is_none() {
            return Err(PatternError {
                text: text.to_owned(),
                column: 1,
                why: "the root must be an op".into(),
            });
        }
        Ok(pattern)
    }

    /// The slot of a name.
    pub fn slot(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }
}

/// Elementwise ops of one operand that a float value may go through.
pub const MAP: &[&str] = &[
    "Abs",
    "Neg",
    "Exp",
    "Sqrt",
    "Reciprocal",
    "Erf",
    "Tanh",
    "Sigmoid",
    "Relu",
    "Softplus",
    "Sin",
    "Cos",
    "Clip",
    "LeakyRelu",
    "Elu",
    "Gelu",
    "Swish",
    "HardSwish",
];

/// Elementwise ops of two operands that float values may go through.
pub const ZIP: &[&str] = &["Add", "Sub", "Mul", "Div", "Min", "Max"];

/// Ops of two operands whose order does not matter.
pub const COMMUTATIVE: &[&str] = &["Add", "Mul", "Min", "Max", "And", "Or", "Xor", "Equal"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_parse_to_parts() {
        let p = Pattern::parse("G = Add(?x, 1); Mul(~Div(?y, ?s:scalar), <G | Neg(?x)>)@m").unwrap();
        assert_eq!(p.names, ["x", "y", "s", "m"]);
        assert_eq!(p.term.size(), 2);
        assert_eq!(p.term.roots(), Some(vec!["Mul"]));
        assert_eq!(Pattern::parse("%zip(?x, 1)").unwrap().term.roots().map(|r| r.len()), Some(ZIP.len()));
    }

    #[test]
    fn errors_say_where_and_what() {
        for (text, column, why) in [
            ("Mul(?x", 7, "expected `,` or `)`"),
            ("Mull(?x)", 1, "no op `Mull`"),
            ("Transpose{perms=[1, 0]}(?x)", 11, "Transpose has no attribute `perms`"),
            ("?x", 1, "the root must be an op"),
            ("Mul(?x:big, 1)", 8, "`const` or `scalar`"),
            ("Mul(?x, 1) 2", 12, "end"),
            ("Mul(?x, 1e)", 9, "number"),
        ] {
            let e = Pattern::parse(text).unwrap_err();
            assert!(e.column == column && e.why.contains(why), "{text}: {e}");
        }
    }
}
