//! Conversion and choice: Cast, CastLike, Where, Clip. Quantisation is in a file of its own.

use super::constant::dtype_attr;
use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use crate::onnx::schema::DataType;
use crate::onnx::value::Strings;
use frit_ir::narrow::RoundMode;
use frit_ir::op::{BinaryFn, Cast, Clip};
use frit_ir::{DType, Tensor, ValueId};

pub const ROWS: &[Row] = &[
    ("", "Cast", 1, cast),
    ("", "CastLike", 15, cast_like),
    ("", "Where", 9, choose),
    ("", "Clip", 1, clip),
];

fn cast<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    if n.opset < 6 {
        // The element type by name.
        let name = n.string_or("to", "")?;
        let to = NAMES.iter().find(|(n, _)| *n == name).map(|(_, d)| *d);
        let to = to.ok_or_else(|| n.error(format!("attribute `to`: no element type `{name}`")))?;
        return converted(cx, n, to);
    }
    if n.int("to")? == Some(DataType::String as i64) {
        return to_strings(cx, n);
    }
    let to = dtype_attr(n, "to")?.ok_or_else(|| n.error("attribute `to` is missing"))?;
    converted(cx, n, to)
}

/// Element types as Cast-1 names them.
const NAMES: [(&str, DType); 13] = [
    ("FLOAT", DType::F32),
    ("UINT8", DType::U8),
    ("INT8", DType::I8),
    ("UINT16", DType::U16),
    ("INT16", DType::I16),
    ("INT32", DType::I32),
    ("INT64", DType::I64),
    ("BOOL", DType::Bool),
    ("FLOAT16", DType::F16),
    ("DOUBLE", DType::F64),
    ("UINT32", DType::U32),
    ("UINT64", DType::U64),
    ("BFLOAT16", DType::BF16),
];

fn cast_like<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    if matches!(n.val(1)?, Val::Strings(_)) {
        return to_strings(cx, n);
    }
    let to = cx.dtype(n.tensor(1)?)?;
    converted(cx, n, to)
}

fn converted(cx: &mut Cx<'_>, n: &NodeView<'_>, to: DType) -> Result<Vec<Val>> {
    // Of casts from strings they mean nothing.
    n.ignore(&["saturate", "round_mode"]);
    let strings = match n.val(0)? {
        Val::Strings(s) => s,
        _ => {
            let round_mode = match n.string_or("round_mode", "up")? {
                "up" => RoundMode::Up,
                "down" => RoundMode::Down,
                "nearest" => RoundMode::Nearest,
                other => {
                    return Err(n.error(format!("attribute `round_mode`: `{other}` is none of its values")));
                }
            };
            let op = Cast { to, saturate: n.flag("saturate", true)?, round_mode };
            let x = n.tensor(0)?;
            return Ok(vec![if cx.dtype(x)? == to { x } else { cx.emit(op, &[x])? }.into()]);
        }
    };
    let bad = |s: &str| n.error(format!("`{s}` is no number of type {to}"));
    let data = if to.is_float() {
        let parse = |s: &String| s.trim().parse::<f64>().map_err(|_| bad(s));
        Tensor::from_f64(to, &strings.shape, &strings.values.iter().map(parse).collect::<Result<Vec<_>>>()?)
    } else {
        let parse = |s: &String| {
            let text = s.trim();
            text.parse::<i64>().or_else(|_| text.parse::<f64>().map(|x| x as i64)).map_err(|_| bad(s))
        };
        Tensor::from_i64(to, &strings.shape, &strings.values.iter().map(parse).collect::<Result<Vec<_>>>()?)
    };
    let data = data.map_err(|e| cx.refused(e))?;
    Ok(vec![cx.constant(data)?.into()])
}

fn to_strings(cx: &mut Cx<'_>, n: &NodeView<'_>) -> Result<Vec<Val>> {
    n.ignore(&["saturate", "round_mode"]);
    if let Val::Strings(s) = n.val(0)? {
        return Ok(vec![Val::Strings(s.clone())]);
    }
    let t = cx.numbers(n, 0)?;
    let float = |x: f64, shortest: String| {
        if x.is_nan() {
            "NaN".to_owned()
        } else if x.is_infinite() {
            if x > 0.0 { "INF".to_owned() } else { "-INF".to_owned() }
        } else {
            shortest
        }
    };
    let values: Vec<String> = match t.dtype() {
        DType::F64 => t.to_f64_vec().into_iter().map(|x| float(x, x.to_string())).collect(),
        d if d.is_float() => t.to_f32_vec().into_iter().map(|x| float(f64::from(x), x.to_string())).collect(),
        DType::Bool => {
            t.bytes().iter().map(|&b| (if b != 0 { "True" } else { "False" }).to_owned()).collect()
        }
        _ => t.to_i64_vec().iter().map(ToString::to_string).collect(),
    };
    Ok(vec![Val::Strings(Strings { shape: t.shape().to_vec(), values })])
}

fn choose<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    Ok(vec![cx.choose(n.tensor(0)?, n.tensor(1)?, n.tensor(2)?)?.into()])
}

fn clip<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    n.ignore(&["consumed_inputs"]);
    let x = n.tensor(0)?;
    let dtype = cx.dtype(x)?;
    if n.opset < 11 {
        let (min, max) = (n.float("min")?, n.float("max")?);
        return Ok(vec![limited(cx, x, min, max)?.into()]);
    }
    let (min, max) = (n.opt(1)?, n.opt(2)?);
    if dtype.is_float() {
        let number =
            |v: Option<ValueId>| v.map(|v| cx.known(v).and_then(|t| t.to_f64_vec().first().copied()));
        let fixed = |v: Option<Option<f64>>| v.is_none_or(|inner| inner.is_some());
        let (low, high) = (number(min), number(max));
        if fixed(low) && fixed(high) {
            return Ok(vec![limited(cx, x, low.flatten(), high.flatten())?.into()]);
        }
    }
    let mut y = x;
    if let Some(min) = min {
        y = cx.binary(BinaryFn::Max, y, min)?;
    }
    if let Some(max) = max {
        y = cx.binary(BinaryFn::Min, y, max)?;
    }
    Ok(vec![y.into()])
}

fn limited(cx: &mut Cx<'_>, x: ValueId, min: Option<f64>, max: Option<f64>) -> Result<ValueId> {
    if min.is_none() && max.is_none() { Ok(x) } else { cx.emit(Clip { min, max }, &[x]) }
}
