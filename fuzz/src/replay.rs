//! Runs a target on seeds and on mutations of them drawn from a seeded stream, without libFuzzer: the same inputs on
//! every machine. Coverage guidance is libFuzzer's business.

use std::path::Path;

/// splitmix64.
pub struct Stream(pub u64);

impl Stream {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }
}

/// The files of a corpus, by name.
pub fn seeds(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut out: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|f| {
            Some((
                f.as_ref().ok()?.file_name().to_string_lossy().into_owned(),
                std::fs::read(f.ok()?.path()).ok()?,
            ))
        })
        .collect();
    out.sort();
    out
}

/// Damages `data` in one to four places; `other` is a second seed to splice from.
pub fn mutate(data: &[u8], other: &[u8], r: &mut Stream) -> Vec<u8> {
    let mut out = data.to_vec();
    for _ in 0..1 + r.below(4) {
        let at = r.below(out.len() + 1);
        let end = (at + 1 + r.below(16)).min(out.len());
        match r.below(9) {
            0 => out.truncate(at),
            1 | 2 => {
                if let Some(b) = out.get_mut(at) {
                    *b ^= 1 << r.below(8);
                }
            }
            3 => {
                if let Some(b) = out.get_mut(at) {
                    *b = [0, 1, 0x7f, 0x80, 0xff, b'0', b'-', b'9'][r.below(8)];
                }
            }
            4 => drop(out.drain(at..end)),
            5 => {
                let part = out[at..end].to_vec();
                out.splice(at..at, part);
            }
            6 => {
                let from = r.below(other.len() + 1);
                let part = other[from..(from + 1 + r.below(32)).min(other.len())].to_vec();
                out.splice(at..at, part);
            }
            7 => {
                let number = [u64::MAX, 1 << 63, 1 << 32, i64::MAX as u64, 0][r.below(5)];
                for (b, n) in out.iter_mut().skip(at).zip(number.to_le_bytes()) {
                    *b = n;
                }
            }
            _ => {
                // Another number where text holds one.
                if let Some(i) = out.iter().skip(at).position(u8::is_ascii_digit) {
                    let n = [
                        &b"0"[..],
                        b"-1",
                        b"1",
                        b"2",
                        b"7",
                        b"65536",
                        b"4294967296",
                        b"9223372036854775807",
                        b"1e30",
                    ];
                    let start = at + i;
                    let len = out.iter().skip(start).take_while(|b| b.is_ascii_digit()).count();
                    out.splice(start..start + len, n[r.below(n.len())].iter().copied());
                }
            }
        }
    }
    out
}

/// Changes an input as what it means; None when it means nothing.
pub type Mutator = fn(&[u8], &mut Stream) -> Option<Vec<u8>>;

/// Runs every seed, and `iterations` mutations of them, half of them by `mutator` where there is one.
pub fn replay(
    mut run: impl FnMut(&[u8]),
    mutator: Option<Mutator>,
    seeds: &[(String, Vec<u8>)],
    iterations: usize,
    stream: &mut Stream,
) {
    for (_, seed) in seeds {
        run(seed);
    }
    let empty = (String::new(), Vec::new());
    for _ in 0..iterations {
        let (a, b) = (stream.below(seeds.len()), stream.below(seeds.len()));
        let (a, b) = (seeds.get(a).unwrap_or(&empty), seeds.get(b).unwrap_or(&empty));
        let meant = mutator.filter(|_| stream.below(2) == 0).and_then(|m| m(&a.1, stream));
        run(&meant.unwrap_or_else(|| mutate(&a.1, &b.1, stream)));
    }
}
