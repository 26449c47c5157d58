//! Accuracy of the vector functions against f64, on every instruction set of the machine.

use super::*;
use crate::isa::Isa;
use crate::simd::{Vectorised, dispatch};

#[derive(Clone, Copy, Debug)]
enum F {
    Exp,
    ExpNear,
    Log,
    Tanh,
    Acos,
    Erf,
    Sigmoid,
    Silu,
    GeluErf,
    GeluNear,
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
                F::ExpNear => exp_near(s, v),
                F::Log => log(s, v),
                F::Tanh => tanh(s, v),
                F::Acos => acos(s, v),
                F::Erf => erf(s, v),
                F::Sigmoid => sigmoid(s, v),
                F::Silu => silu(s, v),
                F::GeluErf => gelu_erf(s, v),
                F::GeluNear => gelu_near(s, v),
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
        F::Exp | F::ExpNear => x.exp(),
        F::Log => x.ln(),
        F::Tanh => x.tanh(),
        F::Acos => x.acos(),
        F::Erf => erf64(x),
        F::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        F::Silu => x / (1.0 + (-x).exp()),
        F::GeluErf | F::GeluNear => {
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

/// The distance of two neighbouring f32 around y, not below that of the smallest.
fn ulp(y: f64) -> f64 {
    let below_max = f32::from_bits(f32::MAX.to_bits() - 1);
    let y = (y.abs() as f32).clamp(f32::MIN_POSITIVE, below_max);
    f64::from(f32::from_bits(y.to_bits() + 1)) - f64::from(y)
}

/// Steps through all bit patterns: a prime, so that all mantissas come by.
const STEP: usize = 3989;

/// Finite numbers from all binades, as many from each, and both ends of every one.
fn sweep() -> Vec<f32> {
    let powers = (0..=254u32).flat_map(|e| [e << 23, (e << 23) | 0x7f_ffff]);
    let sizes = (0..0x7f80_0000u32).step_by(STEP).chain(powers);
    sizes.flat_map(|bits| [f32::from_bits(bits), -f32::from_bits(bits)]).collect()
}

/// The largest error in ulp, and where. Results that are smaller than `least` may be 0.
fn worst(ys: &[f32], xs: &[f32], exact: &[f64], least: f64) -> (f64, f32) {
    let mut all = (0.0, 0.0);
    for ((&y, &x), &exact) in ys.iter().zip(xs).zip(exact) {
        let overflows = exact.abs() > f64::from(f32::MAX) && y.is_infinite();
        let vanishes = exact.abs() < least && y == 0.0;
        let error = if overflows || vanishes { 0.0 } else { (f64::from(y) - exact).abs() / ulp(exact) };
        if error > all.0 || error.is_nan() {
            all = (error, x);
        }
    }
    all
}

/// docs/numerics.md has what this prints.
#[test]
fn within_two_ulp_of_f64_over_all_bit_patterns() {
    let tiny = (-119f64).exp2();
    let cases: [(F, f64); 10] = [
        (F::Exp, 0.0),
        (F::Log, 0.0),
        (F::Tanh, 0.0),
        (F::Acos, 0.0),
        (F::Erf, 0.0),
        (F::Sigmoid, f64::from(f32::MIN_POSITIVE)),
        (F::Silu, tiny),
        (F::GeluErf, 0.0),
        (F::GeluTanh, tiny),
        (F::GeluQuick, tiny),
    ];
    let all = sweep();
    for (f, least) in cases {
        let defined = |x: &f32| match f {
            F::Log => *x > 0.0,
            F::Acos => x.abs() <= 1.0,
            _ => true,
        };
        let xs: Vec<f32> = all.iter().copied().filter(defined).collect();
        let exact: Vec<f64> = xs.iter().map(|x| oracle(f, *x)).collect();
        for isa in Isa::available() {
            let (error, at) = worst(&apply(isa, f, &xs), &xs, &exact, least);
            println!("{isa:?} {f:?}: {error:.3} ulp at {at:e}");
            assert!(error <= 2.0, "{isa:?} {f:?}: {error} ulp at {at:e}");
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
        (F::Acos, 1.0, 0.0),
        (F::Acos, -1.0, std::f32::consts::PI),
        (F::Acos, 1.000_000_1, f32::NAN),
        (F::Acos, -inf, f32::NAN),
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
    let all = [
        F::Exp,
        F::Log,
        F::Tanh,
        F::Acos,
        F::Erf,
        F::Sigmoid,
        F::Silu,
        F::GeluErf,
        F::GeluNear,
        F::GeluTanh,
        F::GeluQuick,
    ];
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

#[test]
fn gelu_of_fewer_bits_is_near() {
    let mut xs: Vec<f32> = (-12_000..12_000).map(|i| i as f32 * 1e-3).collect();
    xs.extend([-1e30, -1e4, -30.0, 30.0, 1e4, 1e30]);
    let wanted: Vec<f64> = xs.iter().map(|&x| oracle(F::GeluNear, x)).collect();
    for isa in Isa::available() {
        for ((&x, &y), &want) in xs.iter().zip(&apply(isa, F::GeluNear, &xs)).zip(&wanted) {
            let error = (f64::from(y) - want).abs();
            assert!(error <= 3e-5 + 1.2e-7 * f64::from(x.max(0.0)), "{isa:?}: {x} gives {y}, not {want}");
        }
        let ends = apply(isa, F::GeluNear, &[f32::INFINITY, f32::NEG_INFINITY]);
        assert!(ends[0] == f32::INFINITY && ends[1].abs() < 3e-5, "{isa:?}: {ends:?}");
    }
}

#[test]
fn exp_near_is_within_its_bound_up_to_80() {
    let xs: Vec<f32> = sweep().into_iter().filter(|&x| x <= 80.0).collect();
    for isa in Isa::available() {
        for (&x, &y) in xs.iter().zip(&apply(isa, F::ExpNear, &xs)) {
            let want = oracle(F::ExpNear, x);
            let error = (f64::from(y) - want).abs();
            // Denormals are as far apart as the smallest.
            assert!(error <= 1e-4 * want + 1e-45, "{isa:?}: {x} gives {y}, not {want}");
        }
        let ends = apply(isa, F::ExpNear, &[f32::NEG_INFINITY, f32::MIN, -105.0, f32::NAN]);
        assert!(ends[..3].iter().all(|&y| y == 0.0) && ends[3].is_nan(), "{isa:?}: {ends:?}");
    }
}
