//! `frit bench`: how long a model takes to load and to run, and where the time goes.

use super::args::Bench;
use super::run::entry_name;
use super::{borrowed, dims, load_options, peak_rss_bytes, precision, print_json, print_text, signature};
use frit::ir::tensor::byte_len;
use frit::ir::{Bindings, DType, Graph, Tensor, binding};
use frit::runtime::{RuntimeError, StepTime};
use frit::{Error, tensors};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

/// Bytes of inputs made up for a model from an ONNX file, which may declare them of any size.
const MOST_MADE_UP: usize = 32 << 20;

/// Sizes of dimensions that neither inputs nor --dim give.
const USUAL: [(&str, usize); 4] = [("batch", 1), ("sequence", 128), ("samples", 80_000), ("past", 0)];

pub(super) fn bench(a: &Bench) -> Result<(), Error> {
    let mut options = load_options(&a.part, &a.place)?;
    options.precision = precision(a.dtype)?;
    let given = a.inputs.as_deref().map(tensors::read).transpose()?;
    options.signature = signature(given.as_ref(), a.fix.signature.as_deref());
    let sizes = dims(&a.fix.dims)?;
    let begin = Instant::now();
    options.examples = given.clone().unwrap_or_default();
    let loaded = frit::load(&a.model, &options)?;
    let entry = entry_name(&loaded.model, a.part.entry.as_deref())?;
    let mut session = loaded.model.session(&entry)?;
    let load_s = begin.elapsed().as_secs_f64();
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

    session.run(&inputs)?;
    session.clear_state();
    session.set_profiling(true);
    session.run(&inputs)?;
    session.clear_state();
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
        session.clear_state();
        bar.inc(1);
    }
    bar.finish_and_clear();
    times.sort_by(f64::total_cmp);
    let median = median(&times);
    let (min, max) = (times.first().copied().unwrap_or(0.0), times.last().copied().unwrap_or(0.0));
    let threads = loaded.model.engine().threads();
    let (count, unit) = items(&inputs);
    let per_second = count as f64 / median;

    let mut table = String::new();
    if let Some(path) = &a.profile {
        session.set_profiling(true);
        session.run(&inputs)?;
        let steps = session.profile().unwrap_or(&[]).to_vec();
        write_trace(path, &steps)?;
        table = profile_table(&steps);
    }
    if a.json {
        if !table.is_empty() {
            eprint!("{table}");
        }
        return print_json(&serde_json::json!({
            "model": a.model,
            "entry": entry,
            "load_s": load_s,
            "median_s": median,
            "min_s": min,
            "max_s": max,
            "runs": a.runs,
            "threads": threads,
            "dtype": a.dtype.word(),
            "peak_rss_bytes": peak_rss_bytes(),
            "session_bytes": session.memory_bytes(),
            "items": count,
            "item": unit,
            "items_per_s": per_second,
            "flops": flops,
            "gflop_per_s": flops / median / 1e9,
        }));
    }
    let mut text = table;
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
        a.dtype.word()
    );
    if let Some(rss) = peak_rss_bytes() {
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
            None => {
                let n: usize = Tensor::zeros(DType::U8, &shape)?.len();
                let values: Vec<f64> = (0..n)
                    .map(|i| if ty.dtype.is_float() { (i as f64 * 0.37).sin() } else { (i % 7 + 1) as f64 })
                    .collect();
                Tensor::from_f64(ty.dtype, &shape, &values)?
            }
        };
        out.insert(input.name.clone(), tensor);
    }
    Ok(out)
}

/// Time by kind of op, then the slowest steps.
fn profile_table(steps: &[StepTime]) -> String {
    let total: f64 = steps.iter().map(|s| s.time.as_secs_f64()).sum();
    let mut by_op: BTreeMap<&str, (usize, f64, f64, f64)> = BTreeMap::new();
    for s in steps {
        let e = by_op.entry(&s.op).or_default();
        *e = (e.0 + 1, e.1 + s.time.as_secs_f64(), e.2 + s.flops, e.3 + s.bytes);
    }
    let mut rows: Vec<_> = by_op.into_iter().collect();
    rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    let mut out = format!("{:>10} {:>6} {:>6} {:>9} {:>8}  op\n", "ms", "%", "count", "GFLOP/s", "GB/s");
    let mut line = |ms: f64, count: usize, flops: f64, bytes: f64, what: &str| {
        let rate = |x: f64| if ms > 0.0 { x / ms / 1e6 } else { 0.0 };
        let percent = if total > 0.0 { ms / total / 10.0 } else { 0.0 };
        let _ = writeln!(
            out,
            "{ms:10.3} {percent:6.1} {count:6} {:9.1} {:8.1}  {what}",
            rate(flops),
            rate(bytes)
        );
    };
    for (op, (count, time, flops, bytes)) in &rows {
        line(time * 1e3, *count, *flops, *bytes, op);
    }
    let mut slowest: Vec<&StepTime> = steps.iter().collect();
    slowest.sort_by_key(|s| std::cmp::Reverse(s.time));
    for s in slowest.iter().take(20) {
        line(s.time.as_secs_f64() * 1e3, 1, s.flops, s.bytes, &format!("{}  {}", s.label, s.kernel));
    }
    out
}

/// A trace in the Trace Event Format, for Perfetto and chrome://tracing.
fn write_trace(path: &Path, steps: &[StepTime]) -> Result<(), Error> {
    let events: Vec<serde_json::Value> = steps
        .iter()
        .map(|s| {
            serde_json::json!({
                "name": if s.label.is_empty() { &s.op } else { &s.label },
                "cat": s.op,
                "ph": "X",
                "ts": s.start.as_secs_f64() * 1e6,
                "dur": s.time.as_secs_f64() * 1e6,
                "pid": 1,
                "tid": 1,
                "args": { "kernel": s.kernel, "flops": s.flops, "bytes": s.bytes },
            })
        })
        .collect();
    let text = serde_json::to_vec(&serde_json::json!({ "traceEvents": events }))?;
    std::fs::write(path, text).map_err(|source| Error::Io { path: path.to_path_buf(), source })
}
