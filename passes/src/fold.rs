//! Evaluating what depends on constants alone, within a budget of bytes and work. Rewrites are in `rules/`.

use crate::edit::{Editor, ReplaceError};
use crate::quick;
use crate::trace::Log;
use crate::view::View;
use frit_ir::builder::BuildError;
use frit_ir::graph::CycleError;
use frit_ir::module::SMALL;
use frit_ir::op::Op;
use frit_ir::types::TensorType;
use frit_ir::{Bindings, Node, NodeId, Tensor, WeightId, WeightTable, interp};
use std::collections::{BTreeMap, HashMap};

/// How much folding may add to a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes that one result may have beyond its operands.
    pub growth: usize,
    /// Bytes that all results of one call to [`crate::optimise`] may have beyond their operands.
    pub total_growth: usize,
    /// Bytes that all these results may have in all: those that others are computed from stay in memory with them.
    pub total: usize,
    /// What all evaluations of one call to [`crate::optimise`] may take, as [`Op::work`] counts it.
    pub work: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { growth: 32 << 20, total_growth: 512 << 20, total: usize::MAX, work: 1 << 32 }
    }
}

impl Budget {
    /// A budget in proportion to constants of `bytes`: for models of strangers, of which a few bytes may ask for much.
    pub fn in_proportion(bytes: usize) -> Self {
        let usual = Budget::default();
        let total_growth = usual.total_growth.min((8usize << 20).saturating_add(bytes.saturating_mul(2)));
        let total = (64usize << 20).saturating_add(bytes.saturating_mul(16));
        let work = usual.work.min((1usize << 30).saturating_add(bytes.saturating_mul(8)));
        Budget { total_growth, total, work, ..usual }
    }
}

/// Folding over the graphs of one module: equal expressions of constants are evaluated once for all of them.
#[derive(Debug, Default)]
pub struct Folder {
    budget: Budget,
    spent: usize,
    made: usize,
    worked: usize,
    known: HashMap<(String, Vec<Option<WeightId>>, usize), WeightId>,
}

/// Why folding failed; that an op cannot be evaluated is no failure, it stays.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FoldError {
    /// The graph is not well formed.
    #[error(transparent)]
    Cycle(#[from] CycleError),
    /// A constant could not be added.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A constant does not stand in for what it was computed from.
    #[error(transparent)]
    Replace(#[from] ReplaceError),
}

impl Folder {
    /// Nothing folded yet.
    pub fn new(budget: Budget) -> Self {
        Folder { budget, ..Folder::default() }
    }

    /// Folds every node whose operands are constants. Transposes stay unless `layouts`: products
    /// take them as they are. Gives the number of nodes folded.
    pub fn sweep(&mut self, e: &mut Editor<'_>, layouts: bool, log: &mut Log) -> Result<usize, FoldError> {
        let mut folded = 0;
        for id in e.graph().topological_order()? {
            let Some(node) = e.graph().node(id).cloned() else { continue };
            let Some(constants) = self.results(e, id, &node, layouts, log) else { continue };
            for (old, weight) in node.outputs.iter().zip(constants) {
                let new = e.weight(weight)?;
                e.replace(*old, new)?;
                log.fired("fold", &node.label, new);
            }
            folded += 1;
        }
        Ok(folded)
    }

    fn results(
        &mut self,
        e: &mut Editor<'_>,
        id: NodeId,
        node: &Node,
        layouts: bool,
        log: &mut Log,
    ) -> Option<Vec<WeightId>> {
        // What defines a symbol or runs other graphs is no constant expression.
        if node.op.is_dynamic() {
            return None;
        }
        let view = View { graph: e.graph(), weights: e.weights() };
        let mut weights = Vec::with_capacity(node.inputs.len());
        for v in &node.inputs {
            weights.push(match v {
                Some(v) => Some(view.graph.weight_of(*v)?),
                None => None,
            });
        }
        let types: Vec<&TensorType> = node.outputs.iter().map(|v| view.ty(*v)).collect::<Option<_>>()?;
        let shapes: Vec<Vec<usize>> = types.iter().map(|t| t.fixed_shape()).collect::<Option<_>>()?;
        let key = format!("{:?}", node.op);
        let cached: Option<Vec<WeightId>> = (0..node.outputs.len())
            .map(|i| self.known.get(&(key.clone(), weights.clone(), i)).copied())
            .collect();
        if cached.is_some() {
            return cached;
        }
        let operands: Vec<Option<&Tensor>> = weights
            .iter()
            .map(|w| w.map(|w| view.weights.data(w)))
            .map(|t| match t {
                Some(None) => None,
                Some(Some(t)) => Some(Some(t)),
                None => Some(None),
            })
            .collect::<Option<_>>()?;
        let refuse = |log: &mut Log, why: String| {
            let at = node.outputs.first().copied().unwrap_or(frit_ir::ValueId(id.0));
            log.near("fold", &node.label, at, || format!("{} stays: {why}", node.op.name()));
            None
        };
        if !layouts && matches!(node.op, Op::Transpose(_)) {
            return None;
        }
        let bytes =
            |t: &TensorType, shape: &[usize]| shape.iter().try_fold(t.dtype.size(), |n, &d| n.checked_mul(d));
        let produced = types.iter().zip(&shapes).try_fold(0usize, |n, (t, s)| n.checked_add(bytes(t, s)?));
        // An operand given twice is there once.
        let distinct: BTreeMap<WeightId, usize> =
            weights.iter().zip(&operands).filter_map(|(w, t)| Some(((*w)?, (*t)?.bytes().len()))).collect();
        let consumed: usize = distinct.values().sum();
        let made = produced.map_or(usize::MAX, |p| p.saturating_add(self.made));
        let growth = produced.map_or(usize::MAX, |p| p.saturating_sub(consumed));
        if growth > self.budget.growth
            || self.spent.saturating_add(growth) > self.budget.total_growth
            || made > self.budget.total
        {
            return refuse(log, format!("{produced:?} bytes out of {consumed} exceed the budget"));
        }
        let given: Vec<Option<&[usize]>> = operands.iter().map(|t| t.map(Tensor::shape)).collect();
        let results: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
        let work = node.op.work(&given, &results).unwrap_or(usize::MAX);
        if self.worked.saturating_add(work) > self.budget.work {
            return refuse(log, "it takes too many multiplications".to_owned());
        }
        self.worked = self.worked.saturating_add(work);
        let evaluated = match quick::evaluate(&node.op, &operands, &shapes) {
            Some(result) => Ok(vec![result]),
            None => interp::evaluate(&node.op, &operands, &types, &Bindings::new(), &node.label),
        };
        match evaluated {
            Ok(results) => {
                self.spent = self.spent.saturating_add(growth);
                self.made = made;
                let ids: Vec<WeightId> =
                    results.into_iter().map(|t| name_result(e.weights_mut(), node, t)).collect();
                for (i, w) in ids.iter().enumerate() {
                    self.known.insert((key.clone(), weights.clone(), i), *w);
                }
                Some(ids)
            }
            Err(error) => refuse(log, error.to_string()),
        }
    }
}

/// Adds a result to the table; large ones are named after where they come from.
fn name_result(weights: &mut WeightTable, node: &Node, data: Tensor) -> WeightId {
    if data.len() <= SMALL {
        return weights.constant(data);
    }
    let op = node.op.name().to_lowercase();
    let name = if node.label.is_empty() { op } else { format!("{}.{op}", node.label) };
    weights.add(&name, data)
}
