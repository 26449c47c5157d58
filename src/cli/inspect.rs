//! `frit inspect`: a model's graph at one stage of compilation, as text, picture or JSON.

use super::args::{Format, Inspect, Stage};
use super::{dims, print_json, print_text, signature};
use frit::ir::{Graph, Module};
use frit::load::{Kind, LoadOptions};
use frit::passes::trace::Trace;
use frit::{Error, runtime::Model};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

pub(super) fn inspect(a: &Inspect) -> Result<(), Error> {
    let options = LoadOptions {
        head: a.part.head.clone(),
        entry: a.part.entry.clone(),
        signature: signature(None, a.fix.signature.as_deref()),
        select: a.part.select.clone(),
        dims: dims(&a.fix.dims)?,
        ..LoadOptions::default()
    };
    if a.stage == Stage::Plan || Kind::of(&a.model)? == Kind::Artifact {
        if a.stage == Stage::Imported {
            return Err(Error::Usage(
                "a compiled model no longer has its imported graph; give the checkpoint".into(),
            ));
        }
        let loaded = frit::load(&a.model, &options)?;
        return show_planned(a, &loaded.model);
    }
    let mut module = frit::load::build(&a.model, &options)?;
    if a.stage == Stage::Optimised {
        let trace = if a.trace { Trace::NearMatches } else { Trace::Counts };
        let options = frit::passes::Options { trace, ..frit::load::pass_options(&module) };
        let report = frit::passes::optimise(&mut module, &options)?;
        if a.trace {
            for event in &report.events {
                eprintln!("{event}");
            }
            for (rule, count) in &report.rules {
                eprintln!("{count:6} x {rule}");
            }
        }
    }
    show_module(a, &module)
}

fn show_planned(a: &Inspect, model: &Model) -> Result<(), Error> {
    let entries: Vec<String> = model
        .entries()
        .filter(|e| a.part.entry.as_deref().is_none_or(|x| x == *e))
        .map(str::to_owned)
        .collect();
    if entries.is_empty() {
        let known: Vec<&str> = model.entries().collect();
        return Err(Error::Usage(format!("no such entry point; the model has {}", known.join(", "))));
    }
    if a.stage == Stage::Plan && a.format == Format::Text {
        let mut text = String::new();
        for e in &entries {
            text.push_str(&format!("{}\n", model.program(e)?));
        }
        return print_text(&text);
    }
    let graphs =
        entries.iter().map(|e| Ok(model.program(e)?.graph.clone())).collect::<Result<Vec<_>, Error>>()?;
    show_module(a, &Module { graphs, weights: model.weights().clone(), metadata: model.facts().to_vec() })
}

fn show_module(a: &Inspect, module: &Module) -> Result<(), Error> {
    match a.format {
        Format::Text => print_text(&format!("{module}\n")),
        Format::Dot => print_text(&dots(module)),
        Format::Svg => svg(&dots(module)),
        Format::Json => print_json(&summary(module)),
    }
}

fn dots(module: &Module) -> String {
    module.graphs.iter().map(|g| frit::ir::dot::dot(g, &module.weights)).collect::<Vec<_>>().join("\n")
}

/// Runs Graphviz, which people who want pictures have.
fn svg(dot: &str) -> Result<(), Error> {
    let io = |source| Error::Io { path: "dot (of Graphviz, for --format svg)".into(), source };
    let mut child =
        Command::new("dot").arg("-Tsvg").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(io)?;
    let stdin = child.stdin.take();
    let text = dot.to_owned();
    let feeder = std::thread::spawn(move || stdin.map(|mut s| s.write_all(text.as_bytes())));
    let output = child.wait_with_output().map_err(io)?;
    let _ = feeder.join();
    print_text(&String::from_utf8_lossy(&output.stdout))
}

fn summary(module: &Module) -> serde_json::Value {
    let graph = |g: &Graph| {
        let mut ops: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, n) in g.nodes() {
            *ops.entry(n.op.name()).or_default() += 1;
        }
        let ty = |v| g.ty(v).map(ToString::to_string);
        serde_json::json!({
            "name": g.name,
            "inputs": g.inputs.iter().map(|i| serde_json::json!({
                "name": i.name, "type": ty(i.value), "default": i.default.map(|d| d.word()) })).collect::<Vec<_>>(),
            "outputs": g.outputs.iter().map(|o| serde_json::json!({ "name": o.name, "type": ty(o.value) })).collect::<Vec<_>>(),
            "states": g.states.iter().map(|s| serde_json::json!({ "input": s.input, "output": s.output, "axis": s.axis })).collect::<Vec<_>>(),
            "node_count": g.node_count(),
            "ops": ops,
        })
    };
    let bytes: usize =
        module.weights.iter().filter_map(|(_, w)| w.data.as_ref()).map(|t| t.bytes().len()).sum();
    serde_json::json!({
        "facts": module.metadata.iter().cloned().collect::<BTreeMap<String, String>>(),
        "weights": module.weights.len(),
        "weight_bytes": bytes,
        "graphs": module.graphs.iter().map(graph).collect::<Vec<_>>(),
    })
}
