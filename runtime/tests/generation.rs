//! Replays generations of transformers 4.37.2 token for token (tests/data/generation.json, made by
//! generation.py there), and checks that no settings make a generation panic. Single rules are tested beside
//! their code.

#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::ops::ControlFlow;

use frit_runtime::generation::{
    EncoderTokens, GenerateError, Generated, GenerationConfig, LogitsProcessor, Request, Scores, Step,
    StepModel, decoder_prompt, generate, generate_with, mode,
};
use proptest::prelude::*;
use rand::RngCore;
use serde::Deserialize;
use serde_json::{Map, Value, json};

const STATES: usize = 64;
const STEPS: usize = 8;

/// Steele, Lea and Flood's generator, which the fixtures are made with.
struct SplitMix(u64);

impl RngCore for SplitMix {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.next_u64() as u8);
    }
}

/// The fixtures' model: logits from tables, chosen by the last token, the length and a running hash of the whole
/// sequence, which is the state of a row.
struct Toy {
    vocab: usize,
    by_token: Vec<f32>,
    by_length: Vec<f32>,
    by_state: Vec<f32>,
    /// The encoder's tokens of each prompt.
    encoder: Vec<Vec<i64>>,
    can_fork: bool,
    max_positions: Option<usize>,
    states: Vec<usize>,
    length: usize,
}

impl Toy {
    fn new(vocab: usize, seed: u64, encoder: Vec<Vec<i64>>, can_fork: bool) -> Toy {
        let mut bits = SplitMix(seed);
        let mut table = |rows: usize| -> Vec<f32> {
            (0..rows * vocab).map(|_| (bits.next_u64() >> 44) as f32 / 131_072.0 - 4.0).collect()
        };
        let (by_token, by_length, by_state) = (table(vocab), table(STEPS), table(STATES));
        let (max_positions, states, length) = (None, Vec::new(), 0);
        Toy { vocab, by_token, by_length, by_state, encoder, can_fork, max_positions, states, length }
    }
}

impl StepModel for Toy {
    type Error = Infallible;

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn max_positions(&self) -> Option<usize> {
        self.max_positions
    }

    fn can_fork(&self) -> bool {
        self.can_fork
    }

    fn step(
        &mut self,
        tokens: &[i64],
        rows: usize,
        parents: Option<&[usize]>,
        logits: &mut [f32],
    ) -> Result<(), Infallible> {
        let width = tokens.len() / rows;
        assert_eq!((tokens.len(), logits.len()), (rows * width, rows * self.vocab));
        if self.length == 0 {
            assert_eq!(parents, None);
            let copies = rows / self.encoder.len().max(1);
            let start = |row: usize| self.encoder.get(row / copies).map_or(0, |ids| ids.iter().sum::<i64>());
            self.states = (0..rows).map(|row| start(row) as usize % STATES).collect();
        } else {
            assert_eq!(width, 1);
            if let Some(parents) = parents {
                self.states = parents.iter().map(|&parent| self.states[parent]).collect();
            }
            assert_eq!(self.states.len(), rows);
        }
        self.length += width;
        for (row, (tokens, logits)) in tokens.chunks(width).zip(logits.chunks_mut(self.vocab)).enumerate() {
            for &token in tokens {
                let token = token.rem_euclid(STATES as i64) as usize;
                self.states[row] = (self.states[row] * 31 + token * 17 + 7) % STATES;
            }
            // A token outside the vocabulary can only come from a property test's padding.
            let last = tokens[width - 1].rem_euclid(self.vocab as i64) as usize;
            for (token, logit) in logits.iter_mut().enumerate() {
                let at = |row: usize| row * self.vocab + token;
                *logit = self.by_token[at(last)]
                    + self.by_length[at(self.length % STEPS)]
                    + self.by_state[at(self.states[row])];
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Case {
    vocab: usize,
    seed: u64,
    stream: u64,
    options: Map<String, Value>,
    prompt: Option<Vec<Vec<i64>>>,
    encoder: Option<Vec<Vec<i64>>>,
    given: Option<Vec<Vec<i64>>>,
    sequences: Vec<Vec<i64>>,
    scores: Option<Vec<f32>>,
}

fn replay(case: &Case, can_fork: bool) -> Result<Generated, GenerateError> {
    let config = GenerationConfig::from_generation_config(&Value::Object(case.options.clone()))?;
    let encoder = case.encoder.clone().unwrap_or_default();
    let prompt = match &case.prompt {
        Some(prompt) => prompt.clone(),
        None => decoder_prompt(&config, encoder.len(), case.given.as_deref())?,
    };
    let mut model = Toy::new(case.vocab, case.seed, encoder.clone(), can_fork);
    let encoder = case.encoder.as_ref().map_or(EncoderTokens::Prompt, |_| EncoderTokens::Tokens(&encoder));
    let request = Request { prompt: &prompt, encoder, ..Request::default() };
    generate_with(&mut model, &config, request, &mut SplitMix(case.stream))
}

#[test]
fn tokens_and_scores_are_those_of_transformers() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("data/generation.json")).unwrap();
    assert!(cases.len() > 300);
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        for can_fork in [false, true] {
            let options = Value::Object(case.options.clone());
            let generated = match replay(case, can_fork) {
                Ok(generated) => generated,
                Err(error) => {
                    wrong.push(format!("case {number} {options}: {error}"));
                    continue;
                }
            };
            if generated.sequences != case.sequences {
                let (found, expected) = (&generated.sequences, &case.sequences);
                wrong.push(format!("case {number} {options}\n   found {found:?}\nexpected {expected:?}"));
            }
            let scores = (generated.scores.unwrap_or_default(), case.scores.clone().unwrap_or_default());
            let close = |(a, b): (&f32, &f32)| a == b || (a - b).abs() <= 2e-6 * b.abs().max(1.0);
            if scores.0.len() != scores.1.len() || !scores.0.iter().zip(&scores.1).all(close) {
                wrong
                    .push(format!("case {number} {options}: scores {:?}, expected {:?}", scores.0, scores.1));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), 2 * cases.len(), wrong.join("\n"));
}

#[test]
fn the_fixtures_reach_every_mode_and_setting() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("data/generation.json")).unwrap();
    let mut modes = Vec::new();
    let mut settings = std::collections::BTreeMap::new();
    for case in &cases {
        let options = Value::Object(case.options.clone());
        modes.push(mode(&GenerationConfig::from_generation_config(&options).unwrap()).unwrap());
        for key in case.options.keys() {
            *settings.entry(key.as_str()).or_insert(0) += 1;
        }
    }
    use frit_runtime::generation::Mode::{BeamSample, BeamSearch, Greedy, GroupBeamSearch, Sample};
    for mode in [Greedy, Sample, BeamSearch, BeamSample, GroupBeamSearch] {
        assert!(modes.iter().filter(|found| **found == mode).count() >= 20, "{mode:?}");
    }
    assert!(settings.len() >= 35 && settings.values().all(|&count| count >= 10), "{settings:?}");
}

fn toy() -> Toy {
    Toy::new(16, 1, Vec::new(), false)
}

fn config(options: Value) -> GenerationConfig {
    GenerationConfig::from_generation_config(&options).unwrap()
}

#[test]
fn tokens_stream_and_the_caller_may_stop() {
    let config = config(json!({"max_length": 12}));
    let prompt = [vec![1, 2], vec![3, 4]];
    let whole = generate(&mut toy(), &config, Request { prompt: &prompt, ..Request::default() }).unwrap();
    assert_eq!((whole.sequences[0].len(), whole.steps), (12, 10));
    let mut seen = [Vec::new(), Vec::new()];
    let mut call = |tokens: &[i64]| {
        seen.iter_mut().zip(tokens).for_each(|(row, &token)| row.push(token));
        if seen[0].len() == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let request = Request { prompt: &prompt, on_tokens: Some(&mut call), ..Request::default() };
    let part = generate(&mut toy(), &config, request).unwrap();
    for ((part, whole), seen) in part.sequences.iter().zip(&whole.sequences).zip(&seen) {
        assert_eq!(part[..], whole[..6]);
        assert_eq!(part[2..], seen[..]);
    }
}

#[test]
fn seeds_repeat() {
    let config = config(json!({"max_length": 30, "do_sample": true, "top_k": 0}));
    let run = |seed| {
        generate(&mut toy(), &config, Request { prompt: &[vec![1]], seed, ..Request::default() })
            .unwrap()
            .sequences
    };
    assert_eq!(run(Some(5)), run(Some(5)));
    assert_ne!(run(Some(5)), run(Some(6)));
    assert_ne!(run(None), run(None));
}

#[test]
fn own_processors_run_after_the_built_in_ones() {
    struct Always(usize);
    impl LogitsProcessor for Always {
        fn apply(&self, _: &Step<'_>, scores: &mut Scores<'_>) -> Result<(), GenerateError> {
            scores.rows().for_each(|row| row[self.0] = 1e9);
            Ok(())
        }
    }
    let config = config(json!({"max_length": 4, "suppress_tokens": [5]}));
    let request = Request { prompt: &[vec![1]], processors: vec![Box::new(Always(5))], ..Request::default() };
    assert_eq!(generate(&mut toy(), &config, request).unwrap().sequences, [[1, 5, 5, 5]]);
}

#[test]
fn time_runs_out() {
    for options in [
        json!({"max_length": 100_000, "max_time": 0.0}),
        json!({"max_length": 100_000, "max_time": 0.0, "num_beams": 3}),
    ] {
        let generated =
            generate(&mut toy(), &config(options), Request { prompt: &[vec![1]], ..Request::default() })
                .unwrap();
        assert!(generated.steps < 1000 && generated.sequences[0].len() == generated.steps + 1);
    }
}

#[test]
fn requests_that_cannot_be_met_are_errors() {
    let message = |options: Value, prompt: &[Vec<i64>], encoder| {
        let mut model = toy();
        model.max_positions = Some(8);
        let request = Request { prompt, encoder, ..Request::default() };
        generate(&mut model, &config(options), request).unwrap_err().to_string()
    };
    let own = EncoderTokens::Prompt;
    assert!(message(json!({}), &[], own).contains("no rows"));
    assert!(message(json!({}), &[vec![]], own).contains("no tokens"));
    assert!(message(json!({}), &[vec![1, 2], vec![1]], own).contains("row 1 has 1 tokens, row 0 has 2"));
    assert!(
        message(json!({"max_length": 20}), &[vec![1]], own).contains("9 tokens, but the model has only 8")
    );
    assert!(message(json!({"max_length": 2, "num_beams": 2}), &[vec![1, 2]], own).contains("max_length"));
    assert!(message(json!({"repetition_penalty": 2.0}), &[vec![99]], own).contains("token id 99"));
    assert!(
        message(json!({"encoder_no_repeat_ngram_size": 2}), &[vec![1]], EncoderTokens::None)
            .contains("encoder")
    );
    assert!(message(json!({}), &[vec![1]], EncoderTokens::Tokens(&[])).contains("0 rows for 1 prompts"));
    let all: Vec<i64> = (0..16).collect();
    let nothing = json!({"do_sample": true, "suppress_tokens": all});
    assert!(message(nothing.clone(), &[vec![1]], own).contains("step 0, row 0: no token can be sampled"));
    let mut beams = nothing;
    beams["num_beams"] = json!(2);
    assert!(message(beams, &[vec![1]], own).contains("no token can be sampled"));
    let ends = json!({"num_beams": 4, "eos_token_id": all});
    assert!(message(ends, &[vec![1]], own).contains("4 beams need as many candidates"));

    let mut call = |_: &[i64]| ControlFlow::Continue(());
    let request = Request { prompt: &[vec![1]], on_tokens: Some(&mut call), ..Request::default() };
    let error = generate(&mut toy(), &config(json!({"num_beams": 2})), request).unwrap_err();
    assert!(error.to_string().contains("streaming"), "{error}");
}

#[test]
fn a_models_error_comes_back_with_its_step() {
    struct Failing(usize);
    impl StepModel for Failing {
        type Error = std::io::Error;
        fn vocab(&self) -> usize {
            4
        }
        fn max_positions(&self) -> Option<usize> {
            None
        }
        fn step(&mut self, _: &[i64], _: usize, _: Option<&[usize]>, _: &mut [f32]) -> std::io::Result<()> {
            self.0 += 1;
            if self.0 == 3 { Err(std::io::Error::other("out of paper")) } else { Ok(()) }
        }
    }
    let prompt = [vec![1]];
    let request = || Request { prompt: &prompt, ..Request::default() };
    for options in [json!({}), json!({"num_beams": 2})] {
        let error = generate(&mut Failing(0), &config(options), request()).unwrap_err();
        assert_eq!(error.to_string(), "the model failed at generation step 2: out of paper");
        assert!(matches!(error, GenerateError::Model { step: 2, .. }));
    }
    struct Empty;
    impl StepModel for Empty {
        type Error = Infallible;
        fn vocab(&self) -> usize {
            0
        }
        fn max_positions(&self) -> Option<usize> {
            None
        }
        fn step(
            &mut self,
            _: &[i64],
            _: usize,
            _: Option<&[usize]>,
            _: &mut [f32],
        ) -> Result<(), Infallible> {
            Ok(())
        }
    }
    assert!(generate(&mut Empty, &config(json!({})), request()).is_err());
}

/// A model whose logits are all one odd number.
struct Odd(f32);

impl StepModel for Odd {
    type Error = Infallible;
    fn vocab(&self) -> usize {
        5
    }
    fn max_positions(&self) -> Option<usize> {
        None
    }
    fn step(
        &mut self,
        _: &[i64],
        _: usize,
        _: Option<&[usize]>,
        logits: &mut [f32],
    ) -> Result<(), Infallible> {
        logits.fill(self.0);
        Ok(())
    }
}

/// Any value that a setting could be given, most of them readable.
fn setting() -> impl Strategy<Value = (&'static str, Value)> {
    let id = -2i64..20;
    let ids = prop::collection::vec(id.clone(), 0..4);
    let number = prop_oneof![Just(-1.0), Just(0.0), Just(1.0), Just(1e30), Just(1e-30), -3.0..3.0f64];
    let count = prop_oneof![0u64..8, Just(u64::MAX), Just(1 << 40)];
    let words = prop::collection::vec(ids.clone(), 0..4);
    let pick = |keys: &'static [&'static str]| prop::sample::select(keys);
    prop_oneof![
        (
            pick(&[
                "no_repeat_ngram_size",
                "encoder_no_repeat_ngram_size",
                "min_length",
                "min_new_tokens",
                "top_k"
            ]),
            count
        )
            .prop_map(|(key, n)| (key, json!(n))),
        (
            pick(&["max_length", "max_new_tokens", "num_beams", "num_beam_groups", "num_return_sequences"]),
            0u64..9
        )
            .prop_map(|(key, n)| (key, json!(n))),
        (
            pick(&[
                "temperature",
                "top_p",
                "typical_p",
                "epsilon_cutoff",
                "eta_cutoff",
                "diversity_penalty",
                "repetition_penalty",
                "encoder_repetition_penalty",
                "length_penalty",
                "penalty_alpha",
                "guidance_scale",
                "max_time"
            ]),
            number.clone()
        )
            .prop_map(|(key, x)| (key, json!(x))),
        (pick(&["eos_token_id", "pad_token_id", "forced_eos_token_id", "forced_bos_token_id"]), id.clone())
            .prop_map(|(key, id)| (key, json!(id))),
        (
            pick(&["eos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens"]),
            ids.clone()
        )
            .prop_map(|(key, ids)| (key, json!(ids))),
        (pick(&["bad_words_ids"]), words).prop_map(|(key, words)| (key, json!(words))),
        (pick(&["sequence_bias"]), prop::collection::vec((ids, number.clone()), 0..4))
            .prop_map(|(key, pairs)| (key, json!(pairs))),
        (pick(&["forced_decoder_ids"]), prop::collection::vec((-3i64..9, prop::option::of(id)), 0..3))
            .prop_map(|(key, pairs)| (key, json!(pairs))),
        (
            pick(&["exponential_decay_length_penalty"]),
            (prop_oneof![-3i64..9, Just(i64::MAX), Just(i64::MIN)], number)
        )
            .prop_map(|(key, pair)| (key, json!(pair))),
        (
            pick(&["do_sample", "renormalize_logits", "remove_invalid_values", "early_stopping"]),
            any::<bool>()
        )
            .prop_map(|(key, on)| (key, json!(on))),
        Just(("early_stopping", json!("never"))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn no_settings_make_a_generation_panic(
        settings in prop::collection::vec(setting(), 0..9),
        prompt in prop::collection::vec(prop::collection::vec(0i64..16, 1..4), 1..4),
        odd in prop::option::of(prop::sample::select(vec![0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX])),
        can_fork: bool,
        seed: u64,
    ) {
        let options: Map<String, Value> = settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let Ok(config) = GenerationConfig::from_generation_config(&Value::Object(options)) else { return Ok(()) };
        let batch = prompt.len();
        let request = Request { prompt: &prompt, seed: Some(seed), ..Request::default() };
        let generated = match odd {
            Some(logit) => generate(&mut Odd(logit), &config, request),
            None => generate(&mut Toy::new(16, seed, Vec::new(), can_fork), &config, request),
        };
        if let Ok(generated) = generated {
            prop_assert_eq!(generated.sequences.len(), batch * config.num_return_sequences);
            let length = generated.sequences[0].len();
            prop_assert!(generated.sequences.iter().all(|row| row.len() == length));
            prop_assert!(length <= config.total_length(prompt[0].len()).max(prompt[0].len() + 1));
            let starts = generated.sequences.iter().zip(prompt.iter().flat_map(|row| {
                std::iter::repeat_n(row, config.num_return_sequences)
            }));
            for (row, start) in starts {
                prop_assert_eq!(&row[..start.len()], start);
            }
        }
    }
}
