//! The CPU backend of frit: vectorised, parallel kernels chosen at run time, and their selection for ops.
//! Kernels are plain functions over slices and know no graph; only the selection knows ops.

pub mod attention;
pub mod conv;
pub mod elementwise;
mod error;
pub mod gemm;
pub mod isa;
pub mod layout;
pub mod limits;
pub mod math;
pub mod norm;
mod operand;
pub mod recurrent;
pub mod reduce;
pub mod resize;
mod scratch;
mod select;
pub mod simd;
mod team;
#[cfg(test)]
mod testing;
pub mod threads;

pub use error::KernelError;
pub use operand::Source;
pub use select::CpuBackend;
