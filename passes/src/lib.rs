//! Optimising frit graphs: rewrite rules as data, fusions, folding, and the driver that runs them and verifies after
//! each. Reading models, choosing kernels and planning memory do not belong here.
//!
//! [`optimise`] is the entry. A rule is a line of a table in [`rules`]; [`pipeline`] says in which order the tables
//! run.

pub mod chains;
pub mod cse;
pub mod driver;
pub mod edit;
pub mod fold;
pub mod loops;
pub mod pattern;
pub mod pipeline;
mod quick;
pub mod rule;
pub mod rules;
pub mod trace;
pub mod view;

pub use driver::{Options, PassError, Report, StageReport, optimise};
pub use fold::Budget;
pub use trace::{Event, Trace};
