//! Resizing along axes: weighted sums of f32, and picked elements of any size. Where elements lie and what they weigh
//! is the op's business.

use crate::error::{KernelError, count, exact, parameters};
use crate::threads::{SharedMut, parallel_for};

const NAME: &str = "resize";

/// What every element of a result is made of along one axis: elements of x and their weights.
#[derive(Clone, Debug, Default)]
pub struct Taps {
    /// Where the taps of each element begin, and where the last one's end.
    starts: Vec<usize>,
    all: Vec<(usize, f32)>,
}

impl Taps {
    /// From the taps of each element in order.
    pub fn new<'a>(elements: impl IntoIterator<Item = &'a [(usize, f64)]>) -> Taps {
        let mut taps = Taps { starts: vec![0], all: Vec::new() };
        for e in elements {
            taps.all.extend(e.iter().map(|&(i, w)| (i, w as f32)));
            taps.starts.push(taps.all.len());
        }
        taps
    }

    /// Number of elements of the result.
    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// True for a result without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn of(&self, element: usize) -> &[(usize, f32)] {
        &self.all[self.starts[element]..self.starts[element + 1]]
    }
}

/// x `[outer, extent, inner]` to out `[outer, taps, inner]`: weighted sums along the middle axis.
pub fn interpolate(
    x: &[f32],
    [outer, extent, inner]: [usize; 3],
    taps: &Taps,
    out: &mut [f32],
) -> Result<(), KernelError> {
    exact(NAME, "data", x.len(), count(NAME, &[outer, extent, inner])?)?;
    exact(NAME, "output", out.len(), count(NAME, &[outer, taps.len(), inner])?)?;
    if let Some((i, _)) = taps.all.iter().find(|(i, _)| *i >= extent) {
        return Err(parameters(NAME, format!("element {i} of an axis of {extent}")));
    }
    if out.is_empty() {
        return Ok(());
    }
    let (n, out) = (taps.len(), SharedMut::new(out));
    if inner == 1 {
        parallel_for(outer, 2 * n as u64, |row| {
            let from = &x[row * extent..(row + 1) * extent];
            // SAFETY: rows are disjoint parts of the output.
            let to = unsafe { out.slice(row * n..(row + 1) * n) };
            for (e, to) in to.iter_mut().enumerate() {
                *to = taps.of(e).iter().map(|&(i, w)| w * from[i]).sum();
            }
        });
        return Ok(());
    }
    parallel_for(outer * n, inner as u64, |row| {
        let (o, e) = (row / n, row % n);
        // SAFETY: rows are disjoint parts of the output.
        let to = unsafe { out.slice(row * inner..(row + 1) * inner) };
        let from = |i: usize| &x[(o * extent + i) * inner..][..inner];
        match *taps.of(e) {
            [(i, w)] => to.iter_mut().zip(from(i)).for_each(|(y, a)| *y = w * a),
            [(i, v), (j, w)] => {
                to.iter_mut().zip(from(i)).zip(from(j)).for_each(|((y, a), b)| *y = v * a + w * b);
            }
            ref many => {
                to.fill(0.0);
                for &(i, w) in many {
                    to.iter_mut().zip(from(i)).for_each(|(y, a)| *y += w * a);
                }
            }
        }
    });
    Ok(())
}

/// Picks elements of `size` bytes: along each axis of the result, `picked` says which of x's.
pub fn pick(
    size: usize,
    x: (&[u8], &[usize]),
    picked: &[Vec<usize>],
    out: &mut [u8],
) -> Result<(), KernelError> {
    let (x, shape) = x;
    let to: Vec<usize> = picked.iter().map(Vec::len).collect();
    exact(NAME, "data", x.len(), count(NAME, shape)?.saturating_mul(size))?;
    exact(NAME, "output", out.len(), count(NAME, &to)?.saturating_mul(size))?;
    // Nothing picked, perhaps of nothing.
    if out.is_empty() {
        return Ok(());
    }
    if shape.len() != picked.len() || shape.iter().zip(picked).any(|(d, p)| p.iter().any(|i| i >= d)) {
        return Err(parameters(NAME, format!("picks to {to:?} of {shape:?}")));
    }
    // Axes behind that stay are one run of bytes.
    let stays = |(d, p): &(&usize, &Vec<usize>)| p.len() == **d && p.iter().enumerate().all(|(i, j)| i == *j);
    let kept = shape.iter().zip(picked).rev().take_while(stays).count();
    let cut = shape.len() - kept;
    let run = size * shape[cut..].iter().product::<usize>();
    let strides = super::layout::strides(&shape[..cut]);
    let Some((last, rest)) = picked[..cut].split_last() else {
        out.copy_from_slice(x);
        return Ok(());
    };
    let inner = last.len() * run;
    let out = SharedMut::new(out);
    let rows: usize = rest.iter().map(Vec::len).product();
    parallel_for(rows, (inner as u64).div_ceil(8), |row| {
        let (mut base, mut r) = (0, row);
        for (table, stride) in rest.iter().zip(&strides).rev() {
            base += table[r % table.len()] * stride;
            r /= table.len();
        }
        // SAFETY: rows are disjoint parts of the output.
        let to = unsafe { out.slice(row * inner..(row + 1) * inner) };
        match run {
            1 => spread::<1>(&x[base..], last, to),
            2 => spread::<2>(&x[base * 2..], last, to),
            4 => spread::<4>(&x[base * 4..], last, to),
            8 => spread::<8>(&x[base * 8..], last, to),
            _ => {
                for (to, &i) in to.chunks_exact_mut(run).zip(last) {
                    to.copy_from_slice(&x[(base + i) * run..(base + i + 1) * run]);
                }
            }
        }
    });
    Ok(())
}

/// Elements of a size that the compiler knows.
fn spread<const N: usize>(x: &[u8], picked: &[usize], to: &mut [u8]) {
    for (to, &i) in to.chunks_exact_mut(N).zip(picked) {
        to.copy_from_slice(&x[i * N..i * N + N]);
    }
}
