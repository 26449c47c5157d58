//! Recurrent layers: constant weights are packed when compiling. The arithmetic is in `crate::recurrent`.

use super::Cx;
use super::simple::{Fail, Operands, Result, floats};
use crate::gemm::{self, Matrix, PACK_ALIGN, Packed, PackedLayout};
use crate::isa::{Isa, Level};
use crate::recurrent::{Extents, Function, Layer, Numbers, Results, Weight, recurrent};
use frit_backend::{Kernel, KernelError, Packing, Run, TensorRef};
use frit_ir::op::{CellFn, Recurrent};
use frit_ir::{DType, Tensor};

pub(super) fn layer(cx: &Cx<'_>, op: &Recurrent) -> Option<Box<dyn Kernel>> {
    cx.f32_input(0)?;
    let mut functions = [Function { function: CellFn::Affine, a: 1.0, b: 0.0 }; 3];
    for (to, (function, a, b)) in functions.iter_mut().zip(op.activations().ok()?) {
        *to = Function { function, a: a as f32, b: b as f32 };
    }
    let layer = Layer {
        cell: op.cell,
        reverse: op.reverse,
        functions,
        clip: op.clip as f32,
        reset_after: op.reset_after,
        coupled: op.coupled,
    };
    let packed = [1, 2].map(|i| {
        let constant = cx.operand(i).is_some_and(|o| o.constant);
        cx.input(i).filter(|_| constant).and_then(frit_ir::TensorType::fixed_shape)
    });
    let packed = packed.map(|shape| match shape.as_deref() {
        Some(&[rows, k]) => Some((rows, k)),
        _ => None,
    });
    Some(Box::new(RecurrentKernel { isa: cx.isa, level: cx.level, layer, packed }))
}

struct RecurrentKernel {
    isa: Isa,
    level: Level,
    layer: Layer,
    /// Rows and columns of the weights that are packed.
    packed: [Option<(usize, usize)>; 2],
}

impl RecurrentKernel {
    /// The layouts in which operand 1 or 2 is packed, one after the other; and how many bytes the first takes.
    fn layouts(&self, input: usize) -> Option<(Vec<PackedLayout>, usize)> {
        let (rows, k) = input.checked_sub(1).and_then(|i| self.packed.get(i)).copied().flatten()?;
        let of = |rows: usize| PackedLayout::columns(self.level, DType::F32, k, rows);
        if input != 2 || !self.layer.two_products() {
            return Some((vec![of(rows)], 0));
        }
        let first = rows / 3 * 2;
        let bytes = of(first).bytes().ok()?.next_multiple_of(PACK_ALIGN);
        Some((vec![of(first), of(rows - first)], bytes))
    }

    /// The parts of a weight that products take: all of it, or two.
    fn weights<'a>(&self, input: usize, t: TensorRef<'a>) -> Result<(Weight<'a>, Option<Weight<'a>>)> {
        let &[rows, k] = t.shape else { return Err(Fail::Contract(format!("{:?} is no matrix", t.shape))) };
        if let Some((layouts, second)) = self.layouts(input) {
            let part = |i: usize, from: usize| -> Result<Option<Weight<'a>>> {
                let bytes = t.bytes.get(from..).unwrap_or(&[]);
                let layout = layouts.get(i).copied();
                Ok(layout.map(|l| Packed::new(l, bytes)).transpose()?.map(Weight::Packed))
            };
            let first = part(0, 0)?.ok_or_else(|| Fail::Contract("no packed weight".to_owned()))?;
            return Ok((first, part(1, second)?));
        }
        let all = t.slice::<f32>()?;
        let first = if input == 2 && self.layer.two_products() { rows / 3 * 2 } else { rows };
        let (a, b) = all.split_at_checked(first * k).unwrap_or((all, &[]));
        let rest = (first < rows).then(|| Weight::Plain(Matrix::row_major(b, rows - first, k)));
        Ok((Weight::Plain(Matrix::row_major(a, first, k)), rest))
    }

    fn compute(&self, run: &mut Run<'_, '_>) -> Result<()> {
        let x = run.tensor(0)?;
        let (w, r) = (run.tensor(1)?, run.tensor(2)?);
        let (&[steps, batch, width], &[_, hidden]) = (x.shape, r.shape) else {
            return Err(Fail::Contract(format!("no layer over {:?} with {:?}", x.shape, r.shape)));
        };
        let e = Extents { steps, batch, width, hidden };
        let lens = run.optional::<i32>(4)?;
        let fits = |n: i32| usize::try_from(n).is_ok_and(|n| n <= steps);
        if let Some(bad) = lens.and_then(|l| l.iter().find(|n| !fits(**n))) {
            return Err(Fail::Data(format!("length {bad} of {steps} steps")));
        }
        let (w, _) = self.weights(1, w)?;
        let (r, r_next) = self.weights(2, r)?;
        let n = Numbers {
            x: x.slice()?,
            w,
            r,
            r_next,
            bias: run.optional(3)?,
            lens,
            state: run.optional(5)?,
            cell: run.optional(6)?,
            peephole: run.optional(7)?,
        };
        let workspace = floats(&mut *run.workspace)?;
        let [states, last, rest @ ..] = &mut *run.outputs else {
            return Err(Fail::Contract("two results are needed".to_owned()));
        };
        let cell = match rest {
            [cell, ..] => cell.slice_mut::<f32>()?,
            [] => &mut [],
        };
        let mut out = Results { states: states.slice_mut()?, last: last.slice_mut()?, cell };
        Ok(recurrent(self.isa, &self.layer, &e, &n, &mut out, workspace)?)
    }

    fn pack(&self, input: usize, weight: &Tensor) -> Result<Vec<u8>> {
        let (Some((layouts, second)), &[rows, k]) = (self.layouts(input), weight.shape()) else {
            return Err(Fail::Contract(format!("operand {input} is not packed")));
        };
        let mut all = Vec::new();
        let mut row = 0;
        for (i, layout) in layouts.iter().enumerate() {
            if i > 0 {
                all.resize(second, 0);
            }
            let numbers = weight.as_slice::<f32>()?.get(row * k..).unwrap_or(&[]);
            let source = Matrix::row_major(numbers, layout.len.min(rows - row), k).transposed();
            all.extend(gemm::pack_bytes(layout, &source)?);
            row += layout.len;
        }
        Ok(all)
    }
}

const NAME: &str = "Recurrent";

impl Kernel for RecurrentKernel {
    fn name(&self) -> String {
        format!("{NAME} {}", self.layer.cell.word())
    }
    fn packing(&self) -> Vec<Packing> {
        let packed = |input: usize| {
            let (layouts, _) = self.layouts(input)?;
            let tag = layouts.first()?.tag();
            let parts = if layouts.len() > 1 { "-gru" } else { "" };
            Some(Packing { input, layout: format!("{tag}-t{parts}") })
        };
        [1, 2].into_iter().filter_map(packed).collect()
    }
    fn pack(&self, input: usize, weight: &Tensor) -> std::result::Result<Vec<u8>, KernelError> {
        self.pack(input, weight).map_err(|fail| fail.named(NAME))
    }
    fn workspace(&self, inputs: &[Option<&[usize]>], _: &[&[usize]]) -> usize {
        let shape = |i: usize| inputs.get(i).copied().flatten();
        let (Some(&[steps, batch, width]), Some(&[_, hidden])) = (shape(0), shape(2)) else { return 0 };
        let floats = self.layer.workspace(&Extents { steps, batch, width, hidden });
        floats.unwrap_or(usize::MAX).saturating_mul(4)
    }
    fn flops(&self, inputs: &[Option<&[usize]>], _: &[&[usize]]) -> f64 {
        let count =
            |i: usize| inputs.get(i).copied().flatten().map_or(0, |s| s.iter().product::<usize>()) as f64;
        let rows =
            inputs.first().copied().flatten().map_or(0, |s| s.iter().take(2).product::<usize>()) as f64;
        2.0 * rows * (count(1) + count(2))
    }
    fn run(&self, run: &mut Run<'_, '_>) -> std::result::Result<(), KernelError> {
        self.compute(run).map_err(|fail| fail.named(NAME))
    }
}
