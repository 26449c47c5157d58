//! Control flow: graphs of the module become attributes of If and Loop. In ONNX a body sees the values around it by
//! name; ours takes them as its last inputs.

use super::Written;
use crate::onnx::export::attr;
use crate::onnx::export::emitter::{Emitter, View};
use frit_ir::op::{If, Loop};

/// If-16: both branches take everything by name.
pub(super) fn branch(e: &mut Emitter<'_>, v: &View<'_>, o: &If) -> Written {
    let captured = |holds: bool| {
        let (name, range) = o.choose(v.inputs.len(), holds);
        (name.to_owned(), v.inputs.get(range).unwrap_or(&[]))
    };
    let ((then, of_then), (other, of_other)) = (captured(true), captured(false));
    let then = e.nested(&then, 0, of_then)?;
    let other = e.nested(&other, 0, of_other)?;
    let attrs = vec![attr::graph("then_branch", then), attr::graph("else_branch", other)];
    let condition = scalar(e, v.input(0))?;
    e.push("If", vec![condition], v.outputs.clone(), attrs);
    Ok(())
}

/// Conditions and counts are one element of any rank with us, scalars for some runtimes.
fn scalar(e: &mut Emitter<'_>, x: String) -> Result<String, crate::onnx::export::ExportError> {
    if x.is_empty() {
        return Ok(x);
    }
    let shape = e.integers(&[])?;
    Ok(e.compute("Reshape", vec![x, shape], vec![]))
}

/// Loop-16: the body takes iteration, condition and carried values, and the rest by name.
pub(super) fn repeat(e: &mut Emitter<'_>, v: &View<'_>, o: &Loop) -> Written {
    let carried = usize::try_from(o.carried).unwrap_or(0);
    let split = carried.saturating_add(2).min(v.inputs.len());
    let (own, captured) = v.inputs.split_at(split);
    let body = e.nested(&o.body, split, captured)?;
    let mut inputs = own.to_vec();
    for x in inputs.iter_mut().take(2) {
        *x = scalar(e, std::mem::take(x))?;
    }
    e.push("Loop", inputs, v.outputs.clone(), vec![attr::graph("body", body)]);
    Ok(())
}
