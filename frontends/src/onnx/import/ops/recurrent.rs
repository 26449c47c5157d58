//! Recurrent layers: RNN, GRU, LSTM. Each direction becomes one op of the graph; loops over bodies are `control.rs`'s.

use crate::onnx::import::broadcast::agreed;
use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{Cell, CellFn, Recurrent};
use frit_ir::{Dim, ValueId};

pub const ROWS: &[Row] = &[("", "RNN", 1, rnn), ("", "GRU", 1, gru), ("", "LSTM", 1, lstm)];

fn rnn<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    layer(cx, n, Cell::Rnn)
}

fn gru<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    layer(cx, n, Cell::Gru)
}

fn lstm<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    layer(cx, n, Cell::Lstm)
}

/// Which parameters a function has, as the defaults of a and b.
fn defaults(f: CellFn) -> (Option<f64>, Option<f64>) {
    match f {
        CellFn::Affine | CellFn::ScaledTanh => (Some(1.0), Some(if f == CellFn::Affine { 0.0 } else { 1.0 })),
        CellFn::LeakyRelu => (Some(0.01), None),
        CellFn::ThresholdedRelu | CellFn::Elu => (Some(1.0), None),
        CellFn::HardSigmoid => (Some(0.2), Some(0.5)),
        _ => (None, None),
    }
}

/// The functions of every direction, one after the other, with their parameters. Numbers are given only for functions
/// that have them, in order.
fn functions(n: &NodeView<'_>, cell: Cell, directions: usize) -> Result<Vec<(CellFn, f64, f64)>> {
    let usual: &[CellFn] = match cell {
        Cell::Rnn => &[CellFn::Tanh],
        Cell::Gru => &[CellFn::Sigmoid, CellFn::Tanh],
        Cell::Lstm => &[CellFn::Sigmoid, CellFn::Tanh, CellFn::Tanh],
    };
    let given: Vec<CellFn> = match n.strings("activations")? {
        None => usual.repeat(directions),
        Some(names) => {
            let known = |name: &&str| {
                let plain = |s: &str| s.replace('_', "").to_lowercase();
                let found = CellFn::ALL.iter().find(|f| plain(f.word()) == plain(name));
                found.copied().ok_or_else(|| n.error(format!("activation `{name}`")))
            };
            names.iter().map(known).collect::<Result<_>>()?
        }
    };
    let count = usual.len().saturating_mul(directions);
    if given.len() != count {
        return Err(n.error(format!("{} activations, expected {count}", given.len())));
    }
    let mut alphas = n.floats("activation_alpha")?.unwrap_or_default().into_iter();
    let mut betas = n.floats("activation_beta")?.unwrap_or_default().into_iter();
    let mut next = |f: CellFn| {
        let (a, b) = defaults(f);
        let a = a.map(|a| alphas.next().unwrap_or(a));
        let b = b.map(|b| betas.next().unwrap_or(b));
        (f, a.unwrap_or(0.0), b.unwrap_or(0.0))
    };
    Ok(given.into_iter().map(&mut next).collect())
}

fn layer(cx: &mut Cx<'_>, n: &NodeView<'_>, cell: Cell) -> Result<Vec<Val>> {
    n.ignore(&["output_sequence"]);
    let reversed: &[bool] = match n.string_or("direction", "forward")? {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        other => return Err(n.error(format!("direction `{other}`"))),
    };
    let directions = reversed.len();
    let functions = functions(n, cell, directions)?;
    let batch_first = n.flag("layout", false)?;
    let clip = n.float_or("clip", 0.0)?;
    let reset_after = cell == Cell::Gru && n.flag("linear_before_reset", false)?;
    let coupled = cell == Cell::Lstm && n.flag("input_forget", false)?;
    let mut x = n.tensor(0)?;
    if cx.rank(x)? != 3 {
        return Err(n.error(format!("x must have rank 3, got {}", cx.rank(x)?)));
    }
    if batch_first {
        x = cx.transpose(x, &[1, 0, 2])?;
    }
    // Extents that are known on either side are known.
    let width = cx.shape(n.tensor(1)?)?.last().cloned().unwrap_or_default();
    let width = agreed(&width, cx.shape(x)?.last().unwrap_or(&width));
    x = cx.agree_axis(x, 2, &width)?;
    let shape = cx.shape(x)?;
    let [_, batch, width] = shape.as_slice() else { return Err(n.error("x must have rank 3")) };
    let hidden = match n.int("hidden_size")? {
        Some(h) if h > 0 => Dim::constant(h),
        Some(h) => return Err(n.error(format!("attribute `hidden_size` is {h}"))),
        None => cx.shape(n.tensor(2)?)?.last().cloned().unwrap_or_default(),
    };
    let gates = |count: usize| cx.dim(hidden.mul(&Dim::from(count)));
    let (rows, both, peephole) = (gates(cell.gates())?, gates(2 * cell.gates())?, gates(3)?);
    let lens = match n.opt(4)? {
        Some(l) => Some(cx.agree(l, std::slice::from_ref(batch))?),
        None => None,
    };
    // Every operand has the directions first, but for states of batches that come first.
    let all = Dim::from(directions);
    let mut operand = |i: usize, rest: &[&Dim], state: bool| -> Result<Option<ValueId>> {
        let Some(mut v) = n.opt(i)? else { return Ok(None) };
        if state && batch_first && cx.rank(v)? == 3 {
            v = cx.transpose(v, &[1, 0, 2])?;
        }
        let mut to = vec![all.clone()];
        to.extend(rest.iter().map(|&d| d.clone()));
        cx.agree(v, &to).map(Some)
    };
    let mut operands = vec![
        operand(1, &[&rows, width], false)?,
        operand(2, &[&rows, &hidden], false)?,
        operand(3, &[&both], false)?,
        operand(5, &[batch, &hidden], true)?,
    ];
    if cell == Cell::Lstm {
        operands.push(operand(6, &[batch, &hidden], true)?);
        operands.push(operand(7, &[&peephole], false)?);
    }
    let each = cell.functions();
    let mut results: Vec<Vec<ValueId>> = Vec::new();
    for (d, &reverse) in reversed.iter().enumerate() {
        let mut own = Vec::new();
        for v in &operands {
            own.push(v.map(|v| one_of(cx, v, d, directions)).transpose()?);
        }
        own.insert(3, lens);
        own.insert(0, Some(x));
        let mine: Vec<_> = functions.iter().skip(d * each).take(each).collect();
        let op = Recurrent {
            cell,
            reverse,
            functions: mine.iter().map(|(f, _, _)| f.word().to_owned()).collect(),
            alphas: mine.iter().map(|(_, a, _)| *a).collect(),
            betas: mine.iter().map(|(_, _, b)| *b).collect(),
            clip,
            reset_after,
            coupled,
        };
        results.push(cx.emit_all(op, &own)?);
    }
    // Y [T, directions, B, H], then the last states [directions, B, H].
    let outputs = results.first().map_or(0, Vec::len);
    let mut out = Vec::with_capacity(outputs);
    for i in 0..outputs {
        let axis = if i == 0 { 1 } else { 0 };
        let mut parts = Vec::with_capacity(directions);
        for r in results.iter().filter_map(|r| r.get(i)) {
            parts.push(cx.unsqueeze(*r, &[axis])?);
        }
        let mut y = cx.concat(&parts, if i == 0 { 1 } else { 0 })?;
        if batch_first {
            y = cx.transpose(y, if i == 0 { &[2, 0, 1, 3] } else { &[1, 0, 2] })?;
        }
        out.push(y.into());
    }
    Ok(out)
}

/// What belongs to direction `d` of so many.
fn one_of(cx: &mut Cx<'_>, v: ValueId, d: usize, directions: usize) -> Result<ValueId> {
    let mut part = v;
    if directions > 1 {
        part = cx.slice(v, 0, &Dim::from(d), &Dim::from(d + 1))?;
    }
    let shape = cx.shape(part)?;
    cx.reshape(part, shape.get(1..).unwrap_or(&[]))
}
