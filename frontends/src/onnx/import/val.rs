//! What a name of an ONNX graph stands for during import. Structure (sequences, optionals, strings) exists only here;
//! the graph has tensors. Operations on it are in `ops/`.

use crate::onnx::value::Strings;
use frit_ir::ValueId;

/// A value of an ONNX graph.
#[derive(Clone, Debug)]
pub enum Val {
    /// A tensor of the graph under construction.
    Tensor(ValueId),
    /// Strings, known at import.
    Strings(Strings),
    /// A list whose length is known.
    Sequence(Vec<Val>),
    /// A value that may be absent; whether it is, is known.
    Optional(Option<Box<Val>>),
}

impl Val {
    /// What it is, for errors.
    pub fn kind(&self) -> &'static str {
        match self {
            Val::Tensor(_) => "a tensor",
            Val::Strings(_) => "strings",
            Val::Sequence(_) => "a sequence",
            Val::Optional(_) => "an optional",
        }
    }

    /// Every tensor in it, outermost first.
    pub fn tensors(&self) -> Vec<ValueId> {
        match self {
            Val::Tensor(v) => vec![*v],
            Val::Strings(_) | Val::Optional(None) => vec![],
            Val::Sequence(all) => all.iter().flat_map(Val::tensors).collect(),
            Val::Optional(Some(v)) => v.tensors(),
        }
    }

    /// The same structure with other tensors.
    pub fn map<E>(&self, f: &mut dyn FnMut(ValueId) -> Result<ValueId, E>) -> Result<Val, E> {
        Ok(match self {
            Val::Tensor(v) => Val::Tensor(f(*v)?),
            Val::Strings(s) => Val::Strings(s.clone()),
            Val::Sequence(all) => Val::Sequence(all.iter().map(|v| v.map(f)).collect::<Result<_, E>>()?),
            Val::Optional(None) => Val::Optional(None),
            Val::Optional(Some(v)) => Val::Optional(Some(Box::new(v.map(f)?))),
        })
    }
}

impl From<ValueId> for Val {
    fn from(v: ValueId) -> Self {
        Val::Tensor(v)
    }
}
