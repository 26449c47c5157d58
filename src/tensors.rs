//! Named tensors in safetensors files: what the command line reads and writes. Checkpoints are the frontend's.

use crate::error::Error;
use frit_ir::{DType, Storage, Tensor};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

fn from_file_dtype(d: Dtype) -> Option<DType> {
    Some(match d {
        Dtype::BOOL => DType::Bool,
        Dtype::I8 => DType::I8,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::U8 => DType::U8,
        Dtype::U16 => DType::U16,
        Dtype::U32 => DType::U32,
        Dtype::U64 => DType::U64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::F8_E4M3 => DType::F8E4M3FN,
        Dtype::F8_E5M2 => DType::F8E5M2,
        Dtype::F8_E8M0 => DType::F8E8M0,
        _ => return None,
    })
}

/// None for the storage types that the format does not have, or packs.
fn to_file_dtype(d: DType) -> Option<Dtype> {
    Some(match d {
        DType::Bool => Dtype::BOOL,
        DType::I8 => Dtype::I8,
        DType::I16 => Dtype::I16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::U8 => Dtype::U8,
        DType::U16 => Dtype::U16,
        DType::U32 => Dtype::U32,
        DType::U64 => Dtype::U64,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::F8E4M3FN => Dtype::F8_E4M3,
        DType::F8E5M2 => Dtype::F8_E5M2,
        DType::F8E8M0 => Dtype::F8_E8M0,
        DType::I4 | DType::U4 | DType::I2 | DType::U2 => return None,
        DType::F8E4M3FNUZ | DType::F8E5M2FNUZ | DType::F4E2M1 => return None,
    })
}

/// Reads every tensor of a safetensors file, by name. Aligned tensors share the mapped file.
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>, Error> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let bad = |why: String| Error::Tensors { path: path.to_path_buf(), why };
    // Asked before opening: opening a FIFO would wait for its writer.
    let length = std::fs::metadata(path).map_err(io)?;
    if !length.is_file() {
        return Err(bad("not a regular file".into()));
    }
    let file = File::open(path).map_err(io)?;
    if length.len() == 0 {
        return Err(bad("the file is empty".into()));
    }
    // SAFETY: mapped read-only. As with every mapped file, another process that truncates it while it is in use can
    // make reads fail.
    let map = unsafe { Mmap::map(&file) }.map_err(io)?;
    let map = Arc::new(map);
    let parsed = SafeTensors::deserialize(&map).map_err(|e| bad(e.to_string()))?;
    let owner: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(Shared(map.clone()));
    let mut out = BTreeMap::new();
    for (name, view) in parsed.tensors() {
        let dtype = from_file_dtype(view.dtype()).ok_or_else(|| {
            bad(format!("tensor `{name}` has element type {:?}, which is not supported", view.dtype()))
        })?;
        let start = view.data().as_ptr().addr().wrapping_sub(map.as_ptr().addr());
        let shared = Storage::shared(owner.clone(), start, view.data().len())
            .and_then(|s| Tensor::from_storage(dtype, view.shape(), s).ok());
        let tensor = match shared {
            Some(t) => t,
            None => Tensor::from_bytes(dtype, view.shape(), view.data())
                .map_err(|e| bad(format!("tensor `{name}`: {e}")))?,
        };
        out.insert(name, tensor);
    }
    Ok(out)
}

struct Shared(Arc<Mmap>);
impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Writes named tensors, to a temporary file beside the target that is renamed when whole.
pub fn write(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), Error> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let bad = |why: String| Error::Tensors { path: path.to_path_buf(), why };
    let views = tensors
        .iter()
        .map(|(name, t)| {
            let dtype = to_file_dtype(t.dtype()).ok_or_else(|| {
                bad(format!("tensor `{name}` is of {}, which safetensors files do not have", t.dtype()))
            })?;
            TensorView::new(dtype, t.shape().to_vec(), t.bytes())
                .map(|v| (name.clone(), v))
                .map_err(|e| bad(format!("tensor `{name}`: {e}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::Builder::new().prefix(".frit-").tempfile_in(folder).map_err(io)?;
    serialize_to_file(views, None, file.path()).map_err(|e| match e {
        safetensors::SafeTensorError::IoError(source) => io(source),
        other => bad(other.to_string()),
    })?;
    make_readable(file.path()).map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}

/// Temporary files are private; results are files like any other.
fn make_readable(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))?;
    }
    let _ = path;
    Ok(())
}
