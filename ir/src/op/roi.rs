//! Pooling of regions of interest out of feature maps. Pooling over sliding windows is in `pool.rs`.

use super::elements::{at, each_index, strides};
use super::scatter::may_equal;
use super::*;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::{attr_enum, op_struct};

attr_enum! {
    /// What the samples of one cell become.
    pub enum RoiMode {
        /// Their mean.
        Avg = "avg",
        /// The largest of their weighted neighbours.
        Max = "max",
    }
}

op_struct! {
    /// Cuts boxes `[R, 4]` (x1, y1, x2, y2) out of the maps x `[N, C, H, W]` of `batch` `[R]`, each into cells of bilinear
    /// samples: `[R, C, height, width]`. He et al. 2017. ONNX RoiAlign-16.
    pub struct RoiAlign = "RoiAlign" {
        /// Cells down.
        pub height: i64 = 1,
        /// Cells across.
        pub width: i64 = 1,
        /// Samples along each side of a cell; 0: as many as the cell has elements.
        pub sampling_ratio: i64 = 0,
        /// From coordinates of boxes to those of the map.
        pub spatial_scale: f64 = 1.0,
        /// Boxes are given by element centres at halves; else boxes have an extent of 1 or more.
        pub half_pixel: bool = true,
        /// What the samples of one cell become.
        pub mode: RoiMode = RoiMode::Avg,
    }
}

/// More samples along a side of a cell come from boxes that are no boxes.
const MOST_SAMPLES: f64 = 4096.0;

impl RoiAlign {
    /// Start, extent of a cell and samples in it along one side.
    fn side(&self, cx: &Eval<'_>, from: f64, to: f64, cells: i64) -> Result<(f64, f64, usize), OpError> {
        let shift = if self.half_pixel { 0.5 } else { 0.0 };
        let start = from * self.spatial_scale - shift;
        let mut extent = to * self.spatial_scale - shift - start;
        if !self.half_pixel {
            extent = extent.max(1.0);
        }
        let cell = extent / cells as f64;
        let samples = if self.sampling_ratio > 0 { self.sampling_ratio as f64 } else { cell.ceil().max(0.0) };
        if samples.is_nan() || samples > MOST_SAMPLES {
            return Err(
                cx.bad_data(format!("{samples} samples along the side of a cell from {from} to {to}"))
            );
        }
        Ok((start, cell, samples as usize))
    }
}

/// The two elements beside a sample and their weights; nothing beyond an element outside of the map.
fn neighbours(x: f64, extent: usize) -> Option<[(usize, f64); 2]> {
    if x.is_nan() || x < -1.0 || x > extent as f64 {
        return None;
    }
    let last = extent.checked_sub(1)?;
    let x = x.max(0.0);
    let low = x as usize;
    if low >= last {
        return Some([(last, 1.0), (last, 0.0)]);
    }
    let r = x - low as f64;
    Some([(low, 1.0 - r), (low + 1, r)])
}

impl OpDef for RoiAlign {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("x"), one("rois"), one("batch")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("RoiAlign", 16)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.expect_float(0)?;
        let rois = cx.expect_float(1)?;
        let batch = cx.ty(2)?;
        let [_, channels, _, _] = x.shape.as_slice() else { return Err(cx.reject(0, "[N, C, H, W]")) };
        let count = match (rois.shape.as_slice(), batch.shape.as_slice()) {
            ([r, four], [n]) if four.is(4) && may_equal(r, n) && batch.dtype == DType::I64 => r,
            _ => return Err(cx.reject(1, format!("[R, 4], and {batch} to be i64[R]"))),
        };
        let shape = map_shape(cx, count, channels, self.height, self.width)?;
        if self.sampling_ratio < 0 {
            return Err(cx.bad_attr("sampling_ratio", format!("{} is below 0", self.sampling_ratio)));
        }
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (x, rois, batch) = (cx.input(0)?, cx.input(1)?.to_f64_vec(), cx.input(2)?.to_i64_vec());
        let (dtype, shape) = cx.output(0)?;
        let (v, from) = (x.to_f64_vec(), strides(x.shape()));
        let (images, height, width) = (at(x.shape(), 0), at(x.shape(), 2), at(x.shape(), 3));
        let mut out = Vec::with_capacity(Tensor::zeros(dtype, shape)?.len());
        each_index(shape, |index| {
            let [r, c, ph, pw] = index else { return Ok(()) };
            let image = batch.get(*r).and_then(|&n| usize::try_from(n).ok()).filter(|&n| n < images);
            let Some(image) = image else {
                return Err(cx.bad_data(format!("region {r} is of no image of 0..{images}")));
            };
            let corner = |i: usize| at(&rois, r * 4 + i);
            let (left, cell_w, across) = self.side(cx, corner(0), corner(2), self.width)?;
            let (top, cell_h, down) = self.side(cx, corner(1), corner(3), self.height)?;
            let (mut sum, mut most) = (0.0, f64::NEG_INFINITY);
            for iy in 0..down {
                let y = top + (*ph as f64 + (iy as f64 + 0.5) / down as f64) * cell_h;
                for ix in 0..across {
                    let x = left + (*pw as f64 + (ix as f64 + 0.5) / across as f64) * cell_w;
                    let (Some(rows), Some(columns)) = (neighbours(y, height), neighbours(x, width)) else {
                        most = most.max(0.0);
                        continue;
                    };
                    for (row, wy) in rows {
                        for (column, wx) in columns {
                            let place = image * at(&from, 0) + c * at(&from, 1) + row * width + column;
                            let value = wy * wx * at(&v, place);
                            sum += value;
                            most = most.max(value);
                        }
                    }
                }
            }
            let samples = down * across;
            out.push(match self.mode {
                RoiMode::Avg => sum / samples.max(1) as f64,
                RoiMode::Max if samples == 0 => 0.0,
                RoiMode::Max => most,
            });
            Ok(())
        })?;
        Ok(vec![Tensor::from_f64(dtype, shape, &out)?])
    }
}

fn map_shape(
    cx: &Infer<'_>,
    count: &Dim,
    channels: &Dim,
    height: i64,
    width: i64,
) -> Result<Vec<Dim>, OpError> {
    if height < 1 || width < 1 {
        return Err(cx.bad_attr("height", format!("{height} by {width} cells")));
    }
    Ok(vec![count.clone(), channels.clone(), Dim::constant(height), Dim::constant(width)])
}

op_struct! {
    /// The largest element in each cell of boxes `[R, 5]` (image, x1, y1, x2, y2) in the maps x `[N, C, H, W]`, corners
    /// rounded to elements; 0 in an empty cell: `[R, C, height, width]`. Girshick 2015. ONNX MaxRoiPool-1.
    pub struct MaxRoiPool = "MaxRoiPool" {
        /// Cells down.
        pub height: i64,
        /// Cells across.
        pub width: i64,
        /// From coordinates of boxes to those of the map.
        pub spatial_scale: f64 = 1.0,
    }
}

impl OpDef for MaxRoiPool {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("x"), one("rois")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("MaxRoiPool", 1)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.expect_float(0)?;
        let rois = cx.expect_float(1)?;
        let [_, channels, _, _] = x.shape.as_slice() else { return Err(cx.reject(0, "[N, C, H, W]")) };
        let [count, five] = rois.shape.as_slice() else { return Err(cx.reject(1, "[R, 5]")) };
        if !five.is(5) {
            return Err(cx.reject(1, "[R, 5]"));
        }
        let shape = map_shape(cx, count, channels, self.height, self.width)?;
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (x, rois) = (cx.input(0)?, cx.input(1)?.to_f64_vec());
        let (dtype, shape) = cx.output(0)?;
        let (v, from) = (x.to_f64_vec(), strides(x.shape()));
        let (images, height, width) = (at(x.shape(), 0), at(x.shape(), 2), at(x.shape(), 3));
        // The elements of cell `n` of `cells` between two corners.
        let cell = |n: usize, cells: i64, low: f64, high: f64, extent: usize| {
            let (low, high) = ((low * self.spatial_scale).round(), (high * self.spatial_scale).round());
            let step = (high - low + 1.0).max(1.0) / cells as f64;
            let clip = |x: f64| x.clamp(0.0, extent as f64) as usize;
            clip((n as f64 * step).floor() + low)..clip(((n + 1) as f64 * step).ceil() + low)
        };
        let mut out = Vec::with_capacity(Tensor::zeros(dtype, shape)?.len());
        each_index(shape, |index| {
            let [r, c, ph, pw] = index else { return Ok(()) };
            let roi = |i: usize| at(&rois, r * 5 + i);
            let image = Some(roi(0)).filter(|n| (0.0..images as f64).contains(n)).map(|n| n as usize);
            let Some(image) = image else {
                return Err(cx.bad_data(format!("region {r} is of image {}, not of 0..{images}", roi(0))));
            };
            let mut most = f64::NEG_INFINITY;
            for row in cell(*ph, self.height, roi(2), roi(4), height) {
                for column in cell(*pw, self.width, roi(1), roi(3), width) {
                    let place = image * at(&from, 0) + c * at(&from, 1) + row * width + column;
                    most = most.max(at(&v, place));
                }
            }
            out.push(if most == f64::NEG_INFINITY { 0.0 } else { most });
            Ok(())
        })?;
        Ok(vec![Tensor::from_f64(dtype, shape, &out)?])
    }
}
