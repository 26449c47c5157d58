//! From a path to a model that runs: checkpoint folders and ONNX files are built, optimised and planned,
//! artifacts are mapped. What to do with the model does not belong here.

use crate::error::Error;
use frit_backend::{Precision, Target};
use frit_processors::Assets;
use frit_runtime::{BackendKind, Engine, EngineOptions, Model};
use std::collections::BTreeMap;
use std::path::Path;

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Hugging Face checkpoint folder.
    Checkpoint,
    /// An ONNX file.
    Onnx,
    /// A compiled model.
    Artifact,
}

impl Kind {
    /// Decides by what is there: a folder, a file's first bytes, its extension.
    pub fn of(path: &Path) -> Result<Kind, Error> {
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let meta = std::fs::metadata(path).map_err(io)?;
        if meta.is_dir() {
            return Ok(Kind::Checkpoint);
        }
        let no_model = |why: &str| Error::NoModel { path: path.to_path_buf(), why: why.to_owned() };
        if !meta.is_file() {
            return Err(no_model("expected a checkpoint folder, an .onnx file or a .frit file"));
        }
        match path.extension().and_then(|e| e.to_str()) {
            Some("onnx") => Ok(Kind::Onnx),
            Some("frit") => Ok(Kind::Artifact),
            _ if begins_like_artifact(path) => Ok(Kind::Artifact),
            _ => Err(no_model("expected a checkpoint folder, an .onnx file or a .frit file")),
        }
    }
}

fn begins_like_artifact(path: &Path) -> bool {
    use std::io::Read;
    let mut first = [0u8; 8];
    std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut first)).is_ok()
        && first == frit_runtime::artifact::MAGIC
}

/// An input that will be given.
#[cfg(feature = "compile")]
pub use frit_frontends::hf::InputSpec;

/// What to load, and for what.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Class of transformers; None: the one that config.json names.
    pub head: Option<String>,
    /// Entry point; None: all.
    pub entry: Option<String>,
    /// Inputs that will be given; None: those that the model's own processor makes.
    #[cfg(feature = "compile")]
    pub signature: Option<Vec<InputSpec>>,
    /// Outputs; None: transformers' default.
    pub select: Option<Vec<String>>,
    /// Fixed dimensions.
    pub dims: BTreeMap<String, usize>,
    /// Numbers that weights are kept in.
    pub precision: Precision,
    /// Instruction set to compile for; None: this machine's.
    pub target: Option<Target>,
    /// Threads; None: as many as the machine has.
    pub threads: Option<usize>,
    /// Backend.
    pub backend: BackendKind,
}

/// A model with its processor files.
pub struct Loaded {
    /// Ready to make sessions.
    pub model: Model,
    /// Tokenizer, preprocessing, labels, generation settings.
    pub assets: Assets,
}

impl LoadOptions {
    fn engine(&self) -> Result<Engine, Error> {
        Ok(Engine::new(EngineOptions {
            threads: self.threads,
            backend: self.backend,
            target: self.target,
            precision: self.precision,
        })?)
    }
}

/// Loads a model from any of its forms.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Loaded, Error> {
    match Kind::of(path)? {
        Kind::Artifact => load_artifact(path, options),
        #[cfg(feature = "compile")]
        Kind::Checkpoint => {
            let module = build(path, options)?;
            let assets = Assets::from_folder(path)?;
            let model = options.engine()?.model(optimise(module)?)?;
            Ok(Loaded { model, assets })
        }
        #[cfg(not(feature = "compile"))]
        Kind::Checkpoint => {
            Err(Error::Usage("this build runs compiled models only (feature `compile` is off)".into()))
        }
        Kind::Onnx => Err(onnx_later()),
    }
}

fn load_artifact(path: &Path, options: &LoadOptions) -> Result<Loaded, Error> {
    let loaded = frit_runtime::artifact::load(&options.engine()?, path)?;
    if let (Some(head), Some(class)) = (&options.head, loaded.model.fact("class"))
        && head != class
    {
        return Err(Error::Usage(format!("{} is compiled as {class}, not {head}", path.display())));
    }
    let mut assets = Assets::new();
    for (name, bytes) in &loaded.assets {
        assets.insert(name.clone(), bytes.bytes());
    }
    Ok(Loaded { model: loaded.model, assets })
}

fn onnx_later() -> Error {
    Error::Usage("ONNX files come with the ONNX issue; give a checkpoint folder or a .frit file".into())
}

/// Builds a checkpoint's module, not yet optimised.
#[cfg(feature = "compile")]
pub fn build(path: &Path, options: &LoadOptions) -> Result<frit_ir::Module, Error> {
    if Kind::of(path)? == Kind::Onnx {
        return Err(onnx_later());
    }
    let request = frit_frontends::hf::Request {
        head: options.head.clone(),
        entry: options.entry.clone(),
        signature: options.signature.clone(),
        select: options.select.clone(),
        dims: options.dims.clone(),
    };
    frit_frontends::hf::build(path, &request)
        .map_err(|source| Error::Frontend { path: path.to_path_buf(), source })
}

/// Runs every pass.
#[cfg(feature = "compile")]
pub fn optimise(mut module: frit_ir::Module) -> Result<frit_ir::Module, Error> {
    frit_passes::optimise(&mut module, &frit_passes::Options::default())?;
    Ok(module)
}
