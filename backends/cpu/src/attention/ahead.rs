//! Fetching what the next block needs into the second-level cache while this one is computed: a head's rows lie apart,
//! so that reading them when they are packed would wait for every one. Only addresses are dealt with here.

use super::tile::Part;
use super::{Attention, Bias, Strides};
use crate::gemm::LINE;
use crate::simd::{Cache, prefetch};
use std::ops::Range;

/// Rows that will be read.
#[derive(Clone, Copy)]
struct Rows {
    start: *const f32,
    stride: usize,
    rows: usize,
    /// Cache lines of a row.
    lines: usize,
}

impl Rows {
    /// Rows of the head that `part` reads or writes in such memory.
    fn new(
        data: *const f32,
        strides: Strides,
        batch: usize,
        head: usize,
        rows: Range<usize>,
        width: usize,
    ) -> Rows {
        let first = batch * strides.batch + head * strides.head + rows.start * strides.row;
        let start = data.wrapping_add(first);
        let before = start.addr() / size_of::<f32>() % LINE;
        Rows { start, stride: strides.row, rows: rows.len(), lines: (before + width).div_ceil(LINE) }
    }
}

/// Rows of N operands, fetched a few at a time.
pub(super) struct Ahead<const N: usize> {
    rows: [Rows; N],
    current: usize,
    row: usize,
}

/// What comes after a block of `part`: the next `keys` of the same head, or, after the last, the rows of the output,
/// and the first block and the queries of the next part.
pub(super) fn after_block(
    p: &Attention<'_>,
    (out, strides): (*mut f32, Strides),
    part: &Part,
    next: Option<&Part>,
    keys: Range<usize>,
) -> Ahead<4> {
    let e = p.extents;
    let last = keys.start >= e.keys;
    let written = if last { part.queries.clone() } else { 0..0 };
    let out = Rows::new(out, strides, part.batch, part.head, written, e.value_dim);
    let (part, keys, queries) = match next {
        _ if !last => (part, keys, 0..0),
        Some(next) => (next, 0..keys.len(), next.queries.clone()),
        None => (part, 0..0, 0..0),
    };
    let keys = keys.start..keys.end.min(e.keys);
    let kv_head = part.head / (e.heads / e.kv_heads);
    let rows = [
        out,
        Rows::new(p.k.0.as_ptr(), p.k.1, part.batch, kv_head, keys.clone(), e.dim),
        Rows::new(p.v.0.as_ptr(), p.v.1, part.batch, kv_head, keys, e.value_dim),
        Rows::new(p.q.0.as_ptr(), p.q.1, part.batch, part.head, queries, e.dim),
    ];
    Ahead { rows, current: 0, row: 0 }
}

/// The keys and the values of a block.
pub(super) fn block(p: &Attention<'_>, part: &Part, keys: Range<usize>) -> [Ahead<1>; 2] {
    let e = p.extents;
    let kv_head = part.head / (e.heads / e.kv_heads);
    [(p.k, e.dim), (p.v, e.value_dim)].map(|((data, strides), width)| {
        let rows = [Rows::new(data.as_ptr(), strides, part.batch, kv_head, keys.clone(), width)];
        Ahead { rows, current: 0, row: 0 }
    })
}

/// What the biases add to these `keys` of some `queries`, where every query has numbers of its own.
pub(super) fn biases(p: &Attention<'_>, part: &Part, queries: Range<usize>, keys: &Range<usize>) -> Ahead<2> {
    let rows = p.biases.map(|bias| match bias {
        Some(Bias { data, strides: [batch, head, row, 1] }) if row > 0 => {
            let strides = Strides { batch, head, row };
            let start = data.as_ptr().wrapping_add(keys.start);
            Rows::new(start, strides, part.batch, part.head, queries.clone(), keys.len())
        }
        _ => Rows { start: std::ptr::null(), stride: 0, rows: 0, lines: 0 },
    });
    Ahead { rows, current: 0, row: 0 }
}

impl<const N: usize> Ahead<N> {
    /// How many rows to fetch at each of `times`.
    pub fn each(&self, times: usize) -> usize {
        self.rows.iter().map(|r| r.rows).sum::<usize>().div_ceil(times.max(1))
    }

    /// Fetches the next `count` rows.
    #[inline(always)]
    pub fn fetch(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            let Some(rows) = self.rows.get(self.current) else { return };
            if self.row < rows.rows {
                let start = rows.start.wrapping_add(self.row * rows.stride);
                (0..rows.lines).for_each(|line| prefetch(Cache::Second, start.wrapping_add(line * LINE)));
                self.row += 1;
                left -= 1;
            } else {
                (self.current, self.row) = (self.current + 1, 0);
            }
        }
    }
}
