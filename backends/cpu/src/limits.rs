//! What this machine can do at most, measured: multiply-adds from registers, and bytes read from memory. What kernels
//! make of it is measured elsewhere; no kernel belongs here.

use crate::isa::Isa;
use crate::simd::{Simd, Vectorised, dispatch};
use crate::threads::{on_each, threads};
use std::hint::black_box;
use std::time::Instant;

/// Numbers that are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// f32, fused multiply-add.
    F32,
    /// Pairs of bf16 into f32; where the machine has no such instruction, as f32.
    Bf16,
    /// Fours of bytes into i32; where the machine has no such instruction, as f32.
    Int8,
}

/// Independent sums in registers: enough to hide the latency of a multiply-add.
const SUMS: usize = 12;
/// Multiply-adds of one vector between two looks at the clock.
const ROUNDS: usize = 40_000;
/// Looks at the clock; the best counts, since other work on the machine only takes away.
const TRIES: usize = 16;
/// Bytes that are read: more than caches hold.
const BUFFER: usize = 192 << 20;
/// Times that the buffer is read; the best counts.
const PASSES: usize = 4;

/// Operations a second of all threads of a parallel loop together: a multiply-add counts two.
pub fn operations_per_second(arithmetic: Arithmetic) -> f64 {
    on_each(|_| one_thread(arithmetic)).into_iter().sum()
}

/// Bytes a second that all threads of a parallel loop together read from memory.
pub fn bytes_per_second() -> f64 {
    let threads = threads();
    // Each thread reads its own part of what is there, as threads share weights; written first, so that it is memory.
    let buffer = vec![1.0f32; BUFFER / 4];
    let part = buffer.len() / threads;
    let best = (0..PASSES).map(|_| {
        let begin = Instant::now();
        on_each(|index| {
            let share = buffer.get(index * part..(index + 1) * part).unwrap_or(&[]);
            black_box(dispatch(Isa::get(), Sum(share)));
        });
        (part * threads * 4) as f64 / begin.elapsed().as_secs_f64()
    });
    best.fold(0.0, f64::max)
}

fn one_thread(arithmetic: Arithmetic) -> f64 {
    let isa = Isa::get();
    let rates = (0..TRIES).map(|_| {
        let begin = Instant::now();
        let operations = match arithmetic {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the Isa says that the machine has the instructions.
            Arithmetic::Bf16 if isa.has_bf16_dot() => unsafe { pairs_of_bf16() },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Arithmetic::Int8 if isa.has_int8_dot() => unsafe { fours_of_bytes() },
            _ => dispatch(isa, MultiplyAdds),
        };
        operations as f64 / begin.elapsed().as_secs_f64()
    });
    rates.fold(0.0, f64::max)
}

struct MultiplyAdds;

impl Vectorised for MultiplyAdds {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        let x = s.splat(black_box(0.5));
        let mut sums = [x; SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = s.mul_add(*sum, x, x);
            }
        }
        black_box(sums.iter().map(|v| s.sum(*v)).sum::<f32>());
        ROUNDS * SUMS * S::LANES * 2
    }
}

/// # Safety
/// The machine has AVX-512 BF16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn pairs_of_bf16() -> usize {
    use core::arch::x86_64::*;
    let x = black_box(_mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5), _mm512_set1_ps(0.5)));
    let mut sums = [_mm512_setzero_ps(); SUMS];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, x, x);
        }
    }
    black_box(sums.iter().map(|v| _mm512_reduce_add_ps(*v)).sum::<f32>());
    ROUNDS * SUMS * 32 * 2
}

/// # Safety
/// The machine has AVX-512 VNNI.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn fours_of_bytes() -> usize {
    use core::arch::x86_64::*;
    let x = black_box(_mm512_set1_epi8(1));
    let mut sums = [_mm512_setzero_si512(); SUMS];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, x, x);
        }
    }
    black_box(sums.iter().map(|v| _mm512_reduce_add_epi32(*v)).fold(0, i32::wrapping_add));
    ROUNDS * SUMS * 64 * 2
}

/// Reads all of a slice, as fast as it comes.
struct Sum<'a>(&'a [f32]);

impl Vectorised for Sum<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        const AT_ONCE: usize = 8;
        let mut sums = [s.zero(); AT_ONCE];
        let step = AT_ONCE * S::LANES;
        let (start, mut at) = (self.0.as_ptr(), 0);
        // Bare pointers: iterators that the compiler does not inline here would be slower than memory.
        while at + step <= self.0.len() {
            for (k, sum) in sums.iter_mut().enumerate() {
                // SAFETY: `at + step` elements are there, of which this reads LANES.
                *sum = s.add(*sum, unsafe { s.load(start.add(at + k * S::LANES)) });
            }
            at += step;
        }
        sums.iter().map(|v| s.sum(*v)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_positive_and_sane() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        pool.install(|| {
            for arithmetic in [Arithmetic::F32, Arithmetic::Bf16, Arithmetic::Int8] {
                let rate = operations_per_second(arithmetic);
                assert!((1e7..1e15).contains(&rate), "{arithmetic:?}: {rate}");
            }
            let bytes = bytes_per_second();
            assert!((1e7..1e14).contains(&bytes), "{bytes}");
        });
    }
}
