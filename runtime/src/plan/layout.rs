//! How one phase of a program lies in its memory: who gets which range, so that what is alive together does not
//! overlap. What is where within a range, and at which sizes, is the instance's business.

use super::instance::{Location, Shapes};
use super::{Action, Place, Program, Slot, Step};
use crate::error::PlanError;
use frit_ir::tensor::ALIGN;

/// A range of arena memory and the steps during which it is needed.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    size: usize,
    offset: usize,
    live: (usize, usize),
}

/// How one phase lies in its memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    blocks: Vec<Block>,
    bytes: usize,
}

/// Bytes rounded up to whole units of alignment.
pub(super) fn room(n: usize) -> Option<usize> {
    n.checked_add(ALIGN - 1).map(|n| n / ALIGN * ALIGN)
}

impl Layout {
    /// Gives every arena root and every step's workspace of one phase an offset; those alive together do not overlap.
    /// What outgrew its place in the last layout gets a quarter more than that, so that what grows step by step is not laid
    /// out anew at each.
    pub(super) fn new(
        program: &Program,
        phase: usize,
        locations: &[Location],
        last: Option<&Layout>,
    ) -> Result<Layout, PlanError> {
        let too_large = || PlanError::TooLarge("arena".into());
        let mut blocks: Vec<Block> = Vec::with_capacity(program.slots.len() + program.steps.len());
        for (i, (slot, location)) in program.slots.iter().zip(locations).enumerate() {
            let is_root = slot.place == Place::Arena { root: Slot(u32::try_from(i).unwrap_or(u32::MAX)) };
            let size = if is_root && slot.phase == phase && slot.live.0 != usize::MAX {
                room(location.len).ok_or_else(too_large)?
            } else {
                0
            };
            blocks.push(Block { size, offset: 0, live: slot.live });
        }
        let begin = phase.checked_sub(1).and_then(|p| program.breaks.get(p)).map_or(0, |b| b + 1);
        let end = program.breaks.get(phase).map_or(program.steps.len(), |b| b + 1);
        for (i, step) in program.steps.iter().enumerate() {
            let here = (begin..end).contains(&i);
            let size = if here { room(workspace_bytes(step, locations)).ok_or_else(too_large)? } else { 0 };
            blocks.push(Block { size, offset: 0, live: (i, i) });
        }
        if let Some(last) = last.filter(|l| l.blocks.len() == blocks.len())
            && last.blocks.iter().zip(&blocks).all(|(old, new)| new.size <= old.size)
        {
            return Ok(last.clone());
        }
        for (new, old) in blocks.iter_mut().zip(last.map_or(&[] as &[Block], |l| &l.blocks)) {
            if new.size > old.size {
                new.size = new.size.max(room(old.size.saturating_add(old.size / 4)).ok_or_else(too_large)?);
            }
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
        let bytes = blocks.iter().filter_map(|b| b.offset.checked_add(b.size)).max().unwrap_or(0);
        Ok(Layout { blocks, bytes })
    }

    /// Offset and size of a block: of slots by number, then of steps' workspaces.
    pub(super) fn block(&self, index: usize) -> Option<(usize, usize)> {
        self.blocks.get(index).map(|b| (b.offset, b.size))
    }

    /// Bytes of memory in all.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Scratch memory that a step asks for.
pub(super) fn workspace_bytes(step: &Step, locations: &[Location]) -> usize {
    let Action::Kernel(kernel) = &step.action else { return 0 };
    let shapes = Shapes::of(step, locations);
    kernel.workspace(&shapes.inputs, &shapes.outputs)
}
