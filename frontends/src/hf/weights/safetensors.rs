//! The safetensors format: an 8-byte length, a JSON header, then the data. Other formats do not belong here.

use super::entry::Entry;
use super::error::{Damage, Fault};
use ::safetensors::{Dtype, SafeTensorError, SafeTensors};
use frit_ir::DType;

/// The tensors of a safetensors file, with their places checked against the file's length.
pub(super) fn read(data: &[u8]) -> Result<Vec<(String, Entry)>, Damage> {
    let (header_len, metadata) = SafeTensors::read_metadata(data).map_err(|e| explain(data, e))?;
    let data_start = header_len.saturating_add(8);
    let mut entries = Vec::new();
    for (name, info) in metadata.tensors() {
        let start = data_start.saturating_add(info.data_offsets.0);
        let dtype = element_type(info.dtype)
            .ok_or_else(|| Damage::at(start, Fault::ElementType(format!("{:?}", info.dtype))).of(&name))?;
        let entry =
            Entry::contiguous(dtype, info.shape.clone(), start, data.len()).map_err(|d| d.of(&name))?;
        entries.push((name, entry));
    }
    Ok(entries)
}

fn element_type(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::BOOL => DType::Bool,
        Dtype::U8 => DType::U8,
        Dtype::I8 => DType::I8,
        Dtype::I16 => DType::I16,
        Dtype::U16 => DType::U16,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I32 => DType::I32,
        Dtype::U32 => DType::U32,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::I64 => DType::I64,
        Dtype::U64 => DType::U64,
        Dtype::F8_E4M3 => DType::F8E4M3FN,
        Dtype::F8_E5M2 => DType::F8E5M2,
        Dtype::F8_E8M0 => DType::F8E8M0,
        _ => return None,
    })
}

fn explain(data: &[u8], error: SafeTensorError) -> Damage {
    let header_len = data
        .get(..8)
        .and_then(|b| b.try_into().ok())
        .map(u64::from_le_bytes)
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(usize::MAX);
    match error {
        SafeTensorError::HeaderTooSmall => {
            Damage::at(0, Fault::Truncated { expected: 8, got: data.len() as u64 })
        }
        SafeTensorError::InvalidHeaderLength => Damage::at(
            8,
            Fault::Truncated { expected: header_len as u64, got: data.len().saturating_sub(8) as u64 },
        ),
        SafeTensorError::MetadataIncompleteBuffer => incomplete(data, header_len),
        SafeTensorError::InvalidOffset(name) => Damage::at(
            8,
            Fault::Header("its data offsets overlap, leave a gap or do not fit its shape".to_string()),
        )
        .of(&name),
        other => Damage::at(8, Fault::Header(other.to_string())),
    }
}

/// The header and the data disagree about the file's length: says which tensor is the first cut off.
fn incomplete(data: &[u8], header_len: usize) -> Damage {
    let data_start = header_len.saturating_add(8);
    let available = data.len().saturating_sub(data_start) as u64;
    let header = data
        .get(8..data_start)
        .and_then(|h| serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(h).ok())
        .unwrap_or_default();
    let mut ends: Vec<(u64, u64, String)> = header
        .into_iter()
        .filter_map(|(name, info)| {
            let offsets = info.get("data_offsets")?;
            Some((offsets.get(0)?.as_u64()?, offsets.get(1)?.as_u64()?, name))
        })
        .collect();
    ends.sort();
    let needed = ends.iter().map(|e| e.1).max().unwrap_or(0);
    match ends.into_iter().find(|(_, end, _)| *end > available) {
        Some((start, end, name)) => {
            let at = data_start.saturating_add(usize::try_from(start).unwrap_or(usize::MAX));
            let got = available.saturating_sub(start);
            Damage::at(at, Fault::Truncated { expected: end.saturating_sub(start), got }).of(&name)
        }
        None => Damage::at(
            data_start.saturating_add(usize::try_from(needed).unwrap_or(usize::MAX)),
            Fault::Header(format!("{} bytes follow the last tensor", available.saturating_sub(needed))),
        ),
    }
}
