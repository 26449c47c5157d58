//! Every kernel this backend gives, against the interpreter, for every target that this machine can run.

use super::CpuBackend;
use crate::isa::{Isa, Level};
use frit_backend::conformance::{Outcome, check};
use frit_backend::{Target, cases};
use std::collections::BTreeMap;

/// What the largest error may be, relative to the largest reference magnitude.
const TOLERANCE: f64 = 1e-5;

fn target(isa: Isa) -> Target {
    match isa.level() {
        Level::Portable => Target::Generic,
        Level::Avx2Fma => Target::X86V3,
        Level::Avx512 => Target::X86V4,
    }
}

#[test]
fn conforms_to_the_interpreter() {
    let cases = cases::all(7).unwrap();
    let mut failures = Vec::new();
    let mut given: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let mut worst: BTreeMap<&str, f64> = BTreeMap::new();
    for isa in Isa::available() {
        for case in &cases {
            let counts = given.entry(case.op.name()).or_default();
            match check(&CpuBackend, case, target(isa), TOLERANCE) {
                Outcome::Declined => counts[1] += 1,
                Outcome::Passed(e) => {
                    counts[0] += 1;
                    let w = worst.entry(case.op.name()).or_default();
                    *w = w.max(e);
                }
                Outcome::Failed(why) => failures.push(format!("{isa:?}: {why}")),
            }
        }
    }
    for (name, [kernels, declined]) in &given {
        println!(
            "{name}: {kernels} given, {declined} declined, worst {:.1e}",
            worst.get(name).unwrap_or(&0.0)
        );
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures[..failures.len().min(40)].join("\n")
    );
}
