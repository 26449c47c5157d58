//! Conversion of elements from one dtype to another, as the op Cast defines it. No other function belongs here.

use crate::error::{KernelError, exact, parameters};
use crate::threads::{SharedMut, parallel_ranges};
use frit_ir::narrow::{decode, encode, encode_int};
use frit_ir::{DType, Element, Rounding};

const NAME: &str = "cast";

/// Converts bytes of `from` elements into bytes of `to` elements. Float to int truncates and saturates,
/// anything to bool is `!= 0`, ints wrap; storage types round as told.
pub fn cast(from: DType, x: &[u8], to: DType, rounding: Rounding, out: &mut [u8]) -> Result<(), KernelError> {
    if from == to {
        exact(NAME, "output", out.len(), x.len())?;
        out.copy_from_slice(x);
        return Ok(());
    }
    match from {
        DType::Bool if to == DType::F32 => convert(x, out, |v| f32::from(u8::from(*v != 0))),
        DType::Bool => {
            let truth = |v: &u8| u8::from(*v != 0);
            from_source(|v| f64::from(truth(v)), |v| i64::from(truth(v)), false, x, (to, rounding), out)
        }
        DType::I8 => from_element::<i8>(x, (to, rounding), out),
        DType::I16 => from_element::<i16>(x, (to, rounding), out),
        DType::I32 => from_element::<i32>(x, (to, rounding), out),
        DType::I64 => from_element::<i64>(x, (to, rounding), out),
        DType::U8 => from_element::<u8>(x, (to, rounding), out),
        DType::U16 => from_element::<u16>(x, (to, rounding), out),
        DType::U32 => from_element::<u32>(x, (to, rounding), out),
        DType::U64 => from_element::<u64>(x, (to, rounding), out),
        DType::F16 => from_element::<half::f16>(x, (to, rounding), out),
        DType::BF16 => from_element::<half::bf16>(x, (to, rounding), out),
        DType::F32 => from_element::<f32>(x, (to, rounding), out),
        DType::F64 => from_element::<f64>(x, (to, rounding), out),
        narrow => {
            let mut table = [0.0; 256];
            table.iter_mut().zip(0u8..=255).for_each(|(t, code)| *t = decode(narrow, code).unwrap_or(0.0));
            let number = |v: &u8| table.get(usize::from(*v)).copied().unwrap_or(0.0);
            let is_float = !narrow.is_narrow_int();
            from_source(number, |v| number(v) as i64, is_float, x, (to, rounding), out)
        }
    }
}

fn from_element<T: Element>(x: &[u8], to: (DType, Rounding), out: &mut [u8]) -> Result<(), KernelError> {
    from_source(|v: &T| v.to_f64(), |v| v.to_i64(), T::DTYPE.is_float(), x, to, out)
}

fn from_source<T: bytemuck::Pod + Send + Sync>(
    float: impl Fn(&T) -> f64 + Sync,
    int: impl Fn(&T) -> i64 + Sync,
    is_float: bool,
    x: &[u8],
    (to, rounding): (DType, Rounding),
    out: &mut [u8],
) -> Result<(), KernelError> {
    let x: &[T] = slice(x)?;
    macro_rules! to {
        ($($d:ident => $t:ty),*) => {
            match to {
                DType::Bool if is_float => convert(x, out, |v| u8::from(float(v) != 0.0)),
                DType::Bool => convert(x, out, |v| u8::from(int(v) != 0)),
                $( DType::$d if is_float => convert(x, out, |v| <$t>::from_f64(float(v))), )*
                $( DType::$d => convert(x, out, |v| <$t>::from_i64(int(v))), )*
                narrow if is_float => {
                    convert(x, out, |v| encode(narrow, float(v), rounding).unwrap_or(0))
                }
                narrow if narrow.is_narrow_int() => {
                    convert(x, out, |v| encode_int(narrow, int(v)).unwrap_or(0))
                }
                narrow => convert(x, out, |v| encode(narrow, int(v) as f64, rounding).unwrap_or(0)),
            }
        };
    }
    to!(I8 => i8, I16 => i16, I32 => i32, I64 => i64, U8 => u8, U16 => u16, U32 => u32, U64 => u64,
        F16 => half::f16, BF16 => half::bf16, F32 => f32, F64 => f64)
}

fn slice<T: bytemuck::Pod>(bytes: &[u8]) -> Result<&[T], KernelError> {
    bytemuck::try_cast_slice(bytes)
        .map_err(|e| parameters(NAME, format!("the input's bytes are not elements: {e}")))
}

fn convert<T: Send + Sync, U: bytemuck::Pod + Send>(
    x: &[T],
    out: &mut [u8],
    f: impl Fn(&T) -> U + Sync,
) -> Result<(), KernelError> {
    let out: &mut [U] = bytemuck::try_cast_slice_mut(out)
        .map_err(|e| parameters(NAME, format!("the output's bytes are not elements: {e}")))?;
    exact(NAME, "output", out.len(), x.len())?;
    let out = SharedMut::new(out);
    parallel_ranges(x.len(), 1 << 14, 1.0, |range| {
        // SAFETY: the ranges are disjoint parts of the output.
        let to = unsafe { out.slice(range.clone()) };
        for (to, x) in to.iter_mut().zip(x.get(range).unwrap_or(&[])) {
            *to = f(x);
        }
    });
    Ok(())
}
