//! Reductions, positions of extremes, running sums and pools.

use super::Cx;
use super::simple::{Fail, Operands, around, counts, kernel, with_number};
use crate::reduce::{self as r, Extreme, Pool, PoolAxis, PoolKind, Reduction};
use frit_backend::Kernel;
use frit_ir::DType;
use frit_ir::op::{self, ReduceFn};
use frit_ir::types::resolve_axis;

type Selected = Option<Box<dyn Kernel>>;

pub(super) fn reduce(cx: &Cx<'_>, op: &op::Reduce) -> Selected {
    let x = cx.input(0)?;
    let mask = op.mask(x.rank())?;
    let f = match op.function {
        ReduceFn::Sum => Reduction::Sum,
        ReduceFn::Mean => Reduction::Mean,
        ReduceFn::Max => Reduction::Max,
        ReduceFn::Min => Reduction::Min,
        ReduceFn::Prod => Reduction::Prod,
        ReduceFn::L1 => Reduction::L1,
        ReduceFn::L2 => Reduction::L2,
        ReduceFn::SumSquare => Reduction::SumSquare,
        ReduceFn::LogSum | ReduceFn::LogSumExp => return None,
    };
    let (isa, dtype, name) = (cx.isa, x.dtype, op.function.name());
    if dtype == DType::Bool {
        return None;
    }
    kernel(name, move |run| {
        let x = run.tensor(0)?;
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        if dtype == DType::F32 {
            return Ok(r::reduce(isa, f, x.slice()?, x.shape, &mask, out.slice_mut()?)?);
        }
        with_number!(dtype, T => {
            r::reduce_wide::<T>(f, x.slice()?, x.shape, &mask, out.slice_mut()?).map_err(|e| Fail::Data(e.to_string()))
        }, else Ok(()))
    })
    .done()
}

pub(super) fn arg_extreme(cx: &Cx<'_>, axis: i64, extreme: Extreme) -> Selected {
    let x = cx.input(0)?;
    let (axis, dtype) = (resolve_axis(axis, x.rank())?, x.dtype);
    let name = if extreme == Extreme::Max { "ArgMax" } else { "ArgMin" };
    kernel(name, move |run| {
        let x = run.tensor(0)?;
        let lanes = around(x.shape, axis);
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        let to = out.slice_mut::<i64>()?;
        let result = with_number!(dtype, T => r::arg_extreme::<T>(extreme, lanes, x.slice()?, to),
            else r::arg_extreme::<u8>(extreme, lanes, x.bytes, to));
        result.map_err(|e| Fail::Data(e.to_string()))
    })
    .done()
}

pub(super) fn cumulative_sum(cx: &Cx<'_>, op: &op::CumSum) -> Selected {
    let x = cx.input(0)?;
    let (axis, dtype) = (resolve_axis(op.axis, x.rank())?, x.dtype);
    let (exclusive, reverse) = (op.exclusive, op.reverse);
    kernel("CumSum", move |run| {
        let x = run.tensor(0)?;
        let lanes = around(x.shape, axis);
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        with_number!(dtype, T => {
            Ok(r::cumulative_sum::<T>(lanes, exclusive, reverse, x.slice()?, out.slice_mut()?)?)
        }, else Err(Fail::Contract("a sum of bool".to_owned())))
    })
    .done()
}

/// A pool's windows without the extents, which come with the data.
fn pool(
    cx: &Cx<'_>,
    name: &'static str,
    kind: PoolKind,
    [window, strides, pads, dilations]: [&[i64]; 4],
) -> Selected {
    cx.f32_input(0)?;
    let (window, strides, pads, dilations) =
        (counts(window)?, counts(strides)?, counts(pads)?, counts(dilations)?);
    let n = window.len();
    if strides.len() != n || dilations.len() != n || pads.len() != 2 * n {
        return None;
    }
    let axes: Vec<PoolAxis> = (0..n)
        .map(|i| PoolAxis {
            extent: 0,
            windows: 0,
            kernel: window[i],
            stride: strides[i],
            dilation: dilations[i],
            before: pads[i],
            after: pads[n + i],
        })
        .collect();
    kernel(name, move |run| {
        let x = run.tensor(0)?;
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        let mut axes = axes.clone();
        for (axis, (&extent, &windows)) in axes.iter_mut().zip(x.shape.iter().zip(out.shape).skip(2)) {
            (axis.extent, axis.windows) = (extent, windows);
        }
        let channels = x.shape.iter().take(2).product();
        Ok(r::pool(&Pool { kind, channels, axes }, x.slice()?, out.slice_mut()?)?)
    })
    .done()
}

pub(super) fn max_pool(cx: &Cx<'_>, op: &op::MaxPool) -> Selected {
    pool(cx, "MaxPool", PoolKind::Max, [&op.kernel, &op.strides, &op.pads, &op.dilations])
}

pub(super) fn average_pool(cx: &Cx<'_>, op: &op::AveragePool) -> Selected {
    let kind = PoolKind::Average { padded: op.count_include_pad };
    pool(cx, "AveragePool", kind, [&op.kernel, &op.strides, &op.pads, &op.dilations])
}

pub(super) fn global_average_pool(cx: &Cx<'_>) -> Selected {
    let rank = cx.f32_input(0)?.rank();
    let isa = cx.isa;
    kernel("GlobalAveragePool", move |run| {
        let x = run.tensor(0)?;
        let mask: Vec<bool> = (0..rank).map(|i| i >= 2).collect();
        let out = run.output(0).map_err(|e| Fail::Contract(e.to_string()))?;
        Ok(r::reduce(isa, Reduction::Mean, x.slice()?, x.shape, &mask, out.slice_mut()?)?)
    })
    .done()
}
