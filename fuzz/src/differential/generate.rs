//! Draws a graph with its inputs from bytes. Which nodes there are is in `nodes.rs`, `indexed.rs`,
//! `dynamic.rs` and `patterns.rs`.

use super::super::bytes::Bytes;
use super::Named;
use super::{dynamic, indexed, nodes, patterns};
use frit_ir::random::Stream;
use frit_ir::{Bindings, BuildError, DType, Dim, Graph, GraphBuilder, Module, Tensor, TensorType, ValueId};

/// A graph and what to run it on.
pub struct Case {
    pub module: Module,
    pub inputs: Named,
}

/// Values may have so many elements.
const MOST: usize = 4096;

/// What is known while a graph grows.
pub struct Grower<'b, 'd> {
    pub b: GraphBuilder<'b>,
    pub bytes: &'b mut Bytes<'d>,
    pub bindings: Bindings,
    /// Values that later nodes may use.
    pub values: Vec<ValueId>,
    /// Values free of rounding: ops that jump (Floor, Equal, ArgMax) take only these, or the smallest difference
    /// between backends would be a difference of 1.
    pub exact: Vec<ValueId>,
    /// Graphs that control flow runs.
    pub bodies: Vec<Graph>,
    inputs: Named,
    stream: Stream,
    names: usize,
}

pub type Made = Result<Vec<ValueId>, BuildError>;

/// A case, or None when the bytes make none.
pub fn case(bytes: &mut Bytes<'_>) -> Option<Case> {
    let mut module = Module::default();
    let mut graph = Graph::new("forward");
    let mut bindings = Bindings::new();
    bindings.set("n", bytes.below(8) as i64);
    bindings.set("m", 1 + bytes.below(4) as i64);
    let stream = Stream::new(u64::from(bytes.byte()));
    let b = GraphBuilder::new(&mut graph, &mut module.weights);
    let mut g = Grower {
        b,
        bytes,
        bindings,
        values: Vec::new(),
        exact: Vec::new(),
        bodies: Vec::new(),
        inputs: Vec::new(),
        stream,
        names: 0,
    };
    for _ in 0..1 + g.bytes.below(2) {
        let rank = g.bytes.below(5);
        let shape: Vec<Dim> = (0..rank).map(|_| g.extent()).collect();
        let dtype = g.bytes.pick(&[DType::F32, DType::F32, DType::F32, DType::F32, DType::I64, DType::I32]);
        g.input(dtype, shape).ok()?;
    }
    let steps = 1 + g.bytes.below(14);
    for _ in 0..steps {
        if g.bytes.is_empty() {
            break;
        }
        let before = g.values.len();
        let made = match g.bytes.below(8) {
            0 => patterns::grow(&mut g),
            1 | 2 => indexed::grow(&mut g),
            3 => dynamic::grow(&mut g),
            _ => nodes::grow(&mut g),
        };
        let Ok((made, exact)) = made else {
            g.values.truncate(before.max(1));
            continue;
        };
        for v in made {
            if g.is_small(v) {
                g.values.push(v);
                if exact {
                    g.exact.push(v);
                }
            }
        }
    }
    let last = g.values.len().checked_sub(1)?;
    let mut chosen = vec![last];
    for _ in 0..g.bytes.below(3) {
        chosen.push(g.bytes.below(g.values.len()));
    }
    chosen.dedup();
    for (i, at) in chosen.into_iter().enumerate() {
        let v = g.values[at];
        g.b.output(&format!("out{i}"), v);
    }
    let inputs = std::mem::take(&mut g.inputs);
    let bodies = std::mem::take(&mut g.bodies);
    drop(g);
    let graph = graph.compacted().ok()?;
    let inputs = inputs.into_iter().filter(|(n, _)| graph.inputs.iter().any(|i| i.name == *n)).collect();
    module.graphs.push(graph);
    // Nodes that came to nothing leave bodies that nothing runs.
    let used: Vec<String> = module.bodies().into_iter().map(str::to_owned).collect();
    module.graphs.extend(bodies.into_iter().filter(|b| used.contains(&b.name)));
    Some(Case { module, inputs })
}

impl Grower<'_, '_> {
    /// An extent for a node that adds no input: a symbol only where some input has it.
    pub fn known_extent(&mut self) -> Dim {
        let extent = self.extent();
        let known = self.b.graph.input_symbols();
        if extent.symbols().iter().all(|s| known.contains(s)) { extent } else { Dim::constant(1) }
    }

    /// An extent: mostly a small number, sometimes a symbol, seldom 0.
    pub fn extent(&mut self) -> Dim {
        match self.bytes.below(16) {
            0 => Dim::constant(0),
            1..=3 => Dim::symbol("n"),
            4 => Dim::symbol("m"),
            k => Dim::constant(1 + (k as i64 - 5) % 7),
        }
    }

    pub fn concrete(&self, shape: &[Dim]) -> Option<Vec<usize>> {
        let ty = TensorType { dtype: DType::F32, shape: shape.to_vec() };
        ty.eval_shape(&self.bindings).ok()
    }

    fn is_small(&self, v: ValueId) -> bool {
        let shape = self.b.shape(v).ok().and_then(|s| self.concrete(&s));
        shape.is_some_and(|s| {
            s.len() <= 6 && s.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).is_some_and(|n| n <= MOST)
        })
    }

    pub fn input(&mut self, dtype: DType, shape: Vec<Dim>) -> Result<ValueId, BuildError> {
        // A symbol that a node defines is no extent of an input.
        if shape.iter().flat_map(Dim::symbols).any(|s| !matches!(&*s, "n" | "m")) {
            return Err(self.b.error("a size known at run time only"));
        }
        let fixed = self.concrete(&shape).ok_or_else(|| self.b.error("no extents"))?;
        let data = self.numbers(dtype, &fixed)?;
        let name = format!("in{}", self.inputs.len());
        let v = self.b.input(&name, TensorType { dtype, shape }, None);
        self.inputs.push((name, data));
        self.values.push(v);
        self.exact.push(v);
        Ok(v)
    }

    /// A name that nothing else has, for symbols and graphs.
    pub fn fresh_symbol(&mut self) -> String {
        self.names += 1;
        format!("s{}", self.names)
    }

    /// An input that holds one number, and a symbol bound to that number.
    pub fn size_input(&mut self, size: i64) -> Result<(ValueId, String), BuildError> {
        let v = self.input(DType::I64, vec![Dim::constant(1)])?;
        self.values.pop();
        if let Some((_, data)) = self.inputs.last_mut() {
            *data = Tensor::from_i64(DType::I64, &[1], &[size])?;
        }
        let name = self.fresh_symbol();
        self.bindings.set(&name, size);
        Ok((v, name))
    }

    /// Floats from -2 to 2 in sixteenths, integers from -3 to 4 (0 to 3 without sign).
    fn numbers(&mut self, dtype: DType, shape: &[usize]) -> Result<Tensor, BuildError> {
        let n: usize = shape.iter().product();
        if n > MOST {
            return Err(self.b.error("too large"));
        }
        let v: Vec<f64> = (0..n)
            .map(|_| match dtype {
                d if d.is_float() => self.stream.below(65) as f64 / 16.0 - 2.0,
                DType::Bool => self.stream.below(2) as f64,
                DType::U8 | DType::U16 | DType::U32 | DType::U64 => self.stream.below(4) as f64,
                _ => self.stream.below(8) as f64 - 3.0,
            })
            .collect();
        Ok(Tensor::from_f64(dtype, shape, &v)?)
    }

    /// A weight where the shape is fixed, else an input.
    pub fn fresh(&mut self, dtype: DType, shape: &[Dim]) -> Result<ValueId, BuildError> {
        let fixed: Option<Vec<usize>> = shape.iter().map(Dim::as_fixed).collect();
        let Some(fixed) = fixed else {
            let v = self.input(dtype, shape.to_vec())?;
            self.values.pop();
            return Ok(v);
        };
        let data = self.numbers(dtype, &fixed)?;
        let v = self.b.constant(data)?;
        self.exact.push(v);
        Ok(v)
    }

    /// Floats from 1/4 to 2: variances, scales.
    pub fn positive(&mut self, dtype: DType, shape: &[Dim]) -> Result<ValueId, BuildError> {
        let fixed: Option<Vec<usize>> = shape.iter().map(Dim::as_fixed).collect();
        let fixed = fixed.ok_or_else(|| self.b.error("symbols"))?;
        let n: usize = fixed.iter().product();
        let v: Vec<f64> = (0..n.min(MOST)).map(|_| 0.25 + self.stream.unit() * 1.75).collect();
        self.b.constant(Tensor::from_f64(dtype, &fixed, &v)?)
    }

    /// Indices into an axis of that extent.
    pub fn indices(&mut self, shape: &[Dim], extent: usize) -> Result<ValueId, BuildError> {
        let fixed: Option<Vec<usize>> = shape.iter().map(Dim::as_fixed).collect();
        let fixed = fixed.ok_or_else(|| self.b.error("symbols"))?;
        let n: usize = fixed.iter().product();
        let dtype = self.bytes.pick(&[DType::I64, DType::I32]);
        let v: Vec<i64> = (0..n.min(MOST))
            .map(|_| {
                let i = self.stream.below(extent) as i64;
                if self.stream.below(4) == 0 { i - extent as i64 } else { i }
            })
            .collect();
        self.b.constant(Tensor::from_i64(dtype, &fixed, &v)?)
    }

    /// A value for which the test holds, newer ones first.
    pub fn find(&mut self, test: impl Fn(DType, &[Dim]) -> bool) -> Option<ValueId> {
        let skip = if self.bytes.flag() { 0 } else { self.bytes.below(self.values.len()) };
        let n = self.values.len();
        let order = (0..n).map(|i| self.values[n - 1 - (i + skip) % n]);
        order.into_iter().find(|v| self.b.ty(*v).is_ok_and(|t| test(t.dtype, &t.shape)))
    }

    /// Such a value, or a new input or weight of that rank.
    pub fn float(&mut self, ranks: std::ops::RangeInclusive<usize>) -> Result<ValueId, BuildError> {
        let found = self.find(|d, s| d == DType::F32 && ranks.contains(&s.len()));
        match found {
            Some(v) => Ok(v),
            None => {
                let shape: Vec<Dim> = (0..*ranks.start()).map(|_| self.extent()).collect();
                self.fresh(DType::F32, &shape)
            }
        }
    }

    pub fn any(&mut self) -> ValueId {
        self.find(|_, _| true).unwrap_or(self.values[0])
    }

    pub fn is_exact(&self, v: ValueId) -> bool {
        self.exact.contains(&v) || self.b.ty(v).is_ok_and(|t| !t.dtype.is_float())
    }

    /// The shape with some extents 1 and some leading ones gone: what broadcasts to it.
    pub fn smaller(&mut self, shape: &[Dim]) -> Vec<Dim> {
        let skip = if self.bytes.below(3) == 0 { self.bytes.below(shape.len() + 1) } else { 0 };
        let mask = if self.bytes.flag() { self.bytes.byte() } else { 0 };
        let rest = shape.iter().skip(skip).enumerate();
        rest.map(|(i, d)| if mask >> (i % 8) & 1 == 1 { Dim::constant(1) } else { d.clone() }).collect()
    }
}
