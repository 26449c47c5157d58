//! Putting columns of windows back into images: what unrolled convolutions end with. Convolutions are in `conv.rs`.

use super::elements::{at, each_index, flat, strides};
use super::scatter::may_equal;
use super::window::Window;
use super::*;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::op_struct;

op_struct! {
    /// Sums overlapping blocks into images: x `[N, C taps, windows]` holds a column of taps for each window over images
    /// of extents `image`: `[N, C, image..]`. ONNX Col2Im-18.
    pub struct Col2Im = "Col2Im" {
        /// Extents of the images.
        pub image: Vec<Dim>,
        /// Extents of a block.
        pub block: Vec<i64>,
        /// Step from one window to the next, one a spatial axis.
        pub strides: Vec<i64>,
        /// Padding around the images: first all begins, then all ends.
        pub pads: Vec<i64>,
        /// Distance of taps, one a spatial axis.
        pub dilations: Vec<i64>,
    }
}

impl Col2Im {
    fn window(&self) -> Window<'_> {
        Window { strides: &self.strides, pads: &self.pads, dilations: &self.dilations }
    }

    /// Numbers of windows along the spatial axes.
    fn windows(&self, cx: &Infer<'_>) -> Result<Vec<Dim>, OpError> {
        let each = self.image.iter().zip(&self.block).enumerate();
        each.map(|(i, (d, &k))| self.window().extent(cx, i, d, k, false)).collect()
    }
}

impl OpDef for Col2Im {
    fn operands(&self) -> &'static [Operand] {
        const X: &[Operand] = &[one("x")];
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Col2Im", 18)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.ty(0)?;
        if x.dtype == DType::Bool {
            return Err(cx.reject(0, "a number type"));
        }
        let [batch, rows, columns] = x.shape.as_slice() else {
            return Err(cx.reject(0, "[N, C taps, windows]"));
        };
        self.window().check(cx, self.image.len())?;
        if self.block.len() != self.image.len() || self.block.iter().any(|&k| k < 1) {
            return Err(cx.bad_attr("block", format!("expected {} extents of 1 or more", self.image.len())));
        }
        let taps = self
            .block
            .iter()
            .try_fold(1i64, |n, &k| n.checked_mul(k))
            .ok_or(OpError::from(crate::DimError::Overflow))?;
        let channels = rows
            .exact_div(&Dim::constant(taps))
            .ok_or_else(|| cx.reject(0, format!("a multiple of {taps} taps on axis 1")))?;
        let windows = crate::types::product(&self.windows(cx)?)?;
        if !may_equal(&windows, columns) {
            return Err(cx.reject(0, format!("{windows} windows on axis 2")));
        }
        let shape = [batch.clone(), channels].into_iter().chain(self.image.iter().cloned()).collect();
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = cx.input(0)?;
        let (dtype, shape) = cx.output(0)?;
        let v = x.to_f64_vec();
        let infer = Infer { op: cx.op, inputs: &[] };
        let windows = self
            .windows(&infer)?
            .iter()
            .map(|d| d.eval_extent(cx.bindings).map_err(OpError::from))
            .collect::<Result<Vec<usize>, _>>()?;
        let block: Vec<usize> = self.block.iter().map(|&k| usize::try_from(k).unwrap_or(0)).collect();
        let (taps, columns): (usize, usize) = (block.iter().product(), windows.iter().product());
        if columns != at(x.shape(), 2) {
            return Err(cx.bad_data(format!("{} columns for {columns} windows", at(x.shape(), 2))));
        }
        let spatial = shape.get(2..).unwrap_or(&[]);
        let (to, planes) = (strides(spatial), at(shape, 0) * at(shape, 1));
        let area: usize = spatial.iter().product();
        let mut out = vec![0.0; Tensor::zeros(dtype, shape)?.len()];
        let mut tap_at = 0;
        each_index(&block, |tap| {
            let mut column = 0;
            each_index(&windows, |place| {
                let target: Option<Vec<usize>> = (0..spatial.len())
                    .map(|i| self.window().source(i, at(place, i), at(tap, i), at(spatial, i)))
                    .collect();
                if let Some(target) = target {
                    for plane in 0..planes {
                        let from = (plane * taps + tap_at) * columns + column;
                        if let Some(y) = out.get_mut(plane * area + flat(&target, &to)) {
                            *y += at(&v, from);
                        }
                    }
                }
                column += 1;
                Ok(())
            })?;
            tap_at += 1;
            Ok(())
        })?;
        Ok(vec![Tensor::from_f64(dtype, shape, &out)?])
    }
}
