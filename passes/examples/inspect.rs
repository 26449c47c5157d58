//! Development aid: prints the optimised graph and the report of a checkpoint folder.
use frit_frontends::hf::{self, Request};
fn main() {
    let mut args = std::env::args().skip(1);
    let folder = args.next().unwrap();
    let mode = args.next().unwrap_or_default();
    let list = |s: Option<String>| {
        s.filter(|s| !s.is_empty()).map(|s| s.split(',').map(str::to_owned).collect::<Vec<_>>())
    };
    let signature = list(args.next());
    let select = list(args.next());
    let mut request = Request { select, ..Request::default() };
    request.signature = signature.map(|s| s.iter().map(|n| n.as_str().into()).collect());
    let t = std::time::Instant::now();
    let mut module = hf::build(std::path::Path::new(&folder), &request).unwrap();
    eprintln!("built in {:?}", t.elapsed());
    if mode == "imported" {
        println!("{}", frit_ir::text::print_module(&module));
        return;
    }
    let options = frit_passes::Options { trace: frit_passes::Trace::NearMatches, ..Default::default() };
    let t = std::time::Instant::now();
    let report = frit_passes::optimise(&mut module, &options);
    eprintln!("optimised in {:?}", t.elapsed());
    match report {
        Ok(r) => {
            for s in &r.stages {
                eprintln!("{s:?}");
            }
            eprintln!("{:?}", r.rules);
            if mode == "trace" {
                for e in &r.events {
                    if matches!(e, frit_passes::Event::NearMatch { .. }) {
                        eprintln!("{e}");
                    }
                }
            }
        }
        Err(e) => eprintln!("{e}"),
    }
    for g in &module.graphs {
        let mut counts = std::collections::BTreeMap::new();
        for (_, n) in g.nodes() {
            *counts.entry(n.op.name()).or_insert(0) += 1;
        }
        eprintln!("{}: {counts:?}", g.name);
    }
    if mode == "text" {
        println!("{}", frit_ir::text::print_module(&module));
    }
}
