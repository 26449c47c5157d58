//! How fast weights are read by products of one row: plain and compact f32, from the caches and from memory, on one thread
//! and on two. Numbers are weights a second, so that forms of different length compare. For docs/gemm.md; not a test.

use frit_cpu::gemm::{Epilogue, Matrix, Packed, PackedLayout, gemm_packed, pack_bytes};
use frit_cpu::isa::{Isa, Level};
use frit_ir::DType;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let isa = Isa::best();
    println!("{:>6} {:>6} {:>8} {:>8} {:>12} {:>8}", "k", "n", "threads", "form", "weights/ns", "GB/s");
    for (k, n) in [(768, 128), (768, 3072), (768, 50_257)] {
        let mut state = 1u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let weights: Vec<f32> = (0..k * n).map(|_| (0..4).map(|_| uniform()).sum::<f32>() * 0.03).collect();
        let halves: Vec<f32> = weights.iter().map(|&x| half::f16::from_f32(x).to_f32()).collect();
        let x: Vec<f32> = (0..k).map(|_| uniform()).collect();
        let mut y = vec![0.0; n];
        let plain = PackedLayout::columns(isa.level(), DType::F32, k, n);
        let compact = PackedLayout::compact(Level::Avx512, k, n).ok_or("no compact layout")?;
        let forms =
            [("plain", plain, &weights), ("compact", compact, &weights), ("halves", compact, &halves)];
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            for (name, layout, weights) in &forms {
                let bytes = pack_bytes(layout, &Matrix::row_major(weights, k, n))?;
                let mut words = vec![0u64; bytes.len().div_ceil(8) + 8];
                let skip = words.as_ptr().align_offset(64);
                let room: &mut [u8] = bytemuck::cast_slice_mut(words.get_mut(skip..).unwrap_or_default());
                room.get_mut(..bytes.len()).ok_or("room")?.copy_from_slice(&bytes);
                let packed = Packed::new(*layout, room)?;
                let runs = (400_000_000 / (k * n)).max(5);
                let mut best = f64::MAX;
                for _ in 0..5 {
                    let start = Instant::now();
                    pool.install(|| {
                        (0..runs).try_for_each(|_| {
                            gemm_packed(
                                isa,
                                &Matrix::row_major(&x, 1, k),
                                &packed,
                                &mut y,
                                n,
                                &Epilogue::default(),
                            )
                        })
                    })?;
                    best = best.min(start.elapsed().as_secs_f64() / runs as f64);
                }
                let rate = (k * n) as f64 / best / 1e9;
                println!(
                    "{k:>6} {n:>6} {threads:>8} {name:>8} {rate:>12.2} {:>8.1}",
                    bytes.len() as f64 / best / 1e9
                );
            }
        }
    }
    Ok(())
}
