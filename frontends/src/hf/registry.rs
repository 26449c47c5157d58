//! The table of classes: one line each. Help texts and docs/MODELS.md come from here; what a class computes belongs
//! into its own file.

use super::cx::Built;
use super::job::Job;
use super::{beit, bert, gpt2, vision_encoder_decoder as ved, vit, wav2vec2};

/// A class of transformers that can be built.
pub struct Class {
    /// Name, as `architectures` and `--head` have it.
    pub name: &'static str,
    /// `model_type` of its config.
    pub model_type: &'static str,
    /// transformers' `base_model_prefix`; empty for a class that is made of others.
    pub base_prefix: &'static str,
    /// True for the base model, whose weight names carry no prefix.
    pub is_base: bool,
    /// Inputs of `forward` in transformers' order; a tuple by its first member.
    pub inputs: &'static [&'static str],
    /// Inputs that the model's own processor makes, where the folder says nothing else.
    pub usual_inputs: &'static [&'static str],
    /// Weights that its checkpoints may hold without its using them.
    pub ignorable: &'static [&'static str],
    /// Builds it.
    pub build: fn(&mut Job<'_>) -> Built<()>,
}

const TEXT: &[&str] = &["input_ids", "attention_mask", "token_type_ids"];

const IMAGE: &[&str] = &["pixel_values"];

const SOUND: &[&str] = &["input_values", "attention_mask"];
const CAUSAL: &[&str] = &["input_ids", "attention_mask"];
const CAPTION: &[&str] = &["pixel_values", "decoder_input_ids"];

macro_rules! classes {
    ($( $name:ident: $model_type:literal, $prefix:literal, $base:literal, $inputs:expr, $usual:expr, $ignorable:expr, $build:path; )*) => {
        /// Every class that can be built.
        pub static CLASSES: &[Class] = &[$( Class {
            name: stringify!($name),
            model_type: $model_type,
            base_prefix: $prefix,
            is_base: $base,
            inputs: $inputs,
            usual_inputs: $usual,
            ignorable: $ignorable,
            build: $build,
        } ),*];
    };
}

classes! {
    BertModel: "bert", "bert", true, bert::INPUTS, TEXT, bert::IGNORABLE, bert::model;
    BertForMaskedLM: "bert", "bert", false, bert::LABELLED, TEXT, bert::IGNORABLE, bert::masked_lm;
    BertLMHeadModel: "bert", "bert", false, bert::CAUSAL, CAUSAL, bert::IGNORABLE, bert::causal_lm;
    BertForSequenceClassification: "bert", "bert", false, bert::LABELLED, TEXT, bert::IGNORABLE, bert::sequence_classification;
    BertForTokenClassification: "bert", "bert", false, bert::LABELLED, TEXT, bert::IGNORABLE, bert::token_classification;
    BertForQuestionAnswering: "bert", "bert", false, bert::SPANS, TEXT, bert::IGNORABLE, bert::question_answering;
    BertForMultipleChoice: "bert", "bert", false, bert::LABELLED, TEXT, bert::IGNORABLE, bert::multiple_choice;
    BeitModel: "beit", "beit", true, beit::INPUTS, IMAGE, beit::IGNORABLE, beit::model;
    BeitForImageClassification: "beit", "beit", false, beit::LABELLED, IMAGE, beit::IGNORABLE, beit::image_classification;
    ViTModel: "vit", "vit", true, vit::INPUTS, IMAGE, vit::IGNORABLE, vit::model;
    ViTForImageClassification: "vit", "vit", false, vit::LABELLED, IMAGE, vit::IGNORABLE, vit::image_classification;
    Wav2Vec2Model: "wav2vec2", "wav2vec2", true, wav2vec2::INPUTS, SOUND, wav2vec2::IGNORABLE, wav2vec2::model;
    Wav2Vec2ForCTC: "wav2vec2", "wav2vec2", false, wav2vec2::LABELLED, SOUND, wav2vec2::IGNORABLE, wav2vec2::ctc;
    GPT2Model: "gpt2", "transformer", true, gpt2::INPUTS, CAUSAL, gpt2::IGNORABLE, gpt2::model;
    GPT2LMHeadModel: "gpt2", "transformer", false, gpt2::LABELLED, CAUSAL, gpt2::IGNORABLE, gpt2::lm_head;
    VisionEncoderDecoderModel: "vision-encoder-decoder", "", true, ved::INPUTS, CAPTION, ved::IGNORABLE, ved::model;
}

/// The class of that name.
pub fn find(name: &str) -> Option<&'static Class> {
    CLASSES.iter().find(|c| c.name == name)
}

/// The base model of a model type, as transformers' AutoModel chooses.
pub fn base_of(model_type: &str) -> Option<&'static Class> {
    CLASSES.iter().find(|c| c.model_type == model_type)
}

/// docs/MODELS.md: every class with its inputs.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Models\n\n\
         Classes of transformers that frit builds from a checkpoint folder. Made from the table in \
         `frontends/src/hf/registry.rs`; a test keeps it true.\n\n\
         | class | model_type | inputs of `forward` | made by the model's own processor |\n\
         |---|---|---|---|\n",
    );
    let list = |names: &[&str]| {
        let shown: Vec<String> = names.iter().map(|n| format!("`{}`", n.trim_end_matches(".0.0"))).collect();
        shown.join(", ")
    };
    for class in CLASSES {
        let row = [class.name, class.model_type, &list(class.inputs), &list(class.usual_inputs)].join(" | ");
        text.push_str(&format!("| {row} |\n"));
    }
    text
}
