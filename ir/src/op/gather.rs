//! Picking elements by index tensors. Slicing by fixed offsets is in `slicing.rs`.

use super::elements::{at, flat, move_elements, strides};
use super::scatter::{may_equal, places};
use super::*;
use crate::dtype::DType;
use crate::op_struct;
use crate::tensor::element_count;

const OPERANDS: &[Operand] = &[one("data"), one("indices")];

fn expect_indices<'a>(cx: &Infer<'a>) -> Result<&'a TensorType, OpError> {
    let t = cx.ty(1)?;
    if matches!(t.dtype, DType::I32 | DType::I64) {
        Ok(t)
    } else {
        Err(cx.reject(1, "indices of type i32 or i64"))
    }
}

/// The position that an index means along an axis of extent `bound`; negative ones count from the end.
pub(super) fn resolve(cx: &Eval<'_>, position: usize, index: i64, bound: usize) -> Result<usize, OpError> {
    let n = i64::try_from(bound).unwrap_or(i64::MAX);
    let i = if index < 0 { index.saturating_add(n) } else { index };
    usize::try_from(i).ok().filter(|&i| i < bound).ok_or_else(|| {
        cx.bad_data(format!("index {index} at position {position} is outside 0..{bound} (or -{bound}..0)"))
    })
}

op_struct! {
    /// Picks whole slices of `data` along an axis: the axis is replaced by the axes of `indices`. Negative
    /// indices count from the end; one outside the extent is an error. ONNX Gather-13.
    pub struct Gather = "Gather" {
        /// The axis of `data` that indices refer to.
        pub axis: i64 = 0,
    }
}

impl OpDef for Gather {
    fn operands(&self) -> &'static [Operand] {
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Gather", 13)
    }
    fn takes_narrow(&self) -> bool {
        true
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let data = cx.ty(0)?;
        let indices = expect_indices(cx)?;
        let axis = cx.axis("axis", self.axis, data.rank())?;
        let mut shape: Vec<_> = data.shape.iter().take(axis).cloned().collect();
        shape.extend(indices.shape.iter().cloned());
        shape.extend(data.shape.iter().skip(axis + 1).cloned());
        Ok(vec![TensorType { dtype: data.dtype, shape }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (data, indices) = (cx.input(0)?, cx.input(1)?);
        let (_, shape) = cx.output(0)?;
        let axis = cx.axis(self.axis, data.shape().len())?;
        let rank = indices.shape().len();
        let (data_strides, index_strides) = (strides(data.shape()), strides(indices.shape()));
        let numbers = indices.to_i64_vec();
        let bound = at(data.shape(), axis);
        // Checked first, so that a bad index is an error even where nothing is picked by it.
        let picked: Vec<usize> =
            numbers.iter().enumerate().map(|(p, &i)| resolve(cx, p, i, bound)).collect::<Result<_, _>>()?;
        let out = move_elements(data, shape, &[], |index| {
            let (before, rest) = index.split_at(axis.min(index.len()));
            let (middle, after) = rest.split_at(rank.min(rest.len()));
            let mut from = before.to_vec();
            from.push(at(&picked, flat(middle, &index_strides)));
            from.extend_from_slice(after);
            Ok(Some(flat(&from, &data_strides)))
        })?;
        Ok(vec![out])
    }
}

op_struct! {
    /// Picks single elements: the result has the shape of `indices`, and its element at a position is the
    /// element of `data` there, but for the axis, where the index says. ONNX GatherElements-13.
    pub struct GatherElements = "GatherElements" {
        /// The axis that indices refer to.
        pub axis: i64 = 0,
    }
}

impl OpDef for GatherElements {
    fn operands(&self) -> &'static [Operand] {
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("GatherElements", 13)
    }
    fn takes_narrow(&self) -> bool {
        true
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let data = cx.ty(0)?;
        let indices = expect_indices(cx)?;
        let axis = cx.axis("axis", self.axis, data.rank())?;
        if indices.rank() != data.rank() {
            return Err(cx.reject(1, format!("rank {}, that of the data", data.rank())));
        }
        for (i, (x, n)) in data.shape.iter().zip(&indices.shape).enumerate() {
            if let (Some(x), Some(n)) = (x.as_const(), n.as_const())
                && i != axis
                && n > x
            {
                return Err(cx.reject(1, format!("at most {x} along axis {i}")));
            }
        }
        Ok(vec![TensorType { dtype: data.dtype, shape: indices.shape.clone() }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (data, indices) = (cx.input(0)?, cx.input(1)?);
        let (_, shape) = cx.output(0)?;
        let axis = cx.axis(self.axis, data.shape().len())?;
        let data_strides = strides(data.shape());
        let numbers = indices.to_i64_vec();
        let mut position = 0;
        let out = move_elements(data, shape, &[], |index| {
            let mut from = index.to_vec();
            for (i, (f, &bound)) in from.iter_mut().zip(data.shape()).enumerate() {
                if i == axis {
                    *f = resolve(cx, position, at(&numbers, position), bound)?;
                } else if *f >= bound {
                    return Err(cx.bad_data(format!("indices reach {f} along axis {i} of extent {bound}")));
                }
            }
            position += 1;
            Ok(Some(flat(&from, &data_strides)))
        })?;
        Ok(vec![out])
    }
}

op_struct! {
    /// Picks slices: each vector along the last axis of `indices` holds coordinates of data behind the first
    /// `batch_dims` axes, which both have; the slice that it names stands in its place. ONNX GatherND-13.
    pub struct GatherND = "GatherND" {
        /// So many leading axes of data and indices belong together.
        pub batch_dims: i64 = 0,
    }
}

impl OpDef for GatherND {
    fn operands(&self) -> &'static [Operand] {
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("GatherND", 13)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let data = cx.ty(0)?;
        let indices = expect_indices(cx)?;
        let Some((depth, places)) = indices.shape.split_last() else {
            return Err(cx.reject(1, "rank 1 or more"));
        };
        let batch = usize::try_from(self.batch_dims)
            .ok()
            .filter(|&b| b <= places.len() && b < data.rank())
            .ok_or_else(|| cx.bad_attr("batch_dims", format!("{} leading axes", self.batch_dims)))?;
        if data.shape.iter().zip(places).take(batch).any(|(a, b)| !may_equal(a, b)) {
            return Err(cx.reject(1, format!("leading axes {:?}", data.shape.get(..batch))));
        }
        let slice = depth
            .as_fixed()
            .filter(|&n| n > 0)
            .and_then(|n| data.shape.get(batch.checked_add(n)?..))
            .ok_or_else(|| {
                cx.reject(1, format!("a fixed last extent of 1 to {}", data.rank().saturating_sub(batch)))
            })?;
        let shape = places.iter().chain(slice).cloned().collect();
        Ok(vec![TensorType { dtype: data.dtype, shape }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (data, indices) = (cx.input(0)?, cx.input(1)?);
        let (dtype, shape) = cx.output(0)?;
        let batch = usize::try_from(self.batch_dims).unwrap_or(0);
        let (Some(bounds), Some(batches), Some(depth)) =
            (data.shape().get(batch..), indices.shape().get(..batch), indices.shape().last())
        else {
            return Err(cx.bad_data(format!("{batch} leading axes of {:?}", data.shape())));
        };
        if data.shape().get(..batch) != Some(batches) {
            return Err(cx.bad_data(format!(
                "{:?} and {:?} lead differently",
                data.shape(),
                indices.shape()
            )));
        }
        let places = places(cx, indices, bounds, &strides(bounds), *depth)?;
        let part = element_count(bounds).unwrap_or(0);
        let per_batch = places.len() / element_count(batches).unwrap_or(0).max(1);
        let run = bounds.iter().skip(*depth).product::<usize>() * dtype.size();
        let mut out = Vec::with_capacity(Tensor::zeros(dtype, shape)?.bytes().len());
        for (n, place) in places.iter().enumerate() {
            let start = (n.checked_div(per_batch).unwrap_or(0) * part + place) * dtype.size();
            out.extend_from_slice(data.bytes().get(start..start + run).unwrap_or(&[]));
        }
        Ok(vec![Tensor::from_bytes(dtype, shape, &out)?])
    }
}
