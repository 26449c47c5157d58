//! Products against plain f64 loops: every instruction set, odd sizes, strides and epilogues; and equal bits
//! on one thread and on several.

use super::*;
use crate::isa::{Isa, Level};

/// A small generator, so that a failure can be repeated.
pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
    pub fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }
    pub fn value(&mut self) -> f32 {
        (self.next() % 20_001) as f32 / 10_000.0 - 1.0
    }
    pub fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.value()).collect()
    }
}

fn activation(kind: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match kind {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::GeluErf | Activation::GeluNear => x * 0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::GeluQuick => x * sigmoid(1.702 * x),
        Activation::Silu => x * sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid(x),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
    }
}

/// erf by its series, or by the continued fraction of erfc where that converges faster.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 3.0 {
        let (mut term, mut sum) = (a, a);
        for n in 1..200 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let mut f = a;
        for n in (1..200).rev() {
            f = a + f64::from(n) / 2.0 / f;
        }
        1.0 - (-a * a).exp() / f / std::f64::consts::PI.sqrt()
    };
    value.copysign(x)
}

fn at(matrix: &Matrix<'_>, r: usize, c: usize) -> f64 {
    f64::from(matrix.data[r * matrix.row_stride + c * matrix.col_stride])
}

/// Checks `got` (rows at `stride`) against the naive product; `before` is what C held.
pub(super) fn check(
    a: &Matrix<'_>,
    b: &Matrix<'_>,
    got: &[f32],
    stride: usize,
    before: &[f32],
    epilogue: &Epilogue<'_>,
    case: &str,
) {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    for r in 0..m {
        for c in 0..n {
            let (mut sum, mut size) = (0.0f64, 0.0f64);
            for i in 0..k {
                let term = at(a, r, i) * at(b, i, c);
                sum += term;
                size += term.abs();
            }
            let residual = |residual: Option<Residual<'_>>| match residual {
                None => 0.0,
                Some(Residual::From { data, stride }) => f64::from(data[r * stride + c]),
                Some(Residual::Output) => f64::from(before[r * stride + c]),
            };
            let bias = match epilogue.bias {
                Bias::None => 0.0,
                Bias::Columns(bias) => f64::from(bias[c]),
                Bias::Rows(bias) => f64::from(bias[r]),
            };
            let x = f64::from(epilogue.alpha) * sum + bias + residual(epilogue.residual_before);
            let y = f64::from(epilogue.gain) * activation(epilogue.activation, x) + f64::from(epilogue.shift);
            let want = y + residual(epilogue.residual_after);
            // Rounding of the running sum grows like sqrt(k); the activations have slopes up to 1.7.
            let tolerance = 4e-7
                * ((k as f64).sqrt() + 4.0)
                * (size / (k.max(1) as f64).sqrt()).max(1.0)
                * 1.7
                * f64::from(epilogue.gain.abs());
            let found = f64::from(got[r * stride + c]);
            assert!(
                (found - want).abs() <= tolerance,
                "{case}: C[{r}, {c}] is {found}, expected {want} +- {tolerance}"
            );
        }
    }
}

fn aligned(bytes: usize) -> Vec<u64> {
    vec![u64::MAX; bytes.div_ceil(8)]
}

/// One random problem of these sizes, every epilogue part switched on or off by chance, packed and not.
fn problem(random: &mut Random, m: usize, n: usize, k: usize) {
    let case = format!("{m} x {n} x {k}");
    let (a_pad, transposed_a, transposed_b) = (random.below(3), random.below(3) == 0, random.below(2) == 0);
    let a_data = random.values((m + 3) * (k + 3) + 8);
    let a = if transposed_a {
        Matrix::strided(&a_data, m, k, 1, m + a_pad)
    } else {
        Matrix::strided(&a_data, m, k, k + a_pad, 1)
    };
    let b_data = random.values((n + 3) * (k + 3) + 8);
    let b = if transposed_b {
        Matrix::strided(&b_data, k, n, 1, k + 1)
    } else {
        Matrix::row_major(&b_data, k, n)
    };
    let (bias_n, bias_m, residual) = (random.values(n), random.values(m), random.values(m * (n + 1)));
    let from = Residual::From { data: &residual, stride: n + 1 };
    let pick = |chance: usize| match chance {
        0 => Some(from),
        1 => Some(Residual::Output),
        _ => None,
    };
    let epilogue = Epilogue {
        alpha: if random.below(3) == 0 { 0.125 } else { 1.0 },
        bias: match random.below(3) {
            0 => Bias::None,
            1 => Bias::Columns(&bias_n),
            _ => Bias::Rows(&bias_m),
        },
        residual_before: pick(random.below(5)),
        activation: Activation::ALL[random.below(10) * usize::from(random.below(2) == 0)],
        gain: if random.below(3) == 0 { -1.5 } else { 1.0 },
        shift: if random.below(3) == 0 { 0.375 } else { 0.0 },
        residual_after: pick(random.below(5)),
    };
    let stride = n + random.below(4);
    let before = random.values(m * stride + 5);
    for isa in Isa::available() {
        let case = format!("{case} {isa:?} {epilogue:?}");
        let mut c = before.clone();
        gemm(isa, &a, &b, &mut c, stride, &epilogue).unwrap();
        check(&a, &b, &c, stride, &before, &epilogue, &case);
        untouched(&before, &c, m, n, stride);
        // Any layout works on any instruction set, and gives what the unpacked product gave.
        for level in Level::ALL {
            let layout = PackedLayout::columns(level, DType::F32, k, n);
            let mut bytes = aligned(layout.bytes().unwrap());
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut bytes);
            pack(&layout, &b, bytes).unwrap();
            let packed = Packed::new(layout, bytes).unwrap();
            let mut c2 = before.clone();
            gemm_packed(isa, &a, &packed, &mut c2, stride, &epilogue).unwrap();
            check(&a, &b, &c2, stride, &before, &epilogue, &format!("packed {level:?} {case}"));
            untouched(&before, &c2, m, n, stride);
        }
    }
}

fn untouched(before: &[f32], after: &[f32], m: usize, n: usize, stride: usize) {
    for (i, (x, y)) in before.iter().zip(after).enumerate() {
        if i / stride >= m || i % stride >= n {
            assert_eq!(x.to_bits(), y.to_bits(), "element {i} beside C was written");
        }
    }
}

#[test]
fn small_odd_sizes() {
    let mut random = Random(1);
    for m in [1, 2, 3, 5, 8, 13, 14, 15, 29] {
        for n in [1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 65] {
            let k = [0, 1, 2, 3, 4, 7, 16, 31, 64][random.below(9)];
            problem(&mut random, m, n, k);
        }
    }
}

#[test]
fn few_rows_by_many_panels() {
    let mut random = Random(11);
    for m in [1, 2, 3] {
        for (n, k) in [(127, 5), (128, 64), (129, 33), (300, 1300), (515, 70)] {
            problem(&mut random, m, n, k);
        }
    }
}

#[test]
fn random_sizes_with_several_blocks() {
    let mut random = Random(2);
    for _ in 0..24 {
        let (m, n, k) = (1 + random.below(90), 1 + random.below(150), 1 + random.below(300));
        problem(&mut random, m, n, k);
    }
    problem(&mut random, 45, 70, 1500);
    problem(&mut random, 1, 100, 2600);
    problem(&mut random, 150, 33, 1030);
    problem(&mut random, 300, 40, 17);
}

#[test]
fn empty_products() {
    let isa = Isa::best();
    let empty = Matrix::row_major(&[], 0, 4);
    let b = [1.0; 12];
    gemm(isa, &empty, &Matrix::row_major(&b, 4, 3), &mut [], 3, &Epilogue::default()).unwrap();
    let mut c = [7.0; 6];
    let none = Matrix::row_major(&[], 2, 0);
    gemm(
        isa,
        &none,
        &Matrix::row_major(&[], 0, 3),
        &mut c,
        3,
        &Epilogue::linear(Some(&[1., 2., 3.]), Activation::None),
    )
    .unwrap();
    assert_eq!(c, [1., 2., 3., 1., 2., 3.]);
    gemm(isa, &Matrix::row_major(&b, 3, 4), &Matrix::row_major(&[], 4, 0), &mut [], 0, &Epilogue::default())
        .unwrap();
}

#[test]
fn batches_broadcast_and_interleave() {
    let mut random = Random(3);
    let (batches, m, k, n) = (5, 7, 20, 18);
    let a_data = random.values(batches * m * k);
    let b_data = random.values(2 * k * n);
    let (a, b) = (Matrix::row_major(&a_data, m, k), Matrix::row_major(&b_data, n, k).transposed());
    let a_at: Vec<usize> = (0..batches).map(|i| i * m * k).collect();
    let b_at: Vec<usize> = (0..batches).map(|i| i % 2 * k * n).collect();
    let epilogue = Epilogue { alpha: 0.5, ..Epilogue::default() };
    for isa in Isa::available() {
        // One after the other, then side by side as attention heads are.
        for (c_stride, batch_stride) in [(n, m * n), (batches * n, n)] {
            let mut c = vec![0.0; batches * m * n];
            let batch = Batch { a: &a_at, b: &b_at, c_stride: batch_stride };
            gemm_batched(isa, &a, &b, &batch, &mut c, c_stride, &epilogue).unwrap();
            for i in 0..batches {
                let a = Matrix::row_major(&a_data[a_at[i]..], m, k);
                let b = Matrix::row_major(&b_data[b_at[i]..], n, k).transposed();
                check(
                    &a,
                    &b,
                    &c[i * batch_stride..],
                    c_stride,
                    &[],
                    &epilogue,
                    &format!("batch {i} {isa:?}"),
                );
            }
        }
    }
}

#[test]
fn overlapping_rows_are_a_convolution() {
    let mut random = Random(4);
    let (channels, kernel, stride, frames, out) = (6, 3, 2, 21, 10);
    let x = random.values(channels * ((frames - 1) * stride + kernel));
    let w = random.values(kernel * channels * out);
    let a = Matrix::strided(&x, frames, kernel * channels, stride * channels, 1);
    let b = Matrix::row_major(&w, kernel * channels, out);
    let mut c = vec![0.0; frames * out];
    gemm(Isa::best(), &a, &b, &mut c, out, &Epilogue::default()).unwrap();
    check(&a, &b, &c, out, &[], &Epilogue::default(), "overlapping");
}

/// The numbers as bf16 has them.
fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect()
}

/// Every instruction set reads every layout of pairs. Where it multiplies pairs the activations are rounded too.
#[test]
fn bf16_products_are_those_of_rounded_numbers() {
    let mut random = Random(5);
    for (m, n, k) in
        [(1, 40, 33), (20, 33, 1101), (64, 64, 64), (3, 7, 1), (29, 50, 2300), (14, 96, 31), (1, 64, 4097)]
    {
        let a_data = random.values(2 * m * (k + 3));
        let exact_b = random.values(k * n);
        let (b_data, a_rounded) = (rounded(&exact_b), rounded(&a_data));
        let bias = random.values(n);
        let mut epilogue = Epilogue::linear(Some(&bias), Activation::ALL[random.below(10)]);
        epilogue.alpha = if random.below(2) == 0 { 1.0 } else { 0.5 };
        // Rows along k, columns along k, and neither.
        for strides in [(k + 3, 1), (1, m), (2, 2 * m)] {
            let view = |data| Matrix::strided(data, m, k, strides.0, strides.1);
            let b = Matrix::row_major(&b_data, k, n);
            for (isa, level) in Isa::available().into_iter().flat_map(|i| Level::ALL.map(|l| (i, l))) {
                let layout = PackedLayout::columns(level, DType::BF16, k, n);
                assert_eq!(PackedLayout::parse(&layout.tag(), k, n).unwrap(), layout);
                let mut bytes = aligned(layout.bytes().unwrap());
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut bytes);
                pack(&layout, &Matrix::row_major(&exact_b, k, n), bytes).unwrap();
                let packed = Packed::new(layout, bytes).unwrap();
                let mut c = vec![0.0; m * n];
                gemm_packed(isa, &view(&a_data), &packed, &mut c, n, &epilogue).unwrap();
                let a = if Words::Pairs.runs(isa, layout.width) { &a_rounded } else { &a_data };
                check(&view(a), &b, &c, n, &[], &epilogue, &format!("{m} x {n} x {k} {isa:?} {level:?}"));
            }
        }
    }
}

/// The product of matrices rounded to bytes: rows of A to 0 ..= 255 with a zero point, columns of B to -127 ..= 127.
fn product_of_bytes(a: &Matrix<'_>, b: &Matrix<'_>) -> Vec<f32> {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    let number = |matrix: &Matrix<'_>, r: usize, c: usize| at(matrix, r, c) as f32;
    let column = |j: usize| -> (Vec<i64>, f32) {
        let largest = (0..k).map(|i| number(b, i, j).abs()).fold(0.0, f32::max);
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        ((0..k).map(|i| (number(b, i, j) * inverse).round_ties_even() as i64).collect(), largest / 127.0)
    };
    let columns: Vec<_> = (0..n).map(column).collect();
    let mut out = Vec::new();
    for r in 0..m {
        let row: Vec<f32> = (0..k).map(|i| number(a, r, i)).collect();
        let (low, high) = row.iter().fold((0f32, 0f32), |(l, h), &x| (l.min(x), h.max(x)));
        let inverse = if high > low { 255.0 / (high - low) } else { 0.0 };
        let zero = (-low * inverse).round_ties_even();
        let byte = |x: f32| (x * inverse + zero).clamp(0.0, 255.0).round_ties_even() as i64;
        for (bytes, scale) in &columns {
            let sum: i64 = row.iter().zip(bytes).map(|(&x, &b)| (byte(x) - zero as i64) * b).sum();
            out.push(sum as f32 * ((high - low) / 255.0 * scale));
        }
    }
    out
}

#[test]
fn products_of_bytes_are_exact_and_the_same_everywhere() {
    let mut random = Random(7);
    for (m, n, k) in [(1, 40, 33), (20, 33, 1101), (3, 7, 1), (29, 50, 2301), (14, 96, 31), (1, 64, 6000)] {
        // Values up to the limits of bytes, a row and a column of zeros, and rows that are positive only.
        let mut a_data = random.values(2 * m * (k + 3));
        let mut b_data = random.values(k * n);
        b_data.iter_mut().step_by(n).for_each(|x| *x = 0.0);
        a_data.iter_mut().take(k + 3).for_each(|x| *x = if m > 2 { 0.0 } else { x.abs() });
        for strides in [(k + 3, 1), (1, m), (2, 2 * m)] {
            let a = Matrix::strided(&a_data, m, k, strides.0, strides.1);
            let b = Matrix::row_major(&b_data, k, n);
            let want = product_of_bytes(&a, &b);
            for (isa, level) in Isa::available().into_iter().flat_map(|i| Level::ALL.map(|l| (i, l))) {
                let layout = PackedLayout::columns(level, DType::I8, k, n);
                assert_eq!(PackedLayout::parse(&layout.tag(), k, n).unwrap(), layout);
                let mut bytes = aligned(layout.bytes().unwrap());
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut bytes);
                pack(&layout, &b, bytes).unwrap();
                let packed = Packed::new(layout, bytes).unwrap();
                let mut c = vec![0.0; m * n];
                gemm_packed(isa, &a, &packed, &mut c, n, &Epilogue::default()).unwrap();
                assert_eq!(c, want, "{m} x {n} x {k} {isa:?} {level:?}");
                // What comes after the sum is done to the same numbers.
                let bias = random.values(n);
                let mut d = c.clone();
                let mut epilogue = Epilogue::linear(Some(&bias), Activation::Relu);
                epilogue.residual_after = Some(Residual::Output);
                gemm_packed(isa, &a, &packed, &mut d, n, &epilogue).unwrap();
                for (i, (&d, &c)) in d.iter().zip(&c).enumerate() {
                    assert!(
                        (d - ((c + bias[i % n]).max(0.0) + c)).abs() <= 1e-6 * (1.0 + c.abs()),
                        "{d} {c}"
                    );
                }
            }
        }
    }
    let long = PackedLayout::columns(Level::Portable, DType::I8, 70_000, 8);
    assert!(long.check().is_err() && !PackedLayout::bytes_suit(70_000));
    assert!(PackedLayout::parse("i8x4-mr14", 4, 6).is_err());
}

#[test]
fn threads_do_not_change_the_bits() {
    let mut random = Random(6);
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let (one, two, three) = (pool(1), pool(2), pool(3));
    for (m, n, k) in [(128, 768, 300), (1, 3000, 768), (197, 200, 1100), (9, 500, 2100)] {
        let (a_data, b_data) = (random.values(m * k), random.values(k * n));
        let (bias, residual) = (random.values(n), random.values(m * n));
        let (a, b) = (Matrix::row_major(&a_data, m, k), Matrix::row_major(&b_data, k, n));
        let mut epilogue = Epilogue::linear(Some(&bias), Activation::GeluErf);
        epilogue.residual_after = Some(Residual::From { data: &residual, stride: n });
        for isa in Isa::available() {
            for dtype in [DType::F32, DType::BF16, DType::I8] {
                let layout = PackedLayout::columns(isa.level(), dtype, k, n);
                let mut bytes = aligned(layout.bytes().unwrap());
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut bytes);
                pack(&layout, &b, bytes).unwrap();
                let packed = Packed::new(layout, bytes).unwrap();
                let run = |pool: &rayon::ThreadPool, ready: bool| {
                    let mut c = vec![0.0; m * n];
                    pool.install(|| match ready {
                        true => gemm_packed(isa, &a, &packed, &mut c, n, &epilogue).unwrap(),
                        false => gemm(isa, &a, &b, &mut c, n, &epilogue).unwrap(),
                    });
                    c.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
                };
                for ready in [true, false] {
                    let single = run(&one, ready);
                    assert!(single == run(&two, ready), "{m} x {n} x {k} {isa:?}");
                    assert!(single == run(&three, ready), "{m} x {n} x {k} {isa:?}");
                }
            }
        }
    }
}

#[test]
fn packing_is_deterministic_and_complete() {
    let mut random = Random(7);
    for level in Level::ALL {
        for (k, n) in [(5, 3), (64, 100), (17, 33)] {
            let data = random.values(k * n);
            let transposed: Vec<f32> = (0..k * n).map(|i| data[i % k * n + i / k]).collect();
            for layout in
                [PackedLayout::columns(level, DType::F32, k, n), PackedLayout::rows(level, DType::F32, n, k)]
            {
                assert_eq!(PackedLayout::parse(&layout.tag(), k, n).unwrap(), layout);
                let columns = Matrix::row_major(&data, k, n);
                let rows = Matrix::row_major(&transposed, n, k);
                let (first, second) = match layout.side {
                    Side::Columns => (columns, rows.transposed()),
                    Side::Rows => (columns.transposed(), rows),
                };
                let size = layout.bytes().unwrap();
                let mut x = vec![1u32; size / 4];
                let mut y = vec![2u32; size / 4];
                pack(&layout, &first, bytemuck::cast_slice_mut(&mut x)).unwrap();
                pack(&layout, &second, bytemuck::cast_slice_mut(&mut y)).unwrap();
                assert_eq!(x, y, "{layout:?}");
            }
        }
    }
}

#[test]
fn misfits_are_refused() {
    let isa = Isa::best();
    let x = [1.0; 100];
    let a = Matrix::row_major(&x, 5, 4);
    let b = Matrix::row_major(&x, 4, 6);
    let plain = Epilogue::default();
    let mut c = [0.0; 30];
    assert!(matches!(gemm(isa, &a, &a, &mut c, 6, &plain), Err(GemmError::Shape { .. })));
    assert!(matches!(gemm(isa, &a, &b, &mut c[..29], 6, &plain), Err(GemmError::Short { what: "C", .. })));
    assert!(matches!(gemm(isa, &a, &b, &mut c, 5, &plain), Err(GemmError::Overlap { .. })));
    let long = Matrix::row_major(&x, 30, 4);
    assert!(matches!(gemm(isa, &long, &b, &mut c, 6, &plain), Err(GemmError::Short { what: "A", .. })));
    let huge = Matrix::strided(&x, 5, 4, usize::MAX, 1);
    assert_eq!(gemm(isa, &huge, &b, &mut c, 6, &plain), Err(GemmError::Overflow));
    let short = Epilogue::linear(Some(&x[..5]), Activation::None);
    assert!(matches!(gemm(isa, &a, &b, &mut c, 6, &short), Err(GemmError::Shape { .. })));
    let far = Batch { a: &[0, 90], b: &[0, 0], c_stride: 30 };
    assert!(matches!(
        gemm_batched(isa, &a, &b, &far, &mut [0.0; 60], 6, &plain),
        Err(GemmError::Short { .. })
    ));
    let close = Batch { a: &[0, 0], b: &[0, 0], c_stride: 29 };
    assert!(matches!(
        gemm_batched(isa, &a, &b, &close, &mut [0.0; 60], 6, &plain),
        Err(GemmError::Overlap { .. })
    ));
    for tag in ["f32", "f64-nr32", "f32-nr0", "f32-nr31", "f32-mr5", "bf16-nr32", "f32-xx32", ""] {
        assert!(PackedLayout::parse(tag, 4, 6).is_err(), "{tag}");
    }
    assert!(PackedLayout::parse("f32-nr32", usize::MAX, 64).unwrap().bytes().is_err());
    let layout = PackedLayout::columns(Level::Portable, DType::F32, 4, 6);
    let bytes = [0u8; 300];
    assert!(matches!(Packed::new(layout, &bytes[..127]), Err(GemmError::Short { .. })));
    let odd = usize::from(bytes.as_ptr().align_offset(4) == 0);
    assert!(matches!(Packed::new(layout, &bytes[odd..]), Err(GemmError::Align { .. })) || odd == 0);
}
