//! If, Loop and Scan: bodies become graphs of the module that the ops of control flow refer to. What is known at
//! import is decided at import: a branch that is known is inlined, a loop over structure is unrolled.

use crate::onnx::import::cx::Body;
use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, ImportError, NodeView, Result, Val};
use crate::onnx::schema::GraphProto;
use frit_ir::op::{If, Loop};
use frit_ir::types::resolve_axis;
use frit_ir::{DType, Dim, TensorType, ValueId};
use std::collections::HashSet;
use std::sync::Arc;

pub const ROWS: &[Row] =
    &[("", "If", 1, branch), ("", "Loop", 1, repeat), ("", "Scan", 8, scan_batched), ("", "Scan", 9, scan)];

/// A loop whose trip count is known is unrolled up to so many iterations, when it cannot stay a loop.
const MAX_UNROLLED: i64 = 1024;
/// A loop's carried types settle in a few rounds: each round only makes more extents variable.
const MAX_ROUNDS: usize = 8;

/// A body with the structure of its results and, in order, the types of their tensors.
struct Built {
    body: Body,
    results: Vec<Val>,
    types: Vec<TensorType>,
    /// The tensors that are constants, by position: what is known of conditions.
    known: Vec<Option<bool>>,
}

impl Built {
    /// Symbols that exist inside the body only.
    fn inner(&self) -> HashSet<Arc<str>> {
        let mut all: HashSet<Arc<str>> =
            self.body.graph.defined_symbols().into_iter().map(|(s, _)| s).collect();
        all.extend(self.body.graph.input_symbols());
        all
    }
}

impl<'a> Cx<'a> {
    /// Runs `f`; when it fails, whatever it left open is closed, so that something else may be tried.
    fn attempt<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let (scopes, calls, bodies) = (self.scopes.len(), self.calls.len(), self.bodies.len());
        let place = self.place.clone();
        let result = f(self);
        if result.is_err() {
            self.scopes.truncate(scopes);
            self.calls.truncate(calls);
            self.bodies.truncate(bodies);
            self.place = place;
        }
        result
    }

    /// Builds a body: `f` adds inputs and nodes, and gives its results, which become outputs.
    fn built(&mut self, name: &str, f: impl FnOnce(&mut Self) -> Result<Vec<Val>>) -> Result<Built> {
        let (body, (results, types, known)) = self.body(name, |cx| {
            let results = f(cx)?;
            let tensors: Vec<ValueId> = results.iter().flat_map(Val::tensors).collect();
            let mut types = Vec::with_capacity(tensors.len());
            let mut known = Vec::with_capacity(tensors.len());
            for (i, v) in tensors.into_iter().enumerate() {
                types.push(cx.ty(v)?);
                known.push(cx.known(v).and_then(|t| t.bytes().first().map(|b| *b != 0)));
                cx.frame_mut()?.graph.add_output(&format!("y{i}"), v);
            }
            Ok((results, types, known))
        })?;
        Ok(Built { body, results, types, known })
    }

    /// The structure of `results` over new tensors, in order.
    fn restructure(&self, results: &[Val], tensors: Vec<ValueId>) -> Result<Vec<Val>> {
        let mut tensors = tensors.into_iter();
        let lost = || self.error("a result of control flow was lost");
        results.iter().map(|v| v.map(&mut |_| tensors.next().ok_or_else(lost))).collect()
    }
}

/// True when two values have the same sequences and optionals.
fn alike(a: &Val, b: &Val) -> bool {
    match (a, b) {
        (Val::Tensor(_), Val::Tensor(_)) => true,
        (Val::Strings(a), Val::Strings(b)) => a == b,
        (Val::Sequence(a), Val::Sequence(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
        }
        (Val::Optional(None), Val::Optional(None)) => true,
        (Val::Optional(Some(a)), Val::Optional(Some(b))) => alike(a, b),
        _ => false,
    }
}

/// The extent outside of a body: the same where the graph around knows it, else a symbol that the op defines.
fn outside(cx: &mut Cx<'_>, d: &Dim, inner: &HashSet<Arc<str>>, symbols: &mut Vec<String>) -> Dim {
    if !d.symbols().iter().any(|s| inner.contains(s)) {
        return d.clone();
    }
    let name = cx.fresh_symbol("n");
    symbols.push(name.clone());
    Dim::symbol(&name)
}

// ---- If ----------------------------------------------------------------------------------------------------

fn branch<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let condition = n.tensor(0)?;
    let (then_graph, else_graph) = (n.graph("then_branch")?, n.graph("else_branch")?);
    if let Some(known) = cx.known(condition) {
        let holds = known.bytes().first().is_some_and(|b| *b != 0);
        return cx.run_graph(if holds { then_graph } else { else_graph }, vec![]);
    }
    let undecided = |cx: &Cx<'a>, why: &str| cx.needs_values(n, condition, format!("the condition: {why}"));
    // A branch that cannot be may be one that is never taken: what the condition depends on decides it.
    let build = |cx: &mut Cx<'a>, graph: &'a GraphProto, name: &str| {
        let built =
            cx.attempt(|cx| cx.built(&format!("{}.{name}", n.label), |cx| cx.run_graph(graph, vec![])));
        built.map_err(|e| match e {
            ImportError::Node { .. }
            | ImportError::Build { .. }
            | ImportError::NeedsValues { .. }
            | ImportError::NeedsSizes { .. } => match undecided(cx, &e.to_string()) {
                ImportError::Node { .. } => e,
                question => question,
            },
            other => other,
        })
    };
    let yes = build(cx, then_graph, "then")?;
    let no = build(cx, else_graph, "else")?;
    let same = yes.results.len() == no.results.len()
        && yes.results.iter().zip(&no.results).all(|(a, b)| alike(a, b));
    if !same {
        return Err(undecided(cx, "the branches give values of other structure"));
    }
    let (inner_yes, inner_no) = (yes.inner(), no.inner());
    let mut symbols = Vec::new();
    let mut types = Vec::with_capacity(yes.types.len());
    for (a, b) in yes.types.iter().zip(&no.types) {
        if a.dtype != b.dtype || a.rank() != b.rank() {
            return Err(undecided(cx, &format!("one branch gives {a}, the other {b}")));
        }
        let mut shape = Vec::with_capacity(a.rank());
        for (x, y) in a.shape.iter().zip(&b.shape) {
            let shared =
                x.same(y) && !x.symbols().iter().any(|s| inner_yes.contains(s) || inner_no.contains(s));
            shape.push(if shared {
                x.clone()
            } else {
                let name = cx.fresh_symbol("n");
                symbols.push(name.clone());
                Dim::symbol(&name)
            });
        }
        types.push(TensorType { dtype: a.dtype, shape });
    }
    let mut inputs = vec![Some(condition)];
    inputs.extend(yes.body.captured.iter().chain(&no.body.captured).copied().map(Some));
    let op = If {
        then_inputs: i64::try_from(yes.body.captured.len()).unwrap_or(i64::MAX),
        then_body: cx.add_body(yes.body.graph),
        else_body: cx.add_body(no.body.graph),
        types,
        symbols,
    };
    let out = cx.emit_all(op, &inputs)?;
    cx.restructure(&yes.results, out)
}

// ---- Loop --------------------------------------------------------------------------------------------------

fn repeat<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let body = n.graph("body")?;
    let (trip, condition) = (n.opt(0)?, n.opt(1)?);
    let start: Vec<Val> = n.inputs.iter().skip(2).flatten().cloned().collect();
    if body.input.len() != start.len().saturating_add(2) || body.output.len() <= start.len() {
        return Err(n.error(format!(
            "the body takes {} and gives {} values, the node carries {}",
            body.input.len(),
            body.output.len(),
            start.len()
        )));
    }
    let tensors: Option<Vec<ValueId>> =
        start.iter().map(|v| if let Val::Tensor(v) = v { Some(*v) } else { None }).collect();
    if let Some(tensors) = tensors {
        let tried = cx.attempt(|cx| {
            let run = |cx: &mut Cx<'a>, arguments: Vec<Val>| cx.run_graph(body, arguments);
            emit_loop(cx, &n.label, trip, condition, &tensors, None, &run)
        });
        match tried {
            Ok(out) => return Ok(out.into_iter().map(Val::Tensor).collect()),
            // What a loop cannot be for, its iterations one after the other may.
            Err(e)
                if matches!(e, ImportError::Limit { .. }) || trip.is_none_or(|t| cx.known(t).is_none()) =>
            {
                return Err(e);
            }
            Err(_) => {}
        }
    }
    unroll(cx, n, body, trip, condition, start)
}

/// Runs a loop's body again and again at import.
fn unroll<'a>(
    cx: &mut Cx<'a>,
    n: &NodeView<'a>,
    body: &'a GraphProto,
    trip: Option<ValueId>,
    condition: Option<ValueId>,
    start: Vec<Val>,
) -> Result<Vec<Val>> {
    let why = "of a loop over sequences or optionals must be known when importing";
    let count = match trip {
        Some(t) => {
            let known = cx.known(t).ok_or_else(|| cx.needs_values(n, t, format!("the trip count {why}")))?;
            known.to_i64_vec().first().copied().unwrap_or(0)
        }
        None => i64::MAX,
    };
    let mut go_on = condition;
    let mut carried = start;
    let mut slices: Vec<Vec<ValueId>> = vec![Vec::new(); body.output.len() - 1 - carried.len()];
    let mut iteration = 0;
    while iteration < count {
        if let Some(c) = go_on {
            let known = cx.known(c).ok_or_else(|| cx.needs_values(n, c, format!("the condition {why}")))?;
            if known.bytes().first() == Some(&0) {
                break;
            }
        }
        if iteration >= MAX_UNROLLED {
            let what = format!("iterations of `{}` unrolled", n.label);
            return Err(ImportError::Limit { what, limit: usize::try_from(MAX_UNROLLED).unwrap_or(0) });
        }
        let index = cx.scalar(DType::I64, iteration as f64)?;
        let always = cx.scalar(DType::Bool, 1.0)?;
        let mut arguments = vec![Val::Tensor(index), Val::Tensor(always)];
        arguments.append(&mut carried);
        let count = arguments.len() - 2;
        let mut results = cx.run_graph(body, arguments)?.into_iter();
        go_on = match results.next() {
            Some(Val::Tensor(c)) => Some(c),
            _ => return Err(n.error("the body's first output is no condition")),
        };
        carried = results.by_ref().take(count).collect();
        for (list, v) in slices.iter_mut().zip(results) {
            let Val::Tensor(v) = v else {
                return Err(n.error(format!("a stacked output is {}, not a tensor", v.kind())));
            };
            list.push(cx.unsqueeze(v, &[0])?);
        }
        iteration += 1;
    }
    let mut out = carried;
    for list in slices {
        if list.is_empty() {
            return Err(n.error("a stacked output of a loop that never runs has no known type"));
        }
        out.push(Val::Tensor(cx.concat(&list, 0)?));
    }
    Ok(out)
}

/// What a body is run with: the iteration, the condition, and the carried values; it gives the next condition, the
/// carried values and the slices.
type Step<'f, 'a> = dyn Fn(&mut Cx<'a>, Vec<Val>) -> Result<Vec<Val>> + 'f;

/// Emits a loop. `count`: the number of iterations, when it is known that the condition ends none.
fn emit_loop<'a>(
    cx: &mut Cx<'a>,
    label: &str,
    trip: Option<ValueId>,
    condition: Option<ValueId>,
    start: &[ValueId],
    count: Option<Dim>,
    step: &Step<'_, 'a>,
) -> Result<Vec<ValueId>> {
    let mut types = start.iter().map(|v| cx.ty(*v)).collect::<Result<Vec<_>>>()?;
    // Extents that change from iteration to iteration, by value and axis.
    let mut varying: HashSet<(usize, usize)> = HashSet::new();
    for _ in 0..MAX_ROUNDS {
        let bodies = cx.bodies.len();
        let built = cx.built(&format!("{label}.body"), |cx| {
            let scalar = |dtype| TensorType { dtype, shape: vec![] };
            let mut arguments = vec![
                Val::Tensor(cx.input("iteration", scalar(DType::I64))?),
                Val::Tensor(cx.input("condition", scalar(DType::Bool))?),
            ];
            for (i, ty) in types.iter().enumerate() {
                arguments.push(Val::Tensor(cx.input(&format!("x{i}"), ty.clone())?));
            }
            step(cx, arguments)
        })?;
        if built.results.iter().any(|v| !matches!(v, Val::Tensor(_))) {
            return Err(cx.error("a loop's body gives something other than tensors"));
        }
        let mut settled = true;
        for (i, (was, is)) in types.iter_mut().zip(built.types.iter().skip(1)).enumerate() {
            if was.dtype != is.dtype || was.rank() != is.rank() {
                return Err(cx.error(format!("carried value {i} is {was} at first and {is} later")));
            }
            for (axis, (d, next)) in was.shape.iter_mut().zip(&is.shape).enumerate() {
                if !d.same(next) && varying.insert((i, axis)) {
                    *d = Dim::symbol(&cx.fresh_symbol("n"));
                    settled = false;
                }
            }
        }
        if !settled {
            cx.bodies.truncate(bodies);
            continue;
        }
        return finish_loop(cx, trip, condition, start, count, types, &varying, built);
    }
    Err(cx.error("the shapes of a loop's carried values do not settle"))
}

#[allow(clippy::too_many_arguments)]
fn finish_loop(
    cx: &mut Cx<'_>,
    trip: Option<ValueId>,
    condition: Option<ValueId>,
    start: &[ValueId],
    count: Option<Dim>,
    carried: Vec<TensorType>,
    varying: &HashSet<(usize, usize)>,
    built: Built,
) -> Result<Vec<ValueId>> {
    let mut inner = built.inner();
    // Symbols of carried extents that never change are the graph's around.
    for d in start.iter().map(|v| cx.shape(*v)).collect::<Result<Vec<_>>>()?.iter().flatten() {
        for s in d.symbols() {
            inner.remove(&s);
        }
    }
    for v in &built.body.captured {
        for s in cx.shape(*v)?.iter().flat_map(Dim::symbols) {
            inner.remove(&s);
        }
    }
    let mut symbols = Vec::new();
    let mut types = Vec::with_capacity(built.types.len());
    for (i, ty) in carried.iter().enumerate() {
        let mut ty = ty.clone();
        for (axis, d) in ty.shape.iter_mut().enumerate() {
            if varying.contains(&(i, axis)) {
                let name = cx.fresh_symbol("n");
                symbols.push(name.clone());
                *d = Dim::symbol(&name);
            }
        }
        types.push(ty);
    }
    let endless = condition.is_none_or(|c| cx.known(c).is_some_and(|t| t.bytes().first() != Some(&0)));
    let stays = built.known.first().copied().flatten() == Some(true) || {
        // The condition that came in goes out.
        let out = built.body.graph.outputs.first().map(|o| o.value);
        out.is_some() && out == built.body.graph.inputs.get(1).map(|i| i.value)
    };
    let fixed = trip.and_then(|t| cx.known(t)).and_then(|t| t.to_i64_vec().first().copied());
    let trips = match (count, fixed) {
        (Some(count), _) => count,
        (None, Some(n)) if endless && stays => Dim::constant(n.max(0)),
        _ => {
            let name = cx.fresh_symbol("trips");
            symbols.push(name.clone());
            Dim::symbol(&name)
        }
    };
    for slice in built.types.iter().skip(1 + carried.len()) {
        let mut shape = vec![trips.clone()];
        for d in &slice.shape {
            shape.push(outside(cx, d, &inner, &mut symbols));
        }
        types.push(TensorType { dtype: slice.dtype, shape });
    }
    let mut inputs = vec![trip, condition];
    inputs.extend(start.iter().chain(&built.body.captured).copied().map(Some));
    let op = Loop {
        body: cx.add_body(built.body.graph),
        carried: i64::try_from(start.len()).unwrap_or(i64::MAX),
        types,
        symbols,
    };
    cx.emit_all(op, &inputs)
}

// ---- Scan --------------------------------------------------------------------------------------------------

/// How a Scan goes over one of its inputs or outputs.
struct Way {
    axis: i64,
    backwards: bool,
}

fn ways(
    n: &NodeView<'_>,
    axes: Option<Vec<i64>>,
    directions: Option<Vec<i64>>,
    count: usize,
) -> Result<Vec<Way>> {
    let (axes, directions) = (axes.unwrap_or_default(), directions.unwrap_or_default());
    for (what, len) in [("axes", axes.len()), ("directions", directions.len())] {
        if len != 0 && len != count {
            return Err(n.error(format!("{len} {what} for {count} values")));
        }
    }
    let at = |v: &[i64], i: usize| v.get(i).copied().unwrap_or(0);
    Ok((0..count).map(|i| Way { axis: at(&axes, i), backwards: at(&directions, i) == 1 }).collect())
}

/// Scan-9: a loop that takes one slice an iteration of some inputs.
fn scan<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let body = n.graph("body")?;
    let all = n.tensors()?;
    let (states, scanned) = divide(n, &all, body)?;
    let inputs = ways(n, n.ints("scan_input_axes")?, n.ints("scan_input_directions")?, scanned.len())?;
    let stacked = body.output.len().saturating_sub(states.len());
    let outputs = ways(n, n.ints("scan_output_axes")?, n.ints("scan_output_directions")?, stacked)?;
    let out = scan_over(cx, n, body, &states, &scanned, &inputs, &outputs)?;
    Ok(out.into_iter().map(Val::Tensor).collect())
}

fn divide(n: &NodeView<'_>, all: &[ValueId], body: &GraphProto) -> Result<(Vec<ValueId>, Vec<ValueId>)> {
    let count = n.int("num_scan_inputs")?.and_then(|c| usize::try_from(c).ok());
    let split = count.filter(|&c| c > 0 && c <= all.len() && body.input.len() == all.len());
    let Some(count) = split else {
        return Err(n.error(format!(
            "{count:?} of {} inputs scanned, the body takes {}",
            all.len(),
            body.input.len()
        )));
    };
    let (states, scanned) = all.split_at(all.len() - count);
    if body.output.len() < states.len() {
        return Err(n.error(format!(
            "the body gives {} values for {} states",
            body.output.len(),
            states.len()
        )));
    }
    Ok((states.to_vec(), scanned.to_vec()))
}

fn scan_over<'a>(
    cx: &mut Cx<'a>,
    n: &NodeView<'a>,
    body: &'a GraphProto,
    states: &[ValueId],
    scanned: &[ValueId],
    inputs: &[Way],
    outputs: &[Way],
) -> Result<Vec<ValueId>> {
    let mut length: Option<Dim> = None;
    let mut axes = Vec::with_capacity(scanned.len());
    for (v, way) in scanned.iter().zip(inputs) {
        let shape = cx.shape(*v)?;
        let axis = cx.axis(way.axis, shape.len())?;
        let d = shape.get(axis).cloned().unwrap_or_default();
        length.get_or_insert(d);
        axes.push(axis);
    }
    let length = length.ok_or_else(|| n.error("nothing to scan"))?;
    let trip = cx.dims_value(std::slice::from_ref(&length))?;
    let trip = cx.reshape(trip, &[])?;
    let outer = cx.frames.len().saturating_sub(1);
    let step = |cx: &mut Cx<'a>, mut arguments: Vec<Val>| {
        let Some(Val::Tensor(iteration)) = arguments.first().cloned() else {
            return Err(cx.error("no iteration"));
        };
        let mut operands: Vec<Val> = arguments.split_off(2.min(arguments.len()));
        for ((v, way), &axis) in scanned.iter().zip(inputs).zip(&axes) {
            let v = cx.capture(outer, *v)?;
            let mut index = iteration;
            if way.backwards {
                let trip = cx.capture(outer, trip)?;
                let last = cx.with_number(frit_ir::op::BinaryFn::Sub, trip, 1.0)?;
                index = cx.minus(last, iteration)?;
            }
            operands.push(Val::Tensor(cx.gather(v, index, axis)?));
        }
        let mut results = vec![Val::Tensor(cx.scalar(DType::Bool, 1.0)?)];
        results.extend(cx.run_graph(body, operands)?);
        Ok(results)
    };
    let mut out = cx.attempt(|cx| emit_loop(cx, &n.label, Some(trip), None, states, Some(length), &step))?;
    for (v, way) in out.iter_mut().skip(states.len()).zip(outputs) {
        let rank = cx.rank(*v)?;
        if way.backwards {
            *v = reversed(cx, *v)?;
        }
        let axis = resolve_axis(way.axis, rank).ok_or_else(|| n.error(format!("no axis {}", way.axis)))?;
        if axis != 0 {
            let mut perm: Vec<usize> = (1..rank).collect();
            perm.insert(axis, 0);
            *v = cx.transpose(*v, &perm)?;
        }
    }
    Ok(out)
}

/// The first axis backwards.
fn reversed(cx: &mut Cx<'_>, v: ValueId) -> Result<ValueId> {
    let length = cx.shape(v)?.first().cloned().unwrap_or_default();
    let last = cx.dim(length.sub(&Dim::constant(1)))?;
    let range = frit_ir::op::Range { start: last, limit: Dim::constant(-1), step: -1, dtype: DType::I64 };
    let indices = cx.emit(range, &[])?;
    cx.gather(v, indices, 0)
}

/// Scan-8: every input has a batch axis before the one scanned; each member of the batch goes its own way.
fn scan_batched<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let body = n.graph("body")?;
    if n.opt_val(0).is_some() {
        return Err(n.error("sequence_lens is not supported"));
    }
    let all = (1..n.inputs.len()).map(|i| n.tensor(i)).collect::<Result<Vec<_>>>()?;
    let (states, scanned) = divide(n, &all, body)?;
    let inputs = ways(n, None, n.ints("directions")?, scanned.len())?;
    let outputs = ways(n, None, None, body.output.len().saturating_sub(states.len()))?;
    let batch = cx.shape(*scanned.first().ok_or_else(|| n.error("nothing to scan"))?)?;
    let batch = batch.first().and_then(Dim::as_fixed).filter(|b| (1..=64).contains(b));
    let batch = batch.ok_or_else(|| n.error("the batch must be a number from 1 to 64"))?;
    let mut parts: Vec<Vec<ValueId>> = vec![Vec::new(); body.output.len()];
    for b in 0..batch {
        let mut member = |all: &[ValueId]| {
            let one = |v: &ValueId| {
                let rest = cx.shape(*v)?.split_off(1.min(cx.rank(*v)?));
                let v = cx.slice(*v, 0, &Dim::from(b), &Dim::from(b + 1))?;
                cx.reshape(v, &rest)
            };
            all.iter().map(one).collect::<Result<Vec<_>>>()
        };
        let (states, scanned) = (member(&states)?, member(&scanned)?);
        let out = scan_over(cx, n, body, &states, &scanned, &inputs, &outputs)?;
        for (list, v) in parts.iter_mut().zip(out) {
            list.push(cx.unsqueeze(v, &[0])?);
        }
    }
    parts.iter().map(|p| Ok(Val::Tensor(cx.concat(p, 0)?))).collect()
}
