//! What models of images share: the input, patches, class tokens, positions on a grid. Layers do not belong here.

use super::conv::Convolution;
use crate::error::ConfigError;
use crate::hf::config::{Pair, counts};
use crate::hf::cx::{Built, Cx};
use crate::hf::weights::WeightScope;
use frit_ir::{DType, Dim, Tensor, ValueId};

/// More patches than any model takes.
pub const MAX_PATCHES: usize = 1 << 14;
/// More patches than any model with relative positions takes: numbers of all pairs are made while building.
pub const MAX_PAIRED_PATCHES: usize = 1 << 12;

/// An image cut into patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchGrid {
    /// Rows of patches.
    pub rows: usize,
    /// Columns of patches.
    pub columns: usize,
}

impl PatchGrid {
    /// The grid of an image; parts of a patch at the right and the bottom are dropped.
    pub fn of(image: (usize, usize), patch: Pair) -> Self {
        PatchGrid {
            rows: image.0.checked_div(patch.height()).unwrap_or(0),
            columns: image.1.checked_div(patch.width()).unwrap_or(0),
        }
    }

    /// Number of patches.
    pub fn patches(self) -> usize {
        self.rows.saturating_mul(self.columns)
    }
}

/// Refuses images without a single patch, and absurd extents.
pub fn check_sizes(image: Pair, patch: Pair) -> Result<(), ConfigError> {
    for (axis, image, patch) in
        [("height", image.height(), patch.height()), ("width", image.width(), patch.width())]
    {
        counts(&[("image_size", image), ("patch_size", patch)])?;
        if patch > image {
            let why = format!("{axis} {image} is less than that of a patch, {patch}");
            return Err(ConfigError::invalid("image_size", why));
        }
    }
    if PatchGrid::of((image.height(), image.width()), patch).patches() > MAX_PATCHES {
        return Err(ConfigError::invalid(
            "patch_size",
            format!("more than {MAX_PATCHES} patches in an image"),
        ));
    }
    Ok(())
}

/// Height and width of the images of a call: those of the tensor at hand, fixed dimensions, or the config's.
pub fn image_extents(cx: &Cx<'_, '_>, input: &str, config: Pair) -> (usize, usize) {
    let given = cx.given(input).and_then(|s| s.shape.as_ref()).filter(|s| s.len() == 4);
    let axis = |i: usize, symbol: &str, usual: usize| {
        given.and_then(|s| s.get(i).copied()).or_else(|| cx.fixed(symbol)).unwrap_or(usual)
    };
    (axis(2, "height", config.height()), axis(3, "width", config.width()))
}

/// The input `pixel_values`: [batch, channels, height, width].
pub fn pixel_values(cx: &mut Cx<'_, '_>, channels: usize, image: (usize, usize)) -> Built {
    let shape = vec![cx.dim("batch"), Dim::from(channels), Dim::from(image.0), Dim::from(image.1)];
    cx.input("pixel_values", DType::F32, shape, None)
}

/// Patches by one convolution whose stride is its kernel: [batch, width, rows, columns].
pub fn patches(
    cx: &mut Cx<'_, '_>,
    w: &WeightScope<'_>,
    image: ValueId,
    channels: usize,
    width: usize,
    patch: Pair,
) -> Built {
    let kernel = [patch.height(), patch.width()];
    let layer = Convolution {
        inputs: channels,
        outputs: width,
        kernel: &kernel,
        stride: &kernel,
        padding: &[0, 0],
        groups: 1,
        bias: true,
    };
    layer.apply(cx, w, image)
}

/// [batch, width, rows, columns] to [batch, rows * columns, width].
pub fn as_sequence(cx: &mut Cx<'_, '_>, grid: ValueId) -> Built {
    let shape = cx.b.shape(grid)?;
    let [batch, width, rows, columns] = shape.as_slice() else {
        return Err(cx.b.error("a grid has four axes").into());
    };
    let flat = cx.b.reshape(grid, &[batch.clone(), width.clone(), rows.mul(columns)?])?;
    Ok(cx.b.transpose(flat, &[0, 2, 1])?)
}

/// The input `bool_masked_pos` [batch, patches], when given: patches where it is true become `mask_token`.
pub fn mask_patches(cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, patches: ValueId, width: usize) -> Built {
    if !cx.has("bool_masked_pos") {
        return Ok(patches);
    }
    let (batch, count) = (cx.extent(patches, 0)?, cx.extent(patches, 1)?);
    let mask = cx.input("bool_masked_pos", DType::Bool, vec![batch, count], None)?;
    let mask = cx.unsqueeze(mask, 2)?;
    let mask = cx.b.cast(mask, DType::F32)?;
    let token = cx.weight(w, "mask_token", &[1, 1, width])?;
    let kept = cx.scalar_minus(1.0, mask)?;
    let kept = cx.b.mul(patches, kept)?;
    let masked = cx.b.mul(token, mask)?;
    Ok(cx.b.add(kept, masked)?)
}

/// Puts a token [1, 1, width] before the patches of every image.
pub fn prepend(cx: &mut Cx<'_, '_>, token: ValueId, patches: ValueId) -> Built {
    let (batch, width) = (cx.extent(patches, 0)?, cx.extent(patches, 2)?);
    let token = cx.expand(token, &[batch, Dim::constant(1), width])?;
    cx.concat(1, &[token, patches])
}

/// Resamples positions stored for a grid, [1, 1 + rows * columns, width] with the class token's first, to another
/// grid: torch's bicubic interpolation without aligned corners. Gives the patches' positions alone,
/// [1, to.rows * to.columns, width].
pub fn resample_positions(table: &Tensor, width: usize, from: PatchGrid, to: PatchGrid) -> Built<Tensor> {
    let values = table.to_f32_vec();
    let cell = |row: usize, column: usize, channel: usize| {
        let index = (1 + row * from.columns + column) * width + channel;
        f64::from(values.get(index).copied().unwrap_or(0.0))
    };
    let rows: Vec<_> = (0..to.rows).map(|i| taps(i, from.rows, to.rows)).collect();
    let columns: Vec<_> = (0..to.columns).map(|i| taps(i, from.columns, to.columns)).collect();
    let mut out = Vec::with_capacity(to.patches().saturating_mul(width));
    for row in &rows {
        for column in &columns {
            for channel in 0..width {
                let mut sum = 0.0;
                for (y, a) in row {
                    let line: f64 = column.iter().map(|(x, b)| b * cell(*y, *x, channel)).sum();
                    sum += a * line;
                }
                out.push(sum as f32);
            }
        }
    }
    Ok(Tensor::from_slice(&[1, to.patches(), width], &out)?)
}

/// The four source positions of cubic convolution with a = -0.75 (Keys 1981), clamped to the edge, and their weights.
fn taps(i: usize, from: usize, to: usize) -> [(usize, f64); 4] {
    const A: f64 = -0.75;
    let centre = (i as f64 + 0.5) * (from as f64 / to as f64) - 0.5;
    let base = centre.floor();
    let t = centre - base;
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let last = from.saturating_sub(1) as f64;
    let at = |offset: f64| (base + offset).clamp(0.0, last) as usize;
    [(at(-1.0), far(t + 1.0)), (at(0.0), near(t)), (at(1.0), near(1.0 - t)), (at(2.0), far(2.0 - t))]
}

/// Numbers of the relative positions of all pairs of tokens, the class token first: (2 rows - 1)(2 columns - 1)
/// distances of patches, then class to patch, patch to class, class to class. Row-major [tokens, tokens].
pub fn relative_position_index(grid: PatchGrid) -> Vec<i64> {
    let tokens = grid.patches() + 1;
    let span = 2 * grid.columns - 1;
    let distances = (2 * grid.rows - 1) * span + 3;
    let number = |i: usize, j: usize| match (i.checked_sub(1), j.checked_sub(1)) {
        (None, None) => distances - 1,
        (None, Some(_)) => distances - 3,
        (Some(_), None) => distances - 2,
        (Some(i), Some(j)) => {
            let down = i / grid.columns + grid.rows - 1 - j / grid.columns;
            let right = i % grid.columns + grid.columns - 1 - j % grid.columns;
            down * span + right
        }
    };
    (0..tokens * tokens).map(|n| i64::try_from(number(n / tokens, n % tokens)).unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resampling_to_the_same_grid_changes_nothing() {
        let grid = PatchGrid { rows: 2, columns: 3 };
        let values: Vec<f32> = (0..14).map(|i| i as f32 * 0.37).collect();
        let table = Tensor::from_slice(&[1, 7, 2], &values).unwrap();
        assert_eq!(resample_positions(&table, 2, grid, grid).unwrap().to_f32_vec(), values[2..]);
    }

    #[test]
    fn relative_positions_of_two_by_one_patches() {
        // Three distances down, one across: 0..3; then class to patch 3, patch to class 4, class to class 5.
        let index = relative_position_index(PatchGrid { rows: 2, columns: 1 });
        assert_eq!(index, [5, 3, 3, 4, 1, 0, 4, 2, 1]);
    }
}
