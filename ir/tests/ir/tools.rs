//! What the tests share: evaluating one op, comparing numbers. No test belongs here.

use frit_ir::op::Infer;
use frit_ir::random::Stream;
use frit_ir::{Bindings, DType, Op, Tensor, TensorType, interp};

/// A float tensor.
pub fn t(shape: &[usize], v: &[f64]) -> Tensor {
    Tensor::from_f64(DType::F32, shape, v).unwrap()
}

/// An i64 tensor.
pub fn i(shape: &[usize], v: &[i64]) -> Tensor {
    Tensor::from_i64(DType::I64, shape, v).unwrap()
}

/// 0, 1, 2, ... as floats.
pub fn count(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    t(shape, &(0..n).map(|x| x as f64).collect::<Vec<_>>())
}

/// Random floats in double precision, so that formulas can be compared closely.
pub fn random(shape: &[usize], seed: u64) -> Tensor {
    Stream::new(seed).tensor(DType::F64, shape).unwrap()
}

/// Evaluates one op, expanded when composite, or gives its refusal as text.
pub fn try_eval(op: impl Into<Op>, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, String> {
    let op = op.into();
    let types: Vec<Option<TensorType>> =
        inputs.iter().map(|x| x.map(|x| TensorType::new(x.dtype(), x.shape().iter().copied()))).collect();
    let types: Vec<Option<&TensorType>> = types.iter().map(Option::as_ref).collect();
    let outputs = op.infer(&Infer { op: op.name(), inputs: &types }).map_err(|e| e.to_string())?;
    let refs: Vec<&TensorType> = outputs.iter().collect();
    let values = interp::evaluate(&op, inputs, &refs, &Bindings::new(), "test").map_err(|e| e.to_string())?;
    for (value, ty) in values.iter().zip(&outputs) {
        assert_eq!(
            (value.dtype(), Some(value.shape().to_vec())),
            (ty.dtype, ty.fixed_shape()),
            "{} gives another type than it infers",
            op.name()
        );
    }
    assert_eq!(values.len(), outputs.len());
    Ok(values)
}

/// The first result of an op on present operands.
pub fn eval(op: impl Into<Op>, inputs: &[&Tensor]) -> Tensor {
    let inputs: Vec<Option<&Tensor>> = inputs.iter().copied().map(Some).collect();
    try_eval(op, &inputs).unwrap().remove(0)
}

/// The refusal of an op on present operands.
pub fn refusal(op: impl Into<Op>, inputs: &[&Tensor]) -> String {
    let inputs: Vec<Option<&Tensor>> = inputs.iter().copied().map(Some).collect();
    try_eval(op, &inputs).unwrap_err()
}

/// Asserts that numbers agree to 1e-12 of their largest.
pub fn close(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(1.0f64, |m, x| m.max(x.abs()));
    for (n, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= 1e-12 * scale, "element {n}: {g} instead of {w}");
    }
}
