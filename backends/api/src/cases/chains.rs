//! Cases of chains: random ones over operands that broadcast. The ops of which they are made have their own cases.

use super::{Cases, Of, Result};
use frit_ir::op::{Binary, Unary};
use frit_ir::op::{BinaryFn, Cast, Chain, ChainStep, Clip, Gelu, GeluForm, LeakyRelu, Swish, UnaryFn, Where};
use frit_ir::random::Stream;
use frit_ir::{DType, Op};

/// A random chain with the shapes of its operands, which are all of one element type. Its functions do not enlarge
/// rounding errors, and it compares operands alone.
pub fn random(r: &mut Stream) -> (Chain, Vec<Vec<usize>>) {
    let rank = r.below(4);
    let full: Vec<usize> = (0..rank).map(|i| 1 + r.below(if i + 1 == rank { 40 } else { 7 })).collect();
    let mut shapes = vec![full.clone()];
    for _ in 0..r.below(4) {
        let own = full.iter().map(|&d| if r.below(3) == 0 { 1 } else { d }).collect::<Vec<_>>();
        shapes.push(own.into_iter().skip(r.below(rank + 1)).collect());
    }
    let mut steps = Steps { operands: shapes.len(), steps: Vec::new(), values: (0..shapes.len()).collect() };
    for _ in 0..r.below(9) {
        steps.grow(r);
    }
    steps.join();
    (Chain { steps: steps.steps }, shapes)
}

struct Steps {
    operands: usize,
    steps: Vec<ChainStep>,
    /// Values of the operands' type.
    values: Vec<usize>,
}

impl Steps {
    fn push(&mut self, op: impl Into<Op>, operands: &[usize]) -> usize {
        self.steps.push(ChainStep { op: op.into(), operands: operands.to_vec() });
        self.operands + self.steps.len() - 1
    }

    fn grow(&mut self, r: &mut Stream) {
        let mut any = || self.values.get(r.below(self.values.len())).copied().unwrap_or(0);
        let (x, y, z) = (any(), any(), any());
        let (a, b) = (r.below(self.operands), r.below(self.operands));
        let unary =
            [UnaryFn::Tanh, UnaryFn::Sigmoid, UnaryFn::Abs, UnaryFn::Neg, UnaryFn::Relu, UnaryFn::Erf];
        let binary = [BinaryFn::Add, BinaryFn::Sub, BinaryFn::Max, BinaryFn::Min];
        let compare = [BinaryFn::Less, BinaryFn::GreaterOrEqual, BinaryFn::Equal];
        let pick = r.below(9);
        let value = match pick {
            0..=1 => self.push(Unary { function: unary[r.below(unary.len())] }, &[x]),
            2..=3 => self.push(Binary { function: binary[r.below(binary.len())] }, &[x, y]),
            4 => {
                let gate = self.push(Unary { function: UnaryFn::Tanh }, &[y]);
                self.push(Binary { function: BinaryFn::Mul }, &[x, gate])
            }
            5 => {
                let ops = [
                    Op::from(Clip { min: Some(-0.5), max: [None, Some(0.75)][r.below(2)] }),
                    Op::from(LeakyRelu { alpha: 0.1 }),
                    Op::from(Gelu { approximate: GeluForm::ALL[r.below(2)] }),
                    Op::from(Swish { alpha: [1.0, 1.702, 0.5][r.below(3)] }),
                ];
                self.push(ops[r.below(ops.len())].clone(), &[x])
            }
            6 => {
                let c = self.push(Binary { function: compare[r.below(compare.len())] }, &[a, b]);
                let c = self.push(Unary { function: UnaryFn::Not }, &[c]);
                self.push(Where {}, &[c, y, z])
            }
            7 => {
                let c = self.push(Cast::to(DType::Bool), &[a]);
                let d = self.push(Unary { function: UnaryFn::IsNaN }, &[x]);
                let both = self.push(Binary { function: BinaryFn::Xor }, &[c, d]);
                self.push(Where {}, &[both, x, y])
            }
            _ => {
                let c = self.push(Binary { function: compare[r.below(compare.len())] }, &[a, b]);
                self.push(Where {}, &[c, x, y])
            }
        };
        self.values.push(value);
    }

    /// Adds up what nothing reads yet, so that all of it is in the result.
    fn join(&mut self) {
        let read: Vec<usize> = self.steps.iter().flat_map(|s| s.operands.iter().copied()).collect();
        let left: Vec<usize> = self.values.iter().copied().filter(|v| !read.contains(v)).collect();
        let mut sum = left.first().copied().unwrap_or(0);
        for v in left.into_iter().skip(1) {
            sum = self.push(Binary { function: BinaryFn::Add }, &[sum, v]);
        }
        if self.steps.is_empty() {
            self.push(Unary { function: UnaryFn::Neg }, &[sum]);
        }
    }
}

pub(super) fn chains(c: &mut Cases) -> Result<()> {
    for (count, dtype) in [(60, DType::F32), (3, DType::F64), (3, DType::BF16)] {
        for _ in 0..count {
            let (chain, shapes) = random(&mut c.stream);
            c.add(chain, shapes.iter().map(|s| Of(dtype, s)).collect())?;
        }
    }
    // Truth values alone, a comparison as the result, an empty tensor.
    let step = |op: Op, operands: &[usize]| ChainStep { op, operands: operands.to_vec() };
    let binary = |function| Op::from(Binary { function });
    let not = Op::from(Unary { function: UnaryFn::Not });
    let masks = Chain { steps: vec![step(not, &[0]), step(binary(BinaryFn::And), &[2, 1])] };
    c.add(masks, vec![Of(DType::Bool, &[3, 5]), Of(DType::Bool, &[5])])?;
    let above =
        Chain { steps: vec![step(binary(BinaryFn::Max), &[0, 1]), step(binary(BinaryFn::Greater), &[2, 1])] };
    c.add(above.clone(), vec![Of(DType::F32, &[4, 300]), Of(DType::F32, &[4, 1])])?;
    c.add(above, vec![Of(DType::F32, &[0, 300]), Of(DType::F32, &[1])])?;
    Ok(())
}
