//! How long a run may compute: an estimate of each step from the shapes at hand, counted against an allowance. Memory
//! is counted in `memory.rs`; what a fair allowance is, the caller says.

use crate::error::RuntimeError;
use crate::plan::{Action, Instance, Program, Step};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What every step costs besides its arithmetic.
const STEP: u64 = 512;
/// How much faster kernels of backends are than the interpreter.
const KERNEL_SPEED: u64 = 64;

/// Work allowed in one run and left in this one, in multiplications of the interpreter (some nanoseconds each).
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowance {
    limit: Option<u64>,
    /// Shared with the sessions of bodies.
    left: Arc<AtomicU64>,
}

impl Allowance {
    pub(crate) fn set(&mut self, limit: Option<u64>) {
        self.limit = limit;
    }

    /// Begins a run.
    pub(crate) fn refill(&self) {
        self.left.store(self.limit.unwrap_or(u64::MAX), Relaxed);
    }

    /// Counts a step before it runs.
    pub(crate) fn spend(
        &self,
        program: &Program,
        instance: &Instance,
        step: &Step,
    ) -> Result<(), RuntimeError> {
        let Some(limit) = self.limit else { return Ok(()) };
        let work = work_of(program, instance, step).unwrap_or(u64::MAX);
        match self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(work)) {
            Ok(_) => Ok(()),
            Err(_) => Err(RuntimeError::WorkLimit { label: program.label(step).to_owned(), limit }),
        }
    }
}

/// None where it is too much to count.
fn work_of(program: &Program, instance: &Instance, step: &Step) -> Option<u64> {
    let speed = match &step.action {
        Action::Kernel(kernel) if kernel.is_reference() => 1,
        // What ops without sizes of their own cost is known when they have run; the graphs they run count themselves.
        Action::Dynamic(op) if !op.bodies().is_empty() => return Some(STEP),
        Action::Dynamic(_) => 1,
        _ => KERNEL_SPEED,
    };
    let op = &program.graph.node(step.node)?.op;
    let shapes = instance.shapes(step);
    let work = u64::try_from(op.work(&shapes.inputs, &shapes.outputs)?).ok()?;
    work.checked_div(speed)?.checked_add(STEP)
}
