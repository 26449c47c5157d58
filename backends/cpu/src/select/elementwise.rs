//! Elementwise ops: f32 and bool go to chains, the other dtypes to wide numbers.

use super::Cx;
use super::simple::{Fail, Operands, Result, kernel, with_number};
use crate::elementwise::{
    self as ew, Binary, Chain, ChainInput, ChainOutput, Data, Step, Unary, wide::WideOutput,
};
use crate::isa::Isa;
use frit_backend::{Kernel, Run, TensorMut};
use frit_ir::DType;
use frit_ir::op::{self, BinaryFn, GeluForm, UnaryFn};

type Selected = Option<Box<dyn Kernel>>;

fn is_chain(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::Bool)
}

/// The kernel of a chain over the first operands of an op.
fn chain(cx: &Cx<'_>, name: &'static str, chain: Chain, candidates: &'static [usize]) -> Selected {
    let isa = cx.isa;
    let f32_out = cx.output(0)?.dtype == DType::F32;
    let in_place = if f32_out { cx.like_output(candidates) } else { Vec::new() };
    let flops = chain.steps().len() as f64;
    kernel(name, move |run| run_chain(isa, &chain, run)).in_place(in_place).flops(flops).done()
}

fn run_chain(isa: Isa, chain: &Chain, run: &mut Run<'_, '_>) -> Result<()> {
    let operands = run.inputs;
    let aliased = run.aliased;
    let [out, ..] = &mut *run.outputs else { return Err(Fail::Contract("no output".to_owned())) };
    let shape = out.shape;
    let inputs = (0..chain.inputs())
        .map(|i| {
            if aliased == Some(i) {
                return Ok(ChainInput { data: Data::InPlace, shape });
            }
            let t = operands
                .get(i)
                .copied()
                .flatten()
                .ok_or_else(|| Fail::Contract(format!("operand {i} is missing")))?;
            let data =
                if t.dtype == DType::Bool { Data::Bool(t.bytes) } else { Data::F32(t.slice::<f32>()?) };
            Ok(ChainInput { data, shape: t.shape })
        })
        .collect::<Result<Vec<_>>>()?;
    let to = if out.dtype == DType::Bool {
        ChainOutput::Bool(out.bytes)
    } else {
        ChainOutput::F32(out.slice_mut::<f32>()?)
    };
    Ok(chain.run(isa, &inputs, to, shape)?)
}

fn wide_output<'o, T: frit_ir::Element>(out: &'o mut TensorMut<'_>) -> Result<WideOutput<'o, T>> {
    if out.dtype == DType::Bool {
        Ok(WideOutput::Bool(out.bytes))
    } else {
        Ok(WideOutput::Elements(out.slice_mut::<T>()?))
    }
}

fn unary_function(f: UnaryFn) -> Option<Unary> {
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

fn binary_function(f: BinaryFn) -> Option<Binary> {
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

pub(super) fn unary(cx: &Cx<'_>, op: &op::Unary) -> Selected {
    let dtype = cx.input(0)?.dtype;
    if dtype == DType::U64 {
        return None;
    }
    let name = op.function.name();
    let Some(f) = unary_function(op.function) else { return rare(dtype, op.function) };
    if is_chain(dtype) {
        return chain(cx, name, Chain::unary(f), &[0]);
    }
    kernel(name, move |run| {
        let x = run.tensor(0)?;
        let out = run.outputs.first_mut().ok_or_else(|| Fail::Contract("no output".to_owned()))?;
        with_number!(dtype, T => Ok(ew::unary::<T>(f, x.slice()?, wide_output(out)?)?), else Ok(()))
    })
    .done()
}

/// Functions of floats without a kernel of their own.
fn rare(dtype: DType, f: UnaryFn) -> Selected {
    if !dtype.is_float() {
        return None;
    }
    kernel(f.name(), move |run| {
        let x = run.tensor(0)?;
        let out = run.outputs.first_mut().ok_or_else(|| Fail::Contract("no output".to_owned()))?;
        with_number!(dtype, T => Ok(ew::rare::<T>(f, x.slice()?, wide_output(out)?)?), else Ok(()))
    })
    .done()
}

pub(super) fn binary(cx: &Cx<'_>, op: &op::Binary) -> Selected {
    let dtype = cx.input(0)?.dtype;
    let (f, name) = (binary_function(op.function)?, op.function.name());
    // The kernels calculate with i64, which suffices where wrapping around gives the same bits.
    if dtype == DType::U64 && !matches!(f, Binary::Add | Binary::Sub | Binary::Mul | Binary::Equal) {
        return None;
    }
    if is_chain(dtype) {
        if let Some(power) = whole_power(cx).filter(|_| f == Binary::Pow) {
            return chain(cx, name, power, &[0]);
        }
        return chain(cx, name, Chain::binary(f), &[0, 1]);
    }
    kernel(name, move |run| {
        let (x, y) = (run.tensor(0)?, run.tensor(1)?);
        let out = run.outputs.first_mut().ok_or_else(|| Fail::Contract("no output".to_owned()))?;
        let shape = out.shape;
        with_number!(dtype, T => {
            Ok(ew::binary::<T>(f, (x.slice()?, x.shape), (y.slice()?, y.shape), wide_output(out)?, shape)?)
        }, else Ok(()))
    })
    .done()
}

/// The highest power that is multiplied out: the roundings add up to some ulp.
const HIGHEST_POWER: u32 = 16;

/// A power whose exponent is one small whole number, by squaring.
fn whole_power(cx: &Cx<'_>) -> Option<Chain> {
    let exponents = cx.operand(1)?.small?.to_f32_vec();
    let &exponent = exponents.first()?;
    let mut left = (2..=HIGHEST_POWER).find(|&n| n as f32 == exponent)?;
    if exponents.iter().any(|&e| e != exponent) {
        return None;
    }
    let (mut steps, mut square, mut product) = (Vec::new(), 0u8, None);
    let mut times = |x: u8, y: u8| {
        steps.push(Step::Binary(Binary::Mul, x, y));
        u8::try_from(steps.len()).ok()
    };
    loop {
        if left & 1 == 1 {
            product = Some(match product {
                Some(product) => times(product, square)?,
                None => square,
            });
        }
        left >>= 1;
        if left == 0 {
            break;
        }
        square = times(square, square)?;
    }
    Chain::new(1, vec![], steps).ok()
}

pub(super) fn select(cx: &Cx<'_>) -> Selected {
    let dtype = cx.output(0)?.dtype;
    if dtype == DType::F32 {
        let steps = vec![Step::Select(0, 1, 2)];
        return chain(cx, "Where", Chain::new(3, vec![], steps).ok()?, &[1, 2]);
    }
    kernel("Where", move |run| {
        let (c, x, y) = (run.tensor(0)?, run.tensor(1)?, run.tensor(2)?);
        let out = run.outputs.first_mut().ok_or_else(|| Fail::Contract("no output".to_owned()))?;
        let shape = out.shape;
        macro_rules! of {
            ($t:ty) => {{
                let cast =
                    |b| bytemuck::try_cast_slice::<u8, $t>(b).map_err(|e| Fail::Contract(e.to_string()));
                let to = bytemuck::try_cast_slice_mut::<u8, $t>(out.bytes)
                    .map_err(|e| Fail::Contract(e.to_string()))?;
                Ok(ew::select(
                    (c.bytes, c.shape),
                    (cast(x.bytes)?, x.shape),
                    (cast(y.bytes)?, y.shape),
                    to,
                    shape,
                )?)
            }};
        }
        match dtype.size() {
            1 => of!(u8),
            2 => of!(u16),
            4 => of!(u32),
            _ => of!(u64),
        }
    })
    .done()
}

pub(super) fn cast(cx: &Cx<'_>, op: &op::Cast) -> Selected {
    let (from, to, rounding) = (cx.input(0)?.dtype, op.to, op.rounding());
    kernel("Cast", move |run| {
        let x = run.tensor(0)?;
        let out = run.outputs.first_mut().ok_or_else(|| Fail::Contract("no output".to_owned()))?;
        Ok(ew::cast::cast(from, x.bytes, to, rounding, out.bytes)?)
    })
    .done()
}

pub(super) fn bit_cast(op: &op::BitCast) -> Selected {
    if op.to.bits() < 8 {
        return None;
    }
    kernel("BitCast", |run| {
        let x = run.tensor(0)?;
        let out = run.outputs.first_mut().ok_or_else(|| Fail::Contract("no output".to_owned()))?;
        if x.bytes.len() != out.bytes.len() {
            return Err(Fail::Contract("another number of bytes".to_owned()));
        }
        out.bytes.copy_from_slice(x.bytes);
        Ok(())
    })
    .done()
}

/// A chain of one function of an f32 operand.
fn one(cx: &Cx<'_>, name: &'static str, f: Unary) -> Selected {
    cx.f32_input(0)?;
    chain(cx, name, Chain::unary(f), &[0])
}

pub(super) fn clip(cx: &Cx<'_>, op: &op::Clip) -> Selected {
    cx.f32_input(0)?;
    let (mut constants, mut steps) = (Vec::new(), Vec::new());
    let limits = [(op.min, Binary::Max), (op.max, Binary::Min)];
    let count = limits.iter().filter(|(l, _)| l.is_some()).count();
    let mut last = 0u8;
    for (limit, f) in limits {
        if let Some(limit) = limit {
            constants.push(limit as f32);
            steps.push(Step::Binary(f, last, u8::try_from(constants.len()).ok()?));
            last = u8::try_from(count + steps.len()).ok()?;
        }
    }
    if steps.is_empty() {
        // Without limits it is the identity.
        constants.push(0.0);
        steps.push(Step::Binary(Binary::Sub, 0, 1));
    }
    chain(cx, "Clip", Chain::new(1, constants, steps).ok()?, &[0])
}

pub(super) fn leaky_relu(cx: &Cx<'_>, op: &op::LeakyRelu) -> Selected {
    one(cx, "LeakyRelu", Unary::LeakyRelu(op.alpha as f32))
}

pub(super) fn elu(cx: &Cx<'_>, op: &op::Elu) -> Selected {
    one(cx, "Elu", Unary::Elu(op.alpha as f32))
}

pub(super) fn hard_sigmoid(cx: &Cx<'_>, op: &op::HardSigmoid) -> Selected {
    one(cx, "HardSigmoid", Unary::HardSigmoid(op.alpha as f32, op.beta as f32))
}

pub(super) fn gelu(cx: &Cx<'_>, op: &op::Gelu) -> Selected {
    let f = match op.approximate {
        GeluForm::None => Unary::GeluErf,
        GeluForm::Tanh => Unary::GeluTanh,
    };
    one(cx, "Gelu", f)
}

pub(super) fn swish(cx: &Cx<'_>, op: &op::Swish) -> Selected {
    if op.alpha == 1.0 {
        return one(cx, "Swish", Unary::Silu);
    }
    if op.alpha == 1.702 {
        return one(cx, "Swish", Unary::GeluQuick);
    }
    cx.f32_input(0)?;
    let steps = vec![
        Step::Binary(Binary::Mul, 0, 1),
        Step::Unary(Unary::Sigmoid, 2),
        Step::Binary(Binary::Mul, 0, 3),
    ];
    chain(cx, "Swish", Chain::new(1, vec![op.alpha as f32], steps).ok()?, &[0])
}

pub(super) fn hard_swish(cx: &Cx<'_>) -> Selected {
    one(cx, "HardSwish", Unary::HardSwish)
}

pub(super) fn rotary(cx: &Cx<'_>, op: &op::RotaryEmbedding) -> Selected {
    for i in 0..3 {
        cx.f32_input(i)?;
    }
    let (isa, interleaved) = (cx.isa, op.interleaved);
    kernel("RotaryEmbedding", move |run| {
        let (x, cos, sin) = (run.source::<f32>(0)?, run.tensor(1)?, run.tensor(2)?);
        let out = run.outputs.first_mut().ok_or_else(|| Fail::Contract("no output".to_owned()))?;
        let shape = out.shape;
        let (c, s) = ((cos.slice()?, cos.shape), (sin.slice()?, sin.shape));
        Ok(ew::rotary(isa, interleaved, x, c, s, out.slice_mut()?, shape)?)
    })
    .in_place(vec![0])
    .flops(3.0)
    .done()
}
