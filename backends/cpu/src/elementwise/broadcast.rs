//! How one operand is read under broadcasting, and filling blocks of consecutive results' operands.
//! No arithmetic belongs here.

/// How the elements of an operand map to the elements of a broadcast result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Element i of the result uses element i.
    Same,
    /// Every element of the result uses element 0.
    Scalar,
    /// Anything else: merged axes, outermost first, as (extent, stride in elements); the last stride is 0 or 1.
    Strided(Vec<(usize, usize)>),
}

/// Where the operands of consecutive results lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// One after another, from this element on.
    Run(usize),
    /// All in this element.
    One(usize),
    /// Anywhere.
    Mixed,
}

impl Pattern {
    /// The pattern of an operand of shape `from` in a result of shape `to`; None when it does not broadcast.
    pub fn new(from: &[usize], to: &[usize]) -> Option<Pattern> {
        let pad = to.len().checked_sub(from.len())?;
        let mut axes: Vec<(usize, usize)> = Vec::with_capacity(to.len());
        let mut stride = 1usize;
        // Innermost first; an axis joins the one inside it when stepping it continues that one.
        for (i, &extent) in to.iter().enumerate().rev() {
            let own = if i >= pad { *from.get(i - pad)? } else { 1 };
            if own != extent && own != 1 {
                return None;
            }
            let step = if own == 1 { 0 } else { stride };
            stride = stride.checked_mul(own)?;
            if extent == 1 {
                continue;
            }
            match axes.last_mut() {
                Some((e, s)) if step == e.saturating_mul(*s) => *e = e.checked_mul(extent)?,
                _ => axes.push((extent, step)),
            }
        }
        axes.reverse();
        Some(match axes.as_slice() {
            [] => Pattern::Same,
            [(_, 1)] => Pattern::Same,
            [(_, 0)] => Pattern::Scalar,
            _ => Pattern::Strided(axes),
        })
    }

    /// Elements that the operand must have for a result of `n`.
    pub fn reach(&self, n: usize) -> usize {
        match self {
            Pattern::Same => n,
            Pattern::Scalar => usize::from(n > 0),
            Pattern::Strided(axes) => {
                if n == 0 {
                    0
                } else {
                    1 + axes.iter().map(|(e, s)| (e - 1) * s).sum::<usize>()
                }
            }
        }
    }

    /// Where the operands of results `start .. start + n` lie.
    pub fn piece(&self, start: usize, n: usize) -> Piece {
        match self {
            Pattern::Same => Piece::Run(start),
            Pattern::Scalar => Piece::One(0),
            Pattern::Strided(axes) => {
                let Some((&(inner, step), outer)) = axes.split_last() else { return Piece::Mixed };
                let column = start % inner;
                if column + n > inner {
                    return Piece::Mixed;
                }
                let base = base(outer, start / inner);
                if step == 0 { Piece::One(base) } else { Piece::Run(base + column) }
            }
        }
    }

    /// Puts the operands of results `start .. start + block.len()` into `block`, converted by `f`.
    pub fn fill<T: Copy, U: Copy>(&self, data: &[T], start: usize, block: &mut [U], f: impl Fn(T) -> U) {
        match self {
            Pattern::Same => {
                for (to, &x) in block.iter_mut().zip(data.get(start..).unwrap_or(&[])) {
                    *to = f(x);
                }
            }
            Pattern::Scalar => {
                if let Some(&x) = data.first() {
                    block.fill(f(x));
                }
            }
            Pattern::Strided(axes) => {
                let Some((&(inner, step), outer)) = axes.split_last() else { return };
                let mut row = start / inner;
                let mut column = start % inner;
                let mut rest = block;
                while !rest.is_empty() {
                    let base = base(outer, row);
                    let n = (inner - column).min(rest.len());
                    let (now, later) = rest.split_at_mut(n);
                    if step == 0 {
                        if let Some(&x) = data.get(base) {
                            now.fill(f(x));
                        }
                    } else {
                        for (to, &x) in now.iter_mut().zip(data.get(base + column..).unwrap_or(&[])) {
                            *to = f(x);
                        }
                    }
                    rest = later;
                    row += 1;
                    column = 0;
                }
            }
        }
    }
}

/// The first element of a row, of axes outermost first.
fn base(axes: &[(usize, usize)], mut row: usize) -> usize {
    let mut base = 0;
    for &(extent, stride) in axes.iter().rev() {
        base += (row % extent) * stride;
        row /= extent;
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_merge() {
        assert_eq!(Pattern::new(&[2, 3], &[2, 3]), Some(Pattern::Same));
        assert_eq!(Pattern::new(&[], &[2, 3]), Some(Pattern::Scalar));
        assert_eq!(Pattern::new(&[1, 1], &[2, 3]), Some(Pattern::Scalar));
        assert_eq!(Pattern::new(&[3], &[2, 5, 3]), Some(Pattern::Strided(vec![(10, 0), (3, 1)])));
        assert_eq!(Pattern::new(&[2, 1, 1], &[2, 5, 3]), Some(Pattern::Strided(vec![(2, 1), (15, 0)])));
        assert_eq!(Pattern::new(&[5, 1], &[2, 5, 3]), Some(Pattern::Strided(vec![(2, 0), (5, 1), (3, 0)])));
        assert_eq!(Pattern::new(&[4], &[3]), None);
        assert_eq!(Pattern::new(&[1, 4], &[4]), None);
    }

    #[test]
    fn pieces_of_rows() {
        let p = Pattern::new(&[3, 1, 4], &[3, 2, 4]).unwrap();
        assert_eq!(p.piece(4, 4), Piece::Run(0));
        assert_eq!(p.piece(9, 3), Piece::Run(5));
        assert_eq!(p.piece(9, 4), Piece::Mixed);
        assert_eq!(Pattern::Same.piece(9, 4), Piece::Run(9));
        assert_eq!(Pattern::Scalar.piece(9, 4), Piece::One(0));
    }

    #[test]
    fn blocks_at_any_start() {
        let (from, to) = ([5usize, 1], [2usize, 5, 3]);
        let p = Pattern::new(&from, &to).unwrap();
        let data: Vec<i32> = (0..5).collect();
        let want: Vec<i32> = (0..30).map(|i| (i / 3) % 5).collect();
        for start in 0..30 {
            for n in 1..=30 - start {
                let mut block = vec![-1; n];
                p.fill(&data, start, &mut block, |x| x);
                assert_eq!(block, want[start..start + n]);
                match p.piece(start, n) {
                    Piece::One(at) => assert!(block.iter().all(|b| *b == data[at])),
                    piece => assert_eq!(piece, Piece::Mixed),
                }
            }
        }
    }
}
