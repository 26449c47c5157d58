//! Building blocks that architectures share, lowered to primitive ops in the order in which transformers' eager code
//! computes them. No architecture's own names or config belong here.

pub mod activation;
pub mod attention;
pub mod conv;
pub mod layers;
pub mod loss;
pub mod mask;
pub mod norm;
pub mod tensor;
pub mod text;
pub mod vision;

pub use activation::Activation;
pub use attention::{Attended, Scores};
pub use layers::{Affine, conv1d, linear};
pub use norm::layer_norm;
