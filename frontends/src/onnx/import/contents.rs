//! What small integer tensors hold, as exact numbers over dimension symbols, carried through the ops that models
//! compute shapes with. Reading those numbers off as dims, and symbols for unknown ones, belongs to `cx.rs`.

use super::num::{Num, Ranges};
use frit_ir::interp;
use frit_ir::op::{BinaryFn, ReduceFn, UnaryFn};
use frit_ir::{Bindings, DType, Op, Tensor, TensorType};
use std::sync::Arc;

/// Elements in row-major order.
pub type Contents = Arc<[Num]>;

/// Tensors of more elements are data, not shapes.
pub const MAX_ELEMENTS: usize = 1024;

/// Number of elements, when the type is one whose contents are kept.
pub fn small(ty: &TensorType) -> Option<usize> {
    let shape = ty.fixed_shape()?;
    frit_ir::tensor::element_count(&shape).filter(|&n| n <= MAX_ELEMENTS)
}

/// The contents of a constant.
pub fn of_tensor(t: &Tensor) -> Option<Contents> {
    if t.len() > MAX_ELEMENTS {
        return None;
    }
    if t.dtype().is_float() {
        return t.to_f64_vec().into_iter().map(Num::float).collect();
    }
    if t.dtype() == DType::U64
        && t.as_slice::<u64>().is_ok_and(|v| v.iter().any(|&x| i64::try_from(x).is_err()))
    {
        return None;
    }
    Some(t.to_i64_vec().into_iter().map(Num::int).collect())
}

/// The constant of these contents, when all are integers without symbols and the type is not a float one.
pub fn to_tensor(ty: &TensorType, contents: &Contents) -> Option<Tensor> {
    if ty.dtype.is_float() {
        return None;
    }
    let numbers: Vec<i64> = contents.iter().map(Num::as_const).collect::<Option<_>>()?;
    Tensor::from_i64(ty.dtype, &ty.fixed_shape()?, &numbers).ok()
}

/// An operand: its type and what it holds.
pub struct Operand<'a> {
    /// Its type.
    pub ty: &'a TensorType,
    /// What it holds, when known.
    pub contents: Option<Contents>,
}

/// What is known of a result's elements.
pub type Partial = Vec<Option<Num>>;

/// What an op's results hold, an element None where that does not follow from what the operands hold.
pub fn derive(
    op: &Op,
    inputs: &[Option<Operand<'_>>],
    types: &[TensorType],
    of: Ranges<'_>,
) -> Vec<Option<Partial>> {
    let none = || vec![None; types.len()];
    let Some(first) = types.first() else { return none() };
    if types.iter().any(|t| small(t).is_none()) {
        return none();
    }
    let held = |i: usize| inputs.get(i).and_then(Option::as_ref).and_then(|o| o.contents.clone());
    let one = |c: Option<Partial>| vec![c];
    match op {
        Op::ShapeOf(o) => one(Some(o.dims.iter().cloned().map(Num::extent).map(Some).collect())),
        Op::ConstantOfShape(o) => one(small(first).map(|n| vec![Num::float(o.value); n])),
        Op::Range(o) => one(small(first).map(|n| {
            let at = |i: usize| o.start.add_const(i64::try_from(i).ok()?.checked_mul(o.step)?).ok();
            (0..n).map(|i| at(i).map(Num::from)).collect()
        })),
        Op::Unary(o) => one(held(0).map(|x| x.iter().map(|x| unary(o.function, x, of)).collect())),
        Op::Binary(o) => one(pairs(inputs, first)
            .map(|pairs| pairs.iter().map(|(x, y)| binary(o.function, x, y, inputs, of)).collect())),
        Op::Cast(o) => one(held(0).map(|x| x.iter().map(|x| cast(x, inputs, o.to, of)).collect())),
        Op::Where(_) => one(choose(inputs, first)),
        Op::Reduce(o) => one(reduce(o, inputs, first, of)),
        _ => movement(op, inputs, types).unwrap_or_else(none),
    }
}

fn unary(f: UnaryFn, x: &Num, of: Ranges<'_>) -> Option<Num> {
    let zero = Num::int(0);
    match f {
        UnaryFn::Neg => zero.sub(x),
        UnaryFn::Floor => x.floor(),
        UnaryFn::Ceil => x.ceil(),
        UnaryFn::Round => x.as_dim().map(|_| x.clone()),
        UnaryFn::Relu => x.max(&zero, of),
        UnaryFn::Abs if x.compare(&zero, of).at_least == Some(true) => Some(x.clone()),
        UnaryFn::Not => x.as_const().map(|b| Num::int(i64::from(b == 0))),
        _ => None,
    }
}

fn binary(f: BinaryFn, x: &Num, y: &Num, inputs: &[Option<Operand<'_>>], of: Ranges<'_>) -> Option<Num> {
    let float = inputs.first().and_then(Option::as_ref).is_some_and(|o| o.ty.dtype.is_float());
    let truth = |b: Option<bool>| b.map(|b| Num::int(i64::from(b)));
    let order = || x.compare(y, of);
    match f {
        BinaryFn::Add => x.add(y),
        BinaryFn::Sub => x.sub(y),
        BinaryFn::Mul => x.mul(y),
        BinaryFn::Div if float => x.div(y, of),
        BinaryFn::Div => x.div(y, of)?.truncate(of),
        BinaryFn::Mod if !float => x.modulo(y, of),
        BinaryFn::Min => x.min(y, of),
        BinaryFn::Max => x.max(y, of),
        BinaryFn::Equal => truth(order().equal),
        BinaryFn::GreaterOrEqual => truth(order().at_least),
        BinaryFn::LessOrEqual => truth(order().at_most),
        BinaryFn::Less => truth(order().at_least.map(|b| !b)),
        BinaryFn::Greater => truth(order().at_most.map(|b| !b)),
        BinaryFn::And => {
            let (a, b) = (x.as_const(), y.as_const());
            if a == Some(0) || b == Some(0) { Some(Num::int(0)) } else { a.zip(b).map(|_| Num::int(1)) }
        }
        BinaryFn::Or => {
            let (a, b) = (x.as_const(), y.as_const());
            let yes = |v: Option<i64>| v.is_some_and(|v| v != 0);
            if yes(a) || yes(b) { Some(Num::int(1)) } else { a.zip(b).map(|_| Num::int(0)) }
        }
        BinaryFn::Xor => Some(Num::int(i64::from((x.as_const()? != 0) != (y.as_const()? != 0)))),
        _ => None,
    }
}

fn cast(x: &Num, inputs: &[Option<Operand<'_>>], to: DType, of: Ranges<'_>) -> Option<Num> {
    let from = inputs.first().and_then(Option::as_ref).map(|o| o.ty.dtype)?;
    match to {
        DType::Bool => {
            let equal = x.compare(&Num::int(0), of).equal?;
            Some(Num::int(i64::from(!equal)))
        }
        DType::I32 | DType::I64 if from.is_float() => x.truncate(of),
        DType::I32 | DType::I64 => Some(x.clone()),
        // Integers up to 2^24 and 2^53 are exact; extents are below.
        DType::F32 | DType::F64 => Some(x.clone()),
        _ => None,
    }
}

/// The operand of each element of the result, under broadcasting.
fn spread(operand: &Operand<'_>, result: &TensorType) -> Option<Vec<Num>> {
    let contents = operand.contents.as_ref()?;
    let (from, to) = (operand.ty.fixed_shape()?, result.fixed_shape()?);
    frit_ir::op::broadcast_indices(&from, &to).map(|i| contents.get(i).cloned()).collect()
}

fn pairs(inputs: &[Option<Operand<'_>>], result: &TensorType) -> Option<Vec<(Num, Num)>> {
    let [Some(x), Some(y)] = inputs else { return None };
    Some(spread(x, result)?.into_iter().zip(spread(y, result)?).collect())
}

fn choose(inputs: &[Option<Operand<'_>>], result: &TensorType) -> Option<Partial> {
    let [Some(condition), Some(x), Some(y)] = inputs else { return None };
    let (x, y) = (spread(x, result)?, spread(y, result)?);
    // Where both choices are the same, the condition does not matter.
    let conditions = match condition.contents {
        Some(_) => spread(condition, result)?.iter().map(Num::as_const).collect(),
        None => vec![None; x.len()],
    };
    let pick = |(c, (x, y)): (Option<i64>, (Num, Num))| match c {
        _ if x == y => Some(x),
        Some(c) => Some(if c != 0 { x } else { y }),
        None => None,
    };
    Some(conditions.into_iter().zip(x.into_iter().zip(y)).map(pick).collect())
}

fn reduce(
    op: &frit_ir::op::Reduce,
    inputs: &[Option<Operand<'_>>],
    result: &TensorType,
    of: Ranges<'_>,
) -> Option<Partial> {
    let x = inputs.first()?.as_ref()?;
    let contents = x.contents.as_ref()?;
    if x.ty.dtype == DType::Bool {
        return None;
    }
    let shape = x.ty.fixed_shape()?;
    let mask = op.mask(shape.len())?;
    // Every result element and the place of every element of x in it, found by broadcasting positions back.
    let kept: Vec<usize> = shape.iter().zip(&mask).map(|(&d, &m)| if m { 1 } else { d }).collect();
    let start = match op.function {
        ReduceFn::Sum => Some(Num::int(0)),
        ReduceFn::Prod => Some(Num::int(1)),
        ReduceFn::Max | ReduceFn::Min => None,
        _ => return None,
    };
    let mut out: Vec<Option<Num>> = vec![start; small(result)?];
    for (to, value) in frit_ir::op::broadcast_indices(&kept, &shape).zip(contents.iter()) {
        let slot = out.get_mut(to)?;
        *slot = Some(match (slot.take(), op.function) {
            (None, _) => value.clone(),
            (Some(a), ReduceFn::Sum) => a.add(value)?,
            (Some(a), ReduceFn::Prod) => a.mul(value)?,
            (Some(a), ReduceFn::Max) => a.max(value, of)?,
            (Some(a), _) => a.min(value, of)?,
        });
    }
    Some(out)
}

/// Which operands of an op give the elements of its results, each moved and none computed; the others are indices.
fn moved(op: &Op) -> Option<fn(usize) -> bool> {
    match op {
        Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Slice(_)
        | Op::Concat(_)
        | Op::Split(_)
        | Op::Expand(_)
        | Op::Tile(_) => Some(|_| true),
        Op::Gather(_) | Op::GatherElements(_) => Some(|i| i == 0),
        Op::Pad(p) if p.value == 0.0 => Some(|_| true),
        _ => None,
    }
}

/// Evaluates the op on numbered positions: each result element says where it comes from.
fn movement(op: &Op, inputs: &[Option<Operand<'_>>], types: &[TensorType]) -> Option<Vec<Option<Partial>>> {
    let is_data = moved(op)?;
    // Position 0 is padding.
    let mut pool = vec![Num::int(0)];
    let mut operands = Vec::with_capacity(inputs.len());
    for (i, operand) in inputs.iter().enumerate() {
        let Some(o) = operand else {
            operands.push(None);
            continue;
        };
        let contents = o.contents.as_ref()?;
        if is_data(i) {
            let first = i64::try_from(pool.len()).ok()?;
            let count = i64::try_from(contents.len()).ok()?;
            pool.extend(contents.iter().cloned());
            let numbered: Vec<i64> = (first..first + count).collect();
            operands.push(Some(Tensor::from_i64(DType::I64, &o.ty.fixed_shape()?, &numbered).ok()?));
        } else {
            operands.push(Some(to_tensor(o.ty, contents)?));
        }
    }
    let types: Vec<TensorType> =
        types.iter().map(|t| TensorType { dtype: DType::I64, shape: t.shape.clone() }).collect();
    let operands: Vec<Option<&Tensor>> = operands.iter().map(Option::as_ref).collect();
    let results =
        interp::evaluate(op, &operands, &types.iter().collect::<Vec<_>>(), &Bindings::new(), "").ok()?;
    let pick = |i: i64| usize::try_from(i).ok().and_then(|i| pool.get(i).cloned());
    Some(results.iter().map(|t| Some(t.to_i64_vec().into_iter().map(pick).collect())).collect())
}
