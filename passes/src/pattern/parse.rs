//! Pattern text to parts, checked against the op table. Matching does not belong here.

use super::lexer::{Token, tokens};
use super::{AttrTest, Kind, MAP, OpTerm, OpTest, Pattern, PatternError, Term, ZIP};
use frit_ir::DType;
use frit_ir::op::{Attr, Op};
use std::collections::HashMap;
use std::sync::OnceLock;

/// Op names with their attributes' names.
fn table() -> &'static HashMap<&'static str, Vec<&'static str>> {
    static TABLE: OnceLock<HashMap<&'static str, Vec<&'static str>>> = OnceLock::new();
    TABLE.get_or_init(|| {
        Op::declarations().into_iter().map(|d| (d.name, d.attrs.iter().map(|a| a.name).collect())).collect()
    })
}

/// Parses text whose first slots have the given names.
pub(super) fn parse(text: &str, names: Vec<String>) -> Result<Pattern, PatternError> {
    let mut p = Parser { text, tokens: tokens(text)?, at: 0, names, parts: HashMap::new() };
    while let (Token::Word(name), Token::Mark('=')) = (p.peek(0), p.peek(1)) {
        p.at += 2;
        let part = p.term()?;
        p.expect(';')?;
        p.parts.insert(name, part);
    }
    let term = p.term()?;
    if p.peek(0) != Token::End {
        return Err(p.error("expected the end"));
    }
    Ok(Pattern { term, names: p.names })
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<(Token, usize)>,
    at: usize,
    names: Vec<String>,
    parts: HashMap<String, Term>,
}

impl Parser<'_> {
    fn peek(&self, ahead: usize) -> Token {
        self.tokens.get(self.at + ahead).map_or(Token::End, |(t, _)| t.clone())
    }

    fn next(&mut self) -> Token {
        let token = self.peek(0);
        self.at += 1;
        token
    }

    fn error(&self, why: impl Into<String>) -> PatternError {
        let column = self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(_, c)| *c);
        PatternError { text: self.text.to_owned(), column, why: why.into() }
    }

    fn take(&mut self, mark: char) -> bool {
        let found = self.peek(0) == Token::Mark(mark);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, mark: char) -> Result<(), PatternError> {
        if self.take(mark) { Ok(()) } else { Err(self.error(format!("expected `{mark}`"))) }
    }

    fn word(&mut self) -> Result<String, PatternError> {
        match self.peek(0) {
            Token::Word(w) => {
                self.at += 1;
                Ok(w)
            }
            _ => Err(self.error("expected a name")),
        }
    }

    fn slot(&mut self) -> Result<usize, PatternError> {
        let name = self.word()?;
        Ok(match self.names.iter().position(|n| *n == name) {
            Some(slot) => slot,
            None => {
                self.names.push(name);
                self.names.len() - 1
            }
        })
    }

    fn term(&mut self) -> Result<Term, PatternError> {
        match self.peek(0) {
            Token::Mark('?') => {
                self.at += 1;
                self.variable()
            }
            Token::Number(n, _) => {
                self.at += 1;
                Ok(Term::Number(n))
            }
            Token::Mark('<') => {
                self.at += 1;
                let mut all = vec![self.term()?];
                while self.take('|') {
                    all.push(self.term()?);
                }
                self.expect('>')?;
                Ok(Term::Choice(all))
            }
            Token::Mark('~') => {
                self.at += 1;
                let step = self.term()?;
                match &step {
                    Term::Op(op) => match op.args.first().cloned() {
                        Some(inner) => Ok(Term::Choice(vec![step, inner])),
                        None => Err(self.error("`~` needs an op with an operand")),
                    },
                    _ => Err(self.error("`~` needs an op")),
                }
            }
            Token::Mark('%') => self.class(),
            Token::Word(name) => match self.parts.get(&name) {
                Some(part) if self.peek(1) != Token::Mark('(') => {
                    let part = part.clone();
                    self.at += 1;
                    Ok(part)
                }
                _ => {
                    let Some((known, _)) = table().get_key_value(name.as_str()) else {
                        return Err(self.error(format!("there is no op `{name}`")));
                    };
                    self.at += 1;
                    self.node(OpTest::Named(known)).map(|op| Term::Op(Box::new(op)))
                }
            },
            _ => Err(self.error("expected a part of a pattern")),
        }
    }

    fn variable(&mut self) -> Result<Term, PatternError> {
        let slot = self.slot()?;
        let mut kind = Kind::Any;
        if self.take(':') {
            kind = match self.peek(0) {
                Token::Word(w) if w == "const" => Kind::Const,
                Token::Word(w) if w == "scalar" => Kind::Scalar,
                _ => return Err(self.error("expected `const` or `scalar`")),
            };
            self.at += 1;
        }
        Ok(Term::Var { slot, kind, optional: self.take('?') })
    }

    /// `%map(..)`, `%zip(..)`, or `%n(..)`: the op of a named node.
    fn class(&mut self) -> Result<Term, PatternError> {
        self.expect('%')?;
        let name = self.word()?;
        let members = match name.as_str() {
            "map" => MAP,
            "zip" => ZIP,
            _ => match self.names.iter().position(|n| *n == name) {
                Some(slot) => return self.node(OpTest::Like(slot)).map(|op| Term::Op(Box::new(op))),
                None => {
                    self.at -= 1;
                    return Err(self.error("expected `map`, `zip` or the name of a node"));
                }
            },
        };
        let like = self.node(OpTest::Named(""))?;
        let with = |op: &&'static str| Term::Op(Box::new(OpTerm { op: OpTest::Named(op), ..like.clone() }));
        Ok(Term::Choice(members.iter().map(with).collect()))
    }

    /// What follows an op's name.
    fn node(&mut self, op: OpTest) -> Result<OpTerm, PatternError> {
        let mut node =
            OpTerm { op, attrs: vec![], args: vec![], rest: false, name: None, output: 0, shared: false };
        if self.take('#') {
            node.output = match self.next() {
                Token::Number(n, true) if n >= 0.0 => n as usize,
                _ => return Err(self.error("expected the number of an output")),
            };
        }
        node.shared = self.take('+');
        if self.take('{') {
            loop {
                let attr = self.attribute(&node.op)?;
                node.attrs.push(attr);
                if self.take('}') {
                    break;
                }
                self.expect(',')?;
            }
        }
        if self.take('(') && !self.take(')') {
            loop {
                if self.peek(0) == Token::Rest {
                    self.at += 1;
                    node.rest = true;
                    self.expect(')')?;
                    break;
                }
                let arg = self.term()?;
                node.args.push(arg);
                if self.take(')') {
                    break;
                }
                if !self.take(',') {
                    return Err(self.error("expected `,` or `)`"));
                }
            }
        }
        if self.take('@') {
            node.name = Some(self.slot()?);
        }
        Ok(node)
    }

    fn attribute(&mut self, op: &OpTest) -> Result<(String, AttrTest), PatternError> {
        if self.take('*') {
            return Ok((String::new(), AttrTest::All(self.slot()?)));
        }
        let name = self.word()?;
        if let OpTest::Named(op) = op
            && let Some(known) = table().get(op)
            && !known.contains(&name.as_str())
        {
            self.at -= 1;
            return Err(self.error(format!("{op} has no attribute `{name}`")));
        }
        self.expect('=')?;
        if self.take('?') {
            return Ok((name, AttrTest::Bind(self.slot()?)));
        }
        Ok((name, AttrTest::Is(self.value()?)))
    }

    fn value(&mut self) -> Result<Attr, PatternError> {
        match self.next() {
            Token::Number(n, true) => Ok(Attr::Int(n as i64)),
            Token::Number(n, false) => Ok(Attr::Float(n)),
            Token::Word(w) => Ok(match w.as_str() {
                "true" => Attr::Bool(true),
                "false" => Attr::Bool(false),
                _ => dtype(&w).map_or(Attr::Str(w), Attr::DType),
            }),
            Token::Mark('[') => {
                let mut list = Vec::new();
                while !self.take(']') {
                    match self.next() {
                        Token::Number(n, true) => list.push(n as i64),
                        _ => return Err(self.error("expected an integer")),
                    }
                    self.take(',');
                }
                Ok(Attr::Ints(list))
            }
            _ => {
                self.at -= 1;
                Err(self.error("expected the value of an attribute"))
            }
        }
    }
}

fn dtype(word: &str) -> Option<DType> {
    [DType::Bool, DType::I32, DType::I64, DType::F16, DType::BF16, DType::F32, DType::F64]
        .into_iter()
        .find(|d| d.to_string() == word)
}
