//! Finding a pattern at a value of a graph, with backtracking over alternatives and operand orders; and explaining
//! why a near match is none. What a match is replaced by does not belong here.

use super::{AttrTest, COMMUTATIVE, Kind, OpTerm, OpTest, Pattern, Term};
use crate::edit::Editor;
use crate::view::View;
use frit_ir::op::Attr;
use frit_ir::{Node, NodeId, ValueId};

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Binding {
    /// A value of the graph.
    Value(ValueId),
    /// The value of an attribute.
    Attr(Attr),
}

/// A pattern found in a graph.
#[derive(Clone, Debug)]
pub struct Match<'p> {
    /// The pattern.
    pub pattern: &'p Pattern,
    /// What each name stands for.
    pub bindings: Vec<Option<Binding>>,
    /// The nodes matched, the root first, with whether they may be used elsewhere.
    pub nodes: Vec<(NodeId, bool)>,
}

impl Match<'_> {
    fn binding(&self, name: &str) -> Option<&Binding> {
        self.bindings.get(self.pattern.slot(name)?)?.as_ref()
    }

    /// The value of a name; None when that part was left out.
    pub fn value(&self, name: &str) -> Option<ValueId> {
        match self.binding(name) {
            Some(Binding::Value(v)) => Some(*v),
            _ => None,
        }
    }

    /// The attribute bound to a name.
    pub fn attr(&self, name: &str) -> Option<&Attr> {
        match self.binding(name) {
            Some(Binding::Attr(a)) => Some(a),
            _ => None,
        }
    }

    /// The root node.
    pub fn root(&self) -> Option<NodeId> {
        self.nodes.first().map(|(id, _)| *id)
    }
}

/// One part of a pattern that did not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Nodes that do match.
    pub matched: usize,
    /// What was expected and what is there.
    pub why: String,
}

/// Finds the pattern with its root at `value`.
pub fn find<'p>(view: View<'_>, pattern: &'p Pattern, value: ValueId) -> Option<Match<'p>> {
    let solver = Solver { view, pattern, lenient: false };
    let state = solver.solve(State::start(pattern, value))?;
    Some(Match { pattern, bindings: state.slots, nodes: state.nodes })
}

/// What kept the pattern from matching at `value`, when its root and all but one of its nodes match.
pub fn explain(view: View<'_>, pattern: &Pattern, value: ValueId) -> Option<Mismatch> {
    let size = pattern.term.size();
    if size < 3 {
        return None;
    }
    let solver = Solver { view, pattern, lenient: true };
    let state = solver.solve(State::start(pattern, value))?;
    let matched = state.nodes.len();
    state.miss.filter(|_| matched + 1 >= size && matched >= 2).map(|miss| Mismatch { matched, ..miss })
}

/// The first use of an inner node outside the match, where that is not allowed.
pub fn used_elsewhere(editor: &Editor<'_>, found: &Match<'_>) -> Option<ValueId> {
    let inside = |id: &NodeId| found.nodes.iter().any(|(n, _)| n == id);
    for (id, shared) in found.nodes.iter().skip(1) {
        let Some(node) = editor.graph().node(*id).filter(|_| !shared && Some(*id) != found.root()) else {
            continue;
        };
        for v in &node.outputs {
            if editor.is_output(*v) || !editor.users(*v).iter().all(inside) {
                return Some(*v);
            }
        }
    }
    None
}

#[derive(Clone)]
struct State<'p> {
    goals: Vec<(&'p Term, Option<ValueId>)>,
    slots: Vec<Option<Binding>>,
    nodes: Vec<(NodeId, bool)>,
    miss: Option<Mismatch>,
}

impl<'p> State<'p> {
    fn start(pattern: &'p Pattern, value: ValueId) -> Self {
        State {
            goals: vec![(&pattern.term, Some(value))],
            slots: vec![None; pattern.names.len()],
            nodes: Vec::new(),
            miss: None,
        }
    }
}

struct Solver<'a, 'p> {
    view: View<'a>,
    pattern: &'p Pattern,
    /// One part may fail; it is noted.
    lenient: bool,
}

impl<'p> Solver<'_, 'p> {
    fn solve(&self, mut s: State<'p>) -> Option<State<'p>> {
        while let Some((term, value)) = s.goals.pop() {
            match term {
                Term::Choice(all) => {
                    return all.iter().find_map(|alternative| {
                        let mut next = s.clone();
                        next.goals.push((alternative, value));
                        self.solve(next)
                    });
                }
                Term::Var { slot, kind, optional } => {
                    let Some(value) = value else {
                        if *optional {
                            continue;
                        }
                        self.fail(&mut s, || "an operand is left out".to_owned())?;
                        continue;
                    };
                    self.variable(&mut s, *slot, *kind, value)?;
                }
                Term::Number(n) => {
                    let fits = value.and_then(|v| Some((v, self.view.splat(v)?)));
                    if !fits.is_some_and(|(v, x)| about(x, *n, self.view.tolerance(v))) {
                        self.fail(&mut s, || format!("expected {n}, found {}", self.describe(value)))?;
                    }
                }
                Term::Op(op) => {
                    let node = value.and_then(|v| self.view.producer(v));
                    let root = s.nodes.is_empty();
                    let Some((id, node)) = node else {
                        if root {
                            return None;
                        }
                        self.fail(&mut s, || {
                            format!("expected {}, found {}", op_name(op), self.describe(value))
                        })?;
                        continue;
                    };
                    let known = matches!(op.op, OpTest::Named(name) if name == node.op.name());
                    if !known {
                        if root {
                            return None;
                        }
                        self.fail(&mut s, || {
                            format!("expected {}, found {}", op_name(op), self.describe(value))
                        })?;
                        // The operands of what stands there may still fit.
                        if node.inputs.len() == op.args.len() {
                            s.goals.extend(op.args.iter().zip(node.inputs.iter().copied()).rev());
                        }
                        continue;
                    }
                    return self.node(s, op, id, node, value?);
                }
            }
        }
        Some(s)
    }

    fn variable(&self, s: &mut State<'p>, slot: usize, kind: Kind, value: ValueId) -> Option<()> {
        let fits = match kind {
            Kind::Any => true,
            Kind::Const => self.view.is_const(value),
            Kind::Scalar => self.view.splat(value).is_some(),
        };
        let name = || self.pattern.names.get(slot).map_or("", String::as_str);
        if !fits {
            let what = if kind == Kind::Const { "a constant" } else { "a constant of equal elements" };
            return self
                .fail(s, || format!("?{} must be {what}, found {}", name(), self.describe(Some(value))));
        }
        match s.slots.get(slot).and_then(Option::as_ref) {
            None => {
                if let Some(b) = s.slots.get_mut(slot) {
                    *b = Some(Binding::Value(value));
                }
                Some(())
            }
            Some(Binding::Value(v)) if *v == value => Some(()),
            Some(other) => {
                let other = other.clone();
                self.fail(s, || {
                    let first = match other {
                        Binding::Value(v) => self.describe(Some(v)),
                        Binding::Attr(a) => a.to_string(),
                    };
                    format!("?{} is {first} in one place, {} in another", name(), self.describe(Some(value)))
                })
            }
        }
    }

    fn node(
        &self,
        mut s: State<'p>,
        op: &'p OpTerm,
        id: NodeId,
        node: &Node,
        value: ValueId,
    ) -> Option<State<'p>> {
        if node.outputs.get(op.output) != Some(&value) {
            self.fail(&mut s, || format!("expected output {} of {}", op.output, node.op.name()))?;
        }
        match s.nodes.iter_mut().find(|(n, _)| *n == id) {
            Some((_, shared)) => *shared &= op.shared,
            None => s.nodes.push((id, op.shared)),
        }
        if let Some(slot) = op.name {
            self.variable(&mut s, slot, Kind::Any, value)?;
        }
        self.attributes(&mut s, op, node)?;
        let given = node.inputs.iter().rposition(Option::is_some).map_or(0, |i| i + 1);
        if given > op.args.len() && !op.rest {
            self.fail(&mut s, || {
                format!("{} has {given} operands, the pattern {}", node.op.name(), op.args.len())
            })?;
        }
        let operand = |i: usize| node.inputs.get(i).copied().flatten();
        if let ([first, second], OpTest::Named(name)) = (op.args.as_slice(), &op.op)
            && COMMUTATIVE.contains(name)
        {
            let mut turned = s.clone();
            s.goals.extend([(second, operand(1)), (first, operand(0))]);
            if let Some(found) = self.solve(s) {
                return Some(found);
            }
            turned.goals.extend([(second, operand(0)), (first, operand(1))]);
            return self.solve(turned);
        }
        s.goals.extend(op.args.iter().enumerate().rev().map(|(i, arg)| (arg, operand(i))));
        self.solve(s)
    }

    fn attributes(&self, s: &mut State<'p>, op: &'p OpTerm, node: &Node) -> Option<()> {
        if op.attrs.is_empty() {
            return Some(());
        }
        let actual = node.op.attrs();
        let rank = node.inputs.first().copied().flatten().map_or(0, |v| self.view.rank(v));
        for (name, test) in &op.attrs {
            let Some((_, found)) = actual.iter().find(|(n, _)| n == name) else { continue };
            match test {
                AttrTest::Is(expected) => {
                    if !same_attr(name, expected, found, rank) {
                        self.fail(s, || {
                            format!("{} at `{}` has {name}={found}", node.op.name(), node.label)
                        })?;
                    }
                }
                AttrTest::Bind(slot) => match s.slots.get_mut(*slot) {
                    Some(Some(Binding::Attr(before))) if !same_attr(name, before, found, rank) => {
                        let before = before.clone();
                        self.fail(s, || {
                            format!("{name} is {before} in one place, {found} at `{}`", node.label)
                        })?;
                    }
                    Some(Some(_)) => {}
                    Some(free) => *free = Some(Binding::Attr(found.clone())),
                    None => {}
                },
                AttrTest::All(_) => {}
            }
        }
        Some(())
    }

    /// Ends the search, or notes the first mismatch and goes on where one is tolerated.
    fn fail(&self, s: &mut State<'p>, why: impl FnOnce() -> String) -> Option<()> {
        if !self.lenient || s.miss.is_some() {
            return None;
        }
        s.miss = Some(Mismatch { matched: 0, why: why() });
        Some(())
    }

    fn describe(&self, value: Option<ValueId>) -> String {
        let Some(v) = value else { return "nothing".to_owned() };
        let ty = self.view.ty(v).map(ToString::to_string).unwrap_or_default();
        match self.view.producer(v) {
            Some((_, n)) => format!("{v} = {} at `{}` ({ty})", n.op.name(), n.label),
            None => match self.view.splat(v) {
                Some(x) => format!("{x} ({ty})"),
                None => format!("{v} ({ty})"),
            },
        }
    }
}

fn op_name(op: &OpTerm) -> &'static str {
    match op.op {
        OpTest::Named(name) => name,
        OpTest::Like(_) => "an op",
    }
}

fn about(x: f64, expected: f64, tolerance: f64) -> bool {
    x == expected || (x - expected).abs() <= tolerance * expected.abs()
}

/// Equal, with axes counted from either end and numbers equal to a few units in the last place of f32.
fn same_attr(name: &str, expected: &Attr, found: &Attr, rank: usize) -> bool {
    let rank = i64::try_from(rank).unwrap_or(0);
    let is_axis = name == "axis" || name == "axes";
    let resolve = |a: i64| if is_axis && a < 0 { a + rank } else { a };
    match (expected, found) {
        (Attr::Int(a), Attr::Int(b)) => resolve(*a) == resolve(*b),
        (Attr::Ints(a), Attr::Ints(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| resolve(*a) == resolve(*b))
        }
        (Attr::Ints(a), Attr::Dims(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| b.is(*a)),
        (Attr::Int(a), Attr::Float(b)) => *a as f64 == *b,
        (Attr::Float(a), Attr::Float(b)) => about(*b, *a, 2e-6),
        (Attr::Str(word), Attr::Absent) => word == "none",
        (a, b) => a == b,
    }
}
