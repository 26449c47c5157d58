//! Fused chains of elementwise f32 and bool functions: a small register machine that runs every step on a
//! block while it is in the first cache. A single op is a chain of one step. Other dtypes are in `wide`.

use super::broadcast::Pattern;
use super::{Binary, Unary, functions};
use crate::error::{KernelError, at_least, count, exact, parameters};
use crate::isa::Isa;
use crate::simd::{Simd, Vectorised, dispatch};
use crate::threads::{SharedMut, parallel_ranges};

/// Elements of a block: one register is a kilobyte.
const BLOCK: usize = 256;
/// Registers: with these a task's working set stays in the first cache.
pub const MAX_REGISTERS: usize = 24;

/// A register: the inputs come first, then the constants, then one for each step.
pub type Register = u8;

/// One function of a chain; its result is the next register.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// A function of one register.
    Unary(Unary, Register),
    /// A function of two.
    Binary(Binary, Register, Register),
    /// The second where the first is not 0, else the third.
    Select(Register, Register, Register),
}

/// Why steps make no chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Nothing to compute.
    #[error("a chain needs at least one step")]
    Empty,
    /// Inputs, constants and steps together exceed the registers.
    #[error("a chain of {0} registers exceeds {MAX_REGISTERS}")]
    TooLong(usize),
    /// A step reads a register that is not yet written.
    #[error("step {step} reads register {register}, which comes later")]
    Order {
        /// The step.
        step: usize,
        /// The register.
        register: Register,
    },
}

/// A checked chain; its result is that of the last step.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    inputs: usize,
    constants: Vec<f32>,
    steps: Vec<Step>,
}

/// The elements of an input.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// Numbers.
    F32(&'a [f32]),
    /// Truth values, one byte each; read as 0 and 1.
    Bool(&'a [u8]),
    /// The output buffer holds this input, in the output's shape, and is overwritten.
    InPlace,
}

/// An input and its shape.
#[derive(Clone, Copy, Debug)]
pub struct ChainInput<'a> {
    /// Elements.
    pub data: Data<'a>,
    /// Extents, which broadcast to the output's.
    pub shape: &'a [usize],
}

/// Where the result goes.
#[derive(Debug)]
pub enum ChainOutput<'a> {
    /// Numbers.
    F32(&'a mut [f32]),
    /// Truth values: 1 where the result is not 0.
    Bool(&'a mut [u8]),
}

impl Chain {
    /// A chain of `steps` over `inputs` inputs and constants.
    pub fn new(inputs: usize, constants: Vec<f32>, steps: Vec<Step>) -> Result<Chain, ChainError> {
        if steps.is_empty() {
            return Err(ChainError::Empty);
        }
        let first = inputs + constants.len();
        if first + steps.len() > MAX_REGISTERS {
            return Err(ChainError::TooLong(first + steps.len()));
        }
        for (step, s) in steps.iter().enumerate() {
            let reads: &[Register] = match s {
                Step::Unary(_, a) => &[*a],
                Step::Binary(_, a, b) => &[*a, *b],
                Step::Select(a, b, c) => &[*a, *b, *c],
            };
            if let Some(&register) = reads.iter().find(|&&r| usize::from(r) >= first + step) {
                return Err(ChainError::Order { step, register });
            }
        }
        Ok(Chain { inputs, constants, steps })
    }

    /// The chain of one function of one operand.
    pub fn unary(f: Unary) -> Chain {
        Chain { inputs: 1, constants: vec![], steps: vec![Step::Unary(f, 0)] }
    }

    /// The chain of one function of two operands.
    pub fn binary(f: Binary) -> Chain {
        Chain { inputs: 2, constants: vec![], steps: vec![Step::Binary(f, 0, 1)] }
    }

    /// The number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Rough nanoseconds an element on one core.
    fn cost(&self) -> f64 {
        let step = |s: &Step| match s {
            Step::Unary(Unary::Sin | Unary::Cos | Unary::Softplus | Unary::Elu(_), _) => 10.0,
            Step::Binary(Binary::Pow, ..) => 10.0,
            Step::Unary(..) => 0.5,
            _ => 0.15,
        };
        0.2 + self.steps.iter().map(step).sum::<f64>()
    }

    /// Evaluates the chain for every element of an output of shape `shape`.
    pub fn run(
        &self,
        isa: Isa,
        inputs: &[ChainInput<'_>],
        out: ChainOutput<'_>,
        shape: &[usize],
    ) -> Result<(), KernelError> {
        const NAME: &str = "elementwise chain";
        let n = count(NAME, shape)?;
        exact(NAME, "inputs", inputs.len(), self.inputs)?;
        let mut patterns = Vec::with_capacity(inputs.len());
        for input in inputs {
            let pattern = Pattern::new(input.shape, shape).ok_or_else(|| {
                parameters(NAME, format!("shape {:?} does not broadcast to {shape:?}", input.shape))
            })?;
            let len = match input.data {
                Data::F32(x) => x.len(),
                Data::Bool(x) => x.len(),
                Data::InPlace => {
                    if pattern != Pattern::Same || !matches!(out, ChainOutput::F32(_)) {
                        return Err(parameters(
                            NAME,
                            "an input in place has the output's shape and type f32",
                        ));
                    }
                    n
                }
            };
            at_least(NAME, "input", len, Some(pattern.reach(n)))?;
            patterns.push(pattern);
        }
        let (numbers, truths) = match out {
            ChainOutput::F32(o) => {
                exact(NAME, "output", o.len(), n)?;
                (Some(SharedMut::new(o)), None)
            }
            ChainOutput::Bool(o) => {
                exact(NAME, "output", o.len(), n)?;
                (None, Some(SharedMut::new(o)))
            }
        };
        parallel_ranges(n, 64 * BLOCK, self.cost(), |range| {
            dispatch(isa, Task { chain: self, inputs, patterns: &patterns, numbers, truths, range });
        });
        Ok(())
    }
}

struct Task<'a> {
    chain: &'a Chain,
    inputs: &'a [ChainInput<'a>],
    patterns: &'a [Pattern],
    numbers: Option<SharedMut<f32>>,
    truths: Option<SharedMut<u8>>,
    range: std::ops::Range<usize>,
}

impl Vectorised for Task<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut memory = [[0f32; BLOCK]; MAX_REGISTERS];
        let memory = memory.as_mut_ptr();
        let mut registers = [std::ptr::null::<f32>(); MAX_REGISTERS];
        // SAFETY: r < MAX_REGISTERS at every call, which Chain::new checked.
        let block_of = |r: usize| unsafe { memory.add(r).cast::<f32>() };
        for (k, &c) in self.chain.constants.iter().enumerate() {
            let p = block_of(self.inputs.len() + k);
            // SAFETY: p points at BLOCK floats.
            unsafe { std::slice::from_raw_parts_mut(p, BLOCK) }.fill(c);
            registers[self.inputs.len() + k] = p;
        }
        for (r, (input, pattern)) in self.inputs.iter().zip(self.patterns).enumerate() {
            if let (Pattern::Scalar, Data::F32(x)) = (pattern, input.data) {
                let p = block_of(r);
                // SAFETY: p points at BLOCK floats.
                pattern.fill(x, 0, unsafe { std::slice::from_raw_parts_mut(p, BLOCK) }, |x| x);
                registers[r] = p;
            }
        }
        let mut start = self.range.start;
        while start < self.range.end {
            let n = (self.range.end - start).min(BLOCK);
            // SAFETY: tasks have disjoint ranges of the output, and start + n is within this one.
            let out = self.numbers.map(|o| unsafe { o.ptr().add(start) });
            for (r, (input, pattern)) in self.inputs.iter().zip(self.patterns).enumerate() {
                registers[r] = match (input.data, pattern) {
                    (Data::F32(_), Pattern::Scalar) => continue,
                    // SAFETY: the slice has the output's length, which was checked.
                    (Data::F32(x), Pattern::Same) => unsafe { x.as_ptr().add(start) },
                    (Data::InPlace, _) => out.map_or(std::ptr::null(), <*mut f32>::cast_const),
                    (data, _) => {
                        let p = block_of(r);
                        // SAFETY: p points at BLOCK >= n floats.
                        let block = unsafe { std::slice::from_raw_parts_mut(p, n) };
                        match data {
                            Data::F32(x) => pattern.fill(x, start, block, |x| x),
                            Data::Bool(x) => pattern.fill(x, start, block, |x| f32::from(u8::from(x != 0))),
                            Data::InPlace => {}
                        }
                        p
                    }
                };
            }
            let first = self.inputs.len() + self.chain.constants.len();
            let last = self.chain.steps.len() - 1;
            for (k, &step) in self.chain.steps.iter().enumerate() {
                let dst = match out {
                    Some(out) if k == last => out,
                    _ => block_of(first + k),
                };
                let reg = |r: Register| registers[usize::from(r)];
                // SAFETY: every register read holds n elements, dst too; the output coincides with an input
                // only when that is read in place, element by element, in the last step or before it.
                unsafe {
                    match step {
                        Step::Unary(f, a) => functions::unary(s, f, n, reg(a), dst),
                        Step::Binary(f, a, b) => functions::binary(s, f, n, reg(a), reg(b), dst),
                        Step::Select(c, a, b) => functions::select(s, n, reg(c), reg(a), reg(b), dst),
                    }
                }
                registers[first + k] = dst;
            }
            if let Some(truths) = self.truths {
                // SAFETY: disjoint ranges as above; the last register holds n floats.
                let (to, from) = unsafe {
                    (truths.slice(start..start + n), std::slice::from_raw_parts(registers[first + last], n))
                };
                for (t, &x) in to.iter_mut().zip(from) {
                    *t = u8::from(x != 0.0);
                }
            }
            start += n;
        }
    }
}
