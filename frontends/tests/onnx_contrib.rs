//! Recurrent layers and operators of com.microsoft, imported from models built in code and run by the interpreter,
//! against plain loops in double precision. ONNX's own node tests cover ai.onnx; shapes and faults are in onnx_import.rs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::needless_range_loop)] // a test fails by panicking; sums as in their formulas

use frit_frontends::onnx::OnnxModel;
use frit_frontends::onnx::import::{ImportError, ImportRequest, Imported, import};
use frit_frontends::onnx::schema::build::{size, tensor_proto, tensor_type};
use frit_frontends::onnx::schema::{
    AttributeProto, AttributeType, DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    ValueInfoProto,
};
use frit_ir::random::Stream;
use frit_ir::{DType, Tensor, interp};
use prost::Message;

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i, ..AttributeProto::default() }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Float as i32, f, ..AttributeProto::default() }
}

fn text(name: &str, s: &str) -> AttributeProto {
    let s = s.as_bytes().to_vec().into();
    AttributeProto { name: name.into(), r#type: AttributeType::String as i32, s, ..AttributeProto::default() }
}

fn data_type(t: &Tensor) -> DataType {
    match t.dtype() {
        DType::F32 => DataType::Float,
        DType::I32 => DataType::Int32,
        DType::I64 => DataType::Int64,
        DType::U8 => DataType::Uint8,
        other => panic!("{other}"),
    }
}

fn extents(t: &Tensor) -> Vec<i64> {
    t.shape().iter().map(|&d| i64::try_from(d).unwrap()).collect()
}

/// One node of `op` over inputs and constants by name; an operand that is left out is `_`.
struct One<'a> {
    op: &'a str,
    operands: &'a str,
    inputs: &'a [(&'a str, &'a Tensor)],
    constants: &'a [(&'a str, &'a Tensor)],
    outputs: &'a str,
    attributes: Vec<AttributeProto>,
}

impl One<'_> {
    fn import(&self) -> Result<Imported, ImportError> {
        let words = |s: &str| -> Vec<String> {
            s.split(' ').map(|w| if w == "_" { String::new() } else { w.to_owned() }).collect()
        };
        let standard = matches!(self.op, "LSTM" | "MatMul");
        let node = NodeProto {
            op_type: self.op.into(),
            domain: if standard { String::new() } else { "com.microsoft".into() },
            input: words(self.operands),
            output: words(self.outputs),
            attribute: self.attributes.clone(),
            ..NodeProto::default()
        };
        let input = |(name, t): &(&str, &Tensor)| ValueInfoProto {
            name: (*name).into(),
            r#type: Some(tensor_type(data_type(t), Some(extents(t).into_iter().map(size).collect()))),
            ..ValueInfoProto::default()
        };
        let constant = |(name, t): &(&str, &Tensor)| tensor_proto(name, t);
        let graph = GraphProto {
            name: "g".into(),
            node: vec![node],
            input: self.inputs.iter().map(input).collect(),
            initializer: self.constants.iter().map(constant).collect(),
            output: words(self.outputs)
                .into_iter()
                .filter(|o| !o.is_empty())
                .map(|name| ValueInfoProto { name, ..ValueInfoProto::default() })
                .collect(),
            ..GraphProto::default()
        };
        let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
        let model = ModelProto {
            ir_version: 10,
            opset_import: vec![opset("", 17), opset("com.microsoft", 1)],
            graph: Some(graph),
            ..ModelProto::default()
        };
        import(&OnnxModel::from_bytes(model.encode_to_vec()).unwrap(), &ImportRequest::default())
    }

    /// The results, and the names of the imported graph's ops.
    fn run(&self) -> (Vec<Vec<f64>>, Vec<&'static str>) {
        let i = self.import().unwrap_or_else(|e| panic!("{e}"));
        frit_ir::verify::verify(&i.module).unwrap_or_else(|e| panic!("{e:?}"));
        let inputs: Vec<_> = self.inputs.iter().map(|(n, t)| ((*n).to_owned(), (*t).clone())).collect();
        let out = interp::run_module(&i.module, "forward", &inputs).unwrap_or_else(|e| panic!("{e}"));
        let ops = i.module.graphs[0].nodes().map(|(_, n)| n.op.name()).collect();
        (out.iter().map(|(_, t)| t.to_f64_vec()).collect(), ops)
    }
}

fn close(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= 1e-5 * (1.0 + w.abs()), "element {i}: {g}, expected {w}");
    }
}

fn random(s: &mut Stream, shape: &[usize]) -> (Tensor, Vec<f64>) {
    let t = s.tensor(DType::F32, shape).unwrap();
    let v = t.to_f64_vec();
    (t, v)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[test]
fn an_lstm_of_two_directions_runs_each_sequence_to_its_end() {
    let (steps, batch, width, hidden) = (4, 2, 3, 2);
    let mut s = Stream::new(1);
    let (x, xs) = random(&mut s, &[steps, batch, width]);
    let (w, ws) = random(&mut s, &[2, 4 * hidden, width]);
    let (r, rs) = random(&mut s, &[2, 4 * hidden, hidden]);
    let (b, bs) = random(&mut s, &[2, 8 * hidden]);
    let lens = [4usize, 2];
    let given = Tensor::from_slice(&[2], &[4i32, 2]).unwrap();
    let (got, _) = One {
        op: "LSTM",
        operands: "x w r b lens",
        inputs: &[("x", &x), ("lens", &given)],
        constants: &[("w", &w), ("r", &r), ("b", &b)],
        outputs: "y h c",
        attributes: vec![int("hidden_size", 2), text("direction", "bidirectional")],
    }
    .run();
    let mut y = vec![0.0; steps * 2 * batch * hidden];
    let (mut last, mut cells) = (vec![0.0; 2 * batch * hidden], vec![0.0; 2 * batch * hidden]);
    for d in 0..2 {
        for n in 0..batch {
            let (mut h, mut c) = (vec![0.0; hidden], vec![0.0; hidden]);
            for step in 0..lens[n] {
                let t = if d == 1 { lens[n] - 1 - step } else { step };
                let gate = |block: usize, j: usize| {
                    let row = block * hidden + j;
                    let wx: f64 = (0..width)
                        .map(|i| ws[(d * 4 * hidden + row) * width + i] * xs[(t * batch + n) * width + i])
                        .sum();
                    let rh: f64 = (0..hidden).map(|i| rs[(d * 4 * hidden + row) * hidden + i] * h[i]).sum();
                    wx + rh + bs[d * 8 * hidden + row] + bs[d * 8 * hidden + 4 * hidden + row]
                };
                let next: Vec<(f64, f64)> = (0..hidden)
                    .map(|j| {
                        let (i, o, f) = (sigmoid(gate(0, j)), sigmoid(gate(1, j)), sigmoid(gate(2, j)));
                        let cell = f * c[j] + i * gate(3, j).tanh();
                        (o * cell.tanh(), cell)
                    })
                    .collect();
                (h, c) = next.into_iter().unzip();
                for j in 0..hidden {
                    y[((t * 2 + d) * batch + n) * hidden + j] = h[j];
                }
            }
            let at = (d * batch + n) * hidden;
            last[at..at + hidden].copy_from_slice(&h);
            cells[at..at + hidden].copy_from_slice(&c);
        }
    }
    close(&got[0], &y);
    close(&got[1], &last);
    close(&got[2], &cells);
}

#[test]
fn a_norm_with_a_skip_gives_the_sum_too() {
    let mut s = Stream::new(2);
    let ((x, xs), (skip, ss)) = (random(&mut s, &[2, 3, 4]), random(&mut s, &[2, 3, 4]));
    let ((g, gs), (b, bs)) = (random(&mut s, &[4]), random(&mut s, &[4]));
    let (got, _) = One {
        op: "SkipLayerNormalization",
        operands: "x skip g b b",
        inputs: &[("x", &x), ("skip", &skip)],
        constants: &[("g", &g), ("b", &b)],
        outputs: "y _ _ sum",
        attributes: vec![float("epsilon", 0.25)],
    }
    .run();
    let sum: Vec<f64> = (0..24).map(|i| xs[i] + ss[i] + bs[i % 4]).collect();
    let norm = |row: &[f64]| {
        let mean = row.iter().sum::<f64>() / 4.0;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 4.0;
        let scale = 1.0 / (variance + 0.25).sqrt();
        (0..4).map(|i| (row[i] - mean) * scale * gs[i] + bs[i]).collect::<Vec<f64>>()
    };
    close(&got[0], &sum.chunks(4).flat_map(norm).collect::<Vec<f64>>());
    close(&got[1], &sum);
}

/// Attention of one query row over the keys that `seen` keeps.
fn attend(q: &[f64], keys: &[&[f64]], values: &[&[f64]], seen: impl Fn(usize) -> bool) -> Vec<f64> {
    let scale = 1.0 / (q.len() as f64).sqrt();
    let weights: Vec<f64> =
        keys.iter()
            .enumerate()
            .map(|(j, k)| {
                if seen(j) { (scale * q.iter().zip(*k).map(|(a, b)| a * b).sum::<f64>()).exp() } else { 0.0 }
            })
            .collect();
    let total: f64 = weights.iter().sum();
    (0..q.len()).map(|d| weights.iter().zip(values).map(|(w, v)| w * v[d]).sum::<f64>() / total).collect()
}

#[test]
fn masked_attention_of_several_heads_is_one_op() {
    let (batch, queries, keys, heads, size) = (2, 3, 4, 2, 5);
    let mut s = Stream::new(3);
    let (q, qs) = random(&mut s, &[batch, queries, heads * size]);
    let ((k, ks), (v, vs)) =
        (random(&mut s, &[batch, keys, heads * size]), random(&mut s, &[batch, keys, heads * size]));
    let (bias, bs) = random(&mut s, &[3 * heads * size]);
    let kept = [1i32, 1, 0, 1, 0, 1, 1, 0];
    let mask = Tensor::from_slice(&[batch, keys], &kept).unwrap();
    let (got, ops) = One {
        op: "MultiHeadAttention",
        operands: "q k v bias mask",
        inputs: &[("q", &q), ("k", &k), ("v", &v), ("mask", &mask)],
        constants: &[("bias", &bias)],
        outputs: "y",
        attributes: vec![int("num_heads", 2)],
    }
    .run();
    assert_eq!(ops.iter().filter(|o| **o == "Attention").count(), 1, "{ops:?}");
    assert!(!ops.contains(&"MatMul") && !ops.contains(&"Softmax"), "{ops:?}");
    let wide = heads * size;
    let shifted = |x: &[f64], part: usize| -> Vec<f64> {
        x.iter().enumerate().map(|(i, v)| v + bs[part * wide + i % wide]).collect()
    };
    let (qs, ks, vs) = (shifted(&qs, 0), shifted(&ks, 1), shifted(&vs, 2));
    let mut want = Vec::new();
    for b in 0..batch {
        for i in 0..queries {
            for h in 0..heads {
                let row = |x: &[f64], len: usize, j: usize| {
                    let at = (b * len + j) * wide + h * size;
                    x[at..at + size].to_vec()
                };
                let all = |x: &[f64]| (0..keys).map(|j| row(x, keys, j)).collect::<Vec<_>>();
                let (k, v) = (all(&ks), all(&vs));
                let (k, v): (Vec<&[f64]>, Vec<&[f64]>) =
                    (k.iter().map(Vec::as_slice).collect(), v.iter().map(Vec::as_slice).collect());
                want.extend(attend(&row(&qs, queries, i), &k, &v, |j| kept[b * keys + j] == 1));
            }
        }
    }
    close(&got[0], &want);
}

#[test]
fn caches_of_unequal_length_grow_where_each_ends() {
    // Two sequences of 1 and 3 keys in caches of 3, one new key each; heads of keys serve two of queries.
    let (batch, kv_heads, repeat, size, capacity) = (2, 2, 2, 4, 3);
    let old = [1usize, 3];
    let mut s = Stream::new(4);
    let (q, qs) = random(&mut s, &[batch, 1, kv_heads * repeat * size]);
    let ((k, ks), (v, vs)) =
        (random(&mut s, &[batch, 1, kv_heads * size]), random(&mut s, &[batch, 1, kv_heads * size]));
    let ((pk, pks), (pv, pvs)) = (
        random(&mut s, &[batch, kv_heads, capacity, size]),
        random(&mut s, &[batch, kv_heads, capacity, size]),
    );
    let last = Tensor::from_slice(&[2], &[1i32, 3]).unwrap();
    let total = Tensor::from_slice(&[], &[4i32]).unwrap();
    let (got, _) = One {
        op: "GroupQueryAttention",
        operands: "q k v pk pv last total",
        inputs: &[
            ("q", &q),
            ("k", &k),
            ("v", &v),
            ("pk", &pk),
            ("pv", &pv),
            ("last", &last),
            ("total", &total),
        ],
        constants: &[],
        outputs: "y keys values",
        attributes: vec![int("num_heads", 4), int("kv_num_heads", 2)],
    }
    .run();
    let (mut keys, mut want) = (Vec::new(), Vec::new());
    for b in 0..batch {
        for h in 0..kv_heads {
            let rows = |past: &[f64], now: &[f64]| -> Vec<Vec<f64>> {
                let of = |j: usize| ((b * kv_heads + h) * capacity + j) * size;
                let mut all: Vec<Vec<f64>> =
                    (0..old[b]).map(|j| past[of(j)..of(j) + size].to_vec()).collect();
                let at = (b * kv_heads + h) * size;
                all.push(now[at..at + size].to_vec());
                all
            };
            let (k, v) = (rows(&pks, &ks), rows(&pvs, &vs));
            let (kr, vr): (Vec<&[f64]>, Vec<&[f64]>) =
                (k.iter().map(Vec::as_slice).collect(), v.iter().map(Vec::as_slice).collect());
            for g in 0..repeat {
                let at = ((b * kv_heads + h) * repeat + g) * size;
                want.extend(attend(&qs[at..at + size], &kr, &vr, |_| true));
            }
            let mut cache: Vec<f64> = k.concat();
            cache.resize((capacity + 1) * size, 0.0);
            keys.extend(cache);
        }
    }
    close(&got[0], &want);
    close(&got[1], &keys);
}

#[test]
fn weights_of_four_bits_are_unpacked() {
    // 20 inputs in blocks of 16, so that the second is cut; 3 outputs.
    let (depth, columns, blocks) = (20, 3, 2);
    let mut s = Stream::new(5);
    let (a, xs) = random(&mut s, &[2, depth]);
    let (scales, ss) = random(&mut s, &[columns * blocks]);
    let bytes: Vec<u8> = (0..columns * blocks * 8).map(|i| (i * 37 % 251) as u8).collect();
    let zeros: Vec<u8> = vec![0x52, 0x08, 0xf1];
    let w = Tensor::from_slice(&[columns, blocks, 8], &bytes).unwrap();
    let z = Tensor::from_slice(&[3], &zeros).unwrap();
    let one = |operands| {
        One {
            op: "MatMulNBits",
            operands,
            inputs: &[("a", &a)],
            constants: &[("w", &w), ("scales", &scales), ("z", &z)],
            outputs: "y",
            attributes: vec![int("K", 20), int("N", 3), int("bits", 4), int("block_size", 16)],
        }
        .run()
    };
    let want = |zero: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
        let weight = |k: usize, n: usize| {
            let byte = bytes[n * 16 + k / 2];
            let number = if k.is_multiple_of(2) { byte & 15 } else { byte >> 4 };
            (f64::from(number) - zero(n, k / 16)) * ss[n * blocks + k / 16]
        };
        (0..2 * columns)
            .map(|i| (0..depth).map(|k| xs[i / columns * depth + k] * weight(k, i % columns)).sum())
            .collect()
    };
    close(&one("a w scales").0[0], &want(&|_, _| 8.0));
    let packed = |n: usize, b: usize| f64::from((zeros[n] >> (4 * b)) & 15);
    close(&one("a w scales z").0[0], &want(&packed));
}

#[test]
fn sums_of_quantised_numbers_are_rounded_and_cut() {
    let a = Tensor::from_slice(&[4], &[0u8, 10, 200, 255]).unwrap();
    let number = |v: f32| Tensor::from_slice(&[], &[v]).unwrap();
    let (half, quarter, zero) = (number(0.5), number(0.25), Tensor::from_slice(&[], &[10u8]).unwrap());
    let (got, _) = One {
        op: "QLinearAdd",
        operands: "a half z a quarter z half z",
        inputs: &[("a", &a)],
        constants: &[("half", &half), ("quarter", &quarter), ("z", &zero)],
        outputs: "y",
        attributes: vec![],
    }
    .run();
    // (a - 10) 0.75 / 0.5 + 10, halves to even, at least 0 and at most 255.
    assert_eq!(got[0], [0.0, 10.0, 255.0, 255.0]);
    let (zero, four) = (Tensor::from_slice(&[], &[0u8]).unwrap(), number(4.0));
    let (got, _) = One {
        op: "QLinearMul",
        operands: "a half _ a half _ four z",
        inputs: &[("a", &a)],
        constants: &[("half", &half), ("four", &four), ("z", &zero)],
        outputs: "y",
        attributes: vec![],
    }
    .run();
    // a a / 16, of which 6.25 is 6.
    assert_eq!(got[0], [0.0, 6.0, 255.0, 255.0]);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let x = Tensor::from_slice(&[2, 16], &[0f32; 32]).unwrap();
    let w = Tensor::from_slice(&[3, 1, 8], &[0u8; 24]).unwrap();
    let (scales, order) =
        (Tensor::from_slice(&[3], &[1f32; 3]).unwrap(), Tensor::from_slice(&[16], &[0i32; 16]).unwrap());
    let refusal = |operands, block| {
        One {
            op: "MatMulNBits",
            operands,
            inputs: &[("a", &x)],
            constants: &[("w", &w), ("scales", &scales), ("order", &order)],
            outputs: "y",
            attributes: vec![int("K", 16), int("N", 3), int("block_size", block)],
        }
        .import()
        .map(|i| i.module.to_string())
        .unwrap_err()
        .to_string()
    };
    assert!(refusal("a w scales _ order", 16).contains("g_idx"));
    assert!(refusal("a w scales", 24).contains("blocks of 24"));
    assert!(refusal("a w scales", 1 << 40).contains("expected"));
}

#[test]
fn products_of_constants_that_take_long_are_left_to_run_time() {
    let product = |n: usize| {
        let a = Tensor::zeros(DType::F32, &[n, n]).unwrap();
        let constants = [("a", &a)];
        let one = One {
            op: "MatMul",
            operands: "a a",
            inputs: &[],
            constants: &constants,
            outputs: "y",
            attributes: vec![],
        };
        one.import().unwrap().module.graphs[0].nodes().count()
    };
    let start = std::time::Instant::now();
    assert_eq!((product(8), product(550)), (0, 1));
    assert!(start.elapsed().as_secs() < 10);
}
