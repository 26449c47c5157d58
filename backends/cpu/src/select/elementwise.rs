//! Elementwise ops on dtypes that are neither f32 nor bool, in wide numbers, and conversions. The rest goes to
//! `chain.rs`.

use super::Cx;
use super::chain::{binary_function, unary_function};
use super::simple::{Fail, Operands, Result, kernel, with_number};
use crate::elementwise::{self as ew, Binary, Unary, wide::WideOutput};
use frit_backend::{Kernel, TensorMut};
use frit_ir::DType;
use frit_ir::op;

type Selected = Option<Box<dyn Kernel>>;

fn wide_output<'o, T: frit_ir::Element>(out: &'o mut TensorMut<'_>) -> Result<WideOutput<'o, T>> {
    if out.dtype == DType::Bool {
        Ok(WideOutput::Bool(out.bytes))
    } else {
        Ok(WideOutput::Elements(out.slice_mut::<T>()?))
    }
}

pub(super) fn unary(cx: &Cx<'_>, op: &op::Unary) -> Selected {
    let dtype = cx.input(0)?.dtype;
    let f = match unary_function(op.function) {
        Some(f) if dtype != DType::U64 => f,
        None if dtype.is_float() => Unary::Other(op.function),
        _ => return None,
    };
    kernel(op.function.name(), move |run| {
        let x = run.tensor(0)?;
        let out = run.outputs.first_mut().ok_or_else(|| Fail::Contract("no output".to_owned()))?;
        with_number!(dtype, T => Ok(ew::unary::<T>(f, x.slice()?, wide_output(out)?)?), else Ok(()))
    })
    .done()
}

pub(super) fn binary(cx: &Cx<'_>, op: &op::Binary) -> Selected {
    let dtype = cx.input(0)?.dtype;
    let (f, name) = (binary_function(op.function)?, op.function.name());
    // The kernels calculate with i64, which suffices where wrapping around gives the same bits.
    if dtype == DType::U64 && !matches!(f, Binary::Add | Binary::Sub | Binary::Mul | Binary::Equal) {
        return None;
    }
    kernel(name, move |run| {
        let (x, y) = (run.tensor(0)?, run.tensor(1)?);
        let out = run.outputs.first_mut().ok_or_else(|| Fail::Contract("no output".to_owned()))?;
        let shape = out.shape;
        with_number!(dtype, T => {
            Ok(ew::binary::<T>(f, (x.slice()?, x.shape), (y.slice()?, y.shape), wide_output(out)?, shape)?)
        }, else Ok(()))
    })
    .done()
}

pub(super) fn select(cx: &Cx<'_>) -> Selected {
    let dtype = cx.output(0)?.dtype;
    kernel("Where", move |run| {
        let (c, x, y) = (run.tensor(0)?, run.tensor(1)?, run.tensor(2)?);
        let out = run.outputs.first_mut().ok_or_else(|| Fail::Contract("no output".to_owned()))?;
        let shape = out.shape;
        macro_rules! of {
            ($t:ty) => {{
                let cast =
                    |b| bytemuck::try_cast_slice::<u8, $t>(b).map_err(|e| Fail::Contract(e.to_string()));
                let to = bytemuck::try_cast_slice_mut::<u8, $t>(out.bytes)
                    .map_err(|e| Fail::Contract(e.to_string()))?;
                Ok(ew::select(
                    (c.bytes, c.shape),
                    (cast(x.bytes)?, x.shape),
                    (cast(y.bytes)?, y.shape),
                    to,
                    shape,
                )?)
            }};
        }
        match dtype.size() {
            1 => of!(u8),
            2 => of!(u16),
            4 => of!(u32),
            _ => of!(u64),
        }
    })
    .done()
}

pub(super) fn cast(cx: &Cx<'_>, op: &op::Cast) -> Selected {
    let (from, to, rounding) = (cx.input(0)?.dtype, op.to, op.rounding());
    kernel("Cast", move |run| {
        let x = run.tensor(0)?;
        let out = run.outputs.first_mut().ok_or_else(|| Fail::Contract("no output".to_owned()))?;
        Ok(ew::cast::cast(from, x.bytes, to, rounding, out.bytes)?)
    })
    .done()
}

pub(super) fn bit_cast(op: &op::BitCast) -> Selected {
    if op.to.bits() < 8 {
        return None;
    }
    kernel("BitCast", |run| {
        let x = run.tensor(0)?;
        let out = run.outputs.first_mut().ok_or_else(|| Fail::Contract("no output".to_owned()))?;
        if x.bytes.len() != out.bytes.len() {
            return Err(Fail::Contract("another number of bytes".to_owned()));
        }
        out.bytes.copy_from_slice(x.bytes);
        Ok(())
    })
    .done()
}

pub(super) fn rotary(cx: &Cx<'_>, op: &op::RotaryEmbedding) -> Selected {
    for i in 0..3 {
        cx.f32_input(i)?;
    }
    let (isa, interleaved) = (cx.isa, op.interleaved);
    kernel("RotaryEmbedding", move |run| {
        let (x, cos, sin) = (run.source::<f32>(0)?, run.tensor(1)?, run.tensor(2)?);
        let out = run.outputs.first_mut().ok_or_else(|| Fail::Contract("no output".to_owned()))?;
        let shape = out.shape;
        let (c, s) = ((cos.slice()?, cos.shape), (sin.slice()?, sin.shape));
        Ok(ew::rotary(isa, interleaved, x, c, s, out.slice_mut()?, shape)?)
    })
    .in_place(vec![0])
    .flops(3.0)
    .done()
}
