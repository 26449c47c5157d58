//! Padding by a constant, the edge or the mirror image. Cutting is a strided copy.

use super::{Placement, copy, strides};
use crate::error::{KernelError, count, exact, parameters};
use crate::isa::Isa;
use crate::threads::{SharedMut, parallel_ranges};

const NAME: &str = "pad";

/// What surrounds the tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadMode<'a> {
    /// This element, as bytes.
    Constant(&'a [u8]),
    /// The nearest element.
    Edge,
    /// The mirror image, the edge not repeated.
    Reflect,
}

/// Surrounds x of `shape` by `before` and `after` elements along each axis; elements have `size` bytes.
pub fn pad(
    isa: Isa,
    size: usize,
    x: (&[u8], &[usize]),
    before: &[usize],
    after: &[usize],
    mode: PadMode<'_>,
    out: &mut [u8],
) -> Result<(), KernelError> {
    let (x, shape) = x;
    let wrong = || parameters(NAME, format!("cannot pad {shape:?} by {before:?} and {after:?} ({mode:?})"));
    if before.len() != shape.len() || after.len() != shape.len() {
        return Err(wrong());
    }
    let to = shape
        .iter()
        .zip(before.iter().zip(after))
        .map(|(&d, (&b, &a))| d.checked_add(b)?.checked_add(a))
        .collect::<Option<Vec<usize>>>()
        .ok_or_else(wrong)?;
    exact(NAME, "data", x.len(), count(NAME, shape)?.saturating_mul(size))?;
    exact(NAME, "output", out.len(), count(NAME, &to)?.saturating_mul(size))?;
    if let PadMode::Constant(value) = mode {
        exact(NAME, "value", value.len(), size)?;
        if value.iter().all(|b| Some(b) == value.first()) {
            out.fill(value.first().copied().unwrap_or(0));
        } else {
            out.chunks_exact_mut(size).for_each(|o| o.copy_from_slice(value));
        }
        let places = strides(&to);
        let offset = before.iter().zip(&places).map(|(b, s)| b * s).sum();
        let place = Placement { offset, strides: places.into_iter().map(|s| s as isize).collect() };
        return copy(isa, size, shape, x, &Placement::dense(shape), out, &place);
    }
    for ((&d, &b), &a) in shape.iter().zip(before).zip(after) {
        let room = match mode {
            PadMode::Edge => d > 0 || (a == 0 && b == 0),
            _ => (a == 0 && b == 0) || (a < d && b < d),
        };
        if !room {
            return Err(wrong());
        }
    }
    if out.is_empty() {
        return Ok(());
    }
    // For each axis, the offset in x of every position along it.
    let from = strides(shape);
    let tables: Vec<Vec<usize>> = (0..shape.len())
        .map(|axis| (0..to[axis]).map(|i| mirror(i, before[axis], shape[axis], mode) * from[axis]).collect())
        .collect();
    let Some((last, rest)) = tables.split_last() else {
        out.copy_from_slice(x);
        return Ok(());
    };
    let inner = last.len();
    let rows = out.len() / size / inner;
    let out = SharedMut::new(out);
    parallel_ranges(rows, (1usize << 13).div_ceil(inner), inner as f64, |range| {
        for row in range {
            let (mut base, mut r) = (0, row);
            for table in rest.iter().rev() {
                base += table[r % table.len()];
                r /= table.len();
            }
            // SAFETY: rows are disjoint parts of the output.
            let to = unsafe { out.slice(row * inner * size..(row + 1) * inner * size) };
            for (to, &at) in to.chunks_exact_mut(size).zip(last) {
                let at = (base + at) * size;
                to.copy_from_slice(&x[at..at + size]);
            }
        }
    });
    Ok(())
}

/// The position in x of position `i` of the result along an axis.
fn mirror(i: usize, before: usize, extent: usize, mode: PadMode<'_>) -> usize {
    match mode {
        PadMode::Reflect if i < before => before - i,
        PadMode::Reflect if i - before >= extent => 2 * (extent - 1) - (i - before),
        _ => i.saturating_sub(before).min(extent.saturating_sub(1)),
    }
}
