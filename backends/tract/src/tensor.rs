//! Tensors between frit and tract, by copying. Running does not belong here.

use crate::Error;
use frit_ir::{DType, Tensor};
use tract_onnx::prelude::{self as tract, Datum, DatumType};
use tract_onnx::tract_core::internal::f16;

/// tract's type for one of ours.
pub(crate) fn datum_type(dtype: DType) -> Result<DatumType, Error> {
    Ok(match dtype {
        DType::Bool => DatumType::Bool,
        DType::I8 => DatumType::I8,
        DType::I16 => DatumType::I16,
        DType::I32 => DatumType::I32,
        DType::I64 => DatumType::I64,
        DType::U8 => DatumType::U8,
        DType::U16 => DatumType::U16,
        DType::U32 => DatumType::U32,
        DType::U64 => DatumType::U64,
        DType::F16 => DatumType::F16,
        DType::F32 => DatumType::F32,
        DType::F64 => DatumType::F64,
        other => return Err(Error::DType(other)),
    })
}

fn copied<T: Datum + Copy>(t: &Tensor, one: impl Fn(&[u8]) -> T) -> Result<tract::Tensor, Error> {
    let values: Vec<T> = t.bytes().chunks_exact(t.dtype().size()).map(one).collect();
    tract::Tensor::from_shape(t.shape(), &values).map_err(|e| Error::Run(e.to_string()))
}

/// The bytes of one element; zeros where there are too few, which a tensor does not have.
fn le<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}

/// A copy for tract.
pub(crate) fn to_tract(t: &Tensor) -> Result<tract::Tensor, Error> {
    match datum_type(t.dtype())? {
        DatumType::Bool => copied(t, |b| le::<1>(b) != [0]),
        DatumType::I8 => copied(t, |b| i8::from_le_bytes(le(b))),
        DatumType::I16 => copied(t, |b| i16::from_le_bytes(le(b))),
        DatumType::I32 => copied(t, |b| i32::from_le_bytes(le(b))),
        DatumType::I64 => copied(t, |b| i64::from_le_bytes(le(b))),
        DatumType::U8 => copied(t, |b| u8::from_le_bytes(le(b))),
        DatumType::U16 => copied(t, |b| u16::from_le_bytes(le(b))),
        DatumType::U32 => copied(t, |b| u32::from_le_bytes(le(b))),
        DatumType::U64 => copied(t, |b| u64::from_le_bytes(le(b))),
        DatumType::F16 => copied(t, |b| f16::from_le_bytes(le(b))),
        DatumType::F64 => copied(t, |b| f64::from_le_bytes(le(b))),
        _ => copied(t, |b| f32::from_le_bytes(le(b))),
    }
}

/// A copy from tract. Symbolic integers, which tract keeps for shapes, become i64.
pub(crate) fn from_tract(t: &tract::Tensor) -> Result<Tensor, Error> {
    let failed = |e: tract::TractError| Error::Run(e.to_string());
    let cast;
    let (t, dtype) = match t.datum_type() {
        DatumType::Bool => (t, DType::Bool),
        DatumType::I8 => (t, DType::I8),
        DatumType::I16 => (t, DType::I16),
        DatumType::I32 => (t, DType::I32),
        DatumType::I64 => (t, DType::I64),
        DatumType::U8 => (t, DType::U8),
        DatumType::U16 => (t, DType::U16),
        DatumType::U32 => (t, DType::U32),
        DatumType::U64 => (t, DType::U64),
        DatumType::F16 => (t, DType::F16),
        DatumType::F32 => (t, DType::F32),
        DatumType::F64 => (t, DType::F64),
        DatumType::TDim => {
            cast = t.cast_to_dt(DatumType::I64).map_err(failed)?;
            (&*cast, DType::I64)
        }
        other => return Err(Error::Foreign(format!("{other:?}"))),
    };
    let plain = t.try_as_plain_ram().map_err(failed)?;
    Tensor::from_bytes(dtype, t.shape(), plain.as_bytes()).map_err(|e| Error::Run(e.to_string()))
}
