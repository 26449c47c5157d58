//! Cases of recurrent layers: every cell, functions with parameters, lengths, states, odd widths. Other ops' cases are
//! in the files beside this one.

use super::{Absent, Cases, FLOATS, Given, Of, Operand, Result, Weight};
use frit_ir::DType;
use frit_ir::op::{Cell, CellFn, Recurrent};

fn plain(cell: Cell) -> Recurrent {
    let usual: &[CellFn] = match cell {
        Cell::Rnn => &[CellFn::Tanh],
        Cell::Gru => &[CellFn::Sigmoid, CellFn::Tanh],
        Cell::Lstm => &[CellFn::Sigmoid, CellFn::Tanh, CellFn::Tanh],
    };
    Recurrent {
        cell,
        reverse: false,
        functions: usual.iter().map(|f| f.word().to_owned()).collect(),
        alphas: vec![0.3; usual.len()],
        betas: vec![0.4; usual.len()],
        clip: 0.0,
        reset_after: false,
        coupled: false,
    }
}

pub(super) fn layers(c: &mut Cases) -> Result<()> {
    for cell in [Cell::Rnn, Cell::Gru, Cell::Lstm] {
        for dtype in FLOATS {
            for reverse in [false, true] {
                bare(c, Recurrent { reverse, ..plain(cell) }, dtype, [5, 2, 7, 9])?;
            }
        }
        // One sequence of one step, and widths of whole vectors and a little more.
        bare(c, plain(cell), DType::F32, [1, 1, 3, 1])?;
        bare(c, plain(cell), DType::F32, [4, 1, 33, 64])?;
        bare(c, plain(cell), DType::F32, [3, 5, 16, 37])?;
        bare(c, plain(cell), DType::F32, [0, 2, 3, 4])?;
        for reverse in [false, true] {
            full(c, Recurrent { reverse, clip: 0.7, ..plain(cell) }, [6, 3, 5, 19])?;
        }
        for &f in CellFn::ALL {
            let functions = vec![f.word().to_owned(); cell.functions()];
            full(c, Recurrent { functions, ..plain(cell) }, [3, 2, 4, 6])?;
        }
    }
    full(c, Recurrent { reset_after: true, ..plain(Cell::Gru) }, [4, 3, 5, 21])?;
    full(c, Recurrent { coupled: true, ..plain(Cell::Lstm) }, [4, 3, 5, 21])
}

/// Without anything that may be left out; the extents are those of steps, batch, x and the state.
fn bare(c: &mut Cases, op: Recurrent, dtype: DType, [t, b, i, h]: [usize; 4]) -> Result<()> {
    let rows = op.cell.gates() * h;
    c.add(op, vec![Of(dtype, &[t, b, i]), Weight(dtype, &[rows, i]), Weight(dtype, &[rows, h])])
}

/// With every operand, weights constant or not.
fn full(c: &mut Cases, op: Recurrent, [t, b, i, h]: [usize; 4]) -> Result<()> {
    let rows = op.cell.gates() * h;
    let steps = i64::try_from(t).unwrap_or(0);
    let f = DType::F32;
    for constant in [true, false] {
        let lens = c.whole(DType::I32, &[b], 0, steps + 1)?;
        let state = [b, h];
        let both = [2 * rows];
        let (w, r, peephole) = ([rows, i], [rows, h], [3 * h]);
        let of = |shape| if constant { Weight(f, shape) } else { Of(f, shape) };
        let x = [t, b, i];
        let mut operands: Vec<Operand<'_>> =
            vec![Of(f, &x), of(&w), of(&r), of(&both), Given(lens), Of(f, &state)];
        if op.cell == Cell::Lstm {
            operands.extend([Of(f, &state), of(&peephole)]);
        } else {
            operands.extend([Absent, Absent]);
        }
        c.add(op.clone(), operands)?;
    }
    Ok(())
}
