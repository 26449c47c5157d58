//! A model's inputs and outputs: declared types to symbols, frozen and structured values, metadata. Nodes are
//! walked over in `walk.rs`.

use super::cx::Cx;
use super::error::{ImportError, Result};
use super::val::Val;
use super::{ImportRequest, walk};
use crate::onnx::read::dtype_of;
use crate::onnx::schema::{
    DataType, DimValue, GraphProto, ModelProto, TensorType as TensorTypeProto, TypeValue, ValueInfoProto,
};
use crate::onnx::value::{HostValue, Strings};
use frit_ir::{DType, Dim, Tensor, TensorType};
use std::collections::HashSet;

/// How an output of the model is made of outputs of the graph.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// The graph's output of this name.
    Tensor(String),
    /// Strings, known since import.
    Strings(Strings),
    /// A sequence.
    Sequence(Vec<Form>),
    /// An optional.
    Optional(Option<Box<Form>>),
}

impl Form {
    /// The value, from the results of the graph; None when one is missing.
    pub fn value(&self, result: &dyn Fn(&str) -> Option<Tensor>) -> Option<HostValue> {
        Some(match self {
            Form::Tensor(name) => HostValue::Tensor(result(name)?),
            Form::Strings(s) => HostValue::Strings(s.clone()),
            Form::Sequence(all) => {
                HostValue::Sequence(all.iter().map(|f| f.value(result)).collect::<Option<_>>()?)
            }
            Form::Optional(None) => HostValue::Optional(None),
            Form::Optional(Some(f)) => HostValue::Optional(Some(Box::new(f.value(result)?))),
        })
    }
}

/// The tensors of a value under the names of graph inputs and outputs: a tensor has the value's own name, an element
/// of a sequence its position after a dot; an optional adds nothing.
pub fn flatten(name: &str, value: &HostValue) -> Vec<(String, Tensor)> {
    match value {
        HostValue::Tensor(t) => vec![(name.to_owned(), t.clone())],
        HostValue::Strings(_) | HostValue::Optional(None) => vec![],
        HostValue::Sequence(all) => {
            all.iter().enumerate().flat_map(|(i, v)| flatten(&format!("{name}.{i}"), v)).collect()
        }
        HostValue::Optional(Some(v)) => flatten(name, v),
    }
}

/// Facts about the model for people and tools.
pub(super) fn metadata(model: &ModelProto) -> Vec<(String, String)> {
    let mut all = vec![("format".to_owned(), "onnx".to_owned())];
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            all.push((key.to_owned(), value.to_owned()));
        }
    };
    add("producer", format!("{} {}", model.producer_name, model.producer_version).trim());
    add("graph", model.graph.as_ref().map_or("", |g| &g.name));
    for o in &model.opset_import {
        let domain = walk::plain_domain(&o.domain);
        let key = if domain.is_empty() { "opset".to_owned() } else { format!("opset.{domain}") };
        add(&key, &o.version.to_string());
    }
    for p in &model.metadata_props {
        add(&p.key, &p.value);
    }
    all
}

impl<'a> Cx<'a> {
    /// Adds the inputs of the model's graph and gives their names values.
    pub(super) fn inputs(&mut self, graph: &'a GraphProto, request: &ImportRequest) -> Result<()> {
        let mut seen = HashSet::new();
        let (mut shapeless, mut valueless) = (Vec::new(), Vec::new());
        for input in &graph.input {
            let name = input.name.as_str();
            let refuse = |why: String| ImportError::Input { name: name.to_owned(), why };
            if name.is_empty() || !seen.insert(name) {
                return Err(refuse("another input has this name, or it has none".into()));
            }
            self.place = (name.to_owned(), "input".into());
            if let Some(value) = request.frozen.get(name) {
                let val = self.frozen(input, value)?;
                self.bind_input(name, val)?;
                continue;
            }
            if self.has_constant(name) && !request.examples.contains_key(name) {
                continue;
            }
            let declared = input.r#type.as_ref().and_then(|t| t.value.as_ref());
            let example = request.examples.get(name);
            match (declared, example) {
                (Some(TypeValue::TensorType(t)), _) if t.elem_type == DataType::String as i32 => {
                    valueless.push(name.to_owned());
                }
                (Some(TypeValue::TensorType(t)), example) => {
                    match self.tensor_type(name, t, example, request)? {
                        Some(ty) => {
                            let v = self.input(name, ty)?;
                            self.bind_input(name, v.into())?;
                        }
                        None => shapeless.push(name.to_owned()),
                    }
                }
                (None, Some((dtype, shape))) => {
                    let v = self.input(name, TensorType::new(*dtype, shape.iter().copied()))?;
                    self.bind_input(name, v.into())?;
                }
                (None, None) => shapeless.push(name.to_owned()),
                (Some(TypeValue::SequenceType(_) | TypeValue::OptionalType(_)), _) => {
                    valueless.push(name.to_owned())
                }
                _ => return Err(refuse("maps, sparse and opaque values are not supported as inputs".into())),
            }
        }
        for name in request.frozen.keys().chain(request.examples.keys()) {
            if !seen.contains(name.as_str()) {
                let why = format!("the model has no such input; it has {}", list(graph));
                return Err(ImportError::Input { name: name.clone(), why });
            }
        }
        if !valueless.is_empty() {
            let why = "strings, and the structure of sequences and optionals, must be known when importing";
            return Err(ImportError::NeedsValues {
                node: graph.name.clone(),
                op: "graph".into(),
                inputs: valueless,
                why: why.into(),
            });
        }
        if !shapeless.is_empty() {
            return Err(ImportError::NeedsShapes { inputs: shapeless });
        }
        Ok(())
    }

    /// The type of a tensor input; None when neither the file nor the caller gives a shape.
    fn tensor_type(
        &mut self,
        name: &str,
        declared: &TensorTypeProto,
        example: Option<&(DType, Vec<usize>)>,
        request: &ImportRequest,
    ) -> Result<Option<TensorType>> {
        let refuse = |why: String| ImportError::Input { name: name.to_owned(), why };
        let dtype = dtype(declared)
            .ok_or_else(|| refuse(format!("element type {} is not supported", declared.elem_type)))?;
        if let Some((given, _)) = example.filter(|(given, _)| *given != dtype) {
            return Err(refuse(format!("expected elements of type {dtype}, the example has {given}")));
        }
        let Some(shape) = &declared.shape else {
            return Ok(example.map(|(_, shape)| TensorType::new(dtype, shape.iter().copied())));
        };
        let mut dims = Vec::with_capacity(shape.dim.len());
        for (axis, d) in shape.dim.iter().enumerate() {
            let (symbol, parameter) = match &d.value {
                Some(DimValue::DimValue(n)) if *n >= 0 => {
                    dims.push(Dim::constant(*n));
                    continue;
                }
                Some(DimValue::DimParam(p)) if !p.is_empty() => (self.symbols.of_parameter(p), p.as_str()),
                _ => (self.symbols.fresh_input(&format!("{name}_{axis}")), ""),
            };
            dims.push(match request.dims.get(parameter).or_else(|| request.dims.get(&symbol)) {
                Some(n) => Dim::from(*n),
                None => Dim::symbol(&symbol),
            });
        }
        Ok(Some(TensorType { dtype, shape: dims }))
    }

    /// The value of a frozen input.
    fn frozen(&mut self, input: &ValueInfoProto, value: &HostValue) -> Result<Val> {
        let name = input.name.as_str();
        let refuse = |why: String| ImportError::Input { name: name.to_owned(), why };
        match (input.r#type.as_ref().and_then(|t| t.value.as_ref()), value) {
            (Some(TypeValue::TensorType(t)), HostValue::Tensor(v)) => {
                if dtype(t) != Some(v.dtype()) {
                    return Err(refuse(format!("declared with element type {}, given {value}", t.elem_type)));
                }
                self.constant_val(name, value.clone())
            }
            (None, HostValue::Tensor(_)) => self.constant_val(name, value.clone()),
            (Some(TypeValue::TensorType(t)), HostValue::Strings(_))
                if t.elem_type == DataType::String as i32 =>
            {
                self.constant_val(name, value.clone())
            }
            (Some(TypeValue::SequenceType(_)), HostValue::Sequence(_))
            | (Some(TypeValue::OptionalType(_)), HostValue::Optional(_)) => self.structured(name, value),
            (Some(TypeValue::OptionalType(_)), _) => {
                Ok(Val::Optional(Some(Box::new(self.structured(name, value)?))))
            }
            _ => Err(refuse(format!("{value} is not of the declared type"))),
        }
    }

    /// A structure whose tensors are inputs.
    fn structured(&mut self, name: &str, value: &HostValue) -> Result<Val> {
        Ok(match value {
            HostValue::Tensor(t) => {
                self.input(name, TensorType::new(t.dtype(), t.shape().iter().copied()))?.into()
            }
            HostValue::Strings(s) => Val::Strings(s.clone()),
            HostValue::Sequence(all) => Val::Sequence(
                all.iter()
                    .enumerate()
                    .map(|(i, v)| self.structured(&format!("{name}.{i}"), v))
                    .collect::<Result<_>>()?,
            ),
            HostValue::Optional(inner) => {
                Val::Optional(inner.as_ref().map(|v| self.structured(name, v).map(Box::new)).transpose()?)
            }
        })
    }

    /// Adds the outputs of the graph.
    pub(super) fn outputs(
        &mut self,
        graph: &'a GraphProto,
        request: &ImportRequest,
    ) -> Result<Vec<(String, Form)>> {
        let mut out = Vec::with_capacity(graph.output.len());
        let mut used: HashSet<&str> = HashSet::new();
        let mut names = HashSet::new();
        for o in &graph.output {
            if !names.insert(o.name.as_str()) {
                return Err(ImportError::Output {
                    name: o.name.clone(),
                    why: "another output has this name".into(),
                });
            }
            let missing =
                || ImportError::Output { name: o.name.clone(), why: "no node makes this value".into() };
            let val = self.lookup(&o.name)?.ok_or_else(missing)?;
            self.check_declared(o, &val)?;
            let mut wanted = |name: &str| match &request.select {
                None => true,
                Some(select) => {
                    let hit = select.iter().find(|s| {
                        name.strip_prefix(s.as_str())
                            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                    });
                    used.extend(hit.map(String::as_str));
                    hit.is_some()
                }
            };
            if let Some(form) = self.form(&o.name, &val, &mut wanted)? {
                out.push((o.name.clone(), form));
            }
        }
        for s in request.select.iter().flatten() {
            if !used.contains(s.as_str()) {
                let known: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
                let why = format!("the model has no such output; it has {}", known.join(", "));
                return Err(ImportError::Output { name: s.clone(), why });
            }
        }
        Ok(out)
    }

    fn form(&mut self, name: &str, val: &Val, wanted: &mut dyn FnMut(&str) -> bool) -> Result<Option<Form>> {
        Ok(match val {
            Val::Tensor(v) => {
                if !wanted(name) {
                    return Ok(None);
                }
                self.frame_mut()?.graph.add_output(name, *v);
                Some(Form::Tensor(name.to_owned()))
            }
            Val::Strings(s) => wanted(name).then(|| Form::Strings(s.clone())),
            Val::Sequence(all) if all.is_empty() => wanted(name).then(|| Form::Sequence(Vec::new())),
            Val::Sequence(all) => {
                let mut parts = Vec::with_capacity(all.len());
                for (i, v) in all.iter().enumerate() {
                    parts.extend(self.form(&format!("{name}.{i}"), v, wanted)?);
                }
                (!parts.is_empty()).then_some(Form::Sequence(parts))
            }
            Val::Optional(None) => wanted(name).then_some(Form::Optional(None)),
            Val::Optional(Some(v)) => self.form(name, v, wanted)?.map(|f| Form::Optional(Some(Box::new(f)))),
        })
    }

    /// Warns of an output that is declared as something else.
    fn check_declared(&mut self, declared: &ValueInfoProto, val: &Val) -> Result<()> {
        let Some(TypeValue::TensorType(t)) = declared.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
            return Ok(());
        };
        let Val::Tensor(v) = val else { return Ok(()) };
        let ty = self.ty(*v)?;
        let mut wrong = dtype(t).is_some_and(|d| d != ty.dtype);
        if let Some(shape) = &t.shape {
            wrong |= shape.dim.len() != ty.rank();
            wrong |= shape.dim.iter().zip(&ty.shape).any(|(d, own)| match (&d.value, own.as_const()) {
                (Some(DimValue::DimValue(n)), Some(own)) => *n != own,
                _ => false,
            });
        }
        if wrong {
            self.warn(format!("output `{}` is {ty}, which is not what the file declares", declared.name));
        }
        Ok(())
    }
}

fn dtype(t: &TensorTypeProto) -> Option<DType> {
    DataType::try_from(t.elem_type).ok().and_then(dtype_of)
}

fn list(graph: &GraphProto) -> String {
    graph.input.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join(", ")
}
