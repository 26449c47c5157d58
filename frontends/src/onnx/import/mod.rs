//! From an ONNX model to a module: what the caller asks for and gets. Each step has a file of its own: `survey` finds
//! what is not supported, `io` makes inputs and outputs, `walk` goes over nodes, `ops/` has the operators.
//!
//! Shapes are inferred here and never taken from the file. Structure is static: sequences, optionals and strings exist
//! during import only, and what axes or ranks depend on must be known then ([`ImportError::NeedsValues`]).

mod broadcast;
mod compact;
mod contents;
mod cx;
mod error;
mod io;
mod needs;
mod node;
mod num;
mod ops;
mod registry;
mod short;
mod sizes;
mod survey;
mod symbols;
mod val;
mod walk;

pub use cx::{Body, Cx};
pub use error::{ImportError, Result, Size, UnsupportedOp};
pub use io::{Form, flatten};
pub use node::NodeView;
pub use registry::{Lower, Row, supported};
pub use val::Val;

use crate::onnx::read::OnnxModel;
use crate::onnx::value::HostValue;
use frit_ir::{DType, Module};
use std::collections::BTreeMap;

/// Inlining may add so many nodes to those of the file.
pub(crate) const MAX_INLINED: usize = 100_000;

/// Name of the fact that says how many bytes of constants the file stores: what is made of them may be more.
pub(crate) const STORED: &str = "stored_bytes";

/// What to import for.
#[derive(Clone, Debug, Default)]
pub struct ImportRequest {
    /// Static arguments: inputs of strings and those whose values the structure depends on become constants. Of a
    /// sequence or optional only the structure is fixed: its tensors become inputs of the names that [`flatten`] gives.
    pub frozen: BTreeMap<String, HostValue>,
    /// Element type and shape of inputs that are declared without a shape, and of constants that are to be inputs.
    pub examples: BTreeMap<String, (DType, Vec<usize>)>,
    /// Dimensions with fixed values, by their dim_param or by the symbol that the importer gave them.
    pub dims: BTreeMap<String, usize>,
    /// Outputs wanted; none: all.
    pub select: Option<Vec<String>>,
}

/// An imported model.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The graph `forward`, bodies of its control flow, weights and metadata.
    pub module: Module,
    /// The model's outputs in order: which outputs of the graph each is made of.
    pub outputs: Vec<(String, Form)>,
    /// What is wrong with the file but does not matter.
    pub warnings: Vec<String>,
}

/// Imports a model.
pub fn import(model: &OnnxModel, request: &ImportRequest) -> Result<Imported> {
    let proto = model.proto();
    let graph = model.graph().ok_or_else(|| ImportError::Model("the model has no graph".into()))?;
    let functions = walk::Functions::new(&proto.functions);
    let nodes = survey::check(proto, &functions)?;
    let mut cx = Cx::new(model, &functions, nodes.saturating_add(MAX_INLINED));
    cx.calls.push(walk::Call::new(&proto.opset_import, None));
    cx.open_scope(Some(graph))?;
    cx.inputs(graph, request)?;
    cx.run_nodes(&graph.node)?;
    cx.place = (graph.name.clone(), "graph".into());
    let outputs = cx.outputs(graph, request)?;
    let mut graphs: Vec<_> = cx.frames.drain(..).map(|f| f.graph).collect();
    graphs.append(&mut cx.bodies);
    let (graphs, weights) = compact::compact(&graphs, &cx.weights)?;
    let mut metadata = io::metadata(proto);
    // Before those that the file brings, which may have this name.
    metadata.insert(0, (STORED.to_owned(), cx.stored.to_string()));
    Ok(Imported { module: Module { graphs, weights, metadata }, outputs, warnings: cx.warnings })
}
