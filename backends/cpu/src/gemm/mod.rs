//! Matrix product C = epilogue(A x B) of f32 activations, for weights packed ahead (f32, bf16 or i8) and for
//! two activations.
//!
//! ```text
//! compile time   let layout = PackedLayout::columns(level, DType::F32, k, n);      // store layout.tag()
//!                let bytes = pack_bytes(&layout, &Matrix::row_major(w, k, n))?;    // or pack() into layout.bytes()
//!                // a checkpoint's Linear weight is [n, k]: Matrix::row_major(w, n, k).transposed()
//! run time       let b = Packed::new(PackedLayout::parse(tag, k, n)?, bytes)?;     // checks, copies nothing
//!                gemm_packed(isa, &Matrix::row_major(x, m, k), &b, &mut y, n, &Epilogue::linear(bias, act))?;
//! activations    gemm(isa, &a, &b, &mut c, n, &epilogue)?;  gemm_batched(isa, &a, &b, &batch, &mut c, n, ..)?;
//! ```
//! Operands are views with strides ([`Matrix`]): transposed and overlapping views are fine, so a 1-D
//! convolution over channels-last data is `Matrix::strided(x, frames, kernel * channels, stride * channels, 1)`
//! times a packed weight. All entries check lengths and give a [`GemmError`]; none allocates in proportion to
//! the problem but for the packing scratch that each thread keeps. Results do not depend on the threads.
//!
//! Files: `layout` (packed formats), `pack`, `along`, `pairs` and `bytes` (copying into them, in f32, bf16 and i8),
//! `compact` (exact f32 in fewer bits), `tile` and `dot` (micro-kernels), `epilogue`, `right` (forms of B), `turn` (results stored transposed), `block` (loops around the kernel), `drive` (split between threads). Convolutions are in `crate::conv`.

#[cfg(target_arch = "x86_64")]
mod along;
mod block;
mod bytes;
mod compact;
mod dot;
mod drive;
mod epilogue;
mod layout;
mod pack;
mod pairs;
mod right;
#[cfg(test)]
mod tests;
mod tile;
mod turn;

pub use drive::{Batch, gemm, gemm_batched, gemm_packed, gemm_packed_turned};
pub use epilogue::{Activation, Bias, Epilogue, Residual};
pub use layout::{PACK_ALIGN, PackedLayout, Side};

pub(crate) use block::Product;
#[cfg(target_arch = "x86_64")]
pub(crate) use dot::Pairs;
pub(crate) use dot::{Dot, Floats, Words};
pub(crate) use drive::{Cut, k_block};
pub(crate) use epilogue::{Finish, activate};
pub(crate) use layout::{RowTiles, WORD};
pub(crate) use pack::Lanes;
pub(crate) use pairs::{CHANNELS_AHEAD, JOINED, Taps, join_rows, join_taps, widen_rows};
pub(crate) use right::Right;
pub(crate) use tile::{LINE, MAX_ROWS, MAX_WIDTH, TileCall, Tiles, panel_width};

use frit_ir::DType;

/// Why a product was refused; nothing has been written then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GemmError {
    /// A packed-layout tag that this version does not know.
    #[error("unknown packed layout {tag:?}")]
    Tag {
        /// The tag.
        tag: String,
    },
    /// Sizes whose product does not fit the address space.
    #[error("the sizes of a matrix overflow the address space")]
    Overflow,
    /// A buffer that is shorter than its shape and strides need.
    #[error("{what} holds {have} elements, its shape and strides need {need}")]
    Short {
        /// Which operand.
        what: &'static str,
        /// Elements needed.
        need: usize,
        /// Elements there.
        have: usize,
    },
    /// Operands whose shapes do not fit together.
    #[error("{what}: expected {expected}, found {found}")]
    Shape {
        /// Which extent.
        what: &'static str,
        /// What the other operands ask for.
        expected: usize,
        /// What this one has.
        found: usize,
    },
    /// Rows or batches of C that overlap.
    #[error("rows or batches of the result overlap: {what} is {stride}, must be at least {least}")]
    Overlap {
        /// Which stride.
        what: &'static str,
        /// Its value.
        stride: usize,
        /// The least that keeps them apart.
        least: usize,
    },
    /// Compact bytes in which a panel is not whole.
    #[error(
        "panel {panel} of a compact weight of {bytes} bytes is damaged: it has no known coding or lies outside"
    )]
    Panel {
        /// Which panel.
        panel: usize,
        /// Bytes there.
        bytes: usize,
    },
    /// Packed bytes that do not begin at a multiple of a word's size.
    #[error("packed {dtype} is not aligned to its words of 4 bytes")]
    Align {
        /// Element type.
        dtype: DType,
    },
}

/// A view of f32 elements as a matrix: element (r, c) at `r * row_stride + c * col_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A dense matrix with its rows one after the other.
    pub fn row_major(data: &'a [f32], rows: usize, cols: usize) -> Matrix<'a> {
        Matrix::strided(data, rows, cols, cols, 1)
    }

    /// A matrix with any strides, also such that elements are shared between rows.
    pub fn strided(
        data: &'a [f32],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Matrix<'a> {
        Matrix { data, rows, cols, row_stride, col_stride }
    }

    /// The same elements with rows and columns exchanged.
    pub fn transposed(self) -> Matrix<'a> {
        Matrix {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements between the first and one past the last that the view reaches.
    fn span(&self) -> Result<usize, GemmError> {
        span(self.rows, self.row_stride, self.cols, self.col_stride)
    }

    fn check(&self, what: &'static str, largest_offset: usize) -> Result<(), GemmError> {
        let need = match self.span()? {
            0 => 0,
            span => span.checked_add(largest_offset).ok_or(GemmError::Overflow)?,
        };
        need_at_least(what, need, self.data.len())
    }

    /// The columns as lanes along the rows.
    fn columns(&self) -> Lanes {
        Lanes {
            src: self.data.as_ptr(),
            lanes: self.cols,
            lane_stride: self.col_stride,
            k: self.rows,
            k_stride: self.row_stride,
        }
    }
}

fn span(rows: usize, row_stride: usize, cols: usize, col_stride: usize) -> Result<usize, GemmError> {
    if rows == 0 || cols == 0 {
        return Ok(0);
    }
    let last_row = (rows - 1).checked_mul(row_stride);
    let last_col = (cols - 1).checked_mul(col_stride);
    let last = last_row.zip(last_col).and_then(|(r, c)| r.checked_add(c));
    last.and_then(|last| last.checked_add(1)).ok_or(GemmError::Overflow)
}

fn need_at_least(what: &'static str, need: usize, have: usize) -> Result<(), GemmError> {
    if have < need { Err(GemmError::Short { what, need, have }) } else { Ok(()) }
}

fn expect(what: &'static str, expected: usize, found: usize) -> Result<(), GemmError> {
    if expected == found { Ok(()) } else { Err(GemmError::Shape { what, expected, found }) }
}

/// A packed operand: a layout, and bytes that were checked against it.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    layout: PackedLayout,
    bytes: &'a [u8],
}

impl<'a> Packed<'a> {
    /// Checks that the bytes are as many as the layout needs (more are ignored) and aligned to its words;
    /// [`PACK_ALIGN`] is what makes them fast.
    pub fn new(layout: PackedLayout, bytes: &'a [u8]) -> Result<Packed<'a>, GemmError> {
        layout.check()?;
        if layout.compact {
            // Its entries are checked where it is used.
            return Ok(Packed { layout, bytes });
        }
        let need = layout.bytes()?;
        need_at_least("packed matrix, in bytes", need, bytes.len())?;
        if !bytes.is_empty() && bytes.as_ptr().align_offset(WORD) != 0 {
            return Err(GemmError::Align { dtype: layout.dtype });
        }
        Ok(Packed { layout, bytes })
    }

    /// The layout.
    pub fn layout(&self) -> &PackedLayout {
        &self.layout
    }

    /// Where the elements begin; they are of the layout's type and as many as it says, unless it is compact.
    pub(crate) fn ptr<T>(&self) -> *const T {
        self.bytes.as_ptr().cast()
    }
}

/// The columns or rows of `source` as lanes, if they are what the layout packs.
fn lanes_of(layout: &PackedLayout, source: &Matrix<'_>) -> Result<Lanes, GemmError> {
    layout.check()?;
    source.check("matrix to pack", 0)?;
    let lanes = match layout.side {
        Side::Columns => source.columns(),
        Side::Rows => source.transposed().columns(),
    };
    expect("length of the sums of the matrix to pack", layout.k, lanes.k)?;
    expect("columns or rows of the matrix to pack", layout.len, lanes.lanes)?;
    Ok(lanes)
}

/// Packs `source` in `layout` into `out`: for [`Side::Columns`] the right operand `[k, n]`, for
/// [`Side::Rows`] the left one `[m, k]`. `out` has at least [`PackedLayout::bytes`] bytes, aligned to a
/// word; every one of those is written, the same for the same source. Not for compact layouts, whose length is not known
/// before: see [`pack_bytes`].
pub fn pack(layout: &PackedLayout, source: &Matrix<'_>, out: &mut [u8]) -> Result<(), GemmError> {
    let lanes = lanes_of(layout, source)?;
    if layout.compact {
        return Err(GemmError::Tag { tag: layout.tag() });
    }
    let need = layout.bytes()?;
    need_at_least("packed matrix, in bytes", need, out.len())?;
    if need == 0 {
        return Ok(());
    }
    if out.as_ptr().align_offset(WORD) != 0 {
        return Err(GemmError::Align { dtype: layout.dtype });
    }
    drive::pack_lanes(layout, lanes, out);
    Ok(())
}

/// As [`pack`], for any layout, into bytes of its own.
pub fn pack_bytes(layout: &PackedLayout, source: &Matrix<'_>) -> Result<Vec<u8>, GemmError> {
    let len = layout.bytes()?;
    if layout.compact {
        let lanes = lanes_of(layout, source)?;
        // SAFETY: the lanes were checked against the layout.
        return Ok(unsafe { compact::pack(layout, &lanes) });
    }
    let mut words = vec![0u64; len.div_ceil(8)];
    pack(layout, source, bytemuck::cast_slice_mut(&mut words))?;
    let mut bytes: Vec<u8> = bytemuck::cast_slice(&words).to_vec();
    bytes.truncate(len);
    Ok(bytes)
}
