//! Text to token ids and back, as transformers' fast tokenizers do, on the crate tokenizers.
//! How files become a tokenizer is in `build`; what a model's scores mean does not belong here.

mod build;
mod encoding;

pub use encoding::{Encoding, TextBatch};

use crate::assets::Assets;
use crate::error::{Error, Result, walled};
use crate::tokenizer_config::{Role, TokenizerConfig, clean_up};
use tokenizers::{
    EncodeInput, Tokenizer as Inner, TruncationDirection, TruncationParams, TruncationStrategy,
};

/// A tokenizer with the settings of its model.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Inner,
    config: TokenizerConfig,
    /// The file, or files, it came from, for messages.
    source: &'static str,
    pad: Option<(u32, i64)>,
}

/// A text, or two that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input<'a> {
    /// The text, or the first one.
    pub text: &'a str,
    /// The second text.
    pub pair: Option<&'a str>,
}

impl<'a> From<&'a str> for Input<'a> {
    fn from(text: &'a str) -> Self {
        Input { text, pair: None }
    }
}

impl<'a> From<(&'a str, &'a str)> for Input<'a> {
    fn from((text, pair): (&'a str, &'a str)) -> Self {
        Input { text, pair: Some(pair) }
    }
}

impl Tokenizer {
    /// From tokenizer.json, or vocab.txt, or vocab.json with merges.txt, and the settings beside them.
    pub fn from_assets(assets: &Assets) -> Result<Self> {
        let config = TokenizerConfig::from_assets(assets)?;
        let (mut inner, source) = build::build(assets, &config)?;
        let pad_type = config.class.pad_type;
        let pad = config.token(Role::Pad).and_then(|t| inner.token_to_id(t)).map(|id| (id, pad_type));
        inner.with_padding(None);
        let mut tokenizer = Tokenizer { inner, config, source, pad };
        tokenizer.truncate_to(tokenizer.config.model_max_length)?;
        Ok(tokenizer)
    }

    /// The settings.
    pub fn config(&self) -> &TokenizerConfig {
        &self.config
    }

    /// Cuts encoded sequences, special tokens included, to this many tokens; `None` for no limit. The longer text of a
    /// pair is cut first.
    pub fn truncate_to(&mut self, tokens: Option<usize>) -> Result<()> {
        let parameters =
            tokens.map(|n| self.truncation(n, TruncationStrategy::LongestFirst, 0)).transpose()?;
        let source = self.source;
        self.inner.with_truncation(parameters).map_err(|e| failed(source, e))?;
        Ok(())
    }

    fn truncation(
        &self,
        tokens: usize,
        strategy: TruncationStrategy,
        stride: usize,
    ) -> Result<TruncationParams> {
        let added = self.added_tokens(strategy == TruncationStrategy::OnlySecond);
        if tokens <= added.saturating_add(stride) {
            return Err(Error::Input {
                what: "length limit in tokens".to_owned(),
                expected: format!("more than {}", added.saturating_add(stride)),
                got: tokens.to_string(),
            });
        }
        let direction =
            if self.config.truncate_left { TruncationDirection::Left } else { TruncationDirection::Right };
        Ok(TruncationParams { direction, max_length: tokens, strategy, stride })
    }

    /// Special tokens that encoding adds to a text or a pair.
    pub fn added_tokens(&self, pair: bool) -> usize {
        use tokenizers::PostProcessor;
        self.inner.get_post_processor().map_or(0, |p| p.added_tokens(pair))
    }

    /// Size of the vocabulary with added tokens.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Token of an id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Id of the special token of a role, where there is one.
    pub fn special_id(&self, role: Role) -> Option<u32> {
        self.config.token(role).and_then(|t| self.id(t))
    }

    /// Encodes one text or pair, with special tokens, cut to the model's limit.
    pub fn encode<'a>(&self, input: impl Into<Input<'a>>) -> Result<Encoding> {
        let all = encode_with(&self.inner, input.into(), self.source)?;
        Ok(Encoding::new(&all))
    }

    /// Encodes a pair whose second text may be long: it is cut into windows of `tokens` that overlap by `stride`
    /// tokens, each with the whole first text. The overlap shrinks where the first text leaves little room.
    ///
    /// The library can do this too, but since 0.23 it drops what lies beyond the first window before it cuts.
    pub fn encode_windows(&self, input: Input<'_>, tokens: usize, stride: usize) -> Result<Vec<Encoding>> {
        let mut inner = self.inner.clone();
        inner.with_truncation(None).map_err(|e| failed(self.source, e))?;
        let whole = Encoding::new(&encode_with(&inner, input, self.source)?);
        let second = whole.sequences.iter().filter(|s| **s == Some(1)).count();
        let around = whole.len().saturating_sub(second);
        let room = tokens.saturating_sub(around);
        if room == 0 {
            return Err(Error::Input {
                what: "first text".to_owned(),
                expected: format!("less than {} tokens", tokens.saturating_sub(self.added_tokens(true))),
                got: around.saturating_sub(self.added_tokens(true)).to_string(),
            });
        }
        let step = if stride < room { room - stride } else { room.div_ceil(2) };
        let start = whole.sequences.iter().position(|s| *s == Some(1)).unwrap_or(0);
        Ok(encoding::window_ranges(second, room, step, self.config.truncate_left)
            .into_iter()
            .map(|r| whole.keep(start..start.saturating_add(second), r.start + start..r.end + start))
            .collect())
    }

    /// Encodes a batch and pads it to its longest row.
    pub fn encode_batch<'a, I: Into<Input<'a>>>(
        &self,
        inputs: impl IntoIterator<Item = I>,
    ) -> Result<TextBatch> {
        let rows: Result<Vec<Encoding>> = inputs.into_iter().map(|i| self.encode(i)).collect();
        self.batch(rows?)
    }

    /// Pads rows to the longest and makes the tensors that the model takes: i64 `[batch, sequence]`.
    pub fn batch(&self, rows: Vec<Encoding>) -> Result<TextBatch> {
        encoding::batch(rows, &self.config, self.pad)
    }

    /// Text of token ids, as transformers' `decode`, with the model's setting for cleaning up spaces. Ids without a
    /// token are left out.
    pub fn decode(&self, ids: &[i64], skip_special_tokens: bool) -> Result<String> {
        let ids: Result<Vec<u32>> = ids
            .iter()
            .map(|&id| {
                u32::try_from(id).map_err(|_| Error::Input {
                    what: "token id".to_owned(),
                    expected: "a number from 0".to_owned(),
                    got: id.to_string(),
                })
            })
            .collect();
        let ids = ids?;
        let text = walled(|| self.inner.decode(&ids, skip_special_tokens))
            .unwrap_or_else(|| Err("the decoder failed".into()))
            .map_err(|e| failed(self.source, e))?;
        Ok(if self.config.clean_up { clean_up(&text) } else { text })
    }
}

fn failed(source: &str, message: impl std::fmt::Display) -> Error {
    Error::Tokenizer { file: source.to_owned(), message: message.to_string() }
}

fn encode_with(inner: &Inner, input: Input<'_>, source: &'static str) -> Result<tokenizers::Encoding> {
    let input: EncodeInput<'_> = match input.pair {
        Some(pair) => (input.text, pair).into(),
        None => input.text.into(),
    };
    walled(|| inner.encode_char_offsets(input, true))
        .ok_or_else(|| failed(source, "the encoder failed"))?
        .map_err(|e| failed(source, e))
}
