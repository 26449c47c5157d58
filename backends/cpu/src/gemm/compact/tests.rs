//! Compact weights: the same numbers bit for bit, the products of plain ones, and no trust in bytes.

use super::*;
use crate::gemm::tests::{Random, check};
use crate::gemm::{Activation, Epilogue, Matrix, Packed, Residual, gemm_packed, pack, pack_bytes};
use crate::threads::alone;
use frit_ir::DType;

fn layout(k: usize, n: usize) -> PackedLayout {
    PackedLayout::compact(Level::Avx512, k, n).unwrap()
}

/// A sum of uniform numbers: most near zero, few far from it, as in trained weights.
fn weight(random: &mut Random) -> f32 {
    (0..4).map(|_| random.value()).sum::<f32>() * 0.02
}

fn weights(random: &mut Random, k: usize, n: usize, of: impl Fn(&mut Random, f32) -> f32) -> Vec<f32> {
    (0..k * n)
        .map(|_| {
            let x = weight(random);
            of(random, x)
        })
        .collect()
}

/// Every number of the matrix, as unpacked from ranges of k.
fn unpacked(isa: Isa, layout: &PackedLayout, bytes: &[u8], cut: usize) -> Vec<f32> {
    let compact = Compact::new(isa, layout, bytes).unwrap();
    let mut out = vec![f32::NAN; layout.k * layout.len];
    for index in 0..layout.len.div_ceil(WIDTH) {
        for from in (0..layout.k).step_by(cut) {
            let k = from..(from + cut).min(layout.k);
            let mut panel = vec![f32::NAN; k.len() * WIDTH];
            // SAFETY: the panel has room for its rows.
            unsafe { compact.panel(index, k.clone(), panel.as_mut_ptr()) };
            for (row, numbers) in k.zip(panel.chunks(WIDTH)) {
                let first = index * WIDTH;
                for (column, x) in (first..layout.len.min(first + WIDTH)).zip(numbers) {
                    out[row * layout.len + column] = *x;
                }
            }
        }
    }
    out
}

fn codings(layout: &PackedLayout, bytes: &[u8]) -> Vec<Coding> {
    (0..layout.len.div_ceil(WIDTH)).map(|i| panel(bytes, layout.k, i).unwrap().coding).collect()
}

#[test]
fn every_number_comes_back_as_it_was() {
    let mut random = Random(3);
    let strange =
        [0.0, -0.0, 1e-42, -1e-42, f32::MAX, f32::MIN_POSITIVE, f32::INFINITY, f32::NAN, 1e30, -1e-30];
    for (k, n) in [(1, 1), (4, 32), (7, 33), (64, 65), (301, 96), (130, 40)] {
        let kinds: [(&str, Box<dyn Fn(&mut Random, f32) -> f32>, Option<Coding>); 8] = [
            ("trained", Box::new(|_, x| x), None),
            ("pruned", Box::new(|r, x| if r.below(3) == 0 { x * 0.0 } else { x }), None),
            ("rarely zero", Box::new(|r, x| if r.below(400) == 0 { x * 0.0 } else { x }), None),
            ("f16", Box::new(|_, x| f16::from_f32(x).to_f32()), Some(Coding::Half)),
            ("bf16", Box::new(|_, x| bf16::from_f32(x * 1e9).to_f32()), None),
            ("anything", Box::new(|r, _| f32::from_bits(r.next() as u32 ^ (r.next() as u32) << 8)), None),
            (
                "rarely strange",
                Box::new(move |r, x| if r.below(300) == 0 { strange[r.below(10)] } else { x }),
                None,
            ),
            ("zero", Box::new(|_, _| 0.0), Some(Coding::Half)),
        ];
        for (kind, of, coding) in kinds {
            let numbers = weights(&mut random, k, n, of);
            let layout = layout(k, n);
            let bytes = pack_bytes(&layout, &Matrix::row_major(&numbers, k, n)).unwrap();
            if let Some(coding) = coding {
                assert!(codings(&layout, &bytes).iter().all(|c| *c == coding), "{kind}");
            }
            for isa in Isa::available() {
                for cut in [k, 3, 8, 5] {
                    let back = unpacked(isa, &layout, &bytes, cut);
                    for (i, (x, y)) in numbers.iter().zip(&back).enumerate() {
                        assert_eq!(
                            x.to_bits(),
                            y.to_bits(),
                            "{kind} {k} x {n}, {isa:?}: {x} at {i} became {y}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn trained_weights_take_28_bits_and_those_of_half_precision_16() {
    let mut random = Random(4);
    let (k, n) = (768, 96);
    let size = |numbers: &[f32]| pack_bytes(&layout(k, n), &Matrix::row_major(numbers, k, n)).unwrap().len();
    let plain = 4 * k * n;
    let trained = weights(&mut random, k, n, |_, x| x);
    assert!(size(&trained) * 1000 <= plain * 878, "{} of {plain}", size(&trained));
    let half = weights(&mut random, k, n, |_, x| f16::from_f32(x).to_f32());
    assert!(size(&half) <= plain / 2 + 64, "{}", size(&half));
    let brain = weights(&mut random, k, n, |_, x| bf16::from_f32(x * 1e-9).to_f32());
    assert!(size(&brain) <= plain / 2 + 64, "{}", size(&brain));
    let anything = weights(&mut random, k, n, |r, _| f32::from_bits(r.next() as u32));
    assert!(size(&anything) <= plain + 64);
}

#[test]
fn products_are_those_of_plain_weights() {
    let mut random = Random(5);
    for m in [1, 2, 3, 8, 9, 14, 16, 17, 33] {
        for (k, n) in [(0, 5), (5, 7), (64, 32), (770, 130), (129, 161), (1500, 257)] {
            let exotic = random.below(3);
            let b_data = weights(&mut random, k, n, |r, x| match exotic {
                // Panels of every coding side by side.
                0 if r.below(200) == 0 => x * 1e-7,
                1 => f16::from_f32(x).to_f32(),
                _ => x,
            });
            let (a_data, bias, residual) =
                (random.values(m * k), random.values(n), random.values(m * (n + 1)));
            let (a, b) = (Matrix::row_major(&a_data, m, k), Matrix::row_major(&b_data, k, n));
            let mut epilogue = Epilogue::linear(Some(&bias), Activation::Silu);
            epilogue.alpha = 0.5;
            epilogue.residual_after = Some(Residual::From { data: &residual, stride: n + 1 });
            let bytes = pack_bytes(&layout(k, n), &b).unwrap();
            let packed = Packed::new(layout(k, n), &bytes).unwrap();
            for isa in Isa::available() {
                let run = |epilogue: &Epilogue<'_>| {
                    let mut c = vec![0.0; m * (n + 1)];
                    gemm_packed(isa, &a, &packed, &mut c, n + 1, epilogue).unwrap();
                    c
                };
                let c = run(&epilogue);
                check(&a, &b, &c, n + 1, &c, &epilogue, &format!("{m} x {n} x {k} {isa:?}"));
                let plain = Epilogue::default();
                check(&a, &b, &run(&plain), n + 1, &c, &plain, &format!("{m} x {n} x {k} {isa:?}, plain"));
                // The same on one thread.
                assert_eq!(alone(|| run(&epilogue)), c);
            }
        }
    }
}

#[test]
fn panels_of_different_codings_stand_side_by_side() {
    let mut random = Random(6);
    let (k, n) = (96, 32 * 9 + 5);
    let b_data: Vec<f32> = (0..k * n)
        .map(|i| match i % n / WIDTH % 4 {
            0 => weight(&mut random),
            1 => f16::from_f32(weight(&mut random)).to_f32(),
            2 => bf16::from_f32(weight(&mut random) * 1e8).to_f32(),
            _ => weight(&mut random) * 2f32.powi(random.below(60) as i32 - 30),
        })
        .collect();
    let b = Matrix::row_major(&b_data, k, n);
    let bytes = pack_bytes(&layout(k, n), &b).unwrap();
    let all = codings(&layout(k, n), &bytes);
    assert!(
        [Coding::Window, Coding::Half, Coding::Brain, Coding::Plain].iter().all(|c| all.contains(c)),
        "{all:?}"
    );
    let packed = Packed::new(layout(k, n), &bytes).unwrap();
    for m in [1, 2, 5] {
        let a_data: Vec<f32> = random.values(m * k).iter().map(|x| x * 1e-8).collect();
        let a = Matrix::row_major(&a_data, m, k);
        for isa in Isa::available() {
            let mut c = vec![0.0; m * n];
            gemm_packed(isa, &a, &packed, &mut c, n, &Epilogue::default()).unwrap();
            check(&a, &b, &c, n, &c, &Epilogue::default(), &format!("{m} rows {isa:?}"));
        }
    }
}

#[test]
fn damaged_bytes_are_refused_or_read_within_bounds() {
    let mut random = Random(7);
    let (k, n) = (37, 70);
    let numbers = weights(&mut random, k, n, |r, x| if r.below(200) == 0 { 1e20 } else { x });
    let layout = layout(k, n);
    let bytes = pack_bytes(&layout, &Matrix::row_major(&numbers, k, n)).unwrap();
    let a_data = random.values(2 * k);
    let run = |bytes: &[u8]| {
        let packed = Packed::new(layout, bytes)?;
        for m in [1, 2] {
            let mut c = vec![0.0; 20 * n];
            gemm_packed(
                Isa::best(),
                &Matrix::row_major(&a_data, m, k),
                &packed,
                &mut c,
                n,
                &Epilogue::default(),
            )?;
            let tall = Matrix::strided(&a_data, 20, k, 1, 1);
            gemm_packed(Isa::best(), &tall, &packed, &mut c, n, &Epilogue::default())?;
        }
        Ok::<(), GemmError>(())
    };
    run(&bytes).unwrap();
    assert!(matches!(run(&[]), Err(GemmError::Panel { panel: 0, bytes: 0 })));
    for len in 0..bytes.len() {
        let cut = run(&bytes[..len]);
        assert!(cut.is_ok() == (cut == Ok(())) && (len > bytes.len() - 64 || cut.is_err()), "{len}");
    }
    for at in 0..64 {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let _ = run(&damaged);
        }
    }
    // Exceptions that point anywhere.
    for _ in 0..2000 {
        let mut damaged = bytes.clone();
        let at = random.below(damaged.len());
        damaged[at] = random.next() as u8;
        let _ = run(&damaged);
    }
    let dense = PackedLayout::columns(Level::Avx512, DType::F32, k, n);
    assert!(pack(&layout, &Matrix::row_major(&numbers, k, n), &mut vec![0; dense.bytes().unwrap()]).is_err());
}
