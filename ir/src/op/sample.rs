//! Sampling of planes and volumes at free positions: by a grid, and under a convolution with offsets. Resizing
//! to a regular grid is in `resize.rs`.

use super::elements::{at, each_index, flat, strides};
use super::scatter::may_equal;
use super::window::{Window, fixed_kernel, groups};
use super::*;
use crate::dim::Dim;
use crate::{attr_enum, op_struct};

attr_enum! {
    /// How values between elements are found.
    pub enum SampleMode {
        /// The nearest element; the even one from a half.
        Nearest = "nearest",
        /// Two neighbours along each axis, by distance.
        Linear = "linear",
        /// Four neighbours along each axis, by the cubic kernel of coefficient -0.75.
        Cubic = "cubic",
    }
}

attr_enum! {
    /// What lies outside of x.
    pub enum SamplePadding {
        /// Zeros.
        Zeros = "zeros",
        /// The edge.
        Border = "border",
        /// x mirrored at its ends.
        Reflection = "reflection",
    }
}

op_struct! {
    /// Values of x `[N, C, spatial..]` at the positions of a grid `[N, places.., axes]`, whose coordinates run from -1
    /// to 1, the last axis of x first. ONNX GridSample-20.
    pub struct GridSample = "GridSample" {
        /// Interpolation.
        pub mode: SampleMode = SampleMode::Linear,
        /// What lies outside.
        pub padding: SamplePadding = SamplePadding::Zeros,
        /// -1 and 1 are the centres of the first and last element, not the ends of the axis.
        pub align_corners: bool = false,
    }
}

impl GridSample {
    /// Elements along one axis and their weights at a coordinate; an element outside is None.
    fn taps(&self, coordinate: f64, extent: usize) -> Vec<(Option<usize>, f64)> {
        let n = extent as f64;
        let (low, high) = if self.align_corners { (0.0, n - 1.0) } else { (-0.5, n - 0.5) };
        let unit = (coordinate + 1.0) / 2.0;
        // Single precision, as other engines have it: at a half the nearest element depends on it.
        let mut x = f64::from(if self.align_corners { unit * (n - 1.0) } else { unit * n - 0.5 } as f32);
        if self.mode == SampleMode::Nearest {
            x = x.round_ties_even();
        }
        if x < low || x > high {
            match self.padding {
                SamplePadding::Zeros => {}
                SamplePadding::Border => x = x.clamp(0.0, (n - 1.0).max(0.0)),
                SamplePadding::Reflection => x = reflect(x, low, high),
            }
        }
        let below = x.floor();
        let (r, first) = (x - below, below as i64);
        let weights: Vec<(i64, f64)> = match self.mode {
            SampleMode::Nearest => vec![(0, 1.0)],
            SampleMode::Linear => vec![(0, 1.0 - r), (1, r)],
            SampleMode::Cubic => [-1i64, 0, 1, 2].map(|i| (i, cubic((i as f64 - r).abs()))).to_vec(),
        };
        let place = |i: i64| {
            let i = match self.padding {
                SamplePadding::Zeros => return usize::try_from(i).ok().filter(|&i| i < extent),
                SamplePadding::Border => i,
                SamplePadding::Reflection => reflect(i as f64, low, high) as i64,
            };
            extent.checked_sub(1).map(|last| usize::try_from(i.max(0)).unwrap_or(0).min(last))
        };
        weights.into_iter().map(|(i, w)| (place(first.saturating_add(i)), w)).collect()
    }
}

/// Mirrors a position at the ends of a range until it lies within.
fn reflect(x: f64, low: f64, high: f64) -> f64 {
    let span = high - low;
    if span <= 0.0 || !x.is_finite() {
        return low;
    }
    let (beyond, from_low) = if x < low {
        (low - x, true)
    } else if x > high {
        (x - high, false)
    } else {
        return x;
    };
    let rest = beyond % span;
    let even = (beyond / span).floor() % 2.0 == 0.0;
    if even == from_low { low + rest } else { high - rest }
}

/// Keys' kernel.
fn cubic(d: f64) -> f64 {
    const A: f64 = -0.75;
    if d <= 1.0 {
        ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0
    } else {
        ((A * d - 5.0 * A) * d + 8.0 * A) * d - 4.0 * A
    }
}

/// The sum over all combinations of one tap an axis, `read` giving an element by its spatial position.
fn weighted(taps: &[Vec<(Option<usize>, f64)>], read: impl Fn(&[usize]) -> f64) -> Result<f64, OpError> {
    let counts: Vec<usize> = taps.iter().map(Vec::len).collect();
    let mut sum = 0.0;
    each_index(&counts, |choice| {
        let (mut place, mut weight) = (Vec::with_capacity(choice.len()), 1.0);
        for (taps, &c) in taps.iter().zip(choice) {
            let Some(&(Some(i), w)) = taps.get(c) else { return Ok(()) };
            place.push(i);
            weight *= w;
        }
        sum += weight * read(&place);
        Ok(())
    })?;
    Ok(sum)
}

impl OpDef for GridSample {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("x"), one("grid")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("GridSample", 20)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.expect_float(0)?;
        let grid = cx.expect_float(1)?;
        let [batch, channels, spatial @ ..] = x.shape.as_slice() else {
            return Err(cx.reject(0, "[N, C, spatial..]"));
        };
        let axes = i64::try_from(spatial.len()).unwrap_or(i64::MAX);
        match grid.shape.as_slice() {
            [n, places @ .., last]
                if places.len() == spatial.len() && last.is(axes) && may_equal(n, batch) =>
            {
                let shape = [batch, channels].into_iter().chain(places).cloned().collect();
                Ok(vec![TensorType { dtype: x.dtype, shape }])
            }
            _ => Err(cx.reject(1, format!("[{batch}, {axes} extents, {axes}]"))),
        }
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (x, grid) = (cx.input(0)?, cx.input(1)?);
        let (dtype, shape) = cx.output(0)?;
        let (v, g) = (x.to_f64_vec(), grid.to_f64_vec());
        let (from, grid_strides) = (strides(x.shape()), strides(grid.shape()));
        let spatial = x.shape().get(2..).unwrap_or(&[]);
        if at(grid.shape(), 0) != at(x.shape(), 0) {
            return Err(cx.bad_data(format!(
                "{} grids for {} images",
                at(grid.shape(), 0),
                at(x.shape(), 0)
            )));
        }
        let mut out = Vec::with_capacity(Tensor::zeros(dtype, shape)?.len());
        each_index(shape, |index| {
            let (&[n, c], place) = (&[at(index, 0), at(index, 1)], index.get(2..).unwrap_or(&[]));
            let mut at_grid = vec![n];
            at_grid.extend_from_slice(place);
            let start = flat(&at_grid, &grid_strides);
            let taps: Vec<_> = spatial
                .iter()
                .enumerate()
                .map(|(i, &extent)| self.taps(at(&g, start + spatial.len() - 1 - i), extent))
                .collect();
            out.push(weighted(&taps, |p| {
                at(&v, n * at(&from, 0) + c * at(&from, 1) + flat(p, from.get(2..).unwrap_or(&[])))
            })?);
            Ok(())
        })?;
        Ok(vec![Tensor::from_f64(dtype, shape, &out)?])
    }
}

op_struct! {
    /// Convolution whose taps are moved by offsets, between elements by linear interpolation, zeros outside, and
    /// scaled by a mask: x `[N, C, spatial..]`, w `[O, C/group, kernel..]`, offset `[N, offset_group taps axes, windows..]`,
    /// bias `[O]`, mask `[N, offset_group taps, windows..]`. Dai et al. 2017, Zhu et al. 2018. ONNX DeformConv-19.
    pub struct DeformConv = "DeformConv" {
        /// Step from one window to the next, one a spatial axis.
        pub strides: Vec<i64>,
        /// Zeros around x: first all begins, then all ends.
        pub pads: Vec<i64>,
        /// Distance of taps, one a spatial axis.
        pub dilations: Vec<i64>,
        /// Channels are cut into so many groups that do not see each other.
        pub group: i64 = 1,
        /// Channels are cut into so many groups with offsets of their own.
        pub offset_group: i64 = 1,
    }
}

impl DeformConv {
    fn window(&self) -> Window<'_> {
        Window { strides: &self.strides, pads: &self.pads, dilations: &self.dilations }
    }
}

impl OpDef for DeformConv {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("x"), one("w"), one("offset"), optional("bias"), optional("mask")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("DeformConv", 19)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.expect_float(0)?;
        let w = cx.expect_dtype(1, x.dtype)?;
        let offset = cx.expect_dtype(2, x.dtype)?;
        let ([batch, channels, spatial @ ..], [out, group_in, kernel @ ..]) =
            (x.shape.as_slice(), w.shape.as_slice())
        else {
            return Err(cx.reject(1, "[O, C/group, kernel..] for x [N, C, spatial..]"));
        };
        if kernel.len() != spatial.len() || spatial.is_empty() {
            return Err(cx.reject(1, format!("rank {}, that of x, and at least 3", x.rank())));
        }
        self.window().check(cx, spatial.len())?;
        for (name, count, of) in [("group", self.group, out), ("offset_group", self.offset_group, channels)] {
            if count < 1 || of.exact_div(&Dim::constant(count)).is_none() {
                return Err(cx.bad_attr(name, format!("{count} groups do not divide {of} channels")));
            }
        }
        if !group_in.mul_const(self.group)?.same(channels) {
            return Err(cx.reject(1, format!("{channels} / {} channels on axis 1", self.group)));
        }
        let kernel = fixed_kernel(cx, 1, kernel)?;
        let mut taps = Dim::constant(self.offset_group);
        let mut shape = vec![batch.clone(), out.clone()];
        for (i, (d, &k)) in spatial.iter().zip(&kernel).enumerate() {
            shape.push(self.window().extent(cx, i, d, k, false)?);
            taps = taps.mul_const(k)?;
        }
        let windows = shape.get(2..).unwrap_or(&[]);
        let expect = |index: usize, channels: Dim| match cx.opt(index) {
            None => Ok(()),
            Some(t) => {
                let want: Vec<&Dim> = [batch, &channels].into_iter().chain(windows).collect();
                let fits = t.rank() == want.len() && t.shape.iter().zip(&want).all(|(a, b)| may_equal(a, b));
                if fits && t.dtype == x.dtype {
                    Ok(())
                } else {
                    Err(cx.reject(index, format!("{} of shape {want:?}", x.dtype)))
                }
            }
        };
        let axes = i64::try_from(spatial.len()).unwrap_or(i64::MAX);
        expect(2, taps.mul_const(axes)?)?;
        expect(4, taps)?;
        if cx.opt(3).is_some() {
            cx.expect_shape(3, x.dtype, std::slice::from_ref(out))?;
        }
        let _ = offset;
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (x, w, offset) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
        let (dtype, shape) = cx.output(0)?;
        let (group, offset_group) = (groups(cx, self.group)?, groups(cx, self.offset_group)?);
        let (vx, vw, vo) = (x.to_f64_vec(), w.to_f64_vec(), offset.to_f64_vec());
        let bias = cx.opt(3).map(Tensor::to_f64_vec);
        let mask = cx.opt(4).map(Tensor::to_f64_vec);
        let (sx, sw) = (strides(x.shape()), strides(w.shape()));
        let spatial = x.shape().get(2..).unwrap_or(&[]);
        let kernel = w.shape().get(2..).unwrap_or(&[]);
        let windows: usize = shape.iter().skip(2).product();
        let taps: usize = kernel.iter().product();
        let (group_in, group_out) = (at(w.shape(), 1), at(w.shape(), 0) / group);
        let per_offset = (at(x.shape(), 1) / offset_group).max(1);
        let window = self.window();
        let mut out = Vec::with_capacity(Tensor::zeros(dtype, shape)?.len());
        each_index(shape, |index| {
            let [n, o, place @ ..] = index else { return Ok(()) };
            let place_at = flat(place, &strides(shape.get(2..).unwrap_or(&[])));
            let mut sum = bias.as_ref().map_or(0.0, |b| at(b, *o));
            for c in 0..group_in {
                let channel = o / group_out.max(1) * group_in + c;
                let part = channel / per_offset;
                let mut tap_at = 0;
                each_index(kernel, |tap| {
                    let row = (n * offset_group + part) * taps + tap_at;
                    tap_at += 1;
                    let near: Vec<_> = (0..spatial.len())
                        .map(|i| {
                            let p = window.padded_source(i, at(place, i), at(tap, i)).unwrap_or(i64::MAX);
                            let moved = p as f64 + at(&vo, (row * spatial.len() + i) * windows + place_at);
                            corners(moved, at(spatial, i))
                        })
                        .collect();
                    let value = weighted(&near, |p| {
                        let p = flat(p, sx.get(2..).unwrap_or(&[]));
                        at(&vx, n * at(&sx, 0) + channel * at(&sx, 1) + p)
                    })?;
                    let scale = mask.as_ref().map_or(1.0, |m| at(m, row * windows + place_at));
                    let weight = o * at(&sw, 0) + c * at(&sw, 1) + flat(tap, sw.get(2..).unwrap_or(&[]));
                    sum += value * scale * at(&vw, weight);
                    Ok(())
                })?;
            }
            out.push(sum);
            Ok(())
        })?;
        Ok(vec![Tensor::from_f64(dtype, shape, &out)?])
    }
}

/// The elements beside a position and their weights; None outside.
fn corners(x: f64, extent: usize) -> Vec<(Option<usize>, f64)> {
    let below = x.floor();
    let place = |i: i64| usize::try_from(i).ok().filter(|&i| i < extent);
    let first = below as i64;
    vec![(place(first), 1.0 - (x - below)), (place(first.saturating_add(1)), x - below)]
}
