//! Attention for many queries: blocks of K are packed transposed and blocks of V in panels, and register
//! tiles multiply them. The online softmax is in `online`, packing in `numbers`.

use super::ahead::{self, Ahead};
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
pub(super) const ROWS: usize = 12;
/// As many at the end, if no more are left.
const FEW: usize = 8;
/// Most queries of a task, a multiple of [`ROWS`].
pub(super) const MAX_QUERIES: usize = 516;
/// Widest panel of any instruction set: two vectors of 16.
const MAX_PANEL: usize = 32;
/// Places for a word of each query of a group.
const LANES: usize = 16;
/// Most keys of a block.
const MAX_BLOCK: usize = 256;
/// From one row of scores to the next. Like the other strides of a tile it is known when it is compiled: a register for
/// each row's address would leave too few.
const SCORES: usize = MAX_BLOCK + 16;

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
        0..=64 => MAX_BLOCK,
        65..=128 => MAX_BLOCK / 2,
        _ => MAX_BLOCK / 4,
    }
}

/// Floats of each part of the working memory: packed K, packed V, scaled Q, sums, scores.
fn parts(e: &Extents, queries: usize) -> [usize; 5] {
    let (block, groups) = (block(e), queries.div_ceil(ROWS));
    let width = e.value_dim.next_multiple_of(MAX_PANEL);
    // Queries are written by tiles of two vectors.
    let q = (groups * e.dim + MAX_PANEL) * LANES;
    [block * e.dim, block * width, q, groups * ROWS * width, ROWS * SCORES].map(|n| n.next_multiple_of(16))
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
            for g in 0..groups {
                let n = ROWS.min(rows - g * ROWS);
                let q = q.add((queries.start + g * ROWS) * p.q.1.row);
                pack_q::<S, N>(
                    s,
                    n,
                    (q, p.q.1.row),
                    e.dim,
                    p.scale,
                    q_mem.as_mut_ptr().add(g * words * LANES),
                );
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
                            let rows = ahead::block(p, &own, key..key + keys);
                            pack::<S, N>(
                                s,
                                &e,
                                (k.add(key * p.k.1.row), p.k.1.row),
                                (v.add(key * p.v.1.row), p.v.1.row),
                                keys,
                                rows,
                                k_mem,
                                v_mem,
                            );
                        }
                        let q = q_mem.as_ptr().add(g * words * LANES);
                        let scores = scores.as_mut_ptr();
                        let (skip, keys) = (part.start - key, part.len());
                        let mut biases = ahead::biases(p, &own, query..query + n, &part);
                        let each_bias = biases.each(keys.div_ceil(panel));
                        for c in (0..keys).step_by(panel) {
                            biases.fetch(each_bias);
                            ahead.fetch(each);
                            let k = k_mem.as_ptr().add((skip + c) * words);
                            score::<S, N>(s, n, words, q, k, scores.add(c), keys - c);
                        }
                        let padded = keys.next_multiple_of(S::LANES);
                        let (mut max, mut shrink) = ([0f32; ROWS], [1f32; ROWS]);
                        for (r, max) in max.iter_mut().enumerate().take(n) {
                            let at = Place { batch, head, query: query + r, key: part.start, keys };
                            *max = online::mask(s, p, at, scores.add(r * SCORES), padded);
                        }
                        for (r, state) in group.iter_mut().enumerate() {
                            shrink[r] =
                                online::update::<S, N>(s, state, max[r], scores.add(r * SCORES), padded);
                        }
                        let sums = sums.as_mut_ptr().add(first * width);
                        let keys = keys.div_ceil(N::A_WORD);
                        for c in (0..e.value_dim).step_by(panel) {
                            let v = v_mem.as_ptr().add(c * block + skip / N::A_WORD * panel);
                            let sums = sums.add(c * ROWS);
                            ahead.fetch(each);
                            gather_values::<S, N>(s, n, keys, scores, v, sums, &shrink, e.value_dim - c);
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
                let (from, to) = (sums.as_ptr().add(r / ROWS * ROWS * width + r % ROWS * panel), out.add(at));
                for i in (0..e.value_dim).step_by(S::LANES) {
                    let x = s.mul(s.load(from.add(i / panel * panel * ROWS + i % panel)), factor);
                    let left = e.value_dim - i;
                    if left >= S::LANES { s.store(to.add(i), x) } else { s.store_part(to.add(i), left, x) }
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

/// Packs a block of keys and values, a panel of keys at a time, while the rows of the next panel are fetched.
/// # Safety
/// `k` and `v` hold `keys` rows that far apart; `k_mem` and `v_mem` have room for a block.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // two operands and their places
unsafe fn pack<S: Simd, N: Numbers<S>>(
    s: S,
    e: &Extents,
    (k, k_stride): (*const f32, usize),
    (v, v_stride): (*const f32, usize),
    keys: usize,
    mut rows: [Ahead<1>; 2],
    k_mem: &mut [f32],
    v_mem: &mut [f32],
) {
    let panel = 2 * S::LANES;
    let words = e.dim.div_ceil(N::A_WORD);
    rows.iter_mut().for_each(|rows| rows.fetch(panel));
    for first in (0..keys).step_by(panel) {
        rows.iter_mut().for_each(|rows| rows.fetch(panel));
        let n = panel.min(keys - first);
        // SAFETY: the caller's promise, for the rows from `first` on and their places.
        unsafe {
            let (k, v) = (k.add(first * k_stride), v.add(first * v_stride));
            N::pack_k(s, k, k_stride, n, e.dim, k_mem.as_mut_ptr().add(first * words));
            let v_mem = v_mem.as_mut_ptr().add(first / N::A_WORD * panel);
            N::pack_v(s, v, v_stride, n, e.value_dim, block(e), v_mem);
        }
    }
}

/// Packs `n` queries of a group, times scale: for each word of `dim` those of the queries side by side.
/// # Safety
/// `q` holds `n` rows, that far apart; `to` holds `LANES` words for each of `dim`, and for those up to two vectors more.
#[inline(always)]
unsafe fn pack_q<S: Simd, N: Numbers<S>>(
    s: S,
    n: usize,
    (q, stride): (*const f32, usize),
    dim: usize,
    scale: f32,
    to: *mut f32,
) {
    // Rows of two vectors' words.
    let mut rows = [[0f32; MAX_PANEL]; LANES];
    let numbers = 2 * S::LANES;
    for d in (0..dim).step_by(numbers) {
        for (r, row) in rows.iter_mut().enumerate().take(n) {
            // SAFETY: the numbers from d on of row r < n; a row has room for two vectors.
            unsafe { N::row(s, q.add(r * stride + d), numbers.min(dim - d), scale, row.as_mut_ptr()) };
        }
        for r in (0..LANES).step_by(S::LANES) {
            for word in (0..numbers / N::A_WORD).step_by(S::LANES) {
                // SAFETY: a vector of words of so many rows, and the places that the caller vouches for.
                unsafe {
                    let to = to.add((d / N::A_WORD + word) * LANES + r);
                    s.transpose(rows.as_ptr().cast::<f32>().add(r * MAX_PANEL + word), MAX_PANEL, to, LANES);
                }
            }
        }
    }
}

/// Adds `depth` outer products: acc[r] += a[r][i] * b[i], where a's rows are ROW apart and their elements STEP, and b's
/// rows are panels of two vectors, of which the first VECS are used.
/// # Safety
/// `a` holds R rows of `depth` elements; `b` holds `depth` panels.
#[inline(always)]
unsafe fn multiply<
    S: Simd,
    N: Dot<S>,
    const R: usize,
    const VECS: usize,
    const ROW: usize,
    const STEP: usize,
>(
    s: S,
    depth: usize,
    a: *const f32,
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
            let a = a.add(i * STEP);
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = s.splat(*a.add(r * ROW));
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = N::dot(s, x, columns[v], *acc);
                }
            }
        }
    }
}

/// Scores of `n` queries, rounded up to tiles, against the first `keys` keys of a panel, rounded up to vectors.
/// # Safety
/// `q` holds a packed group, `k` a panel, and `to` rows of a panel.
#[inline(always)]
unsafe fn score<S: Simd, N: Dot<S>>(
    s: S,
    n: usize,
    dim: usize,
    q: *const f32,
    k: *const f32,
    to: *mut f32,
    keys: usize,
) {
    // SAFETY: the caller's promise, for all rows at once or four by four.
    unsafe {
        match (S::LANES, n > FEW, keys > S::LANES) {
            (16, true, true) => score_rows::<S, N, ROWS, 2>(s, dim, q, k, to),
            (16, true, false) => score_rows::<S, N, ROWS, 1>(s, dim, q, k, to),
            (16, false, true) => score_rows::<S, N, FEW, 2>(s, dim, q, k, to),
            (16, false, false) => score_rows::<S, N, FEW, 1>(s, dim, q, k, to),
            _ => {
                for r in (0..n).step_by(4) {
                    score_rows::<S, N, 4, 2>(s, dim, q.add(r), k, to.add(r * SCORES));
                }
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
) {
    let mut acc = [[s.zero(); VECS]; R];
    // SAFETY: the caller's promise.
    unsafe {
        multiply::<S, N, R, VECS, 1, LANES>(s, dim, q, k, &mut acc);
        for (r, acc) in acc.iter().enumerate() {
            for (v, &acc) in acc.iter().enumerate() {
                s.store(to.add(r * SCORES + v * S::LANES), acc);
            }
        }
    }
}

/// sums = sums * shrink + weights * V for `n` queries, rounded up to tiles, and the first `columns` of a panel of V's
/// columns.
/// # Safety
/// `weights` holds `ROWS` rows of `keys` elements, `v` panels of `keys` rows, and `sums` a panel of each row.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // a tile's operands and extents
unsafe fn gather_values<S: Simd, N: Dot<S>>(
    s: S,
    n: usize,
    keys: usize,
    weights: *const f32,
    v: *const f32,
    sums: *mut f32,
    shrink: &[f32; ROWS],
    columns: usize,
) {
    let low = shrink.as_ptr();
    // SAFETY: the caller's promise, for all rows at once or four by four.
    unsafe {
        match (S::LANES, n > FEW, columns > S::LANES) {
            (16, true, true) => gather_rows::<S, N, ROWS, 2>(s, keys, weights, v, sums, low),
            (16, true, false) => gather_rows::<S, N, ROWS, 1>(s, keys, weights, v, sums, low),
            (16, false, true) => gather_rows::<S, N, FEW, 2>(s, keys, weights, v, sums, low),
            (16, false, false) => gather_rows::<S, N, FEW, 1>(s, keys, weights, v, sums, low),
            _ => {
                for r in (0..n).step_by(4) {
                    let (weights, sums) = (weights.add(r * SCORES), sums.add(r * 2 * S::LANES));
                    gather_rows::<S, N, 4, 2>(s, keys, weights, v, sums, low.add(r));
                }
            }
        }
    }
}

/// # Safety
/// As [`gather_values`], for R rows and VECS vectors of the panel; `shrink` holds R numbers. (A slice of unknown length
/// would keep the loop over rows from unrolling, and the sums out of registers.)
#[inline(always)]
unsafe fn gather_rows<S: Simd, N: Dot<S>, const R: usize, const VECS: usize>(
    s: S,
    keys: usize,
    weights: *const f32,
    v: *const f32,
    sums: *mut f32,
    shrink: *const f32,
) {
    let mut acc = [[s.zero(); VECS]; R];
    // SAFETY: the caller's promise.
    unsafe {
        for (r, acc) in acc.iter_mut().enumerate() {
            let f = s.splat(*shrink.add(r));
            for (v, acc) in acc.iter_mut().enumerate() {
                *acc = s.mul(f, s.load(sums.add((2 * r + v) * S::LANES)));
            }
        }
        multiply::<S, N, R, VECS, SCORES, 1>(s, keys, weights, v, &mut acc);
        for (r, acc) in acc.iter().enumerate() {
            for (v, &acc) in acc.iter().enumerate() {
                s.store(sums.add((2 * r + v) * S::LANES), acc);
            }
        }
    }
}
