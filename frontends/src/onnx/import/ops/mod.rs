//! What the operators of ONNX mean: one file a family, each with a table of rows. How nodes are walked over and what
//! is known at import does not belong here.
//!
//! A lowering is a function of the node that emits ops and gives the outputs:
//!
//! ```text
//! pub const ROWS: &[Row] = &[("", "Transpose", 1, transpose)];
//!
//! fn transpose<'a>(cx: &mut Cx<'a>, n: &NodeView<'a>) -> Result<Vec<Val>> {
//!     let x = n.tensor(0)?;                      // operand; n.opt(1)? where it may be left out
//!     let perm = n.ints("perm")?;                // attribute
//!     let axes = cx.opt_ints(n, 1)?;             // operand whose numbers must be known at import
//!     let shape = cx.dims(n, 1)?;                // operand as dims, symbolic or defined at run time
//!     let y = cx.emit(Transpose { perm }, &[x])?; // or a short name: cx.transpose, cx.plus, cx.reshape ...
//!     Ok(vec![y.into()])
//! }
//! ```

mod activation;
mod attention;
mod bits;
mod constant;
mod contrib_attention;
mod contrib_fused;
mod contrib_quant;
mod control;
mod convert;
mod decode;
mod einsum;
mod elementwise;
mod gradient;
mod image;
mod indexing;
mod integer;
mod labels;
mod losses;
mod matmul;
mod ngrams;
mod norm;
mod normalise;
mod pad;
mod quantize;
mod random;
mod recurrent;
mod reduce;
mod resize;
mod sdpa;
mod sequence;
mod shape;
mod signal;
mod slicing;
mod softmax;
mod strings;
mod training;
mod trees;
mod window;

use super::registry::Row;

/// Every family's table.
pub(super) const FAMILIES: &[&[Row]] = &[
    activation::ROWS,
    attention::ROWS,
    bits::ROWS,
    constant::ROWS,
    contrib_attention::ROWS,
    contrib_fused::ROWS,
    contrib_quant::ROWS,
    control::ROWS,
    convert::ROWS,
    decode::ROWS,
    einsum::ROWS,
    elementwise::ROWS,
    gradient::ROWS,
    image::ROWS,
    indexing::ROWS,
    labels::ROWS,
    losses::ROWS,
    matmul::ROWS,
    ngrams::ROWS,
    norm::ROWS,
    normalise::ROWS,
    pad::ROWS,
    quantize::ROWS,
    random::ROWS,
    recurrent::ROWS,
    reduce::ROWS,
    resize::ROWS,
    sequence::ROWS,
    shape::ROWS,
    signal::ROWS,
    slicing::ROWS,
    softmax::ROWS,
    strings::ROWS,
    training::ROWS,
    trees::ROWS,
    window::ROWS,
];
