//! The Attention op: operands of rank 3 or 4, with strides, and masks of numbers or truth values.

use super::Cx;
use super::simple::{Fail, Operands, Result, floats};
use crate::attention::{self as kernels, Bias, Causal, Extents, Strides};
use crate::isa::Isa;
use crate::layout::{self, Placement};
use frit_backend::{Kernel, KernelError, Precision, Run, TensorRef};
use frit_ir::{DType, op};

pub(super) fn attention(cx: &Cx<'_>, op: &op::Attention) -> Option<Box<dyn Kernel>> {
    for i in 0..3 {
        cx.f32_input(i)?;
    }
    Some(Box::new(AttentionKernel {
        isa: cx.isa,
        heads: usize::try_from(op.q_heads).ok().filter(|&n| n > 0)?,
        kv_heads: usize::try_from(op.kv_heads).ok().filter(|&n| n > 0)?,
        scale: op.scale as f32,
        causal: op.causal,
        bf16: cx.request.precision != Precision::Exact,
        truth_mask: cx.input(3).is_some_and(|t| t.dtype == DType::Bool),
    }))
}

struct AttentionKernel {
    isa: Isa,
    heads: usize,
    kv_heads: usize,
    scale: f32,
    causal: bool,
    /// Products may be in bf16.
    bf16: bool,
    /// The mask holds truth values.
    truth_mask: bool,
}

/// An operand as heads: batch, sequence and width of a head, and the strides.
struct Heads<'a> {
    data: std::borrow::Cow<'a, [f32]>,
    batch: usize,
    rows: usize,
    width: usize,
    strides: Strides,
}

/// Reads [B, S, heads D] or [B, heads, S, D].
fn split<'a>(isa: Isa, t: &TensorRef<'a>, heads: usize) -> Result<Heads<'a>> {
    let (mut data, mut strides) = (std::borrow::Cow::Borrowed(t.slice::<f32>()?), t.strides());
    let last = t.shape.len().saturating_sub(1);
    if strides.get(last).is_some_and(|&s| s != 1) && t.shape.get(last).is_some_and(|&d| d > 1) {
        // Rows that are not dense are made so: rare enough for memory of its own.
        let signed = strides.iter().map(|&s| isize::try_from(s)).collect::<std::result::Result<Vec<_>, _>>();
        let from = Placement {
            offset: 0,
            strides: signed.map_err(|_| Fail::Contract("a stride overflows".to_owned()))?,
        };
        let mut dense = vec![0f32; t.len()];
        let to = Placement::dense(t.shape);
        layout::copy(isa, 4, t.shape, t.bytes, &from, bytemuck::cast_slice_mut(&mut dense), &to)?;
        (data, strides) = (dense.into(), layout::strides(t.shape));
    }
    match (t.shape, strides.as_slice()) {
        (&[batch, rows, all], &[b, s, _]) if all % heads == 0 => {
            let width = all / heads;
            Ok(Heads { data, batch, rows, width, strides: Strides { batch: b, head: width, row: s } })
        }
        (&[batch, h, rows, width], &[b, head, row, _]) if h == heads => {
            Ok(Heads { data, batch, rows, width, strides: Strides { batch: b, head, row } })
        }
        _ => Err(Fail::Contract(format!("{:?} is not split into {heads} heads", t.shape))),
    }
}

/// Strides of a mask that broadcasts to [batch, heads, queries, keys].
fn mask_strides(t: &TensorRef<'_>) -> Result<[usize; 4]> {
    let own = t.strides();
    let pad =
        4usize.checked_sub(own.len()).ok_or_else(|| Fail::Contract("a mask of rank above 4".to_owned()))?;
    let mut strides = [0; 4];
    for ((to, &s), &d) in strides.iter_mut().skip(pad).zip(&own).zip(t.shape) {
        *to = if d == 1 { 0 } else { s };
    }
    Ok(strides)
}

impl AttentionKernel {
    fn compute(&self, run: &mut Run<'_, '_>) -> Result<()> {
        let q_ref = run.tensor(0)?;
        let q = split(self.isa, &q_ref, self.heads)?;
        let k = split(self.isa, &run.tensor(1)?, self.kv_heads)?;
        let v = split(self.isa, &run.tensor(2)?, self.kv_heads)?;
        if k.batch != q.batch || v.batch != q.batch || k.width != q.width || v.rows != k.rows {
            return Err(Fail::Contract("q, k and v do not fit together".to_owned()));
        }
        let mask = run.opt(3);
        let workspace = &mut *run.workspace;
        let bias = match &mask {
            Some(m) if m.dtype == DType::Bool => {
                let space = floats(workspace)?;
                let Some(space) = space.get_mut(..m.bytes.len()) else {
                    return Err(Fail::Contract("the workspace is too small".to_owned()));
                };
                // Adding the lowest number gives just that, whatever the score is.
                space
                    .iter_mut()
                    .zip(m.bytes)
                    .for_each(|(to, &keep)| *to = if keep != 0 { 0.0 } else { f32::MIN });
                Some(Bias { data: space, strides: mask_strides(m)? })
            }
            Some(m) => Some(Bias { data: m.slice::<f32>()?, strides: mask_strides(m)? }),
            None => None,
        };
        let causal = match self.causal {
            // Rows are elements of memory, of which there are fewer than isize counts.
            true => Some(Causal { offset: k.rows as isize - q.rows as isize, hidden: f32::MIN }),
            false => None,
        };
        let extents = Extents {
            batch: q.batch,
            heads: self.heads,
            kv_heads: self.kv_heads,
            queries: q.rows,
            keys: k.rows,
            dim: q.width,
            value_dim: v.width,
        };
        let problem = kernels::Attention {
            extents,
            scale: self.scale,
            q: (&q.data, q.strides),
            k: (&k.data, k.strides),
            v: (&v.data, v.strides),
            biases: [bias, None],
            causal,
        };
        let to = match q_ref.shape.len() {
            3 => Strides::rows_first(self.heads, q.rows, v.width),
            _ => Strides::heads_first(self.heads, q.rows, v.width),
        };
        let Some(out) = run.outputs.first_mut() else { return Err(Fail::Contract("no output".to_owned())) };
        let compute = if self.bf16 { kernels::attention_bf16 } else { kernels::attention };
        Ok(compute(self.isa, &problem, out.slice_mut()?, to)?)
    }
}

impl Kernel for AttentionKernel {
    fn name(&self) -> String {
        "Attention".to_owned()
    }
    fn accepts_strided(&self, input: usize) -> bool {
        input != 3
    }
    fn workspace(&self, inputs: &[Option<&[usize]>], _: &[&[usize]]) -> usize {
        let mask = inputs.get(3).copied().flatten().filter(|_| self.truth_mask);
        mask.map_or(0, |mask| mask.iter().product::<usize>().saturating_mul(4))
    }
    fn precision(&self) -> Precision {
        if self.bf16 && self.isa.has_bf16_dot() { Precision::Bf16 } else { Precision::Exact }
    }
    fn flops(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> f64 {
        let keys = |shape: &[usize]| shape.get(shape.len().wrapping_sub(2)).copied().unwrap_or(0) as f64;
        let sk = inputs.get(1).copied().flatten().map_or(0.0, keys);
        let size = |shape: &[usize]| shape.iter().product::<usize>() as f64;
        let q = inputs.first().copied().flatten().map_or(0.0, size);
        2.0 * sk * (q + outputs.first().map_or(0.0, |o| size(o)))
    }
    fn run(&self, run: &mut Run<'_, '_>) -> std::result::Result<(), KernelError> {
        self.compute(run).map_err(|fail| fail.named("Attention"))
    }
}
