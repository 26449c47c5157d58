//! Attention for few queries (a decoder's step): every key and value is read once, where it lies, for all the
//! queries that share its head. The online softmax is in `online`.

use super::online::{self, Place, State};
use super::{Attention, Extents, FEW_ROWS, Strides};
use crate::gemm::{Floats, LINE};
use crate::simd::{Cache, Simd, Vectorised, prefetch};

/// Keys between two looks at the running maximum.
const BLOCK: usize = 256;
/// How far below the row that is read rows are fetched.
const ROWS_AHEAD: usize = 32;
/// Vectors of V's columns that are summed in registers together.
const COLUMNS: usize = 4;

/// All queries of one head of keys.
pub(super) struct Task<'a> {
    pub p: &'a Attention<'a>,
    pub out: *mut f32,
    pub strides: Strides,
    pub batch: usize,
    pub kv_head: usize,
    pub scratch: &'a mut [f32],
}

/// Floats of working memory for a task: scores, sums, scaled queries.
pub(super) fn scratch(e: &Extents) -> usize {
    FEW_ROWS * (BLOCK + e.value_dim + e.dim)
}

impl Vectorised for Task<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let e = self.p.extents;
        match e.queries * (e.heads / e.kv_heads) {
            1 => self.rows::<S, 1>(s),
            2 => self.rows::<S, 2>(s),
            3 => self.rows::<S, 3>(s),
            _ => self.rows::<S, 4>(s),
        }
    }
}

impl Task<'_> {
    /// R rows: query r % queries of head r / queries in the group.
    #[inline(always)]
    fn rows<S: Simd, const R: usize>(self, s: S) {
        let (p, e) = (self.p, self.p.extents);
        let group = e.heads / e.kv_heads;
        let place = |r: usize| (self.kv_head * group + r / e.queries, r % e.queries);
        let (scores, rest) = self.scratch.split_at_mut(FEW_ROWS * BLOCK);
        let (sums, q_mem) = rest.split_at_mut(FEW_ROWS * e.value_dim);
        sums.fill(0.0);
        for r in 0..R {
            let (head, query) = place(r);
            let at = self.batch * p.q.1.batch + head * p.q.1.head + query * p.q.1.row;
            // SAFETY: `attention` checked that q reaches every row.
            let from = unsafe { std::slice::from_raw_parts(p.q.0.as_ptr().add(at), e.dim) };
            q_mem[r * e.dim..(r + 1) * e.dim].iter_mut().zip(from).for_each(|(to, &x)| *to = x * p.scale);
        }
        // SAFETY: `attention` checked that k and v reach every row of this head.
        let (k, v) = unsafe {
            (
                p.k.0.as_ptr().add(self.batch * p.k.1.batch + self.kv_head * p.k.1.head),
                p.v.0.as_ptr().add(self.batch * p.v.1.batch + self.kv_head * p.v.1.head),
            )
        };
        let mut states = [State::START; R];
        let seen = online::visible(p, e.queries - 1);
        let mut key = 0;
        while key < e.keys && (key < seen || online::hidden_matters(p, &states)) {
            let keys = BLOCK.min(e.keys - key);
            let padded = keys.next_multiple_of(S::LANES);
            let mut shrink = [1f32; R];
            // SAFETY: rows key .. key + keys of k and v; scores holds R rows of BLOCK >= padded.
            unsafe {
                let scores = scores.as_mut_ptr();
                dots::<S, R>(s, keys, e.dim, q_mem.as_ptr(), k.add(key * p.k.1.row), p.k.1.row, scores);
                for (r, state) in states.iter_mut().enumerate() {
                    let (head, query) = place(r);
                    let at = Place { batch: self.batch, head, query, key, keys };
                    let row = scores.add(r * BLOCK);
                    let max = online::mask(s, p, at, row, padded);
                    shrink[r] = online::update::<S, Floats>(s, state, max, row, padded);
                }
                let v = v.add(key * p.v.1.row);
                weigh::<S, R>(s, keys, e.value_dim, scores, v, p.v.1.row, sums.as_mut_ptr(), &shrink);
            }
            key += keys;
        }
        for (r, state) in states.iter().enumerate() {
            let (head, query) = place(r);
            let at = self.batch * self.strides.batch + head * self.strides.head + query * self.strides.row;
            let factor = 1.0 / state.sum;
            // SAFETY: the output reaches this row, which no other task writes.
            let to = unsafe { std::slice::from_raw_parts_mut(self.out.add(at), e.value_dim) };
            to.iter_mut().zip(&sums[r * e.value_dim..]).for_each(|(to, &x)| *to = x * factor);
        }
    }
}

/// Asks for `width` elements some rows below `row`, so that more of the cache is under way than the machine finds by
/// itself. They need not exist.
#[inline(always)]
fn fetch_ahead(row: *const f32, stride: usize, width: usize) {
    let mut at = 0;
    while at < width {
        prefetch(Cache::Second, row.wrapping_add(ROWS_AHEAD * stride + at));
        at += LINE;
    }
}

/// Scores of R queries against `keys` keys.
/// # Safety
/// `q` holds R rows of `dim`, `k` `keys` rows of `dim`, and `scores` R rows of `BLOCK`.
#[inline(always)]
unsafe fn dots<S: Simd, const R: usize>(
    s: S,
    keys: usize,
    dim: usize,
    q: *const f32,
    k: *const f32,
    stride: usize,
    scores: *mut f32,
) {
    for j in 0..keys {
        let mut acc = [s.zero(); R];
        let mut d = 0;
        // SAFETY: row j < keys, columns below dim.
        unsafe {
            let k = k.add(j * stride);
            fetch_ahead(k, stride, dim);
            while d + S::LANES <= dim {
                let x = s.load(k.add(d));
                for (r, acc) in acc.iter_mut().enumerate() {
                    *acc = s.mul_add(s.load(q.add(r * dim + d)), x, *acc);
                }
                d += S::LANES;
            }
            if d < dim {
                let x = s.load_part(k.add(d), dim - d);
                for (r, acc) in acc.iter_mut().enumerate() {
                    *acc = s.mul_add(s.load_part(q.add(r * dim + d), dim - d), x, *acc);
                }
            }
            for (r, acc) in acc.iter().enumerate() {
                *scores.add(r * BLOCK + j) = s.sum(*acc);
            }
        }
    }
}

/// sums = sums * shrink + weights * V for R queries.
/// # Safety
/// `weights` holds R rows of `BLOCK`, `v` `keys` rows of `dim`, and `sums` R rows of `dim`.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // a product's operands and strides
unsafe fn weigh<S: Simd, const R: usize>(
    s: S,
    keys: usize,
    dim: usize,
    weights: *const f32,
    v: *const f32,
    stride: usize,
    sums: *mut f32,
    shrink: &[f32; R],
) {
    let mut d = 0;
    // SAFETY: rows below keys, columns below dim.
    unsafe {
        while d + COLUMNS * S::LANES <= dim {
            let mut acc = [[s.zero(); COLUMNS]; R];
            for (r, acc) in acc.iter_mut().enumerate() {
                for (c, acc) in acc.iter_mut().enumerate() {
                    *acc = s.mul(s.splat(shrink[r]), s.load(sums.add(r * dim + d + c * S::LANES)));
                }
            }
            for j in 0..keys {
                fetch_ahead(v.add(j * stride + d), stride, COLUMNS * S::LANES);
                let mut x = [s.zero(); COLUMNS];
                for (c, x) in x.iter_mut().enumerate() {
                    *x = s.load(v.add(j * stride + d + c * S::LANES));
                }
                for (r, acc) in acc.iter_mut().enumerate() {
                    let w = s.splat(*weights.add(r * BLOCK + j));
                    for (c, acc) in acc.iter_mut().enumerate() {
                        *acc = s.mul_add(w, x[c], *acc);
                    }
                }
            }
            for (r, acc) in acc.iter().enumerate() {
                for (c, &acc) in acc.iter().enumerate() {
                    s.store(sums.add(r * dim + d + c * S::LANES), acc);
                }
            }
            d += COLUMNS * S::LANES;
        }
        while d < dim {
            let n = S::LANES.min(dim - d);
            for (r, &f) in shrink.iter().enumerate() {
                let mut acc = s.mul(s.splat(f), s.load_part(sums.add(r * dim + d), n));
                for j in 0..keys {
                    acc = s.mul_add(
                        s.splat(*weights.add(r * BLOCK + j)),
                        s.load_part(v.add(j * stride + d), n),
                        acc,
                    );
                }
                s.store_part(sums.add(r * dim + d), n, acc);
            }
            d += n;
        }
    }
}
