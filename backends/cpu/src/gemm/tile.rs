//! The micro-kernel: one tile of C held in registers over a run of K, for every instruction set.
//!
//! One algorithm, generic over [`Simd`], instantiated for each tile height and width. Blocking, packing and
//! epilogues belong to the files beside it.

use crate::isa::{Isa, Level};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Portable, Simd};

/// Rows of the tallest tile of any instruction set.
pub(crate) const MAX_ROWS: usize = 14;
/// Columns of the widest panel of any instruction set.
pub(crate) const MAX_WIDTH: usize = 32;

/// One call of the micro-kernel: `c[r][j] = init[r][j] + sum over k of a[k][r] * b[k][j]`.
pub(crate) struct TileCall {
    /// Length of the sum.
    pub k: usize,
    /// Packed rows: element (k, r) at `k * a_stride + r`.
    pub a: *const f32,
    /// Elements between one k and the next in `a`.
    pub a_stride: usize,
    /// Packed columns: element (k, j) at `k * b_stride + j`.
    pub b: *const f32,
    /// Elements between one k and the next in `b`.
    pub b_stride: usize,
    /// Elements between one panel of `b` and the next, for the kernels that read several.
    pub panel_stride: usize,
    /// Where the sum starts, or null for zero; element (r, j) at `r * init_stride + j`. A stride of zero
    /// gives every row the same start: a bias.
    pub init: *const f32,
    /// Elements between the rows of `init`.
    pub init_stride: usize,
    /// Where the result goes: element (r, j) at `r * c_stride + j`.
    pub c: *mut f32,
    /// Elements between the rows of `c`.
    pub c_stride: usize,
    /// What will be read soon and may still be in memory: fetched while this tile computes. Need not exist.
    pub ahead: *const f32,
    /// Cache lines of it to fetch for every four k.
    pub ahead_lines: usize,
}

/// Elements of a cache line.
pub(crate) const LINE: usize = 16;

/// Asks for the cache line at `p`, which need not exist, to be brought into the second-level cache.
#[inline(always)]
fn prefetch(p: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch does not fault.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// A micro-kernel of fixed height and width.
///
/// # Safety
/// The machine has its instructions, and every element that [`TileCall`] describes is readable (`a`, `b`,
/// `init`) or writable (`c`) for the kernel's rows and columns.
pub(crate) type TileFn = unsafe fn(&TileCall);

/// One step of the sum. A function rather than a closure so that it is certain to be inlined.
#[inline(always)]
unsafe fn step<S: Simd, const ROWS: usize, const VECS: usize>(
    s: S,
    a: *const f32,
    b: *const f32,
    acc: &mut [[S::V; VECS]; ROWS],
) {
    let mut columns = [s.zero(); VECS];
    // SAFETY: the caller vouches for ROWS elements at `a` and VECS vectors at `b`.
    unsafe {
        for (v, column) in columns.iter_mut().enumerate() {
            *column = s.load(b.add(v * S::LANES));
        }
        for (r, row) in acc.iter_mut().enumerate() {
            let x = s.splat(*a.add(r));
            for (v, sum) in row.iter_mut().enumerate() {
                *sum = s.mul_add(x, columns[v], *sum);
            }
        }
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, const ROWS: usize, const VECS: usize>(s: S, call: &TileCall) {
    let mut acc = [[s.zero(); VECS]; ROWS];
    // SAFETY: all pointers stay within what the caller of the micro-kernel vouches for.
    unsafe {
        if !call.init.is_null() {
            for (r, row) in acc.iter_mut().enumerate() {
                for (v, x) in row.iter_mut().enumerate() {
                    *x = s.load(call.init.add(r * call.init_stride + v * S::LANES));
                }
            }
        }
        let (mut a, mut b) = (call.a, call.b);
        let mut ahead = call.ahead;
        for _ in 0..call.k / 4 {
            for _ in 0..call.ahead_lines {
                prefetch(ahead);
                ahead = ahead.wrapping_add(LINE);
            }
            step(s, a, b, &mut acc);
            step(s, a.add(call.a_stride), b.add(call.b_stride), &mut acc);
            step(s, a.add(2 * call.a_stride), b.add(2 * call.b_stride), &mut acc);
            step(s, a.add(3 * call.a_stride), b.add(3 * call.b_stride), &mut acc);
            a = a.add(4 * call.a_stride);
            b = b.add(4 * call.b_stride);
        }
        for _ in 0..call.k % 4 {
            step(s, a, b, &mut acc);
            a = a.add(call.a_stride);
            b = b.add(call.b_stride);
        }
        for (r, row) in acc.iter().enumerate() {
            for (v, x) in row.iter().enumerate() {
                s.store(call.c.add(r * call.c_stride + v * S::LANES), *x);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn avx512<const ROWS: usize, const VECS: usize>(call: &TileCall) {
    // SAFETY: the caller's promise.
    unsafe { tile::<Avx512, ROWS, VECS>(Avx512::new(), call) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const ROWS: usize, const VECS: usize>(call: &TileCall) {
    // SAFETY: the caller's promise.
    unsafe { tile::<Avx2, ROWS, VECS>(Avx2::new(), call) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn avx512_stream<const ROWS: usize>(call: &TileCall) {
    // SAFETY: the caller's promise.
    unsafe { stream::<Avx512, ROWS>(Avx512::new(), call) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2_stream<const ROWS: usize>(call: &TileCall) {
    // SAFETY: the caller's promise.
    unsafe { stream::<Avx2, ROWS>(Avx2::new(), call) }
}

unsafe fn portable<const ROWS: usize, const VECS: usize>(call: &TileCall) {
    // SAFETY: the caller's promise.
    unsafe { tile::<Portable, ROWS, VECS>(Portable::new(), call) }
}

/// As [`tile`] for a row or two by [`STREAMS`] panels of two vectors, for weights that come from memory: reading the
/// panels side by side keeps more of it under way than one after the other.
#[inline(always)]
unsafe fn stream<S: Simd, const ROWS: usize>(s: S, call: &TileCall) {
    let mut acc = [[[s.zero(); 2]; STREAMS]; ROWS];
    let at = |panel: usize, v: usize| (2 * panel + v) * S::LANES;
    // SAFETY: all pointers stay within what the caller of the micro-kernel vouches for.
    unsafe {
        if !call.init.is_null() {
            for (r, row) in acc.iter_mut().enumerate() {
                for (p, panel) in row.iter_mut().enumerate() {
                    for (v, x) in panel.iter_mut().enumerate() {
                        *x = s.load(call.init.add(r * call.init_stride + at(p, v)));
                    }
                }
            }
        }
        let (mut a, mut b) = (call.a, call.b);
        for _ in 0..call.k {
            for p in 0..STREAMS {
                let from = b.add(p * call.panel_stride);
                prefetch(from.wrapping_add(FAR));
                prefetch(from.wrapping_add(FAR + LINE));
                let columns = [s.load(from), s.load(from.add(S::LANES))];
                for (r, row) in acc.iter_mut().enumerate() {
                    let x = s.splat(*a.add(r));
                    for (v, sum) in row[p].iter_mut().enumerate() {
                        *sum = s.mul_add(x, columns[v], *sum);
                    }
                }
            }
            a = a.add(call.a_stride);
            b = b.add(call.b_stride);
        }
        for (r, row) in acc.iter().enumerate() {
            for (p, panel) in row.iter().enumerate() {
                for (v, x) in panel.iter().enumerate() {
                    s.store(call.c.add(r * call.c_stride + at(p, v)), *x);
                }
            }
        }
    }
}

/// How far ahead weights that are read once are fetched: two pages, so that their addresses are translated early too.
pub(crate) const FAR: usize = 2048;
/// Panels that the kernels of [`Tiles::streaming`] read at once.
pub(crate) const STREAMS: usize = 4;

/// The micro-kernels of one instruction set: by width in vectors, then by rows less one.
struct Table {
    /// Of a row or two by several panels.
    streaming: &'static [TileFn],
    narrow: &'static [TileFn],
    wide: &'static [TileFn],
}

#[cfg(target_arch = "x86_64")]
static AVX512: Table = Table {
    streaming: &[avx512_stream::<1>, avx512_stream::<2>],
    narrow: &[
        avx512::<1, 1>,
        avx512::<2, 1>,
        avx512::<3, 1>,
        avx512::<4, 1>,
        avx512::<5, 1>,
        avx512::<6, 1>,
        avx512::<7, 1>,
        avx512::<8, 1>,
        avx512::<9, 1>,
        avx512::<10, 1>,
        avx512::<11, 1>,
        avx512::<12, 1>,
        avx512::<13, 1>,
        avx512::<14, 1>,
    ],
    wide: &[
        avx512::<1, 2>,
        avx512::<2, 2>,
        avx512::<3, 2>,
        avx512::<4, 2>,
        avx512::<5, 2>,
        avx512::<6, 2>,
        avx512::<7, 2>,
        avx512::<8, 2>,
        avx512::<9, 2>,
        avx512::<10, 2>,
        avx512::<11, 2>,
        avx512::<12, 2>,
        avx512::<13, 2>,
        avx512::<14, 2>,
    ],
};
#[cfg(target_arch = "x86_64")]
static AVX2: Table = Table {
    streaming: &[avx2_stream::<1>],
    narrow: &[avx2::<1, 1>, avx2::<2, 1>, avx2::<3, 1>, avx2::<4, 1>, avx2::<5, 1>, avx2::<6, 1>],
    wide: &[avx2::<1, 2>, avx2::<2, 2>, avx2::<3, 2>, avx2::<4, 2>, avx2::<5, 2>, avx2::<6, 2>],
};
static PORTABLE: Table = Table {
    streaming: &[],
    narrow: &[portable::<1, 1>, portable::<2, 1>, portable::<3, 1>, portable::<4, 1>],
    wide: &[],
};

/// The micro-kernels that suit one panel width on one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Tiles {
    table: &'static Table,
    /// The instruction set that they, and whatever is run beside them, use.
    pub isa: Isa,
    /// Elements of a vector.
    pub lanes: usize,
    /// Columns of a full tile, a divisor of the panel's width.
    pub columns: usize,
}

impl Tiles {
    /// The kernels for panels of `width` columns, a multiple of 8: the best of this level that divides it.
    pub fn new(isa: Isa, width: usize) -> Tiles {
        let portable = Tiles { table: &PORTABLE, isa, lanes: 8, columns: 8 };
        let (table, lanes) = match isa.level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => (&AVX512, 16),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2Fma => (&AVX2, 8),
            _ => return portable,
        };
        if width.is_multiple_of(2 * lanes) {
            Tiles { table, isa, lanes, columns: 2 * lanes }
        } else if width.is_multiple_of(lanes) {
            Tiles { table, isa, lanes, columns: lanes }
        } else {
            match Isa::at(Level::Avx2Fma) {
                Some(narrower) if isa.level() > Level::Avx2Fma => Tiles::new(narrower, width),
                _ => portable,
            }
        }
    }

    /// The tallest tile.
    pub fn max_rows(&self) -> usize {
        self.table.narrow.len()
    }

    /// The kernel of `rows` rows that covers [`STREAMS`] panels of `width` columns at once, if there is one.
    pub fn streaming(&self, rows: usize, width: usize) -> Option<TileFn> {
        let fits = width == 2 * self.lanes;
        self.table.streaming.get(rows.checked_sub(1)?).copied().filter(|_| fits)
    }

    /// The kernel of `rows` rows that covers at least `columns` columns (at most [`Tiles::columns`]), and how
    /// many columns it reads and writes.
    pub fn get(&self, rows: usize, columns: usize) -> (TileFn, usize) {
        let index = rows.clamp(1, self.max_rows()) - 1;
        match self.table.wide.get(index) {
            Some(&wide) if columns > self.lanes => (wide, 2 * self.lanes),
            _ => (self.table.narrow[index], self.lanes),
        }
    }
}

/// The panel width that packing for this level uses.
pub(crate) fn panel_width(level: Level) -> usize {
    match level {
        Level::Avx512 => 32,
        Level::Avx2Fma => 16,
        Level::Portable => 8,
    }
}

/// The tile height that packing for this level uses.
pub(crate) fn tile_rows(level: Level) -> usize {
    match level {
        Level::Avx512 => MAX_ROWS,
        Level::Avx2Fma => 6,
        Level::Portable => 4,
    }
}
