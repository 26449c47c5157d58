//! A model's outputs to answers, task by task, as transformers' pipelines do it.
//! Making the model's inputs does not belong here.

use crate::answer::{Answer, TimedWord};
use crate::ctc::CtcOptions;
use crate::error::{Error, Result};
use crate::labels::softmax;
use crate::processor::{Prepared, Processor};
use crate::task::Task;
use frit_ir::Tensor;

/// The model's outputs by name.
struct Outputs<'a>(&'a [(String, Tensor)]);

/// A tensor read as rows: `[outer, inner, last]`, where `inner` is 1 for matrices.
struct Rows {
    values: Vec<f32>,
    outer: usize,
    inner: usize,
    last: usize,
}

impl Rows {
    /// All values of one outer index.
    fn block(&self, i: usize) -> &[f32] {
        let size = self.inner.saturating_mul(self.last);
        let start = i.saturating_mul(size);
        self.values.get(start..start.saturating_add(size)).unwrap_or(&[])
    }

    /// The row at an outer and an inner index.
    fn row(&self, i: usize, j: usize) -> &[f32] {
        let start = j.saturating_mul(self.last);
        self.block(i).get(start..start.saturating_add(self.last)).unwrap_or(&[])
    }
}

impl Outputs<'_> {
    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, t)| t).ok_or_else(|| Error::Output {
            name: name.to_owned(),
            expected: "a tensor".to_owned(),
            got: format!("only {}", self.0.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(", ")),
        })
    }

    fn rows(&self, name: &str, rank: usize) -> Result<Rows> {
        let tensor = self.tensor(name)?;
        let (outer, inner, last) = match *tensor.shape() {
            [outer, last] if rank == 2 => (outer, 1, last),
            [outer, inner, last] if rank == 3 => (outer, inner, last),
            _ => {
                return Err(Error::Output {
                    name: name.to_owned(),
                    expected: format!("{rank} dimensions"),
                    got: format!("{:?}", tensor.shape()),
                });
            }
        };
        Ok(Rows { values: tensor.to_f32_vec(), outer, inner, last })
    }
}

pub(crate) fn answers(
    processor: &Processor,
    prepared: &Prepared,
    outputs: &[(String, Tensor)],
    k: usize,
) -> Result<Vec<Answer>> {
    let outputs = Outputs(outputs);
    match processor.task {
        Task::Features => Ok(outputs.0.iter().map(|(name, t)| features(name, t)).collect()),
        Task::Classification => {
            let rows = outputs.rows("logits", 2)?;
            Ok((0..rows.outer)
                .map(|i| Answer::Labels { labels: processor.labels.best(rows.row(i, 0), k) })
                .collect())
        }
        Task::MultipleChoice => {
            let rows = outputs.rows("logits", 2)?;
            Ok((0..rows.outer).map(|i| choice(rows.row(i, 0))).collect())
        }
        Task::SpeechRecognition => transcriptions(processor, prepared, &outputs),
        #[cfg(feature = "text")]
        Task::FillMask => text::fill_masks(processor, prepared, &outputs, k),
        #[cfg(feature = "text")]
        Task::TokenClassification => text::token_labels(processor, prepared, &outputs),
        #[cfg(feature = "text")]
        Task::QuestionAnswering => text::context_spans(processor, prepared, &outputs, k),
        #[cfg(feature = "text")]
        Task::Generation => text::generated(processor, &outputs),
        #[cfg(not(feature = "text"))]
        _ => Err(Error::Missing { what: "tokenizer", files: &["the feature `text` of this build"] }),
    }
}

fn features(name: &str, tensor: &Tensor) -> Answer {
    let values = tensor.to_f32_vec();
    let sum: f64 = values.iter().map(|&x| f64::from(x)).sum();
    Answer::Features {
        name: name.to_owned(),
        shape: tensor.shape().to_vec(),
        mean: sum / values.len().max(1) as f64,
        first: values.into_iter().take(8).collect(),
    }
}

fn choice(logits: &[f32]) -> Answer {
    let probabilities = softmax(logits);
    let choice = crate::labels::top_k(&probabilities, 1).first().map_or(0, |(i, _)| *i);
    Answer::Choice { choice, probabilities }
}

/// Decodes each sound's own frames; those of the padding of a batch are left out.
fn transcriptions(processor: &Processor, prepared: &Prepared, outputs: &Outputs<'_>) -> Result<Vec<Answer>> {
    let ctc =
        processor.ctc.as_ref().ok_or(Error::Missing { what: "CTC vocabulary", files: &["vocab.json"] })?;
    let rate = processor.sampling_rate().unwrap_or(0);
    let rows = outputs.rows("logits", 3)?;
    (0..rows.outer)
        .map(|i| {
            let own =
                prepared.lengths.get(i).and_then(|&n| ctc.frames(n)).unwrap_or(rows.inner).min(rows.inner);
            let scores = rows.block(i).get(..own.saturating_mul(rows.last)).unwrap_or(&[]);
            let out = ctc.decode_scores(scores, rows.last, CtcOptions::default())?;
            let words = out.words.into_iter().map(|w| TimedWord::new(w, |n| ctc.seconds(n, rate))).collect();
            Ok(Answer::Transcription { text: out.text, words })
        })
        .collect()
}

#[cfg(feature = "text")]
mod text {
    use super::{Outputs, Rows};
    use crate::answer::{Answer, ContextSpan, Fill, TokenLabel};
    use crate::error::{Error, Result};
    use crate::labels::{softmax, top_k};
    use crate::processor::{Prepared, Processor};
    use crate::spans::best_spans;
    use crate::text::{Encoding, Tokenizer};
    use crate::tokenizer_config::Role;

    /// Longest answer of question answering in tokens.
    const MAX_ANSWER: usize = 15;

    fn tokenizer(processor: &Processor) -> Result<&Tokenizer> {
        let files = &["tokenizer.json", "vocab.txt", "vocab.json with merges.txt"];
        processor.tokenizer.as_ref().ok_or(Error::Missing { what: "tokenizer", files })
    }

    /// The rows of text with the place of each row's first token, after a check that the output has as many.
    fn encoded<'a>(
        prepared: &'a Prepared,
        name: &str,
        outer: usize,
    ) -> Result<impl Iterator<Item = (usize, &'a Encoding, usize)> + use<'a>> {
        if prepared.rows.len() != outer {
            return Err(Error::Output {
                name: name.to_owned(),
                expected: format!("{} rows, as many as texts", prepared.rows.len()),
                got: outer.to_string(),
            });
        }
        let padding = prepared.left_padding.iter().copied().chain(std::iter::repeat(0));
        Ok(prepared.rows.iter().zip(padding).enumerate().map(|(i, (row, left))| (i, row, left)))
    }

    fn signed(ids: &[u32]) -> Vec<i64> {
        ids.iter().map(|&id| i64::from(id)).collect()
    }

    pub(super) fn fill_masks(
        processor: &Processor,
        prepared: &Prepared,
        outputs: &Outputs<'_>,
        k: usize,
    ) -> Result<Vec<Answer>> {
        let tokenizer = tokenizer(processor)?;
        let rows = outputs.rows("logits", 3)?;
        let mask = tokenizer.special_id(Role::Mask);
        encoded(prepared, "logits", rows.outer)?
            .map(|(i, row, left)| {
                let gaps: Vec<usize> = row
                    .ids
                    .iter()
                    .enumerate()
                    .filter(|(_, id)| Some(**id) == mask)
                    .map(|(at, _)| at)
                    .collect();
                let fills = |&at: &usize| -> Result<Vec<Fill>> {
                    let shares = softmax(rows.row(i, at.saturating_add(left)));
                    top_k(&shares, k)
                        .into_iter()
                        .map(|(token, score)| {
                            let token = u32::try_from(token).unwrap_or(u32::MAX);
                            let mut ids = signed(&row.ids);
                            if let Some(gap) = ids.get_mut(at) {
                                *gap = i64::from(token);
                            }
                            Ok(Fill {
                                score,
                                token,
                                token_text: tokenizer.decode(&[i64::from(token)], false)?,
                                sequence: tokenizer.decode(&ids, gaps.len() == 1)?,
                            })
                        })
                        .collect()
                };
                Ok(Answer::FilledMask { masks: gaps.iter().map(fills).collect::<Result<_>>()? })
            })
            .collect()
    }

    pub(super) fn token_labels(
        processor: &Processor,
        prepared: &Prepared,
        outputs: &Outputs<'_>,
    ) -> Result<Vec<Answer>> {
        let rows = outputs.rows("logits", 3)?;
        let one = |i: usize, row: &Encoding, left: usize| {
            let mut tokens = Vec::new();
            for (index, word) in row.tokens.iter().enumerate() {
                if row.special.get(index) != Some(&false) {
                    continue;
                }
                let shares = softmax(rows.row(i, index.saturating_add(left)));
                let Some(&(class, score)) = top_k(&shares, 1).first() else { continue };
                let entity = processor.labels.name(class);
                let (start, end) = row.offsets.get(index).copied().unwrap_or_default();
                if entity != "O" {
                    tokens.push(TokenLabel { entity, score, index, word: word.clone(), start, end });
                }
            }
            Answer::Tokens { tokens }
        };
        Ok(encoded(prepared, "logits", rows.outer)?.map(|(i, row, left)| one(i, row, left)).collect())
    }

    pub(super) fn context_spans(
        processor: &Processor,
        prepared: &Prepared,
        outputs: &Outputs<'_>,
        k: usize,
    ) -> Result<Vec<Answer>> {
        let tokenizer = tokenizer(processor)?;
        let (starts, ends) = (outputs.rows("start_logits", 2)?, outputs.rows("end_logits", 2)?);
        let cls = tokenizer.special_id(Role::Cls);
        let context: Vec<char> = prepared.context.chars().collect();
        let mut spans: Vec<ContextSpan> = Vec::new();
        for (i, row, left) in encoded(prepared, "start_logits", starts.outer)? {
            let own = |rows: &Rows| -> Vec<f32> {
                rows.row(i, 0).iter().skip(left).take(row.len()).copied().collect()
            };
            let in_context: Vec<bool> = row.sequences.iter().map(|&s| s == Some(1)).collect();
            let cls: Vec<usize> =
                (0..row.len()).filter(|&t| cls.is_some() && row.ids.get(t).copied() == cls).collect();
            for span in best_spans(&own(&starts), &own(&ends), &in_context, &cls, k.max(1), MAX_ANSWER) {
                let Some((start, end)) = row.word_span(span.first, span.last, 1) else { continue };
                let answer: String = context.iter().take(end).skip(start).collect();
                spans.push(ContextSpan { score: span.score, start, end, answer });
            }
        }
        spans.sort_by(|a, b| b.score.total_cmp(&a.score));
        spans.truncate(k.max(1));
        Ok(vec![Answer::Spans { spans }])
    }

    pub(super) fn generated(processor: &Processor, outputs: &Outputs<'_>) -> Result<Vec<Answer>> {
        let tokenizer = tokenizer(processor)?;
        let sequences = outputs.tensor("sequences")?;
        let length = sequences.shape().last().copied().unwrap_or(0).max(1);
        sequences
            .to_i64_vec()
            .chunks(length)
            .map(|ids| Ok(Answer::Text { text: tokenizer.decode(ids, true)?.trim().to_owned() }))
            .collect()
    }
}
