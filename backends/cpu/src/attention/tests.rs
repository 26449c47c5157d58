//! Attention against naive loops in f64: odd sizes, masks, caches, grouped heads, every instruction set.

use super::*;
use crate::testing::{Rng, assert_close, everywhere};

/// softmax(where(causal, scale q k + biases, hidden)) v, element by element.
fn naive(p: &Attention<'_>) -> Vec<f64> {
    let e = p.extents;
    let mut out = Vec::new();
    for b in 0..e.batch {
        for h in 0..e.heads {
            let g = h / (e.heads / e.kv_heads);
            for i in 0..e.queries {
                let scores: Vec<f32> = (0..e.keys)
                    .map(|j| {
                        let dot: f64 = (0..e.dim)
                            .map(|d| {
                                let q = p.q.0[b * p.q.1.batch + h * p.q.1.head + i * p.q.1.row + d];
                                let k = p.k.0[b * p.k.1.batch + g * p.k.1.head + j * p.k.1.row + d];
                                f64::from(q) * f64::from(k)
                            })
                            .sum();
                        // In f32 from here, as the arithmetic with the most negative number depends on it.
                        let mut s = (dot * f64::from(p.scale)) as f32;
                        for bias in p.biases.iter().flatten() {
                            let [sb, sh, sq, sk] = bias.strides;
                            s += bias.data[b * sb + h * sh + i * sq + j * sk];
                        }
                        if let Some(c) = p.causal {
                            s = if j as isize <= i as isize + c.offset { s } else { c.hidden };
                        }
                        s
                    })
                    .collect();
                let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let w: Vec<f64> = scores.iter().map(|&s| f64::from(s - max).exp()).collect();
                let sum: f64 = w.iter().sum();
                for d in 0..e.value_dim {
                    let v = |j: usize| f64::from(p.v.0[b * p.v.1.batch + g * p.v.1.head + j * p.v.1.row + d]);
                    out.push((0..e.keys).map(|j| w[j] * v(j)).sum::<f64>() / sum);
                }
            }
        }
    }
    out
}

/// Runs into [batch, queries, heads, dim] memory and reorders to the naive result's order.
fn run(isa: Isa, pairs: bool, p: &Attention<'_>) -> Vec<f32> {
    let e = p.extents;
    let strides = Strides::rows_first(e.heads, e.queries, e.value_dim);
    let mut y = vec![f32::NAN; e.batch * e.heads * e.queries * e.value_dim];
    compute(isa, pairs, p, &mut y, strides).unwrap();
    let mut out = Vec::new();
    for b in 0..e.batch {
        for h in 0..e.heads {
            for i in 0..e.queries {
                let at = b * strides.batch + h * strides.head + i * strides.row;
                out.extend_from_slice(&y[at..at + e.value_dim]);
            }
        }
    }
    out
}

fn check(name: &str, p: &Attention<'_>) {
    let want = naive(p);
    everywhere(
        |isa| run(isa, false, p),
        |isa, y| assert_close(&format!("{isa:?} {name} {:?}", p.extents), y, &want, 1e-5),
    );
    check_bf16(name, p, &want);
}

/// In bf16: the attention of rounded operands, but for the rounding of its weights, of 1 in 512 at most each.
fn check_bf16(name: &str, p: &Attention<'_>, exact: &[f64]) {
    let round = |x: &f32| half::bf16::from_f32(*x).to_f32();
    let q: Vec<f32> = p.q.0.iter().map(|x| round(&(x * p.scale))).collect();
    let (k, v): (Vec<f32>, Vec<f32>) = (p.k.0.iter().map(round).collect(), p.v.0.iter().map(round).collect());
    let rounded = Attention { scale: 1.0, q: (&q, p.q.1), k: (&k, p.k.1), v: (&v, p.v.1), ..*p };
    let want = naive(&rounded);
    let largest = v.iter().fold(0f32, |m, x| m.max(x.abs()));
    let few = p.extents.queries * (p.extents.heads / p.extents.kv_heads) <= FEW_ROWS;
    everywhere(
        |isa| run(isa, true, p),
        |isa, y| {
            let name = format!("bf16 {isa:?} {name} {:?}", p.extents);
            if few || !isa.has_bf16_dot() {
                return assert_close(&name, y, exact, 1e-5);
            }
            for (i, (&y, &want)) in y.iter().zip(&want).enumerate() {
                let close = (f64::from(y) - want).abs() <= f64::from(largest) / 512.0 + 1e-5;
                assert!(
                    close || (y.is_nan() && want.is_nan()),
                    "{name}: element {i} is {y}, expected {want}"
                );
            }
        },
    );
}

fn plain<'a>(e: Extents, q: &'a [f32], k: &'a [f32], v: &'a [f32]) -> Attention<'a> {
    Attention {
        extents: e,
        scale: 1.0 / (e.dim as f32).sqrt(),
        q: (q, Strides::heads_first(e.heads, e.queries, e.dim)),
        k: (k, Strides::heads_first(e.kv_heads, e.keys, e.dim)),
        v: (v, Strides::heads_first(e.kv_heads, e.keys, e.value_dim)),
        biases: [None, None],
        causal: None,
    }
}

fn operands(rng: &mut Rng, e: &Extents) -> [Vec<f32>; 3] {
    [
        rng.vec(e.batch * e.heads * e.queries * e.dim),
        rng.vec(e.batch * e.kv_heads * e.keys * e.dim),
        rng.vec(e.batch * e.kv_heads * e.keys * e.value_dim),
    ]
}

fn extents(
    heads: usize,
    kv_heads: usize,
    queries: usize,
    keys: usize,
    dim: usize,
    value_dim: usize,
) -> Extents {
    Extents { batch: 2, heads, kv_heads, queries, keys, dim, value_dim }
}

#[test]
fn shapes_of_every_kind() {
    let mut rng = Rng::new(5);
    for e in [
        extents(2, 2, 16, 16, 64, 64),
        extents(3, 3, 128, 128, 64, 64),
        extents(1, 1, 197, 197, 32, 32),
        extents(2, 1, 7, 13, 8, 24),
        extents(4, 2, 9, 130, 80, 80),
        extents(2, 2, 5, 300, 96, 40),
        extents(1, 1, 1100, 70, 16, 16),
        extents(7, 7, 525, 40, 24, 40),
        extents(1, 1, 33, 65, 128, 128),
        extents(1, 1, 6, 70, 256, 256),
        extents(2, 2, 10, 1, 17, 3),
        extents(1, 1, 8, 9, 1, 1),
        extents(2, 2, 1, 600, 64, 64),
        extents(2, 2, 3, 257, 64, 80),
        extents(4, 1, 1, 100, 128, 128),
        extents(2, 2, 2, 31, 5, 7),
        extents(8, 2, 1, 12, 16, 16),
    ] {
        let [q, k, v] = operands(&mut rng, &e);
        check("plain", &plain(e, &q, &k, &v));
    }
}

#[test]
fn biases_broadcast() {
    let mut rng = Rng::new(6);
    for e in [extents(3, 3, 21, 37, 16, 16), extents(2, 2, 2, 300, 32, 32)] {
        let [q, k, v] = operands(&mut rng, &e);
        let full = rng.vec(e.batch * e.heads * e.queries * e.keys);
        let padding: Vec<f32> =
            (0..e.batch * e.keys).map(|i| if i % 3 == 0 { f32::MIN } else { 0.0 }).collect();
        let (s, h) = (e.keys, e.queries * e.keys);
        for strides in
            [[e.heads * h, h, s, 1], [0, h, s, 1], [0, 0, s, 1], [0, 0, 0, 1], [h, 0, s, 0], [1, 1, 1, 0]]
        {
            let mut p = plain(e, &q, &k, &v);
            p.biases = [
                Some(Bias { data: &full, strides }),
                Some(Bias { data: &padding, strides: [e.keys, 0, 0, 1] }),
            ];
            check("biased", &p);
        }
    }
}

#[test]
fn causal_with_cache_and_both_kinds_of_hiding() {
    let mut rng = Rng::new(7);
    for (queries, past) in
        [(40, 0), (200, 0), (9, 150), (1, 77), (3, 300), (130, 5), (100, -40), (300, -9), (3, -2), (2, 0)]
    {
        for hidden in [f32::NEG_INFINITY, f32::MIN] {
            let keys = (queries as isize + past) as usize;
            let e = extents(2, 2, queries, keys, 32, 32);
            let q = rng.vec(e.batch * e.heads * queries * 32);
            // A cache with room for more: heads are `capacity` rows apart, the rest is poison.
            let capacity = keys + 19;
            let mut cache = || {
                let mut c = vec![f32::NAN; 2 * 2 * capacity * 32];
                for head in c.chunks_mut(capacity * 32) {
                    head[..keys * 32].iter_mut().for_each(|x| *x = rng.number());
                }
                c
            };
            let (k, v) = (cache(), cache());
            let strides = Strides::heads_first(2, capacity, 32);
            let mut p = plain(e, &q, &k, &v);
            p.k.1 = strides;
            p.v.1 = strides;
            p.causal = Some(Causal { offset: past, hidden });
            check("causal", &p);
        }
    }
}

#[test]
fn a_masked_prefix_under_a_finite_causal_mask_follows_the_arithmetic() {
    // Left padding: the first rows see only masked keys, so that hidden and masked scores tie.
    let mut rng = Rng::new(8);
    for queries in [3, 150] {
        let e = extents(1, 1, queries, queries, 16, 16);
        let [q, k, v] = operands(&mut rng, &e);
        let padding: Vec<f32> =
            (0..2 * queries).map(|i| if i % queries < queries / 2 { f32::MIN } else { 0.0 }).collect();
        let mut p = plain(e, &q, &k, &v);
        p.causal = Some(Causal { offset: 0, hidden: f32::MIN });
        p.biases[0] = Some(Bias { data: &padding, strides: [queries, 0, 0, 1] });
        check("left padding", &p);
        // Everything masked with a finite number: a uniform mean.
        let all = vec![f32::MIN; queries];
        p.causal = None;
        p.biases[0] = Some(Bias { data: &all, strides: [0, 0, 0, 1] });
        check("all masked", &p);
    }
}

#[test]
fn merged_projections_are_read_in_place() {
    let mut rng = Rng::new(9);
    let e = Extents { batch: 2, heads: 3, kv_heads: 3, queries: 19, keys: 19, dim: 16, value_dim: 16 };
    // [batch, sequence, 3 (q, k, v), heads, dim]
    let width = 3 * e.heads * e.dim;
    let qkv = rng.vec(e.batch * e.queries * width);
    let strides = Strides { batch: e.queries * width, head: e.dim, row: width };
    let mut p = plain(e, &qkv, &qkv[e.heads * e.dim..], &qkv[2 * e.heads * e.dim..]);
    (p.q.1, p.k.1, p.v.1) = (strides, strides, strides);
    check("merged", &p);
}

#[test]
fn minus_infinity_everywhere_is_nan_and_elsewhere_is_not_seen() {
    let mut rng = Rng::new(10);
    for queries in [2, 12] {
        let e = extents(1, 1, queries, 300, 16, 16);
        let [q, k, v] = operands(&mut rng, &e);
        let mut mask = vec![0.0; queries * 300];
        mask[..300].fill(f32::NEG_INFINITY);
        mask[300..560].fill(f32::NEG_INFINITY);
        let mut p = plain(e, &q, &k, &v);
        p.biases[0] = Some(Bias { data: &mask, strides: [0, 0, 300, 1] });
        let want = naive(&p);
        for isa in Isa::available() {
            let y = run(isa, false, &p);
            assert!(y[..16].iter().all(|x| x.is_nan()));
            assert_close("rest", &y[16..queries * 16], &want[16..queries * 16], 1e-5);
        }
    }
}

#[test]
fn short_operands_are_refused() {
    let e = extents(1, 1, 6, 6, 8, 8);
    let x = vec![0.0; 96];
    let mut y = vec![0.0; 96];
    let strides = Strides::heads_first(1, 6, 8);
    assert!(attention(Isa::get(), &plain(e, &x, &x, &x), &mut y, strides).is_ok());
    assert!(attention(Isa::get(), &plain(e, &x[1..], &x, &x), &mut y, strides).is_err());
    assert!(attention(Isa::get(), &plain(e, &x, &x[1..], &x), &mut y, strides).is_err());
    assert!(attention(Isa::get(), &plain(e, &x, &x, &x[1..]), &mut y, strides).is_err());
    assert!(attention(Isa::get(), &plain(e, &x, &x, &x), &mut y[1..], strides).is_err());
    let mut p = plain(e, &x, &x, &x);
    p.biases[1] = Some(Bias { data: &x[..5], strides: [0, 0, 0, 1] });
    assert!(attention(Isa::get(), &p, &mut y, strides).is_err());
}
