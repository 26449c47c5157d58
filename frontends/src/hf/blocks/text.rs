//! What text models share in their inputs: ids or embeddings, positions, caches. Layers do not belong here.

use crate::hf::cx::{Built, Cx};
use crate::hf::weights::WeightScope;
use frit_ir::{DType, Dim, InputDefault, ValueId};

/// Embedded tokens with their extents.
pub struct Tokens {
    /// [batch, sequence, width].
    pub embeds: ValueId,
    /// Batch.
    pub batch: Dim,
    /// Tokens of this call.
    pub sequence: Dim,
}

/// The input `ids`, looked up in the embedding table, or else the input `embeds` itself. Exactly one must be given.
pub fn tokens(
    cx: &mut Cx<'_, '_>,
    w: &WeightScope<'_>,
    (ids, embeds): (&str, &str),
    vocabulary: usize,
    width: usize,
) -> Built<Tokens> {
    let (batch, sequence) = (cx.dim("batch"), cx.dim("sequence"));
    let embeds = match (cx.has(ids), cx.has(embeds)) {
        (true, true) => return Err(cx.signature_error(format!("`{ids}` and `{embeds}` exclude each other"))),
        (false, false) => return Err(cx.signature_error(format!("`{ids}` or `{embeds}` is needed"))),
        (true, false) => {
            let ids = cx.ids(ids, vec![batch.clone(), sequence.clone()], None)?;
            lookup(cx, w, ids, vocabulary, width)?
        }
        (false, true) => {
            w.expect("weight", &[vocabulary, width]);
            cx.input(embeds, DType::F32, vec![batch.clone(), sequence.clone(), Dim::from(width)], None)?
        }
    };
    Ok(Tokens { embeds, batch, sequence })
}

/// Token numbers made in the graph, [batch, sequence], looked up.
pub fn looked_up(
    cx: &mut Cx<'_, '_>,
    w: &WeightScope<'_>,
    ids: ValueId,
    rows: usize,
    width: usize,
) -> Built<Tokens> {
    let (batch, sequence) = (cx.extent(ids, 0)?, cx.extent(ids, 1)?);
    Ok(Tokens { embeds: lookup(cx, w, ids, rows, width)?, batch, sequence })
}

/// Rows of an embedding table.
pub fn lookup(cx: &mut Cx<'_, '_>, w: &WeightScope<'_>, ids: ValueId, rows: usize, width: usize) -> Built {
    cx.within(w, |cx| {
        let table = cx.weight(w, "weight", &[rows, width])?;
        cx.gather_rows(table, ids)
    })
}

/// Position numbers: the input of that name ([batch, sequence], or one row for all), or `past`, `past` + 1, ...
/// for every row ([1, sequence]).
pub fn positions(cx: &mut Cx<'_, '_>, name: &str, batch: &Dim, sequence: &Dim, past: &Dim) -> Built {
    if !cx.has(name) {
        let row = cx.arange(past.clone(), past.add(sequence)?)?;
        return Ok(cx.b.reshape(row, &[Dim::constant(1), sequence.clone()])?);
    }
    let one_row = cx.given(name).and_then(|s| s.shape.as_ref()).is_some_and(|s| s.first() == Some(&1));
    let rows = if one_row { Dim::constant(1) } else { batch.clone() };
    let default = past.is(0).then_some(InputDefault::Arange);
    cx.ids(name, vec![rows, sequence.clone()], default)
}

/// Key and value of one layer from earlier calls: [batch, heads, past, width] each.
pub type Past = (ValueId, ValueId);

/// The inputs `past_key_values.L.0` and `.1`, when the caller gives them, with the number of keys that they hold.
pub fn past_key_values(
    cx: &mut Cx<'_, '_>,
    layers: usize,
    batch: &Dim,
    heads: usize,
    width: usize,
) -> Built<(Option<Vec<Past>>, Dim)> {
    if !cx.has("past_key_values.0.0") {
        return Ok((None, Dim::constant(0)));
    }
    let past = cx.dim("past");
    let shape = vec![batch.clone(), Dim::from(heads), past.clone(), Dim::from(width)];
    let mut list = Vec::with_capacity(layers);
    for layer in 0..layers {
        let mut member = |i: usize| {
            let name = format!("past_key_values.{layer}.{i}");
            let value = cx.input(&name, DType::F32, shape.clone(), None)?;
            cx.state(&name, 2);
            Ok::<_, crate::FrontendError>(value)
        };
        list.push((member(0)?, member(1)?));
    }
    Ok((Some(list), past))
}

/// The cache with this call's keys or values behind.
pub fn append(cx: &mut Cx<'_, '_>, past: Option<ValueId>, new: ValueId) -> Built {
    match past {
        Some(past) => cx.concat(2, &[past, new]),
        None => Ok(new),
    }
}
