//! Kernels made from a name and a closure, and access to their operands. Kernels that pack weights or ask for
//! working memory implement the trait themselves.

use crate::operand::Source;
use frit_backend::{Kernel, KernelError, Run, TensorRef};
use frit_ir::{DimError, Element, TensorError};
use std::borrow::Cow;

/// Why a kernel did not run, before its name is added.
#[derive(Debug)]
pub(super) enum Fail {
    /// The data is out of the op's range.
    Data(String),
    /// The operands are not those that the kernel was made for.
    Contract(String),
}

impl Fail {
    pub(super) fn named(self, kernel: &str) -> KernelError {
        match self {
            Fail::Data(why) => KernelError::Data(format!("{kernel}: {why}")),
            Fail::Contract(why) => KernelError::Contract { kernel: kernel.to_owned(), why },
        }
    }
}

impl From<crate::KernelError> for Fail {
    fn from(e: crate::KernelError) -> Fail {
        match e {
            crate::KernelError::Index { .. } | crate::KernelError::DivisionByZero(_) => {
                Fail::Data(e.to_string())
            }
            other => Fail::Contract(other.to_string()),
        }
    }
}

macro_rules! contract {
    ($($t:ty),*) => {$(
        impl From<$t> for Fail {
            fn from(e: $t) -> Fail {
                Fail::Contract(e.to_string())
            }
        }
    )*};
}
contract!(TensorError, DimError, crate::gemm::GemmError);

pub(super) type Result<T> = std::result::Result<T, Fail>;

/// A kernel that is a closure.
pub(super) struct Simple<F> {
    name: Cow<'static, str>,
    in_place: Vec<usize>,
    strided: bool,
    sparse: bool,
    flops_per_element: f64,
    run: F,
}

/// A kernel from a closure.
pub(super) fn kernel<F>(name: impl Into<Cow<'static, str>>, run: F) -> Simple<F>
where
    F: Fn(&mut Run<'_, '_>) -> Result<()> + Send + Sync + 'static,
{
    Simple {
        name: name.into(),
        in_place: Vec::new(),
        strided: false,
        sparse: false,
        flops_per_element: 0.0,
        run,
    }
}

impl<F> Simple<F>
where
    F: Fn(&mut Run<'_, '_>) -> Result<()> + Send + Sync + 'static,
{
    /// Operands that may be in output 0's memory.
    pub(super) fn in_place(mut self, operands: Vec<usize>) -> Self {
        self.in_place = operands;
        self
    }

    /// Takes operands with any strides.
    pub(super) fn strided(mut self) -> Self {
        self.strided = true;
        self
    }

    /// Reads of operand 0 as many elements as it writes.
    pub(super) fn sparse(mut self) -> Self {
        self.sparse = true;
        self
    }

    /// Arithmetic an element of output 0, for profiles.
    pub(super) fn flops(mut self, per_element: f64) -> Self {
        self.flops_per_element = per_element;
        self
    }

    #[allow(clippy::unnecessary_wraps)] // what every selection gives back
    pub(super) fn done(self) -> Option<Box<dyn Kernel>> {
        Some(Box::new(self))
    }
}

impl<F> Kernel for Simple<F>
where
    F: Fn(&mut Run<'_, '_>) -> Result<()> + Send + Sync,
{
    fn name(&self) -> String {
        self.name.clone().into_owned()
    }
    fn in_place(&self) -> &[usize] {
        &self.in_place
    }
    fn accepts_strided(&self, _: usize) -> bool {
        self.strided
    }
    fn elements_read(&self, input: usize, outputs: &[&[usize]]) -> Option<usize> {
        let written = || outputs.iter().map(|shape| shape.iter().product::<usize>()).sum();
        (self.sparse && input == 0).then(written)
    }
    fn flops(&self, _: &[Option<&[usize]>], outputs: &[&[usize]]) -> f64 {
        outputs.first().map_or(0.0, |shape| shape.iter().product::<usize>() as f64 * self.flops_per_element)
    }
    fn run(&self, run: &mut Run<'_, '_>) -> std::result::Result<(), KernelError> {
        (self.run)(run).map_err(|fail| fail.named(&self.name))
    }
}

/// Operands of a run by position.
pub(super) trait Operands<'a> {
    /// A required operand that is not in output 0's memory.
    fn tensor(&self, index: usize) -> Result<TensorRef<'a>>;
    /// The elements of a required contiguous operand.
    fn elements<T: Element>(&self, index: usize) -> Result<&'a [T]>;
    /// The elements of an optional contiguous operand.
    fn optional<T: Element>(&self, index: usize) -> Result<Option<&'a [T]>>;
    /// The elements of an operand that may be in output 0's memory.
    fn source<T: Element>(&self, index: usize) -> Result<Source<'a, T>>;
}

impl<'a> Operands<'a> for Run<'_, 'a> {
    fn tensor(&self, index: usize) -> Result<TensorRef<'a>> {
        self.opt(index).ok_or_else(|| Fail::Contract(format!("operand {index} is missing")))
    }
    fn elements<T: Element>(&self, index: usize) -> Result<&'a [T]> {
        Ok(self.tensor(index)?.slice::<T>()?)
    }
    fn optional<T: Element>(&self, index: usize) -> Result<Option<&'a [T]>> {
        Ok(self.opt(index).map(|t| t.slice::<T>()).transpose()?)
    }
    fn source<T: Element>(&self, index: usize) -> Result<Source<'a, T>> {
        if self.aliased == Some(index) {
            Ok(Source::InPlace)
        } else {
            Ok(Source::Slice(self.elements(index)?))
        }
    }
}

/// Working memory as numbers. None at all may come unaligned.
pub(super) fn floats(workspace: &mut [u8]) -> Result<&mut [f32]> {
    if workspace.is_empty() {
        return Ok(&mut []);
    }
    bytemuck::try_cast_slice_mut(workspace)
        .map_err(|e| Fail::Contract(format!("the workspace is not of f32: {e}")))
}

/// The product of the extents before, at and after an axis.
pub(super) fn around(shape: &[usize], axis: usize) -> [usize; 3] {
    let outer = shape.iter().take(axis).product();
    let inner = shape.iter().skip(axis + 1).product();
    [outer, shape.get(axis).copied().unwrap_or(1), inner]
}

/// A list of numbers as extents or counts; None when one is negative.
pub(super) fn counts(v: &[i64]) -> Option<Vec<usize>> {
    v.iter().map(|&n| usize::try_from(n).ok()).collect()
}

/// Calls a generic function with the Rust type of a number dtype; something else for bool and the storage types.
macro_rules! with_number {
    ($dtype:expr, $t:ident => $body:expr, else $other:expr) => {
        match $dtype {
            frit_ir::DType::I8 => {
                type $t = i8;
                $body
            }
            frit_ir::DType::I16 => {
                type $t = i16;
                $body
            }
            frit_ir::DType::I32 => {
                type $t = i32;
                $body
            }
            frit_ir::DType::I64 => {
                type $t = i64;
                $body
            }
            frit_ir::DType::U8 => {
                type $t = u8;
                $body
            }
            frit_ir::DType::U16 => {
                type $t = u16;
                $body
            }
            frit_ir::DType::U32 => {
                type $t = u32;
                $body
            }
            frit_ir::DType::U64 => {
                type $t = u64;
                $body
            }
            frit_ir::DType::F16 => {
                type $t = half::f16;
                $body
            }
            frit_ir::DType::BF16 => {
                type $t = half::bf16;
                $body
            }
            frit_ir::DType::F32 => {
                type $t = f32;
                $body
            }
            frit_ir::DType::F64 => {
                type $t = f64;
                $body
            }
            _ => $other,
        }
    };
}
pub(super) use with_number;
