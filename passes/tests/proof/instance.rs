//! Graphs out of patterns: each alternative is a form, built with what an example says of its names.

use super::example::{Entry, Example};
use frit_ir::op::{Attr, Op};
use frit_ir::random::Stream;
use frit_ir::{DType, Graph, GraphBuilder, Module, Tensor, ValueId};
use frit_passes::pattern::{AttrTest, OpTerm, OpTest, Pattern, Term};
use std::collections::HashMap;

/// The pattern's forms: one for each combination of alternatives.
pub fn forms(term: &Term) -> Vec<Term> {
    match term {
        Term::Choice(all) => all.iter().flat_map(forms).collect(),
        Term::Op(op) => {
            let mut lists: Vec<Vec<Term>> = vec![vec![]];
            for arg in &op.args {
                let options = forms(arg);
                lists = lists
                    .into_iter()
                    .flat_map(|list| {
                        options.iter().map(move |o| {
                            let mut list = list.clone();
                            list.push(o.clone());
                            list
                        })
                    })
                    .collect();
            }
            lists.into_iter().map(|args| Term::Op(Box::new(OpTerm { args, ..(**op).clone() }))).collect()
        }
        other => vec![other.clone()],
    }
}

/// A module whose one graph computes the form.
pub fn build(form: &Term, pattern: &Pattern, example: &Example) -> Result<Module, String> {
    let mut module = Module::default();
    let mut graph = Graph::new("forward");
    let builder = GraphBuilder::new(&mut graph, &mut module.weights);
    let mut instance = Instance { b: builder, example, values: HashMap::new(), stream: Stream::new(3) };
    let y = instance.term(form, pattern, None)?.ok_or("the root is left out")?;
    instance.b.output("y", y);
    module.graphs.push(graph);
    Ok(module)
}

struct Instance<'m> {
    b: GraphBuilder<'m>,
    example: &'m Example,
    values: HashMap<String, Option<ValueId>>,
    stream: Stream,
}

impl Instance<'_> {
    fn term(&mut self, term: &Term, names: &Pattern, like: Option<DType>) -> Result<Option<ValueId>, String> {
        let show = |e: &dyn std::fmt::Display| e.to_string();
        match term {
            Term::Var { slot, .. } => {
                let name = names.names.get(*slot).cloned().unwrap_or_default();
                if let Some(v) = self.values.get(&name) {
                    return Ok(*v);
                }
                let v = self.named(&name, like)?;
                self.values.insert(name, v);
                Ok(v)
            }
            Term::Number(n) => self.b.scalar(like.unwrap_or(DType::F32), *n).map(Some).map_err(|e| show(&e)),
            Term::Op(op) => self.node(op, names).map(Some),
            Term::Choice(_) => Err("alternatives are taken apart before".to_owned()),
        }
    }

    fn named(&mut self, name: &str, like: Option<DType>) -> Result<Option<ValueId>, String> {
        let example = self.example;
        let show = |e: &dyn std::fmt::Display| e.to_string();
        match example.entries.get(name) {
            None => Err(format!("the example says nothing of `{name}`")),
            Some(Entry::Absent) => Ok(None),
            Some(Entry::Value { ty, weight: false, .. }) => Ok(Some(self.b.input(name, ty.clone(), None))),
            Some(Entry::Value { weight: true, .. }) => {
                let data = example.data(name, &mut self.stream)?;
                self.b.named_weight(name, data).map(Some).map_err(|e| e.to_string())
            }
            Some(Entry::Attr(Attr::Int(n))) => self.scalar(like, *n as f64),
            Some(Entry::Attr(Attr::Float(x))) => self.scalar(like, *x),
            Some(Entry::Attr(Attr::Ints(list))) => {
                let data = Tensor::from_i64(DType::I64, &[list.len()], list).map_err(|e| show(&e))?;
                self.b.constant(data).map(Some).map_err(|e| show(&e))
            }
            Some(Entry::Attr(a)) => Err(format!("`{name}` = {a} is no value")),
            Some(Entry::Term(part)) => self.term(&part.term, part, None),
        }
    }

    fn scalar(&mut self, like: Option<DType>, x: f64) -> Result<Option<ValueId>, String> {
        let data = Tensor::scalar(like.unwrap_or(DType::F32), x);
        self.b.constant(data).map(Some).map_err(|e| e.to_string())
    }

    fn node(&mut self, op: &OpTerm, names: &Pattern) -> Result<ValueId, String> {
        let OpTest::Named(name) = op.op else { return Err("a pattern names its ops".to_owned()) };
        // Numbers take the type of an operand beside them, a condition is a bool.
        let mut inputs = vec![None; op.args.len()];
        let mut dtype = None;
        for numbers in [false, true] {
            for (i, arg) in op.args.iter().enumerate() {
                if numbers != matches!(arg, Term::Number(_)) {
                    continue;
                }
                let condition = name == "Where" && i == 0;
                let like = if condition { Some(DType::Bool) } else { dtype };
                let v = self.term(arg, names, like)?;
                if let (Some(v), false) = (v, condition) {
                    dtype = dtype.or(self.b.ty(v).ok().map(|t| t.dtype));
                }
                if let Some(slot) = inputs.get_mut(i) {
                    *slot = v;
                }
            }
        }
        let own = op.name.and_then(|s| names.names.get(s));
        let mut attrs: Vec<(String, Attr)> = Vec::new();
        for declared in Op::declarations().iter().filter(|d| d.name == name).flat_map(|d| d.attrs.iter()) {
            let tested = op.attrs.iter().find(|(n, _)| n == declared.name).map(|(_, t)| t);
            let from_example =
                own.and_then(|own| self.example.entries.get(&format!("{own}.{}", declared.name)));
            let value = match (tested, from_example) {
                (Some(AttrTest::Is(a)), _) => Some(a.clone()),
                (Some(AttrTest::Bind(slot)), _) => {
                    let name = names.names.get(*slot).cloned().unwrap_or_default();
                    match self.example.entries.get(&name) {
                        Some(Entry::Attr(a)) => Some(a.clone()),
                        _ => return Err(format!("the example has no attribute `{name}`")),
                    }
                }
                (_, Some(Entry::Attr(a))) => Some(a.clone()),
                _ => None,
            };
            attrs.extend(value.map(|v| (declared.name.to_owned(), v)));
        }
        let built = Op::from_name(name, &attrs).ok_or_else(|| format!("no op {name}"))?;
        let built = built.map_err(|e| e.to_string())?;
        let outputs = self.b.ops(built, &inputs).map_err(|e| e.to_string())?;
        let value = outputs.get(op.output).copied().ok_or("no such output")?;
        if let Some(own) = own {
            self.values.insert(own.clone(), Some(value));
        }
        Ok(value)
    }
}
