//! f32 weights in the fewest bits that hold them exactly, for products whose time is that of reading them: the steps of
//! decoding. Every panel has the coding that suits its numbers, and none changes them. This file has the format, the
//! packing and the unpacking; products of few rows straight from it are in `stream`. Loops and epilogues are not here.
//!
//! ```text
//! entries   of every panel: offset u64, coding u8, base u8, 0 u16, number of exceptions u32
//! panels    at multiples of 64: groups of four k by 32 columns, the last k padded with zeros;
//!           then the exceptions: k * 32 + column u32, number f32, ascending
//! ```
//! All numbers are little-endian. A group is eight vectors of sixteen numbers, two for each k:
//! - [`Coding::Plain`]: as they are, 512 bytes.
//! - [`Coding::Window`]: 28 bits a number, 448 bytes. The exponents of trained weights lie in a few binades below the
//!   largest: four bits say which, counted from the panel's base. Seven vectors of words hold sign (bit 31), binade (26 to
//!   23) and fraction where f32 has them; their bits 30 to 27 are the pieces of the eighth vector, the lowest first. Numbers
//!   outside of the window, 0 among them, are exceptions and stand as the window's least number.
//! - [`Coding::Half`], [`Coding::Brain`]: weights of checkpoints in f16 and bf16, 256 bytes.

#[cfg(target_arch = "x86_64")]
mod stream;

use super::GemmError;
use super::layout::PackedLayout;
use super::pack::Lanes;
use super::right::Right;
use crate::isa::{Isa, Level};
use crate::scratch::with_scratch;
use half::{bf16, f16};
use std::ops::Range;

/// The bits of a word that are its own number's: sign, binade and fraction.
const WINDOW: u32 = 0x87ff_ffff;
/// Columns of a panel.
pub(super) const WIDTH: usize = 32;
/// k of a group.
pub(super) const GROUP: usize = 4;
/// Rows whose sums are kept in registers while a panel is read.
pub(super) const ROWS: usize = 8;
/// Numbers of a vector.
const LANES: usize = 16;
/// Numbers of a group.
const NUMBERS: usize = GROUP * WIDTH;
/// Bytes of a panel's entry.
const ENTRY: usize = 16;
/// Bytes of an exception.
const EXCEPTION: usize = 8;
/// Where panels begin.
const ALIGN: usize = 64;
/// Binades of a window.
const BINADES: usize = 16;
/// Bases of windows: their numbers are computed with as if the base were the first, and the sums scaled by a power of two,
/// which is exact as long as it is a moderate one.
const BASES: std::ops::RangeInclusive<u8> = 88..=136;
/// The exponent that the binade 0 has in computing.
const NEUTRAL: u32 = 112;
/// A window may leave out one number of so many.
const RARE: usize = 128;

/// How the numbers of a panel are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Plain,
    Window,
    Half,
    Brain,
}

impl Coding {
    const ALL: [Coding; 4] = [Coding::Plain, Coding::Window, Coding::Half, Coding::Brain];

    /// Bytes of a group.
    const fn group(self) -> usize {
        match self {
            Coding::Plain => 4 * NUMBERS,
            Coding::Window => 4 * (NUMBERS - LANES),
            Coding::Half | Coding::Brain => 2 * NUMBERS,
        }
    }
}

/// A panel of checked bytes.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    pub coding: Coding,
    /// The exponent of the window's binade 0.
    pub base: u32,
    /// The groups.
    pub body: &'a [u8],
    exceptions: &'a [[u8; EXCEPTION]],
}

impl Panel<'_> {
    /// The number that stands for exceptions.
    pub fn least(&self) -> f32 {
        if self.coding == Coding::Window { f32::from_bits(self.base << 23) } else { 0.0 }
    }

    /// The exceptions of these k: row, column and number.
    pub fn exceptions(&self, k: Range<usize>) -> impl Iterator<Item = (usize, usize, f32)> {
        let parts = |e: &[u8; EXCEPTION]| {
            let [a, b, c, d, e, f, g, h] = *e;
            let at = u32::from_le_bytes([a, b, c, d]) as usize;
            (at / WIDTH, at % WIDTH, f32::from_le_bytes([e, f, g, h]))
        };
        let first = self.exceptions.partition_point(|e| parts(e).0 < k.start);
        self.exceptions.iter().skip(first).map(parts).take_while(move |(at, ..)| *at < k.end)
    }
}

/// A matrix in this form; its entries were checked.
#[derive(Clone, Copy)]
pub(crate) struct Compact<'a> {
    isa: Isa,
    k: usize,
    bytes: &'a [u8],
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// The panel of this index, if all of it is there.
fn panel(bytes: &[u8], k: usize, index: usize) -> Option<Panel<'_>> {
    let entry = bytes.get(index.checked_mul(ENTRY)?..)?.get(..ENTRY)?;
    let offset = usize::try_from(u64::from_le_bytes(number(entry, 0)?)).ok()?;
    let coding = *Coding::ALL.get(usize::from(*entry.get(8)?))?;
    let base = u32::from(*entry.get(9)?);
    let count = usize::try_from(u32::from_le_bytes(number(entry, 12)?)).ok()?;
    let len = k.div_ceil(GROUP).checked_mul(coding.group())?;
    let (body, rest) = bytes.get(offset..)?.split_at_checked(len)?;
    let (exceptions, _) = rest.get(..count.checked_mul(EXCEPTION)?)?.as_chunks();
    (coding != Coding::Window || BASES.contains(entry.get(9)?)).then_some(Panel {
        coding,
        base,
        body,
        exceptions,
    })
}

impl<'a> Compact<'a> {
    /// Checks that every panel of the layout is there.
    pub fn new(isa: Isa, layout: &PackedLayout, bytes: &'a [u8]) -> Result<Compact<'a>, GemmError> {
        for index in 0..layout.len.div_ceil(WIDTH) {
            if panel(bytes, layout.k, index).is_none() {
                return Err(GemmError::Panel { panel: index, bytes: bytes.len() });
            }
        }
        Ok(Compact { isa, k: layout.k, bytes })
    }

    /// A panel that exists.
    pub fn get(&self, index: usize) -> Panel<'a> {
        let nothing = Panel { coding: Coding::Plain, base: 0, body: &[], exceptions: &[] };
        panel(self.bytes, self.k, index).unwrap_or(nothing)
    }

    /// Whether this machine computes products of this many rows with [`Compact::stream`].
    pub fn streams(&self, rows: usize) -> bool {
        (1..=2 * ROWS).contains(&rows) && self.isa.level() == Level::Avx512
    }

    /// Sums of up to [`ROWS`] rows in the columns of a panel, a row of `sums` each.
    ///
    /// # Safety
    /// [`Compact::streams`] says so; `x` holds element (k, row) at `k * rows + row`, with zeros up to a whole group.
    pub unsafe fn stream(&self, index: usize, rows: usize, x: &[f32], sums: &mut [[f32; WIDTH]; ROWS]) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise.
        unsafe {
            stream::sums(self.k, &self.get(index), rows, x, sums);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (index, rows, x, sums);
    }
}

impl Right for Compact<'_> {
    fn packs(&self) -> bool {
        true
    }

    unsafe fn panel(&self, index: usize, k: Range<usize>, scratch: *mut f32) -> (*const f32, usize) {
        // SAFETY: the caller vouches for room for these rows of the panel.
        let to = unsafe { std::slice::from_raw_parts_mut(scratch, k.len() * WIDTH) };
        let panel = self.get(index);
        let size = panel.coding.group();
        // Whole groups at once, those at either end of the range apart.
        let (first, end) = (k.start.div_ceil(GROUP), k.end / GROUP);
        if let (Some(groups), Some(to)) = (
            panel.body.get(first * size..(end * size).max(first * size)),
            to.get_mut((first * GROUP - k.start).min(k.len()) * WIDTH..),
        ) {
            self.unpack(&panel, groups, to.as_chunks_mut().0);
        }
        let ends = [k.start / GROUP..first, end.max(first)..k.end.div_ceil(GROUP)];
        for group in ends.into_iter().flatten() {
            let mut apart = [[0.0f32; NUMBERS]];
            let bytes = panel.body.get(group * size..).and_then(|b| b.get(..size)).unwrap_or_default();
            self.unpack(&panel, bytes, &mut apart);
            for (row, numbers) in (group * GROUP..).zip(apart.as_flattened().as_chunks::<WIDTH>().0) {
                if k.contains(&row)
                    && let Some(to) = to.get_mut((row - k.start) * WIDTH..)
                {
                    to.iter_mut().zip(numbers).for_each(|(to, x)| *to = *x);
                }
            }
        }
        for (row, column, x) in panel.exceptions(k.clone()) {
            if let Some(to) = to.get_mut((row - k.start) * WIDTH + column) {
                *to = x;
            }
        }
        (scratch, WIDTH)
    }
}

impl Compact<'_> {
    /// The numbers of whole groups, as many as there is room for; exceptions as the window's least number.
    fn unpack(&self, panel: &Panel<'_>, groups: &[u8], to: &mut [[f32; NUMBERS]]) {
        #[cfg(target_arch = "x86_64")]
        if self.isa.level() == Level::Avx512 {
            // SAFETY: the level says that the machine has the instructions.
            unsafe { stream::unpack(panel.coding, panel.base, groups, to) };
            return;
        }
        for (group, to) in groups.chunks_exact(panel.coding.group()).zip(to) {
            unpack(panel, group, to);
        }
    }
}

/// A group on any machine.
fn unpack(panel: &Panel<'_>, group: &[u8], to: &mut [f32; NUMBERS]) {
    let halves = || group.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b));
    let words = || group.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b));
    match panel.coding {
        Coding::Plain => to.iter_mut().zip(words()).for_each(|(to, x)| *to = f32::from_bits(x)),
        Coding::Half => to.iter_mut().zip(halves()).for_each(|(to, x)| *to = f16::from_bits(x).to_f32()),
        Coding::Brain => to.iter_mut().zip(halves()).for_each(|(to, x)| *to = bf16::from_bits(x).to_f32()),
        Coding::Window => {
            let base = panel.base << 23;
            let (all, last) = to.split_at_mut(NUMBERS - LANES);
            let mut pieces = [0u32; LANES];
            for (i, (to, word)) in all.iter_mut().zip(words()).enumerate() {
                *to = f32::from_bits((word & WINDOW) + base);
                if let Some(piece) = pieces.get_mut(i % LANES) {
                    *piece |= (word >> 27 & 15) << (4 * (i / LANES));
                }
            }
            let joined = |field: u32| (field & 0x07ff_ffff) | (field >> 27) << 31;
            last.iter_mut().zip(pieces).for_each(|(to, field)| *to = f32::from_bits(joined(field) + base));
        }
    }
}

/// Packs the columns `lanes` in this form; at most [`PackedLayout::bytes`] bytes.
///
/// # Safety
/// The lanes are those of the layout, and readable.
pub(super) unsafe fn pack(layout: &PackedLayout, lanes: &Lanes) -> Vec<u8> {
    let (k, panels) = (layout.k, layout.len.div_ceil(WIDTH));
    let mut out = vec![0u8; (panels * ENTRY).next_multiple_of(ALIGN)];
    let padded = k.next_multiple_of(GROUP) * WIDTH;
    for index in 0..panels {
        let first = index * WIDTH;
        let src = lanes.src.wrapping_add(first * lanes.lane_stride);
        let part = Lanes { src, lanes: (layout.len - first).min(WIDTH), ..*lanes };
        with_scratch(padded, |numbers| {
            numbers.fill(0.0);
            // SAFETY: the caller's promise; the scratch has the room.
            unsafe { part.pack(Isa::get(), WIDTH, numbers.as_mut_ptr()) };
            let entry = encode(numbers, k, part.lanes, &mut out);
            if let Some(to) = out.get_mut(index * ENTRY..).and_then(|to| to.first_chunk_mut::<ENTRY>()) {
                *to = entry;
            }
        });
    }
    out
}

/// Appends a panel of which so many rows and columns are not padding; gives its entry.
fn encode(numbers: &[f32], rows: usize, columns: usize, out: &mut Vec<u8>) -> [u8; ENTRY] {
    let offset = out.len() as u64;
    let real = |at: usize| at / WIDTH < rows && at % WIDTH < columns;
    let (coding, base) = suited(numbers, real);
    let mut exceptions = Vec::new();
    match coding {
        Coding::Plain => out.extend(numbers.iter().flat_map(|x| x.to_le_bytes())),
        Coding::Half => out.extend(numbers.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes())),
        Coding::Brain => out.extend(numbers.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes())),
        Coding::Window => {
            for (at, group) in numbers.as_chunks::<NUMBERS>().0.iter().enumerate() {
                let mut fields = [0u32; NUMBERS];
                for (i, (field, &x)) in fields.iter_mut().zip(group).enumerate() {
                    match window_field(x, base) {
                        Some(inside) => *field = inside,
                        None if real(at * NUMBERS + i) => exceptions.push(((at * NUMBERS + i) as u32, x)),
                        None => {}
                    }
                }
                let (all, last) = fields.split_at(NUMBERS - LANES);
                for (i, (field, piece)) in all.iter().zip(last.iter().cycle()).enumerate() {
                    let word =
                        (field & 0x07ff_ffff) | (field >> 27) << 31 | (piece >> (4 * (i / LANES)) & 15) << 27;
                    out.extend_from_slice(&word.to_le_bytes());
                }
            }
        }
    }
    let count = exceptions.len() as u32;
    out.extend(exceptions.into_iter().flat_map(|(at, x)| [at.to_le_bytes(), x.to_le_bytes()]).flatten());
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    let mut entry = [0; ENTRY];
    let code = Coding::ALL.iter().position(|c| *c == coding).unwrap_or(0) as u8;
    let parts = offset.to_le_bytes().into_iter().chain([code, base, 0, 0]).chain(count.to_le_bytes());
    entry.iter_mut().zip(parts).for_each(|(to, byte)| *to = byte);
    entry
}

/// A number as sign, binade and fraction in 28 bits, if the window of this base holds it.
fn window_field(x: f32, base: u8) -> Option<u32> {
    let bits = x.to_bits();
    let (sign, exponent, fraction) = (bits >> 31, bits >> 23 & 255, bits & 0x007f_ffff);
    let binade = exponent.checked_sub(u32::from(base)).filter(|b| *b < BINADES as u32)?;
    Some(sign << 27 | binade << 23 | fraction)
}

/// The shortest coding that holds these numbers, and the base of its window. Only `real` ones count.
fn suited(numbers: &[f32], real: impl Fn(usize) -> bool) -> (Coding, u8) {
    let same = |x: f32, y: f32| x.to_bits() == y.to_bits();
    if numbers.iter().all(|&x| same(f16::from_f32(x).to_f32(), x)) {
        return (Coding::Half, 0);
    }
    if numbers.iter().all(|&x| x.to_bits() & 0xffff == 0) {
        return (Coding::Brain, 0);
    }
    let mut exponents = [0usize; 256];
    let mut all = 0;
    for (_, x) in numbers.iter().enumerate().filter(|(at, _)| real(*at)) {
        all += 1;
        if let Some(n) = exponents.get_mut((x.to_bits() >> 23 & 255) as usize) {
            *n += 1;
        }
    }
    let held = |base: u8| exponents.iter().skip(usize::from(base)).take(BINADES).sum::<usize>();
    let (most, base) = BASES.map(|base| (held(base), base)).max().unwrap_or((0, *BASES.start()));
    let rare = (all - most) * RARE <= numbers.len() && u32::try_from(numbers.len()).is_ok();
    if rare { (Coding::Window, base) } else { (Coding::Plain, 0) }
}

#[cfg(test)]
mod tests;
