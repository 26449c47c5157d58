//! Nodes whose results have sizes known only at run time, and control flow. Each ends in values of sizes that the
//! generator knows, so that any node may follow.

use super::generate::Grower;
use super::nodes::Grown;
use frit_ir::op::*;
use frit_ir::{BuildError, DType, Dim, Graph, GraphBuilder, TensorType, ValueId};

pub fn grow(g: &mut Grower<'_, '_>) -> Grown {
    match g.bytes.below(8) {
        0 | 1 => non_zero(g),
        2 | 3 => size_from_input(g),
        4 => unique(g),
        5 | 6 => branch(g),
        _ => repeat(g),
    }
}

fn exact(g: &mut Grower<'_, '_>) -> Result<ValueId, BuildError> {
    let x = g.any();
    if g.is_exact(x) { Ok(x) } else { Err(g.b.error("jumps")) }
}

/// Elements that are not zero, taken out by their positions and summed up.
fn non_zero(g: &mut Grower<'_, '_>) -> Grown {
    let x = exact(g)?;
    let count = g.fresh_symbol();
    let places = g.b.op(NonZero { count }, &[x])?;
    let sum = g.b.reduce_sum(places, &[1], false)?;
    let at = g.b.transpose(places, &[1, 0])?;
    let taken = g.b.op(GatherND { batch_dims: 0 }, &[x, at])?;
    let mut out = vec![sum];
    if g.b.ty(x)?.dtype != DType::Bool {
        let f = g.bytes.pick(&[ReduceFn::Sum, ReduceFn::SumSquare, ReduceFn::L1]);
        out.push(g.b.reduce(f, taken, &[0], g.bytes.flag())?);
    }
    Ok((out, !g.b.ty(x)?.dtype.is_float()))
}

/// The different elements: how often each occurs, and back from them to what was there.
fn unique(g: &mut Grower<'_, '_>) -> Grown {
    let x = exact(g)?;
    let count = g.fresh_symbol();
    let sorted = g.bytes.flag();
    let made = g.b.ops(Unique { count, axis: None, sorted }, &[Some(x)])?;
    let [values, _, inverse, counts] = made.as_slice() else { return Err(g.b.error("four results")) };
    let back = g.b.gather(*values, *inverse, 0)?;
    let all = g.b.reduce_sum(*counts, &[0], true)?;
    Ok((vec![back, all, *inverse], true))
}

/// A size that stands in an input: ranges and expansions by it.
fn size_from_input(g: &mut Grower<'_, '_>) -> Grown {
    let size = g.bytes.below(5) as i64;
    let (v, name) = g.size_input(size)?;
    let read = g.b.op(SymbolOf { name: name.clone(), min: 0 }, &[v])?;
    let d = Dim::symbol(&name);
    let range = g.b.iota(&d, DType::I64)?;
    let x = g.fresh(DType::F32, &[Dim::constant(1), Dim::constant(3)])?;
    let wide = g.b.expand(x, &[d.clone(), Dim::constant(3)])?;
    let scaled = g.b.mul_scalar(wide, 0.5)?;
    let flat = g.b.reshape(scaled, &[d.mul_const(3)?])?;
    Ok((vec![read, range, wide, flat], true))
}

/// A graph of one input of that type: something small done to it.
fn body(g: &mut Grower<'_, '_>, name: &str, ty: &TensorType, form: Form) -> Result<Graph, BuildError> {
    let mut graph = Graph::new(name);
    let choice = g.bytes.below(4);
    let by = g.bytes.below(5) as f64 - 2.0;
    let mut b = GraphBuilder::new(&mut graph, g.b.weights);
    let mut inputs = Vec::new();
    if form == Form::Loop {
        b.input("iteration", TensorType { dtype: DType::I64, shape: vec![] }, None);
        inputs.push(b.input("condition", TensorType { dtype: DType::Bool, shape: vec![] }, None));
    }
    let x = b.input("x", ty.clone(), None);
    let y = match choice {
        0 => b.unary(UnaryFn::Neg, x)?,
        1 => b.add_scalar(x, by)?,
        2 => b.mul_scalar(x, by)?,
        _ => b.binary(BinaryFn::Max, x, x)?,
    };
    if form == Form::Loop {
        b.output("go_on", inputs[0]);
    }
    b.output("y", y);
    if form == Form::Loop {
        b.output("slice", x);
    }
    Ok(graph)
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Branch,
    Loop,
}

fn number(g: &mut Grower<'_, '_>) -> Result<(ValueId, TensorType), BuildError> {
    let x = g.any();
    let ty = g.b.ty(x)?;
    let fits = matches!(ty.dtype, DType::F32 | DType::I64 | DType::I32);
    if fits { Ok((x, ty)) } else { Err(g.b.error("no number")) }
}

/// One of two graphs, by a condition that an input decides.
fn branch(g: &mut Grower<'_, '_>) -> Grown {
    let (x, ty) = number(g)?;
    let names = (g.fresh_symbol(), g.fresh_symbol());
    let (yes, no) = (body(g, &names.0, &ty, Form::Branch)?, body(g, &names.1, &ty, Form::Branch)?);
    g.bodies.extend([yes, no]);
    let condition = g.input(DType::Bool, vec![])?;
    let op = If { then_body: names.0, else_body: names.1, then_inputs: 1, types: vec![ty], symbols: vec![] };
    let exact = g.is_exact(x);
    Ok((vec![g.b.op(op, &[condition, x, x])?], exact))
}

/// A graph again and again; its values on the way are stacked.
fn repeat(g: &mut Grower<'_, '_>) -> Grown {
    let (x, ty) = number(g)?;
    let name = g.fresh_symbol();
    let graph = body(g, &name, &ty, Form::Loop)?;
    g.bodies.push(graph);
    let trip = g.bytes.below(4) as i64;
    let (v, _) = g.size_input(trip)?;
    let count = g.fresh_symbol();
    g.bindings.set(&count, trip);
    let stacked = TensorType {
        dtype: ty.dtype,
        shape: std::iter::once(Dim::symbol(&count)).chain(ty.shape.iter().cloned()).collect(),
    };
    let op = Loop { body: name, carried: 1, types: vec![ty, stacked], symbols: vec![count] };
    let exact = g.is_exact(x);
    Ok((g.b.ops(op, &[Some(v), None, Some(x)])?, exact))
}
