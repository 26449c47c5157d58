//! The command line on hostile and damaged input, end to end: every call ends with exit status 1 or 2 and one message
//! that names what and where, in little time and memory, without a panic and without a partial output file.
//! What the readers do with random damage is `hostile_replay.rs`; what right input gives is elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::zombie_processes)] // a test fails by panicking
#![cfg(target_os = "linux")]

mod artifacts;
mod checkpoints;
mod harness;
mod inputs;
mod onnx;
mod onnx_bombs;
mod onnx_files;
mod onnx_graphs;
mod pickles;
