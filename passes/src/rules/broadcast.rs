//! Broadcasts made explicit that the next op would do by itself. Arithmetic is in `identity.rs`.

use crate::rule::{Found, Refusal, Rule, require};
use crate::view::View;

/// The table. A replacement of another type is refused: an Expand that really widens the result stays.
pub const RULES: &[Rule] = &[
    Rule::new(
        "expand_before_first",
        "%zip(Expand+(?x)@e, ?y)@z",
        "%z(?x, ?y)",
        &["x: f32[1, 3]; e.shape = [2, 3]; y: f32[2, 3] in 0.5..2"],
    ),
    Rule::new(
        "expand_before_second",
        "%zip(?x, Expand+(?y)@e)@z",
        "%z(?x, ?y)",
        &["y: f32[1, 3] in 0.5..2; e.shape = [2, 3]; x: f32[2, 3]"],
    ),
    Rule::new(
        "expand_before_where",
        "Where(?c, ?x, Expand+(?y)@e)",
        "Where(?c, ?x, ?y)",
        &["c: bool[2, 3]; x: f32[2, 3]; y: f32[1]; e.shape = [2, 3]"],
    ),
    Rule::new(
        "expand_condition",
        "Where(Expand+(?c)@e, ?x, ?y)",
        "Where(?c, ?x, ?y)",
        &["c: bool[1, 3]; x: f32[2, 3]; y: f32[1]; e.shape = [2, 3]"],
    ),
    // An Expand moves toward the results until it meets an op that broadcasts by itself.
    Rule::new(
        "expand_after_map",
        "%map(Expand(?x)@e)@m",
        "Expand{*e}(%m(?x))",
        &["x: f32[1, 3] in 0.5..2; e.shape = [2, 3]"],
    ),
    Rule::new(
        "expand_after_cast",
        "Cast(Expand(?x)@e)@c",
        "Expand{*e}(Cast{*c}(?x))",
        &["x: f32[1, 3]; e.shape = [2, 3]; c.to = bool"],
    ),
    Rule::new(
        "expand_after_zip",
        "%zip(Expand(?x)@e, ?c:scalar)@z",
        "Expand{*e}(%z(?x, ?c))",
        &["x: f32[1, 3]; e.shape = [2, 3]; c = 3"],
    )
    .when(number_has_no_axes),
    Rule::new(
        "expand_after_zip_second",
        "%zip(?c:scalar, Expand(?x)@e)@z",
        "Expand{*e}(%z(?c, ?x))",
        &["x: f32[1, 3] in 0.5..2; e.shape = [2, 3]; c = 3"],
    )
    .when(number_has_no_axes),
    Rule::new(
        "expand_after_choice",
        "Where(Expand+(?c)@e, ?n:scalar, ?x)",
        "Expand{*e}(Where(?c, ?n, ?x))",
        &["c: bool[2, 1, 3]; e.shape = [2, 4, 3]; n = 5; x: f32[2, 1, 3]"],
    )
    .when(number_has_no_axes),
    Rule::new(
        "expand_twice",
        "Expand{shape=?s}(Expand+(?x)@e)",
        "Expand{shape=?s}(?x)",
        &["x: f32[1, 3]; e.shape = [2, 3]; s = [4, 2, 3]"],
    ),
];

fn number_has_no_axes(view: View<'_>, m: &Found<'_, '_>) -> Result<(), Refusal> {
    let number = m.optional("c").filter(|c| view.splat(*c).is_some()).or(m.optional("n"));
    require(number.is_some_and(|n| view.rank(n) == 0), "the number has axes")
}
