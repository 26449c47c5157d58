//! Ops without operands: ranges, constants, values of dims.

use super::Cx;
use super::simple::{Fail, kernel, with_number};
use frit_backend::Kernel;
use frit_ir::{DType, Element, op};

type Selected = Option<Box<dyn Kernel>>;

/// Fills the output from the positions of its elements.
fn fill<T: Element>(out: &mut frit_backend::TensorMut<'_>, f: impl Fn(usize) -> T) -> Result<(), Fail> {
    out.slice_mut::<T>()?.iter_mut().enumerate().for_each(|(i, o)| *o = f(i));
    Ok(())
}

#[allow(clippy::unnecessary_wraps)] // what every selection gives back
pub(super) fn range(_: &Cx<'_>, op: &op::Range) -> Selected {
    let op = op.clone();
    kernel("Range", move |run| {
        let start = op.start.eval(run.bindings)?;
        let value = |i: usize| start.wrapping_add(i64::try_from(i).unwrap_or(i64::MAX).wrapping_mul(op.step));
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        with_number!(op.dtype, T => fill::<T>(out, |i| T::from_i64(value(i))),
            else Err(Fail::Contract("a range of bool".to_owned())))
    })
    .done()
}

#[allow(clippy::unnecessary_wraps)] // what every selection gives back
pub(super) fn constant(_: &Cx<'_>, op: &op::ConstantOfShape) -> Selected {
    let (value, dtype) = (op.value, op.dtype);
    kernel("ConstantOfShape", move |run| {
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        with_number!(dtype, T => fill::<T>(out, |_| T::from_f64(value)), else {
            let one = frit_ir::Tensor::scalar(dtype, value);
            out.bytes.fill(one.bytes().first().copied().unwrap_or(0));
            Ok(())
        })
    })
    .done()
}

#[allow(clippy::unnecessary_wraps)] // what every selection gives back
pub(super) fn shape(cx: &Cx<'_>, op: &op::ShapeOf) -> Selected {
    cx.output(0).filter(|t| t.dtype == DType::I64)?;
    let dims = op.dims.clone();
    kernel("Shape", move |run| {
        let values = dims.iter().map(|d| d.eval(run.bindings)).collect::<Result<Vec<i64>, _>>()?;
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        let to = out.slice_mut::<i64>()?;
        to.iter_mut().zip(values).for_each(|(o, v)| *o = v);
        Ok(())
    })
    .done()
}
