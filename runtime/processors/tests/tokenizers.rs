//! Tokenizers against transformers' fast ones: ids, offsets, truncation, batches, windows, decoding.
#![allow(clippy::unwrap_used, clippy::panic)]
#![cfg(feature = "text")]

mod common;

use common::{assets, cases, json, numbers, text};
use frit_processors::text::{Encoding, Input, TextBatch, Tokenizer};
use frit_processors::tokenizer_config::Role;
use frit_processors::{Assets, Error};
use serde_json::Value;

fn load(name: &str) -> Tokenizer {
    Tokenizer::from_assets(&class_named(name)).unwrap()
}

/// The fixture without any settings was loaded by a class named in Python.
fn class_named(name: &str) -> Assets {
    assets(&format!("tokenizers/{name}"))
}

fn ids(row: &Encoding) -> Vec<i64> {
    row.ids.iter().map(|&i| i64::from(i)).collect()
}

fn encode(tokenizer: &Tokenizer, case: &Value) -> Encoding {
    match case["pair"].as_str() {
        Some(pair) => tokenizer.encode((text(&case["text"]), pair)),
        None => tokenizer.encode(text(&case["text"])),
    }
    .unwrap()
}

#[test]
fn ids_and_texts_equal_transformers() {
    for name in cases("tokenizers") {
        let file = json(&format!("tokenizers/{name}/cases.json"));
        let whole = load(&name);
        for case in file["cases"].as_array().unwrap() {
            // transformers takes an empty second text for none.
            let case = &if case["pair"] == "" { with(case, "pair", Value::Null) } else { case.clone() };
            let row = encode(&whole, case);
            let at = format!("{name}: {:?} {:?}", case["text"], case["pair"]);
            let want = numbers(&case["input_ids"]);
            assert_eq!(ids(&row), want, "{at}");
            let tokens: Vec<&str> = case["tokens"].as_array().unwrap().iter().map(text).collect();
            assert_eq!(row.tokens, tokens, "{at}");
            assert_eq!(whole.decode(&want, false).unwrap(), text(&case["decoded"]), "{at}");
            assert_eq!(whole.decode(&want, true).unwrap(), text(&case["decoded_skip_special"]), "{at}");
            if !row.is_empty() {
                check_tensors(&whole.batch(vec![row]).unwrap(), case, &at, true);
            }
            let mut short = whole.clone();
            let limit = case["truncated"]["max_length"].as_u64().unwrap() as usize;
            short.truncate_to(Some(limit)).unwrap();
            assert_eq!(ids(&encode(&short, case)), numbers(&case["truncated"]["input_ids"]), "{at}, cut");
        }
        if let Some(batch) = file.get("batch") {
            let got = whole.encode_batch(batch["texts"].as_array().unwrap().iter().map(text)).unwrap();
            check_tensors(&got, batch, &name, false);
        }
        for case in file["decode"].as_array().into_iter().flatten() {
            let ids = numbers(&case["ids"]);
            assert_eq!(whole.decode(&ids, false).unwrap(), text(&case["text"]), "{name}");
            assert_eq!(whole.decode(&ids, true).unwrap(), text(&case["text_skip_special"]), "{name}");
        }
    }
}

fn with(case: &Value, key: &str, value: Value) -> Value {
    let mut case = case.clone();
    case[key] = value;
    case
}

/// Exactly the tensors that transformers makes, with its values.
fn check_tensors(got: &TextBatch, case: &Value, at: &str, one_row: bool) {
    for name in ["input_ids", "token_type_ids", "attention_mask"] {
        let Some(want) = case.get(name) else {
            assert!(got.tensor(name).is_none(), "{at}: {name}");
            continue;
        };
        let rows = if one_row { vec![want.clone()] } else { want.as_array().unwrap().clone() };
        let values: Vec<i64> = rows.iter().flat_map(numbers).collect();
        assert_eq!(got.tensor(name).unwrap().to_i64_vec(), values, "{at}: {name}");
        assert_eq!(got.tensor(name).unwrap().shape()[0], rows.len());
    }
}

#[test]
fn offsets_and_words_equal_transformers() {
    for case in json("answers/answers.json")["offsets"].as_array().unwrap() {
        let tokenizer = load(text(&case["tokenizer"]));
        let row = encode(&tokenizer, case);
        assert_eq!(ids(&row), numbers(&case["input_ids"]));
        assert_eq!(offsets(&row), case["offsets"], "{case}");
        assert_eq!(serde_json::to_value(&row.words).unwrap(), case["words"], "{case}");
        assert_eq!(serde_json::to_value(&row.sequences).unwrap(), case["sequences"], "{case}");
    }
}

fn offsets(row: &Encoding) -> Value {
    serde_json::to_value(&row.offsets).unwrap()
}

#[test]
fn windows_equal_transformers() {
    let file = json("answers/answers.json");
    let file = &file["windows"];
    let tokenizer = load("bert_uncased");
    for case in file["cases"].as_array().unwrap() {
        let input = Input::from((text(&file["question"]), text(&file["context"])));
        let number = |k: &str| case[k].as_u64().unwrap() as usize;
        let rows = tokenizer.encode_windows(input, number("max_length"), number("stride")).unwrap();
        let got: Vec<Vec<i64>> = rows.iter().map(ids).collect();
        assert_eq!(serde_json::to_value(got).unwrap(), case["input_ids"]);
        let got: Vec<Value> = rows.iter().map(offsets).collect();
        assert_eq!(Value::from(got), case["offsets"]);
    }
}

#[test]
fn special_tokens_have_their_ids() {
    let bert = load("bert_cased");
    assert_eq!(bert.special_id(Role::Mask), bert.id("[MASK]"));
    assert_eq!(bert.special_id(Role::Pad), Some(0));
    assert_eq!(bert.special_id(Role::Bos), None);
    let gpt2 = load("gpt2");
    assert_eq!(gpt2.special_id(Role::Eos), gpt2.id("<|endoftext|>"));
    assert_eq!(gpt2.special_id(Role::Pad), None);
    assert_eq!(gpt2.token(gpt2.special_id(Role::Eos).unwrap()).as_deref(), Some("<|endoftext|>"));
    // Without a padding token a batch of unequal lengths cannot be.
    assert!(matches!(gpt2.encode_batch(["a", "a b c d"]), Err(Error::NoToken { role: "pad_token", .. })));
    assert!(gpt2.encode_batch(["the", "the"]).is_ok());
    assert!(matches!(gpt2.encode_batch([""; 0]), Err(Error::Input { .. })));
}

#[test]
fn limits_and_bad_ids_are_refused() {
    let mut bert = load("bert_cased");
    assert!(matches!(bert.truncate_to(Some(2)), Err(Error::Input { .. })));
    assert!(bert.truncate_to(Some(3)).is_ok());
    assert_eq!(bert.encode("the quick brown fox").unwrap().len(), 3);
    assert!(matches!(bert.decode(&[-1], false), Err(Error::Input { .. })));
    assert_eq!(bert.decode(&[9_999_999], false).unwrap(), "");
    let question = Input::from(("the quick brown fox jumps over the lazy dog", "the dog"));
    let bert = load("bert_cased");
    assert!(matches!(bert.encode_windows(question, 12, 4), Err(Error::Input { .. })));
}

#[test]
fn bad_files_are_refused_by_name() {
    let fail = |files: &[(&str, &[u8])]| {
        let files: Assets = files.iter().map(|(n, b)| (*n, b.to_vec())).collect();
        Tokenizer::from_assets(&files).unwrap_err()
    };
    assert!(matches!(fail(&[("tokenizer.json", b"{\"version\": \"1.0\"}")]), Error::Tokenizer { .. }));
    assert!(matches!(fail(&[("tokenizer.json", b"\xff")]), Error::NotUtf8 { offset: 0, .. }));
    assert!(matches!(fail(&[("vocab.txt", b"a\nb\n")]), Error::Tokenizer { .. }));
    assert!(matches!(fail(&[]), Error::Missing { .. }));
    let merges = fail(&[("vocab.json", b"{\"a\": 0}"), ("merges.txt", b"#version: 0.2\na b c\n")]);
    assert!(matches!(merges, Error::Line { line: 2, .. }), "{merges}");
    let merges = fail(&[("vocab.json", b"{\"a\": 0}"), ("merges.txt", b"#version: 0.2\na b\n")]);
    assert!(matches!(merges, Error::Tokenizer { .. }), "{merges}");
    assert!(matches!(fail(&[("vocab.json", b"{\"a\": -1}"), ("merges.txt", b"\n")]), Error::Value { .. }));
    let settings = fail(&[
        ("vocab.txt", b"[UNK]\n[CLS]\n[SEP]\n"),
        ("tokenizer_config.json", b"{\"do_lower_case\": 1}"),
    ]);
    assert_eq!(settings.to_string(), "tokenizer_config.json: do_lower_case: expected true or false, got 1");
}
