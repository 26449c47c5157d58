//! Working memory of kernels: one buffer a thread, grown and kept. Nothing that outlives a task belongs here.

use std::cell::RefCell;

/// Floats that a cache line holds; buffers begin on one.
const LINE: usize = 16;

thread_local! {
    static BUFFER: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` with `len` floats of unspecified value, aligned to 64 bytes.
pub(crate) fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let run = |v: &mut Vec<f32>| {
        if v.len() < len + LINE {
            v.resize(len + LINE, 0.0);
        }
        let skip = v.as_ptr().align_offset(64).min(LINE);
        f(&mut v[skip..skip + len])
    };
    BUFFER.with(|buffer| match buffer.try_borrow_mut() {
        Ok(mut v) => run(&mut v),
        // A kernel inside a kernel on this thread: rare, so memory of its own.
        Err(_) => run(&mut Vec::new()),
    })
}
