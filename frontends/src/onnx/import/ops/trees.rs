//! TreeEnsemble of domain ai.onnx.ml: every row walks down all trees at once, as many steps as the deepest tree needs.
//! Leaves lead to themselves.

use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use crate::onnx::value::HostValue;
use frit_ir::op::{BinaryFn, GatherElements, ReduceFn, Softmax, UnaryFn};
use frit_ir::{DType, Dim, Tensor, ValueId};

pub const ROWS: &[Row] = &[("ai.onnx.ml", "TreeEnsemble", 5, ensemble)];

/// Steps that a row may take.
const MAX_DEPTH: usize = 1024;
/// Members of all sets, filled up to the largest.
const MAX_MEMBERS: usize = 1 << 22;
/// Comparisons by the number that `nodes_modes` has for them; 6 is membership.
const MODES: [BinaryFn; 6] = [
    BinaryFn::LessOrEqual,
    BinaryFn::Less,
    BinaryFn::GreaterOrEqual,
    BinaryFn::Greater,
    BinaryFn::Equal,
    BinaryFn::Equal,
];
const NOT_EQUAL: i64 = 5;
const MEMBER: i64 = 6;

/// The ensemble with interior nodes first, then leaves, in one numbering.
struct Trees {
    roots: Vec<i64>,
    features: Vec<i64>,
    modes: Vec<i64>,
    splits: Vec<f64>,
    /// Members of each node's set, for nodes that ask for membership.
    sets: Vec<Vec<f64>>,
    missing: Vec<i64>,
    yes: Vec<i64>,
    no: Vec<i64>,
    targets: Vec<i64>,
    weights: Vec<f64>,
    depth: usize,
}

fn ensemble<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = n.tensor(0)?;
    let dtype = cx.dtype(x)?;
    let t = Trees::read(cx, n)?;
    let rows = cx.shape(x)?.first().cloned().unwrap_or_default();
    let roots = cx.constant_ints(&t.roots)?;
    let mut at = cx.expand_to(roots, &[rows, Dim::from(t.roots.len())])?;
    for _ in 0..t.depth {
        at = t.step(cx, n, x, at)?;
    }
    let weights = cx.numbers_of(n, dtype, &t.weights)?;
    let (weights, targets) = (cx.gather(weights, at, 0)?, cx.constant_ints(&t.targets)?);
    let targets = cx.gather(targets, at, 0)?;
    let count =
        n.int("n_targets")?.filter(|c| *c > 0).ok_or_else(|| n.error("`n_targets` must be positive"))?;
    let (weights, targets) = (cx.unsqueeze(weights, &[2])?, cx.unsqueeze(targets, &[2])?);
    let each = cx.iota(&Dim::constant(count), DType::I64)?;
    let hit = cx.binary(BinaryFn::Equal, targets, each)?;
    let y = aggregate(cx, n, hit, weights, t.roots.len())?;
    let y = match n.int_or("post_transform", 0)? {
        0 => y,
        1 => cx.emit(Softmax { axis: -1 }, &[y])?,
        2 => cx.unary(UnaryFn::Sigmoid, y)?,
        other => return Err(n.error(format!("post_transform {other} is not supported"))),
    };
    Ok(vec![y.into()])
}

/// Weights `[rows, trees, 1]` over the trees, by target, where `hit` is `[rows, trees, targets]`.
fn aggregate(
    cx: &mut Cx<'_>,
    n: &NodeView<'_>,
    hit: ValueId,
    weights: ValueId,
    trees: usize,
) -> Result<ValueId> {
    let dtype = cx.dtype(weights)?;
    let nothing = cx.scalar(dtype, 0.0)?;
    let how = n.int_or("aggregate_function", 1)?;
    let extreme = match how {
        0 | 1 => {
            let counted = cx.choose(hit, weights, nothing)?;
            let sum = cx.reduce(ReduceFn::Sum, counted, &[1], false)?;
            return if how == 0 { cx.with_number(BinaryFn::Div, sum, trees as f64) } else { Ok(sum) };
        }
        2 => (ReduceFn::Min, f64::INFINITY),
        3 => (ReduceFn::Max, f64::NEG_INFINITY),
        other => return Err(n.error(format!("aggregate_function {other} does not exist"))),
    };
    let far = cx.scalar(dtype, extreme.1)?;
    let counted = cx.choose(hit, weights, far)?;
    let best = cx.reduce(extreme.0, counted, &[1], false)?;
    let any = cx.cast(hit, DType::I64)?;
    let any = cx.reduce(ReduceFn::Max, any, &[1], false)?;
    let any = cx.cast(any, DType::Bool)?;
    cx.choose(any, best, nothing)
}

impl Cx<'_> {
    fn numbers_of(&mut self, n: &NodeView<'_>, dtype: DType, values: &[f64]) -> Result<ValueId> {
        let t = Tensor::from_f64(dtype, &[values.len()], values).map_err(|e| n.error(e.to_string()))?;
        self.constant(t)
    }
}

impl Trees {
    fn read(cx: &Cx<'_>, n: &NodeView<'_>) -> Result<Self> {
        let tensor = |name: &'static str| match n.tensor_attr(name)? {
            None => Ok(None),
            Some(t) => match cx.model.tensor(t).map_err(|e| n.error(e.to_string()))? {
                HostValue::Tensor(t) => Ok(Some(t)),
                other => Err(n.error(format!("attribute `{name}` is {other}"))),
            },
        };
        let ints = |name: &'static str| Ok(n.ints(name)?.unwrap_or_default());
        n.ignore(&["nodes_hitrates"]);
        let missing_attribute = |name: &str| n.error(format!("attribute `{name}` is missing"));
        let splits = tensor("nodes_splits")?.ok_or_else(|| missing_attribute("nodes_splits"))?.to_f64_vec();
        let modes = tensor("nodes_modes")?.ok_or_else(|| missing_attribute("nodes_modes"))?.to_i64_vec();
        let weights = tensor("leaf_weights")?.ok_or_else(|| missing_attribute("leaf_weights"))?.to_f64_vec();
        let (nodes, leaves) = (modes.len(), weights.len());
        let mut missing = ints("nodes_missing_value_tracks_true")?;
        missing.resize(if missing.is_empty() { nodes } else { missing.len() }, 0);
        let (yes, yes_leaf) = (ints("nodes_truenodeids")?, ints("nodes_trueleafs")?);
        let (no, no_leaf) = (ints("nodes_falsenodeids")?, ints("nodes_falseleafs")?);
        let features = ints("nodes_featureids")?;
        let targets = ints("leaf_targetids")?;
        let by_node =
            [features.len(), splits.len(), yes.len(), yes_leaf.len(), no.len(), no_leaf.len(), missing.len()];
        if by_node.iter().any(|l| *l != nodes) || targets.len() != leaves || leaves == 0 {
            return Err(
                n.error(format!("lists of lengths {by_node:?} for {nodes} nodes and {leaves} leaves"))
            );
        }
        let first_leaf = i64::try_from(nodes).unwrap_or(i64::MAX);
        let all = first_leaf.saturating_add(i64::try_from(leaves).unwrap_or(i64::MAX));
        let join = |to: Vec<i64>, leaf: Vec<i64>| {
            let number = |(to, leaf): (i64, i64)| {
                let (to, end) = if leaf != 0 { (to.checked_add(first_leaf)?, all) } else { (to, first_leaf) };
                (0..end).contains(&to).then_some(to)
            };
            let interior: Option<Vec<i64>> = to.into_iter().zip(leaf).map(number).collect();
            interior.map(|i| i.into_iter().chain(first_leaf..all).collect::<Vec<i64>>())
        };
        let outside = || n.error("a node leads to one that does not exist");
        let (yes, no) = (join(yes, yes_leaf).ok_or_else(outside)?, join(no, no_leaf).ok_or_else(outside)?);
        let roots = ints("tree_roots")?;
        if roots.is_empty() || roots.iter().any(|r| !(0..first_leaf).contains(r)) {
            return Err(n.error("attribute `tree_roots` names no nodes"));
        }
        let mut sets = sets(n, &modes, tensor("membership_values")?.as_ref())?;
        let width = sets.iter().map(Vec::len).max().unwrap_or(0);
        if width > 0 {
            sets.resize(nodes.saturating_add(leaves), Vec::new());
        }
        if width.checked_mul(sets.len()).is_none_or(|all| all > MAX_MEMBERS) {
            return Err(n.error(format!("{} sets of up to {width} members are too many", sets.len())));
        }
        let fill = |mut list: Vec<i64>| {
            list.resize(list.len().saturating_add(leaves), 0);
            list
        };
        let mut trees = Trees {
            roots,
            features: fill(features),
            modes: fill(modes),
            splits: splits.into_iter().chain(std::iter::repeat_n(0.0, leaves)).collect(),
            sets,
            missing: fill(missing),
            yes,
            no,
            targets: vec![0; nodes].into_iter().chain(targets).collect(),
            weights: vec![0.0; nodes].into_iter().chain(weights).collect(),
            depth: 0,
        };
        trees.depth =
            trees.levels(first_leaf).ok_or_else(|| n.error(format!("trees deeper than {MAX_DEPTH}")))?;
        Ok(trees)
    }

    /// Steps until every row is at a leaf; None for cycles and for very deep trees.
    fn levels(&self, first_leaf: i64) -> Option<usize> {
        let mut level: Vec<i64> = self.roots.clone();
        for depth in 0..=MAX_DEPTH {
            level.retain(|at| *at < first_leaf);
            if level.is_empty() {
                return Some(depth);
            }
            let next = |list: &Vec<i64>, at: i64| usize::try_from(at).ok().and_then(|i| list.get(i).copied());
            level =
                level.iter().flat_map(|at| [next(&self.yes, *at), next(&self.no, *at)]).flatten().collect();
            level.sort_unstable();
            level.dedup();
        }
        None
    }

    /// Where each row is in each tree after one more step, `[rows, trees]`.
    fn step(&self, cx: &mut Cx<'_>, n: &NodeView<'_>, x: ValueId, at: ValueId) -> Result<ValueId> {
        let dtype = cx.dtype(x)?;
        let look = |cx: &mut Cx<'_>, list: &[i64]| {
            let list = cx.constant_ints(list)?;
            cx.gather(list, at, 0)
        };
        let feature = look(cx, &self.features)?;
        let value = cx.emit(GatherElements { axis: 1 }, &[x, feature])?;
        let splits = cx.numbers_of(n, dtype, &self.splits)?;
        let split = cx.gather(splits, at, 0)?;
        let mode = look(cx, &self.modes)?;
        let mut taken = cx.binary(BinaryFn::LessOrEqual, value, split)?;
        for (number, function) in (0..).zip(MODES).skip(1) {
            if self.modes.contains(&number) {
                let mut holds = cx.binary(function, value, split)?;
                if number == NOT_EQUAL {
                    holds = cx.unary(UnaryFn::Not, holds)?;
                }
                let this = cx.with_number(BinaryFn::Equal, mode, number as f64)?;
                taken = cx.choose(this, holds, taken)?;
            }
        }
        let width = self.sets.iter().map(Vec::len).max().unwrap_or(0);
        if width > 0 {
            let fill = |s: &Vec<f64>| {
                s.iter().copied().chain(std::iter::repeat(f64::NAN)).take(width).collect::<Vec<_>>()
            };
            let sets: Vec<f64> = self.sets.iter().flat_map(fill).collect();
            let sets = cx.numbers_of(n, dtype, &sets)?;
            let sets = cx.reshape(sets, &[Dim::from(self.sets.len()), Dim::from(width)])?;
            let set = cx.gather(sets, at, 0)?;
            let column = cx.unsqueeze(value, &[2])?;
            let same = cx.binary(BinaryFn::Equal, column, set)?;
            let same = cx.cast(same, DType::I64)?;
            let any = cx.reduce(ReduceFn::Max, same, &[2], false)?;
            let any = cx.cast(any, DType::Bool)?;
            let this = cx.with_number(BinaryFn::Equal, mode, MEMBER as f64)?;
            taken = cx.choose(this, any, taken)?;
        }
        if self.missing.contains(&1) {
            let absent = cx.unary(UnaryFn::IsNaN, value)?;
            let tracks = look(cx, &self.missing)?;
            let tracks = cx.cast(tracks, DType::Bool)?;
            let absent = cx.binary(BinaryFn::And, absent, tracks)?;
            taken = cx.binary(BinaryFn::Or, taken, absent)?;
        }
        let (yes, no) = (look(cx, &self.yes)?, look(cx, &self.no)?);
        cx.choose(taken, yes, no)
    }
}

/// The sets of nodes that ask for membership, which stand one after the other, NaN behind each.
fn sets(n: &NodeView<'_>, modes: &[i64], members: Option<&Tensor>) -> Result<Vec<Vec<f64>>> {
    let members = members.map(Tensor::to_f64_vec).unwrap_or_default();
    let mut sets = members.split(|m| m.is_nan());
    let asking = modes.iter().filter(|m| **m == MEMBER).count();
    if modes.iter().any(|m| !(0..=MEMBER).contains(m)) {
        return Err(n.error("attribute `nodes_modes` holds a comparison that does not exist"));
    }
    if asking == 0 {
        return Ok(Vec::new());
    }
    let each = modes.iter().map(|m| match *m {
        MEMBER => sets.next().map(<[f64]>::to_vec),
        _ => Some(Vec::new()),
    });
    let each: Option<Vec<Vec<f64>>> = each.collect();
    each.ok_or_else(|| n.error(format!("fewer sets than the {asking} nodes that ask for membership")))
}
