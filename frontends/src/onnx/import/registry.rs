//! Which lowering an operator has. The rows stand in the family files of `ops/`; nothing is lowered here.

use super::cx::Cx;
use super::error::Result;
use super::node::NodeView;
use super::ops;
use super::val::Val;
use std::collections::HashMap;
use std::sync::OnceLock;

/// Lowers one node and gives its outputs, as many as it names or more.
pub type Lower = for<'a> fn(&mut Cx<'a>, &NodeView<'a>) -> Result<Vec<Val>>;

/// A row of a family's table: domain (empty for ai.onnx), operator, the first opset that the lowering is for, and the
/// lowering. It serves all later opsets up to the next row of the same operator.
pub type Row = (&'static str, &'static str, i64, Lower);

type Table = HashMap<(&'static str, &'static str), Vec<(i64, Lower)>>;

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = Table::new();
        for &(domain, op, since, lower) in ops::FAMILIES.iter().copied().flatten() {
            table.entry((domain, op)).or_default().push((since, lower));
        }
        table
    })
}

/// The lowering of an operator at an opset.
pub fn find(domain: &str, op: &str, opset: i64) -> Option<Lower> {
    let rows = table().get(&(domain, op))?;
    rows.iter().filter(|(since, _)| *since <= opset).max_by_key(|(since, _)| *since).map(|(_, lower)| *lower)
}

/// Every operator that has a lowering, with its domain and first opset, in alphabetical order.
pub fn supported() -> Vec<(&'static str, &'static str, i64)> {
    let mut all: Vec<_> = table()
        .iter()
        .map(|((domain, op), rows)| (*domain, *op, rows.iter().map(|(since, _)| *since).min().unwrap_or(1)))
        .collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_there_once() {
        for ((domain, op), rows) in table() {
            let mut since: Vec<i64> = rows.iter().map(|(s, _)| *s).collect();
            since.sort_unstable();
            since.dedup();
            assert_eq!(since.len(), rows.len(), "{domain} {op} has two rows of one opset");
        }
    }
}
