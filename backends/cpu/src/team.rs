//! The helpers of one thread that runs parallel loops: rayon jobs that stay for a moment after a loop, because the
//! next one usually comes within microseconds and waking a thread that sleeps costs tens of them.
//! How a loop's tasks are numbered and shared out belongs to `threads`; nothing here knows what a task is.
//!
//! A caller opens a loop, works on it itself, closes it, and waits for those helpers that had entered; a helper that
//! comes too late finds it closed. So no loop waits for a thread that never came, as on a crowded machine or when the
//! pool's threads run other sessions. A helper that has found nothing for [`LINGER`] returns its thread to rayon,
//! which puts it to sleep.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a helper looks out for the next loop.
const LINGER: Duration = Duration::from_micros(100);
/// Looks at the loop's state between two looks at the clock and at what else the pool has to do.
const LOOKS: u32 = 32;
/// Looks that a caller takes before it offers its processor to others while the last helper finishes.
const PATIENCE: u32 = 2000;

/// In [`Team::state`]: a loop may be entered. Below it the count of helpers that have, above it the loop's number.
const OPEN: u64 = 1 << 16;
const ENTERED: u64 = OPEN - 1;

/// A loop's body: called with the number of the worker, from 0 (the caller) up.
type Body<'b> = &'b (dyn Fn(usize) + Sync);

/// What a caller and its helpers share.
pub(crate) struct Team {
    /// Number of the loop, [`OPEN`], helpers that entered it.
    state: AtomicU64,
    /// Helpers that are through with this loop.
    done: AtomicU32,
    /// Helper jobs that were sent and have not ended.
    sent: AtomicU32,
    /// A job that came to a thread which helps already, and now waits for another thread.
    handed_on: AtomicBool,
    /// The open loop: written while closed and nobody is inside, read by those who entered.
    body: UnsafeCell<Option<Body<'static>>>,
    /// What a helper's task panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `body` is written only by the caller while the loop is closed and no helper is inside, and read only by
// helpers that entered an open loop; the state's acquire and release order the two. All else is atomic or locked.
unsafe impl Sync for Team {}
// SAFETY: the body is `Sync`, so it may be called from any thread.
unsafe impl Send for Team {}

thread_local! {
    /// The team of loops that this thread calls.
    static TEAM: Arc<Team> = Arc::new(Team::new());
    /// Whether this thread is at work on a loop, as its caller or as a helper.
    static BUSY: Cell<bool> = const { Cell::new(false) };
    /// The team that this thread serves; null for none.
    static SERVING: Cell<*const Team> = const { Cell::new(std::ptr::null()) };
}

/// Runs `body(0)` here and `body(1)`, `body(2)`, ... on as many helpers of the current rayon pool as come in time:
/// asked for are `workers - 1`, but none may come, and one that still lingers from a wider loop may come as well. So
/// the bodies share out the work as they go. Returns false (and has done nothing) inside a loop: one that is nested
/// cannot use the team.
pub(crate) fn run(workers: usize, body: Body<'_>) -> bool {
    if BUSY.get() {
        return false;
    }
    let team = TEAM.with(Arc::clone);
    team.lead(workers, body);
    true
}

impl Team {
    fn new() -> Team {
        Team {
            state: AtomicU64::new(0),
            done: AtomicU32::new(0),
            sent: AtomicU32::new(0),
            handed_on: AtomicBool::new(false),
            body: UnsafeCell::new(None),
            panic: Mutex::new(None),
        }
    }

    fn lead(self: Arc<Team>, workers: usize, body: Body<'_>) {
        let helpers = workers.saturating_sub(1).min(ENTERED as usize) as u32;
        // SAFETY: the lifetime is forgotten only until `Closing` is dropped, which waits for all who entered.
        let body_for_helpers = unsafe { std::mem::transmute::<Body<'_>, Body<'static>>(body) };
        // SAFETY: closed, and the caller of the last loop, this thread, waited for everybody inside.
        unsafe { *self.body.get() = Some(body_for_helpers) };
        self.done.store(0, Ordering::Relaxed);
        *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let number = (self.state.load(Ordering::Relaxed) & !(OPEN | ENTERED)).wrapping_add(OPEN << 1);
        // Either a leaving helper sees this, or this thread sees that it has left.
        self.state.store(number | OPEN, Ordering::SeqCst);
        let closing = Closing(&self);
        BUSY.set(true);
        while self.sent.load(Ordering::SeqCst) < helpers {
            self.sent.fetch_add(1, Ordering::SeqCst);
            let team = self.clone();
            rayon::spawn(move || team.serve());
        }
        body(0);
        drop(closing);
        let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// A helper's life: loops as they come, until none has come for a while. A helper that looks for other work may be
    /// given a second job of its own team, which would be a helper without a thread: that one is passed on.
    fn serve(self: Arc<Team>) {
        let this = Arc::as_ptr(&self);
        let outer = SERVING.replace(this);
        if outer == this {
            self.handed_on.store(true, Ordering::Relaxed);
            rayon::spawn(move || self.serve());
            return;
        }
        self.handed_on.store(false, Ordering::Relaxed);
        self.help_for_a_while();
        SERVING.set(outer);
    }

    fn help_for_a_while(&self) {
        let mut last_seen = 0;
        'served: loop {
            let mut since = Instant::now();
            'waiting: loop {
                for _ in 0..LOOKS {
                    if self.help(&mut last_seen) {
                        since = Instant::now();
                    }
                    std::hint::spin_loop();
                }
                // What other sessions have for this thread goes first, but it would take back what it passed on.
                if !self.handed_on.load(Ordering::Relaxed)
                    && rayon::yield_now() == Some(rayon::Yield::Executed)
                {
                    since = Instant::now();
                }
                if since.elapsed() > LINGER {
                    break 'waiting;
                }
            }
            self.sent.fetch_sub(1, Ordering::SeqCst);
            let state = self.state.load(Ordering::SeqCst);
            if state & OPEN == 0 || state & !(OPEN | ENTERED) == last_seen {
                break 'served;
            }
            // A loop was opened while this helper counted as present.
            self.sent.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Works on the open loop, if there is one that this helper has not seen.
    fn help(&self, last_seen: &mut u64) -> bool {
        let state = self.state.load(Ordering::Acquire);
        let number = state & !(OPEN | ENTERED);
        if state & OPEN == 0 || number == *last_seen {
            return false;
        }
        let worker = (state & ENTERED) as usize + 1;
        if self.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        *last_seen = number;
        // SAFETY: this helper is counted in an open loop, whose body stays until it is counted as done.
        let body = unsafe { *self.body.get() };
        let was_busy = BUSY.replace(true);
        if let Some(body) = body
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(worker)))
        {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
        BUSY.set(was_busy);
        self.done.fetch_add(1, Ordering::Release);
        true
    }
}

/// Closes the loop and waits for the helpers inside, also when the caller's own tasks panic.
struct Closing<'t>(&'t Team);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let entered = (self.0.state.fetch_and(!OPEN, Ordering::AcqRel) & ENTERED) as u32;
        let mut looks = 0u32;
        while self.0.done.load(Ordering::Acquire) < entered {
            looks = looks.saturating_add(1);
            if looks < PATIENCE {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        // SAFETY: closed, and nobody is inside any more.
        unsafe { *self.0.body.get() = None };
        BUSY.set(false);
    }
}

#[cfg(test)]
mod tests {
    use crate::threads::parallel_for;
    use std::sync::Barrier;
    use std::time::Duration;

    #[test]
    fn helpers_come_at_once_after_a_pause_and_again() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        pool.install(|| {
            for round in 0..300 {
                // No task ends before all three are under way, so both helpers must have come.
                let meeting = Barrier::new(3);
                parallel_for(3, 1_000_000, |_| {
                    meeting.wait();
                });
                if round % 50 == 0 {
                    std::thread::sleep(3 * super::LINGER + Duration::from_millis(1));
                }
            }
        });
    }

    #[test]
    fn a_caller_outside_any_pool_has_helpers_too() {
        let total = std::sync::atomic::AtomicUsize::new(0);
        for _ in 0..100 {
            parallel_for(9, 1_000_000, |task| {
                total.fetch_add(task, std::sync::atomic::Ordering::Relaxed);
            });
        }
        assert_eq!(total.into_inner(), 3600);
    }
}
