//! Activations as models and exporters spell them, made one op. Fusing them into products is in `linear.rs`.

use crate::rule::{Found, Refusal, Rule, require};
use crate::view::View;

const X: &[&str] = &["x: f32[batch, 5]"];

/// The table. Powers are products by then: `identity.rs`.
pub const RULES: &[Rule] = &[
    // x Phi(x) with erf: torch's gelu, transformers' gelu and gelu_python.
    Rule::new(
        "gelu_erf",
        "G = Add(Erf(<Div(?x, 1.4142135623730951) | Mul(?x, 0.7071067811865476)>), 1);
         <Mul(Mul(?x, G), 0.5) | Mul(Mul(?x, 0.5), G) | Mul(?x, Mul(G, 0.5))>",
        "Gelu(?x)",
        X,
    ),
    // 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))): gelu_new, gelu_pytorch_tanh, gelu_accurate, gelu_fast.
    Rule::new(
        "gelu_tanh",
        "CUBE = <Mul(Mul(?x, ?x), ?x) | Mul(?x, Mul(?x, ?x))>;
         CUBIC = <Mul(CUBE, 0.044715) | Mul(?x, Mul(?x, Mul(?x, 0.044715)))>;
         SUM = <Mul(Add(?x, CUBIC), 0.7978845608028654)
              | Mul(Mul(?x, 0.7978845608028654), Add(Mul(Mul(?x, 0.044715), ?x), 1))
              | Mul(Mul(?x, 0.7978845608028654), Add(Mul(Mul(?x, ?x), 0.044715), 1))
              | Mul(?x, Add(Mul(Mul(?x, ?x), 0.035677408136300125), 0.7978845608028654))>;
         G = Add(Tanh(SUM), 1);
         <Mul(Mul(?x, 0.5), G) | Mul(?x, Mul(G, 0.5)) | Mul(Mul(?x, G), 0.5)>",
        "Gelu{approximate=tanh}(?x)",
        X,
    ),
    Rule::new("silu", "Mul(?x, Sigmoid(?x))", "Swish{alpha=1}(?x)", X),
    Rule::new(
        "swish",
        "Mul(?x, Sigmoid(Mul(?x, ?a:scalar)))",
        "Swish{alpha=?a}(?x)",
        &["x: f32[batch, 5]; a = 1.702"],
    ),
    Rule::new("sigmoid", "Div(1, Add(Exp(Neg(?x)), 1))", "Sigmoid(?x)", X),
    Rule::new("relu", "Max(?x, 0)", "Relu(?x)", X),
    Rule::new(
        "clip",
        "Min(Max(?x, ?low:scalar), ?high:scalar)",
        "Clip{min=?low, max=?high}(?x)",
        &["x: f32[batch, 5] in -2..2; low = -0.5; high = 0.75"],
    )
    .when(low_below_high),
    Rule::new(
        "clip_relu",
        "Min(Relu(?x), ?high:scalar)",
        "Clip{min=0, max=?high}(?x)",
        &["x: f32[batch, 5] in -2..2; high = 0.75"],
    )
    .when(high_positive),
    Rule::new(
        "hard_swish",
        "GATE = Clip{min=0, max=6}(Add(?x, 3));
         <Mul(?x, HardSigmoid{alpha=0.16666666666666666, beta=0.5}(?x))
        | Div(Mul(?x, GATE), 6) | Mul(Mul(?x, GATE), 0.16666666666666666)
        | Mul(?x, Div(GATE, 6)) | Mul(?x, Mul(GATE, 0.16666666666666666))>",
        "HardSwish(?x)",
        &["x: f32[batch, 5] in -4..4"],
    ),
    Rule::new(
        "leaky_relu",
        "Max(?x, Mul(?x, ?a:scalar))",
        "LeakyRelu{alpha=?a}(?x)",
        &["x: f32[batch, 5]; a = 0.01"],
    )
    .when(slope_below_one),
];

fn low_below_high(view: View<'_>, m: &Found<'_, '_>) -> Result<(), Refusal> {
    require(m.number(view, "low")? <= m.number(view, "high")?, "the lower limit is above the upper")
}

fn high_positive(view: View<'_>, m: &Found<'_, '_>) -> Result<(), Refusal> {
    require(m.number(view, "high")? >= 0.0, "the upper limit is below 0")
}

fn slope_below_one(view: View<'_>, m: &Found<'_, '_>) -> Result<(), Refusal> {
    require((0.0..1.0).contains(&m.number(view, "a")?), "the slope is not in 0..1")
}
