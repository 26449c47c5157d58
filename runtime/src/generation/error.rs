//! The one error type of generation. No rule is checked here: the modules that know a rule raise it.

/// The error of a model that generation drives, whatever its own type.
pub type ModelError = Box<dyn std::error::Error + Send + Sync>;

/// Why a generation was refused or broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// A setting holds a value that cannot be meant, alone or beside another setting.
    #[error("generation setting `{key}` is {found}, but {expected}")]
    Invalid {
        /// The setting's name as in generation_config.json.
        key: &'static str,
        /// Its value.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A setting of a settings file or call could not be read as what it must be.
    #[error("generation setting `{key}` is {found}: {reason}")]
    Unreadable {
        /// The setting's name.
        key: String,
        /// Its JSON text.
        found: String,
        /// The reader's words.
        reason: String,
    },
    /// The settings are not a JSON object.
    #[error("{what} must be a JSON object, but is {found}")]
    NotAnObject {
        /// Which settings.
        what: &'static str,
        /// What was found instead.
        found: String,
    },
    /// A setting asks for a way of generating that is not built.
    #[error("generation setting `{key}` asks for {what}, which is not supported")]
    Unsupported {
        /// The setting's name.
        key: &'static str,
        /// The feature it asks for.
        what: &'static str,
    },
    /// The prompt, or another sequence of the request, cannot be used.
    #[error("{what}: {reason}")]
    Input {
        /// Which input.
        what: &'static str,
        /// What is wrong with it, and what was expected.
        reason: String,
    },
    /// A token id has no score because it lies outside the vocabulary.
    #[error("token id {id} in {what} is outside the model's vocabulary of {vocab} tokens")]
    TokenRange {
        /// Where the id stands: a setting's name, or the sequences.
        what: &'static str,
        /// The id.
        id: i64,
        /// Number of tokens the model scores.
        vocab: usize,
    },
    /// The next step would exceed the model's position table.
    #[error("the sequence has grown to {length} tokens, but the model has only {max} positions")]
    TooLong {
        /// Length in tokens that the step needs.
        length: usize,
        /// Positions the model has.
        max: usize,
    },
    /// There is nothing to draw from: every token is forbidden, or the model gave NaN.
    #[error("step {step}, row {row}: no token can be sampled, the scores hold {what}")]
    NoDistribution {
        /// Step, from 0.
        step: usize,
        /// Row of the scores.
        row: usize,
        /// What the scores hold.
        what: &'static str,
    },
    /// Too few candidates to continue every beam.
    #[error(
        "step {step}, batch item {item}: {needed} beams need as many candidates other than end-of-sequence, \
         but the vocabulary of {vocab} tokens leaves {found}"
    )]
    TooFewCandidates {
        /// Step, from 0.
        step: usize,
        /// Batch item.
        item: usize,
        /// Candidates needed.
        needed: usize,
        /// Candidates there are.
        found: usize,
        /// Number of tokens the model scores.
        vocab: usize,
    },
    /// The model itself failed.
    #[error("the model failed at generation step {step}: {source}")]
    Model {
        /// Step, from 0 (the prompt).
        step: usize,
        /// The model's own error.
        source: ModelError,
    },
}

impl GenerateError {
    /// A setting with an impossible value.
    pub(crate) fn invalid(
        key: &'static str,
        found: impl std::fmt::Debug,
        expected: impl Into<String>,
    ) -> GenerateError {
        GenerateError::Invalid { key, found: format!("{found:?}"), expected: expected.into() }
    }
}
