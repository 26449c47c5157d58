//! Running a chain: every step on a block of elements while it is in the first cache, split between threads. What a
//! chain is and how its places are given out is in `chain.rs`, the functions themselves in `functions.rs`.

use super::broadcast::{Pattern, Piece};
use super::chain::{BLOCK, Chain, MAX_PLACES, Step};
use super::functions;
use crate::error::{KernelError, at_least, count, exact, parameters};
use crate::isa::Isa;
use crate::simd::{Simd, Vectorised, dispatch};
use crate::threads::{SharedMut, parallel_ranges};
use std::mem::MaybeUninit;

/// Elements of a task: few, so that the last ones leave no thread waiting.
const GRAIN: usize = 8 * BLOCK;

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
        parallel_ranges(n, GRAIN, self.cost(), |range| {
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

/// The memory of all places.
type Memory = [[MaybeUninit<f32>; BLOCK]; MAX_PLACES];

impl Vectorised for Task<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut memory: Memory = [[const { MaybeUninit::uninit() }; BLOCK]; MAX_PLACES];
        let memory = memory.as_mut_ptr();
        // SAFETY: p < MAX_PLACES at every call, which Chain::new checked.
        let block_of = |p: usize| unsafe { memory.add(p).cast::<f32>() };
        // Where the elements of each place are for the block at work, and of which run of one element it is full.
        let mut places: [*const f32; MAX_PLACES] = std::array::from_fn(|p| block_of(p).cast_const());
        let mut held = [usize::MAX; MAX_PLACES];
        for &(p, x) in &self.chain.constants {
            // SAFETY: the block holds BLOCK floats.
            unsafe { fill(block_of(p), BLOCK, x) };
        }
        let mut start = self.range.start;
        while start < self.range.end {
            let n = (self.range.end - start).min(BLOCK);
            // SAFETY: tasks have disjoint ranges of the output, and start + n is within this one.
            let out = self.numbers.map(|o| unsafe { o.ptr().add(start) });
            for (p, (input, pattern)) in self.inputs.iter().zip(self.patterns).enumerate() {
                let block = block_of(p);
                match input.data {
                    Data::InPlace => places[p] = out.map_or(block.cast_const(), <*mut f32>::cast_const),
                    Data::F32(x) => match pattern.piece(start, n) {
                        // SAFETY: a piece is within what the operand must have, which was checked.
                        Piece::Run(at) => places[p] = unsafe { x.as_ptr().add(at) },
                        Piece::One(at) => {
                            if held[p] != at {
                                // SAFETY: as above; the block holds BLOCK floats.
                                unsafe { fill(block, BLOCK, *x.as_ptr().add(at)) };
                                held[p] = at;
                            }
                            places[p] = block;
                        }
                        Piece::Mixed => {
                            // SAFETY: the block holds BLOCK >= n floats.
                            pattern.fill(x, start, unsafe { written(block, n) }, |x| x);
                            (held[p], places[p]) = (usize::MAX, block);
                        }
                    },
                    Data::Bool(x) => {
                        // SAFETY: the block holds BLOCK >= n floats.
                        let to = unsafe { written(block, n) };
                        pattern.fill(x, start, to, |x| f32::from(u8::from(x != 0)));
                    }
                }
            }
            let mut result = std::ptr::null();
            let last = self.chain.steps.len() - 1;
            for (k, placed) in self.chain.steps.iter().enumerate() {
                let to = match out {
                    Some(out) if k == last => out,
                    _ => block_of(placed.to),
                };
                let at = |r: u16| places[usize::from(r)];
                // SAFETY: every place read holds n elements, `to` too; the output coincides with an input only when
                // that is read in place, element by element, in the last step or before it.
                unsafe {
                    match placed.step {
                        Step::Constant(_) => {}
                        Step::Unary(f, a) => functions::unary(s, f, n, at(a), to),
                        Step::Binary(f, a, b) => functions::binary(s, f, n, at(a), at(b), to),
                        Step::Select(c, a, b) => functions::select(s, n, at(c), at(a), at(b), to),
                    }
                }
                result = to.cast_const();
            }
            if let Some(truths) = self.truths {
                // SAFETY: disjoint ranges as above; the last step wrote n floats.
                let (to, from) =
                    unsafe { (truths.slice(start..start + n), std::slice::from_raw_parts(result, n)) };
                for (t, &x) in to.iter_mut().zip(from) {
                    *t = u8::from(x != 0.0);
                }
            }
            start += n;
        }
    }
}

/// Writes `n` times `x`.
/// # Safety
/// `to` holds `n` floats.
#[inline(always)]
unsafe fn fill(to: *mut f32, n: usize, x: f32) {
    for i in 0..n {
        // SAFETY: i < n.
        unsafe { to.add(i).write(x) };
    }
}

/// The first `n` elements of a block as a slice.
/// # Safety
/// `block` holds `n` floats, and nothing else refers to them.
#[inline(always)]
unsafe fn written<'b>(block: *mut f32, n: usize) -> &'b mut [f32] {
    // SAFETY: zeros make them numbers before they are a slice.
    unsafe {
        block.write_bytes(0, n);
        std::slice::from_raw_parts_mut(block, n)
    }
}
