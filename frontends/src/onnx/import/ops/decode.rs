//! Decoding of image files. The bytes must be known at import, as the extents of the image are in them; other ops of
//! images are in `image.rs`.

use super::indexing::word;
use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::Tensor;
use image::{ImageReader, Limits};
use std::io::Cursor;

pub const ROWS: &[Row] = &[("", "ImageDecoder", 20, image_decoder)];

/// A file may not decode to more bytes.
const MAX_BYTES: u64 = 256 << 20;

#[derive(Clone, Copy)]
enum Pixels {
    Rgb,
    Bgr,
    Grey,
}

/// ImageDecoder: rows of pixels, `[height, width, channels]`, u8.
fn image_decoder<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let pixels = word(n, "pixel_format", "RGB", |w| match w {
        "RGB" => Some(Pixels::Rgb),
        "BGR" => Some(Pixels::Bgr),
        "Grayscale" => Some(Pixels::Grey),
        _ => None,
    })?;
    let file = cx.numbers(n, 0)?;
    let bad = |e: &dyn std::fmt::Display| n.error(format!("operand 0: no image that can be read: {e}"));
    let mut reader =
        ImageReader::new(Cursor::new(file.bytes())).with_guessed_format().map_err(|e| bad(&e))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let image = reader.decode().map_err(|e| bad(&e))?.into_rgb8();
    let (height, width) = (image.height() as usize, image.width() as usize);
    let mut bytes = image.into_raw();
    let channels = match pixels {
        Pixels::Rgb => 3,
        Pixels::Bgr => {
            bytes.chunks_exact_mut(3).for_each(<[u8]>::reverse);
            3
        }
        Pixels::Grey => {
            // Luma of ITU-R BT.601 in 16-bit fixed point.
            bytes = bytes.chunks_exact(3).map(luma).collect();
            1
        }
    };
    let decoded = Tensor::from_bytes(frit_ir::DType::U8, &[height, width, channels], &bytes);
    let decoded = decoded.map_err(|e| cx.refused(e))?;
    Ok(vec![cx.constant(decoded)?.into()])
}

fn luma(pixel: &[u8]) -> u8 {
    let weighted: u32 = pixel.iter().zip([19595u32, 38470, 7471]).map(|(&v, w)| u32::from(v) * w).sum();
    u8::try_from((weighted + 0x8000) >> 16).unwrap_or(u8::MAX)
}
