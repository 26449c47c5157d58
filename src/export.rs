//! From a model's path to ONNX files: one file, or a folder as Optimum and transformers.js load it. What single ops look
//! like in ONNX belongs to the frontend.

use crate::error::Error;
use crate::load::{self, Kind, LoadOptions};
use frit_frontends::onnx::export::{self as onnx, ExportOptions, Exported, External};
use frit_ir::Module;
use frit_processors::Assets;
use std::path::{Path, PathBuf};

mod generative;

/// How far a graph is compiled before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Stage {
    /// As the frontend built it.
    #[default]
    Imported,
    /// After the passes; fused ops are written as their parts.
    Optimised,
}

/// What to export, and how.
#[derive(Clone, Debug)]
pub struct Exporting {
    /// The part of the model: class, entry, inputs, outputs, fixed dimensions.
    pub load: LoadOptions,
    /// Opset of ai.onnx.
    pub opset: u32,
    /// How far the graph is compiled.
    pub stage: Stage,
    /// Where weights go.
    pub external: External,
    /// Composite ops as their parts even where the opset has them.
    pub plain: bool,
}

impl Default for Exporting {
    fn default() -> Self {
        Exporting {
            load: LoadOptions::default(),
            opset: 17,
            stage: Stage::Imported,
            external: External::Auto,
            plain: false,
        }
    }
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// Writes the model at `path` as ONNX: to a file when `output` ends in `.onnx`, else into a folder, with the
/// configuration, tokenizer and preprocessor beside it. A generative model's folder holds its encoder and decoders.
///
/// # Errors
/// A compiled model, whose weights no longer are in the checkpoint's form; whatever building the model or writing ONNX
/// refuses.
pub fn export(path: &Path, output: &Path, options: &Exporting) -> Result<Vec<File>, Error> {
    if Kind::of(path)? == Kind::Artifact {
        return Err(Error::Usage(format!(
            "{} is compiled: its weights are packed for kernels. Export the checkpoint or .onnx file that it was \
             compiled from",
            path.display()
        )));
    }
    let assets = if Kind::of(path)? == Kind::Checkpoint { Assets::from_folder(path)? } else { Assets::new() };
    if output.extension().is_some_and(|e| e == "onnx") {
        let exported = one(path, &options.load, options, &assets)?;
        return write(&exported, output, options.external);
    }
    std::fs::create_dir_all(output).map_err(|source| Error::Io { path: output.to_path_buf(), source })?;
    let mut files = match generative::layout(path, options)? {
        Some(layout) => generative::export(path, output, layout, options, &assets)?,
        None => {
            let exported = one(path, &options.load, options, &assets)?;
            write(&exported, &output.join("model.onnx"), options.external)?
        }
    };
    for (name, bytes) in assets.iter() {
        let path = output.join(name);
        std::fs::write(&path, bytes).map_err(|source| Error::Io { path: path.clone(), source })?;
        files.push(File { path, bytes: bytes.len() as u64 });
    }
    Ok(files)
}

/// A module in memory as the bytes of an ONNX model.
///
/// # Errors
/// What ONNX cannot say, and models over protobuf's 2 GB.
pub fn to_bytes(module: &Module, options: &ExportOptions) -> Result<Vec<u8>, Error> {
    Ok(onnx::export(module, options)?.to_bytes()?)
}

/// Builds one part of a model and writes it in memory.
fn one(path: &Path, part: &LoadOptions, options: &Exporting, assets: &Assets) -> Result<Exported, Error> {
    let module = staged(path, part, options)?;
    let entry = part.entry.clone();
    let written =
        ExportOptions { opset: options.opset, entry, plain: options.plain, metadata: facts(assets) };
    Ok(onnx::export(&module, &written)?)
}

/// Builds one part of a model as far as asked for.
fn staged(path: &Path, part: &LoadOptions, options: &Exporting) -> Result<Module, Error> {
    let module = load::build(path, part)?;
    if options.stage == Stage::Optimised { load::optimise(module) } else { Ok(module) }
}

/// What the configuration says for those who use the model: its labels.
fn facts(assets: &Assets) -> Vec<(String, String)> {
    let config: Option<serde_json::Value> =
        assets.get("config.json").and_then(|bytes| serde_json::from_slice(bytes).ok());
    let labels = config.as_ref().and_then(|c| c.get("id2label"));
    labels.map(|l| ("id2label".to_owned(), l.to_string())).into_iter().collect()
}

fn write(exported: &Exported, path: &Path, external: External) -> Result<Vec<File>, Error> {
    let written = exported.write(path, external)?;
    let mut files = vec![File { path: path.to_path_buf(), bytes: written.model_bytes }];
    files.extend(written.external.map(|(path, bytes)| File { path, bytes }));
    Ok(files)
}
