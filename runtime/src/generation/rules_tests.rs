//! Tests of single processors on small rows of scores; whole generations are replayed in tests/generation.rs.

use serde_json::{Value, json};

use super::super::config::GenerationConfig;
use super::super::processors::{Group, for_settings, run};
use super::*;

const NO: f32 = f32::NEG_INFINITY;

/// Runs the processors of some settings over copies of `row`, one a sequence.
fn process(options: Value, sequences: &[Vec<i64>], row: &[f32]) -> Vec<Vec<f32>> {
    let config = GenerationConfig::from_generation_config(&options).unwrap();
    let encoder = [vec![1, 2, 3]];
    let list = for_settings(&config, row.len(), 1, 6, Some(&encoder), Vec::new()).unwrap();
    let mut data = row.repeat(sequences.len());
    let mut scores = Scores::new(&mut data, row.len());
    run(&list, &Step { sequences, group: None }, &mut scores).unwrap();
    data.chunks(row.len()).map(<[f32]>::to_vec).collect()
}

fn one(options: Value, sequence: &[i64], row: &[f32]) -> Vec<f32> {
    process(options, &[sequence.to_vec()], row).remove(0)
}

#[test]
fn repetition_is_penalised_once_a_token_and_away_from_likely() {
    let row = [2.0, -2.0, 1.0];
    assert_eq!(one(json!({"repetition_penalty": 2.0}), &[0, 1, 0], &row), [1.0, -4.0, 1.0]);
    // The inverse for the encoder's tokens 1 and 2, in the first row alone.
    let rows =
        process(json!({"encoder_repetition_penalty": 2.0}), &[vec![0], vec![0]], &[2.0, -2.0, 1.0, 1.0]);
    assert_eq!(rows, [[2.0, -1.0, 2.0, 2.0], [2.0, -2.0, 1.0, 1.0]]);
}

#[test]
fn ngrams_are_not_repeated() {
    let row = [0.0; 4];
    assert_eq!(one(json!({"no_repeat_ngram_size": 2}), &[1, 2, 1, 3, 1], &row), [0.0, 0.0, NO, NO]);
    assert_eq!(one(json!({"no_repeat_ngram_size": 1}), &[1, 2], &row), [0.0, NO, NO, 0.0]);
    assert_eq!(one(json!({"no_repeat_ngram_size": 9}), &[1, 2], &row), row);
    assert_eq!(one(json!({"encoder_no_repeat_ngram_size": 3}), &[0, 1, 2], &row), [0.0, 0.0, 0.0, NO]);
    assert_eq!(one(json!({"encoder_no_repeat_ngram_size": 3}), &[2], &row), row);
}

#[test]
fn biases_complete_sequences_and_later_entries_replace_earlier() {
    let bias = json!({"sequence_bias": [[[1, 2], 3.0], [[2], 1.0], [[2], 0.5], [[3, 1, 2], 9.0]]});
    assert_eq!(one(bias.clone(), &[0, 1], &[0.0; 4]), [0.0, 0.0, 3.5, 0.0]);
    assert_eq!(one(bias.clone(), &[0, 3, 1], &[0.0; 4]), [0.0, 0.0, 12.5, 0.0]);
    // A sequence of as many tokens as there are may be completed, one more may not.
    assert_eq!(one(bias, &[3, 1], &[0.0; 4]), [0.0, 0.0, 3.5, 0.0]);
    let bad = json!({"bad_words_ids": [[2], [3, 1]], "eos_token_id": 0});
    assert_eq!(one(bad.clone(), &[0, 3], &[0.0; 4]), [0.0, NO, NO, 0.0]);
    assert_eq!(one(bad, &[0, 1], &[0.0; 4]), [0.0, 0.0, NO, 0.0]);
}

#[test]
fn lengths_forbid_and_force_the_end() {
    let row = [0.5; 3];
    let options = json!({"eos_token_id": [1, 2], "min_length": 3});
    assert_eq!(one(options.clone(), &[0, 0], &row), [0.5, NO, NO]);
    assert_eq!(one(options, &[0, 0, 0], &row), row);
    let options = json!({"eos_token_id": 1, "min_new_tokens": 3});
    assert_eq!(one(options.clone(), &[0, 0, 0], &row), [0.5, NO, 0.5]);
    assert_eq!(one(options, &[0, 0, 0, 0], &row), row);
    assert_eq!(one(json!({"forced_bos_token_id": 2}), &[0], &row), [NO, NO, 0.0]);
    assert_eq!(one(json!({"forced_bos_token_id": 2}), &[0, 0], &row), row);
    // The greatest length is 6.
    assert_eq!(one(json!({"forced_eos_token_id": [0, 2]}), &[0; 5], &row), [0.0, NO, 0.0]);
    assert_eq!(one(json!({"forced_eos_token_id": 2}), &[0; 4], &row), row);
}

#[test]
fn the_end_grows_exponentially_likelier() {
    let options = json!({"eos_token_id": 1, "exponential_decay_length_penalty": [2, 2.0]});
    // The prompt has one token, so the penalty starts beyond length 3.
    assert_eq!(one(options.clone(), &[0; 3], &[1.0, -2.0]), [1.0, -2.0]);
    assert_eq!(one(options, &[0; 5], &[1.0, -2.0]), [1.0, -2.0 + 2.0 * 3.0]);
}

#[test]
fn suppression_and_forced_tokens() {
    let row = [0.5; 3];
    assert_eq!(one(json!({"suppress_tokens": [0, 2]}), &[0; 4], &row), [NO, 0.5, NO]);
    let begin = json!({"begin_suppress_tokens": [1]});
    assert_eq!(one(begin.clone(), &[0], &row), [0.5, NO, 0.5]);
    assert_eq!(one(begin, &[0, 0], &row), row);
    let forced = json!({"begin_suppress_tokens": [1], "forced_decoder_ids": [[1, 2], [2, null]]});
    assert_eq!(one(forced.clone(), &[0], &row), [NO, NO, 0.0]);
    assert_eq!(one(forced.clone(), &[0, 0], &row), row);
    assert_eq!(one(forced, &[0, 0, 0], &row), [0.5, NO, 0.5]);
    let after_bos = json!({"begin_suppress_tokens": [1], "forced_bos_token_id": 2});
    assert_eq!(one(after_bos, &[0, 2], &row), [0.5, NO, 0.5]);
}

#[test]
fn invalid_values_become_finite_and_renormalising_comes_last() {
    let row = [f32::NAN, f32::INFINITY, NO];
    assert_eq!(one(json!({"remove_invalid_values": true}), &[0], &row), [0.0, f32::MAX, f32::MIN]);
    let row = one(json!({"renormalize_logits": true, "suppress_tokens": [2]}), &[0], &[1.0, 1.0, 5.0]);
    let half = 0.5f32.ln();
    assert!((row[0] - half).abs() < 1e-6 && row[0] == row[1] && row[2] == NO, "{row:?}");
}

#[test]
fn groups_keep_away_from_the_tokens_of_earlier_groups() {
    let processor = HammingDiversity { penalty: 0.5, beams: 4, groups: 2 };
    let sequences = vec![vec![0]; 4];
    let chosen = [1, 1, 0, 0, 2, 0, 0, 0];
    let mut data = vec![1.0; 12];
    let group = Some(Group { index: 1, chosen: &chosen });
    processor.apply(&Step { sequences: &sequences, group }, &mut Scores::new(&mut data, 3)).unwrap();
    assert_eq!(data, [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.5, 1.0, 0.5, 0.5, 1.0, 0.5]);
    let group = Some(Group { index: 0, chosen: &chosen });
    processor.apply(&Step { sequences: &sequences, group }, &mut Scores::new(&mut data, 3)).unwrap();
    assert_eq!(data[1], 0.0);
}

#[test]
fn ids_without_a_score_are_errors_that_name_the_setting() {
    let build = |options: Value, encoder: Option<&[Vec<i64>]>| {
        let config = GenerationConfig::from_generation_config(&options).unwrap();
        for_settings(&config, 4, 1, 6, encoder, Vec::new()).map(|_| ())
    };
    let encoder = [vec![9]];
    for (options, key) in [
        (json!({"sequence_bias": [[[1, 4], 1.0]]}), "sequence_bias"),
        (json!({"bad_words_ids": [[4]]}), "bad_words_ids"),
        (json!({"eos_token_id": 4, "min_length": 2}), "eos_token_id"),
        (json!({"eos_token_id": -1, "min_new_tokens": 2}), "eos_token_id"),
        (json!({"forced_bos_token_id": 4}), "forced_bos_token_id"),
        (json!({"forced_eos_token_id": 4}), "forced_eos_token_id"),
        (json!({"suppress_tokens": [-1]}), "suppress_tokens"),
        (json!({"begin_suppress_tokens": [4]}), "begin_suppress_tokens"),
        (json!({"forced_decoder_ids": [[1, 4]]}), "forced_decoder_ids"),
        (json!({"encoder_repetition_penalty": 2.0}), "encoder"),
    ] {
        let error = build(options, Some(&encoder)).unwrap_err();
        assert!(matches!(error, GenerateError::TokenRange { vocab: 4, .. }), "{error}");
        assert!(error.to_string().contains(key), "{error}");
    }
    for key in ["encoder_repetition_penalty", "encoder_no_repeat_ngram_size"] {
        let error = build(json!({key: 2}), None).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
    // Ends outside the vocabulary never come; that is no error.
    build(json!({"eos_token_id": 99}), None).unwrap();
    let repetition = RepetitionPenalty { penalty: 2.0 };
    let sequences = [vec![4]];
    let mut data = [0.0; 4];
    let step = Step { sequences: &sequences, group: None };
    assert!(repetition.apply(&step, &mut Scores::new(&mut data, 4)).is_err());
    assert!(NoRepeatNgram { size: 1 }.apply(&step, &mut Scores::new(&mut data, 4)).is_err());
}
