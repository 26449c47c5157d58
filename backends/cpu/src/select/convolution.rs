//! Conv and its fused form: weights, f32 or bf16, are packed when compiling, or into the workspace when they are no
//! constants. Transposed convolutions are in `places.rs`.

use super::Cx;
use super::products::activation;
use super::simple::{Fail, Operands, Result, counts};
use crate::conv::{ConvError, ConvSizes, ConvSpec, ConvWeight, WeightForm, conv as convolve, pack_weight};
use crate::gemm::{Activation, Bias, Epilogue, Residual};
use crate::isa::{Isa, Level};
use frit_backend::{Kernel, KernelError, Packing, Precision, Run};
use frit_ir::{DType, Dim, Tensor, TensorType, op};

type Selected = Option<Box<dyn Kernel>>;

impl From<ConvError> for Fail {
    fn from(e: ConvError) -> Fail {
        Fail::Contract(e.to_string())
    }
}

pub(super) fn conv(cx: &Cx<'_>, op: &op::Conv) -> Selected {
    select(cx, op, Tail { activation: Activation::None, gain: 1.0, shift: 0.0 }, "Conv")
}

pub(super) fn fused_conv(cx: &Cx<'_>, op: &op::FusedConv) -> Selected {
    let (gain, shift) = (op.gain as f32, op.shift as f32);
    select(cx, &op.conv(), Tail { activation: activation(cx, op.activation), gain, shift }, "FusedConv")
}

/// What a convolution ends in.
#[derive(Clone, Copy)]
struct Tail {
    activation: Activation,
    gain: f32,
    shift: f32,
}

fn select(cx: &Cx<'_>, op: &op::Conv, tail: Tail, name: &'static str) -> Selected {
    let (x, w) = (cx.f32_input(0)?, cx.f32_input(1)?);
    let rank = x.rank().checked_sub(2).filter(|n| (1..=3).contains(n))?;
    let pads = counts(&op.pads)?;
    let geometry = Geometry {
        groups: usize::try_from(op.group).ok()?,
        strides: counts(&op.strides)?,
        dilations: counts(&op.dilations)?,
        pads_begin: pads.get(..rank)?.to_vec(),
        pads_end: pads.get(rank..2 * rank)?.to_vec(),
    };
    let constant = cx.operand(1)?.constant;
    // Where products are int8, convolutions are bf16: their weights are few, their activations many.
    let dtype = if cx.request.precision == Precision::Exact { DType::F32 } else { DType::BF16 };
    let form = match w.fixed_shape().filter(|_| constant) {
        Some(shape) => Some(geometry.form(cx.level, dtype, x, &shape)?),
        None => None,
    };
    let residual = cx.input(3).zip(cx.output(0)).is_some_and(|(r, o)| r.same(o));
    Some(Box::new(ConvKernel {
        isa: cx.isa,
        level: cx.level,
        name,
        geometry,
        tail,
        form,
        in_place: if residual { vec![3] } else { Vec::new() },
    }))
}

/// The attributes as counts.
struct Geometry {
    groups: usize,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads_begin: Vec<usize>,
    pads_end: Vec<usize>,
}

impl Geometry {
    fn spec(&self, x: &[usize], w: &[usize]) -> Result<ConvSpec> {
        let (&[batch, in_channels, ref input @ ..], &[out_channels, _, ref kernel @ ..]) = (x, w) else {
            return Err(Fail::Contract(format!("no convolution of {x:?} with {w:?}")));
        };
        let sizes = ConvSizes {
            batch,
            in_channels,
            out_channels,
            groups: self.groups,
            input,
            kernel,
            strides: &self.strides,
            dilations: &self.dilations,
            pads_begin: &self.pads_begin,
            pads_end: &self.pads_end,
        };
        Ok(ConvSpec::new(&sizes)?)
    }

    /// The form of a constant weight of this shape for inputs of type `x`.
    fn form(&self, level: Level, dtype: DType, x: &TensorType, w: &[usize]) -> Option<WeightForm> {
        // Without extents the weight's shape decides, so any input that the kernel fits on will do.
        let least = self.least(w)?;
        let extents = x.shape.get(2..)?.iter().map(Dim::as_fixed).collect::<Option<Vec<usize>>>();
        let Some(extents) = extents else { return Some(WeightForm::new(level, dtype, &least)) };
        let input: Vec<usize> = [1, least.in_channels()].into_iter().chain(extents).collect();
        Some(WeightForm::with_extents(level, dtype, &self.spec(&input, w).ok()?))
    }

    /// The convolution of this weight over one window.
    fn least(&self, w: &[usize]) -> Option<ConvSpec> {
        let (&group_in, kernel) = w.get(1..)?.split_first()?;
        let mut x = vec![1, group_in.checked_mul(self.groups)?];
        for (&k, &d) in kernel.iter().zip(&self.dilations) {
            x.push(k.checked_sub(1)?.checked_mul(d)?.checked_add(1)?);
        }
        self.spec(&x, w).ok()
    }
}

struct ConvKernel {
    isa: Isa,
    level: Level,
    name: &'static str,
    geometry: Geometry,
    tail: Tail,
    /// The stored form of a constant weight.
    form: Option<WeightForm>,
    in_place: Vec<usize>,
}

/// The tag of weights that are used as they are.
const PLAIN: &str = "f32-plain";

impl ConvKernel {
    fn packs(&self) -> Option<WeightForm> {
        self.form.filter(|form| form.tag() != PLAIN)
    }

    fn compute(&self, run: &mut Run<'_, '_>) -> Result<()> {
        let (x, w) = (run.tensor(0)?, run.tensor(1)?);
        let (bias, residual) = (run.optional::<f32>(2)?, run.optional::<f32>(3)?);
        let aliased = run.aliased == Some(3);
        let spec = self.geometry.spec(x.shape, w.shape)?;
        let weight = match self.form {
            Some(form) => ConvWeight::new(form, w.bytes)?,
            None => {
                let form = WeightForm::new(self.isa.level(), DType::F32, &spec);
                let Some(space) = run.workspace.get_mut(..form.bytes()) else {
                    return Err(Fail::Contract("the workspace is too small".to_owned()));
                };
                pack_weight(&form, w.slice::<f32>()?, space)?;
                ConvWeight::new(form, space)?
            }
        };
        let Some(out) = run.outputs.first_mut() else { return Err(Fail::Contract("no output".to_owned())) };
        let pixels = out.shape.iter().skip(2).product();
        let residual_before = match residual {
            _ if aliased => Some(Residual::Output),
            residual => residual.map(|data| Residual::From { data, stride: pixels }),
        };
        let epilogue = Epilogue {
            bias: bias.map_or(Bias::None, Bias::Rows),
            residual_before,
            activation: self.tail.activation,
            gain: self.tail.gain,
            shift: self.tail.shift,
            ..Epilogue::default()
        };
        Ok(convolve(self.isa, &spec, x.slice()?, &weight, out.slice_mut()?, &epilogue)?)
    }
}

impl Kernel for ConvKernel {
    fn name(&self) -> String {
        self.form.map_or_else(|| self.name.to_owned(), |form| format!("{} {}", self.name, form.tag()))
    }
    fn in_place(&self) -> &[usize] {
        &self.in_place
    }
    fn packing(&self) -> Vec<Packing> {
        self.packs().map(|form| Packing { input: 1, layout: form.tag() }).into_iter().collect()
    }
    fn pack(&self, input: usize, weight: &Tensor) -> std::result::Result<Vec<u8>, KernelError> {
        let packed = || -> Result<Vec<u8>> {
            let Some(form) = self.packs().filter(|_| input == 1) else {
                return Err(Fail::Contract(format!("operand {input} is not packed")));
            };
            let mut memory = vec![0f32; form.bytes().div_ceil(4)];
            pack_weight(&form, weight.as_slice::<f32>()?, bytemuck::cast_slice_mut(&mut memory))?;
            Ok(bytemuck::cast_slice(&memory).to_vec())
        };
        packed().map_err(|fail| fail.named(self.name))
    }
    fn workspace(&self, inputs: &[Option<&[usize]>], _: &[&[usize]]) -> usize {
        let weight = inputs.get(1).copied().flatten().filter(|_| self.form.is_none());
        let spec = weight.and_then(|w| self.geometry.least(w));
        spec.map_or(0, |spec| WeightForm::new(self.level, DType::F32, &spec).bytes())
    }
    fn precision(&self) -> Precision {
        if self.form.is_some_and(|form| form.is_bf16()) { Precision::Bf16 } else { Precision::Exact }
    }
    fn flops(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> f64 {
        let taps = |w: &[usize]| w.iter().skip(1).product::<usize>() as f64;
        let out = outputs.first().map_or(0.0, |o| o.iter().product::<usize>() as f64);
        2.0 * out * inputs.get(1).copied().flatten().map_or(0.0, taps)
    }
    fn run(&self, run: &mut Run<'_, '_>) -> std::result::Result<(), KernelError> {
        self.compute(run).map_err(|fail| fail.named(self.name))
    }
}
