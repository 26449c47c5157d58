//! Conversion of elements from one dtype to another, as the op Cast defines it. No other function belongs here.

use crate::error::{KernelError, exact, parameters};
use crate::threads::{SharedMut, parallel_ranges};
use frit_ir::{DType, Element};

const NAME: &str = "cast";

/// Converts bytes of `from` elements into bytes of `to` elements. Float to int truncates and saturates,
/// anything to bool is `!= 0`, ints wrap.
pub fn cast(from: DType, x: &[u8], to: DType, out: &mut [u8]) -> Result<(), KernelError> {
    if from == to {
        exact(NAME, "output", out.len(), x.len())?;
        out.copy_from_slice(x);
        return Ok(());
    }
    match from {
        DType::Bool => {
            from_source(|v: &u8| f64::from(u8::from(*v != 0)), |v| i64::from(*v != 0), false, x, to, out)
        }
        DType::I8 => from_element::<i8>(x, to, out),
        DType::I16 => from_element::<i16>(x, to, out),
        DType::I32 => from_element::<i32>(x, to, out),
        DType::I64 => from_element::<i64>(x, to, out),
        DType::U8 => from_element::<u8>(x, to, out),
        DType::U16 => from_element::<u16>(x, to, out),
        DType::U32 => from_element::<u32>(x, to, out),
        DType::U64 => from_element::<u64>(x, to, out),
        DType::F16 => from_element::<half::f16>(x, to, out),
        DType::BF16 => from_element::<half::bf16>(x, to, out),
        DType::F32 => from_element::<f32>(x, to, out),
        DType::F64 => from_element::<f64>(x, to, out),
        narrow => Err(parameters(NAME, format!("{narrow} is a storage type"))),
    }
}

fn from_element<T: Element>(x: &[u8], to: DType, out: &mut [u8]) -> Result<(), KernelError> {
    from_source(|v: &T| v.to_f64(), |v| v.to_i64(), T::DTYPE.is_float(), x, to, out)
}

fn from_source<T: bytemuck::Pod + Send + Sync>(
    float: impl Fn(&T) -> f64 + Sync,
    int: impl Fn(&T) -> i64 + Sync,
    is_float: bool,
    x: &[u8],
    to: DType,
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
                narrow => Err(parameters(NAME, format!("{narrow} is a storage type"))),
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
