//! Common subexpressions: nodes with the same op and operands become one. Folding constants is in `fold.rs`.

use crate::edit::{Editor, ReplaceError};
use crate::pattern::COMMUTATIVE;
use crate::trace::Log;
use frit_ir::graph::CycleError;
use frit_ir::{NodeId, ValueId};
use std::collections::HashMap;

/// Why it failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CseError {
    /// The graph is not well formed.
    #[error(transparent)]
    Cycle(#[from] CycleError),
    /// Equal nodes of different types.
    #[error(transparent)]
    Replace(#[from] ReplaceError),
}

/// Merges equal nodes; gives how many went. Every op of frit is a pure function, so equal operands give equal results.
pub fn sweep(e: &mut Editor<'_>, log: &mut Log) -> Result<usize, CseError> {
    let mut seen: HashMap<(String, Vec<Option<ValueId>>), NodeId> = HashMap::new();
    let mut merged = 0;
    for id in e.graph().topological_order()? {
        let Some(node) = e.graph().node(id) else { continue };
        let mut operands = node.inputs.clone();
        while operands.last() == Some(&None) {
            operands.pop();
        }
        if COMMUTATIVE.contains(&node.op.name()) {
            operands.sort_unstable();
        }
        match seen.get(&(format!("{:?}", node.op), operands.clone())) {
            None => {
                seen.insert((format!("{:?}", node.op), operands), id);
            }
            Some(first) => {
                let label = node.label.clone();
                let pairs: Vec<(ValueId, ValueId)> = match e.graph().node(*first) {
                    Some(first) => node.outputs.iter().copied().zip(first.outputs.iter().copied()).collect(),
                    None => continue,
                };
                for (old, new) in pairs {
                    e.replace(old, new)?;
                    log.fired("same_expression", &label, new);
                }
                merged += 1;
            }
        }
    }
    Ok(merged)
}
