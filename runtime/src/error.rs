//! Every way in which planning, loading and running can fail, with the place. No recovery happens here.

use frit_backend::KernelError;
use frit_ir::binding::BindError;
use frit_ir::graph::CycleError;
use frit_ir::{BuildError, DimError, TensorError};

/// Why a graph could not be planned.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// A composite op could not be expanded.
    #[error("{op} at `{label}` could not be expanded: {source}")]
    Expand {
        /// Where in the model.
        label: String,
        /// Op name.
        op: &'static str,
        /// The cause.
        source: BuildError,
    },
    /// No backend has a kernel.
    #[error("no backend has a kernel for {op} at `{label}`")]
    NoKernel {
        /// Where in the model.
        label: String,
        /// Op name.
        op: &'static str,
    },
    /// The graph is not well formed.
    #[error(transparent)]
    Cycle(#[from] CycleError),
    /// A value that does not exist.
    #[error("value %{0} does not exist")]
    NoValue(usize),
    /// A state is not kept as the graph says.
    #[error("state `{name}` must be Concat(kept, new) along its axis")]
    State {
        /// Output name.
        name: String,
    },
    /// A dimension could not be computed.
    #[error(transparent)]
    Dim(#[from] DimError),
    /// More memory than can be addressed.
    #[error("{0} is too large for memory")]
    TooLarge(String),
    /// A reshape whose element counts were left to run time.
    #[error("cannot reshape {from:?} to {to:?}: another number of elements")]
    Reshape {
        /// Extents before.
        from: Vec<usize>,
        /// Extents wanted.
        to: Vec<usize>,
    },
    /// A slice leaves what it slices.
    #[error("view %{slot} leaves %{of}")]
    View {
        /// The view.
        slot: usize,
        /// What it views.
        of: usize,
    },
}

/// Why a model could not be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Planning failed.
    #[error("cannot plan entry `{entry}`: {source}")]
    Plan {
        /// Entry point.
        entry: String,
        /// The cause.
        source: PlanError,
    },
    /// The inputs do not fit.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Sizes could not be worked out.
    #[error("entry `{entry}` at these sizes: {source}")]
    Sizes {
        /// Entry point.
        entry: String,
        /// The cause.
        source: PlanError,
    },
    /// A kernel failed on the data.
    #[error("{kernel} at `{label}`: {source}")]
    Kernel {
        /// Kernel name.
        kernel: String,
        /// Where in the model.
        label: String,
        /// The cause.
        source: KernelError,
    },
    /// No such entry point.
    #[error("no entry point `{entry}`; the model has {known}")]
    Entry {
        /// Name asked for.
        entry: String,
        /// Entry points that exist.
        known: String,
    },
    /// No such output.
    #[error("no output `{name}`; entry `{entry}` gives {known}")]
    Output {
        /// Name asked for.
        name: String,
        /// Entry point.
        entry: String,
        /// Outputs that exist.
        known: String,
    },
    /// A weight is not in the table, or has no numbers.
    #[error("weight `{name}`{layout} is missing")]
    Weight {
        /// Weight name.
        name: String,
        /// Layout needed, when packed.
        layout: String,
    },
    /// A tensor could not be made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Loops go on for longer than allowed.
    #[error("the loop at `{label}` exceeds the iterations allowed in one run")]
    IterationLimit {
        /// The loop.
        label: String,
    },
    /// A run computes for longer than allowed.
    #[error("the run exceeds its limit of {limit} operations at `{label}`")]
    WorkLimit {
        /// The step that would.
        label: String,
        /// The limit.
        limit: u64,
    },
    /// The memory limit of the session does not allow these sizes.
    #[error("entry `{entry}` needs {needed} bytes at these sizes, the limit is {limit}")]
    MemoryLimit {
        /// Entry point.
        entry: String,
        /// Bytes needed.
        needed: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The thread pool could not be made.
    #[error("cannot start {threads} threads: {why}")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// The cause.
        why: String,
    },
    /// Memory is not laid out as a step needs it: an error of the plan.
    #[error("step at `{label}`: {why}")]
    Memory {
        /// Where in the model.
        label: String,
        /// What was wrong.
        why: String,
    },
    /// An artifact could not be read or written.
    #[error(transparent)]
    Artifact(#[from] crate::artifact::ArtifactError),
}
