//! Recurrent layers in f32, one direction: what x gives to all gates is one product over the whole sequence; each step
//! then is a small product of the state and the cell's functions, which are in `cells`. No weight is packed here.

mod cells;

pub use cells::Function;

use crate::gemm::{self, Bias, Epilogue, GemmError, Matrix, Packed};
use crate::isa::Isa;
use crate::simd::dispatch;
use cells::{GruGates, GruState, LstmStep, RnnStep};
use frit_ir::op::Cell;

/// A weight `[rows, k]` as the product x w' takes it.
#[derive(Clone, Copy, Debug)]
pub enum Weight<'a> {
    /// Packed as the right operand `[k, rows]`.
    Packed(Packed<'a>),
    /// As it is.
    Plain(Matrix<'a>),
}

/// What a layer is, but for its numbers.
#[derive(Clone, Debug)]
pub struct Layer {
    /// What a step computes.
    pub cell: Cell,
    /// From the last step to the first.
    pub reverse: bool,
    /// f, g and h, as many as the cell has.
    pub functions: [Function; 3],
    /// Bound of what goes into the gates' functions; 0: none.
    pub clip: f32,
    /// GRU: the reset gate takes effect after the product.
    pub reset_after: bool,
    /// LSTM: f is 1 - i.
    pub coupled: bool,
}

/// Extents of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Extents {
    /// Steps of the longest sequence.
    pub steps: usize,
    /// Sequences.
    pub batch: usize,
    /// Elements of x.
    pub width: usize,
    /// Elements of the state.
    pub hidden: usize,
}

/// The numbers of a layer. Slices have just the extents that the op says.
#[derive(Clone, Copy, Debug)]
pub struct Numbers<'a> {
    /// `[T, B, I]`.
    pub x: &'a [f32],
    /// Weights of x.
    pub w: Weight<'a>,
    /// Weights of the state; of a GRU whose reset comes before the product those of its gates z and r.
    pub r: Weight<'a>,
    /// The rest of such a GRU's weights of the state.
    pub r_next: Option<Weight<'a>>,
    /// `[2 gates H]`.
    pub bias: Option<&'a [f32]>,
    /// `[B]`.
    pub lens: Option<&'a [i32]>,
    /// First states `[B, H]`.
    pub state: Option<&'a [f32]>,
    /// First cell states `[B, H]`.
    pub cell: Option<&'a [f32]>,
    /// `[3 H]`.
    pub peephole: Option<&'a [f32]>,
}

/// Where the results go.
pub struct Results<'a> {
    /// All states `[T, B, H]`.
    pub states: &'a mut [f32],
    /// The last states `[B, H]`.
    pub last: &'a mut [f32],
    /// The last cell states `[B, H]` of an LSTM, else nothing.
    pub cell: &'a mut [f32],
}

impl Layer {
    /// True when a step has two products, the second after the reset gate.
    pub fn two_products(&self) -> bool {
        self.cell == Cell::Gru && !self.reset_after
    }

    /// Floats of working memory.
    pub fn workspace(&self, e: &Extents) -> Option<usize> {
        let row = self.cell.gates().checked_mul(e.hidden)?;
        let all = e.steps.checked_mul(e.batch)?.checked_mul(row)?;
        let step = e.batch.checked_mul(row)?;
        let kept = e.batch.checked_mul(e.hidden)?;
        all.checked_add(step)?.checked_add(kept)?.checked_add(kept)?.checked_add(row.checked_mul(2)?)
    }
}

fn product(
    isa: Isa,
    a: &Matrix<'_>,
    w: &Weight<'_>,
    c: &mut [f32],
    columns: usize,
    bias: Option<&[f32]>,
) -> Result<(), GemmError> {
    let epilogue = Epilogue { bias: bias.map_or(Bias::None, Bias::Columns), ..Epilogue::default() };
    match w {
        Weight::Packed(w) => gemm::gemm_packed(isa, a, w, c, columns, &epilogue),
        Weight::Plain(w) => gemm::gemm(isa, a, &w.transposed(), c, columns, &epilogue),
    }
}

fn short(what: &'static str, need: usize, have: usize) -> GemmError {
    GemmError::Short { what, need, have }
}

/// Row `i` of rows of `n` elements.
fn row(v: &[f32], i: usize, n: usize) -> &[f32] {
    i.checked_mul(n).and_then(|at| v.get(at..at.checked_add(n)?)).unwrap_or(&[])
}

fn row_mut(v: &mut [f32], i: usize, n: usize) -> &mut [f32] {
    let range = i.checked_mul(n).and_then(|at| Some(at..at.checked_add(n)?));
    range.and_then(|r| v.get_mut(r)).unwrap_or(&mut [])
}

/// Computes a layer. Lengths that are none of 0..=T count as the nearest that is.
pub fn recurrent(
    isa: Isa,
    layer: &Layer,
    e: &Extents,
    n: &Numbers<'_>,
    out: &mut Results<'_>,
    workspace: &mut [f32],
) -> Result<(), GemmError> {
    let Extents { steps, batch, width, hidden } = *e;
    let gates = layer.cell.gates() * hidden;
    let need = layer.workspace(e).ok_or(GemmError::Overflow)?;
    let have = workspace.len();
    let cut =
        |v: &mut [f32], at: usize| if v.len() < at { Err(short("workspace", need, have)) } else { Ok(at) };
    let at = cut(workspace, steps * batch * gates)?;
    let (projected, rest) = workspace.split_at_mut(at);
    let at = cut(rest, batch * gates)?;
    let (sums, rest) = rest.split_at_mut(at);
    let at = cut(rest, batch * hidden)?;
    let (kept, rest) = rest.split_at_mut(at);
    let at = cut(rest, batch * hidden)?;
    let (next, rest) = rest.split_at_mut(at);
    let at = cut(rest, 2 * gates)?;
    let (bias, late) = rest.split_at_mut(at).0.split_at_mut(gates);
    // Both biases go in with x, but for one that the reset gate scales.
    bias.fill(0.0);
    late.fill(0.0);
    if let Some(both) = n.bias {
        let (of_x, of_state) = (row(both, 0, gates), row(both, 1, gates));
        for (j, (b, l)) in bias.iter_mut().zip(late.iter_mut()).enumerate() {
            let (x, r) = (of_x.get(j).copied().unwrap_or(0.0), of_state.get(j).copied().unwrap_or(0.0));
            let scaled = layer.cell == Cell::Gru && layer.reset_after && j >= 2 * hidden;
            (*b, *l) = if scaled { (x, r) } else { (x + r, 0.0) };
        }
    }
    let x = Matrix::row_major(n.x, steps * batch, width);
    product(isa, &x, &n.w, projected, gates, n.bias.map(|_| &*bias))?;
    for (to, from) in [(&mut *out.last, n.state), (&mut *out.cell, n.cell)] {
        match from {
            Some(v) if v.len() == to.len() => to.copy_from_slice(v),
            _ => to.fill(0.0),
        }
    }
    out.states.fill(0.0);
    let len = |b: usize| match n.lens.and_then(|l| l.get(b)) {
        Some(&l) => usize::try_from(l).unwrap_or(0).min(steps),
        None => steps,
    };
    let longest = (0..batch).map(len).max().unwrap_or(0);
    let late = (layer.reset_after && n.bias.is_some()).then_some(&*late);
    for step in 0..longest {
        // Where this step of sequence b stands; None after its end.
        let place = |b: usize| {
            let len = len(b);
            let t = if layer.reverse { len.checked_sub(step + 1)? } else { step };
            (step < len).then_some(t * batch + b)
        };
        let state = Matrix::row_major(out.last, batch, hidden);
        if layer.two_products() {
            let columns = 2 * hidden;
            product(isa, &state, &n.r, sums.get_mut(..batch * columns).unwrap_or(&mut []), columns, None)?;
            for b in 0..batch {
                let Some(place) = place(b) else { continue };
                let gates = row(projected, place, gates);
                let (sums, h) = (row_mut(sums, b, columns), row(out.last, b, hidden));
                dispatch(isa, GruGates { layer, hidden, gates, sums, h, kept: row_mut(kept, b, hidden) });
            }
            let Some(r_next) = &n.r_next else { return Err(short("weights of the state", 2, 1)) };
            product(isa, &Matrix::row_major(kept, batch, hidden), r_next, next, hidden, None)?;
        } else {
            product(isa, &state, &n.r, sums, gates, late)?;
        }
        for b in 0..batch {
            let Some(place) = place(b) else { continue };
            let (gates_of_x, y) = (row(projected, place, gates), row_mut(out.states, place, hidden));
            let (h, sums_row) = (row_mut(out.last, b, hidden), row(sums, b, gates));
            match layer.cell {
                Cell::Rnn => {
                    dispatch(isa, RnnStep { layer, hidden, gates: gates_of_x, sums: sums_row, h, y })
                }
                Cell::Gru => {
                    let (update, next) = match layer.two_products() {
                        true => (Some(row(sums, b, 2 * hidden)), row(next, b, hidden)),
                        false => (None, sums_row),
                    };
                    dispatch(isa, GruState { layer, hidden, gates: gates_of_x, update, next, h, y });
                }
                Cell::Lstm => {
                    let c = row_mut(out.cell, b, hidden);
                    let peephole = n.peephole;
                    dispatch(
                        isa,
                        LstmStep { layer, hidden, gates: gates_of_x, sums: sums_row, peephole, h, c, y },
                    );
                }
            }
        }
    }
    Ok(())
}
