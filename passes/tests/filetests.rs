//! Runs tests/filetests/passes/*.frit-test: graph text in, optimised graph text out, and both compute the same.
//!
//! A file holds cases: `=== name`, optionally with `until=STAGE`, `without=RULE,RULE`, `data` (weights get random
//! numbers before optimising, so that folding can use them), `growth=BYTES` (what one folded result may add) or
//! `dims=batch:2,sequence:3`; then the module; then
//! `--- optimised` and what is expected. `FRIT_BLESS=1 cargo test -p frit-passes --test filetests` writes the latter.

#![allow(clippy::unwrap_used, clippy::panic)] // a test may panic

use frit_ir::random::{Stream, fill_weights};
use frit_ir::{Bindings, Module, Tensor, interp, text};
use frit_passes::{Budget, Options, optimise};
use std::path::{Path, PathBuf};

struct Case {
    head: String,
    input: String,
    expected: String,
}

fn cases(file: &str) -> Vec<Case> {
    let mut all = Vec::new();
    for block in file.split("\n=== ").map(|b| b.strip_prefix("=== ").unwrap_or(b)) {
        let (head, rest) = block.split_once('\n').unwrap_or((block, ""));
        let (input, expected) = rest.split_once("--- optimised\n").unwrap_or((rest, ""));
        all.push(Case {
            head: head.trim().to_owned(),
            input: input.trim().to_owned(),
            expected: expected.trim().to_owned(),
        });
    }
    all
}

fn option<'h>(head: &'h str, key: &str) -> Option<&'h str> {
    head.split_whitespace().find_map(|w| w.strip_prefix(key)?.strip_prefix('='))
}

/// The module as text, without the weights that no graph uses any more.
fn show(module: &Module) -> String {
    let used: Vec<_> = module.graphs.iter().flat_map(|g| g.weights()).map(|(w, _)| w).collect();
    let unused: Vec<String> = module
        .weights
        .iter()
        .filter(|(id, _)| !used.contains(id))
        .map(|(_, w)| format!("weight @{}:", w.name))
        .collect();
    let text = text::print_module(module);
    let kept: Vec<&str> =
        text.lines().filter(|l| !unused.iter().any(|u| l.trim_start().starts_with(u.as_str()))).collect();
    kept.join("\n").trim().to_owned()
}

fn values(module: &Module, dims: &str) -> Vec<(String, Tensor)> {
    let mut bindings = Bindings::new();
    for (symbol, n) in dims.split(',').filter_map(|d| d.split_once(':')) {
        bindings.set(symbol, n.parse().unwrap());
    }
    let mut stream = Stream::new(11);
    let graph = &module.graphs[0];
    let shape = |i: &frit_ir::graph::Input| graph.ty(i.value).unwrap().eval_shape(&bindings).unwrap();
    graph
        .inputs
        .iter()
        .map(|i| (i.name.clone(), stream.tensor(graph.ty(i.value).unwrap().dtype, &shape(i)).unwrap()))
        .collect()
}

/// Compares what two modules compute from the same random input and weights.
fn same_numbers(a: &Module, b: &Module, dims: &str) -> Result<(), String> {
    let inputs = values(a, dims);
    let run = |m: &Module| interp::run_module(m, &m.graphs[0].name, &inputs).map_err(|e| e.to_string());
    for ((name, x), (_, y)) in run(a)?.iter().zip(&run(b)?) {
        let (x, y) = (x.to_f64_vec(), y.to_f64_vec());
        let size = x.iter().fold(1.0f64, |m, v| m.max(v.abs()));
        let worst = x.iter().zip(&y).map(|(x, y)| (x - y).abs()).fold(0.0f64, f64::max);
        let close = worst <= 1e-5 * size;
        if x.len() != y.len() || !close {
            return Err(format!("{name} differs by {worst:e}, largest {size:e}"));
        }
    }
    Ok(())
}

fn run(case: &Case) -> Result<String, String> {
    let mut module = text::parse(&case.input).map_err(|e| e.to_string())?;
    let options = Options {
        until: option(&case.head, "until").map(str::to_owned),
        without: option(&case.head, "without").map_or(vec![], |w| w.split(',').map(str::to_owned).collect()),
        budget: match option(&case.head, "growth").and_then(|n| n.parse().ok()) {
            Some(growth) => Budget { growth, ..Budget::default() },
            None => Budget::default(),
        },
        ..Options::default()
    };
    let mut known = module.clone();
    fill_weights(&mut known, 5).map_err(|e| e.to_string())?;
    let before = known.clone();
    optimise(&mut known, &options).map_err(|e| e.to_string())?;
    same_numbers(&before, &known, option(&case.head, "dims").unwrap_or(""))?;
    if case.head.split_whitespace().any(|w| w == "data") {
        return Ok(show(&known));
    }
    let report = optimise(&mut module, &options).map_err(|e| e.to_string())?;
    if let Some(stage) = report.stages.iter().find(|s| !s.settled) {
        return Err(format!("stage {} does not settle", stage.stage));
    }
    Ok(show(&module))
}

#[test]
fn files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/filetests/passes");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "frit-test"));
    files.sort();
    assert!(!files.is_empty());
    let bless = std::env::var_os("FRIT_BLESS").is_some();
    let mut faults = Vec::new();
    for file in files {
        let content = std::fs::read_to_string(&file).unwrap();
        let mut blessed = Vec::new();
        for case in cases(&content) {
            let name = format!("{}: {}", file.file_name().unwrap().to_string_lossy(), case.head);
            let got = match run(&case) {
                Ok(got) => got,
                Err(e) => {
                    faults.push(format!("{name}: {e}"));
                    case.expected.clone()
                }
            };
            if !bless && got != case.expected {
                faults.push(format!("{name}: expected\n{}\ngot\n{got}", case.expected));
            }
            blessed.push(format!("=== {}\n{}\n--- optimised\n{got}\n", case.head, case.input));
        }
        if bless {
            std::fs::write(&file, blessed.join("\n")).unwrap();
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n\n"));
}
