//! A program at concrete sizes: every slot's shape, strides and place in memory. Made per call, phase by phase as sizes
//! become known; from the last call's what the new sizes do not change is kept. How memory is shared out is in
//! `layout.rs`; nothing is executed here.

use super::layout::{Layout, room, workspace_bytes};
use super::{Place, Program, Slot, Step, View};
use crate::error::PlanError;
use frit_backend::contiguous_strides;
use frit_ir::{Bindings, WeightId};

/// What memory a location is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nowhere.
    None,
    /// The memory of that phase.
    Arena(usize),
    /// The caller's tensor of that position.
    Input(usize),
    /// A plain weight.
    Weight(WeightId),
    /// What the session keeps.
    State(usize),
    /// The tensor that a dynamic step made for the slot, or for the slot that this one is a view of.
    Own,
}

/// Where a slot's numbers are, at concrete sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Location {
    /// Which memory.
    pub base: Base,
    /// The slot whose own tensor it is, with [`Base::Own`].
    pub owner: Slot,
    /// First byte.
    pub offset: usize,
    /// Bytes from the first element to the end of the last.
    pub len: usize,
    /// Extents.
    pub shape: Vec<usize>,
    /// Distances in elements; None: row-major without gaps.
    pub strides: Option<Vec<usize>>,
}

/// Extents of a step's operands and results.
pub struct Shapes<'i> {
    /// None where an optional operand is left out.
    pub inputs: Vec<Option<&'i [usize]>>,
    /// In order.
    pub outputs: Vec<&'i [usize]>,
}

impl<'i> Shapes<'i> {
    pub(super) fn of(step: &Step, locations: &'i [Location]) -> Self {
        let shape = |s: Slot| locations.get(s.index()).map_or(&[] as &[usize], |l| l.shape.as_slice());
        Shapes {
            inputs: step.inputs.iter().map(|o| o.as_ref().map(|o| shape(o.slot))).collect(),
            outputs: step.outputs.iter().map(|s| shape(*s)).collect(),
        }
    }
}

/// A program at concrete sizes, as far as its phases have been entered.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Values of the dimension symbols.
    pub bindings: Bindings,
    /// Every slot's location.
    pub locations: Vec<Location>,
    /// Offset and size of each step's scratch memory.
    pub workspaces: Vec<(usize, usize)>,
    phases: Vec<Layout>,
    /// Those of the states.
    capacities: Vec<usize>,
}

/// What laying out a phase may start from.
#[derive(Clone, Copy)]
pub struct Reuse<'a> {
    /// For each state, the extent of its growing axis in memory.
    pub capacities: &'a [usize],
    /// An instance whose offsets are kept when every block still fits.
    pub last: Option<&'a Instance>,
}

impl Instance {
    /// Sizes the first phase of `program` under `bindings`.
    pub fn new(program: &Program, bindings: Bindings, reuse: Reuse<'_>) -> Result<Self, PlanError> {
        let nowhere =
            Location { base: Base::None, owner: Slot(0), offset: 0, len: 0, shape: vec![0], strides: None };
        let mut instance = Instance {
            bindings,
            locations: vec![nowhere; program.slots.len()],
            workspaces: vec![(0, 0); program.steps.len()],
            phases: Vec::new(),
            capacities: reuse.capacities.to_vec(),
        };
        instance.enter(program, reuse)?;
        Ok(instance)
    }

    /// Sizes the next phase, whose symbols are bound by now.
    pub fn enter(&mut self, program: &Program, reuse: Reuse<'_>) -> Result<(), PlanError> {
        let phase = self.phases.len();
        for (i, _) in program.slots.iter().enumerate().filter(|(_, s)| s.phase == phase) {
            let location = self.size(program, i, phase, reuse.capacities)?;
            if let Some(l) = self.locations.get_mut(i) {
                *l = location;
            }
        }
        let last = reuse.last.and_then(|l| l.phases.get(phase));
        let layout = Layout::new(program, phase, &self.locations, last)?;
        for (slot, location) in
            program.slots.iter().zip(&mut self.locations).filter(|(s, _)| s.phase == phase)
        {
            if let Place::Arena { root } = slot.place {
                location.offset = layout.block(root.index()).map_or(0, |(offset, _)| offset);
            }
        }
        for (i, w) in self.workspaces.iter_mut().enumerate() {
            *w = layout.block(program.slots.len() + i).filter(|(_, size)| *size > 0).unwrap_or(*w);
        }
        for i in 0..program.slots.len() {
            if program.slots.get(i).is_some_and(|s| s.phase == phase) {
                let slot = Slot(u32::try_from(i).unwrap_or(u32::MAX));
                resolve_view(program, slot, &self.bindings, &mut self.locations)?;
            }
        }
        self.phases.push(layout);
        Ok(())
    }

    /// This instance at the sizes of another call. Only a program of one phase can be sized again; where what it needs
    /// outgrows the memory shared out, everything is laid out anew.
    pub fn resized(
        mut self,
        program: &Program,
        bindings: Bindings,
        capacities: &[usize],
    ) -> Result<Self, PlanError> {
        if self.bindings == bindings && self.capacities == capacities {
            return Ok(self);
        }
        self.bindings = bindings;
        self.capacities = capacities.to_vec();
        if self.resize_varying(program)? {
            return Ok(self);
        }
        let bindings = std::mem::take(&mut self.bindings);
        Instance::new(program, bindings, Reuse { capacities, last: Some(&self) })
    }

    /// Sizes again what varies; false where something outgrew its memory.
    fn resize_varying(&mut self, program: &Program) -> Result<bool, PlanError> {
        let Some(layout) = self.phases.first().filter(|_| program.breaks.is_empty()) else {
            return Ok(false);
        };
        for &slot in &program.varying.slots {
            let mut location = self.size(program, slot.index(), 0, &self.capacities)?;
            if let Some(Place::Arena { root }) = program.slots.get(slot.index()).map(|s| &s.place) {
                let Some((offset, size)) = layout.block(root.index()) else { return Ok(false) };
                if location.len > size {
                    return Ok(false);
                }
                location.offset = offset;
            }
            if let Some(l) = self.locations.get_mut(slot.index()) {
                *l = location;
            }
        }
        for &index in &program.varying.steps {
            let Some(step) = program.steps.get(index) else { continue };
            let held = layout.block(program.slots.len() + index).map_or(0, |(_, size)| size);
            if room(workspace_bytes(step, &self.locations)).is_none_or(|needed| needed > held) {
                return Ok(false);
            }
        }
        for &slot in &program.varying.slots {
            resolve_view(program, slot, &self.bindings, &mut self.locations)?;
        }
        Ok(true)
    }

    /// Extents and size of one slot; its place in memory is still to be found.
    fn size(
        &self,
        program: &Program,
        index: usize,
        phase: usize,
        capacities: &[usize],
    ) -> Result<Location, PlanError> {
        let slot = program.slots.get(index).ok_or(PlanError::NoValue(index))?;
        let unused = slot.live.0 == usize::MAX && matches!(slot.place, Place::Arena { .. } | Place::Unused);
        let shape = if unused { vec![0] } else { slot.ty.eval_shape(&self.bindings)? };
        let bytes = frit_ir::tensor::element_count(&shape)
            .and_then(|n| n.checked_mul(slot.ty.dtype.size()))
            .ok_or_else(|| PlanError::TooLarge(slot.ty.to_string()))?;
        let base = match slot.place {
            Place::Unused | Place::View { .. } => Base::None,
            Place::Input(n) => Base::Input(n),
            Place::Weight(w) => Base::Weight(w),
            Place::Arena { .. } => Base::Arena(phase),
            Place::State(n) => Base::State(n),
            Place::Own => Base::Own,
        };
        let owner = Slot(u32::try_from(index).unwrap_or(u32::MAX));
        let mut location = Location { base, owner, offset: 0, len: bytes, shape, strides: None };
        if let Place::State(n) = slot.place {
            place_state(program, n, capacities, slot.ty.dtype.size(), &mut location)?;
        }
        Ok(location)
    }

    /// A slot's location.
    pub fn location(&self, s: Slot) -> Option<&Location> {
        self.locations.get(s.index())
    }

    /// Extents of a step's operands and results.
    pub fn shapes(&self, step: &Step) -> Shapes<'_> {
        Shapes::of(step, &self.locations)
    }

    /// Bytes of memory that the phase entered last needs, and its number.
    pub fn newest(&self) -> (usize, usize) {
        let phase = self.phases.len().saturating_sub(1);
        (phase, self.phases.last().map_or(0, Layout::bytes))
    }
}

/// A state's rows lie `capacity` apart along the growing axis.
fn place_state(
    program: &Program,
    n: usize,
    capacities: &[usize],
    size: usize,
    location: &mut Location,
) -> Result<(), PlanError> {
    let name = || program.graph.states.get(n).map(|s| s.output.clone()).unwrap_or_default();
    let axis =
        program.graph.states.get(n).map(|s| s.axis).ok_or_else(|| PlanError::State { name: name() })?;
    let mut memory = location.shape.clone();
    let capacity = capacities.get(n).copied().unwrap_or(0);
    match memory.get_mut(axis) {
        Some(d) if *d <= capacity => *d = capacity,
        _ => return Err(PlanError::State { name: name() }),
    }
    let strides = contiguous_strides(&memory);
    location.len = span(&location.shape, &strides).saturating_mul(size);
    location.strides = Some(strides);
    Ok(())
}

/// Elements from the first to the end of the last.
fn span(shape: &[usize], strides: &[usize]) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    shape.iter().zip(strides).fold(1usize, |n, (&d, &s)| n.saturating_add((d - 1).saturating_mul(s)))
}

/// Works out a view from what it views, depth first; views are never circular, for they follow the graph.
fn resolve_view(
    program: &Program,
    s: Slot,
    bindings: &Bindings,
    locations: &mut [Location],
) -> Result<(), PlanError> {
    let Some(plan) = program.slots.get(s.index()) else { return Ok(()) };
    let Place::View { of, view } = &plan.place else { return Ok(()) };
    if locations.get(s.index()).is_some_and(|l| l.base != Base::None) {
        return Ok(());
    }
    resolve_view(program, *of, bindings, locations)?;
    let source = locations.get(of.index()).cloned().ok_or(PlanError::NoValue(of.index()))?;
    let size = plan.ty.dtype.size();
    let Some(target) = locations.get_mut(s.index()) else { return Ok(()) };
    let strides = source.strides.clone().unwrap_or_else(|| contiguous_strides(&source.shape));
    target.base = source.base;
    target.owner = source.owner;
    target.offset = source.offset;
    match view {
        View::Reshape => {
            let count = frit_ir::tensor::element_count;
            if count(&target.shape) != count(&source.shape) {
                let (from, to) = (source.shape.clone(), target.shape.clone());
                return Err(PlanError::Reshape { from, to });
            }
            target.len = source.len;
        }
        View::Transpose(perm) => {
            target.strides = Some(perm.iter().filter_map(|&p| strides.get(p).copied()).collect());
            target.len = source.len;
        }
        View::Slice(starts) => {
            let mut first = 0usize;
            for (axis, start) in starts {
                let start = start.eval_extent(bindings)?;
                first = first.saturating_add(start.saturating_mul(strides.get(*axis).copied().unwrap_or(0)));
            }
            let len = span(&target.shape, &strides).saturating_mul(size);
            let first = if len == 0 { 0 } else { first.saturating_mul(size) };
            if first.saturating_add(len) > source.len {
                return Err(PlanError::View { slot: s.index(), of: of.index() });
            }
            target.offset = target.offset.saturating_add(first);
            target.len = len;
            target.strides = Some(strides);
        }
    }
    Ok(())
}
