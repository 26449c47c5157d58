//! The op table: one line an op. Each op is declared in its own file; what it means belongs there, not here.

mod activation;
mod arg;
mod attention;
pub mod attr;
mod chain;
mod control;
mod conv;
mod ctc;
mod cx;
mod det;
mod dynamic;
mod elements;
mod elementwise;
mod expand;
mod fold;
mod fused;
mod gather;
mod gelu;
mod generate;
mod layout;
mod loss;
mod matmul;
mod norm;
mod norm_channels;
mod order;
mod parametric;
mod pool;
mod random;
mod recurrent;
mod reduce;
mod resize;
mod roi;
mod rotary;
mod sample;
pub mod scalar;
mod scatter;
mod select;
mod slicing;
mod softmax;
mod topk;
mod unique;
mod window;
mod work;

pub use activation::Activation;
pub use arg::{ArgMax, ArgMin, CumProd, CumSum};
pub use attention::Attention;
pub use attr::{Attr, AttrError, AttrSpec, AttrValue, Attributes, NamedAttr};
pub use chain::{Chain, ChainStep};
pub use control::{If, Loop, run_loop};
pub use conv::{Conv, ConvTranspose};
pub use ctc::CTCLoss;
pub use cx::{Eval, Infer, OpError};
pub use det::Det;
pub use dynamic::{NonZero, SymbolOf};
pub use elements::broadcast_indices;
pub use elementwise::{Binary, BinaryFn, Domain, Unary, UnaryFn};
pub use expand::{Expand, Pad, PadMode, Tile};
pub use fold::Col2Im;
pub use fused::{FusedConv, FusedMatMul};
pub use gather::{Gather, GatherElements, GatherND};
pub use gelu::{Gelu, GeluForm, HardSwish, Swish};
pub use generate::{ConstantOfShape, Range, ShapeOf};
pub use layout::{Reshape, Transpose};
pub use loss::{Reduction, SoftmaxCrossEntropyLoss};
pub use matmul::MatMul;
pub use norm::{LayerNormalization, RMSNormalization, SkipLayerNormalization};
pub use norm_channels::{
    BatchNormalization, ChannelNormalization, FusedGroupNormalization, GroupNormalization,
    InstanceNormalization,
};
pub use order::{ReverseSequence, Trilu};
pub use parametric::{Clip, Elu, HardSigmoid, LeakyRelu};
pub use pool::{AveragePool, GlobalAveragePool, LpPool, MaxPool, MaxPoolIndices};
pub use random::{Distribution, Random};
pub use recurrent::{Cell, CellFn, Recurrent};
pub use reduce::{Reduce, ReduceFn};
pub use resize::{Coordinates, NearestMode, Resize, ResizeMode, ResizeTaps};
pub use roi::{MaxRoiPool, RoiAlign, RoiMode};
pub use rotary::RotaryEmbedding;
pub use sample::{DeformConv, GridSample, SampleMode, SamplePadding};
pub use scalar::{erf, float_binary, float_unary, int_binary};
pub use scatter::{ScatterElements, ScatterND, ScatterReduction};
pub use select::{BitCast, Cast, Where};
pub use slicing::{Concat, Slice, Split};
pub use softmax::{LogSoftmax, Softmax};
pub use topk::TopK;
pub use unique::{NonMaxSuppression, Unique};

use crate::builder::{BuildError, GraphBuilder};
use crate::graph::ValueId;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// An operand in an op's declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Name, as ONNX has it in lower case.
    pub name: &'static str,
    /// Must it be there, may it be left out, may it repeat.
    pub arity: Arity,
}

/// How often an operand occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// Exactly once.
    One,
    /// At most once.
    Optional,
    /// Any number of times, last in the list.
    Variadic,
}

/// A required operand.
pub const fn one(name: &'static str) -> Operand {
    Operand { name, arity: Arity::One }
}
/// An operand that may be left out.
pub const fn optional(name: &'static str) -> Operand {
    Operand { name, arity: Arity::Optional }
}
/// An operand that repeats.
pub const fn variadic(name: &'static str) -> Operand {
    Operand { name, arity: Arity::Variadic }
}

/// Where an op stands in ONNX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onnx {
    /// The ONNX op of this name, with the opset that gave it its present meaning.
    Op(&'static str, u32),
    /// No ONNX op: exported by its decomposition, or by the exporter's own code.
    None,
}

/// What every op defines, in its own file.
pub trait OpDef: Attributes + Clone + PartialEq + std::fmt::Debug {
    /// The op's name. Families of ops in one struct (unary, binary) have several.
    fn name(&self) -> &'static str {
        Self::NAME
    }
    /// The operands.
    fn operands(&self) -> &'static [Operand];
    /// The place in ONNX.
    fn onnx(&self) -> Onnx;
    /// Types of the outputs from types of the inputs; refuses operands that do not fit.
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError>;
    /// True when the op moves or converts elements without calculating, and so takes the storage types.
    fn takes_narrow(&self) -> bool {
        false
    }
    /// Reference evaluation of a primitive op: naive and obviously right. Composite ops leave it out.
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        Err(OpError::NoEvaluation(cx.op))
    }
    /// The dimension symbols that take their values from the results, at run time. Reference evaluation of such an
    /// op finds the shapes of its results itself: `Eval::outputs` has only the element types right.
    fn defines(&self) -> Vec<&str> {
        Vec::new()
    }
    /// The graphs of the module that the op runs.
    fn bodies(&self) -> Vec<&str> {
        Vec::new()
    }
    /// True when the op is defined by [`OpDef::decompose`].
    fn is_composite(&self) -> bool {
        false
    }
    /// Expands a composite op into simpler ops: its reference meaning.
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let _ = (b, inputs);
        Err(BuildError::NoDecomposition(self.name()))
    }
    /// The names that the struct adds to the table: its own, or one a member for a family.
    fn declare(wrap: fn(Self) -> Op) -> Vec<OpDecl>
    where
        Self: 'static,
    {
        let build = Box::new(move |a: &[(String, Attr)]| Self::from_attrs(a).map(wrap));
        vec![OpDecl { name: Self::NAME, doc: Self::DOC, attrs: Self::specs(), build }]
    }
}

/// Makes the closed enum and everything that dispatches on it.
macro_rules! op_table {
    ($($variant:ident),* $(,)?) => {
        /// Every op of frit.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)] // each variant is documented at its struct
        pub enum Op { $($variant($variant)),* }

        impl Op {
            /// The op's name in the text format.
            pub fn name(&self) -> &'static str { match self { $(Op::$variant(o) => o.name()),* } }
            /// The operands.
            pub fn operands(&self) -> &'static [Operand] { match self { $(Op::$variant(o) => o.operands()),* } }
            /// The attributes' values in declaration order.
            pub fn attrs(&self) -> Vec<NamedAttr> { match self { $(Op::$variant(o) => o.attrs()),* } }
            /// The place in ONNX.
            pub fn onnx(&self) -> Onnx { match self { $(Op::$variant(o) => o.onnx()),* } }
            /// The dimension symbols that take their values from the results.
            pub fn defines(&self) -> Vec<&str> { match self { $(Op::$variant(o) => o.defines()),* } }
            /// The graphs of the module that the op runs.
            pub fn bodies(&self) -> Vec<&str> { match self { $(Op::$variant(o) => o.bodies()),* } }
            /// True when the op is defined by its decomposition.
            pub fn is_composite(&self) -> bool { match self { $(Op::$variant(o) => o.is_composite()),* } }
            /// True when the op takes the storage types.
            pub fn takes_narrow(&self) -> bool { match self { $(Op::$variant(o) => o.takes_narrow()),* } }
            /// Types of the outputs.
            pub fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
                cx.check_arity(self.operands())?;
                if !self.takes_narrow() {
                    cx.refuse_narrow().map_err(|e| e.named(self.name(), self.operands()))?;
                }
                let types = match self { $(Op::$variant(o) => o.infer(cx)),* };
                types.map_err(|e| e.named(self.name(), self.operands()))
            }
            /// Reference evaluation of a primitive op.
            pub fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
                let values = match self { $(Op::$variant(o) => o.eval(cx)),* };
                values.map_err(|e| e.named(self.name(), self.operands()))
            }
            /// Expansion of a composite op.
            pub fn decompose(&self, b: &mut GraphBuilder<'_>, inputs: &[Option<ValueId>]) -> Result<Vec<ValueId>, BuildError> {
                match self { $(Op::$variant(o) => o.decompose(b, inputs)),* }
            }
            /// Declarations of every op: for documentation and the parser.
            pub fn declarations() -> Vec<OpDecl> {
                let mut all = Vec::new();
                $( all.extend($variant::declare(|o| Op::$variant(o))); )*
                all
            }
        }

        $( impl From<$variant> for Op { fn from(o: $variant) -> Op { Op::$variant(o) } } )*
    };
}

/// Builds an op from named attributes.
pub type FromAttrs = Box<dyn Fn(&[(String, Attr)]) -> Result<Op, AttrError> + Send + Sync>;

/// One name of the op table: what the parser needs and docs/OPS.md prints.
pub struct OpDecl {
    /// Name in the text format.
    pub name: &'static str,
    /// Documentation.
    pub doc: &'static str,
    /// Attributes.
    pub attrs: Vec<AttrSpec>,
    /// Builds the op.
    pub build: FromAttrs,
}

// One line an op (or family of elementwise ops).
op_table! {
    Unary,
    Binary,
    Where,
    Cast,
    BitCast,
    Clip,
    LeakyRelu,
    Elu,
    HardSigmoid,
    Gelu,
    Swish,
    HardSwish,
    Chain,
    MatMul,
    FusedMatMul,
    Conv,
    FusedConv,
    ConvTranspose,
    MaxPool,
    AveragePool,
    LpPool,
    MaxPoolIndices,
    GlobalAveragePool,
    RoiAlign,
    MaxRoiPool,
    Resize,
    GridSample,
    DeformConv,
    Col2Im,
    Det,
    Softmax,
    LogSoftmax,
    Attention,
    RotaryEmbedding,
    LayerNormalization,
    SkipLayerNormalization,
    RMSNormalization,
    GroupNormalization,
    InstanceNormalization,
    FusedGroupNormalization,
    ChannelNormalization,
    BatchNormalization,
    Reduce,
    ArgMax,
    ArgMin,
    CumSum,
    CumProd,
    Reshape,
    Transpose,
    Gather,
    GatherElements,
    GatherND,
    ScatterElements,
    ScatterND,
    TopK,
    ReverseSequence,
    Trilu,
    Slice,
    Concat,
    Split,
    Expand,
    Tile,
    Pad,
    Range,
    ConstantOfShape,
    ShapeOf,
    Random,
    SoftmaxCrossEntropyLoss,
    CTCLoss,
    SymbolOf,
    NonZero,
    Unique,
    NonMaxSuppression,
    Recurrent,
    If,
    Loop,
}

impl Op {
    /// Every dimension expression among the attributes, those of declared types included.
    pub fn dims(&self) -> Vec<crate::dim::Dim> {
        self.attrs()
            .into_iter()
            .flat_map(|(_, a)| match a {
                Attr::Dims(v) => v,
                Attr::Types(v) => v.into_iter().flat_map(|t| t.shape).collect(),
                _ => vec![],
            })
            .collect()
    }

    /// The declaration of a name; None when the table has no such name.
    pub fn declaration(name: &str) -> Option<&'static OpDecl> {
        use std::sync::OnceLock;
        static TABLE: OnceLock<std::collections::HashMap<&'static str, OpDecl>> = OnceLock::new();
        let table = TABLE.get_or_init(|| Op::declarations().into_iter().map(|d| (d.name, d)).collect());
        table.get(name)
    }

    /// Builds the op of that name; None when the table has no such name.
    pub fn from_name(name: &str, attrs: &[(String, Attr)]) -> Option<Result<Op, AttrError>> {
        Op::declaration(name).map(|d| (d.build)(attrs))
    }
}
