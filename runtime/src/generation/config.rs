//! `GenerationConfig`: every generation setting with transformers' name and default, how it is read from
//! generation_config.json or config.json, and how a call's options are laid over it. Whether settings go
//! together is `validate.rs`'s business; what they do to scores is the processors' and warpers'.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::class_defaults;
use super::error::GenerateError;

/// When beam search stops looking for better hypotheses (`early_stopping`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EarlyStopping {
    /// As soon as there are `num_beams` complete hypotheses (`true`).
    Always,
    /// When the best running beam, at its present length, cannot beat the worst hypothesis (`false`).
    #[default]
    Heuristic,
    /// Only when no better hypothesis is possible at any length (`"never"`).
    Never,
}

impl Serialize for EarlyStopping {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            EarlyStopping::Always => serializer.serialize_bool(true),
            EarlyStopping::Heuristic => serializer.serialize_bool(false),
            EarlyStopping::Never => serializer.serialize_str("never"),
        }
    }
}

impl<'de> Deserialize<'de> for EarlyStopping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EarlyStopping, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(true) => Ok(EarlyStopping::Always),
            Value::Bool(false) => Ok(EarlyStopping::Heuristic),
            Value::String(text) if text == "never" => Ok(EarlyStopping::Never),
            _ => Err(serde::de::Error::custom("expected true, false or \"never\"")),
        }
    }
}

/// One token id or a list of them, as `eos_token_id` may be written.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<i64>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a token id or a list of token ids")]
    enum OneOrMany {
        One(i64),
        Many(Vec<i64>),
    }
    Ok(match Option::<OneOrMany>::deserialize(deserializer)? {
        None => None,
        Some(OneOrMany::One(id)) => Some(vec![id]),
        Some(OneOrMany::Many(ids)) => Some(ids).filter(|ids| !ids.is_empty()),
    })
}

/// The settings of a generation, with the names and defaults of transformers 4.37.2's `GenerationConfig`.
///
/// A setting that is `null` in JSON is off. Unknown settings are kept in [`GenerationConfig::extra`] and have
/// no effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationConfig {
    /// Greatest length of a sequence in tokens, the prompt included.
    pub max_length: usize,
    /// Greatest number of tokens to generate; takes precedence over `max_length`.
    pub max_new_tokens: Option<usize>,
    /// Least length in tokens, the prompt included, before end-of-sequence is allowed.
    pub min_length: usize,
    /// Least number of generated tokens before end-of-sequence is allowed.
    pub min_new_tokens: Option<usize>,
    /// When beam search stops.
    pub early_stopping: EarlyStopping,
    /// Seconds after which generation stops; the step under way is finished.
    pub max_time: Option<f64>,

    /// Sample instead of taking the best token.
    pub do_sample: bool,
    /// Number of beams; 1 is no beam search.
    pub num_beams: usize,
    /// Number of groups that the beams are divided into for diverse beam search.
    pub num_beam_groups: usize,
    /// Degeneration penalty of contrastive search, which is not supported.
    pub penalty_alpha: Option<f64>,

    /// Divides the scores before sampling.
    pub temperature: f64,
    /// Number of best tokens to sample from; 0 keeps all.
    pub top_k: usize,
    /// Samples from the smallest set of best tokens with this much probability; 1 keeps all.
    pub top_p: f64,
    /// Samples from the most typical tokens with this much probability; 1 keeps all.
    pub typical_p: f64,
    /// Least probability of a token to be sampled.
    pub epsilon_cutoff: f64,
    /// Least probability of a token to be sampled, relaxed where the entropy is high.
    pub eta_cutoff: f64,
    /// Taken off the score of a token for each beam of an earlier group that chose it at this step.
    pub diversity_penalty: f64,
    /// Divides positive and multiplies negative scores of tokens that are in the sequence already.
    pub repetition_penalty: f64,
    /// The inverse of `repetition_penalty`, for tokens of the encoder's input.
    pub encoder_repetition_penalty: f64,
    /// Exponent of the generated length that a beam's score is divided by.
    pub length_penalty: f64,
    /// Size of token sequences that may appear only once; 0 is off.
    pub no_repeat_ngram_size: usize,
    /// Size of token sequences of the encoder's input that may not appear; 0 is off.
    pub encoder_no_repeat_ngram_size: usize,
    /// Token sequences that may not be generated.
    pub bad_words_ids: Option<Vec<Vec<i64>>>,
    /// Token sequences that must be generated; not supported.
    pub force_words_ids: Option<Value>,
    /// Take the log-softmax again after all processors.
    pub renormalize_logits: bool,
    /// Constraints of constrained beam search; not supported.
    pub constraints: Option<Value>,
    /// First token after a prompt of one token.
    pub forced_bos_token_id: Option<i64>,
    /// Last token when `max_length` is reached: one id or several.
    #[serde(deserialize_with = "one_or_many")]
    pub forced_eos_token_id: Option<Vec<i64>>,
    /// Replace NaN by 0 and infinities by the greatest finite numbers.
    pub remove_invalid_values: bool,
    /// `(start, factor)`: from `start` generated tokens on, end-of-sequence becomes exponentially likelier.
    pub exponential_decay_length_penalty: Option<(i64, f64)>,
    /// Tokens that are never generated.
    pub suppress_tokens: Option<Vec<i64>>,
    /// Tokens that are not generated first.
    pub begin_suppress_tokens: Option<Vec<i64>>,
    /// Pairs of a sequence length and the token that must follow at that length.
    pub forced_decoder_ids: Option<Vec<(i64, Option<i64>)>>,
    /// Pairs of a token sequence and what is added to the score of completing it.
    pub sequence_bias: Option<Vec<(Vec<i64>, f64)>>,
    /// Classifier-free guidance; only 1 (off) is supported.
    pub guidance_scale: Option<f64>,
    /// Prompt lookup decoding, which is not supported.
    pub prompt_lookup_num_tokens: Option<Value>,

    /// Number of sequences to return for each prompt.
    pub num_return_sequences: usize,

    /// Fills rows that end early. Without it the first end-of-sequence token does.
    pub pad_token_id: Option<i64>,
    /// Begin of sequence: the prompt where there is no other.
    pub bos_token_id: Option<i64>,
    /// Ends a sequence: one id or several, none for no end.
    #[serde(deserialize_with = "one_or_many")]
    pub eos_token_id: Option<Vec<i64>>,
    /// First token of the decoder of an encoder-decoder model; `bos_token_id` where missing.
    pub decoder_start_token_id: Option<i64>,

    /// True in a file that transformers derived from config.json; then a changed config.json has the last word.
    #[serde(rename = "_from_model_config")]
    pub from_model_config: bool,
    /// Settings of the file that have no meaning here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Default for GenerationConfig {
    fn default() -> GenerationConfig {
        GenerationConfig {
            max_length: 20,
            max_new_tokens: None,
            min_length: 0,
            min_new_tokens: None,
            early_stopping: EarlyStopping::Heuristic,
            max_time: None,
            do_sample: false,
            num_beams: 1,
            num_beam_groups: 1,
            penalty_alpha: None,
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            typical_p: 1.0,
            epsilon_cutoff: 0.0,
            eta_cutoff: 0.0,
            diversity_penalty: 0.0,
            repetition_penalty: 1.0,
            encoder_repetition_penalty: 1.0,
            length_penalty: 1.0,
            no_repeat_ngram_size: 0,
            encoder_no_repeat_ngram_size: 0,
            bad_words_ids: None,
            force_words_ids: None,
            renormalize_logits: false,
            constraints: None,
            forced_bos_token_id: None,
            forced_eos_token_id: None,
            remove_invalid_values: false,
            exponential_decay_length_penalty: None,
            suppress_tokens: None,
            begin_suppress_tokens: None,
            forced_decoder_ids: None,
            sequence_bias: None,
            guidance_scale: None,
            prompt_lookup_num_tokens: None,
            num_return_sequences: 1,
            pad_token_id: None,
            bos_token_id: None,
            eos_token_id: None,
            decoder_start_token_id: None,
            from_model_config: false,
            extra: Map::new(),
        }
    }
}

/// The settings that config.json may hold too (transformers' `PretrainedConfig._get_generation_defaults`), but
/// for those without effect on the tokens.
const LEGACY: [&str; 23] = [
    "max_length",
    "min_length",
    "do_sample",
    "early_stopping",
    "num_beams",
    "num_beam_groups",
    "diversity_penalty",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "repetition_penalty",
    "length_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "bad_words_ids",
    "num_return_sequences",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "remove_invalid_values",
    "exponential_decay_length_penalty",
    "suppress_tokens",
    "begin_suppress_tokens",
];

impl GenerationConfig {
    /// The settings of a checkpoint, as `from_pretrained` and `generate` find them: generation_config.json where
    /// there is one, else config.json.
    ///
    /// A generation_config.json that was itself derived from config.json (`_from_model_config`) yields to a
    /// config.json that still sets generation parameters.
    ///
    /// # Errors
    /// A setting of the wrong type, or settings that are not a JSON object.
    pub fn load(
        generation_config: Option<&Value>,
        config: &Value,
    ) -> Result<GenerationConfig, GenerateError> {
        let Some(file) = generation_config else {
            return GenerationConfig::from_model_config(config);
        };
        let loaded = GenerationConfig::from_generation_config(file)?;
        let settled = loaded.from_model_config && sets_generation(config)?;
        if settled { GenerationConfig::from_model_config(config) } else { Ok(loaded) }
    }

    /// The settings of a generation_config.json.
    ///
    /// # Errors
    /// As [`GenerationConfig::load`].
    pub fn from_generation_config(file: &Value) -> Result<GenerationConfig, GenerateError> {
        let mut config = GenerationConfig::default();
        config.update(object(file, "generation_config.json")?)?;
        Ok(config)
    }

    /// The settings that a config.json implies: its own generation keys and token ids (a class's ids where it
    /// leaves them out), then those of its `decoder`, `generator` or `text_config` for what is still at its
    /// default.
    ///
    /// # Errors
    /// As [`GenerationConfig::load`].
    pub fn from_model_config(config: &Value) -> Result<GenerationConfig, GenerateError> {
        let own = object(config, "config.json")?;
        let mut settings = GenerationConfig::default();
        let model_type = model_type(own);
        settings.update(&settings_of(own, model_type))?;
        let default = GenerationConfig::default().to_map();
        let text_type = class_defaults::text_part(model_type);
        for (part, known_type) in [("decoder", None), ("generator", None), ("text_config", text_type)] {
            let none = Map::new();
            let part = match (own.get(part), known_type) {
                (Some(Value::Object(part)), _) => part,
                (_, Some(_)) => &none,
                (_, None) => continue,
            };
            let current = settings.to_map();
            let mut inherited = settings_of(part, known_type.unwrap_or_else(|| self::model_type(part)));
            inherited.retain(|key, _| current.get(key) == default.get(key));
            settings.update(&inherited)?;
        }
        settings.from_model_config = true;
        Ok(settings)
    }

    /// Lays options over the settings. `null` switches a setting off; a name that is no setting goes to
    /// [`GenerationConfig::extra`].
    ///
    /// # Errors
    /// [`GenerateError::Unreadable`] names the option that has the wrong type; the settings are unchanged then.
    pub fn update(&mut self, options: &Map<String, Value>) -> Result<(), GenerateError> {
        let mut merged = self.clone();
        // What is no setting is only kept: a file may hold any amount of it.
        let mut extra = std::mem::take(&mut merged.extra);
        let known = GenerationConfig::default().to_map();
        for (key, value) in options {
            if !known.contains_key(key) {
                extra.insert(key.clone(), value.clone());
                continue;
            }
            let mut map = merged.to_map();
            match value {
                // Without a limit: for top_k the default is one, for all other settings it is none.
                Value::Null if key == "top_k" => map.insert(key.clone(), Value::from(0)),
                Value::Null => map.shift_remove(key),
                value => map.insert(key.clone(), value.clone()),
            };
            merged =
                serde_json::from_value(Value::Object(map)).map_err(|error| GenerateError::Unreadable {
                    key: key.clone(),
                    found: value.to_string(),
                    reason: error.to_string(),
                })?;
        }
        extra.retain(|_, value| !value.is_null());
        merged.extra = extra;
        *self = merged;
        Ok(())
    }

    /// The settings as a JSON object, every setting present.
    pub fn to_map(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map,
            // Numbers that JSON cannot hold become null; nothing else can fail.
            _ => Map::new(),
        }
    }

    /// The end-of-sequence tokens, none for no end.
    pub fn eos(&self) -> &[i64] {
        self.eos_token_id.as_deref().unwrap_or_default()
    }

    /// What fills a row that has ended: `pad_token_id`, else the first end-of-sequence token.
    pub fn pad(&self) -> Option<i64> {
        self.pad_token_id.or_else(|| self.eos().first().copied())
    }

    /// The first token of a decoder: `decoder_start_token_id`, else `bos_token_id`.
    ///
    /// # Errors
    /// Where neither is set.
    pub fn decoder_start(&self) -> Result<i64, GenerateError> {
        self.decoder_start_token_id.or(self.bos_token_id).ok_or_else(|| {
            GenerateError::invalid(
                "decoder_start_token_id",
                Value::Null,
                "it or bos_token_id must be set for an encoder-decoder model",
            )
        })
    }

    /// The greatest length in tokens for a prompt of `prompt` tokens.
    pub fn total_length(&self, prompt: usize) -> usize {
        self.max_new_tokens.map_or(self.max_length, |new| prompt.saturating_add(new))
    }
}

fn object<'a>(value: &'a Value, what: &'static str) -> Result<&'a Map<String, Value>, GenerateError> {
    let not_an_object = || {
        let mut found = value.to_string();
        found.truncate(found.char_indices().nth(40).map_or(found.len(), |(at, _)| at));
        GenerateError::NotAnObject { what, found }
    };
    value.as_object().ok_or_else(not_an_object)
}

fn model_type(config: &Map<String, Value>) -> &str {
    config.get("model_type").and_then(Value::as_str).unwrap_or_default()
}

/// The generation settings in a model's configuration, with the token ids of its class where they are missing.
fn settings_of(config: &Map<String, Value>, model_type: &str) -> Map<String, Value> {
    let known = GenerationConfig::default().to_map();
    let keep = |(key, value): (&String, &Value)| {
        (known.contains_key(key) && !key.starts_with('_')).then(|| (key.clone(), value.clone()))
    };
    let mut settings: Map<String, Value> = config.iter().filter_map(keep).collect();
    for (key, id) in class_defaults::COLUMNS.iter().zip(class_defaults::token_ids(model_type)) {
        if let Some(id) = id {
            settings.entry(*key).or_insert_with(|| Value::from(id));
        }
    }
    settings
}

/// Whether a config.json sets a generation parameter to something else than its default.
fn sets_generation(config: &Value) -> Result<bool, GenerateError> {
    let config = object(config, "config.json")?;
    let mut own = settings_of(config, model_type(config));
    own.retain(|key, value| LEGACY.contains(&key.as_str()) && !value.is_null());
    let mut settings = GenerationConfig::default();
    settings.update(&own)?;
    Ok(settings != GenerationConfig::default())
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
