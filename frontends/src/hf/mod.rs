//! Hugging Face checkpoint folders: config, weights, shared blocks and one builder file an architecture.
//! Nothing here knows ONNX files, kernels or the command line.

pub mod weights;
