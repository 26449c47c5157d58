//! One step of a recurrent cell on one sequence, vectorised: what the products gave goes through the cell's functions.
//! Products are the module's above.

use super::Layer;
use crate::math;
use crate::simd::{Simd, Vectorised};
use frit_ir::op::CellFn;

/// An activation function with its parameters.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Which.
    pub function: CellFn,
    /// Parameter a.
    pub a: f32,
    /// Parameter b.
    pub b: f32,
}

#[inline(always)]
fn apply<S: Simd>(s: S, f: Function, x: S::V) -> S::V {
    let (zero, one) = (s.zero(), s.splat(1.0));
    let (a, b) = (s.splat(f.a), s.splat(f.b));
    match f.function {
        CellFn::Relu => math::relu(s, x),
        CellFn::Tanh => math::tanh(s, x),
        CellFn::Sigmoid => math::sigmoid(s, x),
        CellFn::Affine => s.mul_add(a, x, b),
        CellFn::LeakyRelu => s.select(s.lt(x, zero), s.mul(a, x), x),
        CellFn::ThresholdedRelu => s.select(s.lt(a, x), x, zero),
        CellFn::ScaledTanh => s.mul(a, math::tanh(s, s.mul(b, x))),
        CellFn::HardSigmoid => s.max(zero, s.min(one, s.mul_add(a, x, b))),
        CellFn::Elu => s.select(s.lt(x, zero), s.mul(a, s.sub(math::exp(s, x), one)), x),
        CellFn::Softsign => s.div(x, s.add(one, s.abs(x))),
        CellFn::Softplus => {
            let tail = math::log(s, s.add(one, math::exp(s, s.neg(s.abs(x)))));
            s.add(s.max(zero, x), tail)
        }
    }
}

/// Function `i` of the layer after its bound.
#[inline(always)]
fn gate<S: Simd>(s: S, layer: &Layer, i: usize, x: S::V) -> S::V {
    let clip = layer.clip;
    let x = if clip > 0.0 { s.max(s.splat(-clip), s.min(s.splat(clip), x)) } else { x };
    apply(s, layer.functions[i], x)
}

/// Elements `at..` of a slice, as many as a vector holds or are left before `end`.
#[inline(always)]
fn load<S: Simd>(s: S, v: &[f32], at: usize, count: usize) -> S::V {
    let v = &v[at..at + count];
    // SAFETY: count elements are there, by the line above.
    unsafe { if count == S::LANES { s.load(v.as_ptr()) } else { s.load_part(v.as_ptr(), count) } }
}

#[inline(always)]
fn store<S: Simd>(s: S, v: &mut [f32], at: usize, count: usize, x: S::V) {
    let v = &mut v[at..at + count];
    // SAFETY: count elements are there, by the line above.
    unsafe {
        if count == S::LANES { s.store(v.as_mut_ptr(), x) } else { s.store_part(v.as_mut_ptr(), count, x) }
    }
}

/// The sum of elements `at..` of two slices.
#[inline(always)]
fn sum<S: Simd>(s: S, a: &[f32], b: &[f32], at: usize, count: usize) -> S::V {
    s.add(load(s, a, at, count), load(s, b, at, count))
}

/// x with what a gate sees of the cell state, elements `at..` of the peepholes, where there are any.
#[inline(always)]
fn peek<S: Simd>(s: S, peephole: Option<&[f32]>, at: usize, count: usize, c: S::V, x: S::V) -> S::V {
    match peephole {
        Some(p) => s.mul_add(load(s, p, at, count), c, x),
        None => x,
    }
}

/// Runs the block with the first element and the number of elements of each vector of `n`. No closure: those are not
/// sure to be inlined where the instructions are enabled.
macro_rules! vectors {
    ($n:expr, |$at:ident, $count:ident| $body:block) => {{
        let mut $at = 0;
        while $at < $n {
            let $count = S::LANES.min($n - $at);
            $body
            $at += $count;
        }
    }};
}

/// H' = f(gates + sums).
pub(super) struct RnnStep<'a> {
    pub layer: &'a Layer,
    pub hidden: usize,
    pub gates: &'a [f32],
    pub sums: &'a [f32],
    pub h: &'a mut [f32],
    pub y: &'a mut [f32],
}

impl Vectorised for RnnStep<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        vectors!(self.hidden, |at, count| {
            let h = gate(s, self.layer, 0, sum(s, self.gates, self.sums, at, count));
            store(s, self.h, at, count, h);
            store(s, self.y, at, count, h);
        });
    }
}

/// A GRU's gates z, which replaces its sum, and r, of which `kept` is r . H.
pub(super) struct GruGates<'a> {
    pub layer: &'a Layer,
    pub hidden: usize,
    pub gates: &'a [f32],
    pub sums: &'a mut [f32],
    pub h: &'a [f32],
    pub kept: &'a mut [f32],
}

impl Vectorised for GruGates<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.hidden;
        vectors!(n, |at, count| {
            let z = gate(s, self.layer, 0, sum(s, self.gates, self.sums, at, count));
            let r = gate(s, self.layer, 0, sum(s, self.gates, self.sums, n + at, count));
            store(s, self.sums, at, count, z);
            store(s, self.kept, at, count, s.mul(r, load(s, self.h, at, count)));
        });
    }
}

/// A GRU's state. Where `update` is given it is z, and `next` what r . H gave; otherwise `next` holds the sums of all
/// gates, the last to be scaled by r.
pub(super) struct GruState<'a> {
    pub layer: &'a Layer,
    pub hidden: usize,
    pub gates: &'a [f32],
    pub update: Option<&'a [f32]>,
    pub next: &'a [f32],
    pub h: &'a mut [f32],
    pub y: &'a mut [f32],
}

impl Vectorised for GruState<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.hidden;
        vectors!(n, |at, count| {
            let (z, past) = match self.update {
                Some(z) => (load(s, z, at, count), load(s, self.next, at, count)),
                None => {
                    let z = gate(s, self.layer, 0, sum(s, self.gates, self.next, at, count));
                    let r = gate(s, self.layer, 0, sum(s, self.gates, self.next, n + at, count));
                    (z, s.mul(r, load(s, self.next, 2 * n + at, count)))
                }
            };
            let x = load(s, self.gates, 2 * n + at, count);
            let candidate = gate(s, self.layer, 1, s.add(x, past));
            let h = load(s, self.h, at, count);
            // (1 - z) candidate + z h
            let h = s.mul_add(z, s.sub(h, candidate), candidate);
            store(s, self.h, at, count, h);
            store(s, self.y, at, count, h);
        });
    }
}

/// An LSTM's states.
pub(super) struct LstmStep<'a> {
    pub layer: &'a Layer,
    pub hidden: usize,
    pub gates: &'a [f32],
    pub sums: &'a [f32],
    pub peephole: Option<&'a [f32]>,
    pub h: &'a mut [f32],
    pub c: &'a mut [f32],
    pub y: &'a mut [f32],
}

impl Vectorised for LstmStep<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (n, layer, p) = (self.hidden, self.layer, self.peephole);
        vectors!(n, |at, count| {
            // Gates stand as i, o, f, c, and so do the peepholes.
            let (i, o) = (at, n + at);
            let (f, g) = (2 * n + at, 3 * n + at);
            let past = load(s, self.c, at, count);
            let input = sum(s, self.gates, self.sums, i, count);
            let input = gate(s, layer, 0, peek(s, p, i, count, past, input));
            let forget = if layer.coupled {
                s.sub(s.splat(1.0), input)
            } else {
                let forget = sum(s, self.gates, self.sums, f, count);
                gate(s, layer, 0, peek(s, p, f, count, past, forget))
            };
            let candidate = gate(s, layer, 1, sum(s, self.gates, self.sums, g, count));
            let c = s.mul_add(forget, past, s.mul(input, candidate));
            let output = sum(s, self.gates, self.sums, o, count);
            let output = gate(s, layer, 0, peek(s, p, o, count, c, output));
            let h = s.mul(output, apply(s, layer.functions[2], c));
            store(s, self.c, at, count, c);
            store(s, self.h, at, count, h);
            store(s, self.y, at, count, h);
        });
    }
}
