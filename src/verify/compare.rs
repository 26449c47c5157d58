//! Whether a value is the expected one, within a tolerance, and where it is not. Nothing is run or read here.

use frit_frontends::onnx::{HostValue, Strings};
use frit_ir::Tensor;
use std::fmt;

/// How far a float may be from the expected one: `|got - expected| <= atol + rtol * |expected|`, as NumPy's allclose
/// and ONNX's own runner have it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Relative to the expected number.
    pub rtol: f64,
    /// On top of it.
    pub atol: f64,
}

/// That of ONNX's runner.
impl Default for Tolerance {
    fn default() -> Self {
        Tolerance { rtol: 1e-3, atol: 1e-7 }
    }
}

impl Tolerance {
    /// NaN is equal to NaN, infinity only to itself.
    fn admits(self, expected: f64, got: f64) -> bool {
        expected == got
            || (expected.is_nan() && got.is_nan())
            || (expected.is_finite() && (got - expected).abs() <= self.atol + self.rtol * expected.abs())
    }
}

/// The first thing that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// Another kind of value, element type, shape or length.
    #[error("`{name}` is {got}, expected {expected}")]
    Type {
        /// Output, with the index in a sequence.
        name: String,
        /// What was expected.
        expected: String,
        /// What is there.
        got: String,
    },
    /// An element.
    #[error("`{name}`{index:?} is {got}, expected {expected}; {wrong} of {all} elements differ")]
    Element {
        /// Output, with the index in a sequence.
        name: String,
        /// Which element is the first that differs.
        index: Vec<usize>,
        /// What was expected.
        expected: String,
        /// What is there.
        got: String,
        /// How many elements differ.
        wrong: usize,
        /// How many there are.
        all: usize,
    },
}

/// Checks a value against the expected one; gives the largest absolute difference of floats.
pub fn compare(
    name: &str,
    expected: &HostValue,
    got: &HostValue,
    tolerance: Tolerance,
) -> Result<f64, Difference> {
    let other =
        || Difference::Type { name: name.to_owned(), expected: expected.to_string(), got: got.to_string() };
    match (expected, got) {
        (HostValue::Tensor(e), HostValue::Tensor(g)) if e.dtype() == g.dtype() && e.shape() == g.shape() => {
            numbers(name, e, g, tolerance)
        }
        (HostValue::Strings(e), HostValue::Strings(g)) if e.shape == g.shape => {
            texts(name, e, g).map(|()| 0.0)
        }
        (HostValue::Sequence(e), HostValue::Sequence(g)) if e.len() == g.len() => {
            e.iter().zip(g).enumerate().try_fold(0.0f64, |worst, (i, (e, g))| {
                Ok(worst.max(compare(&format!("{name}.{i}"), e, g, tolerance)?))
            })
        }
        (HostValue::Optional(None), HostValue::Optional(None)) => Ok(0.0),
        (HostValue::Optional(Some(e)), HostValue::Optional(Some(g))) => compare(name, e, g, tolerance),
        // An optional that is present is its value.
        (HostValue::Optional(Some(e)), got) => compare(name, e, got, tolerance),
        (expected, HostValue::Optional(Some(g))) => compare(name, expected, g, tolerance),
        _ => Err(other()),
    }
}

fn numbers(name: &str, expected: &Tensor, got: &Tensor, tolerance: Tolerance) -> Result<f64, Difference> {
    let exact = expected.dtype() == frit_ir::DType::Bool || expected.dtype().is_int();
    if exact {
        // Not through f64, which does not hold every 64-bit integer.
        let (e, g) = (expected.to_i64_vec(), got.to_i64_vec());
        elements(name, expected.shape(), &e, &g, |e, g| e == g).map(|()| 0.0)
    } else {
        let (e, g) = (expected.to_f64_vec(), got.to_f64_vec());
        elements(name, expected.shape(), &e, &g, |e, g| tolerance.admits(*e, *g))?;
        let far = e.iter().zip(&g).map(|(e, g)| (e - g).abs()).filter(|d| d.is_finite());
        Ok(far.fold(0.0, f64::max))
    }
}

fn texts(name: &str, expected: &Strings, got: &Strings) -> Result<(), Difference> {
    elements(name, &expected.shape, &expected.values, &got.values, |e, g| e == g)
}

fn elements<T: fmt::Debug>(
    name: &str,
    shape: &[usize],
    expected: &[T],
    got: &[T],
    same: impl Fn(&T, &T) -> bool,
) -> Result<(), Difference> {
    let mut wrong = expected.iter().zip(got).enumerate().filter(|(_, (e, g))| !same(e, g));
    match wrong.next() {
        None => Ok(()),
        Some((at, (e, g))) => Err(Difference::Element {
            name: name.to_owned(),
            index: position(at, shape),
            expected: format!("{e:?}"),
            got: format!("{g:?}"),
            wrong: 1 + wrong.count(),
            all: expected.len(),
        }),
    }
}

/// Row-major position of an element.
fn position(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&size| {
            let i = at.checked_rem(size).unwrap_or(0);
            at = at.checked_div(size).unwrap_or(0);
            i
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use frit_ir::DType;

    fn floats(values: &[f32]) -> HostValue {
        Tensor::from_slice(&[values.len()], values).unwrap().into()
    }

    fn check(expected: &HostValue, got: &HostValue) -> Result<f64, Difference> {
        compare("y", expected, got, Tolerance { rtol: 1e-3, atol: 1e-7 })
    }

    #[test]
    fn floats_within_the_tolerance_match() {
        assert!(check(&floats(&[1000.0, 0.0]), &floats(&[1000.9, 1e-8])).is_ok());
        let far = check(&floats(&[1000.0, 0.0]), &floats(&[1001.1, 1e-6])).unwrap_err();
        assert!(
            matches!(far, Difference::Element { wrong: 2, all: 2, ref index, .. } if *index == [0]),
            "{far}"
        );
        assert!((check(&floats(&[1.0]), &floats(&[1.0005])).unwrap() - 0.0005).abs() < 1e-6);
    }

    #[test]
    fn nan_and_infinity_match_themselves_alone() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        for x in [nan, inf, -inf] {
            assert!(check(&floats(&[x]), &floats(&[x])).is_ok());
            for y in [nan, inf, -inf, 1.0, f32::MAX] {
                assert_eq!(
                    check(&floats(&[x]), &floats(&[y])).is_ok(),
                    x.to_bits() == y.to_bits(),
                    "{x} {y}"
                );
                assert_eq!(
                    check(&floats(&[y]), &floats(&[x])).is_ok(),
                    x.to_bits() == y.to_bits(),
                    "{y} {x}"
                );
            }
        }
    }

    #[test]
    fn integers_match_exactly() {
        let ints = |v: i64| HostValue::from(Tensor::from_slice(&[1, 1], &[v]).unwrap());
        assert!(check(&ints(i64::MAX), &ints(i64::MAX)).is_ok());
        let far = check(&ints(i64::MAX), &ints(i64::MAX - 1)).unwrap_err();
        assert!(matches!(far, Difference::Element { ref index, .. } if *index == [0, 0]), "{far}");
        let unsigned = |v: u64| HostValue::from(Tensor::from_slice(&[1], &[v]).unwrap());
        assert!(check(&unsigned(u64::MAX), &unsigned(u64::MAX - 1)).is_err());
    }

    #[test]
    fn types_and_shapes_must_be_the_same() {
        let f32s = floats(&[1.0]);
        let f64s = HostValue::from(Tensor::scalar(DType::F64, 1.0));
        let flat = HostValue::from(Tensor::scalar(DType::F32, 1.0));
        for other in
            [f64s, flat, floats(&[]), HostValue::Sequence(vec![f32s.clone()]), HostValue::Optional(None)]
        {
            assert!(matches!(check(&f32s, &other), Err(Difference::Type { .. })), "{other}");
        }
        assert!(check(&HostValue::Optional(Some(Box::new(f32s.clone()))), &f32s).is_ok());
    }

    #[test]
    fn sequences_and_strings() {
        let list = |x: f32| HostValue::Sequence(vec![floats(&[1.0]), floats(&[x])]);
        assert!(check(&list(2.0), &list(2.0)).is_ok());
        assert!(check(&list(2.0), &list(3.0)).unwrap_err().to_string().contains("`y.1`"));
        let text = |s: &str| HostValue::Strings(Strings { shape: vec![1], values: vec![s.to_owned()] });
        assert!(check(&text("a"), &text("a")).is_ok());
        assert!(check(&text("a"), &text("b")).is_err());
    }
}
