//! Linear algebra beyond products. Matrix products are in `matmul.rs`.

use super::elements::at;
use super::*;
use crate::op_struct;

op_struct! {
    /// Determinants of the square matrices in the last two axes, by elimination with pivots. ONNX Det-11.
    pub struct Det = "Det" {}
}

impl OpDef for Det {
    fn operands(&self) -> &'static [Operand] {
        const X: &[Operand] = &[one("x")];
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Det", 11)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.expect_float(0)?;
        match x.shape.as_slice() {
            [batch @ .., rows, columns] if rows.same(columns) => {
                Ok(vec![TensorType { dtype: x.dtype, shape: batch.to_vec() }])
            }
            _ => Err(cx.reject(0, "square matrices in the last two axes")),
        }
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = cx.input(0)?;
        let (dtype, shape) = cx.output(0)?;
        let n = x.shape().last().copied().unwrap_or(0);
        let (v, count) = (x.to_f64_vec(), Tensor::zeros(dtype, shape)?.len());
        let out: Vec<f64> = (0..count)
            .map(|m| determinant(v.get(m * n * n..(m + 1) * n * n).unwrap_or(&[]).to_vec(), n))
            .collect();
        Ok(vec![Tensor::from_f64(dtype, shape, &out)?])
    }
}

fn determinant(mut m: Vec<f64>, n: usize) -> f64 {
    let mut product = 1.0;
    for k in 0..n {
        let size = |row: usize| at(&m, row * n + k).abs();
        let pivot = (k..n).fold(k, |best, row| if size(row) > size(best) { row } else { best });
        if size(pivot) == 0.0 {
            return 0.0;
        }
        if pivot != k {
            (0..n).for_each(|c| m.swap(k * n + c, pivot * n + c));
            product = -product;
        }
        let diagonal = at(&m, k * n + k);
        product *= diagonal;
        for row in k + 1..n {
            let f = at(&m, row * n + k) / diagonal;
            for c in k..n {
                let above = at(&m, k * n + c);
                if let Some(x) = m.get_mut(row * n + c) {
                    *x -= f * above;
                }
            }
        }
    }
    product
}
