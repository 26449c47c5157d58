//! One tensor of a weight file: its type, shape and where its elements lie. No format is parsed here.

use super::FileBytes;
use super::error::{Damage, Fault};
use frit_ir::{DType, Storage, Tensor};

/// Elements that an expanded tensor (stride 0) may have beyond those of its storage.
const MAX_EXPANDED: usize = 1 << 24;

/// Type, shape and place of a tensor in a weight file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    dtype: DType,
    shape: Vec<usize>,
    start: usize,
    strides: Option<Vec<usize>>,
}

impl Entry {
    /// Row-major elements from byte `start` of a file of `file_len` bytes.
    pub(super) fn contiguous(
        dtype: DType,
        shape: Vec<usize>,
        start: usize,
        file_len: usize,
    ) -> Result<Self, Damage> {
        let bytes = frit_ir::tensor::element_count(&shape).and_then(|n| n.checked_mul(dtype.size()));
        let end = bytes.and_then(|n| n.checked_add(start));
        match (bytes, end) {
            (_, Some(end)) if end <= file_len => Ok(Entry { dtype, shape, start, strides: None }),
            (needed, _) => Err(Damage::at(
                start,
                Fault::Truncated {
                    expected: needed.map_or(u64::MAX, |n| n as u64),
                    got: file_len.saturating_sub(start) as u64,
                },
            )),
        }
    }

    /// Elements of a storage (`elements` of them from byte `storage_start`) through torch's offset, size and stride.
    pub(super) fn strided(
        dtype: DType,
        shape: &[u64],
        strides: &[u64],
        offset: u64,
        storage_start: usize,
        elements: u64,
        file_len: usize,
    ) -> Result<Self, Damage> {
        let outside = || {
            Damage::at(
                storage_start,
                Fault::OutOfStorage { shape: shape.to_vec(), strides: strides.to_vec(), offset, elements },
            )
        };
        if shape.len() != strides.len() {
            return Err(outside());
        }
        let to_usize = |v: &[u64]| v.iter().map(|&x| usize::try_from(x).ok()).collect::<Option<Vec<usize>>>();
        let (sizes, steps) = to_usize(shape).zip(to_usize(strides)).ok_or_else(outside)?;
        let count = frit_ir::tensor::element_count(&sizes).ok_or_else(outside)?;
        let last = shape.iter().zip(strides).try_fold(offset, |last, (&size, &stride)| {
            size.saturating_sub(1).checked_mul(stride).and_then(|step| last.checked_add(step))
        });
        if count > 0 && last.is_none_or(|last| last >= elements) {
            return Err(outside());
        }
        if count as u64 > elements && count > MAX_EXPANDED {
            return Err(Damage::at(
                storage_start,
                Fault::Unsupported(format!(
                    "a tensor of {count} elements expanded from a storage of {elements}"
                )),
            ));
        }
        let start = usize::try_from(offset)
            .ok()
            .filter(|_| count > 0)
            .map_or(Some(0), |o| o.checked_mul(dtype.size()))
            .and_then(|o| storage_start.checked_add(o))
            .ok_or_else(outside)?;
        let mut dense = 1usize;
        let contiguous = sizes.iter().zip(&steps).rev().all(|(&size, &step)| {
            let fits = size == 1 || step == dense;
            dense = dense.saturating_mul(size);
            fits
        });
        if contiguous || count == 0 {
            return Entry::contiguous(dtype, sizes, start, file_len);
        }
        Ok(Entry { dtype, shape: sizes, start, strides: Some(steps) })
    }

    /// Element type as stored.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(super) fn tensor(&self, file: &FileBytes) -> Result<Tensor, Damage> {
        let fail = |fault: Fault| Damage::at(self.start, fault);
        let data = (**file).as_ref();
        let Some(strides) = &self.strides else {
            let len = frit_ir::tensor::element_count(&self.shape)
                .and_then(|n| n.checked_mul(self.dtype.size()))
                .unwrap_or(usize::MAX);
            let short = || fail(Fault::Truncated { expected: len as u64, got: data.len() as u64 });
            let storage = Storage::shared(file.clone(), self.start, len).ok_or_else(short)?;
            // A data section whose offset does not suit the type (odd header length) is copied into aligned memory.
            return match Tensor::from_storage(self.dtype, &self.shape, storage.clone()) {
                Ok(tensor) => Ok(tensor),
                Err(_) => {
                    Tensor::from_bytes(self.dtype, &self.shape, storage.bytes()).map_err(|e| fail(e.into()))
                }
            };
        };
        let size = self.dtype.size();
        let mut bytes = Vec::new();
        let mut index = vec![0usize; self.shape.len()];
        loop {
            let element: usize = index.iter().zip(strides).map(|(&i, &s)| i.saturating_mul(s)).sum();
            let from = self.start.saturating_add(element.saturating_mul(size));
            let item = data
                .get(from..from.saturating_add(size))
                .ok_or_else(|| Damage::at(from, Fault::Truncated { expected: size as u64, got: 0 }))?;
            bytes.extend_from_slice(item);
            if !advance(&mut index, &self.shape) {
                break;
            }
        }
        Tensor::from_bytes(self.dtype, &self.shape, &bytes).map_err(|e| fail(e.into()))
    }
}

/// Steps a row-major index; false after the last.
fn advance(index: &mut [usize], shape: &[usize]) -> bool {
    for (i, &extent) in index.iter_mut().zip(shape).rev() {
        *i += 1;
        if *i < extent {
            return true;
        }
        *i = 0;
    }
    false
}
