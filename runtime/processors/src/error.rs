//! The one error type of the crate: what is wrong, in which file, at which key or byte, and what was expected.
//! No recovery and no formatting for a terminal belongs here.

use frit_ir::TensorError;
use std::path::PathBuf;

/// A `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why an input could not be made into tensors, or tensors into an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is larger than what is taken.
    #[error("{file} holds {size} bytes, at most {limit} are taken")]
    TooLarge {
        /// File name.
        file: String,
        /// Its size in bytes.
        size: u64,
        /// The most that is taken, in bytes.
        limit: u64,
    },
    /// A file that has to be text is not.
    #[error("{file}: byte {offset} is not UTF-8 text")]
    NotUtf8 {
        /// File name.
        file: String,
        /// Offset of the first bad byte.
        offset: usize,
    },
    /// A file that has to be JSON is not.
    #[error("{file}, line {line}, column {column}: not valid JSON: {message}")]
    Json {
        /// File name.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What the parser said.
        message: String,
    },
    /// A key of a JSON file has a value of another kind than expected.
    #[error("{file}: {key}: expected {expected}, got {got}")]
    Value {
        /// File name.
        file: String,
        /// Key, with dots between levels.
        key: String,
        /// What would be right.
        expected: String,
        /// The value found, shortened.
        got: String,
    },
    /// A value is well-formed, but nothing here implements it.
    #[error("{file}: {key} = {value} is not supported, only {supported}")]
    Unsupported {
        /// File name.
        file: String,
        /// Key.
        key: String,
        /// Value found.
        value: String,
        /// What is supported.
        supported: String,
    },
    /// A line of a vocabulary or merges file is malformed.
    #[error("{file}, line {line}: expected {expected}, got {got:?}")]
    Line {
        /// File name.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What would be right.
        expected: &'static str,
        /// The line, shortened.
        got: String,
    },
    /// The model has none of the files that a task needs.
    #[error("no {what}: the model has none of {}", files.join(", "))]
    Missing {
        /// What was asked for.
        what: &'static str,
        /// The files that would give it.
        files: &'static [&'static str],
    },
    /// The tokenizer's own library refused its files or a text.
    #[error("{file}: {message}")]
    Tokenizer {
        /// File, or files, that the tokenizer came from.
        file: String,
        /// What the library said.
        message: String,
    },
    /// The tokenizer has no token for a role that is needed.
    #[error("{why}, but the tokenizer has no {role}")]
    NoToken {
        /// Role, such as `mask_token`.
        role: &'static str,
        /// What needs it.
        why: &'static str,
    },
    /// The sound's container or codec is unknown.
    #[error(
        "{name}: not a sound in a known format ({message}); wav, flac, aiff, ogg/vorbis and mp3 are read"
    )]
    SoundFormat {
        /// File name.
        name: String,
        /// What the reader said.
        message: String,
    },
    /// The sound is damaged.
    #[error("{name}: damaged sound after {frames} samples a channel: {message}")]
    SoundDamaged {
        /// File name.
        name: String,
        /// Samples a channel that were decoded before.
        frames: u64,
        /// What the decoder said.
        message: String,
    },
    /// The sound ends before the length that its header gives.
    #[error(
        "{name}: the sound is cut off: its header gives {expected} samples a channel, the file holds {got}"
    )]
    SoundTruncated {
        /// File name.
        name: String,
        /// Samples a channel, by the header.
        expected: u64,
        /// Samples a channel found.
        got: u64,
    },
    /// The sound holds no samples.
    #[error("{name}: the sound is empty")]
    SoundEmpty {
        /// File name.
        name: String,
    },
    /// The sound is longer than what is taken.
    #[error("{name}: the sound has more than {limit} samples")]
    SoundTooLong {
        /// File name.
        name: String,
        /// The most that is taken, over all channels.
        limit: usize,
    },
    /// A sample is not a finite number.
    #[error("{name}: sample {index} is not a finite number")]
    SoundNotFinite {
        /// File name.
        name: String,
        /// Index of the sample, from 0.
        index: usize,
    },
    /// A sampling rate is not usable.
    #[error("{name}: a sampling rate of {rate} Hz is outside {min} to {max} Hz")]
    SamplingRate {
        /// File name.
        name: String,
        /// The rate found.
        rate: u32,
        /// Lowest rate taken.
        min: u32,
        /// Highest rate taken.
        max: u32,
    },
    /// The picture's format is unknown.
    #[error("{name}: not a picture in a known format; png and jpeg are read")]
    ImageFormat {
        /// File name.
        name: String,
    },
    /// The picture is damaged.
    #[error("{name}: damaged picture: {message}")]
    ImageDamaged {
        /// File name.
        name: String,
        /// What the decoder said.
        message: String,
    },
    /// A picture, or the size that it is to get, has no pixels or too many.
    #[error(
        "{name}: a picture of {width} x {height} pixels; each side takes 1 to {max_side}, both together {max_pixels}"
    )]
    ImageSize {
        /// File name, or the key that gives the size.
        name: String,
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
        /// Longest side taken.
        max_side: u32,
        /// Most pixels taken.
        max_pixels: u64,
    },
    /// The input given is not what the task takes.
    #[error("{what}: expected {expected}, got {got}")]
    Input {
        /// The input.
        what: String,
        /// What would be right.
        expected: String,
        /// What came.
        got: String,
    },
    /// The model's outputs are not what the answer needs.
    #[error("output {name}: expected {expected}, got {got}")]
    Output {
        /// Name of the tensor.
        name: String,
        /// What would be right.
        expected: String,
        /// What came.
        got: String,
    },
    /// A tensor could not be made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// At most 60 characters of a value, for messages.
pub(crate) fn shorten(value: &str) -> String {
    let mut short: String = value.chars().take(60).collect();
    if short.len() < value.len() {
        short.push_str("...");
    }
    short
}

/// Runs code of another crate on untrusted bytes; a panic in it becomes `None`, without a word on standard error.
///
/// Those crates mean not to panic, but some do (tokenizers on a malformed decoder, for one), so this is a second wall.
/// What they build is dropped on the way, so no broken state survives.
#[cfg(any(feature = "audio", feature = "image", feature = "text"))]
pub(crate) fn walled<T>(run: impl FnOnce() -> T) -> Option<T> {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
    use std::sync::Once;
    thread_local! {
        static INSIDE: Cell<usize> = const { Cell::new(0) };
    }
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |info| {
            if INSIDE.try_with(Cell::get).unwrap_or(0) == 0 {
                loud(info);
            }
        }));
    });
    INSIDE.with(|n| n.set(n.get().saturating_add(1)));
    let out = catch_unwind(AssertUnwindSafe(run)).ok();
    INSIDE.with(|n| n.set(n.get().saturating_sub(1)));
    out
}
