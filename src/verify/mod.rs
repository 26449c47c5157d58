//! Checking that a model gives the results that ONNX's test data expects of it.
//! Reading data is in `data`, comparing in `compare`; printing is the command line's business.

mod compare;
mod data;

pub use compare::{Difference, Tolerance, compare};
pub use data::DataSet;

use crate::error::Error;
use crate::load::optimise;
use frit_frontends::onnx::import::{Form, ImportRequest, flatten};
use frit_frontends::onnx::{HostValue, OnnxModel};
use frit_ir::Tensor;
use frit_runtime::{Engine, Model};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What came of one data set.
#[derive(Debug)]
pub struct Outcome {
    /// Its folder.
    pub folder: PathBuf,
    /// How many outputs were compared.
    pub outputs: usize,
    /// The largest absolute difference of floats, or why the data set does not match.
    pub result: Result<f64, Failure>,
}

/// Why a data set does not match.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A result is not the expected one.
    #[error(transparent)]
    Differs(#[from] Difference),
    /// There is no result.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// A model that is checked.
pub struct Verifier {
    path: PathBuf,
    model: OnnxModel,
    engine: Engine,
    tolerance: Tolerance,
    /// What the last data set was run with, when other values need no other import.
    reusable: Option<Ready>,
}

/// A model that is ready to run.
struct Ready {
    model: Model,
    outputs: Vec<(String, Form)>,
    /// True when the import depended on no values.
    general: bool,
}

impl Verifier {
    /// Opens a model.
    pub fn open(path: &Path, engine: Engine, tolerance: Tolerance) -> Result<Self, Error> {
        let model =
            OnnxModel::open(path).map_err(|source| Error::Onnx { path: path.to_path_buf(), source })?;
        Ok(Verifier { path: path.to_path_buf(), model, engine, tolerance, reusable: None })
    }

    /// Runs the model on a folder's inputs and compares with its outputs.
    pub fn check(&mut self, folder: &Path) -> Outcome {
        let mut outputs = 0;
        let result = self.check_set(folder, &mut outputs);
        Outcome { folder: folder.to_path_buf(), outputs, result }
    }

    fn check_set(&mut self, folder: &Path, compared: &mut usize) -> Result<f64, Failure> {
        let data = DataSet::read(&self.model, folder)?;
        let results = self.run(&data.inputs)?;
        let mut worst = 0.0f64;
        for (name, expected) in &data.outputs {
            let missing = || Difference::Type {
                name: name.clone(),
                expected: expected.to_string(),
                got: "missing".to_owned(),
            };
            let (_, got) = results.iter().find(|(n, _)| n == name).ok_or_else(missing)?;
            worst = worst.max(compare(name, expected, got, self.tolerance)?);
            *compared += 1;
        }
        Ok(worst)
    }

    /// The model's outputs for these inputs.
    pub fn run(&mut self, inputs: &[(String, HostValue)]) -> Result<Vec<(String, HostValue)>, Error> {
        let ready = match self.reusable.take() {
            Some(ready) => ready,
            None => self.prepare(inputs)?,
        };
        let results = ready.run(&self.path, inputs)?;
        if ready.general {
            self.reusable = Some(ready);
        }
        Ok(results)
    }

    fn prepare(&self, inputs: &[(String, HostValue)]) -> Result<Ready, Error> {
        let examples: BTreeMap<String, HostValue> = inputs.iter().cloned().collect();
        let tensors = inputs.iter().filter_map(|(n, v)| Some((n.clone(), v.tensor()?.clone()))).collect();
        let examples_of = crate::onnx::overridden(self.model.graph(), &tensors);
        let request = ImportRequest { examples: examples_of, ..ImportRequest::default() };
        let fitted = crate::onnx::import(&self.path, &self.model, request, &examples)?;
        let model = self.engine.model(optimise(fitted.imported.module)?)?;
        Ok(Ready { model, outputs: fitted.imported.outputs, general: fitted.general })
    }
}

impl Ready {
    fn run(&self, path: &Path, inputs: &[(String, HostValue)]) -> Result<Vec<(String, HostValue)>, Error> {
        let entry = self.model.entries().next().unwrap_or_default().to_owned();
        let mut session = self.model.session(&entry)?;
        // What was fixed when importing is no input any more.
        let names: BTreeSet<String> = session.graph().inputs.iter().map(|i| i.name.clone()).collect();
        let tensors: Vec<(String, Tensor)> =
            inputs.iter().flat_map(|(n, v)| flatten(n, v)).filter(|(n, _)| names.contains(n)).collect();
        let borrowed: Vec<(&str, &Tensor)> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let bytes = borrowed.iter().map(|(_, t)| t.bytes().len()).sum();
        crate::load::Limits::usual(&self.model, bytes).apply(&mut session);
        let results = session.run(&borrowed)?;
        let find = |name: &str| results.tensor(name).ok();
        self.outputs
            .iter()
            .map(|(name, form)| match form.value(&find) {
                Some(value) => Ok((name.clone(), value)),
                None => {
                    let why = format!("the run gave no output `{name}`");
                    Err(Error::Data { path: path.to_path_buf(), why })
                }
            })
            .collect()
    }
}
