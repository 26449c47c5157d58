//! ONNX files: the schema, reading, import to the graph, export from it.
//! Each has a folder; this file only names them.

pub mod schema;
