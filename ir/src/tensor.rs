//! Host tensors: a dtype, a concrete shape and shared, immutable, row-major bytes. No arithmetic belongs here.

use crate::dtype::{DType, Element};
use crate::narrow::{self, Rounding};
use std::fmt;
use std::sync::Arc;

/// Alignment in bytes of storage that frit allocates and of weights in an artifact.
pub const ALIGN: usize = 64;

/// Why bytes, a shape and a dtype do not make a tensor, or why a tensor is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The number of bytes is not what dtype and shape need.
    #[error("{dtype}{shape:?} needs {expected} bytes, got {got}")]
    ByteLength {
        /// Element type of the tensor.
        dtype: DType,
        /// Shape of the tensor.
        shape: Vec<usize>,
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
    /// The byte size of a shape overflows the address space.
    #[error("{dtype}{shape:?} is too large for memory")]
    TooLarge {
        /// Element type of the tensor.
        dtype: DType,
        /// Shape of the tensor.
        shape: Vec<usize>,
    },
    /// Another element type was expected.
    #[error("expected elements of type {expected}, got {got}")]
    DType {
        /// Type asked for.
        expected: DType,
        /// Type found.
        got: DType,
    },
    /// The bytes are not aligned for their element type.
    #[error("the bytes of a {0} tensor are not aligned for it")]
    Misaligned(DType),
    /// A reshape changes the number of elements.
    #[error("cannot view shape {from:?} as {to:?}: another number of elements")]
    Reshape {
        /// Present shape.
        from: Vec<usize>,
        /// Wanted shape.
        to: Vec<usize>,
    },
}

/// Owned memory aligned to [`ALIGN`] bytes.
pub struct AlignedBytes {
    chunks: Vec<Chunk>,
    len: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Chunk([u8; ALIGN]);

// SAFETY: a Chunk is 64 plain bytes with alignment 64: no padding, any bit pattern valid.
unsafe impl bytemuck::Zeroable for Chunk {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Chunk {}

impl AlignedBytes {
    /// Zeroed memory of `len` bytes, which must be few or known to be there: as any Rust allocation, it ends the
    /// process where there is no memory.
    pub fn zeroed(len: usize) -> Self {
        AlignedBytes { chunks: vec![Chunk([0; ALIGN]); len.div_ceil(ALIGN)], len }
    }
    /// Zeroed memory of `len` bytes; None where there is not so much. For sizes that come from a file or a call.
    pub fn try_zeroed(len: usize) -> Option<Self> {
        let chunks = bytemuck::allocation::try_zeroed_vec(len.div_ceil(ALIGN)).ok()?;
        Some(AlignedBytes { chunks, len })
    }
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        let all: &[u8] = bytemuck::cast_slice(&self.chunks);
        all.get(..self.len).unwrap_or(all)
    }
    /// The bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.len;
        let all: &mut [u8] = bytemuck::cast_slice_mut(&mut self.chunks);
        all.get_mut(..len).unwrap_or(&mut [])
    }
}

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

/// Shared bytes: memory of our own, or a range of something that owns it (a mapped file).
#[derive(Clone)]
pub struct Storage {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    start: usize,
    len: usize,
}

impl Storage {
    /// A range of an owner's bytes, shared without copying. None when the range leaves the owner.
    pub fn shared(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, start: usize, len: usize) -> Option<Self> {
        let end = start.checked_add(len)?;
        (*owner).as_ref().get(start..end)?;
        Some(Storage { owner, start, len })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        (*self.owner).as_ref().get(self.start..self.start.saturating_add(self.len)).unwrap_or(&[])
    }
}

/// A dense row-major tensor in host memory. Cloning shares the bytes.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    storage: Storage,
}

/// Number of elements of a concrete shape, or None on overflow.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

/// Bytes that dtype and shape need, or that they are too many to address.
pub fn byte_len(dtype: DType, shape: &[usize]) -> Result<usize, TensorError> {
    element_count(shape)
        .and_then(|n| n.checked_mul(dtype.size()))
        .filter(|&n| isize::try_from(n).is_ok())
        .ok_or_else(|| TensorError::TooLarge { dtype, shape: shape.to_vec() })
}

impl Tensor {
    /// Shares `storage`, which must hold exactly the bytes of `shape`, aligned for `dtype`.
    pub fn from_storage(dtype: DType, shape: &[usize], storage: Storage) -> Result<Self, TensorError> {
        let expected = byte_len(dtype, shape)?;
        if storage.bytes().len() != expected {
            return Err(TensorError::ByteLength {
                dtype,
                shape: shape.to_vec(),
                expected,
                got: storage.bytes().len(),
            });
        }
        if !storage.bytes().as_ptr().addr().is_multiple_of(dtype.size()) {
            return Err(TensorError::Misaligned(dtype));
        }
        Ok(Tensor { dtype, shape: shape.to_vec(), storage })
    }

    /// Copies little-endian bytes into new aligned memory.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Self, TensorError> {
        let expected = byte_len(dtype, shape)?;
        if bytes.len() != expected {
            return Err(TensorError::ByteLength { dtype, shape: shape.to_vec(), expected, got: bytes.len() });
        }
        let mut memory = AlignedBytes::zeroed(expected);
        memory.bytes_mut().copy_from_slice(bytes);
        Ok(Self::owned(dtype, shape, memory))
    }

    fn owned(dtype: DType, shape: &[usize], memory: AlignedBytes) -> Self {
        let len = memory.len;
        Tensor { dtype, shape: shape.to_vec(), storage: Storage { owner: Arc::new(memory), start: 0, len } }
    }

    /// All zeros (false).
    pub fn zeros(dtype: DType, shape: &[usize]) -> Result<Self, TensorError> {
        let memory = AlignedBytes::try_zeroed(byte_len(dtype, shape)?)
            .ok_or_else(|| TensorError::TooLarge { dtype, shape: shape.to_vec() })?;
        Ok(Self::owned(dtype, shape, memory))
    }

    /// New memory filled from a slice of elements.
    pub fn from_slice<T: Element>(shape: &[usize], data: &[T]) -> Result<Self, TensorError> {
        Self::from_bytes(T::DTYPE, shape, bytemuck::cast_slice(data))
    }

    /// A bool tensor.
    pub fn from_bools(shape: &[usize], data: &[bool]) -> Result<Self, TensorError> {
        let bytes: Vec<u8> = data.iter().map(|&b| u8::from(b)).collect();
        Self::from_bytes(DType::Bool, shape, &bytes)
    }

    /// A rank-0 tensor of the given dtype, converted from f64.
    pub fn scalar(dtype: DType, value: f64) -> Self {
        let mut memory = AlignedBytes::zeroed(dtype.size());
        write_scalar(dtype, value, memory.bytes_mut());
        Self::owned(dtype, &[], memory)
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True when some extent is zero.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// The row-major little-endian bytes.
    pub fn bytes(&self) -> &[u8] {
        self.storage.bytes()
    }

    /// The elements, when `T` is this tensor's element type. Bool tensors: use [`Tensor::bytes`].
    pub fn as_slice<T: Element>(&self) -> Result<&[T], TensorError> {
        if T::DTYPE != self.dtype {
            return Err(TensorError::DType { expected: T::DTYPE, got: self.dtype });
        }
        bytemuck::try_cast_slice(self.bytes()).map_err(|_| TensorError::Misaligned(self.dtype))
    }

    /// The same bytes under another shape of as many elements.
    pub fn reshaped(&self, shape: &[usize]) -> Result<Self, TensorError> {
        if element_count(shape) != Some(self.len()) {
            return Err(TensorError::Reshape { from: self.shape.clone(), to: shape.to_vec() });
        }
        Ok(Tensor { shape: shape.to_vec(), ..self.clone() })
    }

    /// Every element as f64, in order.
    pub fn to_f64_vec(&self) -> Vec<f64> {
        convert(self, |x| x, |x| x as f64)
    }

    /// Every element as f32, in order.
    pub fn to_f32_vec(&self) -> Vec<f32> {
        if let Ok(s) = self.as_slice::<f32>() {
            return s.to_vec();
        }
        convert(self, |x| x as f32, |x| x as f32)
    }

    /// Every element as i64, in order; floats truncate and saturate.
    pub fn to_i64_vec(&self) -> Vec<i64> {
        convert(self, |x| x as i64, |x| x)
    }

    /// A copy in another element type. Float to int truncates; anything to bool is `!= 0`; ints wrap; floats of 8 bits
    /// saturate.
    pub fn cast(&self, to: DType) -> Result<Self, TensorError> {
        self.cast_with(to, Rounding::default())
    }

    /// As [`Tensor::cast`], with a say in how storage types round.
    pub fn cast_with(&self, to: DType, rounding: Rounding) -> Result<Self, TensorError> {
        if to == self.dtype {
            return Ok(self.clone());
        }
        fn collect<T: Element>(t: &Tensor) -> Result<Tensor, TensorError> {
            Tensor::from_slice(&t.shape, &convert(t, T::from_f64, T::from_i64))
        }
        match to {
            DType::Bool => Tensor::from_bools(&self.shape, &convert(self, |x| x != 0.0, |x| x != 0)),
            DType::I8 => collect::<i8>(self),
            DType::I16 => collect::<i16>(self),
            DType::I32 => collect::<i32>(self),
            DType::I64 => collect::<i64>(self),
            DType::U8 => collect::<u8>(self),
            DType::U16 => collect::<u16>(self),
            DType::U32 => collect::<u32>(self),
            DType::U64 => collect::<u64>(self),
            DType::F16 => collect::<half::f16>(self),
            DType::BF16 => collect::<half::bf16>(self),
            DType::F32 => collect::<f32>(self),
            DType::F64 => collect::<f64>(self),
            _ => {
                let float = |x| narrow::encode(to, x, rounding).unwrap_or(0);
                let int = |x| {
                    narrow::encode_int(to, x).or_else(|| narrow::encode(to, x as f64, rounding)).unwrap_or(0)
                };
                Tensor::from_bytes(to, &self.shape, &convert(self, float, int))
            }
        }
    }

    /// A tensor of `dtype` from f64 values in order.
    pub fn from_f64(dtype: DType, shape: &[usize], values: &[f64]) -> Result<Self, TensorError> {
        Tensor::from_slice(shape, values)?.cast(dtype)
    }

    /// A tensor of `dtype` from i64 values in order.
    pub fn from_i64(dtype: DType, shape: &[usize], values: &[i64]) -> Result<Self, TensorError> {
        Tensor::from_slice(shape, values)?.cast(dtype)
    }
}

fn write_scalar(dtype: DType, v: f64, out: &mut [u8]) {
    fn put<T: Element>(v: f64, out: &mut [u8]) {
        let x = [T::from_f64(v)];
        let b: &[u8] = bytemuck::cast_slice(&x);
        for (o, b) in out.iter_mut().zip(b) {
            *o = *b;
        }
    }
    match dtype {
        DType::Bool => put::<u8>(f64::from(u8::from(v != 0.0)), out),
        DType::I8 => put::<i8>(v, out),
        DType::I16 => put::<i16>(v, out),
        DType::I32 => put::<i32>(v, out),
        DType::I64 => put::<i64>(v, out),
        DType::U8 => put::<u8>(v, out),
        DType::U16 => put::<u16>(v, out),
        DType::U32 => put::<u32>(v, out),
        DType::U64 => put::<u64>(v, out),
        DType::F16 => put::<half::f16>(v, out),
        DType::BF16 => put::<half::bf16>(v, out),
        DType::F32 => put::<f32>(v, out),
        DType::F64 => put::<f64>(v, out),
        dtype => {
            let code = narrow::encode(dtype, v, Rounding::default());
            out.iter_mut().zip(code).for_each(|(o, c)| *o = c);
        }
    }
}

/// Maps every element: floats through `f`, integers and bools through `i`.
fn convert<R>(t: &Tensor, f: impl Fn(f64) -> R, i: impl Fn(i64) -> R) -> Vec<R> {
    fn floats<T: Element, R>(t: &Tensor, f: impl Fn(f64) -> R) -> Vec<R> {
        t.as_slice::<T>().unwrap_or(&[]).iter().map(|x| f(x.to_f64())).collect()
    }
    fn ints<T: Element, R>(t: &Tensor, i: impl Fn(i64) -> R) -> Vec<R> {
        t.as_slice::<T>().unwrap_or(&[]).iter().map(|x| i(x.to_i64())).collect()
    }
    match t.dtype {
        DType::Bool => t.bytes().iter().map(|&b| i(i64::from(b != 0))).collect(),
        DType::I8 => ints::<i8, R>(t, i),
        DType::I16 => ints::<i16, R>(t, i),
        DType::I32 => ints::<i32, R>(t, i),
        DType::I64 => ints::<i64, R>(t, i),
        DType::U8 => ints::<u8, R>(t, i),
        DType::U16 => ints::<u16, R>(t, i),
        DType::U32 => ints::<u32, R>(t, i),
        DType::U64 => ints::<u64, R>(t, i),
        DType::F16 => floats::<half::f16, R>(t, f),
        DType::BF16 => floats::<half::bf16, R>(t, f),
        DType::F32 => floats::<f32, R>(t, f),
        DType::F64 => floats::<f64, R>(t, f),
        dtype => {
            let number = |&code| narrow::decode(dtype, code).unwrap_or(0.0);
            let numbers = t.bytes().iter().map(number);
            if dtype.is_narrow_int() {
                numbers.map(|x| i(x as i64)).collect()
            } else {
                numbers.map(f).collect()
            }
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)?;
        if self.len() <= 16 {
            write!(f, " {:?}", self.to_f64_vec())?;
        }
        Ok(())
    }
}

/// Equal dtype, shape and bytes.
impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.shape == other.shape && self.bytes() == other.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_types_convert_and_reach_every_code() -> Result<(), TensorError> {
        let x = Tensor::from_slice(&[4], &[-9f32, 8.0, 3.7, -1.2])?;
        assert_eq!(x.cast(DType::I4)?.to_i64_vec(), [7, -8, 3, -1]);
        assert_eq!(x.cast(DType::U2)?.to_i64_vec(), [3, 0, 3, 3]);
        assert_eq!(x.cast(DType::F4E2M1)?.to_f64_vec(), [-6.0, 6.0, 4.0, -1.0]);
        let wide = Tensor::from_i64(DType::I64, &[2], &[1000, 17])?;
        assert_eq!(wide.cast(DType::F8E4M3FN)?.to_f64_vec(), [448.0, 16.0]);
        assert_eq!(wide.cast(DType::F8E4M3FN)?.cast(DType::I32)?.to_i64_vec(), [448, 16]);
        let free = Rounding { saturate: false, ..Rounding::default() };
        assert!(wide.cast_with(DType::F8E4M3FN, free)?.to_f64_vec()[0].is_nan());
        assert_eq!(Tensor::scalar(DType::F8E5M2, 0.3).to_f64_vec(), [0.3125]);
        assert_eq!(Tensor::scalar(DType::I4, -3.0).bytes(), [0xfd]);
        Ok(())
    }
}
