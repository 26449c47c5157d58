//! Writing elements and slices of one tensor to places of another that index tensors name. Reading by index is
//! in `gather.rs`.

use super::elements::{at, each_index, flat, strides};
use super::gather::resolve;
use super::*;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::{attr_enum, op_struct};

const OPERANDS: &[Operand] = &[one("data"), one("indices"), one("updates")];

attr_enum! {
    /// What becomes of an element that an update meets.
    pub enum ScatterReduction {
        /// It is replaced; of several updates of one place the last stays.
        None = "none",
        /// The update is added.
        Add = "add",
        /// It is multiplied with the update.
        Mul = "mul",
        /// The larger of the two stays.
        Max = "max",
        /// The smaller of the two stays.
        Min = "min",
    }
}

op_struct! {
    /// `data` with single elements replaced, or combined with updates: the update at a position goes to that
    /// position of data, but for the axis, where the index says. Negative indices count from the end.
    /// ONNX ScatterElements-18.
    pub struct ScatterElements = "ScatterElements" {
        /// The axis that indices refer to.
        pub axis: i64 = 0,
        /// How an update is combined with what is there.
        pub reduction: ScatterReduction = ScatterReduction::None,
    }
}

op_struct! {
    /// `data` with slices replaced, or combined with updates: the last axis of `indices` holds the first
    /// coordinates of a place in data, and the update's other axes are the slice there. ONNX ScatterND-18.
    pub struct ScatterND = "ScatterND" {
        /// How an update is combined with what is there.
        pub reduction: ScatterReduction = ScatterReduction::None,
    }
}

/// False when two extents differ whatever the symbols' values.
pub(super) fn may_equal(a: &Dim, b: &Dim) -> bool {
    a.sub(b).ok().and_then(|d| d.as_const()).is_none_or(|d| d == 0)
}

fn check(cx: &Infer<'_>, reduction: ScatterReduction) -> Result<(), OpError> {
    let data = cx.ty(0)?;
    if !matches!(cx.ty(1)?.dtype, DType::I32 | DType::I64) {
        return Err(cx.reject(1, "indices of type i32 or i64"));
    }
    cx.expect_dtype(2, data.dtype)?;
    if reduction != ScatterReduction::None && data.dtype == DType::Bool {
        return Err(cx.reject(0, "a number type, which updates can be combined with"));
    }
    Ok(())
}

impl OpDef for ScatterElements {
    fn operands(&self) -> &'static [Operand] {
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("ScatterElements", 18)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let (data, indices, updates) = (cx.ty(0)?, cx.ty(1)?, cx.ty(2)?);
        check(cx, self.reduction)?;
        let axis = cx.axis("axis", self.axis, data.rank())?;
        if indices.rank() != data.rank() {
            return Err(cx.reject(1, format!("rank {}, that of the data", data.rank())));
        }
        let fits = |(a, b): (&Dim, &Dim)| may_equal(a, b);
        if updates.rank() != indices.rank() || !updates.shape.iter().zip(&indices.shape).all(fits) {
            return Err(cx.reject(2, format!("the shape of the indices, {:?}", indices.shape)));
        }
        for (i, (x, n)) in data.shape.iter().zip(&indices.shape).enumerate() {
            if i != axis && n.sub(x)?.as_const().is_some_and(|d| d > 0) {
                return Err(cx.reject(1, format!("at most {x} along axis {i}")));
            }
        }
        Ok(vec![data.clone()])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (data, indices, updates) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
        if indices.shape() != updates.shape() {
            return Err(cx.bad_data(format!("{indices:?} for updates of shape {:?}", updates.shape())));
        }
        let axis = cx.axis(self.axis, data.shape().len())?;
        let to = strides(data.shape());
        let numbers = indices.to_i64_vec();
        let mut places = Vec::with_capacity(numbers.len());
        each_index(indices.shape(), |index| {
            let mut place = index.to_vec();
            for (i, (p, &bound)) in place.iter_mut().zip(data.shape()).enumerate() {
                if i == axis {
                    let position = places.len();
                    *p = resolve(cx, position, at(&numbers, position), bound)?;
                } else if *p >= bound {
                    return Err(cx.bad_data(format!("indices reach {p} along axis {i} of extent {bound}")));
                }
            }
            places.push(flat(&place, &to));
            Ok(())
        })?;
        Ok(vec![scatter(data, updates, &places, 1, self.reduction)?])
    }
}

impl OpDef for ScatterND {
    fn operands(&self) -> &'static [Operand] {
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("ScatterND", 18)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let (data, indices, updates) = (cx.ty(0)?, cx.ty(1)?, cx.ty(2)?);
        check(cx, self.reduction)?;
        let Some((depth, places)) = indices.shape.split_last() else {
            return Err(cx.reject(1, "rank 1 or more"));
        };
        let rank = data.rank();
        let slice = depth
            .as_fixed()
            .and_then(|n| data.shape.get(n..))
            .ok_or_else(|| cx.reject(1, format!("a fixed last extent of at most {rank}")))?;
        let want: Vec<&Dim> = places.iter().chain(slice).collect();
        if updates.rank() != want.len() || !updates.shape.iter().zip(&want).all(|(a, b)| may_equal(a, b)) {
            return Err(cx.reject(2, format!("shape {want:?}")));
        }
        Ok(vec![data.clone()])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (data, indices, updates) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
        let depth = indices.shape().last().copied().unwrap_or(0);
        let slice: usize = data.shape().iter().skip(depth).product();
        let to = strides(data.shape());
        let places = places(cx, indices, data.shape(), &to, depth)?;
        if places.len().checked_mul(slice) != Some(updates.len()) {
            let why = format!("{} slices of {slice} elements, updates of {}", places.len(), updates.len());
            return Err(cx.bad_data(why));
        }
        Ok(vec![scatter(data, updates, &places, slice, self.reduction)?])
    }
}

/// For each vector along the last axis of `indices`, the position of the first element of the slice that it names.
pub(super) fn places(
    cx: &Eval<'_>,
    indices: &Tensor,
    bounds: &[usize],
    to: &[usize],
    depth: usize,
) -> Result<Vec<usize>, OpError> {
    let numbers = indices.to_i64_vec();
    let count: usize = indices.shape().iter().rev().skip(1).product();
    (0..count)
        .map(|n| {
            let mut place = 0;
            for (i, (&bound, &step)) in bounds.iter().zip(to).take(depth).enumerate() {
                let position = n * depth + i;
                place += resolve(cx, position, at(&numbers, position), bound)? * step;
            }
            Ok(place)
        })
        .collect()
}

/// `data` with runs of `run` elements of `updates` in order combined into the runs that begin at `places`.
fn scatter(
    data: &Tensor,
    updates: &Tensor,
    places: &[usize],
    run: usize,
    reduction: ScatterReduction,
) -> Result<Tensor, OpError> {
    let dtype = data.dtype();
    if reduction == ScatterReduction::None {
        let size = run * dtype.size();
        let mut out = data.bytes().to_vec();
        for (update, place) in updates.bytes().chunks_exact(size.max(1)).zip(places) {
            let start = place * dtype.size();
            if let Some(to) = out.get_mut(start..start + size) {
                to.copy_from_slice(update);
            }
        }
        return Ok(Tensor::from_bytes(dtype, data.shape(), &out)?);
    }
    fn combine<T: Copy + Default>(
        mut out: Vec<T>,
        new: &[T],
        places: &[usize],
        run: usize,
        f: impl Fn(T, T) -> T,
    ) -> Vec<T> {
        for (n, &place) in places.iter().enumerate() {
            for i in 0..run {
                if let Some(x) = out.get_mut(place + i) {
                    *x = f(*x, at(new, n * run + i));
                }
            }
        }
        out
    }
    Ok(if dtype.is_float() {
        let f = |a: f64, b: f64| match reduction {
            ScatterReduction::Add => a + b,
            ScatterReduction::Mul => a * b,
            // A NaN stays.
            _ if a.is_nan() || b.is_nan() => f64::NAN,
            ScatterReduction::Max => a.max(b),
            ScatterReduction::Min => a.min(b),
            ScatterReduction::None => b,
        };
        let out = combine(data.to_f64_vec(), &updates.to_f64_vec(), places, run, f);
        Tensor::from_f64(dtype, data.shape(), &out)?
    } else {
        let unsigned = dtype == DType::U64;
        let less = |a: i64, b: i64| if unsigned { (a as u64) < (b as u64) } else { a < b };
        let f = |a: i64, b: i64| match reduction {
            ScatterReduction::Add => a.wrapping_add(b),
            ScatterReduction::Mul => a.wrapping_mul(b),
            ScatterReduction::Max => {
                if less(a, b) {
                    b
                } else {
                    a
                }
            }
            ScatterReduction::Min => {
                if less(b, a) {
                    b
                } else {
                    a
                }
            }
            ScatterReduction::None => b,
        };
        let out = combine(data.to_i64_vec(), &updates.to_i64_vec(), places, run, f);
        Tensor::from_i64(dtype, data.shape(), &out)?
    })
}
