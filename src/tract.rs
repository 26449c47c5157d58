//! Backend tract: an entry point becomes ONNX in memory, which tract reads and runs. How ops are written belongs to the
//! exporter, how tensors reach tract to the crate `frit-tract`.

use crate::error::Error;
use crate::export::to_bytes;
use frit_backend::Delegate;
use frit_frontends::onnx::export::{ExportError, ExportOptions};
use frit_ir::Module;
use frit_runtime::{Engine, Model};
use frit_tract::{OPSET, Tract};
use std::collections::HashMap;
use std::sync::Arc;

/// A model of one entry point, the first without one named, that tract runs. Caches are plain inputs and outputs of it.
///
/// # Errors
/// Ops that ONNX or tract does not have.
pub fn model(engine: &Engine, mut module: Module, entry: Option<&str>) -> Result<Model, Error> {
    let known: Vec<String> = module.graphs.iter().map(|g| g.name.clone()).collect();
    let name = entry.map(str::to_owned).or_else(|| known.first().cloned()).unwrap_or_default();
    let graph = module.graphs.iter_mut().find(|g| g.name == name);
    let graph = graph.ok_or_else(|| ExportError::Entry { name: name.clone(), known })?;
    graph.states.clear();
    let options =
        ExportOptions { opset: OPSET, entry: Some(name.clone()), plain: true, ..ExportOptions::default() };
    let bytes = to_bytes(&module, &options)?;
    let delegate: Arc<dyn Delegate> = Arc::new(Tract::from_onnx(&bytes)?);
    // The graph stays for its interface; control flow's bodies for the plan.
    let bodies: Vec<String> = module.bodies().into_iter().map(str::to_owned).collect();
    module.graphs.retain(|g| g.name == name || bodies.contains(&g.name));
    Ok(engine.model_on(module, HashMap::from([(name, delegate)]))?)
}
