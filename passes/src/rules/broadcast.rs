//! Broadcasts made explicit that the next op would do by itself. Arithmetic is in `identity.rs`.

use crate::rule::Rule;

/// The table. A replacement of another type is refused: an Expand that really widens the result stays.
pub const RULES: &[Rule] = &[
    Rule::new("expand_before_first", "%zip(Expand+(?x)@e, ?y)@z", "%z(?x, ?y)", &[
        "x: f32[1, 3]; e.shape = [2, 3]; y: f32[2, 3] in 0.5..2",
    ]),
    Rule::new("expand_before_second", "%zip(?x, Expand+(?y)@e)@z", "%z(?x, ?y)", &[
        "y: f32[1, 3] in 0.5..2; e.shape = [2, 3]; x: f32[2, 3]",
    ]),
    Rule::new("expand_before_where", "Where(?c, ?x, Expand+(?y)@e)", "Where(?c, ?x, ?y)", &[
        "c: bool[2, 3]; x: f32[2, 3]; y: f32[1]; e.shape = [2, 3]",
    ]),
    Rule::new("expand_condition", "Where(Expand+(?c)@e, ?x, ?y)", "Where(?c, ?x, ?y)", &[
        "c: bool[1, 3]; x: f32[2, 3]; y: f32[1]; e.shape = [2, 3]",
    ]),
    Rule::new("expand_twice", "Expand{shape=?s}(Expand+(?x)@e)", "Expand{shape=?s}(?x)", &[
        "x: f32[1, 3]; e.shape = [2, 3]; s = [4, 2, 3]",
    ]),
];
