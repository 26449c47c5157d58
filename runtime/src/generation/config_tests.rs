//! Tests of reading and merging generation settings; the settings' effect is tested elsewhere.

use serde_json::json;

use super::*;

fn map(value: Value) -> Map<String, Value> {
    value.as_object().cloned().expect("an object")
}

#[test]
fn an_empty_file_gives_the_defaults_and_json_round_trips() {
    let config = GenerationConfig::from_generation_config(&json!({})).unwrap();
    assert_eq!(config, GenerationConfig::default());
    let mut config = config;
    config
        .update(&map(json!({"early_stopping": "never", "eos_token_id": [3, 4], "forced_eos_token_id": 7,
            "exponential_decay_length_penalty": [2, 1.5], "forced_decoder_ids": [[1, null], [2, 5]],
            "sequence_bias": [[[1, 2], -3.5]], "length_penalty": 2})))
        .unwrap();
    assert_eq!(config.eos(), [3, 4]);
    assert_eq!(config.forced_eos_token_id, Some(vec![7]));
    assert_eq!(config.forced_decoder_ids, Some(vec![(1, None), (2, Some(5))]));
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<GenerationConfig>(&text).unwrap(), config);
}

#[test]
fn null_is_off_and_unknown_names_are_kept_aside() {
    let file = json!({"top_k": null, "temperature": null, "max_new_tokens": null, "eos_token_id": [],
        "transformers_version": "4.37.2", "output_scores": true});
    let config = GenerationConfig::from_generation_config(&file).unwrap();
    assert_eq!((config.top_k, config.temperature, config.max_new_tokens), (0, 1.0, None));
    assert_eq!(config.eos_token_id, None);
    assert_eq!(config.extra.get("transformers_version"), Some(&json!("4.37.2")));
}

#[test]
fn a_wrong_type_is_named_and_changes_nothing() {
    for (key, value) in [
        ("max_length", json!("twenty")),
        ("max_length", json!(-1)),
        ("num_beams", json!(2.5)),
        ("eos_token_id", json!("</s>")),
        ("early_stopping", json!("sometimes")),
        ("bad_words_ids", json!([1, 2])),
        ("exponential_decay_length_penalty", json!([1])),
        ("do_sample", json!(1)),
    ] {
        let mut config = GenerationConfig::default();
        let options = Map::from_iter([("min_length".to_owned(), json!(3)), (key.to_owned(), value.clone())]);
        let error = config.update(&options).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(&value.to_string()), "{error}");
        assert_eq!(config, GenerationConfig::default());
    }
    assert!(GenerationConfig::from_generation_config(&json!([1])).is_err());
    assert!(GenerationConfig::load(None, &json!("é".repeat(100))).is_err());
}

#[test]
fn config_json_gives_its_own_keys_then_the_decoders() {
    let config = json!({"model_type": "vision-encoder-decoder", "max_length": 32, "decoder_start_token_id": 1,
        "encoder": {"model_type": "vit", "num_beams": 9},
        "decoder": {"model_type": "gpt2", "max_length": 99, "num_beams": 4, "n_head": 2, "eos_token_id": 2,
            "pad_token_id": 0}});
    let settings = GenerationConfig::from_model_config(&config).unwrap();
    assert_eq!((settings.max_length, settings.num_beams), (32, 4));
    assert_eq!((settings.decoder_start_token_id, settings.pad_token_id), (Some(1), Some(0)));
    // GPT2Config's own begin of sequence, which the file leaves out.
    assert_eq!((settings.bos_token_id, settings.eos()), (Some(50256), &[2][..]));
    assert!(settings.extra.is_empty() && settings.from_model_config);
}

#[test]
fn an_explicit_null_beats_the_class_default() {
    let settings = GenerationConfig::from_model_config(&json!({"model_type": "gpt2", "eos_token_id": null}));
    assert_eq!(settings.unwrap().eos_token_id, None);
}

#[test]
fn generation_config_json_wins_unless_it_only_mirrors_config_json() {
    let config = json!({"model_type": "gpt2", "max_length": 50});
    let own = json!({"max_length": 30});
    let mirrored = json!({"max_length": 30, "_from_model_config": true});
    assert_eq!(GenerationConfig::load(Some(&own), &config).unwrap().max_length, 30);
    assert_eq!(GenerationConfig::load(Some(&mirrored), &config).unwrap().max_length, 50);
    assert_eq!(
        GenerationConfig::load(Some(&mirrored), &json!({"model_type": "gpt2"})).unwrap().max_length,
        30
    );
    assert_eq!(GenerationConfig::load(None, &config).unwrap().max_length, 50);
}

#[test]
fn derived_values() {
    let mut config = GenerationConfig::default();
    assert!(config.decoder_start().is_err());
    config.bos_token_id = Some(4);
    assert_eq!(config.decoder_start().unwrap(), 4);
    assert_eq!(config.pad(), None);
    config.eos_token_id = Some(vec![6, 7]);
    assert_eq!(config.pad(), Some(6));
    assert_eq!(config.total_length(5), 20);
    config.max_new_tokens = Some(usize::MAX);
    assert_eq!(config.total_length(5), usize::MAX);
}
