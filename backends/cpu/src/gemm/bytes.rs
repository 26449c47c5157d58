//! Products in 8 bits. Weights have a scale a column, symmetric around 0; activations have a scale and a zero point a
//! row, found as the row is packed. Sums of their products are whole numbers, the same on every machine; this file turns
//! numbers into bytes and such sums back into numbers. The step of the sum is in `dot`, the layout of panels in `layout`.

use super::layout::{PackedLayout, WORD};
use super::pack::Lanes;
use crate::isa::Isa;
use crate::simd::{Simd, Vectorised, dispatch};

/// The longest sums that cannot overflow: 255 x 127 each.
pub(super) const MAX_K: usize = 1 << 16;

/// Adding this to a number up to 2^22 rounds it to a whole one, ties to even, which the low bits then are.
const ROUND: f32 = 12_582_912.0;

/// Bytes of a packed matrix that follow its panels: a scale and a sum of its bytes for each of its padded columns.
pub(super) fn trailer(columns: usize) -> Option<usize> {
    columns.checked_mul(2 * WORD)
}

/// Packs the columns of B: panels of words, then the columns' scales, then their sums. `out` has the layout's bytes.
///
/// # Safety
/// The lanes are those that the layout says, and are readable.
pub(super) unsafe fn pack_columns(layout: &PackedLayout, lanes: &Lanes, out: &mut [u8]) {
    let (width, words) = (layout.width, layout.words());
    let padded = layout.len.next_multiple_of(width);
    let (panels, trailer) = out.split_at_mut((padded * words * WORD).min(out.len()));
    let (scales, sums) = trailer.split_at_mut((padded * WORD).min(trailer.len()));
    for j in 0..padded {
        // SAFETY: the caller's promise, for columns that are there.
        let at = |k: usize| unsafe { *lanes.src.add(k * lanes.k_stride + j * lanes.lane_stride) };
        let there = if j < layout.len { layout.k } else { 0 };
        let largest = (0..there).map(|k| at(k).abs()).fold(0.0, f32::max);
        let (scale, inverse) = if largest > 0.0 { (largest / 127.0, 127.0 / largest) } else { (0.0, 0.0) };
        let mut sum = 0i32;
        let start = j / width * width * words + j % width;
        for word in 0..words {
            let byte = |i: usize| match 4 * word + i < there {
                true => (at(4 * word + i) * inverse).round_ties_even().clamp(-127.0, 127.0) as i8,
                false => 0,
            };
            let bytes = [byte(0), byte(1), byte(2), byte(3)];
            sum += bytes.iter().map(|&b| i32::from(b)).sum::<i32>();
            let to = (start + word * width) * WORD;
            let to = panels.get_mut(to..to + WORD).unwrap_or_default();
            to.iter_mut().zip(bytes).for_each(|(to, b)| *to = b.cast_unsigned());
        }
        let put = |to: &mut [u8], bytes: [u8; WORD]| {
            to.iter_mut().skip(j * WORD).zip(bytes).for_each(|(to, b)| *to = b);
        };
        put(scales, scale.to_ne_bytes());
        put(sums, sum.to_ne_bytes());
    }
}

/// What the bytes of one row of A mean: `scale * (byte - zero)`.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct RowScale {
    scale: f32,
    zero: i32,
}

/// Turns rows of A (lanes that are contiguous along k, or not) into bytes: row r of `words` words at `r * words` in `to`.
///
/// # Safety
/// Every element of the lanes is readable.
pub(super) unsafe fn quantise_rows(isa: Isa, lanes: &Lanes, to: &mut [f32], scales: &mut [RowScale]) {
    let words = lanes.k.div_ceil(4).max(1);
    for (lane, (to, scale)) in to.chunks_exact_mut(words).zip(scales).enumerate() {
        let from = lanes.src.wrapping_add(lane * lanes.lane_stride);
        let to: &mut [u8] = bytemuck::cast_slice_mut(to);
        // SAFETY: the caller's promise.
        *scale = unsafe {
            if lanes.k_stride == 1 {
                let row = std::slice::from_raw_parts(from, lanes.k);
                dispatch(isa, Quantise { row, to })
            } else {
                let row: Vec<f32> = (0..lanes.k).map(|k| *from.add(k * lanes.k_stride)).collect();
                dispatch(isa, Quantise { row: &row, to })
            }
        };
    }
}

struct Quantise<'a> {
    row: &'a [f32],
    to: &'a mut [u8],
}

impl Vectorised for Quantise<'_> {
    type Output = RowScale;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> RowScale {
        let (mut least, mut most) = (s.zero(), s.zero());
        let whole = self.row.chunks_exact(S::LANES);
        let (mut low, mut high) = (0f32, 0f32);
        for &x in whole.remainder() {
            (low, high) = (low.min(x), high.max(x));
        }
        for x in whole {
            // SAFETY: a chunk has LANES elements.
            let x = unsafe { s.load(x.as_ptr()) };
            (least, most) = (s.min(x, least), s.max(x, most));
        }
        let (low, high) = (low.min(s.min_lane(least)), high.max(s.max_lane(most)));
        let range = high - low;
        let inverse = if range > 0.0 { 255.0 / range } else { 0.0 };
        let zero = (-low * inverse).round_ties_even();
        for (to, &x) in self.to.iter_mut().zip(self.row) {
            let y = x * inverse + zero;
            let y = if y > 0.0 { y } else { 0.0 };
            let y = if y < 255.0 { y } else { 255.0 };
            *to = (y + ROUND).to_bits() as u8;
        }
        for to in self.to.iter_mut().skip(self.row.len()) {
            *to = 0;
        }
        RowScale { scale: range / 255.0, zero: zero as i32 }
    }
}

/// How a product's sums of bytes become numbers.
#[derive(Clone, Copy)]
pub(crate) struct Dequantise {
    pub(super) isa: Isa,
    /// One a row of the product.
    pub(super) rows: *const RowScale,
    /// One a column.
    pub(super) scales: *const f32,
    /// Sums of the columns' bytes.
    pub(super) sums: *const i32,
}

impl Dequantise {
    /// Turns the sums of a tile into numbers where they lie; row r of the tile at `r * stride`.
    ///
    /// # Safety
    /// The rows and columns are among the product's, and the tile is writable.
    pub unsafe fn apply(
        &self,
        row: usize,
        rows: usize,
        column: usize,
        columns: usize,
        tile: *mut f32,
        stride: usize,
    ) {
        for r in 0..rows {
            // SAFETY: the caller's promise.
            unsafe {
                dispatch(
                    self.isa,
                    Row {
                        of: *self.rows.add(row + r),
                        scales: std::slice::from_raw_parts(self.scales.add(column), columns),
                        sums: std::slice::from_raw_parts(self.sums.add(column), columns),
                        to: std::slice::from_raw_parts_mut(tile.add(r * stride), columns),
                    },
                );
            }
        }
    }
}

struct Row<'a> {
    of: RowScale,
    scales: &'a [f32],
    sums: &'a [i32],
    to: &'a mut [f32],
}

impl Vectorised for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for ((to, &scale), &sum) in self.to.iter_mut().zip(self.scales).zip(self.sums) {
            let whole = to.to_bits().cast_signed().wrapping_sub(self.of.zero.wrapping_mul(sum));
            *to = whole as f32 * (self.of.scale * scale);
        }
    }
}
