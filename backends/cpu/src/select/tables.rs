//! Gather from a large constant table, kept in bf16 where weights are not exact: rows are widened as they are picked.
//! Gathers from anything else are in `movement`.

use super::Cx;
use super::simple::{Fail, Operands, Result};
use crate::threads::{SharedMut, parallel_ranges};
use frit_backend::{Kernel, KernelError, Packing, Precision, Run};
use frit_ir::{DType, Tensor, op};

/// Elements of a table below which halving it is not worth an error.
const LARGE: usize = 1 << 20;
/// The layout of a packed table: its elements in order, as bf16.
const LAYOUT: &str = "bf16-rows";
const NAME: &str = "Gather bf16-rows";

/// A kernel for the gather of rows of such a table.
pub(super) fn gather_rows(cx: &Cx<'_>, op: &op::Gather) -> Option<Box<dyn Kernel>> {
    let table = cx.operand(0).filter(|o| o.constant && o.ty.dtype == DType::F32)?;
    let shape = table.ty.fixed_shape()?;
    let large = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))? >= LARGE;
    let axis = if op.axis < 0 { op.axis + i64::try_from(shape.len()).ok()? } else { op.axis };
    if cx.request.precision == Precision::Exact || !large || axis != 0 {
        return None;
    }
    let index = cx.input(1)?.dtype;
    matches!(index, DType::I32 | DType::I64).then(|| Box::new(GatherRows { index }) as Box<dyn Kernel>)
}

struct GatherRows {
    index: DType,
}

impl GatherRows {
    fn compute(&self, run: &mut Run<'_, '_>) -> Result<()> {
        let table = run.tensor(0)?;
        let rows = table.shape.first().copied().unwrap_or(0);
        let width = table.shape.iter().skip(1).product::<usize>();
        let halves: &[u16] = bytemuck::try_cast_slice(table.bytes)
            .map_err(|e| Fail::Contract(format!("the packed table: {e}")))?;
        if halves.len() != rows * width {
            return Err(Fail::Contract("the packed table has another size".to_owned()));
        }
        let resolve = |index: i64| {
            let n = i64::try_from(rows).unwrap_or(i64::MAX);
            let at = if index < 0 { index.saturating_add(n) } else { index };
            usize::try_from(at)
                .ok()
                .filter(|&at| at < rows)
                .ok_or_else(|| Fail::Data(format!("index {index} is out of range for {rows} rows")))
        };
        let picked: Vec<usize> = match self.index {
            DType::I32 => {
                run.elements::<i32>(1)?.iter().map(|&i| resolve(i64::from(i))).collect::<Result<_>>()?
            }
            _ => run.elements::<i64>(1)?.iter().map(|&i| resolve(i)).collect::<Result<_>>()?,
        };
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?.slice_mut::<f32>()?;
        if out.len() != picked.len() * width {
            return Err(Fail::Contract("the output has another size".to_owned()));
        }
        let out = SharedMut::new(out);
        let grain = (1usize << 14).div_ceil(width.max(1));
        parallel_ranges(picked.len(), grain, width as f64 * 0.2, |range| {
            for (row, &at) in range.clone().zip(picked.get(range).unwrap_or_default()) {
                let from = halves.get(at * width..(at + 1) * width).unwrap_or_default();
                // SAFETY: rows are disjoint parts of the output, whose length was checked.
                let to = unsafe { out.slice(row * width..(row + 1) * width) };
                for (to, &half) in to.iter_mut().zip(from) {
                    *to = f32::from_bits(u32::from(half) << 16);
                }
            }
        });
        Ok(())
    }
}

impl Kernel for GatherRows {
    fn name(&self) -> String {
        NAME.to_owned()
    }
    fn packing(&self) -> Vec<Packing> {
        vec![Packing { input: 0, layout: LAYOUT.to_owned() }]
    }
    fn pack(&self, input: usize, weight: &Tensor) -> std::result::Result<Vec<u8>, KernelError> {
        if input != 0 {
            return Err(Fail::Contract(format!("operand {input} is not packed")).named(NAME));
        }
        let numbers = weight.as_slice::<f32>().map_err(|e| Fail::from(e).named(NAME))?;
        Ok(numbers.iter().flat_map(|&x| half::bf16::from_f32(x).to_bits().to_ne_bytes()).collect())
    }
    fn run(&self, run: &mut Run<'_, '_>) -> std::result::Result<(), KernelError> {
        self.compute(run).map_err(|fail| fail.named(NAME))
    }
}
