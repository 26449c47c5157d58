//! The products as callers see them: checks, packing of A, and the split into blocks between threads.

use super::block::Product;
use super::bytes::{self, Dequantise, RowScale, quantise_rows};
use super::compact::{self, Compact};
use super::dot::Words;
use super::epilogue::{Bias, Epilogue, Residual};
use super::layout::{PackedLayout, RowTiles, Side, WORD};
use super::pack::Lanes;
use super::pairs::{self, Widened};
use super::right::{Ready, Right, Strided};
use super::tile::{Tiles, panel_width};
use super::{GemmError, Matrix, Packed, expect, need_at_least, span};
use crate::isa::{Isa, Level};
use crate::scratch::with_scratch;
use crate::threads::{SharedMut, parallel_for, split, threads};
use frit_ir::DType;
use std::ops::Range;

/// Elements of packed A that are made at a time: 8 MiB.
const PACKED_LEFT: usize = 2 << 20;
/// Elements of packed A that one block works with: half of a second-level cache.
const NEAR_LEFT: usize = 128 * 1024;
/// Rows of a block that packs its own columns.
const MANY_ROWS: usize = 1024;
/// Floating-point operations a nanosecond that costs are reckoned with.
const FLOP_PER_NS: u64 = 60;
/// Bytes of B a nanosecond, likewise.
const BYTES_PER_NS: u64 = 20;
/// What a block should cost at least.
const GRAIN_NS: u64 = 15_000;

/// The longest K block for this level: a panel of it, and of A as much, fit the nearer caches.
pub(crate) fn k_block(level: Level) -> usize {
    match level {
        Level::Avx512 => 1024,
        Level::Avx2Fma | Level::Portable => 512,
    }
}

/// As [`k_block`] for so many rows: with one or two no part of A leaves the nearest cache, and partial sums would only be
/// in the way.
fn k_block_for(tiles: &Tiles, rows: usize) -> usize {
    if rows <= 2 { usize::MAX } else { k_block(tiles.isa.level()) }
}

/// C `[m, n]` = epilogue(A `[m, k]` x B), B packed ahead by columns. Row r of C starts at `r * c_stride`.
///
/// The weights are read once for each 128 rows or so of A; with few rows that is at the speed of memory.
pub fn gemm_packed(
    isa: Isa,
    a: &Matrix<'_>,
    b: &Packed<'_>,
    c: &mut [f32],
    c_stride: usize,
    epilogue: &Epilogue<'_>,
) -> Result<(), GemmError> {
    let layout = b.layout();
    let stored = Stored { c, stride: c_stride, turned: false };
    if stored.check(a, layout, epilogue)? {
        return Ok(());
    }
    if layout.compact {
        let right = Compact::new(isa, layout, b.bytes)?;
        let tiles = Tiles::new(isa, layout.width);
        if right.streams(a.rows) {
            few_rows(tiles, a, layout, right, stored, epilogue);
        } else {
            shared_left(tiles, a, layout, right, stored, epilogue);
        }
    } else if layout.dtype == DType::I8 {
        bytes_left(isa, a, b, stored, epilogue);
    } else {
        packed_right(isa, a, b, stored, epilogue);
    }
    Ok(())
}

/// As [`gemm_packed`] with C stored transposed: element (r, j) lies at `j * c_stride + r`, which is what a convolution of
/// single pixels wants whose pixels are the rows. The bias (by rows alone) and the residuals are those of C as it is
/// stored. Weights of bytes and compact ones are refused.
pub fn gemm_packed_turned(
    isa: Isa,
    a: &Matrix<'_>,
    b: &Packed<'_>,
    c: &mut [f32],
    c_stride: usize,
    epilogue: &Epilogue<'_>,
) -> Result<(), GemmError> {
    let layout = b.layout();
    if layout.dtype == DType::I8 || layout.compact {
        return Err(GemmError::Tag { tag: layout.tag() });
    }
    let stored = Stored { c, stride: c_stride, turned: true };
    let empty = stored.check(a, layout, epilogue)?;
    if let Bias::Columns(bias) = epilogue.bias {
        expect("bias by columns of a transposed result", 0, bias.len().max(1))?;
    }
    if !empty {
        packed_right(isa, a, b, stored, epilogue);
    }
    Ok(())
}

/// Where C goes: see [`Product`].
struct Stored<'a> {
    c: &'a mut [f32],
    stride: usize,
    turned: bool,
}

impl Stored<'_> {
    /// Elements between the rows of the product.
    fn row_step(&self) -> usize {
        if self.turned { 1 } else { self.stride }
    }

    /// Checks the operands of a product with a weight packed by columns; true where nothing is to be computed.
    fn check(
        &self,
        a: &Matrix<'_>,
        layout: &PackedLayout,
        epilogue: &Epilogue<'_>,
    ) -> Result<bool, GemmError> {
        if layout.side != Side::Columns {
            return Err(GemmError::Tag { tag: layout.tag() });
        }
        expect("columns of A", layout.k, a.cols)?;
        a.check("A", 0)?;
        let (rows, columns) = if self.turned { (layout.len, a.rows) } else { (a.rows, layout.len) };
        check_result(rows, columns, self.c.len(), self.stride)?;
        check_epilogue(rows, columns, epilogue)?;
        Ok(rows == 0 || columns == 0)
    }
}

/// The product with a weight that is not of bytes.
fn packed_right(isa: Isa, a: &Matrix<'_>, b: &Packed<'_>, stored: Stored<'_>, epilogue: &Epilogue<'_>) {
    let layout = b.layout();
    let tiles = Tiles::of(isa, Words::of(layout.dtype).unwrap_or(Words::Floats), layout.width);
    if layout.dtype == DType::BF16 && tiles.words == Words::Floats {
        let right = Widened { isa, data: b.ptr(), width: layout.width, words: layout.words() };
        shared_left(tiles, a, layout, right, stored, epilogue);
    } else {
        let right = Ready { data: b.ptr(), width: layout.width, k: layout.words() };
        shared_left(tiles, a, layout, right, stored, epilogue);
    }
}

/// The rows of A that are packed at a time, of so many words each.
fn chunks(tiles: &Tiles, rows: usize, words: usize) -> impl Iterator<Item = Range<usize>> {
    let most = (PACKED_LEFT / words.max(1)).clamp(tiles.max_rows(), rows.max(tiles.max_rows()));
    let parts = rows.div_ceil(most);
    (0..parts).map(move |chunk| split(rows, parts, chunk))
}

/// Packs A once, with all threads, then computes the blocks of C from it.
fn shared_left<R: Right>(
    tiles: Tiles,
    a: &Matrix<'_>,
    layout: &PackedLayout,
    right: R,
    stored: Stored<'_>,
    epilogue: &Epilogue<'_>,
) {
    let (k, n) = (tiles.words.count(layout.k), layout.len);
    let row_step = stored.row_step();
    let Stored { c, stride: c_stride, turned } = stored;
    let c = SharedMut::new(c);
    for range in chunks(&tiles, a.rows, k) {
        let rows = RowTiles::new(range.len(), tiles.max_rows());
        let mut product = Product {
            tiles,
            rows,
            a: a.data.as_ptr(),
            a_start: 0,
            k,
            k_block: k_block_for(&tiles, range.len()),
            n,
            width: layout.width,
            right,
            c: c.ptr().wrapping_add(range.start * row_step),
            c_stride,
            turned,
            epilogue: *epilogue,
            dequantise: None,
            first_row: range.start,
        };
        if a.rows == 1 && a.col_stride == 1 && tiles.words == Words::Floats {
            // One row lies in memory as it would be packed.
            grid(&product);
            continue;
        }
        with_scratch(range.len() * k, |packed| {
            let packed = SharedMut::new(packed);
            let pack_ns = (rows.height(0) * k / 8) as u64;
            parallel_for(rows.count(), pack_ns, |t| {
                // SAFETY: tile t has its own part of the scratch, and A was checked.
                unsafe {
                    pack_tile(&tiles, a, 0, range.start, &rows, t, packed.ptr().add(rows.start(t) * k))
                };
            });
            product.a = packed.ptr();
            grid(&product);
        });
    }
}

/// Few rows times compact panels, which are read once, or a second time from a near cache.
fn few_rows(
    tiles: Tiles,
    a: &Matrix<'_>,
    layout: &PackedLayout,
    right: Compact<'_>,
    stored: Stored<'_>,
    epilogue: &Epilogue<'_>,
) {
    let (k, n, width) = (layout.k, layout.len, layout.width);
    let Stored { c, stride: c_stride, turned } = stored;
    let rows = RowTiles::new(a.rows, compact::ROWS);
    let padded = k.next_multiple_of(compact::GROUP);
    with_scratch(padded * a.rows, |x| {
        for t in 0..rows.count() {
            let (start, height) = (rows.start(t), rows.height(t));
            let tile = x.get_mut(start * padded..(start + height) * padded).unwrap_or_default();
            // SAFETY: A was checked, and there is room for the tile.
            unsafe { pack_tile(&tiles, a, 0, 0, &rows, t, tile.as_mut_ptr()) };
            tile.get_mut(k * height..).unwrap_or_default().fill(0.0);
        }
        let x = &*x;
        let product = Product {
            tiles,
            rows,
            a: x.as_ptr(),
            a_start: 0,
            k,
            k_block: usize::MAX,
            n,
            width,
            right,
            c: c.as_mut_ptr(),
            c_stride,
            turned,
            epilogue: *epilogue,
            dequantise: None,
            first_row: 0,
        };
        let panels = n.div_ceil(width);
        let cost_ns = (4 * k * n) as u64 / BYTES_PER_NS;
        // As for `Cut`.
        let parts = ((cost_ns / GRAIN_NS).max(1) as usize).min(6 * threads()).min(panels);
        parallel_for(parts, cost_ns / parts as u64, |part| {
            let mut sums = [[0.0f32; compact::WIDTH]; compact::ROWS];
            for panel in split(panels, parts, part) {
                let column = panel * width;
                for t in 0..rows.count() {
                    let (start, height) = (rows.start(t), rows.height(t));
                    let x = x.get(start * padded..(start + height) * padded).unwrap_or_default();
                    // SAFETY: the panel exists, `x` is as it wants it, and every part has its own columns.
                    unsafe {
                        product.right.stream(panel, height, x, &mut sums);
                        let sums = sums.as_flattened().as_ptr();
                        product.finish(
                            (start, height),
                            (column, width.min(n - column)),
                            sums,
                            compact::WIDTH,
                        );
                    }
                }
            }
        });
    });
}

/// As [`shared_left`] for weights of bytes: the rows of A are quantised first, each on its own.
fn bytes_left(isa: Isa, a: &Matrix<'_>, b: &Packed<'_>, stored: Stored<'_>, epilogue: &Epilogue<'_>) {
    let layout = b.layout();
    let (k, n) = (layout.words(), layout.len);
    let tiles = Tiles::of(isa, Words::Fours, layout.width);
    let padded = n.next_multiple_of(layout.width);
    let ready = Ready { data: b.ptr(), width: layout.width, k };
    let scales = b.ptr::<f32>().wrapping_add(padded * k);
    let row_step = stored.row_step();
    let Stored { c, stride: c_stride, turned } = stored;
    let c = SharedMut::new(c);
    for range in chunks(&tiles, a.rows, 2 * k) {
        let rows = RowTiles::new(range.len(), tiles.max_rows());
        with_scratch(range.len() * (2 * k + 2), |scratch| {
            let (row_scales, words) = scratch.split_at_mut(2 * range.len());
            let row_scales: &mut [RowScale] = bytemuck::cast_slice_mut(row_scales);
            let (packed, ordered) = words.split_at_mut(range.len() * k);
            let (row_scales, packed, ordered) =
                (SharedMut::new(row_scales), SharedMut::new(packed), SharedMut::new(ordered));
            let pack_ns = (rows.height(0) * a.cols / 4) as u64;
            parallel_for(rows.count(), pack_ns, |t| {
                let (start, height) = (rows.start(t), rows.height(t));
                let lanes = Lanes {
                    src: a.data.as_ptr().wrapping_add((range.start + start) * a.row_stride),
                    lanes: height,
                    lane_stride: a.row_stride,
                    k: a.cols,
                    k_stride: a.col_stride,
                };
                // SAFETY: tile t has its own part of each buffer, and A was checked.
                unsafe {
                    let ordered = ordered.slice(start * k..(start + height) * k);
                    quantise_rows(isa, &lanes, ordered, row_scales.slice(start..start + height));
                    let words =
                        Lanes { src: ordered.as_ptr(), lanes: height, lane_stride: k, k, k_stride: 1 };
                    words.pack(isa, height, packed.ptr().add(start * k));
                }
            });
            grid(&Product {
                tiles,
                rows,
                a: packed.ptr(),
                a_start: 0,
                k,
                k_block: k_block_for(&tiles, range.len()),
                n,
                width: layout.width,
                right: ready,
                c: c.ptr().wrapping_add(range.start * row_step),
                c_stride,
                turned,
                epilogue: *epilogue,
                dequantise: Some(Dequantise {
                    isa,
                    rows: row_scales.ptr(),
                    scales,
                    sums: scales.wrapping_add(padded).cast(),
                }),
                first_row: range.start,
            });
        });
    }
}

/// Packs row tile `t` of the rows of A that start at `first_row`.
///
/// # Safety
/// The tile exists, A with this element offset was checked, and `to` has room for the tile.
unsafe fn pack_tile(
    tiles: &Tiles,
    a: &Matrix<'_>,
    offset: usize,
    first_row: usize,
    rows: &RowTiles,
    t: usize,
    to: *mut f32,
) {
    let from = offset + (first_row + rows.start(t)) * a.row_stride;
    let lanes = Lanes {
        src: a.data.as_ptr().wrapping_add(from),
        lanes: rows.height(t),
        lane_stride: a.row_stride,
        k: a.cols,
        k_stride: a.col_stride,
    };
    // SAFETY: the caller's promise.
    unsafe { lanes.pack_words(tiles, rows.height(t), to) };
}

/// Cuts C into blocks of row tiles and panels and computes them all.
fn grid<R: Right>(product: &Product<'_, R>) {
    let cut = Cut::new(product, 1);
    parallel_for(cut.blocks(), cut.cost_ns, |index| {
        let (tiles, panels) = cut.block(index);
        // SAFETY: the pointers of the product cover all of it, and the blocks are disjoint.
        unsafe { product.block(tiles, panels) };
    });
}

/// How C is cut into blocks, those of a row of blocks one after the other.
pub(crate) struct Cut {
    tiles: usize,
    tile_groups: usize,
    panels: usize,
    panel_groups: usize,
    /// Rough time of one block.
    pub cost_ns: u64,
}

impl Cut {
    /// The cut for one of `batches` products that are computed in the same parallel loop.
    pub fn new<R: Right>(product: &Product<'_, R>, batches: usize) -> Cut {
        let (rows, panels) = (product.rows, product.panels());
        let row_count = rows.start(rows.count());
        // Where a block packs its own columns, more rows share that work, and A streams past them.
        let near = match product.right.packs() {
            true => MANY_ROWS,
            false => (NEAR_LEFT / product.k.clamp(1, product.k_block.max(1))).max(product.tiles.max_rows()),
        };
        let mut tile_groups = row_count.div_ceil(near).min(rows.count()).max(1);
        // Few panels do not divide evenly; rows do, if there are enough of them to pack the columns again for.
        let uneven = panels < 4 * threads() && !batches.is_multiple_of(threads());
        if product.right.packs() && uneven && rows.count() >= 6 * threads() {
            tile_groups = tile_groups.next_multiple_of(threads());
        }
        let group_rows = row_count.div_ceil(tile_groups);
        let at_once = product.panels_at_once(group_rows);
        let flops = 2 * (row_count as u64) * (product.k.max(8) as u64) * (product.n as u64);
        // With few rows it is the reading of B that takes the time.
        let cost_ns = (flops / FLOP_PER_NS).max((4 * product.k * product.n) as u64 / BYTES_PER_NS);
        // Several blocks a thread, so that a thread that was held up can be helped, but none of a few
        // microseconds only.
        // An even share for each thread, or it would wait for the one that has more.
        let threads = threads();
        let wanted = if threads > 1 {
            let worthwhile = (cost_ns / GRAIN_NS).max(1) as usize;
            // A block that packs its columns streams all of A past them: a few wider ones do so less often.
            let each = if product.right.packs() { 3 } else { 16 };
            (threads * each).div_ceil(batches * tile_groups).min(worthwhile.next_multiple_of(threads))
        } else {
            1
        };
        let panel_groups = panels.div_ceil(at_once).max(wanted).min(panels).max(1);
        let blocks = (tile_groups * panel_groups) as u64;
        Cut { tiles: rows.count(), tile_groups, panels, panel_groups, cost_ns: cost_ns / blocks }
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.tile_groups * self.panel_groups
    }

    /// Row tiles and panels of one block.
    pub fn block(&self, index: usize) -> (Range<usize>, Range<usize>) {
        let (row, column) = (index / self.panel_groups, index % self.panel_groups);
        let panels = split(self.panels, self.panel_groups, column);
        (split(self.tiles, self.tile_groups, row), panels)
    }
}

/// C `[m, n]` = epilogue(A `[m, k]` x B `[k, n]`), neither packed ahead.
pub fn gemm(
    isa: Isa,
    a: &Matrix<'_>,
    b: &Matrix<'_>,
    c: &mut [f32],
    c_stride: usize,
    epilogue: &Epilogue<'_>,
) -> Result<(), GemmError> {
    gemm_batched(isa, a, b, &Batch { a: &[0], b: &[0], c_stride: 0 }, c, c_stride, epilogue)
}

/// The batches of [`gemm_batched`].
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Where A of each batch begins, in elements beyond the view's own start. Repeats are broadcasting.
    pub a: &'a [usize],
    /// Where B of each batch begins; as many as for A.
    pub b: &'a [usize],
    /// Elements between the results of two batches: at least all the rows of one, or at least its columns if
    /// all batches fit side by side into a row's stride.
    pub c_stride: usize,
}

/// The product of each batch, neither operand packed ahead; the epilogue is the same for all, a residual
/// [`Residual::From`] included.
pub fn gemm_batched(
    isa: Isa,
    a: &Matrix<'_>,
    b: &Matrix<'_>,
    batch: &Batch<'_>,
    c: &mut [f32],
    c_stride: usize,
    epilogue: &Epilogue<'_>,
) -> Result<(), GemmError> {
    let (m, k, n, batches) = (a.rows, a.cols, b.cols, batch.a.len());
    expect("rows of B", k, b.rows)?;
    expect("batches of B", batches, batch.b.len())?;
    if batches == 0 || m == 0 || n == 0 {
        return Ok(());
    }
    a.check("A", batch.a.iter().copied().max().unwrap_or(0))?;
    b.check("B", batch.b.iter().copied().max().unwrap_or(0))?;
    check_batched_result(m, n, batches, c.len(), c_stride, batch.c_stride)?;
    check_epilogue(m, n, epilogue)?;

    let width = panel_width(isa.level());
    let tiles = Tiles::new(isa, width);
    let rows = RowTiles::new(m, tiles.max_rows());
    let c = SharedMut::new(c);
    let product = |index: usize, right: Strided| Product {
        tiles,
        rows,
        a: a.data.as_ptr(),
        a_start: 0,
        k,
        k_block: k_block(isa.level()),
        n,
        width,
        right,
        c: c.ptr().wrapping_add(index * batch.c_stride),
        c_stride,
        turned: false,
        epilogue: *epilogue,
        dequantise: None,
        first_row: 0,
    };
    let right = |offset: usize| {
        let columns = b.columns();
        Strided { isa, columns: Lanes { src: columns.src.wrapping_add(offset), ..columns }, width }
    };
    let cut = Cut::new(&product(0, right(0)), batches);
    parallel_for(batches * cut.blocks(), cut.cost_ns, |task| {
        let (index, block) = (task / cut.blocks(), task % cut.blocks());
        let (Some(&a_offset), Some(&b_offset)) = (batch.a.get(index), batch.b.get(index)) else { return };
        let mut product = product(index, right(b_offset));
        let (block_tiles, panels) = cut.block(block);
        let first = rows.start(block_tiles.start);
        with_scratch((rows.start(block_tiles.end) - first) * k, |packed| {
            for t in block_tiles.clone() {
                let to = packed.as_mut_ptr().wrapping_add((rows.start(t) - first) * k);
                // SAFETY: the tile exists, A was checked with the largest offset, the scratch has the room.
                unsafe { pack_tile(&tiles, a, a_offset, 0, &rows, t, to) };
            }
            product.a = packed.as_ptr();
            product.a_start = first;
            // SAFETY: the operands were checked, the results of batches and blocks are disjoint.
            unsafe { product.block(block_tiles, panels) };
        });
    });
    Ok(())
}

/// Packs all lanes of a weight; the bytes were checked.
pub(super) fn pack_lanes(layout: &PackedLayout, lanes: Lanes, out: &mut [u8]) {
    if layout.dtype == DType::I8 {
        // SAFETY: the source was checked against the layout.
        unsafe { bytes::pack_columns(layout, &lanes, out) };
        return;
    }
    let (k, words, isa) = (layout.k, layout.words(), Isa::get());
    let rows = RowTiles::new(layout.len, layout.width);
    let count = match layout.side {
        Side::Columns => layout.len.div_ceil(layout.width),
        Side::Rows => rows.count(),
    };
    for index in 0..count {
        let (first, valid, width) = match layout.side {
            Side::Columns => {
                let first = index * layout.width;
                (first, (layout.len - first).min(layout.width), layout.width)
            }
            Side::Rows => (rows.start(index), rows.height(index), rows.height(index)),
        };
        let part = Lanes { src: lanes.src.wrapping_add(first * lanes.lane_stride), lanes: valid, ..lanes };
        if layout.dtype == DType::BF16 {
            with_scratch(k * width, |wide| {
                // SAFETY: the source was checked, and the scratch has the room.
                unsafe { part.pack(isa, width, wide.as_mut_ptr()) };
                let to = out.get_mut(first * words * WORD..).unwrap_or_default();
                pairs::pack_rows(wide, width, to);
            });
        } else {
            // SAFETY: the source was checked; `out` is aligned and has room for every panel.
            unsafe { part.pack(isa, width, out.as_mut_ptr().cast::<f32>().add(first * words)) };
        }
    }
}

fn check_result(m: usize, n: usize, len: usize, c_stride: usize) -> Result<(), GemmError> {
    if m > 1 && c_stride < n {
        return Err(GemmError::Overlap { what: "row stride", stride: c_stride, least: n });
    }
    need_at_least("C", span(m, c_stride, n, 1)?, len)
}

fn check_batched_result(
    m: usize,
    n: usize,
    batches: usize,
    len: usize,
    c_stride: usize,
    batch_stride: usize,
) -> Result<(), GemmError> {
    check_result(m, n, len, c_stride)?;
    let one = span(m, c_stride, n, 1)?;
    if batches > 1 {
        let side_by_side =
            batch_stride >= n && batch_stride.checked_mul(batches).is_some_and(|all| all <= c_stride);
        if batch_stride < one && !side_by_side {
            return Err(GemmError::Overlap { what: "batch stride", stride: batch_stride, least: one });
        }
    }
    let last = (batches - 1).checked_mul(batch_stride).and_then(|last| last.checked_add(one));
    need_at_least("C", last.ok_or(GemmError::Overflow)?, len)
}

pub(crate) fn check_epilogue(m: usize, n: usize, epilogue: &Epilogue<'_>) -> Result<(), GemmError> {
    match epilogue.bias {
        Bias::None => {}
        Bias::Columns(bias) => expect("length of the bias", n, bias.len())?,
        Bias::Rows(bias) => expect("length of the bias", m, bias.len())?,
    }
    for residual in [epilogue.residual_before, epilogue.residual_after].into_iter().flatten() {
        if let Residual::From { data, stride } = residual {
            need_at_least("residual", span(m, stride, n, 1)?, data.len())?;
        }
    }
    Ok(())
}
