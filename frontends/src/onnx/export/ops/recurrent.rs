//! Recurrent layers as ONNX has them: directions are an axis of the weights and results. One direction a node.

use super::Written;
use crate::onnx::export::attr;
use crate::onnx::export::emitter::{Emitter, View};
use frit_ir::op::{Cell, CellFn, Onnx, OpDef, Recurrent};

/// Names of the functions; opsets before 22 and after have the same.
fn name(f: CellFn) -> &'static str {
    match f {
        CellFn::Relu => "Relu",
        CellFn::Tanh => "Tanh",
        CellFn::Sigmoid => "Sigmoid",
        CellFn::Affine => "Affine",
        CellFn::LeakyRelu => "LeakyRelu",
        CellFn::ThresholdedRelu => "ThresholdedRelu",
        CellFn::ScaledTanh => "ScaledTanh",
        CellFn::HardSigmoid => "HardSigmoid",
        CellFn::Elu => "Elu",
        CellFn::Softsign => "Softsign",
        CellFn::Softplus => "Softplus",
    }
}

/// RNN, GRU or LSTM of one direction.
pub(super) fn recurrent(e: &mut Emitter<'_>, v: &View<'_>, o: &Recurrent) -> Written {
    let Onnx::Op(op, _) = o.onnx() else { return Err(e.refuse(v.node, "ONNX has no such op")) };
    let hidden = e.operand(v, 2)?.shape.last().and_then(frit_ir::Dim::as_const);
    let hidden = hidden.ok_or_else(|| e.refuse(v.node, "the number of hidden units must be known"))?;
    let functions = o.activations().map_err(|(_, why)| e.refuse(v.node, why))?;
    let mut attrs = vec![
        attr::int("hidden_size", hidden),
        attr::string("direction", if o.reverse { "reverse" } else { "forward" }),
    ];
    let usual: &[CellFn] = match o.cell {
        Cell::Rnn => &[CellFn::Tanh],
        Cell::Gru => &[CellFn::Sigmoid, CellFn::Tanh],
        Cell::Lstm => &[CellFn::Sigmoid, CellFn::Tanh, CellFn::Tanh],
    };
    if !functions.iter().map(|f| &f.0).eq(usual) {
        let names: Vec<&str> = functions.iter().map(|f| name(f.0)).collect();
        attrs.push(attr::strings("activations", &names));
        // Numbers stand in the list only for functions that have them.
        let with = |a: &[CellFn], get: fn(&(CellFn, f64, f64)) -> f64| -> Vec<f64> {
            functions.iter().filter(|f| a.contains(&f.0)).map(get).collect()
        };
        let both = [CellFn::Affine, CellFn::ScaledTanh, CellFn::HardSigmoid];
        let mut first = both.to_vec();
        first.extend([CellFn::LeakyRelu, CellFn::ThresholdedRelu, CellFn::Elu]);
        for (name, numbers) in
            [("activation_alpha", with(&first, |f| f.1)), ("activation_beta", with(&both, |f| f.2))]
        {
            if !numbers.is_empty() {
                attrs.push(attr::floats(name, &numbers));
            }
        }
    }
    if o.clip > 0.0 {
        attrs.push(attr::float("clip", o.clip));
    }
    if o.reset_after {
        attrs.push(attr::int("linear_before_reset", 1));
    }
    if o.coupled {
        attrs.push(attr::int("input_forget", 1));
    }
    // The directions are the first axis of everything but x and the lengths, the second of all states.
    let (zero, one) = (e.integers(&[0])?, e.integers(&[1])?);
    let mut inputs = vec![v.input(0)];
    for i in 1..v.inputs.len() {
        let name = v.input(i);
        let plain = name.is_empty() || i == 4;
        inputs.push(if plain { name } else { e.compute("Unsqueeze", vec![name, zero.clone()], vec![]) });
    }
    let mut results = Vec::new();
    for (i, _) in v.outputs.iter().enumerate() {
        results.push(e.fresh(if i == 0 { "states" } else { "last" }));
    }
    e.push(op, inputs, results.clone(), attrs);
    for (i, (wide, y)) in results.into_iter().zip(v.outputs.clone()).enumerate() {
        e.push("Squeeze", vec![wide, if i == 0 { one.clone() } else { zero.clone() }], vec![y], vec![]);
    }
    Ok(())
}
