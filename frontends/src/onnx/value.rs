//! Values as ONNX has them on the host: tensors, strings, sequences, optionals.
//! Values of the graph (`import::Val`) and reading them from files do not belong here.

use frit_ir::Tensor;
use std::fmt;

/// A tensor of strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strings {
    /// The shape.
    pub shape: Vec<usize>,
    /// The elements in row-major order, as many as the shape has.
    pub values: Vec<String>,
}

/// A value that an input is given or an output gives.
#[derive(Clone, Debug, PartialEq)]
pub enum HostValue {
    /// A tensor of numbers or bools.
    Tensor(Tensor),
    /// A tensor of strings.
    Strings(Strings),
    /// A list of values.
    Sequence(Vec<HostValue>),
    /// A value that may be absent.
    Optional(Option<Box<HostValue>>),
}

impl HostValue {
    /// The tensor, if it is one.
    pub fn tensor(&self) -> Option<&Tensor> {
        match self {
            HostValue::Tensor(t) => Some(t),
            _ => None,
        }
    }

    /// The value, without the optional around it; None when absent.
    pub fn present(&self) -> Option<&HostValue> {
        match self {
            HostValue::Optional(inner) => inner.as_deref().and_then(HostValue::present),
            other => Some(other),
        }
    }
}

/// The type in short, for messages: `f32[2, 3]`, `sequence of 2`.
impl fmt::Display for HostValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostValue::Tensor(t) => write!(f, "{}{:?}", t.dtype(), t.shape()),
            HostValue::Strings(s) => write!(f, "string{:?}", s.shape),
            HostValue::Sequence(of) => write!(f, "sequence of {}", of.len()),
            HostValue::Optional(Some(of)) => write!(f, "optional {of}"),
            HostValue::Optional(None) => write!(f, "nothing"),
        }
    }
}

impl From<Tensor> for HostValue {
    fn from(t: Tensor) -> Self {
        HostValue::Tensor(t)
    }
}
