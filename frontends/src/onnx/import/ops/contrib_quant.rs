//! Quantised operators of com.microsoft: what ONNX Runtime's quantisation writes, and weights of few bits. Those of
//! ai.onnx are in `quantize.rs`.

use super::integer::{self, Shifted};
use super::matmul::product;
use super::quantize::{by_column, dequantize, quantize_by_range, requantize, to_integers};
use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{AveragePool, BinaryFn, LeakyRelu, ReduceFn, Softmax, UnaryFn};
use frit_ir::{DType, Dim, Tensor, ValueId};

pub const ROWS: &[Row] = &[
    ("com.microsoft", "MatMulNBits", 1, matmul_n_bits),
    ("com.microsoft", "MatMulIntegerToFloat", 1, matmul_integer_to_float),
    ("com.microsoft", "DynamicQuantizeMatMul", 1, dynamic_quantize_matmul),
    ("com.microsoft", "QGemm", 1, q_gemm),
    ("com.microsoft", "QLinearAdd", 1, q_binary),
    ("com.microsoft", "QLinearMul", 1, q_binary),
    ("com.microsoft", "QLinearSigmoid", 1, q_unary),
    ("com.microsoft", "QLinearLeakyRelu", 1, q_unary),
    ("com.microsoft", "QLinearSoftmax", 1, q_unary),
    ("com.microsoft", "QLinearReduceMean", 1, q_unary),
    ("com.microsoft", "QLinearGlobalAveragePool", 1, q_unary),
    ("com.microsoft", "QLinearAveragePool", 1, q_unary),
    ("com.microsoft", "QLinearConcat", 1, q_concat),
    ("com.microsoft", "QLinearWhere", 1, q_where),
];

/// Weights of 2, 4 or 8 bits in blocks along the sums, each with a scale and a zero point.
struct Blocks {
    columns: usize,
    depth: usize,
    bits: usize,
    block: usize,
}

impl Blocks {
    fn per_column(&self) -> usize {
        self.depth.div_ceil(self.block)
    }

    /// Number `i` of those packed in bytes, the lowest bits first.
    fn unpack(&self, bytes: &[u8], i: usize) -> u8 {
        let in_byte = 8usize.checked_div(self.bits).unwrap_or(1).max(1);
        let byte = bytes.get(i / in_byte).copied().unwrap_or(0);
        let mask = u8::MAX.checked_shr(8 - u32::try_from(self.bits).unwrap_or(8)).unwrap_or(u8::MAX);
        (byte >> ((i % in_byte) * self.bits)) & mask
    }

    /// The weight `[depth, columns]` as numbers.
    fn numbers(&self, weight: &[u8], scales: &[f32], zeros: impl Fn(usize, usize) -> f32) -> Vec<f32> {
        let blocks = self.per_column();
        // Every block is stored whole.
        let stored = blocks * self.block * self.bits / 8;
        let mut out = vec![0.0; self.depth * self.columns];
        for (n, bytes) in weight.chunks(stored.max(1)).take(self.columns).enumerate() {
            for k in 0..self.depth {
                let b = k / self.block;
                let scale = scales.get(n * blocks + b).copied().unwrap_or(0.0);
                if let Some(y) = out.get_mut(k * self.columns + n) {
                    *y = (f32::from(self.unpack(bytes, k)) - zeros(n, b)) * scale;
                }
            }
        }
        out
    }
}

/// A product with a weight of few bits, which is unpacked here: its numbers must be known.
fn matmul_n_bits<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["accuracy_level", "weight_prepacked"]);
    let count = |name: &'static str, default: Option<i64>| -> Result<usize> {
        let v = n.int(name)?.or(default).and_then(|v| usize::try_from(v).ok()).filter(|&v| v > 0);
        v.ok_or_else(|| n.error(format!("attribute `{name}` must be positive")))
    };
    let w = Blocks {
        columns: count("N", None)?,
        depth: count("K", None)?,
        bits: count("bits", Some(4))?,
        block: count("block_size", None)?,
    };
    if !matches!(w.bits, 2 | 4 | 8) || !w.block.is_power_of_two() || w.block < 16 {
        return Err(n.error(format!("{} bits in blocks of {}", w.bits, w.block)));
    }
    if n.opt(4)?.is_some() {
        return Err(n.error("groups of rows in an order of their own (operand `g_idx`) are not supported"));
    }
    let a = n.tensor(0)?;
    let dtype = cx.dtype(a)?;
    let (weight, scales) = (cx.numbers(n, 1)?, cx.numbers(n, 2)?);
    let zero_points = match n.opt(3)? {
        Some(_) => Some(cx.numbers(n, 3)?),
        None => None,
    };
    let blocks = w.per_column();
    let overflow = || n.error("the weight's extents overflow");
    let all_blocks = w.columns.checked_mul(blocks).ok_or_else(overflow)?;
    let bytes = all_blocks.checked_mul(w.block).and_then(|v| v.checked_mul(w.bits)).ok_or_else(overflow)? / 8;
    if weight.dtype() != DType::U8 || weight.len() != bytes || scales.len() != all_blocks {
        let expected = format!("{bytes} bytes and {all_blocks} scales");
        return Err(n.error(format!("expected {expected}, got {weight:?} and {} scales", scales.len())));
    }
    let row = (blocks * w.bits).div_ceil(8);
    let scales = scales.to_f32_vec();
    let numbers = match &zero_points {
        None => {
            let middle = f32::from(1u8 << (w.bits - 1));
            w.numbers(weight.bytes(), &scales, |_, _| middle)
        }
        Some(z) if z.dtype() == DType::U8 && z.len() == w.columns * row => {
            let packed = z.bytes();
            w.numbers(weight.bytes(), &scales, |n, b| {
                f32::from(w.unpack(packed.get(n * row..).unwrap_or(&[]), b))
            })
        }
        Some(z) if z.dtype().is_float() && z.len() == all_blocks => {
            let z = z.to_f32_vec();
            w.numbers(weight.bytes(), &scales, |n, b| z.get(n * blocks + b).copied().unwrap_or(0.0))
        }
        Some(z) => return Err(n.error(format!("zero points {z:?}"))),
    };
    let unpacked = Tensor::from_slice(&[w.depth, w.columns], &numbers).and_then(|t| t.cast(dtype));
    let unpacked = unpacked.map_err(|e| cx.refused(e))?;
    let b = cx.constant(unpacked)?;
    let mut y = product(cx, a, b)?;
    if let Some(bias) = n.opt(5)? {
        y = cx.plus(y, bias)?;
    }
    Ok(vec![y.into()])
}

/// A product of integers times both scales, and a bias.
fn to_float(
    cx: &mut Cx<'_>,
    (a, b): (Shifted, Shifted),
    (sa, sb): (ValueId, ValueId),
    bias: Option<ValueId>,
) -> Result<ValueId> {
    let total = integer::matmul(cx, a, b)?;
    let dtype = cx.dtype(sa)?;
    let total = cx.cast(total, dtype)?;
    let sb = by_column(cx, sb)?;
    let factor = cx.times(sa, sb)?;
    let y = cx.times(total, factor)?;
    match bias {
        Some(bias) => cx.plus(y, bias),
        None => Ok(y),
    }
}

fn matmul_integer_to_float<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let a = Shifted { x: n.tensor(0)?, zero: n.opt(4)?.map(|z| by_column(cx, z)).transpose()? };
    let b = Shifted { x: n.tensor(1)?, zero: n.opt(5)?.map(|z| by_column(cx, z)).transpose()? };
    let sa = by_column(cx, n.tensor(2)?)?;
    Ok(vec![to_float(cx, (a, b), (sa, n.tensor(3)?), n.opt(6)?)?.into()])
}

fn dynamic_quantize_matmul<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (x, scale, zero) = quantize_by_range(cx, n.tensor(0)?)?;
    let b = Shifted { x: n.tensor(1)?, zero: n.opt(3)?.map(|z| by_column(cx, z)).transpose()? };
    let a = Shifted { x, zero: Some(zero) };
    Ok(vec![to_float(cx, (a, b), (scale, n.tensor(2)?), n.opt(4)?)?.into()])
}

/// alpha (a b + c) of integers, scaled back to integers where the result has a scale.
fn q_gemm<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let mut operand = |i: usize, flag: &'static str| -> Result<Shifted> {
        let mut x = n.tensor(i)?;
        if n.flag(flag, false)? {
            x = cx.swap_axes(x, 0, 1)?;
        }
        Ok(Shifted { x, zero: n.opt(i + 2)?.map(|z| by_column(cx, z)).transpose()? })
    };
    let (a, b) = (operand(0, "transA")?, operand(3, "transB")?);
    let mut total = integer::matmul(cx, a, b)?;
    if let Some(c) = n.opt(6)? {
        total = cx.plus(total, c)?;
    }
    let (sa, sb) = (by_column(cx, n.tensor(1)?)?, by_column(cx, n.tensor(4)?)?);
    let factor = cx.times(sa, sb)?;
    let factor = cx.with_number(BinaryFn::Mul, factor, n.float_or("alpha", 1.0)?)?;
    let Some(scale) = n.opt(7)? else {
        let total = cx.cast(total, DType::F32)?;
        return Ok(vec![cx.times(total, factor)?.into()]);
    };
    let scale = by_column(cx, scale)?;
    let factor = cx.over(factor, scale)?;
    let zero = match n.opt(8)? {
        Some(z) => by_column(cx, z)?,
        None => {
            let dtype = cx.dtype(a.x)?;
            cx.scalar(dtype, 0.0)?
        }
    };
    Ok(vec![requantize(cx, total, factor, zero)?.into()])
}

/// The numbers that operand `i` stands for; its scale and zero point come after it.
fn real(cx: &mut Cx<'_>, n: &NodeView<'_>, i: usize) -> Result<ValueId> {
    let scale = by_column(cx, n.tensor(i + 1)?)?;
    let zero = n.opt(i + 2)?.map(|z| by_column(cx, z)).transpose()?;
    dequantize(cx, n.tensor(i)?, scale, zero, DType::F32)
}

/// Back to integers of the type of operand `like`, with scale and zero point from operand `i` on.
fn whole(cx: &mut Cx<'_>, n: &NodeView<'_>, y: ValueId, i: usize, like: usize) -> Result<ValueId> {
    let scale = by_column(cx, n.tensor(i)?)?;
    let zero = n.opt(i + 1)?.map(|z| by_column(cx, z)).transpose()?;
    let to = match zero {
        Some(z) => cx.dtype(z)?,
        None => cx.dtype(n.tensor(like)?)?,
    };
    let scaled = cx.over(y, scale)?;
    to_integers(cx, scaled, zero, to)
}

fn q_binary<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (a, b) = (real(cx, n, 0)?, real(cx, n, 3)?);
    let y = if n.op == "QLinearAdd" { cx.plus(a, b)? } else { cx.times(a, b)? };
    Ok(vec![whole(cx, n, y, 6, 0)?.into()])
}

/// A function of one quantised operand.
fn q_unary<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let mut x = real(cx, n, 0)?;
    let rank = cx.rank(x)?;
    let last = n.op.ends_with("Pool") && n.flag("channels_last", false)? && rank > 2;
    if last {
        let mut inward = vec![0, rank - 1];
        inward.extend(1..rank - 1);
        x = cx.transpose(x, &inward)?;
    }
    let mut y = match n.op {
        "QLinearSigmoid" => cx.unary(UnaryFn::Sigmoid, x)?,
        "QLinearLeakyRelu" => cx.emit(LeakyRelu { alpha: n.float_or("alpha", 0.01)? }, &[x])?,
        "QLinearSoftmax" => softmax(cx, n, x)?,
        "QLinearReduceMean" => {
            let axes = cx.axes(&n.ints("axes")?.unwrap_or_default(), rank)?;
            cx.reduce(ReduceFn::Mean, x, &axes, n.flag("keepdims", true)?)?
        }
        "QLinearGlobalAveragePool" => {
            let axes: Vec<usize> = (2..rank).collect();
            cx.reduce(ReduceFn::Mean, x, &axes, true)?
        }
        _ => {
            let kernel =
                n.ints("kernel_shape")?.ok_or_else(|| n.error("attribute `kernel_shape` is missing"))?;
            let (w, x) = super::window::Window::read(cx, n, x, kernel, f64::NAN)?;
            let op = AveragePool {
                kernel: w.kernel,
                strides: w.strides,
                pads: w.pads,
                dilations: w.dilations,
                ceil_mode: n.flag("ceil_mode", false)?,
                count_include_pad: n.flag("count_include_pad", false)?,
            };
            cx.emit(op, &[x])?
        }
    };
    if last {
        let mut outward = vec![0];
        outward.extend(2..rank);
        outward.push(1);
        y = cx.transpose(y, &outward)?;
    }
    Ok(vec![whole(cx, n, y, 3, 0)?.into()])
}

/// Softmax along an axis, or over all from it on where the node says that it is of an opset before 13.
fn softmax(cx: &mut Cx<'_>, n: &NodeView<'_>, x: ValueId) -> Result<ValueId> {
    let shape = cx.shape(x)?;
    let axis = cx.axis(n.int_or("axis", -1)?, shape.len())?;
    if n.int_or("opset", 13)? >= 13 {
        return cx.emit(Softmax { axis: i64::try_from(axis).unwrap_or(0) }, &[x]);
    }
    let (before, after) = shape.split_at(axis);
    let mut flat: Vec<Dim> = before.to_vec();
    flat.push(cx.dim(frit_ir::types::product(after))?);
    let y = cx.reshape(x, &flat)?;
    let y = cx.emit(Softmax { axis: -1 }, &[y])?;
    cx.reshape(y, &shape)
}

/// Tensors of different scales, joined in one.
fn q_concat<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let mut parts = Vec::new();
    for i in (2..n.inputs.len()).step_by(3) {
        parts.push(real(cx, n, i)?);
    }
    let Some(first) = parts.first() else { return Err(n.error("nothing to join")) };
    let axis = n.int("axis")?.ok_or_else(|| n.error("attribute `axis` is missing"))?;
    let axis = cx.axis(axis, cx.rank(*first)?)?;
    let y = cx.concat(&parts, axis)?;
    Ok(vec![whole(cx, n, y, 0, 2)?.into()])
}

fn q_where<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (a, b) = (real(cx, n, 1)?, real(cx, n, 4)?);
    let y = cx.choose(n.tensor(0)?, a, b)?;
    Ok(vec![whole(cx, n, y, 7, 1)?.into()])
}
