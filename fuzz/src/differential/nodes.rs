//! One random node of the op table, with operands and attributes that mostly fit. Groups of nodes that passes fuse
//! are in `patterns.rs`.

use super::generate::{Grower, Made};
use frit_ir::op::*;
use frit_ir::{BuildError, DType, Dim, ValueId};

/// The values made, and whether they are free of rounding when the operands are.
pub type Grown = Result<(Vec<ValueId>, bool), BuildError>;

pub(super) fn rounded(v: Result<ValueId, BuildError>) -> Grown {
    Ok((vec![v?], false))
}

const ACTIVATIONS: &[Activation] = Activation::ALL;

pub fn grow(g: &mut Grower<'_, '_>) -> Grown {
    match g.bytes.below(32) {
        0 => unary(g),
        1 | 2 => binary(g),
        3 => where_(g),
        4 => cast(g),
        5 => activation(g),
        6 => matmul(g),
        7 => fused_matmul(g),
        8 | 9 => conv(g),
        10 => conv_transpose(g),
        11 => pool(g),
        12 => softmax(g),
        13 => attention(g),
        14 => rotary(g),
        15 => norm(g),
        16 => channel_norm(g),
        17 => reduce(g),
        18 => arg(g),
        19 | 20 => reshape(g),
        21 => transpose(g),
        22 => gather(g),
        23 => gather_elements(g),
        24 => slice(g),
        25 => concat(g),
        26 => split(g),
        27 => expand(g),
        28 => tile(g),
        29 => pad(g),
        30 => generated(g),
        _ => loss(g),
    }
}

fn unary(g: &mut Grower<'_, '_>) -> Grown {
    let f = g.bytes.pick(UnaryFn::ALL);
    let jumps = matches!(
        f,
        UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round | UnaryFn::Sign | UnaryFn::IsNaN | UnaryFn::IsInf
    );
    let x = match f.domain() {
        Domain::Bool => boolean(g)?,
        Domain::Int | Domain::Unsigned => return Err(g.b.error("integers alone")),
        Domain::Number => g.any(),
        _ => g.float(0..=6)?,
    };
    if jumps && !g.is_exact(x) {
        return Err(g.b.error("jumps"));
    }
    let keeps = jumps || matches!(f, UnaryFn::Abs | UnaryFn::Neg | UnaryFn::Relu | UnaryFn::Not);
    let exact = keeps && g.is_exact(x);
    Ok((vec![g.b.unary(f, x)?], exact))
}

fn boolean(g: &mut Grower<'_, '_>) -> Result<ValueId, BuildError> {
    match g.find(|d, _| d == DType::Bool) {
        Some(v) => Ok(v),
        None => {
            let x = g.any();
            let shape = g.b.shape(x)?;
            let shape = g.smaller(&shape);
            g.fresh(DType::Bool, &shape)
        }
    }
}

fn binary(g: &mut Grower<'_, '_>) -> Grown {
    let f = if g.bytes.flag() {
        g.bytes.pick(&[BinaryFn::Add, BinaryFn::Sub, BinaryFn::Mul, BinaryFn::Div])
    } else {
        g.bytes.pick(BinaryFn::ALL)
    };
    if matches!(f.domain(), Domain::Int | Domain::Unsigned) {
        return Err(g.b.error("integers alone"));
    }
    let x = if f.domain() == Domain::Bool { boolean(g)? } else { g.any() };
    let ty = g.b.ty(x)?;
    let partner = if g.bytes.flag() { g.find(|d, s| d == ty.dtype && s.len() <= 4) } else { None };
    let y = match partner {
        Some(y) => y,
        None => {
            let shape = g.smaller(&ty.shape);
            g.fresh(ty.dtype, &shape)?
        }
    };
    let both = g.is_exact(x) && g.is_exact(y);
    let jumps = matches!(f.domain(), Domain::Compare | Domain::Equality) || f == BinaryFn::Mod;
    if jumps && !both {
        return Err(g.b.error("jumps"));
    }
    let keeps =
        jumps || matches!(f, BinaryFn::Min | BinaryFn::Max | BinaryFn::And | BinaryFn::Or | BinaryFn::Xor);
    let (x, y) = if g.bytes.flag() { (x, y) } else { (y, x) };
    Ok((vec![g.b.binary(f, x, y)?], keeps && both))
}

fn where_(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let ty = g.b.ty(x)?;
    let shape = g.smaller(&ty.shape);
    let c = g.fresh(DType::Bool, &shape)?;
    let shape = g.smaller(&ty.shape);
    let y = g.fresh(ty.dtype, &shape)?;
    let exact = g.is_exact(x);
    Ok((vec![g.b.where_(c, x, y)?], exact))
}

fn cast(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let from = g.b.ty(x)?.dtype;
    let to = g.bytes.pick(&[
        DType::F32,
        DType::F32,
        DType::I64,
        DType::I32,
        DType::Bool,
        DType::F64,
        DType::F16,
        DType::BF16,
        DType::U8,
        DType::I8,
        DType::I16,
        DType::U32,
    ]);
    let exact = g.is_exact(x);
    if from.is_float() && !to.is_float() && !exact {
        return Err(g.b.error("jumps"));
    }
    Ok((vec![g.b.cast(x, to)?], exact))
}

fn activation(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.float(0..=5)?;
    let a = g.bytes.below(9) as f64 / 4.0 - 1.0;
    rounded(match g.bytes.below(7) {
        0 => g.b.op(Clip { min: Some(a - 0.5), max: g.bytes.flag().then_some(a) }, &[x]),
        1 => g.b.op(LeakyRelu { alpha: a }, &[x]),
        2 => g.b.op(Elu { alpha: a }, &[x]),
        3 => g.b.op(HardSigmoid { alpha: a, beta: 0.5 }, &[x]),
        4 => g.b.op(Gelu { approximate: GeluForm::None }, &[x]),
        5 => g.b.op(Gelu { approximate: GeluForm::Tanh }, &[x]),
        _ => g.b.op(Swish { alpha: a }, &[x]),
    })
}

fn last(shape: &[Dim], back: usize) -> Dim {
    shape.len().checked_sub(back + 1).and_then(|i| shape.get(i)).cloned().unwrap_or_else(|| Dim::constant(1))
}

fn matmul(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.float(1..=4)?;
    let shape = g.b.shape(x)?;
    let out = g.extent();
    let mut w = vec![last(&shape, 0), out];
    if shape.len() > 2 && g.bytes.below(3) == 0 {
        let lead = shape[..shape.len() - 2].to_vec();
        let lead = g.smaller(&lead);
        w.splice(0..0, lead);
    }
    if g.bytes.below(8) == 0 {
        w = vec![last(&shape, 0)];
    }
    let w = g.fresh(DType::F32, &w)?;
    rounded(g.b.matmul(x, w))
}

fn fused_matmul(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.float(2..=4)?;
    let shape = g.b.shape(x)?;
    let (trans_a, trans_b) = (g.bytes.below(4) == 0, g.bytes.flag());
    let k = last(&shape, usize::from(trans_a));
    let out = g.extent();
    let w = if trans_b { vec![out.clone(), k] } else { vec![k, out.clone()] };
    let w = g.fresh(DType::F32, &w)?;
    let op = FusedMatMul {
        trans_a,
        trans_b,
        alpha: if g.bytes.flag() { 1.0 } else { 0.5 },
        activation: g.bytes.pick(ACTIVATIONS),
    };
    let bias = if g.bytes.flag() { Some(g.fresh(DType::F32, &[out.clone()])?) } else { None };
    let mut result = shape[..shape.len() - 2].to_vec();
    result.extend([last(&shape, usize::from(!trans_a)), out]);
    let residual = if g.bytes.flag() { Some(g.fresh(DType::F32, &result)?) } else { None };
    rounded(g.b.op_opt(op, &[Some(x), Some(w), bias, residual]))
}

/// Strides, pads and dilations of `n` spatial axes.
pub(super) fn window(g: &mut Grower<'_, '_>, n: usize) -> (Vec<i64>, Vec<i64>, Vec<i64>) {
    let mut numbers = |n: usize, of: &[i64]| (0..n).map(|_| g.bytes.pick(of)).collect::<Vec<i64>>();
    (numbers(n, &[1, 1, 2, 3]), numbers(2 * n, &[0, 0, 1, 2]), numbers(n, &[1, 1, 1, 2]))
}

/// [N, C, spatial..] with a fixed C.
pub(super) fn planes(g: &mut Grower<'_, '_>) -> Result<ValueId, BuildError> {
    let found = g.find(|d, s| d == DType::F32 && (3..=4).contains(&s.len()) && s[1].as_fixed().is_some());
    match found {
        Some(v) => Ok(v),
        None => {
            let mut shape = vec![g.extent(), Dim::constant(1 + g.bytes.below(6) as i64)];
            for _ in 0..1 + g.bytes.below(2) {
                shape.push(g.extent());
            }
            g.fresh(DType::F32, &shape)
        }
    }
}

fn divisor(g: &mut Grower<'_, '_>, n: usize) -> usize {
    let all: Vec<usize> = (1..=n.max(1)).filter(|d| n.is_multiple_of(*d)).collect();
    g.bytes.pick(&all)
}

fn conv(g: &mut Grower<'_, '_>) -> Grown {
    let x = planes(g)?;
    let shape = g.b.shape(x)?;
    let channels = shape[1].as_fixed().unwrap_or(1);
    let group = divisor(g, channels);
    let n = shape.len() - 2;
    let out = group * (1 + g.bytes.below(3));
    let mut w = vec![Dim::from(out), Dim::from(channels / group)];
    for _ in 0..n {
        w.push(Dim::constant(1 + g.bytes.below(4) as i64));
    }
    let w = g.fresh(DType::F32, &w)?;
    let bias = if g.bytes.flag() { Some(g.fresh(DType::F32, &[Dim::from(out)])?) } else { None };
    let (strides, pads, dilations) = window(g, n);
    let plain = Conv { strides, pads, dilations, group: group as i64 };
    if g.bytes.flag() {
        return rounded(g.b.op_opt(plain, &[Some(x), Some(w), bias]));
    }
    let act = g.bytes.pick(ACTIVATIONS);
    let residual = if g.bytes.flag() {
        let result = g.b.op_opt(plain.clone(), &[Some(x), Some(w), bias])?;
        let shape = g.b.shape(result)?;
        Some(g.fresh(DType::F32, &shape)?)
    } else {
        None
    };
    rounded(g.b.op_opt(FusedConv::new(&plain, act), &[Some(x), Some(w), bias, residual]))
}

fn conv_transpose(g: &mut Grower<'_, '_>) -> Grown {
    let x = planes(g)?;
    let shape = g.b.shape(x)?;
    let channels = shape[1].as_fixed().unwrap_or(1);
    let group = divisor(g, channels);
    let n = shape.len() - 2;
    let out = 1 + g.bytes.below(3);
    let mut w = vec![Dim::from(channels), Dim::from(out)];
    for _ in 0..n {
        w.push(Dim::constant(1 + g.bytes.below(4) as i64));
    }
    let w = g.fresh(DType::F32, &w)?;
    let bias = if g.bytes.flag() { Some(g.fresh(DType::F32, &[Dim::from(out * group)])?) } else { None };
    let (strides, pads, dilations) = window(g, n);
    let op = ConvTranspose { strides, pads, dilations, group: group as i64, output_padding: vec![] };
    rounded(g.b.op_opt(op, &[Some(x), Some(w), bias]))
}

fn pool(g: &mut Grower<'_, '_>) -> Grown {
    let x = planes(g)?;
    let n = g.b.rank(x)? - 2;
    let kernel: Vec<i64> = (0..n).map(|_| 1 + g.bytes.below(3) as i64).collect();
    let (strides, pads, dilations) = window(g, n);
    let ceil_mode = g.bytes.flag();
    rounded(match g.bytes.below(3) {
        0 => g.b.op(MaxPool { kernel, strides, pads, dilations, ceil_mode }, &[x]),
        1 => {
            let count_include_pad = g.bytes.flag();
            g.b.op(AveragePool { kernel, strides, pads, dilations, ceil_mode, count_include_pad }, &[x])
        }
        _ => g.b.op(GlobalAveragePool {}, &[x]),
    })
}

pub(super) fn axis(g: &mut Grower<'_, '_>, x: ValueId) -> Result<i64, BuildError> {
    let rank = g.b.rank(x)?;
    let at = g.bytes.below(rank) as i64;
    Ok(if g.bytes.flag() { at } else { at - rank.max(1) as i64 })
}

fn softmax(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.float(1..=5)?;
    let axis = if g.bytes.flag() { -1 } else { axis(g, x)? };
    rounded(if g.bytes.below(4) == 0 { g.b.op(LogSoftmax { axis }, &[x]) } else { g.b.softmax(x, axis) })
}

fn attention(g: &mut Grower<'_, '_>) -> Grown {
    let kv_heads = 1 + g.bytes.below(3) as i64;
    let q_heads = kv_heads * (1 + g.bytes.below(2) as i64);
    let (size, batch) = (1 + g.bytes.below(9) as i64, g.extent());
    let (queries, keys) = (g.extent(), g.extent());
    let q = g.fresh(DType::F32, &[batch.clone(), queries.clone(), Dim::constant(q_heads * size)])?;
    let kv = [batch.clone(), keys.clone(), Dim::constant(kv_heads * size)];
    let (k, v) = (g.fresh(DType::F32, &kv)?, g.fresh(DType::F32, &kv)?);
    let mask = if g.bytes.flag() {
        let full = [batch, Dim::constant(q_heads), queries, keys];
        let shape: Vec<Dim> =
            full.iter().map(|d| if g.bytes.flag() { Dim::constant(1) } else { d.clone() }).collect();
        let dtype = if g.bytes.flag() { DType::F32 } else { DType::Bool };
        Some(g.fresh(dtype, &shape)?)
    } else {
        None
    };
    let causal = g.bytes.flag();
    rounded(
        g.b.op_opt(Attention { q_heads, kv_heads, scale: 0.5, causal }, &[Some(q), Some(k), Some(v), mask]),
    )
}

fn rotary(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.float(1..=4)?;
    let shape = g.b.shape(x)?;
    let angles = g.smaller(&shape);
    let (cos, sin) = (g.fresh(DType::F32, &angles)?, g.fresh(DType::F32, &angles)?);
    let interleaved = g.bytes.flag();
    rounded(g.b.op(RotaryEmbedding { interleaved }, &[x, cos, sin]))
}

fn norm(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.float(1..=4)?;
    let shape = g.b.shape(x)?;
    let axis = if g.bytes.below(3) == 0 { axis(g, x)? } else { -1 };
    let first = usize::try_from(if axis < 0 { axis + shape.len() as i64 } else { axis }).unwrap_or(0);
    let tail = shape[first..].to_vec();
    let epsilon = g.bytes.pick(&[1e-5, 1e-2]);
    let scale = g.fresh(DType::F32, &tail)?;
    let bias = if g.bytes.flag() { Some(g.fresh(DType::F32, &tail)?) } else { None };
    match g.bytes.below(3) {
        0 => rounded(g.b.op_opt(LayerNormalization { axis, epsilon }, &[Some(x), Some(scale), bias])),
        1 => rounded(g.b.op(RMSNormalization { axis, epsilon }, &[x, scale])),
        _ => {
            let residual = g.fresh(DType::F32, &shape)?;
            let made: Made =
                g.b.ops(SkipLayerNormalization { epsilon }, &[Some(x), Some(residual), Some(scale), bias]);
            Ok((made?, false))
        }
    }
}

fn channel_norm(g: &mut Grower<'_, '_>) -> Grown {
    let x = planes(g)?;
    let channels = g.b.shape(x)?[1].clone();
    let one = [channels.clone()];
    let (scale, bias) = (g.fresh(DType::F32, &one)?, g.fresh(DType::F32, &one)?);
    let epsilon = 1e-2;
    rounded(match g.bytes.below(4) {
        0 => {
            let groups = divisor(g, channels.as_fixed().unwrap_or(1)) as i64;
            g.b.op(GroupNormalization { groups, epsilon }, &[x, scale, bias])
        }
        1 if g.bytes.flag() => {
            let fused = FusedGroupNormalization { groups: 0, epsilon, activation: Activation::Silu };
            g.b.op(fused, &[x, scale, bias])
        }
        1 => g.b.op(InstanceNormalization { epsilon }, &[x, scale, bias]),
        2 => {
            let activation = g.bytes.pick(ACTIVATIONS);
            g.b.op(ChannelNormalization { epsilon, activation }, &[x, scale, bias])
        }
        _ => {
            let (mean, variance) = (g.fresh(DType::F32, &one)?, g.positive(DType::F32, &one)?);
            g.b.op(BatchNormalization { epsilon }, &[x, scale, bias, mean, variance])
        }
    })
}

fn reduce(g: &mut Grower<'_, '_>) -> Grown {
    let f = g.bytes.pick(ReduceFn::ALL);
    let x = g.any();
    let rank = g.b.rank(x)?;
    let mask = g.bytes.byte();
    let axes: Vec<i64> = (0..rank)
        .filter(|i| mask >> i & 1 == 1)
        .map(|i| if mask & 0x80 == 0 { i as i64 } else { i as i64 - rank as i64 })
        .collect();
    let exact = matches!(f, ReduceFn::Max | ReduceFn::Min) && g.is_exact(x);
    let keep = g.bytes.flag();
    Ok((vec![g.b.reduce(f, x, &axes, keep)?], exact))
}

fn arg(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let axis = axis(g, x)?;
    let exact = g.is_exact(x);
    match g.bytes.below(3) {
        0 | 1 if !exact => Err(g.b.error("jumps")),
        0 => Ok((vec![g.b.op(ArgMax { axis, keepdims: g.bytes.flag() }, &[x])?], true)),
        1 => Ok((vec![g.b.op(ArgMin { axis, keepdims: g.bytes.flag() }, &[x])?], true)),
        _ => {
            let (exclusive, reverse) = (g.bytes.flag(), g.bytes.flag());
            rounded(g.b.op(CumSum { axis, exclusive, reverse }, &[x]))
        }
    }
}

fn reshape(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let mut shape = g.b.shape(x)?;
    for _ in 0..1 + g.bytes.below(2) {
        let at = g.bytes.below(shape.len() + 1);
        match g.bytes.below(4) {
            0 => shape.insert(at, Dim::constant(1)),
            1 if at + 1 < shape.len() => {
                let next = shape.remove(at + 1);
                shape[at] = shape[at].mul(&next)?;
            }
            2 if at < shape.len() => {
                if let Some(half) = shape[at].exact_div(&Dim::constant(2)) {
                    shape[at] = half;
                    shape.insert(at + usize::from(g.bytes.flag()), Dim::constant(2));
                }
            }
            _ if at < shape.len() && shape[at].is(1) => drop(shape.remove(at)),
            _ => {}
        }
    }
    let exact = g.is_exact(x);
    Ok((vec![g.b.reshape(x, &shape)?], exact))
}

fn transpose(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let rank = g.b.rank(x)?;
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    for _ in 0..1 + g.bytes.below(3) {
        let (i, j) = (g.bytes.below(rank), g.bytes.below(rank));
        if i < rank && j < rank {
            perm.swap(i, j);
        }
    }
    let exact = g.is_exact(x);
    Ok((vec![g.b.transpose(x, &perm)?], exact))
}

fn gather(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let axis = axis(g, x)?;
    let shape = g.b.shape(x)?;
    let at = if axis < 0 { axis + shape.len() as i64 } else { axis };
    let extent = shape.get(at as usize).and_then(|d| g.concrete(std::slice::from_ref(d)));
    let extent = extent.and_then(|e| e.first().copied()).unwrap_or(1);
    let rank = g.bytes.below(3);
    let wanted: Vec<Dim> = (0..rank).map(|_| Dim::constant(g.bytes.below(4) as i64)).collect();
    let wanted = if extent == 0 { vec![Dim::constant(0)] } else { wanted };
    let indices = g.indices(&wanted, extent)?;
    let exact = g.is_exact(x);
    Ok((vec![g.b.gather(x, indices, axis)?], exact))
}

fn gather_elements(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let axis = axis(g, x)?;
    let mut shape = g.b.shape(x)?;
    let at = if axis < 0 { axis + shape.len() as i64 } else { axis } as usize;
    let extent = shape.get(at).and_then(|d| g.concrete(std::slice::from_ref(d)));
    let extent = extent.and_then(|e| e.first().copied()).unwrap_or(1);
    if let Some(d) = shape.get_mut(at) {
        *d = Dim::constant(if extent == 0 { 0 } else { g.bytes.below(5) as i64 });
    }
    let indices = g.indices(&shape, extent)?;
    let exact = g.is_exact(x);
    Ok((vec![g.b.op(GatherElements { axis }, &[x, indices])?], exact))
}

fn slice(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let shape = g.b.shape(x)?;
    let (mut axes, mut starts, mut ends, mut steps) = (vec![], vec![], vec![], vec![]);
    for (i, d) in shape.iter().enumerate() {
        if g.bytes.flag() {
            continue;
        }
        let a = Dim::constant(g.bytes.below(3) as i64);
        let b = d.add_const(-(g.bytes.below(3) as i64))?;
        let step = g.bytes.pick(&[1, 1, 1, 2, 3, -1, -2]);
        axes.push(i as i64);
        if step > 0 {
            starts.push(a);
            ends.push(b);
        } else {
            starts.push(b.add_const(-1)?);
            ends.push(a.add_const(-1)?);
        }
        steps.push(step);
    }
    // The order of an axis' offsets can hang on a symbol's value: then running it is an error everywhere.
    let exact = g.is_exact(x);
    Ok((vec![g.b.op(Slice { axes, starts, ends, steps }, &[x])?], exact))
}

fn concat(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let axis = axis(g, x)?;
    let ty = g.b.ty(x)?;
    let mut parts = vec![x];
    for _ in 0..g.bytes.below(3) {
        let mut shape = ty.shape.clone();
        let at = if axis < 0 { axis + shape.len() as i64 } else { axis } as usize;
        if let Some(d) = shape.get_mut(at) {
            *d = g.known_extent();
        }
        let fits = |d: DType, s: &[Dim]| {
            d == ty.dtype
                && s.len() == shape.len()
                && s.iter().zip(&shape).enumerate().all(|(i, (a, b))| i == at || a == b)
        };
        let found = if g.bytes.flag() { g.find(fits) } else { None };
        parts.push(match found {
            Some(v) => v,
            None => g.fresh(ty.dtype, &shape)?,
        });
    }
    let exact = parts.iter().all(|p| g.is_exact(*p));
    Ok((vec![g.b.concat(&parts, axis)?], exact))
}

fn split(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let axis = axis(g, x)?;
    let shape = g.b.shape(x)?;
    let at = if axis < 0 { axis + shape.len() as i64 } else { axis } as usize;
    let Some(extent) = shape.get(at) else { return Err(g.b.error("a scalar")) };
    let first = Dim::constant(g.bytes.below(3) as i64);
    let sizes = match extent.exact_div(&Dim::constant(2)) {
        Some(half) if g.bytes.flag() => vec![half.clone(), half],
        _ => vec![first.clone(), extent.sub(&first)?],
    };
    let exact = g.is_exact(x);
    Ok((g.b.split(x, axis, &sizes)?, exact))
}

fn expand(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let mut shape: Vec<Dim> = Vec::new();
    for d in g.b.shape(x)? {
        let wide = g.known_extent();
        shape.push(if d.is(1) { wide } else { d });
    }
    for _ in 0..g.bytes.below(2) {
        let d = g.known_extent();
        shape.insert(0, d);
    }
    let exact = g.is_exact(x);
    Ok((vec![g.b.expand(x, &shape)?], exact))
}

fn tile(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let rank = g.b.rank(x)?;
    let repeats = (0..rank).map(|_| Dim::constant(g.bytes.below(3) as i64)).collect();
    let exact = g.is_exact(x);
    Ok((vec![g.b.op(Tile { repeats }, &[x])?], exact))
}

fn pad(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let rank = g.b.rank(x)?;
    let mut pads = || (0..rank).map(|_| Dim::constant(g.bytes.below(3) as i64)).collect::<Vec<_>>();
    let (before, after) = (pads(), pads());
    let mode = g.bytes.pick(PadMode::ALL);
    let exact = g.is_exact(x);
    Ok((vec![g.b.op(Pad { before, after, mode, value: 0.5 }, &[x])?], exact))
}

fn generated(g: &mut Grower<'_, '_>) -> Grown {
    match g.bytes.below(3) {
        0 => {
            let limit = g.known_extent();
            let dtype = g.bytes.pick(&[DType::I64, DType::F32, DType::I32]);
            let start = Dim::constant(g.bytes.below(4) as i64 - 1);
            let step = g.bytes.pick(&[1, 1, 2, -1]);
            Ok((vec![g.b.op(Range { start, limit, step, dtype }, &[])?], true))
        }
        1 => {
            let rank = g.bytes.below(3);
            let shape: Vec<Dim> = (0..rank).map(|_| g.known_extent()).collect();
            Ok((vec![g.b.full(&shape, 0.5, DType::F32)?], true))
        }
        _ => {
            let x = g.any();
            let dims = g.b.shape(x)?;
            Ok((vec![g.b.op(ShapeOf { dims }, &[])?], true))
        }
    }
}

fn loss(g: &mut Grower<'_, '_>) -> Grown {
    let classes = 1 + g.bytes.below(6);
    let n = g.known_extent();
    let scores = g.fresh(DType::F32, &[n.clone(), Dim::from(classes)])?;
    let fixed = Dim::from(g.concrete(&[n]).and_then(|s| s.first().copied()).unwrap_or(0));
    let labels = g.indices(&[fixed], classes)?;
    let reduction = g.bytes.pick(Reduction::ALL);
    rounded(g.b.op(SoftmaxCrossEntropyLoss { ignore_index: -1, reduction }, &[scores, labels]))
}
