//! TfIdfVectorizer: counting n-grams of numbers or strings. Windows over the sequence are compared with the pool; a
//! matrix takes the counts to their places and weighs them.

use super::strings::strings;
use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use frit_ir::op::{BinaryFn, ReduceFn};
use frit_ir::{DType, Dim, Tensor, ValueId};
use std::collections::HashMap;

pub const ROWS: &[Row] = &[("", "TfIdfVectorizer", 9, vectorise)];

/// The matrix from n-grams to places has at most so many elements.
const MAX_PLACES: usize = 1 << 24;

/// The n-grams of one length.
struct Grams {
    length: usize,
    /// One after the other.
    items: Vec<i64>,
    /// Where each is counted.
    places: Vec<usize>,
    weights: Vec<f32>,
}

fn vectorise<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let required = |name: &'static str| {
        n.int(name)?
            .and_then(|v| usize::try_from(v).ok())
            .ok_or_else(|| n.error(format!("attribute `{name}` must be there and not negative")))
    };
    let (shortest, longest) = (required("min_gram_length")?.max(1), required("max_gram_length")?);
    let skips = required("max_skip_count")?;
    let (x, pool) = operand(cx, n)?;
    let (grams, width) = grams(n, &pool)?;
    let (x, flat) = match cx.rank(x)? {
        1 => (cx.unsqueeze(x, &[0])?, true),
        2 => (x, false),
        rank => return Err(n.error(format!("expected rank 1 or 2, got {rank}"))),
    };
    let rows = cx.shape(x)?.first().cloned().unwrap_or_default();
    let mut total = cx.full(&[rows, Dim::from(width)], 0.0, DType::F32)?;
    let mode = n.string("mode")?.unwrap_or_default();
    for g in grams.iter().filter(|g| g.length >= shortest && g.length <= longest && !g.places.is_empty()) {
        let mut counts = None;
        // A single item has nothing to skip.
        for step in 1..=if g.length == 1 { 1 } else { skips.saturating_add(1) } {
            let Some(found) = occurrences(cx, n, x, g, step)? else { break };
            counts = Some(match counts {
                Some(sum) => cx.plus(sum, found)?,
                None => found,
            });
        }
        let Some(mut counts) = counts else { continue };
        if mode == "IDF" {
            counts = cx.with_number(BinaryFn::Min, counts, 1.0)?;
        }
        let weighed = match mode {
            "TF" => false,
            "IDF" | "TFIDF" => true,
            other => return Err(n.error(format!("mode `{other}`: expected TF, IDF or TFIDF"))),
        };
        let mut matrix = vec![0f32; g.places.len() * width];
        for (row, (place, weight)) in matrix.chunks_exact_mut(width).zip(g.places.iter().zip(&g.weights)) {
            if let Some(at) = row.get_mut(*place) {
                *at = if weighed { *weight } else { 1.0 };
            }
        }
        let matrix =
            Tensor::from_slice(&[g.places.len(), width], &matrix).map_err(|e| n.error(e.to_string()))?;
        let matrix = cx.constant(matrix)?;
        let placed = cx.matmul(counts, matrix)?;
        total = cx.plus(total, placed)?;
    }
    if flat {
        total = cx.reshape(total, &[Dim::from(width)])?;
    }
    Ok(vec![total.into()])
}

/// The sequence and the pool as i64. Strings become their positions among the pool's, those not in it -1.
fn operand(cx: &mut Cx<'_>, n: &NodeView<'_>) -> Result<(ValueId, Vec<i64>)> {
    if let Some(pool) = n.ints("pool_int64s")? {
        let x = n.tensor(0)?;
        return Ok((cx.cast(x, DType::I64)?, pool));
    }
    let pool = n.strings("pool_strings")?.ok_or_else(|| n.error("there is no pool"))?;
    let mut ids: HashMap<&str, i64> = HashMap::new();
    let mut numbered = Vec::with_capacity(pool.len());
    for word in pool {
        let next = i64::try_from(ids.len()).unwrap_or(i64::MAX);
        numbered.push(*ids.entry(word).or_insert(next));
    }
    let x = strings(n, 0)?;
    let values: Vec<i64> = x.values.iter().map(|s| ids.get(s.as_str()).copied().unwrap_or(-1)).collect();
    let x = Tensor::from_slice(&x.shape, &values).map_err(|e| n.error(e.to_string()))?;
    Ok((cx.constant(x)?, numbered))
}

/// The pool by length, and the number of places.
fn grams(n: &NodeView<'_>, pool: &[i64]) -> Result<(Vec<Grams>, usize)> {
    let bad = |what: &str| n.error(format!("{what} do not fit the pool of {} items", pool.len()));
    let index = |v: &i64| usize::try_from(*v).ok();
    let starts: Option<Vec<usize>> = n.ints("ngram_counts")?.unwrap_or_default().iter().map(index).collect();
    let places: Option<Vec<usize>> = n.ints("ngram_indexes")?.unwrap_or_default().iter().map(index).collect();
    let (starts, places) =
        (starts.ok_or_else(|| bad("ngram_counts"))?, places.ok_or_else(|| bad("ngram_indexes"))?);
    let weights = n.floats("weights")?.unwrap_or_else(|| vec![1.0; places.len()]);
    let width = places.iter().max().map_or(0, |m| m.saturating_add(1));
    if weights.len() != places.len() {
        return Err(bad("weights"));
    }
    if width.checked_mul(places.len().max(1)).is_none_or(|all| all > MAX_PLACES) {
        return Err(n.error(format!("{} n-grams at {width} places are too many", places.len())));
    }
    let mut out = Vec::new();
    let mut taken = 0;
    for (i, start) in starts.iter().enumerate() {
        let length = i + 1;
        let end = starts.get(length).copied().unwrap_or(pool.len());
        let items = pool.get(*start..end).ok_or_else(|| bad("ngram_counts"))?;
        let count = items.len() / length;
        let range = taken..taken + count;
        taken += count;
        let weights = weights.get(range.clone()).ok_or_else(|| bad("ngram_indexes"))?;
        out.push(Grams {
            length,
            items: items.get(..count * length).unwrap_or_default().to_vec(),
            places: places.get(range).ok_or_else(|| bad("ngram_indexes"))?.to_vec(),
            weights: weights.iter().map(|w| *w as f32).collect(),
        });
    }
    Ok((out, width))
}

/// How often each n-gram occurs in each row with items `step` apart: f32`[rows, n-grams]`. None where rows are too
/// short for any.
fn occurrences(
    cx: &mut Cx<'_>,
    n: &NodeView<'_>,
    x: ValueId,
    g: &Grams,
    step: usize,
) -> Result<Option<ValueId>> {
    let length = cx.shape(x)?.get(1).and_then(Dim::as_const).and_then(|l| usize::try_from(l).ok());
    let length = length.ok_or_else(|| n.error("expected rows of a fixed length"))?;
    let reach = step.saturating_mul(g.length - 1);
    let Some(windows) = length.checked_sub(reach).filter(|w| *w > 0) else { return Ok(None) };
    let mut all: Option<ValueId> = None;
    for i in 0..g.length {
        let column = cx.slice(x, 1, &Dim::from(i * step), &Dim::from(i * step + windows))?;
        let column = cx.unsqueeze(column, &[2])?;
        let item: Vec<i64> = g.items.iter().skip(i).step_by(g.length).copied().collect();
        let item = cx.constant_ints(&item)?;
        let same = cx.binary(BinaryFn::Equal, column, item)?;
        all = Some(match all {
            Some(before) => cx.binary(BinaryFn::And, before, same)?,
            None => same,
        });
    }
    let Some(all) = all else { return Ok(None) };
    let hits = cx.cast(all, DType::F32)?;
    cx.reduce(ReduceFn::Sum, hits, &[1], false).map(Some)
}
