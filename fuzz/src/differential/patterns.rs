//! Groups of primitive nodes as exporters write them, which passes fuse: attention, norms, activations, epilogues.

use super::generate::Grower;
use super::nodes::Grown;
use frit_ir::op::*;
use frit_ir::{BuildError, DType, Dim, ValueId};

pub fn grow(g: &mut Grower<'_, '_>) -> Grown {
    let made = match g.bytes.below(8) {
        0 => attention(g),
        1 => layer_norm(g),
        2 => gelu(g),
        3 => gelu_tanh(g),
        4 => linear(g),
        5 => conv_block(g),
        6 => channels_last_norm(g),
        _ => heads(g),
    };
    Ok((vec![made?], false))
}

type Value = Result<ValueId, BuildError>;

/// softmax(q k^T scale + mask) v over [batch, heads, sequence, size].
fn attention(g: &mut Grower<'_, '_>) -> Value {
    let (batch, h, d) =
        (g.extent(), Dim::constant(1 + g.bytes.below(3) as i64), Dim::constant(1 + g.bytes.below(8) as i64));
    let (rows, columns) = (g.extent(), g.extent());
    let q = g.fresh(DType::F32, &[batch.clone(), h.clone(), rows.clone(), d.clone()])?;
    let kv = [batch.clone(), h.clone(), columns.clone(), d];
    let (k, v) = (g.fresh(DType::F32, &kv)?, g.fresh(DType::F32, &kv)?);
    scores(g, q, k, v, &[batch, h, rows, columns])
}

fn scores(g: &mut Grower<'_, '_>, q: ValueId, k: ValueId, v: ValueId, full: &[Dim]) -> Value {
    let (early, late) = (g.bytes.flag(), g.bytes.flag());
    let q = if early { g.b.mul_scalar(q, 0.5)? } else { q };
    let kt = g.b.swap_last(k)?;
    let mut s = g.b.matmul(q, kt)?;
    if late {
        let c = g.b.scalar(DType::F32, 2.0)?;
        s = g.b.div(s, c)?;
    }
    for _ in 0..g.bytes.below(3) {
        let shape = g.smaller(full);
        let mask = g.fresh(DType::F32, &shape)?;
        s = g.b.add(s, mask)?;
    }
    let p = g.b.softmax(s, -1)?;
    let p = if g.bytes.below(4) == 0 {
        let shape = g.smaller(full);
        let head_mask = g.fresh(DType::F32, &shape)?;
        g.b.mul(p, head_mask)?
    } else {
        p
    };
    g.b.matmul(p, v)
}

/// Self-attention of x [batch, sequence, width] with projections, split into heads and merged again.
fn heads(g: &mut Grower<'_, '_>) -> Value {
    let (batch, n) = (g.extent(), g.extent());
    let (h, d) = (1 + g.bytes.below(3) as i64, 1 + g.bytes.below(4) as i64);
    let width = Dim::constant(h * d);
    let x = g.fresh(DType::F32, &[batch.clone(), n.clone(), width.clone()])?;
    let mut parts = Vec::new();
    for _ in 0..3 {
        let w = g.fresh(DType::F32, &[width.clone(), width.clone()])?;
        let bias = if g.bytes.flag() { Some(g.fresh(DType::F32, &[width.clone()])?) } else { None };
        let y = g.b.linear(x, w, bias)?;
        let y = g.b.reshape(y, &[batch.clone(), n.clone(), Dim::constant(h), Dim::constant(d)])?;
        parts.push(g.b.transpose(y, &[0, 2, 1, 3])?);
    }
    let full = [batch.clone(), Dim::constant(h), n.clone(), n.clone()];
    let y = scores(g, parts[0], parts[1], parts[2], &full)?;
    let y = g.b.transpose(y, &[0, 2, 1, 3])?;
    let y = g.b.reshape(y, &[batch, n, width])?;
    if g.bytes.flag() { g.b.add(y, x) } else { Ok(y) }
}

/// A layer norm of [N, C, places..] between transposes, with an activation before or behind the second or none.
fn channels_last_norm(g: &mut Grower<'_, '_>) -> Value {
    let (n, c, h) = (g.extent(), g.extent(), g.extent());
    let (mut shape, mut last, mut back) = (vec![n, c.clone(), h], vec![0, 2, 1], vec![0, 2, 1]);
    if g.bytes.flag() {
        shape.push(g.extent());
        (last, back) = (vec![0, 2, 3, 1], vec![0, 3, 1, 2]);
    }
    let x = g.fresh(DType::F32, &shape)?;
    let x = g.b.transpose(x, &last)?;
    let scale = g.fresh(DType::F32, std::slice::from_ref(&c))?;
    let bias = if g.bytes.flag() { Some(g.fresh(DType::F32, &[c])?) } else { None };
    let norm = LayerNormalization { axis: -1, epsilon: 1e-2 };
    let y = g.b.op_opt(norm, &[Some(x), Some(scale), bias])?;
    match g.bytes.below(4) {
        0 => Ok(y),
        1 => g.b.transpose(y, &back),
        2 => {
            let y = g.b.unary(UnaryFn::Relu, y)?;
            g.b.transpose(y, &back)
        }
        _ => {
            let y = g.b.transpose(y, &back)?;
            g.b.unary(UnaryFn::Tanh, y)
        }
    }
}

fn layer_norm(g: &mut Grower<'_, '_>) -> Value {
    let mut x = g.float(2..=4)?;
    let shape = g.b.shape(x)?;
    let width = [shape[shape.len() - 1].clone()];
    if g.bytes.flag() {
        let residual = g.fresh(DType::F32, &shape)?;
        x = g.b.add(x, residual)?;
    }
    let mean = g.b.reduce_mean(x, &[-1], true)?;
    let centred = g.b.sub(x, mean)?;
    let square = if g.bytes.flag() {
        let two = g.b.scalar(DType::F32, 2.0)?;
        g.b.binary(BinaryFn::Pow, centred, two)?
    } else {
        g.b.mul(centred, centred)?
    };
    let variance = g.b.reduce_mean(square, &[-1], true)?;
    let shifted = g.b.add_scalar(variance, 0.01)?;
    let deviation = g.b.unary(UnaryFn::Sqrt, shifted)?;
    let normal = if g.bytes.flag() {
        g.b.div(centred, deviation)?
    } else {
        let inverse = g.b.unary(UnaryFn::Reciprocal, deviation)?;
        g.b.mul(centred, inverse)?
    };
    let scale = g.fresh(DType::F32, &width)?;
    let y = g.b.mul(normal, scale)?;
    let bias = g.fresh(DType::F32, &width)?;
    g.b.add(y, bias)
}

fn gelu(g: &mut Grower<'_, '_>) -> Value {
    let x = g.float(0..=4)?;
    let inner = if g.bytes.flag() {
        let root = g.b.scalar(DType::F32, std::f64::consts::SQRT_2)?;
        g.b.div(x, root)?
    } else {
        g.b.mul_scalar(x, std::f64::consts::FRAC_1_SQRT_2)?
    };
    let e = g.b.unary(UnaryFn::Erf, inner)?;
    let e = g.b.add_scalar(e, 1.0)?;
    if g.bytes.flag() {
        let half = g.b.mul_scalar(x, 0.5)?;
        g.b.mul(half, e)
    } else {
        let y = g.b.mul(x, e)?;
        g.b.mul_scalar(y, 0.5)
    }
}

fn gelu_tanh(g: &mut Grower<'_, '_>) -> Value {
    let x = g.float(0..=4)?;
    let cube = if g.bytes.flag() {
        let three = g.b.scalar(DType::F32, 3.0)?;
        g.b.binary(BinaryFn::Pow, x, three)?
    } else {
        let square = g.b.mul(x, x)?;
        g.b.mul(square, x)?
    };
    let cube = g.b.mul_scalar(cube, 0.044715)?;
    let sum = g.b.add(x, cube)?;
    let scaled = g.b.mul_scalar(sum, 0.797_884_560_802_865_4)?;
    let t = g.b.unary(UnaryFn::Tanh, scaled)?;
    let t = g.b.add_scalar(t, 1.0)?;
    let half = g.b.mul_scalar(x, 0.5)?;
    g.b.mul(half, t)
}

fn any_activation(g: &mut Grower<'_, '_>, x: ValueId) -> Value {
    let a = g.bytes.pick(Activation::ALL);
    g.b.activation(a, x)
}

fn linear(g: &mut Grower<'_, '_>) -> Value {
    let x = g.float(2..=4)?;
    let shape = g.b.shape(x)?;
    let (k, out) = (shape[shape.len() - 1].clone(), g.extent());
    let w = if g.bytes.flag() {
        let w = g.fresh(DType::F32, &[out.clone(), k])?;
        g.b.transpose(w, &[1, 0])?
    } else {
        g.fresh(DType::F32, &[k, out.clone()])?
    };
    let bias = if g.bytes.flag() { Some(g.fresh(DType::F32, &[out])?) } else { None };
    let mut y = g.b.linear(x, w, bias)?;
    if g.bytes.flag() {
        y = any_activation(g, y)?;
    }
    if g.bytes.flag() {
        let shape = g.b.shape(y)?;
        let residual = g.fresh(DType::F32, &shape)?;
        y = g.b.add(residual, y)?;
    }
    if g.bytes.flag() { g.b.mul_scalar(y, 0.25) } else { Ok(y) }
}

fn conv_block(g: &mut Grower<'_, '_>) -> Value {
    let (batch, side) = (g.extent(), g.extent());
    let (channels, out) = (1 + g.bytes.below(4) as i64, 1 + g.bytes.below(4) as i64);
    let x = g.fresh(DType::F32, &[batch, Dim::constant(channels), side.clone(), side])?;
    let w = g.fresh(
        DType::F32,
        &[Dim::constant(out), Dim::constant(channels), Dim::constant(2), Dim::constant(1)],
    )?;
    let bias = if g.bytes.flag() { Some(g.fresh(DType::F32, &[Dim::constant(out)])?) } else { None };
    let mut y = g.b.op_opt(Conv { pads: vec![1, 0, 0, 0], ..Conv::plain(2) }, &[Some(x), Some(w), bias])?;
    let one = [Dim::constant(out)];
    if g.bytes.flag() {
        let (scale, shift, mean) =
            (g.fresh(DType::F32, &one)?, g.fresh(DType::F32, &one)?, g.fresh(DType::F32, &one)?);
        let variance = g.positive(DType::F32, &one)?;
        y = g.b.op(BatchNormalization { epsilon: 1e-3 }, &[y, scale, shift, mean, variance])?;
    }
    if g.bytes.flag() {
        y = any_activation(g, y)?;
    }
    if g.bytes.flag() {
        let shape = g.b.shape(y)?;
        let residual = g.fresh(DType::F32, &shape)?;
        y = g.b.add(y, residual)?;
    }
    Ok(y)
}
