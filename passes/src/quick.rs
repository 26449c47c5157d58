//! Direct evaluation of what folding meets on large weights: a factor along one axis. Everything else is the
//! interpreter's.

use frit_ir::Tensor;
use frit_ir::op::{BinaryFn, Op};

/// The product of an f32 tensor and a factor that varies along one of its axes at most; None for anything else.
pub fn evaluate(op: &Op, operands: &[Option<&Tensor>], shapes: &[Vec<usize>]) -> Option<Tensor> {
    let (Op::Binary(binary), [Some(a), Some(b)], [shape]) = (op, operands, shapes) else { return None };
    if binary.function != BinaryFn::Mul {
        return None;
    }
    scaled(a, b, shape).or_else(|| scaled(b, a, shape))
}

fn scaled(x: &Tensor, factor: &Tensor, shape: &[usize]) -> Option<Tensor> {
    if x.shape() != shape || factor.shape().len() > shape.len() {
        return None;
    }
    let (values, factors) = (x.as_slice::<f32>().ok()?, factor.as_slice::<f32>().ok()?);
    let mut wide = factor.shape().iter().enumerate().filter(|(_, n)| **n != 1);
    let axis = wide.next().map(|(i, _)| i + shape.len() - factor.shape().len());
    if wide.next().is_some() {
        return None;
    }
    let inner: usize = axis.map_or(&[][..], |a| shape.get(a + 1..).unwrap_or(&[])).iter().product();
    let mut out = Vec::with_capacity(values.len());
    let runs = values.chunks(inner.max(1));
    for (run, f) in runs.zip(factors.iter().cycle()) {
        out.extend(run.iter().map(|v| v * f));
    }
    Tensor::from_slice(shape, &out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use frit_ir::op::Binary;
    use frit_ir::{Bindings, TensorType, interp, random::Stream};

    #[test]
    fn it_agrees_with_the_interpreter() {
        let mut stream = Stream::new(1);
        let op = Op::from(Binary { function: BinaryFn::Mul });
        for (a, b) in [
            (vec![3, 4], vec![3, 1]),
            (vec![3, 4], vec![4]),
            (vec![1, 4], vec![2, 3, 4]),
            (vec![2, 3, 4], vec![3, 1]),
            (vec![2, 3], vec![]),
            (vec![2, 3], vec![1, 1]),
        ] {
            let shape = if a.len() > b.len() || b.contains(&1) { a.clone() } else { b.clone() };
            let (x, y) = (
                stream.tensor(frit_ir::DType::F32, &a).unwrap(),
                stream.tensor(frit_ir::DType::F32, &b).unwrap(),
            );
            let ty = TensorType::new(frit_ir::DType::F32, shape.iter().copied());
            let operands = [Some(&x), Some(&y)];
            let expected = interp::evaluate(&op, &operands, &[&ty], &Bindings::new(), "").unwrap();
            assert_eq!(evaluate(&op, &operands, &[shape]), Some(expected[0].clone()), "{a:?} {b:?}");
        }
        let x = stream.tensor(frit_ir::DType::F32, &[2, 2]).unwrap();
        assert_eq!(evaluate(&op, &[Some(&x), Some(&x)], &[vec![2, 2]]), None);
    }
}
