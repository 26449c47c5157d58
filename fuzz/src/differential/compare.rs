//! Are two results the same answer? And was the question one that has a stable answer?

use super::Named;
use super::generate::Case;
use frit_ir::random::Stream;
use frit_ir::{DType, Tensor, interp};

/// What comparing gives.
pub enum Verdict {
    Same,
    Differs(String),
}

/// Of the largest finite element of the expected tensor.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 4e-3,
        DType::BF16 => 3e-2,
        _ => 1e-4,
    }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().filter(|x| x.is_finite()).fold(0.0, |m, x| m.max(x.abs()))
}

/// Integers and bools exactly, floats to a part of the largest. Inputs are of the order of 1, so an absolute 1e-5
/// stands for what cancels.
pub fn agree(expected: &Tensor, got: &Tensor) -> Verdict {
    if (expected.dtype(), expected.shape()) != (got.dtype(), got.shape()) {
        return Verdict::Differs(format!("is {got:?}, expected {expected:?}"));
    }
    if !expected.dtype().is_float() {
        let (a, b) = (expected.to_i64_vec(), got.to_i64_vec());
        return match a.iter().zip(&b).position(|(x, y)| x != y) {
            None => Verdict::Same,
            Some(i) => Verdict::Differs(format!("element {i}: expected {}, got {}", a[i], b[i])),
        };
    }
    let (a, b) = (expected.to_f64_vec(), got.to_f64_vec());
    let allowed = tolerance(expected.dtype()) * largest(&a) + 1e-5;
    let same = |x: f64, y: f64| match (x.is_finite(), y.is_finite()) {
        (true, true) => (x - y).abs() <= allowed,
        _ => (x.is_nan() && y.is_nan()) || x == y || x.abs().max(y.abs()) > 1e30,
    };
    match a.iter().zip(&b).position(|(x, y)| !same(*x, *y)) {
        None => Verdict::Same,
        Some(i) => {
            Verdict::Differs(format!("element {i}: expected {}, got {} (allowed {allowed:e})", a[i], b[i]))
        }
    }
}

/// True when the interpreter's own answer moves visibly, or is no number, where inputs and weights move by a few
/// units in the last place: rounding in another order may then give another answer rightly.
pub fn ill_conditioned(case: &Case, expected: &Named) -> bool {
    let mut stream = Stream::new(7);
    for _ in 0..4 {
        let mut module = case.module.clone();
        let mut inputs = case.inputs.clone();
        for (_, t) in &mut inputs {
            *t = moved(t, &mut stream);
        }
        let ids: Vec<_> = module.weights.iter().map(|(id, _)| id).collect();
        for id in ids {
            if let Some(t) = module.weights.data(id).map(|t| moved(t, &mut stream)) {
                module.weights.set_data(id, t);
            }
        }
        let Ok(other) = interp::run_module(&module, "forward", &inputs) else { return true };
        for ((_, a), (_, b)) in expected.iter().zip(&other) {
            let (x, y) = (a.to_f64_vec(), b.to_f64_vec());
            let visible = 0.1 * tolerance(a.dtype()) * largest(&x) + 1e-6;
            if x.iter().zip(&y).any(|(x, y)| (x - y).abs() > visible || x.is_nan() != y.is_nan()) {
                return true;
            }
        }
    }
    false
}

fn moved(t: &Tensor, stream: &mut Stream) -> Tensor {
    if !t.dtype().is_float() {
        return t.clone();
    }
    let unit = match t.dtype() {
        DType::F16 => 1e-3,
        DType::BF16 => 8e-3,
        _ => 1e-6,
    };
    let v: Vec<f64> = t.to_f64_vec().iter().map(|x| x * (1.0 + unit * (2.0 * stream.unit() - 1.0))).collect();
    Tensor::from_f64(t.dtype(), t.shape(), &v).unwrap_or_else(|_| t.clone())
}
