//! The micro-kernel: one tile of C held in registers over a run of K, for every instruction set.
//!
//! One algorithm, generic over [`Simd`] and over what the words hold (`dot`), instantiated for each tile height
//! and width. Blocking, packing and epilogues belong to the files beside it.

use super::dot::{Dot, Floats, Fours, Words};
#[cfg(target_arch = "x86_64")]
use super::dot::{FoursVnni, Pairs};
use crate::isa::{Isa, Level};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Cache, Portable, Simd, prefetch};

/// Rows of the tallest tile of any instruction set.
pub(crate) const MAX_ROWS: usize = 14;
/// Columns of the widest panel of any instruction set.
pub(crate) const MAX_WIDTH: usize = 32;

/// One call of the micro-kernel: `c[r][j] = init[r][j] + sum over k of a[k][r] * b[k][j]`. Elements are words; sums
/// of words that are bytes are i32, `init` and `c` likewise.
pub(crate) struct TileCall {
    /// Length of the sum, in words.
    pub k: usize,
    /// Packed rows: element (k, r) at `k * a_stride + r`.
    pub a: *const f32,
    /// Elements between one k and the next in `a`.
    pub a_stride: usize,
    /// Packed columns: element (k, j) at `k * b_stride + j`.
    pub b: *const f32,
    /// Elements between one k and the next in `b`.
    pub b_stride: usize,
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

/// A micro-kernel of fixed height and width.
///
/// # Safety
/// The machine has its instructions, and every element that [`TileCall`] describes is readable (`a`, `b`,
/// `init`) or writable (`c`) for the kernel's rows and columns.
pub(crate) type TileFn = unsafe fn(&TileCall);

/// One step of the sum. A function rather than a closure so that it is certain to be inlined.
#[inline(always)]
unsafe fn step<S: Simd, D: Dot<S>, const ROWS: usize, const VECS: usize>(
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
                *sum = D::dot(s, x, columns[v], *sum);
            }
        }
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, D: Dot<S>, const ROWS: usize, const VECS: usize>(s: S, call: &TileCall) {
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
                prefetch(Cache::Second, ahead);
                ahead = ahead.wrapping_add(LINE);
            }
            step::<S, D, ROWS, VECS>(s, a, b, &mut acc);
            step::<S, D, ROWS, VECS>(s, a.add(call.a_stride), b.add(call.b_stride), &mut acc);
            step::<S, D, ROWS, VECS>(s, a.add(2 * call.a_stride), b.add(2 * call.b_stride), &mut acc);
            step::<S, D, ROWS, VECS>(s, a.add(3 * call.a_stride), b.add(3 * call.b_stride), &mut acc);
            a = a.add(4 * call.a_stride);
            b = b.add(4 * call.b_stride);
        }
        for _ in 0..call.k % 4 {
            step::<S, D, ROWS, VECS>(s, a, b, &mut acc);
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

/// How far ahead weights that are read once are fetched: two pages, so that their addresses are translated early too.
pub(crate) const FAR: usize = 2048;

/// Instances of the tile for one instruction set.
macro_rules! instances {
    ($($(#[$attribute:meta])* $name:ident = $vectors:ty, $dot:ty, $proof:expr;)*) => {$(
        $(#[$attribute])*
        unsafe fn $name<const ROWS: usize, const VECS: usize>(call: &TileCall) {
            // SAFETY: the caller's promise.
            unsafe { tile::<$vectors, $dot, ROWS, VECS>($proof, call) }
        }
    )*};
}

instances! {
    portable = Portable, Floats, Portable::new();
    portable_fours = Portable, Fours, Portable::new();
}
#[cfg(target_arch = "x86_64")]
instances! {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    avx512 = Avx512, Floats, Avx512::new();
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    avx512_pairs = Avx512, Pairs, Avx512::new();
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
    avx512_fours = Avx512, FoursVnni, Avx512::new();
    #[target_feature(enable = "avx2,fma")]
    avx2 = Avx2, Floats, Avx2::new();
    #[target_feature(enable = "avx2,fma")]
    avx2_fours = Avx2, Fours, Avx2::new();
}

/// The micro-kernels of one instruction set: by width in vectors, then by rows less one.
struct Table {
    narrow: &'static [TileFn],
    wide: &'static [TileFn],
}

/// A function's instances for these heights and this width in vectors.
macro_rules! heights {
    ($name:ident, $vectors:literal, $($rows:literal)*) => { &[$($name::<$rows, $vectors>),*] };
}
#[cfg(target_arch = "x86_64")]
macro_rules! avx512_table {
    ($name:ident) => {
        Table {
            narrow: heights!($name, 1, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            wide: heights!($name, 2, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        }
    };
}

#[cfg(target_arch = "x86_64")]
macro_rules! avx2_table {
    ($name:ident) => {
        Table {
            narrow: heights!($name, 1, 1 2 3 4 5 6),
            wide: heights!($name, 2, 1 2 3 4 5 6),
        }
    };
}

#[cfg(target_arch = "x86_64")]
static AVX512: Table = avx512_table!(avx512);
#[cfg(target_arch = "x86_64")]
static AVX512_PAIRS: Table = avx512_table!(avx512_pairs);
#[cfg(target_arch = "x86_64")]
static AVX512_FOURS: Table = avx512_table!(avx512_fours);
#[cfg(target_arch = "x86_64")]
static AVX2: Table = avx2_table!(avx2);
#[cfg(target_arch = "x86_64")]
static AVX2_FOURS: Table = avx2_table!(avx2_fours);
static PORTABLE: Table = Table { narrow: heights!(portable, 1, 1 2 3 4), wide: &[] };
static PORTABLE_FOURS: Table = Table { narrow: heights!(portable_fours, 1, 1 2 3 4), wide: &[] };

/// The micro-kernels that suit one panel width on one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Tiles {
    table: &'static Table,
    /// The instruction set that they, and whatever is run beside them, use.
    pub isa: Isa,
    /// What they multiply.
    pub words: Words,
    /// Elements of a vector.
    pub lanes: usize,
    /// Columns of a full tile, a divisor of the panel's width.
    pub columns: usize,
}

impl Tiles {
    /// The kernels for panels of `width` columns, a multiple of 8: the best of this level that divides it.
    pub fn new(isa: Isa, width: usize) -> Tiles {
        Tiles::of(isa, Words::Floats, width)
    }

    /// The kernels for such words, which this machine multiplies ([`Words::runs`]; others are taken for floats).
    pub fn of(isa: Isa, words: Words, width: usize) -> Tiles {
        let words = if words.runs(isa, width) { words } else { Words::Floats };
        let lower = || match Isa::at(Level::Avx2Fma) {
            Some(narrower) if isa.level() > Level::Avx2Fma => Tiles::of(narrower, words, width),
            _ => {
                let table = if words == Words::Fours { &PORTABLE_FOURS } else { &PORTABLE };
                Tiles { table, isa, words, lanes: 8, columns: 8 }
            }
        };
        let (table, lanes) = match (isa.level(), words) {
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512, Words::Floats) => (&AVX512, 16),
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512, Words::Pairs) => (&AVX512_PAIRS, 16),
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512, Words::Fours) if isa.has_int8_dot() => (&AVX512_FOURS, 16),
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2Fma, Words::Floats) => (&AVX2, 8),
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2Fma, Words::Fours) => (&AVX2_FOURS, 8),
            _ => return lower(),
        };
        if width.is_multiple_of(2 * lanes) {
            Tiles { table, isa, words, lanes, columns: 2 * lanes }
        } else if width.is_multiple_of(lanes) {
            Tiles { table, isa, words, lanes, columns: lanes }
        } else {
            lower()
        }
    }

    /// The tallest tile.
    pub fn max_rows(&self) -> usize {
        self.table.narrow.len()
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
