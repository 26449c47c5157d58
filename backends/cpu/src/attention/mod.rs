//! Fused attention: softmax(scale Q K^T + mask) V over blocks of keys with a running maximum and sum, so
//! that the score matrix never exists. Operands come with strides: merged projections, [batch, sequence,
//! heads * dim] layouts and caches with spare capacity are read and written where they lie.
//!
//! `tile` is the way for many queries (packed blocks, register tiles), `decode` that for few (each key is
//! read once, at memory speed). What both share, the online softmax over a block of scores, is in `online`.
//! Algorithm: Dao et al., FlashAttention, arXiv 2205.14135.

mod ahead;
mod decode;
mod numbers;
mod online;
mod tile;

use crate::error::{KernelError, at_least, count, exact, parameters};
use crate::isa::Isa;
use crate::scratch::with_scratch;
use crate::simd::dispatch;
use crate::threads::{SharedMut, parallel_for, threads};

/// Extents of the operands: Q [batch, heads, queries, dim], K [batch, kv_heads, keys, dim],
/// V [batch, kv_heads, keys, value_dim], output [batch, heads, queries, value_dim].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Batch.
    pub batch: usize,
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads; neighbouring query heads share one.
    pub kv_heads: usize,
    /// Rows of Q.
    pub queries: usize,
    /// Rows of K and V.
    pub keys: usize,
    /// Width of Q and K.
    pub dim: usize,
    /// Width of V.
    pub value_dim: usize,
}

/// Distances in elements between neighbours along batch, head and row; the last axis is dense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strides {
    /// Between batch elements.
    pub batch: usize,
    /// Between heads.
    pub head: usize,
    /// Between rows.
    pub row: usize,
}

impl Strides {
    /// Those of a dense [batch, heads, rows, width] tensor.
    pub fn heads_first(heads: usize, rows: usize, width: usize) -> Strides {
        Strides { batch: heads * rows * width, head: rows * width, row: width }
    }

    /// Those of a dense [batch, rows, heads, width] tensor, such as a projection's output.
    pub fn rows_first(heads: usize, rows: usize, width: usize) -> Strides {
        Strides { batch: heads * rows * width, head: width, row: heads * width }
    }

    /// Elements that the operand must have; None on overflow.
    fn reach(&self, batch: usize, heads: usize, rows: usize, width: usize) -> Option<usize> {
        if batch == 0 || heads == 0 || rows == 0 || width == 0 {
            return Some(0);
        }
        let part = |n: usize, stride: usize| (n - 1).checked_mul(stride);
        part(batch, self.batch)?
            .checked_add(part(heads, self.head)?)?
            .checked_add(part(rows, self.row)?)?
            .checked_add(width)
    }
}

/// Numbers added to the scores, such as a padding mask or a relative-position bias.
#[derive(Clone, Copy, Debug)]
pub struct Bias<'a> {
    /// The numbers.
    pub data: &'a [f32],
    /// Strides along batch, head, query and key; 0 where it broadcasts. That of the keys is 0 or 1.
    pub strides: [usize; 4],
}

impl Bias<'_> {
    fn reach(&self, e: &Extents) -> Option<usize> {
        let mut last = 0usize;
        for (n, s) in [e.batch, e.heads, e.queries, e.keys].into_iter().zip(self.strides) {
            last = last.checked_add(n.checked_sub(1)?.checked_mul(s)?)?;
        }
        last.checked_add(1)
    }
}

/// Hides keys that come after a query: query i sees keys 0 ..= i + offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Causal {
    /// Keys before the first query: the length of the cache, or less than 0 where there are more queries than keys
    /// and the first ones see none.
    pub offset: isize,
    /// What a hidden score is replaced by after the biases are added: minus infinity, or the lowest finite
    /// number. With the latter a row whose visible keys are all masked follows the arithmetic and sees hidden
    /// ones too.
    pub hidden: f32,
}

/// One attention.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Extents.
    pub extents: Extents,
    /// Multiplies the scores.
    pub scale: f32,
    /// Q and its strides.
    pub q: (&'a [f32], Strides),
    /// K and its strides.
    pub k: (&'a [f32], Strides),
    /// V and its strides.
    pub v: (&'a [f32], Strides),
    /// Added to the scores, one after the other.
    pub biases: [Option<Bias<'a>>; 2],
    /// The causal mask.
    pub causal: Option<Causal>,
}

/// Tasks that a thread should have, so that one that starts late or is disturbed is not waited for.
const TASKS_A_THREAD: usize = 6;
/// Queries that are worth packing keys and values for.
const LEAST_ROWS: usize = 64;

/// With so few rows of queries for one head of keys, packing does not pay.
const FEW_ROWS: usize = 4;

/// Computes attention into `out`, whose last axis is dense. The operands do not overlap `out`.
pub fn attention(isa: Isa, p: &Attention<'_>, out: &mut [f32], strides: Strides) -> Result<(), KernelError> {
    compute(isa, false, p, out, strides)
}

/// As [`attention`], with products in bf16 where there are many queries and the machine multiplies such pairs: queries,
/// keys, weights and values are rounded, sums and the softmax are f32.
pub fn attention_bf16(
    isa: Isa,
    p: &Attention<'_>,
    out: &mut [f32],
    strides: Strides,
) -> Result<(), KernelError> {
    compute(isa, true, p, out, strides)
}

fn compute(
    isa: Isa,
    pairs: bool,
    p: &Attention<'_>,
    out: &mut [f32],
    strides: Strides,
) -> Result<(), KernelError> {
    const NAME: &str = "attention";
    let e = p.extents;
    count(NAME, &[e.batch, e.heads, e.queries, e.keys.max(e.dim).max(e.value_dim)])?;
    if e.kv_heads == 0 || !e.heads.is_multiple_of(e.kv_heads) {
        return Err(parameters(
            NAME,
            format!("{} query heads do not share {} key heads", e.heads, e.kv_heads),
        ));
    }
    if e.batch == 0 || e.heads == 0 || e.queries == 0 || e.value_dim == 0 {
        return Ok(());
    }
    // The sum of no values is 0.
    if e.keys == 0 {
        at_least(NAME, "output", out.len(), strides.reach(e.batch, e.heads, e.queries, e.value_dim))?;
        out.fill(0.0);
        return Ok(());
    }
    at_least(NAME, "q", p.q.0.len(), p.q.1.reach(e.batch, e.heads, e.queries, e.dim))?;
    at_least(NAME, "k", p.k.0.len(), p.k.1.reach(e.batch, e.kv_heads, e.keys, e.dim))?;
    at_least(NAME, "v", p.v.0.len(), p.v.1.reach(e.batch, e.kv_heads, e.keys, e.value_dim))?;
    at_least(NAME, "output", out.len(), strides.reach(e.batch, e.heads, e.queries, e.value_dim))?;
    // The output's rows are written by several threads: they must be apart.
    let row_apart = strides.row >= e.value_dim || e.queries == 1;
    if !row_apart {
        return Err(parameters(NAME, "the rows of the output overlap"));
    }
    for bias in p.biases.iter().flatten() {
        at_least(NAME, "bias", bias.data.len(), bias.reach(&e))?;
        exact(NAME, "bias stride of the keys", bias.strides[3].min(1), bias.strides[3])?;
    }
    let group = e.heads / e.kv_heads;
    let out = SharedMut::new(out);
    let key_ns = (e.dim + e.value_dim) as f64;
    if e.queries.saturating_mul(group) <= FEW_ROWS {
        let cost = (e.keys as f64 * key_ns * 0.15) as u64;
        parallel_for(e.batch * e.kv_heads, cost, |task| {
            let (batch, kv_head) = (task / e.kv_heads, task % e.kv_heads);
            with_scratch(decode::scratch(&e), |scratch| {
                dispatch(isa, decode::Task { p, out: out.ptr(), strides, batch, kv_head, scratch });
            });
        });
        return Ok(());
    }
    let rows = rows_of_a_task(&e);
    let chunks = e.queries.div_ceil(rows);
    let tasks = e.batch * e.heads * chunks;
    let part = |task: usize| {
        let (head, chunk) = (task / chunks, task % chunks);
        let queries = chunk * rows..((chunk + 1) * rows).min(e.queries);
        tile::Part { batch: head / e.heads, head: head % e.heads, queries }
    };
    let cost = (rows.min(e.queries) as f64 * e.keys as f64 * key_ns * 0.03) as u64;
    parallel_for(tasks, cost, |task| {
        let part_of = part(task);
        with_scratch(tile::scratch(&e, part_of.queries.len()), |scratch| {
            let next = (task + 1 < tasks).then(|| part(task + 1));
            tile::Task { p, out: out.ptr(), strides, part: part_of, next, scratch }.start(isa, pairs);
        });
    });
    Ok(())
}

/// Queries of a task. Keys and values are packed once a task, so whole heads are cheapest; long ones are cut, and
/// others too while there are fewer tasks than keep every thread at work to the end. No result depends on the cut:
/// it lies between groups of queries that the tiles take together.
fn rows_of_a_task(e: &Extents) -> usize {
    let heads = e.batch * e.heads;
    let wanted = (TASKS_A_THREAD * threads()).div_ceil(heads);
    let chunks = wanted.min(e.queries.div_ceil(LEAST_ROWS)).max(e.queries.div_ceil(tile::MAX_QUERIES));
    e.queries.div_ceil(chunks.max(1)).next_multiple_of(tile::ROWS)
}

#[cfg(test)]
mod tests;
