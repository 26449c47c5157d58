//! Elementwise functions on the dtypes that are not f32 or bool: floats are computed in f64 and integers in
//! i64, block by block, and stored back in their own type. f32 and bool have the faster `chain`.

use super::broadcast::Pattern;
use super::{Binary, Unary};
use crate::error::{KernelError, at_least, count, exact, parameters};
use crate::threads::{SharedMut, parallel_ranges};
use frit_ir::Element;

const BLOCK: usize = 256;
const GRAIN: usize = 16 * BLOCK;

/// Where a result goes: elements of the operands' type, or truth values.
#[derive(Debug)]
pub enum WideOutput<'a, T> {
    /// Elements.
    Elements(&'a mut [T]),
    /// Truth values.
    Bool(&'a mut [u8]),
}

enum Target<T> {
    Elements(SharedMut<T>),
    Bool(SharedMut<u8>),
}

fn target<T: Send>(kernel: &'static str, out: WideOutput<'_, T>, n: usize) -> Result<Target<T>, KernelError> {
    Ok(match out {
        WideOutput::Elements(o) => {
            exact(kernel, "output", o.len(), n)?;
            Target::Elements(SharedMut::new(o))
        }
        WideOutput::Bool(o) => {
            exact(kernel, "output", o.len(), n)?;
            Target::Bool(SharedMut::new(o))
        }
    })
}

impl<T: Element> Target<T> {
    fn put<W: Copy>(&self, start: usize, block: &[W], narrow: impl Fn(W) -> T, truth: impl Fn(W) -> bool) {
        let range = start..start + block.len();
        match self {
            Target::Elements(o) => {
                // SAFETY: blocks are disjoint and within the output, whose length was checked.
                let to = unsafe { o.slice(range) };
                to.iter_mut().zip(block).for_each(|(o, &x)| *o = narrow(x));
            }
            Target::Bool(o) => {
                // SAFETY: as above.
                let to = unsafe { o.slice(range) };
                to.iter_mut().zip(block).for_each(|(o, &x)| *o = u8::from(truth(x)));
            }
        }
    }
}

fn blocks(range: std::ops::Range<usize>, mut f: impl FnMut(usize, usize)) {
    let mut start = range.start;
    while start < range.end {
        let n = (range.end - start).min(BLOCK);
        f(start, n);
        start += n;
    }
}

/// Applies `f` to every element.
pub fn unary<T: Element>(f: Unary, x: &[T], out: WideOutput<'_, T>) -> Result<(), KernelError> {
    const NAME: &str = "unary";
    let n = x.len();
    let out = target(NAME, out, n)?;
    parallel_ranges(n, GRAIN, 4.0, |range| {
        blocks(range, |start, n| {
            let x = x.get(start..start + n).unwrap_or(&[]);
            if T::DTYPE.is_float() {
                let mut block = [0f64; BLOCK];
                block.iter_mut().zip(x).for_each(|(b, x)| *b = float_unary(f, x.to_f64()));
                out.put(start, &block[..n], T::from_f64, |x| x != 0.0);
            } else {
                let mut block = [0i64; BLOCK];
                block.iter_mut().zip(x).for_each(|(b, x)| *b = int_unary(f, x.to_i64()));
                out.put(start, &block[..n], T::from_i64, |x| x != 0);
            }
        });
    });
    Ok(())
}

/// Applies `f` to pairs of elements under broadcasting to `shape`.
pub fn binary<T: Element>(
    f: Binary,
    x: (&[T], &[usize]),
    y: (&[T], &[usize]),
    out: WideOutput<'_, T>,
    shape: &[usize],
) -> Result<(), KernelError> {
    const NAME: &str = "binary";
    let n = count(NAME, shape)?;
    let px = pattern(NAME, "x", x.0.len(), x.1, shape, n)?;
    let py = pattern(NAME, "y", y.0.len(), y.1, shape, n)?;
    if !T::DTYPE.is_float()
        && matches!(f, Binary::Div | Binary::Mod)
        && n > 0
        && let Some(at) = y.0.iter().position(|y| y.to_i64() == 0)
    {
        return Err(KernelError::DivisionByZero(at));
    }
    let out = target(NAME, out, n)?;
    parallel_ranges(n, GRAIN, 2.0, |range| {
        blocks(range, |start, n| {
            if T::DTYPE.is_float() {
                let (mut a, mut b) = ([0f64; BLOCK], [0f64; BLOCK]);
                px.fill(x.0, start, &mut a[..n], T::to_f64);
                py.fill(y.0, start, &mut b[..n], T::to_f64);
                a.iter_mut().zip(&b).for_each(|(a, &b)| *a = float_binary(f, *a, b));
                out.put(start, &a[..n], T::from_f64, |x| x != 0.0);
            } else {
                let (mut a, mut b) = ([0i64; BLOCK], [0i64; BLOCK]);
                px.fill(x.0, start, &mut a[..n], T::to_i64);
                py.fill(y.0, start, &mut b[..n], T::to_i64);
                int_block(f, &mut a[..n], &b[..n]);
                out.put(start, &a[..n], T::from_i64, |x| x != 0);
            }
        });
    });
    Ok(())
}

/// Picks from `x` where the condition holds and from `y` elsewhere; `T` is any type of the elements' size.
pub fn select<T: bytemuck::Pod + Send + Sync>(
    condition: (&[u8], &[usize]),
    x: (&[T], &[usize]),
    y: (&[T], &[usize]),
    out: &mut [T],
    shape: &[usize],
) -> Result<(), KernelError> {
    const NAME: &str = "where";
    let n = count(NAME, shape)?;
    exact(NAME, "output", out.len(), n)?;
    let pc = pattern(NAME, "condition", condition.0.len(), condition.1, shape, n)?;
    let px = pattern(NAME, "x", x.0.len(), x.1, shape, n)?;
    let py = pattern(NAME, "y", y.0.len(), y.1, shape, n)?;
    let out = SharedMut::new(out);
    parallel_ranges(n, GRAIN, 1.0, |range| {
        blocks(range, |start, n| {
            let mut c = [0u8; BLOCK];
            let mut a = [T::zeroed(); BLOCK];
            pc.fill(condition.0, start, &mut c[..n], |c| c);
            px.fill(x.0, start, &mut a[..n], |x| x);
            // SAFETY: blocks are disjoint and within the output.
            let to = unsafe { out.slice(start..start + n) };
            py.fill(y.0, start, to, |y| y);
            for ((to, &a), &c) in to.iter_mut().zip(&a).zip(&c) {
                *to = if c != 0 { a } else { *to };
            }
        });
    });
    Ok(())
}

fn pattern(
    kernel: &'static str,
    operand: &'static str,
    len: usize,
    from: &[usize],
    to: &[usize],
    n: usize,
) -> Result<Pattern, KernelError> {
    let p = Pattern::new(from, to).ok_or_else(|| {
        parameters(kernel, format!("`{operand}` of shape {from:?} does not broadcast to {to:?}"))
    })?;
    at_least(kernel, operand, len, Some(p.reach(n)))?;
    Ok(p)
}

/// The function on one number in double precision.
pub fn float_unary(f: Unary, x: f64) -> f64 {
    let truth = |b: bool| f64::from(u8::from(b));
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match f {
        Unary::Abs => x.abs(),
        Unary::Neg => -x,
        Unary::Sign => {
            if x == 0.0 || x.is_nan() {
                x
            } else {
                x.signum()
            }
        }
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Reciprocal => x.recip(),
        Unary::Erf => erf64(x),
        Unary::Tanh => x.tanh(),
        Unary::Sigmoid => sigmoid(x),
        Unary::Relu => {
            if x > 0.0 || x.is_nan() {
                x
            } else {
                0.0
            }
        }
        Unary::LeakyRelu(a) => {
            if x < 0.0 {
                f64::from(a) * x
            } else {
                x
            }
        }
        Unary::Elu(a) => {
            if x < 0.0 {
                f64::from(a) * x.exp_m1()
            } else {
                x
            }
        }
        Unary::HardSigmoid(a, b) => (f64::from(a) * x + f64::from(b)).clamp(0.0, 1.0),
        Unary::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Unary::Silu => x * sigmoid(x),
        Unary::GeluErf => 0.5 * x * (1.0 + erf64(x * std::f64::consts::FRAC_1_SQRT_2)),
        Unary::GeluTanh => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + u.tanh())
        }
        Unary::GeluQuick => x * sigmoid(1.702 * x),
        Unary::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        Unary::Softsign => x / (1.0 + x.abs()),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Acos => x.acos(),
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Round => x.round_ties_even(),
        Unary::Not => truth(x == 0.0),
        Unary::IsNaN => truth(x.is_nan()),
        Unary::Other(f) => frit_ir::op::float_unary(f, x),
    }
}

/// The error function in double precision: a series near 0, a continued fraction for 1 - erf beyond.
fn erf64(x: f64) -> f64 {
    let a = x.abs();
    let y = if a < 2.5 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term.abs() > 1e-17 * sum && n < 100.0 {
            n += 1.0;
            term *= -a * a / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else if a < 6.0 {
        let fraction = (1..=60).rev().fold(0.0, |c, k| f64::from(k) / 2.0 / (a + c));
        1.0 - (-a * a).exp() / ((a + fraction) * std::f64::consts::PI.sqrt())
    } else if a.is_nan() {
        a
    } else {
        1.0
    };
    y.copysign(x)
}

fn int_unary(f: Unary, x: i64) -> i64 {
    match f {
        Unary::Abs => x.wrapping_abs(),
        Unary::Neg => x.wrapping_neg(),
        Unary::Sign => x.signum(),
        Unary::Relu => x.max(0),
        Unary::Not => i64::from(x == 0),
        Unary::Floor | Unary::Ceil | Unary::Round => x,
        other => float_unary(other, x as f64) as i64,
    }
}

/// The function on one pair in double precision.
pub fn float_binary(f: Binary, x: f64, y: f64) -> f64 {
    let truth = |b: bool| f64::from(u8::from(b));
    match f {
        Binary::Add => x + y,
        Binary::Sub => x - y,
        Binary::Mul => x * y,
        Binary::Div => x / y,
        Binary::Pow => x.powf(y),
        Binary::Min => {
            if x.is_nan() || y.is_nan() {
                f64::NAN
            } else {
                x.min(y)
            }
        }
        Binary::Max => {
            if x.is_nan() || y.is_nan() {
                f64::NAN
            } else {
                x.max(y)
            }
        }
        Binary::Mod => floor_mod(x, y),
        Binary::And => truth(x != 0.0 && y != 0.0),
        Binary::Or => truth(x != 0.0 || y != 0.0),
        Binary::Xor => truth((x != 0.0) != (y != 0.0)),
        Binary::Equal => truth(x == y),
        Binary::Less => truth(x < y),
        Binary::LessOrEqual => truth(x <= y),
        Binary::Greater => truth(x > y),
        Binary::GreaterOrEqual => truth(x >= y),
    }
}

/// The remainder with the divisor's sign, exact whatever the quotient.
pub(super) fn floor_mod(x: f64, y: f64) -> f64 {
    let r = x % y;
    if r != 0.0 && (r < 0.0) != (y < 0.0) { r + y } else { r }
}

/// The choice of function outside the loop, so that the simple ones vectorise.
fn int_block(f: Binary, x: &mut [i64], y: &[i64]) {
    fn each(x: &mut [i64], y: &[i64], f: impl Fn(i64, i64) -> i64) {
        x.iter_mut().zip(y).for_each(|(x, &y)| *x = f(*x, y));
    }
    match f {
        Binary::Add => each(x, y, i64::wrapping_add),
        Binary::Sub => each(x, y, i64::wrapping_sub),
        Binary::Mul => each(x, y, i64::wrapping_mul),
        Binary::Div => each(x, y, |x, y| x.checked_div(y).unwrap_or(0)),
        Binary::Pow => each(x, y, |x, y| match u32::try_from(y) {
            Ok(y) => x.wrapping_pow(y),
            Err(_) => (x as f64).powf(y as f64) as i64,
        }),
        Binary::Min => each(x, y, i64::min),
        Binary::Max => each(x, y, i64::max),
        Binary::Mod => each(x, y, |x, y| {
            x.checked_rem(y).map_or(0, |r| if r != 0 && ((r < 0) != (y < 0)) { r + y } else { r })
        }),
        Binary::And => each(x, y, |x, y| i64::from(x != 0 && y != 0)),
        Binary::Or => each(x, y, |x, y| i64::from(x != 0 || y != 0)),
        Binary::Xor => each(x, y, |x, y| i64::from((x != 0) != (y != 0))),
        Binary::Equal => each(x, y, |x, y| i64::from(x == y)),
        Binary::Less => each(x, y, |x, y| i64::from(x < y)),
        Binary::LessOrEqual => each(x, y, |x, y| i64::from(x <= y)),
        Binary::Greater => each(x, y, |x, y| i64::from(x > y)),
        Binary::GreaterOrEqual => each(x, y, |x, y| i64::from(x >= y)),
    }
}
