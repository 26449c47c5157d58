//! Why a checkpoint folder does not become a module. Only error types belong here, no reading.

use crate::hf::weights::{CheckpointError, WeightReport};
use frit_ir::builder::BuildError;
use std::fmt;
use std::path::PathBuf;

/// Why a model could not be built.
#[derive(Debug, thiserror::Error)]
pub enum FrontendError {
    /// A file or folder could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was opened.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder lacks a file that every checkpoint has.
    #[error("{} has no {expected}; a checkpoint folder holds config.json and its weights", folder.display())]
    MissingFile {
        /// The folder looked into.
        folder: PathBuf,
        /// The file it should hold.
        expected: &'static str,
    },
    /// A JSON file does not parse.
    #[error("{}: not valid JSON: {message}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        message: String,
    },
    /// A configuration value that cannot be used.
    #[error("config.json: {0}")]
    Config(#[from] ConfigError),
    /// No builder for this class.
    #[error("no builder for {}{found}; built are: {}", origin_phrase(.origin), known.join(", "))]
    UnknownArchitecture {
        /// Where the name came from: a key of config.json or the request.
        origin: &'static str,
        /// The class or model type asked for.
        found: String,
        /// Classes that can be built.
        known: Vec<&'static str>,
    },
    /// The weight files are damaged, foreign or unsafe.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The weights are not those of the class.
    #[error("{0}")]
    Weights(Box<WeightReport>),
    /// The request names something that the class does not have.
    #[error("{0}")]
    Request(#[from] RequestError),
    /// The graph refused an operation.
    #[error("building the graph: {0}")]
    Graph(#[from] BuildError),
}

fn origin_phrase(origin: &str) -> String {
    if origin.is_empty() { String::new() } else { format!("{origin} ") }
}

/// A value of config.json that is missing, of the wrong kind or not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A key that the class needs.
    #[error("`{key}` is missing: {expected}")]
    Missing {
        /// Dotted key.
        key: String,
        /// What it should hold.
        expected: String,
    },
    /// The value has another JSON type or is outside its range.
    #[error("`{key}`: {message}")]
    Invalid {
        /// Dotted key.
        key: String,
        /// What is wrong with the value.
        message: String,
    },
    /// A legal value that no builder implements.
    #[error("`{key}` is {value}, which is not supported; supported: {}", supported.join(", "))]
    Unsupported {
        /// Dotted key.
        key: String,
        /// The value found.
        value: String,
        /// Values that are.
        supported: Vec<String>,
    },
}

impl ConfigError {
    /// A value outside its range, or in conflict with another.
    pub fn invalid(key: impl Into<String>, message: impl fmt::Display) -> Self {
        ConfigError::Invalid { key: key.into(), message: message.to_string() }
    }

    /// A legal value without an implementation.
    pub fn unsupported(key: impl Into<String>, value: impl fmt::Display, supported: &[&str]) -> Self {
        ConfigError::Unsupported {
            key: key.into(),
            value: value.to_string(),
            supported: supported.iter().map(|s| (*s).to_string()).collect(),
        }
    }

    /// The same error with its key under `parent`.
    pub fn under(self, parent: &str) -> Self {
        let place = |key: String| if parent.is_empty() { key } else { format!("{parent}.{key}") };
        match self {
            ConfigError::Missing { key, expected } => ConfigError::Missing { key: place(key), expected },
            ConfigError::Invalid { key, message } => ConfigError::Invalid { key: place(key), message },
            ConfigError::Unsupported { key, value, supported } => {
                ConfigError::Unsupported { key: place(key), value, supported }
            }
        }
    }
}

/// A request that the class cannot serve: the call is wrong, not the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No such input in `forward`.
    #[error("{class} has no input `{name}`; its inputs are: {}", known.join(", "))]
    UnknownInput {
        /// The class.
        class: String,
        /// The name asked for.
        name: String,
        /// Inputs that exist.
        known: Vec<String>,
    },
    /// No such output.
    #[error("{class} gives no output `{name}` for these inputs; its outputs are: {}", known.join(", "))]
    UnknownOutput {
        /// The class.
        class: String,
        /// The name asked for.
        name: String,
        /// Outputs that exist with this signature.
        known: Vec<String>,
    },
    /// No such entry point.
    #[error("{class} has no entry `{name}`; its entries are: {}", known.join(", "))]
    UnknownEntry {
        /// The class.
        class: String,
        /// The name asked for.
        name: String,
        /// Entries that exist.
        known: Vec<String>,
    },
    /// No such dimension.
    #[error("{class} has no dimension `{name}` for these inputs; its dimensions are: {}", known.join(", "))]
    UnknownDimension {
        /// The class.
        class: String,
        /// The name asked for.
        name: String,
        /// Dimensions that exist with this signature.
        known: Vec<String>,
    },
    /// The inputs do not go together.
    #[error("{class}: {message}")]
    Signature {
        /// The class.
        class: String,
        /// What is missing or in conflict.
        message: String,
    },
}
