//! Attention for many queries: blocks of K are packed transposed and blocks of V in panels, and register
//! tiles multiply them. The online softmax is in `online`, packing in `numbers`.

use super::numbers::Numbers;
use super::online::{self, Place, State};
use super::{Attention, Extents, Strides, ahead};
#[cfg(target_arch = "x86_64")]
use crate::gemm::Pairs;
use crate::gemm::{Dot, Floats};
use crate::isa::Isa;
use crate::simd::{Simd, Vectorised, dispatch};
use std::ops::Range;

/// Queries that go through the registers together.
pub(super) const ROWS: usize = 8;
/// Most queries of a task.
pub(super) const MAX_QUERIES: usize = 512;
/// Widest panel of any instruction set: two vectors of 16.
const MAX_PANEL: usize = 32;

/// A run of queries of one head.
pub(super) struct Part {
    pub batch: usize,
    pub head: usize,
    pub queries: Range<usize>,
}

/// A part to be computed.
pub(super) struct Task<'a> {
    pub p: &'a Attention<'a>,
    pub out: *mut f32,
    pub strides: Strides,
    pub part: Part,
    /// What this thread will probably compute next.
    pub next: Option<Part>,
    pub scratch: &'a mut [f32],
}

/// Keys in a block: packed K and V of a block stay in the second cache with the queries' sums.
fn block(e: &Extents) -> usize {
    match e.dim.max(e.value_dim) {
        0..=64 => 256,
        65..=128 => 128,
        _ => 64,
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
        let Task { p, out, strides, part: own, next, scratch } = self;
        let e = p.extents;
        let Part { batch, head, ref queries } = own;
        let panel = 2 * S::LANES;
        let block = block(&e);
        let width = e.value_dim.next_multiple_of(panel);
        let words = e.dim.div_ceil(N::A_WORD);
        let rows = queries.len();
        let groups = rows.div_ceil(ROWS);
        let [n_k, n_v, n_q, n_sums, _] = parts(&e, rows);
        let (k_mem, rest) = scratch.split_at_mut(n_k);
        let (v_mem, rest) = rest.split_at_mut(n_v);
        let (q_mem, rest) = rest.split_at_mut(n_q);
        let (sums, scores) = rest.split_at_mut(n_sums);
        sums.fill(0.0);
        let mut states = [State::START; MAX_QUERIES];

        let kv_head = head / (e.heads / e.kv_heads);
        // SAFETY: `attention` checked that the operands reach every row of every head.
        let (k, v) = unsafe {
            let q = p.q.0.as_ptr().add(batch * p.q.1.batch + head * p.q.1.head);
            pack_q(queries, q, p.q.1.row, e.dim, p.scale, q_mem);
            for r in 0..groups * ROWS {
                let q = q_mem.as_mut_ptr();
                N::row(q.add(r * e.dim), e.dim, q.add(r * words));
            }
            (
                p.k.0.as_ptr().add(batch * p.k.1.batch + kv_head * p.k.1.head),
                p.v.0.as_ptr().add(batch * p.v.1.batch + kv_head * p.v.1.head),
            )
        };
        // First the panels with keys that some query of a group sees; then, where hidden keys count, the rest.
        for hidden_pass in [false, true] {
            if hidden_pass && !online::hidden_matters(p, &states[..rows]) {
                break;
            }
            let mut key = 0;
            while key < e.keys {
                let keys = block.min(e.keys - key);
                let mut packed = false;
                let after = key + keys..key + keys + block;
                let mut ahead = ahead::after_block(p, (out, strides), &own, next.as_ref(), after);
                let each = ahead.each(groups * (keys + e.value_dim).div_ceil(panel));
                for g in 0..groups {
                    let first = g * ROWS;
                    let n = ROWS.min(rows - first);
                    let group = &mut states[first..first + n];
                    let query = queries.start + first;
                    let seen = online::visible(p, query + n - 1).next_multiple_of(panel);
                    let part =
                        if hidden_pass { seen.max(key)..key + keys } else { key..seen.min(key + keys) };
                    if part.is_empty() || (hidden_pass && !online::hidden_matters(p, group)) {
                        continue;
                    }
                    // SAFETY: the operands reach `keys` rows from `key`; the working memory has the sizes that
                    // `parts` gives, in which every pointer below stays.
                    unsafe {
                        if !packed {
                            packed = true;
                            let (k, v) = (k.add(key * p.k.1.row), v.add(key * p.v.1.row));
                            N::pack_k(s, k, p.k.1.row, keys, e.dim, k_mem.as_mut_ptr());
                            N::pack_v(s, v, p.v.1.row, keys, e.value_dim, block, v_mem.as_mut_ptr());
                        }
                        let q = q_mem.as_ptr().add(first * words);
                        let scores = scores.as_mut_ptr();
                        let (skip, keys) = (part.start - key, part.len());
                        let mut biases = ahead::biases(p, &own, query..query + n, &part);
                        let each_bias = biases.each(keys.div_ceil(panel));
                        for c in (0..keys).step_by(panel) {
                            biases.fetch(each_bias);
                            ahead.fetch(each);
                            let k = k_mem.as_ptr().add((skip + c) * words);
                            score::<S, N>(s, words, q, k, scores.add(c), block, keys - c);
                        }
                        let padded = keys.next_multiple_of(S::LANES);
                        let mut shrink = [1f32; ROWS];
                        for (r, state) in group.iter_mut().enumerate() {
                            let at = Place { batch, head, query: query + r, key: part.start, keys };
                            let row = scores.add(r * block);
                            let max = online::mask(s, p, at, row, padded);
                            shrink[r] = online::update(s, state, max, row, padded);
                            N::row(row, keys, row);
                        }
                        let sums = sums.as_mut_ptr().add(first * width);
                        let keys = keys.div_ceil(N::A_WORD);
                        for c in (0..e.value_dim).step_by(panel) {
                            let v = v_mem.as_ptr().add(c * block + skip / N::A_WORD * panel);
                            let (sums, columns) = (sums.add(c), e.value_dim - c);
                            ahead.fetch(each);
                            gather_values::<S, N>(s, keys, scores, block, v, sums, width, &shrink, columns);
                        }
                    }
                }
                key += keys;
            }
        }
        for (r, state) in states[..rows].iter().enumerate() {
            let query = queries.start + r;
            let at = batch * strides.batch + head * strides.head + query * strides.row;
            let factor = s.splat(1.0 / state.sum);
            // SAFETY: the output reaches this row, which no other task writes; sums holds rows * width.
            unsafe {
                let (from, to) = (sums.as_ptr().add(r * width), out.add(at));
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
    for (r, query) in queries.clone().enumerate() {
        // SAFETY: the caller's promise.
        let from = unsafe { std::slice::from_raw_parts(q.add(query * stride), dim) };
        for (to, &x) in to[r * dim..(r + 1) * dim].iter_mut().zip(from) {
            *to = x * scale;
        }
    }
    to[queries.len() * dim..].fill(0.0);
}

/// Adds `depth` outer products: acc[r] += a[r][i] * b[i], where b's rows are panels of two vectors, of which the first
/// VECS are used.
/// # Safety
/// `a` holds R rows of `depth` elements, `lda` apart; `b` holds `depth` panels.
#[inline(always)]
unsafe fn multiply<S: Simd, N: Dot<S>, const R: usize, const VECS: usize>(
    s: S,
    depth: usize,
    a: *const f32,
    lda: usize,
    b: *const f32,
    acc: &mut [[S::V; VECS]; R],
) {
    for i in 0..depth {
        // SAFETY: i < depth, as promised.
        unsafe {
            let mut columns = [s.zero(); VECS];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = s.load(b.add((2 * i + v) * S::LANES));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = s.splat(*a.add(r * lda + i));
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = N::dot(s, x, columns[v], *acc);
                }
            }
        }
    }
}

/// Scores of `ROWS` queries against the first `keys` keys of a panel, rounded up to vectors.
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
    keys: usize,
) {
    // SAFETY: the caller's promise, for eight rows or for twice four.
    unsafe {
        match (S::LANES, keys > S::LANES) {
            (16, true) => score_rows::<S, N, 8, 2>(s, dim, q, k, to, stride),
            (16, false) => score_rows::<S, N, 8, 1>(s, dim, q, k, to, stride),
            _ => {
                score_rows::<S, N, 4, 2>(s, dim, q, k, to, stride);
                score_rows::<S, N, 4, 2>(s, dim, q.add(4 * dim), k, to.add(4 * stride), stride);
            }
        }
    }
}

/// # Safety
/// As [`score`], for R rows and VECS vectors of the panel.
#[inline(always)]
unsafe fn score_rows<S: Simd, N: Dot<S>, const R: usize, const VECS: usize>(
    s: S,
    dim: usize,
    q: *const f32,
    k: *const f32,
    to: *mut f32,
    stride: usize,
) {
    let mut acc = [[s.zero(); VECS]; R];
    // SAFETY: the caller's promise.
    unsafe {
        multiply::<S, N, R, VECS>(s, dim, q, dim, k, &mut acc);
        for (r, acc) in acc.iter().enumerate() {
            for (v, &acc) in acc.iter().enumerate() {
                s.store(to.add(r * stride + v * S::LANES), acc);
            }
        }
    }
}

/// sums = sums * shrink + weights * V for `ROWS` queries and the first `columns` of a panel of V's columns.
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
    columns: usize,
) {
    let low = shrink.as_ptr();
    // SAFETY: the caller's promise, for eight rows or for twice four.
    unsafe {
        match (S::LANES, columns > S::LANES) {
            (16, true) => gather_rows::<S, N, 8, 2>(s, keys, weights, block, v, sums, width, low),
            (16, false) => gather_rows::<S, N, 8, 1>(s, keys, weights, block, v, sums, width, low),
            _ => {
                gather_rows::<S, N, 4, 2>(s, keys, weights, block, v, sums, width, low);
                let (weights, sums) = (weights.add(4 * block), sums.add(4 * width));
                gather_rows::<S, N, 4, 2>(s, keys, weights, block, v, sums, width, low.add(4));
            }
        }
    }
}

/// # Safety
/// As [`gather_values`], for R rows and VECS vectors of the panel; `shrink` holds R numbers. (A slice of unknown length
/// would keep the loop over rows from unrolling, and the sums out of registers.)
#[inline(always)]
#[allow(clippy::too_many_arguments)] // a tile's operands and strides
unsafe fn gather_rows<S: Simd, N: Dot<S>, const R: usize, const VECS: usize>(
    s: S,
    keys: usize,
    weights: *const f32,
    block: usize,
    v: *const f32,
    sums: *mut f32,
    width: usize,
    shrink: *const f32,
) {
    let mut acc = [[s.zero(); VECS]; R];
    // SAFETY: the caller's promise.
    unsafe {
        for (r, acc) in acc.iter_mut().enumerate() {
            let f = s.splat(*shrink.add(r));
            for (v, acc) in acc.iter_mut().enumerate() {
                *acc = s.mul(f, s.load(sums.add(r * width + v * S::LANES)));
            }
        }
        multiply::<S, N, R, VECS>(s, keys, weights, block, v, &mut acc);
        for (r, acc) in acc.iter().enumerate() {
            for (v, &acc) in acc.iter().enumerate() {
                s.store(sums.add(r * width + v * S::LANES), acc);
            }
        }
    }
}
