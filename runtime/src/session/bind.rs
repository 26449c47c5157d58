//! Before a run: what the inputs make of the dimension symbols, and room in the states. No step runs here.

use super::Session;
use crate::error::{PlanError, RuntimeError};
use crate::memory::StateBuffer;
use crate::model::Linked;
use frit_ir::{Bindings, Tensor, binding};

impl Session {
    /// Values of the symbols; state inputs count with what is kept.
    pub(super) fn bind<'t>(
        &self,
        linked: &Linked,
        given: &dyn Fn(&str) -> Option<&'t Tensor>,
        outer: Bindings,
    ) -> Result<Bindings, RuntimeError> {
        let graph = &linked.program.graph;
        // The symbols of an empty cache are not in the cache: bind the rest first, then its zero rows.
        let kept = |name: &str| graph.states.iter().position(|s| s.input == name);
        let fresh = self.states.is_empty();
        let begins_empty = |name: &str| fresh && kept(name).is_some();
        let shape_of = |name: &str| match (given(name), kept(name)) {
            (Some(t), _) => Some((t.dtype(), t.shape().to_vec())),
            (None, Some(n)) => {
                let ty = graph.inputs.iter().find(|i| i.name == name).and_then(|i| graph.ty(i.value))?;
                self.states.get(n).map(|s| (ty.dtype, s.shape.clone()))
            }
            (None, None) => None,
        };
        let mut extra = outer;
        if fresh {
            for s in &graph.states {
                let ty = graph.inputs.iter().find(|i| i.name == s.input).and_then(|i| graph.ty(i.value));
                if let (Some(ty), None) = (ty, given(&s.input))
                    && let Some(symbol) = ty.shape.get(s.axis).and_then(|d| d.as_symbol())
                {
                    extra.set(symbol, 0);
                }
            }
        }
        Ok(binding::bind_with(graph, &shape_of, &begins_empty, extra)?)
    }

    /// Brings every state to the batch of this call, with room for its new rows.
    pub(super) fn prepare_states<'t>(
        &mut self,
        linked: &Linked,
        given: &dyn Fn(&str) -> Option<&'t Tensor>,
        bindings: &Bindings,
    ) -> Result<(), RuntimeError> {
        let graph = &linked.program.graph;
        let sizes = |source: PlanError| RuntimeError::Sizes { entry: graph.name.clone(), source };
        for (n, decl) in graph.states.iter().enumerate() {
            let state_error = || sizes(PlanError::State { name: decl.output.clone() });
            let input = graph.inputs.iter().find(|i| i.name == decl.input).ok_or_else(state_error)?;
            let output = graph.outputs.iter().find(|o| o.name == decl.output).ok_or_else(state_error)?;
            let ty = graph.ty(input.value).ok_or_else(state_error)?;
            let before = ty.eval_shape(bindings).map_err(|e| sizes(e.into()))?;
            let after = graph
                .ty(output.value)
                .ok_or_else(state_error)?
                .eval_shape(bindings)
                .map_err(|e| sizes(e.into()))?;
            let start = given(&decl.input);
            if self.states.len() <= n || start.is_some() {
                let mut shape = before.clone();
                if let Some(d) = shape.get_mut(decl.axis) {
                    *d = 0;
                }
                let mut buffer = StateBuffer::empty(shape, decl.axis, ty.dtype.size());
                if let Some(t) = start {
                    let rows = t.shape().get(decl.axis).copied().unwrap_or(0);
                    if !buffer.reserve(rows) || !buffer.append(t.bytes(), rows) {
                        return Err(state_error());
                    }
                    buffer.shape = t.shape().to_vec();
                }
                match self.states.get_mut(n) {
                    Some(slot) => *slot = buffer,
                    None => self.states.push(buffer),
                }
            }
            let Some(buffer) = self.states.get_mut(n) else { return Err(state_error()) };
            if buffer.shape != before {
                return Err(state_error());
            }
            let rows = after.get(decl.axis).copied().unwrap_or(0);
            let needed = buffer.bytes_for(rows);
            if let Some(limit) = self.memory_limit.filter(|l| needed > *l) {
                return Err(RuntimeError::MemoryLimit { entry: graph.name.clone(), needed, limit });
            }
            if !buffer.reserve(rows) {
                return Err(sizes(PlanError::TooLarge(format!("state `{}` of {needed} bytes", decl.output))));
            }
        }
        Ok(())
    }
}
