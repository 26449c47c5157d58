//! The order of passes: stages, each run to a fixed point before the next. How they are run is in `driver.rs`.

/// One pass over a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The rewrite rules of the table of that name.
    Rules(&'static str),
    /// Constant folding; transposed weights stay, for products to take.
    Fold,
    /// Constant folding, transposed weights too.
    FoldAll,
    /// Merging of equal nodes.
    Cse,
    /// Joining elementwise ops; see [`crate::chains`].
    Chains,
    /// Removing what no output needs.
    Compact,
}

impl Pass {
    /// The pass's name: for rules that of the table.
    pub fn name(self) -> &'static str {
        match self {
            Pass::Rules(table) => table,
            Pass::Fold => "fold",
            Pass::FoldAll => "fold_all",
            Pass::Cse => "cse",
            Pass::Chains => crate::chains::NAME,
            Pass::Compact => "compact",
        }
    }
}

/// Passes that run together until none changes anything.
#[derive(Debug)]
pub struct Stage {
    /// Name.
    pub name: &'static str,
    /// The passes, in order.
    pub passes: &'static [Pass],
}

/// What [`crate::optimise`] runs.
pub const PIPELINE: &[Stage] = &[
    Stage { name: "prune", passes: &[Pass::Compact] },
    Stage {
        name: "canonicalise",
        passes: &[
            Pass::Rules("identity"),
            Pass::Rules("quantised"),
            Pass::Rules("broadcast"),
            Pass::Rules("slices"),
            Pass::Rules("layout"),
            Pass::Fold,
            Pass::Cse,
        ],
    },
    Stage { name: "blocks", passes: &[Pass::Rules("activation"), Pass::Rules("norm"), Pass::Fold] },
    // Before products take the scales that belong to attention.
    Stage {
        name: "attention",
        passes: &[
            Pass::Rules("lower"),
            Pass::Rules("scores"),
            Pass::Rules("attention"),
            Pass::Rules("layout"),
            Pass::Fold,
            Pass::Cse,
        ],
    },
    Stage {
        name: "linear",
        passes: &[
            Pass::Rules("layout"),
            Pass::Rules("linear"),
            Pass::Rules("conv"),
            Pass::Rules("identity"),
            Pass::Fold,
        ],
    },
    // Sums behind a product go to the normalisation that is their only use, else into the product.
    Stage { name: "skip", passes: &[Pass::Rules("skip_norm"), Pass::Rules("norm_activation")] },
    Stage { name: "residual", passes: &[Pass::Rules("residual"), Pass::Rules("linear")] },
    Stage { name: "projection", passes: &[Pass::Rules("projection"), Pass::Fold] },
    Stage {
        name: "finish",
        passes: &[
            Pass::Rules("pointwise"),
            Pass::Rules("tidy"),
            Pass::Rules("identity"),
            Pass::Rules("broadcast"),
            Pass::Rules("layout"),
            Pass::FoldAll,
            Pass::Cse,
        ],
    },
    // Last, as no rule looks into a chain.
    Stage { name: "join", passes: &[Pass::Chains] },
];
