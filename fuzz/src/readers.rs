//! Targets for everything that reads a file: graph text, weights, configs, pictures, sounds, tokenizers, generation
//! settings. An error is a fine answer; a panic, a hang or memory out of proportion is not.

use super::bytes::parts;
use frit_frontends::hf::weights::{Checkpoint, FileBytes};
use frit_frontends::hf::{self, Request};
use frit_ir::{text, verify};
use frit_processors::{Assets, Processor, RawFile, RawInput};
use frit_runtime::generation::GenerationConfig;
use std::path::Path;
use std::sync::Arc;

/// The graph text: what parses prints to a text that parses to the same.
pub fn graph_text(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let Ok(module) = text::parse(source) else { return };
    let printed = module.to_string();
    let again = match text::parse(&printed) {
        Ok(m) => m,
        Err(e) => panic!("what was printed does not parse: {e}\n{printed}"),
    };
    assert_eq!(again.to_string(), printed);
    assert_eq!(again.graphs.len(), module.graphs.len());
    if verify::verify(&module).is_ok() {
        assert!(verify::verify(&again).is_ok(), "verified before, not after printing\n{printed}");
    }
}

/// Weight files: safetensors, and what torch.save writes in its zip and legacy forms.
pub fn weights(data: &[u8]) {
    let bytes: FileBytes = Arc::new(data.to_vec());
    let Ok(checkpoint) = Checkpoint::parse_bytes("weights", bytes) else { return };
    for name in checkpoint.names() {
        let entry = checkpoint.entry(name).expect("a listed name has an entry");
        if let Ok(t) = checkpoint.tensor(name) {
            assert_eq!((t.dtype(), t.shape()), (entry.dtype(), entry.shape()));
            assert_eq!(t.bytes().len(), t.len() * t.dtype().size());
        }
    }
}

/// config.json of a folder without weights: the builder runs through and lists what is missing.
pub fn config(data: &[u8]) {
    thread_local! {
        static FOLDER: tempfile::TempDir = {
            let folder = tempfile::tempdir_in(shared_memory()).expect("a temporary folder");
            let empty = [&2u64.to_le_bytes()[..], b"{}"].concat();
            std::fs::write(folder.path().join("model.safetensors"), empty).expect("writable");
            folder
        };
    }
    FOLDER.with(|folder| {
        std::fs::write(folder.path().join("config.json"), data).expect("writable");
        let _ = hf::build(folder.path(), &Request::default());
    });
}

/// A folder that costs no disk writes, where there is one.
pub(super) fn shared_memory() -> &'static Path {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { shm } else { Path::new("/tmp") }
}

/// PNG and JPEG files, and the processors of pictures behind them.
pub fn image(data: &[u8]) {
    let file = RawFile::new("picture", data);
    let Ok(picture) = frit_processors::image::decode(&file) else { return };
    assert_eq!(picture.pixels().len(), picture.width() * picture.height() * 3);
    if picture.width() * picture.height() <= 1 << 16 {
        for filter in 0..6 {
            let Some(filter) = frit_processors::image::Filter::from_number(filter) else { continue };
            let out = frit_processors::image::resize(&picture, 7, 5, filter, "picture").expect("resizes");
            assert_eq!((out.width(), out.height()), (7, 5));
        }
    }
}

/// Sound files, and resampling behind them.
pub fn audio(data: &[u8]) {
    let file = RawFile::new("sound", data);
    let Ok(sound) = frit_processors::audio::decode(&file) else { return };
    assert!(sound.samples.iter().all(|x| x.is_finite()));
    if sound.samples.len() <= 1 << 14 {
        let _ = frit_processors::audio::resample(sound, 16_000, "sound");
    }
}

/// Processor files, one after another with their names: `name\n====\ncontent\n====\nname...`.
pub fn tokenizer(data: &[u8]) {
    let mut assets = Assets::new();
    for pair in parts(data).chunks_exact(2) {
        let Ok(name) = std::str::from_utf8(pair[0]) else { return };
        assets.insert(name, pair[1]);
    }
    let Ok(processor) = Processor::from_assets(&assets) else { return };
    if let Some(t) = &processor.tokenizer {
        if let Ok(e) = t.encode("The quick brown fox isn't [MASK] in 東京 🙂") {
            let ids: Vec<i64> = (0..e.len() as i64).collect();
            let _ = t.decode(&ids, true);
        }
        let _ = t.decode(&[0, 1, -1, 70, 1 << 40], false);
    }
    let _ = processor.prepare(&RawInput { texts: vec!["one two".into()], ..RawInput::default() });
}

fn settle(config: &GenerationConfig) {
    let _ = frit_runtime::generation::mode(config);
    let _ = frit_runtime::generation::warnings(config, 3);
    let _ = (config.eos(), config.pad(), config.decoder_start(), config.total_length(3));
}

/// generation_config.json, and the same keys in config.json.
pub fn generation(data: &[u8]) {
    let Ok(value) = serde_json::from_slice(data) else { return };
    if let Ok(config) = GenerationConfig::from_generation_config(&value) {
        settle(&config);
    }
    if let Ok(config) = GenerationConfig::from_model_config(&value) {
        settle(&config);
    }
    if let Ok(config) = GenerationConfig::load(Some(&value), &value) {
        assert_eq!(config.to_map(), config.clone().to_map());
    }
}
