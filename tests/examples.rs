//! The models that ship in examples/, compiled and run on their held-out files as a newcomer runs them. The bars are
//! those of the project; each example's README has the figures of transformers.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use common::{arg, frit_ok, root};
use std::path::Path;

/// File and truth of every held-out input.
fn heldout(example: &str) -> Vec<(String, String)> {
    let text =
        std::fs::read_to_string(root().join("examples").join(example).join("heldout/expected.tsv")).unwrap();
    text.lines().filter_map(|l| l.split_once('\t')).map(|(f, t)| (f.to_owned(), t.to_owned())).collect()
}

/// Compiles the example in these numbers and answers every held-out file with one loaded model.
fn answers(example: &str, flag: &str, dtype: &str) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let compiled = folder.path().join("model.frit");
    let source = root().join("examples").join(example);
    frit_ok(&["compile", arg(&source), "-o", arg(&compiled), "--dtype", dtype]);
    let loaded = frit::load(&compiled, &frit::LoadOptions::default()).unwrap();
    let pairs = heldout(example);
    assert!(pairs.len() >= 30, "{example} has {} held-out files", pairs.len());
    pairs
        .into_iter()
        .map(|(file, truth)| {
            let path = source.join("heldout").join(&file);
            let question = match flag {
                "audio" => frit::answer::Question { sounds: vec![path], top: 1, ..Default::default() },
                _ => frit::answer::Question { images: vec![path], top: 1, ..Default::default() },
            };
            let answer = frit::answer::answer(&loaded, &question).unwrap().to_json();
            let first = &answer["answers"][0];
            let text = first["text"].as_str().or(first["labels"][0]["label"].as_str()).unwrap_or_default();
            (text.trim().to_owned(), truth.trim().to_owned())
        })
        .collect()
}

fn share_right(pairs: &[(String, String)]) -> f64 {
    pairs.iter().filter(|(got, truth)| got == truth).count() as f64 / pairs.len() as f64
}

/// Least number of words inserted, deleted or replaced.
fn word_errors(got: &str, truth: &str) -> usize {
    let (g, t): (Vec<&str>, Vec<&str>) =
        (got.split_whitespace().collect(), truth.split_whitespace().collect());
    let mut row: Vec<usize> = (0..=t.len()).collect();
    for (i, gw) in g.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, tw) in t.iter().enumerate() {
            let next = (diagonal + usize::from(gw != tw)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[t.len()]
}

#[test]
fn digits_are_read() {
    let right = share_right(&answers("digits", "image", "f32"));
    assert!(right >= 0.95, "held-out accuracy {right}");
}

#[test]
fn spoken_digits_are_heard() {
    let pairs = answers("spoken-digits", "audio", "f32");
    let errors: usize = pairs.iter().map(|(g, t)| word_errors(g, t)).sum();
    let words: usize = pairs.iter().map(|(_, t)| t.split_whitespace().count()).sum();
    let rate = errors as f64 / words as f64;
    assert!(rate <= 0.10, "held-out word error rate {rate}");
}

#[test]
fn digit_strips_are_read() {
    let right = share_right(&answers("digit-strip", "image", "f32"));
    assert!(right >= 0.80, "held-out exact strips {right}");
}

/// bf16 and int8 read what f32 reads, right or wrong.
#[test]
fn fewer_bits_give_the_same_answers() {
    for (example, flag) in [("digits", "image"), ("spoken-digits", "audio"), ("digit-strip", "image")] {
        let exact = answers(example, flag, "f32");
        for dtype in ["bf16", "int8"] {
            let fewer = answers(example, flag, dtype);
            let other: Vec<_> = exact.iter().zip(&fewer).filter(|(a, b)| a.0 != b.0).collect();
            println!("{example} {dtype}: {} of {} differ", other.len(), exact.len());
            assert!(other.is_empty(), "{example} in {dtype}: {other:?}");
        }
    }
}

#[test]
fn word_errors_count_edits() {
    assert_eq!(word_errors("one two three", "one two three"), 0);
    assert_eq!(word_errors("one three", "one two three"), 1);
    assert_eq!(word_errors("", "one two"), 2);
    assert_eq!(word_errors("two two two", "two"), 2);
}

#[test]
fn every_example_ships_small() {
    for e in ["digits", "spoken-digits", "digit-strip"] {
        let bytes =
            std::fs::metadata(root().join("examples").join(e).join("model.safetensors")).unwrap().len();
        assert!(bytes < 1_500_000, "{e}: {bytes} bytes");
        assert!(Path::new(&root().join("examples").join(e).join("train.py")).is_file());
    }
}
