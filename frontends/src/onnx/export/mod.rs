//! From a module to an ONNX model: the entry, its options and errors. How single ops are written is in `ops/`, how
//! dimensions are computed in `dims.rs`, the file in `write.rs`; reading ONNX does not belong here.
//!
//! The mapping is declared once, at the ops: an op's name in ONNX, the opset that brought it and its attributes come
//! from the op table. Only ops whose attributes are operands in ONNX (shapes, axes, bounds) have code of their own,
//! and composite ops that an opset lacks are written as their decomposition.

mod attr;
mod dims;
mod dtypes;
mod emitter;
pub mod merge;
mod ops;
mod prepare;
mod write;

pub use write::{External, Initializer, WriteError, Written};

use super::schema::{GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto};
use emitter::Emitter;
use frit_ir::builder::BuildError;
use frit_ir::graph::CycleError;
use frit_ir::{DType, DimError, Module};

/// Opsets of ai.onnx that can be written.
pub const OPSETS: std::ops::RangeInclusive<u32> = 17..=24;

/// How to write a model.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// Opset of ai.onnx, one of [`OPSETS`].
    pub opset: u32,
    /// The graph to write; None: the first.
    pub entry: Option<String>,
    /// Write composite ops by their parts even where the opset has them, but for those every runtime has (the
    /// normalisations over channels and LayerNormalization).
    pub plain: bool,
    /// Facts to add to the module's own in `metadata_props`.
    pub metadata: Vec<(String, String)>,
}

impl Default for ExportOptions {
    fn default() -> Self {
        ExportOptions { opset: 17, entry: None, plain: false, metadata: Vec::new() }
    }
}

/// Why a module cannot be written as ONNX.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// An opset outside [`OPSETS`].
    #[error("opset {opset} cannot be written; {} to {} can", OPSETS.start(), OPSETS.end())]
    Opset {
        /// The opset asked for.
        opset: u32,
    },
    /// No such graph.
    #[error("the model has no entry `{name}`; its entries are: {}", known.join(", "))]
    Entry {
        /// The name asked for.
        name: String,
        /// Graphs that exist.
        known: Vec<String>,
    },
    /// Ops that ONNX cannot say at this opset.
    #[error("opset {opset} of ONNX has no form of: {}", ops.join("; "))]
    Unsupported {
        /// The opset.
        opset: u32,
        /// Op, how often, and where first.
        ops: Vec<String>,
    },
    /// A node whose attributes ONNX cannot hold.
    #[error("{op} at `{label}`: {why}")]
    Node {
        /// Op name.
        op: &'static str,
        /// Where in the model.
        label: String,
        /// What does not fit.
        why: String,
    },
    /// A dimension that does not follow from the shapes of the inputs.
    #[error("dimension `{dim}` at `{label}`: symbol `{symbol}` is no extent of any input")]
    Symbol {
        /// The expression.
        dim: String,
        /// The symbol without a source.
        symbol: String,
        /// Where it is needed.
        label: String,
    },
    /// Control flow nests too deep, or runs itself.
    #[error("control flow nests too deep")]
    Depth,
    /// A weight without numbers.
    #[error("weight `{0}` has no data")]
    NoData(String),
    /// An element type that the opset lacks.
    #[error("`{name}` has elements of type {dtype}, which ONNX does not have")]
    DType {
        /// Value or weight.
        name: String,
        /// Its element type.
        dtype: DType,
    },
    /// A decomposition failed.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The graph is not well formed.
    #[error(transparent)]
    Cycle(#[from] CycleError),
    /// A dimension could not be computed.
    #[error(transparent)]
    Dim(#[from] DimError),
    /// A constant could not be made.
    #[error(transparent)]
    Tensor(#[from] frit_ir::TensorError),
    /// Two models do not go together.
    #[error("cannot merge the decoders: {0}")]
    Merge(String),
}

impl ExportError {
    /// True when what was asked for does not exist, rather than the model being at fault.
    pub fn is_about_the_call(&self) -> bool {
        matches!(self, ExportError::Opset { .. } | ExportError::Entry { .. })
    }
}

/// An ONNX model whose initializers are still tensors of the module, shared and not copied.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The model without its initializers.
    pub model: ModelProto,
    /// The initializers of the outermost graph.
    pub initializers: Vec<Initializer>,
}

/// The version of the file format that came with an opset.
fn ir_version(opset: u32) -> i64 {
    match opset {
        ..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        23 => 11,
        _ => 12,
    }
}

/// Writes one graph of a module as an ONNX model.
///
/// # Errors
/// An opset or entry that does not exist; ops without a form in ONNX, all of them at once.
pub fn export(module: &Module, options: &ExportOptions) -> Result<Exported, ExportError> {
    if !OPSETS.contains(&options.opset) {
        return Err(ExportError::Opset { opset: options.opset });
    }
    let unknown = || ExportError::Entry {
        name: options.entry.clone().unwrap_or_default(),
        known: module.graphs.iter().map(|g| g.name.clone()).collect(),
    };
    let graph = match &options.entry {
        Some(name) => module.graph(name).ok_or_else(unknown)?,
        None => module.graphs.first().ok_or_else(unknown)?,
    };
    let mut weights = module.weights.clone();
    let graphs = prepare::prepare(graph, module, &mut weights, options)?;
    let (graph, bodies) = graphs.split_first().ok_or_else(unknown)?;
    let (graph, initializers) = Emitter::new(graph, bodies, &weights, options.opset).run()?;
    let facts = module.metadata.iter().chain(&options.metadata);
    let model = ModelProto {
        ir_version: ir_version(options.opset),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: i64::from(options.opset) }],
        producer_name: "frit".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(GraphProto { name: entry_name(module, &graph.name), ..graph }),
        metadata_props: facts
            .map(|(key, value)| StringStringEntryProto { key: key.clone(), value: value.clone() })
            .collect(),
        ..ModelProto::default()
    };
    Ok(Exported { model, initializers })
}

/// Class and entry: what the graph is called in viewers.
fn entry_name(module: &Module, entry: &str) -> String {
    match module.fact("class") {
        Some(class) => format!("{class}.{entry}"),
        None => entry.to_owned(),
    }
}

#[cfg(test)]
mod tests;
