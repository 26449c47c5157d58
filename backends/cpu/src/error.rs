//! What kernels refuse. Errors of planning and of graphs do not belong here.

/// Why a kernel did not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// A slice is too short for the extents and strides given with it.
    #[error("{kernel}: operand `{operand}` holds {got} elements where the shape needs {needed}")]
    Extent {
        /// The kernel.
        kernel: &'static str,
        /// The operand.
        operand: &'static str,
        /// Elements needed.
        needed: usize,
        /// Elements given.
        got: usize,
    },
    /// Extents or parameters contradict each other or overflow.
    #[error("{kernel}: {what}")]
    Parameters {
        /// The kernel.
        kernel: &'static str,
        /// What is wrong.
        what: String,
    },
    /// An index of a gather lies outside its axis.
    #[error("{kernel}: index {index} at position {position} is outside an axis of {extent}")]
    Index {
        /// The kernel.
        kernel: &'static str,
        /// The index.
        index: i64,
        /// Where it stands in the index operand.
        position: usize,
        /// The axis' extent.
        extent: usize,
    },
    /// An integer was divided by zero.
    #[error("integer division by zero at element {0}")]
    DivisionByZero(usize),
}

/// Refuses a slice that is not exactly as long as its shape.
pub(crate) fn exact(
    kernel: &'static str,
    operand: &'static str,
    got: usize,
    needed: usize,
) -> Result<(), KernelError> {
    if got == needed { Ok(()) } else { Err(KernelError::Extent { kernel, operand, needed, got }) }
}

/// Refuses a slice that is shorter than what its strides reach.
pub(crate) fn at_least(
    kernel: &'static str,
    operand: &'static str,
    got: usize,
    needed: Option<usize>,
) -> Result<(), KernelError> {
    match needed {
        Some(needed) if got >= needed => Ok(()),
        needed => Err(KernelError::Extent { kernel, operand, needed: needed.unwrap_or(usize::MAX), got }),
    }
}

pub(crate) fn parameters(kernel: &'static str, what: impl Into<String>) -> KernelError {
    KernelError::Parameters { kernel, what: what.into() }
}

/// The number of elements of a shape, or an error where it overflows.
pub(crate) fn count(kernel: &'static str, shape: &[usize]) -> Result<usize, KernelError> {
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .ok_or_else(|| parameters(kernel, format!("shape {shape:?} overflows")))
}
