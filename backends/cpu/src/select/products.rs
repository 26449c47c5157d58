//! MatMul and its fused form: constant right operands are packed when compiling, others go in as views.

use super::Cx;
use super::simple::{Fail, Operands, Result, floats};
use crate::elementwise::Pattern;
use crate::gemm::{self, Activation, Batch, Bias, Epilogue, Matrix, Packed, PackedLayout, Residual};
use crate::isa::Isa;
use frit_backend::{Kernel, KernelError, Packing, Precision, Run, TensorRef};
use frit_ir::types::same_shape;
use frit_ir::{DType, Tensor, op};

/// Elements of a weight below which 8 bits save too little to be worth their error.
const WORTH_BYTES: usize = 1 << 16;
/// Elements of a weight below which it stays in the nearer caches, and decoding it would only take time.
const WORTH_COMPACT: usize = 1 << 16;

type Selected = Option<Box<dyn Kernel>>;

/// The kernels' activation; where products are of fewer bits, GELU is too.
pub(super) fn activation(cx: &Cx<'_>, a: op::Activation) -> Activation {
    match a {
        op::Activation::None => Activation::None,
        op::Activation::Relu => Activation::Relu,
        op::Activation::Gelu if cx.request.precision != Precision::Exact => Activation::GeluNear,
        op::Activation::Gelu => Activation::GeluErf,
        op::Activation::GeluTanh => Activation::GeluTanh,
        op::Activation::QuickGelu => Activation::GeluQuick,
        op::Activation::Silu => Activation::Silu,
        op::Activation::Tanh => Activation::Tanh,
        op::Activation::Sigmoid => Activation::Sigmoid,
        op::Activation::Relu6 => Activation::Relu6,
        op::Activation::HardSwish => Activation::HardSwish,
    }
}

pub(super) fn matmul(cx: &Cx<'_>) -> Selected {
    product(cx, &op::FusedMatMul::plain(), "MatMul")
}

pub(super) fn fused_matmul(cx: &Cx<'_>, op: &op::FusedMatMul) -> Selected {
    product(cx, op, "FusedMatMul")
}

fn product(cx: &Cx<'_>, op: &op::FusedMatMul, name: &'static str) -> Selected {
    let (a, b) = (cx.f32_input(0)?, cx.f32_input(1)?);
    if a.rank() == 0 || b.rank() == 0 {
        return None;
    }
    // A weight of two axes is packed; rows of `a` then are rows of one matrix.
    let weight = cx.operand(1).filter(|o| o.constant && b.rank() == 2).and_then(|_| b.fixed_shape());
    let layout = weight.filter(|_| !(op.trans_a && a.rank() > 2)).map(|shape| {
        let (k, n) = if op.trans_b { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
        let dtype = match cx.request.precision {
            Precision::Exact => DType::F32,
            Precision::Int8 if k.saturating_mul(n) >= WORTH_BYTES && PackedLayout::bytes_suit(k) => DType::I8,
            Precision::Bf16 | Precision::Int8 => DType::BF16,
        };
        let streamed = cx.operand(1).is_some_and(|o| o.streamed) && k.saturating_mul(n) >= WORTH_COMPACT;
        let compact = PackedLayout::compact(cx.level, k, n).filter(|_| streamed && dtype == DType::F32);
        compact.unwrap_or_else(|| PackedLayout::columns(cx.level, dtype, k, n))
    });
    let residual_in_place =
        cx.input(3).zip(cx.output(0)).is_some_and(|(r, o)| same_shape(&r.shape, &o.shape));
    Some(Box::new(ProductKernel {
        isa: cx.isa,
        name,
        trans_a: op.trans_a,
        trans_b: op.trans_b,
        alpha: op.alpha as f32,
        activation: activation(cx, op.activation),
        layout,
        in_place: if residual_in_place { vec![3] } else { Vec::new() },
    }))
}

struct ProductKernel {
    isa: Isa,
    name: &'static str,
    trans_a: bool,
    trans_b: bool,
    alpha: f32,
    activation: Activation,
    layout: Option<PackedLayout>,
    in_place: Vec<usize>,
}

/// An operand as matrices: extents after the exchange of axes, strides, and the batch axes before.
struct Stack<'s> {
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
    batch: &'s [usize],
    batch_strides: &'s [usize],
}

/// Takes an operand apart. A vector is a row on the left and a column on the right, as in NumPy.
fn stack<'s>(shape: &'s [usize], strides: &'s [usize], exchange: bool, left: bool) -> Result<Stack<'s>> {
    let n = shape.len();
    let (rows, columns, row_stride, column_stride) = match (shape, strides) {
        ([d], [s]) if left => (1, *d, 0, *s),
        ([d], [s]) => (*d, 1, *s, 0),
        ([.., r, c], [.., rs, cs]) if exchange => (*c, *r, *cs, *rs),
        ([.., r, c], [.., rs, cs]) => (*r, *c, *rs, *cs),
        _ => return Err(Fail::Contract("a scalar is no matrix".to_owned())),
    };
    let batch = n.saturating_sub(2);
    Ok(Stack {
        rows,
        columns,
        row_stride,
        column_stride,
        batch: shape.get(..batch).unwrap_or(&[]),
        batch_strides: strides.get(..batch).unwrap_or(&[]),
    })
}

impl Stack<'_> {
    /// True when the rows of all batches are those of one matrix.
    fn is_one(&self) -> bool {
        let mut next = self.rows.saturating_mul(self.row_stride);
        self.batch.iter().zip(self.batch_strides).rev().all(|(&extent, &stride)| {
            let follows = extent == 1 || stride == next;
            next = next.saturating_mul(extent);
            follows
        })
    }
}

/// Where the matrix of each batch begins, the batch axes broadcast to `to`.
fn starts(s: &Stack<'_>, to: &[usize]) -> Vec<usize> {
    let pad = to.len().saturating_sub(s.batch.len());
    let mut out = vec![0usize];
    for (axis, &extent) in to.iter().enumerate() {
        let stride = match axis.checked_sub(pad).map(|i| (s.batch.get(i), s.batch_strides.get(i))) {
            Some((Some(&d), Some(&stride))) if d != 1 => stride,
            _ => 0,
        };
        out = out.iter().flat_map(|&at| (0..extent).map(move |i| at + i * stride)).collect();
    }
    out
}

/// A bias or residual as the epilogue takes it.
enum Addend<'a> {
    None,
    /// One number a column.
    Columns(&'a [f32]),
    /// One number an element.
    Full(&'a [f32]),
    /// Already in the output.
    Output,
}

/// How an addend of this shape goes in.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Columns,
    Full,
    /// Broadcast some other way: written out into the workspace first.
    Written,
}

fn way(shape: &[usize], out: &[usize], columns: usize, is_bias: bool) -> Way {
    let count = |s: &[usize]| s.iter().product::<usize>();
    if is_bias && shape.last() == Some(&columns) && count(shape) == columns && out.last() == Some(&columns) {
        return Way::Columns;
    }
    if count(shape) == count(out) { Way::Full } else { Way::Written }
}

fn addend<'w, 'a: 'w>(
    t: Option<TensorRef<'a>>,
    out: &[usize],
    columns: usize,
    is_bias: bool,
    space: &mut &'w mut [f32],
) -> Result<Addend<'w>> {
    let Some(t) = t else { return Ok(Addend::None) };
    let data: &'w [f32] = t.slice::<f32>()?;
    match way(t.shape, out, columns, is_bias) {
        Way::Columns => Ok(Addend::Columns(data)),
        Way::Full => Ok(Addend::Full(data)),
        Way::Written => {
            let pattern = Pattern::new(t.shape, out)
                .ok_or_else(|| Fail::Contract(format!("{:?} does not broadcast to {out:?}", t.shape)))?;
            let (now, later) = std::mem::take(space)
                .split_at_mut_checked(out.iter().product())
                .ok_or_else(|| Fail::Contract("the workspace is too small".to_owned()))?;
            *space = later;
            pattern.fill(data, 0, now, |x| x);
            Ok(Addend::Full(now))
        }
    }
}

impl ProductKernel {
    fn compute(&self, run: &mut Run<'_, '_>) -> Result<()> {
        let (a, b) = (run.tensor(0)?, run.tensor(1)?);
        let (bias, residual, aliased) = (run.opt(2), run.opt(3), run.aliased == Some(3));
        let Some(out) = run.outputs.first_mut() else { return Err(Fail::Contract("no output".to_owned())) };
        let shape = out.shape;
        let (a_strides, b_strides) = (a.strides(), b.strides());
        let left = stack(a.shape, &a_strides, self.trans_a, true)?;
        let right = stack(b.shape, &b_strides, self.trans_b, false)?;
        let mut space = floats(&mut *run.workspace)?;
        let bias = addend(bias, shape, right.columns, true, &mut space)?;
        let residual =
            if aliased { Addend::Output } else { addend(residual, shape, right.columns, false, &mut space)? };
        let c = out.slice_mut::<f32>()?;

        let (k, n) = (left.columns, right.columns);
        if right.batch.iter().all(|&d| d == 1) && left.is_one() {
            // All rows of `a` are rows of one matrix.
            let rows = left.batch.iter().product::<usize>().saturating_mul(left.rows);
            let x = Matrix::strided(a.slice()?, rows, k, left.row_stride, left.column_stride);
            let epilogue = self.epilogue(&bias, &residual, n, 0..rows * n)?;
            return match self.layout {
                Some(layout) => {
                    Ok(gemm::gemm_packed(self.isa, &x, &Packed::new(layout, b.bytes)?, c, n, &epilogue)?)
                }
                None => {
                    let y = Matrix::strided(b.slice()?, right.rows, n, right.row_stride, right.column_stride);
                    Ok(gemm::gemm(self.isa, &x, &y, c, n, &epilogue)?)
                }
            };
        }
        if self.layout.is_some() {
            return Err(Fail::Contract("a packed weight cannot be multiplied by batches".to_owned()));
        }
        let dropped = usize::from(a.shape.len() >= 2) + usize::from(b.shape.len() >= 2);
        let batch = shape.get(..shape.len().saturating_sub(dropped)).unwrap_or(&[]);
        let (a_starts, b_starts) = (starts(&left, batch), starts(&right, batch));
        let x = Matrix::strided(a.slice()?, left.rows, k, left.row_stride, left.column_stride);
        let y = Matrix::strided(b.slice()?, right.rows, n, right.row_stride, right.column_stride);
        let size = left.rows * n;
        if matches!(bias, Addend::Full(_)) || matches!(residual, Addend::Full(_)) {
            // What is added differs from batch to batch, and the batched product takes one for all.
            for (i, (&at, &bt)) in a_starts.iter().zip(&b_starts).enumerate() {
                let epilogue = self.epilogue(&bias, &residual, n, i * size..(i + 1) * size)?;
                let one = Batch { a: &[at], b: &[bt], c_stride: 0 };
                let c = c.get_mut(i * size..(i + 1) * size).unwrap_or(&mut []);
                gemm::gemm_batched(self.isa, &x, &y, &one, c, n, &epilogue)?;
            }
            return Ok(());
        }
        let epilogue = self.epilogue(&bias, &residual, n, 0..size)?;
        let all = Batch { a: &a_starts, b: &b_starts, c_stride: size };
        Ok(gemm::gemm_batched(self.isa, &x, &y, &all, c, n, &epilogue)?)
    }

    /// The epilogue for a matrix whose elements are `range` of the output's.
    fn epilogue<'a>(
        &self,
        bias: &Addend<'a>,
        residual: &Addend<'a>,
        stride: usize,
        range: std::ops::Range<usize>,
    ) -> Result<Epilogue<'a>> {
        let part = |x: &'a [f32]| {
            let data =
                x.get(range.clone()).ok_or_else(|| Fail::Contract("an addend is too short".to_owned()))?;
            Ok::<_, Fail>(Residual::From { data, stride })
        };
        let mut e = Epilogue { alpha: self.alpha, activation: self.activation, ..Epilogue::default() };
        match *bias {
            Addend::Columns(x) => e.bias = Bias::Columns(x),
            Addend::Full(x) => e.residual_before = Some(part(x)?),
            Addend::None | Addend::Output => {}
        }
        match *residual {
            Addend::Full(x) => e.residual_after = Some(part(x)?),
            Addend::Output => e.residual_after = Some(Residual::Output),
            Addend::None | Addend::Columns(_) => {}
        }
        Ok(e)
    }
}

impl Kernel for ProductKernel {
    fn name(&self) -> String {
        match self.layout {
            Some(layout) => format!("{} {}", self.name, layout.tag()),
            None => self.name.to_owned(),
        }
    }
    fn in_place(&self) -> &[usize] {
        &self.in_place
    }
    fn accepts_strided(&self, input: usize) -> bool {
        // Packed weights take the rows of all batches as one matrix, which strides may keep from being one.
        input < 2 && self.layout.is_none()
    }
    fn packing(&self) -> Vec<Packing> {
        let tag = |l: PackedLayout| if self.trans_b { format!("{}-t", l.tag()) } else { l.tag() };
        self.layout.map(|l| Packing { input: 1, layout: tag(l) }).into_iter().collect()
    }
    fn pack(&self, input: usize, weight: &Tensor) -> std::result::Result<Vec<u8>, KernelError> {
        let packed = || -> Result<Vec<u8>> {
            let Some(layout) = self.layout.filter(|_| input == 1) else {
                return Err(Fail::Contract(format!("operand {input} is not packed")));
            };
            let &[rows, columns] = weight.shape() else {
                return Err(Fail::Contract(format!("{weight:?} is no matrix")));
            };
            let source = Matrix::row_major(weight.as_slice::<f32>()?, rows, columns);
            let source = if self.trans_b { source.transposed() } else { source };
            Ok(gemm::pack_bytes(&layout, &source)?)
        };
        packed().map_err(|fail| fail.named(self.name))
    }
    fn workspace(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> usize {
        let out = outputs.first().copied().unwrap_or(&[]);
        let columns = match inputs.get(1).copied().flatten() {
            Some([.., n, _]) if self.trans_b => *n,
            Some([_, .., n]) => *n,
            _ => 1,
        };
        let written = |index: usize, is_bias: bool| {
            inputs
                .get(index)
                .copied()
                .flatten()
                .is_some_and(|s| way(s, out, columns, is_bias) == Way::Written)
        };
        let count = usize::from(written(2, true)) + usize::from(written(3, false));
        out.iter().product::<usize>().saturating_mul(4 * count)
    }
    fn precision(&self) -> Precision {
        match self.layout.map(|l| l.dtype) {
            Some(DType::BF16) => Precision::Bf16,
            Some(DType::I8) => Precision::Int8,
            _ => Precision::Exact,
        }
    }
    fn flops(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> f64 {
        let depth = inputs.first().copied().flatten().map_or(0, |a| {
            let from_end = if self.trans_a { 2 } else { 1 };
            a.len().checked_sub(from_end).and_then(|i| a.get(i)).copied().unwrap_or(1)
        });
        2.0 * depth as f64 * outputs.first().map_or(0.0, |o| o.iter().product::<usize>() as f64)
    }
    fn run(&self, run: &mut Run<'_, '_>) -> std::result::Result<(), KernelError> {
        self.compute(run).map_err(|fail| fail.named(self.name))
    }
}
