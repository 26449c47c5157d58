//! What an op sees while its types are inferred and while it is evaluated, and how it refuses.
//! No op's own rules belong here.

use super::{Arity, Operand};
use crate::dim::{Bindings, Dim, DimError};
use crate::dtype::DType;
use crate::tensor::{Tensor, TensorError};
use crate::types::{Shape, TensorType};

/// Why an op refuses its operands or cannot be evaluated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OpError {
    /// Wrong number of operands.
    #[error("{op} takes {expected} operands, got {got}")]
    Arity {
        /// Op name.
        op: &'static str,
        /// What it takes.
        expected: String,
        /// What it got.
        got: usize,
    },
    /// An operand is missing.
    #[error("{op}: operand {index} (`{name}`) is missing")]
    Missing {
        /// Op name.
        op: &'static str,
        /// Position.
        index: usize,
        /// Operand name.
        name: &'static str,
    },
    /// An operand does not fit.
    #[error("{op}: operand {index}{}: expected {expected}, got {got}", in_backticks(name))]
    Operand {
        /// Op name.
        op: &'static str,
        /// Position.
        index: usize,
        /// Operand name.
        name: &'static str,
        /// What was expected.
        expected: String,
        /// What came.
        got: String,
    },
    /// An attribute does not fit the operands.
    #[error("{op}: attribute `{attr}`: {why}")]
    Attr {
        /// Op name.
        op: &'static str,
        /// Attribute name.
        attr: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A value in the data is out of range.
    #[error("{op}: {why}")]
    Data {
        /// Op name.
        op: &'static str,
        /// What is wrong, with the place and the bound.
        why: String,
    },
    /// The op is defined by its decomposition only.
    #[error("{0} has no direct evaluation")]
    NoEvaluation(&'static str),
    /// A dimension could not be computed.
    #[error("{op}: {source}")]
    Dim {
        /// Op name.
        op: &'static str,
        /// The cause.
        source: DimError,
    },
    /// A tensor could not be made or read.
    #[error("{op}: {source}")]
    Tensor {
        /// Op name.
        op: &'static str,
        /// The cause.
        source: TensorError,
    },
}

fn in_backticks(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" (`{name}`)") }
}

impl OpError {
    /// Fills in what the place of the error did not know: the op, and the operand's name from its declaration.
    pub fn named(self, op: &'static str, operands: &'static [Operand]) -> Self {
        let of = |index: usize| operands.get(index).or(operands.last()).map_or("", |o| o.name);
        match self {
            OpError::Operand { op, index, expected, got, .. } => {
                OpError::Operand { op, index, name: of(index), expected, got }
            }
            OpError::Dim { source, .. } => OpError::Dim { op, source },
            OpError::Tensor { source, .. } => OpError::Tensor { op, source },
            other => other,
        }
    }
}

impl From<DimError> for OpError {
    fn from(source: DimError) -> Self {
        OpError::Dim { op: "shape", source }
    }
}

impl From<TensorError> for OpError {
    fn from(source: TensorError) -> Self {
        OpError::Tensor { op: "tensor", source }
    }
}

/// Operand types during inference.
pub struct Infer<'a> {
    /// Op name, for errors.
    pub op: &'static str,
    /// Operand types; None where an optional operand is left out.
    pub inputs: &'a [Option<&'a TensorType>],
}

impl<'a> Infer<'a> {
    /// The type of a required operand.
    pub fn ty(&self, index: usize) -> Result<&'a TensorType, OpError> {
        self.inputs.get(index).copied().flatten().ok_or(OpError::Missing { op: self.op, index, name: "" })
    }

    /// The type of an optional operand.
    pub fn opt(&self, index: usize) -> Option<&'a TensorType> {
        self.inputs.get(index).copied().flatten()
    }

    /// Every operand that is there.
    pub fn present(&self) -> impl Iterator<Item = (usize, &'a TensorType)> + '_ {
        self.inputs.iter().enumerate().filter_map(|(i, t)| t.map(|t| (i, t)))
    }

    /// An error about operand `index`.
    pub fn reject(&self, index: usize, expected: impl Into<String>) -> OpError {
        let got = self.opt(index).map_or_else(|| "nothing".to_owned(), ToString::to_string);
        OpError::Operand { op: self.op, index, name: "", expected: expected.into(), got }
    }

    /// An error about an attribute.
    pub fn bad_attr(&self, attr: &'static str, why: impl Into<String>) -> OpError {
        OpError::Attr { op: self.op, attr, why: why.into() }
    }

    /// Resolves an axis attribute against a rank.
    pub fn axis(&self, attr: &'static str, axis: i64, rank: usize) -> Result<usize, OpError> {
        crate::types::resolve_axis(axis, rank)
            .ok_or_else(|| self.bad_attr(attr, format!("axis {axis} is out of range for rank {rank}")))
    }

    /// Requires operand `index` to have that element type.
    pub fn expect_dtype(&self, index: usize, dtype: DType) -> Result<&'a TensorType, OpError> {
        let t = self.ty(index)?;
        if t.dtype == dtype { Ok(t) } else { Err(self.reject(index, format!("elements of type {dtype}"))) }
    }

    /// Requires operand `index` to have exactly that type.
    pub fn expect_shape(&self, index: usize, dtype: DType, shape: &[Dim]) -> Result<&'a TensorType, OpError> {
        let t = self.ty(index)?;
        if t.dtype == dtype && crate::types::same_shape(&t.shape, shape) {
            Ok(t)
        } else {
            let want = TensorType { dtype, shape: shape.to_vec() };
            Err(self.reject(index, want.to_string()))
        }
    }

    /// Requires operand `index`, when it is there, to broadcast to `shape` and to have that element type.
    pub fn expect_broadcasts_to(&self, index: usize, dtype: DType, shape: &[Dim]) -> Result<(), OpError> {
        let Some(t) = self.opt(index) else { return Ok(()) };
        match crate::types::broadcast(&t.shape, shape) {
            Some(s) if t.dtype == dtype && crate::types::same_shape(&s, shape) => Ok(()),
            _ => Err(self.reject(index, format!("{dtype} of a shape that broadcasts to {shape:?}"))),
        }
    }

    /// Requires operand `index` to have that rank.
    pub fn expect_rank(&self, index: usize, rank: usize) -> Result<&'a TensorType, OpError> {
        let t = self.ty(index)?;
        if t.rank() == rank { Ok(t) } else { Err(self.reject(index, format!("rank {rank}"))) }
    }

    /// Requires operand `index` to be of a float type.
    pub fn expect_float(&self, index: usize) -> Result<&'a TensorType, OpError> {
        let t = self.ty(index)?;
        if t.dtype.is_float() { Ok(t) } else { Err(self.reject(index, "a float type")) }
    }

    /// Broadcasts two operands' shapes.
    pub fn broadcast(&self, a: &[Dim], b: &[Dim], index: usize) -> Result<Shape, OpError> {
        crate::types::broadcast(a, b)
            .ok_or_else(|| self.reject(index, format!("a shape that broadcasts with {a:?}")))
    }

    /// Refuses operands of the storage types.
    pub fn refuse_narrow(&self) -> Result<(), OpError> {
        match self.present().find(|(_, t)| t.dtype.is_narrow()) {
            Some((index, _)) => Err(self.reject(index, "an element type that is not for storage alone")),
            None => Ok(()),
        }
    }

    /// Checks the number of operands and that required ones are there.
    pub fn check_arity(&self, operands: &[Operand]) -> Result<(), OpError> {
        let variadic = operands.last().is_some_and(|o| o.arity == Arity::Variadic);
        if self.inputs.len() > operands.len() && !variadic {
            let names: Vec<_> = operands.iter().map(|o| o.name).collect();
            return Err(OpError::Arity {
                op: self.op,
                expected: format!("{} ({})", operands.len(), names.join(", ")),
                got: self.inputs.len(),
            });
        }
        for (index, o) in operands.iter().enumerate() {
            if o.arity == Arity::One && self.opt(index).is_none() {
                return Err(OpError::Missing { op: self.op, index, name: o.name });
            }
        }
        if variadic && self.inputs.iter().skip(operands.len().saturating_sub(1)).any(Option::is_none) {
            return Err(OpError::Missing { op: self.op, index: self.inputs.len(), name: "repeated operand" });
        }
        Ok(())
    }
}

/// Operands and bindings during reference evaluation.
pub struct Eval<'a> {
    /// Op name, for errors.
    pub op: &'static str,
    /// Operands; None where an optional operand is left out.
    pub inputs: &'a [Option<&'a Tensor>],
    /// Element types and concrete shapes of the outputs, from inference.
    pub outputs: &'a [(DType, Vec<usize>)],
    /// Values of the graph's dimension symbols, for attributes that hold dims.
    pub bindings: &'a Bindings,
}

impl<'a> Eval<'a> {
    /// A required operand.
    pub fn input(&self, index: usize) -> Result<&'a Tensor, OpError> {
        self.inputs.get(index).copied().flatten().ok_or(OpError::Missing { op: self.op, index, name: "" })
    }

    /// An optional operand.
    pub fn opt(&self, index: usize) -> Option<&'a Tensor> {
        self.inputs.get(index).copied().flatten()
    }

    /// Element type and shape of output `index`.
    pub fn output(&self, index: usize) -> Result<(DType, &'a [usize]), OpError> {
        self.outputs
            .get(index)
            .map(|(d, s)| (*d, s.as_slice()))
            .ok_or_else(|| self.bad_data(format!("no output {index}")))
    }

    /// Resolves an axis attribute against a rank.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize, OpError> {
        crate::types::resolve_axis(axis, rank)
            .ok_or_else(|| self.bad_data(format!("axis {axis} is out of range for rank {rank}")))
    }

    /// The value of a dim attribute.
    pub fn dim(&self, d: &Dim) -> Result<i64, OpError> {
        d.eval(self.bindings).map_err(|source| OpError::Dim { op: self.op, source })
    }

    /// An error about the data.
    pub fn bad_data(&self, why: impl Into<String>) -> OpError {
        OpError::Data { op: self.op, why: why.into() }
    }
}
