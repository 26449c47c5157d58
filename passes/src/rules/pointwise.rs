//! Convolutions that see one pixel as products: the gates of squeeze-and-excite, heads behind a global pooling.
//! Their weights are read once either way, and a product with few rows does so at the speed of memory.

use crate::edit::Editor;
use crate::rule::{Found, Refusal, Rule, insert, require};
use crate::view::View;
use frit_ir::ValueId;
use frit_ir::op::{Activation, FusedMatMul, Op};

/// The table.
pub const RULES: &[Rule] = &[Rule::built(
    "conv_of_one_pixel",
    "<Conv(?x, ?w:const, ?bias?)@c | FusedConv(?x, ?w:const, ?bias?, ?r?)@c>",
    product,
    &[
        "x: f32[batch, 4, 1, 1]; w: const f32[6, 4, 1, 1]; bias: const f32[6]; r: none;
         c.strides = [1, 1]; c.pads = [0, 0, 0, 0]; c.dilations = [1, 1]",
        "x: f32[2, 4, 1]; w: const f32[6, 4, 1]; bias: none; r: f32[2, 6, 1]; c.strides = [2]; c.pads = [0, 0]; c.dilations = [1]",
        "x: f32[2, 4, 1, 1]; w: const f32[6, 4, 1, 1]; bias: const f32[6]; r: none; c.activation = silu;
         c.strides = [1, 1]; c.pads = [0, 0, 0, 0]; c.dilations = [1, 1]",
    ],
)];

fn product(e: &mut Editor<'_>, m: &Found<'_, '_>) -> Result<ValueId, Refusal> {
    let view = View { graph: e.graph(), weights: e.weights() };
    let (x, w, c) = (m.value("x")?, m.value("w")?, m.value("c")?);
    let (bias, residual) = (m.optional("bias"), m.optional("r"));
    let op = view.producer(c).map(|(_, n)| n.op.clone());
    let (pads, group, activation) = match &op {
        Some(Op::Conv(c)) => (&c.pads, c.group, Activation::None),
        Some(Op::FusedConv(c)) => {
            require(c.gain == 1.0 && c.shift == 0.0, "a gain or shift follows")?;
            (&c.pads, c.group, c.activation)
        }
        _ => return Err(Refusal::Because("no convolution".into())),
    };
    require(group == 1 && pads.iter().all(|&p| p == 0), "it has groups or padding")?;
    // The product adds its residual after the activation.
    require(residual.is_none() || activation == Activation::None, "a residual is activated")?;
    let one = |v: ValueId| view.shape(v).iter().skip(2).all(|d| d.is(1));
    require(one(x) && one(w), "there are more pixels than one")?;
    let flat = |v: ValueId| view.shape(v).iter().take(2).cloned().collect::<Vec<_>>();
    let (rows, weights, results) = (flat(x), flat(w), flat(c));
    let shape = view.shape(c).to_vec();
    let op = FusedMatMul { trans_b: true, activation, ..FusedMatMul::plain() };
    e.build(m.label, |b| {
        let x = b.reshape(x, &rows)?;
        let w = b.reshape(w, &weights)?;
        let residual = match residual {
            Some(r) => Some(b.reshape(r, &results)?),
            None => None,
        };
        let y = insert(b, op, &[Some(x), Some(w), bias, residual])?;
        Ok(b.reshape(y, &shape)?)
    })
}
