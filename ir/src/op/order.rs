//! Ops that keep elements in place or turn their order round by position: triangles, reversed sequences.
//! Picking by index tensors is in `gather.rs`.

use super::elements::{at, fill_bytes, flat, move_elements, strides};
use super::scatter::may_equal;
use super::*;
use crate::dtype::DType;
use crate::op_struct;

op_struct! {
    /// The upper or lower triangles of the matrices in the last two axes; the rest is 0. `k` shifts the diagonal:
    /// positive to the right. ONNX Trilu-14.
    pub struct Trilu = "Trilu" {
        /// Keep what is on and above the diagonal, not what is on and below.
        pub upper: bool = true,
    }
}

impl OpDef for Trilu {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("x"), optional("k")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Trilu", 14)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.ty(0)?;
        if x.rank() < 2 {
            return Err(cx.reject(0, "rank 2 or more"));
        }
        if let Some(k) = cx.opt(1)
            && (k.dtype != DType::I64 || k.rank() > 1 || k.elements()?.as_const().is_some_and(|n| n != 1))
        {
            return Err(cx.reject(1, "one number of type i64"));
        }
        Ok(vec![x.clone()])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = cx.input(0)?;
        let (dtype, shape) = cx.output(0)?;
        let k = cx.opt(1).and_then(|k| k.to_i64_vec().first().copied()).unwrap_or(0);
        let from = strides(shape);
        let (rows, columns) = (shape.len().saturating_sub(2), shape.len().saturating_sub(1));
        let out = move_elements(x, shape, &fill_bytes(dtype, 0.0), |index| {
            let place = |axis| i64::try_from(at(index, axis)).unwrap_or(i64::MAX);
            let right = place(columns).saturating_sub(place(rows));
            let keep = if self.upper { right >= k } else { right <= k };
            Ok(keep.then(|| flat(index, &from)))
        })?;
        Ok(vec![out])
    }
}

op_struct! {
    /// Turns round the first `lens` elements of each sequence; the rest of it stays. ONNX ReverseSequence-10.
    pub struct ReverseSequence = "ReverseSequence" {
        /// The axis of sequences.
        pub batch_axis: i64 = 1,
        /// The axis along a sequence.
        pub time_axis: i64 = 0,
    }
}

impl OpDef for ReverseSequence {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("x"), one("lens")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("ReverseSequence", 10)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.ty(0)?;
        let lens = cx.expect_dtype(1, DType::I64)?;
        let batch = cx.axis("batch_axis", self.batch_axis, x.rank())?;
        let time = cx.axis("time_axis", self.time_axis, x.rank())?;
        if batch == time {
            return Err(cx.bad_attr("time_axis", format!("axis {time} is that of the sequences, too")));
        }
        match (lens.shape.as_slice(), x.shape.get(batch)) {
            ([n], Some(d)) if may_equal(n, d) => Ok(vec![x.clone()]),
            (_, d) => Err(cx.reject(1, format!("one length for each of {d:?} sequences"))),
        }
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (x, lens) = (cx.input(0)?, cx.input(1)?.to_i64_vec());
        let (_, shape) = cx.output(0)?;
        let batch = cx.axis(self.batch_axis, shape.len())?;
        let time = cx.axis(self.time_axis, shape.len())?;
        let bound = at(shape, time);
        if lens.len() != at(shape, batch) {
            return Err(cx.bad_data(format!("{} lengths for {} sequences", lens.len(), at(shape, batch))));
        }
        let lens = lens
            .iter()
            .map(|&n| usize::try_from(n).ok().filter(|&n| n <= bound))
            .collect::<Option<Vec<usize>>>()
            .ok_or_else(|| cx.bad_data(format!("lengths {lens:?} of sequences of {bound}")))?;
        let from = strides(shape);
        let out = move_elements(x, shape, &[], |index| {
            let mut source = index.to_vec();
            let len = at(&lens, at(index, batch));
            if let Some(t) = source.get_mut(time)
                && *t < len
            {
                *t = len - 1 - *t;
            }
            Ok(Some(flat(&source, &from)))
        })?;
        Ok(vec![out])
    }
}
