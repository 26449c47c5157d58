//! Encoder-decoders in the layout of Optimum's ORTModelForVision2Seq and transformers.js: encoder, decoder, decoder with
//! cache, and both decoders in one. What ops look like in ONNX does not belong here.

use super::{Exporting, File};
use crate::error::Error;
use frit_processors::Assets;
use std::path::Path;

/// True when a folder of this model holds several files.
pub(super) fn is(_path: &Path, _options: &Exporting) -> Result<bool, Error> {
    Ok(false)
}

/// Writes them.
pub(super) fn export(
    _path: &Path,
    _output: &Path,
    _options: &Exporting,
    _assets: &Assets,
) -> Result<Vec<File>, Error> {
    Ok(vec![])
}
