//! Images: sampling by grids, regions, deformed convolutions, columns to images, crops, blocks to depth, and pooling
//! undone. Resizing is in `resize.rs`, pooling and plain convolutions in `window.rs`.

use super::indexing::{unknown, word};
use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{
    BinaryFn, Col2Im, DeformConv, GridSample, MaxRoiPool, Pad, PadMode, RoiAlign, RoiMode, SampleMode,
    SamplePadding, ScatterElements, ScatterReduction,
};
use frit_ir::{DType, Dim, ValueId};

pub const ROWS: &[Row] = &[
    ("", "GridSample", 16, grid_sample),
    ("", "AffineGrid", 20, affine_grid),
    ("", "RoiAlign", 10, roi_align),
    ("", "MaxRoiPool", 1, max_roi_pool),
    ("", "DeformConv", 19, deform_conv),
    ("", "Col2Im", 18, col2im),
    ("", "CenterCropPad", 18, center_crop_pad),
    ("", "DepthToSpace", 1, depth_to_space),
    ("", "SpaceToDepth", 1, space_to_depth),
    ("", "MaxUnpool", 9, max_unpool),
];

fn grid_sample<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let mode = match n.string_or("mode", "linear")? {
        // What opset 16 calls them.
        "bilinear" => SampleMode::Linear,
        "bicubic" => SampleMode::Cubic,
        other => SampleMode::from_word(other).ok_or_else(|| unknown(n, "mode", other))?,
    };
    let padding = word(n, "padding_mode", "zeros", SamplePadding::from_word)?;
    let op = GridSample { mode, padding, align_corners: n.flag("align_corners", false)? };
    Ok(vec![cx.emit(op, &[n.tensor(0)?, n.tensor(1)?])?.into()])
}

/// Coordinates of the elements of an axis, from -1 to 1.
fn coordinates(cx: &mut Cx<'_>, extent: &Dim, align_corners: bool, dtype: DType) -> Result<ValueId> {
    let places = cx.iota(extent, dtype)?;
    if align_corners && extent.is(1) {
        return Ok(places);
    }
    let count = if align_corners { cx.dim(extent.add_const(-1))? } else { extent.clone() };
    let count = cx.dims_value(&[count])?;
    let count = cx.reshape(count, &[])?;
    let count = cx.cast(count, dtype)?;
    let twice = cx.with_number(BinaryFn::Mul, places, 2.0)?;
    let twice = if align_corners { twice } else { cx.with_number(BinaryFn::Add, twice, 1.0)? };
    let part = cx.over(twice, count)?;
    cx.with_number(BinaryFn::Sub, part, 1.0)
}

/// AffineGrid: each place of a regular grid, last axis first and 1 behind, times a matrix.
fn affine_grid<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let theta = n.tensor(0)?;
    let size = cx.dims(n, 1)?;
    let align_corners = n.flag("align_corners", false)?;
    let dtype = cx.dtype(theta)?;
    let Some((batch, spatial)) = size.split_first().and_then(|(b, rest)| Some((b, rest.get(1..)?))) else {
        return Err(n.error(format!("operand 1: expected the shape of images, got {size:?}")));
    };
    let theta_shape = cx.shape(theta)?;
    let axes = i64::try_from(spatial.len()).unwrap_or(i64::MAX);
    if spatial.is_empty() || theta_shape.len() != 3 || !theta_shape.get(1).is_some_and(|d| d.is(axes)) {
        return Err(
            n.error(format!("operand 0: {theta_shape:?} are no matrices over {} axes", spatial.len()))
        );
    }
    let mut places = Vec::new();
    let column: Vec<Dim> = spatial.iter().cloned().chain([Dim::constant(1)]).collect();
    for (i, extent) in spatial.iter().enumerate().rev() {
        let along = coordinates(cx, extent, align_corners, dtype)?;
        let mut shape = vec![Dim::constant(1); column.len()];
        if let Some(d) = shape.get_mut(i) {
            *d = extent.clone();
        }
        let along = cx.reshape(along, &shape)?;
        places.push(cx.expand_to(along, &column)?);
    }
    places.push(cx.full(&column, 1.0, dtype)?);
    let grid = cx.concat(&places, spatial.len())?;
    let area = cx.dim(frit_ir::types::product(spatial))?;
    let grid = cx.reshape(grid, &[Dim::constant(1), area, Dim::constant(axes.saturating_add(1))])?;
    let turned = cx.swap_axes(theta, 1, 2)?;
    let turned = cx.agree_axis(turned, 0, batch)?;
    let moved = cx.matmul(grid, turned)?;
    let shape: Vec<Dim> =
        std::iter::once(batch).chain(spatial).cloned().chain([Dim::constant(axes)]).collect();
    Ok(vec![cx.reshape(moved, &shape)?.into()])
}

fn roi_align<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    // Before opset 16 there was no choice, and half_pixel was not it.
    let default = if n.opset < 16 { "output_half_pixel" } else { "half_pixel" };
    let half_pixel = word(n, "coordinate_transformation_mode", default, |w| match w {
        "half_pixel" => Some(true),
        "output_half_pixel" => Some(false),
        _ => None,
    })?;
    let op = RoiAlign {
        height: n.int_or("output_height", 1)?,
        width: n.int_or("output_width", 1)?,
        sampling_ratio: n.int_or("sampling_ratio", 0)?,
        spatial_scale: n.float_or("spatial_scale", 1.0)?,
        half_pixel,
        mode: word(n, "mode", "avg", RoiMode::from_word)?,
    };
    let batch = cx.cast(n.tensor(2)?, DType::I64)?;
    Ok(vec![cx.emit(op, &[n.tensor(0)?, n.tensor(1)?, batch])?.into()])
}

fn max_roi_pool<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let cells = n.ints("pooled_shape")?.unwrap_or_default();
    let &[height, width] = cells.as_slice() else {
        return Err(n.error(format!("attribute `pooled_shape`: expected two numbers, got {cells:?}")));
    };
    let op = MaxRoiPool { height, width, spatial_scale: n.float_or("spatial_scale", 1.0)? };
    Ok(vec![cx.emit(op, &[n.tensor(0)?, n.tensor(1)?])?.into()])
}

fn deform_conv<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    // The weights say it.
    n.ignore(&["kernel_shape"]);
    let axes = cx.rank(n.tensor(0)?)?.saturating_sub(2);
    let op = DeformConv {
        strides: n.ints("strides")?.unwrap_or_else(|| vec![1; axes]),
        pads: n.ints("pads")?.unwrap_or_else(|| vec![0; axes.saturating_mul(2)]),
        dilations: n.ints("dilations")?.unwrap_or_else(|| vec![1; axes]),
        group: n.int_or("group", 1)?,
        offset_group: n.int_or("offset_group", 1)?,
    };
    let inputs = (0..5).map(|i| n.opt(i)).collect::<Result<Vec<_>>>()?;
    Ok(cx.emit_all(op, &inputs)?.into_iter().map(Val::from).collect())
}

fn col2im<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (image, block) = (cx.dims(n, 1)?, cx.ints(n, 2)?);
    let axes = image.len();
    let op = Col2Im {
        image,
        block,
        strides: n.ints("strides")?.unwrap_or_else(|| vec![1; axes]),
        pads: n.ints("pads")?.unwrap_or_else(|| vec![0; axes.saturating_mul(2)]),
        dilations: n.ints("dilations")?.unwrap_or_else(|| vec![1; axes]),
    };
    Ok(vec![cx.emit(op, &[n.tensor(0)?])?.into()])
}

/// CenterCropPad: the middle of axes that are longer than asked for, zeros on both sides of those that are shorter.
fn center_crop_pad<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let mut x = n.tensor(0)?;
    let shape = cx.shape(x)?;
    let wanted = cx.dims(n, 1)?;
    let axes = match n.ints("axes")? {
        Some(axes) => cx.axes(&axes, shape.len())?,
        None => (0..shape.len()).collect(),
    };
    if axes.len() != wanted.len() {
        return Err(n.error(format!("operand 1: {} extents for {} axes", wanted.len(), axes.len())));
    }
    let (zero, two) = (Dim::constant(0), Dim::constant(2));
    let mut before = vec![zero.clone(); shape.len()];
    let mut after = before.clone();
    for (&axis, to) in axes.iter().zip(&wanted) {
        let from = shape.get(axis).cloned().unwrap_or_default();
        let surplus = cx.dim(cx.dim(from.sub(to))?.maximum(&zero))?;
        let start = cx.dim(surplus.floor_div(&two))?;
        let end = cx.dim(start.add(&cx.dim(from.minimum(to))?))?;
        x = cx.slice(x, axis, &start, &end)?;
        let lack = cx.dim(cx.dim(to.sub(&from))?.maximum(&zero))?;
        let half = cx.dim(lack.floor_div(&two))?;
        if let (Some(b), Some(a)) = (before.get_mut(axis), after.get_mut(axis)) {
            *a = cx.dim(lack.sub(&half))?;
            *b = half;
        }
    }
    if before.iter().chain(&after).any(|d| !d.is(0)) {
        x = cx.emit(Pad { before, after, mode: PadMode::Constant, value: 0.0 }, &[x])?;
    }
    for (&axis, to) in axes.iter().zip(&wanted) {
        x = cx.agree_axis(x, axis, to)?;
    }
    Ok(vec![x.into()])
}

/// `[N, C, H, W]` and the block size.
fn blocks<'a>(cx: &Cx<'a>, n: &NodeView<'a>) -> Result<(ValueId, [Dim; 4], i64)> {
    let x = n.tensor(0)?;
    let b = n.int_or("blocksize", 0)?;
    let shape: [Dim; 4] = cx
        .shape(x)?
        .try_into()
        .map_err(|s| n.error(format!("operand 0: expected [N, C, H, W], got shape {s:?}")))?;
    if !(1..=1 << 20).contains(&b) {
        return Err(n.error(format!("attribute `blocksize`: expected 1 or more, got {b}")));
    }
    Ok((x, shape, b))
}

/// An extent divided by a number that must divide it; left to run time for a symbolic one.
fn divided(cx: &Cx<'_>, n: &NodeView<'_>, extent: &Dim, by: i64) -> Result<Dim> {
    if extent.as_const().is_some_and(|e| e % by != 0) {
        return Err(n.error(format!("{by} does not divide the extent {extent}")));
    }
    cx.dim(extent.floor_div(&Dim::constant(by)))
}

fn depth_to_space<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (x, [batch, channels, height, width], b) = blocks(cx, n)?;
    let column_row_depth = word(n, "mode", "DCR", |w| match w {
        "DCR" => Some(false),
        "CRD" => Some(true),
        _ => None,
    })?;
    let (block, depth) = (Dim::constant(b), divided(cx, n, &channels, b * b)?);
    let (parts, perm) = if column_row_depth {
        ([depth.clone(), block.clone(), block.clone()], [0, 1, 4, 2, 5, 3])
    } else {
        ([block.clone(), block.clone(), depth.clone()], [0, 3, 4, 1, 5, 2])
    };
    let [p, q, r] = parts;
    let apart = cx.reshape(x, &[batch.clone(), p, q, r, height.clone(), width.clone()])?;
    let turned = cx.transpose(apart, &perm)?;
    let shape = [batch, depth, cx.dim(height.mul(&block))?, cx.dim(width.mul(&block))?];
    Ok(vec![cx.reshape(turned, &shape)?.into()])
}

fn space_to_depth<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (x, [batch, channels, height, width], b) = blocks(cx, n)?;
    let block = Dim::constant(b);
    let (rows, columns) = (divided(cx, n, &height, b)?, divided(cx, n, &width, b)?);
    let apart = [batch.clone(), channels.clone(), rows.clone(), block.clone(), columns.clone(), block];
    let apart = cx.reshape(x, &apart)?;
    // Before opset 28 channels run fastest.
    let order: [usize; 6] = match n.string_or("mode", "DCR")? {
        "DCR" => [0, 3, 5, 1, 2, 4],
        "CRD" => [0, 1, 3, 5, 2, 4],
        other => return Err(n.error(format!("mode {other} is none of DCR, CRD"))),
    };
    let turned = cx.transpose(apart, &order)?;
    let shape = [batch, cx.dim(channels.mul_const(b * b))?, rows, columns];
    Ok(vec![cx.reshape(turned, &shape)?.into()])
}

/// MaxUnpool: elements go back to the places that MaxPool found them at; the rest is 0. A larger shape asked for is
/// filled up behind.
fn max_unpool<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (x, places) = (n.tensor(0)?, n.tensor(1)?);
    let shape = cx.shape(x)?;
    let kernel = n.ints("kernel_shape")?.ok_or_else(|| n.error("attribute `kernel_shape` is missing"))?;
    let axes = kernel.len();
    let strides = n.ints("strides")?.unwrap_or_else(|| vec![1; axes]);
    let pads = n.ints("pads")?.unwrap_or_else(|| vec![0; axes.saturating_mul(2)]);
    let mut whole: Vec<Dim> = shape.iter().take(2).cloned().collect();
    for (i, d) in shape.iter().skip(2).enumerate() {
        let get = |v: &[i64], i: usize| v.get(i).copied().unwrap_or(0);
        let pads = get(&pads, i).checked_add(get(&pads, axes.saturating_add(i)));
        let extra = pads.and_then(|p| get(&kernel, i).checked_sub(p));
        let extra = extra.ok_or_else(|| n.error("attribute `pads` is out of range"))?;
        let steps = cx.dim(cx.dim(d.add_const(-1))?.mul_const(get(&strides, i)))?;
        whole.push(cx.dim(steps.add_const(extra))?);
    }
    let count = cx.dim(frit_ir::types::product(&whole))?;
    let taken = cx.dim(frit_ir::types::product(&shape))?;
    let zeros = cx.full(std::slice::from_ref(&count), 0.0, cx.dtype(x)?)?;
    let places = cx.cast(places, DType::I64)?;
    let places = cx.reshape(places, std::slice::from_ref(&taken))?;
    let elements = cx.reshape(x, &[taken])?;
    let scattered =
        cx.emit(ScatterElements { axis: 0, reduction: ScatterReduction::None }, &[zeros, places, elements])?;
    let mut y = cx.reshape(scattered, &whole)?;
    if let Some(wanted) = cx.opt_dims(n, 2)? {
        if wanted.len() != whole.len() {
            return Err(n.error(format!("operand 2: {} extents for {} axes", wanted.len(), whole.len())));
        }
        let after = wanted.iter().zip(&whole).map(|(w, d)| cx.dim(w.sub(d))).collect::<Result<Vec<_>>>()?;
        if after.iter().any(|d| !d.is(0)) {
            let before = vec![Dim::constant(0); after.len()];
            y = cx.emit(Pad { before, after, mode: PadMode::Constant, value: 0.0 }, &[y])?;
        }
    }
    Ok(vec![y.into()])
}
