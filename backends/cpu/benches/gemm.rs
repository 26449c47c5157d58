//! Matrix products at the sizes of the models, beside the crates `gemm`, `rten-gemm` and `matrixmultiply`, for criterion.
//!
//! Ours has its weights packed ahead, as an artifact has, and so has rten-gemm; the others pack at every call, as their
//! users do.
//! For rates against the machine's limit see examples/gflops.rs.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use frit_cpu::gemm::{Activation, Epilogue, Matrix, Packed, PackedLayout, gemm_packed, pack};
use frit_cpu::isa::Isa;
use frit_ir::DType;
use rten_tensor::NdTensorView;
use std::time::Duration;

const SHAPES: [(usize, usize, usize); 5] =
    [(128, 768, 3072), (512, 1024, 4096), (197, 768, 768), (128, 768, 768), (1, 768, 3072)];

fn products(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gemm");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    for (m, k, n) in SHAPES {
        let name = format!("{m}x{k}x{n}");
        group.throughput(Throughput::Elements((2 * m * k * n) as u64));
        let a: Vec<f32> = (0..m * k).map(|i| (i % 7) as f32 / 7.0).collect();
        let b: Vec<f32> = (0..k * n).map(|i| (i % 13) as f32 / 13.0).collect();
        let mut c = vec![0.0f32; m * n];
        for isa in Isa::available() {
            let layout = PackedLayout::columns(isa.level(), DType::F32, k, n);
            let mut bytes = vec![[0u64; 8]; layout.bytes().unwrap_or(0).div_ceil(64)];
            let packed = pack(&layout, &Matrix::row_major(&b, k, n), bytemuck::cast_slice_mut(&mut bytes))
                .and_then(|()| Packed::new(layout, bytemuck::cast_slice(&bytes)));
            let Ok(packed) = packed else { continue };
            for (kind, activation) in [("frit", Activation::None), ("frit+gelu", Activation::GeluErf)] {
                let epilogue = Epilogue { activation, ..Epilogue::default() };
                let id = BenchmarkId::new(format!("{kind}/{}", isa.level().name()), &name);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| {
                        gemm_packed(isa, &Matrix::row_major(&a, m, k), &packed, &mut c, n, &epilogue)
                    });
                });
            }
        }
        group.bench_function(BenchmarkId::new("gemm-crate", &name), |bencher| {
            bencher.iter(|| {
                let threads = gemm::Parallelism::Rayon(0);
                // SAFETY: pointers, sizes and strides are those of a, b and c.
                unsafe {
                    gemm::gemm(
                        m,
                        n,
                        k,
                        c.as_mut_ptr(),
                        1,
                        n as isize,
                        false,
                        a.as_ptr(),
                        1,
                        k as isize,
                        b.as_ptr(),
                        1,
                        n as isize,
                        0.0,
                        1.0,
                        false,
                        false,
                        false,
                        threads,
                    );
                }
            });
        });
        let rten = rten_gemm::GemmExecutor::<f32>::new();
        let b_view = NdTensorView::from_data([k, n], b.as_slice());
        let b_packed = rten.prepack_b(b_view);
        group.bench_function(BenchmarkId::new("rten-gemm", &name), |bencher| {
            bencher.iter(|| {
                let a = rten_gemm::GemmInputA::Unpacked(NdTensorView::from_data([m, k], a.as_slice()));
                rten.gemm(
                    &mut c,
                    a,
                    rten_gemm::GemmInputB::Packed(&b_packed),
                    rten_gemm::GemmOptions::default(),
                )
            });
        });
        group.bench_function(BenchmarkId::new("matrixmultiply", &name), |bencher| {
            bencher.iter(|| {
                let (rsa, rsb) = (k as isize, n as isize);
                // SAFETY: pointers, sizes and strides are those of a, b and c.
                unsafe {
                    matrixmultiply::sgemm(
                        m,
                        k,
                        n,
                        1.0,
                        a.as_ptr(),
                        rsa,
                        1,
                        b.as_ptr(),
                        rsb,
                        1,
                        0.0,
                        c.as_mut_ptr(),
                        rsb,
                        1,
                    );
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, products);
criterion_main!(benches);
