//! What the settings files say about a tokenizer: its class, special tokens, padding and limits, read with the
//! defaults and the order of precedence of transformers 4.37. Building a tokenizer does not belong here.

use crate::assets::Assets;
use crate::doc::Doc;
use crate::error::{Error, Result};
use Role::{Bos, Cls, Eos, Mask, Pad, Sep, Unk};
use serde_json::Value;

/// What a special token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Begin of a sequence.
    Bos,
    /// End of a sequence.
    Eos,
    /// Stands for what the vocabulary lacks.
    Unk,
    /// Stands between sequences.
    Sep,
    /// Fills up a batch's shorter rows; the blank of CTC.
    Pad,
    /// Stands for the whole sequence in classification.
    Cls,
    /// The gap that a masked language model fills.
    Mask,
}

impl Role {
    /// Every role, in transformers' order.
    pub const ALL: [Role; 7] = [Bos, Eos, Unk, Sep, Pad, Cls, Mask];

    /// The key of the settings files.
    pub fn key(self) -> &'static str {
        match self {
            Bos => "bos_token",
            Eos => "eos_token",
            Unk => "unk_token",
            Sep => "sep_token",
            Pad => "pad_token",
            Cls => "cls_token",
            Mask => "mask_token",
        }
    }
}

/// How a tokenizer is built when there is no tokenizer.json.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vocabulary {
    /// vocab.txt, BERT's WordPiece.
    WordPiece,
    /// vocab.json and merges.txt, GPT-2's byte-level BPE.
    ByteLevelBpe,
    /// vocab.json and merges.txt with RoBERTa's `<s> a </s></s> b </s>`.
    RobertaBpe,
    /// vocab.json of characters: CTC, no text goes in.
    Ctc,
    /// Only tokenizer.json.
    TokenizerJson,
}

/// A tokenizer class of transformers.
#[derive(Debug, PartialEq)]
pub struct Class {
    /// Name without the suffix `Fast`.
    pub name: &'static str,
    /// How it is built from a vocabulary.
    pub vocabulary: Vocabulary,
    /// `model_input_names`.
    pub inputs: &'static [&'static str],
    /// Defaults of the special tokens.
    pub special: &'static [(Role, &'static str)],
    /// Pads on the left by default.
    pub pad_left: bool,
    /// Token type of padding.
    pub pad_type: i64,
    /// Default of `clean_up_tokenization_spaces`.
    pub clean_up: bool,
}

const IDS_TYPES_MASK: &[&str] = &["input_ids", "token_type_ids", "attention_mask"];
const IDS_MASK: &[&str] = &["input_ids", "attention_mask"];
const BERT: &[(Role, &str)] =
    &[(Unk, "[UNK]"), (Sep, "[SEP]"), (Pad, "[PAD]"), (Cls, "[CLS]"), (Mask, "[MASK]")];
const GPT2: &[(Role, &str)] = &[(Bos, "<|endoftext|>"), (Eos, "<|endoftext|>"), (Unk, "<|endoftext|>")];
const ROBERTA: &[(Role, &str)] = &[
    (Bos, "<s>"),
    (Eos, "</s>"),
    (Unk, "<unk>"),
    (Sep, "</s>"),
    (Pad, "<pad>"),
    (Cls, "<s>"),
    (Mask, "<mask>"),
];
const ALBERT: &[(Role, &str)] = &[
    (Bos, "[CLS]"),
    (Eos, "[SEP]"),
    (Unk, "<unk>"),
    (Sep, "[SEP]"),
    (Pad, "<pad>"),
    (Cls, "[CLS]"),
    (Mask, "[MASK]"),
];
const XLNET: &[(Role, &str)] = &[
    (Bos, "<s>"),
    (Eos, "</s>"),
    (Unk, "<unk>"),
    (Sep, "<sep>"),
    (Pad, "<pad>"),
    (Cls, "<cls>"),
    (Mask, "<mask>"),
];
const CLIP: &[(Role, &str)] =
    &[(Bos, "<|startoftext|>"), (Eos, "<|endoftext|>"), (Unk, "<|endoftext|>"), (Pad, "<|endoftext|>")];
const LLAMA: &[(Role, &str)] = &[(Bos, "<s>"), (Eos, "</s>"), (Unk, "<unk>")];
const CTC: &[(Role, &str)] = &[(Bos, "<s>"), (Eos, "</s>"), (Unk, "<unk>"), (Pad, "<pad>")];

const fn class(
    name: &'static str,
    vocabulary: Vocabulary,
    inputs: &'static [&'static str],
    special: &'static [(Role, &'static str)],
) -> Class {
    Class { name, vocabulary, inputs, special, pad_left: false, pad_type: 0, clean_up: true }
}

/// The classes known by name; one line each. The last one stands for every other class.
pub const CLASSES: &[Class] = &[
    class("BertTokenizer", Vocabulary::WordPiece, IDS_TYPES_MASK, BERT),
    class("DistilBertTokenizer", Vocabulary::WordPiece, IDS_MASK, BERT),
    class("ElectraTokenizer", Vocabulary::WordPiece, IDS_TYPES_MASK, BERT),
    class("GPT2Tokenizer", Vocabulary::ByteLevelBpe, IDS_MASK, GPT2),
    class("RobertaTokenizer", Vocabulary::RobertaBpe, IDS_MASK, ROBERTA),
    class("BartTokenizer", Vocabulary::RobertaBpe, IDS_MASK, ROBERTA),
    class("XLMRobertaTokenizer", Vocabulary::TokenizerJson, IDS_MASK, ROBERTA),
    class("AlbertTokenizer", Vocabulary::TokenizerJson, IDS_TYPES_MASK, ALBERT),
    Class {
        pad_left: true,
        pad_type: 3,
        ..class("XLNetTokenizer", Vocabulary::TokenizerJson, IDS_TYPES_MASK, XLNET)
    },
    class("CLIPTokenizer", Vocabulary::TokenizerJson, IDS_MASK, CLIP),
    Class {
        pad_left: true,
        clean_up: false,
        ..class("LlamaTokenizer", Vocabulary::TokenizerJson, IDS_MASK, LLAMA)
    },
    class("Wav2Vec2CTCTokenizer", Vocabulary::Ctc, IDS_MASK, CTC),
    ANY_CLASS,
];

const ANY_CLASS: Class = class("PreTrainedTokenizer", Vocabulary::TokenizerJson, IDS_TYPES_MASK, &[]);

/// The tokenizer class of a `model_type` of config.json, where no file names the class.
const CLASS_OF_MODEL: &[(&str, &str)] = &[
    ("align", "BertTokenizer"),
    ("bert", "BertTokenizer"),
    ("blip", "BertTokenizer"),
    ("clip", "CLIPTokenizer"),
    ("distilbert", "DistilBertTokenizer"),
    ("electra", "ElectraTokenizer"),
    ("gpt2", "GPT2Tokenizer"),
    ("hubert", "Wav2Vec2CTCTokenizer"),
    ("llama", "LlamaTokenizer"),
    ("roberta", "RobertaTokenizer"),
    ("wav2vec2", "Wav2Vec2CTCTokenizer"),
    ("xlm-roberta", "XLMRobertaTokenizer"),
    ("xlm-roberta-xl", "XLMRobertaTokenizer"),
    ("xlnet", "XLNetTokenizer"),
    ("yoso", "AlbertTokenizer"),
];

fn find_class(name: &str) -> Option<&'static Class> {
    let name = name.strip_suffix("Fast").unwrap_or(name);
    CLASSES.iter().find(|c| c.name == name)
}

/// One added or special token with its matching rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSpec {
    /// The token's text.
    pub content: String,
    /// Takes the white space before it.
    pub lstrip: bool,
    /// Takes the white space after it.
    pub rstrip: bool,
    /// Matches only as a whole word.
    pub single_word: bool,
    /// Is matched in the normalised text.
    pub normalized: bool,
    /// Is left out of decoded text on request.
    pub special: bool,
}

impl TokenSpec {
    fn new(content: &str, special: bool) -> Self {
        let content = content.to_owned();
        TokenSpec { content, lstrip: false, rstrip: false, single_word: false, normalized: !special, special }
    }

    /// A string, or an object as transformers saves an `AddedToken`.
    fn from_value(value: &Value, special: Option<bool>) -> Option<Self> {
        if let Some(content) = value.as_str() {
            return Some(TokenSpec::new(content, special.unwrap_or(false)));
        }
        let flag = |key| value.get(key).and_then(Value::as_bool);
        let special = special.or_else(|| flag("special")).unwrap_or(false);
        Some(TokenSpec {
            content: value.get("content")?.as_str()?.to_owned(),
            lstrip: flag("lstrip").unwrap_or(false),
            rstrip: flag("rstrip").unwrap_or(false),
            single_word: flag("single_word").unwrap_or(false),
            normalized: flag("normalized").unwrap_or(!special),
            special,
        })
    }
}

/// The settings of a tokenizer, merged from its files.
#[derive(Clone, Debug)]
pub struct TokenizerConfig {
    /// Its class.
    pub class: &'static Class,
    /// Special tokens that are set, in the order of [`Role::ALL`].
    pub special: Vec<(Role, TokenSpec)>,
    /// Special tokens without a role.
    pub additional: Vec<TokenSpec>,
    /// Tokens added to the vocabulary, by id.
    pub added: Vec<(u32, TokenSpec)>,
    /// Longest sequence in tokens, if there is a limit.
    pub model_max_length: Option<usize>,
    /// Pads on the left.
    pub pad_left: bool,
    /// Cuts on the left.
    pub truncate_left: bool,
    /// Names of the inputs that the model takes.
    pub inputs: Vec<String>,
    /// Removes spaces before punctuation when decoding.
    pub clean_up: bool,
    /// tokenizer_config.json, for what single classes read.
    pub doc: Doc,
}

impl TokenizerConfig {
    /// Reads tokenizer_config.json, special_tokens_map.json, added_tokens.json and config.json, as far as present.
    pub fn from_assets(assets: &Assets) -> Result<Self> {
        let doc = assets.json("tokenizer_config.json")?;
        let class = choose_class(assets, &doc)?;
        let mut config = TokenizerConfig {
            class,
            special: Vec::new(),
            additional: Vec::new(),
            added: Vec::new(),
            model_max_length: doc
                .usize("model_max_length")?
                .or(doc.usize("max_len")?)
                .filter(|&n| (n as f64) < 1e18),
            pad_left: side(&doc, "padding_side")?.unwrap_or(class.pad_left),
            truncate_left: side(&doc, "truncation_side")?.unwrap_or(false),
            inputs: doc
                .strings("model_input_names")?
                .unwrap_or_else(|| class.inputs.iter().map(|&s| s.to_owned()).collect()),
            clean_up: doc.bool("clean_up_tokenization_spaces")?.unwrap_or(class.clean_up),
            doc,
        };
        config.read_tokens(assets)?;
        Ok(config)
    }

    /// The token of a role.
    pub fn token(&self, role: Role) -> Option<&str> {
        self.special.iter().find(|(r, _)| *r == role).map(|(_, t)| t.content.as_str())
    }

    /// Special tokens by role, then those without, each text once.
    pub fn all_special(&self) -> Vec<&TokenSpec> {
        let mut all: Vec<&TokenSpec> = Vec::new();
        for token in self.special.iter().map(|(_, t)| t).chain(&self.additional) {
            if !all.iter().any(|t| t.content == token.content) {
                all.push(token);
            }
        }
        all
    }

    fn read_tokens(&mut self, assets: &Assets) -> Result<()> {
        // A file with added_tokens_decoder is complete; otherwise the two older files count as well.
        let decoder = self.doc.get("added_tokens_decoder").is_some();
        let none = Doc::empty("special_tokens_map.json");
        let map = if decoder { none } else { assets.json("special_tokens_map.json")? };
        for role in Role::ALL {
            let key = role.key();
            let token = if map.entries().any(|(k, _)| k == key) {
                map.get(key)
                    .map(|v| TokenSpec::from_value(v, Some(true)).ok_or_else(|| map.wrong(key, TOKEN)))
            } else if self.doc.entries().any(|(k, _)| k == key) {
                self.doc
                    .get(key)
                    .map(|v| TokenSpec::from_value(v, Some(true)).ok_or_else(|| self.doc.wrong(key, TOKEN)))
            } else {
                self.class.special.iter().find(|(r, _)| *r == role).map(|(_, t)| Ok(TokenSpec::new(t, true)))
            };
            if let Some(token) = token.transpose()? {
                self.special.push((role, token));
            }
        }
        for doc in [&self.doc, &map] {
            let key = "additional_special_tokens";
            let Some(list) = doc.get(key) else { continue };
            for value in list.as_array().ok_or_else(|| doc.wrong(key, "a list of tokens"))? {
                let token = TokenSpec::from_value(value, Some(true))
                    .ok_or_else(|| doc.wrong(key, "a list of tokens"))?;
                if !self.additional.iter().any(|t| t.content == token.content) {
                    self.additional.push(token);
                }
            }
        }
        if decoder {
            let added = self.doc.object("added_tokens_decoder")?;
            for (id, value) in added.entries() {
                let number = id.parse().map_err(|_| added.wrong(id, "an id as the key"))?;
                let token = TokenSpec::from_value(value, None).ok_or_else(|| added.wrong(id, TOKEN))?;
                self.added.push((number, token));
            }
        } else {
            let added = assets.json("added_tokens.json")?;
            for (content, id) in added.entries() {
                let number = id.as_u64().and_then(|n| u32::try_from(n).ok());
                let special = self.all_special().iter().any(|t| t.content == content);
                let number = number.ok_or_else(|| added.wrong(content, "a token id"))?;
                self.added.push((number, TokenSpec::new(content, special)));
            }
        }
        self.added.sort_by_key(|(id, _)| *id);
        // Where a special token is also an added token, the added token's matching rules hold.
        for (_, token) in &mut self.special {
            if let Some((_, added)) = self.added.iter().find(|(_, t)| t.content == token.content) {
                *token = TokenSpec { special: true, ..added.clone() };
            }
        }
        Ok(())
    }
}

const TOKEN: &str = "a token (a string, or an object with the key content)";

fn side(doc: &Doc, key: &str) -> Result<Option<bool>> {
    match doc.str(key)? {
        None => Ok(None),
        Some("left") => Ok(Some(true)),
        Some("right") => Ok(Some(false)),
        Some(_) => Err(doc.wrong(key, "left or right")),
    }
}

/// The class that a file names, else the one of the model's type, else what the vocabulary files look like.
fn choose_class(assets: &Assets, doc: &Doc) -> Result<&'static Class> {
    let config = assets.json("config.json")?;
    let named = match doc.str("tokenizer_class")? {
        Some(name) => Some((doc, name)),
        None => config.str("tokenizer_class")?.map(|name| (&config, name)),
    };
    if let Some((file, name)) = named {
        return match find_class(name) {
            Some(class) => Ok(class),
            None if assets.contains("tokenizer.json") => Ok(&ANY_CLASS),
            None => {
                let known: Vec<&str> = CLASSES.iter().map(|c| c.name).collect();
                Err(file.unsupported(
                    "tokenizer_class",
                    format!("{}, and any class with tokenizer.json", known.join(", ")),
                ))
            }
        };
    }
    let decoder = config.object("decoder")?;
    for model_type in [config.str("model_type")?, decoder.str("model_type")?].into_iter().flatten() {
        if let Some((_, name)) = CLASS_OF_MODEL.iter().find(|(m, _)| *m == model_type) {
            return Ok(find_class(name).unwrap_or(&ANY_CLASS));
        }
    }
    let guess = if assets.contains("tokenizer.json") {
        None
    } else if assets.contains("vocab.txt") {
        find_class("BertTokenizer")
    } else if assets.contains("merges.txt") {
        find_class("GPT2Tokenizer")
    } else {
        None
    };
    Ok(guess.unwrap_or(&ANY_CLASS))
}

/// transformers' `clean_up_tokenization`: takes the space out before punctuation and English short forms.
pub fn clean_up(text: &str) -> String {
    const RULES: [(&str, &str); 10] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    RULES.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

impl From<&TokenizerConfig> for Error {
    /// The error for a tokenizer whose class cannot be built from the files that there are.
    fn from(config: &TokenizerConfig) -> Self {
        let files: &'static [&'static str] = match config.class.vocabulary {
            Vocabulary::WordPiece => &["tokenizer.json", "vocab.txt"],
            Vocabulary::ByteLevelBpe | Vocabulary::RobertaBpe => {
                &["tokenizer.json", "vocab.json with merges.txt"]
            }
            Vocabulary::Ctc => &["vocab.json"],
            Vocabulary::TokenizerJson => &["tokenizer.json"],
        };
        Error::Missing { what: "tokenizer", files }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_come_from_the_class_and_files_override_them() {
        let assets: Assets = [
            ("config.json", r#"{"model_type": "bert"}"#),
            (
                "special_tokens_map.json",
                r#"{"mask_token": {"content": "<m>", "lstrip": true}, "pad_token": null}"#,
            ),
            (
                "tokenizer_config.json",
                r#"{"model_max_length": 512, "mask_token": "[M]", "cls_token": "[C]"}"#,
            ),
        ]
        .into_iter()
        .map(|(n, t)| (n, t.as_bytes().to_vec()))
        .collect();
        let config = TokenizerConfig::from_assets(&assets).unwrap();
        assert_eq!(config.class.name, "BertTokenizer");
        assert_eq!(config.token(Mask), Some("<m>"));
        assert_eq!(config.token(Cls), Some("[C]"));
        assert_eq!(config.token(Sep), Some("[SEP]"));
        assert_eq!(config.token(Pad), None);
        assert_eq!(config.model_max_length, Some(512));
        assert!(config.special.iter().any(|(r, t)| *r == Mask && t.lstrip));
    }

    #[test]
    fn unknown_classes_without_tokenizer_json_are_refused() {
        let assets: Assets = [("tokenizer_config.json", br#"{"tokenizer_class": "SoupTokenizer"}"#.to_vec())]
            .into_iter()
            .collect();
        let error = TokenizerConfig::from_assets(&assets).unwrap_err();
        assert!(error.to_string().contains("SoupTokenizer"), "{error}");
    }

    #[test]
    fn clean_up_is_english() {
        assert_eq!(clean_up("Do n't say it 's , well . I 'm"), "Don't say it's, well. I'm");
    }
}
