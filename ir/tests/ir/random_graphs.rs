//! Random graphs: they verify, print and parse back to themselves, run the same after that, and a composite op
//! runs as its expansion does. Damaged texts are refused without a panic.

use frit_ir::op::*;
use frit_ir::random::{Stream, fill_weights};
use frit_ir::text::parse;
use frit_ir::verify::verify;
use frit_ir::{DType, Dim, Graph, GraphBuilder, Module, Tensor, TensorType, ValueId, interp};

/// A random node on random values of shape [batch, sequence, 8], giving values of that shape.
fn random_node(b: &mut GraphBuilder<'_>, values: &mut Vec<ValueId>, r: &mut Stream) {
    let x = values[r.below(values.len())];
    let y = values[r.below(values.len())];
    let shape = b.shape(x).unwrap();
    let (n, s, d) = (shape[0].clone(), shape[1].clone(), Dim::constant(8));
    let mut weight = |b: &mut GraphBuilder<'_>, shape: &[usize]| {
        let name = format!("layer {}.w", r.below(4));
        let id = b.weights.declare(&name, TensorType::new(DType::F32, shape.iter().copied()));
        b.weight(id).unwrap()
    };
    let pick = Stream::new(u64::from(x.0) << 32 | u64::from(y.0) ^ values.len() as u64).below(18);
    let out = match pick {
        0 => {
            let f = [UnaryFn::Tanh, UnaryFn::Relu, UnaryFn::Erf, UnaryFn::Abs][values.len() % 4];
            b.unary(f, x)
        }
        1 => b.add(x, y),
        2 => b.mul_scalar(x, 0.3 * values.len() as f64),
        3 => {
            let w = weight(b, &[8, 8]);
            b.matmul(x, w)
        }
        4 => {
            let (scale, bias) = (weight(b, &[8]), weight(b, &[8]));
            b.op(LayerNormalization { axis: -1, epsilon: 1e-12 }, &[x, scale, bias])
        }
        5 => {
            b.op(Attention { q_heads: 4, kv_heads: 2, scale: 0.5, causal: true }, &[x, y, x]).or_else(|_| {
                b.op(
                    Attention { q_heads: 4, kv_heads: 4, scale: 0.5, causal: values.len().is_multiple_of(2) },
                    &[x, y, x],
                )
            })
        }
        6 => b.softmax(x, -1),
        7 => {
            let joined = b.concat(&[x, y], 1).unwrap();
            b.slice_axis(joined, 1, &s, &s.mul_const(2).unwrap())
        }
        8 => {
            let parts = b.split(x, -1, &[Dim::constant(2), Dim::constant(6)]).unwrap();
            b.concat(&[parts[1], parts[0]], -1)
        }
        9 => {
            let flat = b.reshape(x, &[n.mul(&s).unwrap(), d.clone()]).unwrap();
            let act = b.op(Gelu { approximate: GeluForm::None }, &[flat]).unwrap();
            b.reshape(act, &[n, s, d])
        }
        10 => {
            let t = b.transpose(x, &[0, 2, 1]).unwrap();
            let w = weight(b, &[8, 4, 3]);
            let conv = Conv { pads: vec![1, 1], group: 2, ..Conv::plain(1) };
            let c = b
                .op_opt(FusedConv::new(&conv, Activation::Silu), &[Some(t), Some(w), None, Some(t)])
                .unwrap();
            b.transpose(c, &[0, 2, 1])
        }
        11 => {
            let mean = b.reduce_mean(x, &[1, -1], true).unwrap();
            let wide = b.expand(mean, &[n, s, d]).unwrap();
            b.sub(x, wide)
        }
        12 => {
            let positions = b.iota(&s, DType::I64).unwrap();
            let table = weight(b, &[64, 8]);
            let rows = b.gather(table, positions, 0).unwrap();
            b.add(x, rows)
        }
        13 => {
            let (scale, bias) = (weight(b, &[8]), weight(b, &[8]));
            let skip = SkipLayerNormalization { epsilon: 1e-5 };
            let both = b.ops(skip, &[Some(x), Some(y), Some(scale), Some(bias)]).unwrap();
            values.push(both[1]);
            Ok(both[0])
        }
        14 => {
            let (w, bias) = (weight(b, &[8, 8]), weight(b, &[8]));
            let op = FusedMatMul { trans_b: true, activation: Activation::QuickGelu, ..FusedMatMul::plain() };
            b.op(op, &[x, w, bias, y])
        }
        15 => {
            let pad = Pad {
                before: vec![Dim::constant(0), Dim::constant(1), Dim::constant(0)],
                after: vec![Dim::constant(0), s.clone(), Dim::constant(0)],
                mode: PadMode::Constant,
                value: -0.5,
            };
            let padded = b.op(pad, &[x]).unwrap();
            b.slice_axis(padded, 1, &Dim::constant(1), &s.add_const(1).unwrap())
        }
        16 => {
            let step = |op: Op, operands: &[usize]| ChainStep { op, operands: operands.to_vec() };
            let steps = vec![
                step(Clip { min: Some(-1.5), max: None }.into(), &[0]),
                step(Binary { function: BinaryFn::Less }.into(), &[2, 1]),
                step(Where {}.into(), &[3, 2, 0]),
                step(Gelu { approximate: GeluForm::Tanh }.into(), &[4]),
            ];
            b.op(Chain { steps }, &[x, y])
        }
        _ => {
            let zero = b.scalar(DType::F32, 0.0).unwrap();
            let positive = b.binary(BinaryFn::Greater, x, zero).unwrap();
            b.where_(positive, x, y)
        }
    };
    values.push(out.unwrap());
}

fn random_module(seed: u64) -> Module {
    let mut r = Stream::new(seed);
    let mut m = Module::default();
    let mut g = Graph::new("forward");
    let mut b = GraphBuilder::new(&mut g, &mut m.weights);
    let ty = TensorType::new(DType::F32, [Dim::symbol("batch"), Dim::symbol("sequence"), Dim::constant(8)]);
    let mut values = vec![b.input("x", ty.clone(), None), b.input("y z", ty, None)];
    for layer in 0..2 + r.below(12) {
        b.scoped(&format!("layer.{layer}"), |b| random_node(b, &mut values, &mut r));
    }
    b.output("last", values[values.len() - 1]);
    b.output("hidden_states.0", values[r.below(values.len())]);
    m.graphs.push(g.compacted().unwrap());
    m
}

fn inputs(seed: u64) -> Vec<(String, Tensor)> {
    let mut r = Stream::new(seed);
    let shape = [1 + r.below(2), 1 + r.below(4), 8];
    let mut one = |name: &str| (name.to_owned(), r.tensor(DType::F32, &shape).unwrap());
    vec![one("x"), one("y z")]
}

#[test]
fn random_graphs_print_parse_verify_and_run() {
    for seed in 0..150 {
        let m = random_module(seed);
        let text = m.to_string();
        let mut back = parse(&text).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{text}"));
        assert_eq!(back.graphs, m.graphs, "seed {seed}\n{text}");
        assert_eq!(back.to_string(), text);
        verify(&back).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{text}"));
        fill_weights(&mut back, seed).unwrap();
        let first = interp::run(&back.graphs[0], &back.weights, &inputs(seed)).unwrap();
        let expanded = expand(&back);
        verify(&expanded).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{expanded}"));
        let second = interp::run(&expanded.graphs[0], &expanded.weights, &inputs(seed)).unwrap();
        for ((name, a), (_, b)) in first.iter().zip(&second) {
            assert_eq!(a.shape(), b.shape());
            let scale = a.to_f64_vec().iter().fold(1.0f64, |m, x| m.max(x.abs()));
            for (a, b) in a.to_f64_vec().iter().zip(b.to_f64_vec()) {
                assert!((a - b).abs() <= 1e-6 * scale, "seed {seed} {name}: {a} and {b}\n{text}");
            }
        }
    }
}

/// The module with every composite op of its graph expanded, over symbols.
fn expand(m: &Module) -> Module {
    let mut out = Module { weights: m.weights.clone(), ..Module::default() };
    let from = &m.graphs[0];
    let mut g = Graph::new(&from.name);
    let mut b = GraphBuilder::new(&mut g, &mut out.weights);
    let mut map = std::collections::HashMap::new();
    for i in &from.inputs {
        map.insert(i.value, b.input(&i.name, from.ty(i.value).unwrap().clone(), i.default));
    }
    for (w, v) in from.weights() {
        map.insert(v, b.weight(w).unwrap());
    }
    for (_, node) in from.nodes() {
        let operands: Vec<Option<ValueId>> = node.inputs.iter().map(|v| v.map(|v| map[&v])).collect();
        let results = if node.op.is_composite() {
            node.op.decompose(&mut b, &operands).unwrap()
        } else {
            b.ops(node.op.clone(), &operands).unwrap()
        };
        map.extend(node.outputs.iter().copied().zip(results));
    }
    for o in &from.outputs {
        b.output(&o.name, map[&o.value]);
    }
    out.graphs.push(g);
    out
}

#[test]
fn damaged_texts_never_panic() {
    let mut r = Stream::new(1);
    let pieces = [
        "%",
        "@",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "-",
        "9",
        "99999999999",
        "f32",
        "axis",
        "max(",
        "/ 0",
        "\n",
        "_",
        "é",
        "0x",
        "1e",
    ];
    let mut refused = 0;
    for seed in 0..30 {
        let text = random_module(seed).to_string();
        for _ in 0..60 {
            let mut damaged: Vec<char> = text.chars().collect();
            for _ in 0..1 + r.below(3) {
                let at = r.below(damaged.len());
                match r.below(3) {
                    0 => drop(damaged.drain(at..(at + 1 + r.below(4)).min(damaged.len()))),
                    1 => drop(damaged.splice(at..at, pieces[r.below(pieces.len())].chars())),
                    _ => damaged.swap(at, 0),
                }
            }
            let damaged: String = damaged.into_iter().collect();
            match parse(&damaged) {
                Ok(m) => assert_eq!(parse(&m.to_string()).unwrap(), m),
                Err(e) => {
                    refused += 1;
                    assert!(e.line >= 1 && e.column >= 1);
                }
            }
        }
    }
    assert!(refused > 1000, "{refused}");
}
