//! `replay TARGET CORPUS [ITERATIONS] [SEED]`: a target without libFuzzer. Inputs that
//! panic or take long are kept in the temporary folder, and the one at hand, for the case that it ends the process.

use frit_fuzz::replay::{Stream, replay, seeds};
use std::panic::catch_unwind;
use std::path::Path;
use std::time::Instant;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, corpus, rest @ ..] = args.as_slice() else {
        eprintln!("usage: replay TARGET CORPUS-FOLDER|FILE [ITERATIONS] [SEED]");
        std::process::exit(2);
    };
    let Some((_, target)) = frit_fuzz::TARGETS.iter().find(|(n, _)| n == name) else {
        eprintln!("no target {name}");
        std::process::exit(2);
    };
    let number = |i: usize, default: u64| rest.get(i).and_then(|s| s.parse().ok()).unwrap_or(default);
    let path = Path::new(corpus);
    let files = if path.is_file() {
        vec![(corpus.clone(), std::fs::read(path).expect("readable"))]
    } else {
        seeds(path)
    };
    let kept = std::env::temp_dir();
    let last = kept.join(format!("last-{name}"));
    let begin = Instant::now();
    let (mut count, mut panics) = (0u64, 0u64);
    let stream = &mut Stream(number(1, 1));
    let run = |input: &[u8]| {
        let _ = std::fs::write(&last, input);
        let at = Instant::now();
        if catch_unwind(|| target(input)).is_err() {
            let place = kept.join(format!("panic-{name}-{panics}"));
            let _ = std::fs::write(&place, input);
            eprintln!("== {}", place.display());
            panics += 1;
        }
        if at.elapsed().as_secs_f64() > 1.0 {
            let place = kept.join(format!("slow-{name}-{count}"));
            let _ = std::fs::write(&place, input);
            eprintln!("== {:.1} s: {}", at.elapsed().as_secs_f64(), place.display());
        }
        count += 1;
    };
    replay(run, frit_fuzz::mutator(name), &files, number(0, 0) as usize, stream);
    println!(
        "{name}: {} seeds, {count} inputs in {:.1} s, {panics} panics",
        files.len(),
        begin.elapsed().as_secs_f64()
    );
    std::process::exit(i32::from(panics > 0));
}
