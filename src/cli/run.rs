//! `frit run`: tensors in, tensors out; or raw input to an answer.

use super::args::Run;
use super::{borrowed, load_options, print_json, print_text, signature, warn};
use frit::load::Limits;
use frit::runtime::Model;
use frit::{Error, tensors};
use std::path::Path;

pub(super) fn run(a: &Run) -> Result<(), Error> {
    match (&a.tensors.inputs, a.raw.is_given()) {
        (Some(_), true) => {
            Err(Error::Usage("give either --inputs or raw input (--text, --image, --audio)".into()))
        }
        (Some(inputs), false) => on_tensors(a, inputs),
        (None, true) => on_raw(a),
        (None, false) => {
            Err(Error::Usage("nothing to run on: give --inputs, --text, --image or --audio".into()))
        }
    }
}

fn on_tensors(a: &Run, inputs: &Path) -> Result<(), Error> {
    let outputs = a.tensors.outputs.as_ref();
    let outputs =
        outputs.ok_or_else(|| Error::Usage("--inputs needs --outputs, the file to write".into()))?;
    let mut tensors = tensors::read(inputs)?;
    let mut options = load_options(&a.part, &a.place)?;
    options.signature = signature(Some(&tensors), None);
    options.examples = tensors.clone();
    let loaded = frit::load(&a.model, &options)?;
    warn(&loaded);
    frit::onnx::without_static(loaded.model.facts(), &mut tensors)?;
    let entry = entry_name(&loaded.model, a.part.entry.as_deref())?;
    let mut session = loaded.model.session(&entry)?;
    let given = Limits {
        memory: a.memory_limit.map(|mib| mib.saturating_mul(1 << 20)),
        iterations: a.iteration_limit,
        work: a.work_limit.map(|g| g.saturating_mul(1_000_000_000)),
    };
    let bytes = tensors.values().map(|t| t.bytes().len()).sum();
    given.or(Limits::usual(&loaded.model, bytes)).apply(&mut session);
    let result = session.run(&borrowed(&tensors))?;
    let names = selected(&result.names().map(str::to_owned).collect::<Vec<_>>(), a.part.select.as_deref())?;
    let results =
        names.into_iter().map(|n| result.tensor(&n).map(|t| (n, t))).collect::<Result<Vec<_>, _>>()?;
    tensors::write(outputs, &results)
}

/// The entry point to run: the one asked for, or the first.
pub(super) fn entry_name(model: &Model, asked: Option<&str>) -> Result<String, Error> {
    match asked {
        Some(name) => Ok(name.to_owned()),
        None => model
            .entries()
            .next()
            .map(str::to_owned)
            .ok_or_else(|| Error::Usage("the model has no entry point".into())),
    }
}

/// The outputs that `select` names, a tuple's name standing for its members; all of them without it.
pub(super) fn selected(names: &[String], select: Option<&[String]>) -> Result<Vec<String>, Error> {
    let Some(select) = select else { return Ok(names.to_vec()) };
    let mut out: Vec<String> = Vec::new();
    for s in select {
        let before = out.len();
        for n in names {
            let member = n.strip_prefix(s.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('.'));
            if member && !out.contains(n) {
                out.push(n.clone());
            }
        }
        if out.len() == before && !names.iter().any(|n| n == s) {
            return Err(Error::Usage(format!("no output `{s}`; the model gives {}", names.join(", "))));
        }
    }
    Ok(out)
}

fn on_raw(a: &Run) -> Result<(), Error> {
    let loaded = frit::load(&a.model, &load_options(&a.part, &a.place)?)?;
    warn(&loaded);
    let question = frit::answer::Question {
        texts: a.raw.text.clone(),
        images: a.raw.image.clone(),
        sounds: a.raw.audio.clone(),
        top: a.top,
        entry: a.part.entry.clone(),
        ..Default::default()
    };
    let answer = frit::answer::answer(&loaded, &question)?;
    if a.raw.json { print_json(&answer.to_json()) } else { print_text(&answer.to_string()) }
}
