//! Prints what matrix products and convolutions reach on this machine beside its measured FMA limit, in one process.
//!
//! `cargo run --release -p frit-cpu --example gflops [threads [f32 | bf16 | int8]]`. Rates are medians; with one thread the time is
//! that of the thread's own clock, so that a busy neighbour does not count. For regressions see benches/gemm.rs.

use frit_cpu::conv::{ConvSizes, ConvSpec, ConvWeight, WeightForm, conv, pack_weight};
use frit_cpu::gemm::{Activation, Epilogue, Matrix, Packed, PackedLayout, gemm_packed, pack};
use frit_cpu::isa::Isa;
use frit_ir::DType;
use std::time::Instant;

/// What is measured: rows, sum length, columns.
const SHAPES: [(usize, usize, usize); 10] = [
    (128, 768, 3072),
    (128, 3072, 768),
    (512, 1024, 4096),
    (197, 768, 768),
    (128, 768, 768),
    (128, 768, 2304),
    (16, 768, 3072),
    (4, 768, 3072),
    (1, 768, 3072),
    (1, 768, 50257),
];

/// Name, channels in and out, groups, extent, kernel, stride, pad.
type Convolution = (&'static str, (usize, usize), usize, &'static [usize], usize, usize, usize);

/// The convolutions of the models: those of Wav2Vec2 at five seconds, patches, and of an image network.
const CONVOLUTIONS: [Convolution; 9] = [
    ("Wav2Vec2 first: 1 to 512, k 10, s 5", (1, 512), 1, &[80_000], 10, 5, 0),
    ("Wav2Vec2 second: 512 to 512, k 3, s 2", (512, 512), 1, &[15_999], 3, 2, 0),
    ("Wav2Vec2 fifth: 512 to 512, k 3, s 2", (512, 512), 1, &[1999], 3, 2, 0),
    ("Wav2Vec2 last: 512 to 512, k 2, s 2", (512, 512), 1, &[499], 2, 2, 0),
    ("Wav2Vec2 positions: 768, 16 groups, k 128", (768, 768), 16, &[249], 128, 1, 64),
    ("patches: 3 to 768, 16 x 16", (3, 768), 1, &[224, 224], 16, 16, 0),
    ("3 x 3: 64 to 64 at 56 x 56", (64, 64), 1, &[56, 56], 3, 1, 1),
    ("1 x 1: 128 to 512 at 28 x 28", (128, 512), 1, &[28, 28], 1, 1, 0),
    ("depthwise 5 x 5: 480 at 28 x 28", (480, 480), 480, &[28, 28], 5, 1, 2),
];

fn main() {
    let threads = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1);
    let dtype = match std::env::args().nth(2).as_deref() {
        Some("bf16") => DType::BF16,
        Some("int8") => DType::I8,
        _ => DType::F32,
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let Ok(pool) = pool else { return };
    pool.install(|| run(threads, dtype));
}

fn run(threads: usize, dtype: DType) {
    let isa = Isa::get();
    let limit = fma_limit(threads);
    println!("{} on {threads} thread(s); FMA limit {limit:.0} GFLOP/s", isa.level().name());
    println!(
        "{:>18} {:>9} {:>7} {:>9} {:>9} {:>9}",
        "m x k x n", "GFLOP/s", "limit", "best", "ms", "GB/s of B"
    );
    for (m, k, n) in SHAPES {
        for (name, activation) in [("", Activation::None), ("gelu", Activation::GeluErf)] {
            if activation != Activation::None && (m, k, n) != (128, 768, 3072) {
                continue;
            }
            let times = measure(isa, (m, k, n), dtype, activation, threads);
            let (median, best) = (times[times.len() / 2], times[0]);
            let gflop = 2.0 * (m * k * n) as f64 / 1e9;
            println!(
                "{:>18} {:>9.1} {:>6.0}% {:>9.1} {:>9.3} {:>9.1} {name}",
                format!("{m} x {k} x {n}"),
                gflop / median,
                100.0 * gflop / median / limit,
                gflop / best,
                median * 1e3,
                (dtype.size() * k * n) as f64 / median / 1e9,
            );
        }
    }
    println!("{:>44} {:>9} {:>7} {:>9} {:>9}", "convolution", "GFLOP/s", "limit", "best", "ms");
    for (name, channels, groups, input, kernel, stride, pad) in CONVOLUTIONS {
        let sizes = ConvSizes {
            batch: 1,
            in_channels: channels.0,
            out_channels: channels.1,
            groups,
            input,
            kernel: &[kernel, kernel][..input.len()],
            strides: &[stride, stride][..input.len()],
            dilations: &[1, 1][..input.len()],
            pads_begin: &[pad, pad][..input.len()],
            pads_end: &[pad, pad][..input.len()],
        };
        let Ok(spec) = ConvSpec::new(&sizes) else { continue };
        let times = measure_convolution(isa, &spec, dtype, threads);
        let (median, best) = (times[times.len() / 2], times[0]);
        let products = spec.output_len() * spec.weight_len() / spec.out_channels();
        let gflop = 2.0 * products as f64 / 1e9;
        println!(
            "{name:>44} {:>9.1} {:>6.0}% {:>9.1} {:>9.3}",
            gflop / median,
            100.0 * gflop / median / limit,
            gflop / best,
            median * 1e3
        );
    }
}

fn measure_convolution(isa: Isa, spec: &ConvSpec, dtype: DType, threads: usize) -> Vec<f64> {
    let values = |n: usize| (0..n).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect::<Vec<f32>>();
    let (x, w) = (values(spec.input_len()), values(spec.weight_len()));
    let form = WeightForm::new(isa.level(), if dtype == DType::F32 { dtype } else { DType::BF16 }, spec);
    let mut packed = vec![0.0f32; form.bytes() / 4];
    let _ = pack_weight(&form, &w, bytemuck::cast_slice_mut(&mut packed));
    let mut y = vec![0.0; spec.output_len()];
    let mut times = vec![f64::NAN];
    if let Ok(weight) = ConvWeight::new(form, bytemuck::cast_slice(&packed)) {
        times.clear();
        for _ in 0..15 {
            let start = clock(threads);
            let done = conv(isa, spec, &x, &weight, &mut y, &Epilogue::default());
            times.push(if done.is_ok() { clock(threads) - start } else { f64::NAN });
        }
    }
    times.sort_by(f64::total_cmp);
    times
}

/// A cache line: artifacts align weights to them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Sorted times of one product. Each repetition takes other weights, as the layers of a model do, so that they
/// come from memory rather than from a cache.
fn measure(
    isa: Isa,
    (m, k, n): (usize, usize, usize),
    dtype: DType,
    activation: Activation,
    threads: usize,
) -> Vec<f64> {
    let layout = PackedLayout::columns(isa.level(), dtype, k, n);
    let bytes = layout.bytes().unwrap_or(0);
    let copies = (256_000_000 / bytes).clamp(2, 60);
    let source: Vec<f32> = (0..k * n).map(|i| (i % 13) as f32 / 13.0 - 0.5).collect();
    let weights: Vec<Vec<Line>> = (0..copies)
        .map(|_| {
            let mut weight = vec![Line([0; 64]); bytes.div_ceil(64)];
            let _ = pack(&layout, &Matrix::row_major(&source, k, n), bytemuck::cast_slice_mut(&mut weight));
            weight
        })
        .collect();
    let x: Vec<f32> = (0..m * k).map(|i| (i % 7) as f32 / 7.0).collect();
    let bias = vec![0.5; n];
    let mut y = vec![0.0; m * n];
    let epilogue = Epilogue::linear(Some(&bias), activation);
    let mut times = Vec::new();
    for repetition in 0..(2 * copies).max(20) {
        let weight = &weights[repetition % copies];
        let Ok(packed) = Packed::new(layout, bytemuck::cast_slice(weight)) else { continue };
        let start = clock(threads);
        let done = gemm_packed(isa, &Matrix::row_major(&x, m, k), &packed, &mut y, n, &epilogue);
        let time = clock(threads) - start;
        if done.is_ok() && repetition > 0 {
            times.push(time);
        }
    }
    times.sort_by(f64::total_cmp);
    times
}

/// Seconds: of this thread alone if it is the only one, else of the clock on the wall.
fn clock(threads: usize) -> f64 {
    #[cfg(target_os = "linux")]
    if threads == 1 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a timespec to write to.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
        return time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9;
    }
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// The most f32 operations a nanosecond that this many threads do at once: independent multiply-adds in registers.
fn fma_limit(threads: usize) -> f64 {
    let rounds = 400_000u64;
    let mut best = 0.0f64;
    for _ in 0..12 {
        let barrier = std::sync::Barrier::new(threads);
        let times = rayon::broadcast(|_| {
            barrier.wait();
            let start = Instant::now();
            let flops = multiply_adds(rounds);
            (flops, start, Instant::now())
        });
        let flops: f64 = times.iter().map(|t| t.0).sum();
        let first = times.iter().map(|t| t.1).min();
        let last = times.iter().map(|t| t.2).max();
        if let (Some(first), Some(last)) = (first, last) {
            best = best.max(flops / (last - first).as_secs_f64() / 1e9);
        }
    }
    best
}

#[cfg(target_arch = "x86_64")]
fn multiply_adds(rounds: u64) -> f64 {
    use frit_cpu::isa::Level;
    match Isa::get().level() {
        // SAFETY: the Isa says that the machine has the instructions.
        Level::Avx512 => unsafe { multiply_adds_512(rounds) },
        // SAFETY: as above.
        Level::Avx2Fma => unsafe { multiply_adds_256(rounds) },
        Level::Portable => f64::NAN,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn multiply_adds(_rounds: u64) -> f64 {
    f64::NAN
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn multiply_adds_512(rounds: u64) -> f64 {
    use std::arch::asm;
    // SAFETY: only registers that are declared are written.
    unsafe {
        asm!(
            "vxorps {x}, {x}, {x}",
            "2:",
            "vfmadd231ps {a}, {x}, {x}", "vfmadd231ps {b}, {x}, {x}", "vfmadd231ps {c}, {x}, {x}",
            "vfmadd231ps {d}, {x}, {x}", "vfmadd231ps {e}, {x}, {x}", "vfmadd231ps {f}, {x}, {x}",
            "vfmadd231ps {g}, {x}, {x}", "vfmadd231ps {h}, {x}, {x}", "vfmadd231ps {i}, {x}, {x}",
            "vfmadd231ps {j}, {x}, {x}", "vfmadd231ps {k}, {x}, {x}", "vfmadd231ps {l}, {x}, {x}",
            "dec {n}", "jnz 2b",
            n = inout(reg) rounds => _,
            x = out(zmm_reg) _, a = out(zmm_reg) _, b = out(zmm_reg) _, c = out(zmm_reg) _, d = out(zmm_reg) _,
            e = out(zmm_reg) _, f = out(zmm_reg) _, g = out(zmm_reg) _, h = out(zmm_reg) _, i = out(zmm_reg) _,
            j = out(zmm_reg) _, k = out(zmm_reg) _, l = out(zmm_reg) _,
            options(nomem, nostack),
        );
    }
    (rounds * 12 * 32) as f64
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_adds_256(rounds: u64) -> f64 {
    use std::arch::asm;
    // SAFETY: only registers that are declared are written.
    unsafe {
        asm!(
            "vxorps {x}, {x}, {x}",
            "2:",
            "vfmadd231ps {a}, {x}, {x}", "vfmadd231ps {b}, {x}, {x}", "vfmadd231ps {c}, {x}, {x}",
            "vfmadd231ps {d}, {x}, {x}", "vfmadd231ps {e}, {x}, {x}", "vfmadd231ps {f}, {x}, {x}",
            "vfmadd231ps {g}, {x}, {x}", "vfmadd231ps {h}, {x}, {x}", "vfmadd231ps {i}, {x}, {x}",
            "vfmadd231ps {j}, {x}, {x}", "vfmadd231ps {k}, {x}, {x}", "vfmadd231ps {l}, {x}, {x}",
            "dec {n}", "jnz 2b",
            n = inout(reg) rounds => _,
            x = out(ymm_reg) _, a = out(ymm_reg) _, b = out(ymm_reg) _, c = out(ymm_reg) _, d = out(ymm_reg) _,
            e = out(ymm_reg) _, f = out(ymm_reg) _, g = out(ymm_reg) _, h = out(ymm_reg) _, i = out(ymm_reg) _,
            j = out(ymm_reg) _, k = out(ymm_reg) _, l = out(ymm_reg) _,
            options(nomem, nostack),
        );
    }
    (rounds * 12 * 16) as f64
}
