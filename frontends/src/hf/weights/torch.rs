//! What `torch.save` writes: a zip archive (torch 1.6 and later) or a sequence of pickles with raw storages after it
//! (before). Opcodes of pickles do not belong here.

use super::entry::Entry;
use super::error::{Damage, Fault};
use super::pickle::{Arena, Value, parse};
use frit_ir::DType;
use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;

const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// Little-endian bytes of the number that opens a legacy file.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const LEGACY_PROTOCOL: i64 = 1001;
/// Largest number of records that a zip file may list.
const MAX_RECORDS: usize = 1 << 20;

/// True for files that torch.save may have written: a zip archive or a pickle. A safetensors file may begin with the
/// bytes of either, as it begins with a number; but then comes the brace of its header, where no pickle has one.
pub(super) fn looks_like(data: &[u8]) -> bool {
    let torch = data.starts_with(ZIP_MAGIC) || matches!(data.get(..2), Some([0x80, 1..=5]));
    torch && data.get(8) != Some(&b'{')
}

/// The tensors of the state dict that the file holds.
pub(super) fn read(data: &[u8]) -> Result<Vec<(String, Entry)>, Damage> {
    if data.starts_with(ZIP_MAGIC) { read_zip(data) } else { read_legacy(data) }
}

/// Bytes of a storage within the file.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    len: usize,
}

fn read_zip(data: &[u8]) -> Result<Vec<(String, Entry)>, Damage> {
    let zip_fault = |e: zip::result::ZipError| Damage::whole(Fault::Zip(e.to_string()));
    let mut archive = zip::ZipArchive::new(Cursor::new(data)).map_err(zip_fault)?;
    if archive.len() > MAX_RECORDS {
        return Err(Damage::whole(Fault::Unsupported(format!("{} records in one archive", archive.len()))));
    }
    let mut records: HashMap<String, Place> = HashMap::new();
    for i in 0..archive.len() {
        let record = archive.by_index_raw(i).map_err(zip_fault)?;
        let name = record.name().map_err(zip_fault)?.into_owned();
        let header = usize::try_from(record.header_start()).unwrap_or(usize::MAX);
        if record.compression() != zip::CompressionMethod::Stored || record.encrypted() {
            let what = format!("record `{name}` is compressed or encrypted");
            return Err(Damage::at(header, Fault::Unsupported(what)));
        }
        let len = usize::try_from(record.size()).unwrap_or(usize::MAX);
        let start = record.data_start().and_then(|s| usize::try_from(s).ok()).unwrap_or(usize::MAX);
        if start.checked_add(len).is_none_or(|end| end > data.len()) {
            let got = data.len().saturating_sub(start) as u64;
            return Err(Damage::at(header, Fault::Truncated { expected: len as u64, got }).of(&name));
        }
        if records.contains_key(&name) {
            return Err(Damage::at(header, Fault::Twice).of(&name));
        }
        records.insert(name, Place { start, len });
    }
    let mut pickles = records.iter().filter(|(name, _)| *name == "data.pkl" || name.ends_with("/data.pkl"));
    let (name, pickle) = match (pickles.next(), pickles.next()) {
        (Some(only), None) => only,
        (None, _) => return Err(Damage::whole(Fault::Zip("no data.pkl in the archive".to_string()))),
        _ => return Err(Damage::whole(Fault::Zip("more than one data.pkl in the archive".to_string()))),
    };
    let root = name.trim_end_matches("data.pkl");
    if records.contains_key(&format!("{root}constants.pkl")) {
        return Err(Damage::whole(Fault::Unsupported(
            "a TorchScript archive; a state dict is expected".to_string(),
        )));
    }
    if let Some(order) = records.get(&format!("{root}byteorder"))
        && data.get(order.start..order.start + order.len) != Some(b"little")
    {
        return Err(Damage::at(
            order.start,
            Fault::Unsupported("a byte order other than little".to_string()),
        ));
    }
    // The pickle is parsed within its record only, at its place in the file, so that offsets in errors are true.
    let within = data.get(..pickle.start + pickle.len).unwrap_or(data);
    let mut arena = Arena::default();
    let (value, _) = parse(within, pickle.start, &mut arena).map_err(|(at, e)| Damage::at(at, e.into()))?;
    let locate = |key: &str, _: DType| records.get(&format!("{root}data/{key}")).copied();
    state_dict(data, &arena, value, locate)
}

fn read_legacy(data: &[u8]) -> Result<Vec<(String, Entry)>, Damage> {
    let mut arena = Arena::default();
    let mut at = 0;
    let mut next = |arena: &mut Arena| -> Result<(usize, Value), Damage> {
        let start = at;
        let (value, end) = parse(data, start, arena).map_err(|(at, e)| Damage::at(at, e.into()))?;
        at = end;
        Ok((start, value))
    };
    match next(&mut arena)? {
        (_, Value::LongInt(span)) if span.of(data) == LEGACY_MAGIC => {}
        _ => return Err(Damage::at(0, Fault::Foreign)),
    }
    match next(&mut arena)? {
        (_, Value::Int(LEGACY_PROTOCOL)) => {}
        (start, _) => {
            return Err(Damage::at(start, Fault::Unsupported("an unknown legacy protocol".to_string())));
        }
    }
    let (info_at, info) = next(&mut arena)?;
    let big_endian = arena.pairs(info).unwrap_or(&[]).iter().any(|(key, value)| {
        matches!(key, Value::Text(span) if span.of(data) == b"little_endian") && *value == Value::Bool(false)
    });
    if big_endian {
        return Err(Damage::at(info_at, Fault::Unsupported("a byte order other than little".to_string())));
    }
    let (_, value) = next(&mut arena)?;
    let (keys_at, keys) = next(&mut arena)?;
    let keys: Vec<&[u8]> = arena
        .items(keys)
        .unwrap_or(&[])
        .iter()
        .map(|key| match key {
            Value::Text(span) => Ok(span.of(data)),
            _ => Err(Damage::at(keys_at, Fault::Unsupported("a storage key that is not text".to_string()))),
        })
        .collect::<Result<_, _>>()?;
    let sizes: HashMap<&str, usize> =
        arena.storages.iter().map(|s| (s.key.as_str(), s.dtype.size())).collect();
    let mut places: HashMap<&str, Place> = HashMap::new();
    for key in keys {
        let key = std::str::from_utf8(key).unwrap_or_default();
        let truncated = |at: usize, expected: usize| {
            Damage::at(
                at,
                Fault::Truncated { expected: expected as u64, got: data.len().saturating_sub(at) as u64 },
            )
        };
        let count: [u8; 8] = data
            .get(at..at.saturating_add(8))
            .and_then(|b| b.try_into().ok())
            .ok_or_else(|| truncated(at, 8).of(key))?;
        let start = at.saturating_add(8);
        let size = sizes.get(key).copied().unwrap_or(1);
        let len = usize::try_from(u64::from_le_bytes(count)).ok().and_then(|n| n.checked_mul(size));
        let len = len.filter(|&len| start.checked_add(len).is_some_and(|end| end <= data.len()));
        let len = len.ok_or_else(|| {
            let bytes = u64::from_le_bytes(count).saturating_mul(size as u64);
            truncated(start, usize::try_from(bytes).unwrap_or(usize::MAX)).of(key)
        })?;
        places.insert(key, Place { start, len });
        at = start.saturating_add(len);
    }
    state_dict(data, &arena, value, |key, _| places.get(key).copied())
}

/// The tensors of a dict of tensors. Entries that are no tensors (counters, versions) are left out.
fn state_dict(
    data: &[u8],
    arena: &Arena,
    value: Value,
    locate: impl Fn(&str, DType) -> Option<Place>,
) -> Result<Vec<(String, Entry)>, Damage> {
    let not_a_dict =
        || Damage::whole(Fault::Unsupported("the file does not hold a dict of tensors by name".to_string()));
    let pairs = arena.pairs(value).ok_or_else(not_a_dict)?;
    let mut entries = BTreeMap::new();
    for (key, value) in pairs {
        let (Value::Text(key), Value::Tensor(tensor)) = (key, value) else { continue };
        let key = String::from_utf8_lossy(key.of(data)).into_owned();
        let Some(tensor) = arena.tensors.get(*tensor) else { continue };
        let Some(storage) = arena.storages.get(tensor.storage) else { continue };
        let place = locate(&storage.key, storage.dtype).ok_or_else(|| {
            let what = format!("its storage `{}` is not in the file", storage.key);
            Damage::at(tensor.built_at, Fault::Unsupported(what)).of(&key)
        })?;
        let present = (place.len / storage.dtype.size()) as u64;
        if storage.elements > present {
            let expected = storage.elements.saturating_mul(storage.dtype.size() as u64);
            let fault = Fault::Truncated { expected, got: place.len as u64 };
            return Err(Damage::at(place.start, fault).of(&key));
        }
        let entry = Entry::strided(
            storage.dtype,
            &tensor.shape,
            &tensor.strides,
            tensor.offset,
            place.start,
            storage.elements,
            data.len(),
        )
        .map_err(|d| d.of(&key))?;
        // A key set twice keeps its last value, as in Python.
        entries.insert(key, entry);
    }
    if entries.is_empty() && !pairs.is_empty() {
        return Err(not_a_dict());
    }
    Ok(entries.into_iter().collect())
}
