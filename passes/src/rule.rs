//! Rewrite rules as data, and applying a table of them to a graph. The rules themselves are in `rules/`.

use crate::edit::{Editor, ReplaceError};
use crate::pattern::{Match, Pattern, PatternError, Replacement, explain, find, used_elsewhere};
use crate::trace::Log;
use crate::view::View;
use frit_ir::builder::BuildError;
use frit_ir::dim::DimError;
use frit_ir::graph::CycleError;
use frit_ir::{GraphBuilder, Op, TensorError, ValueId};
use std::collections::{BTreeMap, HashMap};

/// Why a rule whose pattern matched does not rewrite after all.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The guard's reason.
    #[error("{0}")]
    Because(String),
    /// The replacement does not fit.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The replacement is of another type.
    #[error(transparent)]
    Replace(#[from] ReplaceError),
}

impl From<DimError> for Refusal {
    fn from(e: DimError) -> Self {
        Refusal::Build(e.into())
    }
}

impl From<TensorError> for Refusal {
    fn from(e: TensorError) -> Self {
        Refusal::Build(e.into())
    }
}

/// Refuses with a reason unless `holds`.
pub fn require(holds: bool, why: &str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::Because(why.to_owned())) }
}

/// A match as a guard or a builder sees it: what the names stand for, with a reason where one is left out.
pub struct Found<'a, 'p> {
    /// What was matched.
    pub found: &'a Match<'p>,
    /// Label of the root node, for what is built.
    pub label: &'a str,
}

impl Found<'_, '_> {
    /// The value of a name.
    pub fn value(&self, name: &str) -> Result<ValueId, Refusal> {
        self.found.value(name).ok_or_else(|| Refusal::Because(format!("?{name} is left out")))
    }

    /// The value of a name that may be left out.
    pub fn optional(&self, name: &str) -> Option<ValueId> {
        self.found.value(name)
    }

    /// The number that a constant is everywhere.
    pub fn number(&self, view: View<'_>, name: &str) -> Result<f64, Refusal> {
        view.splat(self.value(name)?).ok_or_else(|| Refusal::Because(format!("?{name} is no number")))
    }

    /// The op of a named node, when it is of the type asked for.
    pub fn op<T: Clone>(
        &self,
        view: View<'_>,
        name: &str,
        cast: fn(&Op) -> Option<&T>,
    ) -> Result<T, Refusal> {
        let node = view.producer(self.value(name)?).and_then(|(_, n)| cast(&n.op).cloned());
        node.ok_or_else(|| Refusal::Because(format!("{name} is another op")))
    }

    /// The value of the root.
    pub fn root(&self, view: View<'_>) -> Result<ValueId, Refusal> {
        self.found
            .root()
            .and_then(|id| view.graph.node(id)?.outputs.first().copied())
            .ok_or_else(|| Refusal::Because("the root has no value".into()))
    }
}

/// Inserts a node and gives its first output; trailing operands that are left out are dropped.
pub fn insert(
    b: &mut GraphBuilder<'_>,
    op: impl Into<Op>,
    operands: &[Option<ValueId>],
) -> Result<ValueId, BuildError> {
    b.op_opt(op, without_trailing(operands))
}

/// Operands up to the last one present.
pub(crate) fn without_trailing(operands: &[Option<ValueId>]) -> &[Option<ValueId>] {
    let given = operands.iter().rposition(Option::is_some).map_or(0, |i| i + 1);
    operands.get(..given).unwrap_or(operands)
}

/// Says whether a match may be rewritten.
pub type Guard = fn(View<'_>, &Found<'_, '_>) -> Result<(), Refusal>;

/// Builds what replaces a match.
pub type Build = fn(&mut Editor<'_>, &Found<'_, '_>) -> Result<ValueId, Refusal>;

/// What a match is replaced by.
#[derive(Clone, Copy)]
pub enum To {
    /// A part as text.
    Text(&'static str),
    /// What a function builds, where text does not say it.
    Build(Build),
}

/// A rewrite rule.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Name, unique.
    pub name: &'static str,
    /// What it looks for; see [`crate::pattern`].
    pub pattern: &'static str,
    /// What replaces it.
    pub to: To,
    /// Further conditions.
    pub guard: Option<Guard>,
    /// Types of the names, from which the proof makes graphs: `x: f32[batch, 4]; w: const f32[4]; p = [1, 0]`.
    pub examples: &'static [&'static str],
}

impl Rule {
    /// A rule between two texts.
    pub const fn new(
        name: &'static str,
        pattern: &'static str,
        to: &'static str,
        examples: &'static [&'static str],
    ) -> Self {
        Rule { name, pattern, to: To::Text(to), guard: None, examples }
    }

    /// A rule whose replacement a function builds.
    pub const fn built(
        name: &'static str,
        pattern: &'static str,
        build: Build,
        examples: &'static [&'static str],
    ) -> Self {
        Rule { name, pattern, to: To::Build(build), guard: None, examples }
    }

    /// The rule with a condition.
    pub const fn when(self, guard: Guard) -> Self {
        Rule { guard: Some(guard), ..self }
    }
}

enum Compiled {
    Text(Replacement),
    Build(Build),
}

struct Entry {
    rule: Rule,
    pattern: Pattern,
    to: Compiled,
}

/// Why a table of rules cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("rule {rule}: {source}")]
pub struct RuleError {
    /// Rule name.
    pub rule: &'static str,
    /// The cause.
    pub source: PatternError,
}

/// Parsed rules by the op of their root.
#[derive(Default)]
pub struct RuleSet {
    entries: Vec<Entry>,
    by_root: HashMap<&'static str, Vec<usize>>,
}

impl RuleSet {
    /// Parses tables of rules; where several match a node, the first does.
    pub fn new(tables: &[&[Rule]]) -> Result<RuleSet, RuleError> {
        let mut set = RuleSet::default();
        for rule in tables.iter().flat_map(|t| t.iter()) {
            let fail = |source| RuleError { rule: rule.name, source };
            let pattern = Pattern::parse(rule.pattern).map_err(fail)?;
            let to = match rule.to {
                To::Text(text) => Compiled::Text(Replacement::parse(text, &pattern).map_err(fail)?),
                To::Build(f) => Compiled::Build(f),
            };
            for root in pattern.term.roots().unwrap_or_default() {
                set.by_root.entry(root).or_default().push(set.entries.len());
            }
            set.entries.push(Entry { rule: *rule, pattern, to });
        }
        Ok(set)
    }

    /// Visits every node once, producers first, and rewrites where a rule matches. Gives the number of rewrites.
    pub fn sweep(&self, editor: &mut Editor<'_>, log: &mut Log) -> Result<usize, CycleError> {
        let mut rewrites = 0;
        for id in editor.graph().topological_order()? {
            let Some(node) = editor.graph().node(id) else { continue };
            let Some(candidates) = self.by_root.get(node.op.name()) else { continue };
            let values = node.outputs.clone();
            let label = node.label.clone();
            'node: for entry in candidates.iter().filter_map(|&i| self.entries.get(i)) {
                for &value in &values {
                    if entry.apply(editor, value, &label, log) {
                        rewrites += 1;
                        break 'node;
                    }
                }
            }
        }
        Ok(rewrites)
    }

    /// Notes near matches in a graph that these rules rewrite no further: for each rule and place the nearest.
    pub fn explain(&self, editor: &mut Editor<'_>, log: &mut Log) -> Result<(), CycleError> {
        let mut nearest: BTreeMap<(&'static str, String), (usize, ValueId, String)> = BTreeMap::new();
        for id in editor.graph().topological_order()? {
            let Some(node) = editor.graph().node(id) else { continue };
            let Some(candidates) = self.by_root.get(node.op.name()) else { continue };
            let label = node.label.clone();
            let Some(value) = node.outputs.first().copied() else { continue };
            for entry in candidates.iter().filter_map(|&i| self.entries.get(i)) {
                let Some((matched, why)) = entry.explain(editor, value, &label) else { continue };
                let key = (entry.rule.name, label.clone());
                if nearest.get(&key).is_none_or(|(best, ..)| matched > *best) {
                    nearest.insert(key, (matched, value, why));
                }
            }
        }
        for ((rule, label), (_, value, why)) in nearest {
            log.near(rule, &label, value, || why);
        }
        Ok(())
    }
}

impl Entry {
    fn apply(&self, editor: &mut Editor<'_>, value: ValueId, label: &str, log: &mut Log) -> bool {
        let view = View { graph: editor.graph(), weights: editor.weights() };
        let Some(found) = find(view, &self.pattern, value) else { return false };
        if used_elsewhere(editor, &found).is_some() {
            return false;
        }
        match self.rewrite(editor, value, label, &found) {
            Ok(new) => {
                log.fired(self.rule.name, label, new);
                true
            }
            Err(_) => false,
        }
    }

    /// Why the rule does not rewrite a value that it matches or nearly matches, and how many nodes do match.
    fn explain(&self, editor: &mut Editor<'_>, value: ValueId, label: &str) -> Option<(usize, String)> {
        let view = View { graph: editor.graph(), weights: editor.weights() };
        let Some(found) = find(view, &self.pattern, value) else {
            return explain(view, &self.pattern, value).map(|miss| (miss.matched, miss.why));
        };
        // Rules of one node try identities everywhere; their refusals say nothing.
        if found.nodes.len() < 2 {
            return None;
        }
        let matched = found.nodes.len();
        if let Some(v) = used_elsewhere(editor, &found) {
            return Some((matched, format!("{v} is also used elsewhere")));
        }
        self.rewrite(editor, value, label, &found).err().map(|refusal| (matched, refusal.to_string()))
    }

    fn rewrite(
        &self,
        editor: &mut Editor<'_>,
        value: ValueId,
        label: &str,
        found: &Match<'_>,
    ) -> Result<ValueId, Refusal> {
        let named = Found { found, label };
        if let Some(guard) = self.rule.guard {
            guard(View { graph: editor.graph(), weights: editor.weights() }, &named)?;
        }
        let first = editor.graph().next_node();
        let built = match &self.to {
            Compiled::Text(replacement) => replacement.build(editor, found, label),
            Compiled::Build(f) => f(editor, &named),
        };
        let result = built.and_then(|new| {
            require(new != value, "the replacement is the value itself")?;
            editor.replace(value, new)?;
            Ok(new)
        });
        if result.is_err() {
            editor.discard_since(first);
        }
        result
    }
}
