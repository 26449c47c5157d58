//! Pooling over sliding windows and over whole planes.

use super::elements::{at, each_index, flat, strides};
use super::window::Window;
use super::*;
use crate::dtype::DType;
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

op_struct! {
    /// Root of the sum of powers under each window of x `[N, C, spatial..]`: (sum |x|^p)^(1/p). ONNX LpPool-18.
    pub struct LpPool = "LpPool" {
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
        /// The power.
        pub p: f64 = 2.0,
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
                cx.expect_float(0)?;
                infer_pool(cx, &self.kernel, self.window(), self.ceil_mode)
            }
            fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
                let $op = self;
                let mut out = Vec::new();
                each_window(cx, &self.kernel, self.window(), |$taps| out.push($result))?;
                let (dtype, shape) = cx.output(0)?;
                Ok(vec![Tensor::from_f64(dtype, shape, &out)?])
            }
        }
    };
}
pool!(AveragePool, 19, |op, taps| {
    let count = if op.count_include_pad { taps.padded } else { taps.inside.len() };
    taps.inside.iter().map(|&(_, x)| x).sum::<f64>() / count as f64
});
pool!(LpPool, 18, |op, taps| {
    taps.inside.iter().map(|(_, x)| x.abs().powf(op.p)).sum::<f64>().powf(1.0 / op.p)
});

impl MaxPool {
    fn window(&self) -> Window<'_> {
        Window { strides: &self.strides, pads: &self.pads, dilations: &self.dilations }
    }
}

impl OpDef for MaxPool {
    fn operands(&self) -> &'static [Operand] {
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("MaxPool", 12)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        expect_orderable(cx)?;
        infer_pool(cx, &self.kernel, self.window(), self.ceil_mode)
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (values, _) = largest(cx, &self.kernel, self.window())?;
        Ok(vec![values])
    }
}

op_struct! {
    /// MaxPool, and where in x each of its elements is (the first of equals): the number of the element counted
    /// through x, i64. ONNX MaxPool-12 with its second result.
    pub struct MaxPoolIndices = "MaxPoolIndices" {
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
        /// Count within a plane down the columns: the first spatial axis runs fastest.
        pub column_major: bool = false,
    }
}

impl OpDef for MaxPoolIndices {
    fn operands(&self) -> &'static [Operand] {
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("MaxPool", 12)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        expect_orderable(cx)?;
        let window = Window { strides: &self.strides, pads: &self.pads, dilations: &self.dilations };
        let values = infer_pool(cx, &self.kernel, window, self.ceil_mode)?;
        let places = values.iter().map(|t| TensorType { dtype: DType::I64, shape: t.shape.clone() });
        Ok(values.iter().cloned().chain(places).collect())
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let window = Window { strides: &self.strides, pads: &self.pads, dilations: &self.dilations };
        let (values, mut places) = largest(cx, &self.kernel, window)?;
        let spatial = cx.input(0)?.shape().get(2..).unwrap_or(&[]);
        if self.column_major {
            let area: usize = spatial.iter().product();
            let by_row = strides(spatial);
            let reversed: Vec<usize> = spatial.iter().rev().copied().collect();
            let by_column: Vec<usize> = strides(&reversed).into_iter().rev().collect();
            for p in &mut places {
                let within = *p % area.max(1);
                let index: Vec<usize> =
                    by_row.iter().zip(spatial).map(|(s, d)| within / (*s).max(1) % (*d).max(1)).collect();
                *p = *p - within + flat(&index, &by_column);
            }
        }
        let places: Vec<i64> = places.into_iter().map(|p| i64::try_from(p).unwrap_or(i64::MAX)).collect();
        let places = Tensor::from_slice(values.shape(), &places)?;
        Ok(vec![values, places])
    }
}

fn expect_orderable(cx: &Infer<'_>) -> Result<(), OpError> {
    let x = cx.ty(0)?;
    // Wider integers are no doubles.
    match x.dtype {
        DType::I8 | DType::U8 | DType::I16 | DType::U16 | DType::I32 | DType::U32 => Ok(()),
        d if d.is_float() => Ok(()),
        _ => Err(cx.reject(0, "a float type, or integers of at most 32 bits")),
    }
}

/// The largest element under each window and its place in x, the first of equals; a NaN counts as largest.
fn largest(cx: &Eval<'_>, kernel: &[i64], window: Window<'_>) -> Result<(Tensor, Vec<usize>), OpError> {
    let (dtype, shape) = cx.output(0)?;
    let (mut values, mut places) = (Vec::new(), Vec::new());
    each_window(cx, kernel, window, |taps| {
        let mut best = taps.inside.first().copied().unwrap_or((0, f64::NEG_INFINITY));
        for &(place, x) in &taps.inside {
            if x > best.1 || (x.is_nan() && !best.1.is_nan()) {
                best = (place, x);
            }
        }
        places.push(best.0);
        values.push(best.1);
    })?;
    Ok((Tensor::from_f64(dtype, shape, &values)?, places))
}

/// What lies under one window.
struct Taps {
    /// Elements of x and their places.
    inside: Vec<(usize, f64)>,
    /// Number of taps on x or its padding; in ceil mode a window may reach beyond.
    padded: usize,
}

/// A window has no more taps: the reference goes through them one by one.
const MOST_TAPS: i64 = 1 << 24;

fn infer_pool(
    cx: &Infer<'_>,
    kernel: &[i64],
    window: Window<'_>,
    ceil: bool,
) -> Result<Vec<TensorType>, OpError> {
    let x = cx.ty(0)?;
    let [batch, channels, spatial @ ..] = x.shape.as_slice() else {
        return Err(cx.reject(0, "[N, C, spatial..]"));
    };
    window.check(cx, spatial.len())?;
    if spatial.is_empty() || kernel.len() != spatial.len() || kernel.iter().any(|&k| k < 1) {
        let why = format!("expected {} numbers of 1 or more, got {kernel:?}", spatial.len());
        return Err(cx.bad_attr("kernel", why));
    }
    let taps = kernel.iter().try_fold(1i64, |n, &k| n.checked_mul(k));
    if taps.is_none_or(|n| n > MOST_TAPS) {
        return Err(cx.bad_attr("kernel", format!("{kernel:?} are more than {MOST_TAPS} taps")));
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

/// Calls `f` with what lies under each window, in the order of the result.
fn each_window(
    cx: &Eval<'_>,
    kernel: &[i64],
    window: Window<'_>,
    mut f: impl FnMut(&Taps),
) -> Result<(), OpError> {
    let x = cx.input(0)?;
    let (_, shape) = cx.output(0)?;
    let v = x.to_f64_vec();
    let from = strides(x.shape());
    let spatial = x.shape().get(2..).unwrap_or(&[]);
    let kernel: Vec<usize> = kernel.iter().map(|&k| usize::try_from(k).unwrap_or(0)).collect();
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
                let place = flat(&source, &from);
                taps.inside.push((place, at(&v, place)));
            }
            Ok(())
        })?;
        f(&taps);
        Ok(())
    })
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
