//! Resize and Upsample: extents and scales of the result. Interpolation itself is the graph's op.

use super::indexing::{unknown, word};
use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{Coordinates, NearestMode, Resize, ResizeMode};
use frit_ir::{Dim, ValueId};

pub const ROWS: &[Row] =
    &[("", "Upsample", 7, upsample), ("", "Resize", 10, resize_10), ("", "Resize", 11, resize_11)];

/// Interpolation as Upsample and the first Resize have it.
fn plain(mode: ResizeMode) -> Resize {
    Resize {
        sizes: vec![],
        scales: vec![],
        mode,
        coordinates: Coordinates::Asymmetric,
        nearest: NearestMode::Floor,
        cubic_coeff: -0.75,
        exclude_outside: false,
        antialias: false,
        roi: vec![],
        extrapolation: 0.0,
    }
}

fn mode_of<'a>(n: &NodeView<'a>) -> Result<ResizeMode> {
    match n.string_or("mode", "nearest")? {
        // What opset 7 calls it.
        "bilinear" => Ok(ResizeMode::Linear),
        other => ResizeMode::from_word(other).ok_or_else(|| unknown(n, "mode", other)),
    }
}

/// A scale's decimal is a quotient of small numbers, if it is one to single precision: 0.6 is 3 / 5.
fn fraction(scale: f32) -> Option<(i64, i64)> {
    (1..=4096i64).find_map(|q| {
        let p = (f64::from(scale) * q as f64).round();
        (p >= 1.0 && (p / q as f64) as f32 == scale).then_some((p as i64, q))
    })
}

/// The extent times the scale, rounded down.
fn scaled(cx: &Cx<'_>, n: &NodeView<'_>, extent: &Dim, scale: f32) -> Result<Dim> {
    if scale == 1.0 {
        return Ok(extent.clone());
    }
    if let Some(e) = extent.as_const() {
        return Ok(Dim::constant((e as f32 * scale).floor() as i64));
    }
    let (p, q) = fraction(scale).ok_or_else(|| {
        n.error(format!("scale {scale} of the symbolic extent {extent} is no small quotient"))
    })?;
    let product = cx.dim(extent.mul_const(p))?;
    cx.dim(product.floor_div(&Dim::constant(q)))
}

fn finish(cx: &mut Cx<'_>, n: &NodeView<'_>, x: ValueId, mut op: Resize) -> Result<Vec<Val>> {
    let shape = cx.shape(x)?;
    if op.sizes.is_empty() {
        if op.scales.len() != shape.len() {
            return Err(n.error(format!("{} scales for {} axes", op.scales.len(), shape.len())));
        }
        let each = shape.iter().zip(&op.scales);
        op.sizes = each.map(|(d, &s)| scaled(cx, n, d, s as f32)).collect::<Result<_>>()?;
    }
    Ok(vec![cx.emit(op, &[x])?.into()])
}

/// Upsample: scales are an attribute up to opset 8.
fn upsample<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let mut op = plain(mode_of(n)?);
    op.scales =
        if n.opset < 9 { n.floats("scales")?.unwrap_or_default() } else { cx.numbers(n, 1)?.to_f64_vec() };
    finish(cx, n, n.tensor(0)?, op)
}

fn resize_10<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let mut op = plain(mode_of(n)?);
    op.scales = cx.numbers(n, 1)?.to_f64_vec();
    finish(cx, n, n.tensor(0)?, op)
}

fn resize_11<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let shape = cx.shape(x)?;
    let rank = shape.len();
    let mut nearest = word(n, "nearest_mode", "round_prefer_floor", NearestMode::from_word)?;
    let coordinates = match n.string_or("coordinate_transformation_mode", "half_pixel")? {
        // Only opset 11 has it: half_pixel without the half taken off, which rounding down makes rounding.
        "tf_half_pixel_for_nn" if nearest == NearestMode::Floor => {
            nearest = NearestMode::RoundPreferCeil;
            Coordinates::HalfPixel
        }
        other => Coordinates::from_word(other)
            .ok_or_else(|| unknown(n, "coordinate_transformation_mode", other))?,
    };
    let mut op = Resize {
        coordinates,
        nearest,
        cubic_coeff: n.float_or("cubic_coeff_a", -0.75)?,
        exclude_outside: n.flag("exclude_outside", false)?,
        antialias: n.flag("antialias", false)?,
        extrapolation: n.float_or("extrapolation_value", 0.0)?,
        ..plain(mode_of(n)?)
    };
    let axes = match n.ints("axes")? {
        Some(axes) => cx.axes(&axes, rank)?,
        None => (0..rank).collect(),
    };
    let known = |v: Option<ValueId>, cx: &Cx<'_>| {
        v.filter(|&v| cx.ty(v).is_ok_and(|t| t.shape != [Dim::constant(0)]))
    };
    if coordinates == Coordinates::CropAndResize {
        let given = cx.numbers(n, 1)?.to_f64_vec();
        if given.len() != axes.len().saturating_mul(2) {
            return Err(n.error(format!(
                "operand 1: {} numbers of a region over {} axes",
                given.len(),
                axes.len()
            )));
        }
        let (starts, ends) = given.split_at(axes.len());
        op.roi = spread(&axes, starts, rank, 0.0);
        op.roi.extend(spread(&axes, ends, rank, 1.0));
    }
    if known(n.opt(2)?, cx).is_some() {
        let scales = cx.numbers(n, 2)?.to_f64_vec();
        if scales.len() != axes.len() {
            return Err(n.error(format!("operand 2: {} scales for {} axes", scales.len(), axes.len())));
        }
        op.scales = spread(&axes, &scales, rank, 1.0);
        return finish(cx, n, x, op);
    }
    if known(n.opt(3)?, cx).is_none() {
        return Err(n.error("neither scales nor sizes"));
    }
    let policy = n.string_or("keep_aspect_ratio_policy", "stretch")?;
    let given = match policy {
        "stretch" => cx.dims(n, 3)?,
        _ => cx.ints(n, 3)?.into_iter().map(Dim::constant).collect(),
    };
    if given.len() != axes.len() {
        return Err(n.error(format!("operand 3: {} sizes for {} axes", given.len(), axes.len())));
    }
    if policy != "stretch" {
        let (sizes, scale) = keep_ratio(n, &shape, &axes, &given, policy)?;
        op.scales = spread(&axes, &vec![scale; axes.len()], rank, 1.0);
        op.sizes = put(&axes, &sizes, &shape);
    } else {
        op.sizes = put(&axes, &given, &shape);
    }
    finish(cx, n, x, op)
}

/// Values of some axes among those of all.
fn spread(axes: &[usize], values: &[f64], rank: usize, rest: f64) -> Vec<f64> {
    let value = |i: usize| axes.iter().position(|&a| a == i).and_then(|p| values.get(p)).copied();
    (0..rank).map(|i| value(i).unwrap_or(rest)).collect()
}

/// Extents of some axes among those of all.
fn put(axes: &[usize], values: &[Dim], shape: &[Dim]) -> Vec<Dim> {
    let value = |i: usize| axes.iter().position(|&a| a == i).and_then(|p| values.get(p)).cloned();
    shape.iter().enumerate().map(|(i, d)| value(i).unwrap_or_else(|| d.clone())).collect()
}

/// The extents with one scale for all axes that none goes beyond, or that none falls short of.
fn keep_ratio(
    n: &NodeView<'_>,
    shape: &[Dim],
    axes: &[usize],
    sizes: &[Dim],
    policy: &str,
) -> Result<(Vec<Dim>, f64)> {
    let fixed = |d: Option<&Dim>| d.and_then(Dim::as_const).filter(|&v| v > 0);
    let extents: Option<Vec<(i64, i64)>> =
        axes.iter().zip(sizes).map(|(&a, s)| Some((fixed(shape.get(a))?, fixed(Some(s))?))).collect();
    let extents = extents.ok_or_else(|| {
        n.error(format!("policy `{policy}` needs fixed extents, got {shape:?} and {sizes:?}"))
    })?;
    let ratios = extents.iter().map(|&(from, to)| to as f64 / from as f64);
    let scale = match policy {
        "not_larger" => ratios.fold(f64::INFINITY, f64::min),
        "not_smaller" => ratios.fold(0.0, f64::max),
        _ => return Err(unknown(n, "keep_aspect_ratio_policy", policy)),
    };
    let sizes =
        extents.iter().map(|&(from, _)| Dim::constant((scale * from as f64 + 0.5).floor() as i64)).collect();
    Ok((sizes, scale))
}
