//! Pictures to `pixel_values`: files decoded to RGB, resized as Pillow does to the last bit, cropped, rescaled and
//! normalised as transformers' image processors do. Labels and captions do not belong here.

mod decode;
mod processor;
mod resize;

pub use decode::{MAX_PIXELS, MAX_SIDE, decode};
pub use processor::{ImageProcessor, KINDS, Kind, Size};
pub use resize::{Filter, resize};

use crate::error::{Error, Result};

/// A picture: rows of RGB, 8 bits each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// Takes `3 * width * height` bytes, rows from the top. Fails when the size is 0 or too large, or the bytes do not
    /// fit it.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>, name: &str) -> Result<Self> {
        check_size(width as u64, height as u64, name)?;
        let expected = width.checked_mul(height).and_then(|n| n.checked_mul(3));
        if expected != Some(pixels.len()) {
            return Err(Error::ImageDamaged {
                name: name.to_owned(),
                message: format!("{} bytes for {width} x {height} pixels of RGB", pixels.len()),
            });
        }
        Ok(Picture { width, height, pixels })
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels, red, green, blue, rows from the top.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// One row.
    fn row(&self, y: usize) -> &[u8] {
        let stride = self.width.saturating_mul(3);
        let start = y.saturating_mul(stride);
        self.pixels.get(start..start.saturating_add(stride)).unwrap_or(&[])
    }
}

/// Refuses sizes of 0 and such as would fill the memory.
fn check_size(width: u64, height: u64, name: &str) -> Result<()> {
    let side = 1..=u64::from(MAX_SIDE);
    if !side.contains(&width) || !side.contains(&height) || width.saturating_mul(height) > MAX_PIXELS {
        let (max_side, max_pixels) = (MAX_SIDE, MAX_PIXELS);
        return Err(Error::ImageSize { name: name.to_owned(), width, height, max_side, max_pixels });
    }
    Ok(())
}
