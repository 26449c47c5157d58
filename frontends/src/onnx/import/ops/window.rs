//! Sliding windows: convolutions and pools with their automatic padding. Pools over regions are in `image.rs`.

use super::super::sizes::same_padding;
use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{
    AveragePool, BinaryFn, Conv, ConvTranspose, GlobalAveragePool, LpPool, MaxPool, MaxPoolIndices, Pad,
    PadMode, ReduceFn, UnaryFn,
};
use frit_ir::{DType, Dim, ValueId};

pub const ROWS: &[Row] = &[
    ("", "Conv", 1, conv),
    ("", "ConvTranspose", 1, conv_transpose),
    ("", "MaxPool", 1, pool),
    ("", "AveragePool", 1, pool),
    ("", "LpPool", 1, pool),
    ("", "GlobalMaxPool", 1, global_pool),
    ("", "GlobalAveragePool", 1, global_pool),
    ("", "GlobalLpPool", 1, global_pool),
];

/// A window's attributes.
pub struct Window {
    pub kernel: Vec<i64>,
    pub strides: Vec<i64>,
    pub dilations: Vec<i64>,
    /// First all begins, then all ends.
    pub pads: Vec<i64>,
}

impl Window {
    /// Attributes of a node over axes of these extents. Automatic padding that depends on symbols is put around x
    /// itself, with `fill`.
    pub fn read(
        cx: &mut Cx<'_>,
        n: &NodeView<'_>,
        x: ValueId,
        kernel: Vec<i64>,
        fill: f64,
    ) -> Result<(Window, ValueId)> {
        let count = kernel.len();
        let list = |name: &'static str, len: usize, default: i64| -> Result<Vec<i64>> {
            let all = n.ints(name)?.filter(|a| !a.is_empty()).unwrap_or_else(|| vec![default; len]);
            if all.len() == len {
                Ok(all)
            } else {
                Err(n.error(format!("attribute `{name}`: expected {len} numbers")))
            }
        };
        let (strides, dilations) = (list("strides", count, 1)?, list("dilations", count, 1)?);
        let mut window = Window { kernel, strides, dilations, pads: vec![0; 2 * count] };
        let auto = n.string_or("auto_pad", "NOTSET")?;
        match auto {
            "NOTSET" | "" => window.pads = list("pads", 2 * count, 0)?,
            "VALID" => {
                n.ignore(&["pads"]);
            }
            "SAME_UPPER" | "SAME_LOWER" => {
                n.ignore(&["pads"]);
                let shape = cx.shape(x)?;
                let mut total = Vec::with_capacity(count);
                for (i, extent) in shape.iter().skip(2).enumerate().take(count) {
                    let reach = window.reach(i).ok_or_else(|| n.error("the window overflows"))?;
                    let stride = window.strides.get(i).copied().unwrap_or(1);
                    if stride < 1 {
                        return Err(n.error(format!("stride {stride}")));
                    }
                    total.push(cx.dim(same_padding(extent, stride, reach))?);
                }
                return window.same(cx, n, x, &total, auto == "SAME_UPPER", fill);
            }
            other => return Err(n.error(format!("attribute `auto_pad`: `{other}` is none of its values"))),
        }
        Ok((window, x))
    }

    /// Elements under a window, from the first to the last.
    fn reach(&self, i: usize) -> Option<i64> {
        self.kernel.get(i)?.checked_sub(1)?.checked_mul(*self.dilations.get(i)?)?.checked_add(1)
    }

    /// Half of the padding on each side, the odd one at the end or at the beginning.
    fn same(
        mut self,
        cx: &mut Cx<'_>,
        n: &NodeView<'_>,
        x: ValueId,
        total: &[Dim],
        upper: bool,
        fill: f64,
    ) -> Result<(Window, ValueId)> {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for t in total {
            let less = cx.dim(t.floor_div(&Dim::constant(2)))?;
            let more = cx.dim(t.sub(&less))?;
            let (b, a) = if upper { (less, more) } else { (more, less) };
            before.push(b);
            after.push(a);
        }
        let fixed: Option<Vec<i64>> = before.iter().chain(&after).map(Dim::as_const).collect();
        if let Some(pads) = fixed {
            self.pads = pads;
            return Ok((self, x));
        }
        if fill.is_nan() {
            return Err(n.error("automatic padding of this pool needs fixed extents"));
        }
        for side in [&mut before, &mut after] {
            side.splice(0..0, [Dim::constant(0), Dim::constant(0)]);
        }
        let x = cx.emit(Pad { before, after, mode: PadMode::Constant, value: fill }, &[x])?;
        Ok((self, x))
    }
}

/// Extents of a weight's window, which must be fixed.
fn kernel_of(cx: &Cx<'_>, n: &NodeView<'_>, w: ValueId) -> Result<Vec<i64>> {
    let shape = cx.shape(w)?;
    let fixed: Option<Vec<i64>> = shape.iter().skip(2).map(Dim::as_const).collect();
    let kernel =
        fixed.ok_or_else(|| n.error(format!("a window of fixed extents is needed, got {shape:?}")))?;
    match n.ints("kernel_shape")? {
        Some(declared) if declared != kernel => {
            Err(n.error(format!("attribute `kernel_shape` is {declared:?}, the weight has {kernel:?}")))
        }
        _ => Ok(kernel),
    }
}

fn conv<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    Ok(vec![convolution(cx, n, n.tensor(0)?, n.tensor(1)?, n.opt(2)?)?.into()])
}

/// The convolution that the node's attributes describe, of these operands.
pub fn convolution(
    cx: &mut Cx<'_>,
    n: &NodeView<'_>,
    x: ValueId,
    w: ValueId,
    bias: Option<ValueId>,
) -> Result<ValueId> {
    let kernel = kernel_of(cx, n, w)?;
    let group = n.int_or("group", 1)?;
    let (window, mut x) = Window::read(cx, n, x, kernel, 0.0)?;
    if let Some(inner) = cx.shape(w)?.get(1) {
        let channels = cx.dim(inner.mul_const(group))?;
        x = cx.agree_axis(x, 1, &channels)?;
    }
    let op = Conv { strides: window.strides, pads: window.pads, dilations: window.dilations, group };
    let y = cx.emit_all(op, &[Some(x), Some(w), bias])?;
    y.first().copied().ok_or_else(|| n.error("a convolution without a result"))
}

/// ConvTranspose: the result's extents are given, or follow from padding that is.
fn conv_transpose<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (x, w, bias) = (n.tensor(0)?, n.tensor(1)?, n.opt(2)?);
    let kernel = kernel_of(cx, n, w)?;
    let count = kernel.len();
    let list = |name: &'static str, len: usize, default: i64| -> Result<Vec<i64>> {
        let all = n.ints(name)?.filter(|a| !a.is_empty()).unwrap_or_else(|| vec![default; len]);
        if all.len() == len {
            Ok(all)
        } else {
            Err(n.error(format!("attribute `{name}`: expected {len} numbers")))
        }
    };
    let (strides, dilations) = (list("strides", count, 1)?, list("dilations", count, 1)?);
    let mut output_padding = list("output_padding", count, 0)?;
    let auto = n.string_or("auto_pad", "NOTSET")?;
    let wanted = n.ints("output_shape")?.filter(|s| !s.is_empty());
    let mut pads = vec![0; 2 * count];
    let same = matches!(auto, "SAME_UPPER" | "SAME_LOWER");
    if wanted.is_some() || same {
        n.ignore(&["pads"]);
        let shape = cx.shape(x)?;
        for (i, extent) in shape.iter().skip(2).enumerate().take(count) {
            let of = |list: &[i64]| list.get(i).copied().unwrap_or(1);
            let (stride, padding) = (of(&strides), of(&output_padding));
            let reach = of(&kernel).checked_sub(1).and_then(|k| k.checked_mul(of(&dilations)));
            let reach =
                reach.and_then(|r| r.checked_add(1)).ok_or_else(|| n.error("the window overflows"))?;
            let full =
                extent.add_const(-1).and_then(|e| e.mul_const(stride)?.add_const(reach)?.add_const(padding));
            let full = cx.dim(full)?;
            let result = match &wanted {
                // Some files count the batch and the channels in.
                Some(all) => {
                    let at = all.len().checked_sub(count).and_then(|skip| all.get(skip + i));
                    Dim::constant(*at.ok_or_else(|| n.error("attribute `output_shape` is too short"))?)
                }
                None => cx.dim(extent.mul_const(stride))?,
            };
            let total = cx.dim(full.sub(&result))?;
            let total = total.as_const().ok_or_else(|| n.error(format!("padding {total} must be fixed")))?;
            if total < 0 {
                if let Some(p) = output_padding.get_mut(i) {
                    *p = p.saturating_sub(total);
                }
                continue;
            }
            let (less, more) = (total / 2, total - total / 2);
            let (begin, end) = if auto == "SAME_UPPER" { (less, more) } else { (more, less) };
            if let Some(p) = pads.get_mut(i) {
                *p = begin;
            }
            if let Some(p) = pads.get_mut(count + i) {
                *p = end;
            }
        }
    } else if matches!(auto, "NOTSET" | "") {
        pads = list("pads", 2 * count, 0)?;
    }
    let group = n.int_or("group", 1)?;
    let mut x = x;
    if let Some(channels) = cx.shape(w)?.first() {
        x = cx.agree_axis(x, 1, channels)?;
    }
    let op = ConvTranspose { strides, pads, dilations, group, output_padding };
    let y = cx.emit_all(op, &[Some(x), Some(w), bias])?;
    Ok(y.into_iter().map(Val::from).collect())
}

fn pool<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let dtype = cx.dtype(x)?;
    // Pools are computed in floats, which hold the small integers that ONNX allows here.
    let x = if dtype.is_float() { x } else { cx.cast(x, DType::F32)? };
    let kernel = n.ints("kernel_shape")?.ok_or_else(|| n.error("attribute `kernel_shape` is missing"))?;
    let fill = match n.op {
        "MaxPool" => f64::NEG_INFINITY,
        "LpPool" => 0.0,
        _ => f64::NAN,
    };
    let (Window { kernel, strides, dilations, pads }, x) = Window::read(cx, n, x, kernel, fill)?;
    let ceil_mode = n.flag("ceil_mode", false)?;
    let results = match n.op {
        "MaxPool" => {
            let column_major = n.flag("storage_order", false)?;
            if n.wants(1) {
                cx.emit_all(
                    MaxPoolIndices { kernel, strides, pads, dilations, ceil_mode, column_major },
                    &[Some(x)],
                )?
            } else {
                cx.emit_all(MaxPool { kernel, strides, pads, dilations, ceil_mode }, &[Some(x)])?
            }
        }
        "LpPool" => {
            let p = if n.opset < 2 { n.float_or("p", 2.0)? } else { n.int_or("p", 2)? as f64 };
            cx.emit_all(LpPool { kernel, strides, pads, dilations, ceil_mode, p }, &[Some(x)])?
        }
        _ => {
            let count_include_pad = n.flag("count_include_pad", false)?;
            let op = AveragePool { kernel, strides, pads, dilations, ceil_mode, count_include_pad };
            cx.emit_all(op, &[Some(x)])?
        }
    };
    let mut out = Vec::with_capacity(results.len());
    for (i, v) in results.into_iter().enumerate() {
        out.push(if i == 0 { cx.cast(v, dtype)? } else { v }.into());
    }
    Ok(out)
}

fn global_pool<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let rank = cx.rank(x)?;
    let axes: Vec<usize> = (2..rank).collect();
    if axes.is_empty() {
        return Err(n.error(format!("expected [N, C, spatial..], got rank {rank}")));
    }
    let y = match n.op {
        "GlobalAveragePool" => cx.emit(GlobalAveragePool {}, &[x])?,
        "GlobalMaxPool" => cx.reduce(ReduceFn::Max, x, &axes, true)?,
        _ => {
            let p = if n.opset < 2 { n.float_or("p", 2.0)? } else { n.int_or("p", 2)? as f64 };
            if p == 2.0 {
                cx.reduce(ReduceFn::L2, x, &axes, true)?
            } else {
                let size = cx.unary(UnaryFn::Abs, x)?;
                let powers = cx.with_number(BinaryFn::Pow, size, p)?;
                let sum = cx.reduce(ReduceFn::Sum, powers, &axes, true)?;
                cx.with_number(BinaryFn::Pow, sum, 1.0 / p)?
            }
        }
    };
    Ok(vec![y.into()])
}
