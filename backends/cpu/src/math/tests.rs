//! Accuracy of the vector functions against f64, on every instruction set of the machine.

use super::*;
use crate::isa::Isa;
use crate::simd::{Vectorised, dispatch};

#[derive(Clone, Copy, Debug)]
enum F {
    Exp,
    Log,
    Tanh,
    Erf,
    Sigmoid,
    Silu,
    GeluErf,
    GeluTanh,
    GeluQuick,
}

struct Map<'a>(F, &'a [f32], &'a mut [f32]);

impl Vectorised for Map<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Map(f, xs, ys) = self;
        for (x, y) in xs.chunks(S::LANES).zip(ys.chunks_mut(S::LANES)) {
            // SAFETY: both chunks have x.len() elements.
            let v = unsafe { s.load_part(x.as_ptr(), x.len()) };
            let r = match f {
                F::Exp => exp(s, v),
                F::Log => log(s, v),
                F::Tanh => tanh(s, v),
                F::Erf => erf(s, v),
                F::Sigmoid => sigmoid(s, v),
                F::Silu => silu(s, v),
                F::GeluErf => gelu_erf(s, v),
                F::GeluTanh => gelu_tanh(s, v),
                F::GeluQuick => gelu_quick(s, v),
            };
            // SAFETY: as above.
            unsafe { s.store_part(y.as_mut_ptr(), x.len(), r) };
        }
    }
}

fn apply(isa: Isa, f: F, xs: &[f32]) -> Vec<f32> {
    let mut ys = vec![0.0; xs.len()];
    dispatch(isa, Map(f, xs, &mut ys));
    ys
}

/// erf and erfc in f64 by series and continued fraction: the oracle.
fn erfc64(x: f64) -> f64 {
    if x < 2.0 {
        // erf x = 2/sqrt(pi) e^(-x^2) sum 2^n x^(2n+1) / (1*3*...*(2n+1))
        let (mut term, mut sum, mut n) = (x, x, 1.0);
        while term.abs() > 1e-18 * sum.abs() && n < 400.0 {
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
            n += 1.0;
        }
        return 1.0 - std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum;
    }
    let mut f = x;
    for k in (1..200).rev() {
        f = x + f64::from(k) / 2.0 / f;
    }
    (-x * x).exp() / f / std::f64::consts::PI.sqrt()
}

fn erf64(x: f64) -> f64 {
    if x.abs() < 0.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..60 {
            let n = f64::from(n);
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        return std::f64::consts::FRAC_2_SQRT_PI * sum;
    }
    (1.0 - erfc64(x.abs())).copysign(x)
}

fn oracle(f: F, x: f32) -> f64 {
    let x = f64::from(x);
    match f {
        F::Exp => x.exp(),
        F::Log => x.ln(),
        F::Tanh => x.tanh(),
        F::Erf => erf64(x),
        F::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        F::Silu => x / (1.0 + (-x).exp()),
        F::GeluErf => {
            let t = x.abs() / std::f64::consts::SQRT_2;
            x * if x < 0.0 { 0.5 * erfc64(t) } else { 1.0 - 0.5 * erfc64(t) }
        }
        F::GeluTanh => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            x / (1.0 + (-2.0 * u).exp())
        }
        F::GeluQuick => x / (1.0 + (-1.702 * x).exp()),
    }
}

/// The distance of two neighbouring f32 around y, not below that of normal numbers.
fn ulp(y: f64) -> f64 {
    let y = (y.abs() as f32).clamp(f32::MIN_POSITIVE, f32::MAX);
    f64::from(f32::from_bits(y.to_bits() + 1).min(f32::MAX)) - f64::from(y)
}

/// Numbers from lo to hi, dense both linearly and towards 0.
fn sweep(lo: f32, hi: f32) -> Vec<f32> {
    let n = 400_000;
    let mut xs: Vec<f32> = (0..=n).map(|i| lo + (hi - lo) * (i as f32 / n as f32)).collect();
    let mut bits = 0u32;
    while bits < hi.max(-lo).to_bits() {
        let x = f32::from_bits(bits);
        xs.extend([x, -x].into_iter().filter(|x| *x >= lo && *x <= hi));
        bits += 9973;
    }
    xs
}

/// Largest error in ulp, and where.
fn worst(isa: Isa, f: F, xs: &[f32], bound: impl Fn(f32, f64) -> f64) -> (f64, f32) {
    let ys = apply(isa, f, xs);
    xs.iter().zip(&ys).fold((0.0, 0.0), |(e, at), (&x, &y)| {
        let exact = oracle(f, x);
        let now = if exact.abs() > f64::from(f32::MAX) && y.is_infinite() {
            0.0
        } else {
            (f64::from(y) - exact).abs() / bound(x, exact)
        };
        if now > e || now.is_nan() { (now, x) } else { (e, at) }
    })
}

#[test]
fn within_stated_ulp_of_f64() {
    let cases = [
        (F::Exp, -103.0, 88.72, 2.0),
        (F::Log, 0.0, f32::MAX, 2.0),
        (F::Log, 0.25, 4.0, 2.0),
        (F::Tanh, -12.0, 12.0, 2.0),
        (F::Erf, -5.0, 5.0, 2.0),
        (F::Sigmoid, -87.3, 100.0, 2.5),
        (F::Silu, -80.0, 100.0, 2.5),
        (F::GeluErf, -1.0, 20.0, 2.5),
        (F::GeluTanh, -0.5, 20.0, 2.5),
        (F::GeluQuick, -0.5, 20.0, 2.5),
    ];
    for isa in Isa::available() {
        for (f, lo, hi, limit) in cases {
            let mut xs = sweep(lo, hi);
            if lo == 0.0 {
                xs.retain(|&x| x > 0.0);
            }
            let (e, at) = worst(isa, f, &xs, |_, y| ulp(y));
            println!("{isa:?} {f:?} [{lo}, {hi}]: {e:.3} ulp at {at:e}");
            assert!(e <= limit, "{isa:?} {f:?}: {e} ulp at {at:e}, limit {limit}");
        }
    }
}

#[test]
fn gelu_tails_keep_absolute_and_relative_accuracy() {
    for isa in Isa::available() {
        for f in [F::GeluErf, F::GeluTanh, F::GeluQuick] {
            let (e, at) =
                worst(isa, f, &sweep(-60.0, 60.0), |x, _| f64::from(x.abs()).max(1e-30) / 4_194_304.0);
            println!("{isa:?} {f:?}: {e:.3} of 2^-22 |x| at {at}");
            assert!(e <= 1.0, "{isa:?} {f:?}: {e} at {at}");
            let (e, at) = worst(isa, f, &sweep(-6.0, 6.0), |_, y| y.abs().max(1e-30));
            println!("{isa:?} {f:?}: {e:.3e} relative at {at}");
            assert!(e <= 3e-5, "{isa:?} {f:?}: relative {e} at {at}");
        }
    }
}

#[test]
fn special_values() {
    let inf = f32::INFINITY;
    let tiny = f32::from_bits(1);
    let cases: &[(F, f32, f32)] = &[
        (F::Exp, inf, inf),
        (F::Exp, -inf, 0.0),
        (F::Exp, 1e30, inf),
        (F::Exp, -1e30, 0.0),
        (F::Exp, 0.0, 1.0),
        (F::Exp, f32::MIN, 0.0),
        (F::Log, 0.0, -inf),
        (F::Log, -0.0, -inf),
        (F::Log, inf, inf),
        (F::Log, 1.0, 0.0),
        (F::Log, -1.0, f32::NAN),
        (F::Log, -inf, f32::NAN),
        (F::Log, tiny, -103.278_93),
        (F::Tanh, inf, 1.0),
        (F::Tanh, -inf, -1.0),
        (F::Tanh, -0.0, -0.0),
        (F::Tanh, 1e30, 1.0),
        (F::Tanh, tiny, tiny),
        (F::Erf, inf, 1.0),
        (F::Erf, -inf, -1.0),
        (F::Erf, -0.0, -0.0),
        (F::Erf, 1e30, 1.0),
        (F::Sigmoid, inf, 1.0),
        (F::Sigmoid, -inf, 0.0),
        (F::Sigmoid, 0.0, 0.5),
        (F::Silu, inf, inf),
        (F::Silu, 1e30, 1e30),
        (F::Silu, -1e30, 0.0),
        (F::GeluErf, inf, inf),
        (F::GeluErf, 1e30, 1e30),
        (F::GeluErf, -1e30, 0.0),
        (F::GeluErf, 0.0, 0.0),
        (F::GeluTanh, inf, inf),
        (F::GeluTanh, 1e30, 1e30),
        (F::GeluTanh, -1e30, 0.0),
        (F::GeluQuick, 1e30, 1e30),
        (F::GeluQuick, -1e30, 0.0),
    ];
    let all = [F::Exp, F::Log, F::Tanh, F::Erf, F::Sigmoid, F::Silu, F::GeluErf, F::GeluTanh, F::GeluQuick];
    for isa in Isa::available() {
        for &(f, x, want) in cases {
            let got = apply(isa, f, &[x])[0];
            assert!(
                got == want || (got.is_nan() && want.is_nan()),
                "{isa:?} {f:?}({x:e}) = {got:e}, not {want:e}"
            );
            if want == 0.0 && x == 0.0 {
                assert_eq!(got.is_sign_negative(), want.is_sign_negative(), "{f:?}({x})");
            }
        }
        for f in all {
            assert!(apply(isa, f, &[f32::NAN])[0].is_nan(), "{isa:?} {f:?}(NaN)");
        }
    }
}

#[test]
fn entry_points_agree_with_the_generic_form() {
    for x in [-3.5f32, -0.1, 0.0, 0.7, 12.0] {
        assert_eq!(
            gelu_erf_portable(x),
            apply(Isa::at(crate::isa::Level::Portable).unwrap(), F::GeluErf, &[x])[0]
        );
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(isa) = Isa::at(crate::isa::Level::Avx512) {
        use core::arch::x86_64::*;
        // SAFETY: the machine has AVX-512, as the Isa shows.
        let got = unsafe { _mm512_cvtss_f32(gelu_erf_avx512(_mm512_set1_ps(-0.75))) };
        assert_eq!(got, apply(isa, F::GeluErf, &[-0.75])[0]);
    }
}
