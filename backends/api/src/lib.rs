//! What a backend is: it is asked for a kernel for one op with these types and gives it or declines.
//! No kernel of a particular device belongs here, except the reference one that wraps the interpreter.

pub mod cases;
pub mod conformance;
mod delegate;
mod reference;
mod tensor;

pub use delegate::Delegate;
pub use reference::ReferenceBackend;
pub use tensor::{TensorMut, TensorRef, contiguous_strides};

use frit_ir::{Bindings, Op, Tensor, TensorType};

/// Why a kernel could not run. What it cannot do at all it declines when asked, so this is about data.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum KernelError {
    /// The data is out of the range that the op allows.
    #[error("{0}")]
    Data(String),
    /// Operands are not what the kernel was made for: an error of the plan, not of the caller.
    #[error("{kernel}: {why}")]
    Contract {
        /// Kernel name.
        kernel: String,
        /// What was wrong.
        why: String,
    },
}

/// In what numbers weights are kept and multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// As the graph says.
    #[default]
    Exact,
    /// bf16 weights and products, f32 sums.
    Bf16,
    /// int8 weights by channel, dynamic int8 activations, i32 sums.
    Int8,
}

impl Precision {
    /// Every precision with the name of the command line and the artifact.
    pub const NAMES: [(Precision, &'static str); 3] =
        [(Precision::Exact, "f32"), (Precision::Bf16, "bf16"), (Precision::Int8, "int8")];

    /// The name of the command line and the artifact.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(p, _)| *p == self).map_or("f32", |(_, n)| n)
    }

    /// The precision of a name.
    pub fn from_name(name: &str) -> Option<Precision> {
        Self::NAMES.iter().find(|(_, n)| *n == name).map(|(p, _)| *p)
    }
}

/// The instruction set that kernels and packed layouts are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// Any machine.
    Generic,
    /// AVX2 and FMA.
    X86V3,
    /// AVX-512 F, BW, CD, DQ, VL.
    X86V4,
}

impl Target {
    /// Every target with the name of the command line and the artifact.
    pub const NAMES: [(Target, &'static str); 3] =
        [(Target::Generic, "generic"), (Target::X86V3, "x86-64-v3"), (Target::X86V4, "x86-64-v4")];

    /// The name of the command line and the artifact.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(t, _)| *t == self).map_or("generic", |(_, n)| n)
    }

    /// The target of a name; `native` is what this machine has.
    pub fn from_name(name: &str) -> Option<Target> {
        if name == "native" {
            return Some(Self::native());
        }
        Self::NAMES.iter().find(|(_, n)| *n == name).map(|(t, _)| *t)
    }

    /// The best target of this machine.
    pub fn native() -> Target {
        #[cfg(target_arch = "x86_64")]
        {
            let v4 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512cd")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if v4 {
                return Target::X86V4;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Target::X86V3;
            }
        }
        Target::Generic
    }
}

/// An operand as a backend sees it when asked for a kernel.
#[derive(Clone, Copy, Debug)]
pub struct OperandInfo<'a> {
    /// Static type; extents may be symbolic.
    pub ty: &'a TensorType,
    /// True for a weight: it never changes, so the kernel may ask for it packed.
    pub constant: bool,
    /// True for a weight that a step of decoding multiplies by: read whole for a row or two at a time, it should be short.
    pub streamed: bool,
    /// The numbers, when constant and small (at most 16 elements).
    pub small: Option<&'a Tensor>,
}

/// What a backend is asked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The op with its attributes.
    pub op: &'a Op,
    /// Operands; None where an optional one is left out.
    pub inputs: &'a [Option<OperandInfo<'a>>],
    /// Types of the results.
    pub outputs: &'a [&'a TensorType],
    /// Instruction set to make kernels and packed layouts for; never above this machine's when running.
    pub target: Target,
    /// In what numbers weights are kept.
    pub precision: Precision,
}

/// A way to run ops: the reference, the CPU, a device.
pub trait Backend: Send + Sync {
    /// Name on the command line.
    fn name(&self) -> &'static str;
    /// A kernel for this op with these types, or None: then the op is decomposed, or goes to the next backend.
    fn kernel(&self, request: &Request<'_>) -> Option<Box<dyn Kernel>>;
}

/// A weight operand that a kernel wants in its own layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Which operand.
    pub input: usize,
    /// The layout's stable name, which says everything needed to read the bytes (`f32-nr32-kc384`). The same
    /// request always names the same layouts: an artifact is loaded by asking again and looking them up.
    pub layout: String,
}

/// Code for one op with fixed attributes and static types, run on any extents that fit them.
pub trait Kernel: Send + Sync {
    /// Name for profiles: what it computes and how.
    fn name(&self) -> String;
    /// Operands of which one may share its memory with output 0, when it dies here and is as big.
    fn in_place(&self) -> &[usize] {
        &[]
    }
    /// True when operand `input` may come with strides. Otherwise it comes contiguous.
    fn accepts_strided(&self, input: usize) -> bool {
        let _ = input;
        false
    }
    /// Weight operands wanted in the kernel's layout.
    fn packing(&self) -> Vec<Packing> {
        Vec::new()
    }
    /// Puts a weight into the layout that [`Kernel::packing`] named. Deterministic.
    fn pack(&self, input: usize, weight: &Tensor) -> Result<Vec<u8>, KernelError> {
        let _ = weight;
        Err(KernelError::Contract { kernel: self.name(), why: format!("operand {input} is not packed") })
    }
    /// Bytes of scratch memory needed for operands of these shapes; it comes 64-byte aligned, not zeroed.
    fn workspace(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> usize {
        let _ = (inputs, outputs);
        0
    }
    /// True for the interpreter, which is slower than kernels by orders of magnitude.
    fn is_reference(&self) -> bool {
        false
    }
    /// Bytes that a run takes besides operands, results and scratch memory, about: what the kernel allocates itself.
    fn heap(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> usize {
        let _ = (inputs, outputs);
        0
    }
    /// In what numbers it multiplies, for profiles.
    fn precision(&self) -> Precision {
        Precision::Exact
    }
    /// How many elements of operand `input` a run reads, where it is not all of them: a gather of a few rows.
    fn elements_read(&self, input: usize, outputs: &[&[usize]]) -> Option<usize> {
        let _ = (input, outputs);
        None
    }
    /// Arithmetic of one run on operands of these shapes; a fused multiply-add counts two.
    fn flops(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> f64 {
        let _ = (inputs, outputs);
        0.0
    }
    /// Computes the outputs, every element of them.
    fn run(&self, run: &mut Run<'_, '_>) -> Result<(), KernelError>;
}

/// One execution of a kernel.
pub struct Run<'r, 'a> {
    /// Operands. None where left out, and where `aliased` says that its numbers are in output 0.
    pub inputs: &'r [Option<TensorRef<'a>>],
    /// Results, to be filled. Contiguous.
    pub outputs: &'r mut [TensorMut<'a>],
    /// The operand whose numbers are in output 0's memory, to be overwritten.
    pub aliased: Option<usize>,
    /// Scratch memory, as much as [`Kernel::workspace`] asked for.
    pub workspace: &'r mut [u8],
    /// Values of dimension symbols, for attributes that hold dims.
    pub bindings: &'r Bindings,
}

impl<'a> Run<'_, 'a> {
    /// A required operand.
    pub fn input(&self, index: usize, kernel: &dyn Kernel) -> Result<TensorRef<'a>, KernelError> {
        self.inputs.get(index).copied().flatten().ok_or_else(|| KernelError::Contract {
            kernel: kernel.name(),
            why: format!("operand {index} is missing"),
        })
    }

    /// An optional operand.
    pub fn opt(&self, index: usize) -> Option<TensorRef<'a>> {
        self.inputs.get(index).copied().flatten()
    }

    /// A result.
    pub fn output(&mut self, index: usize) -> Result<&mut TensorMut<'a>, KernelError> {
        let n = self.outputs.len();
        self.outputs.get_mut(index).ok_or_else(|| KernelError::Contract {
            kernel: "run".into(),
            why: format!("no output {index} of {n}"),
        })
    }
}
