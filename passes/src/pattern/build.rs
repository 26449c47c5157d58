//! Building a replacement from its text and what a match bound. Which rule to apply is decided elsewhere.

use super::{AttrTest, Binding, Match, OpTerm, OpTest, Pattern, PatternError, Term};
use crate::edit::Editor;
use crate::rule::{Refusal, without_trailing};
use crate::view::View;
use frit_ir::op::{Attr, Op};
use frit_ir::{DType, GraphBuilder, ValueId, WeightTable};

/// A parsed replacement; its slots begin with those of the pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Replacement {
    term: Term,
}

impl Replacement {
    /// Parses a replacement for matches of `pattern`; it must not name anything else.
    pub fn parse(text: &str, pattern: &Pattern) -> Result<Replacement, PatternError> {
        let parsed = super::parse::parse(text, pattern.names.clone())?;
        if let Some(unknown) = parsed.names.get(pattern.names.len()) {
            return Err(PatternError {
                text: text.to_owned(),
                column: 1,
                why: format!("the pattern has no `?{unknown}`"),
            });
        }
        Ok(Replacement { term: parsed.term })
    }

    /// Builds the replacement's nodes and gives its value.
    pub fn build(&self, editor: &mut Editor<'_>, found: &Match<'_>, label: &str) -> Result<ValueId, Refusal> {
        let root = found.root().and_then(|id| editor.graph().node(id)?.outputs.first().copied());
        let dtype = root.and_then(|v| editor.graph().ty(v)).map_or(DType::F32, |t| t.dtype);
        editor.build(label, |b| match build(b, &self.term, found, dtype)? {
            Some(v) => Ok(v),
            None => Err(Refusal::Because("the replacement is a part that was left out".into())),
        })
    }
}

fn build(
    b: &mut GraphBuilder<'_>,
    term: &Term,
    found: &Match<'_>,
    dtype: DType,
) -> Result<Option<ValueId>, Refusal> {
    match term {
        Term::Var { slot, .. } => Ok(match found.bindings.get(*slot) {
            Some(Some(Binding::Value(v))) => Some(*v),
            _ => None,
        }),
        Term::Number(n) => Ok(Some(b.scalar(dtype, *n)?)),
        Term::Choice(_) => Err(Refusal::Because("a replacement has no alternatives".into())),
        Term::Op(op) => {
            let inputs = op.args.iter().map(|a| build(b, a, found, dtype)).collect::<Result<Vec<_>, _>>()?;
            let outputs = b.ops(make_op(b, op, found)?, without_trailing(&inputs))?;
            Ok(outputs.get(op.output).copied())
        }
    }
}

/// The op of a node that a match bound.
fn bound_op<'g>(b: &'g GraphBuilder<'_>, slot: usize, found: &Match<'_>) -> Result<&'g Op, Refusal> {
    match found.bindings.get(slot) {
        Some(Some(Binding::Value(v))) => b.graph.producer(*v).map(|(_, n)| &n.op),
        _ => None,
    }
    .ok_or_else(|| Refusal::Because("the node whose op is taken was left out".into()))
}

fn make_op(b: &GraphBuilder<'_>, term: &OpTerm, found: &Match<'_>) -> Result<Op, Refusal> {
    let name = match term.op {
        OpTest::Like(slot) => return Ok(bound_op(b, slot, found)?.clone()),
        OpTest::Named(name) => name,
    };
    let mut attrs: Vec<(String, Attr)> = Vec::new();
    let mut set = |name: &str, value: Attr| {
        attrs.retain(|(n, _)| n != name);
        attrs.push((name.to_owned(), value));
    };
    for (attr, test) in &term.attrs {
        match test {
            AttrTest::All(slot) => {
                for (n, v) in bound_op(b, *slot, found)?.attrs() {
                    set(n, v);
                }
            }
            AttrTest::Is(value) => set(attr, value.clone()),
            AttrTest::Bind(slot) => match found.bindings.get(*slot) {
                Some(Some(Binding::Attr(a))) => set(attr, a.clone()),
                Some(Some(Binding::Value(v))) => match number(b, *v) {
                    Some(x) => set(attr, Attr::Float(x)),
                    None => return Err(Refusal::Because(format!("{v} is no number"))),
                },
                _ => {}
            },
        }
    }
    match Op::from_name(name, &attrs) {
        Some(Ok(op)) => Ok(op),
        Some(Err(e)) => Err(Refusal::Because(e.to_string())),
        None => Err(Refusal::Because(format!("there is no op {name}"))),
    }
}

fn number(b: &GraphBuilder<'_>, v: ValueId) -> Option<f64> {
    let weights: &WeightTable = b.weights;
    View { graph: b.graph, weights }.splat(v)
}
