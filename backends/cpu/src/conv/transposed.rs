//! Transposed convolution: a product with the weight gives every window's taps, which are added up in place. Plain
//! convolutions are in `mod.rs`.

use super::ConvError;
use crate::error::{count, exact, parameters};
use crate::gemm::{Epilogue, Matrix, gemm};
use crate::isa::Isa;
use crate::threads::{SharedMut, parallel_for};

const NAME: &str = "transposed convolution";

/// Extents and attributes; lists are one entry a spatial axis.
#[derive(Clone, Debug)]
pub struct TransposedSpec<'a> {
    /// Batch elements.
    pub batch: usize,
    /// Channels of x in each group.
    pub group_in: usize,
    /// Channels of the result in each group.
    pub group_out: usize,
    /// Groups.
    pub groups: usize,
    /// Extents of x.
    pub input: &'a [usize],
    /// Extents of the result.
    pub output: &'a [usize],
    /// Extents of the weight's window.
    pub kernel: &'a [usize],
    /// Step from one window to the next.
    pub strides: &'a [usize],
    /// Distance of taps.
    pub dilations: &'a [usize],
    /// Cut from the result's beginning.
    pub pads: &'a [usize],
}

impl TransposedSpec<'_> {
    /// Numbers of working memory that [`conv_transposed`] needs.
    pub fn workspace(&self) -> Option<usize> {
        let taps = self.kernel.iter().try_fold(self.group_out, |n, &d| n.checked_mul(d))?;
        self.input.iter().try_fold(taps, |n, &d| n.checked_mul(d))
    }
}

/// x `[batch, groups group_in, input..]` with w `[groups group_in, group_out, kernel..]` and a bias a channel to out
/// `[batch, groups group_out, output..]`.
pub fn conv_transposed(
    isa: Isa,
    spec: &TransposedSpec<'_>,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    columns: &mut [f32],
    out: &mut [f32],
) -> Result<(), ConvError> {
    let axes = spec.input.len();
    let lists = [spec.output, spec.kernel, spec.strides, spec.dilations, spec.pads];
    if lists.iter().any(|l| l.len() != axes) {
        return Err(parameters(NAME, format!("attributes of another number of axes than {axes}")).into());
    }
    if spec.strides.contains(&0) {
        return Err(parameters(NAME, "a stride of 0").into());
    }
    let (area, taps) = (count(NAME, spec.input)?, count(NAME, spec.kernel)?);
    let plane = count(NAME, spec.output)?;
    let (rows, inputs) = (count(NAME, &[spec.group_out, taps])?, count(NAME, &[spec.group_in, area])?);
    exact(NAME, "x", x.len(), count(NAME, &[spec.batch, spec.groups, inputs])?)?;
    exact(NAME, "w", w.len(), count(NAME, &[spec.groups, spec.group_in, rows])?)?;
    exact(NAME, "output", out.len(), count(NAME, &[spec.batch, spec.groups, spec.group_out, plane])?)?;
    if let Some(b) = bias {
        exact(NAME, "bias", b.len(), count(NAME, &[spec.groups, spec.group_out])?)?;
    }
    let Some(columns) = columns.get_mut(..count(NAME, &[rows, area])?) else {
        return Err(parameters(NAME, "the workspace is too small").into());
    };
    if out.is_empty() {
        return Ok(());
    }
    for (n, g) in (0..spec.batch).flat_map(|n| (0..spec.groups).map(move |g| (n, g))) {
        let x = &x[(n * spec.groups + g) * inputs..][..inputs];
        let w = &w[g * spec.group_in * rows..][..spec.group_in * rows];
        if spec.group_in == 0 || area == 0 {
            columns.fill(0.0);
        } else {
            let left = Matrix::row_major(w, spec.group_in, rows).transposed();
            let right = Matrix::row_major(x, spec.group_in, area);
            gemm(isa, &left, &right, columns, area, &Epilogue::default())?;
        }
        let planes = SharedMut::new(&mut out[(n * spec.groups + g) * spec.group_out * plane..]);
        parallel_for(spec.group_out, (taps * area) as u64, |channel| {
            // SAFETY: channels are disjoint parts of the output.
            let to = unsafe { planes.slice(channel * plane..(channel + 1) * plane) };
            to.fill(bias.map_or(0.0, |b| b[g * spec.group_out + channel]));
            let columns = &columns[channel * taps * area..(channel + 1) * taps * area];
            for (tap, from) in columns.chunks_exact(area.max(1)).enumerate() {
                add_tap(spec, tap, from, to);
            }
        });
    }
    Ok(())
}

/// Adds what one tap of all windows gives to a plane of the result.
fn add_tap(spec: &TransposedSpec<'_>, tap: usize, from: &[f32], to: &mut [f32]) {
    // Where window 0 puts the tap along each axis, from the result's beginning.
    let mut offsets = vec![0isize; spec.input.len()];
    let mut t = tap;
    for (i, offset) in offsets.iter_mut().enumerate().rev() {
        *offset = (t % spec.kernel[i] * spec.dilations[i]) as isize - spec.pads[i] as isize;
        t /= spec.kernel[i];
    }
    let Some(last) = spec.input.len().checked_sub(1) else { return };
    let (inner, stride) = (spec.input[last], spec.strides[last]);
    // Windows whose tap lies on the result.
    let first = offsets[last].min(0).unsigned_abs().div_ceil(stride);
    let end = (spec.output[last] as isize - offsets[last]).max(0) as usize;
    let end = end.div_ceil(stride).min(inner);
    if first >= end {
        return;
    }
    for (row, from) in from.chunks_exact(inner).enumerate() {
        let (mut base, mut step, mut r, mut inside) = (0usize, spec.output[last], row, true);
        for i in (0..last).rev() {
            let at = (r % spec.input[i] * spec.strides[i]) as isize + offsets[i];
            r /= spec.input[i];
            inside &= 0 <= at && (at as usize) < spec.output[i];
            base += at.max(0) as usize * step;
            step *= spec.output[i];
        }
        if !inside {
            continue;
        }
        let start = (base + first * stride).wrapping_add_signed(offsets[last]);
        for (y, v) in to[start..].iter_mut().step_by(stride).zip(&from[first..end]) {
            *y += v;
        }
    }
}
