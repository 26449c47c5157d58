//! Tests of frit-ir as its users see it: ops against independent formulas, text, verifier, shapes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attention;
mod composites;
mod convolution;
mod dynamic;
mod indexed;
mod indexing;
mod losses;
mod random_graphs;
mod reductions;
mod shapes;
mod text;
mod tools;
mod verifier;
mod vision;
