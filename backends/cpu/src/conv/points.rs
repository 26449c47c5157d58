//! Convolutions of single pixels over small maps: the pixels are the rows of a product with the weight in panels of
//! columns, and the result is stored transposed. A map of 81 pixels wastes nothing that way; as columns it would
//! fill a panel of 32 and a piece.

use super::{Call, ConvSpec};
use crate::gemm::{GemmError, Matrix, Packed, PackedLayout, gemm_packed_turned};

/// Pixels of the largest maps whose pixels are rows: see docs/gemm.md.
const PIXELS: usize = 400;

/// Whether each output sees one pixel and all channels.
pub(super) fn fits(spec: &ConvSpec) -> bool {
    let unpadded = spec.pad == [0; 3] && spec.pad_end == [0; 3];
    unpadded && spec.groups == 1 && spec.kernel == [1; 3] && spec.stride == [1; 3]
}

/// Whether this way is the faster one for such extents.
pub(super) fn suits(spec: &ConvSpec) -> bool {
    fits(spec) && (2..=PIXELS).contains(&spec.pixels_in())
}

/// Runs the convolution; `layout` is that of the weight.
pub(super) fn run(call: &Call<'_>, layout: &PackedLayout) -> Result<(), GemmError> {
    let spec = call.spec;
    let (pixels, channels) = (spec.pixels_in(), spec.group_in);
    let weight = Packed::new(*layout, bytemuck::cast_slice(call.weight))?;
    for image in 0..spec.batch {
        let x = call.x.get(image * channels * pixels..).unwrap_or_default();
        let x = Matrix::strided(x, pixels, channels, 1, pixels);
        let first = image * spec.group_out * pixels;
        // SAFETY: the output was checked; the images' parts of it are disjoint.
        let y = unsafe { call.y.slice(first..first + spec.group_out * pixels) };
        let epilogue = call.epilogue_from(image, 0, spec.group_out);
        gemm_packed_turned(call.isa, &x, &weight, y, pixels, &epilogue)?;
    }
    Ok(())
}
