//! Random small graphs compute the same before and after all passes. Rules one by one are proven in `rules.rs`.

#![allow(clippy::unwrap_used, clippy::panic)] // a test may panic

use frit_ir::op::{
    BinaryFn, Cast, Concat, Expand, Gelu, GeluForm, LayerNormalization, Reduce, ReduceFn, Slice, Softmax,
    Split, UnaryFn, Where,
};
use frit_ir::random::Stream;
use frit_ir::{Bindings, DType, Dim, Graph, GraphBuilder, Module, Tensor, TensorType, ValueId, interp, text};
use frit_passes::{Options, optimise};

/// How many; the variable FRIT_GRAPHS asks for more.
const GRAPHS: u64 = 600;

/// The first extent of the inputs, also where it is a symbol.
const EXTENT: usize = 2;

fn bindings() -> Bindings {
    let mut bindings = Bindings::new();
    bindings.set("n", i64::try_from(EXTENT).unwrap());
    bindings
}

struct Maker<'m> {
    b: GraphBuilder<'m>,
    random: Stream,
    values: Vec<ValueId>,
}

impl Maker<'_> {
    fn any(&mut self) -> ValueId {
        // Late values more often, so that graphs get deep.
        let n = self.values.len();
        let back = self.random.below(n).min(self.random.below(n));
        self.values[n - 1 - back]
    }

    fn shape(&self, v: ValueId) -> Vec<Dim> {
        self.b.shape(v).unwrap()
    }

    fn weight(&mut self, shape: &[usize]) -> ValueId {
        let data = self.random.tensor(DType::F32, shape).unwrap();
        self.b.constant(data).unwrap()
    }

    fn number(&mut self) -> ValueId {
        let n = [0.0, 1.0, 2.0, 0.5, -1.0, 3.0, 0.3][self.random.below(7)];
        self.b.scalar(DType::F32, n).unwrap()
    }

    fn permutation(&mut self, n: usize) -> Vec<i64> {
        let mut p: Vec<i64> = (0..n).map(|i| i64::try_from(i).unwrap()).collect();
        for i in (1..n).rev() {
            p.swap(i, self.random.below(i + 1));
        }
        p
    }

    fn axis(&mut self, rank: usize) -> i64 {
        i64::try_from(self.random.below(rank)).unwrap()
    }

    /// One random node, or a few that belong together; None where they do not fit.
    fn grow(&mut self) -> Option<ValueId> {
        let x = self.any();
        let shape = self.shape(x);
        let rank = shape.len();
        let last = shape.last().and_then(Dim::as_fixed);
        match self.random.below(24) {
            0 => {
                let all = [
                    UnaryFn::Neg,
                    UnaryFn::Abs,
                    UnaryFn::Tanh,
                    UnaryFn::Sigmoid,
                    UnaryFn::Relu,
                    UnaryFn::Erf,
                ];
                let f = all[self.random.below(all.len())];
                self.b.unary(f, x).ok()
            }
            1 | 2 => {
                let all = [BinaryFn::Add, BinaryFn::Sub, BinaryFn::Mul, BinaryFn::Max, BinaryFn::Min];
                let (f, y) = (all[self.random.below(all.len())], self.any());
                self.b.binary(f, x, y).ok()
            }
            3 => {
                let all = [BinaryFn::Add, BinaryFn::Sub, BinaryFn::Mul, BinaryFn::Max];
                let (f, n) = (all[self.random.below(all.len())], self.number());
                if self.random.below(2) == 0 { self.b.binary(f, x, n) } else { self.b.binary(f, n, x) }.ok()
            }
            4 => {
                let four = self.b.scalar(DType::F32, [4.0, 3.0][self.random.below(2)]).ok()?;
                self.b.div(x, four).ok()
            }
            5 => {
                let y = self.weight(&[last?]);
                let f = [BinaryFn::Add, BinaryFn::Mul][self.random.below(2)];
                self.b.binary(f, x, y).ok()
            }
            6 | 7 => {
                let p = self.permutation(rank);
                self.b.transpose(x, &p).ok()
            }
            8 => {
                // Merge two neighbours, or cut one in two.
                let at = self.random.below(rank.max(1));
                let mut to = shape.clone();
                let d = to.get(at)?.clone();
                if self.random.below(2) == 0 && at + 1 < to.len() {
                    let merged = d.mul(&to[at + 1]).ok()?;
                    to.splice(at..at + 2, [merged]);
                } else {
                    let n = d.as_fixed().filter(|n| n % 2 == 0)?;
                    to.splice(at..=at, [Dim::from(2usize), Dim::from(n / 2)]);
                }
                self.b.reshape(x, &to).ok()
            }
            9 => {
                let w = self.weight(&[last?, 4]);
                let y = self.b.matmul(x, w).ok()?;
                let bias = self.weight(&[4]);
                self.b.add(y, bias).ok()
            }
            10 => {
                let w = self.weight(&[4, last?]);
                let w = self.b.transpose(w, &[1, 0]).ok()?;
                self.b.matmul(x, w).ok()
            }
            11 => {
                let y = self.any();
                self.b.matmul(x, y).ok()
            }
            12 => {
                let axis = self.axis(rank.max(1));
                self.b
                    .op(
                        Reduce {
                            function: ReduceFn::Mean,
                            axes: vec![axis],
                            keepdims: self.random.below(2) == 0,
                        },
                        &[x],
                    )
                    .ok()
            }
            13 => {
                let axis = self.axis(rank.max(1));
                self.b.op(Softmax { axis }, &[x]).ok()
            }
            14 => {
                let (scale, bias) = (self.weight(&[last?]), self.weight(&[last?]));
                self.b.op(LayerNormalization { axis: -1, epsilon: 1e-3 }, &[x, scale, bias]).ok()
            }
            15 => {
                let (axis, y) = (self.axis(rank.max(1)), self.any());
                self.b.op(Concat { axis }, &[x, y]).ok()
            }
            16 => {
                let axis = self.axis(rank.max(1));
                let n = shape.get(usize::try_from(axis).ok()?)?.as_fixed()?;
                let start = self.random.below(n);
                let cut = Slice::axis(axis, Dim::from(start), Dim::from(n - self.random.below(n - start)));
                self.b.op(cut, &[x]).ok()
            }
            17 => {
                let n = last.filter(|&n| n > 1)?;
                let sizes = vec![Dim::from(1usize), Dim::from(n - 1)];
                let parts = self.b.ops(Split { axis: -1, sizes }, &[Some(x)]).ok()?;
                self.values.extend(&parts);
                parts.last().copied()
            }
            18 => {
                let y = self.any();
                let c = self.b.binary(BinaryFn::Less, x, y).ok()?;
                let n = self.number();
                self.b.op(Where {}, &[c, x, n]).ok()
            }
            19 => {
                let form = [GeluForm::None, GeluForm::Tanh][self.random.below(2)];
                self.b.op(Gelu { approximate: form }, &[x]).ok()
            }
            20 => {
                let mut to = shape.clone();
                to.insert(0, Dim::from(2usize));
                self.b.op(Expand { shape: to, trust: false }, &[x]).ok()
            }
            21 => {
                let wide = self.b.op(Cast::to(DType::F64), &[x]).ok()?;
                self.b.op(Cast::to(DType::F32), &[wide]).ok()
            }
            22 => {
                // The variance part of a norm, with its mean.
                let mean = self.b.reduce_mean(x, &[-1], true).ok()?;
                let centred = self.b.sub(x, mean).ok()?;
                let two = self.b.scalar(DType::F32, 2.0).ok()?;
                let square = self.b.binary(BinaryFn::Pow, centred, two).ok()?;
                let variance = self.b.reduce_mean(square, &[-1], true).ok()?;
                let safe = self.b.add_scalar(variance, 1e-3).ok()?;
                let root = self.b.unary(UnaryFn::Sqrt, safe).ok()?;
                let normal = self.b.div(centred, root).ok()?;
                let scale = self.weight(&[last?]);
                self.b.mul(normal, scale).ok()
            }
            _ => {
                // Attention of a value with itself.
                let [.., n, _] = shape.as_slice() else { return None };
                let keys = self.b.swap_last(x).ok()?;
                let mut scores = self.b.matmul(x, keys).ok()?;
                if self.random.below(2) == 0 {
                    scores = self.b.mul_scalar(scores, 0.7).ok()?;
                }
                if self.random.below(2) == 0 {
                    let mask = self.weight(&[n.as_fixed()?]);
                    scores = self.b.add(scores, mask).ok()?;
                }
                let p = self.b.op(Softmax { axis: -1 }, &[scores]).ok()?;
                if self.random.below(8) == 0 {
                    self.values.push(p);
                }
                self.b.matmul(p, x).ok()
            }
        }
    }
}

fn random_module(seed: u64) -> Module {
    let mut module = Module::default();
    let mut graph = Graph::new("forward");
    let b = GraphBuilder::new(&mut graph, &mut module.weights);
    let mut maker = Maker { b, random: Stream::new(seed), values: vec![] };
    // Half of the graphs have a symbol for a dimension.
    let n = if seed.is_multiple_of(2) { Dim::symbol("n") } else { Dim::from(EXTENT) };
    for (name, shape) in [
        ("x", vec![n.clone(), Dim::from(3usize), Dim::from(4usize)]),
        ("y", vec![n, Dim::from(3usize), Dim::from(4usize)]),
        ("z", vec![Dim::from(1usize), Dim::from(4usize)]),
    ] {
        let ty = TensorType { dtype: DType::F32, shape };
        let v = maker.b.input(name, ty, None);
        maker.values.push(v);
    }
    let steps = 5 + maker.random.below(25);
    for _ in 0..steps {
        if let Some(v) = maker.grow() {
            let ty = maker.b.ty(v).unwrap();
            let elements: usize = ty.eval_shape(&bindings()).unwrap().iter().product();
            if ty.rank() <= 5 && elements <= 2000 {
                maker.values.push(v);
            }
        }
    }
    let last = *maker.values.last().unwrap();
    let other = maker.any();
    maker.b.output("last", last);
    maker.b.output("other", other);
    module.graphs.push(graph);
    module
}

fn numbers(module: &Module) -> Vec<Tensor> {
    let mut stream = Stream::new(99);
    let graph = &module.graphs[0];
    let given: Vec<_> = graph
        .inputs
        .iter()
        .map(|i| {
            let ty = graph.ty(i.value).unwrap();
            (i.name.clone(), stream.tensor(ty.dtype, &ty.eval_shape(&bindings()).unwrap()).unwrap())
        })
        .collect();
    interp::run(graph, &module.weights, &given).unwrap().into_iter().map(|(_, t)| t).collect()
}

#[test]
fn passes_change_no_number() {
    let (mut before, mut after) = (0, 0);
    let graphs = std::env::var("FRIT_GRAPHS").ok().and_then(|n| n.parse().ok()).unwrap_or(GRAPHS);
    for seed in 0..graphs {
        let module = random_module(seed);
        let mut optimised = module.clone();
        let report = optimise(&mut optimised, &Options::default())
            .unwrap_or_else(|e| panic!("seed {seed}: {e}\n{}", text::print_module(&module)));
        if let Some(stage) = report.stages.iter().find(|s| !s.settled) {
            panic!("seed {seed}: stage {} does not settle\n{}", stage.stage, text::print_module(&module));
        }
        before += module.graphs[0].node_count();
        after += optimised.graphs[0].node_count();
        for (x, y) in numbers(&module).iter().zip(&numbers(&optimised)) {
            assert_eq!((x.shape(), x.dtype()), (y.shape(), y.dtype()), "seed {seed}");
            let (x, y) = (x.to_f64_vec(), y.to_f64_vec());
            let size = x.iter().filter(|v| v.is_finite()).fold(1.0f64, |m, v| m.max(v.abs()));
            for (a, b) in x.iter().zip(&y) {
                let close = a == b || (a - b).abs() <= 1e-4 * size || (a.is_nan() && b.is_nan());
                assert!(
                    close,
                    "seed {seed}: {a} became {b}\n{}\n{}",
                    text::print_module(&module),
                    text::print_module(&optimised)
                );
            }
        }
    }
    assert!(after < before, "{before} nodes, {after} after");
}
