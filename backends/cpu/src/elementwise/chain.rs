//! Chains of elementwise f32 and bool functions: what they are, checked, and where each result lies while they run.
//! A single op is a chain of one step. Running them is in `machine.rs`; other dtypes are in `wide`.

use super::{Binary, Unary};

/// Elements of a block: one place is two kilobytes.
pub(super) const BLOCK: usize = 512;
/// Inputs, constants and what lives at the same time, at most: each has a place.
pub const MAX_PLACES: usize = 48;

/// A value: the inputs come first, then one for each step.
pub type Register = u16;

/// One function of a chain; its result is the next register.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// A number.
    Constant(f32),
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
    /// Nothing to compute: the last step gives the result, and must be a function.
    #[error("a chain ends in a function")]
    Empty,
    /// More at a time than there is room for.
    #[error("a chain that needs more than {MAX_PLACES} places")]
    TooWide,
    /// A step reads a register that is not yet written.
    #[error("step {step} reads register {register}, which comes later")]
    Order {
        /// The step.
        step: usize,
        /// The register.
        register: Register,
    },
}

/// A step by places: what it computes from which, and where the result goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Placed {
    /// The step; its registers are places.
    pub step: Step,
    /// The place of the result; that of the last step is the output where that is of numbers.
    pub to: usize,
}

/// A checked chain; its result is that of the last step.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    pub(super) inputs: usize,
    /// Places of constants, behind those of the inputs.
    pub(super) constants: Vec<(usize, f32)>,
    pub(super) steps: Vec<Placed>,
}

impl Step {
    /// The registers read.
    fn reads(&self) -> impl Iterator<Item = Register> {
        let [a, b, c] = match *self {
            Step::Constant(_) => [None; 3],
            Step::Unary(_, a) => [Some(a), None, None],
            Step::Binary(_, a, b) => [Some(a), Some(b), None],
            Step::Select(a, b, c) => [Some(a), Some(b), Some(c)],
        };
        a.into_iter().chain(b).chain(c)
    }

    /// The step with every register replaced.
    fn map(self, f: impl Fn(Register) -> Register) -> Step {
        match self {
            Step::Constant(x) => Step::Constant(x),
            Step::Unary(g, a) => Step::Unary(g, f(a)),
            Step::Binary(g, a, b) => Step::Binary(g, f(a), f(b)),
            Step::Select(a, b, c) => Step::Select(f(a), f(b), f(c)),
        }
    }

    /// Rough nanoseconds an element on one core.
    fn cost(&self) -> f64 {
        match self {
            Step::Constant(_) => 0.0,
            Step::Unary(Unary::Sin | Unary::Cos | Unary::Softplus | Unary::Elu(_) | Unary::Other(_), _)
            | Step::Binary(Binary::Pow | Binary::Mod, ..) => 10.0,
            Step::Unary(..) => 0.4,
            Step::Binary(..) | Step::Select(..) => 0.1,
        }
    }
}

impl Chain {
    /// A chain of `steps` over `inputs` inputs.
    pub fn new(inputs: usize, steps: &[Step]) -> Result<Chain, ChainError> {
        if matches!(steps.last(), None | Some(Step::Constant(_))) {
            return Err(ChainError::Empty);
        }
        // The step that reads each value last; one behind the end where none does.
        let mut last = vec![usize::MAX; inputs + steps.len()];
        for (step, s) in steps.iter().enumerate() {
            for register in s.reads() {
                match last.get_mut(usize::from(register)) {
                    Some(l) if usize::from(register) < inputs + step => *l = step,
                    _ => return Err(ChainError::Order { step, register }),
                }
            }
        }
        let mut places: Vec<usize> = (0..inputs + steps.len()).collect();
        // None where there are too many inputs: then the last step, a function, finds none.
        let mut free: Vec<usize> = (inputs..MAX_PLACES).rev().collect();
        let mut chain = Chain { inputs, constants: Vec::new(), steps: Vec::new() };
        // Inputs and constants keep theirs from block to block.
        let mut kept = vec![true; inputs];
        for (step, s) in steps.iter().enumerate() {
            if let Step::Constant(x) = s {
                places[inputs + step] = free.pop().ok_or(ChainError::TooWide)?;
                chain.constants.push((places[inputs + step], *x));
            }
            kept.push(matches!(s, Step::Constant(_)));
        }
        for (step, s) in steps.iter().enumerate().filter(|(_, s)| !matches!(s, Step::Constant(_))) {
            // A step may write where it reads: it does so element by element.
            for r in s.reads().map(usize::from) {
                if last[r] == step && !kept[r] && !free.contains(&places[r]) {
                    free.push(places[r]);
                }
            }
            let to = free.pop().ok_or(ChainError::TooWide)?;
            places[inputs + step] = to;
            let step = s.map(|r| places[usize::from(r)] as Register);
            chain.steps.push(Placed { step, to });
        }
        Ok(chain)
    }

    /// The chain of one function of one operand.
    pub fn unary(f: Unary) -> Chain {
        let step = Placed { step: Step::Unary(f, 0), to: 1 };
        Chain { inputs: 1, constants: Vec::new(), steps: vec![step] }
    }

    /// The chain of one function of two operands.
    pub fn binary(f: Binary) -> Chain {
        let step = Placed { step: Step::Binary(f, 0, 1), to: 2 };
        Chain { inputs: 2, constants: Vec::new(), steps: vec![step] }
    }

    /// The number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Functions computed for each element.
    pub fn functions(&self) -> usize {
        self.steps.len()
    }

    /// Rough nanoseconds an element on one core.
    pub(super) fn cost(&self) -> f64 {
        0.2 + self.steps.iter().map(|p| p.step.cost()).sum::<f64>()
    }
}
