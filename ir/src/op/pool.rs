//! Pooling over sliding windows and over whole planes.

use super::elements::{at, each_index, flat, strides};
use super::window::Window;
use super::*;
use crate::op_struct;

const X: &[Operand] = &[one("x")];

op_struct! {
    /// Largest element under each window of x `[N, C, spatial..]`; padding never wins. ONNX MaxPool-12.
    pub struct MaxPool = "MaxPool" {
        /// Extents of the window.
        pub kernel: Vec<i64>,
        /// Step from one window to the next, one a spatial axis.
        pub strides: Vec<i64>,
        /// Padding: first all begins, then all ends.
        pub pads: Vec<i64>,
        /// Distance of taps, one a spatial axis.
        pub dilations: Vec<i64>,
        /// Round the number of windows up.
        pub ceil_mode: bool = false,
    }
}

op_struct! {
    /// Mean under each window of x `[N, C, spatial..]`. ONNX AveragePool-19.
    pub struct AveragePool = "AveragePool" {
        /// Extents of the window.
        pub kernel: Vec<i64>,
        /// Step from one window to the next, one a spatial axis.
        pub strides: Vec<i64>,
        /// Padding: first all begins, then all ends.
        pub pads: Vec<i64>,
        /// Distance of taps, one a spatial axis.
        pub dilations: Vec<i64>,
        /// Round the number of windows up.
        pub ceil_mode: bool = false,
        /// Divide by all taps that lie on x or its padding, not only by those on x.
        pub count_include_pad: bool = false,
    }
}

macro_rules! pool {
    ($name:ident, $opset:literal, |$op:ident, $taps:ident| $result:expr) => {
        impl $name {
            fn window(&self) -> Window<'_> {
                Window { strides: &self.strides, pads: &self.pads, dilations: &self.dilations }
            }
        }
        impl OpDef for $name {
            fn operands(&self) -> &'static [Operand] {
                X
            }
            fn onnx(&self) -> Onnx {
                Onnx::Op(Self::NAME, $opset)
            }
            fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
                infer_pool(cx, &self.kernel, self.window(), self.ceil_mode)
            }
            fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
                let $op = self;
                eval_pool(cx, &self.kernel, self.window(), |$taps| $result)
            }
        }
    };
}
pool!(MaxPool, 12, |_op, taps| taps
    .inside
    .iter()
    .copied()
    .fold(f64::NEG_INFINITY, |a, b| { if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) } }));
pool!(AveragePool, 19, |op, taps| {
    let count = if op.count_include_pad { taps.padded } else { taps.inside.len() };
    taps.inside.iter().sum::<f64>() / count as f64
});

/// What lies under one window.
struct Taps {
    /// Elements of x.
    inside: Vec<f64>,
    /// Number of taps on x or its padding; in ceil mode a window may reach beyond.
    padded: usize,
}

fn infer_pool(
    cx: &Infer<'_>,
    kernel: &[i64],
    window: Window<'_>,
    ceil: bool,
) -> Result<Vec<TensorType>, OpError> {
    let x = cx.expect_float(0)?;
    let [batch, channels, spatial @ ..] = x.shape.as_slice() else {
        return Err(cx.reject(0, "[N, C, spatial..]"));
    };
    window.check(cx, spatial.len())?;
    if spatial.is_empty() || kernel.len() != spatial.len() || kernel.iter().any(|&k| k < 1) {
        let why = format!("expected {} numbers of 1 or more, got {kernel:?}", spatial.len());
        return Err(cx.bad_attr("kernel", why));
    }
    let mut shape = vec![batch.clone(), channels.clone()];
    for (i, (d, &k)) in spatial.iter().zip(kernel).enumerate() {
        let (_, begin, end, dilation) = window.along(i);
        // A window wholly in the padding would have no elements.
        if begin.max(end) > (k - 1).saturating_mul(dilation) {
            return Err(cx.bad_attr("pads", format!("{begin} and {end} exceed the window of {k} taps")));
        }
        shape.push(window.extent(cx, i, d, k, ceil)?);
    }
    Ok(vec![TensorType { dtype: x.dtype, shape }])
}

fn eval_pool(
    cx: &Eval<'_>,
    kernel: &[i64],
    window: Window<'_>,
    f: impl Fn(&Taps) -> f64,
) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let (dtype, shape) = cx.output(0)?;
    let v = x.to_f64_vec();
    let from = strides(x.shape());
    let spatial = x.shape().get(2..).unwrap_or(&[]);
    let kernel: Vec<usize> = kernel.iter().map(|&k| usize::try_from(k).unwrap_or(0)).collect();
    let mut out = Vec::new();
    each_index(shape, |index| {
        let (channel, place) = index.split_at(2.min(index.len()));
        let mut taps = Taps { inside: Vec::new(), padded: 0 };
        each_index(&kernel, |tap| {
            let mut source = channel.to_vec();
            let (mut inside, mut padded) = (true, true);
            for (i, &extent) in spatial.iter().enumerate() {
                let (_, begin, end, _) = window.along(i);
                let p = window.padded_source(i, at(place, i), at(tap, i)).unwrap_or(i64::MAX);
                let extent = i64::try_from(extent).unwrap_or(i64::MAX);
                padded &= -begin <= p && p < extent.saturating_add(end);
                inside &= 0 <= p && p < extent;
                source.push(usize::try_from(p).unwrap_or(0));
            }
            taps.padded += usize::from(padded);
            if inside {
                taps.inside.push(at(&v, flat(&source, &from)));
            }
            Ok(())
        })?;
        out.push(f(&taps));
        Ok(())
    })?;
    Ok(vec![Tensor::from_f64(dtype, shape, &out)?])
}

op_struct! {
    /// Mean over all spatial axes of x `[N, C, spatial..]`, kept with extent 1. ONNX GlobalAveragePool-1.
    pub struct GlobalAveragePool = "GlobalAveragePool" {}
}

impl OpDef for GlobalAveragePool {
    fn operands(&self) -> &'static [Operand] {
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("GlobalAveragePool", 1)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.expect_float(0)?;
        if x.rank() < 3 {
            return Err(cx.reject(0, "[N, C, spatial..]"));
        }
        let keep = |(i, d): (usize, &crate::Dim)| if i < 2 { d.clone() } else { crate::Dim::constant(1) };
        Ok(vec![TensorType { dtype: x.dtype, shape: x.shape.iter().enumerate().map(keep).collect() }])
    }
    fn is_composite(&self) -> bool {
        true
    }
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let x = b.operand(inputs, 0)?;
        let axes: Vec<i64> = (2..b.rank(x)?).filter_map(|i| i64::try_from(i).ok()).collect();
        Ok(vec![b.op(Reduce::keep(ReduceFn::Mean, &axes), &[x])?])
    }
}
