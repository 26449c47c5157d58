//! Normalisations. What the graph's composite ops mean is kept where a node asks for just that; statistics as further
//! outputs, and scales that broadcast, are computed with plain ops.

use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{
    BatchNormalization, BinaryFn, GroupNormalization, InstanceNormalization, LayerNormalization,
    RMSNormalization, ReduceFn, UnaryFn,
};
use frit_ir::types::same_shape;
use frit_ir::{DType, Dim, ValueId};

pub const ROWS: &[Row] = &[
    ("", "BatchNormalization", 1, batch_norm),
    ("", "InstanceNormalization", 1, instance_norm),
    ("", "GroupNormalization", 18, group_norm),
    ("", "GroupNormalization", 21, group_norm),
    ("", "LayerNormalization", 1, layer_norm),
    ("", "RMSNormalization", 23, rms_norm),
];

fn batch_norm<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["is_test", "consumed_inputs"]);
    if !n.flag("spatial", true)? {
        return Err(n.error("attribute `spatial` 0 is not supported"));
    }
    let x = n.tensor(0)?;
    let dtype = cx.dtype(x)?;
    let epsilon = n.float_or("epsilon", 1e-5)?;
    let momentum = n.float_or("momentum", 0.9)?;
    let shape = cx.shape(x)?;
    let channels = shape.get(1).cloned().ok_or_else(|| n.error("expected x of rank 2 or more"))?;
    let mut parameters = Vec::with_capacity(4);
    for i in 1..5 {
        let v = n.tensor(i)?;
        parameters.push(cx.agree(v, std::slice::from_ref(&channels))?);
    }
    let [scale, bias, mean, variance] = parameters.as_slice() else {
        return Err(n.error("operands are missing"));
    };
    let training = n.opset >= 14 && n.flag("training_mode", false)?;
    if !training {
        let mut all = vec![Some(x)];
        for v in [scale, bias, mean, variance] {
            all.push(Some(cx.cast(*v, dtype)?));
        }
        let y = cx.emit_all(BatchNormalization { epsilon }, &all)?;
        return Ok(y.into_iter().map(Val::from).collect());
    }
    // Statistics of the batch, and the running ones moved toward them.
    let others: Vec<usize> = (0..shape.len()).filter(|&a| a != 1).collect();
    let wide = cx.cast(x, cx.dtype(*mean)?)?;
    let batch_mean = cx.reduce(ReduceFn::Mean, wide, &others, true)?;
    let centred = cx.minus(wide, batch_mean)?;
    let square = cx.times(centred, centred)?;
    let batch_variance = cx.reduce(ReduceFn::Mean, square, &others, false)?;
    let batch_mean = cx.reshape(batch_mean, std::slice::from_ref(&channels))?;
    let mut all = vec![Some(x)];
    for v in [*scale, *bias, batch_mean, batch_variance] {
        all.push(Some(cx.cast(v, dtype)?));
    }
    let mut out: Vec<Val> =
        cx.emit_all(BatchNormalization { epsilon }, &all)?.into_iter().map(Val::from).collect();
    for (running, now) in [(*mean, batch_mean), (*variance, batch_variance)] {
        let kept = cx.with_number(BinaryFn::Mul, running, momentum)?;
        let moved = cx.with_number(BinaryFn::Mul, now, 1.0 - momentum)?;
        out.push(cx.plus(kept, moved)?.into());
    }
    Ok(out)
}

/// Scale and bias a channel.
fn per_channel(cx: &mut Cx<'_>, n: &NodeView<'_>) -> Result<Vec<ValueId>> {
    let x = n.tensor(0)?;
    let channels = cx.shape(x)?.get(1).cloned().ok_or_else(|| n.error("expected x of rank 2 or more"))?;
    let mut all = vec![x];
    for i in 1..3 {
        let v = n.tensor(i)?;
        all.push(cx.agree(v, std::slice::from_ref(&channels))?);
    }
    Ok(all)
}

fn instance_norm<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["consumed_inputs"]);
    let all = per_channel(cx, n)?;
    let epsilon = n.float_or("epsilon", 1e-5)?;
    Ok(vec![cx.emit(InstanceNormalization { epsilon }, &all)?.into()])
}

/// In opset 18 to 20 there is one scale and bias a group, then one a channel.
fn group_norm<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["stash_type"]);
    let groups = n.int("num_groups")?.ok_or_else(|| n.error("attribute `num_groups` is missing"))?;
    let epsilon = n.float_or("epsilon", 1e-5)?;
    let op = GroupNormalization { groups, epsilon };
    if n.opset >= 21 {
        let all = per_channel(cx, n)?;
        return Ok(vec![cx.emit(op, &all)?.into()]);
    }
    let x = n.tensor(0)?;
    let channels = cx.shape(x)?.get(1).cloned().ok_or_else(|| n.error("expected x of rank 2 or more"))?;
    let groups_dim = Dim::constant(groups.max(1));
    let size = channels.exact_div(&groups_dim);
    let size = size.ok_or_else(|| n.error(format!("{groups} groups do not divide {channels} channels")))?;
    let mut all = vec![x];
    for i in 1..3 {
        let v = n.tensor(i)?;
        let v = cx.reshape(v, &[groups_dim.clone(), Dim::constant(1)])?;
        let v = cx.expand_to(v, &[groups_dim.clone(), size.clone()])?;
        all.push(cx.reshape(v, std::slice::from_ref(&channels))?);
    }
    Ok(vec![cx.emit(op, &all)?.into()])
}

fn layer_norm<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let stash = n.int_or("stash_type", 1)?;
    let (x, scale, bias) = (n.tensor(0)?, n.tensor(1)?, n.opt(2)?);
    let shape = cx.shape(x)?;
    let axis = cx.axis(n.int_or("axis", -1)?, shape.len())?;
    let epsilon = n.float_or("epsilon", 1e-5)?;
    let normalised = shape.get(axis..).unwrap_or(&[]);
    let mut fits = same_shape(&cx.shape(scale)?, normalised);
    if let Some(bias) = bias {
        fits &= same_shape(&cx.shape(bias)?, normalised);
    }
    let from_end = i64::try_from(axis).unwrap_or(0) - i64::try_from(shape.len()).unwrap_or(0);
    let plain = if fits {
        let op = LayerNormalization { axis: from_end, epsilon };
        cx.emit_all(op, &[Some(x), Some(scale), bias])?.first().copied()
    } else {
        None
    };
    if let Some(y) = plain
        && !n.wants(1)
        && !n.wants(2)
    {
        return Ok(vec![y.into()]);
    }
    let dtype = cx.dtype(x)?;
    let wide = if stash == 1 { cx.cast(x, DType::F32)? } else { x };
    let axes: Vec<usize> = (axis..shape.len()).collect();
    let mean = cx.reduce(ReduceFn::Mean, wide, &axes, true)?;
    let centred = cx.minus(wide, mean)?;
    let square = cx.times(centred, centred)?;
    let variance = cx.reduce(ReduceFn::Mean, square, &axes, true)?;
    let safe = cx.with_number(BinaryFn::Add, variance, epsilon)?;
    let deviation = cx.unary(UnaryFn::Sqrt, safe)?;
    let inverse = cx.unary(UnaryFn::Reciprocal, deviation)?;
    let y = match plain {
        Some(y) => y,
        None => {
            let standard = cx.over(centred, deviation)?;
            let standard = cx.cast(standard, dtype)?;
            let mut y = cx.times(standard, scale)?;
            if let Some(bias) = bias {
                y = cx.plus(y, bias)?;
            }
            y
        }
    };
    Ok(vec![y.into(), mean.into(), inverse.into()])
}

fn rms_norm<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let stash = n.int_or("stash_type", 1)?;
    let (x, scale) = (n.tensor(0)?, n.tensor(1)?);
    let shape = cx.shape(x)?;
    let axis = cx.axis(n.int_or("axis", -1)?, shape.len())?;
    let epsilon = n.float_or("epsilon", 1e-5)?;
    if same_shape(&cx.shape(scale)?, shape.get(axis..).unwrap_or(&[])) {
        let from_end = i64::try_from(axis).unwrap_or(0) - i64::try_from(shape.len()).unwrap_or(0);
        return Ok(vec![cx.emit(RMSNormalization { axis: from_end, epsilon }, &[x, scale])?.into()]);
    }
    let dtype = cx.dtype(x)?;
    let wide = if stash == 1 { cx.cast(x, DType::F32)? } else { x };
    let axes: Vec<usize> = (axis..shape.len()).collect();
    let square = cx.times(wide, wide)?;
    let mean = cx.reduce(ReduceFn::Mean, square, &axes, true)?;
    let safe = cx.with_number(BinaryFn::Add, mean, epsilon)?;
    let root = cx.unary(UnaryFn::Sqrt, safe)?;
    let standard = cx.over(wide, root)?;
    let standard = cx.cast(standard, dtype)?;
    Ok(vec![cx.times(standard, scale)?.into()])
}
