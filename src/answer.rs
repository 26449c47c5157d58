//! From raw input to an answer: processors around a session, generation where the model generates.
//! How text, sound and images become tensors is the processors' business.

use crate::error::Error;
use crate::generate::{self, Settings};
use crate::load::Loaded;
use frit_ir::Tensor;
use frit_processors::{Answer, Processor, RawFile, RawInput, Task};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// What a person asks of a model.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Texts.
    pub texts: Vec<String>,
    /// PNG or JPEG files.
    pub images: Vec<PathBuf>,
    /// WAV or FLAC files.
    pub sounds: Vec<PathBuf>,
    /// Candidates to list.
    pub top: usize,
    /// Entry point; None: the model's first.
    pub entry: Option<String>,
    /// Settings of generation, where the model generates.
    pub settings: Settings,
}

/// Answers, one for each example.
#[derive(Clone, Debug)]
pub struct Answers {
    /// What the model is for.
    pub task: Task,
    /// In the order of the examples.
    pub answers: Vec<Answer>,
}

impl Answers {
    /// One JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "task": self.task, "answers": self.answers })
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for a in &self.answers {
            writeln!(f, "{a}")?;
        }
        Ok(())
    }
}

/// The processors of a model's class.
pub fn processor(loaded: &Loaded) -> Result<Processor, Error> {
    let processor = Processor::from_assets(&loaded.assets)?;
    Ok(match loaded.model.fact("class") {
        Some(class) => processor.for_class(class),
        None => processor,
    })
}

/// Reads the files of a question.
pub fn raw_input(question: &Question) -> Result<RawInput, Error> {
    Ok(RawInput {
        texts: question.texts.clone(),
        images: question.images.iter().map(RawFile::read).collect::<Result<_, _>>()?,
        sounds: question.sounds.iter().map(RawFile::read).collect::<Result<_, _>>()?,
    })
}

/// Answers a question.
pub fn answer(loaded: &Loaded, question: &Question) -> Result<Answers, Error> {
    let processor = processor(loaded)?;
    let prepared = processor.prepare(&raw_input(question)?)?;
    let outputs = if processor.task == Task::Generation {
        let inputs: BTreeMap<String, Tensor> = prepared.inputs.iter().cloned().collect();
        generate::generate(loaded, &inputs, &question.settings)?.outputs
    } else {
        let first = loaded.model.entries().next().unwrap_or("forward").to_owned();
        let mut session = loaded.model.session(question.entry.as_deref().unwrap_or(&first))?;
        // An ONNX file has the inputs that its exporter left; a tokenizer may make more.
        let wanted = |name: &str| {
            loaded.model.fact("format") != Some("onnx")
                || session.graph().inputs.iter().any(|i| i.name == name)
        };
        let feed: Vec<(&str, &Tensor)> =
            prepared.inputs.iter().filter(|(n, _)| wanted(n)).map(|(n, t)| (n.as_str(), t)).collect();
        let bytes = feed.iter().map(|(_, t)| t.bytes().len()).sum();
        crate::load::Limits::usual(&loaded.model, bytes).apply(&mut session);
        let out = session.run(&feed)?;
        let names: Vec<String> = out.names().map(str::to_owned).collect();
        names.into_iter().map(|n| out.tensor(&n).map(|t| (n, t))).collect::<Result<Vec<_>, _>>()?
    };
    let answers = processor.answer(&prepared, &outputs, question.top.max(1))?;
    Ok(Answers { task: processor.task, answers })
}
