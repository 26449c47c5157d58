//! ONNX's layout of test data: a folder with input_N.pb and output_N.pb. Running and comparing do not belong here.

use crate::error::Error;
use frit_frontends::onnx::read::read_value;
use frit_frontends::onnx::schema::{GraphProto, ValueInfoProto};
use frit_frontends::onnx::{HostValue, OnnxModel};
use std::collections::BTreeSet;
use std::path::Path;

/// Values of inputs and what the outputs should be, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct DataSet {
    /// In the graph's order; optional ones that were left out are not there.
    pub inputs: Vec<(String, HostValue)>,
    /// In the graph's order.
    pub outputs: Vec<(String, HostValue)>,
}

impl DataSet {
    /// Reads a folder's files, input_0.pb and output_0.pb upwards, as the types of the model's graph say.
    pub fn read(model: &OnnxModel, folder: &Path) -> Result<Self, Error> {
        let Some(graph) = model.graph() else {
            return Err(Error::Data { path: folder.to_path_buf(), why: "the model has no graph".into() });
        };
        let given = count(folder, "input");
        let inputs = values(folder, "input", &feeds(graph, given))?;
        let outputs = values(folder, "output", &graph.output.iter().collect::<Vec<_>>())?;
        if outputs.is_empty() {
            return Err(Error::Data { path: folder.to_path_buf(), why: "holds no output_0.pb".into() });
        }
        Ok(DataSet { inputs, outputs })
    }
}

/// The inputs that `given` files are for: those without an initializer, or all if there are more files than those.
fn feeds(graph: &GraphProto, given: usize) -> Vec<&ValueInfoProto> {
    let dense = graph.initializer.iter().map(|t| t.name.as_str());
    let sparse = graph.sparse_initializer.iter().filter_map(|t| t.values.as_ref()).map(|v| v.name.as_str());
    let known: BTreeSet<&str> = dense.chain(sparse).collect();
    let free: Vec<_> = graph.input.iter().filter(|i| !known.contains(i.name.as_str())).collect();
    if given <= free.len() { free } else { graph.input.iter().collect() }
}

/// How many files of a kind are there, numbered from 0 without a gap.
fn count(folder: &Path, kind: &str) -> usize {
    (0..).take_while(|n| folder.join(format!("{kind}_{n}.pb")).is_file()).count()
}

fn values(folder: &Path, kind: &str, infos: &[&ValueInfoProto]) -> Result<Vec<(String, HostValue)>, Error> {
    let files = count(folder, kind);
    if files > infos.len() {
        let why = format!("holds {files} {kind}s, the graph has {}", infos.len());
        return Err(Error::Data { path: folder.to_path_buf(), why });
    }
    let read = |(n, info): (usize, &&ValueInfoProto)| {
        let path = folder.join(format!("{kind}_{n}.pb"));
        let bytes = std::fs::read(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        let value = read_value(bytes, info.r#type.as_ref(), &info.name)
            .map_err(|e| Error::Data { path, why: e.to_string() })?;
        Ok((info.name.clone(), value))
    };
    infos.iter().take(files).enumerate().map(read).collect()
}
