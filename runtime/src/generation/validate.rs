//! Which way of generating the settings ask for, and whether they go together: the rules of transformers
//! 4.37.2's `GenerationConfig.validate`, `_get_generation_mode` and the processors' constructors. Nothing here
//! may look at scores or change a setting.

use super::config::{EarlyStopping, GenerationConfig};
use super::error::GenerateError;

/// A way of generating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The best token each step.
    Greedy,
    /// A drawn token each step.
    Sample,
    /// The best sequences of `num_beams` running ones.
    BeamSearch,
    /// Beam search with drawn candidates.
    BeamSample,
    /// Beam search in groups that keep apart from each other (arXiv:1610.02424).
    GroupBeamSearch,
}

impl Mode {
    /// Whether tokens are drawn, so that a seed matters.
    pub fn samples(self) -> bool {
        matches!(self, Mode::Sample | Mode::BeamSample)
    }

    /// Whether sequences carry a score and are only known at the end.
    pub fn beams(self) -> bool {
        matches!(self, Mode::BeamSearch | Mode::BeamSample | Mode::GroupBeamSearch)
    }
}

/// Names of `generate`'s arguments that are no settings: in a settings file they are a mistake.
const ARGUMENTS: [&str; 8] = [
    "logits_processor",
    "stopping_criteria",
    "prefix_allowed_tokens_fn",
    "synced_gpus",
    "assistant_model",
    "streamer",
    "negative_prompt_ids",
    "negative_prompt_attention_mask",
];

/// Checks that the settings go together and tells the way of generating they ask for.
///
/// # Errors
/// [`GenerateError::Invalid`] for values that contradict each other or cannot be meant,
/// [`GenerateError::Unsupported`] for contrastive, constrained, guided and assisted generation.
pub fn mode(config: &GenerationConfig) -> Result<Mode, GenerateError> {
    supported(config)?;
    single_values(config)?;
    relations(config)?;
    Ok(match (config.num_beams, config.num_beam_groups, config.do_sample) {
        (1, _, false) => Mode::Greedy,
        (1, _, true) => Mode::Sample,
        (_, 2.., _) => Mode::GroupBeamSearch,
        (_, _, true) => Mode::BeamSample,
        (_, _, false) => Mode::BeamSearch,
    })
}

fn supported(config: &GenerationConfig) -> Result<(), GenerateError> {
    let unsupported = |key, what| Err(GenerateError::Unsupported { key, what });
    if config.constraints.is_some() {
        return unsupported("constraints", "constrained beam search");
    }
    if config.force_words_ids.is_some() {
        return unsupported("force_words_ids", "constrained beam search");
    }
    if config.guidance_scale.is_some_and(|scale| scale != 1.0) {
        return unsupported("guidance_scale", "classifier-free guidance");
    }
    if config.prompt_lookup_num_tokens.is_some() {
        return unsupported("prompt_lookup_num_tokens", "assisted generation");
    }
    let contrastive = config.penalty_alpha.is_some_and(|alpha| alpha > 0.0) && config.top_k > 1;
    if contrastive && config.num_beams == 1 && !config.do_sample {
        return unsupported("penalty_alpha", "contrastive search");
    }
    for key in ARGUMENTS {
        if config.extra.contains_key(key) {
            return Err(GenerateError::invalid(
                key,
                config.extra.get(key),
                "it is an argument of a call, not a setting",
            ));
        }
    }
    Ok(())
}

fn single_values(config: &GenerationConfig) -> Result<(), GenerateError> {
    let check = |right: bool, key, found: f64, expected: &str| {
        if right { Ok(()) } else { Err(GenerateError::invalid(key, found, expected)) }
    };
    let positive = |key, value: f64| check(value > 0.0 && value.is_finite(), key, value, "must be above 0");
    positive("repetition_penalty", config.repetition_penalty)?;
    positive("encoder_repetition_penalty", config.encoder_repetition_penalty)?;
    let length_penalty = config.length_penalty;
    check(length_penalty.is_finite(), "length_penalty", length_penalty, "must be finite")?;
    let diversity = config.diversity_penalty;
    check(diversity.is_finite(), "diversity_penalty", diversity, "must be finite")?;
    if let Some(seconds) = config.max_time {
        check(seconds >= 0.0, "max_time", seconds, "must be a number of seconds, 0 or more")?;
    }
    if config.do_sample {
        let temperature = config.temperature;
        let expected = "must be above 0; for the best token each time set do_sample to false";
        check(temperature > 0.0 && temperature.is_finite(), "temperature", temperature, expected)?;
        let top_p = config.top_p;
        check(top_p >= 0.0, "top_p", top_p, "must be between 0 and 1")?;
        check(config.typical_p > 0.0, "typical_p", config.typical_p, "must be above 0 and at most 1")?;
    }
    for (key, value) in [
        ("num_beams", config.num_beams),
        ("num_beam_groups", config.num_beam_groups),
        ("num_return_sequences", config.num_return_sequences),
    ] {
        if value == 0 {
            return Err(GenerateError::invalid(key, value, "must be at least 1"));
        }
    }
    if let Some(words) = &config.bad_words_ids {
        let counts = words.iter().any(|word| !matches!(word.as_slice(), [id] if config.eos().contains(id)));
        if !counts || words.iter().any(|word| word.is_empty() || word.iter().any(|&id| id < 0)) {
            let expected = "must be a list of token lists, none empty, not end-of-sequence alone";
            return Err(GenerateError::invalid("bad_words_ids", words, expected));
        }
    }
    if let Some(bias) = &config.sequence_bias
        && (bias.is_empty() || bias.iter().any(|(ids, _)| ids.is_empty() || ids.iter().any(|&id| id < 0)))
    {
        return Err(GenerateError::invalid("sequence_bias", bias, "must pair token lists with numbers"));
    }
    if config.exponential_decay_length_penalty.is_some() && config.eos().is_empty() {
        let found = config.exponential_decay_length_penalty;
        let expected = "works on eos_token_id, which is not set";
        return Err(GenerateError::invalid("exponential_decay_length_penalty", found, expected));
    }
    if config.begin_suppress_tokens.is_some() && config.forced_decoder_ids.as_ref().is_some_and(Vec::is_empty)
    {
        return Err(GenerateError::invalid("forced_decoder_ids", "[]", "must not be empty"));
    }
    Ok(())
}

fn relations(config: &GenerationConfig) -> Result<(), GenerateError> {
    let (beams, groups) = (config.num_beams, config.num_beam_groups);
    let diversity = config.diversity_penalty;
    if beams > 1 && (groups > 1 || diversity != 0.0) {
        if config.do_sample {
            return Err(GenerateError::invalid("do_sample", true, "group beam search does not sample"));
        }
        if !beams.is_multiple_of(groups) {
            let expected = format!("must be a multiple of num_beam_groups, {groups}");
            return Err(GenerateError::invalid("num_beams", beams, expected));
        }
        if diversity == 0.0 {
            let expected = "must be above 0 with several beam groups, which would all be alike";
            return Err(GenerateError::invalid("diversity_penalty", diversity, expected));
        }
    }
    if diversity > 0.0 && (beams == 1 || groups == 1) {
        let expected = "needs num_beams and num_beam_groups above 1";
        return Err(GenerateError::invalid("diversity_penalty", diversity, expected));
    }
    let wanted = config.num_return_sequences;
    if wanted > 1 && beams == 1 && !config.do_sample {
        return Err(GenerateError::invalid(
            "num_return_sequences",
            wanted,
            "greedy search gives one sequence; sample or use beams",
        ));
    }
    if beams > 1 && wanted > beams {
        let expected = format!("must not be above num_beams, {beams}");
        return Err(GenerateError::invalid("num_return_sequences", wanted, expected));
    }
    Ok(())
}

/// Remarks on settings that have no effect or cannot all be met, for a prompt of `prompt` tokens: what
/// transformers warns about. Generation goes on in spite of them.
pub fn warnings(config: &GenerationConfig, prompt: usize) -> Vec<String> {
    let default = GenerationConfig::default();
    let sampling = [
        ("temperature", config.temperature != default.temperature),
        ("top_p", config.top_p != default.top_p),
        ("typical_p", config.typical_p != default.typical_p),
        ("top_k", config.top_k != default.top_k && config.penalty_alpha.is_none()),
        ("epsilon_cutoff", config.epsilon_cutoff != default.epsilon_cutoff),
        ("eta_cutoff", config.eta_cutoff != default.eta_cutoff),
    ];
    let beams = [
        ("early_stopping", config.early_stopping != EarlyStopping::Heuristic),
        ("num_beam_groups", config.num_beam_groups != default.num_beam_groups),
        ("length_penalty", config.length_penalty != default.length_penalty),
    ];
    let mut remarks = Vec::new();
    let mut idle = |table: &[(&str, bool)], needs: &str| {
        for (key, set) in table {
            if *set {
                remarks.push(format!("`{key}` has no effect without {needs}"));
            }
        }
    };
    if !config.do_sample {
        idle(&sampling, "do_sample");
    }
    if config.num_beams == 1 {
        idle(&beams, "num_beams above 1");
    }
    let length = config.total_length(prompt);
    if prompt >= length {
        remarks.push(format!("the prompt has {prompt} tokens already, but the greatest length is {length}"));
    }
    if config.min_length > length {
        let least = config.min_length;
        remarks.push(format!("`min_length` ({least}) is above the greatest length of {length} tokens"));
    }
    let new = config.min_new_tokens.unwrap_or(0);
    if prompt.saturating_add(new) > length {
        remarks.push(format!(
            "`min_new_tokens` ({new}) after a prompt of {prompt} exceeds the greatest length of {length} tokens"
        ));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn config(options: Value) -> GenerationConfig {
        GenerationConfig::from_generation_config(&options).expect("readable settings")
    }

    #[test]
    fn each_mode_is_recognised() {
        let of = |options| mode(&config(options)).unwrap();
        assert_eq!(of(json!({})), Mode::Greedy);
        assert_eq!(of(json!({"num_beam_groups": 3})), Mode::Greedy);
        assert_eq!(of(json!({"do_sample": true, "num_return_sequences": 3})), Mode::Sample);
        assert_eq!(of(json!({"num_beams": 2, "num_return_sequences": 2})), Mode::BeamSearch);
        assert_eq!(of(json!({"num_beams": 2, "do_sample": true})), Mode::BeamSample);
        let groups = json!({"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5});
        assert_eq!(of(groups), Mode::GroupBeamSearch);
        assert_eq!(of(json!({"guidance_scale": 1, "penalty_alpha": 0.0})), Mode::Greedy);
        assert!(Mode::BeamSample.samples() && Mode::BeamSample.beams() && !Mode::Sample.beams());
    }

    #[test]
    fn contradictions_and_unsupported_settings_are_named() {
        for (options, key) in [
            (json!({"num_beams": 0}), "num_beams"),
            (json!({"num_beam_groups": 0}), "num_beam_groups"),
            (json!({"num_return_sequences": 0}), "num_return_sequences"),
            (json!({"num_return_sequences": 2}), "num_return_sequences"),
            (json!({"num_return_sequences": 3, "num_beams": 2}), "num_return_sequences"),
            (json!({"num_beams": 3, "num_beam_groups": 2, "diversity_penalty": 1.0}), "num_beams"),
            (json!({"num_beams": 4, "num_beam_groups": 2}), "diversity_penalty"),
            (json!({"num_beams": 4, "diversity_penalty": 1.0}), "diversity_penalty"),
            (json!({"diversity_penalty": 1.0}), "diversity_penalty"),
            (
                json!({"num_beams": 2, "num_beam_groups": 2, "diversity_penalty": 1, "do_sample": true}),
                "do_sample",
            ),
            (json!({"repetition_penalty": 0.0}), "repetition_penalty"),
            (json!({"encoder_repetition_penalty": -1}), "encoder_repetition_penalty"),
            (json!({"temperature": 0.0, "do_sample": true}), "temperature"),
            (json!({"top_p": -0.1, "do_sample": true}), "top_p"),
            (json!({"typical_p": 0.0, "do_sample": true}), "typical_p"),
            (json!({"max_time": -1.0}), "max_time"),
            (json!({"bad_words_ids": []}), "bad_words_ids"),
            (json!({"bad_words_ids": [[]]}), "bad_words_ids"),
            (json!({"bad_words_ids": [[2]], "eos_token_id": 2}), "bad_words_ids"),
            (json!({"bad_words_ids": [[3], [-2]]}), "bad_words_ids"),
            (json!({"sequence_bias": [[[], 1.0]]}), "sequence_bias"),
            (json!({"exponential_decay_length_penalty": [1, 1.5]}), "exponential_decay_length_penalty"),
            (json!({"begin_suppress_tokens": [1], "forced_decoder_ids": []}), "forced_decoder_ids"),
            (json!({"streamer": 1}), "streamer"),
            (json!({"constraints": [1], "num_beams": 2}), "constraints"),
            (json!({"force_words_ids": [[1]], "num_beams": 2}), "force_words_ids"),
            (json!({"guidance_scale": 1.5}), "guidance_scale"),
            (json!({"prompt_lookup_num_tokens": 3}), "prompt_lookup_num_tokens"),
            (json!({"penalty_alpha": 0.6, "top_k": 4}), "penalty_alpha"),
        ] {
            let error = mode(&config(options.clone())).expect_err(&options.to_string()).to_string();
            assert!(error.contains(&format!("`{key}`")), "{options}: {error}");
        }
    }

    #[test]
    fn settings_without_effect_are_remarked() {
        assert!(warnings(&GenerationConfig::default(), 1).is_empty());
        let idle =
            config(json!({"temperature": 0.5, "top_k": 3, "early_stopping": true, "length_penalty": 2.0,
            "min_length": 30, "min_new_tokens": 40}));
        let remarks = warnings(&idle, 20);
        for key in
            ["temperature", "top_k", "early_stopping", "length_penalty", "min_length", "min_new_tokens"]
        {
            assert!(remarks.iter().any(|remark| remark.contains(key)), "{key}: {remarks:?}");
        }
        assert_eq!(remarks.len(), 7, "{remarks:?}");
    }
}
