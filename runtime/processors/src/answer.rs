//! Answers: what a person or a program reads, as text and as JSON. How scores become answers does not belong here.

use crate::ctc::Span;
use crate::labels::Scored;
use serde::Serialize;
use std::fmt;

/// One answer, for one example of the batch.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Answer {
    /// The best labels, best first.
    Labels {
        /// Labels with probabilities.
        labels: Vec<Scored>,
    },
    /// The text of a sound.
    Transcription {
        /// The text.
        text: String,
        /// Its words with their times.
        words: Vec<TimedWord>,
    },
    /// A generated text.
    Text {
        /// The text.
        text: String,
    },
    /// What fits each gap of a text, best first.
    FilledMask {
        /// One list a gap.
        masks: Vec<Vec<Fill>>,
    },
    /// Parts of the context that answer the question, best first.
    Spans {
        /// The parts.
        spans: Vec<ContextSpan>,
    },
    /// The tokens that have a label other than `O`.
    Tokens {
        /// The tokens in the order of the text.
        tokens: Vec<TokenLabel>,
    },
    /// The best of several continuations.
    Choice {
        /// Number of the best one, from 0.
        choice: usize,
        /// Probability of each.
        probabilities: Vec<f32>,
    },
    /// Hidden states, in short.
    Features {
        /// Name of the output.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its first values.
        first: Vec<f32>,
        /// The mean of all values.
        mean: f64,
    },
}

/// A word and when it is heard.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimedWord {
    /// The word.
    pub word: String,
    /// First frame of the model's output.
    pub start_frame: usize,
    /// Frame after the last one.
    pub end_frame: usize,
    /// Start in seconds, where config.json gives the model's strides.
    pub start: Option<f64>,
    /// End in seconds.
    pub end: Option<f64>,
}

impl TimedWord {
    /// Frames with their times.
    pub fn new(span: Span, seconds: impl Fn(usize) -> Option<f64>) -> Self {
        TimedWord {
            start: seconds(span.start),
            end: seconds(span.end),
            word: span.text,
            start_frame: span.start,
            end_frame: span.end,
        }
    }
}

/// A token that fits a gap.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fill {
    /// Its probability.
    pub score: f32,
    /// Its id.
    pub token: u32,
    /// Its text.
    pub token_text: String,
    /// The whole text with the gap filled.
    pub sequence: String,
}

/// A part of the context.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ContextSpan {
    /// Probability of start times that of end.
    pub score: f32,
    /// First character, counted in characters.
    pub start: usize,
    /// Character after the last.
    pub end: usize,
    /// The part's text.
    pub answer: String,
}

/// A token with its label.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenLabel {
    /// The label.
    pub entity: String,
    /// Its probability.
    pub score: f32,
    /// Place of the token among the row's tokens.
    pub index: usize,
    /// The token.
    pub word: String,
    /// First character in the text, counted in characters.
    pub start: usize,
    /// Character after the last.
    pub end: usize,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Labels { labels } => {
                let width = labels.iter().map(|l| l.label.chars().count()).max().unwrap_or(0);
                lines(f, labels, |f, l| write!(f, "{:width$}  {:6.2} %", l.label, 100.0 * l.score))
            }
            Answer::Transcription { text, .. } | Answer::Text { text } => f.write_str(text),
            Answer::FilledMask { masks } => lines(f, masks, |f, fills| {
                lines(f, fills, |f, x| {
                    write!(f, "{:6.2} %  {:12}  {}", 100.0 * x.score, x.token_text, x.sequence)
                })
            }),
            Answer::Spans { spans } if spans.is_empty() => f.write_str("no answer found in the context"),
            Answer::Spans { spans } => lines(f, spans, |f, s| {
                write!(f, "{}  ({:.2} %, characters {} to {})", s.answer, 100.0 * s.score, s.start, s.end)
            }),
            Answer::Tokens { tokens } => {
                let width = tokens.iter().map(|t| t.word.chars().count()).max().unwrap_or(0);
                lines(f, tokens, |f, t| {
                    write!(f, "{:width$}  {}  {:.2} %", t.word, t.entity, 100.0 * t.score)
                })
            }
            Answer::Choice { choice, probabilities } => {
                write!(f, "choice {}", choice.saturating_add(1))?;
                for (i, p) in probabilities.iter().enumerate() {
                    write!(f, "{} {:.2} %", if i == 0 { ":" } else { "," }, 100.0 * p)?;
                }
                Ok(())
            }
            Answer::Features { name, shape, first, mean } => {
                write!(f, "{name} {shape:?}, mean {mean:.6}, starts with")?;
                first.iter().try_for_each(|x| write!(f, " {x:.5}"))
            }
        }
    }
}

fn lines<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    mut one: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str("\n")?;
        }
        one(f, item)?;
    }
    Ok(())
}
