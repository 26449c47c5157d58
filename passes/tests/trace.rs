//! What the driver says of its work: rules that fired, near matches with their reason, budgets, bad input.

#![allow(clippy::unwrap_used, clippy::panic)] // a test may panic

use frit_ir::{Module, text};
use frit_passes::{Budget, Event, Options, PassError, Report, Trace, optimise};

fn traced(source: &str, options: &Options) -> (Module, Report) {
    let mut module = text::parse(source).unwrap();
    let report = optimise(&mut module, options).unwrap();
    (module, report)
}

fn near(report: &Report, name: &str) -> Vec<String> {
    let of = |e: &Event| match e {
        Event::NearMatch { rule, reason, .. } if *rule == name => Some(reason.clone()),
        _ => None,
    };
    report.events.iter().filter_map(of).collect()
}

fn all() -> Options {
    Options { trace: Trace::NearMatches, ..Options::default() }
}

/// GELU with erf, with a constant and an op to be replaced.
fn gelu(root: &str, plus: &str, more: &str) -> String {
    format!(
        "module {{
           weight @root: f32[] = {root}
           weight @one: f32[] = 1
           weight @half: f32[] = 0.5
           graph forward(x: f32[batch, 4]) {{
             %d = Div(x, @root) ; \"mlp.act\"
             %e = Erf(%d) ; \"mlp.act\"
             %f = {plus}(%e, @one) ; \"mlp.act\"
             %g = Mul(x, %f) ; \"mlp.act\"
             %y = Mul(%g, @half) ; \"mlp.act\"
             return y = %y{more}
           }}
         }}"
    )
}

#[test]
fn what_fired_is_told_with_its_place() {
    let (_, report) = traced(&gelu("1.4142135381698608", "Add", ""), &all());
    assert_eq!(report.rules.get("gelu_erf"), Some(&1));
    let told = report.events.iter().map(ToString::to_string).find(|e| e.contains("gelu_erf")).unwrap();
    assert!(told.starts_with("forward: gelu_erf rewrote") && told.contains("`mlp.act`"), "{told}");
    assert!(near(&report, "gelu_erf").is_empty());
}

#[test]
fn a_near_match_says_what_did_not_fit() {
    let (_, report) = traced(&gelu("1.5", "Add", ""), &all());
    assert_eq!(near(&report, "gelu_erf"), ["expected 1.4142135623730951, found 1.5 (f32[])"]);
    let (_, report) = traced(&gelu("1.4142135381698608", "Max", ""), &all());
    let told = near(&report, "gelu_erf");
    assert!(told.len() == 1 && told[0].starts_with("expected Add, found %"), "{told:?}");
    assert!(told[0].contains("Max at `mlp.act`"), "{told:?}");
    let (_, report) = traced(&gelu("1.4142135381698608", "Add", ", e = %e"), &all());
    let told = near(&report, "gelu_erf");
    assert!(told.len() == 1 && told[0].ends_with("is also used elsewhere"), "{told:?}");
}

#[test]
fn nothing_is_recorded_unasked() {
    let (_, report) = traced(&gelu("1.5", "Add", ""), &Options::default());
    assert!(report.events.is_empty());
}

#[test]
fn rules_tables_and_stages_can_be_left_out() {
    for name in ["gelu_erf", "activation", "blocks"] {
        let options = Options { without: vec![name.to_owned()], ..Options::default() };
        let (module, _) = traced(&gelu("1.4142135381698608", "Add", ""), &options);
        assert!(module.graphs[0].nodes().any(|(_, n)| n.op.parts().contains(&"Erf")), "{name}");
    }
    let options = Options { until: Some("canonicalise".to_owned()), ..Options::default() };
    let (_, report) = traced(&gelu("1.4142135381698608", "Add", ""), &options);
    assert_eq!(report.stages.last().map(|s| s.stage), Some("canonicalise"));
}

#[test]
fn folding_keeps_to_its_budget_and_says_so() {
    let source = "module {
        weight @x: f32[] = 1
        graph forward(y: f32[64, 64]) {
          %a = Expand(@x) {shape = [64, 64]}
          %b = Expand(@x) {shape = [64, 8]}
          %c = Concat(%a, %b, y) {axis = 1}
          return c = %c
        }
      }";
    let options = |growth, total_growth| Options {
        budget: Budget { growth, total_growth, ..Budget::default() },
        trace: Trace::NearMatches,
        ..Options::default()
    };
    let expands = |m: &Module| m.graphs[0].nodes().filter(|(_, n)| n.op.name() == "Expand").count();
    assert_eq!(expands(&traced(source, &options(1 << 20, 1 << 20)).0), 0);
    let (module, report) = traced(source, &options(4096, 1 << 20));
    assert_eq!(expands(&module), 1);
    assert!(near(&report, "fold").iter().any(|r| r.contains("exceed the budget")), "{:?}", report.events);
    assert_eq!(expands(&traced(source, &options(1 << 20, 16 * 1024)).0), 1);
}

#[test]
fn a_module_that_is_not_valid_is_refused() {
    let mut module = text::parse(&gelu("1.5", "Add", "")).unwrap();
    let x = module.graphs[0].inputs[0].value;
    let node = module.graphs[0].nodes().next().map(|(id, _)| id).unwrap();
    module.graphs[0].set_operand(node, 1, Some(frit_ir::ValueId(9999)));
    assert!(matches!(optimise(&mut module, &Options::default()), Err(PassError::Input(_))), "{x}");
}

#[test]
fn a_stage_that_does_not_settle_is_reported() {
    let options = Options { sweeps: 1, ..Options::default() };
    let (_, report) = traced(&gelu("1.4142135381698608", "Add", ""), &options);
    assert!(report.stages.iter().any(|s| !s.settled));
}

#[test]
fn long_products_of_constants_stay() {
    let source = "module {
        weight @a: f32[2, 2] = [1, 2, 3, 4]
        graph forward() {
          %b = MatMul(@a, @a)
          return b = %b
        }
      }";
    let nodes = |work| {
        let budget = Budget { work, ..Budget::default() };
        traced(source, &Options { budget, ..Options::default() }).0.graphs[0].node_count()
    };
    // Eight multiplications, and eight numbers that go in.
    assert_eq!((nodes(16), nodes(15)), (0, 1));
}
