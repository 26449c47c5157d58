//! Reading ONNX files: the model, its tensors wherever their data is, and stored values of tests.
//! What operators mean is not known here.
//!
//! A model file is hostile input: nesting is limited, no file outside the model's folder is opened ([`external`]),
//! every size is checked against the data that is there, and what is copied or expanded counts against a budget
//! proportional to the files' sizes.

mod external;
mod model;
mod tensor;
mod value;
mod wire;

pub use model::OnnxModel;
pub(crate) use tensor::packing;
pub use tensor::{data_type_of, dtype_of};
pub use value::read_value;
