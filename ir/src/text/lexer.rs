//! Cuts text into tokens and keeps the place of each. No grammar belongs here.

use super::ParseError;
use crate::name::is_name_char;
use std::fmt;

/// A piece of text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A bare name or keyword.
    Ident(String),
    /// Text in quotes, unescaped.
    Text(String),
    /// An unsigned number as written.
    Number(String),
    /// `%name`.
    Value(String),
    /// `@name` or `@"name"`.
    Weight(String),
    /// A single character.
    Punct(char),
    /// `->`.
    Arrow,
    /// The end of the text.
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Ident(s) | Token::Number(s) => write!(f, "`{s}`"),
            Token::Text(s) => write!(f, "{}", crate::name::Quoted(s)),
            Token::Value(s) => write!(f, "`%{s}`"),
            Token::Weight(s) => write!(f, "`@{s}`"),
            Token::Punct(c) => write!(f, "`{c}`"),
            Token::Arrow => f.write_str("`->`"),
            Token::End => f.write_str("the end of the text"),
        }
    }
}

/// A token with where it starts.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub token: Token,
    pub line: usize,
    pub column: usize,
}

/// Reads tokens one by one, with one token of lookahead in `current`.
pub(super) struct Lexer<'t> {
    rest: std::iter::Peekable<std::str::Chars<'t>>,
    line: usize,
    column: usize,
    current: Placed,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Result<Self, ParseError> {
        let current = Placed { token: Token::End, line: 1, column: 1 };
        let mut lexer = Lexer { rest: text.chars().peekable(), line: 1, column: 1, current };
        lexer.current = lexer.read()?;
        Ok(lexer)
    }

    /// The token at hand.
    pub(super) fn peek(&self) -> &Token {
        &self.current.token
    }

    /// Takes the token at hand.
    pub(super) fn next(&mut self) -> Result<Placed, ParseError> {
        let next = self.read()?;
        Ok(std::mem::replace(&mut self.current, next))
    }

    /// An error at the token at hand.
    pub(super) fn error(&self, why: impl Into<String>) -> ParseError {
        error_at(&self.current, why)
    }

    /// The error that something else was expected than the token at hand.
    pub(super) fn expected(&self, what: &str) -> ParseError {
        self.error(format!("expected {what}, got {}", self.current.token))
    }

    /// The place of the token at hand.
    pub(super) fn place(&self) -> Placed {
        self.current.clone()
    }

    /// Takes a given character or refuses.
    pub(super) fn punct(&mut self, c: char) -> Result<(), ParseError> {
        if self.eat(c)? { Ok(()) } else { Err(self.expected(&format!("`{c}`"))) }
    }

    /// Takes a given character if it is at hand.
    pub(super) fn eat(&mut self, c: char) -> Result<bool, ParseError> {
        let there = *self.peek() == Token::Punct(c);
        if there {
            self.next()?;
        }
        Ok(there)
    }

    /// Takes a given word if it is at hand.
    pub(super) fn eat_word(&mut self, word: &str) -> Result<bool, ParseError> {
        let there = matches!(self.peek(), Token::Ident(s) if s == word);
        if there {
            self.next()?;
        }
        Ok(there)
    }

    /// Takes a given word or refuses.
    pub(super) fn word(&mut self, word: &str) -> Result<(), ParseError> {
        if self.eat_word(word)? { Ok(()) } else { Err(self.expected(&format!("`{word}`"))) }
    }

    /// Takes a bare or quoted name.
    pub(super) fn name(&mut self, what: &str) -> Result<String, ParseError> {
        match self.peek() {
            Token::Ident(_) | Token::Text(_) => match self.next()?.token {
                Token::Ident(s) | Token::Text(s) => Ok(s),
                _ => Err(self.expected(what)),
            },
            _ => Err(self.expected(what)),
        }
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn read(&mut self) -> Result<Placed, ParseError> {
        loop {
            let (line, column) = (self.line, self.column);
            let placed = |token| Placed { token, line, column };
            let Some(&c) = self.rest.peek() else { return Ok(placed(Token::End)) };
            if c.is_whitespace() {
                self.bump();
                continue;
            }
            if c.is_ascii_alphabetic() || c == '_' {
                return Ok(placed(Token::Ident(self.run(is_name_char))));
            }
            if c.is_ascii_digit() {
                return Ok(placed(Token::Number(self.number())));
            }
            self.bump();
            let token = match c {
                '/' if self.rest.peek() == Some(&'/') => {
                    while self.rest.peek().is_some_and(|&c| c != '\n') {
                        self.bump();
                    }
                    continue;
                }
                '"' => Token::Text(self.quoted(line, column)?),
                '%' => Token::Value(self.sigil_name("%", line, column)?),
                '@' if self.rest.peek() == Some(&'"') => {
                    self.bump();
                    Token::Weight(self.quoted(line, column)?)
                }
                '@' => Token::Weight(self.sigil_name("@", line, column)?),
                '-' if self.rest.peek() == Some(&'>') => {
                    self.bump();
                    Token::Arrow
                }
                '{' | '}' | '(' | ')' | '[' | ']' | ',' | ':' | '=' | ';' | '-' | '+' | '*' | '/' => {
                    Token::Punct(c)
                }
                other => {
                    let why = format!("the character {other:?} starts nothing");
                    return Err(ParseError { line, column, why });
                }
            };
            return Ok(placed(token));
        }
    }

    fn run(&mut self, take: impl Fn(char) -> bool) -> String {
        let mut out = String::new();
        while let Some(&c) = self.rest.peek() {
            if !take(c) {
                break;
            }
            out.push(c);
            self.bump();
        }
        out
    }

    /// Digits, a fraction, an exponent with its sign; or the bits of a float in hexadecimal.
    fn number(&mut self) -> String {
        let mut out = String::new();
        while let Some(&c) = self.rest.peek() {
            let sign = (c == '-' || c == '+') && out.ends_with(['e', 'E']) && !out.starts_with("0x");
            if !(c.is_ascii_alphanumeric() || c == '.' || sign) {
                break;
            }
            out.push(c);
            self.bump();
        }
        out
    }

    fn sigil_name(&mut self, sigil: &str, line: usize, column: usize) -> Result<String, ParseError> {
        let name = self.run(is_name_char);
        if name.is_empty() {
            let why = format!("expected a name directly after `{sigil}`");
            return Err(ParseError { line, column, why });
        }
        Ok(name)
    }

    fn quoted(&mut self, line: usize, column: usize) -> Result<String, ParseError> {
        let unclosed = || ParseError { line, column, why: "the quoted text has no end".to_owned() };
        let mut out = String::new();
        loop {
            let (line, column) = (self.line, self.column);
            match self.bump().ok_or_else(unclosed)? {
                '"' => return Ok(out),
                '\\' => {
                    let c = match self.bump().ok_or_else(unclosed)? {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        c @ ('"' | '\\') => c,
                        'u' => self.code_point().ok_or_else(|| {
                            let why = "expected \\u{..} with a character's number in hexadecimal".to_owned();
                            ParseError { line, column, why }
                        })?,
                        c => return Err(ParseError { line, column, why: format!("unknown escape `\\{c}`") }),
                    };
                    out.push(c);
                }
                c => out.push(c),
            }
        }
    }

    fn code_point(&mut self) -> Option<char> {
        if self.bump()? != '{' {
            return None;
        }
        let mut value = 0u32;
        loop {
            match self.bump()? {
                '}' => return char::from_u32(value),
                c => value = value.checked_mul(16)?.checked_add(c.to_digit(16)?)?,
            }
        }
    }
}

/// An error at a token.
pub(super) fn error_at(place: &Placed, why: impl Into<String>) -> ParseError {
    ParseError { line: place.line, column: place.column, why: why.into() }
}
