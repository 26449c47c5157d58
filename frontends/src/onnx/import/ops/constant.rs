//! Values that need no data: constants, shapes, ranges, diagonals, and values passed on as they are.

use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use crate::onnx::read::dtype_of;
use crate::onnx::schema::DataType;
use crate::onnx::value::Strings;
use frit_ir::op::{BinaryFn, Range, UnaryFn};
use frit_ir::types::product;
use frit_ir::{DType, Dim, Tensor, ValueId};

pub const ROWS: &[Row] = &[
    ("", "Identity", 1, identity),
    ("", "Constant", 1, constant),
    ("", "ConstantOfShape", 9, constant_of_shape),
    ("", "Shape", 1, shape),
    ("", "Size", 1, size),
    ("", "Range", 11, range),
    ("", "EyeLike", 9, eye_like),
    ("", "OneHot", 9, one_hot),
];

/// The element type of an attribute, which may be left out.
pub fn dtype_attr(n: &NodeView<'_>, name: &'static str) -> Result<Option<DType>> {
    let Some(number) = n.int(name)? else { return Ok(None) };
    let known = i32::try_from(number).ok().and_then(|i| DataType::try_from(i).ok()).and_then(dtype_of);
    known
        .map(Some)
        .ok_or_else(|| n.error(format!("attribute `{name}`: element type {number} is not supported")))
}

fn identity<'a>(_: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    Ok(vec![n.val(0)?.clone()])
}

fn constant<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    if let Some(t) = n.tensor_attr("value")? {
        return Ok(vec![cx.read(t)?]);
    }
    if let Some(t) = n.sparse_attr("sparse_value")? {
        return Ok(vec![cx.read_sparse(t)?]);
    }
    let strings = |shape: Vec<usize>, values: Vec<&str>| {
        Val::Strings(Strings { shape, values: values.into_iter().map(str::to_owned).collect() })
    };
    if let Some(s) = n.string("value_string")? {
        return Ok(vec![strings(vec![], vec![s])]);
    }
    if let Some(all) = n.strings("value_strings")? {
        return Ok(vec![strings(vec![all.len()], all)]);
    }
    let data = if let Some(x) = n.float("value_float")? {
        Tensor::from_f64(DType::F32, &[], &[x])
    } else if let Some(all) = n.floats("value_floats")? {
        Tensor::from_f64(DType::F32, &[all.len()], &all)
    } else if let Some(x) = n.int("value_int")? {
        Tensor::from_i64(DType::I64, &[], &[x])
    } else if let Some(all) = n.ints("value_ints")? {
        Tensor::from_i64(DType::I64, &[all.len()], &all)
    } else {
        return Err(n.error("no attribute holds the value"));
    };
    let data = data.map_err(|e| cx.refused(e))?;
    Ok(vec![cx.constant(data)?.into()])
}

fn constant_of_shape<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let shape = cx.dims(n, 0)?;
    let one = match n.tensor_attr("value")? {
        Some(t) => match cx.read(t)? {
            Val::Tensor(v) => v,
            other => {
                return Err(n.error(format!("attribute `value`: expected a number, got {}", other.kind())));
            }
        },
        None => cx.scalar(DType::F32, 0.0)?,
    };
    let data = cx.known(one).filter(|t| t.len() == 1);
    let data = data.ok_or_else(|| n.error("attribute `value`: expected one number"))?;
    let value = data.to_f64_vec().first().copied().unwrap_or(0.0);
    // Numbers beyond what a double holds are kept as they are.
    if Tensor::scalar(data.dtype(), value).bytes() == data.bytes() {
        return Ok(vec![cx.full(&shape, value, data.dtype())?.into()]);
    }
    let one = cx.reshape(one, &[])?;
    Ok(vec![cx.expand_to(one, &shape)?.into()])
}

fn shape<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let shape = match n.val(0)? {
        Val::Strings(s) => s.shape.iter().copied().map(Dim::from).collect(),
        _ => cx.shape(n.tensor(0)?)?,
    };
    let rank = i64::try_from(shape.len()).unwrap_or(i64::MAX);
    let resolve = |i: i64| usize::try_from(if i < 0 { i.saturating_add(rank) } else { i }.clamp(0, rank));
    let start = resolve(n.int_or("start", 0)?).unwrap_or(0);
    let end = resolve(n.int_or("end", rank)?).unwrap_or(0).max(start);
    let part = shape.get(start..end).unwrap_or(&[]).to_vec();
    Ok(vec![cx.dims_value(&part)?.into()])
}

fn size<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let shape = match n.val(0)? {
        Val::Strings(s) => s.shape.iter().copied().map(Dim::from).collect(),
        _ => cx.shape(n.tensor(0)?)?,
    };
    let count = cx.dim(product(&shape))?;
    let v = cx.dims_value(&[count])?;
    Ok(vec![cx.reshape(v, &[])?.into()])
}

fn range<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (start, limit, step) = (n.tensor(0)?, n.tensor(1)?, n.tensor(2)?);
    let dtype = cx.dtype(start)?;
    let scalar = |cx: &mut Cx<'a>, v: ValueId| cx.reshape(v, &[]);
    let (start, limit, step) = (scalar(cx, start)?, scalar(cx, limit)?, scalar(cx, step)?);
    let by = cx.known(step).filter(|_| dtype.is_int()).and_then(|t| t.to_i64_vec().first().copied());
    if by == Some(0) {
        return Err(n.error("the step is 0"));
    }
    if let Some(by) = by {
        let ends = (cx.computed_dims(start), cx.computed_dims(limit));
        if let (Ok(a), Ok(b)) = ends
            && let ([a], [b]) = (a.as_slice(), b.as_slice())
        {
            // A limit on the wrong side of the start is the start.
            let limit = if by > 0 { cx.larger(b, a)? } else { cx.smaller(b, a)? };
            return Ok(vec![cx.emit(Range { start: a.clone(), limit, step: by, dtype }, &[])?.into()]);
        }
    }
    // max(0, ceil((limit - start) / step)) elements, computed in double precision
    let wide = |cx: &mut Cx<'a>, v: ValueId| cx.cast(v, DType::F64);
    let (a, b, s) = (wide(cx, start)?, wide(cx, limit)?, wide(cx, step)?);
    let span = cx.minus(b, a)?;
    let count = cx.over(span, s)?;
    let count = cx.unary(UnaryFn::Ceil, count)?;
    let count = cx.unary(UnaryFn::Relu, count)?;
    let count = cx.cast(count, DType::I64)?;
    let count = cx.computed_dims(count)?;
    let [count] = count.as_slice() else { return Err(n.error("start, limit and step are scalars")) };
    let position = cx.iota(count, dtype)?;
    let steps = cx.times(position, step)?;
    Ok(vec![cx.plus(steps, start)?.into()])
}

fn eye_like<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let ty = cx.ty(n.tensor(0)?)?;
    let [rows, columns] = ty.shape.as_slice() else {
        return Err(n.error(format!("expected rank 2, got {ty}")));
    };
    let dtype = dtype_attr(n, "dtype")?.unwrap_or(ty.dtype);
    let k = n.int_or("k", 0)?;
    let row = cx.dim(rows.add_const(k))?;
    let row = cx.emit(Range { start: Dim::constant(k), limit: row, step: 1, dtype: DType::I64 }, &[])?;
    let row = cx.unsqueeze(row, &[1])?;
    let column = cx.iota(columns, DType::I64)?;
    let on = cx.binary(BinaryFn::Equal, row, column)?;
    Ok(vec![cx.cast(on, dtype)?.into()])
}

fn one_hot<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (indices, values) = (n.tensor(0)?, n.tensor(2)?);
    let indices = cx.cast(indices, DType::I64)?;
    let depth = n.tensor(1)?;
    let depth = cx.cast(depth, DType::I64)?;
    let depth = cx.computed_dims(depth)?;
    let [depth] = depth.as_slice() else { return Err(n.error("the depth is one number")) };
    let rank = cx.rank(indices)?;
    let axis = cx.axis(n.int_or("axis", -1)?, rank + 1)?;
    let axis_i = i64::try_from(axis).unwrap_or(0);
    let class = cx.unsqueeze(indices, &[axis_i])?;
    // Negative indices count from the end; those beyond the depth mark nothing.
    let zero = cx.scalar(DType::I64, 0.0)?;
    let below = cx.binary(BinaryFn::Less, class, zero)?;
    let size = cx.dims_value(std::slice::from_ref(depth))?;
    let size = cx.reshape(size, &[])?;
    let shifted = cx.plus(class, size)?;
    let class = cx.choose(below, shifted, class)?;
    let mut along = vec![Dim::constant(1); rank + 1];
    if let Some(d) = along.get_mut(axis) {
        *d = depth.clone();
    }
    let position = cx.iota(depth, DType::I64)?;
    let position = cx.reshape(position, &along)?;
    let on = cx.binary(BinaryFn::Equal, class, position)?;
    let one = Dim::constant(1);
    let off_value = cx.slice(values, 0, &Dim::constant(0), &one)?;
    let on_value = cx.slice(values, 0, &one, &Dim::constant(2))?;
    Ok(vec![cx.choose(on, on_value, off_value)?.into()])
}
