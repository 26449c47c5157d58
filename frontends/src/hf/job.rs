//! One build: a checkpoint, a request, the module that grows. What a class computes belongs into its own file.

use super::config::ConfigFile;
use super::cx::{Built, Call, Cx};
use super::registry::Class;
use super::request::Request;
use super::weights::Weights;
use crate::error::{FrontendError, RequestError};
use frit_ir::{Graph, GraphBuilder, Module};
use std::collections::BTreeSet;

/// Name of the entry that every class has.
pub const FORWARD: &str = "forward";

/// What the builder of a class works on.
pub struct Job<'j> {
    /// config.json.
    pub config: &'j ConfigFile,
    /// The class.
    pub class: &'static Class,
    /// What the caller asks.
    pub request: &'j Request,
    /// The checkpoint's weights as the class sees them.
    pub weights: Weights,
    default_inputs: &'j [String],
    module: Module,
    entries: Vec<&'static str>,
    dims: BTreeSet<String>,
}

impl<'j> Job<'j> {
    pub(super) fn new(
        config: &'j ConfigFile,
        class: &'static Class,
        request: &'j Request,
        weights: Weights,
        default_inputs: &'j [String],
    ) -> Self {
        Job {
            config,
            class,
            request,
            weights,
            default_inputs,
            module: Module::default(),
            entries: Vec::new(),
            dims: BTreeSet::new(),
        }
    }

    /// Builds the entry `forward` on the request's inputs and outputs.
    pub fn forward(&mut self, f: impl FnOnce(&mut Cx<'_, '_>, &Weights) -> Built<()>) -> Built<()> {
        let inputs = self.default_inputs.to_vec();
        self.entry(FORWARD, self.class.inputs, &inputs, true, f)
    }

    /// Builds another entry, with inputs of its own. Where the request names it, the request's inputs and outputs
    /// stand instead.
    pub fn extra(
        &mut self,
        name: &'static str,
        inputs: &[String],
        f: impl FnOnce(&mut Cx<'_, '_>, &Weights) -> Built<()>,
    ) -> Built<()> {
        let known: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.entry(name, &known, inputs, false, f)
    }

    fn entry(
        &mut self,
        name: &'static str,
        known: &[&str],
        usual: &[String],
        first: bool,
        f: impl FnOnce(&mut Cx<'_, '_>, &Weights) -> Built<()>,
    ) -> Built<()> {
        self.entries.push(name);
        if self.request.entry.as_deref().is_some_and(|wanted| wanted != name) {
            return Ok(());
        }
        let usual = usual.iter().map(|n| n.as_str().into()).collect();
        let named = first || self.request.entry.is_some();
        let call = Call {
            class: self.class.name.to_string(),
            inputs: self.request.signature.clone().filter(|_| named).unwrap_or(usual),
            select: self.request.select.clone().filter(|_| named),
            dims: self.request.dims.clone(),
        };
        let mut graph = Graph::new(name);
        let mut cx = Cx::new(GraphBuilder::new(&mut graph, &mut self.module.weights), &call);
        let built = f(&mut cx, &self.weights);
        cx.check_inputs(known)?;
        built?;
        self.dims.extend(cx.finish()?);
        // Candidates that nobody selected leave dead nodes.
        let graph = graph.compacted().map_err(|e| RequestError::Signature {
            class: self.class.name.to_string(),
            message: e.to_string(),
        })?;
        self.module.graphs.push(graph);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Built<Module> {
        if let Some(entry) = self.request.entry.as_ref().filter(|_| self.module.graphs.is_empty()) {
            return Err(FrontendError::Request(RequestError::UnknownEntry {
                class: self.class.name.to_string(),
                name: entry.clone(),
                known: self.entries.iter().map(ToString::to_string).collect(),
            }));
        }
        if let Some(name) = self.request.dims.keys().find(|d| !self.dims.contains(*d)) {
            return Err(FrontendError::Request(RequestError::UnknownDimension {
                class: self.class.name.to_string(),
                name: name.clone(),
                known: self.dims.into_iter().collect(),
            }));
        }
        if self.request.entry.as_deref().is_some_and(|e| e != FORWARD) {
            // One entry of several does not have all weights.
            self.weights.leave("");
        }
        self.weights.finish(self.class.ignorable)?;
        self.module.metadata.push(("class".to_string(), self.class.name.to_string()));
        self.module.metadata.push(("model_type".to_string(), self.class.model_type.to_string()));
        Ok(self.module)
    }
}
