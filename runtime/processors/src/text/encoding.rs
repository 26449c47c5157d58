//! Encoded texts as rows of ids with their places in the text, and as padded tensors.
//! Tokenization itself does not belong here.

use crate::error::{Error, Result};
use crate::tokenizer_config::TokenizerConfig;
use frit_ir::Tensor;
use std::ops::Range;

/// One encoded text or pair. All lists have an entry a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Token ids.
    pub ids: Vec<u32>,
    /// 0 in the first text, 1 in the second, as the model's template says.
    pub type_ids: Vec<u32>,
    /// The tokens' texts.
    pub tokens: Vec<String>,
    /// First character and the one after the last, counted in characters (Unicode scalar values) of the token's text;
    /// `(0, 0)` for special tokens.
    pub offsets: Vec<(usize, usize)>,
    /// Number of the word in its text; none for special tokens.
    pub words: Vec<Option<u32>>,
    /// 0 in the first text, 1 in the second, none for special tokens.
    pub sequences: Vec<Option<usize>>,
    /// Whether the token was added by the template.
    pub special: Vec<bool>,
}

impl Encoding {
    pub(super) fn new(from: &tokenizers::Encoding) -> Self {
        Encoding {
            ids: from.get_ids().to_vec(),
            type_ids: from.get_type_ids().to_vec(),
            tokens: from.get_tokens().to_vec(),
            offsets: from.get_offsets().to_vec(),
            words: from.get_word_ids().to_vec(),
            sequences: from.get_sequence_ids(),
            special: from.get_special_tokens_mask().iter().map(|&m| m != 0).collect(),
        }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// True without tokens.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Of the tokens in `range` only those in `kept`, and all others.
    pub(super) fn keep(&self, range: Range<usize>, kept: Range<usize>) -> Self {
        fn part<T: Clone>(all: &[T], range: &Range<usize>, kept: &Range<usize>) -> Vec<T> {
            let stays = |i: &usize| !range.contains(i) || kept.contains(i);
            all.iter().enumerate().filter(|(i, _)| stays(i)).map(|(_, x)| x.clone()).collect()
        }
        Encoding {
            ids: part(&self.ids, &range, &kept),
            type_ids: part(&self.type_ids, &range, &kept),
            tokens: part(&self.tokens, &range, &kept),
            offsets: part(&self.offsets, &range, &kept),
            words: part(&self.words, &range, &kept),
            sequences: part(&self.sequences, &range, &kept),
            special: part(&self.special, &range, &kept),
        }
    }

    /// Characters from the first token of the word that token `first` is in to the last token of the word that token
    /// `last` is in, within the text `sequence`. Tokens without a word give their own characters.
    pub fn word_span(&self, first: usize, last: usize, sequence: usize) -> Option<(usize, usize)> {
        let of_word = |token: usize| {
            let word = self.words.get(token).copied().flatten()?;
            let mut parts = (0..self.len()).filter(|&i| {
                self.sequences.get(i) == Some(&Some(sequence)) && self.words.get(i) == Some(&Some(word))
            });
            let start = parts.next()?;
            Some((start, parts.next_back().unwrap_or(start)))
        };
        let (start, end) = match (of_word(first), of_word(last)) {
            (Some((start, _)), Some((_, end))) => (start, end),
            _ => (first, last),
        };
        Some((self.offsets.get(start)?.0, self.offsets.get(end)?.1))
    }
}

/// Windows of at most `room` of `count` tokens, `step` apart; from the end backwards with `left`.
pub(super) fn window_ranges(count: usize, room: usize, step: usize, left: bool) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut done = 0usize;
    loop {
        let range = if left {
            let end = count.saturating_sub(done);
            end.saturating_sub(room)..end
        } else {
            done..done.saturating_add(room).min(count)
        };
        let last = if left { range.start == 0 } else { range.end == count };
        ranges.push(range);
        if last || step == 0 {
            return ranges;
        }
        done = done.saturating_add(step);
    }
}

/// A padded batch.
#[derive(Clone, Debug)]
pub struct TextBatch {
    /// The rows before padding.
    pub rows: Vec<Encoding>,
    /// Padding tokens before each row's first token; 0 with padding on the right.
    pub left_padding: Vec<usize>,
    /// The model's inputs by name (`input_ids`, `attention_mask`, `token_type_ids`), i64 `[batch, sequence]`.
    pub tensors: Vec<(String, Tensor)>,
}

impl TextBatch {
    /// A tensor by name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|(n, _)| n == name).map(|(_, t)| t)
    }
}

/// Pads `rows` to the longest. `pad` is id and token type of the padding.
pub(super) fn batch(
    rows: Vec<Encoding>,
    config: &TokenizerConfig,
    pad: Option<(u32, i64)>,
) -> Result<TextBatch> {
    let longest = rows.iter().map(Encoding::len).max().unwrap_or(0);
    if longest == 0 {
        return Err(Error::Input {
            what: "text".to_owned(),
            expected: "at least one token".to_owned(),
            got: "nothing".to_owned(),
        });
    }
    let ragged = rows.iter().any(|r| r.len() != longest);
    let (pad_id, pad_type) = match pad {
        Some(pad) => pad,
        None if ragged => {
            return Err(Error::NoToken { role: "pad_token", why: "texts of different lengths need padding" });
        }
        None => (0, 0),
    };
    let fill = |row: &[u32], padding: i64| -> Vec<i64> {
        let gap = std::iter::repeat_n(padding, longest.saturating_sub(row.len()));
        let values = row.iter().map(|&x| i64::from(x));
        if config.pad_left { gap.chain(values).collect() } else { values.chain(gap).collect() }
    };
    let shape = [rows.len(), longest];
    let mut tensors = Vec::new();
    for name in &config.inputs {
        let values: Vec<i64> = match name.as_str() {
            "input_ids" => rows.iter().flat_map(|r| fill(&r.ids, i64::from(pad_id))).collect(),
            "token_type_ids" => rows.iter().flat_map(|r| fill(&r.type_ids, pad_type)).collect(),
            "attention_mask" => rows.iter().flat_map(|r| fill(&vec![1; r.len()], 0)).collect(),
            // Classes name further inputs (of pictures, say) that a tokenizer does not make.
            _ => continue,
        };
        tensors.push((name.clone(), Tensor::from_slice(&shape, &values)?));
    }
    let left = |r: &Encoding| if config.pad_left { longest.saturating_sub(r.len()) } else { 0 };
    Ok(TextBatch { left_padding: rows.iter().map(left).collect(), rows, tensors })
}
