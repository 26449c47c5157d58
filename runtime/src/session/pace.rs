//! Whether a session's next run is worth the engine's threads. A network so small that a run takes as long as waking
//! threads and meeting them again is faster on the calling thread; which it is, is measured while it runs. Results are
//! the same either way, and nothing else is decided here.

use std::time::Duration;

/// Runs longer than this always use the engine's threads.
const SHORT: Duration = Duration::from_micros(300);
/// Runs of each way before they are compared by the shortest.
const TRIALS: u32 = 3;

/// Short runs of one way.
#[derive(Clone, Copy, Default)]
struct Runs {
    count: u32,
    shortest: Duration,
}

impl Runs {
    fn add(&mut self, time: Duration) {
        self.shortest = if self.count == 0 { time } else { self.shortest.min(time) };
        self.count = self.count.saturating_add(1);
    }
}

/// What runs took since they became short.
#[derive(Clone, Copy, Default)]
pub(super) struct Pace {
    together: Runs,
    alone: Runs,
}

impl Pace {
    /// Whether the next run goes on the calling thread alone.
    pub fn alone(&self) -> bool {
        if self.together.count < TRIALS {
            return false;
        }
        self.alone.count < TRIALS || self.alone.shortest <= self.together.shortest
    }

    /// Takes note of a run.
    pub fn record(&mut self, alone: bool, time: Duration) {
        match (alone, time > SHORT) {
            // Sizes have grown: what was measured no longer counts.
            (true, true) if time > 2 * SHORT => *self = Pace::default(),
            (false, true) => *self = Pace::default(),
            (true, _) => self.alone.add(time),
            (false, false) => self.together.add(time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the last ten of a hundred runs were alone.
    fn settled(pace: &mut Pace, together: u64, alone: u64) -> usize {
        let run = |_| {
            let way = pace.alone();
            pace.record(way, Duration::from_micros(if way { alone } else { together }));
            way
        };
        (0..100).map(run).skip(90).filter(|&way| way).count()
    }

    #[test]
    fn the_faster_way_is_kept() {
        assert_eq!(settled(&mut Pace::default(), 140, 100), 10);
        assert_eq!(settled(&mut Pace::default(), 140, 200), 0);
        assert_eq!(settled(&mut Pace::default(), 5_000, 9_000), 0);
    }

    #[test]
    fn growing_sizes_bring_the_threads_back() {
        let mut pace = Pace::default();
        assert_eq!(settled(&mut pace, 140, 100), 10);
        assert_eq!(settled(&mut pace, 2_000, 4_000), 0);
        assert_eq!(settled(&mut pace, 140, 100), 10);
    }
}
