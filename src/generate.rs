//! Generation on a loaded model: settings from its files and the call, prompts, the search, sequences as tensors.
//! How tokens are chosen is the runtime's `generation`; how the model steps is its `stepper`.

use crate::error::Error;
use crate::load::Loaded;
use frit_ir::Tensor;
use frit_runtime::generation::{
    EncoderTokens, GenerationConfig, Request, decoder_prompt, empty_prompt, generate as search,
};
use frit_runtime::stepper::{ENCODER, Stepper};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What the call asks for beyond the model's own settings.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Settings by their names in generation_config.json.
    pub options: Map<String, Value>,
    /// Seed of the draws.
    pub seed: Option<u64>,
}

/// A finished generation.
pub struct Generated {
    /// `sequences` i64 `[rows, tokens]`, and with beams `sequences_scores` f32 `[rows]`.
    pub outputs: Vec<(String, Tensor)>,
    /// Steps that the model ran.
    pub steps: usize,
}

/// The model's settings with the call's on top.
pub fn config(loaded: &Loaded, settings: &Settings) -> Result<GenerationConfig, Error> {
    let read = |name: &str| -> Result<Option<Value>, Error> {
        let bytes = loaded.assets.get(name);
        bytes.map(serde_json::from_slice).transpose().map_err(|e| Error::Usage(format!("{name}: {e}")))
    };
    let model = read("config.json")?.unwrap_or(Value::Object(Map::new()));
    let mut config = GenerationConfig::load(read("generation_config.json")?.as_ref(), &model)?;
    config.update(&settings.options)?;
    Ok(config)
}

fn rows(tensor: &Tensor) -> Vec<Vec<i64>> {
    let columns = tensor.shape().get(1).copied().unwrap_or(0).max(1);
    tensor.to_i64_vec().chunks(columns).map(<[i64]>::to_vec).collect()
}

/// Generates from the model's inputs by name.
pub fn generate(
    loaded: &Loaded,
    inputs: &BTreeMap<String, Tensor>,
    settings: &Settings,
) -> Result<Generated, Error> {
    let model = &loaded.model;
    if !Stepper::supports(model) {
        return Err(Error::Usage(format!(
            "{} does not generate; its entry points are {}",
            model.fact("class").unwrap_or("the model"),
            model.entries().collect::<Vec<_>>().join(", ")
        )));
    }
    let config = config(loaded, settings)?;
    let has_encoder = model.entries().any(|e| e == ENCODER);
    let mut inputs = inputs.clone();
    let given = if has_encoder {
        inputs.get("decoder_input_ids").map(rows)
    } else {
        inputs.get("input_ids").map(rows)
    };
    if !has_encoder
        && !inputs.contains_key("attention_mask")
        && let Some(prompt) = &given
    {
        let mask = frit_runtime::generation::attention_mask(&config, prompt);
        let shape = [prompt.len(), prompt.first().map_or(0, Vec::len)];
        inputs.insert("attention_mask".into(), Tensor::from_slice(&shape, &mask)?);
    }
    let mut stepper = Stepper::new(model, &inputs)?;
    let prompt = match (has_encoder, given) {
        (true, given) => decoder_prompt(&config, stepper.batch(), given.as_deref())?,
        (false, Some(given)) => given,
        (false, None) => empty_prompt(&config, stepper.batch())?,
    };
    let encoder = if has_encoder { EncoderTokens::None } else { EncoderTokens::Prompt };
    let request =
        Request { prompt: &prompt, encoder, seed: settings.seed, processors: vec![], on_tokens: None };
    let made = search(&mut stepper, &config, request)?;
    let shape = [made.sequences.len(), made.sequences.first().map_or(0, Vec::len)];
    let flat: Vec<i64> = made.sequences.into_iter().flatten().collect();
    let mut outputs = vec![("sequences".to_owned(), Tensor::from_slice(&shape, &flat)?)];
    if let Some(scores) = made.scores {
        outputs.push(("sequences_scores".to_owned(), Tensor::from_slice(&[scores.len()], &scores)?));
    }
    Ok(Generated { outputs, steps: made.steps })
}
