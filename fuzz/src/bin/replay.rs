//! `replay TARGET CORPUS [ITERATIONS] [SEED]`: a target without libFuzzer. The input at hand is kept in
//! `last-TARGET`, for the case that the target ends the process, and inputs that take long are told.

use frit_fuzz::replay::{Stream, replay, seeds};
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
    let last = std::env::temp_dir().join(format!("last-{name}"));
    let begin = Instant::now();
    let mut count = 0u64;
    let mut at = Instant::now();
    let mut slowest = 0.0;
    let stream = &mut Stream(number(1, 1));
    replay(*target, &files, number(0, 0) as usize, stream, |input| {
        let seconds = at.elapsed().as_secs_f64();
        if count > 0 && seconds > 0.5 && seconds > slowest {
            slowest = seconds;
            let slow = std::env::temp_dir().join(format!("slow-{}", last.file_name().unwrap_or_default().to_string_lossy()));
            let _ = std::fs::copy(&last, &slow);
            eprintln!("{seconds:.2} s: {}", slow.display());
        }
        let _ = std::fs::write(&last, input);
        count += 1;
        at = Instant::now();
    });
    println!("{name}: {} seeds, {count} inputs in {:.1} s", files.len(), begin.elapsed().as_secs_f64());
}
