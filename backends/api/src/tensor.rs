//! Borrowed tensors that kernels read and write. Owned tensors are frit-ir's.

use frit_ir::{DType, Element, Tensor, TensorError};

/// Row-major strides, in elements, of a shape.
pub fn contiguous_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    let mut step = 1usize;
    for (s, &d) in strides.iter_mut().zip(shape).rev() {
        *s = step;
        step = step.saturating_mul(d);
    }
    strides
}

/// A tensor to read.
#[derive(Clone, Copy, Debug)]
pub struct TensorRef<'a> {
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub shape: &'a [usize],
    /// Distance in elements between neighbours along each axis; None: row-major without gaps.
    pub strides: Option<&'a [usize]>,
    /// The bytes, from the first element to the last; a packed weight's blob when the kernel asked for it.
    pub bytes: &'a [u8],
}

impl<'a> TensorRef<'a> {
    /// The elements (with the gaps, when strided) as `T`.
    pub fn slice<T: Element>(&self) -> Result<&'a [T], TensorError> {
        if T::DTYPE != self.dtype {
            return Err(TensorError::DType { expected: T::DTYPE, got: self.dtype });
        }
        bytemuck::try_cast_slice(self.bytes).map_err(|_| TensorError::Misaligned(self.dtype))
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True when some extent is zero.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// The strides, those of a contiguous tensor included.
    pub fn strides(&self) -> Vec<usize> {
        self.strides.map_or_else(|| contiguous_strides(self.shape), <[usize]>::to_vec)
    }

    /// A contiguous owned copy.
    pub fn to_tensor(&self) -> Result<Tensor, TensorError> {
        let Some(strides) = self.strides else {
            return Tensor::from_bytes(self.dtype, self.shape, self.bytes);
        };
        let size = self.dtype.size();
        let mut out = Vec::with_capacity(self.len().saturating_mul(size));
        for mut n in 0..self.len() {
            let mut at = 0;
            for (&d, &s) in self.shape.iter().zip(strides).rev() {
                at += (n % d) * s;
                n /= d;
            }
            out.extend_from_slice(self.bytes.get(at * size..(at + 1) * size).unwrap_or(&[]));
        }
        Tensor::from_bytes(self.dtype, self.shape, &out)
    }
}

/// A tensor to fill; contiguous.
#[derive(Debug)]
pub struct TensorMut<'a> {
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub shape: &'a [usize],
    /// The bytes.
    pub bytes: &'a mut [u8],
}

impl TensorMut<'_> {
    /// The elements as `T`.
    pub fn slice_mut<T: Element>(&mut self) -> Result<&mut [T], TensorError> {
        if T::DTYPE != self.dtype {
            return Err(TensorError::DType { expected: T::DTYPE, got: self.dtype });
        }
        bytemuck::try_cast_slice_mut(self.bytes).map_err(|_| TensorError::Misaligned(self.dtype))
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True when some extent is zero.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }
}
