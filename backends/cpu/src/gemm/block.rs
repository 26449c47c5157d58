//! One block of C: the loops over K blocks, panels and row tiles around the micro-kernel, partial sums, and
//! the epilogue. It runs on one thread; who runs which block is decided in `drive` and in `conv`.

use super::bytes::Dequantise;
use super::epilogue::{Bias, Epilogue, Finish, Residual};
use super::layout::RowTiles;
use super::right::Right;
use super::tile::{FAR, LINE, MAX_WIDTH, TileCall, TileFn, Tiles};
use super::turn::{TURNED, turn};
use crate::scratch::with_scratch;
use crate::simd::{Cache, prefetch};
use crate::threads::split;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::null;

/// Elements of B that one block may pack at a time: 384 KiB, part of a second-level cache.
const PACKED_RIGHT: usize = 96 * 1024;
/// Cache lines that four k of a panel of 32 columns take, and a share of which each row tile fetches ahead.
const AHEAD: usize = 8;
/// Elements of partial sums that one block may hold.
const PARTIAL_SUMS: usize = 64 * 1024;

/// C = epilogue(A x B) with A packed into row tiles, both operands in words (see `dot`); the blocks of C may be computed in any order and at once.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a, R: Right> {
    pub tiles: Tiles,
    /// How the rows of A and C are cut.
    pub rows: RowTiles,
    /// Packed A: the tile that starts at row r lies at `(r - a_start) * k`.
    pub a: *const f32,
    /// The row of C where `a` begins.
    pub a_start: usize,
    /// Length of the sums, in words.
    pub k: usize,
    /// Words of a K block at most.
    pub k_block: usize,
    /// Columns of C.
    pub n: usize,
    /// Columns of a panel.
    pub width: usize,
    pub right: R,
    pub c: *mut f32,
    pub c_stride: usize,
    /// Whether C is stored transposed: element (row, column) at `column * c_stride + row`. Bias by rows and residuals
    /// are those of C as it is stored.
    pub turned: bool,
    pub epilogue: Epilogue<'a>,
    /// How sums of bytes become numbers.
    pub dequantise: Option<Dequantise>,
    /// First row of C in the bias by rows and the residuals (C itself begins at `c`); first column where it is turned.
    pub first_row: usize,
}

// SAFETY: A and B are only read; C is written block by block, and whoever hands out blocks hands out disjoint ones.
unsafe impl<R: Right> Sync for Product<'_, R> {}

impl<R: Right> Product<'_, R> {
    /// Panels of C.
    pub fn panels(&self) -> usize {
        self.n.div_ceil(self.width)
    }

    fn k_blocks(&self) -> usize {
        self.k.div_ceil(self.k_block.max(1)).max(1)
    }

    /// The most panels that a block of `rows` rows should have, for its working set to stay near.
    pub fn panels_at_once(&self, rows: usize) -> usize {
        let blocks = self.k_blocks();
        let by_right = if self.right.packs() {
            PACKED_RIGHT / (self.k.div_ceil(blocks) * self.width).max(1)
        } else {
            usize::MAX
        };
        let by_sums = if blocks > 1 { PARTIAL_SUMS / (rows * self.width).max(1) } else { usize::MAX };
        by_right.min(by_sums).max(1)
    }

    /// Computes the rows of the row tiles `tiles` in the columns of the panels `panels`.
    ///
    /// # Safety
    /// The pointers are good for the whole product, the ranges lie in it, and no one else touches this block.
    pub unsafe fn block(&self, tiles: Range<usize>, panels: Range<usize>) {
        if tiles.is_empty() || panels.is_empty() {
            return;
        }
        let blocks = self.k_blocks();
        let rows = self.rows.start(tiles.end) - self.rows.start(tiles.start);
        let longest = self.k.div_ceil(blocks);
        let sums = if blocks > 1 { rows * panels.len() * self.width } else { 0 };
        let packed = if self.right.packs() { longest * panels.len() * self.width } else { 0 };
        with_scratch(sums + packed, |scratch| {
            let (sums, packed) = scratch.split_at_mut(sums);
            for index in 0..blocks {
                let run = Run {
                    k: split(self.k, blocks, index),
                    first: index == 0,
                    last: index + 1 == blocks,
                    sums: sums.as_mut_ptr(),
                    tiles: tiles.clone(),
                    panels: panels.clone(),
                };
                // SAFETY: the caller's promise; the scratch was measured above.
                unsafe { self.run(&run, packed.as_mut_ptr()) };
            }
        });
    }

    /// One K block of a block of C. What is packed here is used for all rows before the next K block.
    unsafe fn run(&self, run: &Run, packed: *mut f32) {
        let step = if self.right.packs() { run.k.len() * self.width } else { 0 };
        // SAFETY: `packed` has room for `step` elements a panel; the panels exist.
        let panel = |p: usize| unsafe {
            self.right.panel(p, run.k.clone(), packed.wrapping_add((p - run.panels.start) * step))
        };
        // SAFETY: as above, and the tiles exist.
        unsafe {
            if self.right.packs() && run.panels.len() > 1 {
                // B is near: read A once.
                let located: Vec<_> = run.panels.clone().map(&panel).collect();
                let count = located.len();
                for t in run.tiles.clone() {
                    // While a row tile goes through the panels, the next is fetched, with each panel a part of it.
                    let (words, next) = (run.k.len() / 4, self.rows.start(t + 1) - self.a_start);
                    let share = self.rows.height(t).div_ceil(4 * count);
                    let from = self.a.wrapping_add(next * self.k + run.k.start * self.rows.height(t));
                    for (i, (p, &(b, b_stride))) in run.panels.clone().zip(&located).enumerate() {
                        let ahead = Ahead { from: from.wrapping_add(i * words * share * LINE), lines: share };
                        self.tile(run, t, p, b, b_stride, ahead);
                    }
                }
            } else {
                let tiles = run.tiles.len();
                let share = if self.right.packs() { 0 } else { AHEAD.div_ceil(tiles) };
                for p in run.panels.clone() {
                    let (b, b_stride) = panel(p);
                    for (i, t) in run.tiles.clone().enumerate() {
                        let ahead = if tiles == 1 && self.rows.height(t) <= 2 {
                            Ahead::NOTHING
                        } else if tiles == 1 {
                            Ahead { from: b.wrapping_add(FAR), lines: share }
                        } else {
                            // While the row tiles go through one panel, the next is fetched, each tile its part of it.
                            let fetched = i * (run.k.len() / 4) * share * LINE;
                            let left = fetched < run.k.len() * self.width;
                            Ahead {
                                from: b.wrapping_add(self.k * self.width + fetched),
                                lines: if left { share } else { 0 },
                            }
                        };
                        self.tile(run, t, p, b, b_stride, ahead);
                    }
                }
            }
        }
    }

    /// One row tile by one panel: usually a single micro-kernel call; several where the panel is wider, or the
    /// tile taller, than this instruction set's kernels.
    unsafe fn tile(&self, run: &Run, t: usize, p: usize, b: *const f32, b_stride: usize, ahead: Ahead) {
        let (start, height) = (self.rows.start(t), self.rows.height(t));
        let first_column = p * self.width;
        let columns = self.width.min(self.n - first_column);
        let first_tile = self.rows.start(run.tiles.start);
        let sums_at = (start - first_tile) * run.panels.len() + (p - run.panels.start) * height;
        let most = self.tiles.max_rows();
        // SAFETY: every offset is within the tile, the panel, the partial sums or the block of C.
        unsafe {
            let a = self.a.add((start - self.a_start) * self.k + run.k.start * height);
            let sums = run.sums.wrapping_add(sums_at * self.width);
            for row in (0..height).step_by(most) {
                for column in (0..columns).step_by(self.tiles.columns) {
                    let part = Part {
                        run,
                        row: start + row,
                        rows: (height - row).min(most),
                        column: first_column + column,
                        columns: (columns - column).min(self.tiles.columns),
                        a: a.add(row),
                        a_stride: height,
                        b: b.add(column),
                        b_stride,
                        ahead,
                        sums: sums.wrapping_add(row * self.width + column),
                    };
                    let (kernel, covered) = self.tiles.get(part.rows, part.columns);
                    self.call(&part, kernel, covered);
                }
            }
        }
    }

    /// One call of a micro-kernel that covers so many columns, and after the last K block the epilogue of its result.
    unsafe fn call(&self, part: &Part, kernel: TileFn, covered: usize) {
        let epilogue = &self.epilogue;
        // A bias by columns is where the sum starts, if nothing else is asked for and whole vectors are stored.
        let plain = self.dequantise.is_none()
            && !self.turned
            && epilogue.is_bias_only()
            && covered == part.columns
            && !matches!(epilogue.bias, Bias::Rows(_));
        let bias_columns = match epilogue.bias {
            Bias::Columns(bias) => bias.as_ptr().wrapping_add(part.column),
            _ => null(),
        };
        // Two statements: a pair would be copied, bytes that mean nothing included.
        let mut tile = Tile::new();
        let mut turned = Tile::new();
        let place = Place::of(part, self.turned);
        let c = self.c.wrapping_add(place.row * self.c_stride + place.column);
        let (init, init_stride) = match (part.run.first, plain) {
            (true, true) => (bias_columns, 0),
            (true, false) => (null(), 0),
            (false, _) => (part.sums.cast_const(), self.width),
        };
        let (out, out_stride) = match (part.run.last, plain) {
            (false, _) => (part.sums, self.width),
            (true, true) => (c, self.c_stride),
            (true, false) => (tile.start(), covered),
        };
        if part.run.last {
            self.fetch(&place, c);
        }
        // SAFETY: `plain` means that whole vectors lie within the bias and the row of C; partial sums have room
        // for whole panels, and the local tile for the largest kernel.
        unsafe {
            kernel(&TileCall {
                k: part.run.k.len(),
                a: part.a,
                a_stride: part.a_stride,
                b: part.b,
                b_stride: part.b_stride,
                init,
                init_stride,
                c: out,
                c_stride: out_stride,
                ahead: part.ahead.from,
                ahead_lines: part.ahead.lines,
            });
        }
        if !part.run.last || plain {
            return;
        }
        if let Some(dequantise) = &self.dequantise {
            // SAFETY: the part lies in the product; its sums are in the local tile.
            unsafe { dequantise.apply(part.row, part.rows, part.column, part.columns, out, out_stride) };
        }
        let (sums, sums_stride) = if self.turned {
            let to = turned.start();
            // SAFETY: both tiles have room for the largest kernel's rows and columns, filled up to whole vectors.
            unsafe { turn(self.tiles.isa, part.rows, covered, (out, out_stride), (to, TURNED)) };
            (to.cast_const(), TURNED)
        } else {
            (out.cast_const(), out_stride)
        };
        // SAFETY: the part lies in the product; its sums are in a local tile.
        unsafe { self.finish((place.row, place.rows), (place.column, place.columns), sums, sums_stride) };
    }

    /// A row and a column of C, as it is stored, in the whole of C.
    fn whole(&self, row: usize, column: usize) -> (usize, usize) {
        if self.turned { (row, column + self.first_row) } else { (row + self.first_row, column) }
    }

    /// Asks for the lines that the end of a part reads and writes, C from `c` on and residuals: their rows lie far apart.
    fn fetch(&self, place: &Place, c: *const f32) {
        let lines = |start: *const f32, stride: usize| {
            for row in 0..place.rows {
                for line in (0..place.columns).step_by(LINE) {
                    prefetch(Cache::Second, start.wrapping_add(row * stride + line));
                }
            }
        };
        lines(c, self.c_stride);
        let (row, column) = self.whole(place.row, place.column);
        for residual in [self.epilogue.residual_before, self.epilogue.residual_after].into_iter().flatten() {
            if let Residual::From { data, stride } = residual {
                lines(data.as_ptr().wrapping_add(row * stride + column), stride);
            }
        }
    }

    /// Writes sums of these rows and columns (the first, and how many) of C, as it is stored, through the epilogue.
    ///
    /// # Safety
    /// The rows and columns lie in C, and no one else touches them; the sums are readable, row r at
    /// `r * sums_stride`.
    pub unsafe fn finish(
        &self,
        (row, rows): (usize, usize),
        (column, columns): (usize, usize),
        sums: *const f32,
        sums_stride: usize,
    ) {
        let epilogue = &self.epilogue;
        let c = self.c.wrapping_add(row * self.c_stride + column);
        let (row, column) = self.whole(row, column);
        let residual = |residual: Option<Residual<'_>>| match residual {
            None => (null(), 0),
            Some(Residual::From { data, stride }) => {
                (data.as_ptr().wrapping_add(row * stride + column), stride)
            }
            Some(Residual::Output) => (c.cast_const(), self.c_stride),
        };
        let (before, before_stride) = residual(epilogue.residual_before);
        let (after, after_stride) = residual(epilogue.residual_after);
        let finish = Finish {
            isa: self.tiles.isa,
            rows,
            columns,
            sums,
            sums_stride,
            alpha: epilogue.alpha,
            bias_columns: match epilogue.bias {
                Bias::Columns(bias) => bias.as_ptr().wrapping_add(column),
                _ => null(),
            },
            bias_rows: match epilogue.bias {
                Bias::Rows(bias) => bias.as_ptr().wrapping_add(row),
                _ => null(),
            },
            before,
            before_stride,
            activation: epilogue.activation,
            gain: epilogue.gain,
            shift: epilogue.shift,
            after,
            after_stride,
            c,
            c_stride: self.c_stride,
        };
        // SAFETY: bias and residuals have C's shape, which was checked when the call was accepted.
        unsafe { finish.apply() };
    }
}

/// A tile of results before its epilogue.
#[repr(align(64))]
struct Tile(MaybeUninit<[f32; TURNED * MAX_WIDTH]>);

impl Tile {
    #[inline(always)]
    fn new() -> Tile {
        Tile(MaybeUninit::uninit())
    }

    #[inline(always)]
    fn start(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}

/// What a part covers of C as it is stored.
struct Place {
    row: usize,
    rows: usize,
    column: usize,
    columns: usize,
}

impl Place {
    fn of(part: &Part, turned: bool) -> Place {
        let &Part { row, rows, column, columns, .. } = part;
        if turned {
            Place { row: column, rows: columns, column: row, columns: rows }
        } else {
            Place { row, rows, column, columns }
        }
    }
}

/// One K block of a block of C.
struct Run {
    k: Range<usize>,
    first: bool,
    last: bool,
    /// Partial sums of the block: by row tile, then by panel, each `height x width`.
    sums: *mut f32,
    tiles: Range<usize>,
    panels: Range<usize>,
}

/// What one micro-kernel call covers, in rows and columns of C.
struct Part<'a> {
    run: &'a Run,
    row: usize,
    rows: usize,
    column: usize,
    columns: usize,
    a: *const f32,
    a_stride: usize,
    b: *const f32,
    b_stride: usize,
    ahead: Ahead,
    sums: *mut f32,
}

/// What a tile fetches for those after it.
#[derive(Clone, Copy)]
struct Ahead {
    from: *const f32,
    /// Cache lines for every four k.
    lines: usize,
}

impl Ahead {
    const NOTHING: Ahead = Ahead { from: null(), lines: 0 };
}
