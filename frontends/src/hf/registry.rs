//! The table of classes: one line each. Help texts and docs/MODELS.md come from here; what a class computes belongs
//! into its own file.

use super::bert;
use super::cx::Built;
use super::job::Job;

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
    BertForSequenceClassification: "bert", "bert", false, bert::LABELLED, TEXT, bert::IGNORABLE, bert::sequence_classification;
    BertForTokenClassification: "bert", "bert", false, bert::LABELLED, TEXT, bert::IGNORABLE, bert::token_classification;
    BertForQuestionAnswering: "bert", "bert", false, bert::SPANS, TEXT, bert::IGNORABLE, bert::question_answering;
    BertForMultipleChoice: "bert", "bert", false, bert::LABELLED, TEXT, bert::IGNORABLE, bert::multiple_choice;
}

/// The class of that name.
pub fn find(name: &str) -> Option<&'static Class> {
    CLASSES.iter().find(|c| c.name == name)
}

/// The base model of a model type, as transformers' AutoModel chooses.
pub fn base_of(model_type: &str) -> Option<&'static Class> {
    CLASSES.iter().find(|c| c.model_type == model_type)
}
