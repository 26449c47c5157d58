//! Operators on strings, which are known at import: StringConcat, StringSplit, StringNormalizer, RegexFullMatch.
//! Counting n-grams is in `ngrams.rs`; conversions from and to numbers are in `convert.rs`.

use crate::onnx::import::registry::Row;
use crate::onnx::import::{Cx, NodeView, Result, Val};
use crate::onnx::value::Strings;
use frit_ir::op::broadcast_indices;
use frit_ir::tensor::element_count;
use frit_ir::{Dim, Tensor};

pub const ROWS: &[Row] = &[
    ("", "StringConcat", 20, concat),
    ("", "StringSplit", 20, split),
    ("", "StringNormalizer", 10, normalise),
    ("", "RegexFullMatch", 20, matches),
];

/// Strings that an operator makes are at most so many bytes in all.
const MAX_BYTES: usize = 64 << 20;

/// Operand `i`, which must be strings.
pub(super) fn strings<'n>(n: &'n NodeView<'_>, i: usize) -> Result<&'n Strings> {
    match n.val(i)? {
        Val::Strings(s) => Ok(s),
        Val::Optional(Some(inner)) => match &**inner {
            Val::Strings(s) => Ok(s),
            other => Err(n.error(format!("operand {i}: expected strings, got {}", other.kind()))),
        },
        other => Err(n.error(format!("operand {i}: expected strings, got {}", other.kind()))),
    }
}

fn concat<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let (a, b) = (strings(n, 0)?, strings(n, 1)?);
    let dims = |s: &Strings| s.shape.iter().copied().map(Dim::from).collect::<Vec<_>>();
    let shape = cx.broadcast_shape(&[dims(a), dims(b)])?;
    let shape: Vec<usize> = shape.iter().filter_map(Dim::as_fixed).collect();
    let longest = |s: &Strings| s.values.iter().map(String::len).max().unwrap_or(0);
    let each = longest(a).saturating_add(longest(b)).saturating_add(size_of::<String>());
    if element_count(&shape).and_then(|count| count.checked_mul(each)).is_none_or(|b| b > MAX_BYTES) {
        return Err(n.error(format!("the strings of {shape:?} may take more than {MAX_BYTES} bytes")));
    }
    let pairs = broadcast_indices(&a.shape, &shape).zip(broadcast_indices(&b.shape, &shape));
    let part = |s: &Strings, i: usize| s.values.get(i).cloned().unwrap_or_default();
    let values = pairs.map(|(i, j)| part(a, i) + &part(b, j)).collect();
    Ok(vec![Val::Strings(Strings { shape, values })])
}

/// Parts of each string along a new last axis, filled up with empty strings, and how many parts each has.
fn split<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = strings(n, 0)?;
    let delimiter = n.string_or("delimiter", "")?;
    let most = match n.int("maxsplit")? {
        None => usize::MAX,
        Some(m) => usize::try_from(m).map_err(|_| n.error(format!("maxsplit is {m}")))?.saturating_add(1),
    };
    let parts: Vec<Vec<&str>> = x.values.iter().map(|s| parts(s, delimiter, most)).collect();
    let width = parts.iter().map(Vec::len).max().unwrap_or(0);
    if width.checked_mul(x.values.len()).is_none_or(|all| all > MAX_BYTES / size_of::<String>()) {
        return Err(n.error("too many parts"));
    }
    let counts: Vec<i64> = parts.iter().map(|p| i64::try_from(p.len()).unwrap_or(i64::MAX)).collect();
    let counts = Tensor::from_slice(&x.shape, &counts).map_err(|e| n.error(e.to_string()))?;
    let fill = |p: &Vec<&str>| {
        let filled = p.iter().copied().chain(std::iter::repeat("")).take(width);
        filled.map(str::to_owned).collect::<Vec<_>>()
    };
    let values = parts.iter().flat_map(fill).collect();
    let shape = x.shape.iter().copied().chain([width]).collect();
    Ok(vec![Val::Strings(Strings { shape, values }), cx.constant(counts)?.into()])
}

/// At most `most` parts of a string; without a delimiter, its words.
fn parts<'s>(s: &'s str, delimiter: &str, most: usize) -> Vec<&'s str> {
    if !delimiter.is_empty() {
        return s.splitn(most, delimiter).collect();
    }
    let mut out = Vec::new();
    let mut rest = s.trim();
    while !rest.is_empty() {
        match rest.find(char::is_whitespace).filter(|_| out.len() + 1 < most) {
            Some(end) => {
                let (word, after) = rest.split_at(end);
                out.push(word);
                rest = after.trim_start();
            }
            None => {
                out.push(rest);
                break;
            }
        }
    }
    out
}

/// Drops words and changes case, of `[c]` or `[1, c]`; one empty string is left when all are dropped.
fn normalise<'a>(_: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = strings(n, 0)?;
    if !matches!(x.shape[..], [_] | [1, _]) {
        return Err(n.error(format!("expected shape [c] or [1, c], got {:?}", x.shape)));
    }
    n.ignore(&["locale"]);
    let exact = n.flag("is_case_sensitive", false)?;
    let stop = n.strings("stopwords")?.unwrap_or_default();
    let stopped =
        |s: &str| stop.iter().any(|w| if exact { *w == s } else { w.to_lowercase() == s.to_lowercase() });
    let change: fn(&str) -> String = match n.string_or("case_change_action", "NONE")? {
        "NONE" => str::to_owned,
        "LOWER" => str::to_lowercase,
        "UPPER" => str::to_uppercase,
        other => return Err(n.error(format!("case_change_action `{other}`: expected NONE, LOWER or UPPER"))),
    };
    let mut values: Vec<String> = x.values.iter().filter(|s| !stopped(s)).map(|s| change(s)).collect();
    if values.is_empty() {
        values.push(String::new());
    }
    let mut shape = x.shape.clone();
    if let Some(last) = shape.last_mut() {
        *last = values.len();
    }
    Ok(vec![Val::Strings(Strings { shape, values })])
}

fn matches<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
    let x = strings(n, 0)?;
    let pattern = n.string("pattern")?.ok_or_else(|| n.error("attribute `pattern` is missing"))?;
    let regex = regex::Regex::new(&format!("^(?:{pattern})$")).map_err(|e| n.error(e.to_string()))?;
    let hits: Vec<bool> = x.values.iter().map(|s| regex.is_match(s)).collect();
    let hits = Tensor::from_bools(&x.shape, &hits).map_err(|e| n.error(e.to_string()))?;
    Ok(vec![cx.constant(hits)?.into()])
}
