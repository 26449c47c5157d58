//! Resizing by interpolation along each axis. Sampling at free positions is in `sample.rs`.

use super::elements::{at, each_index, fill_bytes, flat, move_elements, strides};
use super::softmax::for_lanes;
use super::*;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::tensor::element_count;
use crate::{attr_enum, op_struct};

attr_enum! {
    /// How values between elements are found.
    pub enum ResizeMode {
        /// The nearest element.
        Nearest = "nearest",
        /// Two neighbours along each axis, by distance.
        Linear = "linear",
        /// Four neighbours along each axis, by Keys' convolution (IEEE ASSP 29, 1981).
        Cubic = "cubic",
    }
}

attr_enum! {
    /// Where in x an element of the result lies.
    pub enum Coordinates {
        /// Centres of elements are at halves: (y + 0.5) / scale - 0.5.
        HalfPixel = "half_pixel",
        /// As half_pixel, but the middle of both stays where the scaled extent was rounded.
        HalfPixelSymmetric = "half_pixel_symmetric",
        /// As half_pixel; an extent of 1 takes the first element.
        PytorchHalfPixel = "pytorch_half_pixel",
        /// First and last elements lie on each other.
        AlignCorners = "align_corners",
        /// y / scale.
        Asymmetric = "asymmetric",
        /// First and last elements lie on the ends of a region.
        CropAndResize = "tf_crop_and_resize",
    }
}

attr_enum! {
    /// Which neighbour is the nearest.
    pub enum NearestMode {
        /// The lower one from a half.
        RoundPreferFloor = "round_prefer_floor",
        /// The upper one from a half.
        RoundPreferCeil = "round_prefer_ceil",
        /// Always the lower one.
        Floor = "floor",
        /// Always the upper one.
        Ceil = "ceil",
    }
}

op_struct! {
    /// x at other extents. Scales are single precision, and so are positions, as other engines have them: at a half
    /// the nearest element depends on it. ONNX Resize-19 over all axes, with sizes, scales and region as attributes.
    pub struct Resize = "Resize" {
        /// Extents of the result, one an axis.
        pub sizes: Vec<Dim>,
        /// Ratio of extents, one an axis; none: that of the extents.
        pub scales: Vec<f64> = vec![],
        /// Interpolation.
        pub mode: ResizeMode = ResizeMode::Nearest,
        /// Where elements lie.
        pub coordinates: Coordinates = Coordinates::HalfPixel,
        /// Which element is nearest.
        pub nearest: NearestMode = NearestMode::RoundPreferFloor,
        /// Coefficient of the cubic kernel.
        pub cubic_coeff: f64 = -0.75,
        /// Neighbours beyond the edge weigh nothing; else they are the edge.
        pub exclude_outside: bool = false,
        /// Stretch the kernel over all elements that a smaller result stands for.
        pub antialias: bool = false,
        /// The region of tf_crop_and_resize in parts of the extents: first all starts, then all ends.
        pub roi: Vec<f64> = vec![],
        /// What lies outside x under tf_crop_and_resize.
        pub extrapolation: f64 = 0.0,
    }
}

/// Elements of x and their weights for one element of the result along an axis; None outside of x.
pub type ResizeTaps = Option<Vec<(usize, f64)>>;
type Taps = ResizeTaps;

/// One axis under way.
struct Axis {
    input: usize,
    output: usize,
    scale: f32,
    roi: (f32, f32),
}

impl Resize {
    fn axis(&self, i: usize, rank: usize, input: usize, output: usize) -> Axis {
        let ratio = output as f32 / input as f32;
        let scale = self.scales.get(i).map_or(ratio, |&s| s as f32);
        let roi = |i: usize, or: f32| self.roi.get(i).map_or(or, |&r| r as f32);
        Axis { input, output, scale, roi: (roi(i, 0.0), roi(rank + i, 1.0)) }
    }

    /// For every element of the result along axis `i`, what it is made of; None where the kernel would have to be
    /// stretched over more than there is.
    pub fn along(&self, i: usize, rank: usize, input: usize, output: usize) -> Option<Vec<ResizeTaps>> {
        let a = self.axis(i, rank, input, output);
        if self.antialias && f64::from(a.scale) * (input as f64 + 1.0) < 0.5 {
            return None;
        }
        Some((0..output).map(|y| self.taps(&a, y)).collect())
    }

    /// True when axis `i` stays as it is whatever the interpolation.
    pub fn keeps(&self, i: usize, input: usize, output: usize) -> bool {
        let scale = self.scales.get(i).map_or(1.0, |&s| s as f32);
        input == output && scale == 1.0 && self.coordinates != Coordinates::CropAndResize
    }

    /// The position in x of element `y`; None outside of x.
    fn position(&self, a: &Axis, y: usize) -> Option<f32> {
        let (y, last) = (y as f32, a.input.saturating_sub(1) as f32);
        let exact = a.scale * a.input as f32;
        Some(match self.coordinates {
            Coordinates::HalfPixel => (y + 0.5) / a.scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let offset = a.input as f32 / 2.0 * (1.0 - a.output as f32 / exact);
                offset + (y + 0.5) / a.scale - 0.5
            }
            Coordinates::PytorchHalfPixel if a.output == 1 => 0.0,
            Coordinates::PytorchHalfPixel => (y + 0.5) / a.scale - 0.5,
            Coordinates::AlignCorners if exact == 1.0 => 0.0,
            Coordinates::AlignCorners => y * last / (exact - 1.0),
            Coordinates::Asymmetric => y / a.scale,
            Coordinates::CropAndResize => {
                let (start, end) = a.roi;
                let x = start * last
                    + if exact == 1.0 {
                        (end - start) * last / 2.0
                    } else {
                        y * (end - start) * last / (exact - 1.0)
                    };
                return (0.0..=last).contains(&x).then_some(x);
            }
        })
    }

    fn taps(&self, a: &Axis, y: usize) -> Taps {
        let x = self.position(a, y)?;
        // The neighbour below, never x itself, so that the ratio is above 0 and at most 1.
        let below = (x.ceil() - 1.0) as i64;
        let ratio = f64::from(x) - below as f64;
        let inside = |i: i64| usize::try_from(i.max(0)).unwrap_or(0).min(a.input.saturating_sub(1));
        if self.mode == ResizeMode::Nearest {
            let up = ratio == 1.0
                || match self.nearest {
                    NearestMode::RoundPreferFloor => ratio > 0.5,
                    NearestMode::RoundPreferCeil => ratio >= 0.5,
                    NearestMode::Floor => false,
                    NearestMode::Ceil => true,
                };
            return Some(vec![(inside(below.saturating_add(i64::from(up))), 1.0)]);
        }
        let stretch = if self.antialias { f64::from(a.scale.min(1.0)) } else { 1.0 };
        let reach = if self.mode == ResizeMode::Linear { 1.0 } else { 2.0 };
        let first = (-reach / stretch).floor() as i64 + 1;
        let mut taps: Vec<(i64, f64)> = (first..=1 - first)
            .map(|i| (below.saturating_add(i), self.weight((i as f64 - ratio).abs() * stretch)))
            .collect();
        if self.antialias {
            normalise(&mut taps);
        }
        if self.exclude_outside {
            let extent = i64::try_from(a.input).unwrap_or(i64::MAX);
            for (i, w) in &mut taps {
                if *i < 0 || *i >= extent {
                    *w = 0.0;
                }
            }
            normalise(&mut taps);
        }
        // What weighs nothing is no part of the result, infinite or not.
        Some(taps.into_iter().filter(|t| t.1 != 0.0).map(|(i, w)| (inside(i), w)).collect())
    }

    /// The kernel at a distance.
    fn weight(&self, d: f64) -> f64 {
        match (self.mode, self.cubic_coeff) {
            (ResizeMode::Cubic, a) if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
            (ResizeMode::Cubic, a) if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
            (ResizeMode::Cubic, _) => 0.0,
            _ => (1.0 - d).max(0.0),
        }
    }
}

fn normalise(taps: &mut [(i64, f64)]) {
    let sum: f64 = taps.iter().map(|t| t.1).sum();
    taps.iter_mut().for_each(|t| t.1 /= sum);
}

impl OpDef for Resize {
    fn operands(&self) -> &'static [Operand] {
        const X: &[Operand] = &[one("x")];
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Resize", 19)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.ty(0)?;
        let rank = x.rank();
        if x.dtype == DType::Bool && self.mode != ResizeMode::Nearest {
            return Err(cx.reject(0, "a number type"));
        }
        if self.sizes.len() != rank || self.sizes.iter().any(|d| d.as_const().is_some_and(|n| n < 0)) {
            return Err(cx.bad_attr("sizes", format!("expected {rank} extents, got {:?}", self.sizes)));
        }
        if !(self.scales.is_empty() || self.scales.len() == rank)
            || self.scales.iter().any(|s| !s.is_finite() || *s <= 0.0)
        {
            return Err(
                cx.bad_attr("scales", format!("expected {rank} numbers above 0, got {:?}", self.scales))
            );
        }
        if self.coordinates == Coordinates::CropAndResize && self.roi.len() != rank.saturating_mul(2) {
            return Err(cx.bad_attr("roi", format!("expected {rank} starts and ends, got {:?}", self.roi)));
        }
        Ok(vec![TensorType { dtype: x.dtype, shape: self.sizes.clone() }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = cx.input(0)?;
        let (dtype, shape) = cx.output(0)?;
        if x.is_empty() && !shape.contains(&0) {
            return Err(cx.bad_data(format!("no elements in {:?} to make {shape:?} of", x.shape())));
        }
        let mut axes: Vec<(usize, Vec<Taps>)> = Vec::new();
        for (i, (&input, &output)) in x.shape().iter().zip(shape).enumerate() {
            let taps = self
                .along(i, shape.len(), input, output)
                .ok_or_else(|| cx.bad_data(format!("a scale too small for an axis of extent {input}")))?;
            axes.push((i, taps));
        }
        let outside =
            |index: &[usize]| axes.iter().zip(index).any(|((_, taps), &y)| matches!(taps.get(y), Some(None)));
        if self.mode == ResizeMode::Nearest {
            let from = strides(x.shape());
            let fill = fill_bytes(dtype, self.extrapolation);
            let out = move_elements(x, shape, &fill, |index| {
                let place = |((_, taps), &y): (&(usize, Vec<Taps>), &usize)| {
                    taps.get(y).and_then(Option::as_ref).and_then(|t| t.first()).map(|t| t.0)
                };
                let source: Option<Vec<usize>> = axes.iter().zip(index).map(place).collect();
                Ok(source.map(|s| flat(&s, &from)))
            })?;
            return Ok(vec![out]);
        }
        Tensor::zeros(DType::F64, shape)?;
        // Shrinking axes first: no intermediate is larger than both x and the result.
        let same = |i: usize, taps: &[Taps]| at(shape, i) == at(x.shape(), i) && identity(taps);
        let mut order: Vec<&(usize, Vec<Taps>)> = axes.iter().filter(|(i, taps)| !same(*i, taps)).collect();
        order.sort_by_key(|(i, _)| at(shape, *i) > at(x.shape(), *i));
        let (mut v, mut extents) = (x.to_f64_vec(), x.shape().to_vec());
        for (i, taps) in order {
            v = interpolate(&v, &mut extents, *i, taps);
        }
        let to = strides(shape);
        each_index(shape, |index| {
            if outside(index)
                && let Some(y) = v.get_mut(flat(index, &to))
            {
                *y = self.extrapolation;
            }
            Ok(())
        })?;
        Ok(vec![Tensor::from_f64(dtype, shape, &v)?])
    }
}

/// True when each element is that of its own number.
fn identity(taps: &[Taps]) -> bool {
    let itself = |y, t: &[(usize, f64)]| t.iter().all(|&(i, w)| w == f64::from(u8::from(i == y)));
    taps.iter().enumerate().all(|(y, t)| t.as_ref().is_some_and(|t| itself(y, t)))
}

/// Weighted sums along one axis, whose extent becomes the number of taps.
fn interpolate(v: &[f64], extents: &mut [usize], axis: usize, taps: &[Taps]) -> Vec<f64> {
    let sums = |lane: &[usize]| -> Vec<f64> {
        taps.iter().map(|t| t.iter().flatten().map(|&(i, w)| w * at(v, at(lane, i))).sum()).collect()
    };
    let mut lanes = Vec::new();
    for_lanes(extents, axis, |lane| lanes.push(sums(&lane.collect::<Vec<_>>())));
    if let Some(d) = extents.get_mut(axis) {
        *d = taps.len();
    }
    let mut out = vec![0.0; element_count(extents).unwrap_or(0)];
    let mut lanes = lanes.into_iter();
    for_lanes(extents, axis, |lane| {
        for (to, y) in lane.zip(lanes.next().unwrap_or_default()) {
            if let Some(slot) = out.get_mut(to) {
                *slot = y;
            }
        }
    });
    out
}
