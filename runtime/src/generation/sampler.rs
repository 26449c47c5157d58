//! Drawing tokens from probabilities. The generator is ChaCha8: a seed gives the same tokens on every machine,
//! but not those that torch draws from that seed. What may be drawn is decided before, by the warpers.

use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::numerics;

/// A generator of random numbers for a seed; without one the system's entropy seeds it.
pub(crate) fn seeded(seed: Option<u64>) -> ChaCha8Rng {
    seed.map_or_else(ChaCha8Rng::from_os_rng, ChaCha8Rng::seed_from_u64)
}

/// A row's distribution, from which draws are made without returning what was drawn.
pub(crate) struct Urn {
    weights: Vec<f32>,
}

/// Why there is nothing to draw from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Empty {
    /// Some probability is not a number.
    NotANumber,
    /// Every probability is zero.
    AllForbidden,
}

impl Empty {
    pub(crate) fn what(self) -> &'static str {
        match self {
            Empty::NotANumber => "NaN, or nothing that is allowed",
            Empty::AllForbidden => "nothing that is allowed",
        }
    }
}

impl Urn {
    /// The softmax of a row of scores.
    pub(crate) fn new(scores: &[f32]) -> Result<Urn, Empty> {
        let weights = numerics::softmax(scores);
        if weights.iter().any(|weight| !weight.is_finite()) {
            return Err(Empty::NotANumber);
        }
        if weights.iter().all(|&weight| weight == 0.0) {
            return Err(Empty::AllForbidden);
        }
        Ok(Urn { weights })
    }

    /// Draws a place and removes it; nothing when only places without probability are left.
    ///
    /// One uniform number of [0, 1) with 53 bits is used, scaled to the sum of the weights left: the place is
    /// the first one whose cumulative weight exceeds it.
    pub(crate) fn draw(&mut self, rng: &mut impl RngCore) -> Option<usize> {
        let total: f64 = self.weights.iter().map(|&weight| f64::from(weight)).sum();
        let target = rng.random::<f64>() * total;
        let mut cumulative = 0.0;
        let mut last = None;
        for (place, &weight) in self.weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            cumulative += f64::from(weight);
            last = Some(place);
            if cumulative > target {
                break;
            }
        }
        let weight = last.and_then(|place| self.weights.get_mut(place))?;
        *weight = 0.0;
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_probabilities() {
        let mut rng = seeded(Some(7));
        let scores = [0.1f32.ln(), f32::NEG_INFINITY, 0.6f32.ln(), 0.3f32.ln()];
        let mut counts = [0usize; 4];
        for _ in 0..20_000 {
            counts[Urn::new(&scores).unwrap().draw(&mut rng).unwrap()] += 1;
        }
        for (count, expected) in counts.into_iter().zip([0.1, 0.0, 0.6, 0.3]) {
            // Five standard deviations of 20,000 draws are below 0.018.
            assert!((count as f64 / 20_000.0 - expected).abs() < 0.018, "{counts:?}");
        }
    }

    #[test]
    fn nothing_is_drawn_twice_and_nothing_impossible() {
        let mut rng = seeded(None);
        let mut urn = Urn::new(&[0.0, f32::NEG_INFINITY, 1.0]).unwrap();
        let mut drawn = [urn.draw(&mut rng).unwrap(), urn.draw(&mut rng).unwrap()];
        drawn.sort_unstable();
        assert_eq!(drawn, [0, 2]);
        assert_eq!(urn.draw(&mut rng), None);
    }

    #[test]
    fn seeds_repeat_and_bad_rows_are_refused() {
        let draw = |seed| {
            let mut rng = seeded(Some(seed));
            (0..20).map(|_| Urn::new(&[0.0; 50]).unwrap().draw(&mut rng).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
        assert_eq!(Urn::new(&[f32::NEG_INFINITY; 3]).err(), Some(Empty::NotANumber));
        assert_eq!(Urn::new(&[0.0, f32::NAN]).err(), Some(Empty::NotANumber));
        assert_eq!(Urn::new(&[]).err(), Some(Empty::AllForbidden));
    }
}
