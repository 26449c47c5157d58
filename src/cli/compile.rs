//! `frit compile`: a checkpoint becomes one file.

use super::args::Compile;
use super::{dims, print_json, print_text, signature, warn};
use frit::backend::{Precision, Target};
use frit::load::LoadOptions;
use frit::{Error, tensors};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Instant;

pub(super) fn compile(a: &Compile) -> Result<(), Error> {
    let begin = Instant::now();
    let target = Target::from_name(&a.target).ok_or_else(|| {
        Error::Usage(format!("no target `{}`; there are native, x86-64-v4, x86-64-v3 and generic", a.target))
    })?;
    if target > Target::native() {
        eprintln!("frit: note: this machine cannot run what is compiled for {}", target.name());
    }
    if frit::load::Kind::of(&a.model)? == frit::load::Kind::Artifact {
        return Err(Error::Usage(format!("{} is compiled already", a.model.display())));
    }
    let like = a.inputs.as_deref().map(tensors::read).transpose()?;
    let options = LoadOptions {
        head: a.part.head.clone(),
        entry: a.part.entry.clone(),
        signature: signature(like.as_ref(), a.fix.signature.as_deref()),
        select: a.part.select.clone(),
        examples: like.clone().unwrap_or_default(),
        dims: dims(&a.fix.dims)?,
        precision: a.dtype.into(),
        target: Some(target),
        threads: a.threads.map(usize::from),
        ..LoadOptions::default()
    };
    let loaded = frit::load(&a.model, &options)?;
    warn(&loaded);
    let assets: Vec<(String, Vec<u8>)> =
        loaded.assets.iter().map(|(n, b)| (n.to_owned(), b.to_vec())).collect();
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("packing weights {wide_bar} {pos}/{len}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let written = frit::runtime::artifact::write(&loaded.model, &assets, &a.output, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let written = written?;
    let seconds = begin.elapsed().as_secs_f64();
    if a.json {
        return print_json(&serde_json::json!({
            "output": a.output,
            "class": loaded.model.fact("class"),
            "entries": loaded.model.entries().collect::<Vec<_>>(),
            "target": target.name(),
            "dtype": Precision::from(a.dtype).name(),
            "bytes": written.bytes,
            "weight_bytes": written.weight_bytes,
            "compile_s": seconds,
        }));
    }
    let mb = written.bytes as f64 / 1e6;
    let entries: Vec<&str> = loaded.model.entries().collect();
    print_text(&format!(
        "{}: {} ({}), {mb:.1} MB, {}, {}, in {seconds:.2} s\n",
        a.output.display(),
        loaded.model.fact("class").unwrap_or("model"),
        entries.join(", "),
        target.name(),
        Precision::from(a.dtype).name()
    ))
}
