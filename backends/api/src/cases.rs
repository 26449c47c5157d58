//! The cases of the conformance suite: for every name of the op table, ops with odd shapes, broadcasts, axes and
//! dtypes. What a result must be is not written here; the interpreter says it.

pub mod chains;
mod places;
mod recurrent;

use crate::conformance::Case;
use frit_ir::op::{self, Activation, BinaryFn, Domain, GeluForm, PadMode, ReduceFn, UnaryFn};
use frit_ir::random::Stream;
use frit_ir::{DType, Dim, Op, RoundMode, Tensor, TensorError};

/// Floats that ops are tried with.
const FLOATS: [DType; 3] = [DType::F32, DType::F64, DType::F16];
/// Numbers that ops are tried with.
const NUMBERS: [DType; 6] = [DType::F32, DType::I64, DType::I32, DType::F64, DType::U8, DType::BF16];
/// Integers that ops of bits are tried with.
const INTEGERS: [DType; 4] = [DType::I64, DType::I32, DType::U8, DType::U64];
/// Every size of element, for ops that only move them.
const SIZES: [DType; 5] = [DType::F32, DType::I64, DType::Bool, DType::F16, DType::I32];

/// Ops without a case, as their results are tensors of their own ([`Op::is_dynamic`]) and no backend is asked for a
/// kernel. Their tests stand beside them and in the runtime.
pub const DYNAMIC: [&str; 6] = ["SymbolOf", "NonZero", "Unique", "NonMaxSuppression", "If", "Loop"];

/// Collects cases with data from one stream.
struct Cases {
    stream: Stream,
    all: Vec<Case>,
}

/// An operand to be: left out, an activation, a weight, or given data.
enum Operand<'a> {
    Absent,
    Of(DType, &'a [usize]),
    Weight(DType, &'a [usize]),
    Given(Tensor),
}
use Operand::{Absent, Given, Of, Weight};

type Result<T> = std::result::Result<T, TensorError>;

impl Cases {
    fn add(&mut self, op: impl Into<Op>, operands: Vec<Operand<'_>>) -> Result<()> {
        let op = op.into();
        let (mut inputs, mut constant, mut shapes) = (Vec::new(), Vec::new(), Vec::new());
        for operand in operands {
            let tensor = match &operand {
                Absent => None,
                Of(dtype, shape) | Weight(dtype, shape) => Some(self.stream.tensor(*dtype, shape)?),
                Given(t) => Some(t.clone()),
            };
            shapes.push(tensor.as_ref().map_or("-".to_owned(), |t| format!("{}{:?}", t.dtype(), t.shape())));
            constant.push(matches!(operand, Weight(..)));
            inputs.push(tensor);
        }
        let attrs: Vec<String> = op.attrs().iter().map(|(n, v)| format!("{n}={v}")).collect();
        let name = format!("{} ({}) of {}", op.name(), attrs.join(" "), shapes.join(", "));
        self.all.push(Case { name, op, inputs, constant });
        Ok(())
    }

    /// Random floats in lo..hi.
    fn within(&mut self, dtype: DType, shape: &[usize], lo: f64, hi: f64) -> Result<Tensor> {
        let n: usize = shape.iter().product();
        let v: Vec<f64> = (0..n).map(|_| lo + (hi - lo) * self.stream.unit()).collect();
        Tensor::from_f64(dtype, shape, &v)
    }

    /// Random whole numbers in lo..hi.
    fn whole(&mut self, dtype: DType, shape: &[usize], lo: i64, hi: i64) -> Result<Tensor> {
        let n: usize = shape.iter().product();
        let span = usize::try_from(hi - lo).unwrap_or(1);
        let v: Vec<i64> = (0..n).map(|_| lo + i64::try_from(self.stream.below(span)).unwrap_or(0)).collect();
        Tensor::from_i64(dtype, shape, &v)
    }
}

fn dims(v: &[i64]) -> Vec<Dim> {
    v.iter().map(|&n| Dim::constant(n)).collect()
}

/// Every case, the same for the same seed.
pub fn all(seed: u64) -> Result<Vec<Case>> {
    let mut c = Cases { stream: Stream::new(seed), all: Vec::new() };
    elementwise(&mut c)?;
    chains::chains(&mut c)?;
    products(&mut c)?;
    convolutions(&mut c)?;
    attention(&mut c)?;
    norms(&mut c)?;
    reductions(&mut c)?;
    movement(&mut c)?;
    generators(&mut c)?;
    losses(&mut c)?;
    places::indexed(&mut c)?;
    places::images(&mut c)?;
    recurrent::layers(&mut c)?;
    Ok(c.all)
}

fn elementwise(c: &mut Cases) -> Result<()> {
    for &function in UnaryFn::ALL {
        let dtypes: &[DType] = match function.domain() {
            Domain::Bool => &[DType::Bool],
            Domain::Float | Domain::Test => &FLOATS,
            Domain::Int | Domain::Unsigned => &INTEGERS,
            _ => &NUMBERS,
        };
        for &dtype in dtypes {
            for shape in [&[][..], &[1], &[7, 19], &[3, 1, 300], &[0, 4]] {
                let unsigned = matches!(dtype, DType::U8 | DType::U64);
                if unsigned && matches!(function, UnaryFn::Neg | UnaryFn::Abs) {
                    continue;
                }
                let x = match function {
                    UnaryFn::Log | UnaryFn::Sqrt | UnaryFn::Reciprocal => {
                        c.within(dtype, shape, 0.01, 9.0)?
                    }
                    UnaryFn::Not => c.stream.tensor(dtype, shape)?,
                    UnaryFn::Acosh => c.within(dtype, shape, 1.1, 9.0)?,
                    _ if dtype.is_float() => c.within(dtype, shape, -0.95, 0.95)?,
                    _ if unsigned => c.whole(dtype, shape, 0, 9)?,
                    _ => c.whole(dtype, shape, -9, 9)?,
                };
                c.add(op::Unary { function }, vec![Given(x)])?;
            }
        }
        if function.domain() == Domain::Test {
            let x = Tensor::from_slice(&[5], &[0.0f32, f32::NAN, 1.0, f32::INFINITY, -f32::NAN])?;
            c.add(op::Unary { function }, vec![Given(x)])?;
        }
    }
    // Same shape, scalars on either side, rows, columns, both ways at once, nothing.
    let pairs: [(&[usize], &[usize]); 8] = [
        (&[5, 67], &[5, 67]),
        (&[3, 40], &[]),
        (&[1], &[2, 9]),
        (&[2, 3, 33], &[33]),
        (&[2, 3, 33], &[2, 1, 1]),
        (&[3, 1], &[1, 17]),
        (&[2, 5, 3], &[5, 1]),
        (&[2, 0], &[1]),
    ];
    for &function in BinaryFn::ALL {
        let dtypes: &[DType] = match function.domain() {
            Domain::Bool => &[DType::Bool],
            Domain::Equality => &[DType::F32, DType::I64, DType::Bool, DType::F64],
            Domain::Int => &INTEGERS,
            Domain::Unsigned => &[DType::U8, DType::U16, DType::U32, DType::U64],
            _ => &NUMBERS,
        };
        for &dtype in dtypes {
            for (a, b) in pairs {
                let (x, y) = if dtype == DType::Bool {
                    (c.stream.tensor(dtype, a)?, c.stream.tensor(dtype, b)?)
                } else if dtype.is_float() && !matches!(function.domain(), Domain::Compare | Domain::Equality)
                {
                    let positive = matches!(function, BinaryFn::Pow | BinaryFn::Mod | BinaryFn::Div);
                    let lo = if positive { 0.3 } else { -1.0 };
                    (c.within(dtype, a, lo, 1.7)?, c.within(dtype, b, lo, 1.7)?)
                } else {
                    // Whole numbers, so that comparisons meet equals; no zero to divide by.
                    let positive = matches!(function, BinaryFn::Pow | BinaryFn::Mod | BinaryFn::Div);
                    (c.whole(dtype, a, 1, 7)?, c.whole(dtype, b, if positive { 1 } else { 0 }, 5)?)
                };
                c.add(op::Binary { function }, vec![Given(x), Given(y)])?;
            }
        }
    }
    for dtype in SIZES {
        for (s, x, y) in [
            (&[4, 70][..], &[4, 70][..], &[4, 70][..]),
            (&[4, 1], &[9], &[]),
            (&[1, 1, 5, 5], &[2, 3, 5, 5], &[1]),
        ] {
            c.add(op::Where {}, vec![Of(DType::Bool, s), Of(dtype, x), Of(dtype, y)])?;
        }
    }
    for from in DType::ALL {
        for to in DType::ALL {
            let x = if from == DType::Bool {
                c.stream.tensor(from, &[300])?
            } else {
                c.whole(from, &[300], 0, 90)?
            };
            c.add(op::Cast::to(to), vec![Given(x)])?;
        }
    }
    for to in DType::ALL.into_iter().filter(|d| d.is_narrow()) {
        let x = c.within(DType::F32, &[400], -600.0, 600.0)?;
        for round_mode in RoundMode::ALL.iter().copied() {
            c.add(op::Cast { to, saturate: false, round_mode }, vec![Given(x.clone())])?;
        }
    }
    for (from, to) in [
        (DType::F32, DType::I32),
        (DType::I64, DType::F64),
        (DType::Bool, DType::U8),
        (DType::F16, DType::BF16),
        (DType::I4, DType::U4),
        (DType::U4, DType::I4),
    ] {
        c.add(op::BitCast { to }, vec![Of(from, &[5, 7])])?;
    }
    let x = Tensor::from_slice(&[6], &[1.9f32, -1.9, 3e9, -3e9, 0.5, -0.5])?;
    for to in [DType::I32, DType::I64, DType::Bool] {
        c.add(op::Cast::to(to), vec![Given(x.clone())])?;
    }
    for shape in [&[9][..], &[4, 101]] {
        for dtype in FLOATS {
            let x = c.within(dtype, shape, -6.0, 6.0)?;
            let one = || vec![Given(x.clone())];
            for (min, max) in [(Some(-1.0), Some(2.0)), (None, Some(0.5)), (Some(0.0), None), (None, None)] {
                c.add(op::Clip { min, max }, one())?;
            }
            c.add(op::LeakyRelu { alpha: 0.125 }, one())?;
            c.add(op::Elu { alpha: 1.5 }, one())?;
            c.add(op::HardSigmoid { alpha: 0.25, beta: 0.5 }, one())?;
            for approximate in [GeluForm::None, GeluForm::Tanh] {
                c.add(op::Gelu { approximate }, one())?;
            }
            for alpha in [1.0, 1.702, 0.5] {
                c.add(op::Swish { alpha }, one())?;
            }
            c.add(op::HardSwish {}, one())?;
        }
    }
    Ok(())
}

fn products(c: &mut Cases) -> Result<()> {
    let f = DType::F32;
    let shapes: [(&[usize], &[usize]); 13] = [
        (&[5, 7], &[7, 9]),
        (&[1, 64], &[64, 48]),
        (&[4, 33, 64], &[64, 100]),
        (&[2, 3, 17, 31], &[31, 5]),
        (&[2, 3, 17, 31], &[2, 3, 31, 5]),
        (&[3, 17, 31], &[2, 1, 31, 5]),
        (&[2, 1, 4, 8], &[5, 8, 3]),
        (&[7], &[7]),
        (&[7], &[7, 3]),
        (&[3, 7], &[7]),
        (&[2, 4, 7], &[7]),
        (&[7], &[2, 7, 3]),
        (&[3, 1], &[1, 4]),
    ];
    for (a, b) in shapes {
        for dtype in [f, DType::I64, DType::F64] {
            c.add(op::MatMul {}, vec![Of(dtype, a), Of(dtype, b)])?;
        }
        c.add(op::MatMul {}, vec![Of(f, a), Weight(f, b)])?;
    }
    let plain = op::FusedMatMul::plain();
    for &activation in Activation::ALL {
        for alpha in [1.0, 0.125] {
            let op = op::FusedMatMul { alpha, activation, ..plain.clone() };
            let y = [3usize, 11, 40];
            c.add(op.clone(), vec![Of(f, &[3, 11, 24]), Weight(f, &[24, 40]), Weight(f, &[40]), Of(f, &y)])?;
            c.add(op.clone(), vec![Of(f, &[3, 11, 24]), Of(f, &[3, 24, 40]), Of(f, &[40]), Of(f, &y)])?;
            c.add(op, vec![Of(f, &[1, 24]), Weight(f, &[24, 40])])?;
        }
    }
    for (trans_a, trans_b) in [(true, false), (false, true), (true, true)] {
        let op = op::FusedMatMul { trans_a, trans_b, ..plain.clone() };
        let a: &[usize] = if trans_a { &[19, 6] } else { &[6, 19] };
        let b: &[usize] = if trans_b { &[35, 19] } else { &[19, 35] };
        let (a3, b3) = ([2, a[0], a[1]], [2, b[0], b[1]]);
        c.add(op.clone(), vec![Of(f, a), Weight(f, b), Weight(f, &[35])])?;
        c.add(op.clone(), vec![Of(f, &a3), Weight(f, b), Weight(f, &[35])])?;
        c.add(op.clone(), vec![Of(f, &a3), Of(f, b), Absent, Of(f, &[2, 6, 35])])?;
        c.add(op, vec![Of(f, &a3), Of(f, &b3), Of(f, &[35]), Of(f, &[2, 6, 35])])?;
    }
    // Biases and residuals that broadcast in every way.
    for bias in [&[][..], &[1], &[6, 1], &[6, 35], &[2, 1, 35], &[2, 6, 35]] {
        let op = op::FusedMatMul { activation: Activation::Relu, ..plain.clone() };
        c.add(op.clone(), vec![Of(f, &[2, 6, 19]), Weight(f, &[19, 35]), Of(f, bias), Of(f, &[35])])?;
        c.add(op, vec![Of(f, &[2, 6, 19]), Of(f, &[2, 19, 35]), Of(f, &[35]), Of(f, bias)])?;
    }
    Ok(())
}

fn convolutions(c: &mut Cases) -> Result<()> {
    let f = DType::F32;
    // x, w, strides, pads, dilations, group
    type Shape<'a> = (&'a [usize], &'a [usize], &'a [i64], &'a [i64], &'a [i64], i64);
    let shapes: [Shape<'_>; 15] = [
        (&[1, 1, 400], &[24, 1, 10], &[5], &[0, 0], &[1], 1),
        (&[2, 24, 79], &[32, 24, 3], &[2], &[0, 0], &[1], 1),
        (&[1, 16, 38], &[16, 16, 2], &[2], &[0, 0], &[1], 1),
        (&[2, 32, 21], &[32, 8, 16], &[1], &[8, 8], &[1], 4),
        (&[1, 12, 33], &[12, 1, 7], &[1], &[3, 3], &[1], 12),
        (&[1, 6, 30], &[4, 6, 3], &[1], &[2, 0], &[2], 1),
        (&[1, 5, 12], &[7, 5, 1], &[1], &[0, 0], &[1], 1),
        (&[2, 3, 32, 32], &[20, 3, 8, 8], &[8, 8], &[0, 0, 0, 0], &[1, 1], 1),
        (&[1, 8, 14, 13], &[9, 8, 3, 3], &[1, 1], &[1, 1, 1, 1], &[1, 1], 1),
        (&[1, 8, 15, 14], &[12, 4, 3, 3], &[2, 2], &[1, 0, 0, 1], &[1, 1], 2),
        (&[2, 10, 17, 16], &[10, 1, 5, 5], &[2, 1], &[2, 2, 2, 2], &[1, 1], 10),
        (&[1, 6, 9, 9], &[12, 1, 3, 3], &[1, 1], &[1, 1, 1, 1], &[1, 1], 6),
        (&[1, 4, 7, 7], &[16, 4, 1, 1], &[1, 1], &[0, 0, 0, 0], &[1, 1], 1),
        (&[1, 3, 16, 16], &[5, 3, 3, 3], &[1, 2], &[2, 2, 2, 2], &[2, 2], 1),
        (&[1, 2, 5, 6, 7], &[3, 2, 2, 3, 2], &[1, 1, 2], &[1, 0, 0, 0, 1, 1], &[1, 1, 1], 1),
    ];
    for (x, w, strides, pads, dilations, group) in shapes {
        let conv =
            op::Conv { strides: strides.to_vec(), pads: pads.to_vec(), dilations: dilations.to_vec(), group };
        let out = [w[0]];
        c.add(conv.clone(), vec![Of(f, x), Weight(f, w), Weight(f, &out)])?;
        c.add(conv.clone(), vec![Of(f, x), Of(f, w)])?;
        c.add(op::FusedConv::new(&conv, Activation::Gelu), vec![Of(f, x), Weight(f, w), Weight(f, &out)])?;
        let tail = op::FusedConv::new(&conv, Activation::HardSwish);
        let tail = op::FusedConv { gain: -0.5, shift: 0.25, ..tail };
        c.add(tail, vec![Of(f, x), Weight(f, w), Weight(f, &out)])?;
        let mut y = vec![x[0], w[0]];
        for i in 0..strides.len() {
            let reach = dilations[i] as usize * (w[i + 2] - 1) + 1;
            let span = x[i + 2] + (pads[i] + pads[strides.len() + i]) as usize - reach;
            y.push(span / strides[i] as usize + 1);
        }
        let relu = op::FusedConv::new(&conv, Activation::Relu);
        c.add(relu, vec![Of(f, x), Weight(f, w), Weight(f, &out), Of(f, &y)])?;
        let transposed = op::ConvTranspose {
            strides: strides.to_vec(),
            pads: vec![0; pads.len()],
            dilations: dilations.to_vec(),
            group: 1,
            output_padding: vec![],
        };
        let mut wt = w.to_vec();
        wt[0] = x[1];
        wt[1] = 3;
        c.add(transposed, vec![Of(f, x), Weight(f, &wt)])?;
    }
    for ceil_mode in [false, true] {
        for (x, kernel, strides, pads, dilations) in [
            (&[2, 3, 17][..], &[3i64][..], &[2i64][..], &[0i64, 0][..], &[1i64][..]),
            (&[1, 2, 9, 11], &[3, 2], &[2, 2], &[1, 0, 1, 1], &[1, 1]),
            (&[1, 2, 12, 12], &[2, 3], &[1, 3], &[0, 0, 0, 0], &[2, 1]),
        ] {
            for dtype in [f, DType::F64] {
                let (kernel, strides) = (kernel.to_vec(), strides.to_vec());
                let (pads, dilations) = (pads.to_vec(), dilations.to_vec());
                let max = op::MaxPool {
                    kernel: kernel.clone(),
                    strides: strides.clone(),
                    pads: pads.clone(),
                    dilations: dilations.clone(),
                    ceil_mode,
                };
                c.add(max, vec![Of(dtype, x)])?;
                for count_include_pad in [false, true] {
                    let average = op::AveragePool {
                        kernel: kernel.clone(),
                        strides: strides.clone(),
                        pads: pads.clone(),
                        dilations: dilations.clone(),
                        ceil_mode,
                        count_include_pad,
                    };
                    c.add(average, vec![Of(dtype, x)])?;
                }
            }
        }
    }
    for count_include_pad in [false, true] {
        let over = op::AveragePool {
            kernel: vec![8, 8],
            strides: vec![8, 8],
            pads: vec![0, 1, 0, 0],
            dilations: vec![1, 1],
            ceil_mode: true,
            count_include_pad,
        };
        c.add(over, vec![Of(f, &[1, 2, 5, 9])])?;
    }
    c.add(op::GlobalAveragePool {}, vec![Of(f, &[2, 5, 7, 9])])?;
    c.add(op::GlobalAveragePool {}, vec![Of(f, &[1, 3, 40])])
}

fn attention(c: &mut Cases) -> Result<()> {
    let f = DType::F32;
    // batch, q heads, kv heads, queries, keys, head size, value size
    for (b, hq, hk, sq, sk, d, dv) in [
        (1usize, 2usize, 2usize, 16usize, 16usize, 32usize, 32usize),
        (2, 3, 3, 9, 9, 16, 16),
        (2, 4, 2, 5, 23, 8, 12),
        (1, 12, 12, 1, 40, 64, 64),
        (1, 2, 1, 3, 140, 24, 24),
        (1, 1, 1, 70, 70, 5, 3),
        (1, 2, 2, 30, 11, 16, 16),
        (2, 1, 1, 3, 2, 8, 8),
    ] {
        let (q3, k3, v3) = ([b, sq, hq * d], [b, sk, hk * d], [b, sk, hk * dv]);
        let (q4, k4, v4) = ([b, hq, sq, d], [b, hk, sk, d], [b, hk, sk, dv]);
        for causal in [false, true] {
            let op = op::Attention {
                q_heads: i64::try_from(hq).unwrap_or(1),
                kv_heads: i64::try_from(hk).unwrap_or(1),
                scale: 1.0 / (d as f64).sqrt(),
                causal,
            };
            c.add(op.clone(), vec![Of(f, &q3), Of(f, &k3), Of(f, &v3)])?;
            c.add(op.clone(), vec![Of(f, &q4), Of(f, &k4), Of(f, &v4)])?;
            c.add(op.clone(), vec![Of(f, &q3), Of(f, &k4), Of(f, &v4)])?;
            for mask in [&[b, hq, sq, sk][..], &[1, hq, sq, sk], &[b, 1, 1, sk], &[sq, sk], &[b, hq, sq, 1]] {
                c.add(op.clone(), vec![Of(f, &q3), Of(f, &k3), Of(f, &v3), Of(f, mask)])?;
                c.add(op.clone(), vec![Of(f, &q4), Of(f, &k4), Of(f, &v4), Of(DType::Bool, mask)])?;
            }
            // Some batch elements see no key at all, by the lowest finite number.
            let mut padding = vec![0.0f32; b * sk];
            padding.iter_mut().take(sk.div_ceil(2)).for_each(|m| *m = f32::MIN);
            let padding = Tensor::from_slice(&[b, 1, 1, sk], &padding)?;
            c.add(op.clone(), vec![Of(f, &q3), Of(f, &k3), Of(f, &v3), Given(padding)])?;
            let nothing = Tensor::from_bools(&[1, 1, 1, sk], &vec![false; sk])?;
            c.add(op, vec![Of(f, &q3), Of(f, &k3), Of(f, &v3), Given(nothing)])?;
        }
    }
    for interleaved in [false, true] {
        let op = op::RotaryEmbedding { interleaved };
        c.add(op.clone(), vec![Of(f, &[2, 3, 7, 8]), Of(f, &[7, 8]), Of(f, &[7, 8])])?;
        c.add(op, vec![Of(f, &[2, 3, 7, 8]), Of(f, &[2, 1, 7, 8]), Of(f, &[2, 1, 7, 8])])?;
    }
    Ok(())
}

fn norms(c: &mut Cases) -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        for shape in [&[7][..], &[3, 64], &[2, 5, 67], &[2, 3, 4, 9], &[2, 3, 1]] {
            let rank = i64::try_from(shape.len()).unwrap_or(0);
            for axis in -rank..0 {
                c.add(op::Softmax { axis }, vec![Of(dtype, shape)])?;
                c.add(op::LogSoftmax { axis }, vec![Of(dtype, shape)])?;
            }
            if shape.last() == Some(&1) {
                continue;
            }
            for axis in -rank..0 {
                let tail = &shape[usize::try_from(rank + axis).unwrap_or(0)..];
                let op = op::LayerNormalization { axis, epsilon: 1e-5 };
                c.add(op.clone(), vec![Of(dtype, shape), Weight(dtype, tail), Weight(dtype, tail)])?;
                c.add(op.clone(), vec![Of(dtype, shape), Weight(dtype, tail)])?;
                c.add(op, vec![Of(dtype, shape), Weight(dtype, &[]), Weight(dtype, tail)])?;
                let op = op::RMSNormalization { axis, epsilon: 1e-6 };
                c.add(op, vec![Of(dtype, shape), Weight(dtype, tail)])?;
            }
            let tail = &shape[shape.len() - 1..];
            let op = op::SkipLayerNormalization { epsilon: 1e-12 };
            let (x, w) = (|| Of(dtype, shape), || Weight(dtype, tail));
            c.add(op.clone(), vec![x(), x(), w(), w()])?;
            c.add(op, vec![x(), x(), w()])?;
        }
        for shape in [&[2, 6, 20][..], &[1, 4, 5, 7], &[3, 8, 33]] {
            let channels = &shape[1..2];
            let w = || Weight(dtype, channels);
            for groups in [1, 2, i64::try_from(shape[1]).unwrap_or(1)] {
                let op = op::GroupNormalization { groups, epsilon: 1e-5 };
                c.add(op, vec![Of(dtype, shape), w(), w()])?;
            }
            c.add(op::InstanceNormalization { epsilon: 1e-5 }, vec![Of(dtype, shape), w(), w()])?;
            for (groups, activation) in
                [(0, Activation::Gelu), (1, Activation::Silu), (2, Activation::Relu), (0, Activation::None)]
            {
                let op = op::FusedGroupNormalization { groups, epsilon: 1e-5, activation };
                c.add(op, vec![Of(dtype, shape), w(), w()])?;
            }
            for activation in [Activation::None, Activation::Gelu, Activation::Silu] {
                let op = op::ChannelNormalization { epsilon: 1e-5, activation };
                c.add(op, vec![Of(dtype, shape), w(), w()])?;
            }
            let variance = c.within(dtype, channels, 0.1, 2.0)?;
            let op = op::BatchNormalization { epsilon: 1e-5 };
            c.add(op, vec![Of(dtype, shape), w(), w(), w(), Given(variance)])?;
        }
    }
    Ok(())
}

fn reductions(c: &mut Cases) -> Result<()> {
    for &function in ReduceFn::ALL {
        use ReduceFn::{L2, LogSum, LogSumExp, Max, Min};
        let dtypes: &[DType] = match function {
            L2 | LogSum | LogSumExp => &FLOATS,
            Max | Min => &[DType::F32, DType::I64, DType::Bool, DType::F64],
            _ => &NUMBERS,
        };
        for &dtype in dtypes {
            for (shape, axes) in [
                (&[300][..], &[][..]),
                (&[4, 37], &[1]),
                (&[37, 4], &[0]),
                (&[3, 5, 70], &[0, 2]),
                (&[3, 5, 70], &[1]),
                (&[2, 3, 4, 5], &[-1, -3]),
                (&[2, 1, 9], &[1]),
                (&[1, 1], &[0]),
            ] {
                for keepdims in [true, false] {
                    let x = match dtype {
                        DType::Bool => c.stream.tensor(dtype, shape)?,
                        d if d.is_float() => c.within(d, shape, 0.5, 1.5)?,
                        d => c.whole(d, shape, 0, 3)?,
                    };
                    c.add(op::Reduce { function, axes: axes.to_vec(), keepdims }, vec![Given(x)])?;
                }
            }
        }
    }
    for dtype in [DType::F32, DType::I64, DType::U8, DType::F64] {
        for (shape, axis) in [(&[50][..], 0), (&[3, 20, 4], 1), (&[3, 20, 4], -1), (&[5, 1], 1)] {
            // Few values, so that there are equals.
            let x = c.whole(dtype, shape, 0, 6)?;
            for keepdims in [true, false] {
                c.add(op::ArgMax { axis, keepdims }, vec![Given(x.clone())])?;
                c.add(op::ArgMin { axis, keepdims }, vec![Given(x.clone())])?;
            }
            for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
                c.add(op::CumSum { axis, exclusive, reverse }, vec![Given(x.clone())])?;
                c.add(op::CumProd { axis, exclusive, reverse }, vec![Given(x.clone())])?;
            }
        }
    }
    let nan = Tensor::from_slice(&[2, 4], &[1.0f32, f32::NAN, 7.0, f32::NAN, 3.0, 3.0, -1.0, -1.0])?;
    c.add(op::ArgMax { axis: 1, keepdims: true }, vec![Given(nan.clone())])?;
    c.add(op::ArgMin { axis: 1, keepdims: true }, vec![Given(nan.clone())])?;
    for function in [ReduceFn::Max, ReduceFn::Min] {
        for axis in [0, 1] {
            c.add(op::Reduce { function, axes: vec![axis], keepdims: false }, vec![Given(nan.clone())])?;
        }
    }
    Ok(())
}

fn movement(c: &mut Cases) -> Result<()> {
    for dtype in SIZES {
        let of = |shape| vec![Of(dtype, shape)];
        c.add(op::Reshape { shape: dims(&[6, 4]), trust: false }, of(&[2, 3, 4]))?;
        for (shape, perm) in [
            (&[40, 33][..], &[1, 0][..]),
            (&[2, 19, 3, 16], &[0, 2, 1, 3]),
            (&[2, 3, 18, 17], &[0, 1, 3, 2]),
            (&[3, 4, 5], &[2, 0, 1]),
            (&[3, 4, 5], &[2, 1, 0]),
            (&[2, 3, 4, 5, 2], &[4, 2, 0, 3, 1]),
            (&[1, 7, 1], &[2, 0, 1]),
            (&[], &[]),
        ] {
            c.add(op::Transpose { perm: perm.to_vec() }, of(shape))?;
        }
        let cut = |axes: &[i64], starts: &[i64], ends: &[i64], steps: &[i64]| op::Slice {
            axes: axes.to_vec(),
            starts: dims(starts),
            ends: dims(ends),
            steps: steps.to_vec(),
        };
        c.add(cut(&[1], &[2], &[9], &[1]), of(&[3, 11, 5]))?;
        c.add(cut(&[-1, 0], &[1, 0], &[6, 2], &[2, 1]), of(&[3, 4, 7]))?;
        c.add(cut(&[1], &[10], &[-1], &[-3]), of(&[3, 11, 5]))?;
        c.add(cut(&[0], &[2], &[2], &[1]), of(&[3, 4]))?;
        for axis in [0, 1, -1] {
            let shapes = [[2, 3, 4], [2, 3, 4], [2, 3, 4]];
            let at = if axis < 0 { 2 } else { usize::try_from(axis).unwrap_or(0) };
            let mut shapes = shapes;
            shapes[1][at] = 7;
            shapes[2][at] = 0;
            let operands = shapes.iter().map(|s| Of(dtype, s)).collect();
            c.add(op::Concat { axis }, operands)?;
            let mut whole = [2, 3, 4];
            whole[at] = 12;
            c.add(op::Split { axis, sizes: dims(&[5, 0, 7]) }, vec![Of(dtype, &whole)])?;
        }
        for (from, to) in [(&[3, 1][..], &[2, 3, 4][..]), (&[], &[5]), (&[4], &[4]), (&[1, 1, 4], &[2, 3, 4])]
        {
            let shape = dims(&to.iter().map(|&d| d as i64).collect::<Vec<_>>());
            c.add(op::Expand { shape, trust: false }, of(from))?;
        }
        c.add(op::Tile { repeats: dims(&[2, 1, 3]) }, of(&[2, 3, 4]))?;
        for mode in [PadMode::Constant, PadMode::Edge, PadMode::Reflect] {
            let value = if mode == PadMode::Constant && dtype != DType::Bool { 7.0 } else { 0.0 };
            let op = op::Pad { before: dims(&[1, 0, 2]), after: dims(&[0, 2, 3]), mode, value };
            c.add(op, of(&[2, 3, 4]))?;
        }
        for index in [DType::I64, DType::I32] {
            for (shape, axis, n) in [(&[9, 5][..], 0, 9), (&[2, 7, 3], 1, 7), (&[2, 7, 3], -1, 3)] {
                for at in [&[4][..], &[2, 3], &[]] {
                    let i = c.whole(index, at, -n, n)?;
                    c.add(op::Gather { axis }, vec![Of(dtype, shape), Given(i)])?;
                }
                let mut at = shape.to_vec();
                let last = at.len() - 1;
                at[if axis < 0 { last } else { usize::try_from(axis).unwrap_or(0) }] = 4;
                let i = c.whole(index, &at, -n, n)?;
                c.add(op::GatherElements { axis }, vec![Of(dtype, shape), Given(i)])?;
            }
        }
    }
    Ok(())
}

fn generators(c: &mut Cases) -> Result<()> {
    for dtype in [DType::I64, DType::I32, DType::F32] {
        for (start, limit, step) in [(0, 9, 1), (3, 20, 4), (9, 0, -2), (5, 5, 1)] {
            let (start, limit) = (Dim::constant(start), Dim::constant(limit));
            c.add(op::Range { start, limit, step, dtype }, vec![])?;
        }
        c.add(op::ConstantOfShape { shape: dims(&[2, 5]), value: 3.0, dtype }, vec![])?;
    }
    let shape = dims(&[3]);
    c.add(op::ConstantOfShape { shape, value: 1.0, dtype: DType::Bool }, vec![])?;
    c.add(op::ShapeOf { dims: dims(&[4, 0, 9]) }, vec![])
}

/// Losses have no kernel on most backends; they are here so that one that gives a kernel is checked.
fn losses(c: &mut Cases) -> Result<()> {
    let labels = c.whole(DType::I64, &[6], 0, 4)?;
    for &reduction in op::Reduction::ALL {
        let op = op::SoftmaxCrossEntropyLoss { ignore_index: 2, reduction };
        c.add(op, vec![Of(DType::F32, &[6, 4]), Given(labels.clone())])?;
        let scores = c.within(DType::F32, &[9, 2, 5], -3.0, 0.0)?;
        let targets = c.whole(DType::I64, &[2, 3], 1, 5)?;
        let lengths = |v: &[i64]| Tensor::from_slice(&[2], v);
        let op = op::CTCLoss { blank: 0, reduction, zero_infinity: true };
        let operands =
            vec![Given(scores), Given(targets), Given(lengths(&[9, 7])?), Given(lengths(&[3, 2])?)];
        c.add(op, operands)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Outcome, check};
    use crate::{ReferenceBackend, Target};
    use std::collections::BTreeSet;

    #[test]
    fn every_name_of_the_op_table_has_cases() {
        let have: BTreeSet<&str> = all(1).unwrap().iter().map(|c| c.op.name()).chain(DYNAMIC).collect();
        let missing: Vec<_> =
            Op::declarations().iter().map(|d| d.name).filter(|n| !have.contains(n)).collect();
        assert!(missing.is_empty(), "no cases for {missing:?}");
    }

    #[test]
    fn the_reference_passes_its_own_cases() {
        // Every seventh: this is about the cases being well formed, which the interpreter checks.
        for case in all(2).unwrap().iter().step_by(7) {
            let outcome = check(&ReferenceBackend, case, Target::Generic, 0.0);
            assert!(matches!(outcome, Outcome::Passed(_)), "{outcome:?}");
        }
    }
}
