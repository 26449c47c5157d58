//! Compact panels on AVX-512: unpacking a group in registers, and sums of few rows straight from memory. The format
//! is in `mod.rs`; who computes which panels is decided in `drive`. A panel is read from its first byte to its last, which
//! the machine foresees: for one or two rows, fetching ahead or reading panels side by side made it slower (docs/gemm.md).

use super::{Coding, GROUP, LANES, NEUTRAL, NUMBERS, Panel, ROWS, WIDTH, WINDOW};
use crate::simd::{Cache, prefetch};
use core::arch::x86_64::*;

/// How far ahead panels are fetched for more than two rows, in bytes.
const AHEAD: usize = 4096;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Vectors of a group.
const VECTORS: usize = NUMBERS / LANES;

/// A coding, as a type so that its kernels are made of it.
trait Decode {
    const CODING: Coding;

    /// The numbers of the group at `p`; those of a window as if its base were [`NEUTRAL`].
    ///
    /// # Safety
    /// The machine has AVX-512 F; the group is readable.
    unsafe fn group(p: *const u8) -> [__m512; VECTORS];
}

/// Defines the codings whose vectors lie one after another: so many bytes each, and the numbers in them.
macro_rules! apart {
    ($($name:ident: $bytes:literal, |$p:ident| $numbers:expr;)*) => {$(
        struct $name;

        impl Decode for $name {
            const CODING: Coding = Coding::$name;

            #[inline(always)]
            unsafe fn group(p: *const u8) -> [__m512; VECTORS] {
                // SAFETY: the caller's promise.
                unsafe {
                    let mut out = [_mm512_setzero_ps(); VECTORS];
                    for (v, out) in out.iter_mut().enumerate() {
                        let $p = p.add($bytes * v);
                        *out = $numbers;
                    }
                    out
                }
            }
        }
    )*};
}

apart! {
    Plain: 64, |p| _mm512_loadu_ps(p.cast());
    Half: 32, |p| _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()));
    Brain: 32, |p| {
        let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
    };
}

struct Window;

impl Decode for Window {
    const CODING: Coding = Coding::Window;

    #[inline(always)]
    unsafe fn group(p: *const u8) -> [__m512; VECTORS] {
        // SAFETY: the caller's promise.
        unsafe {
            let words = |bits: u32| _mm512_set1_epi32(bits.cast_signed());
            // Ternary logic: 0xf8 is a | b & c, 0xea is a & b | c.
            let neutral = words(NEUTRAL << 23);
            let mut out = [_mm512_setzero_ps(); VECTORS];
            let mut last = neutral;
            macro_rules! vectors {
                ($($i:literal: $($left:literal $mask:literal),*;)*) => {$(
                    let word = _mm512_loadu_si512(p.add(64 * $i).cast());
                    out[$i] = _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xea>(word, words(WINDOW), neutral));
                    $(
                        let piece = _mm512_rol_epi32::<$left>(word);
                        last = _mm512_ternarylogic_epi32::<0xf8>(last, piece, words($mask));
                    )*
                )*};
            }
            // How far bits 27 to 30 of each word go to the left around, to their place in the last.
            vectors! {
                0: 5 0xf;
                1: 9 0xf0;
                2: 13 0xf00;
                3: 17 0xf000;
                4: 21 0xf_0000;
                5: 25 0xf0_0000;
                6: 29 0x0700_0000, 1 0x8000_0000;
            }
            out[7] = _mm512_castsi512_ps(last);
            out
        }
    }
}

/// Unpacks whole groups, as many as there are and there is room for.
///
/// # Safety
/// The machine has AVX-512 F.
pub(super) unsafe fn unpack(coding: Coding, base: u32, groups: &[u8], to: &mut [[f32; NUMBERS]]) {
    // SAFETY: the caller's promise.
    unsafe {
        match coding {
            Coding::Plain => unpack_all::<Plain>(0, groups, to),
            Coding::Window => unpack_all::<Window>(base.wrapping_sub(NEUTRAL) << 23, groups, to),
            Coding::Half => unpack_all::<Half>(0, groups, to),
            Coding::Brain => unpack_all::<Brain>(0, groups, to),
        }
    }
}

/// `up` is what exponents lack, in place. Only loops: see [`stream`].
#[target_feature(enable = "avx512f")]
#[allow(clippy::needless_range_loop)]
unsafe fn unpack_all<D: Decode>(up: u32, groups: &[u8], to: &mut [[f32; NUMBERS]]) {
    let up = _mm512_set1_epi32(up.cast_signed());
    let count = (groups.len() / D::CODING.group()).min(to.len());
    let (mut from, mut to) = (groups.as_ptr(), to.as_mut_ptr().cast::<f32>());
    // SAFETY: so many groups are there, and there is room for them.
    unsafe {
        for _ in 0..count {
            let vectors = D::group(from);
            for v in 0..VECTORS {
                let bits = _mm512_add_epi32(_mm512_castps_si512(vectors[v]), up);
                _mm512_storeu_ps(to.add(LANES * v), _mm512_castsi512_ps(bits));
            }
            from = from.add(D::CODING.group());
            to = to.add(NUMBERS);
        }
    }
}

/// See [`Compact::stream`](super::Compact::stream).
///
/// # Safety
/// As there.
pub(super) unsafe fn sums(
    k: usize,
    panel: &Panel<'_>,
    rows: usize,
    x: &[f32],
    sums: &mut [[f32; WIDTH]; ROWS],
) {
    // SAFETY: the caller's promise.
    unsafe {
        match panel.coding {
            Coding::Plain => of_rows::<Plain>(panel, rows, x, sums),
            Coding::Window => of_rows::<Window>(panel, rows, x, sums),
            Coding::Half => of_rows::<Half>(panel, rows, x, sums),
            Coding::Brain => of_rows::<Brain>(panel, rows, x, sums),
        }
    }
    for (k, column, w) in panel.exceptions(0..k) {
        for (x, sums) in x.iter().skip(k * rows).zip(sums.iter_mut().take(rows)) {
            if let Some(sum) = sums.get_mut(column) {
                *sum += x * w;
                *sum -= x * panel.least();
            }
        }
    }
}

unsafe fn of_rows<D: Decode>(panel: &Panel<'_>, rows: usize, x: &[f32], sums: &mut [[f32; WIDTH]; ROWS]) {
    macro_rules! by_rows {
        ($($n:literal)*) => {
            match rows {
                // SAFETY: the caller's promise.
                $($n => unsafe { stream::<D, $n>(panel, x, sums) },)*
                _ => {}
            }
        };
    }
    by_rows!(1 2 3 4 5 6 7 8);
}

/// The sums of a panel's groups, a row of `sums` a row. Iterators and closures of the standard library are not compiled for
/// the instructions that this function has, so there are only loops in it.
#[target_feature(enable = "avx512f")]
#[allow(clippy::needless_range_loop)]
unsafe fn stream<D: Decode, const N: usize>(panel: &Panel<'_>, x: &[f32], sums: &mut [[f32; WIDTH]; ROWS]) {
    let mut acc = [[_mm512_setzero_ps(); 2]; N];
    let (mut from, mut at) = (panel.body.as_ptr(), x.as_ptr());
    let groups = (x.len() / (GROUP * N)).min(panel.body.len() / D::CODING.group());
    // SAFETY: that many groups are in the panel and in `x`; a row of `sums` holds two vectors, and N is at most ROWS.
    unsafe {
        for _ in 0..groups {
            if N > 2 {
                // What is computed in between is too much for the machine to look past.
                for line in 0..D::CODING.group() / LINE {
                    prefetch(Cache::Second, from.wrapping_add(AHEAD + line * LINE).cast());
                }
            }
            let numbers = D::group(from);
            for k in 0..GROUP {
                for r in 0..N {
                    let x = _mm512_set1_ps(*at.add(k * N + r));
                    for v in 0..2 {
                        acc[r][v] = _mm512_fmadd_ps(x, numbers[2 * k + v], acc[r][v]);
                    }
                }
            }
            from = from.add(D::CODING.group());
            at = at.add(GROUP * N);
        }
        let scale = _mm512_set1_ps(scale::<D>(panel));
        for r in 0..N {
            for v in 0..2 {
                _mm512_storeu_ps(sums[r].as_mut_ptr().add(LANES * v), _mm512_mul_ps(acc[r][v], scale));
            }
        }
    }
}

/// What the sums are to be multiplied by: a power of two.
fn scale<D: Decode>(panel: &Panel<'_>) -> f32 {
    let window = D::CODING == Coding::Window;
    if window { f32::from_bits((panel.base + 127 - NEUTRAL) << 23) } else { 1.0 }
}
