//! Why an ONNX model does not become a module. Errors of reading files are in `read`, nothing is computed here.

use frit_ir::builder::BuildError;
use std::fmt;

/// An operator that cannot be imported, and where it occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedOp {
    /// Its domain; empty for ai.onnx.
    pub domain: String,
    /// Its name.
    pub op: String,
    /// The version of its operator set that the model uses; None when the model names none.
    pub opset: Option<i64>,
    /// How often it occurs.
    pub count: usize,
    /// Labels of the first nodes.
    pub nodes: Vec<String>,
}

impl fmt::Display for UnsupportedOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain = if self.domain.is_empty() { "ai.onnx" } else { &self.domain };
        write!(f, "{domain}::{}", self.op)?;
        match self.opset {
            Some(v) => write!(f, " (opset {v})")?,
            None => write!(f, " (no opset of this domain is imported)")?,
        }
        write!(f, " x {}: {}", self.count, self.nodes.join(", "))?;
        if self.count > self.nodes.len() { f.write_str(", ...") } else { Ok(()) }
    }
}

/// An extent of an input that has a symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// The symbol, which `ImportRequest::dims` knows it by.
    pub symbol: String,
    /// The input.
    pub input: String,
    /// The axis of the input.
    pub axis: usize,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (axis {} of `{}`)", self.symbol, self.axis, self.input)
    }
}

/// Why a model cannot be imported.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ImportError {
    /// The model as a whole is not well formed.
    #[error("{0}")]
    Model(String),
    /// A graph input or the caller's wish about it does not fit.
    #[error("input `{name}`: {why}")]
    Input {
        /// Name of the input.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A graph output is not there, or the caller selects one that does not exist.
    #[error("output `{name}`: {why}")]
    Output {
        /// Name of the output.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A constant of the model cannot be read.
    #[error("constant `{name}`: {why}")]
    Constant {
        /// Name of the constant, or the node that holds it.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A node is not well formed or asks for what is not supported.
    #[error("node `{node}` ({op}): {why}")]
    Node {
        /// The node's label.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong, and what was expected.
        why: String,
    },
    /// The graph refuses what a node asks for.
    #[error("node `{node}` ({op}): {source}")]
    Build {
        /// The node's label.
        node: String,
        /// Its operator.
        op: String,
        /// The cause.
        source: BuildError,
    },
    /// Operators that are not supported: all of them.
    #[error("{} unsupported operator{}: {}", .0.len(), if .0.len() == 1 { "" } else { "s" },
            .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unsupported(Vec<UnsupportedOp>),
    /// The structure of the graph depends on values of inputs: import again with these inputs frozen.
    #[error("node `{node}` ({op}): {why}; it depends on the values of the inputs {}", inputs.join(", "))]
    NeedsValues {
        /// The inputs, in the graph's order.
        inputs: Vec<String>,
        /// The node's label.
        node: String,
        /// Its operator.
        op: String,
        /// What must be known.
        why: String,
    },
    /// The structure of the graph depends on extents of inputs: import again with these dims fixed.
    #[error("node `{node}` ({op}): {why}; it depends on the size{} {}", if sizes.len() == 1 { "" } else { "s" },
            sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    NeedsSizes {
        /// The extents.
        sizes: Vec<Size>,
        /// The node's label.
        node: String,
        /// Its operator.
        op: String,
        /// What must be known.
        why: String,
    },
    /// Inputs are declared without a shape: import again with examples of them.
    #[error("the inputs {} are declared without a shape; give examples of them", inputs.join(", "))]
    NeedsShapes {
        /// The inputs.
        inputs: Vec<String>,
    },
    /// A limit that keeps hostile models from taking all time or memory.
    #[error("{what}: more than {limit}")]
    Limit {
        /// What is too large, with its place.
        what: String,
        /// The limit.
        limit: usize,
    },
}

/// What importing gives.
pub type Result<T> = std::result::Result<T, ImportError>;
