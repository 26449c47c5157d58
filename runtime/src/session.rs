//! A session: one caller's memory for one entry point, and the loop that runs a program's steps.
//! What the steps are was decided by the plan.

use crate::error::{PlanError, RuntimeError};
use crate::memory::{Account, Arena, StateBuffer};
use crate::model::{Linked, Model};
use crate::plan::{Action, Base, Instance, Location, Reuse, Slot, Step};
use crate::work::Allowance;
use frit_backend::{Delegate, KernelError, Run, TensorMut, TensorRef};
use frit_ir::{Bindings, Op, Tensor, binding};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Memory for each element of an operand that an op of run-time sizes works on: its number, and a position.
const BYTES_COUNTED: usize = 24;

/// What one step took.
#[derive(Clone, Debug)]
pub struct StepTime {
    /// Where in the model.
    pub label: String,
    /// Op name.
    pub op: String,
    /// Kernel name.
    pub kernel: String,
    /// From the start of the run.
    pub start: Duration,
    /// How long.
    pub time: Duration,
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes read and written.
    pub bytes: f64,
}

/// Memory and state for running one entry point. Sessions of one model run side by side.
pub struct Session {
    pub(crate) model: Model,
    linked: Arc<Linked>,
    /// The engine that runs the graph in our stead, and what it gave last.
    delegate: Option<Arc<dyn Delegate>>,
    results: Vec<Tensor>,
    /// The memory of each phase.
    arenas: Vec<Arena>,
    /// By slot, the tensors that dynamic steps made.
    own: HashMap<Slot, Tensor>,
    /// Sessions of the graphs that control flow runs.
    pub(crate) bodies: HashMap<String, Session>,
    states: Vec<StateBuffer>,
    inputs: Vec<Tensor>,
    instance: Option<Instance>,
    profile: Option<Vec<StepTime>>,
    pub(crate) memory_limit: Option<usize>,
    /// Counted with the sessions of bodies.
    pub(crate) account: Account,
    /// Iterations of loops allowed in one run.
    iteration_limit: Option<u64>,
    /// Iterations left in this run, shared with the sessions of bodies.
    pub(crate) iterations_left: Arc<AtomicU64>,
    /// Work allowed, counted with the sessions of bodies.
    pub(crate) allowance: Allowance,
}

/// The results of a run. They stay in the session's memory until its next run.
pub struct Outputs<'s> {
    session: &'s Session,
}

impl Session {
    pub(crate) fn new(model: Model, linked: Arc<Linked>, delegate: Option<Arc<dyn Delegate>>) -> Self {
        Session {
            model,
            linked,
            delegate,
            results: Vec::new(),
            arenas: Vec::new(),
            own: HashMap::new(),
            bodies: HashMap::new(),
            states: Vec::new(),
            inputs: Vec::new(),
            instance: None,
            profile: None,
            memory_limit: None,
            account: Account::default(),
            iteration_limit: None,
            iterations_left: Arc::new(AtomicU64::new(u64::MAX)),
            allowance: Allowance::default(),
        }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The entry point's graph: names and types of inputs and outputs.
    pub fn graph(&self) -> &frit_ir::Graph {
        &self.linked.program.graph
    }

    /// Refuses runs that need more memory than this many bytes besides weights and inputs: arenas, states, results of
    /// sizes known at run time, what control flow holds in all its graphs.
    pub fn set_memory_limit(&mut self, bytes: Option<usize>) {
        self.memory_limit = bytes;
    }

    /// Refuses runs whose loops, all together, go through more iterations than this.
    pub fn set_iteration_limit(&mut self, iterations: Option<u64>) {
        self.iteration_limit = iterations;
    }

    /// Refuses runs that compute more than this, in multiplications of the interpreter, of which kernels of backends do
    /// some dozens in the same time. It is estimated step by step from shapes, and checked before each.
    pub fn set_work_limit(&mut self, operations: Option<u64>) {
        self.allowance.set(operations);
    }

    /// Turns timing of every step on or off.
    pub fn set_profiling(&mut self, on: bool) {
        self.profile = on.then(Vec::new);
    }

    /// The times of the last run's steps, when profiling.
    pub fn profile(&self) -> Option<&[StepTime]> {
        self.profile.as_deref()
    }

    /// Forgets what states hold.
    pub fn clear_state(&mut self) {
        self.states.clear();
    }

    /// Rows that the states hold: tokens seen so far. 0 without states.
    pub fn state_len(&self) -> usize {
        self.states.first().map_or(0, StateBuffer::len)
    }

    /// Makes row b of every state what row `from[b]` was.
    pub fn reorder_state(&mut self, from: &[usize]) {
        for s in &mut self.states {
            s.reorder(from);
        }
    }

    /// Runs the entry point. Inputs with a default may be left out; state inputs continue from the last run,
    /// or start from the tensors given for them.
    pub fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Outputs<'_>, RuntimeError> {
        self.iterations_left.store(self.iteration_limit.unwrap_or(u64::MAX), Ordering::Relaxed);
        self.allowance.refill();
        self.run_within(inputs, Bindings::new())
    }

    /// [`Session::run`], with symbols known from the graph around this one.
    pub(crate) fn run_within(
        &mut self,
        inputs: &[(&str, &Tensor)],
        outer: Bindings,
    ) -> Result<Outputs<'_>, RuntimeError> {
        let linked = self.linked.clone();
        let graph = &linked.program.graph;
        binding::check_names(graph, inputs.iter().map(|(n, _)| *n))?;
        let given = |name: &str| inputs.iter().find(|(n, _)| *n == name).map(|(_, t)| *t);
        let bindings = self.bind(&linked, &given, outer)?;
        self.prepare_states(&linked, &given, &bindings)?;
        let sizes = |source: PlanError| RuntimeError::Sizes { entry: graph.name.clone(), source };

        self.inputs.clear();
        for input in &graph.inputs {
            let is_state = graph.states.iter().any(|s| s.input == input.name);
            let tensor = match (given(&input.name), input.default, graph.ty(input.value)) {
                (Some(t), _, _) if !is_state => t.clone(),
                (_, Some(d), Some(ty)) if !is_state => {
                    let shape = ty.eval_shape(&bindings).map_err(|e| sizes(e.into()))?;
                    binding::default_tensor(d, ty.dtype, &shape)?
                }
                _ => Tensor::zeros(frit_ir::DType::U8, &[0])?,
            };
            self.inputs.push(tensor);
        }

        if let Some(delegate) = self.delegate.clone() {
            self.results = delegated(&*delegate, graph, &self.inputs, &bindings)?;
            return Ok(Outputs { session: self });
        }
        self.own.clear();
        let capacities: Vec<usize> = self.states.iter().map(|s| s.capacity).collect();
        let last = self.instance.take();
        let reuse = Reuse { capacities: &capacities, last: last.as_ref() };
        let mut instance = Instance::new(&linked.program, bindings, reuse).map_err(sizes)?;
        self.reserve(&linked, &instance)?;
        if let Some(p) = &mut self.profile {
            p.clear();
        }
        let pool = self.model.pool().clone();
        let result = pool.install(|| self.execute(&linked, &mut instance, reuse));
        // What was appended counts from now on.
        if result.is_ok() {
            for (n, s) in self.states.iter_mut().enumerate() {
                let out = graph.states.get(n).and_then(|d| graph.outputs.iter().find(|o| o.name == d.output));
                if let Some(l) = out.and_then(|o| instance.location(o.value.into())) {
                    s.shape.clone_from(&l.shape);
                }
            }
        }
        self.instance = Some(instance);
        result?;
        Ok(Outputs { session: self })
    }

    /// Values of the symbols; state inputs count with what is kept.
    fn bind<'t>(
        &self,
        linked: &Linked,
        given: &dyn Fn(&str) -> Option<&'t Tensor>,
        outer: Bindings,
    ) -> Result<Bindings, RuntimeError> {
        let graph = &linked.program.graph;
        // The symbols of an empty cache are not in the cache: bind the rest first, then its zero rows.
        let kept = |name: &str| graph.states.iter().position(|s| s.input == name);
        let mut probe = graph.clone();
        let fresh = self.states.is_empty();
        if fresh {
            for i in &mut probe.inputs {
                if kept(&i.name).is_some() && given(&i.name).is_none() {
                    i.default = Some(frit_ir::InputDefault::Zeros);
                }
            }
        }
        let shape_of = |name: &str| match (given(name), kept(name)) {
            (Some(t), _) => Some((t.dtype(), t.shape().to_vec())),
            (None, Some(n)) => {
                let ty = graph.inputs.iter().find(|i| i.name == name).and_then(|i| graph.ty(i.value))?;
                self.states.get(n).map(|s| (ty.dtype, s.shape.clone()))
            }
            (None, None) => None,
        };
        let mut extra = outer;
        if fresh {
            for s in &graph.states {
                let ty = graph.inputs.iter().find(|i| i.name == s.input).and_then(|i| graph.ty(i.value));
                if let (Some(ty), None) = (ty, given(&s.input))
                    && let Some(symbol) = ty.shape.get(s.axis).and_then(|d| d.as_symbol())
                {
                    extra.set(symbol, 0);
                }
            }
        }
        Ok(binding::bind_with(&probe, &shape_of, extra)?)
    }

    /// Brings every state to the batch of this call, with room for its new rows.
    fn prepare_states<'t>(
        &mut self,
        linked: &Linked,
        given: &dyn Fn(&str) -> Option<&'t Tensor>,
        bindings: &Bindings,
    ) -> Result<(), RuntimeError> {
        let graph = &linked.program.graph;
        let sizes = |source: PlanError| RuntimeError::Sizes { entry: graph.name.clone(), source };
        for (n, decl) in graph.states.iter().enumerate() {
            let state_error = || sizes(PlanError::State { name: decl.output.clone() });
            let input = graph.inputs.iter().find(|i| i.name == decl.input).ok_or_else(state_error)?;
            let output = graph.outputs.iter().find(|o| o.name == decl.output).ok_or_else(state_error)?;
            let ty = graph.ty(input.value).ok_or_else(state_error)?;
            let before = ty.eval_shape(bindings).map_err(|e| sizes(e.into()))?;
            let after = graph
                .ty(output.value)
                .ok_or_else(state_error)?
                .eval_shape(bindings)
                .map_err(|e| sizes(e.into()))?;
            let start = given(&decl.input);
            if self.states.len() <= n || start.is_some() {
                let mut shape = before.clone();
                if let Some(d) = shape.get_mut(decl.axis) {
                    *d = 0;
                }
                let mut buffer = StateBuffer::empty(shape, decl.axis, ty.dtype.size());
                if let Some(t) = start {
                    let rows = t.shape().get(decl.axis).copied().unwrap_or(0);
                    if !buffer.reserve(rows) || !buffer.append(t.bytes(), rows) {
                        return Err(state_error());
                    }
                    buffer.shape = t.shape().to_vec();
                }
                match self.states.get_mut(n) {
                    Some(slot) => *slot = buffer,
                    None => self.states.push(buffer),
                }
            }
            let Some(buffer) = self.states.get_mut(n) else { return Err(state_error()) };
            if buffer.shape != before {
                return Err(state_error());
            }
            let rows = after.get(decl.axis).copied().unwrap_or(0);
            let needed = buffer.bytes_for(rows);
            if let Some(limit) = self.memory_limit.filter(|l| needed > *l) {
                return Err(RuntimeError::MemoryLimit { entry: graph.name.clone(), needed, limit });
            }
            if !buffer.reserve(rows) {
                return Err(sizes(PlanError::TooLarge(format!("state `{}` of {needed} bytes", decl.output))));
            }
        }
        Ok(())
    }

    /// Makes sure of memory for the phase that `instance` entered last.
    fn reserve(&mut self, linked: &Linked, instance: &Instance) -> Result<(), RuntimeError> {
        let entry = || linked.program.graph.name.clone();
        let (phase, bytes) = instance.newest();
        while self.arenas.len() <= phase {
            self.arenas.push(Arena::new());
        }
        let held = self.arenas.get(phase).map_or(0, Arena::len);
        self.claim(bytes.saturating_sub(held))?;
        if self.arenas.get_mut(phase).is_none_or(|a| !a.reserve(bytes)) {
            let source = PlanError::TooLarge(format!("an arena of {bytes} bytes"));
            return Err(RuntimeError::Sizes { entry: entry(), source });
        }
        Ok(())
    }

    /// Counts what the session holds, and `more` bytes, against the limit.
    pub(crate) fn claim(&mut self, more: usize) -> Result<(), RuntimeError> {
        let Some(limit) = self.memory_limit else { return Ok(()) };
        let needed = self.account.set(self.held_bytes().saturating_add(more));
        if needed <= limit {
            return Ok(());
        }
        // Graphs of control flow keep their memory for the next time; they may not get one.
        self.bodies.clear();
        let needed = self.account.set(self.held_bytes().saturating_add(more));
        if needed <= limit {
            return Ok(());
        }
        Err(RuntimeError::MemoryLimit { entry: self.linked.program.graph.name.clone(), needed, limit })
    }

    /// Bytes held besides those of bodies.
    fn held_bytes(&self) -> usize {
        let arenas: usize = self.arenas.iter().map(Arena::len).sum();
        let states: usize = self.states.iter().map(|s| s.memory.bytes().len()).sum();
        let own: usize = self.own.values().map(|t| t.bytes().len()).sum();
        arenas.saturating_add(states).saturating_add(own)
    }

    fn execute(
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
                let record = self.record(linked, instance, step, start, time);
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
        let range = l.offset..l.offset.saturating_add(l.len);
        let bytes = match l.base {
            Base::Arena(p) => self.arenas.get(p).and_then(|a| a.read(range)),
            Base::Own => self.own.get(&l.owner).and_then(|t| t.bytes().get(range)),
            Base::Input(n) => self.inputs.get(n).and_then(|t| t.bytes().get(range)),
            Base::Weight(w) => self.model.weights().data(w).and_then(|t| t.bytes().get(range)),
            Base::State(_) | Base::None => None,
        };
        let bytes = bytes.ok_or_else(|| memory("nothing to append"))?;
        let buffer = self.states.get_mut(state).ok_or_else(|| memory("no such state"))?;
        if l.strides.is_some() || !buffer.append(bytes, rows) {
            return Err(memory("rows do not fit the state"));
        }
        Ok(())
    }

    fn record(
        &self,
        linked: &Linked,
        instance: &Instance,
        step: &Step,
        start: Duration,
        time: Duration,
    ) -> StepTime {
        let shape = |s: Slot| instance.location(s).map_or(&[] as &[usize], |l| l.shape.as_slice());
        let inputs: Vec<Option<&[usize]>> =
            step.inputs.iter().map(|o| o.as_ref().map(|o| shape(o.slot))).collect();
        let outputs: Vec<&[usize]> = step.outputs.iter().map(|s| shape(*s)).collect();
        let size = |s: Slot| {
            let dtype = linked.program.slots.get(s.index()).map_or(1, |p| p.ty.dtype.size());
            shape(s).iter().product::<usize>() as f64 * dtype as f64
        };
        let flops = match &step.action {
            Action::Kernel(k) => k.flops(&inputs, &outputs),
            _ => 0.0,
        };
        let bytes = step
            .inputs
            .iter()
            .flatten()
            .map(|o| size(o.slot))
            .chain(step.outputs.iter().map(|s| size(*s)))
            .sum();
        let op = linked.program.graph.node(step.node).map_or("", |n| n.op.name());
        StepTime {
            label: linked.program.label(step).to_owned(),
            op: op.to_owned(),
            kernel: linked.program.describe(step),
            start,
            time,
            flops,
            bytes,
        }
    }

    /// Bytes of memory that the session holds besides the model's weights.
    pub fn memory_bytes(&self) -> usize {
        let bodies: usize = self.bodies.values().map(Session::memory_bytes).sum();
        self.held_bytes().saturating_add(bodies)
    }

    fn read(&self, l: &Location) -> Option<&[u8]> {
        let range = l.offset..l.offset.checked_add(l.len)?;
        match l.base {
            Base::Arena(p) => self.arenas.get(p)?.read(range),
            Base::Own => self.own.get(&l.owner)?.bytes().get(range),
            Base::Input(n) => self.inputs.get(n)?.bytes().get(range),
            Base::Weight(w) => self.model.weights().data(w)?.bytes().get(range),
            Base::State(n) => self.states.get(n)?.memory.bytes().get(range),
            Base::None => None,
        }
    }
}

/// What a step's kernel allocates itself.
fn heap_of(instance: &Instance, step: &Step) -> usize {
    let Action::Kernel(kernel) = &step.action else { return 0 };
    let shape = |s: Slot| instance.location(s).map(|l| l.shape.as_slice());
    let inputs: Vec<Option<&[usize]>> =
        step.inputs.iter().map(|o| o.as_ref().and_then(|o| shape(o.slot))).collect();
    let outputs: Vec<&[usize]> = step.outputs.iter().filter_map(|s| shape(*s)).collect();
    kernel.heap(&inputs, &outputs)
}

/// Has a delegate run a graph, and checks that it gives what the graph declares.
fn delegated(
    delegate: &dyn Delegate,
    graph: &frit_ir::Graph,
    inputs: &[Tensor],
    bindings: &Bindings,
) -> Result<Vec<Tensor>, RuntimeError> {
    let failed = |source| RuntimeError::Kernel {
        kernel: delegate.name().to_owned(),
        label: graph.name.clone(),
        source,
    };
    let named: Vec<(&str, &Tensor)> = graph.inputs.iter().map(|i| i.name.as_str()).zip(inputs).collect();
    let results = delegate.run(&named).map_err(failed)?;
    let wrong = |why: String| failed(KernelError::Contract { kernel: delegate.name().to_owned(), why });
    if results.len() != graph.outputs.len() {
        return Err(wrong(format!("{} results, expected {}", results.len(), graph.outputs.len())));
    }
    for (t, o) in results.iter().zip(&graph.outputs) {
        let Some(ty) = graph.ty(o.value) else { continue };
        // Symbols that take their values at run time are the delegate's own.
        let shape = ty.eval_shape(bindings).unwrap_or_else(|_| t.shape().to_vec());
        if t.dtype() != ty.dtype || t.shape() != shape {
            return Err(wrong(format!("`{}` is {}{:?}, expected {ty}", o.name, t.dtype(), t.shape())));
        }
    }
    Ok(results)
}

impl Outputs<'_> {
    /// Names of the outputs, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.session.graph().outputs.iter().map(|o| o.name.as_str())
    }

    /// A result where it lies, without copying.
    pub fn get(&self, name: &str) -> Result<TensorRef<'_>, RuntimeError> {
        let graph = self.session.graph();
        let missing = || RuntimeError::Output {
            name: name.to_owned(),
            entry: graph.name.clone(),
            known: self.names().collect::<Vec<_>>().join(", "),
        };
        let position = graph.outputs.iter().position(|o| o.name == name).ok_or_else(missing)?;
        if self.session.delegate.is_some() {
            let t = self.session.results.get(position).ok_or_else(missing)?;
            return Ok(TensorRef { dtype: t.dtype(), shape: t.shape(), strides: None, bytes: t.bytes() });
        }
        let output = graph.outputs.get(position).ok_or_else(missing)?;
        let location = self
            .session
            .instance
            .as_ref()
            .and_then(|i| i.location(output.value.into()))
            .ok_or_else(missing)?;
        let dtype = graph.ty(output.value).map(|t| t.dtype).ok_or_else(missing)?;
        let bytes = self.session.read(location).ok_or_else(missing)?;
        Ok(TensorRef { dtype, shape: &location.shape, strides: location.strides.as_deref(), bytes })
    }

    /// A copy of a result.
    pub fn tensor(&self, name: &str) -> Result<Tensor, RuntimeError> {
        Ok(self.get(name)?.to_tensor()?)
    }
}
