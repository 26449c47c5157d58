//! Change of the sampling rate by band-limited interpolation (crate rubato, in the frequency domain).
//! Reading files does not belong here.

use super::decode::{MAX_SAMPLES, Sound};
use crate::error::{Error, Result, walled};
use rubato::audioadapter_buffers::owned::InterleavedOwned;
use rubato::{Fft, FixedSync, Resampler};

/// Lowest sampling rate taken, in Hz.
pub const MIN_RATE: u32 = 1_000;
/// Highest sampling rate taken, in Hz.
pub const MAX_RATE: u32 = 768_000;

/// Least number of samples, at the lower rate, transformed at a time. Longer is steeper, and rings longer.
const BLOCK: u32 = 1024;

/// Brings a sound to `rate` samples a second.
///
/// The result has `ceil(samples * rate / sound.rate)` samples and no delay: sample `i` of it stands for the time
/// `i / rate`. What lies above half the lower rate is taken out. A sound that has the rate already is returned as it is.
/// `name` is for messages.
pub fn resample(sound: Sound, rate: u32, name: &str) -> Result<Sound> {
    for r in [sound.rate, rate] {
        if !(MIN_RATE..=MAX_RATE).contains(&r) {
            return Err(Error::SamplingRate { name: name.to_owned(), rate: r, min: MIN_RATE, max: MAX_RATE });
        }
    }
    if sound.rate == rate || sound.samples.is_empty() {
        return Ok(Sound { rate, ..sound });
    }
    let length = (sound.samples.len() as u128 * u128::from(rate)).div_ceil(u128::from(sound.rate));
    let too_long = || Error::SoundTooLong { name: name.to_owned(), limit: MAX_SAMPLES };
    let length = usize::try_from(length).ok().filter(|&n| n <= MAX_SAMPLES).ok_or_else(too_long)?;
    let failed = |message: String| Error::SoundDamaged { name: name.to_owned(), frames: 0, message };
    let samples = walled(|| interpolate(&sound.samples, sound.rate, rate, length))
        .unwrap_or_else(|| Err("the resampler failed".to_owned()))
        .map_err(failed)?;
    Ok(Sound { samples, rate })
}

fn interpolate(samples: &[f32], from: u32, to: u32, length: usize) -> std::result::Result<Vec<f32>, String> {
    // The filter delays by half a block. An even number of the ratio's periods makes that a whole number of samples on
    // both sides, so that cutting it off leaves no shift in time.
    let common = gcd(from, to);
    let periods = BLOCK.div_ceil(from.min(to) / common).next_multiple_of(2);
    let block = (from / common).saturating_mul(periods);
    let mut resampler = Fft::<f64>::new(from as usize, to as usize, block as usize, 1, FixedSync::Both)
        .map_err(|e| e.to_string())?;
    let wide: Vec<f64> = samples.iter().map(|&x| f64::from(x)).collect();
    let input = InterleavedOwned::new_from(wide, 1, samples.len()).map_err(|e| e.to_string())?;
    let output = resampler.process_all(&input, samples.len(), None).map_err(|e| e.to_string())?.take_data();
    let mut wanted: Vec<f32> = output.into_iter().take(length).map(|x| x as f32).collect();
    // The library rounds the length in floating point; it may be one off.
    wanted.resize(length, 0.0);
    Ok(wanted)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(rate: u32, frequency: f64, seconds: f64) -> Sound {
        let n = (f64::from(rate) * seconds) as usize;
        let step = std::f64::consts::TAU * frequency / f64::from(rate);
        Sound { samples: (0..n).map(|i| (step * i as f64).sin() as f32).collect(), rate }
    }

    /// Away from the ends, a sine below half of both rates comes out as the same sine at the same time.
    #[test]
    fn sines_keep_frequency_phase_and_height() {
        for (from, to, frequency) in [
            (44_100, 16_000, 1000.0),
            (8000, 16_000, 3000.0),
            (48_000, 16_000, 6500.0),
            (22_050, 16_000, 440.0),
            (16_001, 16_000, 5000.0),
            (96_000, 16_000, 7000.0),
            (11_025, 16_000, 5000.0),
        ] {
            let got = resample(sine(from, frequency, 2.0), to, "sine").unwrap();
            let want = sine(to, frequency, 2.0).samples;
            let edge = want.len() / 4;
            let worst = got
                .samples
                .iter()
                .zip(&want)
                .skip(edge)
                .take(want.len() - 2 * edge)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(worst < 1e-4, "{from} -> {to} Hz at {frequency} Hz: off by {worst}");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_taken_out() {
        let got = resample(sine(48_000, 12_000.0, 0.5), 16_000, "sine").unwrap();
        let edge = got.samples.len() / 10;
        let rest = &got.samples[edge..got.samples.len() - edge];
        assert!(rest.iter().all(|x| x.abs() < 1e-4));
    }

    #[test]
    fn lengths_are_exact() {
        for (from, to, n) in [
            (44_100u32, 16_000u32, 1usize),
            (44_100, 16_000, 441),
            (8000, 16_000, 3),
            (96_000, 8000, 5),
            (11_025, 16_000, 100_003),
        ] {
            let sound = Sound { samples: vec![0.5; n], rate: from };
            let want = (n as u64 * u64::from(to)).div_ceil(u64::from(from)) as usize;
            assert_eq!(resample(sound, to, "x").unwrap().samples.len(), want, "{from} -> {to}, {n}");
        }
    }

    #[test]
    fn impossible_rates_are_refused() {
        for rate in [0, 1, 999, MAX_RATE + 1] {
            let sound = Sound { samples: vec![0.0; 4], rate };
            assert!(matches!(resample(sound, 16_000, "x"), Err(Error::SamplingRate { .. })));
        }
    }
}
