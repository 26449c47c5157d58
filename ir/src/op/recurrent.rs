//! Recurrent layers over a sequence, one direction an op: plain, gated (GRU) and LSTM cells. Two directions are two
//! ops, which whoever builds the graph joins.

use super::elements::at;
use super::*;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::{attr_enum, op_struct};

attr_enum! {
    /// What a step of a recurrent layer computes. Capital letters are the gates, `.` is a product by element.
    pub enum Cell {
        /// H' = f(x W + H R + b).
        Rnn = "rnn",
        /// <https://arxiv.org/abs/1406.1078>: gates z and r, H' = (1 - z) . h + z . H.
        Gru = "gru",
        /// <https://doi.org/10.1162/neco.1997.9.8.1735>: gates i, o, f and c, C' = f . C + i . c, H' = o . h(C').
        Lstm = "lstm",
    }
}

impl Cell {
    /// Rows of blocks in the weights: gates of a step.
    pub const fn gates(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Gru => 3,
            Cell::Lstm => 4,
        }
    }
    /// Activation functions that a step has.
    pub const fn functions(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Gru => 2,
            Cell::Lstm => 3,
        }
    }
}

attr_enum! {
    /// Activation functions of recurrent cells, with parameters a and b.
    pub enum CellFn {
        /// max(0, x).
        Relu = "relu",
        /// Hyperbolic tangent.
        Tanh = "tanh",
        /// 1 / (1 + e^-x).
        Sigmoid = "sigmoid",
        /// a x + b.
        Affine = "affine",
        /// x, a x where it is negative.
        LeakyRelu = "leaky_relu",
        /// x where it is above a, else 0.
        ThresholdedRelu = "thresholded_relu",
        /// a tanh(b x).
        ScaledTanh = "scaled_tanh",
        /// a x + b between 0 and 1.
        HardSigmoid = "hard_sigmoid",
        /// x, a (e^x - 1) where it is negative.
        Elu = "elu",
        /// x / (1 + |x|).
        Softsign = "softsign",
        /// log(1 + e^x).
        Softplus = "softplus",
    }
}

impl CellFn {
    /// The function's value.
    pub fn apply(self, a: f64, b: f64, x: f64) -> f64 {
        match self {
            CellFn::Relu => x.max(0.0),
            CellFn::Tanh => x.tanh(),
            CellFn::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            CellFn::Affine => a * x + b,
            CellFn::LeakyRelu => {
                if x < 0.0 {
                    a * x
                } else {
                    x
                }
            }
            CellFn::ThresholdedRelu => {
                if x > a {
                    x
                } else {
                    0.0
                }
            }
            CellFn::ScaledTanh => a * (b * x).tanh(),
            CellFn::HardSigmoid => (a * x + b).clamp(0.0, 1.0),
            CellFn::Elu => {
                if x < 0.0 {
                    a * x.exp_m1()
                } else {
                    x
                }
            }
            CellFn::Softsign => x / (1.0 + x.abs()),
            CellFn::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        }
    }
}

op_struct! {
    /// A recurrent layer over x `[T, B, I]` in one direction: all states `[T, B, H]`, the last one `[B, H]`, and of an
    /// LSTM the last cell state `[B, H]`. `w` is `[gates H, I]`, `r` `[gates H, H]`, the bias `[2 gates H]` first for `w`,
    /// then for `r`; gates stand in ONNX's order: z, r, h and i, o, f, c. Of `lens` i32 `[B]` steps of each sequence are
    /// computed, states after them are 0. `peephole` `[3 H]` holds what i, o and f see of the cell state.
    /// ONNX RNN-22, GRU-22, LSTM-22.
    pub struct Recurrent = "Recurrent" {
        /// What a step computes.
        pub cell: Cell,
        /// From the last step to the first.
        pub reverse: bool = false,
        /// The functions: f; f, g; or f, g, h.
        pub functions: Vec<String>,
        /// Parameter a of each function.
        pub alphas: Vec<f64>,
        /// Parameter b of each function.
        pub betas: Vec<f64>,
        /// What goes into the gates' functions is cut to -clip..clip, as ONNX Runtime has it; 0: it is not.
        pub clip: f64 = 0.0,
        /// GRU: the reset gate takes effect after the product with `r`.
        pub reset_after: bool = false,
        /// LSTM: f is 1 - i.
        pub coupled: bool = false,
    }
}

/// An activation function with its parameters.
type Function = (CellFn, f64, f64);

impl Recurrent {
    /// The functions with their parameters, or which attribute is wrong.
    pub fn activations(&self) -> Result<Vec<Function>, (&'static str, String)> {
        let n = self.cell.functions();
        let word = self.cell.word();
        if self.functions.len() != n {
            return Err(("functions", format!("{word} has {n}, got {}", self.functions.len())));
        }
        for (name, given) in [("alphas", &self.alphas), ("betas", &self.betas)] {
            if given.len() != n {
                return Err((name, format!("{n} numbers for {word}, got {}", given.len())));
            }
        }
        let known = |w: &String| CellFn::from_word(w).ok_or(("functions", format!("no function `{w}`")));
        self.functions
            .iter()
            .zip(self.alphas.iter().zip(&self.betas))
            .map(|(w, (&a, &b))| known(w).map(|f| (f, a, b)))
            .collect()
    }
}

impl OpDef for Recurrent {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[
            one("x"),
            one("w"),
            one("r"),
            optional("bias"),
            optional("lens"),
            optional("state"),
            optional("cell_state"),
            optional("peephole"),
        ];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        let name = match self.cell {
            Cell::Rnn => "RNN",
            Cell::Gru => "GRU",
            Cell::Lstm => "LSTM",
        };
        Onnx::Op(name, 22)
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        self.activations().map_err(|(attr, why)| cx.bad_attr(attr, why))?;
        let x = cx.expect_float(0)?;
        let [steps, batch, width] = x.shape.as_slice() else { return Err(cx.reject(0, "[T, B, I]")) };
        let [_, hidden] = cx.ty(2)?.shape.as_slice() else { return Err(cx.reject(2, "[gates H, H]")) };
        let times = |n: usize| hidden.mul(&Dim::from(n));
        let gates = self.cell.gates();
        cx.expect_shape(1, x.dtype, &[times(gates)?, width.clone()])?;
        cx.expect_shape(2, x.dtype, &[times(gates)?, hidden.clone()])?;
        let state = [batch.clone(), hidden.clone()];
        let optional: [(usize, DType, &[Dim]); 5] = [
            (3, x.dtype, &[times(2 * gates)?]),
            (4, DType::I32, std::slice::from_ref(batch)),
            (5, x.dtype, &state),
            (6, x.dtype, &state),
            (7, x.dtype, &[times(3)?]),
        ];
        for (i, dtype, shape) in optional {
            if cx.opt(i).is_some() {
                cx.expect_shape(i, dtype, shape)?;
            }
        }
        for i in [6, 7] {
            if cx.opt(i).is_some() && self.cell != Cell::Lstm {
                return Err(cx.reject(i, "nothing: the cell is no LSTM"));
            }
        }
        let ty = |shape: &[Dim]| TensorType { dtype: x.dtype, shape: shape.to_vec() };
        let mut out = vec![ty(&[steps.clone(), batch.clone(), hidden.clone()]), ty(&state)];
        if self.cell == Cell::Lstm {
            out.push(ty(&state));
        }
        Ok(out)
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let functions = self.activations().map_err(|(_, why)| cx.bad_data(why))?;
        let (dtype, shape) = cx.output(0)?;
        let &[steps, batch, hidden] = shape else { return Err(cx.bad_data("states without three axes")) };
        let (x, w, r) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
        let width = x.shape().last().copied().unwrap_or(0);
        let numbers = |i: usize, count: usize| cx.opt(i).map_or(vec![0.0; count], Tensor::to_f64_vec);
        let layer = Layer {
            op: self,
            functions,
            hidden,
            w: w.to_f64_vec(),
            r: r.to_f64_vec(),
            bias: numbers(3, 2 * self.cell.gates() * hidden),
            peephole: numbers(7, 3 * hidden),
        };
        let lens = match cx.opt(4) {
            None => vec![steps; batch],
            Some(t) => {
                let all: Option<Vec<usize>> =
                    t.to_i64_vec().iter().map(|&n| usize::try_from(n).ok().filter(|&n| n <= steps)).collect();
                all.ok_or_else(|| cx.bad_data(format!("lengths {:?} of {steps} steps", t.to_i64_vec())))?
            }
        };
        let x = x.to_f64_vec();
        let mut states = Tensor::zeros(DType::F64, shape)?.to_f64_vec();
        let (mut last, mut last_cell) = (numbers(5, batch * hidden), numbers(6, batch * hidden));
        for b in 0..batch {
            let len = at(&lens, b);
            let own = b * hidden..(b + 1) * hidden;
            let mut h = last.get(own.clone()).unwrap_or(&[]).to_vec();
            let mut c = last_cell.get(own.clone()).unwrap_or(&[]).to_vec();
            for step in 0..len {
                let t = if self.reverse { len - 1 - step } else { step };
                let place = t * batch + b;
                layer.step(x.get(place * width..(place + 1) * width).unwrap_or(&[]), &mut h, &mut c);
                put(&mut states, place * hidden, &h);
            }
            put(&mut last, own.start, &h);
            put(&mut last_cell, own.start, &c);
        }
        let mut out =
            vec![Tensor::from_f64(dtype, shape, &states)?, Tensor::from_f64(dtype, &[batch, hidden], &last)?];
        if self.cell == Cell::Lstm {
            out.push(Tensor::from_f64(dtype, &[batch, hidden], &last_cell)?);
        }
        Ok(out)
    }
}

fn put(all: &mut [f64], from: usize, part: &[f64]) {
    for (to, v) in all.iter_mut().skip(from).zip(part) {
        *to = *v;
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A layer's numbers in double precision.
struct Layer<'a> {
    op: &'a Recurrent,
    functions: Vec<Function>,
    hidden: usize,
    w: Vec<f64>,
    r: Vec<f64>,
    bias: Vec<f64>,
    peephole: Vec<f64>,
}

impl Layer<'_> {
    /// Function `f` of x, which is clipped before.
    fn apply(&self, f: usize, x: f64) -> f64 {
        let x = if self.op.clip > 0.0 { x.clamp(-self.op.clip, self.op.clip) } else { x };
        self.functions.get(f).map_or(x, |(function, a, b)| function.apply(*a, *b, x))
    }
    /// What x gives to row `row` of the gates, with its bias.
    fn input(&self, x: &[f64], row: usize) -> f64 {
        dot(x, self.w.get(row * x.len()..).unwrap_or(&[])) + at(&self.bias, row)
    }
    /// What the state gives to row `row` of the gates, with its bias.
    fn recurrence(&self, h: &[f64], row: usize) -> f64 {
        let rows = self.op.cell.gates() * self.hidden;
        dot(h, self.r.get(row * self.hidden..).unwrap_or(&[])) + at(&self.bias, rows + row)
    }
    /// Row `row` of the gates before their function.
    fn gate(&self, x: &[f64], h: &[f64], row: usize) -> f64 {
        self.input(x, row) + self.recurrence(h, row)
    }

    fn step(&self, x: &[f64], h: &mut Vec<f64>, c: &mut Vec<f64>) {
        let n = self.hidden;
        match self.op.cell {
            Cell::Rnn => *h = (0..n).map(|j| self.apply(0, self.gate(x, h, j))).collect(),
            Cell::Gru => {
                let reset: Vec<f64> = (0..n).map(|j| self.apply(0, self.gate(x, h, n + j))).collect();
                let kept: Vec<f64> = h.iter().zip(&reset).map(|(h, r)| h * r).collect();
                let next = |j: usize| {
                    let update = self.apply(0, self.gate(x, h, j));
                    let row = 2 * n + j;
                    let past = if self.op.reset_after {
                        at(&reset, j) * self.recurrence(h, row)
                    } else {
                        self.recurrence(&kept, row)
                    };
                    (1.0 - update) * self.apply(1, self.input(x, row) + past) + update * at(h, j)
                };
                *h = (0..n).map(next).collect();
            }
            Cell::Lstm => {
                let peek = |gate: usize, j: usize, c: f64| at(&self.peephole, gate * n + j) * c;
                let mut next = Vec::with_capacity(n);
                let mut cells = Vec::with_capacity(n);
                for j in 0..n {
                    let past = at(c, j);
                    let input = self.apply(0, self.gate(x, h, j) + peek(0, j, past));
                    let forget = if self.op.coupled {
                        1.0 - input
                    } else {
                        self.apply(0, self.gate(x, h, 2 * n + j) + peek(2, j, past))
                    };
                    let cell = forget * past + input * self.apply(1, self.gate(x, h, 3 * n + j));
                    let output = self.apply(0, self.gate(x, h, n + j) + peek(1, j, cell));
                    cells.push(cell);
                    let (h, a, b) = self.functions.get(2).copied().unwrap_or((CellFn::Affine, 1.0, 0.0));
                    next.push(output * h.apply(a, b, cell));
                }
                (*h, *c) = (next, cells);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dim::Bindings;

    fn layer(cell: Cell, functions: &[&str]) -> Recurrent {
        let n = functions.len();
        Recurrent {
            cell,
            reverse: false,
            functions: functions.iter().map(|s| (*s).to_owned()).collect(),
            alphas: vec![1.0; n],
            betas: vec![0.0; n],
            clip: 0.0,
            reset_after: false,
            coupled: false,
        }
    }

    /// One hidden unit, all weights 1 and no bias, over x `[3, 2, 1]`, the second sequence of two steps.
    fn run(op: Recurrent) -> Vec<Vec<f64>> {
        let gates = op.cell.gates();
        let of = |shape: &[usize], v: &[f64]| Tensor::from_f64(DType::F64, shape, v).unwrap();
        let x = of(&[3, 2, 1], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let w = of(&[gates, 1], &vec![1.0; gates]);
        let lens = Tensor::from_slice(&[2], &[3i32, 2]).unwrap();
        let inputs = [Some(&x), Some(&w), Some(&w), None, Some(&lens)];
        let op = Op::from(op);
        let types: Vec<TensorType> = [&x, &w, &w, &lens]
            .iter()
            .map(|t| TensorType {
                dtype: t.dtype(),
                shape: t.shape().iter().map(|&d| Dim::from(d)).collect(),
            })
            .collect();
        let given = [Some(&types[0]), Some(&types[1]), Some(&types[2]), None, Some(&types[3])];
        let outputs: Vec<(DType, Vec<usize>)> = op
            .infer(&Infer { op: "Recurrent", inputs: &given })
            .unwrap()
            .iter()
            .map(|t| (t.dtype, t.fixed_shape().unwrap()))
            .collect();
        let bindings = Bindings::new();
        let cx = Eval { op: "Recurrent", inputs: &inputs, outputs: &outputs, bindings: &bindings };
        op.eval(&cx).unwrap().iter().map(Tensor::to_f64_vec).collect()
    }

    #[test]
    fn plain_cells_sum_up_their_sequence() {
        let op = layer(Cell::Rnn, &["affine"]);
        let out = run(op.clone());
        assert_eq!(out, [vec![1.0, 4.0, 3.0, 9.0, 6.0, 0.0], vec![6.0, 9.0]]);
        let out = run(Recurrent { reverse: true, ..op.clone() });
        assert_eq!(out, [vec![6.0, 9.0, 5.0, 5.0, 3.0, 0.0], vec![6.0, 9.0]]);
        let out = run(Recurrent { clip: 5.0, ..op });
        assert_eq!(out[1], [5.0, 5.0]);
    }

    #[test]
    fn gates_that_are_known_give_known_states() {
        // Gates of the identity: z = r = h + x, candidate x + r h; H' = (1 - z) candidate + z H.
        let gru = |h: f64, x: f64| (1.0 - (x + h)) * (x + (x + h) * h) + (x + h) * h;
        let out = run(layer(Cell::Gru, &["affine", "affine"]));
        assert_eq!(out[1], [gru(gru(gru(0.0, 1.0), 2.0), 3.0), gru(gru(0.0, 4.0), 5.0)]);
        // i = o = f = c = h + x: C' = f C + i c.
        let lstm = |(h, c): (f64, f64), x: f64| {
            let gate = h + x;
            let c = gate * c + gate * gate;
            (gate * c, c)
        };
        let start = (0.0, 0.0);
        let (first, second) = (lstm(lstm(lstm(start, 1.0), 2.0), 3.0), lstm(lstm(start, 4.0), 5.0));
        let out = run(layer(Cell::Lstm, &["affine"; 3]));
        assert_eq!(out[1..], [vec![first.0, second.0], vec![first.1, second.1]]);
    }

    #[test]
    fn wrong_functions_are_refused() {
        assert!(layer(Cell::Rnn, &["cosine"]).activations().is_err());
        assert!(layer(Cell::Gru, &["tanh"]).activations().is_err());
        assert!(layer(Cell::Lstm, &["sigmoid", "tanh", "tanh"]).activations().is_ok());
    }
}
