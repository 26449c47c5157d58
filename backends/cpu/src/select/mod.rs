//! Which kernel computes which op: the [`Backend`] of this crate. A family of ops a file; each takes a request
//! apart, and gives a kernel or declines. The arithmetic is in the kernels' own modules, not here.

mod attention;
mod chain;
mod convolution;
mod elementwise;
mod generate;
mod movement;
mod norms;
mod places;
mod products;
mod recurrent;
mod reductions;
mod simple;
mod tables;
#[cfg(test)]
mod tests;

use crate::isa::{Isa, Level};
use frit_backend::{Backend, Kernel, OperandInfo, Request, Target};
use frit_ir::{DType, Op, TensorType};

/// The CPU: every op that has a kernel here, in f32 first of all.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuBackend;

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn kernel(&self, request: &Request<'_>) -> Option<Box<dyn Kernel>> {
        let cx = Cx::new(request);
        match request.op {
            Op::Unary(op) => chain::single(&cx).or_else(|| elementwise::unary(&cx, op)),
            Op::Binary(op) => chain::single(&cx).or_else(|| elementwise::binary(&cx, op)),
            Op::Where(_) => chain::single(&cx).or_else(|| elementwise::select(&cx)),
            Op::Cast(op) => elementwise::cast(&cx, op),
            Op::BitCast(op) => elementwise::bit_cast(op),
            Op::Clip(_)
            | Op::LeakyRelu(_)
            | Op::Elu(_)
            | Op::HardSigmoid(_)
            | Op::Gelu(_)
            | Op::Swish(_)
            | Op::HardSwish(_) => chain::single(&cx),
            Op::Chain(op) => chain::chain(&cx, op),
            Op::MatMul(_) => products::matmul(&cx),
            Op::FusedMatMul(op) => products::fused_matmul(&cx, op),
            Op::Conv(op) => convolution::conv(&cx, op),
            Op::FusedConv(op) => convolution::fused_conv(&cx, op),
            Op::ConvTranspose(op) => places::conv_transpose(&cx, op),
            Op::Resize(op) => places::resize(&cx, op),
            Op::MaxPool(op) => reductions::max_pool(&cx, op),
            Op::AveragePool(op) => reductions::average_pool(&cx, op),
            Op::GlobalAveragePool(_) => reductions::global_average_pool(&cx),
            Op::Softmax(op) => norms::softmax(&cx, op.axis, false),
            Op::LogSoftmax(op) => norms::softmax(&cx, op.axis, true),
            Op::Attention(op) => attention::attention(&cx, op),
            Op::RotaryEmbedding(op) => elementwise::rotary(&cx, op),
            Op::LayerNormalization(op) => norms::layer_norm(&cx, op),
            Op::SkipLayerNormalization(op) => norms::skip_layer_norm(&cx, op),
            Op::RMSNormalization(op) => norms::rms_norm(&cx, op),
            Op::GroupNormalization(op) => norms::group_norm(&cx, op),
            Op::InstanceNormalization(op) => norms::instance_norm(&cx, op),
            Op::FusedGroupNormalization(op) => norms::fused_group_norm(&cx, op),
            Op::ChannelNormalization(op) => norms::channel_norm(&cx, op),
            Op::BatchNormalization(op) => norms::batch_norm(&cx, op),
            Op::Reduce(op) => reductions::reduce(&cx, op),
            Op::ArgMax(op) => reductions::arg_extreme(&cx, op.axis, crate::reduce::Extreme::Max),
            Op::ArgMin(op) => reductions::arg_extreme(&cx, op.axis, crate::reduce::Extreme::Min),
            Op::CumSum(op) => reductions::cumulative_sum(&cx, op),
            Op::Reshape(_) => movement::reshape(&cx),
            Op::Transpose(op) => movement::transpose(&cx, op),
            Op::Gather(op) => tables::gather_rows(&cx, op).or_else(|| movement::gather(&cx, op)),
            Op::GatherElements(op) => movement::gather_elements(&cx, op),
            Op::GatherND(op) => places::gather_nd(&cx, op),
            Op::ScatterElements(op) => places::scatter_elements(&cx, op),
            Op::ScatterND(op) => places::scatter_nd(&cx, op),
            Op::TopK(op) => places::top_k(&cx, op),
            Op::Slice(op) => movement::slice(&cx, op),
            Op::Concat(op) => movement::concat(&cx, op),
            Op::Split(op) => movement::split(&cx, op),
            Op::Expand(_) => movement::expand(&cx),
            Op::Tile(op) => movement::tile(&cx, op),
            Op::Pad(op) => movement::pad(&cx, op),
            Op::Range(op) => generate::range(&cx, op),
            Op::ConstantOfShape(op) => generate::constant(&cx, op),
            Op::Recurrent(op) => recurrent::layer(&cx, op),
            Op::ShapeOf(op) => generate::shape(&cx, op),
            _ => None,
        }
    }
}

/// A request with what every selection asks of it.
struct Cx<'a> {
    request: &'a Request<'a>,
    /// What kernels run with here: the target's instructions, or less where this machine lacks them.
    isa: Isa,
    /// What packed layouts are made for.
    level: Level,
}

impl<'a> Cx<'a> {
    fn new(request: &'a Request<'a>) -> Cx<'a> {
        let level = match request.target {
            Target::Generic => Level::Portable,
            Target::X86V3 => Level::Avx2Fma,
            Target::X86V4 => Level::Avx512,
        };
        // The user's choice (FRIT_ISA) lowers, never raises.
        let isa = Isa::at(level).map_or(Isa::get(), |isa| isa.min(Isa::get()));
        Cx { request, isa, level }
    }

    fn operand(&self, index: usize) -> Option<&OperandInfo<'a>> {
        self.request.inputs.get(index)?.as_ref()
    }

    fn input(&self, index: usize) -> Option<&'a TensorType> {
        self.operand(index).map(|o| o.ty)
    }

    fn output(&self, index: usize) -> Option<&'a TensorType> {
        self.request.outputs.get(index).copied()
    }

    /// Goes on only where that operand is f32.
    fn f32_input(&self, index: usize) -> Option<&'a TensorType> {
        self.input(index).filter(|t| t.dtype == DType::F32)
    }

    /// The operands among `candidates` that have exactly the type of output 0.
    fn like_output(&self, candidates: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let like = |i: &usize| self.input(*i).zip(self.output(0)).is_some_and(|(a, b)| a.same(b));
        candidates.into_iter().filter(like).collect()
    }
}
