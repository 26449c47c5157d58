//! Cuts pattern text into tokens. What they mean is `parse.rs`'s business.

use super::PatternError;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Letters, digits, `_`, not starting with a digit.
    Word(String),
    /// A number, and whether it was written as an integer.
    Number(f64, bool),
    /// `..`
    Rest,
    /// Any other character.
    Mark(char),
    /// The end.
    End,
}

/// Tokens with their columns from 1; the last is the end.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, usize)>, PatternError> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let c = at(i);
        let start = i;
        if c.is_whitespace() {
            i += 1;
            continue;
        }
        let token = if c.is_ascii_alphabetic() || c == '_' {
            while at(i).is_ascii_alphanumeric() || at(i) == '_' {
                i += 1;
            }
            Token::Word(chars.iter().skip(start).take(i - start).collect())
        } else if c.is_ascii_digit() || (c == '-' && at(i + 1).is_ascii_digit()) {
            i += 1;
            while at(i).is_ascii_alphanumeric()
                || (at(i) == '.' && at(i + 1) != '.')
                || (at(i) == '-' && at(i - 1) == 'e')
            {
                i += 1;
            }
            let word: String = chars.iter().skip(start).take(i - start).collect();
            let number = word.parse().map_err(|_| PatternError {
                text: text.to_owned(),
                column: start + 1,
                why: format!("`{word}` is no number"),
            })?;
            Token::Number(number, !word.contains(['.', 'e']))
        } else if c == '.' && at(i + 1) == '.' {
            i += 2;
            Token::Rest
        } else {
            i += 1;
            Token::Mark(c)
        };
        out.push((token, start + 1));
    }
    out.push((Token::End, chars.len() + 1));
    Ok(out)
}
