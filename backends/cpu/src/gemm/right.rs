//! The right operand of a product as its blocks see it: panels that lie ready, or that are packed from strides. How
//! blocks use them is in `block`; bf16 that must be widened is in `pairs`; convolutions have forms of their own.

use super::pack::Lanes;
use crate::isa::Isa;
use std::ops::Range;

/// The right operand as a block sees it: panels of columns, either lying ready or packed when asked for.
pub(crate) trait Right: Copy + Sync {
    /// Whether [`Right::panel`] writes to its scratch.
    fn packs(&self) -> bool;

    /// Rows `k` of panel `panel`: where they start and the elements between them. Writes them to `scratch`
    /// (room for `k.len() * width`) if they do not lie ready. All of it is counted in words.
    ///
    /// # Safety
    /// The panel and the rows exist; `scratch` has the room if [`Right::packs`].
    unsafe fn panel(&self, panel: usize, k: Range<usize>, scratch: *mut f32) -> (*const f32, usize);
}

/// Panels that were packed ahead in [`PackedLayout`](super::PackedLayout) order.
#[derive(Clone, Copy)]
pub(crate) struct Ready {
    pub data: *const f32,
    pub width: usize,
    /// Words of a panel's column.
    pub k: usize,
}

// SAFETY: the data is only read, and outlives the call that made this.
unsafe impl Sync for Ready {}

impl Right for Ready {
    fn packs(&self) -> bool {
        false
    }

    unsafe fn panel(&self, panel: usize, k: Range<usize>, _scratch: *mut f32) -> (*const f32, usize) {
        // SAFETY: the caller's promise.
        (unsafe { self.data.add((panel * self.k + k.start) * self.width) }, self.width)
    }
}

/// B as an activation: its panels are packed by the block that uses them.
#[derive(Clone, Copy)]
pub(crate) struct Strided {
    pub isa: Isa,
    pub columns: Lanes,
    pub width: usize,
}

// SAFETY: the data is only read, and outlives the call that made this.
unsafe impl Sync for Strided {}

impl Right for Strided {
    fn packs(&self) -> bool {
        true
    }

    unsafe fn panel(&self, panel: usize, k: Range<usize>, scratch: *mut f32) -> (*const f32, usize) {
        let first = panel * self.width;
        let all = &self.columns;
        let lanes = Lanes {
            src: all.src.wrapping_add(first * all.lane_stride + k.start * all.k_stride),
            lanes: (all.lanes - first).min(self.width),
            k: k.len(),
            ..*all
        };
        // SAFETY: the panel exists and the scratch has room for it, as the caller promises.
        unsafe { lanes.pack(self.isa, self.width, scratch) };
        (scratch, self.width)
    }
}
