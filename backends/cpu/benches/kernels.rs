//! Times of the kernels other than products: attention, norms, softmax, GELU. Products are in `gemm`.
#![allow(missing_docs)] // criterion's macros make undocumented items

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use frit_cpu::attention::{Attention, Causal, Extents, Strides, attention};
use frit_cpu::elementwise::{Chain, ChainInput, ChainOutput, Data, Unary};
use frit_cpu::gemm::Activation;
use frit_cpu::isa::Isa;
use frit_cpu::norm::{GroupNorm, LayerNorm, Softmax, group_norm, layer_norm, softmax};
use frit_cpu::{Source, layout};
use std::hint::black_box;

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 2_654_435_761) % 1000) as f32 / 250.0 - 2.0).collect()
}

/// Twelve heads of 64, as BERT-base and GPT-2 have them, on [batch, sequence, heads * dim] operands.
fn attentions(c: &mut Criterion) {
    let isa = Isa::get();
    let (heads, dim) = (12, 64);
    let mut group = c.benchmark_group("attention 12 x 64");
    for (queries, keys, causal) in
        [(128, 128, false), (512, 512, false), (197, 197, false), (512, 512, true), (1, 512, false)]
    {
        let extents = Extents { batch: 1, heads, kv_heads: heads, queries, keys, dim, value_dim: dim };
        let (q, k, v) =
            (numbers(queries * heads * dim), numbers(keys * heads * dim), numbers(keys * heads * dim));
        let (rows, cache) = (Strides::rows_first(heads, queries, dim), Strides::rows_first(heads, keys, dim));
        let mut y = vec![0.0; q.len()];
        let p = Attention {
            extents,
            scale: 0.125,
            q: (&q, rows),
            k: (&k, cache),
            v: (&v, cache),
            biases: [None, None],
            causal: causal.then_some(Causal { offset: keys as isize - queries as isize, hidden: f32::MIN }),
        };
        group.throughput(Throughput::Elements((4 * heads * queries * keys * dim) as u64));
        let name = format!("{queries} over {keys}{}", if causal { ", causal" } else { "" });
        group.bench_function(name, |b| b.iter(|| attention(isa, black_box(&p), &mut y, rows).is_ok()));
    }
    group.finish();
}

fn norms(c: &mut Criterion) {
    let isa = Isa::get();
    let (rows, width) = (128, 768);
    let (x, scale, bias) = (numbers(rows * width), numbers(width), numbers(width));
    let mut y = vec![0.0; rows * width];
    let mut group = c.benchmark_group("rows");
    group.throughput(Throughput::Bytes((2 * 4 * rows * width) as u64));
    let p = LayerNorm {
        rows,
        width,
        epsilon: 1e-5,
        rms: false,
        scale: Some(&scale),
        bias: Some(&bias),
        residual: None,
    };
    group.bench_function("layer norm 128 x 768", |b| {
        b.iter(|| layer_norm(isa, black_box(&p), Source::Slice(&x), &mut y, None).is_ok())
    });
    let p = LayerNorm { residual: Some(&x), ..p };
    group.bench_function("layer norm with residual 128 x 768", |b| {
        b.iter(|| layer_norm(isa, black_box(&p), Source::Slice(&x), &mut y, None).is_ok())
    });
    let p = Softmax { outer: rows, axis: width, inner: 1, log: false };
    group.bench_function("softmax 128 x 768", |b| {
        b.iter(|| softmax(isa, black_box(p), Source::Slice(&x), &mut y).is_ok())
    });
    let (channels, inner) = (512, 4096);
    let x = numbers(channels * inner);
    let mut y = vec![0.0; channels * inner];
    let p = GroupNorm {
        batch: 1,
        channels,
        inner,
        groups: channels,
        epsilon: 1e-5,
        scale: None,
        bias: None,
        activation: Activation::None,
    };
    group.throughput(Throughput::Bytes((2 * 4 * channels * inner) as u64));
    group.bench_function("group norm 512 x 4096", |b| {
        b.iter(|| group_norm(isa, black_box(&p), Source::Slice(&x), &mut y).is_ok())
    });
    group.finish();
}

fn functions(c: &mut Criterion) {
    let isa = Isa::get();
    let shape = [128, 3072];
    let x = numbers(shape[0] * shape[1]);
    let mut y = vec![0.0; x.len()];
    let mut group = c.benchmark_group("elementwise 128 x 3072");
    group.throughput(Throughput::Elements(x.len() as u64));
    for f in [Unary::Relu, Unary::Exp, Unary::Tanh, Unary::Erf, Unary::GeluErf, Unary::GeluTanh, Unary::Silu]
    {
        let chain = Chain::unary(f);
        group.bench_function(BenchmarkId::from_parameter(format!("{f:?}")), |b| {
            b.iter(|| {
                let input = ChainInput { data: Data::F32(&x), shape: &shape };
                chain.run(isa, black_box(&[input]), ChainOutput::F32(&mut y), &shape).is_ok()
            })
        });
    }
    group.bench_function("transpose", |b| {
        let (from, to) =
            (layout::Placement { offset: 0, strides: vec![1, 3072] }, layout::Placement::dense(&[3072, 128]));
        b.iter(|| {
            let out = bytemuck::cast_slice_mut(&mut y);
            layout::copy(isa, 4, &[3072, 128], bytemuck::cast_slice(black_box(&x)), &from, out, &to).is_ok()
        })
    });
    group.finish();
}

criterion_group!(benches, attentions, norms, functions);
criterion_main!(benches);
