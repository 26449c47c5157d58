//! Three taps with a stride of two over one axis, as Wav2Vec2's feature encoder has them: two neighbouring outputs
//! share the input between them, and with it a sixth of the products.
//!
//! With x the inputs that outputs 2j and 2j + 1 see (x0 to x4) and w the three taps,
//!
//! ```text
//! y[2j]     = w0 x0 + w1 x1 + w2 x2 = m + w0 (x0 - x2) + w1 x1
//! y[2j + 1] = w0 x2 + w1 x3 + w2 x4 = m + w2 (x4 - x2) + w1 x3,    m = (w0 + w2) x2
//! ```
//!
//! so five products of channels give two outputs, instead of six: the minimal filtering F(2, 2) on the even inputs
//! (Winograd, Arithmetic Complexity of Computations, 1980), the odd ones as they are. Other convolutions are in the
//! files beside it; loops around the micro-kernel that others could use do not belong here.

use super::{Call, ConvSpec};
use crate::gemm::{Bias, CHANNELS_AHEAD, LINE, MAX_ROWS, MAX_WIDTH};
use crate::gemm::{Epilogue, Finish, GemmError, Matrix, PackedLayout, Residual, RowTiles, TileCall, pack};
use crate::isa::{Isa, Level};
use crate::scratch::with_scratch;
use crate::simd::{Cache, prefetch};
use crate::threads::{parallel_for, split, threads};
use std::ops::Range;
use std::ptr::null;

/// What a weight is stored as: w0 + w2, w0, w1, w2.
pub(super) const PARTS: usize = 4;
/// What a panel of columns is gathered as: x2, x0 - x2, x1, x4 - x2, x3.
const COLUMNS: usize = 5;
/// Fewer channels belong to small networks, whose few samples fill no panel in any of the five products: half the time
/// of a voice detector went into two such layers of 64 channels and two or three samples.
const LEAST_CHANNELS: usize = 192;

/// Whether this way is for such a convolution. It looks at what a weight alone decides.
pub(super) fn suits(spec: &ConvSpec) -> bool {
    spec.rank == 1
        && spec.kernel[2] == 3
        && spec.stride[2] == 2
        && spec.dilation[2] == 1
        && spec.group_in >= LEAST_CHANNELS
        && spec.group_out >= LEAST_CHANNELS
}

/// Stores the weight `[out, in, 3]` of a group: for each row tile its four parts one after the other. `layout` is
/// that of one part, `[out, in]`.
pub(super) fn pack_group(layout: &PackedLayout, weight: &[f32], out: &mut [u8]) -> Result<(), GemmError> {
    let rows = RowTiles::new(layout.len, layout.width);
    let tap = |index: usize| move |taps: &[f32]| taps.get(index).copied().unwrap_or(0.0);
    let parts: [&dyn Fn(&[f32]) -> f32; PARTS] = [&|w| tap(0)(w) + tap(2)(w), &tap(0), &tap(1), &tap(2)];
    let mut packed = vec![0f32; layout.len * layout.k];
    for (index, part) in parts.iter().enumerate() {
        let plain: Vec<f32> = weight.chunks_exact(3).map(part).collect();
        let source = Matrix::row_major(&plain, layout.len, layout.k);
        pack(layout, &source, bytemuck::cast_slice_mut(&mut packed))?;
        for t in 0..rows.count() {
            let (start, len) = (rows.start(t) * layout.k, rows.height(t) * layout.k);
            let to = 4 * (PARTS * start + index * len);
            let from = packed.get(start..start + len).unwrap_or_default();
            if let Some(to) = out.get_mut(to..to + 4 * len) {
                to.copy_from_slice(bytemuck::cast_slice(from));
            }
        }
    }
    Ok(())
}

/// Runs the convolution; `layout` is that of one part of a group's weight.
pub(super) fn run(call: &Call<'_>, layout: &PackedLayout) {
    let spec = call.spec;
    let rows = RowTiles::new(spec.group_out, layout.width);
    let pairs = spec.output[2].div_ceil(2);
    let panels = pairs.div_ceil(call.width);
    let products = spec.batch * spec.groups;
    // With few panels the rows are shared out too, and each share gathers the columns for itself.
    let shares = (3 * threads()).div_ceil(products * panels).min(rows.count()).max(1);
    let words = COLUMNS * spec.group_in * call.width;
    let cost_ns = (2 * words * spec.group_out / shares / 60) as u64;
    parallel_for(products * panels * shares, cost_ns, |task| {
        let (product, rest) = (task / (panels * shares), task % (panels * shares));
        let (image, group) = (product / spec.groups, product % spec.groups);
        let channel = group * spec.group_out;
        let block = Block {
            call,
            rows: &rows,
            a: call.weight.as_ptr().wrapping_add(PARTS * channel * spec.group_in),
            panel: rest / shares,
            pairs,
            c: call.output_at(image, channel),
            epilogue: call.epilogue_from(image, channel, spec.group_out),
        };
        with_scratch(words, |columns| {
            block.gather(call.input_at(image, group), columns);
            // SAFETY: the sizes of all buffers were checked; tasks write disjoint parts of y.
            unsafe { block.run(split(rows.count(), shares, rest % shares), columns.as_ptr()) };
        });
    });
}

/// A panel of pairs of outputs.
struct Block<'a> {
    call: &'a Call<'a>,
    rows: &'a RowTiles,
    a: *const f32,
    panel: usize,
    /// Pairs of outputs in a row of the output.
    pairs: usize,
    c: *mut f32,
    epilogue: Epilogue<'a>,
}

impl Block<'_> {
    /// Writes the five columns of every channel, zeros where the input ends.
    fn gather(&self, x: *const f32, to: &mut [f32]) {
        let (spec, width) = (self.call.spec, self.call.width);
        let (len, part) = (spec.input[2], spec.group_in * width);
        let first = (4 * self.panel * width) as isize - spec.pad[2] as isize;
        let inside = first >= 0 && first as usize + 4 * width < len;
        let mut edge = [0f32; 4 * MAX_WIDTH + 1];
        for channel in 0..spec.group_in {
            // Channels lie too far apart for the hardware to know.
            let later = x.wrapping_add((channel + CHANNELS_AHEAD) * len).wrapping_offset(first);
            for line in (0..4 * width + LINE).step_by(LINE) {
                prefetch(Cache::Second, later.wrapping_add(line));
            }
            // SAFETY: the channel exists.
            let input = unsafe { std::slice::from_raw_parts(x.wrapping_add(channel * len), len) };
            let seen = if inside {
                input.get(first as usize..).unwrap_or_default()
            } else {
                for (i, x) in edge.iter_mut().enumerate() {
                    let at = usize::try_from(first + i as isize).ok();
                    *x = at.and_then(|at| input.get(at)).copied().unwrap_or(0.0);
                }
                &edge
            };
            let Some(to) = to.get_mut(channel * width..) else { return };
            columns(self.call.tiles.isa, seen, width, part, to);
        }
    }

    /// Multiplies the row tiles `tiles` with the columns and stores the outputs.
    ///
    /// # Safety
    /// The pointers are good for the whole product, and no one else touches these outputs.
    unsafe fn run(&self, tiles: Range<usize>, columns: *const f32) {
        let (k, width) = (self.call.spec.group_in, self.call.width);
        let here = width.min(self.pairs - self.panel * width);
        let mut sums = [[0f32; MAX_ROWS * MAX_WIDTH]; 3];
        let mut pairs = [0f32; 2 * MAX_ROWS * MAX_WIDTH];
        let kernels = &self.call.tiles;
        for t in tiles {
            let (start, height) = (self.rows.start(t), self.rows.height(t));
            let a = self.a.wrapping_add(PARTS * start * k);
            for row in (0..height).step_by(kernels.max_rows()) {
                let rows = (height - row).min(kernels.max_rows());
                for column in (0..here).step_by(kernels.columns) {
                    let (kernel, covered) = kernels.get(rows, (here - column).min(kernels.columns));
                    let [shared, even, odd] = &mut sums;
                    // While one part is multiplied, the one after it comes into the second-level cache.
                    let product = |part: usize, of: usize, next: usize, init: *const f32, to: *mut f32| {
                        // SAFETY: the part and the columns exist, and the sums have room for the largest kernel.
                        unsafe {
                            kernel(&TileCall {
                                k,
                                a: a.wrapping_add(part * height * k + row),
                                a_stride: height,
                                b: columns.wrapping_add(of * k * width + column),
                                b_stride: width,
                                init,
                                init_stride: covered,
                                c: to,
                                c_stride: covered,
                                ahead: a.wrapping_add(next * height * k),
                                ahead_lines: (4 * height).div_ceil(LINE),
                            });
                        }
                    };
                    product(0, 0, 1, null(), shared.as_mut_ptr());
                    product(1, 1, 2, shared.as_ptr(), even.as_mut_ptr());
                    product(2, 2, 3, even.as_ptr(), even.as_mut_ptr());
                    product(3, 3, 4, shared.as_ptr(), odd.as_mut_ptr());
                    product(2, 4, 5, odd.as_ptr(), odd.as_mut_ptr());
                    for ((pair, &even), &odd) in
                        pairs.chunks_exact_mut(2).zip(&*even).zip(&*odd).take(rows * covered)
                    {
                        pair.copy_from_slice(&[even, odd]);
                    }
                    // SAFETY: the rows and columns are those of this block.
                    unsafe { self.finish(start + row, rows, column, &pairs, 2 * covered) };
                }
            }
        }
    }

    /// The epilogue of the outputs of `rows` rows from pair `column` of the panel on.
    ///
    /// # Safety
    /// As [`Block::run`].
    unsafe fn finish(&self, row: usize, rows: usize, column: usize, sums: &[f32], stride: usize) {
        let n = self.call.spec.output[2];
        let first = 2 * (self.panel * self.call.width + column);
        let at = row * n + first;
        let c = self.c.wrapping_add(at);
        let residual = |residual: Option<Residual<'_>>| match residual {
            None => (null(), 0),
            Some(Residual::From { data, stride }) => {
                (data.as_ptr().wrapping_add(row * stride + first), stride)
            }
            Some(Residual::Output) => (c.cast_const(), n),
        };
        let (before, before_stride) = residual(self.epilogue.residual_before);
        let (after, after_stride) = residual(self.epilogue.residual_after);
        let finish = Finish {
            isa: self.call.tiles.isa,
            rows,
            columns: stride.min(n - first),
            sums: sums.as_ptr(),
            sums_stride: stride,
            alpha: self.epilogue.alpha,
            bias_columns: null(),
            bias_rows: match self.epilogue.bias {
                Bias::Rows(bias) => bias.as_ptr().wrapping_add(row),
                _ => null(),
            },
            before,
            before_stride,
            activation: self.epilogue.activation,
            gain: self.epilogue.gain,
            shift: self.epilogue.shift,
            after,
            after_stride,
            c,
            c_stride: n,
        };
        // SAFETY: bias and residuals have y's shape, which was checked when the call was accepted.
        unsafe { finish.apply() };
    }
}

/// The five columns of one channel from the inputs that a panel of `width` pairs sees: column i goes to `i * part` on.
fn columns(isa: Isa, seen: &[f32], width: usize, part: usize, to: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if isa.level() == Level::Avx512
        && width.is_multiple_of(16)
        && seen.len() > 4 * width
        && to.len() >= 4 * part + width
    {
        for first in (0..width).step_by(16) {
            // SAFETY: the machine has AVX-512; 65 inputs from 4 first on and 16 places in each column were checked.
            unsafe { columns_avx512(seen.as_ptr().add(4 * first), part, to.as_mut_ptr().add(first)) };
        }
        return;
    }
    let _ = isa;
    for (j, x) in seen.windows(5).step_by(4).take(width).enumerate() {
        if let &[x0, x1, x2, x3, x4] = x {
            for (column, value) in [x2, x0 - x2, x1, x4 - x2, x3].into_iter().enumerate() {
                if let Some(to) = to.get_mut(column * part + j) {
                    *to = value;
                }
            }
        }
    }
}

/// Sixteen pairs of [`columns`].
///
/// # Safety
/// 65 elements at `from` are readable, and 16 at `to + i * part` writable for each of the five columns.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn columns_avx512(from: *const f32, part: usize, to: *mut f32) {
    use core::arch::x86_64::*;
    // Every fourth of 64 elements: eight from each half.
    let every = |v: [__m512; 4], offset: i32| {
        let step = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
        let index = _mm512_add_epi32(step, _mm512_set1_epi32(offset));
        let low = _mm512_permutex2var_ps(v[0], index, v[1]);
        let high = _mm512_permutex2var_ps(v[2], index, v[3]);
        _mm512_shuffle_f32x4::<0b01_00_01_00>(low, high)
    };
    // SAFETY: the caller's promise; the last load of all ends with element 64.
    unsafe {
        let load = |at: usize| _mm512_loadu_ps(from.add(at));
        let v = [load(0), load(16), load(32), load(48)];
        let last = _mm512_maskz_loadu_ps(1, from.add(64));
        let (x0, x1, x2, x3) = (every(v, 0), every(v, 1), every(v, 2), every(v, 3));
        // x4 of a pair is x0 of the next.
        let x4 =
            _mm512_castsi512_ps(_mm512_alignr_epi32::<1>(_mm512_castps_si512(last), _mm512_castps_si512(x0)));
        for (column, x) in [x2, _mm512_sub_ps(x0, x2), x1, _mm512_sub_ps(x4, x2), x3].into_iter().enumerate()
        {
            _mm512_storeu_ps(to.add(column * part), x);
        }
    }
}
