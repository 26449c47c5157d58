//! ONNX files to modules for the facade: which inputs must be known at import, and what remembers their values.
//! Reading and importing are the frontend's business.

use crate::error::Error;
use frit_frontends::onnx::import::{self, ImportError, ImportRequest, Imported};
use frit_frontends::onnx::schema::{DimValue, GraphProto, TypeValue};
use frit_frontends::onnx::{HostValue, OnnxModel};
use frit_ir::{DType, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Before the name of an input whose value was fixed when importing, in the module's facts.
const STATIC: &str = "static.";

/// An imported model, and whether it serves all values of its inputs, of whatever shape and structure.
pub struct Fitted {
    /// The model.
    pub imported: Imported,
    /// False when something of the examples went into it.
    pub general: bool,
}

/// Imports a model for inputs like `examples`. Inputs whose values the graph's structure depends on are fixed to
/// them, and the module's facts say so; shapes are taken from them only where the file gives none.
pub fn import(
    path: &Path,
    model: &OnnxModel,
    mut request: ImportRequest,
    examples: &BTreeMap<String, HostValue>,
) -> Result<Fitted, Error> {
    let mut sized = false;
    let failed = |source| Error::Import { path: path.to_path_buf(), source };
    loop {
        let needed = match import::import(model, &request) {
            Ok(mut imported) => {
                let values = request.frozen.iter().filter_map(|(n, v)| Some((n, v.tensor()?)));
                imported.module.metadata.extend(values.map(|(n, t)| (format!("{STATIC}{n}"), describe(t))));
                let general = request.frozen.is_empty() && request.examples.is_empty() && !sized;
                return Ok(Fitted { imported, general });
            }
            Err(e) => e,
        };
        let mut progress = false;
        match &needed {
            ImportError::NeedsValues { inputs, .. } => {
                for name in inputs {
                    if let Some(value) = examples.get(name) {
                        progress |= request.frozen.insert(name.clone(), value.clone()).is_none();
                        request.examples.remove(name);
                    }
                }
            }
            ImportError::NeedsSizes { sizes, .. } => {
                for size in sizes {
                    let example = examples.get(&size.input).and_then(HostValue::tensor);
                    if let Some(&n) = example.and_then(|t| t.shape().get(size.axis)) {
                        progress |= request.dims.insert(size.symbol.clone(), n).is_none();
                    }
                }
                sized |= progress;
            }
            ImportError::NeedsShapes { inputs } => {
                for name in inputs {
                    if let Some(HostValue::Tensor(t)) = examples.get(name) {
                        let like = (t.dtype(), t.shape().to_vec());
                        progress |= request.examples.insert(name.clone(), like).is_none();
                    }
                }
            }
            _ => {}
        }
        if !progress {
            return Err(failed(needed));
        }
    }
}

/// Refuses outputs and dimensions that the model does not have: a wrong call, not a bad file.
pub(crate) fn check_request(
    graph: Option<&GraphProto>,
    request: &ImportRequest,
    signature: &[&str],
) -> Result<(), Error> {
    let Some(graph) = graph else { return Ok(()) };
    let inputs: Vec<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
    for name in signature {
        // The tensors of a sequence have names with a number behind.
        if !inputs.iter().any(|i| is_part(name, i)) {
            return Err(Error::Usage(format!("no input `{name}`; the model has {}", inputs.join(", "))));
        }
    }
    let outputs: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    for wanted in request.select.iter().flatten() {
        if !outputs.iter().any(|o| is_part(wanted, o)) {
            return Err(Error::Usage(format!(
                "no output `{wanted}`; the model gives {}",
                outputs.join(", ")
            )));
        }
    }
    let known = dimensions(graph);
    for name in request.dims.keys() {
        if !known.contains(name.as_str()) {
            let known: Vec<&str> = known.into_iter().collect();
            return Err(Error::Usage(format!("no dimension `{name}`; the model has {}", known.join(", "))));
        }
    }
    Ok(())
}

/// True for a name and for names of the parts of a structured value.
fn is_part(name: &str, whole: &str) -> bool {
    name.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Inputs with an initializer that are given a value all the same: they become inputs of the graph.
pub(crate) fn overridden(
    graph: Option<&GraphProto>,
    given: &BTreeMap<String, Tensor>,
) -> BTreeMap<String, (DType, Vec<usize>)> {
    let initializers = graph.map_or(&[][..], |g| &g.initializer);
    let defaults: BTreeSet<&str> = initializers.iter().map(|t| t.name.as_str()).collect();
    let given = given.iter().filter(|(n, _)| defaults.contains(n.as_str()));
    given.map(|(n, t)| (n.clone(), (t.dtype(), t.shape().to_vec()))).collect()
}

/// Names of dimensions of inputs.
fn dimensions(graph: &GraphProto) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for input in &graph.input {
        let Some(TypeValue::TensorType(t)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
            continue;
        };
        for d in t.shape.iter().flat_map(|s| &s.dim) {
            if let Some(DimValue::DimParam(name)) = &d.value {
                names.insert(name.as_str());
            }
        }
    }
    names
}

/// A fixed value as a fact.
fn describe(t: &Tensor) -> String {
    let numbers =
        if t.dtype().is_float() { format!("{:?}", t.to_f64_vec()) } else { format!("{:?}", t.to_i64_vec()) };
    format!("{}{:?} {numbers}", t.dtype(), t.shape())
}

/// Takes inputs away whose values were fixed when the model was imported, after making sure that they are the same.
pub fn without_static(
    facts: &[(String, String)],
    inputs: &mut BTreeMap<String, Tensor>,
) -> Result<(), Error> {
    for (key, value) in facts {
        let Some(name) = key.strip_prefix(STATIC) else { continue };
        if let Some(given) = inputs.remove(name) {
            let given = describe(&given);
            if given != *value {
                return Err(Error::Usage(format!(
                    "input `{name}` was fixed to {value} when the model was compiled, and is {given} now: compile \
                     again with --inputs"
                )));
            }
        }
    }
    Ok(())
}
