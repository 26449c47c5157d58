//! Ops that repeat or surround a tensor's elements: expand, tile, pad.

use super::elements::{at, fill_bytes, flat, move_elements, strides};
use super::*;
use crate::dim::Dim;
use crate::types::same_shape;
use crate::{attr_enum, op_struct};

const X: &[Operand] = &[one("x")];

op_struct! {
    /// Broadcasts x to a shape, which is that of the result. ONNX Expand-13 (whose shape may also have ones where
    /// x has more; an importer resolves that).
    pub struct Expand = "Expand" {
        /// Shape of the result.
        pub shape: Vec<Dim>,
        /// Extents that cannot be proven to be equal or 1 are compared at run time.
        pub trust: bool = false,
    }
}

impl OpDef for Expand {
    fn operands(&self) -> &'static [Operand] {
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Expand", 13)
    }
    fn takes_narrow(&self) -> bool {
        true
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.ty(0)?;
        let open =
            |d: &Dim, to: &Dim| d.as_const().is_none() || to.as_const().is_none() || d.is(1) || d.same(to);
        let rank = self.shape.len();
        if self.trust
            && x.rank() <= rank
            && x.shape.iter().zip(self.shape.iter().skip(rank - x.rank())).all(|(d, to)| open(d, to))
        {
            return Ok(vec![TensorType { dtype: x.dtype, shape: self.shape.clone() }]);
        }
        match crate::types::broadcast(&x.shape, &self.shape) {
            Some(s) if same_shape(&s, &self.shape) => {
                Ok(vec![TensorType { dtype: x.dtype, shape: self.shape.clone() }])
            }
            _ => Err(cx.reject(0, format!("a shape that broadcasts to {:?}", self.shape))),
        }
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = cx.input(0)?;
        let (_, shape) = cx.output(0)?;
        let pad = shape.len().saturating_sub(x.shape().len());
        if x.shape().iter().zip(shape.iter().skip(pad)).any(|(&d, &to)| d != 1 && d != to) {
            return Err(cx.bad_data(format!("shape {:?} does not broadcast to {shape:?}", x.shape())));
        }
        let mut from = broadcast_indices(x.shape(), shape);
        Ok(vec![move_elements(x, shape, &[], |_| Ok(from.next()))?])
    }
}

op_struct! {
    /// Repeats the whole tensor along each axis. ONNX Tile-13.
    pub struct Tile = "Tile" {
        /// How often, one number an axis.
        pub repeats: Vec<Dim>,
    }
}

impl OpDef for Tile {
    fn operands(&self) -> &'static [Operand] {
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Tile", 13)
    }
    fn takes_narrow(&self) -> bool {
        true
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.ty(0)?;
        if self.repeats.len() != x.rank() || self.repeats.iter().any(|r| r.as_const().is_some_and(|n| n < 0))
        {
            return Err(cx.bad_attr("repeats", format!("{:?} is not one count an axis of {x}", self.repeats)));
        }
        let shape = x.shape.iter().zip(&self.repeats).map(|(d, r)| d.mul(r)).collect::<Result<_, _>>()?;
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = cx.input(0)?;
        let (_, shape) = cx.output(0)?;
        let from = strides(x.shape());
        let out = move_elements(x, shape, &[], |index| {
            let source: Vec<usize> = index.iter().zip(x.shape()).map(|(i, d)| i % d).collect();
            Ok(Some(flat(&source, &from)))
        })?;
        Ok(vec![out])
    }
}

attr_enum! {
    /// What padding is filled with.
    pub enum PadMode {
        /// A constant value.
        Constant = "constant",
        /// The tensor mirrored at its edge, the edge itself not repeated.
        Reflect = "reflect",
        /// The edge repeated.
        Edge = "edge",
    }
}

op_struct! {
    /// Surrounds x. Pads are not negative: an importer cuts with Slice instead. ONNX Pad-13.
    pub struct Pad = "Pad" {
        /// Elements added before the first, one number an axis.
        pub before: Vec<Dim>,
        /// Elements added after the last, one number an axis.
        pub after: Vec<Dim>,
        /// What is added.
        pub mode: PadMode = PadMode::Constant,
        /// The value of constant padding.
        pub value: f64 = 0.0,
    }
}

impl OpDef for Pad {
    fn operands(&self) -> &'static [Operand] {
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Pad", 13)
    }
    fn takes_narrow(&self) -> bool {
        true
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.ty(0)?;
        for (name, pads) in [("before", &self.before), ("after", &self.after)] {
            if pads.len() != x.rank() || pads.iter().any(|p| p.as_const().is_some_and(|n| n < 0)) {
                let why = format!("{pads:?} is not one count (0 or more) an axis of {x}");
                return Err(cx.bad_attr(name, why));
            }
        }
        let shape = x
            .shape
            .iter()
            .zip(self.before.iter().zip(&self.after))
            .map(|(d, (b, a))| d.add(b)?.add(a))
            .collect::<Result<_, _>>()?;
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = cx.input(0)?;
        let (dtype, shape) = cx.output(0)?;
        let before = self.before.iter().map(|d| cx.dim(d)).collect::<Result<Vec<_>, _>>()?;
        let after = self.after.iter().map(|d| cx.dim(d)).collect::<Result<Vec<_>, _>>()?;
        for (axis, (&d, (&b, &a))) in x.shape().iter().zip(before.iter().zip(&after)).enumerate() {
            let most = i64::try_from(d).unwrap_or(i64::MAX);
            let room = match self.mode {
                PadMode::Constant => true,
                PadMode::Edge => d > 0 || (a == 0 && b == 0),
                PadMode::Reflect => (a == 0 && b == 0) || (a < most && b < most),
            };
            if a < 0 || b < 0 || !room {
                return Err(cx.bad_data(format!(
                    "cannot pad axis {axis} of extent {d} by {b} before and {a} after ({})",
                    self.mode.word()
                )));
            }
        }
        let from = strides(x.shape());
        let fill = fill_bytes(dtype, self.value);
        let out = move_elements(x, shape, &fill, |index| {
            let mut source = Vec::with_capacity(index.len());
            for (axis, &i) in index.iter().enumerate() {
                let d = i64::try_from(at(x.shape(), axis)).unwrap_or(i64::MAX);
                let i = i64::try_from(i).unwrap_or(i64::MAX) - at(&before, axis);
                let inside = match self.mode {
                    PadMode::Constant if i < 0 || i >= d => return Ok(None),
                    PadMode::Constant => i,
                    PadMode::Edge => i.clamp(0, (d - 1).max(0)),
                    PadMode::Reflect if i < 0 => -i,
                    PadMode::Reflect if i >= d => 2 * (d - 1) - i,
                    PadMode::Reflect => i,
                };
                source.push(usize::try_from(inside).unwrap_or(usize::MAX));
            }
            Ok(Some(flat(&source, &from)))
        })?;
        Ok(vec![out])
    }
}
