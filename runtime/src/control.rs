//! Control flow in a session: runs the graphs that If and Loop name, each in a session of its own. What goes in and
//! out is the ops' meaning (frit-ir); memory of one graph is the session's.

use crate::error::RuntimeError;
use crate::session::Session;
use frit_backend::KernelError;
use frit_ir::op::{OpError, run_loop};
use frit_ir::{Bindings, Op, Tensor, TensorType};
use std::sync::atomic::Ordering::Relaxed;

/// An error inside a loop: of the op itself, or of the graph that it ran.
enum Inner {
    Op(OpError),
    Run(RuntimeError),
}

impl From<OpError> for Inner {
    fn from(e: OpError) -> Self {
        Inner::Op(e)
    }
}

impl Session {
    /// Runs an op of control flow at `label`.
    pub(crate) fn control(
        &mut self,
        op: &Op,
        inputs: &[Option<&Tensor>],
        types: &[&TensorType],
        bindings: &Bindings,
        label: &str,
    ) -> Result<Vec<Tensor>, RuntimeError> {
        let failed = |e: OpError| RuntimeError::Kernel {
            kernel: op.name().to_owned(),
            label: label.to_owned(),
            source: KernelError::Data(e.to_string()),
        };
        match op {
            Op::If(branch) => {
                let holds = inputs.first().copied().flatten().is_some_and(|t| t.bytes().first() != Some(&0));
                let (body, range) = branch.choose(inputs.len(), holds);
                let operands: Vec<&Tensor> =
                    inputs.get(range).into_iter().flatten().flatten().copied().collect();
                self.body(body, &operands, bindings)
            }
            Op::Loop(each) => {
                // What the loop holds between two runs of its body: carried values, twice as they change, and the
                // slices of stacked results, twice as they are put together.
                let carried = usize::try_from(each.carried).unwrap_or(0).saturating_add(1);
                let (mut stacked, mut kept) = (0usize, 0usize);
                let size = |all: &[Tensor]| all.iter().map(|t| t.bytes().len()).sum::<usize>();
                let start = inputs.iter().flatten().map(|t| t.bytes().len()).sum::<usize>();
                let run = |operands: &[Tensor]| {
                    let left = &self.iterations_left;
                    if left.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_err() {
                        let label = label.to_owned();
                        return Err(Inner::Run(RuntimeError::IterationLimit { label }));
                    }
                    let operands: Vec<&Tensor> = operands.iter().collect();
                    let results = self.body(&each.body, &operands, bindings).map_err(Inner::Run)?;
                    let (next, slices) = results.split_at(carried.min(results.len()));
                    stacked = stacked.saturating_add(size(slices).saturating_mul(2));
                    let now = size(next);
                    let held = start.saturating_add(stacked).saturating_add(kept).saturating_add(now);
                    kept = now;
                    self.claim(held).map_err(Inner::Run)?;
                    Ok(results)
                };
                run_loop(each, types, inputs, run).map_err(|e| match e {
                    Inner::Op(e) => failed(e),
                    Inner::Run(e) => e,
                })
            }
            _ => Err(failed(OpError::NoEvaluation(op.name()))),
        }
    }

    /// Runs a graph of the module on operands in order.
    fn body(
        &mut self,
        name: &str,
        operands: &[&Tensor],
        bindings: &Bindings,
    ) -> Result<Vec<Tensor>, RuntimeError> {
        if !self.bodies.contains_key(name) {
            let mut session = self.model.session(name)?;
            session.set_memory_limit(self.memory_limit);
            session.account = self.account.beside();
            session.iterations_left = self.iterations_left.clone();
            session.allowance = self.allowance.clone();
            self.bodies.insert(name.to_owned(), session);
        }
        let unknown = || RuntimeError::Entry { entry: name.to_owned(), known: String::new() };
        let session = self.bodies.get_mut(name).ok_or_else(unknown)?;
        let names: Vec<String> = session.graph().inputs.iter().map(|i| i.name.clone()).collect();
        let named: Vec<(&str, &Tensor)> =
            names.iter().map(String::as_str).zip(operands.iter().copied()).collect();
        let outputs = session.run_within(&named, bindings.clone())?;
        let results: Vec<String> = outputs.names().map(str::to_owned).collect();
        results.iter().map(|n| outputs.tensor(n)).collect()
    }
}
