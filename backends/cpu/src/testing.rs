//! What the kernels' tests share: random numbers, every instruction set, one and two threads.

use crate::isa::Isa;

/// A small generator of random numbers: xorshift64*.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    /// In 0..n.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }
    /// Roughly normal.
    pub fn number(&mut self) -> f32 {
        let mut x = 0.0;
        for _ in 0..4 {
            x += (self.next() >> 40) as f32 / (1u32 << 24) as f32;
        }
        (x - 2.0) * 1.7
    }
    pub fn vec(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.number()).collect()
    }
}

/// Runs `f` on every instruction set, with pools of one and of two threads, and checks that the threads make no
/// difference to the last bit.
pub fn everywhere(mut f: impl FnMut(Isa) -> Vec<f32> + Send, mut check: impl FnMut(Isa, &[f32])) {
    for isa in Isa::available() {
        let mut runs = [1, 2].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| f(isa))
        });
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&runs[0]), bits(&runs[1]), "{isa:?}: threads change the result");
        check(isa, &std::mem::take(&mut runs[0]));
    }
}

/// Every element within `tolerance` times the largest reference magnitude.
pub fn assert_close(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().filter(|x| x.is_finite()).fold(1e-30f64, |m, x| m.max(x.abs()));
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let g = f64::from(g);
        let same = g == w || (g.is_nan() && w.is_nan());
        assert!(same || (g - w).abs() <= tolerance * scale, "{what}[{i}]: {g}, not {w} (scale {scale})");
    }
}
