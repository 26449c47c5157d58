//! The proof of one rule on random input. Which rules there are is `frit_passes::rules`.

mod example;
mod instance;

use example::Example;
use frit_ir::random::Stream;
use frit_ir::{Module, Tensor, interp, verify};
use frit_passes::cse;
use frit_passes::edit::Editor;
use frit_passes::pattern::Pattern;
use frit_passes::rule::{Rule, RuleSet};
use frit_passes::trace::{Log, Trace};

/// Proves a rule on every form of its pattern, for every example.
pub fn prove(rule: &Rule) -> Result<(), String> {
    let pattern = Pattern::parse(rule.pattern).map_err(|e| e.to_string())?;
    if rule.examples.is_empty() {
        return Err("the rule has no example".to_owned());
    }
    let forms = instance::forms(&pattern.term);
    for text in rule.examples {
        let example = Example::parse(text)?;
        for (i, form) in forms.iter().enumerate() {
            for merged in [false, true] {
                let module = instance::build(form, &pattern, &example)?;
                prove_one(rule, module, &example, merged)
                    .map_err(|e| format!("form {} of {} with `{text}`: {e}", i + 1, forms.len()))?;
            }
        }
    }
    Ok(())
}

/// Fires the rule on a graph and compares what it computes before and after.
fn prove_one(rule: &Rule, mut module: Module, example: &Example, merged: bool) -> Result<(), String> {
    let weights = &mut module.weights;
    let Some(graph) = module.graphs.first_mut() else { return Err("no graph".to_owned()) };
    let mut log = Log::new(Trace::NearMatches);
    if merged {
        cse::sweep(&mut Editor::new(graph, weights), &mut log).map_err(|e| e.to_string())?;
    }
    let mut stream = Stream::new(7);
    let mut inputs: Vec<(String, Tensor)> = Vec::new();
    for input in &graph.inputs {
        inputs.push((input.name.clone(), example.data(&input.name, &mut stream)?));
    }
    let before = interp::run(graph, weights, &inputs).map_err(|e| e.to_string())?;
    let rules = RuleSet::new(&[&[*rule]]).map_err(|e| e.to_string())?;
    rules.sweep(&mut Editor::new(graph, weights), &mut log).map_err(|e| e.to_string())?;
    if !log.counts.contains_key(rule.name) {
        let compacted = graph.compacted().map_err(|e| e.to_string())?;
        *graph = compacted;
        rules.explain(&mut Editor::new(graph, weights), &mut log).map_err(|e| e.to_string())?;
        let near: Vec<String> = log.events.iter().map(ToString::to_string).collect();
        return Err(format!(
            "the rule does not fire; {}\n{}",
            near.join("; "),
            frit_ir::text::print_module(&module)
        ));
    }
    let compacted = graph.compacted().map_err(|e| e.to_string())?;
    *graph = compacted;
    let after = interp::run(graph, weights, &inputs).map_err(|e| e.to_string())?;
    verify::verify(&module).map_err(|e| e.to_string())?;
    for ((_, a), (_, b)) in before.iter().zip(&after) {
        if a.shape() != b.shape() || a.dtype() != b.dtype() {
            return Err(format!("the result differs in type: {a:?} and {b:?}"));
        }
        let (x, y) = (a.to_f64_vec(), b.to_f64_vec());
        let size = x.iter().fold(1.0f64, |m, v| m.max(v.abs()));
        for (x, y) in x.iter().zip(&y) {
            let close = (x - y).abs() <= 1e-5 * size;
            if !close {
                return Err(format!("the result differs: {x} before, {y} after"));
            }
        }
    }
    Ok(())
}
