//! Engine and Model: what sessions share. An engine holds threads and a backend; a model holds programs and
//! weights and never changes. Running is the session's business, files are the artifact's.

use crate::error::RuntimeError;
use crate::plan::{self, PlanOptions, Program};
use crate::roofline::{Limits, Rates};
use crate::session::Session;
use frit_backend::{Backend, Delegate, Precision, ReferenceBackend, Target};
use frit_ir::{Module, Tensor, WeightId, WeightTable};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

/// Which backend runs the graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BackendKind {
    /// Vectorised parallel kernels.
    #[default]
    Cpu,
    /// The interpreter: slow, and the oracle.
    Reference,
    /// Another engine that takes graphs whole: a delegate that the caller gives with the model. What is planned here is
    /// planned for the interpreter.
    Tract,
}

impl BackendKind {
    /// Every backend with its name on the command line.
    pub const NAMES: [(BackendKind, &'static str); 3] =
        [(BackendKind::Cpu, "cpu"), (BackendKind::Reference, "reference"), (BackendKind::Tract, "tract")];

    /// The backend of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, n)| *n == name).map(|(k, _)| *k)
    }

    fn backend(self) -> Arc<dyn Backend> {
        match self {
            BackendKind::Cpu => Arc::new(frit_cpu::CpuBackend),
            BackendKind::Reference | BackendKind::Tract => Arc::new(ReferenceBackend),
        }
    }
}

/// How an engine runs models.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineOptions {
    /// Threads for one run; None: as many as the machine has.
    pub threads: Option<usize>,
    /// Which backend.
    pub backend: BackendKind,
    /// Instruction set to plan for; None: this machine's.
    pub target: Option<Target>,
    /// In what numbers weights are kept.
    pub precision: Precision,
}

/// Threads and a backend, shared by all models made from it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<EngineInner>,
}

struct EngineInner {
    /// None: every run computes on its caller's thread alone.
    pool: Option<rayon::ThreadPool>,
    backend: Arc<dyn Backend>,
    options: EngineOptions,
}

impl Engine {
    /// Starts the threads, unless it is to be one: then runs compute on their callers' threads. Threads sleep when there
    /// is nothing to run, and are shared by all runs at a time.
    pub fn new(options: EngineOptions) -> Result<Self, RuntimeError> {
        let threads = match options.threads {
            Some(n) if n > 0 => n,
            _ => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        };
        let pool = (threads > 1)
            .then(|| {
                let named = rayon::ThreadPoolBuilder::new().thread_name(|i| format!("frit-{i}"));
                named.num_threads(threads).build()
            })
            .transpose()
            .map_err(|e| RuntimeError::Threads { threads, why: e.to_string() })?;
        let backend = options.backend.backend();
        Ok(Engine { inner: Arc::new(EngineInner { pool, backend, options }) })
    }

    /// The options it was made with.
    pub fn options(&self) -> EngineOptions {
        self.inner.options
    }

    /// Threads of one run.
    pub fn threads(&self) -> usize {
        self.inner.pool.as_ref().map_or(1, rayon::ThreadPool::current_num_threads)
    }

    /// Runs `f` where its parallel loops use this engine's threads, or on this thread inside of what runs alone.
    pub(crate) fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.inner.pool {
            Some(pool) if !frit_cpu::threads::is_alone() => pool.install(f),
            _ => frit_cpu::threads::alone(f),
        }
    }

    /// Measures what this engine's threads, and one thread, can do at most. Takes a fraction of a second and 200 MB.
    pub fn limits(&self) -> Result<Limits, RuntimeError> {
        let all = self.install(Rates::measure);
        if all.threads == 1 {
            return Ok(Limits { all, one: all });
        }
        let alone = Engine::new(EngineOptions { threads: Some(1), ..self.inner.options })?;
        Ok(Limits { all, one: alone.install(Rates::measure) })
    }

    /// Plans every graph of a module. Weights are packed when first needed.
    pub fn model(&self, module: Module) -> Result<Model, RuntimeError> {
        self.model_with(module, HashMap::new(), self.inner.options)
    }

    /// A model whose entry points run on delegates: other engines that have the graphs in their own form. Their graphs
    /// keep no state.
    pub fn model_on(
        &self,
        module: Module,
        delegates: HashMap<String, Arc<dyn Delegate>>,
    ) -> Result<Model, RuntimeError> {
        let model = self.model(module)?;
        let mut inner = Arc::into_inner(model.inner).ok_or_else(|| RuntimeError::Entry {
            entry: String::new(),
            known: "a model that is shared already".into(),
        })?;
        inner.delegates = delegates;
        Ok(Model { inner: Arc::new(inner) })
    }

    /// Plans a module whose packed weights are there already, as from an artifact.
    pub(crate) fn model_with(
        &self,
        mut module: Module,
        packed: HashMap<(WeightId, String), Tensor>,
        options: EngineOptions,
    ) -> Result<Model, RuntimeError> {
        let native = Target::native();
        let plan_options =
            PlanOptions { target: options.target.unwrap_or(native), precision: options.precision };
        let mut programs = Vec::new();
        let bodies: std::collections::HashSet<String> =
            module.bodies().into_iter().map(str::to_owned).collect();
        let backend = &*self.inner.backend;
        let failed = |name: &str| {
            let entry = name.to_owned();
            move |source| RuntimeError::Plan { entry, source }
        };
        let mut prepared = Vec::with_capacity(module.graphs.len());
        for graph in &module.graphs {
            let graph = plan::prepare(graph, &mut module.weights, backend, plan_options)
                .map_err(failed(&graph.name))?;
            prepared.push(graph);
        }
        let streamed = plan::streamed(&prepared);
        for graph in prepared {
            let name = graph.name.clone();
            let program = plan::build(graph, &module.weights, backend, plan_options, &streamed)
                .map_err(failed(&name))?;
            let is_body = bodies.contains(&name);
            programs.push(Entry { program: Arc::new(program), is_body, linked: OnceLock::new() });
        }
        let inner = ModelInner {
            engine: self.clone(),
            module,
            programs,
            packed: Mutex::new(packed),
            plan_options,
            delegates: HashMap::new(),
        };
        Ok(Model { inner: Arc::new(inner) })
    }
}

/// A program with its packed weights at hand.
pub(crate) struct Linked {
    pub program: Arc<Program>,
    /// For every step, the packed weight of every operand.
    packed: Vec<Vec<Option<Tensor>>>,
}

impl Linked {
    pub fn packed(&self, step: usize, operand: usize) -> Option<&Tensor> {
        self.packed.get(step)?.get(operand)?.as_ref()
    }
}

struct Entry {
    program: Arc<Program>,
    /// Run by control flow of another program, not by callers.
    is_body: bool,
    linked: OnceLock<Arc<Linked>>,
}

struct ModelInner {
    engine: Engine,
    module: Module,
    programs: Vec<Entry>,
    packed: Mutex<HashMap<(WeightId, String), Tensor>>,
    plan_options: PlanOptions,
    /// Engines that run entry points whole.
    delegates: HashMap<String, Arc<dyn Delegate>>,
}

/// A compiled model: programs for every entry point over shared weights. Cloning shares it.
#[derive(Clone)]
pub struct Model {
    inner: Arc<ModelInner>,
}

impl Model {
    /// Names of the entry points; the first is the default.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.inner.programs.iter().filter(|e| !e.is_body).map(|e| e.program.graph.name.as_str())
    }

    /// Names of all programs: the entry points, and the graphs that their control flow runs.
    pub fn program_names(&self) -> impl Iterator<Item = &str> {
        self.inner.programs.iter().map(|e| e.program.graph.name.as_str())
    }

    /// A fact about the model: `class`, `model_type`, ...
    pub fn fact(&self, key: &str) -> Option<&str> {
        self.inner.module.fact(key)
    }

    /// Every fact about the model, in order.
    pub fn facts(&self) -> &[(String, String)] {
        &self.inner.module.metadata
    }

    /// The engine it runs on.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// Instruction set and precision that it was planned for.
    pub fn plan_options(&self) -> PlanOptions {
        self.inner.plan_options
    }

    /// Every constant, those added by planning included.
    pub fn weights(&self) -> &WeightTable {
        &self.inner.module.weights
    }

    /// The planned graphs over all weights in the text format: what an artifact holds.
    pub(crate) fn planned_text(&self) -> Result<String, RuntimeError> {
        let graphs = self.inner.programs.iter().map(|e| e.program.graph.clone()).collect();
        let m = &self.inner.module;
        let planned = Module { graphs, weights: m.weights.clone(), metadata: m.metadata.clone() };
        Ok(planned.to_string())
    }

    /// Drops a packed weight that was made for writing.
    pub(crate) fn forget_packed(&self, weight: WeightId, layout: &str) {
        let mut table = self.inner.packed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        table.remove(&(weight, layout.to_owned()));
    }

    /// Fails when a program needs a weight that is there neither plain nor packed.
    pub(crate) fn check_weights_present(&self) -> Result<(), RuntimeError> {
        let table = self.inner.packed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for e in &self.inner.programs {
            let name = |w: WeightId| self.weights().get(w).map(|w| w.name.clone()).unwrap_or_default();
            for w in e.program.plain_weights() {
                if self.weights().data(w).is_none() {
                    return Err(RuntimeError::Weight { name: name(w), layout: String::new() });
                }
            }
            for (w, layout) in e.program.packings() {
                if self.weights().data(w).is_none() && !table.contains_key(&(w, layout.clone())) {
                    return Err(RuntimeError::Weight {
                        name: name(w),
                        layout: format!(" in layout {layout}"),
                    });
                }
            }
        }
        Ok(())
    }

    fn entry(&self, name: &str) -> Result<&Entry, RuntimeError> {
        self.inner.programs.iter().find(|e| e.program.graph.name == name).ok_or_else(|| RuntimeError::Entry {
            entry: name.to_owned(),
            known: self.entries().collect::<Vec<_>>().join(", "),
        })
    }

    /// The plan of an entry point.
    pub fn program(&self, entry: &str) -> Result<&Program, RuntimeError> {
        Ok(&self.entry(entry)?.program)
    }

    /// A session for an entry point.
    pub fn session(&self, entry: &str) -> Result<Session, RuntimeError> {
        let e = self.entry(entry)?;
        let linked = match e.linked.get() {
            Some(l) => l.clone(),
            None => {
                let made = Arc::new(self.link(e.program.clone())?);
                e.linked.get_or_init(|| made).clone()
            }
        };
        Ok(Session::new(self.clone(), linked, self.inner.delegates.get(entry).cloned()))
    }

    fn link(&self, program: Arc<Program>) -> Result<Linked, RuntimeError> {
        let packed = program
            .steps
            .iter()
            .map(|step| {
                step.inputs
                    .iter()
                    .enumerate()
                    .map(|(i, o)| match o.as_ref().and_then(|o| o.packed.as_ref()) {
                        Some((w, layout)) => self.packed_weight(step, i, *w, layout).map(Some),
                        None => Ok(None),
                    })
                    .collect::<Result<Vec<_>, _>>()
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Linked { program, packed })
    }

    /// A weight in a kernel's layout: from the artifact, made earlier, or made now.
    pub(crate) fn packed_weight(
        &self,
        step: &plan::Step,
        operand: usize,
        weight: WeightId,
        layout: &str,
    ) -> Result<Tensor, RuntimeError> {
        let key = (weight, layout.to_owned());
        let mut table = self.inner.packed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(t) = table.get(&key) {
            return Ok(t.clone());
        }
        let name = || self.weights().get(weight).map(|w| w.name.clone()).unwrap_or_default();
        let missing = || RuntimeError::Weight { name: name(), layout: format!(" in layout {layout}") };
        let plain = self.weights().data(weight).ok_or_else(missing)?;
        let plan::Action::Kernel(kernel) = &step.action else { return Err(missing()) };
        let blob = self
            .engine()
            .install(|| kernel.pack(operand, plain))
            .map_err(|source| RuntimeError::Kernel { kernel: kernel.name(), label: name(), source })?;
        let tensor = Tensor::from_slice(&[blob.len()], &blob)?;
        table.insert(key, tensor.clone());
        Ok(tensor)
    }
}
