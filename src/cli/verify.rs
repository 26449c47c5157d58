//! `frit verify`: a line for each data set, or for each case of a suite. What matches is decided in `frit::verify`.

use super::args::Verify;
use super::{backend, print_json, print_text};
use frit::Error;
use frit::runtime::{Engine, EngineOptions};
use frit::verify::{Outcome, Tolerance, Verifier};
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(super) fn verify(a: &Verify) -> Result<(), Error> {
    let tolerance = Tolerance { rtol: a.rtol, atol: a.atol };
    if !(tolerance.rtol >= 0.0 && tolerance.atol >= 0.0) {
        return Err(Error::Usage("--rtol and --atol are numbers from 0 upwards".into()));
    }
    let engine = Engine::new(EngineOptions {
        threads: a.place.threads.map(usize::from),
        backend: backend(&a.place.backend)?,
        ..EngineOptions::default()
    })?;
    if a.suite {
        return suite(a, &engine, tolerance);
    }
    for folder in &a.data {
        if !folder.is_dir() {
            return Err(Error::Usage(format!("--data {}: no such folder", folder.display())));
        }
    }
    let mut verifier = Verifier::open(&a.model, engine, tolerance)?;
    let mut outcomes = Vec::new();
    for folder in &a.data {
        let outcome = verifier.check(folder);
        if !a.json {
            print_text(&format!("{}\n", line(&outcome)))?;
        }
        outcomes.push(outcome);
    }
    if a.json {
        print_json(&serde_json::json!({
            "model": a.model,
            "backend": a.place.backend,
            "rtol": a.rtol,
            "atol": a.atol,
            "data_sets": outcomes.iter().map(object).collect::<Vec<_>>(),
        }))?;
    }
    let wrong = outcomes.iter().filter(|o| o.result.is_err()).count();
    if wrong > 0 { Err(Error::Mismatch { wrong, all: outcomes.len() }) } else { Ok(()) }
}

fn line(o: &Outcome) -> String {
    let plural = if o.outputs == 1 { "" } else { "s" };
    match &o.result {
        Ok(worst) => format!(
            "{}: matches, {} output{plural}, largest difference {worst:.2e}",
            o.folder.display(),
            o.outputs
        ),
        Err(why) => format!("{}: does not match: {why}", o.folder.display()),
    }
}

fn object(o: &Outcome) -> serde_json::Value {
    serde_json::json!({
        "folder": o.folder,
        "matches": o.result.is_ok(),
        "outputs": o.outputs,
        "largest_difference": o.result.as_ref().ok(),
        "error": o.result.as_ref().err().map(ToString::to_string),
    })
}

/// Every case of a folder in one process. An error of one case, a panic included, is that case's result.
fn suite(a: &Verify, engine: &Engine, tolerance: Tolerance) -> Result<(), Error> {
    let io = |source| Error::Io { path: a.model.clone(), source };
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&a.model)
        .map_err(io)?
        .map(|e| e.map(|e| e.path()))
        .collect::<Result<_, _>>()
        .map_err(io)?;
    cases.retain(|c| {
        c.join("model.onnx").is_file() && a.after.as_deref().is_none_or(|n| name(c).as_str() > n)
    });
    cases.sort();
    let mut wrong = 0;
    for case in &cases {
        let begin = Instant::now();
        let run = std::panic::AssertUnwindSafe(|| check_case(case, engine, tolerance));
        let result = std::panic::catch_unwind(run).unwrap_or_else(|_| Err("panicked".to_owned()));
        wrong += usize::from(result.is_err());
        let line = serde_json::json!({
            "case": name(case),
            "matches": result.is_ok(),
            "error": result.err(),
            "seconds": begin.elapsed().as_secs_f64(),
        });
        print_text(&format!("{line}\n"))?;
    }
    if wrong > 0 { Err(Error::Mismatch { wrong, all: cases.len() }) } else { Ok(()) }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// All data sets of one case.
fn check_case(case: &Path, engine: &Engine, tolerance: Tolerance) -> Result<(), String> {
    let said = |e: &dyn std::fmt::Display| e.to_string();
    let mut verifier =
        Verifier::open(&case.join("model.onnx"), engine.clone(), tolerance).map_err(|e| said(&e))?;
    let entries = std::fs::read_dir(case).map_err(|e| said(&e))?;
    let mut sets: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    sets.retain(|s| s.is_dir() && name(s).starts_with("test_data_set"));
    sets.sort();
    if sets.is_empty() {
        return Err("no test_data_set folder".to_owned());
    }
    for set in &sets {
        verifier.check(set).result.map_err(|e| said(&e))?;
    }
    Ok(())
}
