//! Makes a [`Program`] from a graph: kernels, order, views, in-place results, lifetimes.
//! No concrete size is known here.

use super::legalise::{legalise, with_request};
use super::{Action, Operand, Place, Program, Slot, SlotPlan, Step, Varying, View};
use crate::error::PlanError;
use frit_backend::{Backend, Precision, ReferenceBackend, Target};
use frit_ir::{Dim, Graph, Node, NodeId, Op, ValueDef, ValueId, WeightId, WeightTable};
use std::collections::HashSet;

/// What kernels are made for.
#[derive(Clone, Copy, Debug)]
pub struct PlanOptions {
    /// Instruction set of kernels and packed layouts.
    pub target: Target,
    /// In what numbers weights are kept.
    pub precision: Precision,
}

/// The graph as it is planned: composite ops without a kernel are expanded, which may add constants to `weights`.
pub fn prepare(
    graph: &Graph,
    weights: &mut WeightTable,
    backend: &dyn Backend,
    options: PlanOptions,
) -> Result<Graph, PlanError> {
    let mut graph = graph.compacted()?;
    legalise(&mut graph, weights, backend, options.target, options.precision)?;
    Ok(graph)
}

/// Plans a prepared graph. `streamed`: see [`streamed`](super::streamed()).
pub fn build(
    graph: Graph,
    weights: &WeightTable,
    backend: &dyn Backend,
    options: PlanOptions,
    streamed: &HashSet<WeightId>,
) -> Result<Program, PlanError> {
    let mut planner = Planner::new(&graph, weights, backend, options, streamed)?;
    planner.place_views();
    planner.make_steps()?;
    planner.find_lifetimes();
    planner.reuse_operands();
    let Planner { slots, steps, breaks, .. } = planner;
    let steps: Vec<Step> = steps.into_iter().map(|s| s.step).collect();
    let varying = Varying::of(&slots, &steps);
    Ok(Program { graph, steps, slots, breaks, varying })
}

/// A step with what the planner still needs to know of it.
struct Draft {
    step: Step,
    in_place: Vec<usize>,
}

struct Planner<'g> {
    graph: &'g Graph,
    order: Vec<NodeId>,
    kernels: Vec<Option<Box<dyn frit_backend::Kernel>>>,
    users: Vec<Vec<NodeId>>,
    is_output: Vec<bool>,
    slots: Vec<SlotPlan>,
    steps: Vec<Draft>,
    breaks: Vec<usize>,
}

impl<'g> Planner<'g> {
    fn new(
        graph: &'g Graph,
        weights: &WeightTable,
        backend: &dyn Backend,
        options: PlanOptions,
        streamed: &HashSet<WeightId>,
    ) -> Result<Self, PlanError> {
        let order = graph.topological_order()?;
        let mut kernels = Vec::new();
        kernels.resize_with(order.iter().map(|n| n.index() + 1).max().unwrap_or(0), || None);
        for id in &order {
            let Some(node) = graph.node(*id).filter(|n| !n.op.is_dynamic()) else { continue };
            let (target, precision) = (options.target, options.precision);
            let kernel = with_request(graph, weights, node, streamed, target, precision, |r| {
                backend.kernel(r).or_else(|| ReferenceBackend.kernel(r))
            });
            let kernel = kernel
                .ok_or_else(|| PlanError::NoKernel { label: node.label.clone(), op: node.op.name() })?;
            if let Some(slot) = kernels.get_mut(id.index()) {
                *slot = Some(kernel);
            }
        }
        let mut is_output = vec![false; graph.value_count()];
        for o in &graph.outputs {
            if let Some(b) = is_output.get_mut(o.value.index()) {
                *b = true;
            }
        }
        let slots = (0..graph.value_count())
            .map(|i| {
                let value = graph.value(ValueId::from_index(i)).ok_or(PlanError::NoValue(i))?;
                let place = match value.def {
                    ValueDef::Input(n) => Place::Input(n),
                    ValueDef::Weight(w) => Place::Weight(w),
                    ValueDef::Node(n, _) if graph.node(n).is_some_and(|n| n.op.is_dynamic()) => Place::Own,
                    ValueDef::Node(..) => Place::Arena { root: Slot(u32::try_from(i).unwrap_or(u32::MAX)) },
                };
                Ok(SlotPlan { ty: value.ty.clone(), place, live: (usize::MAX, 0), phase: 0 })
            })
            .collect::<Result<Vec<_>, PlanError>>()?;
        Ok(Planner {
            graph,
            order,
            kernels,
            users: graph.users(),
            is_output,
            slots,
            steps: Vec::new(),
            breaks: Vec::new(),
        })
    }

    fn place(&self, s: Slot) -> Option<&Place> {
        self.slots.get(s.index()).map(|s| &s.place)
    }

    fn set_place(&mut self, v: ValueId, place: Place) {
        if let Some(s) = self.slots.get_mut(v.index()) {
            s.place = place;
        }
    }

    /// True when the slot's elements lie in memory row-major without gaps.
    fn is_contiguous(&self, s: Slot) -> bool {
        match self.place(s) {
            Some(Place::View { of, view: View::Reshape }) => self.is_contiguous(*of),
            Some(Place::View { .. } | Place::State(_)) => false,
            _ => true,
        }
    }

    /// True when every user's kernel can read the value with strides.
    fn users_accept_strides(&self, v: ValueId) -> bool {
        let users = self.users.get(v.index()).map(Vec::as_slice).unwrap_or(&[]);
        let state_value =
            |n: &Node| self.graph.states.iter().any(|s| self.state_output(s) == n.outputs.first().copied());
        !users.is_empty()
            && users.iter().all(|u| {
                let Some(node) = self.graph.node(*u) else { return false };
                let Some(kernel) = self.kernels.get(u.index()).and_then(Option::as_ref) else { return false };
                // A view of a view would need its own strides; a reshape needs its operand without gaps.
                let plain =
                    !matches!(node.op, Op::Reshape(_) | Op::Slice(_) | Op::Split(_) | Op::Transpose(_));
                plain
                    && !state_value(node)
                    && node.inputs.iter().enumerate().all(|(i, x)| *x != Some(v) || kernel.accepts_strided(i))
            })
    }

    fn state_output(&self, s: &frit_ir::State) -> Option<ValueId> {
        self.graph.outputs.iter().find(|o| o.name == s.output).map(|o| o.value)
    }

    /// Decides which values need no memory of their own.
    fn place_views(&mut self) {
        for (n, s) in self.graph.states.clone().iter().enumerate() {
            let input = self.graph.inputs.iter().find(|i| i.name == s.input).map(|i| i.value);
            if let (Some(i), Some(o)) = (input, self.state_output(s)) {
                self.set_place(i, Place::State(n));
                self.set_place(o, Place::State(n));
            }
        }
        for id in self.order.clone() {
            let Some(node) = self.graph.node(id) else { continue };
            let (Some(&Some(x)), Some(&y)) = (node.inputs.first(), node.outputs.first()) else { continue };
            let of = Slot::from(x);
            let strided_ok = |p: &Self, v: ValueId| {
                p.is_contiguous(of)
                    && !p.is_output.get(v.index()).copied().unwrap_or(true)
                    && p.users_accept_strides(v)
            };
            match &node.op {
                Op::Reshape(_) if self.is_contiguous(of) => {
                    self.set_place(y, Place::View { of, view: View::Reshape });
                }
                Op::Transpose(t) if strided_ok(self, y) => {
                    let perm = t.perm.iter().filter_map(|&p| usize::try_from(p).ok()).collect();
                    self.set_place(y, Place::View { of, view: View::Transpose(perm) });
                }
                Op::Slice(s) if s.steps.iter().all(|&k| k == 1) && strided_ok(self, y) => {
                    let rank = self.graph.ty(x).map_or(0, |t| t.rank());
                    let starts: Option<Vec<(usize, Dim)>> = s
                        .axes
                        .iter()
                        .zip(&s.starts)
                        .map(|(&a, d)| frit_ir::types::resolve_axis(a, rank).map(|a| (a, d.clone())))
                        .collect();
                    if let Some(starts) = starts {
                        self.set_place(y, Place::View { of, view: View::Slice(starts) });
                    }
                }
                Op::Split(s) if node.outputs.iter().all(|&v| self.unused(v) || strided_ok(self, v)) => {
                    let rank = self.graph.ty(x).map_or(0, |t| t.rank());
                    let Some(axis) = frit_ir::types::resolve_axis(s.axis, rank) else { continue };
                    let mut start = Dim::constant(0);
                    for (v, size) in node.outputs.clone().into_iter().zip(&s.sizes) {
                        self.set_place(v, Place::View { of, view: View::Slice(vec![(axis, start.clone())]) });
                        let Ok(next) = start.add(size) else { break };
                        start = next;
                    }
                }
                _ => {}
            }
        }
    }

    fn unused(&self, v: ValueId) -> bool {
        self.users.get(v.index()).is_none_or(Vec::is_empty)
            && !self.is_output.get(v.index()).copied().unwrap_or(true)
    }

    fn make_steps(&mut self) -> Result<(), PlanError> {
        for id in self.order.clone() {
            let Some(node) = self.graph.node(id) else { continue };
            let outputs: Vec<Slot> = node.outputs.iter().map(|v| Slot::from(*v)).collect();
            let defines = !node.op.defines().is_empty();
            let phase = self.breaks.len() + usize::from(defines);
            for o in &outputs {
                if let Some(s) = self.slots.get_mut(o.index()) {
                    s.phase = phase;
                }
            }
            if node.op.is_dynamic() {
                let mut inputs: Vec<Option<Operand>> =
                    node.inputs.iter().map(|v| v.map(|v| Operand { slot: v.into(), packed: None })).collect();
                for o in inputs.iter_mut().flatten() {
                    if !self.is_contiguous(o.slot) {
                        o.slot = self.contiguous_copy(o.slot, id);
                    }
                }
                if defines {
                    self.breaks.push(self.steps.len());
                }
                let action = Action::Dynamic(node.op.clone());
                let step = Step { action, inputs, outputs, aliased: None, node: id };
                self.steps.push(Draft { step, in_place: vec![] });
                continue;
            }
            if let Some(Place::State(state)) = outputs.first().and_then(|s| self.place(*s)).cloned() {
                self.append(id, node, state, outputs)?;
                continue;
            }
            if outputs.iter().all(|s| matches!(self.place(*s), Some(Place::View { .. }))) {
                continue;
            }
            let Some(kernel) = self.kernels.get_mut(id.index()).and_then(Option::take) else { continue };
            let mut inputs: Vec<Option<Operand>> =
                node.inputs.iter().map(|v| v.map(|v| Operand { slot: v.into(), packed: None })).collect();
            for p in kernel.packing() {
                if let Some(Some(o)) = inputs.get_mut(p.input)
                    && let Some(w) = self.graph.weight_of(ValueId(o.slot.0))
                {
                    o.packed = Some((w, p.layout));
                }
            }
            for (i, o) in inputs.iter_mut().enumerate() {
                let Some(o) = o else { continue };
                if o.packed.is_none() && !self.is_contiguous(o.slot) && !kernel.accepts_strided(i) {
                    o.slot = self.contiguous_copy(o.slot, id);
                }
            }
            let in_place = kernel.in_place().to_vec();
            let step = Step { action: Action::Kernel(kernel), inputs, outputs, aliased: None, node: id };
            self.steps.push(Draft { step, in_place });
        }
        Ok(())
    }

    fn append(&mut self, id: NodeId, node: &Node, state: usize, outputs: Vec<Slot>) -> Result<(), PlanError> {
        let malformed = || PlanError::State {
            name: self.graph.states.get(state).map(|s| s.output.clone()).unwrap_or_default(),
        };
        let axis = self.graph.states.get(state).map(|s| s.axis).ok_or_else(malformed)?;
        let rank = outputs.first().and_then(|o| self.slots.get(o.index())).map_or(0, |s| s.ty.rank());
        let is_concat =
            matches!(&node.op, Op::Concat(c) if frit_ir::types::resolve_axis(c.axis, rank) == Some(axis));
        let [Some(kept), Some(new)] = node.inputs.as_slice() else { return Err(malformed()) };
        if !is_concat || self.place(Slot::from(*kept)) != Some(&Place::State(state)) {
            return Err(malformed());
        }
        let inputs = vec![Some(Operand { slot: Slot::from(*new), packed: None })];
        let step = Step { action: Action::Append { state }, inputs, outputs, aliased: None, node: id };
        self.steps.push(Draft { step, in_place: vec![] });
        Ok(())
    }

    fn contiguous_copy(&mut self, of: Slot, node: NodeId) -> Slot {
        let copy = Slot(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        if let Some(ty) = self.slots.get(of.index()).map(|s| s.ty.clone()) {
            let (place, phase) = (Place::Arena { root: copy }, self.breaks.len());
            self.slots.push(SlotPlan { ty, place, live: (usize::MAX, 0), phase });
        }
        let inputs = vec![Some(Operand { slot: of, packed: None })];
        let step = Step { action: Action::Copy, inputs, outputs: vec![copy], aliased: None, node };
        self.steps.push(Draft { step, in_place: vec![] });
        copy
    }

    /// The slot whose memory holds this one's numbers.
    fn root(&self, s: Slot) -> Slot {
        let mut at = s;
        loop {
            match self.place(at) {
                Some(Place::View { of, .. }) => at = *of,
                Some(Place::Arena { root }) if *root != at => at = *root,
                _ => return at,
            }
        }
    }

    fn touch(&mut self, s: Slot, step: usize) {
        let root = self.root(s);
        if let Some(p) = self.slots.get_mut(root.index()) {
            p.live = (p.live.0.min(step), p.live.1.max(step));
        }
    }

    fn find_lifetimes(&mut self) {
        for i in 0..self.steps.len() {
            let Some(d) = self.steps.get(i) else { continue };
            let touched: Vec<Slot> = d
                .step
                .inputs
                .iter()
                .flatten()
                .filter(|o| o.packed.is_none())
                .map(|o| o.slot)
                .chain(d.step.outputs.iter().copied())
                .collect();
            for s in touched {
                self.touch(s, i);
            }
        }
        let end = self.steps.len();
        for o in &self.graph.outputs {
            self.touch(o.value.into(), end);
        }
    }

    /// Lets results take over the memory of operands that die in the same step.
    fn reuse_operands(&mut self) {
        for i in 0..self.steps.len() {
            let Some(d) = self.steps.get(i) else { continue };
            let Some(&out) = d.step.outputs.first() else { continue };
            if self.place(out) != Some(&Place::Arena { root: out }) {
                continue;
            }
            let mut chosen = None;
            for &k in &d.in_place {
                let Some(Some(operand)) = d.step.inputs.get(k) else { continue };
                let root = self.root(operand.slot);
                let (Some(from), Some(to)) =
                    (self.slots.get(operand.slot.index()), self.slots.get(out.index()))
                else {
                    continue;
                };
                let alone = d.step.inputs.iter().enumerate().all(|(j, o)| {
                    j == k || o.as_ref().is_none_or(|o| o.packed.is_some() || self.root(o.slot) != root)
                });
                let whole =
                    self.is_contiguous(operand.slot) && self.place(root) == Some(&Place::Arena { root });
                // Each phase has memory of its own.
                let dies = self.slots.get(root.index()).is_some_and(|r| r.live.1 == i && r.phase == to.phase);
                if alone && whole && dies && operand.packed.is_none() && from.ty.same(&to.ty) {
                    chosen = Some((k, root));
                    break;
                }
            }
            if let Some((k, root)) = chosen {
                let last = self.slots.get(out.index()).map_or(i, |s| s.live.1);
                if let Some(s) = self.slots.get_mut(out.index()) {
                    s.place = Place::Arena { root };
                }
                if let Some(r) = self.slots.get_mut(root.index()) {
                    r.live.1 = r.live.1.max(last);
                }
                if let Some(d) = self.steps.get_mut(i) {
                    d.step.aliased = Some(k);
                }
            }
        }
    }
}
