//! Ops with numbers as attributes that are operands in ONNX, or that opsets write differently. Shapes are in
//! `shapes.rs`.

use super::Written;
use crate::onnx::export::attr;
use crate::onnx::export::emitter::{Emitter, View};
use frit_ir::Tensor;
use frit_ir::op::{AveragePool, Clip, CumSum, Reduce, ReduceFn};

/// Clip's bounds; for integers those within, as no element lies between.
pub(super) fn clip(e: &mut Emitter<'_>, v: &View<'_>, o: &Clip) -> Written {
    let mut inputs = vec![v.input(0)];
    let float = v.dtype.is_float();
    let within: [(Option<f64>, fn(f64) -> f64); 2] = [(o.min, f64::ceil), (o.max, f64::floor)];
    for (bound, round) in within {
        inputs.push(match bound {
            Some(b) => e.constant(Tensor::scalar(v.dtype, if float { b } else { round(b) })),
            None => String::new(),
        });
    }
    e.push("Clip", inputs, v.outputs.clone(), vec![]);
    Ok(())
}

/// A reduction: the axes are an operand since opset 13 for ReduceSum, since 18 for the others.
pub(super) fn reduce(e: &mut Emitter<'_>, v: &View<'_>, o: &Reduce) -> Written {
    let mut inputs = vec![v.input(0)];
    let mut attrs = vec![attr::int("keepdims", i64::from(o.keepdims))];
    if !o.axes.is_empty() {
        if e.opset >= 18 || o.function == ReduceFn::Sum {
            inputs.push(e.integers(&o.axes)?);
        } else {
            attrs.push(attr::ints("axes", &o.axes));
        }
    }
    e.push(o.function.name(), inputs, v.outputs.clone(), attrs);
    Ok(())
}

/// CumSum's axis.
pub(super) fn cum_sum(e: &mut Emitter<'_>, v: &View<'_>, o: &CumSum) -> Written {
    let inputs = vec![v.input(0), e.integer(o.axis)?];
    let flags = [("exclusive", o.exclusive), ("reverse", o.reverse)];
    let attrs = flags.into_iter().map(|(name, flag)| attr::int(name, i64::from(flag))).collect();
    e.push("CumSum", inputs, v.outputs.clone(), attrs);
    Ok(())
}

/// AveragePool, whose dilations opsets before 19 do not know.
pub(super) fn average_pool(e: &mut Emitter<'_>, v: &View<'_>, o: &AveragePool) -> Written {
    let mut attrs = vec![
        attr::ints("kernel_shape", &o.kernel),
        attr::ints("strides", &o.strides),
        attr::ints("pads", &o.pads),
        attr::int("ceil_mode", i64::from(o.ceil_mode)),
        attr::int("count_include_pad", i64::from(o.count_include_pad)),
    ];
    if e.opset >= 19 {
        attrs.push(attr::ints("dilations", &o.dilations));
    }
    e.push("AveragePool", v.inputs.clone(), v.outputs.clone(), attrs);
    Ok(())
}

/// Mod of floats with the divisor's sign: ONNX has it with the dividend's only.
pub(super) fn float_mod(e: &mut Emitter<'_>, v: &View<'_>) -> Written {
    let (x, y) = (v.input(0), v.input(1));
    let rest = e.compute("Mod", vec![x, y.clone()], vec![attr::int("fmod", 1)]);
    let zero = e.constant(Tensor::scalar(v.dtype, 0.0));
    let negative = e.compute("Less", vec![rest.clone(), zero.clone()], vec![]);
    let divisor_negative = e.compute("Less", vec![y.clone(), zero.clone()], vec![]);
    let differs = e.compute("Xor", vec![negative, divisor_negative], vec![]);
    let exact = e.compute("Equal", vec![rest.clone(), zero], vec![]);
    let inexact = e.compute("Not", vec![exact], vec![]);
    let wrong = e.compute("And", vec![differs, inexact], vec![]);
    let moved = e.compute("Add", vec![rest.clone(), y], vec![]);
    e.push("Where", vec![wrong, moved, rest], v.outputs.clone(), vec![]);
    Ok(())
}
