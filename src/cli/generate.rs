//! `frit generate`: token sequences from tensors, or text from raw input.

use super::args::{Generate, GenerateOptions, Part};
use super::{load_options, print_json, print_text};
use frit::generate::Settings;
use frit::{Error, tensors};
use serde_json::{Map, Value};
use std::path::Path;

pub(super) fn generate(a: &Generate) -> Result<(), Error> {
    let settings = settings(&a.options)?;
    match (&a.tensors.inputs, a.raw.is_given()) {
        (Some(_), true) => {
            Err(Error::Usage("give either --inputs or raw input (--text, --image, --audio)".into()))
        }
        (Some(inputs), false) => on_tensors(a, inputs, &settings),
        (None, true) => on_raw(a, settings),
        (None, false) => {
            Err(Error::Usage("nothing to generate from: give --inputs, --text, --image or --audio".into()))
        }
    }
}

fn settings(options: &GenerateOptions) -> Result<Settings, Error> {
    let Value::Object(mut map) = serde_json::to_value(options)? else {
        return Ok(Settings::default());
    };
    for (name, value) in &options.set {
        if map.insert(name.clone(), value.clone()).is_some() {
            return Err(Error::Usage(format!("--set {name} repeats a flag")));
        }
    }
    // A limit of new tokens given in the call rules over a total length that the files hold.
    let map: Map<String, Value> = map.into_iter().filter(|(_, v)| !v.is_null()).collect();
    Ok(Settings { options: map, seed: options.seed })
}

fn part(a: &Generate) -> Part {
    Part { head: a.head.clone(), ..Part::default() }
}

fn on_tensors(a: &Generate, inputs: &Path, settings: &Settings) -> Result<(), Error> {
    let outputs = a.tensors.outputs.as_ref();
    let outputs =
        outputs.ok_or_else(|| Error::Usage("--inputs needs --outputs, the file to write".into()))?;
    let tensors = tensors::read(inputs)?;
    // Generation has entry points of its own, whose inputs do not depend on the call.
    let loaded = frit::load(&a.model, &load_options(&part(a), &a.place)?)?;
    let made = frit::generate::generate(&loaded, &tensors, settings)?;
    tensors::write(outputs, &made.outputs)
}

fn on_raw(a: &Generate, settings: Settings) -> Result<(), Error> {
    let loaded = frit::load(&a.model, &load_options(&part(a), &a.place)?)?;
    let question = frit::answer::Question {
        texts: a.raw.text.clone(),
        images: a.raw.image.clone(),
        sounds: a.raw.audio.clone(),
        top: 1,
        entry: None,
        settings,
    };
    let answer = frit::answer::answer(&loaded, &question)?;
    if a.raw.json { print_json(&answer.to_json()) } else { print_text(&answer.to_string()) }
}
