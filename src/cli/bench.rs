//! `frit bench`: how long a model takes to load and to run. Where the time goes is in `profile.rs`.

use super::args::Bench;
use super::profile::Profile;
use super::run::entry_name;
use super::{borrowed, dims, load_options, peak_rss_bytes, print_json, print_text, signature};
use frit::backend::Precision;
use frit::ir::tensor::byte_len;
use frit::ir::{Bindings, DType, Graph, Tensor, TensorType, binding};
use frit::runtime::{RuntimeError, Session};
use frit::{Error, tensors};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;

/// Bytes of inputs made up for a model from an ONNX file, which may declare them of any size.
const MOST_MADE_UP: usize = 32 << 20;

/// Sizes of dimensions that neither inputs nor --dim give.
const USUAL: [(&str, usize); 4] = [("batch", 1), ("sequence", 128), ("samples", 80_000), ("past", 0)];

pub(super) fn bench(a: &Bench) -> Result<(), Error> {
    let mut options = load_options(&a.part, &a.place)?;
    options.precision = a.dtype.map(Precision::from).unwrap_or_default();
    let given = a.inputs.as_deref().map(tensors::read).transpose()?;
    options.signature = signature(given.as_ref(), a.fix.signature.as_deref());
    let mut sizes = dims(&a.fix.dims)?;
    let begin = Instant::now();
    options.examples = given.clone().unwrap_or_default();
    let loaded = frit::load(&a.model, &options)?;
    let precision = loaded.model.plan_options().precision;
    if a.dtype.is_some() && precision != options.precision {
        return Err(Error::Usage(format!(
            "{} is compiled in {}; --dtype {} needs the checkpoint",
            a.model.display(),
            precision.name(),
            options.precision.name()
        )));
    }
    let entry = entry_name(&loaded.model, a.part.entry.as_deref())?;
    let mut session = loaded.model.session(&entry)?;
    let load_s = begin.elapsed().as_secs_f64();
    if let Some(past) = a.past {
        sizes.extend(kept_symbols(session.graph()).map(|s| (s, past)));
    }
    let inputs = match given {
        Some(mut t) => {
            frit::onnx::without_static(loaded.model.facts(), &mut t)?;
            t
        }
        None => {
            let most = if loaded.model.fact("format") == Some("onnx") { MOST_MADE_UP } else { usize::MAX };
            made_up(session.graph(), &sizes, most)?
        }
    };
    let bytes = inputs.values().map(|t| t.bytes().len()).sum();
    frit::load::Limits::usual(&loaded.model, bytes).apply(&mut session);
    let inputs = borrowed(&inputs);

    let kept = a.past.map(|past| caches(session.graph(), &inputs, past)).transpose()?.unwrap_or_default();
    let start: Vec<(&str, &Tensor)> = inputs.iter().copied().chain(borrowed(&kept)).collect();
    let reset = |session: &mut Session| match a.past {
        Some(past) => session.truncate_state(past),
        None => session.clear_state(),
    };
    session.run(&start)?;
    reset(&mut session);
    session.set_profiling(true);
    session.run(&inputs)?;
    reset(&mut session);
    let flops: f64 = session.profile().unwrap_or(&[]).iter().map(|s| s.flops).sum();
    session.set_profiling(false);
    let bar = ProgressBar::new(u64::from(a.runs)).with_style(
        ProgressStyle::with_template("measuring {wide_bar} {pos}/{len}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let mut times = Vec::new();
    for _ in 0..a.runs {
        let start = Instant::now();
        session.run(&inputs)?;
        times.push(start.elapsed().as_secs_f64());
        reset(&mut session);
        bar.inc(1);
    }
    bar.finish_and_clear();
    times.sort_by(f64::total_cmp);
    let median = median(&times);
    let (min, max) = (times.first().copied().unwrap_or(0.0), times.last().copied().unwrap_or(0.0));
    let threads = loaded.model.engine().threads();
    let (count, unit) = items(&inputs);
    let per_second = count as f64 / median;

    // Before the machine is measured, which takes memory.
    let (peak_rss, session_bytes) = (peak_rss_bytes(), session.memory_bytes());
    let profile = match &a.profile {
        Some(path) => {
            let limits = loaded.model.engine().limits()?;
            let profile = Profile::take(&mut session, &inputs, &reset, limits)?;
            profile.write_trace(path)?;
            Some(profile)
        }
        None => None,
    };
    if a.json {
        let mut all = serde_json::json!({
            "model": a.model,
            "entry": entry,
            "load_s": load_s,
            "median_s": median,
            "min_s": min,
            "max_s": max,
            "runs": a.runs,
            "threads": threads,
            "dtype": precision.name(),
            "peak_rss_bytes": peak_rss,
            "session_bytes": session_bytes,
            "items": count,
            "item": unit,
            "items_per_s": per_second,
            "flops": flops,
            "gflop_per_s": flops / median / 1e9,
        });
        if let (Some(profile), Some(map)) = (&profile, all.as_object_mut()) {
            map.insert("profile".to_owned(), profile.json());
        }
        return print_json(&all);
    }
    let mut text = profile.as_ref().map(Profile::table).unwrap_or_default();
    let _ = writeln!(text, "load     {:9.2} ms", load_s * 1e3);
    let _ = writeln!(
        text,
        "median   {:9.2} ms  of {} runs ({:.2} to {:.2})",
        median * 1e3,
        a.runs,
        min * 1e3,
        max * 1e3
    );
    let _ = writeln!(text, "rate     {per_second:9.1} {unit}/s");
    let _ = writeln!(
        text,
        "compute  {:9.1} GFLOP/s on {threads} threads, {}",
        flops / median / 1e9,
        precision.name()
    );
    if let Some(rss) = peak_rss {
        let _ = writeln!(text, "memory   {:9.1} MB at most", rss as f64 / 1e6);
    }
    print_text(&text)
}

fn median(sorted: &[f64]) -> f64 {
    let n = sorted.len();
    let at = |i: usize| sorted.get(i).copied().unwrap_or(0.0);
    if n.is_multiple_of(2) { (at((n / 2).saturating_sub(1)) + at(n / 2)) / 2.0 } else { at(n / 2) }
}

/// How many of what one run handles: tokens, samples or images.
fn items(inputs: &[(&str, &Tensor)]) -> (usize, &'static str) {
    let find = |names: &[&str]| inputs.iter().find(|(n, _)| names.contains(n)).map(|(_, t)| *t);
    if let Some(t) = find(&["pixel_values"]) {
        return (t.shape().first().copied().unwrap_or(1), "images");
    }
    if let Some(t) = find(&["input_ids", "decoder_input_ids"]) {
        return (t.len(), "tokens");
    }
    match find(&["input_values"]) {
        Some(t) => (t.len(), "samples"),
        None => (1, "runs"),
    }
}

fn input_type<'g>(graph: &'g Graph, name: &str) -> Option<&'g TensorType> {
    graph.inputs.iter().find(|i| i.name == name).and_then(|i| graph.ty(i.value))
}

/// The symbols that say how much the caches hold.
fn kept_symbols(graph: &Graph) -> impl Iterator<Item = String> {
    let extent = |s: &frit::ir::State| input_type(graph, &s.input)?.shape.get(s.axis)?.as_symbol();
    graph.states.iter().filter_map(move |s| extent(s).map(str::to_owned))
}

/// What the caches of a decoding step may hold after `past` tokens.
fn caches(graph: &Graph, inputs: &[(&str, &Tensor)], past: usize) -> Result<BTreeMap<String, Tensor>, Error> {
    if graph.states.is_empty() {
        let why = format!("--past: `{}` keeps nothing; name the entry of a decoding step", graph.name);
        return Err(Error::Usage(why));
    }
    let is_state = |name: &str| graph.states.iter().any(|s| s.input == name);
    let mut known = Bindings::new();
    for s in kept_symbols(graph) {
        known.set(&s, i64::try_from(past).unwrap_or(i64::MAX));
    }
    let shape_of =
        |name: &str| inputs.iter().find(|(n, _)| *n == name).map(|(_, t)| (t.dtype(), t.shape().to_vec()));
    let bindings =
        binding::bind_with(graph, &shape_of, &is_state, known).map_err(|e| Error::Usage(e.to_string()))?;
    let mut out = BTreeMap::new();
    for s in &graph.states {
        let Some(ty) = input_type(graph, &s.input) else { continue };
        let shape = ty.eval_shape(&bindings).map_err(|e| Error::Usage(format!("`{}`: {e}", s.input)))?;
        out.insert(s.input.clone(), wave(ty.dtype, &shape)?);
    }
    Ok(out)
}

/// Numbers that are neither all alike nor large.
fn wave(dtype: DType, shape: &[usize]) -> Result<Tensor, Error> {
    let n = Tensor::zeros(DType::U8, shape)?.len();
    let value = |i: usize| if dtype.is_float() { (i as f64 * 0.37).sin() } else { (i % 7 + 1) as f64 };
    Ok(Tensor::from_f64(dtype, shape, &(0..n).map(value).collect::<Vec<f64>>())?)
}

/// Inputs of the sizes asked for: small token ids, ones for masks, a wave for sound and images.
fn made_up(
    graph: &Graph,
    sizes: &BTreeMap<String, usize>,
    most: usize,
) -> Result<BTreeMap<String, Tensor>, Error> {
    let mut needed = 0usize;
    let mut bindings = Bindings::new();
    for s in graph.input_symbols() {
        let usual = USUAL.iter().find(|(n, _)| *n == &*s).map(|(_, v)| *v);
        let Some(n) = sizes.get(&*s).copied().or(usual) else {
            return Err(Error::Usage(format!("give --dim {s}=N: no usual size is known for it")));
        };
        bindings.set(&s, i64::try_from(n).unwrap_or(i64::MAX));
    }
    let mut out = BTreeMap::new();
    for input in &graph.inputs {
        let Some(ty) = graph.ty(input.value) else { continue };
        if graph.states.iter().any(|s| s.input == input.name) {
            continue;
        }
        let shape =
            ty.eval_shape(&bindings).map_err(|e| Error::Usage(format!("input `{}`: {e}", input.name)))?;
        needed = needed.saturating_add(byte_len(ty.dtype, &shape)?);
        if needed > most {
            let entry = graph.name.clone();
            return Err(RuntimeError::MemoryLimit { entry, needed, limit: most }.into());
        }
        let tensor = match input.default {
            Some(d) => binding::default_tensor(d, ty.dtype, &shape)?,
            None if ty.dtype == DType::Bool => Tensor::zeros(DType::Bool, &shape)?,
            None => wave(ty.dtype, &shape)?,
        };
        out.insert(input.name.clone(), tensor);
    }
    Ok(out)
}
