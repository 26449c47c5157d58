//! What a convolution is, in sizes: the checked form of ONNX Conv's attributes. No arithmetic on data here.

use super::ConvError;
use crate::gemm::Words;

/// The sizes of a convolution as ONNX Conv gives them; slices have one entry a spatial axis, one to three.
#[derive(Clone, Copy, Debug)]
pub struct ConvSizes<'a> {
    /// Images.
    pub batch: usize,
    /// Channels of the input, a multiple of `groups`.
    pub in_channels: usize,
    /// Channels of the output, a multiple of `groups`.
    pub out_channels: usize,
    /// Groups.
    pub groups: usize,
    /// Spatial extent of the input.
    pub input: &'a [usize],
    /// Spatial extent of the kernel.
    pub kernel: &'a [usize],
    /// Steps between outputs.
    pub strides: &'a [usize],
    /// Steps between taps of the kernel.
    pub dilations: &'a [usize],
    /// Zeros before the input.
    pub pads_begin: &'a [usize],
    /// Zeros after the input.
    pub pads_end: &'a [usize],
}

/// A checked convolution: input `[batch, in_channels, spatial]`, weight
/// `[out_channels, in_channels / groups, kernel]`, output `[batch, out_channels, output]`, each row-major.
/// Fewer than three spatial axes are held as three whose first are of size one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvSpec {
    /// Spatial axes before they were filled up to three.
    pub(crate) rank: usize,
    pub(crate) batch: usize,
    pub(crate) groups: usize,
    /// Input channels of a group.
    pub(crate) group_in: usize,
    /// Output channels of a group.
    pub(crate) group_out: usize,
    pub(crate) input: [usize; 3],
    pub(crate) output: [usize; 3],
    pub(crate) kernel: [usize; 3],
    pub(crate) stride: [usize; 3],
    pub(crate) dilation: [usize; 3],
    pub(crate) pad: [usize; 3],
    pub(crate) pad_end: [usize; 3],
}

impl ConvSpec {
    /// Checks the sizes and works out the output's.
    pub fn new(sizes: &ConvSizes<'_>) -> Result<ConvSpec, ConvError> {
        let ConvSizes { batch, in_channels, out_channels, groups, .. } = *sizes;
        if groups == 0 || !in_channels.is_multiple_of(groups) || !out_channels.is_multiple_of(groups) {
            return Err(ConvError::Groups { groups, in_channels, out_channels });
        }
        let rank = sizes.input.len();
        let axes = |what, values: &[usize], fill: usize| -> Result<[usize; 3], ConvError> {
            if !(1..=3).contains(&rank) || values.len() != rank {
                return Err(ConvError::Rank { what, expected: rank, found: values.len() });
            }
            let mut all = [fill; 3];
            for (axis, &value) in all.iter_mut().skip(3 - rank).zip(values) {
                *axis = value;
            }
            Ok(all)
        };
        let input = axes("input", sizes.input, 1)?;
        let kernel = axes("kernel", sizes.kernel, 1)?;
        let stride = axes("strides", sizes.strides, 1)?;
        let dilation = axes("dilations", sizes.dilations, 1)?;
        let pad = axes("pads_begin", sizes.pads_begin, 0)?;
        let pad_end = axes("pads_end", sizes.pads_end, 0)?;
        let mut output = [0; 3];
        for axis in 0..3 {
            if kernel[axis] == 0 || stride[axis] == 0 || dilation[axis] == 0 {
                return Err(ConvError::Zero { axis: (axis + rank).saturating_sub(3) });
            }
            let padded = input[axis].checked_add(pad[axis]).and_then(|x| x.checked_add(pad_end[axis]));
            let reach = (kernel[axis] - 1).checked_mul(dilation[axis]).and_then(|x| x.checked_add(1));
            let (padded, reach) = padded.zip(reach).ok_or(ConvError::Overflow)?;
            // Padded extents are also reckoned with as signed numbers.
            if padded.max(reach).max(stride[axis]) > isize::MAX as usize / 4 {
                return Err(ConvError::Overflow);
            }
            output[axis] = padded.checked_sub(reach).map_or(0, |room| room / stride[axis] + 1);
        }
        let spec = ConvSpec {
            rank,
            batch,
            groups,
            group_in: in_channels / groups,
            group_out: out_channels / groups,
            input,
            output,
            kernel,
            stride,
            dilation,
            pad,
            pad_end,
        };
        let product = |sizes: [usize; 5]| sizes.iter().try_fold(1usize, |all, &size| all.checked_mul(size));
        let [d, h, w] = input;
        let [od, oh, ow] = output;
        let [kd, kh, kw] = kernel;
        for sizes in [
            [batch, in_channels, d, h, w],
            [batch, out_channels, od, oh, ow],
            [in_channels, out_channels, kd, kh, kw],
        ] {
            product(sizes).filter(|&all| all <= isize::MAX as usize / 8).ok_or(ConvError::Overflow)?;
        }
        Ok(spec)
    }

    /// Spatial extent of the output; axes beyond the convolution's rank come first and are 1.
    pub fn output(&self) -> [usize; 3] {
        self.output
    }

    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.groups * self.group_in * self.pixels_in()
    }

    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        self.batch * self.out_channels() * self.pixels_out()
    }

    /// Elements of the weight.
    pub fn weight_len(&self) -> usize {
        self.out_channels() * self.sum_len()
    }

    /// Input channels of all groups.
    pub(crate) fn in_channels(&self) -> usize {
        self.groups * self.group_in
    }

    /// Output channels of all groups.
    pub fn out_channels(&self) -> usize {
        self.groups * self.group_out
    }

    /// Spatial elements of an input channel.
    pub(crate) fn pixels_in(&self) -> usize {
        self.input.iter().product()
    }

    /// Spatial elements of an output channel.
    pub(crate) fn pixels_out(&self) -> usize {
        self.output.iter().product()
    }

    /// Taps of the kernel.
    pub(crate) fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Products in one output element.
    pub(crate) fn sum_len(&self) -> usize {
        self.group_in * self.taps()
    }

    /// The same convolution over fewer axes where pixels do not see their neighbours.
    pub(crate) fn flattened(&self) -> ConvSpec {
        let pointwise = self.kernel == [1; 3] && self.stride == [1; 3];
        if !pointwise || self.pad != [0; 3] || self.pad_end != [0; 3] {
            return *self;
        }
        let row = [1, 1, self.pixels_in()];
        ConvSpec { input: row, output: row, ..*self }
    }

    /// One input channel and one output channel a group: no sum over channels, so nothing for a matrix product.
    pub(crate) fn is_depthwise(&self) -> bool {
        self.group_in == 1 && self.group_out == 1 && self.groups > 1
    }

    /// One long axis with neighbouring outputs that share most of their input, and whole words of taps.
    pub(crate) fn is_sliding(&self, words: Words) -> bool {
        let whole = words == Words::Floats || self.kernel[2].is_multiple_of(2);
        whole
            && self.input[..2] == [1, 1]
            && self.kernel[..2] == [1, 1]
            && self.output[..2] == [1, 1]
            && self.pad[..2] == [0, 0]
            && self.stride[2] == 1
            && self.kernel[2] >= 16
    }
}
