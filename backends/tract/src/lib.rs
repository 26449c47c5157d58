//! Runs whole models by tract: a model comes as the bytes of an ONNX file, and tract reads, types, optimises and runs it.
//! Writing those bytes is the ONNX exporter's business, choosing tract for a model the facade's.
//!
//! tract plans for fixed shapes, so there is one plan for every set of input shapes that occurs; the last few are kept.
//!
//! Without the feature `engine` the crate is empty.
#![cfg(feature = "engine")]

mod tensor;

use frit_backend::{Delegate, KernelError};
use frit_ir::Tensor;
use std::sync::{Arc, Mutex, PoisonError};
use tract_onnx::prelude::{
    Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable, TValue, TractError,
    TypedRunnableModel,
};

/// The opset that tract reads best.
pub const OPSET: u32 = 17;

/// Plans kept for shapes that occurred.
const PLANS: usize = 8;

/// Why tract does not run a model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// tract cannot read the model, or an op of it.
    #[error("tract cannot read the model: {0}")]
    Read(String),
    /// tract cannot type or optimise it for these shapes.
    #[error("tract cannot plan the model for {shapes}: {why}")]
    Plan {
        /// The inputs' shapes.
        shapes: String,
        /// What tract says.
        why: String,
    },
    /// tract failed at it.
    #[error("tract failed: {0}")]
    Run(String),
    /// An element type that tract has not.
    #[error("tract has no elements of type {0}")]
    DType(frit_ir::DType),
    /// An element type that frit has not.
    #[error("tract gives elements of type {0}")]
    Foreign(String),
    /// An input that the model has was not given.
    #[error("input `{0}` is missing")]
    Missing(String),
}

/// All that tract says, innermost last.
fn said(e: &TractError) -> String {
    format!("{e:#}")
}

/// Element type and shape of every input.
type Shapes = Vec<(frit_ir::DType, Vec<usize>)>;

/// A model as tract read it.
pub struct Tract {
    model: InferenceModel,
    inputs: Vec<String>,
    plans: Mutex<Vec<(Shapes, Arc<TypedRunnableModel>)>>,
}

impl Tract {
    /// Reads an ONNX model.
    ///
    /// # Errors
    /// Ops that tract does not have, or does not have like this.
    pub fn from_onnx(bytes: &[u8]) -> Result<Self, Error> {
        let read = |e: TractError| Error::Read(said(&e));
        let onnx = tract_onnx::onnx();
        let proto = onnx.proto_model_for_read(&mut &*bytes).map_err(read)?;
        // Inputs that no node reads are inputs nonetheless.
        let inputs = proto.graph.iter().flat_map(|g| &g.input).map(|i| i.name.clone()).collect();
        let model = onnx.model_for_proto_model(&proto).map_err(read)?;
        Ok(Tract { model, inputs, plans: Mutex::new(Vec::new()) })
    }

    /// Names of the inputs, in order.
    pub fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// Runs the model on tensors in the order of its inputs, and gives its outputs in order.
    ///
    /// # Errors
    /// Shapes for which tract makes no plan; whatever tract says when it runs.
    pub fn run(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, Error> {
        let plan = self.plan(inputs)?;
        let values =
            inputs.iter().map(|t| Ok(TValue::from(tensor::to_tract(t)?))).collect::<Result<_, Error>>()?;
        let results = plan.run(values).map_err(|e| Error::Run(said(&e)))?;
        results.iter().map(|v| tensor::from_tract(v)).collect()
    }

    fn plan(&self, inputs: &[&Tensor]) -> Result<Arc<TypedRunnableModel>, Error> {
        let shapes: Shapes = inputs.iter().map(|t| (t.dtype(), t.shape().to_vec())).collect();
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = plans.iter().position(|(s, _)| *s == shapes) {
            let hit = plans.remove(at);
            let plan = hit.1.clone();
            plans.push(hit);
            return Ok(plan);
        }
        let plan = self.make(&shapes)?;
        if plans.len() >= PLANS {
            plans.remove(0);
        }
        plans.push((shapes, plan.clone()));
        Ok(plan)
    }

    fn make(&self, shapes: &Shapes) -> Result<Arc<TypedRunnableModel>, Error> {
        let refused = |e: TractError| Error::Plan { shapes: format!("{shapes:?}"), why: said(&e) };
        let mut model = self.model.clone();
        for (n, (dtype, shape)) in shapes.iter().enumerate() {
            let fact = InferenceFact::dt_shape(tensor::datum_type(*dtype)?, shape.clone());
            model = model.with_input_fact(n, fact).map_err(refused)?;
        }
        model.into_optimized().and_then(IntoRunnable::into_runnable).map_err(refused)
    }
}

/// What tract's own decoder finds in a model's bytes, before any op is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The tool that wrote it.
    pub producer: String,
    /// The opset of ai.onnx.
    pub opset: i64,
    /// Ops of the nodes in order.
    pub nodes: Vec<String>,
    /// Names of the inputs.
    pub inputs: Vec<String>,
    /// Names and shapes of the initializers.
    pub initializers: Vec<(String, Vec<i64>)>,
}

/// Reads a model's messages with tract's decoder.
///
/// # Errors
/// Bytes that are no ModelProto.
pub fn summary(bytes: &[u8]) -> Result<Summary, Error> {
    let proto = tract_onnx::onnx().proto_model_for_read(&mut &*bytes).map_err(|e| Error::Read(said(&e)))?;
    let graph = proto.graph.unwrap_or_default();
    let opset = proto.opset_import.iter().find(|o| o.domain.is_empty()).map_or(0, |o| o.version);
    Ok(Summary {
        producer: proto.producer_name,
        opset,
        nodes: graph.node.into_iter().map(|n| n.op_type).collect(),
        inputs: graph.input.into_iter().map(|i| i.name).collect(),
        initializers: graph.initializer.into_iter().map(|t| (t.name, t.dims)).collect(),
    })
}

impl Delegate for Tract {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn run(&self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>, KernelError> {
        let data = |e: Error| KernelError::Data(e.to_string());
        let ordered = self
            .inputs
            .iter()
            .map(|name| {
                let found = inputs.iter().find(|(n, _)| n == name).map(|(_, t)| *t);
                found.ok_or_else(|| data(Error::Missing(name.clone())))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Tract::run(self, &ordered).map_err(data)
    }
}

#[cfg(test)]
mod tests;
