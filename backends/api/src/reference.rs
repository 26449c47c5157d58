//! The reference backend: every op by the interpreter. It takes what every other backend declines.
//! Nothing here is fast, and nothing here should be.

use crate::{Backend, Kernel, KernelError, Request, Run};
use frit_ir::{Op, Tensor, TensorType, interp};

/// Runs every op by the interpreter's evaluation.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReferenceBackend;

impl Backend for ReferenceBackend {
    fn name(&self) -> &'static str {
        "reference"
    }
    fn kernel(&self, request: &Request<'_>) -> Option<Box<dyn Kernel>> {
        let types = request.outputs.iter().map(|t| (*t).clone()).collect();
        Some(Box::new(ReferenceKernel { op: request.op.clone(), types }))
    }
}

struct ReferenceKernel {
    op: Op,
    types: Vec<TensorType>,
}

impl Kernel for ReferenceKernel {
    fn is_reference(&self) -> bool {
        true
    }
    fn name(&self) -> String {
        format!("{} reference", self.op.name())
    }
    fn accepts_strided(&self, _: usize) -> bool {
        true
    }
    fn heap(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> usize {
        // Each element as a 64-bit number, and the tensor made of it.
        let count = |s: &[usize]| s.iter().fold(16usize, |n, d| n.saturating_mul(*d));
        inputs.iter().flatten().chain(outputs).map(|s| count(s)).fold(0, usize::saturating_add)
    }
    fn run(&self, run: &mut Run<'_, '_>) -> Result<(), KernelError> {
        let contract = |why: String| KernelError::Contract { kernel: self.name(), why };
        let inputs = run
            .inputs
            .iter()
            .map(|t| t.map(|t| t.to_tensor()).transpose())
            .collect::<Result<Vec<Option<Tensor>>, _>>()
            .map_err(|e| contract(e.to_string()))?;
        let inputs: Vec<Option<&Tensor>> = inputs.iter().map(Option::as_ref).collect();
        let types: Vec<&TensorType> = self.types.iter().collect();
        let results = interp::evaluate(&self.op, &inputs, &types, run.bindings, "")
            .map_err(|e| KernelError::Data(e.to_string()))?;
        for (out, result) in run.outputs.iter_mut().zip(&results) {
            if out.bytes.len() != result.bytes().len() {
                return Err(contract(format!(
                    "made {result:?} where {}{:?} is planned",
                    out.dtype, out.shape
                )));
            }
            out.bytes.copy_from_slice(result.bytes());
        }
        Ok(())
    }
}
