//! The right operand of a product as its blocks see it: panels that lie ready, that are widened from bf16, or
//! that are packed from strides. How blocks use them is in `block`; convolutions have forms of their own.

use super::pack::Lanes;
use crate::isa::Isa;
use crate::simd::{Simd, Vectorised, dispatch};
use std::ops::Range;

/// The right operand as a block sees it: panels of columns, either lying ready or packed when asked for.
pub(crate) trait Right: Copy + Sync {
    /// Whether [`Right::panel`] writes to its scratch.
    fn packs(&self) -> bool;

    /// Rows `k` of panel `panel`: where they start and the elements between them. Writes them to `scratch`
    /// (room for `k.len() * width`) if they do not lie ready.
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

/// Panels of bf16, widened to f32 as they are used: half the memory traffic, the same sums.
#[derive(Clone, Copy)]
pub(crate) struct Widened {
    pub isa: Isa,
    pub data: *const u16,
    pub width: usize,
    pub k: usize,
}

// SAFETY: the data is only read, and outlives the call that made this.
unsafe impl Sync for Widened {}

impl Right for Widened {
    fn packs(&self) -> bool {
        true
    }

    unsafe fn panel(&self, panel: usize, k: Range<usize>, scratch: *mut f32) -> (*const f32, usize) {
        let count = k.len() * self.width;
        // SAFETY: the panel exists and the scratch has room for it, as the caller promises.
        unsafe {
            let from =
                std::slice::from_raw_parts(self.data.add((panel * self.k + k.start) * self.width), count);
            dispatch(self.isa, Widen { from, to: std::slice::from_raw_parts_mut(scratch, count) });
        }
        (scratch, self.width)
    }
}

/// bf16 to f32, a loop that the compiler vectorises for each instruction set.
struct Widen<'a> {
    from: &'a [u16],
    to: &'a mut [f32],
}

impl Vectorised for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (wide, &half) in self.to.iter_mut().zip(self.from) {
            *wide = f32::from_bits(u32::from(half) << 16);
        }
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
