//! CTC decoding by the rules of transformers' Wav2Vec2CTCTokenizer: from scores or ids a frame to text, with the
//! frames of its characters and words. Acoustic models, beam search and language models do not belong here.

use crate::assets::Assets;
use crate::doc::Doc;
use crate::error::{Error, Result};
use crate::tokenizer_config::{Role, TokenizerConfig, Vocabulary, clean_up};
use serde::Serialize;
use std::collections::HashMap;

/// A character or word and the frames it covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The character (or multi-character token), or the word.
    pub text: String,
    /// First frame.
    pub start: usize,
    /// Frame after the last one.
    pub end: usize,
}

/// A decoded row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Transcription {
    /// The whole text.
    pub text: String,
    /// Each character with its frames; blanks are left out, word delimiters are not.
    pub chars: Vec<Span>,
    /// Each word with its frames.
    pub words: Vec<Span>,
}

/// How to decode; the default is transformers' default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtcOptions {
    /// Drops special tokens before repeats are collapsed. This also drops the blank, so doubled letters merge, as they
    /// do in transformers.
    pub skip_special_tokens: bool,
    /// Keeps repeats (ids that were collapsed before).
    pub keep_repeats: bool,
}

/// The decoder of a CTC model's output.
#[derive(Clone, Debug)]
pub struct CtcDecoder {
    /// Token of each id.
    tokens: HashMap<u32, String>,
    special_ids: Vec<u32>,
    pad: Option<String>,
    unk: String,
    delimiter: Option<String>,
    replacement: String,
    lower: bool,
    clean_up: bool,
    /// Kernel and stride of each convolution between samples and frames, from config.json.
    convolutions: Option<Vec<(usize, usize)>>,
}

impl CtcDecoder {
    /// From vocab.json, tokenizer_config.json and their like. `language` picks one vocabulary of a nested vocab.json and
    /// overrides the key `target_lang`.
    pub fn from_assets(assets: &Assets, language: Option<&str>) -> Result<Self> {
        let config = TokenizerConfig::from_assets(assets)?;
        if !assets.contains("vocab.json") {
            return Err(Error::from(&config));
        }
        let doc = &config.doc;
        let language = match language {
            Some(l) => Some(l),
            None => doc.str("target_lang")?,
        };
        let vocab = read_vocab(assets.json("vocab.json")?, language)?;
        let mut ids: HashMap<String, u32> = HashMap::new();
        let mut tokens: HashMap<u32, String> = HashMap::new();
        for (token, id) in vocab {
            tokens.insert(id, token.clone());
            ids.insert(token, id);
        }
        for (id, token) in &config.added {
            tokens.insert(*id, token.content.clone());
            ids.insert(token.content.clone(), *id);
        }
        // Special tokens that the vocabulary lacks get the ids after it.
        let mut next = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let mut special_ids = Vec::new();
        for token in config.all_special() {
            let id = *ids.entry(token.content.clone()).or_insert_with(|| {
                tokens.insert(next, token.content.clone());
                next = next.saturating_add(1);
                next.saturating_sub(1)
            });
            special_ids.push(id);
        }
        let delimiter = match doc.get("word_delimiter_token") {
            Some(v) => Some(
                v.as_str()
                    .or_else(|| v.get("content").and_then(|c| c.as_str()))
                    .ok_or_else(|| doc.wrong("word_delimiter_token", "a token"))?
                    .to_owned(),
            ),
            None if doc.entries().any(|(k, _)| k == "word_delimiter_token") => None,
            None => Some("|".to_owned()),
        };
        let strides = assets.json("config.json")?;
        Ok(CtcDecoder {
            tokens,
            special_ids,
            pad: config.token(Role::Pad).map(str::to_owned),
            unk: config.token(Role::Unk).unwrap_or("<unk>").to_owned(),
            delimiter,
            replacement: doc.str("replace_word_delimiter_char")?.unwrap_or(" ").to_owned(),
            lower: doc.bool("do_lower_case")?.unwrap_or(false),
            clean_up: config.clean_up,
            convolutions: convolutions(&strides)?,
        })
    }

    /// Whether the files are those of a CTC model: its tokenizer class says so.
    pub fn is_ctc(config: &TokenizerConfig) -> bool {
        config.class.vocabulary == Vocabulary::Ctc
    }

    /// Decodes scores of shape `[frames, vocabulary]`, row-major: the best id of each frame, the lowest of equals.
    pub fn decode_scores(
        &self,
        scores: &[f32],
        vocabulary: usize,
        options: CtcOptions,
    ) -> Result<Transcription> {
        if vocabulary == 0 || !scores.len().is_multiple_of(vocabulary) {
            return Err(Error::Output {
                name: "logits".to_owned(),
                expected: "whole rows of scores".to_owned(),
                got: format!("{} scores in rows of {vocabulary}", scores.len()),
            });
        }
        let ids: Vec<u32> = scores.chunks_exact(vocabulary).map(best).collect();
        Ok(self.decode_ids(&ids, options))
    }

    /// Decodes one id a frame. An id without a token reads as the unknown token.
    pub fn decode_ids(&self, ids: &[u32], options: CtcOptions) -> Transcription {
        let frames = ids.iter().filter(|id| !(options.skip_special_tokens && self.special_ids.contains(id)));
        let mut chars: Vec<Span> = Vec::new();
        for (at, id) in frames.enumerate() {
            let token = self.tokens.get(id).unwrap_or(&self.unk);
            match chars.last_mut() {
                Some(last) if !options.keep_repeats && last.text == *token => last.end = at.saturating_add(1),
                _ => chars.push(Span { text: token.clone(), start: at, end: at.saturating_add(1) }),
            }
        }
        chars.retain(|c| Some(&c.text) != self.pad.as_ref());
        for c in &mut chars {
            if Some(&c.text) == self.delimiter.as_ref() {
                c.text.clone_from(&self.replacement);
            }
        }
        let joined: String = chars.iter().map(|c| c.text.as_str()).collect();
        let mut text = joined.trim().to_owned();
        if self.lower {
            text = text.to_lowercase();
        }
        if self.clean_up {
            text = clean_up(&text);
        }
        let words = self.words(&chars);
        Transcription { text, chars, words }
    }

    fn words(&self, chars: &[Span]) -> Vec<Span> {
        let mut words: Vec<Span> = Vec::new();
        let mut open = false;
        for c in chars {
            let space = c.text == self.replacement;
            match words.last_mut() {
                Some(word) if open && !space => {
                    word.text.push_str(&c.text);
                    word.end = c.end;
                }
                _ if !space => words.push(c.clone()),
                _ => {}
            }
            open = !space;
        }
        words
    }

    /// Frames that the model makes of so many samples, where config.json gives its convolutions.
    pub fn frames(&self, samples: usize) -> Option<usize> {
        self.convolutions.as_ref()?.iter().try_fold(samples, |n, &(kernel, stride)| {
            n.checked_sub(kernel)?.checked_div(stride)?.checked_add(1)
        })
    }

    /// Seconds that a frame count stands for, where config.json gives the model's convolutions.
    pub fn seconds(&self, frames: usize, sampling_rate: u32) -> Option<f64> {
        let hop =
            self.convolutions.as_ref()?.iter().try_fold(1usize, |n, &(_, stride)| n.checked_mul(stride))?;
        let samples = frames.checked_mul(hop)?;
        (sampling_rate > 0).then(|| samples as f64 / f64::from(sampling_rate))
    }
}

fn best(row: &[f32]) -> u32 {
    let mut best = (0usize, f32::NEG_INFINITY);
    for (i, &score) in row.iter().enumerate() {
        if score > best.1 {
            best = (i, score);
        }
    }
    u32::try_from(best.0).unwrap_or(u32::MAX)
}

fn read_vocab(doc: Doc, language: Option<&str>) -> Result<Vec<(String, u32)>> {
    let nested = doc.entries().any(|(_, v)| v.is_object());
    let doc = match language {
        Some(l) if doc.get(l).is_some_and(serde_json::Value::is_object) => doc.object(l)?,
        Some(l) if nested => {
            let known: Vec<&str> = doc.entries().map(|(k, _)| k).collect();
            return Err(Error::Input {
                what: "target_lang".to_owned(),
                expected: format!("one of {}", known.join(", ")),
                got: l.to_owned(),
            });
        }
        None if nested => {
            let known: Vec<&str> = doc.entries().map(|(k, _)| k).collect();
            return Err(Error::Input {
                what: "target_lang, which vocab.json with several languages needs".to_owned(),
                expected: format!("one of {}", known.join(", ")),
                got: "nothing".to_owned(),
            });
        }
        _ => doc,
    };
    let mut vocab = Vec::new();
    for (token, id) in doc.entries() {
        let id =
            id.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| doc.wrong(token, "a token id"))?;
        vocab.push((token.to_owned(), id));
    }
    Ok(vocab)
}

/// config.json's `conv_kernel` and `conv_stride`, with the defaults of wav2vec2; none for other models without them.
fn convolutions(config: &Doc) -> Result<Option<Vec<(usize, usize)>>> {
    const KERNELS: [usize; 7] = [10, 3, 3, 3, 3, 2, 2];
    const STRIDES: [usize; 7] = [5, 2, 2, 2, 2, 2, 2];
    let read = |key: &str, default: &[usize]| -> Result<Option<Vec<usize>>> {
        let wrong = || config.wrong(key, "a list of whole numbers from 1");
        let Some(list) = config.get(key) else {
            return Ok((config.str("model_type")? == Some("wav2vec2")).then(|| default.to_vec()));
        };
        let number =
            |v: &serde_json::Value| v.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
        list.as_array()
            .ok_or_else(wrong)?
            .iter()
            .map(|v| number(v).ok_or_else(wrong))
            .collect::<Result<_>>()
            .map(Some)
    };
    let (kernels, strides) = (read("conv_kernel", &KERNELS)?, read("conv_stride", &STRIDES)?);
    Ok(kernels.zip(strides).map(|(k, s)| k.into_iter().zip(s).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder(config: &str) -> CtcDecoder {
        let assets: Assets = [
            ("config.json", r#"{"model_type": "wav2vec2"}"#),
            ("tokenizer_config.json", config),
            ("vocab.json", r#"{"<pad>": 0, "|": 1, "A": 2, "B": 3, "<unk>": 4}"#),
        ]
        .into_iter()
        .map(|(n, t)| (n, t.as_bytes().to_vec()))
        .collect();
        CtcDecoder::from_assets(&assets, None).unwrap()
    }

    #[test]
    fn repeats_collapse_and_blanks_separate() {
        let d = decoder("{}");
        let out = d.decode_ids(&[1, 2, 2, 0, 2, 3, 1, 1, 3, 0, 1], CtcOptions::default());
        assert_eq!(out.text, "AAB B");
        let words: Vec<(&str, usize, usize)> =
            out.words.iter().map(|w| (w.text.as_str(), w.start, w.end)).collect();
        assert_eq!(words, [("AAB", 1, 6), ("B", 8, 9)]);
        assert_eq!(d.seconds(out.words[1].start, 16_000), Some(0.16));
        assert_eq!(d.frames(16_000), Some(49));
        assert_eq!(d.frames(9), None);
    }

    #[test]
    fn options_and_settings_are_heeded() {
        let d = decoder(r#"{"do_lower_case": true, "replace_word_delimiter_char": "-"}"#);
        assert_eq!(d.decode_ids(&[2, 1, 3, 9], CtcOptions::default()).text, "a-b<unk>");
        let skip = CtcOptions { skip_special_tokens: true, keep_repeats: false };
        assert_eq!(d.decode_ids(&[2, 0, 2, 4, 3], skip).text, "ab");
        let keep = CtcOptions { skip_special_tokens: false, keep_repeats: true };
        assert_eq!(d.decode_ids(&[2, 2, 0], keep).text, "aa");
        assert_eq!(d.decode_ids(&[], CtcOptions::default()), Transcription::default());
    }
}
