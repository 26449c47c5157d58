//! Gradient of ai.onnx.preview.training: derivatives by reverse accumulation over the ops that the graph has so far,
//! for arithmetic, products, sums and changes of shape. Steps of optimizers are in `training.rs`.

use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{BinaryFn, ReduceFn, UnaryFn};
use frit_ir::{Dim, Node, Op, ValueId};
use std::collections::{BTreeMap, HashSet};

pub const ROWS: &[Row] = &[("ai.onnx.preview.training", "Gradient", 1, gradient)];

fn gradient<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let xs = n.strings("xs")?.unwrap_or_default();
    let others = n.strings("zs")?.unwrap_or_default();
    let y = n.string("y")?.ok_or_else(|| n.error("expected the name `y` of what is differentiated"))?;
    let named = |cx: &mut Cx<'a>, name: &str| match cx.lookup(name)? {
        Some(Val::Tensor(v)) => Ok(v),
        _ => Err(n.error(format!("`{name}` is no tensor"))),
    };
    for (i, name) in xs.iter().chain(&others).enumerate() {
        if named(cx, name)? != n.tensor(i)? {
            return Err(n.error(format!(
                "operand {i} is not `{name}`: a gradient elsewhere than where the graph is"
            )));
        }
    }
    let y = named(cx, y)?;
    let xs = (0..xs.len()).map(|i| n.tensor(i)).collect::<Result<Vec<_>>>()?;
    let fixed = (xs.len()..xs.len() + others.len()).map(|i| n.tensor(i)).collect::<Result<Vec<_>>>()?;
    let nodes = between(cx, &xs, &fixed, y)?;

    let mut slopes = BTreeMap::new();
    let (shape, dtype) = (cx.shape(y)?, cx.dtype(y)?);
    slopes.insert(y, cx.full(&shape, 1.0, dtype)?);
    for node in nodes.iter().rev() {
        let [out] = node.outputs[..] else {
            return Err(n.error(format!("{} has no derivative here", node.op.name())));
        };
        let Some(slope) = slopes.get(&out).copied() else { continue };
        for (x, part) in step(cx, n, node, out, slope)? {
            let sum = match slopes.get(&x) {
                Some(&so_far) => cx.plus(so_far, part)?,
                None => part,
            };
            slopes.insert(x, sum);
        }
    }
    let one = |cx: &mut Cx<'a>, x: &ValueId| match slopes.get(x) {
        Some(&slope) => Ok(slope.into()),
        None => {
            let (shape, dtype) = (cx.shape(*x)?, cx.dtype(*x)?);
            cx.full(&shape, 0.0, dtype).map(Val::from)
        }
    };
    xs.iter().map(|x| one(cx, x)).collect()
}

/// The nodes through which `y` depends on `xs` otherwise than through `fixed`, operands first.
fn between(cx: &Cx<'_>, xs: &[ValueId], fixed: &[ValueId], y: ValueId) -> Result<Vec<Node>> {
    let mut reached: HashSet<ValueId> = xs.iter().copied().collect();
    let mut path = Vec::new();
    // Nodes are in the order in which they were added, after their operands.
    for (_, node) in cx.frame()?.graph.nodes() {
        if node.inputs.iter().flatten().any(|v| reached.contains(v)) {
            reached.extend(node.outputs.iter().filter(|v| !fixed.contains(v) && !xs.contains(v)));
            path.push(node.clone());
        }
    }
    let mut wanted = HashSet::from([y]);
    path.reverse();
    path.retain(|node| {
        let used = node.outputs.iter().any(|v| wanted.contains(v) && reached.contains(v) && !xs.contains(v));
        if used {
            wanted.extend(node.inputs.iter().flatten());
        }
        used
    });
    path.reverse();
    Ok(path)
}

/// What a node passes on to each of its operands of the slope at its result.
fn step(
    cx: &mut Cx<'_>,
    n: &NodeView<'_>,
    node: &Node,
    out: ValueId,
    slope: ValueId,
) -> Result<Vec<(ValueId, ValueId)>> {
    let operands: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
    let unknown = || n.error(format!("{} has no derivative here", node.op.name()));
    match (&node.op, operands.as_slice()) {
        (Op::Binary(o), &[a, b]) => {
            let [da, db] = binary(cx, o.function, [a, b], out, slope)?.ok_or_else(unknown)?;
            Ok(vec![(a, summed(cx, da, a)?), (b, summed(cx, db, b)?)])
        }
        (Op::Unary(o), &[x]) => {
            let local = unary(cx, o.function, x, out)?.ok_or_else(unknown)?;
            Ok(vec![(x, cx.times(slope, local)?)])
        }
        (Op::MatMul(_), &[a, b]) if cx.rank(a)? >= 2 && cx.rank(b)? >= 2 => {
            let (ra, rb) = (cx.rank(a)?, cx.rank(b)?);
            let (at, bt) = (cx.swap_axes(a, ra - 2, ra - 1)?, cx.swap_axes(b, rb - 2, rb - 1)?);
            let (da, db) = (cx.matmul(slope, bt)?, cx.matmul(at, slope)?);
            Ok(vec![(a, summed(cx, da, a)?), (b, summed(cx, db, b)?)])
        }
        (Op::Reshape(_), &[x]) => {
            let shape = cx.shape(x)?;
            Ok(vec![(x, cx.reshape(slope, &shape)?)])
        }
        (Op::Expand(_), &[x]) => Ok(vec![(x, summed(cx, slope, x)?)]),
        (Op::Transpose(o), &[x]) => {
            let rank = cx.rank(x)?;
            let axes = cx.axes(&o.perm, rank)?;
            let back: Vec<usize> = (0..rank).filter_map(|i| axes.iter().position(|&p| p == i)).collect();
            Ok(vec![(x, cx.transpose(slope, &back)?)])
        }
        (Op::Cast(_), &[x]) => {
            let to = cx.dtype(x)?;
            Ok(vec![(x, cx.cast(slope, to)?)])
        }
        (Op::Reduce(o), &[x]) if matches!(o.function, ReduceFn::Sum | ReduceFn::Mean) => {
            let shape = cx.shape(x)?;
            let mask = o.mask(shape.len()).ok_or_else(unknown)?;
            let kept: Vec<Dim> = shape
                .iter()
                .zip(&mask)
                .map(|(d, &gone)| if gone { Dim::constant(1) } else { d.clone() })
                .collect();
            let mut dx = cx.reshape(slope, &kept)?;
            if o.function == ReduceFn::Mean {
                let gone: Vec<Dim> =
                    shape.iter().zip(&mask).filter(|(_, gone)| **gone).map(|(d, _)| d.clone()).collect();
                let count = cx.dim(frit_ir::types::product(&gone))?;
                let count = cx.dims_value(&[count])?;
                let dtype = cx.dtype(x)?;
                let count = cx.cast(count, dtype)?;
                let count = cx.reshape(count, &[])?;
                dx = cx.over(dx, count)?;
            }
            Ok(vec![(x, cx.expand_to(dx, &shape)?)])
        }
        _ => Err(unknown()),
    }
}

/// The slope summed over what broadcasting repeated of the operand.
fn summed(cx: &mut Cx<'_>, slope: ValueId, operand: ValueId) -> Result<ValueId> {
    let (from, to) = (cx.shape(slope)?, cx.shape(operand)?);
    let extra = from.len().saturating_sub(to.len());
    let repeated: Vec<usize> = from
        .iter()
        .enumerate()
        .filter(|(i, d)| i.checked_sub(extra).and_then(|i| to.get(i)).is_none_or(|own| own.is(1) && !d.is(1)))
        .map(|(i, _)| i)
        .collect();
    if repeated.is_empty() {
        return Ok(slope);
    }
    let sum = cx.reduce(ReduceFn::Sum, slope, &repeated, true)?;
    cx.reshape(sum, &to)
}

fn binary(
    cx: &mut Cx<'_>,
    f: BinaryFn,
    [a, b]: [ValueId; 2],
    out: ValueId,
    slope: ValueId,
) -> Result<Option<[ValueId; 2]>> {
    Ok(Some(match f {
        BinaryFn::Add => [slope, slope],
        BinaryFn::Sub => [slope, cx.unary(UnaryFn::Neg, slope)?],
        BinaryFn::Mul => [cx.times(slope, b)?, cx.times(slope, a)?],
        BinaryFn::Div => {
            let da = cx.over(slope, b)?;
            let db = cx.times(da, out)?;
            [da, cx.unary(UnaryFn::Neg, db)?]
        }
        BinaryFn::Pow => {
            // b a^(b - 1), and a^b log a
            let less = cx.with_number(BinaryFn::Add, b, -1.0)?;
            let power = cx.binary(BinaryFn::Pow, a, less)?;
            let by_a = cx.times(b, power)?;
            let log = cx.unary(UnaryFn::Log, a)?;
            let by_b = cx.times(out, log)?;
            [cx.times(slope, by_a)?, cx.times(slope, by_b)?]
        }
        _ => return Ok(None),
    }))
}

/// The derivative at x, of which `y` is the function's value.
fn unary(cx: &mut Cx<'_>, f: UnaryFn, x: ValueId, y: ValueId) -> Result<Option<ValueId>> {
    let one_minus = |cx: &mut Cx<'_>, v: ValueId| {
        let minus = cx.unary(UnaryFn::Neg, v)?;
        cx.with_number(BinaryFn::Add, minus, 1.0)
    };
    Ok(Some(match f {
        UnaryFn::Neg => {
            let (shape, dtype) = (cx.shape(x)?, cx.dtype(x)?);
            cx.full(&shape, -1.0, dtype)?
        }
        UnaryFn::Exp => y,
        UnaryFn::Log => cx.unary(UnaryFn::Reciprocal, x)?,
        UnaryFn::Sqrt => {
            let inverse = cx.unary(UnaryFn::Reciprocal, y)?;
            cx.with_number(BinaryFn::Mul, inverse, 0.5)?
        }
        UnaryFn::Reciprocal => {
            let square = cx.times(y, y)?;
            cx.unary(UnaryFn::Neg, square)?
        }
        UnaryFn::Tanh => {
            let square = cx.times(y, y)?;
            one_minus(cx, square)?
        }
        UnaryFn::Sigmoid => {
            let rest = one_minus(cx, y)?;
            cx.times(y, rest)?
        }
        UnaryFn::Relu => cx.unary(UnaryFn::Sign, y)?,
        UnaryFn::Abs => cx.unary(UnaryFn::Sign, x)?,
        UnaryFn::Sin => cx.unary(UnaryFn::Cos, x)?,
        UnaryFn::Cos => {
            let sine = cx.unary(UnaryFn::Sin, x)?;
            cx.unary(UnaryFn::Neg, sine)?
        }
        UnaryFn::Softplus => cx.unary(UnaryFn::Sigmoid, x)?,
        _ => return Ok(None),
    }))
}
