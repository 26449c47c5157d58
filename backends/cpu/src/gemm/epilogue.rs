//! What happens to a tile of C between the sum and memory: scale, bias, activation, residual.
//!
//! It runs on a finished tile while that is in the nearest cache. The functions themselves are in `math`.

use crate::isa::Isa;
use crate::math;
use crate::simd::{Simd, Vectorised, dispatch};

/// An activation that a kernel can apply to its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x
    #[default]
    None,
    /// max(x, 0)
    Relu,
    /// x Φ(x), with erf.
    GeluErf,
    /// The same within 3e-5, for products of fewer bits.
    GeluNear,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// x sigmoid(1.702 x)
    GeluQuick,
    /// x sigmoid(x)
    Silu,
    /// tanh(x)
    Tanh,
    /// 1 / (1 + exp(-x))
    Sigmoid,
    /// min(max(x, 0), 6)
    Relu6,
    /// x min(max(x / 6 + 0.5, 0), 1)
    HardSwish,
}

impl Activation {
    /// Every activation, each at its most accurate.
    pub const ALL: [Activation; 10] = [
        Activation::None,
        Activation::Relu,
        Activation::GeluErf,
        Activation::GeluTanh,
        Activation::GeluQuick,
        Activation::Silu,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Relu6,
        Activation::HardSwish,
    ];
}

/// A bias added to the (scaled) sum.
#[derive(Clone, Copy, Debug, Default)]
pub enum Bias<'a> {
    /// None.
    #[default]
    None,
    /// One value a column of C: a linear layer's. Length n.
    Columns(&'a [f32]),
    /// One value a row of C: a convolution's. Length m.
    Rows(&'a [f32]),
}

/// A matrix of C's shape that is added to it.
#[derive(Clone, Copy, Debug)]
pub enum Residual<'a> {
    /// A matrix elsewhere; row r starts at `r * stride`.
    From {
        /// Its elements.
        data: &'a [f32],
        /// Elements between its rows.
        stride: usize,
    },
    /// What C held before the call.
    Output,
}

/// Everything done to the sums before they are stored:
/// `C = gain * activation(alpha * sum + bias [+ residual]) + shift [+ residual]`.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// Factor of the sum.
    pub alpha: f32,
    /// Added after the factor.
    pub bias: Bias<'a>,
    /// Added before the activation.
    pub residual_before: Option<Residual<'a>>,
    /// Applied to the result so far.
    pub activation: Activation,
    /// Factor of what the activation gives.
    pub gain: f32,
    /// Added after that factor.
    pub shift: f32,
    /// Added last.
    pub residual_after: Option<Residual<'a>>,
}

impl Default for Epilogue<'_> {
    fn default() -> Self {
        Epilogue {
            alpha: 1.0,
            bias: Bias::None,
            residual_before: None,
            activation: Activation::None,
            gain: 1.0,
            shift: 0.0,
            residual_after: None,
        }
    }
}

impl<'a> Epilogue<'a> {
    /// A bias by column and an activation: a linear layer.
    pub fn linear(bias: Option<&'a [f32]>, activation: Activation) -> Epilogue<'a> {
        Epilogue { bias: bias.map_or(Bias::None, Bias::Columns), activation, ..Epilogue::default() }
    }

    /// Whether the sum itself is the result, but for a bias that it may start from.
    pub(crate) fn is_bias_only(&self) -> bool {
        self.alpha == 1.0
            && self.activation == Activation::None
            && (self.gain, self.shift) == (1.0, 0.0)
            && self.residual_before.is_none()
            && self.residual_after.is_none()
    }
}

/// The part of an [`Epilogue`] that concerns one tile, as pointers; null means absent.
pub(crate) struct Finish {
    pub isa: Isa,
    pub rows: usize,
    pub columns: usize,
    /// The sums; row r at `r * sums_stride`.
    pub sums: *const f32,
    pub sums_stride: usize,
    pub alpha: f32,
    pub bias_columns: *const f32,
    pub bias_rows: *const f32,
    pub before: *const f32,
    pub before_stride: usize,
    pub activation: Activation,
    pub gain: f32,
    pub shift: f32,
    pub after: *const f32,
    pub after_stride: usize,
    /// The result; row r at `r * c_stride`. May be where `before` or `after` point.
    pub c: *mut f32,
    pub c_stride: usize,
}

impl Finish {
    /// An activation alone: of rows that are `sums_stride` apart, into rows that are `c_stride` apart.
    pub fn of(
        isa: Isa,
        activation: Activation,
        [rows, columns]: [usize; 2],
        sums: *const f32,
        sums_stride: usize,
        c: *mut f32,
        c_stride: usize,
    ) -> Finish {
        let nothing = std::ptr::null();
        Finish {
            isa,
            rows,
            columns,
            sums,
            sums_stride,
            alpha: 1.0,
            bias_columns: nothing,
            bias_rows: nothing,
            before: nothing,
            before_stride: 0,
            activation,
            gain: 1.0,
            shift: 0.0,
            after: nothing,
            after_stride: 0,
            c,
            c_stride,
        }
    }

    /// Applies the epilogue to the tile.
    ///
    /// # Safety
    /// Every pointer that is not null is good for the tile's rows and columns.
    pub unsafe fn apply(&self) {
        dispatch(self.isa, Apply(self));
    }
}

/// Applies an activation to `n` elements where they lie.
///
/// # Safety
/// They are readable and writable.
pub(crate) unsafe fn activate(isa: Isa, activation: Activation, n: usize, y: *mut f32) {
    let finish = Finish::of(isa, activation, [1, n], y, n, y, n);
    // SAFETY: the caller's promise; sums and result are the same elements.
    unsafe { finish.apply() };
}

struct Apply<'a>(&'a Finish);

impl Vectorised for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let tile = self.0;
        // SAFETY: `Finish::apply`, the only maker, has the caller's promise for every pointer.
        unsafe {
            match tile.activation {
                Activation::None => rows::<S, Identity>(s, tile),
                Activation::Relu => rows::<S, Relu>(s, tile),
                Activation::GeluErf => rows::<S, GeluErf>(s, tile),
                Activation::GeluNear => rows::<S, GeluNear>(s, tile),
                Activation::GeluTanh => rows::<S, GeluTanh>(s, tile),
                Activation::GeluQuick => rows::<S, GeluQuick>(s, tile),
                Activation::Silu => rows::<S, Silu>(s, tile),
                Activation::Tanh => rows::<S, Tanh>(s, tile),
                Activation::Sigmoid => rows::<S, Sigmoid>(s, tile),
                Activation::Relu6 => rows::<S, Relu6>(s, tile),
                Activation::HardSwish => rows::<S, HardSwish>(s, tile),
            }
        }
    }
}

/// A function of one vector, as a type so that it is certain to be inlined.
trait Function {
    fn of<S: Simd>(s: S, x: S::V) -> S::V;
}

macro_rules! functions {
    ($($name:ident = |$s:ident, $x:ident| $body:expr;)*) => {$(
        struct $name;
        impl Function for $name {
            #[inline(always)]
            fn of<S: Simd>($s: S, $x: S::V) -> S::V {
                $body
            }
        }
    )*};
}

functions! {
    Identity = |_s, x| x;
    Relu = |s, x| math::relu(s, x);
    GeluErf = |s, x| math::gelu_erf(s, x);
    GeluNear = |s, x| math::gelu_near(s, x);
    GeluTanh = |s, x| math::gelu_tanh(s, x);
    GeluQuick = |s, x| math::gelu_quick(s, x);
    Silu = |s, x| math::silu(s, x);
    Tanh = |s, x| math::tanh(s, x);
    Sigmoid = |s, x| math::sigmoid(s, x);
    Relu6 = |s, x| math::limit(s, x, 0.0, 6.0);
    HardSwish = |s, x| math::hard_swish(s, x);
}

#[inline(always)]
unsafe fn rows<S: Simd, F: Function>(s: S, tile: &Finish) {
    for r in 0..tile.rows {
        let mut j = 0;
        // SAFETY: whole vectors stay within the tile's columns, the last is cut to what is left of them.
        unsafe {
            while j + S::LANES <= tile.columns {
                let y = one::<S, F, false>(s, tile, r, j, 0);
                s.store(tile.c.add(r * tile.c_stride + j), y);
                j += S::LANES;
            }
            if j < tile.columns {
                let left = tile.columns - j;
                let y = one::<S, F, true>(s, tile, r, j, left);
                s.store_part(tile.c.add(r * tile.c_stride + j), left, y);
            }
        }
    }
}

/// A whole vector, or its first `left` elements. A function rather than a closure so that it is inlined.
#[inline(always)]
unsafe fn load<S: Simd, const PART: bool>(s: S, p: *const f32, left: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if PART { s.load_part(p, left) } else { s.load(p) } }
}

#[inline(always)]
unsafe fn one<S: Simd, F: Function, const PART: bool>(
    s: S,
    tile: &Finish,
    r: usize,
    j: usize,
    left: usize,
) -> S::V {
    // SAFETY: the caller gives a row and a column of the tile.
    unsafe {
        let sum = load::<S, PART>(s, tile.sums.add(r * tile.sums_stride + j), left);
        let mut x = s.mul(s.splat(tile.alpha), sum);
        if !tile.bias_columns.is_null() {
            x = s.add(x, load::<S, PART>(s, tile.bias_columns.add(j), left));
        }
        if !tile.bias_rows.is_null() {
            x = s.add(x, s.splat(*tile.bias_rows.add(r)));
        }
        if !tile.before.is_null() {
            x = s.add(x, load::<S, PART>(s, tile.before.add(r * tile.before_stride + j), left));
        }
        // What is neither scaled nor shifted stays as it is: 1 y + 0 is y but for the sign of 0.
        let mut y = s.mul_add(s.splat(tile.gain), F::of(s, x), s.splat(tile.shift));
        if !tile.after.is_null() {
            y = s.add(y, load::<S, PART>(s, tile.after.add(r * tile.after_stride + j), left));
        }
        y
    }
}
