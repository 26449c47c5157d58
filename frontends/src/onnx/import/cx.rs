//! The state of importing: graphs under construction, names in scope, and what small tensors hold. Lowerings emit
//! nodes and read operands through it. Meaning of operators belongs to `ops/`, walking over nodes to `walk.rs`.

use super::contents::{self, Contents, Operand};
use super::error::{ImportError, Result};
use super::node::NodeView;
use super::num::Num;
use super::symbols::Symbols;
use super::val::Val;
use super::walk::{Call, Functions, Scope};
use crate::onnx::read::OnnxModel;
use frit_ir::builder::{BuildError, GraphBuilder};
use frit_ir::op::{Infer, Reshape, Slice, SymbolOf};
use frit_ir::{Bindings, DType, Dim, Graph, Op, Tensor, TensorType, ValueId, WeightTable, interp};
use std::collections::HashMap;

/// Constants are folded while their elements, operands and results, are at most this many in all, ...
const FOLD_TOTAL: usize = 8 << 20;
/// ... and at most this many at once. Larger ones are left to the passes.
const FOLD_ONCE: usize = 1 << 20;
/// All folding may take so much work, as the ops count it: a second of naive evaluation at the most.
const FOLD_WORK: usize = 64 << 20;
/// So many terms of dims are worked on; then contents count as unknown.
const WORK_TOTAL: usize = 8 << 20;

/// A graph under construction: the model's, or the body of a control flow op inside it.
pub(super) struct Frame {
    pub graph: Graph,
    contents: HashMap<ValueId, Contents>,
    /// Values of the frame around it, with the inputs that bring them in, in order and by the outer value.
    pub captured: Vec<(ValueId, ValueId)>,
    inside: HashMap<ValueId, ValueId>,
    settled: usize,
    /// No other frame of the model has this number.
    serial: usize,
}

impl Frame {
    fn new(name: &str, serial: usize) -> Self {
        Frame {
            graph: Graph::new(name),
            contents: HashMap::new(),
            captured: Vec::new(),
            inside: HashMap::new(),
            settled: 0,
            serial,
        }
    }
}

/// A finished body of a control flow op.
pub struct Body {
    /// The graph; its last inputs are the captured values, in order.
    pub graph: Graph,
    /// Values of the graph around it that the body uses.
    pub captured: Vec<ValueId>,
}

/// The state of importing one model.
pub struct Cx<'a> {
    /// The model.
    pub model: &'a OnnxModel,
    pub(super) functions: &'a Functions<'a>,
    pub(super) weights: WeightTable,
    pub(super) frames: Vec<Frame>,
    pub(super) scopes: Vec<Scope<'a>>,
    pub(super) calls: Vec<Call<'a>>,
    pub(super) symbols: Symbols,
    pub(super) bodies: Vec<Graph>,
    pub(super) warnings: Vec<String>,
    pub(super) nodes_left: usize,
    /// Label and operator of the node being lowered.
    pub(super) place: (String, String),
    /// Bytes of the constants that the file stores, as far as they are used.
    pub(super) stored: usize,
    fold_left: usize,
    fold_work_left: usize,
    work_left: usize,
    values_left: usize,
    serial: usize,
}

impl<'a> Cx<'a> {
    pub(super) fn new(model: &'a OnnxModel, functions: &'a Functions<'a>, nodes_left: usize) -> Self {
        Cx {
            model,
            functions,
            weights: WeightTable::default(),
            frames: vec![Frame::new("forward", 0)],
            scopes: Vec::new(),
            calls: Vec::new(),
            symbols: Symbols::default(),
            bodies: Vec::new(),
            warnings: Vec::new(),
            nodes_left,
            place: (String::new(), String::new()),
            stored: 0,
            fold_left: FOLD_TOTAL,
            fold_work_left: FOLD_WORK,
            work_left: WORK_TOTAL,
            values_left: nodes_left.saturating_mul(4).saturating_add(100_000),
            serial: 0,
        }
    }

    /// An error at the node being lowered.
    pub fn error(&self, why: impl Into<String>) -> ImportError {
        ImportError::Node { node: self.place.0.clone(), op: self.place.1.clone(), why: why.into() }
    }

    /// An error of the graph at the node being lowered.
    pub fn refused(&self, source: impl Into<BuildError>) -> ImportError {
        ImportError::Build { node: self.place.0.clone(), op: self.place.1.clone(), source: source.into() }
    }

    /// Something wrong that does not keep the model from being imported.
    pub fn warn(&mut self, what: impl Into<String>) {
        self.warnings.push(what.into());
    }

    pub(super) fn frame(&self) -> Result<&Frame> {
        self.frames.last().ok_or_else(|| self.error("no graph is under construction"))
    }

    pub(super) fn frame_mut(&mut self) -> Result<&mut Frame> {
        match self.frames.last_mut() {
            Some(f) => Ok(f),
            None => Err(ImportError::Model("no graph is under construction".into())),
        }
    }

    // ---- types and constants -------------------------------------------------------------------------------

    /// The type of a value.
    pub fn ty(&self, v: ValueId) -> Result<TensorType> {
        let ty = self.frame()?.graph.ty(v).cloned();
        ty.ok_or_else(|| self.error(format!("{v} is no value of the graph under construction")))
    }

    /// The extents of a value.
    pub fn shape(&self, v: ValueId) -> Result<Vec<Dim>> {
        Ok(self.ty(v)?.shape)
    }

    /// The element type of a value.
    pub fn dtype(&self, v: ValueId) -> Result<DType> {
        Ok(self.ty(v)?.dtype)
    }

    /// Number of axes of a value.
    pub fn rank(&self, v: ValueId) -> Result<usize> {
        Ok(self.ty(v)?.rank())
    }

    /// A constant of the graph.
    pub fn constant(&mut self, data: Tensor) -> Result<ValueId> {
        let id = self.weights.constant(data);
        self.weight(id)
    }

    /// A constant of the graph under a name of its own.
    pub fn named_constant(&mut self, name: &str, data: Tensor) -> Result<ValueId> {
        let id = self.weights.add(name, data);
        self.weight(id)
    }

    fn weight(&mut self, id: frit_ir::WeightId) -> Result<ValueId> {
        let ty = self.weights.get(id).map(|w| w.ty.clone());
        let ty = ty.ok_or_else(|| self.error("a constant was lost"))?;
        Ok(self.frame_mut()?.graph.weight_value(id, &ty))
    }

    /// A constant of integers, `[n]`.
    pub fn constant_ints(&mut self, values: &[i64]) -> Result<ValueId> {
        let data = Tensor::from_i64(DType::I64, &[values.len()], values);
        let data = data.map_err(|e| self.refused(e))?;
        self.constant(data)
    }

    /// A constant of no axes.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> Result<ValueId> {
        self.constant(Tensor::scalar(dtype, value))
    }

    /// The numbers of a value that is a constant.
    pub fn known(&self, v: ValueId) -> Option<Tensor> {
        self.known_at(self.frames.len().checked_sub(1)?, v)
    }

    fn known_at(&self, frame: usize, v: ValueId) -> Option<Tensor> {
        let id = self.frames.get(frame)?.graph.weight_of(v)?;
        self.weights.data(id).cloned()
    }

    // ---- emitting ------------------------------------------------------------------------------------------

    /// Adds a node and gives its first result. Constants are folded, and what small integer tensors hold is kept.
    pub fn emit(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId> {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        let all = self.emit_all(op, &inputs)?;
        all.first().copied().ok_or_else(|| self.error("an operation without results"))
    }

    /// [`Cx::emit`] with operands that may be left out; gives all results.
    pub fn emit_all(&mut self, op: impl Into<Op>, inputs: &[Option<ValueId>]) -> Result<Vec<ValueId>> {
        let op = op.into();
        let types = self.infer(&op, inputs)?;
        self.charge(types.len())?;
        let partial = self.derive(&op, inputs, &types);
        if let Some(known) = self.all_known(&op, inputs, &types, &partial) {
            return known.into_iter().map(|t| self.constant(t)).collect();
        }
        if self.frames.len() == 1 {
            types.iter().flat_map(|t| &t.shape).for_each(|d| self.symbols.note_extent(d));
        }
        let label = self.place.0.clone();
        let frame = self.frame_mut()?;
        let id = frame.graph.add_node(op, inputs.to_vec(), types, &label);
        let outputs = frame.graph.node(id).map(|n| n.outputs.clone()).unwrap_or_default();
        frame.settled = frame.graph.next_node().index();
        for (v, p) in outputs.iter().zip(partial) {
            self.hold(*v, p);
        }
        Ok(outputs)
    }

    /// Counts values of the graph, and elements of sequences, against a limit that keeps small files from making
    /// large graphs.
    pub(super) fn charge(&mut self, values: usize) -> Result<()> {
        match self.values_left.checked_sub(values) {
            Some(left) => self.values_left = left,
            None => {
                let what = format!("values at node `{}`: too many for a file of this size", self.place.0);
                return Err(ImportError::Limit { what, limit: self.values_left });
            }
        }
        Ok(())
    }

    fn infer(&self, op: &Op, inputs: &[Option<ValueId>]) -> Result<Vec<TensorType>> {
        let types: Vec<Option<TensorType>> =
            inputs.iter().map(|v| v.map(|v| self.ty(v)).transpose()).collect::<Result<_>>()?;
        let types: Vec<Option<&TensorType>> = types.iter().map(Option::as_ref).collect();
        op.infer(&Infer { op: op.name(), inputs: &types })
            .map_err(|source| self.refused(BuildError::Op { label: self.place.0.clone(), source }))
    }

    /// Builds with a plain [`GraphBuilder`]; nothing is folded.
    pub fn build<T>(
        &mut self,
        f: impl FnOnce(&mut GraphBuilder<'_>) -> std::result::Result<T, BuildError>,
    ) -> Result<T> {
        let label = self.place.0.clone();
        let Some(frame) = self.frames.last_mut() else { return Err(self.error("no graph")) };
        let mut b = GraphBuilder::new(&mut frame.graph, &mut self.weights);
        b.replace_scope(vec![label]);
        let result = f(&mut b).map_err(|e| self.refused(e))?;
        self.settle()?;
        Ok(result)
    }

    /// Finds out what the results of nodes hold that were added without [`Cx::emit`].
    fn settle(&mut self) -> Result<()> {
        loop {
            let frame = self.frame_mut()?;
            if frame.settled >= frame.graph.next_node().index() {
                return Ok(());
            }
            let id = frit_ir::NodeId::from_index(frame.settled);
            frame.settled += 1;
            let Some(node) = frame.graph.node(id).cloned() else { continue };
            let types = node.outputs.iter().map(|v| self.ty(*v)).collect::<Result<Vec<_>>>()?;
            let partial = self.derive(&node.op, &node.inputs, &types);
            for (v, p) in node.outputs.iter().zip(partial) {
                self.hold(*v, p);
            }
        }
    }

    /// The results as constants, when what they hold or what the operands are makes them so.
    fn all_known(
        &mut self,
        op: &Op,
        inputs: &[Option<ValueId>],
        types: &[TensorType],
        partial: &[Option<contents::Partial>],
    ) -> Option<Vec<Tensor>> {
        let whole =
            |p: &Option<contents::Partial>| -> Option<Contents> { p.as_ref()?.iter().cloned().collect() };
        let held: Option<Vec<Tensor>> =
            types.iter().zip(partial).map(|(ty, p)| contents::to_tensor(ty, &whole(p)?)).collect();
        if held.as_ref().is_some_and(|h| !h.is_empty()) {
            return held;
        }
        if op.is_dynamic() {
            return None;
        }
        let operands: Vec<Option<Tensor>> = inputs
            .iter()
            .map(|v| v.map(|v| self.known(v).ok_or(())).transpose())
            .collect::<std::result::Result<_, _>>()
            .ok()?;
        let mut elements = 0usize;
        for t in operands.iter().flatten() {
            elements = elements.checked_add(t.len())?;
        }
        for ty in types {
            elements = elements.checked_add(frit_ir::tensor::element_count(&ty.fixed_shape()?)?)?;
        }
        // What no operand goes into is described shorter than it is stored.
        let most = if operands.is_empty() { contents::MAX_ELEMENTS } else { FOLD_ONCE.min(self.fold_left) };
        if elements > most {
            return None;
        }
        // A small file can ask for large products of what it broadcasts.
        let shapes: Vec<Vec<usize>> = types.iter().map(TensorType::fixed_shape).collect::<Option<_>>()?;
        let given: Vec<Option<&[usize]>> = operands.iter().map(|t| t.as_ref().map(Tensor::shape)).collect();
        let results: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
        self.fold_work_left = self.fold_work_left.checked_sub(op.work(&given, &results)?)?;
        self.fold_left = self.fold_left.saturating_sub(elements);
        let operands: Vec<Option<&Tensor>> = operands.iter().map(Option::as_ref).collect();
        // What fails here fails at run time, if ever it is reached.
        interp::evaluate(op, &operands, &types.iter().collect::<Vec<_>>(), &Bindings::new(), &self.place.0)
            .ok()
    }

    // ---- what small tensors hold ---------------------------------------------------------------------------

    fn derive(
        &mut self,
        op: &Op,
        inputs: &[Option<ValueId>],
        types: &[TensorType],
    ) -> Vec<Option<contents::Partial>> {
        if types.is_empty() || types.iter().any(|t| contents::small(t).is_none()) {
            return vec![None; types.len()];
        }
        let Some(frame) = self.frames.len().checked_sub(1) else { return vec![None; types.len()] };
        let symbolic = types.iter().all(|t| !t.dtype.is_float());
        let operands: Vec<Option<(TensorType, Option<Contents>)>> = inputs
            .iter()
            .map(|v| {
                let v = (*v)?;
                let ty = self.ty(v).ok()?;
                let held =
                    if symbolic { self.contents_or_symbols(frame, v) } else { self.contents_at(frame, v) };
                Some((ty, held))
            })
            .collect();
        let terms =
            |held: &Option<Contents>| held.iter().flat_map(|c| c.iter()).map(Num::size).sum::<usize>();
        let work: usize = operands.iter().flatten().map(|(_, held)| terms(held)).sum();
        let Some(left) = self.work_left.checked_sub(work) else { return vec![None; types.len()] };
        self.work_left = left;
        let operands: Vec<Option<Operand<'_>>> = operands
            .iter()
            .map(|o| o.as_ref().map(|(ty, held)| Operand { ty, contents: held.clone() }))
            .collect();
        let symbols = &self.symbols;
        contents::derive(op, &operands, types, &|s| symbols.bounds(s))
    }

    /// Keeps what is known of a value; unknown elements of an integer tensor become symbols of their own.
    fn hold(&mut self, v: ValueId, partial: Option<contents::Partial>) {
        let Some(partial) = partial.filter(|p| p.iter().any(Option::is_some)) else { return };
        let Some(frame) = self.frames.len().checked_sub(1) else { return };
        let Some(serial) = self.frames.get(frame).map(|f| f.serial) else { return };
        let integer = self.ty(v).is_ok_and(|t| t.dtype.is_int());
        let mut all = Vec::with_capacity(partial.len());
        for (position, element) in partial.into_iter().enumerate() {
            match element {
                Some(n) => all.push(n),
                None if integer => all.push(self.symbols.of_element(serial, v, position)),
                None => return,
            }
        }
        if let Some(f) = self.frames.get_mut(frame) {
            f.contents.insert(v, all.into());
        }
    }

    /// What a value holds, when it is small and known over the symbols.
    pub fn contents(&mut self, v: ValueId) -> Option<Contents> {
        self.contents_at(self.frames.len().checked_sub(1)?, v)
    }

    fn contents_at(&mut self, frame: usize, v: ValueId) -> Option<Contents> {
        if let Some(c) = self.frames.get(frame)?.contents.get(&v) {
            return Some(c.clone());
        }
        let c = contents::of_tensor(&self.known_at(frame, v)?)?;
        self.frames.get_mut(frame)?.contents.insert(v, c.clone());
        Some(c)
    }

    /// What a value holds; elements of a small integer tensor that are not known become symbols, which are defined
    /// when first used as dims.
    fn contents_or_symbols(&mut self, frame: usize, v: ValueId) -> Option<Contents> {
        if let Some(c) = self.contents_at(frame, v) {
            return Some(c);
        }
        let ty = self.frames.get(frame)?.graph.ty(v)?.clone();
        let count = contents::small(&ty).filter(|&n| n <= super::symbols::MAX_ELEMENTS)?;
        if !matches!(ty.dtype, DType::I32 | DType::I64) {
            return None;
        }
        let serial = self.frames.get(frame)?.serial;
        let all: Contents = (0..count).map(|p| self.symbols.of_element(serial, v, p)).collect();
        self.frames.get_mut(frame)?.contents.insert(v, all.clone());
        Some(all)
    }

    /// Makes sure that every symbol in these dims is defined in the graph: one that stands for an element of a
    /// tensor gets its SymbolOf.
    pub fn define(&mut self, dims: &[Dim]) -> Result<()> {
        for s in dims.iter().flat_map(Dim::symbols) {
            let Some(source) = self.symbols.take_undefined(&s) else { continue };
            let v = source.value;
            let Some(frame) = self.frames.iter().position(|f| f.serial == source.frame) else {
                return Err(self.error(format!("the size `{s}` is known only inside a body of control flow")));
            };
            let inner = self.frames.split_off((frame + 1).min(self.frames.len()));
            let result = self.define_here(&s, v, source.position);
            self.frames.extend(inner);
            result?;
        }
        Ok(())
    }

    fn define_here(&mut self, symbol: &str, v: ValueId, position: usize) -> Result<()> {
        let ty = self.ty(v)?;
        let mut one = v;
        let count = contents::small(&ty).unwrap_or(1);
        if count > 1 {
            let (start, end) = (Dim::from(position), Dim::from(position + 1));
            one = self.add(Reshape { shape: vec![Dim::from(count)], trust: false }, one)?;
            one = self.add(Slice::axis(0, start, end), one)?;
        }
        self.add(SymbolOf { name: symbol.to_owned(), min: i64::MIN }, one)?;
        Ok(())
    }

    /// Adds a node of one operand as it is.
    fn add(&mut self, op: impl Into<Op>, x: ValueId) -> Result<ValueId> {
        let op = op.into();
        let types = self.infer(&op, &[Some(x)])?;
        let label = self.place.0.clone();
        let frame = self.frame_mut()?;
        let id = frame.graph.add_node(op, vec![Some(x)], types, &label);
        let out = frame.graph.node(id).and_then(|n| n.outputs.first().copied());
        out.ok_or_else(|| self.error("an operation without results"))
    }

    // ---- operands that import must know --------------------------------------------------------------------

    /// Operand `i`, a scalar or vector of integers, as dims: symbolic where they follow from shapes, and symbols
    /// defined at run time where they come from data. None when the operand is left out.
    pub fn opt_dims(&mut self, n: &NodeView<'_>, i: usize) -> Result<Option<Vec<Dim>>> {
        let Some(v) = n.opt(i)? else { return Ok(None) };
        self.value_dims(n, v, &format!("operand {i}")).map(Some)
    }

    /// [`Cx::opt_dims`] of a value made from operands; `what` names it in errors.
    pub fn value_dims(&mut self, n: &NodeView<'_>, v: ValueId, what: &str) -> Result<Vec<Dim>> {
        let dims = self.dims_of(v).map_err(|why| self.needs_values(n, v, format!("{what}: {why}")))?;
        self.define(&dims)?;
        Ok(dims)
    }

    /// [`Cx::opt_dims`] of an operand that must be there.
    pub fn dims(&mut self, n: &NodeView<'_>, i: usize) -> Result<Vec<Dim>> {
        n.tensor(i)?;
        Ok(self.opt_dims(n, i)?.unwrap_or_default())
    }

    /// What a tensor holds as dims, not yet defined; or why that is not known.
    pub(super) fn dims_of(&mut self, v: ValueId) -> std::result::Result<Vec<Dim>, String> {
        let ty = self.ty(v).map_err(|e| e.to_string())?;
        if !ty.dtype.is_int() {
            return Err(format!("expected integers, got {ty}"));
        }
        let frame = self.frames.len().saturating_sub(1);
        if let Some(c) = self.contents_or_symbols(frame, v) {
            let dims: Option<Vec<Dim>> = c.iter().map(|n| n.as_dim().cloned()).collect();
            return dims.ok_or_else(|| "a fraction is no dimension".to_owned());
        }
        match contents::small(&ty) {
            Some(_) => Err(format!("the numbers of {ty} must be known when importing")),
            None => Err(format!("the size of {ty} must be known when importing, and small")),
        }
    }

    /// Operand `i` as integers that must be known at import (axes, flags). None when it is left out.
    pub fn opt_ints(&mut self, n: &NodeView<'_>, i: usize) -> Result<Option<Vec<i64>>> {
        let Some(v) = n.opt(i)? else { return Ok(None) };
        if let Some(t) = self.known(v) {
            return Ok(Some(t.to_i64_vec()));
        }
        let held = self.contents(v).and_then(|c| c.iter().map(Num::as_const).collect::<Option<Vec<i64>>>());
        match held {
            Some(all) => Ok(Some(all)),
            None => Err(self.needs_values(n, v, format!("operand {i} must be known when importing"))),
        }
    }

    /// [`Cx::opt_ints`] of an operand that must be there.
    pub fn ints(&mut self, n: &NodeView<'_>, i: usize) -> Result<Vec<i64>> {
        n.tensor(i)?;
        Ok(self.opt_ints(n, i)?.unwrap_or_default())
    }

    /// Operand `i` as one integer known at import. None when it is left out.
    pub fn opt_int(&mut self, n: &NodeView<'_>, i: usize) -> Result<Option<i64>> {
        match self.opt_ints(n, i)?.as_deref() {
            None => Ok(None),
            Some(&[v]) => Ok(Some(v)),
            Some(other) => Err(n.error(format!("operand {i}: expected one integer, got {}", other.len()))),
        }
    }

    /// Operand `i` as a constant; an error that names the graph inputs it depends on when it is none.
    pub fn numbers(&mut self, n: &NodeView<'_>, i: usize) -> Result<Tensor> {
        let v = n.tensor(i)?;
        match self.known(v) {
            Some(t) => Ok(t),
            None => Err(self.needs_values(n, v, format!("operand {i} must be known when importing"))),
        }
    }

    // ---- bodies of control flow ----------------------------------------------------------------------------

    /// Builds another graph of the module: `f` adds inputs ([`Cx::input`]) and nodes to it and sees all names in
    /// scope; values of the graphs around it are captured as inputs after its own.
    pub fn body<T>(&mut self, name: &str, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<(Body, T)> {
        let unique = self.symbols.fresh_name(name);
        self.serial += 1;
        self.frames.push(Frame::new(&unique, self.serial));
        let result = f(self);
        let frame = self.frames.pop().ok_or_else(|| self.error("a body was lost"))?;
        let result = result?;
        let captured = frame.captured.iter().map(|(outer, _)| *outer).collect();
        Ok((Body { graph: frame.graph, captured }, result))
    }

    /// Adds an input to the graph under construction.
    pub fn input(&mut self, name: &str, ty: TensorType) -> Result<ValueId> {
        Ok(self.frame_mut()?.graph.add_input(name, ty, None))
    }

    /// Adds a finished body to the module and gives the name that ops refer to it by.
    pub fn add_body(&mut self, graph: Graph) -> String {
        let name = graph.name.clone();
        self.bodies.push(graph);
        name
    }

    /// A symbol of a name like `base` that nothing else has, defined by an op that the caller emits.
    pub fn fresh_symbol(&mut self, base: &str) -> String {
        self.symbols.fresh_extent(base)
    }

    /// A value of frame `from` as a value of the present one.
    pub(super) fn capture(&mut self, from: usize, v: ValueId) -> Result<ValueId> {
        let mut v = v;
        for depth in from + 1..self.frames.len() {
            v = self.capture_step(depth, v)?;
        }
        Ok(v)
    }

    fn capture_step(&mut self, depth: usize, v: ValueId) -> Result<ValueId> {
        let lost = ImportError::Model("a captured value was lost".into());
        let (outer, inner) = self.frames.split_at_mut(depth);
        let (Some(outer), Some(inner)) = (outer.last(), inner.first_mut()) else { return Err(lost) };
        let Some(ty) = outer.graph.ty(v).cloned() else { return Err(lost) };
        if let Some(weight) = outer.graph.weight_of(v) {
            return Ok(inner.graph.weight_value(weight, &ty));
        }
        if let Some(i) = inner.inside.get(&v) {
            return Ok(*i);
        }
        let name = format!("captured.{}", inner.captured.len());
        let i = inner.graph.add_input(&name, ty, None);
        inner.captured.push((v, i));
        inner.inside.insert(v, i);
        if let Some(c) = outer.contents.get(&v) {
            inner.contents.insert(i, c.clone());
        }
        Ok(i)
    }

    /// A value of any graph around as it is in the present one.
    pub(super) fn bring(&mut self, frame: usize, val: &Val) -> Result<Val> {
        if frame + 1 == self.frames.len() {
            return Ok(val.clone());
        }
        val.map(&mut |v| self.capture(frame, v))
    }
}
