//! The results of a run, where they lie.

use super::Session;
use crate::error::RuntimeError;
use frit_backend::{Delegate, KernelError, TensorRef};
use frit_ir::{Bindings, Tensor};

/// The results of a run. They stay in the session's memory until its next run.
pub struct Outputs<'s> {
    pub(super) session: &'s Session,
}

/// Has a delegate run a graph, and checks that it gives what the graph declares.
pub(super) fn delegated(
    delegate: &dyn Delegate,
    graph: &frit_ir::Graph,
    inputs: &[Tensor],
    bindings: &Bindings,
) -> Result<Vec<Tensor>, RuntimeError> {
    let failed = |source| RuntimeError::Kernel {
        kernel: delegate.name().to_owned(),
        label: graph.name.clone(),
        source,
    };
    let named: Vec<(&str, &Tensor)> = graph.inputs.iter().map(|i| i.name.as_str()).zip(inputs).collect();
    let results = delegate.run(&named).map_err(failed)?;
    let wrong = |why: String| failed(KernelError::Contract { kernel: delegate.name().to_owned(), why });
    if results.len() != graph.outputs.len() {
        return Err(wrong(format!("{} results, expected {}", results.len(), graph.outputs.len())));
    }
    for (t, o) in results.iter().zip(&graph.outputs) {
        let Some(ty) = graph.ty(o.value) else { continue };
        // Symbols that take their values at run time are the delegate's own.
        let shape = ty.eval_shape(bindings).unwrap_or_else(|_| t.shape().to_vec());
        if t.dtype() != ty.dtype || t.shape() != shape {
            return Err(wrong(format!("`{}` is {}{:?}, expected {ty}", o.name, t.dtype(), t.shape())));
        }
    }
    Ok(results)
}

impl Outputs<'_> {
    /// Names of the outputs, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.session.graph().outputs.iter().map(|o| o.name.as_str())
    }

    /// A result where it lies, without copying.
    pub fn get(&self, name: &str) -> Result<TensorRef<'_>, RuntimeError> {
        let graph = self.session.graph();
        let missing = || RuntimeError::Output {
            name: name.to_owned(),
            entry: graph.name.clone(),
            known: self.names().collect::<Vec<_>>().join(", "),
        };
        let position = graph.outputs.iter().position(|o| o.name == name).ok_or_else(missing)?;
        if self.session.delegate.is_some() {
            let t = self.session.results.get(position).ok_or_else(missing)?;
            return Ok(TensorRef { dtype: t.dtype(), shape: t.shape(), strides: None, bytes: t.bytes() });
        }
        let output = graph.outputs.get(position).ok_or_else(missing)?;
        let location = self
            .session
            .instance
            .as_ref()
            .and_then(|i| i.location(output.value.into()))
            .ok_or_else(missing)?;
        let dtype = graph.ty(output.value).map(|t| t.dtype).ok_or_else(missing)?;
        let bytes = self.session.read(location).ok_or_else(missing)?;
        Ok(TensorRef { dtype, shape: &location.shape, strides: location.strides.as_deref(), bytes })
    }

    /// A copy of a result.
    pub fn tensor(&self, name: &str) -> Result<Tensor, RuntimeError> {
        Ok(self.get(name)?.to_tensor()?)
    }
}
