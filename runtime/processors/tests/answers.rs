//! From logits to answers against transformers' pipelines, and CTC decoding against its tokenizer.
#![cfg(all(feature = "audio", feature = "image", feature = "text"))]
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Array, assets, cases, json, numbers, text};
use frit_ir::Tensor;
use frit_processors::ctc::{CtcDecoder, CtcOptions, Span};
use frit_processors::spans::best_spans;
use frit_processors::{Answer, Error, Processor, RawInput, Task};
use serde_json::Value;
use std::collections::BTreeMap;

#[test]
fn ctc_texts_equal_transformers() {
    for case in cases("ctc") {
        let decoder = CtcDecoder::from_assets(&assets(&format!("ctc/{case}")), None).unwrap();
        for entry in json(&format!("ctc/{case}/cases.json"))["cases"].as_array().unwrap() {
            let ids = token_ids(entry);
            let decode = |skip_special_tokens, keep_repeats| {
                decoder.decode_ids(&ids, CtcOptions { skip_special_tokens, keep_repeats }).text
            };
            assert_eq!(decode(false, false), text(&entry["text"]), "{case} {ids:?}");
            assert_eq!(decode(true, false), text(&entry["text_skip_special"]), "{case} {ids:?}");
            assert_eq!(decode(false, true), text(&entry["text_ungrouped"]), "{case} {ids:?}");
        }
    }
}

fn token_ids(entry: &Value) -> Vec<u32> {
    numbers(&entry["ids"]).into_iter().map(|i| i as u32).collect()
}

#[test]
fn ctc_offsets_equal_transformers() {
    let spans = |list: &Value, key: &str| -> Vec<Span> {
        let number = |v: &Value| v.as_u64().unwrap() as usize;
        let span = |v: &Value| Span {
            text: text(&v[key]).to_owned(),
            start: number(&v["start_offset"]),
            end: number(&v["end_offset"]),
        };
        list.as_array().unwrap().iter().map(span).collect()
    };
    for case in json("answers/answers.json")["ctc_offsets"].as_array().unwrap() {
        let decoder =
            CtcDecoder::from_assets(&assets(&format!("ctc/{}", text(&case["decoder"]))), None).unwrap();
        let ids = token_ids(case);
        let got = decoder.decode_ids(&ids, CtcOptions::default());
        assert_eq!(got.text, text(&case["text"]));
        assert_eq!(got.chars, spans(&case["chars"], "char"), "{ids:?}");
        assert_eq!(got.words, spans(&case["words"], "word"), "{ids:?}");
        // The same through scores: the best id of each frame.
        let size = 64usize;
        let mut scores = vec![0.0f32; ids.len() * size];
        for (row, &id) in scores.chunks_exact_mut(size).zip(&ids) {
            row[id as usize] = 1.0;
        }
        assert_eq!(decoder.decode_scores(&scores, size, CtcOptions::default()).unwrap(), got);
        assert!(decoder.decode_scores(&scores, size + 1, CtcOptions::default()).is_err());
    }
}

#[test]
fn nested_vocabularies_need_a_language() {
    let mut files = assets("ctc/english");
    files.insert(
        "vocab.json",
        br#"{"eng": {"<pad>": 0, "|": 1, "A": 2}, "deu": {"<pad>": 0, "|": 1, "B": 2}}"#.to_vec(),
    );
    files.insert("tokenizer_config.json", br#"{"tokenizer_class": "Wav2Vec2CTCTokenizer"}"#.to_vec());
    let error = CtcDecoder::from_assets(&files, None).unwrap_err();
    assert!(error.to_string().contains("eng, deu"), "{error}");
    assert!(CtcDecoder::from_assets(&files, Some("fra")).is_err());
    let german = CtcDecoder::from_assets(&files, Some("deu")).unwrap();
    assert_eq!(german.decode_ids(&[2, 2, 0, 2], CtcOptions::default()).text, "BB");
}

#[test]
fn spans_equal_the_pipeline() {
    for case in json("answers/answers.json")["spans"].as_array().unwrap() {
        let floats = |key: &str| -> Vec<f32> {
            case[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
        };
        let (start, end) = (floats("start"), floats("end"));
        let inside = numbers(&case["context"]);
        let context: Vec<bool> = (0..start.len() as i64).map(|i| i >= inside[0] && i < inside[1]).collect();
        let number = |key: &str| case[key].as_u64().unwrap() as usize;
        let got = best_spans(&start, &end, &context, &[0], number("top_k"), number("max_answer_len"));
        let want: Vec<((i64, i64), f32)> = numbers(&case["first"])
            .into_iter()
            .zip(numbers(&case["last"]))
            .zip(floats("score"))
            .filter(|(_, score)| *score > 0.0)
            .collect();
        assert!(!want.is_empty() && got.len() == want.len(), "{got:?} {want:?}");
        for (span, ((first, last), score)) in got.iter().zip(want) {
            assert_eq!((span.first as i64, span.last as i64), (first, last));
            assert!((span.score - score).abs() <= 1e-5 * score, "{span:?} {score}");
        }
    }
}

fn tensor(array: &Array) -> Tensor {
    Tensor::from_slice(&array.0, &array.1).unwrap()
}

/// The fixtures' tokenizer as a model of a class.
fn processor(class: &str, config: Value) -> Processor {
    let mut files = assets("tokenizers/bert_uncased");
    let mut config = config;
    config["model_type"] = "bert".into();
    config["architectures"] = vec![class].into();
    files.insert("config.json", config.to_string().into_bytes());
    files.insert("tokenizer_config.json", br#"{"model_max_length": 48}"#.to_vec());
    Processor::from_assets(&files).unwrap()
}

fn ask(processor: &Processor, texts: &[&str], outputs: &[(&str, Tensor)], k: usize) -> Answer {
    let raw = RawInput { texts: texts.iter().map(|&t| t.to_owned()).collect(), ..RawInput::default() };
    let prepared = processor.prepare(&raw).unwrap();
    let outputs: Vec<(String, Tensor)> = outputs.iter().map(|(n, t)| ((*n).to_owned(), t.clone())).collect();
    let mut answers = processor.answer(&prepared, &outputs, k).unwrap();
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

fn close(got: f32, want: &Value) -> bool {
    let want = want.as_f64().unwrap() as f32;
    (got - want).abs() <= 1e-5 * want.abs().max(1e-3)
}

#[test]
fn filled_masks_equal_the_pipeline() {
    let logits = common::tensors("answers/answers.safetensors");
    let processor = processor("BertForMaskedLM", serde_json::json!({}));
    assert_eq!(processor.task, Task::FillMask);
    for (i, case) in json("answers/answers.json")["fill_mask"].as_array().unwrap().iter().enumerate() {
        let logits = tensor(&logits[&format!("fill_mask.{i}.0.logits")]);
        let Answer::FilledMask { masks } = ask(&processor, &[text(&case["text"])], &[("logits", logits)], 5)
        else {
            panic!("another kind of answer");
        };
        let want = case["answer"].as_array().unwrap();
        let want = if want[0].is_array() { want.clone() } else { vec![Value::from(want.clone())] };
        assert_eq!(masks.len(), want.len());
        for (got, want) in masks.iter().zip(&want) {
            assert_eq!(got.len(), 5);
            for (got, want) in got.iter().zip(want.as_array().unwrap()) {
                assert_eq!(u64::from(got.token), want["token"].as_u64().unwrap());
                assert_eq!(got.token_text, text(&want["token_str"]));
                assert_eq!(got.sequence, text(&want["sequence"]));
                assert!(close(got.score, &want["score"]));
            }
        }
    }
    let no_gap = RawInput { texts: vec!["the fox".to_owned()], ..RawInput::default() };
    let error = processor.prepare(&no_gap).unwrap_err();
    assert!(error.to_string().contains("[MASK]"), "{error}");
}

#[test]
fn token_labels_equal_the_pipeline() {
    let logits = common::tensors("answers/answers.safetensors");
    let case = &json("answers/answers.json")["token_classification"];
    let processor =
        processor("BertForTokenClassification", serde_json::json!({"id2label": case["id2label"].clone()}));
    let logits = tensor(&logits["token_classification.0.logits"]);
    let Answer::Tokens { tokens } = ask(&processor, &[text(&case["text"])], &[("logits", logits)], 5) else {
        panic!("another kind of answer");
    };
    let want = case["answer"].as_array().unwrap();
    assert_eq!(tokens.len(), want.len());
    for (got, want) in tokens.iter().zip(want) {
        let as_json = serde_json::to_value(got).unwrap();
        for key in ["entity", "index", "word", "start", "end"] {
            assert_eq!(as_json[key], want[key]);
        }
        assert!(close(got.score, &want["score"]));
    }
}

#[test]
fn labels_equal_the_pipeline() {
    let all = common::tensors("answers/answers.safetensors");
    let file = json("answers/answers.json");
    let labelled = serde_json::json!({"id2label": file["text_classification"]["id2label"].clone()});
    for (name, config) in [("text_classification", labelled), ("one_class", serde_json::json!({}))] {
        let case = &file[name];
        let processor = processor("BertForSequenceClassification", config);
        let logits = tensor(&all[&format!("{name}.0.logits")]);
        let answer = ask(&processor, &[text(&case["text"])], &[("logits", logits)], 3);
        let Answer::Labels { labels } = &answer else { panic!("another kind of answer") };
        let want = case["answer"].as_array().unwrap();
        assert_eq!(labels.len(), want.len());
        for (got, want) in labels.iter().zip(want) {
            assert_eq!(got.label, text(&want["label"]));
            assert!(close(got.score, &want["score"]));
        }
        assert!(answer.to_string().contains(text(&want[0]["label"])));
        assert_eq!(serde_json::to_value(&answer).unwrap()["kind"], "labels");
    }
}

#[test]
fn answers_in_a_context_equal_the_pipeline() {
    let all = common::tensors("answers/answers.safetensors");
    let file = json("answers/answers.json");
    let processor = processor("BertForQuestionAnswering", serde_json::json!({}));
    let texts = [text(&file["question_answering"]["question"]), text(&file["question_answering"]["context"])];
    for (name, k) in [("question_answering", 1), ("question_answering_3", 3)] {
        let start = stack(&all, name, "start_logits");
        let end = stack(&all, name, "end_logits");
        assert!(start.shape()[0] > 1, "several windows");
        let Answer::Spans { spans } =
            ask(&processor, &texts, &[("start_logits", start), ("end_logits", end)], k)
        else {
            panic!("another kind of answer");
        };
        let want = match &file[name]["answer"] {
            Value::Array(list) => list.clone(),
            one => vec![one.clone()],
        };
        assert_eq!(spans.len(), want.len());
        for (got, want) in spans.iter().zip(&want) {
            let as_json = serde_json::to_value(got).unwrap();
            for key in ["start", "end", "answer"] {
                assert_eq!(as_json[key], want[key]);
            }
            assert!(close(got.score, &want["score"]), "{got:?} {want}");
        }
    }
    let one = RawInput { texts: vec!["only a question".to_owned()], ..RawInput::default() };
    assert!(matches!(processor.prepare(&one), Err(Error::Input { .. })));
}

/// The windows' rows as one padded batch; what lies in the padding must not matter.
fn stack(all: &BTreeMap<String, Array>, name: &str, key: &str) -> Tensor {
    let rows: Vec<&Array> = (0..).map_while(|i| all.get(&format!("{name}.{i}.{key}"))).collect();
    let longest = rows.iter().map(|r| r.1.len()).max().unwrap();
    let mut values = Vec::new();
    for row in &rows {
        values.extend_from_slice(&row.1);
        values.extend(std::iter::repeat_n(1e6, longest - row.1.len()));
    }
    Tensor::from_slice(&[rows.len(), longest], &values).unwrap()
}

#[test]
fn choices_and_features_are_shown() {
    let multiple = processor("BertForMultipleChoice", serde_json::json!({}));
    let raw = RawInput {
        texts: ["the fox", "jumps", "runs to the dog"].map(str::to_owned).to_vec(),
        ..RawInput::default()
    };
    let prepared = multiple.prepare(&raw).unwrap();
    for (name, t) in &prepared.inputs {
        assert_eq!(t.shape()[..2], [1, 2], "{name}");
    }
    let logits = Tensor::from_slice(&[1, 2], &[0.0f32, 1.0]).unwrap();
    let answer = multiple.answer(&prepared, &[("logits".to_owned(), logits.clone())], 5).unwrap().remove(0);
    assert_eq!(answer.to_string(), "choice 2: 26.89 %, 73.11 %");
    let wrong = multiple.answer(&prepared, &[("scores".to_owned(), logits)], 5).unwrap_err();
    assert!(matches!(wrong, Error::Output { .. }), "{wrong}");
    let base = multiple.for_class("BertModel");
    let hidden = Tensor::from_slice(&[1, 2, 2], &[1.0f32, 2.0, 3.0, 4.0]).unwrap();
    let answer = base.answer(&prepared, &[("last_hidden_state".to_owned(), hidden)], 5).unwrap().remove(0);
    assert!(answer.to_string().starts_with("last_hidden_state [1, 2, 2], mean 2.5"));
    assert!(matches!(base.prepare(&RawInput::default()), Err(Error::Input { .. })));
}

#[test]
fn sounds_become_transcriptions_with_times() {
    let mut files = assets("ctc/english");
    files.insert(
        "config.json",
        br#"{"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]}"#.to_vec(),
    );
    for (name, bytes) in assets("feature_extractors/normalized_masked").iter() {
        files.insert(name, bytes.to_vec());
    }
    let processor = Processor::from_assets(&files).unwrap();
    let sounds = vec![common::raw("audio/pcm16_16000.wav"), common::raw("audio/pcm16_stereo_44100.wav")];
    let prepared = processor.prepare(&RawInput { sounds, ..RawInput::default() }).unwrap();
    let names: Vec<&str> = prepared.inputs.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["input_values", "attention_mask"]);
    assert_eq!(prepared.inputs[0].1.shape(), [2, 1600]);
    // 1600 samples are 4 frames; what a batch's padding gave after them is not read.
    let frames = [[5usize, 5, 4, 6, 7], [0, 0, 0, 0, 9]];
    let mut logits = vec![0.0f32; 2 * 5 * 32];
    for (row, &id) in logits.chunks_exact_mut(32).zip(frames.iter().flatten()) {
        row[id] = 1.0;
    }
    let logits = Tensor::from_slice(&[2, 5, 32], &logits).unwrap();
    let answers = processor.answer(&prepared, &[("logits".to_owned(), logits)], 1).unwrap();
    let Answer::Transcription { text, words } = &answers[0] else { panic!("another kind of answer") };
    assert_eq!(text, "E T");
    assert_eq!((words[1].start_frame, words[1].end_frame, words[1].start), (3, 4, Some(0.06)));
    assert_eq!(answers[1].to_string(), "");
    let picture = RawInput { texts: vec!["hello".to_owned()], ..RawInput::default() };
    assert!(matches!(processor.prepare(&picture), Err(Error::Missing { .. })));
}
