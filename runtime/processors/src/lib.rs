//! Text, sound and pictures to tensors, and a model's outputs back to answers, as the processors of transformers 4.37
//! do it. Models, graphs and files of weights do not belong here.

pub mod doc;
pub mod error;

pub mod answer;
mod assets;
pub mod ctc;
mod interpret;
pub mod labels;
mod processor;
pub mod spans;
mod task;
pub mod tokenizer_config;

#[cfg(feature = "audio")]
pub mod audio;
#[cfg(feature = "image")]
pub mod image;
#[cfg(feature = "text")]
pub mod text;

pub use answer::Answer;
pub use assets::{Assets, MAX_ASSET_BYTES, MAX_RAW_BYTES, PROCESSOR_FILES, RawFile};
pub use error::{Error, Result};
pub use processor::{Prepared, Processor};
pub use task::{RawInput, Task};
