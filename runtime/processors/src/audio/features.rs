//! Wav2Vec2FeatureExtractor of transformers 4.37: padding and zero-mean unit-variance normalisation of sounds that have
//! the model's rate. Files and resampling do not belong here.

use super::{Sound, decode, resample};
use crate::assets::{Assets, RawFile};
use crate::doc::Doc;
use crate::error::{Error, Result};
use frit_ir::Tensor;

/// What goes into the model for a batch of sounds.
#[derive(Clone, Debug)]
pub struct AudioBatch {
    /// f32 `[batch, samples]`.
    pub input_values: Tensor,
    /// i64 `[batch, samples]`, 1 for samples and 0 for padding, where the model takes one.
    pub attention_mask: Option<Tensor>,
    /// Samples of each row before padding.
    pub lengths: Vec<usize>,
}

/// The settings of preprocessor_config.json for sound.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureExtractor {
    /// Samples a second that the model takes.
    pub sampling_rate: u32,
    /// Fills up shorter rows.
    pub padding_value: f32,
    /// Scales each row to mean 0 and variance 1.
    pub do_normalize: bool,
    /// Gives an attention mask, and leaves the padding out of the normalisation.
    pub return_attention_mask: bool,
    /// Pads on the left.
    pub pad_left: bool,
}

/// The class read here.
const CLASS: &str = "Wav2Vec2FeatureExtractor";

impl FeatureExtractor {
    /// From preprocessor_config.json; `None` when there is none, or it is not for sound. Fails for another sound feature
    /// extractor than Wav2Vec2's.
    pub fn from_assets(assets: &Assets) -> Result<Option<Self>> {
        const FILE: &str = "preprocessor_config.json";
        if !assets.contains(FILE) {
            return Ok(None);
        }
        let doc = assets.json(FILE)?;
        let key = "feature_extractor_type";
        match doc.str(key)? {
            Some(CLASS) => {}
            Some(_) if doc.get("sampling_rate").is_some() => return Err(doc.unsupported(key, CLASS)),
            None if doc.get("sampling_rate").is_some() => {}
            _ => return Ok(None),
        }
        Self::from_doc(&doc).map(Some)
    }

    fn from_doc(doc: &Doc) -> Result<Self> {
        if doc.usize("feature_size")?.unwrap_or(1) != 1 {
            return Err(doc.unsupported("feature_size", "1"));
        }
        let rate = doc.usize("sampling_rate")?.unwrap_or(16_000);
        let sampling_rate =
            u32::try_from(rate).ok().filter(|r| (super::MIN_RATE..=super::MAX_RATE).contains(r)).ok_or_else(
                || doc.wrong("sampling_rate", format!("{} to {} Hz", super::MIN_RATE, super::MAX_RATE)),
            )?;
        Ok(FeatureExtractor {
            sampling_rate,
            padding_value: doc.f64("padding_value")?.unwrap_or(0.0) as f32,
            do_normalize: doc.bool("do_normalize")?.unwrap_or(true),
            return_attention_mask: doc.bool("return_attention_mask")?.unwrap_or(false),
            pad_left: match doc.str("padding_side")? {
                None | Some("right") => false,
                Some("left") => true,
                Some(_) => return Err(doc.wrong("padding_side", "left or right")),
            },
        })
    }

    /// Decodes, mixes, resamples, pads and normalises files.
    pub fn from_files(&self, files: &[RawFile]) -> Result<AudioBatch> {
        let sounds: Result<Vec<Sound>> =
            files.iter().map(|f| resample(decode(f)?, self.sampling_rate, &f.name)).collect();
        let rows: Vec<Vec<f32>> = sounds?.into_iter().map(|s| s.samples).collect();
        self.batch(rows)
    }

    /// Pads rows of samples at the model's rate to the longest and normalises them.
    ///
    /// As in transformers, the padding counts in a row's mean and variance unless an attention mask is returned; with
    /// one, the first samples of a row count, as many as are not padding.
    pub fn batch(&self, rows: Vec<Vec<f32>>) -> Result<AudioBatch> {
        let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
        if rows.is_empty() || lengths.contains(&0) {
            return Err(Error::Input {
                what: "sound".to_owned(),
                expected: "at least one sample".to_owned(),
                got: "nothing".to_owned(),
            });
        }
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut values: Vec<f32> = Vec::new();
        let mut mask: Vec<i64> = Vec::new();
        for row in &rows {
            let padding = longest.saturating_sub(row.len());
            let start = values.len();
            let pad = |values: &mut Vec<f32>, mask: &mut Vec<i64>| {
                values.extend(std::iter::repeat_n(self.padding_value, padding));
                mask.extend(std::iter::repeat_n(0, padding));
            };
            if self.pad_left {
                pad(&mut values, &mut mask);
            }
            values.extend_from_slice(row);
            mask.extend(std::iter::repeat_n(1, row.len()));
            if !self.pad_left {
                pad(&mut values, &mut mask);
            }
            let padded = values.get_mut(start..).unwrap_or(&mut []);
            if self.do_normalize && self.return_attention_mask {
                normalize(padded, row.len());
                for x in padded.iter_mut().skip(row.len()) {
                    *x = self.padding_value;
                }
            } else if self.do_normalize {
                normalize(padded, longest);
            }
        }
        let shape = [rows.len(), longest];
        Ok(AudioBatch {
            input_values: Tensor::from_slice(&shape, &values)?,
            attention_mask: match self.return_attention_mask {
                true => Some(Tensor::from_slice(&shape, &mask)?),
                false => None,
            },
            lengths,
        })
    }
}

/// `(x - mean) / sqrt(variance + 1e-7)` over a row, where the first `count` samples give mean and variance.
fn normalize(row: &mut [f32], count: usize) {
    let counted = row.get(..count).unwrap_or(row);
    if counted.is_empty() {
        return;
    }
    let n = counted.len() as f64;
    let mean = counted.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = counted.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    let scale = (variance + 1e-7).sqrt();
    for x in row {
        *x = ((f64::from(*x) - mean) / scale) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extractor(config: &str) -> Result<Option<FeatureExtractor>> {
        FeatureExtractor::from_assets(
            &[("preprocessor_config.json", config.as_bytes().to_vec())].into_iter().collect(),
        )
    }

    #[test]
    fn settings_are_read_with_defaults() {
        let e = extractor(r#"{"feature_extractor_type": "Wav2Vec2FeatureExtractor"}"#).unwrap().unwrap();
        assert_eq!(e.sampling_rate, 16_000);
        assert!(e.do_normalize && !e.return_attention_mask);
        assert!(extractor(r#"{"image_processor_type": "ViTImageProcessor"}"#).unwrap().is_none());
        assert!(extractor(r#"{"sampling_rate": "fast"}"#).is_err());
        let whisper = r#"{"feature_extractor_type": "WhisperFeatureExtractor", "sampling_rate": 16000}"#;
        assert!(matches!(extractor(whisper), Err(Error::Unsupported { .. })));
    }

    #[test]
    fn masked_rows_are_normalised_without_their_padding() {
        let e = FeatureExtractor {
            sampling_rate: 16_000,
            padding_value: 0.0,
            do_normalize: true,
            return_attention_mask: true,
            pad_left: false,
        };
        let batch = e.batch(vec![vec![1.0, 3.0], vec![0.0, 2.0, 4.0, 6.0]]).unwrap();
        let v = batch.input_values.to_f32_vec();
        assert_eq!(batch.input_values.shape(), [2, 4]);
        assert!((v[0] + 1.0).abs() < 1e-6 && (v[1] - 1.0).abs() < 1e-6);
        assert_eq!(v[2..4], [0.0, 0.0]);
        assert_eq!(batch.attention_mask.unwrap().to_i64_vec(), [1, 1, 0, 0, 1, 1, 1, 1]);
        assert!(e.batch(vec![vec![]]).is_err());
    }
}
