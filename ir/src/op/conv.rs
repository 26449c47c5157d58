//! Convolutions over any number of spatial axes, direct and transposed. The fused form is in `fused.rs`.

use super::elements::{at, each_index, flat, strides};
use super::window::{Window, fixed_kernel, groups};
use super::*;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::op_struct;

const OPERANDS: &[Operand] = &[one("x"), one("w"), optional("bias")];

op_struct! {
    /// Convolution (cross-correlation): x `[N, C, spatial..]`, w `[O, C/group, kernel..]`, bias `[O]` to
    /// `[N, O, windows..]`. ONNX Conv-11.
    pub struct Conv = "Conv" {
        /// Step from one window to the next, one a spatial axis.
        pub strides: Vec<i64>,
        /// Zeros around x: first all begins, then all ends.
        pub pads: Vec<i64>,
        /// Distance of taps, one a spatial axis.
        pub dilations: Vec<i64>,
        /// Channels are cut into so many groups that do not see each other.
        pub group: i64 = 1,
    }
}

impl Conv {
    /// Stride 1, no padding, no dilation, over `n` spatial axes.
    pub fn plain(n: usize) -> Self {
        Conv { strides: vec![1; n], pads: vec![0; 2 * n], dilations: vec![1; n], group: 1 }
    }

    pub(super) fn window(&self) -> Window<'_> {
        Window { strides: &self.strides, pads: &self.pads, dilations: &self.dilations }
    }

    /// The type of the result, also for the fused form.
    pub(super) fn result(&self, cx: &Infer<'_>) -> Result<TensorType, OpError> {
        let x = cx.expect_float(0)?;
        let w = cx.expect_dtype(1, x.dtype)?;
        let [batch, channels, spatial @ ..] = x.shape.as_slice() else {
            return Err(cx.reject(0, "[N, C, spatial..]"));
        };
        let [out, group_in, kernel @ ..] = w.shape.as_slice() else {
            return Err(cx.reject(1, "[O, C/group, kernel..]"));
        };
        if kernel.len() != spatial.len() || spatial.is_empty() {
            return Err(cx.reject(1, format!("rank {}, that of x, and at least 3", x.rank())));
        }
        self.window().check(cx, spatial.len())?;
        check_group(cx, self.group, out, "output channels")?;
        if !group_in.mul_const(self.group)?.same(channels) {
            return Err(cx.reject(1, format!("{channels} / {} channels on axis 1", self.group)));
        }
        expect_bias(cx, x.dtype, out)?;
        let kernel = fixed_kernel(cx, 1, kernel)?;
        let mut shape = vec![batch.clone(), out.clone()];
        for (i, (d, k)) in spatial.iter().zip(kernel).enumerate() {
            shape.push(self.window().extent(cx, i, d, k, false)?);
        }
        Ok(TensorType { dtype: x.dtype, shape })
    }
}

fn check_group(cx: &Infer<'_>, group: i64, channels: &Dim, what: &str) -> Result<(), OpError> {
    if group < 1 || channels.exact_div(&Dim::constant(group)).is_none() {
        return Err(cx.bad_attr("group", format!("{group} groups do not divide {channels} {what}")));
    }
    Ok(())
}

fn expect_bias(cx: &Infer<'_>, dtype: DType, channels: &Dim) -> Result<(), OpError> {
    match cx.opt(2) {
        Some(_) => cx.expect_shape(2, dtype, std::slice::from_ref(channels)).map(drop),
        None => Ok(()),
    }
}

impl OpDef for Conv {
    fn operands(&self) -> &'static [Operand] {
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Conv", 11)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        Ok(vec![self.result(cx)?])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (x, w) = (cx.input(0)?, cx.input(1)?);
        let (dtype, shape) = cx.output(0)?;
        let group = groups(cx, self.group)?;
        let (vx, vw) = (x.to_f64_vec(), w.to_f64_vec());
        let bias = cx.opt(2).map(Tensor::to_f64_vec);
        let (sx, sw) = (strides(x.shape()), strides(w.shape()));
        let spatial = x.shape().get(2..).unwrap_or(&[]);
        let kernel = w.shape().get(2..).unwrap_or(&[]);
        let group_in = at(w.shape(), 1);
        let group_out = at(w.shape(), 0) / group;
        let window = self.window();
        let mut out = Vec::new();
        each_index(shape, |index| {
            let [n, o, place @ ..] = index else { return Ok(()) };
            let first = o / group_out.max(1) * group_in;
            let mut sum = bias.as_ref().map_or(0.0, |b| at(b, *o));
            each_index(kernel, |tap| {
                let source: Option<Vec<usize>> = (0..spatial.len())
                    .map(|i| window.source(i, at(place, i), at(tap, i), at(spatial, i)))
                    .collect();
                if let Some(source) = source {
                    let px = flat(&source, sx.get(2..).unwrap_or(&[]));
                    let pw = flat(tap, sw.get(2..).unwrap_or(&[]));
                    for c in 0..group_in {
                        let ix = n * at(&sx, 0) + (first + c) * at(&sx, 1) + px;
                        let iw = o * at(&sw, 0) + c * at(&sw, 1) + pw;
                        sum += at(&vx, ix) * at(&vw, iw);
                    }
                }
                Ok(())
            })?;
            out.push(sum);
            Ok(())
        })?;
        Ok(vec![Tensor::from_f64(dtype, shape, &out)?])
    }
}

op_struct! {
    /// Transposed convolution, the gradient of Conv: x `[N, C, spatial..]`, w `[C, O/group, kernel..]`, bias `[O]`;
    /// extents (extent - 1) stride - pads + dilation (kernel - 1) + output_padding + 1. ONNX ConvTranspose-11.
    pub struct ConvTranspose = "ConvTranspose" {
        /// Step from one window to the next, one a spatial axis.
        pub strides: Vec<i64>,
        /// Cut from the result: first all begins, then all ends.
        pub pads: Vec<i64>,
        /// Distance of taps, one a spatial axis.
        pub dilations: Vec<i64>,
        /// Channels are cut into so many groups that do not see each other.
        pub group: i64 = 1,
        /// Added to the result's end, one number a spatial axis; none: 0.
        pub output_padding: Vec<i64> = vec![],
    }
}

impl OpDef for ConvTranspose {
    fn operands(&self) -> &'static [Operand] {
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("ConvTranspose", 11)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.expect_float(0)?;
        let w = cx.expect_dtype(1, x.dtype)?;
        let [batch, channels, spatial @ ..] = x.shape.as_slice() else {
            return Err(cx.reject(0, "[N, C, spatial..]"));
        };
        let [group_in, group_out, kernel @ ..] = w.shape.as_slice() else {
            return Err(cx.reject(1, "[C, O/group, kernel..]"));
        };
        if kernel.len() != spatial.len() || spatial.is_empty() {
            return Err(cx.reject(1, format!("rank {}, that of x, and at least 3", x.rank())));
        }
        let window = Window { strides: &self.strides, pads: &self.pads, dilations: &self.dilations };
        window.check(cx, spatial.len())?;
        if !self.output_padding.is_empty() && self.output_padding.len() != spatial.len()
            || self.output_padding.iter().any(|&p| p < 0)
        {
            let why =
                format!("expected {} numbers of 0 or more, got {:?}", spatial.len(), self.output_padding);
            return Err(cx.bad_attr("output_padding", why));
        }
        check_group(cx, self.group, channels, "input channels")?;
        if !group_in.same(channels) {
            return Err(cx.reject(1, format!("{channels} channels on axis 0")));
        }
        let out = group_out.mul_const(self.group)?;
        expect_bias(cx, x.dtype, &out)?;
        let kernel = fixed_kernel(cx, 1, kernel)?;
        let mut shape = vec![batch.clone(), out];
        for (i, (d, k)) in spatial.iter().zip(kernel).enumerate() {
            let (stride, begin, end, dilation) = window.along(i);
            let extra = self.output_padding.get(i).copied().unwrap_or(0);
            let reach = (k - 1)
                .checked_mul(dilation)
                .and_then(|r| r.checked_add(extra)?.checked_sub(begin)?.checked_sub(end)?.checked_add(1))
                .ok_or(crate::DimError::Overflow)?;
            let extent = d.add_const(-1)?.mul_const(stride)?.add_const(reach)?;
            if extent.as_const().is_some_and(|e| e < 0) {
                return Err(cx.bad_attr("pads", format!("they leave {extent} along spatial axis {i}")));
            }
            shape.push(extent);
        }
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (x, w) = (cx.input(0)?, cx.input(1)?);
        let (dtype, shape) = cx.output(0)?;
        let group = groups(cx, self.group)?;
        let (vx, vw) = (x.to_f64_vec(), w.to_f64_vec());
        let bias = cx.opt(2).map(Tensor::to_f64_vec);
        let (sw, so) = (strides(w.shape()), strides(shape));
        let spatial = shape.get(2..).unwrap_or(&[]);
        let kernel = w.shape().get(2..).unwrap_or(&[]);
        let (group_in, group_out) = (at(w.shape(), 0) / group, at(w.shape(), 1));
        let window = Window { strides: &self.strides, pads: &self.pads, dilations: &self.dilations };
        let mut out = vec![0.0; Tensor::zeros(DType::F64, shape)?.len()];
        let mut position = 0;
        // Every element of x adds its multiples of the kernel to the window of the result that it made.
        each_index(x.shape(), |index| {
            let [n, c, place @ ..] = index else { return Ok(()) };
            let value = at(&vx, position);
            position += 1;
            each_index(kernel, |tap| {
                let target: Option<Vec<usize>> = (0..spatial.len())
                    .map(|i| window.source(i, at(place, i), at(tap, i), at(spatial, i)))
                    .collect();
                let Some(target) = target else { return Ok(()) };
                for k in 0..group_out {
                    let o = c / group_in.max(1) * group_out + k;
                    let iw = c * at(&sw, 0) + k * at(&sw, 1) + flat(tap, sw.get(2..).unwrap_or(&[]));
                    let io = n * at(&so, 0) + o * at(&so, 1) + flat(&target, so.get(2..).unwrap_or(&[]));
                    if let Some(y) = out.get_mut(io) {
                        *y += value * at(&vw, iw);
                    }
                }
                Ok(())
            })
        })?;
        if let Some(bias) = bias {
            for (i, y) in out.iter_mut().enumerate() {
                *y += at(&bias, i / at(&so, 1).max(1) % bias.len().max(1));
            }
        }
        Ok(vec![Tensor::from_f64(dtype, shape, &out)?])
    }
}
