//! The loop that runs a program's steps. What they work on is decided before, in `bind.rs` and by the plan.

use super::Session;
use crate::error::RuntimeError;
use crate::memory::Arena;
use crate::model::Linked;
use crate::plan::{Action, Base, Instance, Location, Reuse, Slot, Step};
use crate::profile::StepTime;
use frit_backend::{KernelError, Run, TensorMut, TensorRef};
use frit_ir::{Op, Tensor, WeightTable};
use std::collections::HashMap;
use std::ops::Range;
use std::time::Instant;

/// Memory for each element of an operand that an op of run-time sizes works on: its number, and a position.
const BYTES_COUNTED: usize = 24;

impl Session {
    pub(super) fn execute(
        &mut self,
        linked: &Linked,
        instance: &mut Instance,
        reuse: Reuse<'_>,
    ) -> Result<(), RuntimeError> {
        let begin = Instant::now();
        let mut breaks = linked.program.breaks.iter().peekable();
        for (i, step) in linked.program.steps.iter().enumerate() {
            let start = self.profile.is_some().then(|| begin.elapsed());
            self.allowance.spend(&linked.program, instance, step)?;
            match &step.action {
                Action::Append { state } => self.append(linked, instance, step, *state)?,
                Action::Dynamic(op) => self.dynamic(linked, instance, step, op)?,
                _ => {
                    let heap = if self.memory_limit.is_some() { heap_of(instance, step) } else { 0 };
                    if heap > 0 {
                        self.claim(heap)?;
                    }
                    self.step(linked, instance, i, step)?;
                    if heap > 0 {
                        self.claim(0)?;
                    }
                }
            }
            if breaks.next_if(|b| **b == i).is_some() {
                let entry = || linked.program.graph.name.clone();
                instance
                    .enter(&linked.program, reuse)
                    .map_err(|source| RuntimeError::Sizes { entry: entry(), source })?;
                self.reserve(linked, instance)?;
            }
            if let Some(start) = start {
                let time = begin.elapsed().saturating_sub(start);
                let record = StepTime::new(linked, instance, (i, step), start, time);
                if let Some(p) = &mut self.profile {
                    p.push(record);
                }
            }
        }
        Ok(())
    }

    /// Evaluates an op whose results are tensors of their own, and binds the symbols that it defines.
    fn dynamic(
        &mut self,
        linked: &Linked,
        instance: &mut Instance,
        step: &Step,
        op: &Op,
    ) -> Result<(), RuntimeError> {
        let graph = &linked.program.graph;
        let label = || linked.program.label(step).to_owned();
        let memory = |why: &str| RuntimeError::Memory { label: label(), why: why.to_owned() };
        let inputs = step
            .inputs
            .iter()
            .map(|o| {
                let Some(o) = o else { return Ok(None) };
                let missing = || memory("an operand's memory is missing");
                let l = instance.location(o.slot).ok_or_else(missing)?;
                let bytes = self.read(l).ok_or_else(missing)?;
                let dtype =
                    linked.program.slots.get(o.slot.index()).map(|s| s.ty.dtype).ok_or_else(missing)?;
                Ok(Some(Tensor::from_bytes(dtype, &l.shape, bytes)?))
            })
            .collect::<Result<Vec<Option<Tensor>>, RuntimeError>>()?;
        let inputs: Vec<Option<&Tensor>> = inputs.iter().map(Option::as_ref).collect();
        let copied: usize = inputs.iter().flatten().map(|t| t.bytes().len()).sum();
        let node = graph.node(step.node);
        let types: Vec<&frit_ir::TensorType> =
            node.into_iter().flat_map(|n| &n.outputs).filter_map(|v| graph.ty(*v)).collect();
        let results = if op.bodies().is_empty() {
            let counted = inputs.iter().flatten().map(|t| t.len()).fold(0, usize::saturating_add);
            self.claim(copied.saturating_add(counted.saturating_mul(BYTES_COUNTED)))?;
            frit_ir::interp::evaluate(op, &inputs, &types, &instance.bindings, &label())
                .map_err(|e| KernelError::Data(e.to_string()))
                .map_err(|source| RuntimeError::Kernel { kernel: op.name().into(), label: label(), source })?
        } else {
            self.claim(copied)?;
            self.control(op, &inputs, &types, &instance.bindings, &label())?
        };
        op.bind_results(&types, &results, &mut instance.bindings)
            .map_err(|e| KernelError::Data(e.to_string()))
            .map_err(|source| RuntimeError::Kernel { kernel: op.name().into(), label: label(), source })?;
        self.own.extend(step.outputs.iter().copied().zip(results));
        self.claim(0)
    }

    fn step(
        &mut self,
        linked: &Linked,
        instance: &Instance,
        index: usize,
        step: &Step,
    ) -> Result<(), RuntimeError> {
        let memory = |why: &str| RuntimeError::Memory {
            label: linked.program.label(step).to_owned(),
            why: why.to_owned(),
        };
        let locate = |s: Slot| instance.location(s).ok_or_else(|| memory("an operand has no location"));
        // A step writes to the memory of its own phase and reads that of earlier ones.
        let phase = instance.newest().0;
        // Ranges of this phase's memory that the step reads.
        let mut reads: Vec<Range<usize>> = Vec::with_capacity(step.inputs.len());
        for (k, operand) in step.inputs.iter().enumerate() {
            let Some(operand) = operand else { continue };
            let l = locate(operand.slot)?;
            if l.base == Base::Arena(phase) && operand.packed.is_none() && step.aliased != Some(k) {
                reads.push(l.offset..l.offset.saturating_add(l.len));
            }
        }
        let mut writes: Vec<Range<usize>> = Vec::with_capacity(step.outputs.len() + 1);
        for s in &step.outputs {
            let l = locate(*s)?;
            writes.push(l.offset..l.offset.saturating_add(l.len));
        }
        let (offset, bytes) = instance.workspaces.get(index).copied().unwrap_or((0, 0));
        writes.push(offset..offset.saturating_add(bytes));
        let count = self.arenas.len();
        let (earlier, this) = self.arenas.split_at_mut(phase.min(count));
        let borrows = this
            .first_mut()
            .and_then(|a| a.borrow(&reads, &writes))
            .ok_or_else(|| memory("its operands overlap"))?;

        let mut arena_reads = borrows.reads.into_iter();
        let mut inputs: Vec<Option<TensorRef<'_>>> = Vec::with_capacity(step.inputs.len());
        for (k, operand) in step.inputs.iter().enumerate() {
            let Some(operand) = operand.as_ref().filter(|_| step.aliased != Some(k)) else {
                inputs.push(None);
                continue;
            };
            let l = locate(operand.slot)?;
            let range = l.offset..l.offset.saturating_add(l.len);
            let bytes = if operand.packed.is_some() {
                linked.packed(index, k).map(Tensor::bytes)
            } else {
                match l.base {
                    Base::Arena(p) if p == phase => arena_reads.next(),
                    Base::Arena(p) => earlier.get(p).and_then(|a| a.read(range)),
                    Base::Own => self.own.get(&l.owner).and_then(|t| t.bytes().get(range)),
                    Base::Input(n) => self.inputs.get(n).and_then(|t| t.bytes().get(range)),
                    Base::Weight(w) => self.model.weights().data(w).and_then(|t| t.bytes().get(range)),
                    Base::State(n) => self.states.get(n).and_then(|s| s.memory.bytes().get(range)),
                    Base::None => None,
                }
            };
            let bytes = bytes.ok_or_else(|| memory("an operand's memory is missing"))?;
            let dtype = linked
                .program
                .slots
                .get(operand.slot.index())
                .map(|s| s.ty.dtype)
                .ok_or_else(|| memory("an operand has no type"))?;
            inputs.push(Some(TensorRef { dtype, shape: &l.shape, strides: l.strides.as_deref(), bytes }));
        }
        let mut written = borrows.writes;
        let workspace = written.pop().ok_or_else(|| memory("no workspace"))?;
        let mut outputs: Vec<TensorMut<'_>> = Vec::with_capacity(written.len());
        for (s, bytes) in step.outputs.iter().zip(written) {
            let l = locate(*s)?;
            let dtype =
                linked.program.slots.get(s.index()).map(|s| s.ty.dtype).ok_or_else(|| memory("no type"))?;
            outputs.push(TensorMut { dtype, shape: &l.shape, bytes });
        }
        match &step.action {
            Action::Kernel(kernel) => {
                let mut run = Run {
                    inputs: &inputs,
                    outputs: &mut outputs,
                    aliased: step.aliased,
                    workspace,
                    bindings: &instance.bindings,
                };
                kernel.run(&mut run).map_err(|source| RuntimeError::Kernel {
                    kernel: kernel.name(),
                    label: linked.program.label(step).to_owned(),
                    source,
                })
            }
            Action::Copy => {
                let from = inputs.first().copied().flatten().ok_or_else(|| memory("nothing to copy"))?;
                let copy = from.to_tensor()?;
                let to = outputs.first_mut().ok_or_else(|| memory("nowhere to copy to"))?;
                if to.bytes.len() != copy.bytes().len() {
                    return Err(memory("a copy of another size"));
                }
                to.bytes.copy_from_slice(copy.bytes());
                Ok(())
            }
            Action::Append { .. } | Action::Dynamic(_) => Ok(()),
        }
    }

    fn append(
        &mut self,
        linked: &Linked,
        instance: &Instance,
        step: &Step,
        state: usize,
    ) -> Result<(), RuntimeError> {
        let memory = |why: &str| RuntimeError::Memory {
            label: linked.program.label(step).to_owned(),
            why: why.to_owned(),
        };
        let operand =
            step.inputs.first().and_then(Option::as_ref).ok_or_else(|| memory("nothing to append"))?;
        let l = instance.location(operand.slot).ok_or_else(|| memory("nothing to append"))?;
        let axis = linked.program.graph.states.get(state).map_or(0, |s| s.axis);
        let rows = l.shape.get(axis).copied().unwrap_or(0);
        let bytes = stateless(l, &self.arenas, &self.own, &self.inputs, self.model.weights());
        let bytes = bytes.ok_or_else(|| memory("nothing to append"))?;
        let buffer = self.states.get_mut(state).ok_or_else(|| memory("no such state"))?;
        if l.strides.is_some() || !buffer.append(bytes, rows) {
            return Err(memory("rows do not fit the state"));
        }
        Ok(())
    }

    /// The bytes at a location.
    pub(super) fn read(&self, l: &Location) -> Option<&[u8]> {
        match l.base {
            Base::State(n) => self.states.get(n)?.memory.bytes().get(l.offset..l.offset.checked_add(l.len)?),
            _ => stateless(l, &self.arenas, &self.own, &self.inputs, self.model.weights()),
        }
    }
}

/// The bytes at a location that is in no state.
fn stateless<'s>(
    l: &Location,
    arenas: &'s [Arena],
    own: &'s HashMap<Slot, Tensor>,
    inputs: &'s [Tensor],
    weights: &'s WeightTable,
) -> Option<&'s [u8]> {
    let range = l.offset..l.offset.checked_add(l.len)?;
    match l.base {
        Base::Arena(p) => arenas.get(p)?.read(range),
        Base::Own => own.get(&l.owner)?.bytes().get(range),
        Base::Input(n) => inputs.get(n)?.bytes().get(range),
        Base::Weight(w) => weights.data(w)?.bytes().get(range),
        Base::State(_) | Base::None => None,
    }
}

/// What a step's kernel allocates itself.
fn heap_of(instance: &Instance, step: &Step) -> usize {
    let Action::Kernel(kernel) = &step.action else { return 0 };
    let shapes = instance.shapes(step);
    kernel.heap(&shapes.inputs, &shapes.outputs)
}
