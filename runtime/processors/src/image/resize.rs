//! Pillow's `Image.resize` of 8-bit RGB, bit for bit: two passes of fixed-point convolution for the filters, and the
//! affine walk for nearest. Cropping and scaling of values do not belong here.

use super::{Picture, check_size};
use crate::error::Result;
use std::f64::consts::PI;

/// Pillow's resampling filters; the numbers are those of preprocessor_config.json's `resample`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// 0
    Nearest,
    /// 1
    Lanczos,
    /// 2
    Bilinear,
    /// 3
    Bicubic,
    /// 4
    Box,
    /// 5
    Hamming,
}

impl Filter {
    /// The filter of a number of Pillow's.
    pub fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Filter::Nearest,
            1 => Filter::Lanczos,
            2 => Filter::Bilinear,
            3 => Filter::Bicubic,
            4 => Filter::Box,
            5 => Filter::Hamming,
            _ => return None,
        })
    }

    /// Half of the width of the filter, in pixels of the source at scale 1.
    fn support(self) -> f64 {
        match self {
            Filter::Nearest => 0.0,
            Filter::Box => 0.5,
            Filter::Bilinear | Filter::Hamming => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    /// The weight at distance `x`. The order of operations is part of the contract: results are equal to the last bit.
    fn weight(self, x: f64) -> f64 {
        match self {
            Filter::Nearest => 0.0,
            Filter::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Filter::Bilinear => (1.0 - x.abs()).max(0.0),
            Filter::Hamming => match x.abs() {
                0.0 => 1.0,
                x if x >= 1.0 => 0.0,
                x => {
                    let x = x * PI;
                    x.sin() / x * (0.54 + 0.46 * x.cos())
                }
            },
            Filter::Bicubic => {
                const A: f64 = -0.5;
                let x = x.abs();
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Filter::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * PI;
    x.sin() / x
}

/// Bits after the point of the fixed-point weights.
const PRECISION: u32 = 32 - 8 - 2;

/// The weights of one output pixel: where they start in the source, and their values.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

/// The windows of all output pixels of one axis.
fn windows(filter: Filter, from: usize, to: usize) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let widened = scale.max(1.0);
    let support = filter.support() * widened;
    let inverse = 1.0 / widened;
    (0..to)
        .map(|i| {
            let center = (i as f64 + 0.5) * scale;
            // `as` truncates towards 0 and turns negatives to 0, as the C code does in two steps.
            let start = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let mut weights: Vec<f64> =
                (start..end).map(|x| filter.weight((x as f64 - center + 0.5) * inverse)).collect();
            let sum: f64 = weights.iter().sum();
            if sum != 0.0 {
                weights.iter_mut().for_each(|w| *w /= sum);
            }
            Window { start, weights: weights.into_iter().map(to_fixed).collect() }
        })
        .collect()
}

fn to_fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1u32 << PRECISION);
    if weight < 0.0 { (scaled - 0.5) as i32 } else { (scaled + 0.5) as i32 }
}

fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Half a unit, so that the shift rounds.
const HALF: i32 = 1 << (PRECISION - 1);

fn horizontal(source: &Picture, windows: &[Window]) -> Vec<u8> {
    let mut out = Vec::with_capacity(source.height.saturating_mul(windows.len()).saturating_mul(3));
    for y in 0..source.height {
        let row = source.row(y);
        for window in windows {
            let mut sum = [HALF; 3];
            let pixels = row.get(window.start.saturating_mul(3)..).unwrap_or(&[]).chunks_exact(3);
            for (pixel, &weight) in pixels.zip(&window.weights) {
                for (s, &p) in sum.iter_mut().zip(pixel) {
                    *s = s.wrapping_add(i32::from(p).wrapping_mul(weight));
                }
            }
            out.extend(sum.map(to_byte));
        }
    }
    out
}

fn vertical(source: &Picture, windows: &[Window]) -> Vec<u8> {
    let stride = source.width.saturating_mul(3);
    let mut out = Vec::with_capacity(stride.saturating_mul(windows.len()));
    let mut sums = vec![HALF; stride];
    for window in windows {
        sums.fill(HALF);
        for (y, &weight) in (window.start..).zip(&window.weights) {
            for (s, &p) in sums.iter_mut().zip(source.row(y)) {
                *s = s.wrapping_add(i32::from(p).wrapping_mul(weight));
            }
        }
        out.extend(sums.iter().map(|&s| to_byte(s)));
    }
    out
}

/// Source coordinates that nearest takes: steps are added up, as Pillow's affine transform does.
fn nearest_table(from: usize, to: usize) -> Vec<usize> {
    let step = from as f64 / to as f64;
    let mut at = step * 0.5;
    (0..to)
        .map(|_| {
            let x = (at as usize).min(from.saturating_sub(1));
            at += step;
            x
        })
        .collect()
}

fn nearest(source: &Picture, width: usize, height: usize) -> Vec<u8> {
    let columns = nearest_table(source.width, width);
    let mut out = Vec::with_capacity(width.saturating_mul(height).saturating_mul(3));
    for y in nearest_table(source.height, height) {
        let row = source.row(y);
        for &x in &columns {
            let start = x.saturating_mul(3);
            out.extend_from_slice(row.get(start..start.saturating_add(3)).unwrap_or(&[0; 3]));
        }
    }
    out
}

/// Resizes to `width` x `height`, equal to Pillow's result for the filter. `name` is for messages.
pub fn resize(source: &Picture, width: usize, height: usize, filter: Filter, name: &str) -> Result<Picture> {
    check_size(width as u64, height as u64, name)?;
    if (width, height) == (source.width, source.height) {
        return Ok(source.clone());
    }
    if filter == Filter::Nearest {
        return Picture::new(width, height, nearest(source, width, height), name);
    }
    let across = |p: &Picture| {
        if width == p.width {
            return Ok(p.clone());
        }
        check_size(width as u64, p.height as u64, name)?;
        Picture::new(width, p.height, horizontal(p, &windows(filter, p.width, width)), name)
    };
    let down = |p: &Picture| {
        if height == p.height {
            return Ok(p.clone());
        }
        check_size(p.width as u64, height as u64, name)?;
        Picture::new(p.width, height, vertical(p, &windows(filter, p.height, height)), name)
    };
    if down_first(source, width, height) { across(&down(source)?) } else { down(&across(source)?) }
}

/// Whether the vertical pass comes first: since Pillow 13, when the height shrinks by more than twice what the width
/// does. Before 13 the horizontal pass always came first; the results differ in the last bit at most here and there.
fn down_first(source: &Picture, width: usize, height: usize) -> bool {
    let shrinks = |from: usize, to: usize| from as i64 - to as i64;
    let rows = shrinks(source.height, height);
    rows > 0 && rows > 2 * shrinks(source.width, width)
}
