//! Sound to `input_values`: files decoded and mixed to one channel, resampled to the model's rate, padded and
//! normalised as transformers' Wav2Vec2FeatureExtractor does. CTC, which turns scores to text, does not belong here.

mod decode;
mod features;
mod resample;

pub use decode::{MAX_SAMPLES, Sound, decode};
pub use features::{AudioBatch, FeatureExtractor};
pub use resample::{MAX_RATE, MIN_RATE, resample};
