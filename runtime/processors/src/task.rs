//! What a model class is for, and the raw input that goes with it. How input becomes tensors does not belong here.

use crate::assets::RawFile;
use serde::Serialize;

/// What a model's outputs answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Hidden states: a base model without a head.
    Features,
    /// One label, or several, for a whole text, sound or picture.
    Classification,
    /// A label for each token of a text.
    TokenClassification,
    /// The part of a context that answers a question.
    QuestionAnswering,
    /// The best of several continuations.
    MultipleChoice,
    /// The tokens in the gaps of a text.
    FillMask,
    /// The text of a sound, by CTC.
    SpeechRecognition,
    /// A text generated token by token, from a picture or from a text.
    Generation,
}

impl Task {
    /// The task of a class of transformers, by its name.
    pub fn of_class(class: &str) -> Task {
        const SUFFIXES: [(&str, Task); 13] = [
            ("ForSequenceClassification", Task::Classification),
            ("ForImageClassification", Task::Classification),
            ("ForAudioClassification", Task::Classification),
            ("ForTokenClassification", Task::TokenClassification),
            ("ForQuestionAnsweringSimple", Task::QuestionAnswering),
            ("ForQuestionAnswering", Task::QuestionAnswering),
            ("ForMultipleChoice", Task::MultipleChoice),
            ("ForMaskedLM", Task::FillMask),
            ("ForCTC", Task::SpeechRecognition),
            ("ForConditionalGeneration", Task::Generation),
            ("ForCausalLM", Task::Generation),
            ("LMHeadModel", Task::Generation),
            ("EncoderDecoderModel", Task::Generation),
        ];
        SUFFIXES.iter().find(|(suffix, _)| class.ends_with(suffix)).map_or(Task::Features, |(_, task)| *task)
    }

    /// The outputs of the model that the answer is made of; empty for [`Task::Features`], which shows them all.
    pub fn outputs(self) -> &'static [&'static str] {
        match self {
            Task::Features => &[],
            Task::QuestionAnswering => &["start_logits", "end_logits"],
            Task::Generation => &["sequences"],
            _ => &["logits"],
        }
    }

    /// What a person gives for it.
    pub fn takes(self) -> &'static str {
        match self {
            Task::QuestionAnswering => "a question and a context",
            Task::MultipleChoice => "a beginning and two continuations or more",
            Task::SpeechRecognition => "a sound",
            Task::FillMask => "a text with a mask token",
            Task::TokenClassification => "a text",
            Task::Features | Task::Classification | Task::Generation => "a text, a picture or a sound",
        }
    }
}

/// What a person gives a model, undecoded. Several of a kind make a batch, except where the task says otherwise
/// ([`Task::QuestionAnswering`], [`Task::MultipleChoice`]).
#[derive(Clone, Debug, Default)]
pub struct RawInput {
    /// Texts.
    pub texts: Vec<String>,
    /// PNG or JPEG files.
    pub images: Vec<RawFile>,
    /// Sound files.
    pub sounds: Vec<RawFile>,
}

impl RawInput {
    /// True when nothing is given.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.images.is_empty() && self.sounds.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_tell_their_task() {
        for (class, task) in [
            ("BertForMaskedLM", Task::FillMask),
            ("BertForQuestionAnswering", Task::QuestionAnswering),
            ("Wav2Vec2ForCTC", Task::SpeechRecognition),
            ("BeitForImageClassification", Task::Classification),
            ("VisionEncoderDecoderModel", Task::Generation),
            ("GPT2LMHeadModel", Task::Generation),
            ("BertModel", Task::Features),
        ] {
            assert_eq!(Task::of_class(class), task, "{class}");
        }
    }
}
