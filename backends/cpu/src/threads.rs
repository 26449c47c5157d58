//! How work is split between threads: [`parallel_for`] over numbered tasks, on the rayon pool of the caller.
//!
//! The rule every kernel keeps: what a task computes depends on its number and the problem only, never on the
//! number of threads, so that results are the same to the last bit with any pool. No kernel lives here.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Work below this many nanoseconds in total runs on the calling thread: waking another costs about as much.
const INLINE_NS: u64 = 10_000;

thread_local! {
    /// Set while this thread computes alone.
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// The number of threads that a parallel loop started here would use.
pub fn threads() -> usize {
    // Asked first: rayon, asked outside a pool, would start one.
    if ALONE.get() { 1 } else { rayon::current_num_threads() }
}

/// Whether parallel loops started here run on this thread alone.
pub fn is_alone() -> bool {
    ALONE.get()
}

/// Runs `f` with every parallel loop in it on this thread alone, which needs no pool.
pub fn alone<R>(f: impl FnOnce() -> R) -> R {
    /// Also when `f` panics.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _restore = Restore(ALONE.replace(true));
    f()
}

/// What `f` gives on every thread that a parallel loop started here would use; its argument counts them.
pub fn on_each<R: Send>(f: impl Fn(usize) -> R + Sync) -> Vec<R> {
    if ALONE.get() { vec![f(0)] } else { rayon::broadcast(|cx| f(cx.index())) }
}

/// Runs `f(0)`, ..., `f(n_tasks - 1)`, each exactly once, on the threads of the current rayon pool.
///
/// `cost_ns` is the rough time of one task on one core in nanoseconds; a loop whose total is small runs on the
/// calling thread, as does every loop when the pool has one thread. Each thread begins with its own contiguous
/// share of the task numbers (so neighbours in number share a cache) and, once done, takes what others have
/// left. Loops may nest.
pub fn parallel_for(n_tasks: usize, cost_ns: u64, f: impl Fn(usize) + Sync) {
    let workers = threads().min(n_tasks);
    if workers <= 1 || cost_ns.saturating_mul(n_tasks as u64) < INLINE_NS {
        (0..n_tasks).for_each(f);
        return;
    }
    let shares: Vec<Share> = (0..workers).map(|w| Share::new(split(n_tasks, workers, w))).collect();
    let body = |worker: usize| {
        for turn in 0..workers {
            let share = &shares[(worker + turn) % workers];
            while let Some(task) = share.take() {
                f(task);
            }
        }
    };
    // Loops inside loops are rare and have threads enough: rayon runs them.
    if !crate::team::run(workers, &body) {
        run_workers(0..workers, &body);
    }
}

/// Cuts `0..len` into ranges of `grain` elements (the last may be shorter) and runs `f` on each, as
/// [`parallel_for`] does. `cost_ns` is that of one element.
pub fn parallel_ranges(len: usize, grain: usize, cost_ns: f64, f: impl Fn(Range<usize>) + Sync) {
    let grain = grain.max(1);
    let task_ns = (cost_ns * grain.min(len) as f64) as u64;
    parallel_for(len.div_ceil(grain), task_ns, |task| {
        let start = task * grain;
        f(start..(start + grain).min(len));
    });
}

/// The `index`-th of `parts` nearly equal contiguous shares of `0..len`.
pub fn split(len: usize, parts: usize, index: usize) -> Range<usize> {
    let (small, larger) = (len / parts, len % parts);
    let start = index * small + index.min(larger);
    start..start + small + usize::from(index < larger)
}

/// One thread's share of the task numbers, on a cache line of its own.
#[repr(align(128))]
struct Share {
    next: AtomicUsize,
    end: usize,
}

impl Share {
    fn new(range: Range<usize>) -> Share {
        Share { next: AtomicUsize::new(range.start), end: range.end }
    }

    fn take(&self) -> Option<usize> {
        // The first look keeps finished shares from being counted up without end.
        if self.next.load(Ordering::Relaxed) >= self.end {
            return None;
        }
        let task = self.next.fetch_add(1, Ordering::Relaxed);
        (task < self.end).then_some(task)
    }
}

/// Runs `body` once for each worker number, halving the range with `join`: no allocation, and a worker whose
/// thread is slow to wake is run by the one that waits for it.
fn run_workers(range: Range<usize>, body: &(impl Fn(usize) + Sync)) {
    if range.len() <= 1 {
        range.for_each(body);
        return;
    }
    let middle = range.start + range.len() / 2;
    rayon::join(|| run_workers(range.start..middle, body), || run_workers(middle..range.end, body));
}

/// A pointer into a buffer whose tasks write disjoint parts of it.
///
/// The wrapper only carries the pointer between threads; whoever dereferences it states why no two tasks touch
/// the same element.
#[derive(Clone, Copy, Debug)]
pub struct SharedMut<T>(*mut T);

// SAFETY: the pointer itself is plain data; every dereference is an unsafe block that argues disjointness.
unsafe impl<T: Send> Send for SharedMut<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<T> {}

impl<T> SharedMut<T> {
    /// Wraps the buffer's start; the buffer must outlive every use, which the borrow at the call site shows.
    pub fn new(buffer: &mut [T]) -> SharedMut<T> {
        SharedMut(buffer.as_mut_ptr())
    }

    /// Wraps a pointer that is read, or that is the output buffer of a kernel that works in place.
    pub(crate) fn from_const(start: *const T) -> SharedMut<T> {
        SharedMut(start.cast_mut())
    }

    /// The pointer.
    pub fn ptr(self) -> *mut T {
        self.0
    }

    /// The elements `range` of the buffer.
    ///
    /// # Safety
    /// The range lies inside the buffer, the buffer is alive, and nothing else touches these elements meanwhile.
    pub unsafe fn slice<'a>(self, range: Range<usize>) -> &'a mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn every_task_runs_exactly_once() {
        for threads in [1, 2, 3, 7] {
            for n in [0, 1, 2, 5, 64, 1000] {
                let counts: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                pool(threads).install(|| {
                    parallel_for(n, 1_000_000, |task| {
                        counts[task].fetch_add(1, Ordering::Relaxed);
                    });
                });
                assert!(
                    counts.iter().all(|count| count.load(Ordering::Relaxed) == 1),
                    "{threads} threads, {n} tasks"
                );
            }
        }
    }

    #[test]
    fn alone_means_this_thread() {
        let here = std::thread::current().id();
        alone(|| {
            assert_eq!(threads(), 1);
            parallel_for(50, 1_000_000, |_| assert_eq!(std::thread::current().id(), here));
            alone(|| ());
            assert_eq!(on_each(|index| (index, std::thread::current().id())), [(0, here)]);
        });
        let caught = std::panic::catch_unwind(|| alone(|| panic!("the flag is taken back")));
        assert!(caught.is_err());
        pool(2).install(|| assert_eq!((threads(), on_each(|index| index).len()), (2, 2)));
    }

    #[test]
    fn loops_nest() {
        let total = AtomicUsize::new(0);
        pool(3).install(|| {
            parallel_for(5, 1_000_000, |_| {
                parallel_for(7, 1_000_000, |task| {
                    total.fetch_add(task, Ordering::Relaxed);
                });
            });
        });
        assert_eq!(total.load(Ordering::Relaxed), 5 * 21);
    }

    #[test]
    fn many_loops_from_many_threads_at_once() {
        let pool = pool(3);
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    pool.install(|| {
                        for round in 0..500 {
                            let sum = AtomicUsize::new(0);
                            parallel_for(1 + round % 9, 1_000_000, |task| {
                                sum.fetch_add(task + 1, Ordering::Relaxed);
                            });
                            let n = 1 + round % 9;
                            assert_eq!(sum.load(Ordering::Relaxed), n * (n + 1) / 2);
                            total.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 4 * 500);
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_leaves_the_pool_usable() {
        let pool = pool(2);
        for bad in 0..8 {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                pool.install(|| {
                    parallel_for(8, 1_000_000, |task| {
                        std::thread::sleep(std::time::Duration::from_micros(50));
                        assert!(task != bad, "task {bad}");
                    });
                });
            }));
            assert!(caught.is_err());
            let sum = AtomicUsize::new(0);
            pool.install(|| {
                parallel_for(8, 1_000_000, |task| {
                    sum.fetch_add(task, Ordering::Relaxed);
                })
            });
            assert_eq!(sum.load(Ordering::Relaxed), 28);
        }
    }

    #[test]
    fn ranges_cover_the_length() {
        for (len, grain) in [(0, 4), (1, 4), (9, 4), (12, 4), (3, 0)] {
            let mut seen = vec![0u8; len];
            let shared = SharedMut::new(&mut seen);
            pool(2).install(|| {
                parallel_ranges(len, grain, 1e6, |range| {
                    // SAFETY: the ranges are disjoint parts of `seen`.
                    unsafe { shared.slice(range) }.iter_mut().for_each(|mark| *mark += 1);
                });
            });
            assert!(seen.iter().all(|&mark| mark == 1));
        }
    }

    #[test]
    fn shares_are_even_and_complete() {
        for (len, parts) in [(10, 3), (2, 2), (7, 7), (100, 9)] {
            let ranges: Vec<_> = (0..parts).map(|index| split(len, parts, index)).collect();
            assert_eq!(ranges[0].start, 0);
            assert_eq!(ranges[parts - 1].end, len);
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            let lengths: Vec<_> = ranges.iter().map(ExactSizeIterator::len).collect();
            assert!(lengths.iter().max().unwrap() - lengths.iter().min().unwrap() <= 1);
        }
    }
}
