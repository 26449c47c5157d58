//! Element types of tensors. Nothing about shapes or storage belongs here.

use std::fmt;
use std::str::FromStr;

/// The element type of a tensor. What it displays is what the text format reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// Truth values, one byte each, 0 or 1.
    Bool,
    /// Signed 8-bit integers.
    I8,
    /// Signed 16-bit integers.
    I16,
    /// Signed 32-bit integers.
    I32,
    /// Signed 64-bit integers.
    I64,
    /// Unsigned 8-bit integers; also the type of packed weights.
    U8,
    /// Unsigned 16-bit integers.
    U16,
    /// Unsigned 32-bit integers.
    U32,
    /// Unsigned 64-bit integers.
    U64,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16: the upper half of an IEEE 754 single.
    BF16,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// Signed 4-bit integers. This and all that follow are stored one byte an element; see [`DType::is_narrow`].
    I4,
    /// Unsigned 4-bit integers.
    U4,
    /// Signed 2-bit integers.
    I2,
    /// Unsigned 2-bit integers.
    U2,
    /// 8-bit floats of 4 exponent bits: no infinity, one NaN of either sign.
    F8E4M3FN,
    /// 8-bit floats of 4 exponent bits: no infinity, no minus zero, one NaN.
    F8E4M3FNUZ,
    /// 8-bit floats of 5 exponent bits, as IEEE 754 would have them.
    F8E5M2,
    /// 8-bit floats of 5 exponent bits: no infinity, no minus zero, one NaN.
    F8E5M2FNUZ,
    /// Powers of two from -127 to 127, and NaN.
    F8E8M0,
    /// 4-bit floats of 2 exponent bits: finite numbers alone.
    F4E2M1,
}

impl DType {
    /// Every element type, in declaration order.
    pub const ALL: [DType; 23] = [
        DType::Bool,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::U8,
        DType::U16,
        DType::U32,
        DType::U64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
        DType::I4,
        DType::U4,
        DType::I2,
        DType::U2,
        DType::F8E4M3FN,
        DType::F8E4M3FNUZ,
        DType::F8E5M2,
        DType::F8E5M2FNUZ,
        DType::F8E8M0,
        DType::F4E2M1,
    ];

    /// Size of one element in bytes.
    pub const fn size(self) -> usize {
        match self {
            DType::Bool | DType::I8 | DType::U8 => 1,
            DType::I4 | DType::U4 | DType::I2 | DType::U2 => 1,
            DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ => 1,
            DType::F8E8M0 | DType::F4E2M1 => 1,
            DType::I16 | DType::U16 | DType::F16 | DType::BF16 => 2,
            DType::I32 | DType::U32 | DType::F32 => 4,
            DType::I64 | DType::U64 | DType::F64 => 8,
        }
    }

    /// Bits that an element needs: fewer than it is stored in where the type is narrower than a byte.
    pub const fn bits(self) -> usize {
        match self {
            DType::I4 | DType::U4 | DType::F4E2M1 => 4,
            DType::I2 | DType::U2 => 2,
            other => other.size() * 8,
        }
    }

    /// True for the four floating-point types that ops calculate with.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
    }

    /// True for signed and unsigned integers that ops calculate with; false for bool.
    pub const fn is_int(self) -> bool {
        !self.is_float() && !self.is_narrow() && !matches!(self, DType::Bool)
    }

    /// True for the storage types: integers under 8 bits and floats of 8 bits or fewer. Ops move and convert them, and
    /// do not calculate with them. Each element takes a byte: an integer's value (sign-extended), a float's code.
    pub const fn is_narrow(self) -> bool {
        self.is_narrow_int()
            || matches!(
                self,
                DType::F8E4M3FN
                    | DType::F8E4M3FNUZ
                    | DType::F8E5M2
                    | DType::F8E5M2FNUZ
                    | DType::F8E8M0
                    | DType::F4E2M1
            )
    }

    /// True for the storage types that are integers.
    pub const fn is_narrow_int(self) -> bool {
        matches!(self, DType::I4 | DType::U4 | DType::I2 | DType::U2)
    }

    /// The name used by the text format.
    pub const fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::I8 => "i8",
            DType::I16 => "i16",
            DType::I32 => "i32",
            DType::I64 => "i64",
            DType::U8 => "u8",
            DType::U16 => "u16",
            DType::U32 => "u32",
            DType::U64 => "u64",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::I4 => "i4",
            DType::U4 => "u4",
            DType::I2 => "i2",
            DType::U2 => "u2",
            DType::F8E4M3FN => "f8e4m3fn",
            DType::F8E4M3FNUZ => "f8e4m3fnuz",
            DType::F8E5M2 => "f8e5m2",
            DType::F8E5M2FNUZ => "f8e5m2fnuz",
            DType::F8E8M0 => "f8e8m0",
            DType::F4E2M1 => "f4e2m1",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text was no element type's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown element type `{0}`; expected one of bool, i2..i64, u2..u64, f16, bf16, f32, f64, f8e4m3fn, f8e4m3fnuz, f8e5m2, f8e5m2fnuz, f8e8m0, f4e2m1"
)]
pub struct UnknownDType(pub String);

impl FromStr for DType {
    type Err = UnknownDType;
    fn from_str(s: &str) -> Result<Self, UnknownDType> {
        DType::ALL.into_iter().find(|d| d.name() == s).ok_or_else(|| UnknownDType(s.to_owned()))
    }
}

/// A Rust type that is the memory form of one [`DType`].
pub trait Element: bytemuck::Pod + Send + Sync + PartialOrd + fmt::Debug {
    /// The element type whose memory form this is.
    const DTYPE: DType;
    /// Widens, or rounds to nearest, into f64 (exact for all but 64-bit integers above 2^53).
    fn to_f64(self) -> f64;
    /// Rounds to nearest from f64; integers truncate toward zero and saturate.
    fn from_f64(x: f64) -> Self;
    /// Truncates into i64, saturating.
    fn to_i64(self) -> i64;
    /// Converts from i64; narrower integers wrap, as ONNX Cast does in practice.
    fn from_i64(x: i64) -> Self;
}

macro_rules! element {
    ($($t:ty => $d:ident),*) => {$(
        impl Element for $t {
            const DTYPE: DType = DType::$d;
            fn to_f64(self) -> f64 { self as f64 }
            fn from_f64(x: f64) -> Self { x as $t }
            fn to_i64(self) -> i64 { self as i64 }
            fn from_i64(x: i64) -> Self { x as $t }
        }
    )*};
}
element!(i8 => I8, i16 => I16, i32 => I32, i64 => I64, u8 => U8, u16 => U16, u32 => U32, u64 => U64, f32 => F32, f64 => F64);

macro_rules! half_element {
    ($($t:ty => $d:ident),*) => {$(
        impl Element for $t {
            const DTYPE: DType = DType::$d;
            fn to_f64(self) -> f64 { <$t>::to_f64(self) }
            fn from_f64(x: f64) -> Self { <$t>::from_f64(x) }
            fn to_i64(self) -> i64 { <$t>::to_f64(self) as i64 }
            fn from_i64(x: i64) -> Self { <$t>::from_f64(x as f64) }
        }
    )*};
}
half_element!(half::f16 => F16, half::bf16 => BF16);
