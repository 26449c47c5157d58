//! The commands of the command line, one file each, and what they share. Flags are declared in `args.rs`.

pub mod args;
mod bench;
mod compile;
mod export;
mod generate;
mod inspect;
mod profile;
mod run;
mod verify;

use args::{Cli, Command, Part, Where};
use frit::load::{InputSpec, LoadOptions};
use frit::runtime::BackendKind;
use frit::{Error, ir::Tensor};
use std::collections::BTreeMap;
use std::io::Write;

/// Runs a parsed call.
pub fn dispatch(cli: Cli) -> Result<(), Error> {
    match cli.command {
        Command::Compile(a) => compile::compile(&a),
        Command::Run(a) => run::run(&a),
        Command::Generate(a) => generate::generate(&a),
        Command::Bench(a) => bench::bench(&a),
        Command::Inspect(a) => inspect::inspect(&a),
        Command::Export(a) => export::export(&a),
        Command::Verify(a) => verify::verify(&a),
        Command::Completions { shell } => {
            let mut command = <Cli as clap::CommandFactory>::command();
            clap_complete::generate(shell, &mut command, "frit", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// The backend of a name.
fn backend(name: &str) -> Result<BackendKind, Error> {
    BackendKind::from_name(name).ok_or_else(|| match name {
        "opencl" => Error::Usage("this build has no backend `opencl`; it has cpu and reference".into()),
        _ => Error::Usage(format!("no backend `{name}`; there are cpu, reference, tract and opencl")),
    })
}

/// Options common to the commands that run.
fn load_options(part: &Part, place: &Where) -> Result<LoadOptions, Error> {
    Ok(LoadOptions {
        head: part.head.clone(),
        entry: part.entry.clone(),
        select: part.select.clone(),
        threads: place.threads.map(usize::from),
        backend: backend(&place.backend)?,
        ..LoadOptions::default()
    })
}

fn dims(given: &[(String, usize)]) -> Result<BTreeMap<String, usize>, Error> {
    let mut out = BTreeMap::new();
    for (name, n) in given {
        if out.insert(name.clone(), *n).is_some_and(|old| old != *n) {
            return Err(Error::Usage(format!("--dim gives `{name}` twice, with different values")));
        }
    }
    Ok(out)
}

/// The inputs that a model is built for: like those of a file, or of the names given; None leaves it to the model.
fn signature(inputs: Option<&BTreeMap<String, Tensor>>, names: Option<&[String]>) -> Option<Vec<InputSpec>> {
    match (inputs, names) {
        (Some(t), _) => Some(t.iter().map(|(n, t)| InputSpec::of(n, t.dtype(), t.shape())).collect()),
        (None, Some(names)) => Some(names.iter().map(|n| InputSpec::from(n.as_str())).collect()),
        (None, None) => None,
    }
}

/// Tells of what is wrong with a model's file but does not matter.
fn warn(loaded: &frit::Loaded) {
    for w in &loaded.warnings {
        eprintln!("frit: warning: {w}");
    }
}

/// Prints one JSON object on standard output.
fn print_json(value: &serde_json::Value) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    let text = serde_json::to_string_pretty(value)?;
    match writeln!(out, "{text}") {
        // A reader that went away is no failure of ours.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|source| Error::Io { path: "standard output".into(), source }),
    }
}

/// Prints text on standard output.
fn print_text(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|source| Error::Io { path: "standard output".into(), source }),
    }
}

/// Inputs as a session takes them.
fn borrowed(inputs: &BTreeMap<String, Tensor>) -> Vec<(&str, &Tensor)> {
    inputs.iter().map(|(n, t)| (n.as_str(), t)).collect()
}

/// The most memory that this process has held, in bytes.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kb| kb.saturating_mul(1024))
}
