//! Strided copies against an index by index copy, for random boxes; the ops are checked by the conformance suite.

use super::*;
use crate::isa::Isa;
use crate::testing::{Rng, everywhere};

/// Copies element by element.
fn naive(shape: &[usize], src: &[u8], from: &Placement, dst: &mut [u8], to: &Placement, size: usize) {
    let n: usize = shape.iter().product();
    for mut i in 0..n {
        let (mut a, mut b) = (from.offset as isize, to.offset as isize);
        for (axis, &d) in shape.iter().enumerate().rev() {
            a += (i % d) as isize * from.strides[axis];
            b += (i % d) as isize * to.strides[axis];
            i /= d;
        }
        let (a, b) = (a as usize * size, b as usize * size);
        dst[b..b + size].copy_from_slice(&src[a..a + size]);
    }
}

#[test]
fn random_permutations_steps_and_broadcasts() {
    let mut rng = Rng::new(3);
    for round in 0..400 {
        let rank = rng.below(5);
        let big = if round % 10 == 0 { 70 } else { 9 };
        let shape: Vec<usize> = (0..rank).map(|_| 1 + rng.below(big)).collect();
        let n: usize = shape.iter().product();
        // The source: axes in a random order, some with steps, some backwards, some repeated.
        let mut order: Vec<usize> = (0..rank).collect();
        for i in (1..rank).rev() {
            order.swap(i, rng.below(i + 1));
        }
        let mut from = Placement { offset: 0, strides: vec![0; rank] };
        let mut step = 1;
        for &axis in order.iter().rev() {
            let s = match rng.below(6) {
                0 => 0,
                1 => 2 * step as isize,
                2 => {
                    from.offset += (shape[axis] - 1) * step;
                    -(step as isize)
                }
                _ => step as isize,
            };
            from.strides[axis] = s;
            step *= if s.unsigned_abs() == 2 * step { 2 * shape[axis] } else { shape[axis] };
        }
        let src_len = step.max(1);
        for size in [1, 2, 4, 8] {
            let src: Vec<u64> = (0..(src_len * size).div_ceil(8)).map(|_| rng.next()).collect();
            let src: &[u8] = bytemuck::cast_slice(&src);
            let to = Placement::dense(&shape);
            let mut want = vec![0u64; (n * size).div_ceil(8)];
            naive(&shape, src, &from, bytemuck::cast_slice_mut(&mut want), &to, size);
            for isa in Isa::available() {
                let mut got = vec![0u64; want.len()];
                copy(isa, size, &shape, src, &from, bytemuck::cast_slice_mut(&mut got), &to).unwrap();
                assert_eq!(got, want, "{isa:?} {size} {shape:?} {from:?}");
            }
        }
    }
}

#[test]
fn large_transpositions_on_every_thread() {
    let (rows, columns) = (517, 389);
    let x: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
    let from = Placement { offset: 0, strides: vec![1, columns as isize] };
    everywhere(
        |isa| {
            let mut y = vec![0f32; x.len()];
            let shape = [columns, rows];
            let to = Placement::dense(&shape);
            copy(isa, 4, &shape, bytemuck::cast_slice(&x), &from, bytemuck::cast_slice_mut(&mut y), &to)
                .unwrap();
            y
        },
        |_, y| assert!(y.iter().enumerate().all(|(i, &v)| v == x[i % rows * columns + i / rows])),
    );
}

#[test]
fn boxes_that_leave_their_buffer_or_overlap_are_refused() {
    let isa = Isa::get();
    let x = [0u64; 8];
    let x: &[u8] = bytemuck::cast_slice(&x);
    let mut y = [0u64; 8];
    let y: &mut [u8] = bytemuck::cast_slice_mut(&mut y);
    let at = |offset, strides: &[isize]| Placement { offset, strides: strides.to_vec() };
    assert!(copy(isa, 8, &[2, 4], x, &at(0, &[4, 1]), y, &at(0, &[4, 1])).is_ok());
    assert!(copy(isa, 8, &[2, 4], x, &at(1, &[4, 1]), y, &at(0, &[4, 1])).is_err());
    assert!(copy(isa, 8, &[2, 4], x, &at(2, &[4, -1]), y, &at(0, &[4, 1])).is_err());
    assert!(copy(isa, 8, &[2, 4], x, &at(0, &[4, 1]), y, &at(0, &[5, 1])).is_err());
    assert!(copy(isa, 8, &[2, 4], x, &at(0, &[4, 1]), y, &at(0, &[0, 1])).is_err());
    assert!(copy(isa, 8, &[2, 4], x, &at(0, &[4, 1]), y, &at(0, &[1, 1])).is_err());
    assert!(copy(isa, 3, &[2], x, &at(0, &[1]), y, &at(0, &[1])).is_err());
    assert!(copy(isa, 8, &[usize::MAX, 4], x, &at(0, &[4, 1]), y, &at(0, &[4, 1])).is_err());
    assert!(gather(1, 4, 8, &x[..32], [3i64, -4].into_iter(), &mut y[..16]).is_ok());
    assert!(gather(1, 4, 8, &x[..32], [4i64].into_iter(), &mut y[..8]).is_err());
    assert!(gather(1, 4, 8, &x[..32], [-5i64].into_iter(), &mut y[..8]).is_err());
}
