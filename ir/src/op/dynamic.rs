//! Ops whose results have sizes known only at run time: they define dimension symbols. A graph's users of a symbol
//! come after the op that defines it. Control flow is in `control.rs`; ops of fixed sizes do not belong here.

use super::elements::strides;
use super::*;
use crate::dim::{Bindings, Dim};
use crate::dtype::DType;
use crate::op_struct;

op_struct! {
    /// Reads one integer into the dimension symbol `name`, and gives it as a scalar. It stands where ONNX takes a
    /// size from a tensor: Reshape's shape, Range's limit, TopK's k.
    pub struct SymbolOf = "SymbolOf" {
        /// The symbol that takes the value.
        pub name: String,
        /// The least value allowed; a smaller one is an error at run time.
        pub min: i64 = 0,
    }
}

impl OpDef for SymbolOf {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("x")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::None
    }
    fn defines(&self) -> Vec<&str> {
        vec![&self.name]
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.ty(0)?;
        if !x.dtype.is_int() || !x.elements()?.is(1) {
            return Err(cx.reject(0, "one integer"));
        }
        Ok(vec![TensorType { dtype: DType::I64, shape: vec![] }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let v = cx.input(0)?.to_i64_vec();
        let &[n] = v.as_slice() else { return Err(cx.bad_data(format!("{} integers, not one", v.len()))) };
        if n < self.min {
            return Err(cx.bad_data(format!("`{}` is {n}, expected at least {}", self.name, self.min)));
        }
        Ok(vec![Tensor::from_i64(DType::I64, &[], &[n])?])
    }
}

op_struct! {
    /// The indices of the elements that are not zero, one column an element, in row-major order. ONNX NonZero-13.
    pub struct NonZero = "NonZero" {
        /// The symbol that takes the number of such elements.
        pub count: String,
    }
}

impl OpDef for NonZero {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("x")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("NonZero", 13)
    }
    fn defines(&self) -> Vec<&str> {
        vec![&self.count]
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let rank = cx.ty(0)?.rank();
        Ok(vec![TensorType { dtype: DType::I64, shape: vec![Dim::from(rank), Dim::symbol(&self.count)] }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = cx.input(0)?;
        let found: Vec<usize> =
            x.to_f64_vec().iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(i, _)| i).collect();
        let steps = strides(x.shape());
        let index = |flat: usize, axis: usize| -> i64 {
            let step = steps.get(axis).copied().unwrap_or(1).max(1);
            let extent = x.shape().get(axis).copied().unwrap_or(1).max(1);
            i64::try_from(flat / step % extent).unwrap_or(i64::MAX)
        };
        let rank = x.shape().len();
        let all: Vec<i64> =
            (0..rank).flat_map(|a| found.iter().map(move |&f| (f, a))).map(|(f, a)| index(f, a)).collect();
        Ok(vec![Tensor::from_i64(DType::I64, &[rank, found.len()], &all)?])
    }
}

impl Op {
    /// True when sizes of the results are known only once they are there, or other graphs are run: such an op gives
    /// tensors of its own rather than writing into planned memory.
    pub fn is_dynamic(&self) -> bool {
        !self.defines().is_empty() || !self.bodies().is_empty()
    }

    /// Checks results against the op's inferred types and binds the symbols that the op defines.
    pub fn bind_results(
        &self,
        types: &[&TensorType],
        results: &[Tensor],
        bindings: &mut Bindings,
    ) -> Result<(), OpError> {
        let bad = |why: String| OpError::Data { op: self.name(), why };
        if types.len() != results.len() {
            return Err(bad(format!("{} results where {} are declared", results.len(), types.len())));
        }
        if let Op::SymbolOf(op) = self {
            let value = results.first().and_then(|t| t.to_i64_vec().first().copied()).unwrap_or(0);
            bindings.set(&op.name, value);
            return Ok(());
        }
        let defined = self.defines();
        for (i, (ty, t)) in types.iter().zip(results).enumerate() {
            let fits =
                |why: &str| bad(format!("result {i} is {}{:?}, declared {ty}: {why}", t.dtype(), t.shape()));
            if ty.dtype != t.dtype() || ty.rank() != t.shape().len() {
                return Err(fits("another element type or rank"));
            }
            for (dim, &extent) in ty.shape.iter().zip(t.shape()) {
                let extent = i64::try_from(extent).unwrap_or(i64::MAX);
                match dim.as_symbol() {
                    Some(s) if defined.contains(&s) && bindings.get(s).is_none() => bindings.set(s, extent),
                    _ => match dim.eval(bindings) {
                        Ok(n) if n == extent => {}
                        Ok(n) => return Err(fits(&format!("`{dim}` is {n}"))),
                        Err(source) => return Err(OpError::Dim { op: self.name(), source }),
                    },
                }
            }
        }
        // A symbol that no result shows (a loop that never ran) is an extent of nothing.
        for s in defined {
            if bindings.get(s).is_none() {
                bindings.set(s, 0);
            }
        }
        Ok(())
    }
}
