//! Masks: of padding, of the future, of heads. How a mask enters the scores is attention's business.

use crate::hf::cx::{Built, Cx};
use frit_ir::op::BinaryFn;
use frit_ir::{DType, Dim, ValueId};

/// An attention mask of a caller (1 sees, 0 does not) as a term of the scores: (1 - mask) times the lowest f32.
/// [batch, keys] becomes [batch, 1, 1, keys]; [batch, queries, keys] becomes [batch, 1, queries, keys].
pub fn additive(cx: &mut Cx<'_, '_>, mask: ValueId) -> Built {
    let mask = broadcast_over_heads(cx, mask)?;
    inverted(cx, mask)
}

/// The same for a causal model: a query also does not see later keys. `past` keys precede the first query.
pub fn additive_causal(cx: &mut Cx<'_, '_>, mask: ValueId, queries: &Dim, past: &Dim) -> Built {
    if cx.b.shape(mask)?.len() != 2 {
        return additive(cx, mask);
    }
    let mask = broadcast_over_heads(cx, mask)?;
    let mask = cx.b.cast(mask, DType::F32)?;
    let visible = causal(cx, queries, past)?;
    let visible = cx.b.cast(visible, DType::F32)?;
    let both = cx.b.mul(visible, mask)?;
    inverted(cx, both)
}

fn broadcast_over_heads(cx: &mut Cx<'_, '_>, mask: ValueId) -> Built {
    let mut shape = cx.b.shape(mask)?;
    while shape.len() < 4 {
        shape.insert(1, Dim::constant(1));
    }
    Ok(cx.b.reshape(mask, &shape)?)
}

fn inverted(cx: &mut Cx<'_, '_>, mask: ValueId) -> Built {
    let mask = cx.b.cast(mask, DType::F32)?;
    let hidden = cx.scalar_minus(1.0, mask)?;
    Ok(cx.b.mul_scalar(hidden, f64::from(f32::MIN))?)
}

/// True where key <= past + query: bool [1, 1, queries, past + queries].
pub fn causal(cx: &mut Cx<'_, '_>, queries: &Dim, past: &Dim) -> Built {
    let total = past.add(queries)?;
    let one = Dim::constant(1);
    let rows = cx.arange(past.clone(), total.clone())?;
    let rows = cx.b.reshape(rows, &[one.clone(), one.clone(), queries.clone(), one.clone()])?;
    let columns = cx.arange(Dim::constant(0), total.clone())?;
    let columns = cx.b.reshape(columns, &[one.clone(), one.clone(), one, total])?;
    Ok(cx.b.binary(BinaryFn::LessOrEqual, columns, rows)?)
}

/// A head mask among the inputs, [heads] or [layers, heads], as a factor [1, heads, 1, 1] for each layer.
pub struct HeadMask {
    mask: Option<(ValueId, bool)>,
    heads: usize,
}

impl HeadMask {
    /// Takes the input where the caller gives it.
    pub fn take(cx: &mut Cx<'_, '_>, name: &str, layers: usize, heads: usize) -> Built<Self> {
        let Some(spec) = cx.given(name) else { return Ok(HeadMask { mask: None, heads }) };
        let by_layer = spec.rank() != Some(1);
        let shape = if by_layer { vec![Dim::from(layers), Dim::from(heads)] } else { vec![Dim::from(heads)] };
        let mask = cx.input(name, DType::F32, shape, Some(frit_ir::InputDefault::Ones))?;
        Ok(HeadMask { mask: Some((mask, by_layer)), heads })
    }

    /// The factor of one layer.
    pub fn layer(&self, cx: &mut Cx<'_, '_>, layer: usize) -> Built<Option<ValueId>> {
        let Some((mask, by_layer)) = self.mask else { return Ok(None) };
        let row = if by_layer { cx.at(mask, 0, i64::try_from(layer).unwrap_or(i64::MAX))? } else { mask };
        let one = Dim::constant(1);
        Ok(Some(cx.b.reshape(row, &[one.clone(), Dim::from(self.heads), one.clone(), one])?))
    }
}
