//! Tiles of C turned over, for results that are stored transposed. What is done to them afterwards is in `epilogue`.

use super::tile::MAX_ROWS;
use crate::isa::Isa;
use crate::simd::{Simd, Vectorised, dispatch};

/// Rows of the tallest tile, filled up to whole vectors: the row stride of a tile that was turned.
pub(super) const TURNED: usize = 16;
const _: () = assert!(MAX_ROWS <= TURNED);

/// `to[j][r] = from[r][j]` for r below `rows` and j below `columns`, a multiple of the vector's length. The pairs are
/// places and row strides.
///
/// # Safety
/// `from` has room for `rows` rows filled up to whole vectors (those beyond `rows` are overwritten), and `to` for
/// `columns` rows of as many elements.
pub(super) unsafe fn turn(
    isa: Isa,
    rows: usize,
    columns: usize,
    from: (*mut f32, usize),
    to: (*mut f32, usize),
) {
    dispatch(isa, Turn { rows, columns, from, to });
}

struct Turn {
    rows: usize,
    columns: usize,
    from: (*mut f32, usize),
    to: (*mut f32, usize),
}

impl Vectorised for Turn {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ((from, from_stride), (to, to_stride)) = (self.from, self.to);
        for row in self.rows..self.rows.next_multiple_of(S::LANES) {
            for column in (0..self.columns).step_by(S::LANES) {
                // SAFETY: `turn`, the only maker, has the caller's promise.
                unsafe { s.store(from.add(row * from_stride + column), s.zero()) };
            }
        }
        for row in (0..self.rows).step_by(S::LANES) {
            for column in (0..self.columns).step_by(S::LANES) {
                // SAFETY: as above; every row and column of the block was written.
                unsafe {
                    let block = from.add(row * from_stride + column);
                    s.transpose(block, from_stride, to.add(column * to_stride + row), to_stride);
                }
            }
        }
    }
}
