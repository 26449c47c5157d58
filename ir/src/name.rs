//! Names as the text format writes them: which need quotes, and how quoted text escapes. No grammar belongs here.

use std::fmt::{self, Write};

/// True for a character of a name that needs no quotes.
pub(crate) fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

/// True for a name that reads back without quotes: letters, digits, `_` and `.`, not starting with a digit or a
/// dot, and not the lone `_` that stands for an operand left out.
pub(crate) fn is_plain(name: &str) -> bool {
    name != "_"
        && name.chars().all(is_name_char)
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// A name, quoted when it must be.
pub(crate) struct Name<'a>(pub &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain(self.0) { f.write_str(self.0) } else { Quoted(self.0).fmt(f) }
    }
}

/// Text in quotes.
pub(crate) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}
