//! Memory of a session: the arena, split into disjoint borrows for one step, and the buffers of states.
//! What lies where is the plan's business.

use frit_ir::tensor::AlignedBytes;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What a session holds, counted together with the sessions of its control flow. Gone with the session.
#[derive(Default)]
pub(crate) struct Account {
    total: Arc<AtomicUsize>,
    mine: usize,
}

impl Account {
    /// The account of another session, counted together with this one.
    pub fn beside(&self) -> Self {
        Account { total: self.total.clone(), mine: 0 }
    }

    /// Counts `bytes` for this session from now on; gives what all hold then.
    pub fn set(&mut self, bytes: usize) -> usize {
        let before = std::mem::replace(&mut self.mine, bytes);
        // The closure never declines, so neither does the update.
        let change = |total: usize| Some(total.saturating_sub(before).saturating_add(bytes));
        let _ = self.total.fetch_update(Relaxed, Relaxed, change);
        self.total.load(Relaxed)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// One block of memory that the values of a run share.
pub(crate) struct Arena {
    memory: AlignedBytes,
}

/// What one step reads and writes.
pub(crate) struct Borrows<'a> {
    /// In the order asked for.
    pub reads: Vec<&'a [u8]>,
    /// In the order asked for.
    pub writes: Vec<&'a mut [u8]>,
}

impl Arena {
    /// An empty arena.
    pub fn new() -> Self {
        Arena { memory: AlignedBytes::zeroed(0) }
    }

    /// Makes sure of `bytes` bytes; false where there is not so much memory. What was in it is lost when it grows.
    #[must_use]
    pub fn reserve(&mut self, bytes: usize) -> bool {
        if self.memory.bytes().len() < bytes {
            self.memory = AlignedBytes::zeroed(0);
            match AlignedBytes::try_zeroed(bytes) {
                Some(memory) => self.memory = memory,
                None => return false,
            }
        }
        true
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.memory.bytes().len()
    }

    /// A range to read.
    pub fn read(&self, range: Range<usize>) -> Option<&[u8]> {
        self.memory.bytes().get(range)
    }

    /// Borrows ranges for one step. None when a range leaves the arena or a write overlaps anything else.
    pub fn borrow(&mut self, reads: &[Range<usize>], writes: &[Range<usize>]) -> Option<Borrows<'_>> {
        let bytes = self.memory.bytes_mut();
        let inside = |r: &Range<usize>| r.start <= r.end && r.end <= bytes.len();
        let apart = |a: &Range<usize>, b: &Range<usize>| {
            a.end <= b.start || b.end <= a.start || a.is_empty() || b.is_empty()
        };
        let ok = reads.iter().chain(writes).all(inside)
            && writes.iter().enumerate().all(|(i, w)| {
                reads.iter().all(|r| apart(w, r)) && writes.iter().skip(i + 1).all(|v| apart(w, v))
            });
        if !ok {
            return None;
        }
        let base = bytes.as_mut_ptr();
        // SAFETY: every range lies inside the arena's allocation (checked above), which `self` keeps alive and
        // exclusively borrowed for as long as the borrows; no write overlaps a read or another write.
        unsafe { Some(split(base, reads, writes)) }
    }
}

/// # Safety
/// Every range lies inside one allocation starting at `base` that is exclusively borrowed for `'a`; no range of
/// `writes` overlaps any other range.
unsafe fn split<'a>(base: *mut u8, reads: &[Range<usize>], writes: &[Range<usize>]) -> Borrows<'a> {
    Borrows {
        reads: reads
            .iter()
            // SAFETY: inside the allocation, and overlapped by no write.
            .map(|r| unsafe { std::slice::from_raw_parts(base.add(r.start).cast_const(), r.len()) })
            .collect(),
        writes: writes
            .iter()
            // SAFETY: inside the allocation, and overlapped by nothing else.
            .map(|r| unsafe { std::slice::from_raw_parts_mut(base.add(r.start), r.len()) })
            .collect(),
    }
}

/// What a session keeps of one state: rows along one axis, with room to append.
pub(crate) struct StateBuffer {
    /// The bytes: shape with the growing axis at its capacity, row-major.
    pub memory: AlignedBytes,
    /// Extents, the growing axis at its present length.
    pub shape: Vec<usize>,
    /// Which axis grows.
    pub axis: usize,
    /// Room along the growing axis.
    pub capacity: usize,
    /// Bytes of one element.
    pub size: usize,
}

impl StateBuffer {
    /// An empty state of that shape, whose growing axis must be 0 long.
    pub fn empty(shape: Vec<usize>, axis: usize, size: usize) -> Self {
        StateBuffer { memory: AlignedBytes::zeroed(0), shape, axis, capacity: 0, size }
    }

    /// Present length of the growing axis.
    pub fn len(&self) -> usize {
        self.shape.get(self.axis).copied().unwrap_or(0)
    }

    /// Bytes of one row: everything inside the growing axis.
    fn row(&self) -> usize {
        self.shape.iter().skip(self.axis.saturating_add(1)).fold(self.size, |n, d| n.saturating_mul(*d))
    }

    /// Number of independent runs of rows: everything outside the growing axis.
    fn outer(&self) -> usize {
        self.shape.iter().take(self.axis).fold(1, |n, d| n.saturating_mul(*d))
    }

    /// The capacity after [`StateBuffer::reserve`].
    fn grown(&self, capacity: usize) -> usize {
        if capacity <= self.capacity {
            return self.capacity;
        }
        capacity.max(self.capacity.saturating_mul(2)).max(32)
    }

    /// Bytes held after [`StateBuffer::reserve`].
    pub fn bytes_for(&self, capacity: usize) -> usize {
        self.row().saturating_mul(self.grown(capacity)).saturating_mul(self.outer())
    }

    /// Makes room for `capacity` rows, at least doubling, so that appending costs no copy on average. False where
    /// there is not so much memory.
    #[must_use]
    pub fn reserve(&mut self, capacity: usize) -> bool {
        if capacity <= self.capacity {
            return true;
        }
        let bytes = self.bytes_for(capacity);
        let capacity = self.grown(capacity);
        let (row, outer, len) = (self.row(), self.outer(), self.len());
        let Some(mut memory) = AlignedBytes::try_zeroed(bytes) else { return false };
        for o in 0..outer {
            let from = self.memory.bytes().get(o * self.capacity * row..(o * self.capacity + len) * row);
            let to = memory.bytes_mut().get_mut(o * capacity * row..(o * capacity + len) * row);
            if let (Some(from), Some(to)) = (from, to) {
                to.copy_from_slice(from);
            }
        }
        self.memory = memory;
        self.capacity = capacity;
        true
    }

    /// Writes `count` rows behind those that are there, for every outer run; `new` holds them contiguously.
    /// Gives false when they do not fit.
    pub fn append(&mut self, new: &[u8], count: usize) -> bool {
        let (row, outer, len) = (self.row(), self.outer(), self.len());
        if new.len() != outer * count * row || len + count > self.capacity {
            return false;
        }
        for o in 0..outer {
            let start = (o * self.capacity + len) * row;
            let from = new.get(o * count * row..(o + 1) * count * row);
            let to = self.memory.bytes_mut().get_mut(start..start + count * row);
            match (from, to) {
                (Some(from), Some(to)) => to.copy_from_slice(from),
                _ => return false,
            }
        }
        true
    }

    /// Forgets all but the first `len` rows.
    pub fn truncate(&mut self, len: usize) {
        if let Some(d) = self.shape.get_mut(self.axis) {
            *d = len.min(*d);
        }
    }

    /// Reorders the outermost axis: row b becomes what row `from[b]` was. Rows that stay are not touched.
    pub fn reorder(&mut self, from: &[usize]) {
        let Some(&batch) = self.shape.first() else { return };
        if self.axis == 0 || from.iter().enumerate().all(|(i, &f)| i == f) || from.iter().any(|&f| f >= batch)
        {
            return;
        }
        let (row, len, capacity) = (self.row(), self.len(), self.capacity);
        let runs = self.outer().checked_div(batch).unwrap_or(0);
        // Only what is filled is copied: for every run, `len` rows.
        let read = |memory: &AlignedBytes, b: usize, r: usize| -> Vec<u8> {
            let start = (b * runs + r) * capacity * row;
            memory.bytes().get(start..start + len * row).unwrap_or(&[]).to_vec()
        };
        let moved: Vec<(usize, usize, Vec<u8>)> = from
            .iter()
            .enumerate()
            .filter(|(to, f)| to != *f)
            .flat_map(|(to, &f)| (0..runs).map(move |r| (to, f, r)))
            .map(|(to, f, r)| (to, r, read(&self.memory, f, r)))
            .collect();
        for (to, r, rows) in moved {
            let start = (to * runs + r) * capacity * row;
            if let Some(slot) = self.memory.bytes_mut().get_mut(start..start + rows.len()) {
                slot.copy_from_slice(&rows);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init)] // one range is what is meant
    use super::*;

    #[test]
    fn borrows_refuse_overlap_and_overrun() {
        let mut a = Arena::new();
        assert!(a.reserve(256));
        assert!(!a.reserve(isize::MAX as usize), "more than there is");
        assert!(a.reserve(256));
        assert!(a.borrow(&[0..64], &[64..128, 128..256]).is_some());
        assert!(a.borrow(&[0..65], &[64..128]).is_none());
        assert!(a.borrow(&[], &[64..128, 100..130]).is_none());
        assert!(a.borrow(&[0..257], &[]).is_none());
        assert!(a.borrow(&[0..64, 0..64], &[64..64]).is_some());
    }

    #[test]
    fn states_append_grow_and_reorder() {
        // [batch 2, rows, 2 bytes]
        let mut s = StateBuffer::empty(vec![2, 0, 2], 1, 1);
        for step in 0..70u8 {
            let rows = s.len() + 1;
            assert!(s.reserve(rows));
            assert!(s.append(&[step, 0, step, 1], 1));
            s.shape[1] += 1;
        }
        s.truncate(90);
        s.truncate(69);
        assert!(s.append(&[69, 0, 69, 1], 1));
        s.shape[1] += 1;
        s.reorder(&[1, 1]);
        let row = s.capacity * 2;
        for b in 0..2 {
            for step in 0..70u8 {
                assert_eq!(s.memory.bytes()[b * row + usize::from(step) * 2..][..2], [step, 1]);
            }
        }
    }
}
