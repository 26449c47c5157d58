//! Ops that go by places: scatters, gathers by vectors, ranking, resizing, transposed convolutions.

use super::Cx;
use super::simple::{Fail, Operands, Result, around, counts, floats, kernel, with_number};
use crate::conv::{TransposedSpec, conv_transposed};
use crate::isa::Isa;
use crate::layout;
use crate::resize::{self, Taps};
use frit_backend::{Kernel, KernelError, Run};
use frit_ir::op::{ResizeMode, ScatterReduction};
use frit_ir::types::resolve_axis;
use frit_ir::{DType, op};

type Selected = Option<Box<dyn Kernel>>;

/// Indices of either type.
fn indices(run: &Run<'_, '_>, index: usize) -> Result<Vec<i64>> {
    let t = run.tensor(index)?;
    if t.dtype == DType::I32 {
        return Ok(t.slice::<i32>()?.iter().map(|&i| i64::from(i)).collect());
    }
    Ok(t.slice::<i64>()?.to_vec())
}

/// Output 0 as it is before updates: the data, unless it is there already.
fn start<'r>(run: &'r mut Run<'_, '_>) -> Result<&'r mut [u8]> {
    let data = if run.aliased == Some(0) { None } else { Some(run.tensor(0)?.bytes) };
    let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
    if let Some(data) = data {
        if data.len() != out.bytes.len() {
            return Err(Fail::Contract("the result has another size than the data".to_owned()));
        }
        out.bytes.copy_from_slice(data);
    }
    Ok(out.bytes)
}

fn out_shape<'r>(run: &Run<'r, '_>) -> Vec<usize> {
    run.outputs.first().map_or_else(Vec::new, |o| o.shape.to_vec())
}

pub(super) fn scatter_elements(cx: &Cx<'_>, op: &op::ScatterElements) -> Selected {
    let axis = resolve_axis(op.axis, cx.input(0)?.rank())?;
    if op.reduction != ScatterReduction::None {
        return None;
    }
    kernel("ScatterElements", move |run| {
        let (i, updates) = (run.tensor(1)?, run.tensor(2)?);
        if i.shape != updates.shape {
            return Err(Fail::Data(format!("indices {:?} for updates {:?}", i.shape, updates.shape)));
        }
        let places = layout::element_places(axis, &out_shape(run), &indices(run, 1)?, i.shape);
        let places = places.map_err(|e| Fail::Data(e.to_string()))?;
        let size = updates.dtype.size();
        Ok(layout::scatter_runs(size, size, updates.bytes, &places, start(run)?)?)
    })
    .in_place(vec![0])
    .done()
}

pub(super) fn scatter_nd(cx: &Cx<'_>, op: &op::ScatterND) -> Selected {
    let depth = cx.input(1)?.shape.last()?.as_fixed().filter(|&d| d > 0)?;
    if op.reduction != ScatterReduction::None {
        return None;
    }
    kernel("ScatterND", move |run| {
        let updates = run.tensor(2)?;
        let shape = out_shape(run);
        let places = layout::slice_places(depth, &shape, &indices(run, 1)?, (1, 0))?;
        let size = updates.dtype.size();
        let slice = shape.iter().skip(depth).product::<usize>() * size;
        if places.len().checked_mul(slice) != Some(updates.bytes.len()) {
            return Err(Fail::Data(format!("{} slices of updates {:?}", places.len(), updates.shape)));
        }
        Ok(layout::scatter_runs(size, slice, updates.bytes, &places, start(run)?)?)
    })
    .in_place(vec![0])
    .done()
}

pub(super) fn gather_nd(cx: &Cx<'_>, op: &op::GatherND) -> Selected {
    let depth = cx.input(1)?.shape.last()?.as_fixed().filter(|&d| d > 0)?;
    let batch = usize::try_from(op.batch_dims).ok()?;
    kernel("GatherND", move |run| {
        let (x, i) = (run.tensor(0)?, run.tensor(1)?);
        let (Some(lead), Some(bounds)) = (x.shape.get(..batch), x.shape.get(batch..)) else {
            return Err(Fail::Contract(format!("{batch} leading axes of {:?}", x.shape)));
        };
        if i.shape.get(..batch) != Some(lead) {
            return Err(Fail::Data(format!("{:?} and {:?} lead differently", x.shape, i.shape)));
        }
        let step = bounds.iter().product();
        let places = layout::slice_places(depth, bounds, &indices(run, 1)?, (lead.iter().product(), step))?;
        let size = x.dtype.size();
        let slice = bounds.iter().skip(depth).product::<usize>() * size;
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        Ok(layout::gather_runs(size, slice, x.bytes, &places, out.bytes)?)
    })
    .sparse()
    .done()
}

pub(super) fn top_k(cx: &Cx<'_>, op: &op::TopK) -> Selected {
    let ty = cx.input(0)?;
    let axis = resolve_axis(op.axis, ty.rank())?;
    let (dtype, largest) = (ty.dtype, op.largest);
    with_number!(dtype, T => kernel("TopK", move |run| {
        let x = run.tensor(0)?;
        let k = run.outputs.first().and_then(|o| o.shape.get(axis)).copied().unwrap_or(0);
        let [values, positions] = &mut *run.outputs else {
            return Err(Fail::Contract("not two outputs".to_owned()));
        };
        let along = around(x.shape, axis);
        if k > along[1] {
            return Err(Fail::Data(format!("{k} elements of an axis of extent {}", along[1])));
        }
        let (values, positions) = (values.slice_mut::<T>()?, positions.slice_mut::<i64>()?);
        Ok(crate::reduce::top_k::<T>(largest, k, along, x.slice()?, values, positions)?)
    })
    .done(), else None)
}

pub(super) fn resize(cx: &Cx<'_>, op: &op::Resize) -> Selected {
    if op.coordinates == op::Coordinates::CropAndResize {
        return None;
    }
    if op.mode == ResizeMode::Nearest {
        let op = op.clone();
        return kernel("Resize", move |run| {
            let x = run.tensor(0)?;
            let to = out_shape(run);
            let axes = along(&op, x.shape, &to)?;
            let first = |t: &op::ResizeTaps| t.as_ref().and_then(|t| t.first()).map_or(0, |t| t.0);
            let picked: Vec<Vec<usize>> = axes.iter().map(|taps| taps.iter().map(first).collect()).collect();
            let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
            if out.bytes.is_empty() {
                return Ok(());
            }
            Ok(resize::pick(x.dtype.size(), (x.bytes, x.shape), &picked, out.bytes)?)
        })
        .done();
    }
    cx.f32_input(0)?;
    Some(Box::new(Interpolate { op: op.clone() }))
}

/// What each element is made of along each axis.
fn along(op: &op::Resize, from: &[usize], to: &[usize]) -> Result<Vec<Vec<op::ResizeTaps>>> {
    if from.len() != to.len() || (from.contains(&0) && !to.contains(&0)) {
        return Err(Fail::Data(format!("no elements in {from:?} to make {to:?} of")));
    }
    let each = from.iter().zip(to).enumerate();
    each.map(|(i, (&a, &b))| {
        op.along(i, to.len(), a, b)
            .ok_or_else(|| Fail::Data(format!("a scale too small for an extent of {a}")))
    })
    .collect()
}

/// Resizing by weighted sums along one axis after the other.
struct Interpolate {
    op: op::Resize,
}

impl Interpolate {
    /// The axes in turn: those that shrink first, so that what lies between is small; then the last axes first, whose
    /// rows are short.
    fn order(&self, from: &[usize], to: &[usize]) -> Vec<usize> {
        let changes = |i: &usize| !self.op.keeps(*i, at(from, *i), at(to, *i));
        let mut order: Vec<usize> = (0..from.len().min(to.len())).rev().filter(changes).collect();
        order.sort_by_key(|&i| at(to, i) > at(from, i));
        order
    }

    /// Elements of the largest tensor between two axes.
    fn between(&self, from: &[usize], to: &[usize]) -> usize {
        let mut shape = from.to_vec();
        let order = self.order(from, to);
        let (_, inner) = order.split_last().map_or((None, &[] as &[usize]), |(l, rest)| (Some(l), rest));
        let sizes = inner.iter().map(|&i| {
            if let Some(d) = shape.get_mut(i) {
                *d = at(to, i);
            }
            shape.iter().product()
        });
        sizes.max().unwrap_or(0)
    }

    fn compute(&self, run: &mut Run<'_, '_>) -> Result<()> {
        let x = run.tensor(0)?;
        let to = out_shape(run);
        let axes = along(&self.op, x.shape, &to)?;
        let order = self.order(x.shape, &to);
        let most = self.between(x.shape, &to);
        let space = floats(run.workspace)?;
        if space.len() < most.saturating_mul(2) {
            return Err(Fail::Contract("the workspace is too small".to_owned()));
        }
        let (mut last, mut next) = space.split_at_mut(most);
        let out =
            run.outputs.first_mut().ok_or_else(|| Fail::Contract("no output".to_owned()))?.slice_mut()?;
        // Nothing may be made of nothing.
        if out.is_empty() {
            return Ok(());
        }
        let x_elements: &[f32] = x.slice()?;
        let Some((&final_axis, before)) = order.split_last() else {
            if out.len() != x_elements.len() {
                return Err(Fail::Contract("the result has another size than the data".to_owned()));
            }
            out.copy_from_slice(x_elements);
            return Ok(());
        };
        let taps = |axis: usize| -> Taps {
            let elements = axes.get(axis).into_iter().flatten();
            Taps::new(elements.map(|t| t.as_deref().unwrap_or(&[])))
        };
        let mut shape = x.shape.to_vec();
        let mut held: Option<usize> = None;
        for &axis in before {
            let part = around(&shape, axis);
            if let Some(d) = shape.get_mut(axis) {
                *d = at(&to, axis);
            }
            let len: usize = shape.iter().product();
            let from = held.map_or(x_elements, |n| last.get(..n).unwrap_or(&[]));
            let Some(target) = next.get_mut(..len) else {
                return Err(Fail::Contract("too little room".to_owned()));
            };
            resize::interpolate(from, part, &taps(axis), target)?;
            std::mem::swap(&mut last, &mut next);
            held = Some(len);
        }
        let from = held.map_or(x_elements, |n| last.get(..n).unwrap_or(&[]));
        Ok(resize::interpolate(from, around(&shape, final_axis), &taps(final_axis), out)?)
    }
}

fn at(v: &[usize], i: usize) -> usize {
    v.get(i).copied().unwrap_or(0)
}

impl Kernel for Interpolate {
    fn name(&self) -> String {
        "Resize".to_owned()
    }
    fn workspace(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> usize {
        let (Some(from), Some(to)) = (inputs.first().copied().flatten(), outputs.first()) else { return 0 };
        self.between(from, to).saturating_mul(8)
    }
    fn run(&self, run: &mut Run<'_, '_>) -> std::result::Result<(), KernelError> {
        self.compute(run).map_err(|fail| fail.named("Resize"))
    }
}

pub(super) fn conv_transpose(cx: &Cx<'_>, op: &op::ConvTranspose) -> Selected {
    cx.f32_input(0)?;
    cx.f32_input(1)?;
    let (strides, pads, dilations) = (counts(&op.strides)?, counts(&op.pads)?, counts(&op.dilations)?);
    let pads = pads.get(..strides.len())?.to_vec();
    let groups = usize::try_from(op.group).ok().filter(|&g| g > 0)?;
    Some(Box::new(Transposed { isa: cx.isa, strides, pads, dilations, groups }))
}

struct Transposed {
    isa: Isa,
    strides: Vec<usize>,
    pads: Vec<usize>,
    dilations: Vec<usize>,
    groups: usize,
}

impl Transposed {
    fn spec<'a>(&'a self, x: &'a [usize], w: &'a [usize], out: &'a [usize]) -> Option<TransposedSpec<'a>> {
        let (&[batch, channels, ref input @ ..], &[_, group_out, ref kernel @ ..]) = (x, w) else {
            return None;
        };
        Some(TransposedSpec {
            batch,
            group_in: channels / self.groups,
            group_out,
            groups: self.groups,
            input,
            output: out.get(2..)?,
            kernel,
            strides: &self.strides,
            dilations: &self.dilations,
            pads: &self.pads,
        })
    }

    fn compute(&self, run: &mut Run<'_, '_>) -> Result<()> {
        let (x, w, bias) = (run.tensor(0)?, run.tensor(1)?, run.optional::<f32>(2)?);
        let shape = out_shape(run);
        let spec = self.spec(x.shape, w.shape, &shape);
        let spec = spec.ok_or_else(|| Fail::Contract(format!("{:?} and {:?}", x.shape, w.shape)))?;
        let columns = floats(run.workspace)?;
        let out = run.outputs.first_mut().ok_or_else(|| Fail::Contract("no output".to_owned()))?;
        Ok(conv_transposed(self.isa, &spec, x.slice()?, w.slice()?, bias, columns, out.slice_mut()?)?)
    }
}

impl Kernel for Transposed {
    fn name(&self) -> String {
        "ConvTranspose".to_owned()
    }
    fn workspace(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> usize {
        let shape = |i: usize| inputs.get(i).copied().flatten();
        let spec = shape(0).zip(shape(1)).zip(outputs.first().copied());
        let numbers = spec.and_then(|((x, w), out)| self.spec(x, w, out)?.workspace());
        numbers.unwrap_or(0).saturating_mul(4)
    }
    fn flops(&self, inputs: &[Option<&[usize]>], _: &[&[usize]]) -> f64 {
        let size =
            |i: usize| inputs.get(i).copied().flatten().map_or(0.0, |s| s.iter().product::<usize>() as f64);
        let channels = inputs.first().copied().flatten().map_or(1, |s| at(s, 1)).max(1);
        2.0 * size(0) * size(1) / channels as f64
    }
    fn run(&self, run: &mut Run<'_, '_>) -> std::result::Result<(), KernelError> {
        self.compute(run).map_err(|fail| fail.named("ConvTranspose"))
    }
}
