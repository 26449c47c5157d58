//! Control flow: ops that run other graphs of the module, by name. Who runs those graphs (interpreter, session) is
//! not decided here; the ops say what goes in and what comes out.

use super::*;
use crate::dtype::DType;
use crate::op_struct;

op_struct! {
    /// Runs one of two graphs of the module, on operands of its own: after the condition come those of the one, then
    /// those of the other. Both give as many results, of the types declared. ONNX If-25.
    pub struct If = "If" {
        /// The graph to run when the condition holds.
        pub then_body: String,
        /// The graph to run when it does not.
        pub else_body: String,
        /// How many of the operands after the condition are the first graph's.
        pub then_inputs: i64,
        /// Types of the results.
        pub types: Vec<TensorType>,
        /// Symbols of those types that take their values from the results.
        pub symbols: Vec<String> = vec![],
    }
}

impl If {
    /// The graph that a condition chooses, with the positions of its operands.
    pub fn choose(&self, inputs: usize, holds: bool) -> (&str, std::ops::Range<usize>) {
        let border = usize::try_from(self.then_inputs).unwrap_or(0).saturating_add(1).min(inputs);
        if holds { (&self.then_body, 1..border) } else { (&self.else_body, border..inputs) }
    }
}

/// A condition is one truth value.
fn expect_condition(cx: &Infer<'_>, index: usize) -> Result<(), OpError> {
    let Some(t) = cx.opt(index) else { return Ok(()) };
    if t.dtype == DType::Bool && t.elements()?.is(1) { Ok(()) } else { Err(cx.reject(index, "one bool")) }
}

impl OpDef for If {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("condition"), variadic("inputs")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::None
    }
    fn defines(&self) -> Vec<&str> {
        self.symbols.iter().map(String::as_str).collect()
    }
    fn bodies(&self) -> Vec<&str> {
        vec![&self.then_body, &self.else_body]
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        expect_condition(cx, 0)?;
        if usize::try_from(self.then_inputs).map_or(true, |n| n >= cx.inputs.len()) {
            return Err(cx.bad_attr("then_inputs", format!("{} operands are not there", self.then_inputs)));
        }
        Ok(self.types.clone())
    }
}

op_struct! {
    /// Runs a graph of the module again and again: while the condition it gives holds, at most `trip` times. The
    /// graph takes the iteration (i64 scalar), the condition (bool scalar), the carried values and the captured
    /// ones; it gives the next condition, the carried values and one slice of each stacked result. The results are
    /// the carried values of the last iteration and, along a new first axis, the slices of all. ONNX Loop-25.
    pub struct Loop = "Loop" {
        /// The graph.
        pub body: String,
        /// How many of the values are carried from iteration to iteration; the others are captured.
        pub carried: i64,
        /// Types of the results: the carried values', then the stacked ones'.
        pub types: Vec<TensorType>,
        /// Symbols of those types that take their values from the results.
        pub symbols: Vec<String> = vec![],
    }
}

impl OpDef for Loop {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[optional("trip"), optional("condition"), variadic("values")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::None
    }
    fn defines(&self) -> Vec<&str> {
        self.symbols.iter().map(String::as_str).collect()
    }
    fn bodies(&self) -> Vec<&str> {
        vec![&self.body]
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        if let Some(t) = cx.opt(0)
            && (t.dtype != DType::I64 || !t.elements()?.is(1))
        {
            return Err(cx.reject(0, "one i64"));
        }
        expect_condition(cx, 1)?;
        let carried = usize::try_from(self.carried).ok().filter(|&n| n <= self.types.len());
        let Some(carried) = carried.filter(|n| n.saturating_add(2) <= cx.inputs.len()) else {
            return Err(cx.bad_attr("carried", format!("{} values are not there", self.carried)));
        };
        for (i, ty) in self.types.iter().take(carried).enumerate() {
            let t = cx.ty(i + 2)?;
            if t.dtype != ty.dtype || t.rank() != ty.rank() {
                return Err(cx.reject(i + 2, format!("a start of the carried {ty}")));
            }
        }
        if self.types.iter().skip(carried).any(|t| t.rank() == 0) {
            return Err(cx.bad_attr("types", "a stacked result has at least one axis"));
        }
        Ok(self.types.clone())
    }
}

/// Runs a loop with `body`, which maps the operands of one iteration to its results. Shared by whoever can run graphs.
pub fn run_loop<E: From<OpError>>(
    op: &Loop,
    types: &[&TensorType],
    inputs: &[Option<&Tensor>],
    mut body: impl FnMut(&[Tensor]) -> Result<Vec<Tensor>, E>,
) -> Result<Vec<Tensor>, E> {
    let bad = |why: String| E::from(OpError::Data { op: "Loop", why });
    let trip = match inputs.first().copied().flatten() {
        Some(t) => t.to_i64_vec().first().copied().unwrap_or(0),
        None => i64::MAX,
    };
    let mut go_on = inputs.get(1).copied().flatten().is_none_or(|t| t.bytes().first() != Some(&0));
    let values: Vec<Tensor> = inputs.iter().skip(2).flatten().map(|t| (*t).clone()).collect();
    let count = usize::try_from(op.carried).unwrap_or(0).min(values.len());
    let (start, captured) = values.split_at(count);
    let mut carried = start.to_vec();
    let mut stacks: Vec<Stack> = types.iter().skip(count).map(|t| Stack::new(t)).collect();
    let mut iteration = 0i64;
    while go_on && iteration < trip {
        let mut operands = Vec::with_capacity(values.len() + 2);
        operands
            .push(Tensor::from_i64(DType::I64, &[], &[iteration]).map_err(OpError::from).map_err(E::from)?);
        operands.push(Tensor::from_bools(&[], &[true]).map_err(OpError::from).map_err(E::from)?);
        operands.extend(carried.iter().cloned());
        operands.extend(captured.iter().cloned());
        let mut results = body(&operands)?.into_iter();
        go_on = results.next().is_some_and(|t| t.bytes().first() != Some(&0));
        carried = results.by_ref().take(count).collect();
        if carried.len() != count {
            return Err(bad(format!("the body gives {} of {count} carried values", carried.len())));
        }
        for stack in &mut stacks {
            let slice = results.next().ok_or_else(|| bad("the body gives too few results".into()))?;
            stack.push(&slice).map_err(|e| bad(format!("iteration {iteration}: {e}")))?;
        }
        iteration = iteration.saturating_add(1);
    }
    let mut out = carried;
    for s in stacks {
        out.push(s.finish().map_err(OpError::from).map_err(E::from)?);
    }
    Ok(out)
}

/// Slices of equal shape, collected along a new first axis.
struct Stack {
    dtype: DType,
    shape: Option<Vec<usize>>,
    /// The extents of a slice as far as they are fixed; for when there is none.
    declared: Vec<usize>,
    count: usize,
    bytes: Vec<u8>,
}

impl Stack {
    fn new(ty: &TensorType) -> Self {
        let declared = ty.shape.iter().skip(1).map(|d| d.as_fixed().unwrap_or(0)).collect();
        Stack { dtype: ty.dtype, shape: None, declared, count: 0, bytes: Vec::new() }
    }
    fn push(&mut self, t: &Tensor) -> Result<(), String> {
        let shape = self.shape.get_or_insert_with(|| t.shape().to_vec());
        if t.dtype() != self.dtype || *shape != t.shape() {
            return Err(format!(
                "a slice is {}{:?}, those before {}{shape:?}",
                t.dtype(),
                t.shape(),
                self.dtype
            ));
        }
        self.bytes.try_reserve(t.bytes().len()).map_err(|e| e.to_string())?;
        self.bytes.extend_from_slice(t.bytes());
        self.count += 1;
        Ok(())
    }
    fn finish(self) -> Result<Tensor, crate::tensor::TensorError> {
        let mut shape = vec![self.count];
        shape.extend(self.shape.unwrap_or(self.declared));
        Tensor::from_bytes(self.dtype, &shape, &self.bytes)
    }
}
