//! Joins two forms of a decoder, without and with a cache, into one model that chooses by an input, as Optimum and
//! transformers.js load it. Which inputs and outputs decoders have is the caller's business.

use super::{ExportError, Exported, Initializer, attr};
use crate::onnx::schema::build::{size, tensor_type};
use crate::onnx::schema::{DataType, GraphProto, ModelProto, NodeProto, ValueInfoProto};
use std::collections::{HashMap, HashSet};

/// The input that chooses: true for the decoder with a cache.
pub const USE_CACHE: &str = "use_cache_branch";

/// A model that runs `with_cache` where the input [`USE_CACHE`] (bool `[1]`) holds and `first` elsewhere. Its inputs are
/// those of `with_cache`, which must hold those of `first`; its outputs are those of both. Weights are shared.
///
/// # Errors
/// Outputs that differ in name or order, or inputs of `first` that `with_cache` does not have.
pub fn merge(first: &Exported, with_cache: &Exported) -> Result<Exported, ExportError> {
    let graph =
        |e: &Exported| e.model.graph.clone().ok_or_else(|| ExportError::Merge("a model has no graph".into()));
    let (without, with) = (graph(first)?, graph(with_cache)?);
    let names = |list: &[ValueInfoProto]| list.iter().map(|v| v.name.clone()).collect::<Vec<_>>();
    if names(&without.output) != names(&with.output) {
        return Err(ExportError::Merge("their outputs differ".into()));
    }
    let inputs = names(&with.input);
    if let Some(lost) = without.input.iter().find(|i| !inputs.contains(&i.name)) {
        return Err(ExportError::Merge(format!("only one has the input `{}`", lost.name)));
    }
    let mut initializers = first.initializers.clone();
    let renamed = share(&mut initializers, &with_cache.initializers);
    // What both branches see: inputs and weights keep their names, all else is a branch's own.
    let outer: HashSet<String> =
        inputs.iter().cloned().chain(initializers.iter().map(|i| i.name.clone())).collect();
    let then_branch = branch(with.clone(), "with_cache", &outer, &renamed);
    let else_branch = branch(without, "first", &outer, &HashMap::new());
    let choice = NodeProto {
        input: vec![USE_CACHE.to_owned()],
        output: names(&with.output),
        name: "node/cache".to_owned(),
        op_type: "If".to_owned(),
        attribute: vec![attr::graph("then_branch", then_branch), attr::graph("else_branch", else_branch)],
        ..NodeProto::default()
    };
    let mut input = with.input;
    input.push(ValueInfoProto {
        name: USE_CACHE.to_owned(),
        r#type: Some(tensor_type(DataType::Bool, Some(vec![size(1)]))),
        ..ValueInfoProto::default()
    });
    let graph = GraphProto {
        node: vec![choice],
        name: with.name,
        input,
        output: with.output,
        ..GraphProto::default()
    };
    Ok(Exported { model: ModelProto { graph: Some(graph), ..with_cache.model.clone() }, initializers })
}

/// Adds the other's initializers where they are not there already, under new names where another has theirs. Gives the
/// new names.
fn share(all: &mut Vec<Initializer>, other: &[Initializer]) -> HashMap<String, String> {
    let mut by_name: HashMap<String, usize> =
        all.iter().enumerate().map(|(n, i)| (i.name.clone(), n)).collect();
    let mut renamed = HashMap::new();
    for i in other {
        let mut name = i.name.clone();
        loop {
            match by_name.get(&name).and_then(|n| all.get(*n)) {
                Some(there) if there.tensor == i.tensor => break,
                Some(_) => name.push('\''),
                None => {
                    by_name.insert(name.clone(), all.len());
                    all.push(Initializer { name: name.clone(), tensor: i.tensor.clone() });
                    break;
                }
            }
        }
        if name != i.name {
            renamed.insert(i.name.clone(), name);
        }
    }
    renamed
}

/// A graph as a branch: it takes nothing, sees the names in `outer`, and keeps its own apart by a prefix.
fn branch(
    mut graph: GraphProto,
    prefix: &str,
    outer: &HashSet<String>,
    renamed: &HashMap<String, String>,
) -> GraphProto {
    graph.input.clear();
    prefix.clone_into(&mut graph.name);
    let inner: HashSet<String> = made(&graph.node);
    rename(&mut graph, &|name: &str| {
        if name.is_empty() {
            String::new()
        } else if inner.contains(name) || !(outer.contains(name) || renamed.contains_key(name)) {
            format!("{prefix}/{name}")
        } else {
            renamed.get(name).cloned().unwrap_or_else(|| name.to_owned())
        }
    });
    graph
}

/// Names that nodes give to their results.
fn made(nodes: &[NodeProto]) -> HashSet<String> {
    nodes.iter().flat_map(|n| n.output.iter().cloned()).collect()
}

/// Renames values and nodes, those of nested graphs too.
fn rename(graph: &mut GraphProto, to: &dyn Fn(&str) -> String) {
    for v in graph.input.iter_mut().chain(&mut graph.output) {
        v.name = to(&v.name);
    }
    for node in &mut graph.node {
        for name in node.input.iter_mut().chain(&mut node.output) {
            *name = to(name);
        }
        node.name = format!("node/{}", node.output.first().map_or("", String::as_str));
        for nested in node.attribute.iter_mut().filter_map(|a| a.g.as_mut()) {
            rename(nested, to);
        }
    }
}
