//! Element types in ONNX: their numbers, and which ones each op takes at which opset. Where an op takes fewer than ours
//! does, export computes in a wider type. Nothing is written here.

use frit_ir::DType;
use frit_ir::DType::{BF16, Bool, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};

const WIDE: &[DType] = &[I32, I64, U32, U64, F16, BF16, F32, F64];
const WIDE_OR_BYTE: &[DType] = &[I8, U8, I32, I64, U32, U64, F16, BF16, F32, F64];
const WIDE_BYTE_BOOL: &[DType] = &[Bool, I8, U8, I32, I64, U32, U64, F16, BF16, F32, F64];
const POWERS: &[DType] = &[I32, I64, F16, BF16, F32, F64];
const SIGNED: &[DType] = &[I8, I16, I32, I64, F16, BF16, F32, F64];
const FLOATS_AND_BYTES: &[DType] = &[I8, U8, F16, BF16, F32, F64];
const FLOATS_AND_BYTES_OLD: &[DType] = &[I8, U8, F16, F32, F64];
const OLD_FLOATS: &[DType] = &[F16, F32, F64];
const BIG_FLOATS: &[DType] = &[F32, F64];
const OLD_TOP_K: &[DType] = &[I8, I16, I32, I64, U8, U16, U32, U64, F16, F32, F64];
const UNSIGNED: &[DType] = &[U8, U16, U32, U64];

/// The element types that an op takes in ONNX, where they are fewer than ours.
pub(super) fn admitted(op: &str, opset: u32) -> Option<&'static [DType]> {
    Some(match op {
        "MatMul" | "CumSum" | "ReduceSum" | "ReduceMean" | "ReduceProd" | "ReduceL1" | "ReduceL2"
        | "ReduceSumSquare" | "ReduceLogSum" | "ReduceLogSumExp" => WIDE,
        "ReduceMax" | "ReduceMin" if opset < 20 => WIDE_OR_BYTE,
        "ReduceMax" | "ReduceMin" => WIDE_BYTE_BOOL,
        "Pow" => POWERS,
        "Neg" | "Relu" => SIGNED,
        "BitShift" => UNSIGNED,
        "MaxPool" if opset < 22 => FLOATS_AND_BYTES_OLD,
        "MaxPool" => FLOATS_AND_BYTES,
        "IsInf" if opset < 20 => BIG_FLOATS,
        "TopK" if opset < 24 => OLD_TOP_K,
        "Softplus"
        | "Softsign"
        | "Sin"
        | "Cos"
        | "Tan"
        | "Asin"
        | "Acos"
        | "Atan"
        | "Sinh"
        | "Cosh"
        | "Asinh"
        | "Acosh"
        | "Atanh"
        | "Round"
        | "Elu"
        | "Selu"
        | "Mish"
        | "HardSigmoid"
        | "Conv"
        | "ConvTranspose"
        | "AveragePool"
        | "GlobalAveragePool"
        | "GlobalMaxPool"
        | "InstanceNormalization"
        | "Recurrent"
        | "Det"
            if opset < 22 =>
        {
            OLD_FLOATS
        }
        _ => return None,
    })
}

/// The type to compute in, where the op does not take `dtype`: the first it takes that holds every value, or nearly.
pub(super) fn carrier(dtype: DType, admitted: &[DType]) -> Option<DType> {
    let wider: &[DType] = match dtype {
        Bool => &[U8, I32, I64, F32],
        I8 => &[I16, I32, I64, F32],
        U8 => &[U16, I16, I32, I64, F32],
        I16 | U16 => &[I32, I64, F32],
        I32 => &[I64, U32, F64],
        U32 => &[I64, U64, F64],
        I64 => &[U64, F64],
        U64 => &[I64, F64],
        F16 | BF16 => &[F32, F64],
        F32 => &[F64],
        F64 => &[F32],
        _ => &[],
    };
    wider.iter().copied().find(|d| admitted.contains(d))
}
