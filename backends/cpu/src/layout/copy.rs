//! The strided copy under all layout ops: any axis order, steps of either sign, broadcasts; rows as
//! memory copies and transpositions in tiles. Only moving whole elements belongs here.

use crate::error::{KernelError, at_least, parameters};
use crate::isa::Isa;
use crate::simd::{Simd, Vectorised, dispatch};
use crate::threads::{SharedMut, parallel_for};

const NAME: &str = "strided copy";

/// Where a box of elements lies in a buffer: its first element and the distance to the next along each axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Index of the box's first element.
    pub offset: usize,
    /// One stride an axis, in elements; 0 repeats, negative walks backwards.
    pub strides: Vec<isize>,
}

impl Placement {
    /// A dense row-major box at the start of its buffer.
    pub fn dense(shape: &[usize]) -> Placement {
        Placement { offset: 0, strides: super::strides(shape).into_iter().map(|s| s as isize).collect() }
    }

    /// First and last index touched by a box that is not empty.
    fn span(&self, shape: &[usize]) -> Option<(usize, usize)> {
        let (mut low, mut high) = (isize::try_from(self.offset).ok()?, isize::try_from(self.offset).ok()?);
        for (&n, &s) in shape.iter().zip(&self.strides) {
            let reach = isize::try_from(n.checked_sub(1)?).ok()?.checked_mul(s)?;
            if reach < 0 {
                low = low.checked_add(reach)?;
            } else {
                high = high.checked_add(reach)?;
            }
        }
        Some((usize::try_from(low).ok()?, usize::try_from(high).ok()?))
    }
}

/// An axis after merging.
#[derive(Clone, Copy, Debug)]
struct Axis {
    extent: usize,
    from: isize,
    to: isize,
}

/// Copies a box of `shape` elements of `size` bytes (1, 2, 4 or 8) from where `from` says in `src` to where
/// `to` says in `dst`. No two elements of the box may have the same place in `dst`.
pub fn copy(
    isa: Isa,
    size: usize,
    shape: &[usize],
    src: &[u8],
    from: &Placement,
    dst: &mut [u8],
    to: &Placement,
) -> Result<(), KernelError> {
    if from.strides.len() != shape.len() || to.strides.len() != shape.len() {
        return Err(parameters(NAME, "one stride an axis is needed"));
    }
    if shape.contains(&0) {
        return Ok(());
    }
    if !matches!(size, 1 | 2 | 4 | 8)
        || !src.as_ptr().addr().is_multiple_of(size)
        || !dst.as_ptr().addr().is_multiple_of(size)
    {
        return Err(parameters(NAME, format!("the buffers do not hold elements of {size} bytes")));
    }
    let overflow = || parameters(NAME, format!("a box of {shape:?} leaves its buffer"));
    let (_, last) = from.span(shape).ok_or_else(overflow)?;
    at_least(NAME, "source", src.len() / size, last.checked_add(1))?;
    let (_, last) = to.span(shape).ok_or_else(overflow)?;
    at_least(NAME, "destination", dst.len() / size, last.checked_add(1))?;
    if !distinct(shape, &to.strides) {
        return Err(parameters(NAME, format!("strides {:?} give several elements one place", to.strides)));
    }
    let axes = merge(shape, &from.strides, &to.strides);
    match size {
        // SAFETY: both boxes were checked to lie inside their buffers, and the places written to be distinct.
        1 => unsafe {
            run::<u8>(isa, &axes, src.as_ptr().cast::<u8>().add(from.offset), dst.as_mut_ptr().add(to.offset))
        },
        // SAFETY: as above, and the buffers are aligned.
        2 => unsafe {
            run::<u16>(
                isa,
                &axes,
                src.as_ptr().cast::<u16>().add(from.offset),
                dst.as_mut_ptr().cast::<u16>().add(to.offset),
            )
        },
        // SAFETY: as above.
        4 => unsafe {
            run::<u32>(
                isa,
                &axes,
                src.as_ptr().cast::<u32>().add(from.offset),
                dst.as_mut_ptr().cast::<u32>().add(to.offset),
            )
        },
        // SAFETY: as above.
        _ => unsafe {
            run::<u64>(
                isa,
                &axes,
                src.as_ptr().cast::<u64>().add(from.offset),
                dst.as_mut_ptr().cast::<u64>().add(to.offset),
            )
        },
    }
    Ok(())
}

/// True when different elements have different places: each stride exceeds what the smaller ones span.
fn distinct(shape: &[usize], strides: &[isize]) -> bool {
    let mut axes: Vec<(usize, usize)> =
        shape.iter().zip(strides).filter(|(n, _)| **n > 1).map(|(&n, s)| (s.unsigned_abs(), n)).collect();
    axes.sort_unstable();
    let mut span = 0usize;
    axes.into_iter().all(|(s, n)| {
        let apart = s > span;
        span = span.saturating_add(s.saturating_mul(n - 1));
        apart
    })
}

/// Drops axes of extent 1, puts the destination's fastest axis last, and joins axes that continue each other.
fn merge(shape: &[usize], from: &[isize], to: &[isize]) -> Vec<Axis> {
    let mut axes: Vec<Axis> = shape
        .iter()
        .zip(from.iter().zip(to))
        .filter(|(n, _)| **n > 1)
        .map(|(&extent, (&from, &to))| Axis { extent, from, to })
        .collect();
    axes.sort_by_key(|a| std::cmp::Reverse(a.to.unsigned_abs()));
    let mut merged: Vec<Axis> = Vec::with_capacity(axes.len());
    for axis in axes {
        let n = axis.extent as isize;
        match merged.last_mut() {
            Some(outer) if outer.from == axis.from * n && outer.to == axis.to * n => {
                *outer = Axis { extent: outer.extent * axis.extent, ..axis };
            }
            _ => merged.push(axis),
        }
    }
    merged
}

/// Elements that a task moves at least.
const GRAIN: usize = 1 << 14;

/// # Safety
/// The boxes at `src` and `dst` are readable and writable, and no two elements share a place in `dst`.
unsafe fn run<T: Copy + Send + Sync>(isa: Isa, axes: &[Axis], src: *const T, dst: *mut T) {
    let Some((&inner, outer)) = axes.split_last() else {
        // SAFETY: a box of one element.
        unsafe { *dst = *src };
        return;
    };
    // With rows that are not contiguous in the source, an axis that is makes a transposition of tiles.
    let across =
        if inner.from != 1 && inner.to == 1 { outer.iter().rposition(|a| a.from == 1) } else { None };
    let (second, rest): (Axis, Vec<Axis>) = match across {
        Some(k) => (outer[k], outer.iter().enumerate().filter(|(i, _)| *i != k).map(|(_, a)| *a).collect()),
        None => match outer.split_last() {
            Some((&second, rest)) => (second, rest.to_vec()),
            None => (Axis { extent: 1, from: 0, to: 0 }, Vec::new()),
        },
    };
    // One long row is cut into pieces; otherwise tasks are runs of rows.
    let piece = if second.extent == 1 && rest.is_empty() { GRAIN.min(inner.extent) } else { inner.extent };
    let pieces = inner.extent.div_ceil(piece);
    let rows = (GRAIN / piece).next_multiple_of(16).clamp(16, second.extent.max(16));
    let chunks = second.extent.div_ceil(rows);
    let boxes: usize = rest.iter().map(|a| a.extent).product();
    let (src, dst) = (SharedMut::from_const(src), SharedMut::from_const(dst.cast_const()));
    let cost = (rows.min(second.extent) * piece) as f64 * if inner.from == 1 { 0.15 } else { 0.6 };
    parallel_for(boxes * chunks * pieces, cost as u64, |task| {
        let (row, p) = (task / pieces, task % pieces);
        let (mut b, c) = (row / chunks, row % chunks);
        let (mut at, mut to) = (0isize, 0isize);
        for axis in rest.iter().rev() {
            let i = (b % axis.extent) as isize;
            b /= axis.extent;
            at += i * axis.from;
            to += i * axis.to;
        }
        let first = (c * rows) as isize;
        at += first * second.from + (p * piece) as isize * inner.from;
        to += first * second.to + (p * piece) as isize * inner.to;
        let second = Axis { extent: rows.min(second.extent - c * rows), ..second };
        let inner = Axis { extent: piece.min(inner.extent - p * piece), ..inner };
        // SAFETY: this part of the boxes is inside them; parts are disjoint.
        unsafe {
            let (src, dst) = (src.ptr().cast_const().offset(at), dst.ptr().offset(to));
            if across.is_some() {
                transpose(isa, second, inner, src, dst);
            } else {
                rows_of(second, inner, src, dst);
            }
        }
    });
}

/// # Safety
/// As for [`run`], for two axes.
unsafe fn rows_of<T: Copy>(second: Axis, inner: Axis, src: *const T, dst: *mut T) {
    for r in 0..second.extent as isize {
        // SAFETY: row r of the box.
        unsafe {
            let (src, dst) = (src.offset(r * second.from), dst.offset(r * second.to));
            if inner.from == 1 && inner.to == 1 {
                std::ptr::copy_nonoverlapping(src, dst, inner.extent);
            } else if inner.from == 0 && inner.to == 1 {
                std::slice::from_raw_parts_mut(dst, inner.extent).fill(*src);
            } else {
                for i in 0..inner.extent as isize {
                    *dst.offset(i * inner.to) = *src.offset(i * inner.from);
                }
            }
        }
    }
}

/// Moves a matrix whose rows are contiguous in the source along `second` and in the destination along `inner`.
/// # Safety
/// As for [`run`], with `second.from == 1` and `inner.to == 1`.
unsafe fn transpose<T: Copy>(isa: Isa, second: Axis, inner: Axis, src: *const T, dst: *mut T) {
    if size_of::<T>() == 4 && inner.from > 0 && second.to > 0 {
        // Only moved, never computed with: any four bytes may pass as an f32.
        dispatch(isa, Tiles { second, inner, src: src.cast(), dst: dst.cast() });
        return;
    }
    const TILE: usize = 16;
    for r0 in (0..second.extent).step_by(TILE) {
        for c0 in (0..inner.extent).step_by(TILE) {
            for r in r0..(r0 + TILE).min(second.extent) {
                for c in c0..(c0 + TILE).min(inner.extent) {
                    // SAFETY: element (r, c) of the box.
                    unsafe {
                        *dst.offset(r as isize * second.to + c as isize) =
                            *src.offset(r as isize + c as isize * inner.from);
                    }
                }
            }
        }
    }
}

struct Tiles {
    second: Axis,
    inner: Axis,
    src: *const f32,
    dst: *mut f32,
}

impl Vectorised for Tiles {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Tiles { second, inner, src, dst } = self;
        let (lead_src, lead_dst) = (inner.from as usize, second.to as usize);
        for r0 in (0..second.extent).step_by(S::LANES) {
            for c0 in (0..inner.extent).step_by(S::LANES) {
                let (rows, columns) = (S::LANES.min(second.extent - r0), S::LANES.min(inner.extent - c0));
                // SAFETY: a tile of rows x columns inside the box.
                unsafe {
                    let (src, dst) = (src.add(c0 * lead_src + r0), dst.add(r0 * lead_dst + c0));
                    if rows == S::LANES && columns == S::LANES {
                        s.transpose(src, lead_src, dst, lead_dst);
                        continue;
                    }
                    // The bits are copied as integers, so that no NaN is touched.
                    let (src, dst) = (src.cast::<u32>(), dst.cast::<u32>());
                    for r in 0..rows {
                        for c in 0..columns {
                            *dst.add(r * lead_dst + c) = *src.add(c * lead_src + r);
                        }
                    }
                }
            }
        }
    }
}
