//! The text format of modules, for people and tests: every module prints and parses back to itself. Neither the
//! meaning of ops nor the binary artifact belongs here.
//!
//! ```text
//! module {
//!   fact class = "BertModel"
//!   weight @embeddings.weight: f32[64, 36]
//!   weight @c0: f32[] = 0.125
//!   graph forward(input_ids: i64[batch, sequence], attention_mask: i64[batch, sequence] = ones) {
//!     %3: f32[batch, sequence, 36] = Gather(@embeddings.weight, input_ids) ; "embeddings"
//!     %5: f32[batch, sequence, 36] = Mul(%3, @c0)
//!     return last_hidden_state = %5
//!   }
//! }
//! ```
//!
//! An operand is `%value`, `@weight`, an input by its name, or `_` where an optional one is left out. Attributes
//! follow in braces, those at their defaults left out; a node's label follows a semicolon. Types of results may be
//! left out when writing by hand; those given are checked. `//` starts a comment. Names other than letters, digits,
//! `_` and `.` stand in quotes. Weights of up to 16 elements carry their numbers, larger ones only their type.

mod attrs;
mod dims;
mod lexer;
mod numbers;
mod parser;
mod printer;

pub use parser::parse;
pub use printer::{print_graph, print_module};

/// Why text is no module, with the place.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("line {line}, column {column}: {why}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What was expected and what came.
    pub why: String,
}
