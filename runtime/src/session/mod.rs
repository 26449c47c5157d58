//! A session: one caller's memory for one entry point, and what a run of it does from first to last. How steps are
//! run is in `steps.rs`; what they are was decided by the plan.

mod bind;
mod outputs;
mod pace;
mod steps;

pub use outputs::Outputs;

use crate::error::{PlanError, RuntimeError};
use crate::memory::{Account, Arena, StateBuffer};
use crate::model::{Linked, Model};
use crate::plan::{Instance, Reuse, Slot};
use crate::profile::StepTime;
use crate::work::Allowance;
use frit_backend::Delegate;
use frit_ir::{Bindings, Tensor, binding};
use pace::Pace;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

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
    pace: Pace,
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
            pace: Pace::default(),
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

    /// Forgets all but the first `len` rows of every state.
    pub fn truncate_state(&mut self, len: usize) {
        for s in &mut self.states {
            s.truncate(len);
        }
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
            self.results = outputs::delegated(&*delegate, graph, &self.inputs, &bindings)?;
            return Ok(Outputs { session: self });
        }
        self.own.clear();
        let capacities: Vec<usize> = self.states.iter().map(|s| s.capacity).collect();
        let mut last = self.instance.take();
        let mut instance = match last.take_if(|_| linked.program.breaks.is_empty()) {
            Some(last) => last.resized(&linked.program, bindings, &capacities),
            None => {
                let reuse = Reuse { capacities: &capacities, last: last.as_ref() };
                Instance::new(&linked.program, bindings, reuse)
            }
        }
        .map_err(sizes)?;
        let reuse = Reuse { capacities: &capacities, last: last.as_ref() };
        self.reserve(&linked, &instance)?;
        if let Some(p) = &mut self.profile {
            p.clear();
        }
        let engine = self.model.engine().clone();
        let (alone, begin) = (self.pace.alone(), Instant::now());
        let execute = || self.execute(&linked, &mut instance, reuse);
        let result = if alone { frit_cpu::threads::alone(execute) } else { engine.install(execute) };
        self.pace.record(alone, begin.elapsed());
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

    /// Makes sure of memory for the phase that `instance` entered last.
    fn reserve(&mut self, linked: &Linked, instance: &Instance) -> Result<(), RuntimeError> {
        let entry = || linked.program.graph.name.clone();
        let (phase, bytes) = instance.newest();
        while self.arenas.len() <= phase {
            self.arenas.push(Arena::new());
        }
        let held = self.arenas.get(phase).map_or(0, Arena::len);
        // What grows call by call grows by a quarter at least, unless memory is counted.
        let slack = if self.memory_limit.is_none() { held / 4 } else { 0 };
        let bytes = if bytes > held { bytes.max(held.saturating_add(slack)) } else { bytes };
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

    /// Bytes of memory that the session holds besides the model's weights.
    pub fn memory_bytes(&self) -> usize {
        let bodies: usize = self.bodies.values().map(Session::memory_bytes).sum();
        self.held_bytes().saturating_add(bodies)
    }
}
