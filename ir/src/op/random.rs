//! Random tensors: the same at every run, by seed. Sampling for generation does not belong here.

use super::*;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::random::Stream;
use crate::{attr_enum, op_struct};

attr_enum! {
    /// How random numbers are distributed.
    pub enum Distribution {
        /// Evenly from `a` up to, not including, `b`.
        Uniform = "uniform",
        /// Normally, with mean `a` and standard deviation `b`.
        Normal = "normal",
    }
}

op_struct! {
    /// Random numbers, which depend on seed and salt alone: every run gives the same. ONNX RandomUniform-1 and
    /// RandomNormal-1; a salt tells nodes of the same seed apart.
    pub struct Random = "Random" {
        /// Shape of the result.
        pub shape: Vec<Dim>,
        /// Element type of the result, a float type.
        pub dtype: DType = DType::F32,
        /// Distribution.
        pub distribution: Distribution = Distribution::Uniform,
        /// The least number, or the mean.
        pub a: f64 = 0.0,
        /// The bound, or the standard deviation.
        pub b: f64 = 1.0,
        /// The seed.
        pub seed: i64 = 0,
        /// Tells nodes of the same seed apart.
        pub salt: i64 = 0,
    }
}

impl OpDef for Random {
    fn operands(&self) -> &'static [Operand] {
        &[]
    }
    fn onnx(&self) -> Onnx {
        match self.distribution {
            Distribution::Uniform => Onnx::Op("RandomUniform", 1),
            Distribution::Normal => Onnx::Op("RandomNormal", 1),
        }
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        if !self.dtype.is_float() {
            return Err(cx.bad_attr("dtype", format!("{} is no float type", self.dtype)));
        }
        if let Some(d) = self.shape.iter().find(|d| d.as_const().is_some_and(|n| n < 0)) {
            return Err(cx.bad_attr("shape", format!("{d} is no extent")));
        }
        Ok(vec![TensorType { dtype: self.dtype, shape: self.shape.clone() }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = cx.output(0)?;
        let n = Tensor::zeros(DType::F64, shape)?.len();
        // The salt goes through the generator, so that neighbouring salts give unlike streams.
        let mut stream = Stream::new((self.seed as u64) ^ Stream::new(self.salt as u64).bits());
        let v: Vec<f64> = (0..n)
            .map(|_| match self.distribution {
                Distribution::Uniform => self.a + (self.b - self.a) * stream.unit(),
                // Box and Muller; 1 - unit is never 0.
                Distribution::Normal => {
                    let radius = (-2.0 * (1.0 - stream.unit()).ln()).sqrt();
                    self.a + self.b * radius * (std::f64::consts::TAU * stream.unit()).cos()
                }
            })
            .collect();
        Ok(vec![Tensor::from_f64(dtype, shape, &v)?])
    }
}
