//! Ops whose attributes hold dims and are shape operands in ONNX. Where numbers, 0 and -1 say a shape, they are used:
//! such shapes every runtime's inference understands.

use super::Written;
use crate::onnx::export::attr;
use crate::onnx::export::emitter::{Emitter, View};
use crate::onnx::schema::build::tensor_proto;
use frit_ir::op::{
    ConstantOfShape, Expand, Pad, PadMode, Range, Reshape, ShapeOf, Slice, Split, SymbolOf, Tile,
};
use frit_ir::types::resolve_axis;
use frit_ir::{DType, Dim, Tensor};

/// Reshape's operand: 0 keeps the extent in that place, one -1 takes what is left.
pub(super) fn reshape(e: &mut Emitter<'_>, v: &View<'_>, o: &Reshape) -> Written {
    let x = e.operand(v, 0)?.shape.clone();
    // In ONNX 0 keeps an extent unless allowzero says that it means none.
    let empty = o.shape.iter().any(|d| d.is(0));
    let mut inferred = false;
    let mut shape = Vec::with_capacity(o.shape.len());
    for (i, d) in o.shape.iter().enumerate() {
        shape.push(match d.as_const() {
            Some(_) => d.clone(),
            None if !empty && x.get(i).is_some_and(|x| x.same(d)) => Dim::constant(0),
            None if !empty && !inferred => {
                inferred = true;
                Dim::constant(-1)
            }
            None => d.clone(),
        });
    }
    let shape = e.dims(&shape)?;
    let attrs = if empty { vec![attr::int("allowzero", 1)] } else { vec![] };
    e.push("Reshape", vec![v.input(0), shape], v.outputs.clone(), attrs);
    Ok(())
}

/// Expand's operand: 1 keeps what x has, as the two are broadcast together.
pub(super) fn expand(e: &mut Emitter<'_>, v: &View<'_>, o: &Expand) -> Written {
    let x = e.operand(v, 0)?.shape.clone();
    let offset = o.shape.len().saturating_sub(x.len());
    let keeps = |i: usize, d: &Dim| i.checked_sub(offset).and_then(|i| x.get(i)).is_some_and(|x| x.same(d));
    let shape: Vec<Dim> = o
        .shape
        .iter()
        .enumerate()
        .map(|(i, d)| if d.as_const().is_none() && keeps(i, d) { Dim::constant(1) } else { d.clone() })
        .collect();
    let shape = e.dims(&shape)?;
    e.push("Expand", vec![v.input(0), shape], v.outputs.clone(), vec![]);
    Ok(())
}

/// An offset along an axis of `extent` as ONNX counts it: from the end where that is a number.
fn offset(d: &Dim, extent: &Dim, is_end: bool) -> Option<i64> {
    if let Some(n) = d.as_const() {
        return Some(n);
    }
    let from_end = d.sub(extent).ok()?.as_const()?;
    match from_end {
        0 if is_end => Some(i64::MAX),
        n if n < 0 => Some(n),
        _ => None,
    }
}

/// Slice's operands: offsets count from the end where they are negative, and beyond the end stand for it.
pub(super) fn slice(e: &mut Emitter<'_>, v: &View<'_>, o: &Slice) -> Written {
    let x = e.operand(v, 0)?.shape.clone();
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for (axis, start, end, step) in o.cuts() {
        let extent = resolve_axis(axis, x.len()).and_then(|a| x.get(a)).cloned().unwrap_or_default();
        let first = match offset(start, &extent, false) {
            Some(n) => e.integers(&[n])?,
            None => e.dim(start)?,
        };
        let last = match offset(end, &extent, step > 0) {
            // Backwards, -1 stands before the first element; in ONNX it would be the last.
            Some(-1) if end.is(-1) => e.integers(&[i64::MIN])?,
            Some(n) => e.integers(&[n])?,
            None => {
                let last = e.dim(end)?;
                if step > 0 || end.is_never_negative() { last } else { e.or_before_all(last)? }
            }
        };
        starts.push(first);
        ends.push(last);
    }
    let operands = [joined(e, starts), joined(e, ends), e.integers(&o.axes)?, e.integers(&o.steps)?];
    let mut inputs = vec![v.input(0)];
    inputs.extend(operands);
    e.push("Slice", inputs, v.outputs.clone(), vec![]);
    Ok(())
}

/// Tensors of one element as one tensor.
fn joined(e: &mut Emitter<'_>, parts: Vec<String>) -> String {
    match parts.as_slice() {
        [one] => one.clone(),
        _ => e.compute("Concat", parts, vec![attr::int("axis", 0)]),
    }
}

/// Split's sizes.
pub(super) fn split(e: &mut Emitter<'_>, v: &View<'_>, o: &Split) -> Written {
    let sizes = e.dims(&o.sizes)?;
    e.push("Split", vec![v.input(0), sizes], v.outputs.clone(), vec![attr::int("axis", o.axis)]);
    Ok(())
}

/// Pad's counts, and its value where it is not 0.
pub(super) fn pad(e: &mut Emitter<'_>, v: &View<'_>, o: &Pad) -> Written {
    let counts: Vec<Dim> = o.before.iter().chain(&o.after).cloned().collect();
    let mut inputs = vec![v.input(0), e.dims(&counts)?];
    if o.mode == PadMode::Constant && o.value != 0.0 {
        inputs.push(e.constant(Tensor::scalar(v.dtype, o.value)));
    }
    e.push("Pad", inputs, v.outputs.clone(), vec![attr::string("mode", o.mode.word())]);
    Ok(())
}

/// Tile's counts.
pub(super) fn tile(e: &mut Emitter<'_>, v: &View<'_>, o: &Tile) -> Written {
    let repeats = e.dims(&o.repeats)?;
    e.push("Tile", vec![v.input(0), repeats], v.outputs.clone(), vec![]);
    Ok(())
}

/// Range in i64, cast where another type is asked for: our bounds are integers, and ONNX has few types for it.
pub(super) fn range(e: &mut Emitter<'_>, v: &View<'_>, o: &Range) -> Written {
    let inputs = vec![e.scalar_dim(&o.start)?, e.scalar_dim(&o.limit)?, e.integer(o.step)?];
    if o.dtype == DType::I64 {
        e.push("Range", inputs, v.outputs.clone(), vec![]);
        return Ok(());
    }
    let counted = e.compute("Range", inputs, vec![]);
    copy_as(e, v, counted, o.dtype);
    Ok(())
}

fn copy_as(e: &mut Emitter<'_>, v: &View<'_>, from: String, dtype: DType) {
    let to = i64::from(crate::onnx::read::data_type_of(dtype) as i32);
    e.push("Cast", vec![from], v.outputs.clone(), vec![attr::int("to", to)]);
}

/// ConstantOfShape's shape; bfloat16 came with opset 20.
pub(super) fn constant_of_shape(e: &mut Emitter<'_>, v: &View<'_>, o: &ConstantOfShape) -> Written {
    let shape = e.dims(&o.shape)?;
    let narrow = o.dtype == DType::BF16 && e.opset < 20;
    let dtype = if narrow { DType::F32 } else { o.dtype };
    let value = Tensor::scalar(dtype, o.value).reshaped(&[1])?;
    let attrs = vec![attr::tensor("value", tensor_proto("", &value))];
    if narrow {
        let wide = e.compute("ConstantOfShape", vec![shape], attrs);
        copy_as(e, v, wide, o.dtype);
    } else {
        e.push("ConstantOfShape", vec![shape], v.outputs.clone(), attrs);
    }
    Ok(())
}

/// The expressions themselves.
pub(super) fn shape_of(e: &mut Emitter<'_>, v: &View<'_>, o: &ShapeOf) -> Written {
    let dims = e.dims(&o.dims)?;
    e.push("Identity", vec![dims], v.outputs.clone(), vec![]);
    Ok(())
}

/// A size read from a tensor: from here on the symbol is that element.
pub(super) fn symbol_of(e: &mut Emitter<'_>, v: &View<'_>, o: &SymbolOf) -> Written {
    let x = e.operand(v, 0)?;
    let (dtype, rank) = (x.dtype, x.rank());
    let mut size = v.input(0);
    if dtype != DType::I64 {
        size = e.cast(&size, DType::I64);
    }
    if rank != 1 {
        let one = e.integers(&[1])?;
        size = e.compute("Reshape", vec![size, one], vec![]);
    }
    e.sources.define(&o.name, &size);
    e.push("Squeeze", vec![size], v.outputs.clone(), vec![]);
    Ok(())
}
