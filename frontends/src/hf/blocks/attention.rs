//! Scaled dot-product attention over split heads (Vaswani et al. 2017, arXiv:1706.03762), with everything that may be
//! added to or multiplied into the scores. Projections belong to the architectures.

use crate::hf::cx::{Built, Cx};
use frit_ir::{DType, Dim, ValueId};

/// What happens to the scores between query times key and softmax, in this order, and to the probabilities after.
#[derive(Debug, Clone, Default)]
pub struct Scores<'s> {
    /// Terms added to the raw product: relative position scores.
    pub relative: &'s [ValueId],
    /// Divides the scores.
    pub divisors: &'s [f64],
    /// True where a query may see a key; elsewhere the lowest f32 stands.
    pub visible: Option<ValueId>,
    /// Terms added: position bias, masks of 0 and the lowest f32.
    pub bias: &'s [ValueId],
    /// Multiplies the probabilities, [1, heads, 1, 1].
    pub head_mask: Option<ValueId>,
}

/// Result of attention.
#[derive(Debug, Clone, Copy)]
pub struct Attended {
    /// Heads merged: [batch, queries, heads * width].
    pub context: ValueId,
    /// [batch, heads, queries, keys], after the head mask.
    pub probabilities: ValueId,
}

/// [batch, n, heads * width] to [batch, heads, n, width].
pub fn split_heads(cx: &mut Cx<'_, '_>, x: ValueId, heads: usize, width: usize) -> Built {
    let (batch, n) = (cx.extent(x, 0)?, cx.extent(x, 1)?);
    let split = cx.b.reshape(x, &[batch, n, Dim::from(heads), Dim::from(width)])?;
    Ok(cx.b.transpose(split, &[0, 2, 1, 3])?)
}

/// [batch, heads, n, width] to [batch, n, heads * width].
pub fn merge_heads(cx: &mut Cx<'_, '_>, x: ValueId) -> Built {
    let shape = cx.b.shape(x)?;
    let x = cx.b.transpose(x, &[0, 2, 1, 3])?;
    let [batch, heads, n, width] = shape.as_slice() else {
        return Err(cx.b.error("heads have four axes").into());
    };
    let merged = heads.mul(width)?;
    Ok(cx.b.reshape(x, &[batch.clone(), n.clone(), merged])?)
}

/// softmax(q k^T ...) v over [batch, heads, n, width].
pub fn attend(
    cx: &mut Cx<'_, '_>,
    q: ValueId,
    k: ValueId,
    v: ValueId,
    scores: &Scores<'_>,
) -> Built<Attended> {
    let keys = cx.b.transpose(k, &[0, 1, 3, 2])?;
    let mut s = cx.matmul(q, keys)?;
    for term in scores.relative {
        s = cx.b.add(s, *term)?;
    }
    for divisor in scores.divisors {
        s = cx.div_scalar(s, *divisor)?;
    }
    if let Some(visible) = scores.visible {
        let lowest = cx.b.scalar(DType::F32, f64::from(f32::MIN))?;
        s = cx.choose(visible, s, lowest)?;
    }
    for term in scores.bias {
        s = cx.b.add(s, *term)?;
    }
    let mut probabilities = cx.softmax(s)?;
    if let Some(mask) = scores.head_mask {
        probabilities = cx.b.mul(probabilities, mask)?;
    }
    let context = cx.matmul(probabilities, v)?;
    Ok(Attended { context: merge_heads(cx, context)?, probabilities })
}
