//! How a packed matrix lies in memory: which side, how wide its panels, how many bytes, and the tag that an
//! artifact stores. The copying itself is in `pack`.

use super::dot::Words;
use super::tile::{panel_width, tile_rows};
use super::{GemmError, bytes, compact};
use crate::isa::Level;
use frit_ir::DType;

/// Alignment of packed data in bytes: a cache line, and the widest vector.
pub const PACK_ALIGN: usize = 64;

/// Bytes of a word.
pub(crate) const WORD: usize = 4;

/// Element types, and whether they are compact, with their names in tags, which say how many lie in a word.
const TYPES: [(DType, bool, &str); 4] = [
    (DType::F32, false, "f32"),
    (DType::F32, true, "f32c"),
    (DType::BF16, false, "bf16x2"),
    (DType::I8, false, "i8x4"),
];

/// Which operand of C = A x B was packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// B `[k, n]`, the usual weight: panels of `width` columns, each K-major, the last padded with zeros.
    Columns,
    /// A `[m, k]`, the weight of a convolution: tiles of up to `width` rows of nearly equal height, each
    /// K-major, nothing padded.
    Rows,
}

/// The layout of one packed matrix. It depends on the target's instruction set and on the shape only, so the
/// same weights always pack to the same bytes; any instruction set can read any layout, its own fastest.
///
/// It is made of words of 32 bits, each of neighbouring k: one f32, two bf16 or four i8, zero beyond the last k.
/// Word `(k, j)` of panel `p` lies at `p * words * width + k * width + j` for [`Side::Columns`]; for
/// [`Side::Rows`] the tile that starts at row `r` and has `h` rows lies at `r * words`, its word `(k, i)`
/// at `k * h + i`. After panels of i8 come the columns' scales (f32) and the sums of their bytes (i32). Blocking over K is the driver's business and leaves no trace here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PackedLayout {
    /// Which operand this is.
    pub side: Side,
    /// Element type as stored: [`DType::F32`], [`DType::BF16`], or [`DType::I8`] by columns only.
    pub dtype: DType,
    /// Whether every panel is kept in the fewest bits that hold its f32 exactly (see `compact`). Such a matrix has its own
    /// form, and its length depends on its numbers.
    pub compact: bool,
    /// Columns of a panel, or the most rows of a tile.
    pub width: usize,
    /// Length of the sums.
    pub k: usize,
    /// Columns of B, or rows of A.
    pub len: usize,
}

impl PackedLayout {
    /// Whether sums of this length fit those of 8-bit products.
    pub fn bytes_suit(k: usize) -> bool {
        k <= bytes::MAX_K
    }

    /// The layout of a `[k, n]` right operand for this level.
    pub fn columns(level: Level, dtype: DType, k: usize, n: usize) -> PackedLayout {
        PackedLayout { side: Side::Columns, dtype, compact: false, width: panel_width(level), k, len: n }
    }

    /// The layout of a `[k, n]` right operand that is read for a row or two at a time, if this level has one.
    pub fn compact(level: Level, k: usize, n: usize) -> Option<PackedLayout> {
        let columns = PackedLayout::columns(level, DType::F32, k, n);
        let suits = level == Level::Avx512 && columns.width == compact::WIDTH;
        suits.then_some(PackedLayout { compact: true, ..columns })
    }

    /// The layout of an `[m, k]` left operand for this level.
    pub fn rows(level: Level, dtype: DType, m: usize, k: usize) -> PackedLayout {
        PackedLayout { side: Side::Rows, dtype, compact: false, width: tile_rows(level), k, len: m }
    }

    /// What an artifact stores beside the shape, as `f32-nr32` (columns), `f32-mr14` (rows), `f32c-nr32` (compact) or
    /// `bf16x2-nr32`.
    pub fn tag(&self) -> String {
        let side = match self.side {
            Side::Columns => "nr",
            Side::Rows => "mr",
        };
        let of = TYPES.iter().find(|(dtype, compact, _)| (*dtype, *compact) == (self.dtype, self.compact));
        let of = of.map_or("?", |(.., name)| name);
        format!("{of}-{side}{}", self.width)
    }

    /// The layout of that tag (see [`PackedLayout::tag`]) for a matrix with sums of length `k` and `len`
    /// columns or rows.
    pub fn parse(tag: &str, k: usize, len: usize) -> Result<PackedLayout, GemmError> {
        let unknown = || GemmError::Tag { tag: tag.to_owned() };
        let (dtype, rest) = tag.split_once('-').ok_or_else(unknown)?;
        let (dtype, compact, _) = *TYPES.iter().find(|(.., name)| *name == dtype).ok_or_else(unknown)?;
        let (side, width) = match (rest.strip_prefix("nr"), rest.strip_prefix("mr")) {
            (Some(width), _) => (Side::Columns, width),
            (_, Some(width)) => (Side::Rows, width),
            _ => return Err(unknown()),
        };
        let width = width.parse().map_err(|_| unknown())?;
        let layout = PackedLayout { side, dtype, compact, width, k, len };
        layout.check()?;
        Ok(layout)
    }

    /// Words of one column or row.
    pub fn words(&self) -> usize {
        Words::of(self.dtype).map_or(self.k, |words| words.count(self.k))
    }

    /// Bytes of the packed matrix, padding included. It says nothing about a compact one.
    pub fn bytes(&self) -> Result<usize, GemmError> {
        let lanes = match self.side {
            Side::Columns => self.len.div_ceil(self.width.max(1)).checked_mul(self.width),
            Side::Rows => Some(self.len),
        };
        let words = lanes.and_then(|lanes| lanes.checked_mul(self.words()));
        let trailer = if self.dtype == DType::I8 { lanes.and_then(bytes::trailer) } else { Some(0) };
        let panels = words.and_then(|words| words.checked_mul(WORD));
        panels
            .zip(trailer)
            .and_then(|(panels, trailer)| panels.checked_add(trailer))
            .ok_or(GemmError::Overflow)
    }

    /// That the width, the type and the length of sums are among those that the kernels read.
    pub fn check(&self) -> Result<(), GemmError> {
        let width = match self.side {
            Side::Columns => [8, 16, 32].contains(&self.width),
            Side::Rows => Level::ALL.iter().any(|&level| tile_rows(level) == self.width),
        };
        let dtype = TYPES.iter().any(|(dtype, compact, _)| (*dtype, *compact) == (self.dtype, self.compact));
        let dtype = dtype && (!self.compact || (self.side, self.width) == (Side::Columns, compact::WIDTH));
        let sums = self.dtype != DType::I8 || (self.side == Side::Columns && self.k <= bytes::MAX_K);
        if width && dtype && sums { Ok(()) } else { Err(GemmError::Tag { tag: self.tag() }) }
    }
}

/// A number of rows cut into tiles of nearly equal height, none above the limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowTiles {
    count: usize,
    height: usize,
    taller: usize,
}

impl RowTiles {
    pub fn new(rows: usize, max_height: usize) -> RowTiles {
        let count = rows.div_ceil(max_height.max(1));
        match rows.checked_div(count) {
            Some(height) => RowTiles { count, height, taller: rows % count },
            None => RowTiles { count: 0, height: 0, taller: 0 },
        }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// First row of tile `index`; `count()` gives the number of rows.
    pub fn start(&self, index: usize) -> usize {
        index * self.height + index.min(self.taller)
    }

    /// Rows of tile `index`.
    pub fn height(&self, index: usize) -> usize {
        self.height + usize::from(index < self.taller)
    }
}
