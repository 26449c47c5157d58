//! How kernels that may work in place name their input. No kernel lives here.

/// An input that is a slice of its own, or the output buffer itself.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a, T> {
    /// Elements elsewhere, as many as the output has.
    Slice(&'a [T]),
    /// The output buffer holds the input and is overwritten.
    InPlace,
}

impl<'a, T> Source<'a, T> {
    /// Where to read: the slice, or the output. None when the slice has another length than the output.
    pub(crate) fn pointer(&self, out: *const T, len: usize) -> Option<*const T> {
        match self {
            Source::Slice(s) => (s.len() == len).then_some(s.as_ptr()),
            Source::InPlace => Some(out),
        }
    }

    /// Elements in the slice, or those of the output.
    pub(crate) fn len_or(&self, out: usize) -> usize {
        match self {
            Source::Slice(s) => s.len(),
            Source::InPlace => out,
        }
    }
}

impl<'a, T> From<&'a [T]> for Source<'a, T> {
    fn from(s: &'a [T]) -> Self {
        Source::Slice(s)
    }
}
