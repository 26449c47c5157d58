//! From concrete inputs to values of the dimension symbols, and defaults for inputs left out.
//! Nothing is executed here.

use crate::dim::{Bindings, DimError};
use crate::dtype::DType;
use crate::graph::{Graph, InputDefault};
use crate::tensor::{Tensor, TensorError};

/// Why given inputs do not fit a graph.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BindError {
    /// A required input was not given.
    #[error("input `{name}` is missing; `{entry}` takes {known}")]
    Missing {
        /// Input name.
        name: String,
        /// Entry point.
        entry: String,
        /// All inputs with types.
        known: String,
    },
    /// A name that the graph does not have.
    #[error("`{name}` is no input of `{entry}`, which takes {known}")]
    Unknown {
        /// Name given.
        name: String,
        /// Entry point.
        entry: String,
        /// All inputs with types.
        known: String,
    },
    /// Another element type.
    #[error("input `{name}`: expected elements of type {expected}, got {got}")]
    DType {
        /// Input name.
        name: String,
        /// Type expected.
        expected: DType,
        /// Type found.
        got: DType,
    },
    /// Another rank.
    #[error("input `{name}`: expected rank {expected} ({shape}), got shape {got:?}")]
    Rank {
        /// Input name.
        name: String,
        /// Rank expected.
        expected: usize,
        /// Declared type.
        shape: String,
        /// Shape found.
        got: Vec<usize>,
    },
    /// An extent contradicts the type or another input.
    #[error("input `{name}`: axis {axis} is `{expr}`{value}, got {got}")]
    Extent {
        /// Input name.
        name: String,
        /// Axis.
        axis: usize,
        /// Declared extent.
        expr: String,
        /// Its value, when an expression.
        value: String,
        /// Extent found.
        got: usize,
    },
    /// A symbol that no given input determines.
    #[error("no given input determines dimension `{symbol}` of `{name}`")]
    Undetermined {
        /// Input name.
        name: String,
        /// The symbol.
        symbol: String,
    },
    /// A dimension cannot be computed.
    #[error("input `{name}`: {source}")]
    Dim {
        /// Input name.
        name: String,
        /// The cause.
        source: DimError,
    },
    /// A default could not be made.
    #[error("input `{name}`: {source}")]
    Tensor {
        /// Input name.
        name: String,
        /// The cause.
        source: TensorError,
    },
}

fn known_inputs(graph: &Graph) -> String {
    let all: Vec<String> = graph
        .inputs
        .iter()
        .map(|i| {
            let ty = graph.ty(i.value).map(ToString::to_string).unwrap_or_default();
            let default = i.default.map(|d| format!(" = {}", d.word())).unwrap_or_default();
            format!("{}: {ty}{default}", i.name)
        })
        .collect();
    all.join(", ")
}

/// Checks dtypes, ranks and extents of the given inputs and solves for the dimension symbols.
/// `shape_of` gives dtype and shape of the input of that name, None when left out.
pub fn bind(
    graph: &Graph,
    shape_of: &dyn Fn(&str) -> Option<(DType, Vec<usize>)>,
) -> Result<Bindings, BindError> {
    bind_with(graph, shape_of, &|_| false, Bindings::new())
}

/// [`bind`], with some symbols known beforehand, and inputs besides those with defaults that may be left out.
pub fn bind_with(
    graph: &Graph,
    shape_of: &dyn Fn(&str) -> Option<(DType, Vec<usize>)>,
    optional: &dyn Fn(&str) -> bool,
    known: Bindings,
) -> Result<Bindings, BindError> {
    let mut bindings = known;
    let mut open = Vec::new();
    for input in &graph.inputs {
        let Some(ty) = graph.ty(input.value) else { continue };
        let name = || input.name.clone();
        let Some((dtype, shape)) = shape_of(&input.name) else {
            if input.default.is_none() && !optional(&input.name) {
                return Err(BindError::Missing {
                    name: name(),
                    entry: graph.name.clone(),
                    known: known_inputs(graph),
                });
            }
            continue;
        };
        if dtype != ty.dtype {
            return Err(BindError::DType { name: name(), expected: ty.dtype, got: dtype });
        }
        if shape.len() != ty.rank() {
            return Err(BindError::Rank {
                name: name(),
                expected: ty.rank(),
                shape: ty.to_string(),
                got: shape,
            });
        }
        for (axis, (dim, &got)) in ty.shape.iter().zip(&shape).enumerate() {
            match dim.as_symbol() {
                Some(s) if bindings.get(s).is_none() => {
                    bindings.set(s, i64::try_from(got).unwrap_or(i64::MAX))
                }
                _ => open.push((input, axis, dim, got)),
            }
        }
    }
    // Expressions may each determine one more symbol; then all must hold.
    loop {
        let before = bindings.iter().count();
        for (_, _, dim, got) in &open {
            if let Some((s, v)) = dim.solve(i64::try_from(*got).unwrap_or(i64::MAX), &bindings) {
                bindings.set(&s, v);
            }
        }
        if bindings.iter().count() == before {
            break;
        }
    }
    for (input, axis, dim, got) in open {
        match dim.eval(&bindings) {
            Ok(v) if usize::try_from(v) == Ok(got) => {}
            Ok(v) => {
                let value = if dim.as_const().is_some() { String::new() } else { format!(" = {v}") };
                return Err(BindError::Extent {
                    name: input.name.clone(),
                    axis,
                    expr: dim.to_string(),
                    value,
                    got,
                });
            }
            Err(DimError::Unbound(symbol)) => {
                return Err(BindError::Undetermined { name: input.name.clone(), symbol });
            }
            Err(source) => return Err(BindError::Dim { name: input.name.clone(), source }),
        }
    }
    for (s, v) in bindings.iter() {
        if v < 0 {
            let source = DimError::Negative { expr: s.to_owned(), value: v };
            return Err(BindError::Dim { name: graph.name.clone(), source });
        }
    }
    for input in &graph.inputs {
        for s in graph.ty(input.value).into_iter().flat_map(|t| t.shape.iter()).flat_map(|d| d.symbols()) {
            if bindings.get(&s).is_none() {
                return Err(BindError::Undetermined { name: input.name.clone(), symbol: s.to_string() });
            }
        }
    }
    Ok(bindings)
}

/// Refuses names that the graph does not have.
pub fn check_names<'n>(graph: &Graph, names: impl Iterator<Item = &'n str>) -> Result<(), BindError> {
    for name in names {
        if !graph.inputs.iter().any(|i| i.name == name) {
            return Err(BindError::Unknown {
                name: name.to_owned(),
                entry: graph.name.clone(),
                known: known_inputs(graph),
            });
        }
    }
    Ok(())
}

/// The tensor that stands in for an input left out.
pub fn default_tensor(default: InputDefault, dtype: DType, shape: &[usize]) -> Result<Tensor, TensorError> {
    match default {
        InputDefault::Zeros => Tensor::zeros(dtype, shape),
        InputDefault::Ones => {
            let n = Tensor::zeros(DType::U8, shape)?.len();
            Tensor::from_i64(dtype, shape, &vec![1; n])
        }
        InputDefault::Arange => {
            let n = Tensor::zeros(DType::U8, shape)?.len();
            let last = shape.last().copied().unwrap_or(1).max(1);
            let v: Vec<i64> = (0..n).map(|i| i64::try_from(i % last).unwrap_or(0)).collect();
            Tensor::from_i64(dtype, shape, &v)
        }
    }
}
