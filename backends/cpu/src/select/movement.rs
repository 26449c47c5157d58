//! Ops that move elements: mostly strided copies from one placement to another. They take strided operands.

use super::Cx;
use super::simple::{Fail, Operands, Result, around, kernel, with_number};
use crate::isa::Isa;
use crate::layout::{self, PadMode, Placement};
use frit_backend::{Kernel, Run, TensorRef};
use frit_ir::types::resolve_axis;
use frit_ir::{DType, op};

type Selected = Option<Box<dyn Kernel>>;

/// Where an operand's elements lie.
fn placement(t: &TensorRef<'_>) -> Result<Placement> {
    let strides = t.strides().into_iter().map(isize::try_from).collect::<std::result::Result<_, _>>();
    Ok(Placement {
        offset: 0,
        strides: strides.map_err(|_| Fail::Contract("a stride overflows".to_owned()))?,
    })
}

/// Fills output `index` from a placement in `x`.
fn fill_output(
    isa: Isa,
    run: &mut Run<'_, '_>,
    index: usize,
    x: &TensorRef<'_>,
    from: &Placement,
) -> Result<()> {
    let out = run.output(index).map_err(|e| Fail::Contract(e.to_string()))?;
    let to = Placement::dense(out.shape);
    Ok(layout::copy(isa, x.dtype.size(), out.shape, x.bytes, from, out.bytes, &to)?)
}

pub(super) fn reshape(cx: &Cx<'_>) -> Selected {
    let isa = cx.isa;
    kernel("Reshape", move |run| {
        if run.aliased == Some(0) {
            return Ok(());
        }
        let x = run.tensor(0)?;
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        if x.shape.iter().product::<usize>() != out.shape.iter().product::<usize>() {
            return Err(Fail::Data(format!("cannot reshape {:?} to {:?}", x.shape, out.shape)));
        }
        let to = Placement::dense(x.shape);
        Ok(layout::copy(isa, x.dtype.size(), x.shape, x.bytes, &placement(&x)?, out.bytes, &to)?)
    })
    .in_place(vec![0])
    .strided()
    .done()
}

pub(super) fn transpose(cx: &Cx<'_>, op: &op::Transpose) -> Selected {
    let isa = cx.isa;
    let perm = super::simple::counts(&op.perm)?;
    kernel("Transpose", move |run| {
        let x = run.tensor(0)?;
        let p = placement(&x)?;
        let strides = perm
            .iter()
            .map(|&axis| p.strides.get(axis).copied())
            .collect::<Option<Vec<isize>>>()
            .ok_or_else(|| Fail::Contract("the permutation has another rank".to_owned()))?;
        fill_output(isa, run, 0, &x, &Placement { offset: 0, strides })
    })
    .strided()
    .done()
}

pub(super) fn slice(cx: &Cx<'_>, op: &op::Slice) -> Selected {
    let (isa, op) = (cx.isa, op.clone());
    kernel("Slice", move |run| {
        let x = run.tensor(0)?;
        let mut p = placement(&x)?;
        let mut offset = 0isize;
        for (axis, start, end, step) in op.cuts() {
            let (start, end) = (start.eval(run.bindings)?, end.eval(run.bindings)?);
            let place = resolve_axis(axis, x.shape.len());
            let (Some(&extent), Some(stride)) =
                (place.and_then(|a| x.shape.get(a)), place.and_then(|a| p.strides.get_mut(a)))
            else {
                return Err(Fail::Contract(format!("no axis {axis}")));
            };
            let most = i64::try_from(extent).unwrap_or(i64::MAX);
            let ok = if step > 0 {
                0 <= start && start <= end && end <= most
            } else {
                -1 <= end && end <= start && start < most.max(1)
            };
            if !ok {
                let why =
                    format!("{start}..{end} by {step} is no range within axis {axis} of extent {extent}");
                return Err(Fail::Data(why));
            }
            let overflow = || Fail::Contract("a slice overflows".to_owned());
            let first =
                isize::try_from(start).ok().and_then(|s| s.checked_mul(*stride)).ok_or_else(overflow)?;
            offset = offset.checked_add(first).ok_or_else(overflow)?;
            *stride = isize::try_from(step).ok().and_then(|s| s.checked_mul(*stride)).ok_or_else(overflow)?;
        }
        if run.outputs.first().is_some_and(|o| o.is_empty()) {
            return Ok(());
        }
        p.offset = usize::try_from(offset)
            .map_err(|_| Fail::Contract("a slice starts before its data".to_owned()))?;
        fill_output(isa, run, 0, &x, &p)
    })
    .strided()
    .sparse()
    .done()
}

pub(super) fn concat(cx: &Cx<'_>, op: &op::Concat) -> Selected {
    let isa = cx.isa;
    let axis = resolve_axis(op.axis, cx.output(0)?.rank())?;
    kernel("Concat", move |run| {
        let inputs = run.inputs;
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        let strides = Placement::dense(out.shape).strides;
        let [_, _, inner] = around(out.shape, axis);
        let mut at = 0usize;
        for x in inputs.iter().flatten() {
            let to = Placement { offset: at * inner, strides: strides.clone() };
            layout::copy(isa, x.dtype.size(), x.shape, x.bytes, &placement(x)?, out.bytes, &to)?;
            at += x.shape.get(axis).copied().unwrap_or(0);
        }
        if at == out.shape.get(axis).copied().unwrap_or(0) {
            Ok(())
        } else {
            Err(Fail::Contract(format!("the parts add up to {at} along axis {axis} of {:?}", out.shape)))
        }
    })
    .strided()
    .done()
}

pub(super) fn split(cx: &Cx<'_>, op: &op::Split) -> Selected {
    let isa = cx.isa;
    let axis = resolve_axis(op.axis, cx.input(0)?.rank())?;
    kernel("Split", move |run| {
        let x = run.tensor(0)?;
        let p = placement(&x)?;
        let step = p.strides.get(axis).copied().unwrap_or(0);
        let step = usize::try_from(step).map_err(|_| Fail::Contract("a stride overflows".to_owned()))?;
        let mut at = 0usize;
        for index in 0..run.outputs.len() {
            let part = run.outputs.get(index).and_then(|o| o.shape.get(axis)).copied().unwrap_or(0);
            fill_output(isa, run, index, &x, &Placement { offset: at * step, strides: p.strides.clone() })?;
            at += part;
        }
        Ok(())
    })
    .strided()
    .done()
}

pub(super) fn expand(cx: &Cx<'_>) -> Selected {
    let isa = cx.isa;
    kernel("Expand", move |run| {
        let x = run.tensor(0)?;
        let rank = run.outputs.first().map_or(0, |o| o.shape.len());
        let Some(pad) = rank.checked_sub(x.shape.len()) else {
            return Err(Fail::Contract("the operand has more axes than the result".to_owned()));
        };
        let mut strides = vec![0isize; rank];
        let shape = run.outputs.first().map_or(&[] as &[usize], |o| o.shape);
        if x.shape.iter().zip(shape.iter().skip(pad)).any(|(&d, &to)| d != 1 && d != to) {
            return Err(Fail::Data(format!("shape {:?} does not broadcast to {shape:?}", x.shape)));
        }
        for ((to, &s), &d) in strides.iter_mut().skip(pad).zip(&placement(&x)?.strides).zip(x.shape) {
            *to = if d == 1 { 0 } else { s };
        }
        fill_output(isa, run, 0, &x, &Placement { offset: 0, strides })
    })
    .strided()
    .done()
}

/// Tile as a copy of twice the axes: how often, with stride 0, and the extent.
pub(super) fn tile(cx: &Cx<'_>, op: &op::Tile) -> Selected {
    let (isa, repeats) = (cx.isa, op.repeats.clone());
    kernel("Tile", move |run| {
        let x = run.tensor(0)?;
        let (mut shape, mut strides) = (Vec::new(), Vec::new());
        for ((repeat, &extent), &stride) in repeats.iter().zip(x.shape).zip(&placement(&x)?.strides) {
            shape.extend([repeat.eval_extent(run.bindings)?, extent]);
            strides.extend([0, stride]);
        }
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        let to = Placement::dense(&shape);
        let from = Placement { offset: 0, strides };
        Ok(layout::copy(isa, x.dtype.size(), &shape, x.bytes, &from, out.bytes, &to)?)
    })
    .strided()
    .done()
}

pub(super) fn pad(cx: &Cx<'_>, op: &op::Pad) -> Selected {
    let (isa, op) = (cx.isa, op.clone());
    kernel("Pad", move |run| {
        let x = run.tensor(0)?;
        let dims = |v: &[frit_ir::Dim]| {
            v.iter().map(|d| d.eval_extent(run.bindings)).collect::<std::result::Result<Vec<_>, _>>()
        };
        let (before, after) = (dims(&op.before)?, dims(&op.after)?);
        let value: Vec<u8> = with_number!(x.dtype, T => {
            bytemuck::bytes_of(&<T as frit_ir::Element>::from_f64(op.value)).to_vec()
        }, else frit_ir::Tensor::scalar(x.dtype, op.value).bytes().to_vec());
        let mode = match op.mode {
            op::PadMode::Constant => PadMode::Constant(&value),
            op::PadMode::Edge => PadMode::Edge,
            op::PadMode::Reflect => PadMode::Reflect,
        };
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        layout::pad(isa, x.dtype.size(), (x.bytes, x.shape), &before, &after, mode, out.bytes)
            .map_err(|e| Fail::Data(e.to_string()))
    })
    .done()
}

pub(super) fn gather(cx: &Cx<'_>, op: &op::Gather) -> Selected {
    let axis = resolve_axis(op.axis, cx.input(0)?.rank())?;
    let index_type = cx.input(1)?.dtype;
    kernel("Gather", move |run| {
        let x = run.tensor(0)?;
        let [outer, axis, inner] = around(x.shape, axis);
        let inner = inner * x.dtype.size();
        if index_type == DType::I32 {
            let i = run.elements::<i32>(1)?;
            let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
            return Ok(layout::gather(
                outer,
                axis,
                inner,
                x.bytes,
                i.iter().map(|&i| i64::from(i)),
                out.bytes,
            )?);
        }
        let i = run.elements::<i64>(1)?;
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        Ok(layout::gather(outer, axis, inner, x.bytes, i.iter().copied(), out.bytes)?)
    })
    .sparse()
    .done()
}

pub(super) fn gather_elements(cx: &Cx<'_>, op: &op::GatherElements) -> Selected {
    let axis = resolve_axis(op.axis, cx.input(0)?.rank())?;
    let index_type = cx.input(1)?.dtype;
    kernel("GatherElements", move |run| {
        let (x, i) = (run.tensor(0)?, run.tensor(1)?);
        let widened: Vec<i64>;
        let numbers: &[i64] = if index_type == DType::I32 {
            widened = i.slice::<i32>()?.iter().map(|&i| i64::from(i)).collect();
            &widened
        } else {
            i.slice::<i64>()?
        };
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        layout::gather_elements(x.dtype.size(), axis, (x.bytes, x.shape), (numbers, i.shape), out.bytes)
            .map_err(|e| Fail::Data(e.to_string()))
    })
    .sparse()
    .done()
}
