//! From tensor messages to host tensors: every element type, every place that its data may be in.
//! Opening files is `external`'s business.

use super::external::External;
use super::model::Budget;
use crate::onnx::error::{OnnxError, TensorFault};
use crate::onnx::schema::{DataLocation, DataType, SparseTensorProto, TensorProto};
use crate::onnx::value::{HostValue, Strings};
use bytes::Bytes;
use frit_ir::tensor::element_count;
use frit_ir::{DType, Storage, Tensor};
use std::sync::Arc;

/// The element type of the graph that an ONNX type becomes; None for strings and types frit has no tensors of.
pub fn dtype_of(ty: DataType) -> Option<DType> {
    Some(match ty {
        DataType::Float => DType::F32,
        DataType::Uint8 => DType::U8,
        DataType::Int8 => DType::I8,
        DataType::Uint16 => DType::U16,
        DataType::Int16 => DType::I16,
        DataType::Int32 => DType::I32,
        DataType::Int64 => DType::I64,
        DataType::Bool => DType::Bool,
        DataType::Float16 => DType::F16,
        DataType::Double => DType::F64,
        DataType::Uint32 => DType::U32,
        DataType::Uint64 => DType::U64,
        DataType::Bfloat16 => DType::BF16,
        DataType::Float8e4m3fn => DType::F8E4M3FN,
        DataType::Float8e4m3fnuz => DType::F8E4M3FNUZ,
        DataType::Float8e5m2 => DType::F8E5M2,
        DataType::Float8e5m2fnuz => DType::F8E5M2FNUZ,
        DataType::Float8e8m0 => DType::F8E8M0,
        DataType::Float4e2m1 => DType::F4E2M1,
        DataType::Int4 => DType::I4,
        DataType::Uint4 => DType::U4,
        DataType::Int2 => DType::I2,
        DataType::Uint2 => DType::U2,
        _ => return None,
    })
}

/// The ONNX type of an element type.
pub fn data_type_of(dtype: DType) -> DataType {
    match dtype {
        DType::F32 => DataType::Float,
        DType::U8 => DataType::Uint8,
        DType::I8 => DataType::Int8,
        DType::U16 => DataType::Uint16,
        DType::I16 => DataType::Int16,
        DType::I32 => DataType::Int32,
        DType::I64 => DataType::Int64,
        DType::Bool => DataType::Bool,
        DType::F16 => DataType::Float16,
        DType::F64 => DataType::Double,
        DType::U32 => DataType::Uint32,
        DType::U64 => DataType::Uint64,
        DType::BF16 => DataType::Bfloat16,
        DType::F8E4M3FN => DataType::Float8e4m3fn,
        DType::F8E4M3FNUZ => DataType::Float8e4m3fnuz,
        DType::F8E5M2 => DataType::Float8e5m2,
        DType::F8E5M2FNUZ => DataType::Float8e5m2fnuz,
        DType::F8E8M0 => DataType::Float8e8m0,
        DType::F4E2M1 => DataType::Float4e2m1,
        DType::I4 => DataType::Int4,
        DType::U4 => DataType::Uint4,
        DType::I2 => DataType::Int2,
        DType::U2 => DataType::Uint2,
    }
}

/// Bits of an element in `raw_data`, and whether it is sign-extended when unpacked.
pub(crate) fn packing(ty: DataType) -> Option<(u32, bool)> {
    match ty {
        DataType::Int4 => Some((4, true)),
        DataType::Uint4 | DataType::Float4e2m1 => Some((4, false)),
        DataType::Int2 => Some((2, true)),
        DataType::Uint2 => Some((2, false)),
        _ => None,
    }
}

/// Elements of fewer than 8 bits, the first in the lowest bits of a byte, to a byte each.
fn unpack(packed: &[u8], bits: u32, signed: bool, count: usize) -> Vec<u8> {
    let unused = 8 - bits;
    let one = |byte: u8, place: u32| {
        let high = byte << (unused - place * bits);
        // An arithmetic shift down copies the sign; a logical one does not.
        if signed { (high.cast_signed() >> unused).cast_unsigned() } else { high >> unused }
    };
    packed.iter().flat_map(|&b| (0..8 / bits).map(move |p| one(b, p))).take(count).collect()
}

/// Bytes that `count` elements take in `raw_data`.
fn raw_len(ty: DataType, dtype: DType, count: usize) -> Option<usize> {
    match packing(ty) {
        Some((bits, _)) => Some(count.div_ceil(usize::try_from(8 / bits).ok()?)),
        None => count.checked_mul(dtype.size()),
    }
}

/// Reads tensors of one model.
pub(super) struct TensorReader<'m> {
    pub(super) external: &'m External,
    pub(super) budget: &'m Budget,
}

impl TensorReader<'_> {
    pub(super) fn tensor(&self, proto: &TensorProto) -> Result<HostValue, OnnxError> {
        let fault = |fault| OnnxError::Tensor { name: proto.name.clone(), fault };
        let ty = data_type(proto).map_err(fault)?;
        let shape = shape(&proto.dims).map_err(fault)?;
        if proto.segment.is_some() {
            return Err(fault(TensorFault::Segment));
        }
        if ty == DataType::String {
            return strings(proto, shape).map(HostValue::Strings).map_err(fault);
        }
        let dtype = dtype_of(ty).ok_or_else(|| fault(TensorFault::Unsupported(ty)))?;
        let too_large = || fault(TensorFault::Shape(proto.dims.clone()));
        let count = element_count(&shape).ok_or_else(too_large)?;
        let raw = raw_len(ty, dtype, count).ok_or_else(too_large)?;
        // Unpacked elements take more room than the file has for them.
        if isize::try_from(count.saturating_mul(dtype.size())).is_err() {
            return Err(too_large());
        }
        if proto.data_location == DataLocation::External as i32 {
            if let Some(found) = data_beside(proto, "external_data") {
                return Err(fault(TensorFault::Place { found, dtype: ty }));
            }
            let range = self.external.range(proto, raw)?;
            if range.opened {
                self.budget.grow((*range.file).as_ref().len());
            }
            let storage = Storage::shared(range.file, range.start, raw);
            return self.raw(ty, dtype, &shape, storage).map(HostValue::Tensor).map_err(fault);
        }
        let tensor = match &proto.raw_data {
            Some(bytes) if !bytes.is_empty() || count == 0 => {
                self.inline(proto, bytes, ty, dtype, &shape, raw).map_err(fault)?
            }
            _ => self.typed(proto, ty, dtype, &shape, count).map_err(fault)?,
        };
        Ok(HostValue::Tensor(tensor))
    }

    fn inline(
        &self,
        proto: &TensorProto,
        bytes: &Bytes,
        ty: DataType,
        dtype: DType,
        shape: &[usize],
        expected: usize,
    ) -> Result<Tensor, TensorFault> {
        if let Some(found) = data_beside(proto, "raw_data") {
            return Err(TensorFault::Place { found, dtype: ty });
        }
        if bytes.len() != expected {
            let dims = shape.to_vec();
            return Err(TensorFault::Count {
                field: "raw_data",
                dims,
                dtype: ty,
                expected,
                got: bytes.len(),
            });
        }
        self.raw(ty, dtype, shape, Storage::shared(Arc::new(bytes.clone()), 0, expected))
    }

    /// Shares the bytes where that is possible.
    fn raw(
        &self,
        ty: DataType,
        dtype: DType,
        shape: &[usize],
        storage: Option<Storage>,
    ) -> Result<Tensor, TensorFault> {
        let count = element_count(shape).unwrap_or(0);
        let short = || TensorFault::Count {
            field: "raw_data",
            dims: shape.to_vec(),
            dtype: ty,
            expected: raw_len(ty, dtype, count).unwrap_or(usize::MAX),
            got: 0,
        };
        let storage = storage.ok_or_else(short)?;
        let bytes = storage.bytes();
        if let Some((bits, signed)) = packing(ty) {
            self.take(count)?;
            return Ok(Tensor::from_bytes(dtype, shape, &unpack(bytes, bits, signed, count))?);
        }
        if dtype == DType::Bool && bytes.iter().any(|&b| b > 1) {
            self.take(bytes.len())?;
            let bools: Vec<bool> = bytes.iter().map(|&b| b != 0).collect();
            return Ok(Tensor::from_bools(shape, &bools)?);
        }
        if bytes.as_ptr().addr().is_multiple_of(dtype.size()) {
            return Ok(Tensor::from_storage(dtype, shape, storage)?);
        }
        self.take(bytes.len())?;
        Ok(Tensor::from_bytes(dtype, shape, bytes)?)
    }

    /// From the field of the element type.
    fn typed(
        &self,
        proto: &TensorProto,
        ty: DataType,
        dtype: DType,
        shape: &[usize],
        count: usize,
    ) -> Result<Tensor, TensorFault> {
        let (field, got) = match ty {
            DataType::Float => ("float_data", proto.float_data.len()),
            DataType::Double => ("double_data", proto.double_data.len()),
            DataType::Int64 => ("int64_data", proto.int64_data.len()),
            DataType::Uint32 | DataType::Uint64 => ("uint64_data", proto.uint64_data.len()),
            _ => ("int32_data", proto.int32_data.len()),
        };
        if let Some(found) = data_beside(proto, field) {
            return Err(TensorFault::Place { found, dtype: ty });
        }
        let expected = match packing(ty) {
            Some((bits, _)) => count.div_ceil(usize::try_from(8 / bits).unwrap_or(1)),
            None => count,
        };
        if got != expected {
            return Err(TensorFault::Count { field, dims: shape.to_vec(), dtype: ty, expected, got });
        }
        self.take(count.saturating_mul(dtype.size()))?;
        let make = |bytes: &[u8]| Ok(Tensor::from_bytes(dtype, shape, bytes)?);
        match ty {
            DataType::Float => make(bytemuck::cast_slice(&proto.float_data)),
            DataType::Double => make(bytemuck::cast_slice(&proto.double_data)),
            DataType::Int64 => make(bytemuck::cast_slice(&proto.int64_data)),
            DataType::Uint64 => make(bytemuck::cast_slice(&proto.uint64_data)),
            DataType::Uint32 => {
                let narrow = |(index, &value): (usize, &u64)| {
                    u32::try_from(value).map_err(|_| TensorFault::Range {
                        index,
                        value: i64::try_from(value).unwrap_or(i64::MAX),
                        dtype: ty,
                    })
                };
                let values: Vec<u32> =
                    proto.uint64_data.iter().enumerate().map(narrow).collect::<Result<_, _>>()?;
                make(bytemuck::cast_slice(&values))
            }
            DataType::Int32 => make(bytemuck::cast_slice(&proto.int32_data)),
            DataType::Bool => make(&proto.int32_data.iter().map(|&v| u8::from(v != 0)).collect::<Vec<u8>>()),
            _ => {
                let bytes = narrow_ints(&proto.int32_data, ty, dtype)?;
                match packing(ty) {
                    Some((bits, signed)) => make(&unpack(&bytes, bits, signed, count)),
                    None => make(&bytes),
                }
            }
        }
    }

    /// The dense form of a sparse tensor.
    pub(super) fn sparse(&self, proto: &SparseTensorProto) -> Result<HostValue, OnnxError> {
        let values = proto.values.as_ref();
        let name = values.map(|v| v.name.clone()).unwrap_or_default();
        let fault = |fault| OnnxError::Tensor { name: name.clone(), fault };
        let expected = |expected, found: String| fault(TensorFault::Expected { expected, found });
        let (Some(values), Some(indices)) = (values, &proto.indices) else {
            return Err(expected("a sparse tensor with values and indices", "one without".to_owned()));
        };
        let values = match self.tensor(values)? {
            HostValue::Tensor(t) if t.shape().len() == 1 => t,
            other => return Err(expected("sparse values of rank 1", other.to_string())),
        };
        let indices = match self.tensor(indices)? {
            HostValue::Tensor(t) if t.dtype() == DType::I64 => t,
            other => return Err(expected("sparse indices of type i64", other.to_string())),
        };
        let shape = shape(&proto.dims).map_err(fault)?;
        let size = frit_ir::tensor::byte_len(values.dtype(), &shape).map_err(|e| fault(e.into()))?;
        self.take(size).map_err(fault)?;
        let linear = linear_indices(&indices, values.len(), &shape).map_err(fault)?;
        let width = values.dtype().size();
        let mut bytes = vec![0; size];
        for (at, value) in linear.into_iter().zip(values.bytes().chunks_exact(width)) {
            if let Some(place) = bytes.chunks_exact_mut(width).nth(at) {
                place.copy_from_slice(value);
            }
        }
        Tensor::from_bytes(values.dtype(), &shape, &bytes).map(HostValue::Tensor).map_err(|e| fault(e.into()))
    }

    fn take(&self, bytes: usize) -> Result<(), TensorFault> {
        self.budget.take(bytes).map_err(|left| TensorFault::Budget { wanted: bytes, left })
    }
}

/// Positions of `count` sparse elements, ascending and within `shape`.
fn linear_indices(indices: &Tensor, count: usize, shape: &[usize]) -> Result<Vec<usize>, TensorFault> {
    let total = element_count(shape).unwrap_or(0);
    let rows = indices.to_i64_vec();
    let fault = |index, what| TensorFault::Sparse { index, what };
    let positions: Vec<Option<usize>> = match indices.shape() {
        [n] if *n == count => rows.iter().map(|&i| usize::try_from(i).ok().filter(|&i| i < total)).collect(),
        [n, rank] if *n == count && *rank == shape.len() && *rank > 0 => rows
            .chunks_exact(*rank)
            .map(|row| {
                row.iter().zip(shape).try_fold(0usize, |at, (&i, &size)| {
                    let i = usize::try_from(i).ok().filter(|&i| i < size)?;
                    at.checked_mul(size)?.checked_add(i)
                })
            })
            .collect(),
        other => {
            let found = format!("i64{other:?}");
            return Err(TensorFault::Expected { expected: "sparse indices [n] or [n, rank]", found });
        }
    };
    let mut out: Vec<usize> = Vec::with_capacity(positions.len());
    for (index, position) in positions.into_iter().enumerate() {
        let position = position.ok_or_else(|| fault(index, "is outside the shape"))?;
        if out.last().is_some_and(|&last| last >= position) {
            return Err(fault(index, "is not after the one before it"));
        }
        out.push(position);
    }
    Ok(out)
}

fn data_type(proto: &TensorProto) -> Result<DataType, TensorFault> {
    DataType::try_from(proto.data_type).map_err(|_| TensorFault::UnknownType(proto.data_type))
}

fn shape(dims: &[i64]) -> Result<Vec<usize>, TensorFault> {
    let sizes: Result<Vec<usize>, _> = dims.iter().map(|&d| usize::try_from(d)).collect();
    sizes.map_err(|_| TensorFault::Shape(dims.to_vec()))
}

/// The first field other than `field` that holds data.
fn data_beside(proto: &TensorProto, field: &str) -> Option<&'static str> {
    let fields = [
        ("raw_data", proto.raw_data.as_ref().is_none_or(Bytes::is_empty)),
        ("float_data", proto.float_data.is_empty()),
        ("int32_data", proto.int32_data.is_empty()),
        ("string_data", proto.string_data.is_empty()),
        ("int64_data", proto.int64_data.is_empty()),
        ("double_data", proto.double_data.is_empty()),
        ("uint64_data", proto.uint64_data.is_empty()),
    ];
    fields.into_iter().find(|(name, empty)| !empty && *name != field).map(|(name, _)| name)
}

/// `int32_data` as the little-endian bytes of a narrower type.
fn narrow_ints(values: &[i32], ty: DataType, dtype: DType) -> Result<Vec<u8>, TensorFault> {
    // Packed elements come a byte at a time; floats as their bits.
    let (low, high) = match (ty, dtype.size()) {
        (DataType::Int8, _) => (i32::from(i8::MIN), i32::from(i8::MAX)),
        (DataType::Int16, _) => (i32::from(i16::MIN), i32::from(i16::MAX)),
        (_, 1) => (0, i32::from(u8::MAX)),
        _ => (0, i32::from(u16::MAX)),
    };
    let mut out = Vec::with_capacity(values.len().saturating_mul(dtype.size()));
    for (index, &value) in values.iter().enumerate() {
        if value < low || value > high {
            return Err(TensorFault::Range { index, value: i64::from(value), dtype: ty });
        }
        out.extend(value.to_le_bytes().into_iter().take(dtype.size()));
    }
    Ok(out)
}

fn strings(proto: &TensorProto, shape: Vec<usize>) -> Result<Strings, TensorFault> {
    let ty = DataType::String;
    if proto.data_location == DataLocation::External as i32 {
        return Err(TensorFault::Place { found: "external_data", dtype: ty });
    }
    if let Some(found) = data_beside(proto, "string_data") {
        return Err(TensorFault::Place { found, dtype: ty });
    }
    let expected = element_count(&shape).ok_or_else(|| TensorFault::Shape(proto.dims.clone()))?;
    let got = proto.string_data.len();
    if got != expected {
        return Err(TensorFault::Count { field: "string_data", dims: shape, dtype: ty, expected, got });
    }
    let text = |(index, bytes): (usize, &Bytes)| {
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| TensorFault::Utf8 { index })
    };
    let values = proto.string_data.iter().enumerate().map(text).collect::<Result<_, _>>()?;
    Ok(Strings { shape, values })
}
