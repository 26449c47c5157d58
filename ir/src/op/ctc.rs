//! The connectionist temporal classification loss: a primitive, as its recursion is no graph of other ops.

use super::elements::at;
use super::*;
use crate::dtype::DType;
use crate::op_struct;

op_struct! {
    /// Minus the log-probability of each target over all alignments with blanks and repeats (Graves et al. 2006,
    /// "Connectionist Temporal Classification"); torch.nn.functional.ctc_loss. log_probs `[T, N, C]`, targets
    /// i64 `[N, S]` (those beyond the target length are not read), input_lengths i64 `[N]`, target_lengths i64 `[N]`.
    /// The mean divides each loss by its target length, at least 1, first.
    pub struct CTCLoss = "CTCLoss" {
        /// The class that stands for no symbol.
        pub blank: i64 = 0,
        /// How the samples' losses become the result.
        pub reduction: Reduction = Reduction::Mean,
        /// A target that no alignment reaches costs 0, not infinity.
        pub zero_infinity: bool = false,
    }
}

impl OpDef for CTCLoss {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] =
            &[one("log_probs"), one("targets"), one("input_lengths"), one("target_lengths")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::None
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        cx.expect_float(0)?;
        let log_probs = cx.expect_rank(0, 3)?;
        let samples = log_probs.shape.get(1..2).unwrap_or(&[]);
        cx.expect_dtype(1, DType::I64)?;
        let targets = cx.expect_rank(1, 2)?;
        if !crate::types::same_shape(targets.shape.get(..1).unwrap_or(&[]), samples) {
            return Err(cx.reject(1, format!("{samples:?} samples on axis 0")));
        }
        cx.expect_shape(2, DType::I64, samples)?;
        cx.expect_shape(3, DType::I64, samples)?;
        let classes = log_probs.shape.get(2).and_then(crate::Dim::as_const);
        if self.blank < 0 || classes.is_some_and(|c| self.blank >= c) {
            return Err(cx.bad_attr("blank", format!("{} is no class of {log_probs}", self.blank)));
        }
        let shape = if self.reduction == Reduction::None { samples.to_vec() } else { vec![] };
        Ok(vec![TensorType { dtype: log_probs.dtype, shape }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (log_probs, targets) = (cx.input(0)?, cx.input(1)?);
        let (input_lengths, target_lengths) = (cx.input(2)?.to_i64_vec(), cx.input(3)?.to_i64_vec());
        let (dtype, shape) = cx.output(0)?;
        let [steps, samples, classes] = *log_probs.shape() else {
            return Err(cx.bad_data("log_probs is not [T, N, C]"));
        };
        let width = targets.shape().get(1).copied().unwrap_or(0);
        let (logs, labels) = (log_probs.to_f64_vec(), targets.to_i64_vec());
        let mut losses = Vec::with_capacity(samples);
        for n in 0..samples {
            let length = |v: &[i64], what: &str, most: usize| {
                let l = at(v, n);
                usize::try_from(l)
                    .ok()
                    .filter(|&l| l <= most)
                    .ok_or_else(|| cx.bad_data(format!("{what} {l} of sample {n} is outside 0..={most}")))
            };
            let frames = length(&input_lengths, "input length", steps)?;
            let symbols = length(&target_lengths, "target length", width)?;
            let target = (0..symbols)
                .map(|s| {
                    let label = at(&labels, n * width + s);
                    usize::try_from(label).ok().filter(|&l| l < classes).ok_or_else(|| {
                        cx.bad_data(format!("label {label} at {s} of sample {n} is outside 0..{classes}"))
                    })
                })
                .collect::<Result<Vec<_>, _>>()?;
            let blank = usize::try_from(self.blank).unwrap_or(0);
            let score = |t: usize, class: usize| at(&logs, (t * samples + n) * classes + class);
            let mut loss = -log_likelihood(&target, blank, frames, score);
            if self.zero_infinity && loss == f64::INFINITY {
                loss = 0.0;
            }
            losses.push(match self.reduction {
                Reduction::Mean => loss / symbols.max(1) as f64,
                _ => loss,
            });
        }
        let result = match self.reduction {
            Reduction::None => losses,
            Reduction::Sum => vec![losses.iter().sum()],
            Reduction::Mean => vec![losses.iter().sum::<f64>() / losses.len() as f64],
        };
        Ok(vec![Tensor::from_f64(dtype, shape, &result)?])
    }
}

fn log_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// The forward algorithm over the target with a blank before, between and after its symbols.
fn log_likelihood(target: &[usize], blank: usize, frames: usize, score: impl Fn(usize, usize) -> f64) -> f64 {
    let states = 2 * target.len() + 1;
    let class = |s: usize| if s.is_multiple_of(2) { blank } else { at(target, s / 2) };
    // Before the first frame all weight stands before the first state.
    let mut alpha = vec![f64::NEG_INFINITY; states];
    for t in 0..frames {
        let previous = std::mem::replace(&mut alpha, vec![f64::NEG_INFINITY; states]);
        let was = |s: usize| previous.get(s).copied().unwrap_or(f64::NEG_INFINITY);
        for (s, a) in alpha.iter_mut().enumerate() {
            let mut sum = if t == 0 {
                if s < 2 { 0.0 } else { f64::NEG_INFINITY }
            } else {
                let stay_or_step = if s == 0 { was(0) } else { log_add(was(s), was(s - 1)) };
                // A blank may be skipped, but not between two equal symbols.
                if s >= 2 && s % 2 == 1 && class(s) != class(s - 2) {
                    log_add(stay_or_step, was(s - 2))
                } else {
                    stay_or_step
                }
            };
            sum += score(t, class(s));
            *a = sum;
        }
    }
    if frames == 0 {
        return if target.is_empty() { 0.0 } else { f64::NEG_INFINITY };
    }
    let end = |back: usize| {
        states.checked_sub(back).and_then(|s| alpha.get(s)).copied().unwrap_or(f64::NEG_INFINITY)
    };
    log_add(end(1), end(2))
}
