//! The op table as Markdown, for docs/OPS.md. What backends support is added by whoever knows the backends.

use crate::dim::Dim;
use crate::dtype::DType;
use crate::op::{Arity, Attr, AttrSpec, Onnx, Op, OpDecl};
use std::fmt::Write;

/// One op with its operands, attributes and place in ONNX.
pub struct OpDoc {
    /// The declaration.
    pub decl: OpDecl,
    /// The op with some value for every attribute, to ask it about itself.
    pub sample: Op,
}

/// Every op, in the table's order.
pub fn ops() -> Vec<OpDoc> {
    let with_sample = |decl: OpDecl| {
        let attrs: Vec<(String, Attr)> =
            decl.attrs.iter().map(|a| (a.name.to_owned(), some_value(a))).collect();
        let sample = (decl.build)(&attrs).ok()?;
        Some(OpDoc { decl, sample })
    };
    Op::declarations().into_iter().filter_map(with_sample).collect()
}

/// The default, or some value of the kind.
fn some_value(spec: &AttrSpec) -> Attr {
    if let Some(default) = &spec.default {
        return default.clone();
    }
    match spec.kind {
        "number" => Attr::Float(1.0),
        "bool" => Attr::Bool(false),
        "string" => Attr::Str(String::new()),
        "dtype" => Attr::DType(DType::F32),
        "dims" => Attr::Dims(vec![]),
        "dim" => Attr::Dims(vec![Dim::constant(1)]),
        "integers" => Attr::Ints(vec![]),
        "numbers" => Attr::Floats(vec![]),
        "list" | "strings" => Attr::List(vec![]),
        "types" => Attr::Types(vec![]),
        "integer" => Attr::Int(1),
        choice => {
            let first = choice.strip_prefix("one of ").and_then(|c| c.split(' ').next());
            Attr::Str(first.unwrap_or_default().to_owned())
        }
    }
}

/// A section an op: documentation, operands, attributes, ONNX.
pub fn ops_markdown() -> String {
    let mut out = String::new();
    for OpDoc { decl, sample } in ops() {
        let operands: Vec<String> = sample
            .operands()
            .iter()
            .map(|o| match o.arity {
                Arity::One => o.name.to_owned(),
                Arity::Optional => format!("{}?", o.name),
                Arity::Variadic => format!("{}..", o.name),
            })
            .collect();
        let _ = writeln!(out, "### {}({})\n", decl.name, operands.join(", "));
        let doc: Vec<&str> = decl.doc.lines().map(str::trim).collect();
        let _ = writeln!(out, "{}\n", doc.join("\n").trim());
        for a in &decl.attrs {
            let default = match (&a.default, a.kind.starts_with("one of")) {
                (None, _) => "required".to_owned(),
                (Some(Attr::Str(word)), true) => format!("default {word}"),
                (Some(d), _) => format!("default {d}"),
            };
            let _ = writeln!(out, "- `{}`: {}, {default}. {}", a.name, a.kind, a.doc.trim());
        }
        if !decl.attrs.is_empty() {
            out.push('\n');
        }
        let onnx = match sample.onnx() {
            Onnx::Op(name, since) => format!("ONNX {name}, opset {since}"),
            Onnx::None => "not in ONNX".to_owned(),
        };
        let kind = if sample.is_composite() { "composite" } else { "primitive" };
        let _ = writeln!(out, "{kind}; {onnx}.\n");
    }
    out
}
