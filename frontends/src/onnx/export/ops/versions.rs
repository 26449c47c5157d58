//! Ops whose operands or attributes differ from opset to opset beyond axes and shapes: conversion, pictures, regions,
//! random numbers. Each is written as the opset asked for has it.

use super::Written;
use crate::onnx::export::attr;
use crate::onnx::export::emitter::{Emitter, View};
use crate::onnx::read::data_type_of;
use frit_ir::DType;
use frit_ir::Tensor;
use frit_ir::op::{
    Cast, Col2Im, Coordinates, Distribution, GridSample, LpPool, MaxRoiPool, Random, Resize, RoiAlign,
    SampleMode, TopK,
};

/// Cast: what happens out of range is an attribute of casts to 8-bit floats only.
pub(super) fn cast(e: &mut Emitter<'_>, v: &View<'_>, o: &Cast) -> Written {
    let mut attrs = vec![attr::int("to", i64::from(data_type_of(o.to) as i32))];
    if o.to.is_narrow() && !o.to.is_narrow_int() && e.opset >= 19 {
        attrs.push(attr::int("saturate", i64::from(o.saturate)));
    }
    if o.to == DType::F8E8M0 && e.opset >= 24 {
        attrs.push(attr::string("round_mode", o.round_mode.word()));
    }
    e.push("Cast", v.inputs.clone(), v.outputs.clone(), attrs);
    Ok(())
}

/// TopK's count.
pub(super) fn top_k(e: &mut Emitter<'_>, v: &View<'_>, o: &TopK) -> Written {
    let inputs = vec![v.input(0), e.dim(&o.k)?];
    let attrs =
        vec![attr::int("axis", o.axis), attr::int("largest", i64::from(o.largest)), attr::int("sorted", 1)];
    e.push("TopK", inputs, v.outputs.clone(), attrs);
    Ok(())
}

/// LpPool; dilations and the rounding of extents came with opset 18.
pub(super) fn lp_pool(e: &mut Emitter<'_>, v: &View<'_>, o: &LpPool) -> Written {
    let mut attrs = vec![
        attr::ints("kernel_shape", &o.kernel),
        attr::ints("strides", &o.strides),
        attr::ints("pads", &o.pads),
        attr::int("p", o.p as i64),
    ];
    if e.opset >= 18 {
        attrs.push(attr::ints("dilations", &o.dilations));
        attrs.push(attr::int("ceil_mode", i64::from(o.ceil_mode)));
    }
    e.push("LpPool", v.inputs.clone(), v.outputs.clone(), attrs);
    Ok(())
}

/// True where LpPool's attributes are those that the opset knows; the power is an integer there.
pub(super) fn lp_pool_has_form(o: &LpPool, opset: u32) -> bool {
    o.p.fract() == 0.0 && (opset >= 18 || (!o.ceil_mode && o.dilations.iter().all(|&d| d == 1)))
}

/// BitShift in a direction.
pub(super) fn shift(e: &mut Emitter<'_>, v: &View<'_>, direction: &str) -> Written {
    e.push("BitShift", v.inputs.clone(), v.outputs.clone(), vec![attr::string("direction", direction)]);
    Ok(())
}

/// Resize by sizes, or by scales where they are not the ratio of the extents.
pub(super) fn resize(e: &mut Emitter<'_>, v: &View<'_>, o: &Resize) -> Written {
    let numbers = |v: &[f64]| {
        let v: Vec<f32> = v.iter().map(|x| *x as f32).collect();
        Tensor::from_slice(&[v.len()], &v)
    };
    let roi = if o.roi.is_empty() { String::new() } else { e.constant(numbers(&o.roi)?) };
    let inputs = if o.scales.is_empty() {
        vec![v.input(0), roi, String::new(), e.dims(&o.sizes)?]
    } else {
        vec![v.input(0), roi, e.constant(numbers(&o.scales)?)]
    };
    let mut attrs = vec![
        attr::string("mode", o.mode.word()),
        attr::string("coordinate_transformation_mode", o.coordinates.word()),
        attr::string("nearest_mode", o.nearest.word()),
        attr::float("cubic_coeff_a", o.cubic_coeff),
        attr::int("exclude_outside", i64::from(o.exclude_outside)),
        attr::float("extrapolation_value", o.extrapolation),
    ];
    if e.opset >= 18 {
        attrs.push(attr::int("antialias", i64::from(o.antialias)));
    }
    e.push("Resize", inputs, v.outputs.clone(), attrs);
    Ok(())
}

/// True where the opset knows how a Resize finds its elements.
pub(super) fn resize_has_form(o: &Resize, opset: u32) -> bool {
    (opset >= 18 || !o.antialias) && (opset >= 19 || o.coordinates != Coordinates::HalfPixelSymmetric)
}

/// GridSample, whose modes were called otherwise before opset 20.
pub(super) fn grid_sample(e: &mut Emitter<'_>, v: &View<'_>, o: &GridSample) -> Written {
    let mode = match (o.mode, e.opset >= 20) {
        (SampleMode::Linear, false) => "bilinear",
        (SampleMode::Cubic, false) => "bicubic",
        (mode, _) => mode.word(),
    };
    let attrs = vec![
        attr::string("mode", mode),
        attr::string("padding_mode", o.padding.word()),
        attr::int("align_corners", i64::from(o.align_corners)),
    ];
    e.push("GridSample", v.inputs.clone(), v.outputs.clone(), attrs);
    Ok(())
}

/// RoiAlign's cells.
pub(super) fn roi_align(e: &mut Emitter<'_>, v: &View<'_>, o: &RoiAlign) -> Written {
    let place = if o.half_pixel { "half_pixel" } else { "output_half_pixel" };
    let attrs = vec![
        attr::int("output_height", o.height),
        attr::int("output_width", o.width),
        attr::int("sampling_ratio", o.sampling_ratio),
        attr::float("spatial_scale", o.spatial_scale),
        attr::string("mode", o.mode.word()),
        attr::string("coordinate_transformation_mode", place),
    ];
    e.push("RoiAlign", v.inputs.clone(), v.outputs.clone(), attrs);
    Ok(())
}

/// MaxRoiPool's cells.
pub(super) fn max_roi_pool(e: &mut Emitter<'_>, v: &View<'_>, o: &MaxRoiPool) -> Written {
    let attrs =
        vec![attr::ints("pooled_shape", &[o.height, o.width]), attr::float("spatial_scale", o.spatial_scale)];
    e.push("MaxRoiPool", v.inputs.clone(), v.outputs.clone(), attrs);
    Ok(())
}

/// Col2Im's extents.
pub(super) fn col2im(e: &mut Emitter<'_>, v: &View<'_>, o: &Col2Im) -> Written {
    let inputs = vec![v.input(0), e.dims(&o.image)?, e.integers(&o.block)?];
    let attrs = vec![
        attr::ints("strides", &o.strides),
        attr::ints("pads", &o.pads),
        attr::ints("dilations", &o.dilations),
    ];
    e.push("Col2Im", inputs, v.outputs.clone(), attrs);
    Ok(())
}

/// Random numbers of the shape of a tensor made for it: the attribute of the other form holds numbers only. Which
/// numbers come differs from runtime to runtime.
pub(super) fn random(e: &mut Emitter<'_>, v: &View<'_>, o: &Random) -> Written {
    let shape = e.dims(&o.shape)?;
    let like = e.compute("ConstantOfShape", vec![shape], vec![]);
    let (op, a, b) = match o.distribution {
        Distribution::Uniform => ("RandomUniformLike", "low", "high"),
        Distribution::Normal => ("RandomNormalLike", "mean", "scale"),
    };
    let mut attrs = vec![
        attr::int("dtype", i64::from(data_type_of(o.dtype) as i32)),
        attr::float(a, o.a),
        attr::float(b, o.b),
        attr::float("seed", o.seed as f64),
    ];
    attrs.sort_by(|a, b| a.name.cmp(&b.name));
    e.push(op, vec![like], v.outputs.clone(), attrs);
    Ok(())
}
