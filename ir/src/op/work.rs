//! How much a reference evaluation of an op computes, roughly, from shapes alone: what budgets of constant folding
//! count. Times and kernels do not belong here.

use super::{MaxPool, Op};

fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

fn window(kernel: &[i64]) -> Option<usize> {
    kernel.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?))
}

impl Op {
    /// Multiplications, or elements touched, of a reference evaluation on operands and results of these shapes. None
    /// when they are too many to count. What costs little an element counts its elements.
    pub fn work(&self, operands: &[Option<&[usize]>], results: &[&[usize]]) -> Option<usize> {
        let operand = |i: usize| operands.get(i).copied().flatten();
        let sum = |mut shapes: Box<dyn Iterator<Item = &[usize]> + '_>| {
            shapes.try_fold(0usize, |n, s| n.checked_add(elements(s)?))
        };
        let out = sum(Box::new(results.iter().copied()))?;
        let given = sum(Box::new(operands.iter().copied().flatten()))?;
        let depth = match self {
            Op::MatMul(_) => operand(0)?.last().copied().unwrap_or(1),
            Op::FusedMatMul(o) => {
                let from_end = if o.trans_a { 2 } else { 1 };
                let a = operand(0)?;
                a.len().checked_sub(from_end).and_then(|i| a.get(i)).copied().unwrap_or(1)
            }
            Op::Conv(_) | Op::FusedConv(_) | Op::ConvTranspose(_) | Op::DeformConv(_) => {
                elements(operand(1)?.get(1..)?)?
            }
            Op::Chain(o) => o.steps.len(),
            Op::Attention(_) => elements(operand(1)?)?,
            Op::MaxPool(MaxPool { kernel, .. }) => window(kernel)?,
            Op::AveragePool(o) => window(&o.kernel)?,
            Op::LpPool(o) => window(&o.kernel)?,
            Op::MaxPoolIndices(o) => window(&o.kernel)?,
            Op::Recurrent(_) => {
                let rows = elements(operand(0)?.get(..2)?)?;
                let weights = elements(operand(1)?)?.checked_add(elements(operand(2)?)?)?;
                return rows.checked_mul(weights)?.checked_add(out);
            }
            Op::Det(_) => elements(operand(0)?)?.checked_mul(operand(0)?.last().copied().unwrap_or(1))?,
            Op::CTCLoss(_) => elements(operand(0)?)?.checked_mul(operand(1)?.last().copied().unwrap_or(1))?,
            // Up to four taps along each of three axes; more where it shrinks with all elements counted.
            Op::Resize(_) => return out.checked_add(given)?.checked_mul(64),
            Op::Col2Im(_) => 1,
            Op::RoiAlign(o) if o.sampling_ratio > 0 => window(&[4, o.sampling_ratio, o.sampling_ratio])?,
            // Each result may take the whole picture in.
            Op::RoiAlign(_) | Op::MaxRoiPool(_) => elements(operand(0)?.get(2..)?)?.checked_mul(4)?,
            // Every box that scores may be compared with every other.
            Op::NonMaxSuppression(_) => {
                let boxes = operand(0)?.get(1).copied().unwrap_or(0);
                return elements(operand(1)?)?.checked_mul(boxes)?.checked_add(given);
            }
            _ => 1,
        };
        out.checked_mul(depth.max(1))?.checked_add(given)
    }
}

#[cfg(test)]
mod tests {
    use crate::op::{Det, GlobalAveragePool, MatMul, Op};

    #[test]
    fn products_count_their_sums_and_the_rest_its_elements() {
        let work = |op: Op, operands: &[&[usize]], result: &[usize]| {
            let operands: Vec<_> = operands.iter().map(|s| Some(*s)).collect();
            op.work(&operands, &[result])
        };
        assert_eq!(work(MatMul {}.into(), &[&[3, 5], &[5, 7]], &[3, 7]), Some(105 + 50));
        assert_eq!(work(GlobalAveragePool {}.into(), &[&[1, 2, 9]], &[1, 2, 1]), Some(20));
        assert!(work(Det {}.into(), &[&[4, 9, 9]], &[4]) >= Some(4 * 9 * 9 * 9));
        let huge = usize::MAX / 2;
        assert_eq!(work(MatMul {}.into(), &[&[huge, 9], &[9, 9]], &[huge, 9]), None);
    }
}
