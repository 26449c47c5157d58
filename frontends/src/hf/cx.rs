//! The state of building one graph: its inputs as the caller gives them, its outputs as the caller selects them, and
//! weights as values. Mathematics belongs into `blocks/`.

use super::request::{InputSpec, selects};
use super::weights::WeightScope;
use crate::error::{FrontendError, RequestError};
use frit_ir::builder::{BuildError, GraphBuilder};
use frit_ir::graph::{InputDefault, State, ValueId};
use frit_ir::{DType, Dim, Tensor, TensorType};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// What building gives.
pub type Built<T = ValueId> = Result<T, FrontendError>;

/// How a graph is called: the class, its inputs, outputs and fixed dimensions.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// Class of transformers, for errors.
    pub class: String,
    /// Inputs that will be given.
    pub inputs: Vec<InputSpec>,
    /// Outputs selected; None: the default ones.
    pub select: Option<Vec<String>>,
    /// Dimension symbols with fixed values.
    pub dims: BTreeMap<String, usize>,
}

impl Call {
    /// A call with these inputs and all default outputs.
    pub fn with(class: &str, inputs: &[&str], dims: &BTreeMap<String, usize>) -> Self {
        Call {
            class: class.to_string(),
            inputs: inputs.iter().map(|&n| n.into()).collect(),
            select: None,
            dims: dims.clone(),
        }
    }
}

struct Candidate {
    name: String,
    value: Option<ValueId>,
    default: bool,
}

/// A graph under construction.
pub struct Cx<'a, 'm> {
    /// The checked builder of the graph.
    pub b: GraphBuilder<'m>,
    call: &'a Call,
    taken: BTreeSet<String>,
    candidates: Vec<Candidate>,
    folded: Option<Folded>,
    fixed: BTreeMap<String, usize>,
    asked: RefCell<BTreeSet<String>>,
}

/// Two leading axes of the inputs that the graph sees as one.
struct Folded {
    outer: Dim,
    inner: Dim,
    both: Dim,
}

impl<'a, 'm> Cx<'a, 'm> {
    pub(super) fn new(b: GraphBuilder<'m>, call: &'a Call) -> Self {
        Cx {
            b,
            call,
            taken: BTreeSet::new(),
            candidates: Vec::new(),
            folded: None,
            fixed: call.dims.clone(),
            asked: RefCell::default(),
        }
    }

    /// Runs `f` with nodes labelled by the scope of the weights that they use.
    pub fn within<T>(&mut self, scope: &WeightScope<'_>, f: impl FnOnce(&mut Self) -> Built<T>) -> Built<T> {
        let outer = self.b.replace_scope(vec![scope.path_of_scope().to_string()]);
        let result = f(self);
        self.b.replace_scope(outer);
        result
    }

    /// A dimension: its fixed value, or the symbol.
    pub fn dim(&self, symbol: &str) -> Dim {
        self.asked.borrow_mut().insert(symbol.to_string());
        if let Some(folded) = self.folded.as_ref().filter(|_| symbol == "batch") {
            return folded.both.clone();
        }
        self.fixed.get(symbol).map_or_else(|| Dim::symbol(symbol), |&n| Dim::from(n))
    }

    /// From now on inputs have axes `batch` and `inner` where the graph works on their product as its batch.
    /// Gives both.
    pub fn fold_batch(&mut self, inner: &str) -> Built<(Dim, Dim)> {
        let (outer, inner) = (self.dim("batch"), self.dim(inner));
        let both = outer.mul(&inner)?;
        self.folded = Some(Folded { outer: outer.clone(), inner: inner.clone(), both });
        Ok((outer, inner))
    }

    /// Number of axes of a given input, when known; folded ones count as one.
    pub fn rank(&self, name: &str) -> Option<usize> {
        let rank = self.given(name)?.rank()?;
        Some(if self.folded.is_some() { rank.saturating_sub(1) } else { rank })
    }

    /// The fixed value of a dimension.
    pub fn fixed(&self, symbol: &str) -> Option<usize> {
        self.asked.borrow_mut().insert(symbol.to_string());
        self.fixed.get(symbol).copied()
    }

    /// Fixes a dimension in this graph.
    pub fn fix(&mut self, symbol: &str, value: usize) {
        self.fixed.insert(symbol.to_string(), value);
    }

    /// The input of that name, when the caller gives it.
    pub fn given(&self, name: &str) -> Option<&'a InputSpec> {
        self.call.inputs.iter().find(|i| i.name == name)
    }

    /// True when the caller gives the input.
    pub fn has(&self, name: &str) -> bool {
        self.given(name).is_some()
    }

    /// Adds an input that the caller gives, or must give. `usual` is its element type where the caller does not say.
    pub fn input(
        &mut self,
        name: &str,
        usual: DType,
        shape: Vec<Dim>,
        default: Option<InputDefault>,
    ) -> Built {
        let folded = self.folded.as_ref().filter(|f| shape.first() == Some(&f.both));
        let (shape, flat) = match folded {
            Some(f) => {
                let rest = shape.iter().skip(1).cloned();
                ([f.outer.clone(), f.inner.clone()].into_iter().chain(rest).collect(), Some(shape))
            }
            None => (shape, None),
        };
        let spec = self.given(name);
        let dtype = spec.and_then(|s| s.dtype).unwrap_or(usual);
        if usual.is_float() != dtype.is_float() && usual.is_float() {
            return Err(self.signature_error(format!("input `{name}` holds {dtype}; floats are expected")));
        }
        if let Some(given) = spec.and_then(|s| s.shape.as_ref())
            && given.len() != shape.len()
        {
            let expected: Vec<String> = shape.iter().map(ToString::to_string).collect();
            return Err(self.signature_error(format!(
                "input `{name}` has shape {given:?}; rank {} is expected: [{}]",
                shape.len(),
                expected.join(", ")
            )));
        }
        self.taken.insert(name.to_string());
        let input = self.b.input(name, TensorType { dtype, shape }, default);
        match flat {
            Some(flat) => Ok(self.b.reshape(input, &flat)?),
            None => Ok(input),
        }
    }

    /// An input of token or class numbers as i64.
    pub fn ids(&mut self, name: &str, shape: Vec<Dim>, default: Option<InputDefault>) -> Built {
        let ids = self.input(name, DType::I64, shape, default)?;
        if self.b.ty(ids)?.dtype.is_float() {
            return Err(self.signature_error(format!("input `{name}` holds floats; integers are expected")));
        }
        Ok(self.b.cast(ids, DType::I64)?)
    }

    /// Says that an input was dealt with although no graph input stands for it.
    pub fn take(&mut self, name: &str) {
        self.taken.insert(name.to_string());
    }

    /// An error about inputs that do not go together.
    pub fn signature_error(&self, message: impl Into<String>) -> FrontendError {
        RequestError::Signature { class: self.call.class.clone(), message: message.into() }.into()
    }

    /// True when an output is selected, or is a default one and nothing is selected.
    pub fn wants(&self, output: &str, default: bool) -> bool {
        match &self.call.select {
            None => default,
            Some(list) => list.iter().any(|s| selects(s, output) || selects(output, s)),
        }
    }

    /// Offers an output. `default` says whether transformers gives it without being asked.
    pub fn output(&mut self, name: impl Into<String>, value: ValueId, default: bool) {
        self.candidates.push(Candidate { name: name.into(), value: Some(value), default });
    }

    /// Offers an output that is built only when it is wanted.
    pub fn output_if_wanted(
        &mut self,
        name: &str,
        default: bool,
        f: impl FnOnce(&mut Self) -> Built,
    ) -> Built<()> {
        let value = if self.wants(name, default) { Some(f(self)?) } else { None };
        self.candidates.push(Candidate { name: name.to_string(), value, default });
        Ok(())
    }

    /// Offers every member of a tuple.
    pub fn outputs(&mut self, name: &str, values: &[ValueId], default: bool) {
        for (i, value) in values.iter().enumerate() {
            self.output(format!("{name}.{i}"), *value, default);
        }
    }

    /// Pairs a cache input with the output that becomes it.
    pub fn state(&mut self, name: &str, axis: usize) {
        self.b.graph.states.push(State { input: name.to_string(), output: name.to_string(), axis });
    }

    /// A weight of the checkpoint as a value; graphs of one module share it.
    pub fn weight(&mut self, scope: &WeightScope<'_>, name: &str, shape: &[usize]) -> Built {
        let full = scope.path(name);
        if let Some(id) = self.b.weights.find(&full) {
            return Ok(self.b.weight(id)?);
        }
        let data = scope.get(name, shape)?;
        Ok(self.b.named_weight(&full, data)?)
    }

    /// A weight made from others while building, under the name of its scope.
    pub fn made_weight(&mut self, name: &str, make: impl FnOnce() -> Built<Tensor>) -> Built {
        if let Some(id) = self.b.weights.find(name) {
            return Ok(self.b.weight(id)?);
        }
        Ok(self.b.named_weight(name, make()?)?)
    }

    /// Refuses a given input that the class does not know. To be asked before what a builder says of the inputs that
    /// it misses: the wrong name is the reason.
    pub(super) fn check_inputs(&self, known: &[&str]) -> Built<()> {
        for spec in &self.call.inputs {
            let named = |known: &&str| known.split('.').next() == spec.name.split('.').next();
            if !self.taken.contains(&spec.name) && !known.iter().any(named) {
                return Err(RequestError::UnknownInput {
                    class: self.call.class.clone(),
                    name: spec.name.clone(),
                    known: known.iter().map(ToString::to_string).collect(),
                }
                .into());
            }
        }
        Ok(())
    }

    /// Ends the graph: outputs as selected, every given input used. Gives the dimensions that it has.
    pub(super) fn finish(mut self) -> Built<BTreeSet<String>> {
        for spec in &self.call.inputs {
            if self.taken.contains(&spec.name) {
                continue;
            }
            let message = format!("input `{}` has no use beside the other inputs given", spec.name);
            return Err(self.signature_error(message));
        }
        for wanted in self.call.select.iter().flatten() {
            if !self.candidates.iter().any(|c| selects(wanted, &c.name)) {
                return Err(RequestError::UnknownOutput {
                    class: self.call.class.clone(),
                    name: wanted.clone(),
                    known: tuple_names(self.candidates.iter().map(|c| c.name.as_str())),
                }
                .into());
            }
        }
        for candidate in std::mem::take(&mut self.candidates) {
            let wanted = match &self.call.select {
                None => candidate.default,
                Some(list) => list.iter().any(|s| selects(s, &candidate.name)),
            };
            if let Some(value) = candidate.value.filter(|_| wanted) {
                self.b.output(&candidate.name, value);
            }
        }
        if self.b.graph.outputs.is_empty() {
            return Err(self.signature_error("no output is selected"));
        }
        let outputs: BTreeSet<String> = self.b.graph.outputs.iter().map(|o| o.name.clone()).collect();
        self.b.graph.states.retain(|s| outputs.contains(&s.output));
        Ok(self.asked.into_inner())
    }
}

/// Names of outputs, each tuple once.
fn tuple_names<'n>(names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    for name in names {
        let head = name.split('.').next().unwrap_or(name).to_string();
        if !list.contains(&head) {
            list.push(head);
        }
    }
    list
}

impl From<frit_ir::dim::DimError> for FrontendError {
    fn from(e: frit_ir::dim::DimError) -> Self {
        FrontendError::Graph(BuildError::Dim(e))
    }
}

impl From<frit_ir::TensorError> for FrontendError {
    fn from(e: frit_ir::TensorError) -> Self {
        FrontendError::Graph(BuildError::Tensor(e))
    }
}
