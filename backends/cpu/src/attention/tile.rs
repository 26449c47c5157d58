//! Attention for many queries: blocks of K are packed transposed and blocks of V in panels, and register
//! tiles multiply them. The online softmax is in `online`, packing in `numbers`.

use super::numbers::Numbers;
use super::online::{self, Place, State};
use super::{Attention, Extents, Strides};
#[cfg(target_arch = "x86_64")]
use crate::gemm::Pairs;
use crate::gemm::{Dot, Floats};
use crate::isa::Isa;
use crate::simd::{Simd, Vectorised, dispatch};
use std::ops::Range;

/// Queries that go through the registers together.
const ROWS: usize = 8;
/// Most queries of a task.
pub(super) const MAX_QUERIES: usize = 128;
/// Widest panel of any instruction set: two vectors of 16.
const MAX_PANEL: usize = 32;

/// A run of queries of one head.
pub(super) struct Task<'a> {
    pub p: &'a Attention<'a>,
    pub out: *mut f32,
    pub strides: Strides,
    pub batch: usize,
    pub head: usize,
    pub queries: Range<usize>,
    pub scratch: &'a mut [f32],
}

/// Keys in a block: packed K and V of a block stay in the second cache with the queries' sums.
fn block(e: &Extents) -> usize {
    match e.dim.max(e.value_dim) {
        0..=64 => 128,
        65..=128 => 64,
        _ => 32,
    }
}

/// Floats of each part of the working memory: packed K, packed V, scaled Q, sums, scores.
fn parts(e: &Extents, queries: usize) -> [usize; 5] {
    let (block, rows) = (block(e), queries.next_multiple_of(ROWS));
    let width = e.value_dim.next_multiple_of(MAX_PANEL);
    [block * e.dim, block * width, rows * e.dim, rows * width, ROWS * block].map(|n| n.next_multiple_of(16))
}

/// Floats of working memory for a task.
pub(super) fn scratch(e: &Extents, queries: usize) -> usize {
    parts(e, queries).iter().sum()
}

impl Vectorised for Task<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.compute::<S, Floats>(s);
    }
}

impl Task<'_> {
    /// Computes in bf16 if `pairs` says so, which needs a machine that multiplies pairs.
    pub fn start(self, isa: Isa, pairs: bool) {
        #[cfg(target_arch = "x86_64")]
        if pairs && isa.has_bf16_dot() {
            // SAFETY: the machine has the instructions.
            unsafe { avx512_pairs(self) };
            return;
        }
        let _ = pairs;
        dispatch(isa, self);
    }

    #[inline(always)]
    fn compute<S: Simd, N: Numbers<S>>(self, s: S) {
        let (p, e) = (self.p, self.p.extents);
        let panel = 2 * S::LANES;
        let block = block(&e);
        let width = e.value_dim.next_multiple_of(panel);
        let words = e.dim.div_ceil(N::A_WORD);
        let rows = self.queries.len();
        let groups = rows.div_ceil(ROWS);
        let [n_k, n_v, n_q, n_sums, _] = parts(&e, rows);
        let (k_mem, rest) = self.scratch.split_at_mut(n_k);
        let (v_mem, rest) = rest.split_at_mut(n_v);
        let (q_mem, rest) = rest.split_at_mut(n_q);
        let (sums, scores) = rest.split_at_mut(n_sums);
        sums.fill(0.0);
        let mut states = [State::START; MAX_QUERIES];

        let kv_head = self.head / (e.heads / e.kv_heads);
        // SAFETY: `attention` checked that the operands reach every row of every head.
        unsafe {
            let q = p.q.0.as_ptr().add(self.batch * p.q.1.batch + self.head * p.q.1.head);
            pack_q(&self.queries, q, p.q.1.row, e.dim, p.scale, q_mem);
            for r in 0..groups * ROWS {
                let q = q_mem.as_mut_ptr();
                N::row(q.add(r * e.dim), e.dim, q.add(r * words));
            }
        }
        // First the blocks with keys that some query of a group sees; then, where hidden keys count, the rest.
        for hidden_pass in [false, true] {
            if hidden_pass && !online::hidden_matters(p, &states[..rows]) {
                break;
            }
            let mut key = 0;
            while key < e.keys {
                let keys = block.min(e.keys - key);
                let mut packed = false;
                for g in 0..groups {
                    let first = g * ROWS;
                    let n = ROWS.min(rows - first);
                    let group = &mut states[first..first + n];
                    let query = self.queries.start + first;
                    let hidden = key >= online::visible(p, query + n - 1);
                    if hidden != hidden_pass || (hidden && !online::hidden_matters(p, group)) {
                        continue;
                    }
                    // SAFETY: the operands reach `keys` rows from `key`; the working memory has the sizes that
                    // `parts` gives, in which every pointer below stays.
                    unsafe {
                        if !packed {
                            packed = true;
                            let k = p.k.0.as_ptr().add(self.batch * p.k.1.batch + kv_head * p.k.1.head);
                            N::pack_k(s, k.add(key * p.k.1.row), p.k.1.row, keys, e.dim, k_mem.as_mut_ptr());
                            let v = p.v.0.as_ptr().add(self.batch * p.v.1.batch + kv_head * p.v.1.head);
                            let v = v.add(key * p.v.1.row);
                            N::pack_v(s, v, p.v.1.row, keys, e.value_dim, block, v_mem.as_mut_ptr());
                        }
                        let q = q_mem.as_ptr().add(first * words);
                        let scores = scores.as_mut_ptr();
                        let padded = keys.next_multiple_of(panel);
                        for c in 0..padded / panel {
                            let k = k_mem.as_ptr().add(c * panel * words);
                            score::<S, N>(s, words, q, k, scores.add(c * panel), block);
                        }
                        let mut shrink = [1f32; ROWS];
                        for (r, state) in group.iter_mut().enumerate() {
                            let at =
                                Place { batch: self.batch, head: self.head, query: query + r, key, keys };
                            let row = scores.add(r * block);
                            online::mask(s, p, at, row, padded);
                            shrink[r] = online::update(s, state, row, padded);
                            N::row(row, keys, row);
                        }
                        let sums = sums.as_mut_ptr().add(first * width);
                        for c in 0..width / panel {
                            let v = v_mem.as_ptr().add(c * panel * block);
                            let keys = keys.div_ceil(N::A_WORD);
                            let sums = sums.add(c * panel);
                            gather_values::<S, N>(s, keys, scores, block, v, sums, width, &shrink);
                        }
                    }
                }
                key += keys;
            }
        }
        for (r, state) in states[..rows].iter().enumerate() {
            let query = self.queries.start + r;
            let at =
                self.batch * self.strides.batch + self.head * self.strides.head + query * self.strides.row;
            let factor = s.splat(1.0 / state.sum);
            // SAFETY: the output reaches this row, which no other task writes; sums holds rows * width.
            unsafe {
                let (from, to) = (sums.as_ptr().add(r * width), self.out.add(at));
                let mut i = 0;
                while i + S::LANES <= e.value_dim {
                    s.store(to.add(i), s.mul(s.load(from.add(i)), factor));
                    i += S::LANES;
                }
                if i < e.value_dim {
                    s.store_part(to.add(i), e.value_dim - i, s.mul(s.load(from.add(i)), factor));
                }
            }
        }
    }
}

/// # Safety
/// The machine has AVX-512 and multiplies pairs of bf16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn avx512_pairs(task: Task<'_>) {
    // SAFETY: the caller's promise.
    task.compute::<_, Pairs>(unsafe { crate::simd::Avx512::new() });
}

/// Queries times scale, dense, with rows of zeros up to the next group.
/// # Safety
/// `q` reaches every row of `queries`.
#[inline(always)]
unsafe fn pack_q(
    queries: &Range<usize>,
    q: *const f32,
    stride: usize,
    dim: usize,
    scale: f32,
    to: &mut [f32],
) {
    to.fill(0.0);
    for (r, query) in queries.clone().enumerate() {
        // SAFETY: the caller's promise.
        let from = unsafe { std::slice::from_raw_parts(q.add(query * stride), dim) };
        for (to, &x) in to[r * dim..(r + 1) * dim].iter_mut().zip(from) {
            *to = x * scale;
        }
    }
}

/// Adds `depth` outer products: acc[r] += a[r][i] * b[i], where b's rows are panels of two vectors.
/// # Safety
/// `a` holds R rows of `depth` elements, `lda` apart; `b` holds `depth` panels.
#[inline(always)]
unsafe fn multiply<S: Simd, N: Dot<S>, const R: usize>(
    s: S,
    depth: usize,
    a: *const f32,
    lda: usize,
    b: *const f32,
    acc: &mut [[S::V; 2]; R],
) {
    for i in 0..depth {
        // SAFETY: i < depth, as promised.
        unsafe {
            let b0 = s.load(b.add(i * 2 * S::LANES));
            let b1 = s.load(b.add(i * 2 * S::LANES + S::LANES));
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = s.splat(*a.add(r * lda + i));
                acc[0] = N::dot(s, x, b0, acc[0]);
                acc[1] = N::dot(s, x, b1, acc[1]);
            }
        }
    }
}

/// Scores of `ROWS` queries against a panel of keys.
/// # Safety
/// `q` holds `ROWS` rows of `dim`, `k` a panel, and `to` rows of a panel, `stride` apart.
#[inline(always)]
unsafe fn score<S: Simd, N: Dot<S>>(
    s: S,
    dim: usize,
    q: *const f32,
    k: *const f32,
    to: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's promise, for eight rows or for twice four.
    unsafe {
        if S::LANES == 16 {
            score_rows::<S, N, 8>(s, dim, q, k, to, stride);
        } else {
            score_rows::<S, N, 4>(s, dim, q, k, to, stride);
            score_rows::<S, N, 4>(s, dim, q.add(4 * dim), k, to.add(4 * stride), stride);
        }
    }
}

/// # Safety
/// As [`score`], for R rows.
#[inline(always)]
unsafe fn score_rows<S: Simd, N: Dot<S>, const R: usize>(
    s: S,
    dim: usize,
    q: *const f32,
    k: *const f32,
    to: *mut f32,
    stride: usize,
) {
    let mut acc = [[s.zero(); 2]; R];
    // SAFETY: the caller's promise.
    unsafe {
        multiply::<S, N, R>(s, dim, q, dim, k, &mut acc);
        for (r, acc) in acc.iter().enumerate() {
            s.store(to.add(r * stride), acc[0]);
            s.store(to.add(r * stride + S::LANES), acc[1]);
        }
    }
}

/// sums = sums * shrink + weights * V for `ROWS` queries and one panel of V's columns.
/// # Safety
/// `weights` holds `ROWS` rows `block` apart of `keys` elements, `v` panels of `keys` rows, and `sums` rows of
/// a panel, `width` apart.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // a tile's operands and strides
unsafe fn gather_values<S: Simd, N: Dot<S>>(
    s: S,
    keys: usize,
    weights: *const f32,
    block: usize,
    v: *const f32,
    sums: *mut f32,
    width: usize,
    shrink: &[f32; ROWS],
) {
    // SAFETY: the caller's promise, for eight rows or for twice four.
    unsafe {
        if S::LANES == 16 {
            gather_rows::<S, N, 8>(s, keys, weights, block, v, sums, width, shrink.as_ptr());
        } else {
            let (low, high) = (shrink.as_ptr(), shrink.as_ptr().add(4));
            gather_rows::<S, N, 4>(s, keys, weights, block, v, sums, width, low);
            gather_rows::<S, N, 4>(
                s,
                keys,
                weights.add(4 * block),
                block,
                v,
                sums.add(4 * width),
                width,
                high,
            );
        }
    }
}

/// # Safety
/// As [`gather_values`], for R rows; `shrink` holds R numbers. (A slice of unknown length would keep the loop
/// over rows from unrolling, and the sums out of registers.)
#[inline(always)]
#[allow(clippy::too_many_arguments)] // a tile's operands and strides
unsafe fn gather_rows<S: Simd, N: Dot<S>, const R: usize>(
    s: S,
    keys: usize,
    weights: *const f32,
    block: usize,
    v: *const f32,
    sums: *mut f32,
    width: usize,
    shrink: *const f32,
) {
    let mut acc = [[s.zero(); 2]; R];
    // SAFETY: the caller's promise.
    unsafe {
        for (r, acc) in acc.iter_mut().enumerate() {
            let f = s.splat(*shrink.add(r));
            acc[0] = s.mul(f, s.load(sums.add(r * width)));
            acc[1] = s.mul(f, s.load(sums.add(r * width + S::LANES)));
        }
        multiply::<S, N, R>(s, keys, weights, block, v, &mut acc);
        for (r, acc) in acc.iter().enumerate() {
            s.store(sums.add(r * width), acc[0]);
            s.store(sums.add(r * width + S::LANES), acc[1]);
        }
    }
}
