//! Damaged files: whatever is cut off or flipped, a decoder gives a result or an error, and never panics.
#![cfg(all(feature = "audio", feature = "image", feature = "text"))]
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use proptest::prelude::*;

/// Whether `f` comes back. What panics inside another crate's decoder must have become an error.
fn returns(f: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_ok()
}

/// One way to damage a file.
#[derive(Clone, Debug)]
enum Damage {
    Cut(prop::sample::Index),
    Flip(prop::sample::Index, u8),
    Set(prop::sample::Index, u8),
    Repeat(prop::sample::Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<prop::sample::Index>().prop_map(Damage::Cut),
        (any::<prop::sample::Index>(), 0u8..8).prop_map(|(i, bit)| Damage::Flip(i, bit)),
        (any::<prop::sample::Index>(), prop_oneof![Just(0u8), Just(255), any::<u8>()])
            .prop_map(|(i, b)| Damage::Set(i, b)),
        (any::<prop::sample::Index>(), 1usize..40).prop_map(|(i, n)| Damage::Repeat(i, n)),
    ]
}

fn apply(bytes: &mut Vec<u8>, all: &[Damage]) {
    for damage in all {
        if bytes.is_empty() {
            return;
        }
        match damage {
            Damage::Cut(i) => bytes.truncate(i.index(bytes.len())),
            Damage::Flip(i, bit) => {
                let at = i.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            Damage::Set(i, value) => {
                let at = i.index(bytes.len());
                bytes[at] = *value;
            }
            Damage::Repeat(i, n) => {
                let at = i.index(bytes.len());
                let part: Vec<u8> = bytes[at..].iter().take(*n).copied().collect();
                bytes.splice(at..at, part);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pictures(which in 0usize..10, all in prop::collection::vec(damage(), 1..4)) {
        let names = ["rgb_53x37.png", "palette_27x21.png", "alpha_23x17.png", "bits_9x14.png", "one_pixel.png",
            "photo_48x33.jpg", "photo_grey_48x33.jpg", "grey_31x29.png", "grey_alpha_23x17.png", "rgb_19x41.png"];
        let mut file = common::raw(&format!("images/{}", names[which]));
        apply(&mut file.bytes, &all);
        let came_back = returns(|| drop(frit_processors::image::decode(&file)));
        prop_assert!(came_back);
    }

    #[test]
    fn sounds(which in 0usize..8, all in prop::collection::vec(damage(), 1..4)) {
        let names = ["pcm16_16000.wav", "pcm16_stereo_44100.wav", "float_22050.wav", "pcm24_stereo_16000.wav",
            "pcm32_8000.wav", "pcm8_8000.wav", "flac16_16000.flac", "flac24_stereo_48000.flac"];
        let mut file = common::raw(&format!("audio/{}", names[which]));
        apply(&mut file.bytes, &all);
        let came_back = returns(|| {
            if let Ok(sound) = frit_processors::audio::decode(&file) {
                drop(frit_processors::audio::resample(sound, 16_000, "x"));
            }
        });
        prop_assert!(came_back);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tokenizer_files(which in 0usize..8, file in 0usize..11, all in prop::collection::vec(damage(), 1..4)) {
        let names = ["tokenizers/bert_cased", "tokenizers/bert_tokenizer_json", "tokenizers/gpt2",
            "tokenizers/gpt2_tokenizer_json", "tokenizers/bert_uncased", "ctc/english", "ctc/many_letters",
            "image_processors/beit_old_names"];
        let mut files = common::assets(names[which]);
        let present: Vec<String> = files.iter().map(|(n, _)| n.to_owned()).collect();
        let name = &present[file % present.len()];
        let mut bytes = files.get(name).unwrap().to_vec();
        apply(&mut bytes, &all);
        files.insert(name.clone(), bytes);
        let came_back = returns(|| {
            let processor = frit_processors::Processor::from_assets(&files);
            if let Some(tokenizer) = processor.ok().and_then(|p| p.tokenizer) {
                drop(tokenizer.encode("The quick brown fox isn't [MASK] in 東京 🙂"));
                drop(tokenizer.decode(&[0, 1, 5, 70, 200, 400], true));
            }
        });
        prop_assert!(came_back);
    }
}
