//! Hugging Face checkpoint folders: config, weights, shared blocks and one builder file an architecture.
//! Nothing here knows ONNX files, kernels or the command line.

pub mod beit;
pub mod bert;
pub mod blocks;
pub mod config;
pub mod cx;
pub mod gpt2;
pub mod job;
pub mod registry;
pub mod request;
pub mod vision_encoder_decoder;
pub mod vit;
pub mod wav2vec2;
pub mod weights;

pub use config::ConfigFile;
pub use registry::{CLASSES, Class};
pub use request::{InputSpec, Request};

use crate::error::FrontendError;
use frit_ir::Module;
use job::Job;
use std::path::Path;
use weights::{Checkpoint, Folder, Weights};

/// Largest JSON file of a processor that is read.
const MAX_JSON: u64 = 16 << 20;

/// Builds the module of a checkpoint folder: config.json says the class unless the request does, the weights are
/// those of transformers' `from_pretrained` in f32.
///
/// # Errors
/// A missing or damaged file, a config value or class without a builder, weights that do not fit (all are listed),
/// a request for inputs or outputs that the class does not have.
pub fn build(folder: &Path, request: &Request) -> Result<Module, FrontendError> {
    let config = ConfigFile::open(folder)?;
    let class = class_of(&config, request)?;
    let weights = Weights::new(Checkpoint::open(folder)?, class.name, class.base_prefix, class.is_base);
    let inputs = usual_inputs(folder, class)?;
    let mut job = Job::new(&config, class, request, weights, &inputs);
    (class.build)(&mut job)?;
    job.finish()
}

/// The class that a request names, or else config.json: the first of `architectures`, or the base model of
/// `model_type`.
pub fn class_of(config: &ConfigFile, request: &Request) -> Result<&'static Class, FrontendError> {
    let unknown = |origin, found: &str| FrontendError::UnknownArchitecture {
        origin,
        found: found.to_string(),
        known: CLASSES.iter().map(|c| c.name).collect(),
    };
    if let Some(head) = &request.head {
        return registry::find(head).ok_or_else(|| unknown("the class", head));
    }
    let architectures = config.architectures();
    if let Some(first) = architectures.first() {
        return registry::find(first).ok_or_else(|| unknown("config.json's architecture", first));
    }
    match config.text("model_type") {
        Some(model_type) => {
            registry::base_of(model_type).ok_or_else(|| unknown("config.json's model_type", model_type))
        }
        None => Err(unknown("a config.json without `architectures` and", "`model_type`")),
    }
}

/// The inputs that the model's own processor makes.
fn usual_inputs(folder: &Path, class: &Class) -> Result<Vec<String>, FrontendError> {
    let read = |file: &str| -> Option<serde_json::Value> {
        let folder = Folder::open(folder).ok()?;
        serde_json::from_slice(&folder.read(file, MAX_JSON).ok()?).ok()
    };
    let mut inputs: Vec<String> = class.usual_inputs.iter().map(ToString::to_string).collect();
    // Tokenizers list what they make; feature extractors of sound say whether they make a mask.
    if let Some(names) =
        read("tokenizer_config.json").as_ref().and_then(|c| c.get("model_input_names")?.as_array())
    {
        let makes = |input: &String| names.iter().any(|n| n.as_str() == Some(input));
        inputs
            .retain(|input| !["attention_mask", "token_type_ids"].contains(&input.as_str()) || makes(input));
    }
    if class.usual_inputs.contains(&"input_values") {
        let makes_mask = read("preprocessor_config.json")
            .and_then(|c| c.get("return_attention_mask")?.as_bool())
            .unwrap_or(false);
        inputs.retain(|input| input != "attention_mask" || makes_mask);
    }
    Ok(inputs)
}
