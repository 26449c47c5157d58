//! What a profile means: every step beside what the machine could do at most. Measuring the machine is the backend's
//! business, printing the command line's.

use crate::profile::StepTime;
use frit_backend::Precision;
use frit_cpu::limits::{Arithmetic, bytes_per_second, operations_per_second};

/// A step that could be done in less is bound by nothing but its start: waking a thread takes about as long.
const SMALL_S: f64 = 5e-6;

/// What a number of threads can do at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Threads.
    pub threads: usize,
    /// Operations a second in the numbers of each of [`Precision::NAMES`].
    pub operations: [f64; Precision::NAMES.len()],
    /// Bytes read from memory a second.
    pub bytes: f64,
}

impl Rates {
    /// Measures the threads of a parallel loop started here; takes about a tenth of a second.
    pub(crate) fn measure() -> Self {
        let operations = Precision::NAMES.map(|(precision, _)| {
            operations_per_second(match precision {
                Precision::Exact => Arithmetic::F32,
                Precision::Bf16 => Arithmetic::Bf16,
                Precision::Int8 => Arithmetic::Int8,
            })
        });
        Rates { threads: frit_cpu::threads::threads(), operations, bytes: bytes_per_second() }
    }

    /// Operations a second in these numbers.
    pub fn operations(&self, precision: Precision) -> f64 {
        let mut rates = Precision::NAMES.iter().zip(self.operations);
        rates.find(|((p, _), _)| *p == precision).map_or(f64::INFINITY, |(_, rate)| rate)
    }
}

/// What the machine can do at most: the threads of an engine, and one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// All threads of the engine.
    pub all: Rates,
    /// One thread.
    pub one: Rates,
}

/// What keeps a step from being faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Arithmetic.
    Compute,
    /// Memory.
    Memory,
    /// Neither: it is so small that its start counts.
    Start,
}

impl Bound {
    /// Every bound with its name.
    pub const NAMES: [(Bound, &'static str); 3] =
        [(Bound::Compute, "compute"), (Bound::Memory, "memory"), (Bound::Start, "start")];

    /// The name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(b, _)| *b == self).map_or("", |(_, n)| n)
    }
}

/// A step beside the limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// Seconds that it took.
    pub time: f64,
    /// Seconds that it would take at the limit that binds. More than `time` where operands came from caches.
    pub at_limit: f64,
    /// Which limit that is.
    pub bound: Bound,
}

impl Judged {
    /// The part of the limit reached: 1 at the limit, above where operands came from caches.
    pub fn share(&self) -> f64 {
        if self.time > 0.0 { self.at_limit / self.time } else { 0.0 }
    }

    /// Seconds lost against the limit.
    pub fn lost(&self) -> f64 {
        (self.time - self.at_limit).max(0.0)
    }
}

/// A step, or several as one, beside the limits.
pub fn judge(step: &StepTime, rates: &Rates) -> Judged {
    let time = step.time.as_secs_f64();
    let compute = step.flops / rates.operations(step.precision);
    let memory = step.bytes / rates.bytes;
    let at_limit = compute.max(memory);
    let bound = match () {
        () if at_limit < SMALL_S => Bound::Start,
        () if compute >= memory => Bound::Compute,
        () => Bound::Memory,
    };
    Judged { time, at_limit, bound }
}

/// A whole run beside the limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Seconds of all steps.
    pub time: f64,
    /// Seconds at the limits. A step that was faster, its operands being in caches, counts as it was.
    pub at_limits: f64,
    /// By what binds: steps, seconds, seconds at the limits.
    pub by_bound: [(Bound, usize, f64, f64); 3],
    /// The steps that lose most against their limit, worst first: their positions.
    pub worst: Vec<usize>,
}

/// Sums up a run, and names the `most` steps that lose most.
pub fn summarise(steps: &[StepTime], rates: &Rates, most: usize) -> Summary {
    let judged: Vec<Judged> = steps.iter().map(|s| judge(s, rates)).collect();
    let by_bound = Bound::NAMES.map(|(bound, _)| {
        let of = judged.iter().filter(|j| j.bound == bound);
        let sums = of.fold((0, 0.0, 0.0), |(n, t, l), j| (n + 1, t + j.time, l + j.at_limit.min(j.time)));
        (bound, sums.0, sums.1, sums.2)
    });
    let mut worst: Vec<usize> = (0..judged.len()).collect();
    let lost = |i: &usize| judged.get(*i).map_or(0.0, Judged::lost);
    worst.sort_by(|a, b| lost(b).total_cmp(&lost(a)));
    worst.truncate(most);
    Summary {
        time: judged.iter().map(|j| j.time).sum(),
        at_limits: by_bound.iter().map(|(_, _, _, l)| l).sum(),
        by_bound,
        worst,
    }
}

/// Several profiles of the same run as one: of every step the median time.
pub fn median(profiles: &[Vec<StepTime>]) -> Vec<StepTime> {
    let Some(last) = profiles.last() else { return Vec::new() };
    let mut steps = last.clone();
    for (i, step) in steps.iter_mut().enumerate() {
        let mut times: Vec<_> = profiles.iter().filter_map(|p| p.get(i)).map(|s| s.time).collect();
        times.sort_unstable();
        step.time = times.get(times.len() / 2).copied().unwrap_or(step.time);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const RATES: Rates = Rates { threads: 1, operations: [1e9, 2e9, 8e9], bytes: 1e8 };

    fn step(ms: u64, flops: f64, bytes: f64, precision: Precision) -> StepTime {
        let time = Duration::from_millis(ms);
        let text = String::new;
        let start = Duration::ZERO;
        StepTime {
            label: text(),
            op: text(),
            fused: text(),
            kernel: text(),
            precision,
            start,
            time,
            flops,
            bytes,
        }
    }

    #[test]
    fn the_larger_of_both_times_binds() {
        let judged = |s: &StepTime| judge(s, &RATES);
        let compute = judged(&step(20, 1e7, 1e5, Precision::Exact));
        assert_eq!((compute.bound, compute.share(), compute.lost()), (Bound::Compute, 0.5, 0.01));
        assert_eq!(judged(&step(20, 1e7, 1e5, Precision::Bf16)).at_limit, 0.005);
        assert_eq!(judged(&step(20, 8e7, 1e5, Precision::Int8)).at_limit, 0.01);
        let memory = judged(&step(4, 1e5, 1e6, Precision::Exact));
        assert_eq!((memory.bound, memory.lost()), (Bound::Memory, 0.0));
        assert!(memory.share() > 2.0, "operands came from caches");
        assert_eq!(judged(&step(1, 10.0, 10.0, Precision::Exact)).bound, Bound::Start);
    }

    #[test]
    fn the_summary_adds_up_and_names_the_worst() {
        let steps = [
            step(20, 1e7, 0.0, Precision::Exact),
            step(4, 0.0, 1e6, Precision::Exact),
            step(1, 1.0, 1.0, Precision::Exact),
        ];
        let s = summarise(&steps, &RATES, 2);
        assert_eq!(s.worst, [0, 2]);
        assert!((s.time - 0.025).abs() < 1e-9 && (s.at_limits - 0.014).abs() < 1e-6, "{s:?}");
        assert_eq!(s.by_bound.map(|b| b.1), [1, 1, 1]);
    }

    #[test]
    fn several_profiles_become_one_of_medians() {
        let run = |ms| vec![step(ms, 1.0, 1.0, Precision::Exact)];
        assert_eq!(median(&[run(9), run(1), run(2)])[0].time, Duration::from_millis(2));
        assert!(median(&[]).is_empty());
    }
}
