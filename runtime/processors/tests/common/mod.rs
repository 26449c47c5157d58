//! Reading of the committed fixtures, which Pillow and transformers 4.37.2 made. No checks belong here.
#![allow(dead_code)] // every test file uses a part of it

use frit_processors::{Assets, RawFile};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A path below the processor fixtures.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/processors").join(path)
}

/// A fixture's JSON.
pub fn json(path: &str) -> Value {
    let path = fixture(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// The names of the folders below a fixture folder.
pub fn cases(path: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(fixture(path))
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.path().is_dir())
        .map(|e| e.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no cases in {path}");
    names
}

/// A folder's processor files.
pub fn assets(path: &str) -> Assets {
    Assets::from_folder(fixture(path)).unwrap()
}

/// A sound or picture.
pub fn raw(path: &str) -> RawFile {
    RawFile::read(fixture(path)).unwrap()
}

/// A tensor's shape and values; whole numbers and bytes become f32.
pub type Array = (Vec<usize>, Vec<f32>);

/// All tensors of a safetensors file.
pub fn tensors(path: &str) -> BTreeMap<String, Array> {
    let bytes = std::fs::read(fixture(path)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let read = |t: safetensors::tensor::TensorView<'_>| -> Array {
        let data = t.data();
        let values = match t.dtype() {
            Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
            Dtype::I64 => {
                data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f32).collect()
            }
            Dtype::U8 => data.iter().map(|&b| f32::from(b)).collect(),
            other => panic!("{other:?}"),
        };
        (t.shape().to_vec(), values)
    };
    file.tensors().into_iter().map(|(name, t)| (name, read(t))).collect()
}

/// The largest difference of two rows of equal length.
pub fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A JSON list of numbers.
pub fn numbers(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect()
}

/// A JSON string.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
