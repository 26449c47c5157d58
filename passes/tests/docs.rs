//! docs/PASSES.md lists the pipeline and every rule as they are. `FRIT_BLESS=1` writes it.

#![allow(clippy::unwrap_used)] // a test may panic

use frit_passes::pipeline::PIPELINE;
use frit_passes::rule::To;
use frit_passes::rules::TABLES;
use std::fmt::Write;
use std::path::Path;

/// Text on one line, with single spaces.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn page() -> String {
    let mut out = String::from(
        "# Passes\n\n\
         Generated from the tables in `passes/src/rules` by `FRIT_BLESS=1 cargo test -p frit-passes --test docs`.\n\n\
         `frit_passes::optimise` runs these stages over every graph, each until nothing changes, and verifies the\n\
         module after every pass that changed something. A rule is a line of a table: a name, what it looks for, what\n\
         replaces it. `cargo test -p frit-passes --test rules` proves each on random input. The notation is explained\n\
         in `passes/src/pattern/mod.rs`.\n\n\
         | stage | passes |\n|---|---|\n",
    );
    for stage in PIPELINE {
        let names: Vec<&str> = stage.passes.iter().map(|p| p.name()).collect();
        writeln!(out, "| {} | {} |", stage.name, names.join(", ")).unwrap();
    }
    for (table, rules) in TABLES {
        writeln!(out, "\n## {table}\n").unwrap();
        for rule in *rules {
            let to = match rule.to {
                To::Text(text) => one_line(text),
                To::Build(_) => "(built by a function)".to_owned(),
            };
            let guard = if rule.guard.is_some() { "\n      (under a condition)" } else { "" };
            writeln!(out, "    {}\n      {}\n      => {to}{guard}", rule.name, one_line(rule.pattern))
                .unwrap();
        }
    }
    out
}

#[test]
fn the_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PASSES.md");
    if std::env::var_os("FRIT_BLESS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page(), "docs/PASSES.md is out of date; run the test with FRIT_BLESS=1");
}
