//! Tests of dimension arithmetic.

use super::*;

fn c(n: i64) -> Dim {
    Dim::constant(n)
}

#[test]
fn convolution_lengths_print_as_people_write_them() {
    let s = Dim::symbol("samples");
    let out = s.add_const(-10).unwrap().floor_div(&c(5)).unwrap().add_const(1).unwrap();
    assert_eq!(out.to_string(), "(samples - 10) / 5 + 1");
    let mut b = Bindings::new();
    b.set("samples", 1600);
    assert_eq!(out.eval_extent(&b).unwrap(), 319);
    b.set("samples", 3);
    assert!(matches!(out.eval_extent(&b), Err(DimError::Negative { .. }) | Ok(_)));
}

#[test]
fn normal_forms_decide_equality() {
    let (a, b) = (Dim::symbol("a"), Dim::symbol("b"));
    let left = a.add(&b).unwrap().mul(&a.sub(&b).unwrap()).unwrap();
    let right = a.mul(&a).unwrap().sub(&b.mul(&b).unwrap()).unwrap();
    assert_eq!(left, right);
    let x = a.add_const(-10).unwrap().floor_div(&c(5)).unwrap().add_const(1).unwrap();
    let y = a.floor_div(&c(5)).unwrap().add_const(-1).unwrap();
    assert!(x != y && x.same(&y));
    assert_eq!(
        a.mul(&b).unwrap().mul_const(6).unwrap().exact_div(&b.mul_const(2).unwrap()),
        a.mul_const(3).ok()
    );
}

#[test]
fn solving_finds_the_one_unknown() {
    let d = Dim::symbol("past").add(&Dim::symbol("sequence")).unwrap();
    let mut b = Bindings::new();
    b.set("sequence", 3);
    assert_eq!(d.solve(10, &b), Some((Arc::from("past"), 7)));
}

#[test]
fn overflow_is_an_error() {
    let big = c(i64::MAX);
    assert_eq!(big.add_const(1), Err(DimError::Overflow));
    assert_eq!(big.mul(&big), Err(DimError::Overflow));
    assert_eq!(c(i64::MIN).floor_div(&c(-1)), Err(DimError::Overflow));
}

#[test]
fn exact_division_is_that_of_polynomials() {
    let (a, b) = (Dim::symbol("a"), Dim::symbol("b"));
    let sum = a.add(&b).unwrap();
    let half = a.floor_div(&c(2)).unwrap();
    let other = a.mul(&b).unwrap().sub(&half.mul_const(3).unwrap()).unwrap().add_const(-7).unwrap();
    let product = sum.mul(&other).unwrap();
    assert_eq!(product.exact_div(&sum), Some(other.clone()));
    assert_eq!(product.exact_div(&other), Some(sum.clone()));
    assert_eq!(product.add_const(1).unwrap().exact_div(&sum), None);
    assert_eq!(product.exact_div(&c(0)), None);
    assert_eq!(c(0).exact_div(&sum), Some(c(0)));
    assert_eq!(sum.exact_div(&c(2)), None);
    assert_eq!(sum.mul_const(6).unwrap().exact_div(&c(-2)), sum.mul_const(-3).ok());
}
