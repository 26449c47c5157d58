//! From a path to a model that runs: checkpoint folders and ONNX files are built, optimised and planned,
//! artifacts are mapped. What to do with the model does not belong here.

use crate::error::Error;
use frit_backend::{Precision, Target};
#[cfg(feature = "compile")]
use frit_ir::{Module, Tensor};
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
    /// Inputs like those to come, for ONNX models: what must be known when importing is taken from them.
    #[cfg(feature = "compile")]
    pub examples: BTreeMap<String, Tensor>,
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
    /// What is wrong with the model's file but does not matter.
    pub warnings: Vec<String>,
}

/// The fact that says how many bytes of constants an ONNX file stored.
const STORED: &str = "stored_bytes";

/// Memory that a run of an imported model may take besides what its weights and inputs stand for.
const BASE_MEMORY: usize = 64 << 20;
/// Work that any run of an imported model may do, and work for each byte of its inputs and of what its file stores:
/// some seconds' worth for a small file, and far more than any real model does for a large one.
const BASE_WORK: u64 = 1 << 26;
const WORK_PER_BYTE: u64 = 1 << 14;
/// Bytes of memory for each byte of input, and for each byte of weights.
const MEMORY_PER_INPUT: usize = 1024;
const MEMORY_PER_WEIGHT: usize = 16;
/// Iterations of all loops in one run.
const ITERATIONS: u64 = 200_000;

/// What a run may take. A file of strangers decides sizes and loops: a few bytes of it can ask for all memory, or
/// for ever. None: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory besides the weights.
    pub memory: Option<usize>,
    /// Iterations of all loops.
    pub iterations: Option<u64>,
    /// Operations, as [`frit_runtime::Session::set_work_limit`] counts them.
    pub work: Option<u64>,
}

impl Limits {
    /// The usual limits for a run on `input_bytes` of input: for models that came from ONNX files, in proportion to
    /// weights and inputs; none for those that frit's own builders made.
    pub fn usual(model: &Model, input_bytes: usize) -> Limits {
        if model.fact("format") != Some("onnx") {
            return Limits::default();
        }
        // Not the weights as they are now: folding makes large ones of small ones.
        let stored = model.fact(STORED).and_then(|n| n.parse().ok());
        let weights: usize = stored.unwrap_or_else(|| bytes_of(model.weights()));
        let memory = BASE_MEMORY
            .saturating_add(input_bytes.saturating_mul(MEMORY_PER_INPUT))
            .saturating_add(weights.saturating_mul(MEMORY_PER_WEIGHT));
        let bytes = u64::try_from(input_bytes.saturating_add(weights)).unwrap_or(u64::MAX);
        let work = BASE_WORK.saturating_add(bytes.saturating_mul(WORK_PER_BYTE));
        Limits { memory: Some(memory), iterations: Some(ITERATIONS), work: Some(work) }
    }

    /// These limits where they are set, else those of `other`.
    pub fn or(self, other: Limits) -> Limits {
        Limits {
            memory: self.memory.or(other.memory),
            iterations: self.iterations.or(other.iterations),
            work: self.work.or(other.work),
        }
    }

    /// Sets the limits of a session.
    pub fn apply(self, session: &mut frit_runtime::Session) {
        session.set_memory_limit(self.memory);
        session.set_iteration_limit(self.iterations);
        session.set_work_limit(self.work);
    }
}

/// Bytes of all weights.
fn bytes_of(weights: &frit_ir::WeightTable) -> usize {
    let size = |ty: &frit_ir::TensorType| {
        let n = ty.fixed_shape().and_then(|s| frit_ir::tensor::element_count(&s)).unwrap_or(0);
        n.saturating_mul(ty.dtype.size())
    };
    weights.iter().map(|(_, w)| size(&w.ty)).fold(0, usize::saturating_add)
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
        Kind::Artifact if options.backend == BackendKind::Tract => Err(Error::Usage(format!(
            "{} is compiled for kernels; tract takes the checkpoint or .onnx file it was compiled from",
            path.display()
        ))),
        Kind::Artifact => load_artifact(path, options),
        #[cfg(feature = "compile")]
        kind => {
            let (module, warnings) = build_warning(path, options)?;
            let folder = if kind == Kind::Onnx { folder_of(path) } else { path };
            let assets = Assets::from_folder(folder)?;
            let model = match options.backend {
                BackendKind::Tract => on_tract(&options.engine()?, module, options)?,
                _ => options.engine()?.model(optimise(module)?)?,
            };
            Ok(Loaded { model, assets, warnings })
        }
        #[cfg(not(feature = "compile"))]
        Kind::Checkpoint | Kind::Onnx => {
            Err(Error::Usage("this build runs compiled models only (feature `compile` is off)".into()))
        }
    }
}

/// The model with its entry point, the first without one named, run by tract.
#[cfg(feature = "tract")]
fn on_tract(engine: &Engine, module: Module, options: &LoadOptions) -> Result<Model, Error> {
    crate::tract::model(engine, module, options.entry.as_deref())
}

#[cfg(all(feature = "compile", not(feature = "tract")))]
fn on_tract(_: &Engine, _: Module, _: &LoadOptions) -> Result<Model, Error> {
    Err(no_tract())
}

#[cfg(not(feature = "tract"))]
fn no_tract() -> Error {
    Error::Usage(
        "this build has no backend `tract` (feature `tract` is off); it has cpu and reference".into(),
    )
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
    Ok(Loaded { model: loaded.model, assets, warnings: Vec::new() })
}

/// The folder that a file is in.
#[cfg(feature = "compile")]
fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Builds the module of a checkpoint or an ONNX file, not yet optimised.
#[cfg(feature = "compile")]
pub fn build(path: &Path, options: &LoadOptions) -> Result<Module, Error> {
    build_warning(path, options).map(|(module, _)| module)
}

#[cfg(feature = "compile")]
fn build_warning(path: &Path, options: &LoadOptions) -> Result<(Module, Vec<String>), Error> {
    match Kind::of(path)? {
        Kind::Onnx => import_onnx(path, options),
        Kind::Checkpoint => Ok((build_checkpoint(path, options)?, Vec::new())),
        Kind::Artifact => Err(Error::NoModel {
            path: path.to_path_buf(),
            why: "it is compiled already; expected a checkpoint folder or an .onnx file".into(),
        }),
    }
}

#[cfg(feature = "compile")]
fn import_onnx(path: &Path, options: &LoadOptions) -> Result<(Module, Vec<String>), Error> {
    use frit_frontends::onnx::{HostValue, OnnxModel, import::ImportRequest};
    if options.head.is_some() {
        return Err(Error::Usage("--head is for checkpoint folders: an .onnx file holds one graph".into()));
    }
    if let Some(entry) = options.entry.as_deref().filter(|e| *e != "forward") {
        return Err(Error::Usage(format!("no entry point `{entry}`; an .onnx file has `forward` alone")));
    }
    let model = OnnxModel::open(path).map_err(|source| Error::Onnx { path: path.to_path_buf(), source })?;
    let mut request =
        ImportRequest { dims: options.dims.clone(), select: options.select.clone(), ..Default::default() };
    let names: Vec<&str> = options.signature.iter().flatten().map(|s| s.name.as_str()).collect();
    crate::onnx::check_request(model.graph(), &request, &[])?;
    request.examples = crate::onnx::overridden(model.graph(), &options.examples);
    let examples = options.examples.iter().map(|(n, t)| (n.clone(), HostValue::from(t.clone()))).collect();
    let mut imported = crate::onnx::import(path, &model, request, &examples)?.imported;
    // What is wrong with the file comes before what is wrong with the call.
    crate::onnx::check_request(model.graph(), &ImportRequest::default(), &names)?;
    add_class(folder_of(path), &mut imported.module)?;
    Ok((imported.module, imported.warnings))
}

/// Takes the class from a config.json beside the file, for models whose metadata name none.
#[cfg(feature = "compile")]
fn add_class(folder: &Path, module: &mut Module) -> Result<(), Error> {
    let assets = Assets::from_folder(folder)?;
    let Some(config) = assets.get("config.json") else { return Ok(()) };
    let Ok(config) = serde_json::from_slice::<serde_json::Value>(config) else { return Ok(()) };
    let mut add = |key: &str, value: Option<&serde_json::Value>| {
        if let Some(value) = value.and_then(|v| v.as_str())
            && module.fact(key).is_none()
        {
            module.metadata.push((key.to_owned(), value.to_owned()));
        }
    };
    add("class", config.get("architectures").and_then(|a| a.get(0)));
    add("model_type", config.get("model_type"));
    Ok(())
}

#[cfg(feature = "compile")]
fn build_checkpoint(path: &Path, options: &LoadOptions) -> Result<Module, Error> {
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

/// How a module is optimised: what folding may add to a model from an ONNX file is in proportion to its constants.
#[cfg(feature = "compile")]
pub fn pass_options(module: &Module) -> frit_passes::Options {
    let mut options = frit_passes::Options::default();
    if module.fact("format") == Some("onnx") {
        let stored = module.fact(STORED).and_then(|n| n.parse().ok());
        let bytes = stored.unwrap_or_else(|| bytes_of(&module.weights));
        options.budget = frit_passes::Budget::in_proportion(bytes);
    }
    options
}

/// Runs every pass.
#[cfg(feature = "compile")]
pub fn optimise(mut module: Module) -> Result<Module, Error> {
    let options = pass_options(&module);
    frit_passes::optimise(&mut module, &options)?;
    Ok(module)
}
