//! Proves every rewrite rule: each form of its pattern, made into a graph by the rule's examples, must be rewritten by
//! the rule and give the same numbers after. One test a rule; a rule without an example fails.

mod proof;

use frit_passes::rules::TABLES;
use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::HashSet;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut trials: Vec<Trial> = TABLES
        .iter()
        .flat_map(|(table, rules)| rules.iter().map(move |rule| (*table, rule)))
        .map(|(table, rule)| {
            Trial::test(format!("{table}::{}", rule.name), move || proof::prove(rule).map_err(Failed::from))
        })
        .collect();
    trials.push(Trial::test("names_are_unique", || {
        let mut seen = HashSet::new();
        match TABLES.iter().flat_map(|(_, rules)| rules.iter()).find(|r| !seen.insert(r.name)) {
            Some(rule) => Err(Failed::from(format!("two rules are named {}", rule.name))),
            None => Ok(()),
        }
    }));
    trials.push(Trial::test("a_wrong_rule_is_found_out", || {
        let wrong = frit_passes::rule::Rule::new("wrong", "Mul(?x, 2)", "Add(?x, 2)", &["x: f32[2, 3]"]);
        match proof::prove(&wrong) {
            Err(why) if why.contains("differs") => Ok(()),
            other => Err(Failed::from(format!("expected a difference, got {other:?}"))),
        }
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
