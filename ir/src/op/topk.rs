//! The largest or smallest elements along an axis, and the order of elements that sorting ops share. Positions
//! of single extremes are in `arg.rs`.

use super::elements::at;
use super::softmax::for_lanes;
use super::*;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::op_struct;
use std::cmp::Ordering;

op_struct! {
    /// The k largest (or smallest) elements of each lane along an axis, best first, and their positions as i64.
    /// Of equal elements the first comes first; a NaN counts as largest. ONNX TopK-11, with k as an attribute.
    pub struct TopK = "TopK" {
        /// So many elements of each lane.
        pub k: Dim,
        /// The axis.
        pub axis: i64 = -1,
        /// The largest, not the smallest.
        pub largest: bool = true,
    }
}

/// How two elements of a tensor, named by position, compare; a NaN is above everything.
pub(super) fn order(x: &Tensor) -> Box<dyn Fn(usize, usize) -> Ordering> {
    if x.dtype().is_float() {
        let v = x.to_f64_vec();
        return Box::new(move |a, b| {
            let (a, b) = (at(&v, a), at(&v, b));
            a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
        });
    }
    let v = x.to_i64_vec();
    if x.dtype() == DType::U64 {
        return Box::new(move |a, b| (at(&v, a) as u64).cmp(&(at(&v, b) as u64)));
    }
    Box::new(move |a, b| at(&v, a).cmp(&at(&v, b)))
}

impl OpDef for TopK {
    fn operands(&self) -> &'static [Operand] {
        const X: &[Operand] = &[one("x")];
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("TopK", 11)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.ty(0)?;
        let axis = cx.axis("axis", self.axis, x.rank())?;
        let mut shape = x.shape.clone();
        if let Some(extent) = shape.get_mut(axis) {
            let short = extent.sub(&self.k)?.as_const().is_some_and(|d| d < 0);
            if short || self.k.as_const().is_some_and(|k| k < 0) {
                return Err(cx.bad_attr("k", format!("{} elements of an axis of extent {extent}", self.k)));
            }
            *extent = self.k.clone();
        }
        let positions = TensorType { dtype: DType::I64, shape: shape.clone() };
        Ok(vec![TensorType { dtype: x.dtype, shape }, positions])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = cx.input(0)?;
        let (dtype, shape) = cx.output(0)?;
        let axis = cx.axis(self.axis, shape.len())?;
        let (k, extent) = (at(shape, axis), at(x.shape(), axis));
        if k > extent {
            return Err(cx.bad_data(format!("{k} elements of an axis of extent {extent}")));
        }
        // The best of each lane, lane by lane; both results are lanes of k.
        let compare = order(x);
        let mut best: Vec<(usize, usize)> = Vec::new();
        for_lanes(x.shape(), axis, |lane| {
            let mut ranked: Vec<(usize, usize)> = lane.enumerate().collect();
            ranked.sort_by(|&(m, a), &(n, b)| {
                let by_value = if self.largest { compare(b, a) } else { compare(a, b) };
                by_value.then(m.cmp(&n))
            });
            best.extend(ranked.into_iter().take(k));
        });
        let size = dtype.size();
        let mut values = vec![0u8; Tensor::zeros(dtype, shape)?.bytes().len()];
        let mut positions = vec![0i64; Tensor::zeros(dtype, shape)?.len()];
        let mut best = best.into_iter();
        for_lanes(shape, axis, |lane| {
            for (to, (position, from)) in lane.zip(best.by_ref().take(k)) {
                let source = x.bytes().get(from * size..(from + 1) * size);
                if let (Some(slot), Some(source)) = (values.get_mut(to * size..(to + 1) * size), source) {
                    slot.copy_from_slice(source);
                }
                if let Some(slot) = positions.get_mut(to) {
                    *slot = i64::try_from(position).unwrap_or(i64::MAX);
                }
            }
        });
        Ok(vec![Tensor::from_bytes(dtype, shape, &values)?, Tensor::from_slice(shape, &positions)?])
    }
}
