//! What happened while optimising, for people: rules that fired, and rules that nearly did with the reason.
//! Decisions are not made here.

use frit_ir::ValueId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How much to record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trace {
    /// Counts only.
    #[default]
    Counts,
    /// Each firing with its place.
    Fired,
    /// Near matches too, with what failed.
    NearMatches,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A rule rewrote a node.
    Fired {
        /// Graph name.
        graph: String,
        /// Rule name.
        rule: &'static str,
        /// Label of the node rewritten.
        label: String,
        /// The value it made, as numbered in that pass.
        value: ValueId,
    },
    /// A rule matched all but one node, or its guard refused.
    NearMatch {
        /// Graph name.
        graph: String,
        /// Rule name.
        rule: &'static str,
        /// Label of the root node.
        label: String,
        /// The value of the root node, as numbered in that pass.
        value: ValueId,
        /// What did not fit, and where.
        reason: String,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Fired { graph, rule, label, value } => {
                write!(f, "{graph}: {rule} rewrote {value} at `{label}`")
            }
            Event::NearMatch { graph, rule, label, value, reason } => {
                write!(f, "{graph}: {rule} nearly matched {value} at `{label}`: {reason}")
            }
        }
    }
}

/// The record of one graph's way through the passes.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// How much to record.
    pub level: Trace,
    /// Name of the graph at work.
    pub graph: String,
    /// How often each rule fired.
    pub counts: BTreeMap<&'static str, usize>,
    /// Events in order, as far as recorded.
    pub events: Vec<Event>,
    /// Near matches noted: graph, rule, label.
    seen: BTreeSet<(String, &'static str, String)>,
}

impl Log {
    /// An empty record.
    pub fn new(level: Trace) -> Self {
        Log { level, ..Log::default() }
    }

    /// Notes a rewrite.
    pub fn fired(&mut self, rule: &'static str, label: &str, value: ValueId) {
        *self.counts.entry(rule).or_default() += 1;
        if self.level >= Trace::Fired {
            let graph = self.graph.clone();
            self.events.push(Event::Fired { graph, rule, label: label.to_owned(), value });
        }
    }

    /// Notes a near match, one a rule and place.
    pub fn near(&mut self, rule: &'static str, label: &str, value: ValueId, reason: impl FnOnce() -> String) {
        if self.level < Trace::NearMatches {
            return;
        }
        // A stage tries again after every change; the place and the reason's kind stay the same.
        if self.seen.insert((self.graph.clone(), rule, label.to_owned())) {
            let (graph, label) = (self.graph.clone(), label.to_owned());
            self.events.push(Event::NearMatch { graph, rule, label, value, reason: reason() });
        }
    }
}
