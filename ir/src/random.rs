//! Deterministic numbers for tests: tensors by seed, and data for weights that were declared without.
//! Sampling for generation does not belong here.

use crate::dtype::DType;
use crate::module::Module;
use crate::tensor::{Tensor, TensorError};

/// A stream of pseudo-random numbers (splitmix64): the same on every machine.
#[derive(Clone, Debug)]
pub struct Stream(u64);

impl Stream {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Stream(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, not including, 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A whole number from 0 up to, not including, `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        usize::try_from(self.bits().checked_rem(bound).unwrap_or(0)).unwrap_or(0)
    }

    /// A tensor: floats from -1 to 1, integers 0 to 3, bools evenly.
    pub fn tensor(&mut self, dtype: DType, shape: &[usize]) -> Result<Tensor, TensorError> {
        let n = Tensor::zeros(dtype, shape)?.len();
        if dtype.is_float() {
            let v: Vec<f64> = (0..n).map(|_| 2.0 * self.unit() - 1.0).collect();
            Tensor::from_f64(dtype, shape, &v)
        } else {
            let most = if dtype == DType::Bool { 2 } else { 4 };
            let v: Vec<i64> = (0..n).map(|_| i64::try_from(self.below(most)).unwrap_or(0)).collect();
            Tensor::from_i64(dtype, shape, &v)
        }
    }
}

/// Gives every weight without data random numbers that depend on its name and the seed alone. Floats of rank 2 and
/// more are scaled down by the square root of their last extent, so that deep graphs stay in range.
pub fn fill_weights(module: &mut Module, seed: u64) -> Result<(), TensorError> {
    let open: Vec<_> = module
        .weights
        .iter()
        .filter(|(_, w)| w.data.is_none())
        .filter_map(|(id, w)| w.ty.fixed_shape().map(|s| (id, w.name.clone(), w.ty.dtype, s)))
        .collect();
    for (id, name, dtype, shape) in open {
        // FNV-1a of the name.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let mut data = Stream::new(seed ^ hash).tensor(dtype, &shape)?;
        if dtype.is_float() && shape.len() >= 2 {
            let scale = (shape.last().copied().unwrap_or(1).max(1) as f64).sqrt().recip();
            let v: Vec<f64> = data.to_f64_vec().into_iter().map(|x| x * scale).collect();
            data = Tensor::from_f64(dtype, &shape, &v)?;
        }
        module.weights.set_data(id, data);
    }
    Ok(())
}
