//! One node as a lowering sees it: resolved operands and typed attributes. Nothing is emitted here; operands that
//! must be known at import are read with `Cx`.

use super::error::{ImportError, Result};
use super::val::Val;
use crate::onnx::schema::{
    AttributeProto, AttributeType, GraphProto, NodeProto, SparseTensorProto, TensorProto, TypeProto,
};
use frit_ir::ValueId;
use std::cell::RefCell;

/// A node with its operands and attributes.
pub struct NodeView<'a> {
    /// The message.
    pub proto: &'a NodeProto,
    /// Operator.
    pub op: &'a str,
    /// Domain; empty for ai.onnx.
    pub domain: &'a str,
    /// Version of the domain's operator set where the node stands.
    pub opset: i64,
    /// The node's name, else its first output's, for errors and labels.
    pub label: String,
    /// Operands; None where one is left out.
    pub inputs: Vec<Option<Val>>,
    /// Attributes, those of a function's caller put in.
    pub(super) attributes: Vec<(&'a str, &'a AttributeProto)>,
    pub(super) asked: RefCell<Vec<&'static str>>,
}

/// The label of a node: its name, else its first output's.
pub(super) fn label_of(node: &NodeProto) -> String {
    if !node.name.is_empty() {
        return node.name.clone();
    }
    let output = node.output.iter().find(|o| !o.is_empty());
    output.cloned().unwrap_or_else(|| format!("unnamed {}", node.op_type))
}

/// The number that the float stands for: the shortest decimal that rounds to it, so that 1e-12 is 1e-12.
pub(super) fn widen(f: f32) -> f64 {
    f.to_string().parse().unwrap_or_else(|_| f64::from(f))
}

impl<'a> NodeView<'a> {
    /// An error at this node.
    pub fn error(&self, why: impl Into<String>) -> ImportError {
        ImportError::Node { node: self.label.clone(), op: self.op.to_owned(), why: why.into() }
    }

    /// Number of outputs that the node names, up to the last one wanted.
    pub fn output_count(&self) -> usize {
        self.proto.output.iter().rposition(|o| !o.is_empty()).map_or(0, |i| i + 1)
    }

    /// True when output `i` is used under some name.
    pub fn wants(&self, i: usize) -> bool {
        self.proto.output.get(i).is_some_and(|o| !o.is_empty())
    }

    /// Operand `i`, which must be there.
    pub fn val(&self, i: usize) -> Result<&Val> {
        self.opt_val(i).ok_or_else(|| self.error(format!("operand {i} is missing")))
    }

    /// Operand `i`, when it is there.
    pub fn opt_val(&self, i: usize) -> Option<&Val> {
        self.inputs.get(i).and_then(Option::as_ref)
    }

    /// Operand `i` as a tensor; an optional that holds one is unwrapped.
    pub fn tensor(&self, i: usize) -> Result<ValueId> {
        self.tensor_of(i, self.val(i)?)
    }

    /// Operand `i` as a tensor, when it is there.
    pub fn opt(&self, i: usize) -> Result<Option<ValueId>> {
        self.opt_val(i).map(|v| self.tensor_of(i, v)).transpose()
    }

    /// All operands as tensors; none may be left out.
    pub fn tensors(&self) -> Result<Vec<ValueId>> {
        (0..self.inputs.len()).map(|i| self.tensor(i)).collect()
    }

    fn tensor_of(&self, i: usize, v: &Val) -> Result<ValueId> {
        match v {
            Val::Tensor(v) => Ok(*v),
            Val::Optional(Some(inner)) => self.tensor_of(i, inner),
            other => Err(self.error(format!("operand {i}: expected a tensor, got {}", other.kind()))),
        }
    }

    /// Operand `i` as a sequence.
    pub fn sequence(&self, i: usize) -> Result<&[Val]> {
        match self.val(i)? {
            Val::Sequence(all) => Ok(all),
            Val::Optional(Some(inner)) => match &**inner {
                Val::Sequence(all) => Ok(all),
                other => Err(self.error(format!("operand {i}: expected a sequence, got {}", other.kind()))),
            },
            other => Err(self.error(format!("operand {i}: expected a sequence, got {}", other.kind()))),
        }
    }

    /// Marks attributes that are known and without effect on the result.
    pub fn ignore(&self, names: &[&'static str]) {
        self.asked.borrow_mut().extend_from_slice(names);
    }

    /// Attributes that no lowering asked for.
    pub(super) fn unasked(&self) -> Vec<&'a str> {
        let asked = self.asked.borrow();
        self.attributes.iter().map(|(n, _)| *n).filter(|n| !asked.iter().any(|a| a == n)).collect()
    }

    /// The attribute of a name, when given.
    pub fn attribute(&self, name: &'static str) -> Option<&'a AttributeProto> {
        self.asked.borrow_mut().push(name);
        self.attributes.iter().find(|(n, _)| *n == name).map(|(_, a)| *a)
    }

    fn typed<T>(
        &self,
        name: &'static str,
        kind: AttributeType,
        get: impl FnOnce(&'a AttributeProto) -> T,
    ) -> Result<Option<T>> {
        let Some(a) = self.attribute(name) else { return Ok(None) };
        // Files older than the type field leave it out.
        let given = AttributeType::try_from(a.r#type).unwrap_or(AttributeType::Undefined);
        if given == kind || given == AttributeType::Undefined {
            return Ok(Some(get(a)));
        }
        Err(self.error(format!("attribute `{name}`: expected {kind:?}, got {given:?}")))
    }

    /// An integer, when given.
    pub fn int(&self, name: &'static str) -> Result<Option<i64>> {
        self.typed(name, AttributeType::Int, |a| a.i)
    }
    /// An integer, or its default.
    pub fn int_or(&self, name: &'static str, default: i64) -> Result<i64> {
        Ok(self.int(name)?.unwrap_or(default))
    }
    /// An integer used as a truth value, or its default.
    pub fn flag(&self, name: &'static str, default: bool) -> Result<bool> {
        Ok(self.int(name)?.map_or(default, |i| i != 0))
    }
    /// Integers, when given.
    pub fn ints(&self, name: &'static str) -> Result<Option<Vec<i64>>> {
        self.typed(name, AttributeType::Ints, |a| a.ints.clone())
    }
    /// A float, when given.
    pub fn float(&self, name: &'static str) -> Result<Option<f64>> {
        self.typed(name, AttributeType::Float, |a| widen(a.f))
    }
    /// A float, or its default.
    pub fn float_or(&self, name: &'static str, default: f64) -> Result<f64> {
        Ok(self.float(name)?.unwrap_or(default))
    }
    /// Floats, when given.
    pub fn floats(&self, name: &'static str) -> Result<Option<Vec<f64>>> {
        self.typed(name, AttributeType::Floats, |a| a.floats.iter().map(|&f| widen(f)).collect())
    }
    /// A string, when given.
    pub fn string(&self, name: &'static str) -> Result<Option<&'a str>> {
        let bytes = self.typed(name, AttributeType::String, |a| &a.s)?;
        let text = |b: &'a bytes::Bytes| std::str::from_utf8(b);
        bytes.map(text).transpose().map_err(|_| self.error(format!("attribute `{name}` is no UTF-8 text")))
    }
    /// A string, or its default.
    pub fn string_or(&self, name: &'static str, default: &'a str) -> Result<&'a str> {
        Ok(self.string(name)?.unwrap_or(default))
    }
    /// Strings, when given.
    pub fn strings(&self, name: &'static str) -> Result<Option<Vec<&'a str>>> {
        let Some(all) = self.typed(name, AttributeType::Strings, |a| &a.strings)? else { return Ok(None) };
        let text = |b: &'a bytes::Bytes| std::str::from_utf8(b);
        let all: std::result::Result<Vec<_>, _> = all.iter().map(text).collect();
        all.map(Some).map_err(|_| self.error(format!("attribute `{name}` is no UTF-8 text")))
    }
    /// A tensor message, when given; `Cx::read` makes it a value.
    pub fn tensor_attr(&self, name: &'static str) -> Result<Option<&'a TensorProto>> {
        Ok(self.typed(name, AttributeType::Tensor, |a| a.t.as_deref())?.flatten())
    }
    /// A sparse tensor message, when given.
    pub fn sparse_attr(&self, name: &'static str) -> Result<Option<&'a SparseTensorProto>> {
        Ok(self.typed(name, AttributeType::SparseTensor, |a| a.sparse_tensor.as_deref())?.flatten())
    }
    /// A type message, when given.
    pub fn type_attr(&self, name: &'static str) -> Result<Option<&'a TypeProto>> {
        Ok(self.typed(name, AttributeType::TypeProto, |a| a.tp.as_deref())?.flatten())
    }
    /// A graph, which must be given.
    pub fn graph(&self, name: &'static str) -> Result<&'a GraphProto> {
        let graph = self.typed(name, AttributeType::Graph, |a| a.g.as_deref())?.flatten();
        graph.ok_or_else(|| self.error(format!("attribute `{name}`, a graph, is missing")))
    }
}
