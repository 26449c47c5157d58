//! `frit bench --profile`: where a run's time goes, beside what the machine could do; as a table, as JSON and as a
//! trace. What is measured is in `bench.rs`, how it is judged in frit-runtime.

use frit::Error;
use frit::backend::Precision;
use frit::ir::Tensor;
use frit::runtime::roofline::{Bound, Limits, Rates, Summary, judge, median, summarise};
use frit::runtime::{RuntimeError, Session, StepTime};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Profiled runs, of which each step's median counts.
const RUNS: usize = 5;
/// Steps printed among the slowest.
const SLOWEST: usize = 20;
/// Steps named for what they lose against their limit.
const WORST: usize = 5;

/// A run taken apart.
pub(super) struct Profile {
    steps: Vec<StepTime>,
    limits: Limits,
    summary: Summary,
}

/// A step or several: what the rows of the table add up.
#[derive(Default)]
struct Row {
    count: usize,
    time: f64,
    at_limit: f64,
    flops: f64,
    bytes: f64,
    /// Seconds in steps bound by compute, memory, their start.
    bound: [f64; 3],
}

impl Row {
    fn add(&mut self, step: &StepTime, rates: &Rates) {
        let judged = judge(step, rates);
        self.count += 1;
        self.time += judged.time;
        self.at_limit += judged.at_limit;
        self.flops += step.flops;
        self.bytes += step.bytes;
        for (sum, (bound, _)) in self.bound.iter_mut().zip(Bound::NAMES) {
            *sum += if bound == judged.bound { judged.time } else { 0.0 };
        }
    }

    /// What binds most of the time.
    fn bound(&self) -> &'static str {
        let all = self.bound.iter().zip(Bound::NAMES);
        all.max_by(|a, b| a.0.total_cmp(b.0)).map_or("", |(_, (_, name))| name)
    }

    fn per_second(&self, amount: f64) -> f64 {
        if self.time > 0.0 { amount / self.time / 1e9 } else { 0.0 }
    }

    fn percent_of_limit(&self) -> f64 {
        if self.time > 0.0 { 100.0 * self.at_limit / self.time } else { 0.0 }
    }

    fn line(&self, out: &mut String, total: f64, what: &str) {
        let _ = writeln!(
            out,
            "{:10.3} {:6.1} {:6} {:9.1} {:8.1} {:7.0}%  {:8} {what}",
            self.time * 1e3,
            100.0 * self.time / total.max(f64::MIN_POSITIVE),
            self.count,
            self.per_second(self.flops),
            self.per_second(self.bytes),
            self.percent_of_limit(),
            self.bound(),
        );
    }

    fn json(&self, what: &[(&str, &str)]) -> Value {
        let mut row = serde_json::Map::new();
        for (key, text) in what {
            row.insert((*key).to_owned(), json!(text));
        }
        let numbers = json!({
            "count": self.count,
            "time_s": self.time,
            "at_limit_s": self.at_limit,
            "percent_of_limit": self.percent_of_limit(),
            "bound": self.bound(),
            "gflop_per_s": self.per_second(self.flops),
            "gbyte_per_s": self.per_second(self.bytes),
            "flops": self.flops,
            "bytes": self.bytes,
        });
        row.extend(numbers.as_object().cloned().unwrap_or_default());
        Value::Object(row)
    }
}

impl Profile {
    /// Profiles some runs of a session and measures the machine.
    pub(super) fn take(
        session: &mut Session,
        inputs: &[(&str, &Tensor)],
        reset: &dyn Fn(&mut Session),
        limits: Limits,
    ) -> Result<Self, RuntimeError> {
        let mut profiles = Vec::new();
        session.set_profiling(true);
        for _ in 0..RUNS {
            session.run(inputs)?;
            profiles.push(session.profile().unwrap_or(&[]).to_vec());
            reset(session);
        }
        session.set_profiling(false);
        let steps = median(&profiles);
        let summary = summarise(&steps, &limits.all, WORST);
        Ok(Profile { steps, limits, summary })
    }

    fn row(&self, step: &StepTime) -> Row {
        let mut row = Row::default();
        row.add(step, &self.limits.all);
        row
    }

    /// Rows by what was fused, the longest first.
    fn by_op(&self) -> Vec<(String, Row)> {
        let mut rows: BTreeMap<String, Row> = BTreeMap::new();
        for s in &self.steps {
            rows.entry(s.fused.clone()).or_default().add(s, &self.limits.all);
        }
        let mut rows: Vec<_> = rows.into_iter().collect();
        rows.sort_by(|a, b| b.1.time.total_cmp(&a.1.time));
        rows
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut out = String::new();
        for (rates, which) in self.rates() {
            let _ = write!(out, "{which}: ");
            for precision in self.precisions() {
                let rate = rates.operations(precision) / 1e9;
                let _ = match precision {
                    Precision::Exact => write!(out, "{rate:.0} GFLOP/s f32, "),
                    other => write!(out, "{rate:.0} GOP/s {}, ", other.name()),
                };
            }
            let _ = writeln!(out, "{:.1} GB/s", rates.bytes / 1e9);
        }
        let _ = writeln!(
            out,
            "{:>10} {:>6} {:>6} {:>9} {:>8} {:>8}  {:8} op",
            "ms", "%", "count", "GFLOP/s", "GB/s", "of limit", "bound by"
        );
        let total = self.summary.time;
        for (op, row) in self.by_op() {
            row.line(&mut out, total, &op);
        }
        let mut slowest: Vec<&StepTime> = self.steps.iter().collect();
        slowest.sort_by_key(|s| std::cmp::Reverse(s.time));
        let _ = writeln!(out, "the longest steps");
        for s in slowest.iter().take(SLOWEST) {
            self.row(s).line(&mut out, total, &format!("{}  {}  [{}]", s.label, s.fused, s.kernel));
        }
        self.roofline(&mut out);
        out
    }

    fn rates(&self) -> Vec<(Rates, String)> {
        let mut rates = vec![(self.limits.all, format!("limits of {} threads", self.limits.all.threads))];
        if self.limits.all.threads > 1 {
            rates.push((self.limits.one, "limits of one thread".to_owned()));
        }
        rates
    }

    /// f32, and what else a step multiplies in.
    fn precisions(&self) -> impl Iterator<Item = Precision> {
        let used = |p| p == Precision::Exact || self.steps.iter().any(|s| s.precision == p);
        Precision::NAMES.into_iter().map(|(p, _)| p).filter(move |&p| used(p))
    }

    fn roofline(&self, out: &mut String) {
        let s = &self.summary;
        let percent = |part: f64, of: f64| 100.0 * part / of.max(f64::MIN_POSITIVE);
        let _ = writeln!(
            out,
            "roofline: {:.3} ms in steps; {:.3} ms at the limits ({:.0}%)",
            s.time * 1e3,
            s.at_limits * 1e3,
            percent(s.at_limits, s.time)
        );
        for (bound, count, time, at_limit) in s.by_bound {
            let _ = writeln!(
                out,
                "  {count:5} steps bound by {:8} {:9.3} ms ({:5.1}%), {:9.3} at the limit ({:.0}%)",
                bound.name(),
                time * 1e3,
                percent(time, s.time),
                at_limit * 1e3,
                percent(at_limit, time)
            );
        }
        let _ = writeln!(out, "lost most against the limit");
        for step in s.worst.iter().filter_map(|i| self.steps.get(*i)) {
            let j = judge(step, &self.limits.all);
            let _ = writeln!(
                out,
                "  {:9.3} ms of {:9.3}  {}  {}",
                j.lost() * 1e3,
                j.time * 1e3,
                step.label,
                step.fused
            );
        }
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let limits: Vec<Value> = self
            .rates()
            .iter()
            .map(|(r, _)| {
                let mut limits = json!({ "threads": r.threads, "gbyte_per_s": r.bytes / 1e9 });
                if let Some(map) = limits.as_object_mut() {
                    map.extend(self.precisions().map(|p| {
                        let unit = if p == Precision::Exact { "gflop" } else { "gop" };
                        (format!("{}_{unit}_per_s", p.name()), json!(r.operations(p) / 1e9))
                    }));
                }
                limits
            })
            .collect();
        let s = &self.summary;
        let by_bound: Vec<Value> = s
            .by_bound
            .iter()
            .map(|(b, n, t, l)| json!({"bound": b.name(), "steps": n, "time_s": t, "at_limit_s": l}))
            .collect();
        let ops: Vec<Value> = self.by_op().iter().map(|(op, row)| row.json(&[("op", op)])).collect();
        let step = |s: &StepTime| {
            self.row(s).json(&[
                ("label", &s.label),
                ("op", &s.op),
                ("fused", &s.fused),
                ("kernel", &s.kernel),
            ])
        };
        json!({
            "limits": limits,
            "roofline": {
                "time_s": s.time,
                "at_limits_s": s.at_limits,
                "by_bound": by_bound,
                "worst": s.worst.iter().filter_map(|i| self.steps.get(*i)).map(step).collect::<Vec<_>>(),
            },
            "ops": ops,
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
        })
    }

    /// A trace in the Trace Event Format, for Perfetto and chrome://tracing.
    pub(super) fn write_trace(&self, path: &Path) -> Result<(), Error> {
        let events: Vec<Value> = self
            .steps
            .iter()
            .map(|s| {
                json!({
                    "name": if s.label.is_empty() { &s.op } else { &s.label },
                    "cat": s.op,
                    "ph": "X",
                    "ts": s.start.as_secs_f64() * 1e6,
                    "dur": s.time.as_secs_f64() * 1e6,
                    "pid": 1,
                    "tid": 1,
                    "args": self.row(s).json(&[("fused", &s.fused), ("kernel", &s.kernel)]),
                })
            })
            .collect();
        let text = serde_json::to_vec(&json!({ "traceEvents": events }))?;
        std::fs::write(path, text).map_err(|source| Error::Io { path: path.to_path_buf(), source })
    }
}
