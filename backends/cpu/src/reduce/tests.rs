//! Tests of this folder's kernels against naive loops.
