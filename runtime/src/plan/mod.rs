//! The plan: from a verified graph to a program of steps. Which kernel runs each node, in which order, which
//! values are mere views of others, and which may overwrite an operand: all decided once, over symbols.
//! Concrete sizes and offsets are decided per binding in `instance.rs`; nothing is executed here.

mod build;
mod instance;
mod layout;
mod legalise;
mod streamed;

pub use build::{PlanOptions, build, prepare};
pub use instance::{Base, Instance, Location, Reuse, Shapes};
pub use streamed::streamed;

use frit_backend::Kernel;
use frit_ir::{Dim, Graph, NodeId, Op, TensorType, ValueId, WeightId};
use std::fmt;

/// A value of the plan: the graph's values first, under the same index, then copies that the plan adds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Slot(pub u32);

impl Slot {
    /// The position in the slot table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl From<ValueId> for Slot {
    fn from(v: ValueId) -> Self {
        Slot(v.0)
    }
}

/// How a view reads the value that it is a view of.
#[derive(Clone, Debug, PartialEq)]
pub enum View {
    /// The same elements in order under another shape.
    Reshape,
    /// A range along some axes: axis and first index.
    Slice(Vec<(usize, Dim)>),
    /// Axes reordered.
    Transpose(Vec<usize>),
}

/// Where the numbers of a slot are.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// Nowhere: no step needs it.
    Unused,
    /// The caller's tensor.
    Input(usize),
    /// Plain weight.
    Weight(WeightId),
    /// Memory of the arena, shared by all slots of the same root.
    Arena {
        /// The slot whose memory it is.
        root: Slot,
    },
    /// A view of another slot.
    View {
        /// The slot viewed.
        of: Slot,
        /// How.
        view: View,
    },
    /// What the session keeps, before or after this call's rows are appended.
    State(usize),
    /// A tensor of its own, made by a dynamic step.
    Own,
}

/// A slot: type, place, and the steps between which arena memory must stay.
#[derive(Clone, Debug)]
pub struct SlotPlan {
    /// Static type.
    pub ty: TensorType,
    /// Where it is.
    pub place: Place,
    /// First and last step that need it; roots cover their views.
    pub live: (usize, usize),
    /// The phase from which on its extents are known.
    pub phase: usize,
}

/// What a step does.
pub enum Action {
    /// Runs a kernel.
    Kernel(Box<dyn Kernel>),
    /// Makes a contiguous copy of a strided slot.
    Copy,
    /// Evaluates an op whose results have sizes of their own, or that runs other graphs of the module.
    Dynamic(Op),
    /// Writes new rows behind those that the session keeps.
    Append {
        /// Which state.
        state: usize,
    },
}

/// An operand of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// The slot to read.
    pub slot: Slot,
    /// The layout of the packed weight to read instead of the plain one.
    pub packed: Option<(WeightId, String)>,
}

/// One thing to do.
pub struct Step {
    /// What.
    pub action: Action,
    /// Operands; None where an optional one is left out.
    pub inputs: Vec<Option<Operand>>,
    /// Results.
    pub outputs: Vec<Slot>,
    /// The operand whose memory output 0 takes over.
    pub aliased: Option<usize>,
    /// The node it comes from.
    pub node: NodeId,
}

/// A graph ready to run on any extents that fit its input types.
pub struct Program {
    /// The graph as planned: legalised and compacted.
    pub graph: Graph,
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// Every value's plan.
    pub slots: Vec<SlotPlan>,
    /// The steps after which symbols are known that were not before. Each ends a phase: memory is laid out phase by
    /// phase, as sizes become known. Empty for a graph whose sizes all follow from its inputs'.
    pub breaks: Vec<usize>,
    /// What a call at other sizes must size again.
    pub varying: Varying,
}

/// The slots and steps of a program whose sizes or places follow from the dimension symbols.
#[derive(Clone, Debug, Default)]
pub struct Varying {
    /// Slots with symbolic extents, states, and views of such.
    pub slots: Vec<Slot>,
    /// Steps that read or write such slots: their scratch memory may vary.
    pub steps: Vec<usize>,
}

impl Varying {
    /// Finds them.
    fn of(slots: &[SlotPlan], steps: &[Step]) -> Self {
        let mut varies = vec![None; slots.len()];
        (0..slots.len()).for_each(|i| {
            slot_varies(slots, &mut varies, i);
        });
        let at = |s: Slot| varies.get(s.index()).copied().flatten() == Some(true);
        let slots = (0u32..).map(Slot).take(slots.len()).filter(|s| at(*s)).collect();
        let touches =
            |s: &Step| s.inputs.iter().flatten().map(|o| o.slot).chain(s.outputs.iter().copied()).any(at);
        let steps = steps.iter().enumerate().filter(|(_, s)| touches(s)).map(|(i, _)| i).collect();
        Varying { slots, steps }
    }
}

/// Depth first along views, which are never circular.
fn slot_varies(slots: &[SlotPlan], known: &mut [Option<bool>], index: usize) -> bool {
    if let Some(answer) = known.get(index).copied().flatten() {
        return answer;
    }
    let symbolic = |d: &Dim| d.as_const().is_none();
    let answer = slots.get(index).is_some_and(|s| {
        s.ty.shape.iter().any(symbolic)
            || match &s.place {
                Place::State(_) => true,
                Place::View { of, view } => {
                    let moves =
                        matches!(view, View::Slice(starts) if starts.iter().any(|(_, d)| symbolic(d)));
                    moves || slot_varies(slots, known, of.index())
                }
                _ => false,
            }
    });
    if let Some(k) = known.get_mut(index) {
        *k = Some(answer);
    }
    answer
}

impl Program {
    /// The weights that kernels want packed, each with its layout once, in order of first use.
    pub fn packings(&self) -> Vec<(WeightId, String)> {
        let mut all = Vec::new();
        for operand in self.steps.iter().flat_map(|s| s.inputs.iter().flatten()) {
            if let Some(p) = &operand.packed
                && !all.contains(p)
            {
                all.push(p.clone());
            }
        }
        all
    }

    /// The weights that some step reads plain, in order of first use.
    pub fn plain_weights(&self) -> Vec<WeightId> {
        let mut all = Vec::new();
        let mut note = |slot: Slot| {
            let mut at = slot;
            loop {
                match self.slots.get(at.index()).map(|s| &s.place) {
                    Some(Place::View { of, .. }) => at = *of,
                    Some(Place::Weight(w)) => {
                        if !all.contains(w) {
                            all.push(*w);
                        }
                        return;
                    }
                    _ => return,
                }
            }
        };
        for operand in self.steps.iter().flat_map(|s| s.inputs.iter().flatten()) {
            if operand.packed.is_none() {
                note(operand.slot);
            }
        }
        for o in &self.graph.outputs {
            note(o.value.into());
        }
        all
    }

    /// The label of a step's node.
    pub fn label(&self, step: &Step) -> &str {
        self.graph.node(step.node).map_or("", |n| n.label.as_str())
    }

    /// What a step does, for profiles and people.
    pub fn describe(&self, step: &Step) -> String {
        match &step.action {
            Action::Kernel(k) => k.name(),
            Action::Copy => "copy".into(),
            Action::Dynamic(op) => format!("{} dynamic", op.name()),
            Action::Append { .. } => "append to state".into(),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program {} {{", self.graph.name)?;
        let slot = |f: &mut fmt::Formatter<'_>, s: Slot| -> fmt::Result {
            write!(f, "%{}", s.0)?;
            match self.slots.get(s.index()).map(|p| &p.place) {
                Some(Place::Input(_)) => write!(f, " (input)"),
                Some(Place::Weight(_)) => write!(f, " (weight)"),
                Some(Place::Arena { root }) if *root != s => write!(f, " (in %{})", root.0),
                Some(Place::View { of, view }) => write!(f, " (view of %{} {view:?})", of.0),
                Some(Place::State(n)) => write!(f, " (state {n})"),
                Some(Place::Own) => write!(f, " (own)"),
                _ => Ok(()),
            }
        };
        for (i, step) in self.steps.iter().enumerate() {
            write!(f, "  {i:4}: ")?;
            for (k, o) in step.outputs.iter().enumerate() {
                f.write_str(if k == 0 { "" } else { ", " })?;
                slot(f, *o)?;
            }
            write!(f, " = {}(", self.describe(step))?;
            for (k, o) in step.inputs.iter().enumerate() {
                f.write_str(if k == 0 { "" } else { ", " })?;
                match o {
                    None => f.write_str("_")?,
                    Some(Operand { packed: Some((_, layout)), .. }) => write!(f, "packed {layout}")?,
                    Some(o) => slot(f, o.slot)?,
                }
            }
            f.write_str(")")?;
            if let Some(a) = step.aliased {
                write!(f, " in place of operand {a}")?;
            }
            writeln!(f, "  ; {}", self.label(step))?;
        }
        f.write_str("}")
    }
}
