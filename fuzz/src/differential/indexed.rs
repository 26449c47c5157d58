//! Nodes that look elements up, write them to places, put them in order or sample between them.
//! Sizes known at run time and control flow are in `dynamic.rs`.

use super::generate::Grower;
use super::nodes::{Grown, axis, planes, rounded, window};
use frit_ir::op::*;
use frit_ir::{DType, Dim, ValueId};

pub fn grow(g: &mut Grower<'_, '_>) -> Grown {
    match g.bytes.below(14) {
        0 => top_k(g),
        1 => gather_nd(g),
        2 => scatter_nd(g),
        3 => scatter_elements(g),
        4 | 5 => resize(g),
        6 => trilu(g),
        7 => reverse_sequence(g),
        8 => cum_prod(g),
        9 => max_pool_indices(g),
        10 => lp_pool(g),
        11 => grid_sample(g),
        12 => integers(g),
        _ => bit_cast(g),
    }
}

/// The value's extents as numbers.
fn fixed(g: &Grower<'_, '_>, x: ValueId) -> Option<Vec<usize>> {
    g.b.shape(x).ok().and_then(|s| g.concrete(&s))
}

fn constants(of: &[usize]) -> Vec<Dim> {
    of.iter().map(|&n| Dim::from(n)).collect()
}

fn top_k(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    if !g.is_exact(x) || g.b.ty(x)?.dtype == DType::Bool {
        return Err(g.b.error("jumps"));
    }
    let axis = axis(g, x)?;
    let shape = g.b.shape(x)?;
    let at = if axis < 0 { axis + shape.len() as i64 } else { axis } as usize;
    let k = Dim::constant(g.bytes.below(4) as i64);
    let k = if g.bytes.flag() { k } else { shape.get(at).cloned().unwrap_or(k) };
    let largest = g.bytes.flag();
    Ok((g.b.ops(TopK { k, axis, largest }, &[Some(x)])?, true))
}

fn gather_nd(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let sizes = fixed(g, x).ok_or_else(|| g.b.error("symbols"))?;
    let shape = g.b.shape(x)?;
    let batch = g.bytes.below(shape.len().min(3));
    let depth = g.bytes.below(shape.len() - batch.min(shape.len()) + 1);
    let mut wanted = shape.get(..batch).unwrap_or(&[]).to_vec();
    if g.bytes.flag() {
        wanted.push(Dim::constant(g.bytes.below(4) as i64));
    }
    wanted.push(Dim::from(depth));
    // One bound for all coordinates: the smallest of the extents.
    let extent = sizes.iter().skip(batch).take(depth).min().copied().unwrap_or(1);
    if extent == 0 {
        return Err(g.b.error("nothing to gather"));
    }
    let indices = g.indices(&wanted, extent)?;
    let exact = g.is_exact(x);
    Ok((vec![g.b.op(GatherND { batch_dims: batch as i64 }, &[x, indices])?], exact))
}

const REDUCTIONS: &[ScatterReduction] = ScatterReduction::ALL;

fn scatter_nd(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let ty = g.b.ty(x)?;
    let sizes = fixed(g, x).ok_or_else(|| g.b.error("symbols"))?;
    let depth = g.bytes.below(sizes.len() + 1);
    let places = g.bytes.below(4);
    let extent = sizes.iter().take(depth).min().copied().unwrap_or(1);
    if extent == 0 {
        return Err(g.b.error("nowhere to scatter"));
    }
    let indices = g.indices(&[Dim::from(places), Dim::from(depth)], extent)?;
    let mut updates = vec![Dim::from(places)];
    updates.extend(ty.shape.iter().skip(depth).cloned());
    let updates = g.fresh(ty.dtype, &updates)?;
    let reduction = g.bytes.pick(REDUCTIONS);
    let moves = matches!(reduction, ScatterReduction::None | ScatterReduction::Max | ScatterReduction::Min);
    let exact = moves && g.is_exact(x);
    Ok((vec![g.b.op(ScatterND { reduction }, &[x, indices, updates])?], exact))
}

fn scatter_elements(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let ty = g.b.ty(x)?;
    let sizes = fixed(g, x).ok_or_else(|| g.b.error("symbols"))?;
    let axis = axis(g, x)?;
    let at = if axis < 0 { axis + sizes.len() as i64 } else { axis } as usize;
    let extent = sizes.get(at).copied().unwrap_or(0);
    if extent == 0 {
        return Err(g.b.error("nowhere to scatter"));
    }
    let wanted: Vec<usize> = sizes.iter().map(|&n| g.bytes.below(n + 1)).collect();
    let wanted = constants(&wanted);
    let indices = g.indices(&wanted, extent)?;
    let updates = g.fresh(ty.dtype, &wanted)?;
    let reduction = g.bytes.pick(REDUCTIONS);
    let moves = matches!(reduction, ScatterReduction::None | ScatterReduction::Max | ScatterReduction::Min);
    let exact = moves && g.is_exact(x);
    Ok((vec![g.b.op(ScatterElements { axis, reduction }, &[x, indices, updates])?], exact))
}

fn resize(g: &mut Grower<'_, '_>) -> Grown {
    let x = planes(g)?;
    let shape = g.b.shape(x)?;
    let before = fixed(g, x).ok_or_else(|| g.b.error("symbols"))?;
    let mut sizes: Vec<Dim> = shape.iter().take(2).cloned().collect();
    let mut scales = Vec::new();
    let by_scale = g.bytes.flag();
    for (i, &n) in before.iter().enumerate() {
        if i < 2 {
            scales.push(1.0);
            continue;
        }
        let scale = g.bytes.pick(&[0.5, 1.0, 1.5, 2.0, 3.0]);
        let after = (n as f64 * scale).floor() as usize;
        scales.push(scale);
        sizes.push(Dim::from(if by_scale { after } else { 1 + g.bytes.below(9) }));
    }
    let mode = g.bytes.pick(ResizeMode::ALL);
    let all: Vec<Coordinates> =
        Coordinates::ALL.iter().copied().filter(|c| *c != Coordinates::CropAndResize).collect();
    let coordinates = g.bytes.pick(&all);
    let nearest = g.bytes.pick(NearestMode::ALL);
    let op = Resize {
        sizes,
        scales: if by_scale { scales } else { vec![] },
        mode,
        coordinates,
        nearest,
        cubic_coeff: -0.5,
        exclude_outside: mode == ResizeMode::Cubic && g.bytes.flag(),
        antialias: mode != ResizeMode::Nearest && g.bytes.below(4) == 0,
        roi: vec![],
        extrapolation: 0.0,
    };
    let exact = mode == ResizeMode::Nearest && g.is_exact(x);
    Ok((vec![g.b.op(op, &[x])?], exact))
}

fn trilu(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let exact = g.is_exact(x);
    let k = if g.bytes.flag() { Some(g.indices(&[], 3)?) } else { None };
    let upper = g.bytes.flag();
    Ok((vec![g.b.op_opt(Trilu { upper }, &[Some(x), k])?], exact))
}

fn reverse_sequence(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let sizes = fixed(g, x).ok_or_else(|| g.b.error("symbols"))?;
    let (time_axis, batch_axis) = if g.bytes.flag() { (0, 1) } else { (1, 0) };
    let (Some(&time), Some(&batch)) = (sizes.get(time_axis), sizes.get(batch_axis)) else {
        return Err(g.b.error("rank 2 or more"));
    };
    let lens: Vec<i64> = (0..batch).map(|_| g.bytes.below(time + 1) as i64).collect();
    let lens = frit_ir::Tensor::from_i64(DType::I64, &[batch], &lens)?;
    let lens = g.b.constant(lens)?;
    let exact = g.is_exact(x);
    let op = ReverseSequence { batch_axis: batch_axis as i64, time_axis: time_axis as i64 };
    Ok((vec![g.b.op(op, &[x, lens])?], exact))
}

fn cum_prod(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    let axis = axis(g, x)?;
    let (exclusive, reverse) = (g.bytes.flag(), g.bytes.flag());
    rounded(g.b.op(CumProd { axis, exclusive, reverse }, &[x]))
}

fn max_pool_indices(g: &mut Grower<'_, '_>) -> Grown {
    let x = planes(g)?;
    if !g.is_exact(x) {
        return Err(g.b.error("jumps"));
    }
    let n = g.b.rank(x)? - 2;
    let kernel: Vec<i64> = (0..n).map(|_| 1 + g.bytes.below(3) as i64).collect();
    let (strides, pads, dilations) = window(g, n);
    let (ceil_mode, column_major) = (g.bytes.flag(), g.bytes.flag());
    let op = MaxPoolIndices { kernel, strides, pads, dilations, ceil_mode, column_major };
    Ok((g.b.ops(op, &[Some(x)])?, true))
}

fn lp_pool(g: &mut Grower<'_, '_>) -> Grown {
    let x = planes(g)?;
    let n = g.b.rank(x)? - 2;
    let kernel: Vec<i64> = (0..n).map(|_| 1 + g.bytes.below(3) as i64).collect();
    let (strides, pads, dilations) = window(g, n);
    let (ceil_mode, p) = (g.bytes.flag(), g.bytes.pick(&[1.0, 2.0, 3.0]));
    rounded(g.b.op(LpPool { kernel, strides, pads, dilations, ceil_mode, p }, &[x]))
}

fn grid_sample(g: &mut Grower<'_, '_>) -> Grown {
    let x = planes(g)?;
    let shape = g.b.shape(x)?;
    let axes = shape.len() - 2;
    let mut grid = vec![shape[0].clone()];
    grid.extend((0..axes).map(|_| Dim::constant(g.bytes.below(4) as i64)));
    grid.push(Dim::from(axes));
    let grid = g.fresh(DType::F32, &grid)?;
    let mode = g.bytes.pick(SampleMode::ALL);
    let padding = g.bytes.pick(SamplePadding::ALL);
    let align_corners = g.bytes.flag();
    rounded(g.b.op(GridSample { mode, padding, align_corners }, &[x, grid]))
}

/// Integer division, remainders, shifts and bits, where no divisor is 0.
fn integers(g: &mut Grower<'_, '_>) -> Grown {
    let Some(x) = g.find(|d, _| d.is_int()) else { return Err(g.b.error("no integers")) };
    let ty = g.b.ty(x)?;
    let all: Vec<BinaryFn> = BinaryFn::ALL
        .iter()
        .copied()
        .filter(|f| matches!(f.domain(), Domain::Int | Domain::Unsigned | Domain::Number))
        .collect();
    let f = g.bytes.pick(&all);
    let shape = g.smaller(&ty.shape);
    let y = g.fresh(ty.dtype, &shape)?;
    let one = g.b.scalar(ty.dtype, 1.0)?;
    // Numbers from 1 up: no division by 0, no power below 0.
    let y = g.b.binary(BinaryFn::Max, y, one)?;
    Ok((vec![g.b.binary(f, x, y)?], true))
}

fn bit_cast(g: &mut Grower<'_, '_>) -> Grown {
    let x = g.any();
    if !g.is_exact(x) {
        return Err(g.b.error("jumps"));
    }
    let to =
        g.bytes.pick(&[DType::I32, DType::U32, DType::U8, DType::I8, DType::I64, DType::U64, DType::I16]);
    Ok((vec![g.b.op(BitCast { to }, &[x])?], true))
}
