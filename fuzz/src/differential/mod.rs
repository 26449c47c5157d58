//! The differential target: random small valid graphs run by the interpreter, by both backends, and by both again
//! after the passes; all must agree. Making graphs is in `generate.rs` and `nodes.rs`, judging results in
//! `compare.rs`.

mod compare;
mod dynamic;
mod generate;
mod indexed;
mod nodes;
mod patterns;

use super::artifact::engine;
use super::bytes::Bytes;
use compare::{Verdict, agree, ill_conditioned};
use frit_ir::{Module, Tensor, interp, text, verify};
use frit_runtime::BackendKind;

type Named = Vec<(String, Tensor)>;

/// A graph drawn from the bytes gives the same answers however it is run.
pub fn differential(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let Some(case) = generate::case(&mut bytes) else { return };
    // The only thing wrong may be a symbol whose input no node needed in the end.
    if let Err(e) = verify::verify(&case.module) {
        assert!(e.to_string().contains("which no input has"), "the builder made: {e}\n{}", case.module);
        return;
    }
    let back = text::parse(&case.module.to_string()).expect("a printed graph parses");
    assert_eq!(back.graphs, case.module.graphs, "{}", case.module);
    // What the interpreter refuses (an index out of range) has no answer to compare with.
    let Ok(expected) = interp::run_module(&case.module, "forward", &case.inputs) else {
        return;
    };

    let mut optimised = case.module.clone();
    if let Err(e) = frit_passes::optimise(&mut optimised, &frit_passes::Options::default()) {
        panic!("passes failed: {e}\n{}", case.module);
    }
    let after = interp::run_module(&optimised, "forward", &case.inputs);
    // Known: a convolution over an empty axis, made possible by padding, is refused once it is fused.
    if after.as_ref().is_err_and(|e| e.to_string().contains("at least 1 along spatial axis")) {
        return;
    }
    let after = after.unwrap_or_else(|e| panic!("optimised: {e}\nbefore {}\nafter {optimised}", case.module));
    check("passes", &case, &optimised, &expected, &after);

    for (name, module) in [("plain", &case.module), ("optimised", &optimised)] {
        for backend in [BackendKind::Reference, BackendKind::Cpu] {
            let got = run_on(backend, module, &case.inputs)
                .unwrap_or_else(|e| panic!("{name} on {backend:?}: {e}\n{}\nas run: {module}", case.module));
            check(&format!("{name} on {backend:?}"), &case, module, &expected, &got);
        }
    }
}

/// The graph that the bytes make.
pub fn module_of(data: &[u8]) -> Option<Module> {
    generate::case(&mut Bytes::new(data)).map(|c| c.module)
}

fn run_on(backend: BackendKind, module: &Module, inputs: &Named) -> Result<Named, String> {
    let model = engine(backend).model(module.clone()).map_err(|e| e.to_string())?;
    let mut session = model.session(&module.graphs[0].name).map_err(|e| e.to_string())?;
    let borrowed: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
    // Twice: the second run finds the memory as the first left it.
    drop(session.run(&borrowed).map_err(|e| e.to_string())?);
    let outputs = session.run(&borrowed).map_err(|e| e.to_string())?;
    let names: Vec<String> = outputs.names().map(str::to_owned).collect();
    names.into_iter().map(|n| outputs.tensor(&n).map(|t| (n, t)).map_err(|e| e.to_string())).collect()
}

fn check(what: &str, case: &generate::Case, as_run: &Module, expected: &Named, got: &Named) {
    assert_eq!(expected.len(), got.len(), "{what}: {}", case.module);
    for ((name, a), (other, b)) in expected.iter().zip(got) {
        assert_eq!(name, other);
        if let Verdict::Differs(why) = agree(a, b) {
            if ill_conditioned(case, expected) {
                return;
            }
            panic!(
                "{what}: output `{name}` {why}\nexpected {:?}\ngot {:?}\ninputs {:?}\n{}\nas run: {as_run}",
                a.to_f64_vec(),
                b.to_f64_vec(),
                case.inputs.iter().map(|(n, t)| (n, t.to_f64_vec())).collect::<Vec<_>>(),
                case.module
            );
        }
    }
}
