//! The tables of rewrite rules, by theme. The order in which they run is `pipeline.rs`'s business.

pub mod activation;
pub mod attention;
pub mod broadcast;
mod causal;
pub mod conv;
pub mod identity;
pub mod layout;
pub mod linear;
pub mod norm;
pub mod pointwise;
pub mod projection;
pub mod quantised;
pub mod scores;
mod shapes;
pub mod slices;

use crate::rule::Rule;

/// Every table with its name.
pub const TABLES: &[(&str, &[Rule])] = &[
    ("identity", identity::RULES),
    ("quantised", quantised::RULES),
    ("broadcast", broadcast::RULES),
    ("layout", layout::RULES),
    ("slices", slices::RULES),
    ("activation", activation::RULES),
    ("norm", norm::RULES),
    ("skip_norm", norm::SKIP),
    ("norm_activation", norm::ACTIVATED),
    ("lower", linear::LOWER),
    ("scores", scores::RULES),
    ("attention", attention::RULES),
    ("linear", linear::RULES),
    ("residual", linear::RESIDUAL),
    ("conv", conv::RULES),
    ("pointwise", pointwise::RULES),
    ("projection", projection::RULES),
    ("tidy", linear::TIDY),
];
