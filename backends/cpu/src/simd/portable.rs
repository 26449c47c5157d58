//! The portable implementation of [`Simd`]: arrays of eight that the compiler turns into whatever the
//! target has. No intrinsics belong here.

use super::Simd;

/// Vectors as plain arrays; every machine has them.
#[derive(Clone, Copy, Default)]
pub struct Portable(());

impl Portable {
    /// The portable vectors.
    #[inline(always)]
    pub fn new() -> Self {
        Portable(())
    }
}

const N: usize = 8;
type V = [f32; N];

/// An expression for each lane, written out: a library function over arrays is not inlined reliably.
macro_rules! lanes {
    (|$i:ident| $e:expr) => {
        lanes!($i, $e, 0, 1, 2, 3, 4, 5, 6, 7)
    };
    ($i:ident, $e:expr, $($n:literal),*) => {
        [$({
            const $i: usize = $n;
            $e
        }),*]
    };
}

/// Folds halves onto each other: the same tree of pairs as the vector machines use.
#[inline(always)]
fn fold(a: V, f: impl Fn(f32, f32) -> f32) -> f32 {
    let b = [f(a[0], a[4]), f(a[1], a[5]), f(a[2], a[6]), f(a[3], a[7])];
    f(f(b[0], b[2]), f(b[1], b[3]))
}

impl Simd for Portable {
    type V = V;
    type I = [i32; N];
    type M = [bool; N];
    const LANES: usize = N;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; N]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> V {
        // SAFETY: the caller's promise: eight elements are readable.
        unsafe { p.cast::<V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: V) {
        // SAFETY: the caller's promise: eight elements are writable.
        unsafe { p.cast::<V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize) -> V {
        // SAFETY: the caller's promise: n elements are readable.
        lanes!(|I| if I < n { unsafe { *p.add(I) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize, v: V) {
        for (i, x) in v.into_iter().enumerate().take(n) {
            // SAFETY: the caller's promise: n elements are writable.
            unsafe { *p.add(i) = x };
        }
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        lanes!(|I| a[I] + b[I])
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        lanes!(|I| a[I] - b[I])
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        lanes!(|I| a[I] * b[I])
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        lanes!(|I| a[I] / b[I])
    }
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        lanes!(|I| a[I] * b[I] + c[I])
    }
    #[inline(always)]
    fn mul_low(self, a: V, b: V, p: V) -> V {
        lanes!(|I| (f64::from(a[I]) * f64::from(b[I]) - f64::from(p[I])) as f32)
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; 16], index: [i32; N]) -> V {
        lanes!(|I| table[(index[I] & 15) as usize])
    }
    #[inline(always)]
    fn neg_mul_add(self, a: V, b: V, c: V) -> V {
        lanes!(|I| c[I] - a[I] * b[I])
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        lanes!(|I| if a[I] < b[I] { a[I] } else { b[I] })
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        lanes!(|I| if a[I] > b[I] { a[I] } else { b[I] })
    }
    #[inline(always)]
    fn sqrt(self, a: V) -> V {
        lanes!(|I| a[I].sqrt())
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        // Adding and taking off 1.5 * 2^23 rounds small numbers without a library call; larger ones are whole.
        const MAGIC: f32 = 12_582_912.0;
        lanes!(|I| {
            let r = (a[I] + MAGIC) - MAGIC;
            let r = f32::from_bits((r.to_bits() & 0x7fff_ffff) | (a[I].to_bits() & 0x8000_0000));
            if a[I].abs() < 4_194_304.0 { r } else { a[I].round_ties_even() }
        })
    }
    #[inline(always)]
    fn floor(self, a: V) -> V {
        lanes!(|I| a[I].floor())
    }
    #[inline(always)]
    fn ceil(self, a: V) -> V {
        lanes!(|I| a[I].ceil())
    }
    #[inline(always)]
    fn scale2(self, a: V, n: V) -> V {
        // Two factors, so that neither overflows and only the last product can round.
        lanes!(|I| {
            let n = n[I] as i32;
            let half = n >> 1;
            let power = |e: i32| f32::from_bits((e.wrapping_add(127) << 23) as u32);
            a[I] * power(half) * power(n - half)
        })
    }
    #[inline(always)]
    fn lt(self, a: V, b: V) -> [bool; N] {
        lanes!(|I| a[I] < b[I])
    }
    #[inline(always)]
    fn eq(self, a: V, b: V) -> [bool; N] {
        lanes!(|I| a[I] == b[I])
    }
    #[inline(always)]
    fn select(self, m: [bool; N], a: V, b: V) -> V {
        lanes!(|I| if m[I] { a[I] } else { b[I] })
    }
    #[inline(always)]
    fn to_bits(self, a: V) -> [i32; N] {
        lanes!(|I| a[I].to_bits() as i32)
    }
    #[inline(always)]
    fn from_bits(self, a: [i32; N]) -> V {
        lanes!(|I| f32::from_bits(a[I] as u32))
    }
    #[inline(always)]
    fn isplat(self, x: i32) -> [i32; N] {
        [x; N]
    }
    #[inline(always)]
    fn iadd(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        lanes!(|I| a[I].wrapping_add(b[I]))
    }
    #[inline(always)]
    fn isub(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        lanes!(|I| a[I].wrapping_sub(b[I]))
    }
    #[inline(always)]
    fn iand(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        lanes!(|I| a[I] & b[I])
    }
    #[inline(always)]
    fn ior(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        lanes!(|I| a[I] | b[I])
    }
    #[inline(always)]
    fn sra23(self, a: [i32; N]) -> [i32; N] {
        lanes!(|I| a[I] >> 23)
    }
    #[inline(always)]
    fn to_float(self, a: [i32; N]) -> V {
        lanes!(|I| a[I] as f32)
    }
    #[inline(always)]
    fn sum(self, a: V) -> f32 {
        fold(a, |x, y| x + y)
    }
    #[inline(always)]
    fn max_lane(self, a: V) -> f32 {
        fold(a, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    fn min_lane(self, a: V) -> f32 {
        fold(a, |x, y| if x < y { x } else { y })
    }
}
