//! Engines that take a graph whole, where a backend takes it op by op. Which graphs they get is decided elsewhere.

use crate::KernelError;
use frit_ir::Tensor;

/// Another engine with one graph in its own form. Sessions hand it the graph's inputs and take its outputs.
pub trait Delegate: Send + Sync {
    /// The engine's name.
    fn name(&self) -> &'static str;

    /// Runs the graph on all its inputs by name; gives its outputs in the graph's order.
    fn run(&self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>, KernelError>;
}
