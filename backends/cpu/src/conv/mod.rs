//! Convolution as ONNX Conv (opsets 1 to 22) of f32 with weights in f32 or bf16, one to three spatial axes, with its epilogue.
//!
//! ```text
//! compile time   let spec = ConvSpec::new(&ConvSizes { .. })?;                     // any batch and extent
//!                let form = WeightForm::new(level, DType::F32, &spec);             // store form.tag()
//!                pack_weight(&form, &w, &mut bytes)?;                              // form.bytes() of them
//! run time       let form = WeightForm::parse(tag, &spec)?;
//!                conv(isa, &spec, &x, &ConvWeight::new(form, bytes)?, &mut y, &Epilogue { bias: Bias::Rows(b), .. })?;
//! ```
//! The form depends on channels, groups and kernel only, not on batch, extents, strides or pads, unless it is asked for
//! by extents too ([`WeightForm::with_extents`]); it serves any batch and extents all the same. The
//! epilogue is that of `gemm`: the bias has one value an output channel, a residual has the output's shape
//! and `stride` equal to the output's pixels.
//!
//! Ways chosen by shape: `im2col` (a product of weight tiles with columns gathered panel by panel, never
//! the whole matrix), `sliding` (long 1-D kernels of stride 1: columns read in place), `halves` (1-D,
//! three taps, stride two: fewer products), `points` (single pixels of small maps as rows) and `depthwise`.
//! Channels-last 1-D convolutions need nothing from here: see `crate::gemm`.

mod depthwise;
mod halves;
mod im2col;
mod points;
mod sliding;
mod spec;
#[cfg(test)]
mod tests;
mod transposed;

pub use spec::{ConvSizes, ConvSpec};
pub use transposed::{TransposedSpec, conv_transposed};

use crate::error::KernelError;
use crate::gemm::{
    self, Bias, Epilogue, GemmError, Matrix, PackedLayout, Residual, Side, Tiles, Words, pack, panel_width,
};
use crate::isa::{Isa, Level};
use crate::threads::SharedMut;
use frit_ir::DType;

/// Why a convolution was refused; nothing has been written then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvError {
    /// Channels that the groups do not divide.
    #[error("{groups} groups do not divide {in_channels} input and {out_channels} output channels")]
    Groups {
        /// Groups asked for.
        groups: usize,
        /// Channels of the input.
        in_channels: usize,
        /// Channels of the output.
        out_channels: usize,
    },
    /// An attribute with the wrong number of spatial axes.
    #[error("{what}: expected {expected} spatial axes (1 to 3), found {found}")]
    Rank {
        /// Which attribute.
        what: &'static str,
        /// Axes of the input.
        expected: usize,
        /// Axes of the attribute.
        found: usize,
    },
    /// A kernel extent, stride or dilation of zero.
    #[error("kernel, stride or dilation of spatial axis {axis} is zero")]
    Zero {
        /// Which axis.
        axis: usize,
    },
    /// Sizes whose product does not fit the address space.
    #[error("the sizes of a convolution overflow the address space")]
    Overflow,
    /// A buffer of another length than the sizes say.
    #[error("{what}: expected {expected} elements, found {found}")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Elements that the sizes ask for.
        expected: usize,
        /// Elements there.
        found: usize,
    },
    /// A weight packed for other channels or another kernel.
    #[error("the packed weight was made for another convolution")]
    Weight,
    /// Packed data that does not fit its layout.
    #[error(transparent)]
    Packed(#[from] GemmError),
    /// What a transposed convolution refuses.
    #[error(transparent)]
    Transposed(#[from] KernelError),
}

/// How the weight of a convolution is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightForm {
    groups: usize,
    /// The layout of each group's `[out, in x kernel]` matrix; none where it is used as it is.
    layout: Option<PackedLayout>,
    /// Stored as the parts that `halves` multiplies, of which `layout` is that of one, `[out, in]`.
    halves: bool,
    len: usize,
}

/// How the tag of weights for `halves` ends.
const HALVES: &str = "-halves";

impl WeightForm {
    /// The form for this level, of f32 or bf16 elements; depthwise weights, which are small, stay f32.
    pub fn new(level: Level, dtype: DType, spec: &ConvSpec) -> WeightForm {
        let halves = dtype == DType::F32 && halves::suits(spec);
        let layout = PackedLayout::rows(level, dtype, spec.group_out, Self::depth(spec, halves));
        WeightForm {
            groups: spec.groups,
            layout: (!spec.is_depthwise()).then_some(layout),
            halves,
            len: spec.weight_len(),
        }
    }

    /// The form that suits the input's extents too, where they are known.
    pub fn with_extents(level: Level, dtype: DType, spec: &ConvSpec) -> WeightForm {
        let form = WeightForm::new(level, dtype, spec);
        if !points::suits(spec) {
            return form;
        }
        let layout = PackedLayout::columns(level, dtype, spec.sum_len(), spec.group_out);
        WeightForm { layout: Some(layout), ..form }
    }

    /// Length of the sums that the stored matrices are for.
    fn depth(spec: &ConvSpec, halves: bool) -> usize {
        if halves { spec.group_in } else { spec.sum_len() }
    }

    /// What an artifact stores beside the shape: `f32-mr14`, `bf16x2-mr14` and the like, or `f32-plain`.
    pub fn tag(&self) -> String {
        let end = if self.halves { HALVES } else { "" };
        self.layout.map_or_else(|| "f32-plain".to_owned(), |layout| layout.tag() + end)
    }

    /// Whether the products are in bf16.
    pub fn is_bf16(&self) -> bool {
        self.layout.is_some_and(|layout| layout.dtype == DType::BF16)
    }

    /// The form of that tag for this convolution.
    pub fn parse(tag: &str, spec: &ConvSpec) -> Result<WeightForm, ConvError> {
        let (matrix, halves) = tag.strip_suffix(HALVES).map_or((tag, false), |matrix| (matrix, true));
        let layout = match matrix {
            "f32-plain" => None,
            _ => Some(PackedLayout::parse(matrix, Self::depth(spec, halves), spec.group_out)?),
        };
        let suits = layout.is_none_or(|layout| match layout.side {
            Side::Rows => !halves || layout.dtype == DType::F32,
            Side::Columns => !halves && !layout.compact && points::fits(spec) && layout.dtype != DType::I8,
        });
        if !suits || layout.is_none() != spec.is_depthwise() || (halves && !halves::suits(spec)) {
            return Err(GemmError::Tag { tag: tag.to_owned() }.into());
        }
        Ok(WeightForm { groups: spec.groups, layout, halves, len: spec.weight_len() })
    }

    /// Bytes of the stored weight.
    pub fn bytes(&self) -> usize {
        let parts = if self.halves { halves::PARTS } else { 1 };
        let of = |layout: PackedLayout| match layout.side {
            Side::Rows => parts * self.groups * layout.len * layout.words(),
            Side::Columns => layout.len.next_multiple_of(layout.width) * layout.words(),
        };
        4 * self.layout.map_or(self.len, of)
    }
}

/// Stores the weight `[out_channels, in_channels / groups, kernel]` in this form; `out` has
/// [`WeightForm::bytes`] bytes, aligned for f32.
pub fn pack_weight(form: &WeightForm, weight: &[f32], out: &mut [u8]) -> Result<(), ConvError> {
    expect("weight", form.len, weight.len())?;
    expect("packed weight, in bytes", form.bytes(), out.len())?;
    let Some(layout) = form.layout else {
        out.copy_from_slice(bytemuck::cast_slice(weight));
        return Ok(());
    };
    if form.halves {
        let group = (layout.len * layout.k).max(1);
        for (weight, out) in
            weight.chunks_exact(3 * group).zip(out.chunks_exact_mut(4 * halves::PARTS * group))
        {
            halves::pack_group(&layout, weight, out)?;
        }
        return Ok(());
    }
    if layout.side == Side::Columns {
        pack(&layout, &Matrix::row_major(weight, layout.len, layout.k).transposed(), out)?;
        return Ok(());
    }
    let (group, words) = ((layout.len * layout.k).max(1), (layout.len * layout.words()).max(1));
    for (weight, out) in weight.chunks_exact(group).zip(out.chunks_exact_mut(words * 4)) {
        pack(&layout, &Matrix::row_major(weight, layout.len, layout.k), out)?;
    }
    Ok(())
}

/// A stored weight: a form, and bytes that were checked against it.
#[derive(Clone, Copy, Debug)]
pub struct ConvWeight<'a> {
    form: WeightForm,
    data: &'a [f32],
}

impl<'a> ConvWeight<'a> {
    /// Checks length and alignment.
    pub fn new(form: WeightForm, bytes: &'a [u8]) -> Result<ConvWeight<'a>, ConvError> {
        expect("packed weight, in bytes", form.bytes(), bytes.len())?;
        let data = bytemuck::try_cast_slice(bytes).map_err(|_| GemmError::Align { dtype: DType::F32 })?;
        Ok(ConvWeight { form, data })
    }
}

/// y = epilogue(conv(x, weight)).
pub fn conv(
    isa: Isa,
    spec: &ConvSpec,
    x: &[f32],
    weight: &ConvWeight<'_>,
    y: &mut [f32],
    epilogue: &Epilogue<'_>,
) -> Result<(), ConvError> {
    expect("input", spec.input_len(), x.len())?;
    expect("output", spec.output_len(), y.len())?;
    let (layout, halves) = (weight.form.layout, weight.form.halves && halves::suits(spec));
    let expected = WeightForm { groups: spec.groups, layout, halves, len: spec.weight_len() };
    let fits = |layout: PackedLayout| {
        let side = layout.side == Side::Rows || points::fits(spec);
        side && layout.k == WeightForm::depth(spec, halves) && layout.len == spec.group_out
    };
    if weight.form != expected
        || weight.form.layout.is_none() != spec.is_depthwise()
        || !weight.form.layout.is_none_or(fits)
    {
        return Err(ConvError::Weight);
    }
    match epilogue.bias {
        Bias::None => {}
        Bias::Rows(bias) => expect("bias", spec.out_channels(), bias.len())?,
        Bias::Columns(bias) => expect("bias by columns", 0, bias.len().max(1))?,
    }
    for residual in [epilogue.residual_before, epilogue.residual_after].into_iter().flatten() {
        if let Residual::From { data, stride } = residual {
            expect("residual", spec.output_len(), data.len())?;
            expect("stride of the residual", spec.pixels_out(), stride)?;
        }
    }
    if y.is_empty() {
        return Ok(());
    }
    let width = panel_width(isa.level());
    let words = weight.form.layout.and_then(|layout| Words::of(layout.dtype)).unwrap_or(Words::Floats);
    let tiles = Tiles::of(isa, words, width);
    let widened;
    let data = match weight.form.layout {
        Some(layout) if words != tiles.words && layout.side == Side::Rows => {
            widened = gemm::widen_rows(isa, &layout, weight.data);
            &widened
        }
        _ => weight.data,
    };
    let call = Call { isa, tiles, width, spec, x, weight: data, y: SharedMut::new(y), epilogue };
    match weight.form.layout {
        None => depthwise::run(&call),
        Some(layout) if layout.side == Side::Columns => points::run(&call, &layout)?,
        Some(layout) if halves => halves::run(&call, &layout),
        Some(layout) if spec.is_sliding(tiles.words) => sliding::run(&call, &layout),
        Some(layout) => im2col::run(&call, &layout),
    }
    Ok(())
}

/// A checked call, as the three ways see it.
struct Call<'a> {
    isa: Isa,
    /// The kernels of products, and what their words hold.
    tiles: Tiles,
    /// Columns of a panel.
    width: usize,
    spec: &'a ConvSpec,
    x: &'a [f32],
    weight: &'a [f32],
    y: SharedMut<f32>,
    epilogue: &'a Epilogue<'a>,
}

impl<'a> Call<'a> {
    /// The epilogue of the channels from `channel` on of image `image`.
    fn epilogue_from(&self, image: usize, channel: usize, channels: usize) -> Epilogue<'a> {
        let pixels = self.spec.pixels_out();
        let residual = |residual: Option<Residual<'a>>| match residual {
            Some(Residual::From { data, stride }) => {
                let first = (image * self.spec.out_channels() + channel) * pixels;
                Some(Residual::From { data: data.get(first..).unwrap_or_default(), stride })
            }
            other => other,
        };
        Epilogue {
            bias: match self.epilogue.bias {
                Bias::Rows(bias) => Bias::Rows(bias.get(channel..channel + channels).unwrap_or_default()),
                _ => Bias::None,
            },
            residual_before: residual(self.epilogue.residual_before),
            residual_after: residual(self.epilogue.residual_after),
            ..*self.epilogue
        }
    }

    /// The packed weight of group `group`.
    fn weight_of(&self, group: usize) -> *const f32 {
        let words = self.tiles.words.count(self.spec.sum_len());
        self.weight.as_ptr().wrapping_add(group * self.spec.group_out * words)
    }

    /// Where channel `channel` of image `image` begins in the output.
    fn output_at(&self, image: usize, channel: usize) -> *mut f32 {
        self.y.ptr().wrapping_add((image * self.spec.out_channels() + channel) * self.spec.pixels_out())
    }

    /// Where the input channels of group `group` of image `image` begin.
    fn input_at(&self, image: usize, group: usize) -> *const f32 {
        let channel = (image * self.spec.groups + group) * self.spec.group_in;
        self.x.as_ptr().wrapping_add(channel * self.spec.pixels_in())
    }
}

fn expect(what: &'static str, expected: usize, found: usize) -> Result<(), ConvError> {
    if expected == found { Ok(()) } else { Err(ConvError::Length { what, expected, found }) }
}
