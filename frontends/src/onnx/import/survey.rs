//! Looks through a whole model for operators that have no lowering, so that all are reported at once, and for
//! functions that call themselves. Nothing is lowered here.

use super::error::{ImportError, Result, UnsupportedOp};
use super::node::label_of;
use super::registry;
use super::walk::{Functions, opsets, plain_domain};
use crate::onnx::schema::{FunctionProto, ModelProto, NodeProto, OperatorSetIdProto};
use std::collections::{BTreeMap, HashMap};

/// So many nodes of an operator are named.
const NAMED: usize = 5;
/// Functions call functions so deep.
const MAX_DEPTH: usize = 32;
/// So many operator sets are imported at once.
const MAX_OPSETS: usize = 64;

struct Survey<'a> {
    own: &'a Functions<'a>,
    found: BTreeMap<(String, String, Option<i64>), (usize, Vec<String>)>,
    /// Functions entered (true while on the way) by domain, name and overload.
    functions: HashMap<(&'a str, &'a str, &'a str), bool>,
    depth: usize,
    nodes: usize,
}

/// Refuses a model with operators that have no lowering, or with recursive functions; gives the number of nodes in
/// the file.
pub(super) fn check<'a>(model: &'a ModelProto, own: &'a Functions<'a>) -> Result<usize> {
    few(&model.opset_import, "the model")?;
    let mut s = Survey { own, found: BTreeMap::new(), functions: HashMap::new(), depth: 0, nodes: 0 };
    let imports = opsets(&model.opset_import);
    if let Some(graph) = &model.graph {
        s.nodes(&graph.node, &imports)?;
    }
    if s.found.is_empty() {
        return Ok(s.nodes);
    }
    let all = s.found.into_iter().map(|((domain, op, opset), (count, nodes))| UnsupportedOp {
        domain,
        op,
        opset,
        count,
        nodes,
    });
    Err(ImportError::Unsupported(all.collect()))
}

fn few(imports: &[OperatorSetIdProto], of: &str) -> Result<()> {
    if imports.len() <= MAX_OPSETS {
        return Ok(());
    }
    Err(ImportError::Limit { what: format!("operator sets of `{of}`"), limit: MAX_OPSETS })
}

impl<'a> Survey<'a> {
    fn nodes(&mut self, nodes: &'a [NodeProto], imports: &HashMap<&'a str, i64>) -> Result<()> {
        for node in nodes {
            self.nodes += 1;
            let domain = plain_domain(&node.domain);
            let opset = imports.get(domain).copied();
            let known = registry::find(domain, &node.op_type, opset.unwrap_or(1)).is_some();
            if !known {
                match self.own.of(node) {
                    Some(f) => self.function(f, node, imports)?,
                    None => self.report(node, opset),
                }
            }
            for graph in node.attribute.iter().flat_map(|a| a.g.as_deref().into_iter().chain(&a.graphs)) {
                self.nodes(&graph.node, imports)?;
            }
        }
        Ok(())
    }

    fn report(&mut self, node: &NodeProto, opset: Option<i64>) {
        let key = (plain_domain(&node.domain).to_owned(), node.op_type.clone(), opset);
        let (count, names) = self.found.entry(key).or_default();
        *count += 1;
        if names.len() < NAMED {
            names.push(label_of(node));
        }
    }

    fn function(
        &mut self,
        f: &'a FunctionProto,
        node: &NodeProto,
        imports: &HashMap<&'a str, i64>,
    ) -> Result<()> {
        let key = (f.domain.as_str(), f.name.as_str(), f.overload.as_str());
        match self.functions.get(&key) {
            Some(false) => return Ok(()),
            Some(true) => {
                let why = "this function calls itself".to_owned();
                return Err(ImportError::Node { node: label_of(node), op: f.name.clone(), why });
            }
            None => {}
        }
        if self.depth >= MAX_DEPTH {
            let what = format!("functions within functions, at `{}`", label_of(node));
            return Err(ImportError::Limit { what, limit: MAX_DEPTH });
        }
        few(&f.opset_import, &f.name)?;
        self.functions.insert(key, true);
        self.depth += 1;
        let mut inner = imports.clone();
        inner.extend(opsets(&f.opset_import));
        self.nodes(&f.node, &inner)?;
        self.depth -= 1;
        self.functions.insert(key, false);
        Ok(())
    }
}
