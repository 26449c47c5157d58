//! Compares the settings read from configuration files with those of transformers 4.37.2
//! (tests/data/generation_config.json, made by generation_config.py there). The files' errors are tested beside
//! the reader.

use frit_runtime::generation::GenerationConfig;
use serde_json::{Map, Value};

/// One id and a list of it alone mean the same.
fn ids(value: &Value) -> Value {
    if value.is_i64() { Value::Array(vec![value.clone()]) } else { value.clone() }
}

#[test]
fn settings_are_those_of_transformers() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("data/generation_config.json")).unwrap();
    let default = GenerationConfig::default().to_map();
    for case in &cases {
        let file = Some(&case["generation_config"]).filter(|file| !file.is_null());
        let mut found = GenerationConfig::load(file, &case["config"]).unwrap().to_map();
        found.retain(|key, value| {
            !key.starts_with('_') && key != "no_thing" && Some(&*value) != default.get(key)
        });
        let settings = case["settings"].as_object().unwrap().iter();
        let mut expected: Map<String, Value> =
            settings.map(|(key, value)| (key.clone(), value.clone())).collect();
        for key in ["eos_token_id", "forced_eos_token_id"] {
            if let Some(value) = expected.get_mut(key) {
                *value = ids(value);
            }
        }
        if let Some(top_k) = expected.get_mut("top_k").filter(|top_k| top_k.is_null()) {
            *top_k = Value::from(0);
        }
        found.sort_keys();
        expected.sort_keys();
        assert_eq!(Value::Object(found), Value::Object(expected), "{}", case["config"]);
    }
    assert!(cases.len() >= 20);
}
