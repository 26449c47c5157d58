//! Elementwise ops on f32 and truth values, alone and in chains: the steps that compute each. Other dtypes are in
//! `elementwise.rs`.

use super::Cx;
use super::simple::{Fail, Operands, Result, kernel};
use crate::elementwise::{Binary, Chain, ChainInput, ChainOutput, Data, Register, Step, Unary};
use crate::isa::Isa;
use frit_backend::{Kernel, Run};
use frit_ir::op::{self, BinaryFn, GeluForm, UnaryFn};
use frit_ir::{DType, Op, Tensor, TensorType};
use std::borrow::Cow;

/// A value while steps are collected.
#[derive(Clone, Copy)]
struct Value<'a> {
    register: Register,
    dtype: DType,
    /// The numbers, of small constants.
    small: Option<&'a Tensor>,
}

/// Steps being collected.
struct Steps {
    inputs: usize,
    steps: Vec<Step>,
}

impl Steps {
    fn push(&mut self, step: Step) -> Option<Register> {
        self.steps.push(step);
        Register::try_from(self.inputs + self.steps.len() - 1).ok()
    }

    fn constant(&mut self, x: f64) -> Option<Register> {
        self.push(Step::Constant(x as f32))
    }

    /// Adds the steps that compute an op; None for what chains do not compute.
    fn op(&mut self, op: &Op, operands: &[Value<'_>]) -> Option<Register> {
        if !operands.iter().all(|v| matches!(v.dtype, DType::F32 | DType::Bool)) {
            return None;
        }
        let x = operands.first()?;
        let a = x.register;
        match (op, operands) {
            (Op::Unary(op), _) => {
                let f = unary_function(op.function).or(Some(Unary::Other(op.function)))?;
                self.push(Step::Unary(f, a))
            }
            (Op::Binary(op), [_, y]) => {
                if let Some(power) = whole_power(*y).filter(|_| op.function == BinaryFn::Pow) {
                    return self.power(a, power);
                }
                self.push(Step::Binary(binary_function(op.function)?, a, y.register))
            }
            (Op::Where(_), [_, x, y]) => self.push(Step::Select(a, x.register, y.register)),
            (Op::Cast(op), _) => match (x.dtype, op.to) {
                (DType::F32 | DType::Bool, DType::F32) | (DType::Bool, DType::Bool) => Some(a),
                (DType::F32, DType::Bool) => {
                    let no = self.push(Step::Unary(Unary::Not, a))?;
                    self.push(Step::Unary(Unary::Not, no))
                }
                _ => None,
            },
            _ if x.dtype == DType::F32 => self.float(op, a),
            _ => None,
        }
    }

    /// Functions of one f32 operand with attributes.
    fn float(&mut self, op: &Op, a: Register) -> Option<Register> {
        let f = match op {
            Op::Clip(op) => {
                let mut last = a;
                for (limit, f) in [(op.min, Binary::Max), (op.max, Binary::Min)] {
                    if let Some(limit) = limit {
                        let limit = self.constant(limit)?;
                        last = self.push(Step::Binary(f, last, limit))?;
                    }
                }
                return Some(last);
            }
            Op::LeakyRelu(op) => Unary::LeakyRelu(op.alpha as f32),
            Op::Elu(op) => Unary::Elu(op.alpha as f32),
            Op::HardSigmoid(op) => Unary::HardSigmoid(op.alpha as f32, op.beta as f32),
            Op::Gelu(op) => match op.approximate {
                GeluForm::None => Unary::GeluErf,
                GeluForm::Tanh => Unary::GeluTanh,
            },
            Op::Swish(op) if op.alpha == 1.0 => Unary::Silu,
            Op::Swish(op) if op.alpha == 1.702 => Unary::GeluQuick,
            Op::Swish(op) => {
                let alpha = self.constant(op.alpha)?;
                let inner = self.push(Step::Binary(Binary::Mul, a, alpha))?;
                let gate = self.push(Step::Unary(Unary::Sigmoid, inner))?;
                return self.push(Step::Binary(Binary::Mul, a, gate));
            }
            Op::HardSwish(_) => Unary::HardSwish,
            _ => return None,
        };
        self.push(Step::Unary(f, a))
    }

    /// A power by squaring.
    fn power(&mut self, x: Register, exponent: u32) -> Option<Register> {
        let (mut left, mut square, mut product) = (exponent, x, None);
        loop {
            if left & 1 == 1 {
                product = Some(match product {
                    Some(product) => self.push(Step::Binary(Binary::Mul, product, square))?,
                    None => square,
                });
            }
            left >>= 1;
            if left == 0 {
                return product;
            }
            square = self.push(Step::Binary(Binary::Mul, square, square))?;
        }
    }

    /// The chain that gives `result`.
    fn finish(mut self, result: Register) -> Option<Chain> {
        if usize::from(result) + 1 != self.inputs + self.steps.len() || self.steps.is_empty() {
            // An operand as it is: less zero is the identity, of minus zero and NaN too.
            let zero = self.constant(0.0)?;
            self.push(Step::Binary(Binary::Sub, result, zero))?;
        }
        Chain::new(self.inputs, &self.steps).ok()
    }
}

/// The highest power that is multiplied out: the roundings add up to some ulp.
const HIGHEST_POWER: u32 = 16;

/// The exponent that is one small whole number.
fn whole_power(y: Value<'_>) -> Option<u32> {
    let exponents = y.small?.to_f32_vec();
    let &exponent = exponents.first()?;
    let power = (2..=HIGHEST_POWER).find(|&n| n as f32 == exponent)?;
    exponents.iter().all(|&e| e == exponent).then_some(power)
}

/// The operands of a request.
fn values<'a>(cx: &Cx<'a>) -> Option<Vec<Value<'a>>> {
    let value = |(i, o): (usize, &Option<frit_backend::OperandInfo<'a>>)| {
        let o = o.as_ref()?;
        Some(Value { register: Register::try_from(i).ok()?, dtype: o.ty.dtype, small: o.small })
    };
    cx.request.inputs.iter().enumerate().map(value).collect()
}

/// The kernel of one elementwise op on f32 and truth values; None where its operands are others.
pub(super) fn single(cx: &Cx<'_>) -> Option<Box<dyn Kernel>> {
    let operands = values(cx)?;
    let mut steps = Steps { inputs: operands.len(), steps: Vec::new() };
    let result = steps.op(cx.request.op, &operands)?;
    made(cx, cx.request.op.name(), steps.finish(result)?)
}

/// The kernel of a chain of ops.
pub(super) fn chain(cx: &Cx<'_>, op: &op::Chain) -> Option<Box<dyn Kernel>> {
    let mut known = values(cx)?;
    let inputs = known.len();
    let types: Vec<&TensorType> = cx.request.inputs.iter().flatten().map(|o| o.ty).collect();
    let results = op.step_types(&types).ok()?;
    let mut steps = Steps { inputs, steps: Vec::new() };
    for (step, ty) in op.steps.iter().zip(&results) {
        let operands: Vec<Value<'_>> =
            step.operands.iter().map(|&i| known.get(i).copied()).collect::<Option<_>>()?;
        let register = steps.op(&step.op, &operands)?;
        known.push(Value { register, dtype: ty.dtype, small: None });
    }
    let result = known.last()?.register;
    let name = format!("chain of {}", op.steps.len());
    made(cx, name, steps.finish(result)?)
}

fn made(cx: &Cx<'_>, name: impl Into<Cow<'static, str>>, chain: Chain) -> Option<Box<dyn Kernel>> {
    let isa = cx.isa;
    let in_place = match cx.output(0)?.dtype {
        DType::F32 => cx.like_output(0..chain.inputs()),
        DType::Bool => Vec::new(),
        _ => return None,
    };
    let flops = chain.functions() as f64;
    kernel(name, move |run| run_chain(isa, &chain, run)).in_place(in_place).flops(flops).done()
}

fn run_chain(isa: Isa, chain: &Chain, run: &mut Run<'_, '_>) -> Result<()> {
    let aliased = run.aliased;
    let shape = run.outputs.first().map_or(&[][..], |out| out.shape);
    let inputs = (0..chain.inputs())
        .map(|i| {
            if aliased == Some(i) {
                return Ok(ChainInput { data: Data::InPlace, shape });
            }
            let t = run.tensor(i)?;
            let data =
                if t.dtype == DType::Bool { Data::Bool(t.bytes) } else { Data::F32(t.slice::<f32>()?) };
            Ok(ChainInput { data, shape: t.shape })
        })
        .collect::<Result<Vec<_>>>()?;
    let out = run.outputs.first_mut().ok_or_else(|| Fail::Contract("no output".to_owned()))?;
    let to = if out.dtype == DType::Bool {
        ChainOutput::Bool(out.bytes)
    } else {
        ChainOutput::F32(out.slice_mut::<f32>()?)
    };
    Ok(chain.run(isa, &inputs, to, shape)?)
}

pub(super) fn unary_function(f: UnaryFn) -> Option<Unary> {
    Some(match f {
        UnaryFn::Abs => Unary::Abs,
        UnaryFn::Neg => Unary::Neg,
        UnaryFn::Sign => Unary::Sign,
        UnaryFn::Exp => Unary::Exp,
        UnaryFn::Log => Unary::Log,
        UnaryFn::Sqrt => Unary::Sqrt,
        UnaryFn::Reciprocal => Unary::Reciprocal,
        UnaryFn::Erf => Unary::Erf,
        UnaryFn::Tanh => Unary::Tanh,
        UnaryFn::Sigmoid => Unary::Sigmoid,
        UnaryFn::Relu => Unary::Relu,
        UnaryFn::Softplus => Unary::Softplus,
        UnaryFn::Softsign => Unary::Softsign,
        UnaryFn::Sin => Unary::Sin,
        UnaryFn::Cos => Unary::Cos,
        UnaryFn::Acos => Unary::Acos,
        UnaryFn::Floor => Unary::Floor,
        UnaryFn::Ceil => Unary::Ceil,
        UnaryFn::Round => Unary::Round,
        UnaryFn::Not => Unary::Not,
        UnaryFn::IsNaN => Unary::IsNaN,
        _ => return None,
    })
}

pub(super) fn binary_function(f: BinaryFn) -> Option<Binary> {
    Some(match f {
        BinaryFn::Add => Binary::Add,
        BinaryFn::Sub => Binary::Sub,
        BinaryFn::Mul => Binary::Mul,
        BinaryFn::Div => Binary::Div,
        BinaryFn::Pow => Binary::Pow,
        BinaryFn::Min => Binary::Min,
        BinaryFn::Max => Binary::Max,
        BinaryFn::Mod => Binary::Mod,
        BinaryFn::And => Binary::And,
        BinaryFn::Or => Binary::Or,
        BinaryFn::Xor => Binary::Xor,
        BinaryFn::Equal => Binary::Equal,
        BinaryFn::Less => Binary::Less,
        BinaryFn::LessOrEqual => Binary::LessOrEqual,
        BinaryFn::Greater => Binary::Greater,
        BinaryFn::GreaterOrEqual => Binary::GreaterOrEqual,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use crate::select::CpuBackend;
    use frit_backend::{Backend, OperandInfo, Precision, Request, Run, Target, TensorMut, TensorRef, cases};
    use frit_ir::op::Infer;
    use frit_ir::random::Stream;
    use frit_ir::{Bindings, DType, Op, Tensor, TensorType};

    fn compute(op: &Op, operands: &[&Tensor], target: Target) -> Tensor {
        let types: Vec<TensorType> =
            operands.iter().map(|t| TensorType::new(t.dtype(), t.shape().iter().copied())).collect();
        let inputs: Vec<Option<&TensorType>> = types.iter().map(Some).collect();
        let outputs = op.infer(&Infer { op: op.name(), inputs: &inputs }).unwrap();
        let infos: Vec<_> = types
            .iter()
            .map(|ty| Some(OperandInfo { ty, constant: false, streamed: false, small: None }))
            .collect();
        let outs: Vec<&TensorType> = outputs.iter().collect();
        let precision = Precision::Exact;
        let request = Request { op, inputs: &infos, outputs: &outs, target, precision };
        let kernel = CpuBackend.kernel(&request).unwrap();
        let shape = outputs[0].fixed_shape().unwrap();
        let mut out = Tensor::zeros(outputs[0].dtype, &shape).unwrap().bytes().to_vec();
        let refs: Vec<_> = operands
            .iter()
            .map(|t| Some(TensorRef { dtype: t.dtype(), shape: t.shape(), strides: None, bytes: t.bytes() }))
            .collect();
        let mut to = [TensorMut { dtype: outputs[0].dtype, shape: &shape, bytes: &mut out }];
        let (bindings, workspace): (_, &mut [u8]) = (Bindings::new(), &mut []);
        let mut run = Run { inputs: &refs, outputs: &mut to, aliased: None, workspace, bindings: &bindings };
        kernel.run(&mut run).unwrap();
        Tensor::from_bytes(outputs[0].dtype, &shape, &out).unwrap()
    }

    /// Joining ops never changes a number: a chain gives the bits that kernels of its ops give one after another.
    #[test]
    fn a_chain_gives_the_bits_of_its_ops() {
        let mut stream = Stream::new(17);
        for case in 0..200 {
            let (chain, shapes) = cases::chains::random(&mut stream);
            let given: Vec<Tensor> = shapes.iter().map(|s| stream.tensor(DType::F32, s).unwrap()).collect();
            for target in Target::NAMES.map(|(t, _)| t).into_iter().filter(|t| *t <= Target::native()) {
                let whole = compute(&chain.clone().into(), &given.iter().collect::<Vec<_>>(), target);
                let mut values = given.clone();
                for step in &chain.steps {
                    let operands: Vec<&Tensor> = step.operands.iter().map(|&i| &values[i]).collect();
                    values.push(compute(&step.op, &operands, target));
                }
                let last = values.last().unwrap();
                assert_eq!(whole.shape(), last.shape());
                assert!(whole.bytes() == last.bytes(), "case {case} for {target:?}: {chain:?} of {shapes:?}");
            }
        }
    }

    #[test]
    fn other_element_types_are_declined() {
        let (chain, shapes) = cases::chains::random(&mut Stream::new(3));
        let ty = TensorType::new(DType::F64, [2usize]);
        let inputs =
            vec![Some(OperandInfo { ty: &ty, constant: false, streamed: false, small: None }); shapes.len()];
        let op = Op::from(chain);
        let (target, precision) = (Target::native(), Precision::Exact);
        let request = Request { op: &op, inputs: &inputs, outputs: &[&ty], target, precision };
        assert!(CpuBackend.kernel(&request).is_none());
    }
}
