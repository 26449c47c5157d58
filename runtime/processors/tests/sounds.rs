//! Sounds against libsndfile's decoding and transformers' Wav2Vec2FeatureExtractor.
#![allow(clippy::unwrap_used, clippy::panic)]
#![cfg(feature = "audio")]

mod common;

use common::{assets, cases, json, raw, tensors, text, worst};
use frit_processors::audio::{FeatureExtractor, decode, resample};
use frit_processors::{Error, RawFile};

#[test]
fn decoding_equals_libsndfile() {
    let wanted = tensors("audio/expected.safetensors");
    for entry in json("audio/audio.json").as_array().unwrap() {
        let name = text(&entry["file"]);
        let sound = decode(&raw(&format!("audio/{name}"))).unwrap();
        assert_eq!(u64::from(sound.rate), entry["sampling_rate"].as_u64().unwrap(), "{name}");
        let (shape, channels) = &wanted[name];
        let mean: Vec<f32> = (0..shape[1])
            .map(|i| (0..shape[0]).map(|c| channels[c * shape[1] + i]).sum::<f32>() / shape[0] as f32)
            .collect();
        let off = worst(&sound.samples, &mean);
        assert!(off <= 1e-7, "{name}: off by {off}");
    }
}

#[test]
fn resampling_comes_near_the_formula() {
    let wanted = tensors("audio/expected.safetensors");
    for entry in json("audio/audio.json").as_array().unwrap() {
        let name = text(&entry["file"]);
        let sound = resample(decode(&raw(&format!("audio/{name}"))).unwrap(), 16_000, name).unwrap();
        let ideal = &wanted[&format!("{name}.ideal_16000")].1;
        assert_eq!(sound.samples.len(), ideal.len(), "{name}");
        let edge = ideal.len() / 5;
        let inside = edge..ideal.len() - edge;
        let off = worst(&sound.samples[inside.clone()], &ideal[inside]);
        // 8-bit samples have steps of 1/128 themselves.
        let tolerance = if text(&entry["subtype"]) == "PCM_U8" { 1.5 / 128.0 } else { 5e-4 };
        assert!(off <= tolerance, "{name}: off by {off}");
    }
}

#[test]
fn features_equal_transformers() {
    for case in cases("feature_extractors") {
        let folder = format!("feature_extractors/{case}");
        let extractor = FeatureExtractor::from_assets(&assets(&folder)).unwrap().unwrap();
        let inputs = tensors(&format!("{folder}/inputs.safetensors"));
        let rows: Vec<Vec<f32>> =
            (0..inputs.len()).map(|i| inputs[&format!("sound.{i}")].1.clone()).collect();
        let batch = extractor.batch(rows).unwrap();
        let expected = tensors(&format!("{folder}/expected.safetensors"));
        let (shape, values) = &expected["input_values"];
        assert_eq!(batch.input_values.shape(), shape, "{case}");
        let off = worst(&batch.input_values.to_f32_vec(), values);
        assert!(off <= 2e-6, "{case}: off by {off}");
        match (expected.get("attention_mask"), batch.attention_mask) {
            (Some((_, want)), Some(got)) => assert_eq!(&got.to_f32_vec(), want, "{case}"),
            (want, got) => assert!(want.is_none() && got.is_none(), "{case}"),
        }
    }
}

fn refused(bytes: &[u8]) -> Error {
    let error = decode(&RawFile::new("my.wav", bytes)).unwrap_err();
    assert!(error.to_string().contains("my.wav"), "{error}");
    error
}

#[test]
fn bad_sounds_are_refused_by_name() {
    assert!(matches!(refused(b""), Error::SoundEmpty { .. }));
    assert!(matches!(refused(&[7; 4000]), Error::SoundFormat { .. }));
    assert!(matches!(refused(b"RIFF\x04\0\0\0WAVE"), Error::SoundFormat { .. }));
    let wav = raw("audio/pcm16_16000.wav").bytes;
    let cut = refused(&wav[..wav.len() - 1000]);
    assert!(matches!(cut, Error::SoundTruncated { expected: 1600, got: 1100, .. }), "{cut}");
    let cut = refused(&wav[..44]);
    assert!(matches!(cut, Error::SoundTruncated { got: 0, .. } | Error::SoundEmpty { .. }), "{cut}");
    let flac = raw("audio/flac16_16000.flac").bytes;
    let cut = refused(&flac[..flac.len() * 3 / 4]);
    assert!(matches!(cut, Error::SoundTruncated { .. } | Error::SoundDamaged { .. }), "{cut}");
    let mut empty = wav[..44].to_vec();
    empty[40..44].fill(0);
    assert!(matches!(refused(&empty), Error::SoundEmpty { .. } | Error::SoundFormat { .. }));
    let mut broken = wav.clone();
    broken[34..36].copy_from_slice(&17u16.to_le_bytes());
    assert!(matches!(refused(&broken), Error::SoundDamaged { .. }));
}

#[test]
fn floats_that_are_no_numbers_are_refused() {
    let mut wav = raw("audio/float_22050.wav").bytes;
    let at = wav.len() - 400;
    let at = at - (at - wav.len() % 4) % 4;
    wav[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(matches!(refused(&wav), Error::SoundNotFinite { .. }));
}

/// A header by hand: more than two channels, an extensible format, and 24 valid bits in 32.
#[test]
fn extensible_headers_are_read() {
    let frames: [[i32; 3]; 4] =
        [[1 << 30, 0, -(1 << 30)], [1 << 30; 3], [0, 0, 3 << 28], [-(1 << 30), -(1 << 30), 0]];
    let data: Vec<u8> = frames.iter().flatten().flat_map(|s| s.to_le_bytes()).collect();
    let mut wav = Vec::new();
    wav.extend(b"RIFF");
    wav.extend((60 + data.len() as u32).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(40u32.to_le_bytes());
    wav.extend(0xfffeu16.to_le_bytes());
    wav.extend(3u16.to_le_bytes());
    wav.extend(16_000u32.to_le_bytes());
    wav.extend((16_000u32 * 12).to_le_bytes());
    wav.extend(12u16.to_le_bytes());
    wav.extend(32u16.to_le_bytes());
    wav.extend(22u16.to_le_bytes());
    wav.extend(32u16.to_le_bytes());
    wav.extend(7u32.to_le_bytes());
    wav.extend([1, 0, 0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71]);
    wav.extend(b"data");
    wav.extend((data.len() as u32).to_le_bytes());
    wav.extend(data);
    let sound = decode(&RawFile::new("x.wav", wav)).unwrap();
    assert_eq!(sound.samples, [0.0, 0.5, 0.125, -1.0 / 3.0]);
}
