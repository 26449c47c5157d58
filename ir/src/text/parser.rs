//! Reads modules from text: untrusted input, so every size and name is checked. Printing is in `printer.rs`.

use super::ParseError;
use super::attrs;
use super::dims::tensor_type;
use super::lexer::{Lexer, Placed, Token, error_at};
use super::numbers;
use crate::dtype::DType;
use crate::graph::{Graph, InputDefault, State, ValueId};
use crate::module::{Module, SMALL, WeightId};
use crate::op::{Attr, Infer, Op};
use crate::tensor::{Tensor, element_count};
use crate::types::{TensorType, resolve_axis};
use std::collections::HashMap;

/// Reads a module. Weights without numbers come without data.
pub fn parse(text: &str) -> Result<Module, ParseError> {
    let mut lx = Lexer::new(text)?;
    let mut module = Module::default();
    lx.word("module")?;
    lx.punct('{')?;
    while !lx.eat('}')? {
        if lx.eat_word("fact")? {
            let key = lx.name("the fact's name")?;
            lx.punct('=')?;
            let value = lx.name("the fact in quotes")?;
            module.metadata.push((key, value));
        } else if lx.eat_word("weight")? {
            weight(&mut lx, &mut module)?;
        } else if lx.eat_word("graph")? {
            let at = lx.place();
            let g = graph(&mut lx, &module)?;
            if module.graph(&g.name).is_some() {
                return Err(error_at(&at, format!("the graph `{}` is there already", g.name)));
            }
            module.graphs.push(g);
        } else {
            return Err(lx.expected("`fact`, `weight`, `graph` or `}`"));
        }
    }
    match lx.peek() {
        Token::End => Ok(module),
        _ => Err(lx.expected("the end of the text")),
    }
}

fn weight(lx: &mut Lexer<'_>, module: &mut Module) -> Result<(), ParseError> {
    let at = lx.place();
    let Token::Weight(name) = lx.peek().clone() else { return Err(lx.expected("`@` and the weight's name")) };
    lx.next()?;
    if module.weights.find(&name).is_some() {
        return Err(error_at(&at, format!("the weight `@{name}` is there already")));
    }
    lx.punct(':')?;
    let at = lx.place();
    let ty = tensor_type(lx)?;
    let shape = ty
        .fixed_shape()
        .ok_or_else(|| error_at(&at, format!("a weight of extents that are no numbers: {ty}")))?;
    if !lx.eat('=')? {
        module.weights.declare(&name, ty);
        return Ok(());
    }
    let at = lx.place();
    let count = element_count(&shape).filter(|&n| n <= SMALL).ok_or_else(|| {
        error_at(&at, format!("only weights of at most {SMALL} elements carry numbers, this one is {ty}"))
    })?;
    let data = elements(lx, ty.dtype, count, shape.is_empty())?;
    let data = Tensor::from_bytes(ty.dtype, &shape, &data).map_err(|e| error_at(&at, e.to_string()))?;
    module.weights.add(&name, data);
    Ok(())
}

fn elements(lx: &mut Lexer<'_>, dtype: DType, count: usize, scalar: bool) -> Result<Vec<u8>, ParseError> {
    if scalar {
        return numbers::element(lx, dtype);
    }
    lx.punct('[')?;
    let mut data = Vec::new();
    for i in 0..count {
        if i > 0 {
            lx.punct(',')?;
        }
        data.extend(numbers::element(lx, dtype)?);
    }
    lx.punct(']')?;
    Ok(data)
}

/// A graph being read: what its names mean.
struct Reader<'m> {
    module: &'m Module,
    graph: Graph,
    inputs: HashMap<String, ValueId>,
    values: HashMap<String, ValueId>,
}

fn graph(lx: &mut Lexer<'_>, module: &Module) -> Result<Graph, ParseError> {
    let name = lx.name("the graph's name")?;
    let mut r = Reader { module, graph: Graph::new(&name), inputs: HashMap::new(), values: HashMap::new() };
    lx.punct('(')?;
    if !lx.eat(')')? {
        loop {
            r.input(lx)?;
            if lx.eat(')')? {
                break;
            }
            if !lx.eat(',')? {
                return Err(lx.expected("`,` or `)`"));
            }
        }
    }
    lx.punct('{')?;
    while !lx.eat('}')? {
        if matches!(lx.peek(), Token::Value(_)) {
            r.node(lx)?;
        } else if lx.eat_word("return")? {
            r.outputs(lx)?;
        } else if lx.eat_word("state")? {
            r.state(lx)?;
        } else {
            return Err(lx.expected("`%value`, `return`, `state` or `}`"));
        }
    }
    Ok(r.graph)
}

impl Reader<'_> {
    fn input(&mut self, lx: &mut Lexer<'_>) -> Result<(), ParseError> {
        let at = lx.place();
        let name = lx.name("the input's name")?;
        lx.punct(':')?;
        let ty = tensor_type(lx)?;
        let default = if lx.eat('=')? {
            let word = InputDefault::WORDS.iter().find(|(_, w)| *lx.peek() == Token::Ident((*w).to_owned()));
            let (default, _) = word.ok_or_else(|| lx.expected("`zeros`, `ones` or `arange`"))?;
            lx.next()?;
            Some(*default)
        } else {
            None
        };
        let value = self.graph.add_input(&name, ty, default);
        if self.inputs.insert(name.clone(), value).is_some() {
            return Err(error_at(&at, format!("the input `{name}` is there already")));
        }
        Ok(())
    }

    fn operand(&mut self, lx: &mut Lexer<'_>) -> Result<Option<ValueId>, ParseError> {
        let at = lx.place();
        let missing = |what: String| error_at(&at, format!("{what} is not defined before"));
        let value = match lx.peek().clone() {
            Token::Ident(s) if s == "_" => None,
            Token::Ident(s) | Token::Text(s) => {
                Some(*self.inputs.get(&s).ok_or_else(|| missing(format!("an input `{s}`")))?)
            }
            Token::Value(s) => Some(*self.values.get(&s).ok_or_else(|| missing(format!("%{s}")))?),
            Token::Weight(s) => {
                let id = self.module.weights.find(&s).ok_or_else(|| missing(format!("the weight @{s}")))?;
                Some(self.weight_value(id))
            }
            _ => return Err(lx.expected("`%value`, `@weight`, an input's name or `_`")),
        };
        lx.next()?;
        Ok(value)
    }

    fn weight_value(&mut self, id: WeightId) -> ValueId {
        let ty = self.module.weights.get(id).map(|w| w.ty.clone());
        self.graph.weight_value(id, &ty.unwrap_or_else(|| TensorType::new(DType::F32, [0usize])))
    }

    fn node(&mut self, lx: &mut Lexer<'_>) -> Result<(), ParseError> {
        let first = lx.place();
        let mut results: Vec<(String, Option<TensorType>, Placed)> = Vec::new();
        loop {
            let at = lx.place();
            let Token::Value(name) = lx.peek().clone() else { return Err(lx.expected("`%value`")) };
            lx.next()?;
            let ty = if lx.eat(':')? { Some(tensor_type(lx)?) } else { None };
            if self.values.contains_key(&name) || results.iter().any(|(n, ..)| *n == name) {
                return Err(error_at(&at, format!("%{name} is there already")));
            }
            results.push((name, ty, at));
            if lx.eat('=')? {
                break;
            }
            if !lx.eat(',')? {
                return Err(lx.expected("`,` or `=`"));
            }
        }
        let at = lx.place();
        let Token::Ident(op_name) = lx.peek().clone() else { return Err(lx.expected("an op's name")) };
        let decl =
            Op::declaration(&op_name).ok_or_else(|| error_at(&at, format!("there is no op `{op_name}`")))?;
        lx.next()?;
        lx.punct('(')?;
        let mut operands = Vec::new();
        if !lx.eat(')')? {
            loop {
                operands.push(self.operand(lx)?);
                if lx.eat(')')? {
                    break;
                }
                if !lx.eat(',')? {
                    return Err(lx.expected("`,` or `)`"));
                }
            }
        }
        let attrs = self.attributes(lx, decl)?;
        let label = if lx.eat(';')? { lx.name("the label in quotes")? } else { String::new() };
        let op = (decl.build)(&attrs).map_err(|e| error_at(&at, e.to_string()))?;
        let types: Vec<Option<&TensorType>> =
            operands.iter().map(|v| v.and_then(|v| self.graph.ty(v))).collect();
        let inferred = op
            .infer(&Infer { op: op.name(), inputs: &types })
            .map_err(|e| error_at(&first, e.to_string()))?;
        if inferred.len() != results.len() {
            let why = format!("{op_name} makes {} values, not {}", inferred.len(), results.len());
            return Err(error_at(&first, why));
        }
        let mut given = Vec::new();
        for ((name, ty, at), inferred) in results.iter().zip(inferred) {
            match ty {
                Some(t) if !t.same(&inferred) => {
                    return Err(error_at(at, format!("expected %{name}: {inferred}, got {t}")));
                }
                Some(t) => given.push(t.clone()),
                None => given.push(inferred),
            }
        }
        let id = self.graph.add_node(op, operands, given, &label);
        let outputs = self.graph.node(id).map(|n| n.outputs.clone()).unwrap_or_default();
        self.values.extend(results.into_iter().map(|(n, ..)| n).zip(outputs));
        Ok(())
    }

    fn attributes(
        &self,
        lx: &mut Lexer<'_>,
        decl: &crate::op::OpDecl,
    ) -> Result<Vec<(String, Attr)>, ParseError> {
        let mut out: Vec<(String, Attr)> = Vec::new();
        if !lx.eat('{')? || lx.eat('}')? {
            return Ok(out);
        }
        loop {
            let at = lx.place();
            let name = lx.name("an attribute's name")?;
            let Some(spec) = decl.attrs.iter().find(|s| s.name == name) else {
                let known: Vec<_> = decl.attrs.iter().map(|s| s.name).collect();
                let why = format!("{} has no attribute `{name}`; it has: {}", decl.name, known.join(", "));
                return Err(error_at(&at, why));
            };
            if out.iter().any(|(n, _)| *n == name) {
                return Err(error_at(&at, format!("the attribute `{name}` is there already")));
            }
            lx.punct('=')?;
            out.push((name, attrs::value(lx, spec)?));
            if lx.eat('}')? {
                return Ok(out);
            }
            if !lx.eat(',')? {
                return Err(lx.expected("`,` or `}`"));
            }
        }
    }

    fn outputs(&mut self, lx: &mut Lexer<'_>) -> Result<(), ParseError> {
        loop {
            let at = lx.place();
            let name = lx.name("the output's name")?;
            if self.graph.outputs.iter().any(|o| o.name == name) {
                return Err(error_at(&at, format!("the output `{name}` is there already")));
            }
            lx.punct('=')?;
            let value = self.operand(lx)?.ok_or_else(|| lx.error("an output cannot be left out"))?;
            self.graph.add_output(&name, value);
            if !lx.eat(',')? {
                return Ok(());
            }
        }
    }

    fn state(&mut self, lx: &mut Lexer<'_>) -> Result<(), ParseError> {
        let at = lx.place();
        let input = lx.name("an input's name")?;
        let value =
            *self.inputs.get(&input).ok_or_else(|| error_at(&at, format!("there is no input `{input}`")))?;
        if *lx.peek() != Token::Arrow {
            return Err(lx.expected("`->`"));
        }
        lx.next()?;
        let at = lx.place();
        let output = lx.name("an output's name")?;
        if !self.graph.outputs.iter().any(|o| o.name == output) {
            return Err(error_at(&at, format!("there is no output `{output}`")));
        }
        lx.punct('{')?;
        lx.word("axis")?;
        lx.punct('=')?;
        let at = lx.place();
        let axis = numbers::integer(lx)?;
        let rank = self.graph.ty(value).map_or(0, TensorType::rank);
        let axis = resolve_axis(axis, rank)
            .ok_or_else(|| error_at(&at, format!("axis {axis} is out of range for rank {rank}")))?;
        lx.punct('}')?;
        self.graph.states.push(State { input, output, axis });
        Ok(())
    }
}
