//! Prints modules and graphs. What is printed, `parser.rs` reads.

use super::attrs::write_attrs;
use super::numbers::write_elements;
use crate::graph::{Graph, NodeId, ValueDef, ValueId};
use crate::module::{Module, SMALL, WeightTable};
use crate::name::{Name, Quoted, is_name_char};
use std::fmt::{self, Write};

/// Inputs and outputs that take more characters than this are printed one a line.
const MAX_LINE: usize = 100;

/// The module as text.
pub fn print_module(m: &Module) -> String {
    let mut out = String::from("module {\n");
    for (key, value) in &m.metadata {
        let _ = writeln!(out, "  fact {} = {}", Name(key), Quoted(value));
    }
    for (_, w) in m.weights.iter() {
        let _ = write!(out, "  weight {}: {}", WeightName(&w.name), w.ty);
        if let Some(t) = w.data.as_ref().filter(|t| t.len() <= SMALL) {
            out.push_str(" = ");
            write_elements(&mut out, t);
        }
        out.push('\n');
    }
    for g in &m.graphs {
        write_graph(&mut out, g, &m.weights, "  ");
    }
    out.push_str("}\n");
    out
}

/// One graph as text; its weights by name.
pub fn print_graph(g: &Graph, weights: &WeightTable) -> String {
    let mut out = String::new();
    write_graph(&mut out, g, weights, "");
    out
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print_module(self))
    }
}

struct WeightName<'a>(&'a str);

impl fmt::Display for WeightName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() && self.0.chars().all(is_name_char) {
            write!(f, "@{}", self.0)
        } else {
            write!(f, "@{}", Quoted(self.0))
        }
    }
}

fn write_graph(out: &mut String, g: &Graph, weights: &WeightTable, indent: &str) {
    let _ = write!(out, "{indent}graph {}(", Name(&g.name));
    let inputs = g.inputs.iter().map(|input| {
        let ty = g.ty(input.value).map(|t| format!(": {t}")).unwrap_or_default();
        let default = input.default.map(|d| format!(" = {}", d.word())).unwrap_or_default();
        format!("{}{ty}{default}", Name(&input.name))
    });
    let wrapped = write_list(out, inputs.collect(), &format!("{indent}    "));
    if wrapped {
        let _ = write!(out, "\n{indent}");
    }
    out.push_str(") {\n");
    // A graph with a cycle has no order to print in; it is printed as it stands, for whoever has to find the cycle.
    let order = g.topological_order().unwrap_or_else(|_| g.nodes().map(|(id, _)| id).collect());
    for id in order {
        write_node(out, g, weights, id, indent);
    }
    if !g.outputs.is_empty() {
        let _ = write!(out, "{indent}  return ");
        let outputs = g.outputs.iter().map(|o| {
            let mut text = format!("{} = ", Name(&o.name));
            write_operand(&mut text, g, weights, Some(o.value));
            text
        });
        write_list(out, outputs.collect(), &format!("{indent}    "));
        out.push('\n');
    }
    for s in &g.states {
        let _ =
            writeln!(out, "{indent}  state {} -> {} {{axis = {}}}", Name(&s.input), Name(&s.output), s.axis);
    }
    let _ = writeln!(out, "{indent}}}");
}

/// Items separated by commas: in the line while they are short, else each in a line of its own, which is told.
fn write_list(out: &mut String, items: Vec<String>, indent: &str) -> bool {
    let wrap = items.iter().map(|i| i.chars().count() + 2).sum::<usize>() > MAX_LINE;
    let lead = if wrap { format!("\n{indent}") } else { String::new() };
    for (i, item) in items.iter().enumerate() {
        let sep = match (i, wrap) {
            (0, _) => "",
            (_, true) => ",",
            (_, false) => ", ",
        };
        let _ = write!(out, "{sep}{lead}{item}");
    }
    wrap
}

fn write_node(out: &mut String, g: &Graph, weights: &WeightTable, id: NodeId, indent: &str) {
    let Some(node) = g.node(id) else { return };
    let _ = write!(out, "{indent}  ");
    for (i, v) in node.outputs.iter().enumerate() {
        let sep = if i == 0 { "" } else { ", " };
        let _ = write!(out, "{sep}{v}");
        if let Some(ty) = g.ty(*v) {
            let _ = write!(out, ": {ty}");
        }
    }
    let _ = write!(out, " = {}(", node.op.name());
    for (i, v) in node.inputs.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write_operand(out, g, weights, *v);
    }
    out.push(')');
    write_attrs(out, &node.op);
    if !node.label.is_empty() {
        let _ = write!(out, " ; {}", Quoted(&node.label));
    }
    out.push('\n');
}

fn write_operand(out: &mut String, g: &Graph, weights: &WeightTable, v: Option<ValueId>) {
    let Some(v) = v else {
        out.push('_');
        return;
    };
    let _ = match g.def(v) {
        Some(ValueDef::Input(i)) if g.inputs.get(i).is_some_and(|x| x.value == v) => {
            write!(out, "{}", Name(g.inputs.get(i).map_or("", |x| &x.name)))
        }
        Some(ValueDef::Weight(w)) if weights.get(w).is_some() => {
            write!(out, "{}", WeightName(weights.get(w).map_or("", |w| &w.name)))
        }
        _ => write!(out, "{v}"),
    };
}
