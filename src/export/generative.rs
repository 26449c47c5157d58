//! Generative models in the layouts of Optimum and transformers.js: an encoder-decoder as encoder, decoder, decoder with
//! cache and both decoders in one; a decoder alone as one model with cache. What ops look like in ONNX does not belong
//! here.

use super::{Exporting, File, facts, write};
use crate::error::Error;
use crate::load::{self, InputSpec, LoadOptions};
use frit_frontends::onnx::export::{self as onnx, ExportOptions, Exported};
use frit_ir::Module;
use frit_processors::Assets;
use std::path::Path;

/// What there is to lay out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// For ORTModelForVision2Seq.
    EncoderDecoder,
    /// For ORTModelForCausalLM.
    Decoder,
}

/// The part that the caches are.
const CACHES: &str = "past_key_values";

/// How the class of a call is laid out; None: as one model. A call that says which part it wants gets that part.
pub(super) fn layout(path: &Path, options: &Exporting) -> Result<Option<Layout>, Error> {
    let l = &options.load;
    if load::Kind::of(path)? != load::Kind::Checkpoint
        || l.entry.is_some()
        || l.signature.is_some()
        || l.select.is_some()
    {
        return Ok(None);
    }
    let frontend = |source| Error::Frontend { path: path.to_path_buf(), source };
    let config = frit_frontends::hf::ConfigFile::open(path).map_err(frontend)?;
    let request = frit_frontends::hf::Request { head: l.head.clone(), ..Default::default() };
    let class = frit_frontends::hf::class_of(&config, &request).map_err(frontend)?;
    Ok(match class.name {
        "VisionEncoderDecoderModel" => Some(Layout::EncoderDecoder),
        "GPT2LMHeadModel" => Some(Layout::Decoder),
        _ => None,
    })
}

/// Writes the models of a layout into a folder.
pub(super) fn export(
    path: &Path,
    output: &Path,
    layout: Layout,
    options: &Exporting,
    assets: &Assets,
) -> Result<Vec<File>, Error> {
    let parts = Parts { path, options, assets };
    let mut files = Vec::new();
    let mut save = |name: &str, e: &Exported| -> Result<(), Error> {
        files.extend(write(e, &output.join(name), options.external)?);
        Ok(())
    };
    match layout {
        Layout::EncoderDecoder => {
            let encoder = parts.build(Some("encoder"), &["pixel_values"], &["last_hidden_state"])?;
            save("encoder_model.onnx", &parts.write(&encoder)?)?;
            let inputs = ["decoder_input_ids", "encoder_outputs.0"];
            let first = parts.build(None, &inputs, &["logits", CACHES])?;
            let caches = caches(&first);
            let all: Vec<&str> = inputs.into_iter().chain(caches.iter().map(String::as_str)).collect();
            let next = parts.build(None, &all, &["logits", CACHES])?;
            let (first, next) = (parts.write(&first)?, parts.write(&next)?);
            save("decoder_model.onnx", &first)?;
            save("decoder_with_past_model.onnx", &next)?;
            save("decoder_model_merged.onnx", &onnx::merge::merge(&first, &next)?)?;
        }
        Layout::Decoder => {
            let inputs = ["input_ids", "attention_mask", "position_ids"];
            let caches = caches(&parts.build(None, &inputs, &["logits", CACHES])?);
            let all: Vec<&str> = inputs.into_iter().chain(caches.iter().map(String::as_str)).collect();
            save("model.onnx", &parts.write(&parts.build(None, &all, &["logits", CACHES])?)?)?;
        }
    }
    Ok(files)
}

/// Names of the caches that a module's first graph gives.
fn caches(module: &Module) -> Vec<String> {
    let outputs = module.graphs.first().map(|g| g.outputs.as_slice()).unwrap_or_default();
    outputs.iter().filter(|o| o.name.starts_with(CACHES)).map(|o| o.name.clone()).collect()
}

struct Parts<'a> {
    path: &'a Path,
    options: &'a Exporting,
    assets: &'a Assets,
}

impl Parts<'_> {
    fn build(&self, entry: Option<&str>, inputs: &[&str], select: &[&str]) -> Result<Module, Error> {
        let part = LoadOptions {
            head: self.options.load.head.clone(),
            entry: Some(entry.unwrap_or("forward").to_owned()),
            signature: Some(inputs.iter().map(|n| InputSpec::from(*n)).collect()),
            select: Some(select.iter().map(|n| (*n).to_owned()).collect()),
            dims: self.options.load.dims.clone(),
            ..LoadOptions::default()
        };
        super::staged(self.path, &part, self.options)
    }

    /// The module in ONNX under the names that Optimum uses.
    fn write(&self, module: &Module) -> Result<Exported, Error> {
        let mut module = module.clone();
        for graph in &mut module.graphs {
            graph.states.clear();
            for input in &mut graph.inputs {
                input.name = public(&input.name, CACHES);
            }
            for output in &mut graph.outputs {
                output.name = public(&output.name, "present");
            }
        }
        let written = ExportOptions {
            opset: self.options.opset,
            entry: None,
            plain: self.options.plain,
            metadata: facts(self.assets),
        };
        Ok(onnx::export(&module, &written)?)
    }
}

/// Optimum's name for one of ours: members of caches are called `key` and `value`.
fn public(name: &str, caches: &str) -> String {
    match name {
        "decoder_input_ids" => return "input_ids".to_owned(),
        "encoder_outputs.0" => return "encoder_hidden_states".to_owned(),
        _ => {}
    }
    let member = name.strip_prefix(CACHES).and_then(|rest| rest.strip_prefix('.')?.split_once('.'));
    match member {
        Some((layer, "0")) => format!("{caches}.{layer}.key"),
        Some((layer, "1")) => format!("{caches}.{layer}.value"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::public;

    #[test]
    fn caches_have_keys_and_values() {
        assert_eq!(public("past_key_values.11.0", "present"), "present.11.key");
        assert_eq!(public("past_key_values.0.1", "past_key_values"), "past_key_values.0.value");
        assert_eq!(public("logits", "present"), "logits");
    }
}
