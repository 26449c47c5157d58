//! The type of a value: element type and symbolic shape, and how shapes broadcast. No data belongs here.

use crate::dim::{Bindings, Dim, DimError};
use crate::dtype::DType;
use std::fmt;

/// Extents of a value, outermost first.
pub type Shape = Vec<Dim>;

/// The static type of a value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Extents, symbolic or fixed.
    pub shape: Shape,
}

impl TensorType {
    /// A type from anything that turns into dims.
    pub fn new<D: Into<Dim>>(dtype: DType, shape: impl IntoIterator<Item = D>) -> Self {
        TensorType { dtype, shape: shape.into_iter().map(Into::into).collect() }
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The extents, when all are numbers.
    pub fn fixed_shape(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(Dim::as_fixed).collect()
    }

    /// The extents under bindings.
    pub fn eval_shape(&self, bindings: &Bindings) -> Result<Vec<usize>, DimError> {
        self.shape.iter().map(|d| d.eval_extent(bindings)).collect()
    }

    /// Number of elements as an expression.
    pub fn elements(&self) -> Result<Dim, DimError> {
        product(&self.shape)
    }

    /// True when dtype and every extent agree for all values of the symbols.
    pub fn same(&self, other: &TensorType) -> bool {
        self.dtype == other.dtype && same_shape(&self.shape, &other.shape)
    }
}

/// Product of extents.
pub fn product(shape: &[Dim]) -> Result<Dim, DimError> {
    shape.iter().try_fold(Dim::constant(1), |n, d| n.mul(d))
}

/// True when both shapes agree for all values of the symbols.
pub fn same_shape(a: &[Dim], b: &[Dim]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.same(y))
}

/// NumPy (and ONNX) multidirectional broadcasting. None when two extents are neither equal nor 1.
pub fn broadcast(a: &[Dim], b: &[Dim]) -> Option<Shape> {
    let rank = a.len().max(b.len());
    let one = Dim::constant(1);
    (0..rank)
        .map(|i| {
            let x = (i + a.len()).checked_sub(rank).and_then(|i| a.get(i)).unwrap_or(&one);
            let y = (i + b.len()).checked_sub(rank).and_then(|i| b.get(i)).unwrap_or(&one);
            if x.is(1) || x.same(y) {
                Some(y.clone())
            } else if y.is(1) {
                Some(x.clone())
            } else {
                None
            }
        })
        .collect()
}

/// Resolves an axis that may count from the end. None when it is out of range.
pub fn resolve_axis(axis: i64, rank: usize) -> Option<usize> {
    let rank_i = i64::try_from(rank).ok()?;
    let a = if axis < 0 { axis.checked_add(rank_i)? } else { axis };
    usize::try_from(a).ok().filter(|&a| a < rank)
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, d) in self.shape.iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
