//! `seeds CORPUS`: writes the seeds that are made rather than collected: random bytes for `differential`, their
//! graphs for `graph_text`, and compiled files for `artifact` and `artifact_parts`.

use frit_fuzz::replay::Stream;
use frit_runtime::{Engine, EngineOptions, artifact};
use std::path::Path;

fn main() {
    let corpus = std::env::args().nth(1).expect("the corpus folder");
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = Path::new(&corpus).join(target);
        std::fs::create_dir_all(&folder).expect("writable");
        std::fs::write(folder.join(name), bytes).expect("writable");
    };
    let engine =
        Engine::new(EngineOptions { threads: Some(1), ..EngineOptions::default() }).expect("an engine");
    let mut stream = Stream(20);
    let mut kept = 0;
    for i in 0..400 {
        let bytes: Vec<u8> = (0..30 + stream.below(150)).map(|_| stream.bits() as u8).collect();
        let Some(module) = frit_fuzz::module_of(&bytes) else { continue };
        if i < 60 {
            put("differential", &format!("random{i:02}"), &bytes);
        }
        let text = module.to_string();
        if kept >= 24 || text.len() > 2500 || text.len() < 300 {
            continue;
        }
        let Ok(model) = engine.model(module) else { continue };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("m.frit");
        let assets = [("vocab.json".to_owned(), b"{\"a\": 0}".to_vec())];
        if artifact::write(&model, &assets, &path, &mut |_, _| {}).is_err() {
            continue;
        }
        let file = std::fs::read(&path).expect("readable");
        put("graph_text", &format!("random{kept:02}"), text.as_bytes());
        if file.len() < 8192 {
            if kept < 6 {
                put("artifact", &format!("random{kept:02}"), &file);
            }
            put("artifact_parts", &format!("random{kept:02}"), &frit_fuzz::parts_of(&file));
        }
        kept += 1;
    }
}
