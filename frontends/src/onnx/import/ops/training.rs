//! Steps of optimizers, of domain ai.onnx.preview.training: Adagrad, Adam, Momentum. Each updates any number of
//! tensors: operands and results come in groups, one place of each group for each tensor.

use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{BinaryFn, UnaryFn};
use frit_ir::{DType, ValueId};

pub const ROWS: &[Row] = &[
    ("ai.onnx.preview.training", "Adagrad", 1, adagrad),
    ("ai.onnx.preview.training", "Adam", 1, adam),
    ("ai.onnx.preview.training", "Momentum", 1, momentum),
];

/// The rate, the number of steps taken, and the groups of operands that follow.
fn operands(n: &NodeView<'_>, groups: usize) -> Result<(ValueId, ValueId, Vec<Vec<ValueId>>)> {
    let mut all = n.tensors()?.into_iter();
    let (Some(rate), Some(step)) = (all.next(), all.next()) else {
        return Err(n.error("expected a rate and a number of steps"));
    };
    let rest: Vec<ValueId> = all.collect();
    if rest.is_empty() || !rest.len().is_multiple_of(groups) {
        return Err(n.error(format!("expected {groups} operands for each tensor, got {}", rest.len())));
    }
    Ok((rate, step, rest.chunks(rest.len() / groups).map(<[ValueId]>::to_vec).collect()))
}

/// One operand of each group for each tensor.
fn by_tensor(groups: &[Vec<ValueId>]) -> Vec<Vec<ValueId>> {
    let count = groups.first().map_or(0, Vec::len);
    (0..count).map(|i| groups.iter().filter_map(|g| g.get(i).copied()).collect()).collect()
}

/// Results in groups from results by tensor.
fn grouped(each: &[Vec<ValueId>]) -> Vec<Val> {
    let count = each.first().map_or(0, Vec::len);
    (0..count).flat_map(|g| each.iter().filter_map(move |e| e.get(g).copied().map(Val::from))).collect()
}

/// The gradient with that of the squared norm of the tensor.
fn regularised(cx: &mut Cx<'_>, x: ValueId, gradient: ValueId, norm: f64) -> Result<ValueId> {
    let decay = cx.with_number(BinaryFn::Mul, x, norm)?;
    cx.plus(decay, gradient)
}

fn number(cx: &mut Cx<'_>, x: ValueId) -> Result<ValueId> {
    let dtype = cx.dtype(x)?;
    if dtype.is_float() { Ok(x) } else { cx.cast(x, DType::F32) }
}

fn adagrad<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (rate, step, groups) = operands(n, 3)?;
    let (epsilon, norm) = (n.float_or("epsilon", 1e-6)?, n.float_or("norm_coefficient", 0.0)?);
    let step = number(cx, step)?;
    let slower = cx.with_number(BinaryFn::Mul, step, n.float_or("decay_factor", 0.0)?)?;
    let slower = cx.with_number(BinaryFn::Add, slower, 1.0)?;
    let rate = cx.over(rate, slower)?;
    let mut results = Vec::new();
    for operands in by_tensor(&groups) {
        let [x, gradient, squares] = operands[..] else { continue };
        let gradient = regularised(cx, x, gradient, norm)?;
        let square = cx.times(gradient, gradient)?;
        let squares = cx.plus(squares, square)?;
        let size = cx.unary(UnaryFn::Sqrt, squares)?;
        let size = cx.with_number(BinaryFn::Add, size, epsilon)?;
        let change = cx.times(rate, gradient)?;
        let change = cx.over(change, size)?;
        results.push(vec![cx.minus(x, change)?, squares]);
    }
    Ok(grouped(&results))
}

fn adam<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (rate, step, groups) = operands(n, 4)?;
    let (alpha, beta) = (n.float_or("alpha", 0.9)?, n.float_or("beta", 0.999)?);
    let (epsilon, norm) = (n.float_or("epsilon", 1e-6)?, n.float_or("norm_coefficient", 0.0)?);
    let after = n.float_or("norm_coefficient_post", 0.0)?;
    // The averages begin at zero; this makes up for it, but not before the first step.
    let steps = cx.cast(step, DType::F64)?;
    let (mut numerator, mut denominator) = (cx.scalar(DType::F64, beta)?, cx.scalar(DType::F64, alpha)?);
    for power in [&mut numerator, &mut denominator] {
        *power = cx.binary(BinaryFn::Pow, *power, steps)?;
        let one = cx.scalar(DType::F64, 1.0)?;
        *power = cx.minus(one, *power)?;
    }
    let root = cx.unary(UnaryFn::Sqrt, numerator)?;
    let correction = cx.over(root, denominator)?;
    let one = cx.scalar(DType::F64, 1.0)?;
    let first = cx.with_number(BinaryFn::Equal, step, 0.0)?;
    let correction = cx.choose(first, one, correction)?;
    let wide = cx.cast(rate, DType::F64)?;
    let adjusted = cx.times(wide, correction)?;
    let adjusted = cx.cast(adjusted, cx.dtype(rate)?)?;
    let mut results = Vec::new();
    for operands in by_tensor(&groups) {
        let [x, gradient, mean, squares] = operands[..] else { continue };
        let gradient = regularised(cx, x, gradient, norm)?;
        let mean = averaged(cx, mean, gradient, alpha)?;
        let square = cx.times(gradient, gradient)?;
        let squares = averaged(cx, squares, square, beta)?;
        let size = cx.unary(UnaryFn::Sqrt, squares)?;
        let size = cx.with_number(BinaryFn::Add, size, epsilon)?;
        let change = cx.times(adjusted, mean)?;
        let change = cx.over(change, size)?;
        let x = cx.minus(x, change)?;
        results.push(vec![cx.with_number(BinaryFn::Mul, x, 1.0 - after)?, mean, squares]);
    }
    Ok(grouped(&results))
}

/// `share` of the old and the rest of the new.
fn averaged(cx: &mut Cx<'_>, old: ValueId, new: ValueId, share: f64) -> Result<ValueId> {
    let old = cx.with_number(BinaryFn::Mul, old, share)?;
    let new = cx.with_number(BinaryFn::Mul, new, 1.0 - share)?;
    cx.plus(old, new)
}

fn momentum<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (rate, step, groups) = operands(n, 3)?;
    let required = |name: &'static str, value: Option<f64>| {
        value.ok_or_else(|| n.error(format!("attribute `{name}` is missing")))
    };
    let alpha = required("alpha", n.float("alpha")?)?;
    let beta = required("beta", n.float("beta")?)?;
    let norm = required("norm_coefficient", n.float("norm_coefficient")?)?;
    let nesterov = match n.string_or("mode", "standard")? {
        "nesterov" => true,
        "standard" => false,
        other => return Err(n.error(format!("mode `{other}`: expected nesterov or standard"))),
    };
    let first = cx.with_number(BinaryFn::Equal, step, 0.0)?;
    let mut results = Vec::new();
    for operands in by_tensor(&groups) {
        let [x, gradient, old] = operands[..] else { continue };
        let dtype = cx.dtype(x)?;
        let gradient = regularised(cx, x, gradient, norm)?;
        // The first step takes the gradient whole.
        let (one, part) = (cx.scalar(dtype, 1.0)?, cx.scalar(dtype, beta)?);
        let share = cx.choose(first, one, part)?;
        let new = cx.times(share, gradient)?;
        let kept = cx.with_number(BinaryFn::Mul, old, alpha)?;
        let velocity = cx.plus(kept, new)?;
        let direction = if nesterov {
            let ahead = cx.with_number(BinaryFn::Mul, velocity, alpha)?;
            cx.plus(gradient, ahead)?
        } else {
            velocity
        };
        let change = cx.times(rate, direction)?;
        results.push(vec![cx.minus(x, change)?, velocity]);
    }
    Ok(grouped(&results))
}
