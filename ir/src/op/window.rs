//! Geometry of sliding windows, shared by convolutions and pools. No arithmetic on elements belongs here.

use super::{Eval, Infer, OpError};
use crate::dim::Dim;

/// A window's attributes over `n` spatial axes.
#[derive(Clone, Copy)]
pub struct Window<'a> {
    /// Step from one window to the next, one an axis.
    pub strides: &'a [i64],
    /// Zeros around the input: first all begins, then all ends.
    pub pads: &'a [i64],
    /// Distance of taps, one an axis.
    pub dilations: &'a [i64],
}

impl Window<'_> {
    /// Checks number and range of the attributes for `n` spatial axes.
    pub fn check(&self, cx: &Infer<'_>, n: usize) -> Result<(), OpError> {
        let lists = [
            ("strides", self.strides, n, 1),
            ("pads", self.pads, 2 * n, 0),
            ("dilations", self.dilations, n, 1),
        ];
        for (name, list, count, least) in lists {
            if list.len() != count || list.iter().any(|&v| v < least) {
                return Err(
                    cx.bad_attr(name, format!("expected {count} numbers of {least} or more, got {list:?}"))
                );
            }
        }
        Ok(())
    }

    /// Stride, begin, end and dilation of spatial axis `i`.
    pub fn along(&self, i: usize) -> (i64, i64, i64, i64) {
        let get = |v: &[i64], i: usize, or: i64| v.get(i).copied().unwrap_or(or);
        let n = self.strides.len();
        (get(self.strides, i, 1), get(self.pads, i, 0), get(self.pads, n + i, 0), get(self.dilations, i, 1))
    }

    /// Number of windows along spatial axis `i`: floor((extent + pads - dilation (kernel - 1) - 1) / stride) + 1;
    /// rounded up in ceil mode, but no window starts beyond the input and its begin pad.
    pub fn extent(
        &self,
        cx: &Infer<'_>,
        i: usize,
        input: &Dim,
        kernel: i64,
        ceil: bool,
    ) -> Result<Dim, OpError> {
        let (stride, begin, end, dilation) = self.along(i);
        let overflow = || OpError::Dim { op: cx.op, source: crate::DimError::Overflow };
        let reach = kernel.checked_sub(1).and_then(|k| k.checked_mul(dilation)).ok_or_else(overflow)?;
        let pads = begin.checked_add(end).ok_or_else(overflow)?;
        let slack = pads.checked_sub(reach).and_then(|s| s.checked_sub(1)).ok_or_else(overflow)?;
        let span = input.add_const(slack)?;
        // In ceil mode a window may hang over the end by less than a stride: also the only one.
        let over = if ceil { stride - 1 } else { 0 };
        if span.as_const().is_some_and(|s| s < -over) {
            let least = reach.saturating_sub(pads).saturating_add(1).saturating_sub(over);
            return Err(cx.reject(0, format!("at least {least} along spatial axis {i}")));
        }
        let stride = Dim::constant(stride);
        if ceil {
            let rounded = span.ceil_div(&stride)?.add_const(1)?;
            let started = input.add_const(begin)?.ceil_div(&stride)?;
            return Ok(rounded.minimum(&started)?);
        }
        Ok(span.floor_div(&stride)?.add_const(1)?)
    }

    /// The input position under tap `tap` of window `at` along spatial axis `i`; None in the padding.
    pub fn source(&self, i: usize, at: usize, tap: usize, extent: usize) -> Option<usize> {
        let p = self.padded_source(i, at, tap)?;
        usize::try_from(p).ok().filter(|&p| p < extent)
    }

    /// As [`Window::source`], but counted from the input's first element whether inside or not.
    pub fn padded_source(&self, i: usize, at: usize, tap: usize) -> Option<i64> {
        let (stride, begin, _, dilation) = self.along(i);
        let start = i64::try_from(at).ok()?.checked_mul(stride)?;
        start.checked_add(i64::try_from(tap).ok()?.checked_mul(dilation)?)?.checked_sub(begin)
    }
}

/// A kernel's extents as they must be: fixed and at least 1.
pub fn fixed_kernel(cx: &Infer<'_>, index: usize, dims: &[Dim]) -> Result<Vec<i64>, OpError> {
    dims.iter()
        .map(|d| {
            d.as_const()
                .filter(|&k| k >= 1)
                .ok_or_else(|| cx.reject(index, "fixed kernel extents of 1 or more"))
        })
        .collect()
}

/// The groups of an attribute, which must be positive.
pub fn groups(cx: &Eval<'_>, group: i64) -> Result<usize, OpError> {
    usize::try_from(group).ok().filter(|&g| g > 0).ok_or_else(|| cx.bad_data(format!("{group} groups")))
}
