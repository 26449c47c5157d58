//! Reading config.json: the file, the keys that every class shares, and checks with errors that name the key.
//! The keys of one architecture are declared in its own file.

use crate::error::{ConfigError, FrontendError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::path::Path;

use super::weights::Folder;

/// Largest config.json that is read.
const MAX_BYTES: u64 = 64 << 20;
/// More heads or channels than any model has: a config beyond is damaged.
const MAX_COUNT: usize = 1 << 16;
/// More layers than any model has: building them would not end.
const MAX_LAYERS: usize = 1 << 10;

/// Keys of one architecture, with transformers' defaults for those that are missing.
pub trait ModelConfig: DeserializeOwned {
    /// Other names under which transformers' `attribute_map` takes a key: (alias, key).
    const ALIASES: &'static [(&'static str, &'static str)] = &[];

    /// Refuses values that no builder implements and that contradict each other.
    fn check(&self) -> Result<(), ConfigError>;
}

/// A JSON object of config.json: the file or a nested config.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    map: Map<String, Value>,
    place: String,
}

impl ConfigFile {
    /// Reads the folder's config.json.
    pub fn open(folder: &Path) -> Result<Self, FrontendError> {
        let folder_path = folder.to_path_buf();
        let folder = Folder::open(folder)?;
        if !folder.holds("config.json") {
            return Err(FrontendError::MissingFile { folder: folder_path, expected: "config.json" });
        }
        let bytes = folder.read("config.json", MAX_BYTES)?;
        let json = |message: String| FrontendError::Json { path: folder_path.join("config.json"), message };
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(map)) => Ok(ConfigFile { map, place: String::new() }),
            Ok(_) => Err(json("an object is expected".to_string())),
            Err(e) => Err(json(e.to_string())),
        }
    }

    /// A config from its JSON text, for tests.
    pub fn from_json(text: &str) -> Result<Self, FrontendError> {
        let message = |m: String| FrontendError::Json { path: "config.json".into(), message: m };
        match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Ok(ConfigFile { map, place: String::new() }),
            Ok(_) => Err(message("an object is expected".to_string())),
            Err(e) => Err(message(e.to_string())),
        }
    }

    /// The dotted key of this object; empty for the whole file.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// A key's value when it is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.map.get(key).and_then(Value::as_str)
    }

    /// The classes that `architectures` lists.
    pub fn architectures(&self) -> Vec<&str> {
        let list = self.map.get("architectures").and_then(Value::as_array);
        list.map(|l| l.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    }

    /// A nested config, such as `decoder`.
    pub fn nested(&self, key: &str) -> Result<ConfigFile, ConfigError> {
        let place = if self.place.is_empty() { key.to_string() } else { format!("{}.{key}", self.place) };
        match self.map.get(key) {
            Some(Value::Object(map)) => Ok(ConfigFile { map: map.clone(), place }),
            Some(_) => Err(ConfigError::invalid(place, "an object is expected")),
            None => Err(ConfigError::Missing { key: place, expected: "a nested configuration".to_string() }),
        }
    }

    /// The keys of an architecture, checked.
    pub fn parse<T: ModelConfig>(&self) -> Result<T, ConfigError> {
        let mut map = self.map.clone();
        for (alias, key) in T::ALIASES {
            if let Some(value) = map.remove(*alias) {
                map.insert((*key).to_string(), value);
            }
        }
        let config: T = self.read(map)?;
        config.check().map_err(|e| e.under(&self.place))?;
        Ok(config)
    }

    /// The keys that every class shares.
    pub fn common(&self) -> Result<Common, ConfigError> {
        let common: Common = self.read(self.map.clone())?;
        common.check().map_err(|e| e.under(&self.place))?;
        Ok(common)
    }

    fn read<T: DeserializeOwned>(&self, map: Map<String, Value>) -> Result<T, ConfigError> {
        serde_path_to_error::deserialize(Value::Object(map)).map_err(|e| {
            let key = e.path().to_string();
            ConfigError::invalid(key, e.inner()).under(&self.place)
        })
    }
}

/// Keys of transformers' PretrainedConfig that change what is computed or shown.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Common {
    /// Names of the labels by their number.
    pub id2label: Option<Map<String, Value>>,
    /// Number of labels where `id2label` is missing.
    pub num_labels: Option<usize>,
    /// How labels are to be understood: `regression`, `single_label_classification`, `multi_label_classification`.
    pub problem_type: Option<String>,
    /// True when `hidden_states` are given by default.
    pub output_hidden_states: bool,
    /// True when `attentions` are given by default.
    pub output_attentions: bool,
    /// True for causal models.
    pub is_decoder: bool,
    /// True when layers attend to an encoder's output.
    pub add_cross_attention: bool,
    /// Width of the encoder's output where it is not that of the decoder.
    pub cross_attention_hidden_size: Option<usize>,
    /// True when the output projection is the input embedding.
    pub tie_word_embeddings: bool,
    /// True when key and value states are given for the next step.
    pub use_cache: bool,
    /// Heads removed from layers.
    pub pruned_heads: Map<String, Value>,
    /// First token of a decoder.
    pub decoder_start_token_id: Option<i64>,
    /// Token of padding.
    pub pad_token_id: Option<i64>,
}

impl Default for Common {
    fn default() -> Self {
        Common {
            id2label: None,
            num_labels: None,
            problem_type: None,
            output_hidden_states: false,
            output_attentions: false,
            is_decoder: false,
            add_cross_attention: false,
            cross_attention_hidden_size: None,
            tie_word_embeddings: true,
            use_cache: true,
            pruned_heads: Map::new(),
            decoder_start_token_id: None,
            pad_token_id: None,
        }
    }
}

impl Common {
    /// Number of labels of a classification head.
    pub fn labels(&self) -> usize {
        self.id2label.as_ref().map_or(self.num_labels.unwrap_or(2), Map::len)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if !self.pruned_heads.is_empty() {
            return Err(ConfigError::unsupported("pruned_heads", "not empty", &["{}"]));
        }
        if let Some(kind) = &self.problem_type {
            let known = ["regression", "single_label_classification", "multi_label_classification"];
            one_of("problem_type", kind, &known)?;
        }
        Ok(())
    }
}

/// Refuses a text value outside a list.
pub fn one_of(key: &str, value: &str, supported: &[&str]) -> Result<(), ConfigError> {
    if supported.contains(&value) {
        return Ok(());
    }
    Err(ConfigError::unsupported(key, format!("\"{value}\""), supported))
}

/// Refuses zero and absurd counts.
pub fn counts(values: &[(&str, usize)]) -> Result<(), ConfigError> {
    for (key, value) in values {
        if *value == 0 || *value > MAX_COUNT {
            return Err(ConfigError::invalid(*key, format!("{value} is not between 1 and {MAX_COUNT}")));
        }
    }
    Ok(())
}

/// Refuses no layers and absurdly many.
pub fn layers(key: &str, value: usize) -> Result<(), ConfigError> {
    if value == 0 || value > MAX_LAYERS {
        return Err(ConfigError::invalid(key, format!("{value} is not between 1 and {MAX_LAYERS}")));
    }
    Ok(())
}

/// Refuses zero and absurd sizes of vocabularies and positions, which may be larger than counts.
pub fn sizes(values: &[(&str, usize)]) -> Result<(), ConfigError> {
    for (key, value) in values {
        if *value == 0 || *value > 1 << 28 {
            return Err(ConfigError::invalid(*key, format!("{value} is not between 1 and 2^28")));
        }
    }
    Ok(())
}

/// Refuses a width that heads do not divide.
pub fn heads_divide(width: (&str, usize), heads: (&str, usize)) -> Result<(), ConfigError> {
    if heads.1 == 0 || !width.1.is_multiple_of(heads.1) {
        let message = format!("{} is not a multiple of `{}` = {}", width.1, heads.0, heads.1);
        return Err(ConfigError::invalid(width.0, message));
    }
    Ok(())
}

/// One number for both axes, or height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Pair {
    /// Both axes alike.
    Square(usize),
    /// Height, width.
    Both(usize, usize),
}

impl Pair {
    /// Extent along y.
    pub fn height(self) -> usize {
        match self {
            Pair::Square(n) | Pair::Both(n, _) => n,
        }
    }

    /// Extent along x.
    pub fn width(self) -> usize {
        match self {
            Pair::Square(n) | Pair::Both(_, n) => n,
        }
    }
}
