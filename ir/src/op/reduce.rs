//! Reductions over axes: a family with the same attributes. Positions of extremes are in `arg.rs`.

use super::attr::{Attr, AttrError, AttrSpec, AttrValue, NamedAttr, refuse_unknown, take};
use super::elements::{each_index, flat, strides};
use super::*;
use crate::dim::Dim;
use crate::dtype::DType;

macro_rules! reductions {
    ($( $(#[doc = $doc:literal])* $variant:ident = $onnx:literal, $opset:literal );* $(;)?) => {
        /// How elements are combined.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ReduceFn { $( $(#[doc = $doc])* $variant ),* }

        impl ReduceFn {
            /// Every function of the family.
            pub const ALL: &'static [ReduceFn] = &[$(ReduceFn::$variant),*];
            /// The op's name.
            pub const fn name(self) -> &'static str { match self { $(ReduceFn::$variant => $onnx),* } }
            /// Documentation.
            pub const fn doc(self) -> &'static str { match self { $(ReduceFn::$variant => concat!($($doc, "\n"),*)),* } }
            /// The ONNX opset that gave it its present meaning.
            pub const fn opset(self) -> u32 { match self { $(ReduceFn::$variant => $opset),* } }
        }
    };
}

reductions! {
    /// Sum; 0 of nothing.
    Sum = "ReduceSum", 13;
    /// Arithmetic mean; NaN of nothing.
    Mean = "ReduceMean", 18;
    /// Largest, NaN if any is; for bool: is any true.
    Max = "ReduceMax", 18;
    /// Smallest, NaN if any is; for bool: are all true.
    Min = "ReduceMin", 18;
    /// Product; 1 of nothing.
    Prod = "ReduceProd", 18;
    /// Sum of absolute values.
    L1 = "ReduceL1", 18;
    /// Square root of the sum of squares.
    L2 = "ReduceL2", 18;
    /// Sum of squares.
    SumSquare = "ReduceSumSquare", 18;
    /// Logarithm of the sum of exponentials, without overflow.
    LogSumExp = "ReduceLogSumExp", 18;
    /// Logarithm of the sum.
    LogSum = "ReduceLogSum", 18;
}

/// Combines the elements along axes. ONNX's op of the same name, with axes as an attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduce {
    /// How elements are combined.
    pub function: ReduceFn,
    /// The axes, each once; counted from the end when negative. None named: all.
    pub axes: Vec<i64>,
    /// Reduced axes stay with extent 1.
    pub keepdims: bool,
}

impl Reduce {
    /// A reduction that keeps the axes.
    pub fn keep(function: ReduceFn, axes: &[i64]) -> Self {
        Reduce { function, axes: axes.to_vec(), keepdims: true }
    }

    /// Which axes of a rank are reduced; None when one is out of range or occurs twice.
    pub fn mask(&self, rank: usize) -> Option<Vec<bool>> {
        let mut mask = vec![self.axes.is_empty(); rank];
        for &axis in &self.axes {
            let slot = mask.get_mut(crate::types::resolve_axis(axis, rank)?)?;
            if std::mem::replace(slot, true) {
                return None;
            }
        }
        Some(mask)
    }
}

impl Attributes for Reduce {
    const NAME: &'static str = "Reduce";
    const DOC: &'static str = "";
    fn specs() -> Vec<AttrSpec> {
        vec![
            AttrSpec {
                name: "axes",
                kind: <Vec<i64> as AttrValue>::KIND,
                doc: "The axes, each once; none named: all.",
                default: Some(Attr::Ints(vec![])),
            },
            AttrSpec {
                name: "keepdims",
                kind: <bool as AttrValue>::KIND,
                doc: "Reduced axes stay with extent 1.",
                default: Some(Attr::Bool(true)),
            },
        ]
    }
    fn attrs(&self) -> Vec<NamedAttr> {
        vec![("axes", self.axes.to_attr()), ("keepdims", self.keepdims.to_attr())]
    }
    fn from_attrs(_: &[(String, Attr)]) -> Result<Self, AttrError> {
        Err(AttrError::Missing { op: Self::NAME, name: "function", kind: "a name of the family" })
    }
}

impl Reduce {
    /// One declaration a member of the family.
    fn members(wrap: fn(Self) -> Op) -> Vec<OpDecl> {
        ReduceFn::ALL
            .iter()
            .map(|&function| OpDecl {
                name: function.name(),
                doc: function.doc(),
                attrs: Self::specs(),
                build: Box::new(move |a| {
                    let name = function.name();
                    refuse_unknown(name, &["axes", "keepdims"], a)?;
                    let axes = take(name, "axes", a, Some(vec![]))?;
                    let keepdims = take(name, "keepdims", a, Some(true))?;
                    Ok(wrap(Reduce { function, axes, keepdims }))
                }),
            })
            .collect()
    }
}

impl OpDef for Reduce {
    fn declare(wrap: fn(Self) -> Op) -> Vec<OpDecl> {
        Self::members(wrap)
    }
    fn name(&self) -> &'static str {
        self.function.name()
    }
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[one("data")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op(self.function.name(), self.function.opset())
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        use ReduceFn::*;
        let x = cx.ty(0)?;
        let fits = match self.function {
            Max | Min => true,
            Sum | Prod | L1 | SumSquare | Mean => x.dtype != DType::Bool,
            L2 | LogSum | LogSumExp => x.dtype.is_float(),
        };
        if !fits {
            return Err(cx.reject(0, "another element type"));
        }
        let Some(mask) = self.mask(x.rank()) else {
            return Err(cx.bad_attr("axes", format!("{:?} are no different axes of {x}", self.axes)));
        };
        Ok(vec![TensorType { dtype: x.dtype, shape: reduced_shape(&x.shape, &mask, self.keepdims) }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = cx.input(0)?;
        let (dtype, shape) = cx.output(0)?;
        let mask = self.mask(x.shape().len()).ok_or_else(|| cx.bad_data("axes out of range"))?;
        let groups = group(x.shape(), &mask, Tensor::zeros(DType::U8, shape)?.len())?;
        let out = if dtype.is_float() {
            let v = x.to_f64_vec();
            let f = |g: &Vec<usize>| {
                let xs: Vec<f64> = g.iter().filter_map(|&i| v.get(i).copied()).collect();
                reduce_floats(self.function, &xs)
            };
            Tensor::from_f64(dtype, shape, &groups.iter().map(f).collect::<Vec<_>>())?
        } else {
            let v = x.to_i64_vec();
            let f = |g: &Vec<usize>| {
                let xs: Vec<i64> = g.iter().filter_map(|&i| v.get(i).copied()).collect();
                let of_none = match self.function {
                    ReduceFn::Max if dtype == DType::Bool => Some(0),
                    ReduceFn::Min if dtype == DType::Bool => Some(1),
                    _ => None,
                };
                reduce_ints(self.function, &xs).or(of_none).ok_or_else(|| {
                    cx.bad_data(format!("no elements along {:?} of {:?}", self.axes, x.shape()))
                })
            };
            Tensor::from_i64(dtype, shape, &groups.iter().map(f).collect::<Result<Vec<_>, _>>()?)?
        };
        Ok(vec![out])
    }
}

/// The shape after reducing the axes in the mask.
pub fn reduced_shape(shape: &[Dim], mask: &[bool], keepdims: bool) -> Vec<Dim> {
    let kept = |(d, &m): (&Dim, &bool)| match (m, keepdims) {
        (false, _) => Some(d.clone()),
        (true, true) => Some(Dim::constant(1)),
        (true, false) => None,
    };
    shape.iter().zip(mask).filter_map(kept).collect()
}

/// For each of `count` results, the positions of the elements that make it, in order.
fn group(shape: &[usize], mask: &[bool], count: usize) -> Result<Vec<Vec<usize>>, OpError> {
    let kept: Vec<usize> = shape.iter().zip(mask).filter(|(_, m)| !**m).map(|(d, _)| *d).collect();
    let to = strides(&kept);
    let mut groups = vec![Vec::new(); count];
    let mut position = 0;
    each_index(shape, |index| {
        let kept: Vec<usize> = index.iter().zip(mask).filter(|(_, m)| !**m).map(|(i, _)| *i).collect();
        if let Some(g) = groups.get_mut(flat(&kept, &to)) {
            g.push(position);
        }
        position += 1;
        Ok(())
    })?;
    Ok(groups)
}

fn reduce_floats(f: ReduceFn, xs: &[f64]) -> f64 {
    let sum = || xs.iter().sum::<f64>();
    let extreme = |pick: fn(f64, f64) -> f64, start: f64| {
        if xs.iter().any(|x| x.is_nan()) { f64::NAN } else { xs.iter().copied().fold(start, pick) }
    };
    match f {
        ReduceFn::Sum => sum(),
        ReduceFn::Mean => sum() / xs.len() as f64,
        ReduceFn::Max => extreme(f64::max, f64::NEG_INFINITY),
        ReduceFn::Min => extreme(f64::min, f64::INFINITY),
        ReduceFn::Prod => xs.iter().product(),
        ReduceFn::L1 => xs.iter().map(|x| x.abs()).sum(),
        ReduceFn::L2 => xs.iter().map(|x| x * x).sum::<f64>().sqrt(),
        ReduceFn::SumSquare => xs.iter().map(|x| x * x).sum(),
        ReduceFn::LogSum => sum().ln(),
        ReduceFn::LogSumExp => {
            let max = extreme(f64::max, f64::NEG_INFINITY);
            if max.is_infinite() { max } else { max + xs.iter().map(|x| (x - max).exp()).sum::<f64>().ln() }
        }
    }
}

/// None where the function has no value of nothing.
fn reduce_ints(f: ReduceFn, xs: &[i64]) -> Option<i64> {
    Some(match f {
        ReduceFn::Sum => xs.iter().fold(0, |s, x| s.wrapping_add(*x)),
        ReduceFn::Mean => {
            xs.iter().fold(0i64, |s, x| s.wrapping_add(*x)).checked_div(i64::try_from(xs.len()).ok()?)?
        }
        ReduceFn::Max => *xs.iter().max()?,
        ReduceFn::Min => *xs.iter().min()?,
        ReduceFn::Prod => xs.iter().fold(1, |s, x| s.wrapping_mul(*x)),
        ReduceFn::L1 => xs.iter().fold(0, |s, x| s.wrapping_add(x.wrapping_abs())),
        ReduceFn::SumSquare => xs.iter().fold(0, |s, x| s.wrapping_add(x.wrapping_mul(*x))),
        ReduceFn::L2 | ReduceFn::LogSum | ReduceFn::LogSumExp => return None,
    })
}
