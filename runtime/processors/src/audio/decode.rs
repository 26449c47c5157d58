//! Sound files to samples: wav (integers of 8 to 32 bits, floats, A-law, mu-law, ADPCM, extensible headers), flac, aiff,
//! ogg/vorbis and mp3, by the crate symphonia. Resampling and scaling for a model do not belong here.

use crate::assets::RawFile;
use crate::error::{Error, Result, walled};
use std::io::Cursor;
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error as Symphonia;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

/// Most samples taken from one file, over all channels.
pub const MAX_SAMPLES: usize = 1 << 28;

/// One channel of sound.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    /// Samples; integers are scaled by their full range, so that they lie in -1 to 1.
    pub samples: Vec<f32>,
    /// Samples a second.
    pub rate: u32,
}

/// Decodes a file and mixes its channels by their mean.
///
/// Fails for unknown formats, damaged or cut-off files, an empty sound, samples that are not finite numbers, and more
/// than [`MAX_SAMPLES`].
pub fn decode(file: &RawFile) -> Result<Sound> {
    let damaged = || Error::SoundDamaged {
        name: file.name.clone(),
        frames: 0,
        message: "the decoder failed".to_owned(),
    };
    let sound = walled(|| decode_mono(file)).unwrap_or_else(|| Err(damaged()))?;
    if let Some(index) = sound.samples.iter().position(|x| !x.is_finite()) {
        return Err(Error::SoundNotFinite { name: file.name.clone(), index });
    }
    Ok(sound)
}

fn decode_mono(file: &RawFile) -> Result<Sound> {
    let name = || file.name.clone();
    if file.bytes.is_empty() {
        return Err(Error::SoundEmpty { name: name() });
    }
    let unknown = |e: Symphonia| match e {
        // A reader took the file for its own and found it broken.
        Symphonia::DecodeError(message) => {
            Error::SoundDamaged { name: file.name.clone(), frames: 0, message: message.to_owned() }
        }
        e => Error::SoundFormat { name: file.name.clone(), message: e.to_string() },
    };
    let stream = MediaSourceStream::new(Box::new(Cursor::new(file.bytes.as_slice())), Default::default());
    let mut format = symphonia::default::get_probe()
        .probe(&Hint::new(), stream, FormatOptions::default(), MetadataOptions::default())
        .map_err(unknown)?;
    // Formats whose header gives the exact length; others may give a guess.
    let exact = matches!(format.format_info().short_name, "wave" | "aiff" | "flac");
    let none = || Error::SoundFormat { name: file.name.clone(), message: "no sound track".to_owned() };
    let track = format.default_track(TrackType::Audio).ok_or_else(none)?;
    let (id, expected) = (track.id, track.num_frames.filter(|_| exact));
    let parameters = track.codec_params.as_ref().and_then(|p| p.audio()).ok_or_else(none)?.clone();
    let mut options = AudioDecoderOptions::default();
    options.verify = true;
    let mut decoder =
        symphonia::default::get_codecs().make_audio_decoder(&parameters, &options).map_err(unknown)?;

    let mut mono = Mono { samples: Vec::new(), rate: None, channels: 0, total: 0 };
    let mut buffer: Vec<f32> = Vec::new();
    loop {
        let damaged = |e: Symphonia, frames: usize| Error::SoundDamaged {
            name: file.name.clone(),
            frames: frames as u64,
            message: e.to_string(),
        };
        let packet = match format.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            // A reader says this at the end of the bytes; whether that is too early is decided below.
            Err(Symphonia::IoError(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(e) => return Err(damaged(e, mono.samples.len())),
        };
        if packet.track_id != id {
            continue;
        }
        let decoded = match decoder.decode(&packet) {
            Ok(decoded) => decoded,
            Err(Symphonia::IoError(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(e) => return Err(damaged(e, mono.samples.len())),
        };
        let (rate, channels) = (decoded.spec().rate(), decoded.spec().channels().count());
        decoded.copy_to_vec_interleaved(&mut buffer);
        mono.append(file, rate, channels, &buffer)?;
    }
    let got = mono.samples.len() as u64;
    if let Some(expected) = expected.filter(|&n| n > got) {
        return Err(Error::SoundTruncated { name: name(), expected, got });
    }
    if decoder.finalize().verify_ok == Some(false) {
        let message = "its checksum is wrong".to_owned();
        return Err(Error::SoundDamaged { name: name(), frames: got, message });
    }
    match mono.rate {
        Some(rate) if !mono.samples.is_empty() => Ok(Sound { samples: mono.samples, rate }),
        _ => Err(Error::SoundEmpty { name: name() }),
    }
}

/// The mix so far.
struct Mono {
    samples: Vec<f32>,
    rate: Option<u32>,
    channels: usize,
    /// Samples of all channels.
    total: usize,
}

impl Mono {
    fn append(&mut self, file: &RawFile, rate: u32, channels: usize, interleaved: &[f32]) -> Result<()> {
        if interleaved.is_empty() {
            return Ok(());
        }
        let changed = self.rate.is_some_and(|r| r != rate || self.channels != channels);
        if channels == 0 || changed {
            let message = "rate or channels change within the file".to_owned();
            return Err(Error::SoundDamaged {
                name: file.name.clone(),
                frames: self.samples.len() as u64,
                message,
            });
        }
        (self.rate, self.channels) = (Some(rate), channels);
        self.total = self.total.saturating_add(interleaved.len());
        if self.total > MAX_SAMPLES {
            return Err(Error::SoundTooLong { name: file.name.clone(), limit: MAX_SAMPLES });
        }
        if channels == 1 {
            self.samples.extend_from_slice(interleaved);
        } else {
            let mean =
                |frame: &[f32]| (frame.iter().map(|&x| f64::from(x)).sum::<f64>() / channels as f64) as f32;
            self.samples.extend(interleaved.chunks_exact(channels).map(mean));
        }
        Ok(())
    }
}
