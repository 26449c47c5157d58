//! All processors of one model behind one door: raw input to the model's inputs, the model's outputs to answers.
//! Each kind of input has its own module; nothing of it is done here.

use crate::answer::Answer;
use crate::assets::Assets;
use crate::ctc::CtcDecoder;
use crate::error::{Error, Result};
use crate::interpret;
use crate::labels::Labels;
use crate::task::{RawInput, Task};
use crate::tokenizer_config::TokenizerConfig;
use frit_ir::Tensor;

#[cfg(feature = "audio")]
use crate::audio::FeatureExtractor;
#[cfg(feature = "image")]
use crate::image::ImageProcessor;
#[cfg(feature = "text")]
use crate::text::{Encoding, Input, Tokenizer};

/// Tokens of a window over a long context, and their overlap, in question answering.
#[cfg(feature = "text")]
const WINDOW: (usize, usize) = (384, 128);

/// What a model needs around it, by the files beside its weights.
#[derive(Clone, Debug)]
pub struct Processor {
    /// What the model is for.
    pub task: Task,
    /// Names of its classes.
    pub labels: Labels,
    /// Turns text into ids and back.
    #[cfg(feature = "text")]
    pub tokenizer: Option<Tokenizer>,
    /// Turns sound into samples.
    #[cfg(feature = "audio")]
    pub audio: Option<FeatureExtractor>,
    /// Turns pictures into pixels.
    #[cfg(feature = "image")]
    pub image: Option<ImageProcessor>,
    /// Turns a CTC model's scores into text.
    pub ctc: Option<CtcDecoder>,
}

/// Inputs of the model for some raw input, and what the answer needs to know of it.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// Tensors by the names of transformers' `forward`.
    pub inputs: Vec<(String, Tensor)>,
    /// The encoded texts, in the order of the batch.
    #[cfg(feature = "text")]
    pub(crate) rows: Vec<Encoding>,
    /// Padding tokens before each row.
    #[cfg(feature = "text")]
    pub(crate) left_padding: Vec<usize>,
    /// The context of question answering.
    #[cfg(feature = "text")]
    pub(crate) context: String,
    /// Samples of each sound before padding.
    pub(crate) lengths: Vec<usize>,
}

impl Processor {
    /// Builds those processors that the files are there for. The task is that of config.json's `architectures`.
    pub fn from_assets(assets: &Assets) -> Result<Self> {
        let config = assets.json("config.json")?;
        let classes = config.strings("architectures")?.unwrap_or_default();
        let task = classes.first().map_or(Task::Features, |c| Task::of_class(c));
        let tokenizer_config = TokenizerConfig::from_assets(assets)?;
        let is_ctc = CtcDecoder::is_ctc(&tokenizer_config);
        #[cfg(feature = "text")]
        let has_text = ["tokenizer.json", "vocab.txt", "merges.txt"].iter().any(|f| assets.contains(f));
        Ok(Processor {
            task,
            labels: Labels::from_assets(assets)?,
            #[cfg(feature = "text")]
            tokenizer: if has_text && !is_ctc { Some(Tokenizer::from_assets(assets)?) } else { None },
            #[cfg(feature = "audio")]
            audio: FeatureExtractor::from_assets(assets)?,
            #[cfg(feature = "image")]
            image: ImageProcessor::from_assets(assets)?,
            ctc: if is_ctc && assets.contains("vocab.json") {
                Some(CtcDecoder::from_assets(assets, None)?)
            } else {
                None
            },
        })
    }

    /// The same processors for another head of the model, by its class name.
    pub fn for_class(mut self, class: &str) -> Self {
        self.task = Task::of_class(class);
        self
    }

    /// Makes the model's inputs. Fails when nothing is given, or something that the model has no processor for.
    pub fn prepare(&self, raw: &RawInput) -> Result<Prepared> {
        if raw.is_empty() {
            return Err(Error::Input {
                what: "input".to_owned(),
                expected: self.task.takes().to_owned(),
                got: "nothing".to_owned(),
            });
        }
        let mut prepared = Prepared::default();
        if !raw.texts.is_empty() {
            self.prepare_texts(&raw.texts, &mut prepared)?;
        }
        if !raw.images.is_empty() {
            self.prepare_images(raw, &mut prepared)?;
        }
        if !raw.sounds.is_empty() {
            self.prepare_sounds(raw, &mut prepared)?;
        }
        Ok(prepared)
    }

    /// Reads answers from the model's outputs, one an example; `k` is how many candidates each lists.
    pub fn answer(&self, prepared: &Prepared, outputs: &[(String, Tensor)], k: usize) -> Result<Vec<Answer>> {
        interpret::answers(self, prepared, outputs, k)
    }

    #[cfg(feature = "text")]
    fn prepare_texts(&self, texts: &[String], prepared: &mut Prepared) -> Result<()> {
        use crate::tokenizer_config::Role;
        let files = &["tokenizer.json", "vocab.txt", "vocab.json with merges.txt"];
        let tokenizer = self.tokenizer.as_ref().ok_or(Error::Missing { what: "tokenizer", files })?;
        let wrong = |got: String| Error::Input {
            what: "texts".to_owned(),
            expected: self.task.takes().to_owned(),
            got,
        };
        let batch = match (self.task, texts) {
            (Task::QuestionAnswering, [question, context]) => {
                let limit = tokenizer.config().model_max_length.unwrap_or(WINDOW.0).min(WINDOW.0);
                let stride = WINDOW.1.min(limit / 2);
                prepared.context.clone_from(context);
                let input = Input::from((question.as_str(), context.as_str()));
                tokenizer.batch(tokenizer.encode_windows(input, limit, stride)?)?
            }
            (Task::MultipleChoice, [beginning, choices @ ..]) if choices.len() > 1 => {
                let mut batch =
                    tokenizer.encode_batch(choices.iter().map(|c| (beginning.as_str(), c.as_str())))?;
                for (_, tensor) in &mut batch.tensors {
                    let mut shape = vec![1];
                    shape.extend_from_slice(tensor.shape());
                    *tensor = tensor.reshaped(&shape)?;
                }
                batch
            }
            (Task::QuestionAnswering | Task::MultipleChoice, _) => {
                return Err(wrong(format!("{} texts", texts.len())));
            }
            _ => tokenizer.encode_batch(texts.iter().map(String::as_str))?,
        };
        if self.task == Task::FillMask {
            let why = "filling a gap needs one";
            let mask = tokenizer.special_id(Role::Mask).ok_or(Error::NoToken { role: "mask_token", why })?;
            if batch.rows.iter().any(|r| !r.ids.contains(&mask)) {
                let token = tokenizer.config().token(Role::Mask).unwrap_or_default();
                return Err(wrong(format!("a text without {token}")));
            }
        }
        prepared.inputs.extend(batch.tensors);
        prepared.rows = batch.rows;
        prepared.left_padding = batch.left_padding;
        Ok(())
    }

    #[cfg(not(feature = "text"))]
    fn prepare_texts(&self, _: &[String], _: &mut Prepared) -> Result<()> {
        Err(Error::Missing { what: "tokenizer", files: &["the feature `text` of this build"] })
    }

    #[cfg(feature = "image")]
    fn prepare_images(&self, raw: &RawInput, prepared: &mut Prepared) -> Result<()> {
        let files = &["preprocessor_config.json for pictures"];
        let image = self.image.as_ref().ok_or(Error::Missing { what: "image processor", files })?;
        prepared.inputs.push(("pixel_values".to_owned(), image.from_files(&raw.images)?));
        Ok(())
    }

    #[cfg(not(feature = "image"))]
    fn prepare_images(&self, _: &RawInput, _: &mut Prepared) -> Result<()> {
        Err(Error::Missing { what: "image processor", files: &["the feature `image` of this build"] })
    }

    #[cfg(feature = "audio")]
    fn prepare_sounds(&self, raw: &RawInput, prepared: &mut Prepared) -> Result<()> {
        let files = &["preprocessor_config.json for sound"];
        let audio = self.audio.as_ref().ok_or(Error::Missing { what: "feature extractor", files })?;
        let batch = audio.from_files(&raw.sounds)?;
        prepared.inputs.push(("input_values".to_owned(), batch.input_values));
        if let Some(mask) = batch.attention_mask {
            prepared.inputs.push(("attention_mask".to_owned(), mask));
        }
        prepared.lengths = batch.lengths;
        Ok(())
    }

    #[cfg(not(feature = "audio"))]
    fn prepare_sounds(&self, _: &RawInput, _: &mut Prepared) -> Result<()> {
        Err(Error::Missing { what: "feature extractor", files: &["the feature `audio` of this build"] })
    }

    /// Samples a second of the sounds that the model takes.
    pub fn sampling_rate(&self) -> Option<u32> {
        #[cfg(feature = "audio")]
        return self.audio.as_ref().map(|a| a.sampling_rate);
        #[cfg(not(feature = "audio"))]
        None
    }
}
