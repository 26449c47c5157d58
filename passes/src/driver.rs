//! The pass driver: runs the pipeline's stages over every graph, each to a fixed point, and verifies after every
//! pass. Which passes run in which order is in `pipeline.rs`.

use crate::chains;
use crate::cse::{self, CseError};
use crate::edit::Editor;
use crate::fold::{Budget, FoldError, Folder};
use crate::loops;
use crate::pipeline::{PIPELINE, Pass, Stage};
use crate::rule::{RuleError, RuleSet};
use crate::rules::TABLES;
use crate::trace::{Event, Log, Trace};
use frit_ir::graph::CycleError;
use frit_ir::verify::{self, VerifyErrors};
use frit_ir::{Graph, Module};
use std::collections::BTreeMap;

/// How to optimise.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much to record of what happens.
    pub trace: Trace,
    /// How much constant folding may add.
    pub budget: Budget,
    /// Sweeps of one stage at most; a stage that still changes something then is reported.
    pub sweeps: usize,
    /// Names of rules, tables, passes or stages left out.
    pub without: Vec<String>,
    /// Stop after the stage of that name.
    pub until: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options { trace: Trace::Counts, budget: Budget::default(), sweeps: 50, without: vec![], until: None }
    }
}

/// What one stage did to one graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageReport {
    /// Graph name.
    pub graph: String,
    /// Stage name.
    pub stage: &'static str,
    /// Sweeps until nothing changed.
    pub sweeps: usize,
    /// Rewrites in all.
    pub rewrites: usize,
    /// Nodes before and after.
    pub nodes: (usize, usize),
    /// False when the bound on sweeps ended it.
    pub settled: bool,
}

/// What optimising did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Stages in order.
    pub stages: Vec<StageReport>,
    /// How often each rule fired.
    pub rules: BTreeMap<&'static str, usize>,
    /// What happened, as far as [`Options::trace`] asks.
    pub events: Vec<Event>,
}

/// Why optimising failed. The module is as the last pass that succeeded left it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PassError {
    /// A rule's text is malformed: a bug in the table.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The module given is not valid.
    #[error("the module given is not valid: {0}")]
    Input(VerifyErrors),
    /// A pass left the module invalid.
    #[error("pass {pass} left graph `{graph}` invalid: {source}")]
    Verify {
        /// Pass name.
        pass: &'static str,
        /// Graph name.
        graph: String,
        /// What does not hold.
        source: VerifyErrors,
    },
    /// A graph depends on itself.
    #[error(transparent)]
    Cycle(#[from] CycleError),
    /// Folding failed.
    #[error("graph `{graph}`: folding: {source}")]
    Fold {
        /// Graph name.
        graph: String,
        /// The cause.
        source: FoldError,
    },
    /// Merging equal nodes failed.
    #[error("graph `{graph}`: merging equal nodes: {source}")]
    Cse {
        /// Graph name.
        graph: String,
        /// The cause.
        source: CseError,
    },
}

/// Optimises every graph of a module in place. The same module and options give the same result.
pub fn optimise(module: &mut Module, options: &Options) -> Result<Report, PassError> {
    verify::verify(module).map_err(PassError::Input)?;
    let mut report = Report::default();
    let mut log = Log::new(options.trace);
    let mut folder = Folder::new(options.budget);
    let tables = rule_sets(&options.without)?;
    if !options.without.iter().any(|n| n == loops::NAME) && loops::sweep(module, &mut log)? > 0 {
        verify::verify(module).map_err(|source| PassError::Verify {
            pass: loops::NAME,
            graph: String::new(),
            source,
        })?;
    }
    for at in 0..module.graphs.len() {
        for stage in PIPELINE {
            if !options.without.iter().any(|n| n == stage.name) {
                let done = run_stage(module, at, stage, options, &tables, &mut folder, &mut log)?;
                report.stages.push(done);
            }
            if options.until.as_deref() == Some(stage.name) {
                break;
            }
        }
    }
    report.rules = log.counts;
    report.events = log.events;
    Ok(report)
}

/// Every table's rules that are not left out.
fn rule_sets(without: &[String]) -> Result<BTreeMap<&'static str, RuleSet>, RuleError> {
    let named = |n: &str| without.iter().any(|w| w == n);
    TABLES
        .iter()
        .map(|(table, rules)| {
            let kept: Vec<_> = rules.iter().copied().filter(|r| !named(r.name) && !named(table)).collect();
            Ok((*table, RuleSet::new(&[&kept])?))
        })
        .collect()
}

fn run_stage(
    module: &mut Module,
    at: usize,
    stage: &Stage,
    options: &Options,
    tables: &BTreeMap<&'static str, RuleSet>,
    folder: &mut Folder,
    log: &mut Log,
) -> Result<StageReport, PassError> {
    let passes: Vec<Pass> =
        stage.passes.iter().copied().filter(|p| !options.without.iter().any(|n| n == p.name())).collect();
    let name = module.graphs.get(at).map(|g| g.name.clone()).unwrap_or_default();
    log.graph.clone_from(&name);
    let before = module.graphs.get(at).map_or(0, Graph::node_count);
    let mut done = StageReport {
        graph: name,
        stage: stage.name,
        sweeps: 0,
        rewrites: 0,
        nodes: (before, before),
        settled: false,
    };
    while !done.settled && done.sweeps < options.sweeps {
        let mut changes = 0;
        for &pass in &passes {
            changes += run_pass(module, at, pass, tables, folder, log)?;
        }
        done.sweeps += 1;
        done.rewrites += changes;
        done.settled = changes == 0;
    }
    let settled = done.settled && log.level == Trace::NearMatches;
    if let Some(graph) = module.graphs.get_mut(at).filter(|_| settled) {
        let mut editor = Editor::new(graph, &mut module.weights);
        for rules in passes.iter().filter_map(|p| tables.get(p.name())) {
            rules.explain(&mut editor, log)?;
        }
    }
    done.nodes.1 = module.graphs.get(at).map_or(0, Graph::node_count);
    Ok(done)
}

fn run_pass(
    module: &mut Module,
    at: usize,
    pass: Pass,
    tables: &BTreeMap<&'static str, RuleSet>,
    folder: &mut Folder,
    log: &mut Log,
) -> Result<usize, PassError> {
    let Some(graph) = module.graphs.get_mut(at) else { return Ok(0) };
    let name = graph.name.clone();
    let mut editor = Editor::new(graph, &mut module.weights);
    let changes = match pass {
        Pass::Rules(table) => match tables.get(table) {
            Some(rules) => rules.sweep(&mut editor, log)?,
            None => 0,
        },
        Pass::Fold | Pass::FoldAll => folder
            .sweep(&mut editor, pass == Pass::FoldAll, log)
            .map_err(|source| PassError::Fold { graph: name.clone(), source })?,
        Pass::Cse => {
            cse::sweep(&mut editor, log).map_err(|source| PassError::Cse { graph: name.clone(), source })?
        }
        Pass::Chains => chains::sweep(&mut editor, log)?,
        Pass::Compact => 0,
    };
    if changes > 0 || pass == Pass::Compact {
        // Dead nodes and values go, and the table is in order of dependence again.
        *graph = graph.compacted()?;
        verify::verify(module).map_err(|source| PassError::Verify {
            pass: pass.name(),
            graph: name,
            source,
        })?;
    }
    Ok(changes)
}
