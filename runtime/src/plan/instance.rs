//! A program at concrete sizes: every slot's shape, strides and offset, one arena with reused memory.
//! Made per call; offsets carry over from the last call while everything still fits. Nothing is executed here.

use super::{Action, Place, Program, Slot, Step, View};
use crate::error::PlanError;
use frit_backend::contiguous_strides;
use frit_ir::tensor::ALIGN;
use frit_ir::{Bindings, WeightId};

/// What memory a location is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nowhere.
    None,
    /// The arena.
    Arena,
    /// The caller's tensor of that position.
    Input(usize),
    /// A plain weight.
    Weight(WeightId),
    /// What the session keeps.
    State(usize),
}

/// Where a slot's numbers are, at concrete sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Location {
    /// Which memory.
    pub base: Base,
    /// First byte.
    pub offset: usize,
    /// Bytes from the first element to the end of the last.
    pub len: usize,
    /// Extents.
    pub shape: Vec<usize>,
    /// Distances in elements; None: row-major without gaps.
    pub strides: Option<Vec<usize>>,
}

/// A range of arena memory and the steps during which it is needed.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    size: usize,
    offset: usize,
    live: (usize, usize),
}

/// A program at concrete sizes.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Values of the dimension symbols.
    pub bindings: Bindings,
    /// Every slot's location.
    pub locations: Vec<Location>,
    /// Offset and size of each step's scratch memory.
    pub workspaces: Vec<(usize, usize)>,
    /// Bytes of arena needed.
    pub arena_bytes: usize,
    blocks: Vec<Block>,
}

fn round_up(n: usize) -> Option<usize> {
    n.checked_add(ALIGN - 1).map(|n| n / ALIGN * ALIGN)
}

impl Instance {
    /// Sizes `program` under `bindings`. `capacities` gives, for each state, the extent of its growing axis in
    /// memory. Offsets of `last` are kept when every block still fits.
    pub fn new(
        program: &Program,
        bindings: Bindings,
        capacities: &[usize],
        last: Option<&Instance>,
    ) -> Result<Self, PlanError> {
        let mut locations: Vec<Location> = Vec::with_capacity(program.slots.len());
        for slot in &program.slots {
            let unused =
                slot.live.0 == usize::MAX && matches!(slot.place, Place::Arena { .. } | Place::Unused);
            let shape = if unused { vec![0] } else { slot.ty.eval_shape(&bindings)? };
            let bytes = frit_ir::tensor::element_count(&shape)
                .and_then(|n| n.checked_mul(slot.ty.dtype.size()))
                .ok_or_else(|| PlanError::TooLarge(slot.ty.to_string()))?;
            let base = match slot.place {
                Place::Unused | Place::View { .. } => Base::None,
                Place::Input(n) => Base::Input(n),
                Place::Weight(w) => Base::Weight(w),
                Place::Arena { .. } => Base::Arena,
                Place::State(n) => Base::State(n),
            };
            let mut location = Location { base, offset: 0, len: bytes, shape, strides: None };
            if let Place::State(n) = slot.place {
                place_state(program, n, capacities, slot.ty.dtype.size(), &mut location)?;
            }
            locations.push(location);
        }
        let blocks = lay_out(program, &locations, last)?;
        let mut workspaces = vec![(0, 0); program.steps.len()];
        for (slot, location) in program.slots.iter().zip(&mut locations) {
            if let Place::Arena { root } = slot.place {
                location.offset = blocks.get(root.index()).map_or(0, |b| b.offset);
            }
        }
        for (w, b) in workspaces.iter_mut().zip(blocks.iter().skip(program.slots.len())) {
            *w = (b.offset, b.size);
        }
        for i in 0..program.slots.len() {
            resolve_view(program, Slot(u32::try_from(i).unwrap_or(u32::MAX)), &bindings, &mut locations)?;
        }
        let arena_bytes = blocks.iter().filter_map(|b| b.offset.checked_add(b.size)).max().unwrap_or(0);
        Ok(Instance { bindings, locations, workspaces, arena_bytes, blocks })
    }

    /// A slot's location.
    pub fn location(&self, s: Slot) -> Option<&Location> {
        self.locations.get(s.index())
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
    target.offset = source.offset;
    match view {
        View::Reshape => target.len = source.len,
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

/// Gives every arena root and every step's workspace an offset; those alive together do not overlap.
fn lay_out(
    program: &Program,
    locations: &[Location],
    last: Option<&Instance>,
) -> Result<Vec<Block>, PlanError> {
    let too_large = || PlanError::TooLarge("arena".into());
    let mut blocks: Vec<Block> = Vec::with_capacity(program.slots.len() + program.steps.len());
    for (i, (slot, location)) in program.slots.iter().zip(locations).enumerate() {
        let is_root = slot.place == Place::Arena { root: Slot(u32::try_from(i).unwrap_or(u32::MAX)) };
        let size = if is_root && slot.live.0 != usize::MAX {
            round_up(location.len).ok_or_else(too_large)?
        } else {
            0
        };
        blocks.push(Block { size, offset: 0, live: slot.live });
    }
    for (i, step) in program.steps.iter().enumerate() {
        let size = round_up(workspace_bytes(step, locations)).ok_or_else(too_large)?;
        blocks.push(Block { size, offset: 0, live: (i, i) });
    }
    if let Some(last) = last.filter(|l| l.blocks.len() == blocks.len())
        && last.blocks.iter().zip(&blocks).all(|(old, new)| new.size <= old.size)
    {
        return Ok(last.blocks.clone());
    }
    // Biggest first, each at the lowest gap among those alive at the same time.
    let mut order: Vec<usize> =
        (0..blocks.len()).filter(|&i| blocks.get(i).is_some_and(|b| b.size > 0)).collect();
    order.sort_by_key(|&i| blocks.get(i).map(|b| (std::cmp::Reverse(b.size), b.live.0, i)));
    let mut placed: Vec<Block> = Vec::with_capacity(order.len());
    for i in order {
        let Some(block) = blocks.get_mut(i) else { continue };
        let mut offset = 0usize;
        // `placed` is kept by offset, so one sweep finds the first gap.
        for other in placed.iter().filter(|o| o.live.0 <= block.live.1 && block.live.0 <= o.live.1) {
            if offset.saturating_add(block.size) <= other.offset {
                break;
            }
            offset = offset.max(other.offset.checked_add(other.size).ok_or_else(too_large)?);
        }
        block.offset = offset;
        let at = placed.partition_point(|o| o.offset <= offset);
        placed.insert(at, *block);
    }
    Ok(blocks)
}

fn workspace_bytes(step: &Step, locations: &[Location]) -> usize {
    let Action::Kernel(kernel) = &step.action else { return 0 };
    let shape = |s: Slot| locations.get(s.index()).map_or(&[] as &[usize], |l| l.shape.as_slice());
    let inputs: Vec<Option<&[usize]>> =
        step.inputs.iter().map(|o| o.as_ref().map(|o| shape(o.slot))).collect();
    let outputs: Vec<&[usize]> = step.outputs.iter().map(|s| shape(*s)).collect();
    kernel.workspace(&inputs, &outputs)
}
