//! PNG and JPEG files to RGB as Pillow's `convert("RGB")` makes it, turned upright by their Exif orientation as
//! transformers' `load_image` does. Resizing does not belong here.

use super::{Picture, check_size};
use crate::assets::RawFile;
use crate::error::{Error, Result, walled};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;

/// Longest side of a picture, in pixels.
pub const MAX_SIDE: u32 = 1 << 16;
/// Most pixels of a picture.
pub const MAX_PIXELS: u64 = 100_000_000;
/// Most bytes that a decoder may allocate.
const MAX_ALLOC: u64 = 1 << 30;

/// Decodes a PNG or JPEG file.
///
/// Fails for other formats, damaged or cut-off files, and sizes of 0 or beyond [`MAX_SIDE`] and [`MAX_PIXELS`], which
/// are checked before anything is decoded.
pub fn decode(file: &RawFile) -> Result<Picture> {
    let name = &file.name;
    walled(|| decode_rgb(file)).unwrap_or_else(|| {
        Err(Error::ImageDamaged { name: name.clone(), message: "the decoder failed".to_owned() })
    })
}

fn decode_rgb(file: &RawFile) -> Result<Picture> {
    let name = &file.name;
    let damaged = |e: image::ImageError| Error::ImageDamaged { name: name.clone(), message: e.to_string() };
    let format = image::guess_format(&file.bytes)
        .ok()
        .filter(|f| matches!(f, ImageFormat::Png | ImageFormat::Jpeg))
        .ok_or_else(|| Error::ImageFormat { name: name.clone() })?;
    if format == ImageFormat::Jpeg && !ends_as_jpeg(&file.bytes) {
        let message = "the file ends before the picture does".to_owned();
        return Err(Error::ImageDamaged { name: name.clone(), message });
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_ALLOC);
    let mut reader = ImageReader::with_format(Cursor::new(file.bytes.as_slice()), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    check_size(width.into(), height.into(), name)?;
    let orientation = decoder.orientation().map_err(damaged)?;
    let image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    let pixels = to_rgb(&image);
    let broken =
        || Error::ImageDamaged { name: name.clone(), message: "the pixels do not fit the size".to_owned() };
    let rgb = image::RgbImage::from_raw(width, height, pixels).ok_or_else(broken)?;
    let mut upright = DynamicImage::ImageRgb8(rgb);
    upright.apply_orientation(orientation);
    let (width, height) = (upright.width() as usize, upright.height() as usize);
    Picture::new(width, height, upright.into_rgb8().into_raw(), name)
}

/// Pillow's conversions: transparency is dropped, 16-bit colours lose their low byte, 16-bit grey above 255 is white.
fn to_rgb(image: &DynamicImage) -> Vec<u8> {
    let high = |x: u16| (x >> 8) as u8;
    match image {
        DynamicImage::ImageRgb8(i) => i.as_raw().clone(),
        DynamicImage::ImageLuma8(i) => i.iter().flat_map(|&x| [x; 3]).collect(),
        DynamicImage::ImageLumaA8(i) => i.pixels().flat_map(|p| [p.0[0]; 3]).collect(),
        DynamicImage::ImageRgba8(i) => i.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]]).collect(),
        DynamicImage::ImageLuma16(i) => i.iter().flat_map(|&x| [x.min(255) as u8; 3]).collect(),
        DynamicImage::ImageLumaA16(i) => i.pixels().flat_map(|p| [high(p.0[0]); 3]).collect(),
        DynamicImage::ImageRgb16(i) => i.iter().map(|&x| high(x)).collect(),
        DynamicImage::ImageRgba16(i) => {
            i.pixels().flat_map(|p| [high(p.0[0]), high(p.0[1]), high(p.0[2])]).collect()
        }
        other => other.to_rgb8().into_raw(),
    }
}

/// Whether the end marker follows the last scan of a JPEG (a thumbnail before it has markers of its own). The decoder
/// fills a missing rest with grey; that would be a wrong answer.
fn ends_as_jpeg(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    const END: u8 = 0xd9;
    let last = |marker: u8| bytes.windows(2).rposition(|w| w == [0xff, marker]);
    last(END) > last(START_OF_SCAN)
}
